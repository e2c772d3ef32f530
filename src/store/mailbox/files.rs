//! The index files of a mailbox: a snapshot, and a log of what came after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::Index;
use super::log::{self, LogOp, align, replay_telling};
use super::snapshot::Snapshot;
use super::{IndexFiles, Mailbox, Pending, disk_error, is_out_of_files, wants_letters};
use crate::base::{Deadline, Uid};
use crate::runtime::local::Permit;
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step, now, sleep, unix_now, yield_if_needed};
use crate::store::StoreError;
use crate::store::bytes::Malformed;

/// An index whose log is longer than this, and than half its rows, is written anew.
const LOG_BYTES_MIN: u64 = 64 << 10;
/// About what one row takes in a snapshot.
const ROW_BYTES: u64 = 96;
/// Longest wait for another task that reads or writes the same index.
const INDEX_WAIT: Duration = Duration::from_secs(30);
/// Between attempts to read it.
const READ_AGAIN_AFTER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// Octets of the log that are applied at once on a shard; more is done on another thread.
const TAIL_BYTES_MAX: usize = 64 << 10;
/// And that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// An index being read, and the rows whose file names may lack letters.
struct Found {
    index: Index,
    stale: Vec<Uid>,
}

impl Mailbox {
    fn snapshot_path(&self, generation: u32) -> PathBuf {
        self.path().join(format!("palomar.index.{generation}"))
    }

    fn log_path(&self, generation: u32) -> PathBuf {
        self.path().join(format!("palomar.log.{generation}"))
    }

    /// Whether this is the snapshot or log of the index as it is now.
    pub fn writes_to(&self, path: &Path) -> bool {
        let generation = self.meta.borrow().generation;
        path.parent() == Some(self.folder.path.borrow().as_path())
            && (path == self.snapshot_path(generation) || path == self.log_path(generation))
    }

    /// Waits for whoever reads, writes or moves the index files, and keeps others from it.
    pub async fn turn(&self, until: Deadline) -> Result<Permit, StoreError> {
        let turn = self.io.acquire(1, until).await;
        turn.map_err(|_| StoreError::Late)
    }

    /// As `turn`, for as long as that should take at most.
    pub async fn files_turn(&self) -> Result<Permit, StoreError> {
        self.turn(Deadline::after(now(), INDEX_WAIT)).await
    }

    /// What a load reads, before it comes to what is pending.
    pub fn index_files(&self) -> IndexFiles {
        let generation = self.meta.borrow().generation;
        let pending = self.pending.borrow();
        IndexFiles {
            waiting: pending.snapshot.clone(),
            snapshot: (generation > 0).then(|| self.snapshot_path(generation)),
            log: self.log_path(generation),
            log_bytes: pending.log_from as usize,
        }
    }

    /// What is applied and not in the files yet.
    pub fn pending_entries(&self) -> Vec<LogOp> {
        let pending = self.pending.borrow();
        log::entries(&pending.log, pending.log_from).unwrap_or_default()
    }

    /// Takes an index that was made of something else than its files.
    pub fn put_index(&self, index: Index) {
        let stale = (0..index.len()).filter(|&at| wants_letters(&index, at));
        *self.stale_names.borrow_mut() = stale.map(|at| index.uids()[at]).collect();
        *self.index.borrow_mut() = Some(index);
        self.used.set(Some(now()));
    }

    /// Reads the index unless it is loaded. The work is another thread's.
    pub async fn load(&self, disk: &Disk) -> Result<(), StoreError> {
        self.used.set(Some(now()));
        if self.index.borrow().is_some() {
            return Ok(());
        }
        let _turn = self.files_turn().await?;
        if self.index.borrow().is_some() {
            return Ok(());
        }
        let damaged = |_: Malformed| StoreError::Damaged {
            partition: self.partition,
            since: unix_now(),
        };
        let mut found = self.read_again(disk).await?.map_err(damaged)?;
        // What was applied meanwhile stands in the pending bytes, from where it was read on.
        let mut applied = 0;
        loop {
            let (tail, at) = {
                let pending = self.pending.borrow();
                let tail = &pending.log[applied..];
                let at = pending.log_from + applied as u64;
                if tail.len() <= TAIL_BYTES_MAX {
                    found.replay(tail, at).map_err(damaged)?;
                    break;
                }
                (tail.to_vec(), at)
            };
            applied += tail.len();
            let apply = move || {
                let mut found = found;
                found.replay(&tail, at).map(|()| found)
            };
            let outcome = disk.compute(apply).await;
            found = outcome.map_err(|e| disk_error(&e))?.map_err(damaged)?;
        }
        // Nothing has waited since.
        if found.index.total() != self.meta.borrow().weight {
            return Err(damaged(Malformed));
        }
        *self.stale_names.borrow_mut() = found.stale;
        *self.index.borrow_mut() = Some(found.index);
        Ok(())
    }

    /// Damage stays, but an error of the disk may pass: an index that is made anew has lost what
    /// its files would say a moment later.
    async fn read_again(&self, disk: &Disk) -> Result<Result<Found, Malformed>, StoreError> {
        for pause in READ_AGAIN_AFTER {
            match self.read_files(disk).await {
                Err(e) if matches!(e.kind, DiskErrorKind::Io(n) if !is_out_of_files(n)) => {
                    sleep(pause).await;
                }
                read => return read.map_err(|e| disk_error(&e)),
            }
        }
        self.read_files(disk).await.map_err(|e| disk_error(&e))
    }

