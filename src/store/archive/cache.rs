//! Unpacked copies of compressed archive files: `cache/archives/` below the data directory. Any of
//! them may be removed at any time; the least recently made go when there are too many octets.
//!
//! One file is unpacked at a time in the whole process, into what the limit and the disk have room
//! for: room is made before.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::Source;
use crate::base::{Deadline, UnixMs};
use crate::runtime::{DiskErrorKind, DiskFile, Step, now, sleep};
use crate::store::StoreError;
use crate::store::mailbox::disk_error;
use crate::store::owned::count;
use crate::store::packed::unpack;
use crate::store::shard::Shard;

/// Longest wait for another file that is being unpacked.
const TURN_WAIT: Duration = Duration::from_secs(60);
/// Between looks whether another shard has ended.
const POLL: Duration = Duration::from_millis(20);
/// What an mbox file usually unpacks to, as a multiple of its length.
const RATIO: u64 = 8;
/// Left to mail when a copy is made.
const FREE_BYTES_KEPT: u64 = 256 << 20;
/// More than the limit, or than there is room for.
const TOO_LARGE: DiskErrorKind = DiskErrorKind::Io(Errno::FBIG.raw_os_error());

/// The unpacked file, made where it is missing.
pub(super) async fn open(
    shard: &Shard,
    source: &Source,
    len: u64,
    modified: UnixMs,
) -> Result<(DiskFile, u64), StoreError> {
    let dir = shard.layout.root.join("cache/archives");
    let path = dir.join(name(&source.path, len, modified));
    if let Some(found) = there(shard, &path).await? {
        return Ok(found);
    }
    let until = Deadline::after(now(), TURN_WAIT);
    let turn = shard.archives.unpacking.acquire(1, until).await;
    let _turn = turn.map_err(|_| StoreError::Late)?;
    let _only = Only::one(&shard.archives.unpacks, until).await?;
    // Another session may have waited for the same.
    if let Some(found) = there(shard, &path).await? {
        return Ok(found);
    }
    let disk = &shard.patient;
    disk.create_dir_all(&dir)
        .await
        .map_err(|e| disk_error(&e))?;
    let limit = shard.cfg.archive_cache_bytes_max;
    let wanted = len.saturating_mul(RATIO).min(limit);
    let mut others = make_room(shard, &dir, limit - wanted).await;
    loop {
        let free = disk.free_bytes().await.map_err(|e| disk_error(&e))?;
        let max = (limit - others.min(limit)).min(free.saturating_sub(FREE_BYTES_KEPT));
        match make(shard, source, &path, max).await {
            Err(StoreError::Full) if others > 0 => {
                let left = make_room(shard, &dir, 0).await;
                if left >= others {
                    return Err(StoreError::Full);
                }
                others = left;
            }
            outcome => outcome?,
        }
        if let Some(found) = there(shard, &path).await? {
            return Ok(found);
        }
    }
}

/// Unpacks to at most `max` octets; `Full` where there are more.
async fn make(shard: &Shard, source: &Source, path: &Path, max: u64) -> Result<(), StoreError> {
    let disk = &shard.patient;
    let tmp = path.with_extension(format!("{}.tmp", shard.id.0));
    let how = move |from: &mut dyn Read, to: &mut dyn Write| unpack_at_most(from, to, max);
    let made = disk.foreign().convert(&source.path, &tmp, how).await;
    let steps = [
        Step::SyncFile { path: tmp.clone() },
        Step::Rename {
            from: tmp.clone(),
            to: path.to_path_buf(),
        },
    ];
    let mut outcome = made.as_ref().map(drop).map_err(Clone::clone);
    for step in steps {
        // A name is given to what is whole, and on the disk.
        if outcome.is_ok() {
            outcome = disk.batch(vec![step]).await.remove(0).map(drop);
        }
    }
    if let Err(error) = outcome {
        let _ = disk.unlink(&tmp).await;
        if error.kind == TOO_LARGE {
            tracing::warn!(file = %source.path.display(), max, "no room to unpack an archive");
            return Err(StoreError::Full);
        }
        return Err(disk_error(&error));
    }
    if made.is_ok_and(|is_whole| !is_whole) {
        count(&shard.owned.counters.archives_cut);
        let file = source.path.display();
        tracing::warn!(%file, "archive cut off or damaged: what could be unpacked is shown");
    }
    Ok(())
}

/// The turn of one shard among all.
struct Only(Arc<AtomicBool>);

impl Only {
    async fn one(busy: &Arc<AtomicBool>, until: Deadline) -> Result<Only, StoreError> {
        while busy.swap(true, Ordering::AcqRel) {
            if now() > until.0 {
                return Err(StoreError::Late);
            }
            sleep(POLL).await;
        }
        Ok(Only(busy.clone()))
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Another file of the same path is another name.
fn name(path: &Path, len: u64, modified: UnixMs) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_os_str().as_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(&modified.0.to_le_bytes());
    hasher.finalize().to_hex().to_string()
}

async fn there(shard: &Shard, path: &Path) -> Result<Option<(DiskFile, u64)>, StoreError> {
    match shard.disk.open_sized(path).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk_error(&error)),
    }
}

/// Removes the oldest until the rest has at most `bytes_max` octets, and what an unpacking left that
/// did not end; answers how many are left. Whoever has one open reads on.
async fn make_room(shard: &Shard, dir: &Path, bytes_max: u64) -> u64 {
    let disk = &shard.patient;
    let mut all = Vec::new();
    let mut bytes = 0;
    for entry in disk.list(dir).await.unwrap_or_default() {
        let path = dir.join(&entry.name);
        bytes += entry.len;
        let is_left = path.extension().is_some();
        let made = if is_left {
            UnixMs(i64::MIN)
        } else {
            entry.modified
        };
        all.push((made, entry.len, path));
    }
    all.sort();
    let is_over =
        |entry: &(UnixMs, u64, PathBuf), bytes| entry.0.0 == i64::MIN || bytes > bytes_max;
    for entry in all {
        if is_over(&entry, bytes) && disk.unlink(&entry.2).await.is_ok() {
            bytes -= entry.1;
        }
    }
    bytes
}

/// False where it ended before its end: what came before is there.
fn unpack_at_most(from: &mut dyn Read, to: &mut dyn Write, max: u64) -> io::Result<bool> {
    let mut bounded = Bounded {
        to,
        left: max,
        is_full: false,
        is_empty: true,
    };
    match unpack(from, &mut bounded) {
        Ok(()) => Ok(true),
        Err(_) if bounded.is_full => Err(Errno::FBIG.into()),
        Err(error) => match error.raw_os_error() == Some(Errno::BADMSG.raw_os_error()) {
            true if !bounded.is_empty => Ok(false),
            _ => Err(error),
        },
    }
}

struct Bounded<'w> {
    to: &'w mut dyn Write,
    left: u64,
    is_full: bool,
    is_empty: bool,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        let written = self.to.write(bytes)?;
        self.left = left + (bytes.len() - written) as u64;
        self.is_empty = false;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
