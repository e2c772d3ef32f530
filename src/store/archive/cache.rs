//! Unpacked copies of compressed archive files: `cache/archives/` below the data directory. Any of
//! them may be removed at any time; the least recently made go when there are too many octets.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::Source;
use crate::base::{Deadline, UnixMs};
use crate::runtime::{DiskErrorKind, DiskFile, Step, now};
use crate::store::StoreError;
use crate::store::mailbox::disk_error;
use crate::store::packed::unpack;
use crate::store::shard::Shard;

/// A file that unpacks to more is not shown.
const UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Longest wait for another file that is being unpacked.
const TURN_WAIT: Duration = Duration::from_secs(60);

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
    // Another session may have waited for the same.
    if let Some(found) = there(shard, &path).await? {
        return Ok(found);
    }
    let tmp = path.with_extension("tmp");
    let disk = &shard.patient;
    disk.create_dir_all(&dir)
        .await
        .map_err(|e| disk_error(&e))?;
    let convert = Step::Convert {
        from: source.path.clone(),
        to: tmp.clone(),
        how: unpack_bounded,
    };
    let rename = Step::Rename {
        from: tmp.clone(),
        to: path.clone(),
    };
    let made = disk.batch(vec![convert]).await.remove(0);
    if let Err(error) = made {
        let _ = disk.unlink(&tmp).await;
        return Err(disk_error(&error));
    }
    for done in disk.batch(vec![rename]).await {
        done.map_err(|e| disk_error(&e))?;
    }
    make_room(shard, &dir, &path).await;
    there(shard, &path).await?.ok_or(StoreError::Busy)
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

/// Removes the oldest until the rest fits. Whoever has one open reads on.
async fn make_room(shard: &Shard, dir: &Path, newest: &Path) {
    let disk = &shard.patient;
    let mut all = Vec::new();
    let mut bytes = 0;
    for entry in disk.list(dir).await.unwrap_or_default() {
        let path = dir.join(&entry.name);
        let made = disk.modified(&path).await.unwrap_or_default();
        bytes += entry.len;
        all.push((made, entry.len, path));
    }
    all.sort();
    for (_, len, path) in all {
        if bytes <= shard.cfg.archive_cache_bytes_max {
            return;
        }
        if path != newest && disk.unlink(&path).await.is_ok() {
            bytes -= len;
        }
    }
}

fn unpack_bounded(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut bounded = Bounded {
        to,
        left: UNPACKED_BYTES_MAX,
    };
    unpack(from, &mut bounded)
}

struct Bounded<'w> {
    to: &'w mut dyn Write,
    left: u64,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        let left = self.left.checked_sub(written as u64);
        self.left = left.ok_or(io::ErrorKind::InvalidData)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