    /// What the files hold, or a snapshot that waits to be one of them.
    async fn read_files(&self, disk: &Disk) -> Result<Result<Found, Malformed>, DiskError> {
        let generation = self.meta.borrow().generation;
        let (waiting, written) = {
            let pending = self.pending.borrow();
            (pending.snapshot.clone(), pending.log_from as usize)
        };
        let mut paths = Vec::new();
        let has_snapshot = waiting.is_none() && generation > 0;
        if has_snapshot {
            paths.push(self.snapshot_path(generation));
        }
        if written > 0 {
            paths.push(self.log_path(generation));
        }
        let build = move |files: Vec<Vec<u8>>| {
            let mut files = files.into_iter();
            let index = match waiting {
                Some(snapshot) => Index::restore(snapshot),
                None if has_snapshot => Index::decode(&files.next().ok_or(Malformed)?)?,
                None => Index::default(),
            };
            let mut found = Found {
                index,
                stale: Vec::new(),
            };
            if written > 0 {
                let log = files.next().ok_or(Malformed)?;
                found.replay(log.get(..written).ok_or(Malformed)?, 0)?;
            }
            let all = 0..found.index.len();
            let index = &found.index;
            let stale = all.filter(|&at| wants_letters(index, at));
            found.stale = stale.map(|at| index.uids()[at]).collect();
            Ok(found)
        };
        disk.read_each(paths, build).await
    }

    /// True when the next checkpoint should write the index anew.
    pub fn wants_snapshot(&self) -> bool {
        let rows = u64::from(self.meta.borrow().weight.messages);
        self.pending.borrow().log_end() > LOG_BYTES_MIN.max(rows * ROW_BYTES / 2)
    }

    /// Begins a new generation: a snapshot of what is applied now, and an empty log. Answers the
    /// files of the old one, to be removed after the checkpoint. The index must be loaded.
    pub fn begin_generation(&self) -> Vec<PathBuf> {
        let index = self.index.borrow();
        let Some(index) = index.as_ref() else {
            return Vec::new();
        };
        let old = self.meta.borrow().generation;
        *self.pending.borrow_mut() = Pending {
            snapshot: Some(index.snapshot()),
            ..Pending::default()
        };
        self.meta.borrow_mut().generation = old + 1;
        vec![self.snapshot_path(old), self.log_path(old)]
    }

    /// Pads the log so that what comes after a checkpoint leaves its sectors alone.
    pub fn seal_log(&self) {
        let mut pending = self.pending.borrow_mut();
        let mut padding = align(pending.log_end()) - pending.log_end();
        if (1..4).contains(&padding) {
            // Too little to hold the zero length that says so.
            padding += align(1);
        }
        let len = pending.log.len() + padding as usize;
        pending.log.resize(len, 0);
    }

    /// Writes pending bytes to the index files. They stay pending if that fails.
    pub async fn flush(&self, disk: &Disk) -> Result<(), StoreError> {
        let _turn = self.files_turn().await?;
        let generation = self.meta.borrow().generation;
        let snapshot = self.pending.borrow().snapshot.clone();
        if let Some(snapshot) = snapshot {
            // Written in place: no catalogue names this generation before the checkpoint that
            // makes it durable, and a replay writes the same or a later state anew.
            write_snapshot(disk, self.snapshot_path(generation), snapshot).await?;
            if self.meta.borrow().generation == generation {
                self.pending.borrow_mut().snapshot = None;
            }
        }
        let (len, from) = {
            let pending = self.pending.borrow();
            (pending.log.len(), pending.log_from)
        };
        let mut written = 0;
        while written < len && self.meta.borrow().generation == generation {
            let end = (written + WRITE_BYTES).min(len);
            let bytes = self.pending.borrow().log[written..end].to_vec();
            let at = from + written as u64;
            append(disk, self.log_path(generation), at, bytes).await?;
            written = end;
        }
        if self.meta.borrow().generation == generation {
            let mut pending = self.pending.borrow_mut();
            pending.log.drain(..written);
            pending.log_from += written as u64;
        }
        Ok(())
    }
}

impl Found {
    fn replay(&mut self, log: &[u8], at: u64) -> Result<(), Malformed> {
        let before = self.stale.len();
        let stale = &mut self.stale;
        replay_telling(&mut self.index, log, at, &mut |uid| stale.push(uid))?;
        let touched = self.stale.split_off(before);
        let index = &self.index;
        let wants = |uid: &Uid| {
            index
                .position(*uid)
                .is_some_and(|at| wants_letters(index, at))
        };
        self.stale.extend(touched.into_iter().filter(wants));
        Ok(())
    }
}

async fn write_snapshot(disk: &Disk, path: PathBuf, snapshot: Snapshot) -> Result<(), StoreError> {
    let mut at = 0;
    for piece in snapshot.pieces() {
        let len = piece.len() as u64;
        append(disk, path.clone(), at, piece).await?;
        at += len;
        yield_if_needed().await;
    }
    let cut = vec![Step::Truncate { path, len: at }];
    for done in disk.batch(cut).await {
        done.map_err(|e| disk_error(&e))?;
    }
    Ok(())
}

async fn append(disk: &Disk, path: PathBuf, at: u64, bytes: Vec<u8>) -> Result<(), StoreError> {
    for done in disk.batch(vec![Step::Append { path, at, bytes }]).await {
        done.map_err(|e| disk_error(&e))?;
    }
    Ok(())
}
