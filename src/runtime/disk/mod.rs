//! Files and directories behind one API: the machine's, or a simulated disk that loses power.
//!
//! An open file ([`DiskFile`]) is written and synced through the shard's ring: the journal's path.
//! All else is a trip to the [`Pool`], since the kernel has no way to do it without blocking.
//! Every operation has the disk deadline; one that misses it is [`DiskErrorKind::Late`] and may
//! still happen, so whoever gets that on a write treats the object as poisoned. A disk that others
//! keep busy is not a broken one: what nobody waits for, or nothing can go on without, asks the
//! [`patient`](Disk::patient) disk. What takes long is logged while it does.
//!
//! Nothing is durable before its sync: data by `fdatasync` or `sync_all` of its file, a name by
//! `sync_dir` of its directory, everything by `syncfs`. [`SimDisk`] takes this literally.

mod error;
mod file;
mod notice;
mod real;
mod sim;
mod step;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::timer::deadline_noting;
use super::{Elapsed, Pool, PoolError, now};
use crate::base::{Deadline, UnixMs};

pub use error::{DiskError, DiskErrorKind, DiskOp};
pub use file::{DiskFile, Open};
pub use notice::{Notice, Notices, WatchId};
pub use sim::{SimCounters, SimDisk};
pub use step::{Convert, Done, FilePart, Step};

use real::Reach;

/// A handle; clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Real(Real),
    Sim(SimDisk),
}

#[derive(Clone)]
struct Real {
    pool: Pool,
    /// For `syncfs` and `free_bytes`. Held since start, so that it sees every write-back error.
    root: Option<Arc<OwnedFd>>,
    span: Duration,
    reach: Reach,
}

/// One name in a directory. A symbolic link is not followed: it is neither directory nor file, as
/// sockets, FIFOs and devices are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    pub is_dir: bool,
    /// A regular file.
    pub is_file: bool,
    /// Owned by the user that we run as, who may read it, and write to it if it is a directory.
    pub is_ours: bool,
    /// On another file system than the directory that it is in.
    pub is_mount: bool,
    pub len: u64,
    pub modified: UnixMs,
}

impl Disk {
    /// The machine's own file systems.
    #[must_use]
    pub fn real(pool: Pool) -> Disk {
        let kind = Kind::Real(Real {
            pool,
            root: None,
            span: DISK_SPAN,
            reach: Reach::Own,
        });
        Disk { kind }
    }

    /// A simulated one.
    #[must_use]
    pub fn sim(sim: SimDisk) -> Disk {
        let kind = Kind::Sim(sim);
        Disk { kind }
    }

    /// How long an operation may take; 30 s where this is not called. A simulated disk is never
    /// late.
    #[must_use]
    pub fn with_deadline(mut self, span: Duration) -> Disk {
        if let Kind::Real(real) = &mut self.kind {
            real.span = span;
        }
        self
    }

    /// This disk with a deadline that only a broken one misses. A `syncfs` always has it, since it
    /// writes what every other program has left in the page cache, too.
    #[must_use]
    pub fn patient(&self) -> Disk {
        self.clone().with_deadline(PATIENCE)
    }

    /// This disk for reading where others may have made any name: no symbolic link is followed
    /// anywhere in a path. A path that begins with one of ours is made
    /// [`canonical`](Disk::canonical) before.
    #[must_use]
    pub fn foreign(&self) -> Disk {
        let mut disk = self.clone();
        if let Kind::Real(real) = &mut disk.kind {
            real.reach = Reach::Foreign;
        }
        disk
    }

    /// The path without symbolic links; of what is not there, where it would be.
    pub async fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError> {
        match &self.kind {
            Kind::Real(real) => real.trip(DiskOp::Stat, path, real::canonical).await,
            Kind::Sim(_) => Ok(path.to_path_buf()),
        }
    }

    /// Names the directory whose file system [`syncfs`](Disk::syncfs) and
    /// [`free_bytes`](Disk::free_bytes) are about. Blocks: for the start.
    pub fn with_root(mut self, root: &Path) -> Result<Disk, DiskError> {
        if let Kind::Real(real) = &mut self.kind {
            let fd =
                real::open_dir(root).map_err(|cause| DiskError::new(DiskOp::Open, root, &cause))?;
            real.root = Some(Arc::new(fd));
        }
        Ok(self)
    }

    /// Opens a file for positional reads and writes through the ring. New files are 0600.
    pub async fn open(&self, path: &Path, how: Open) -> Result<DiskFile, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let open = move |path: &Path| real::open(path, how, reach);
                let fd = real.trip(DiskOp::Open, path, open).await?;
                Ok(DiskFile::real(fd, path, real.clone()))
            }
            Kind::Sim(sim) => DiskFile::sim(sim, path, how).await,
        }
    }

    /// Opens a file for reading, and tells how long it is: one trip.
    pub async fn open_sized(&self, path: &Path) -> Result<(DiskFile, u64), DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let open = move |path: &Path| real::open_sized(path, reach);
                let (fd, len) = real.trip(DiskOp::Open, path, open).await?;
                Ok((DiskFile::real(fd, path, real.clone()), len))
            }
            Kind::Sim(sim) => {
                let read = Open {
                    read: true,
                    ..Open::default()
                };
                let file = DiskFile::sim(sim, path, read).await?;
                let len = file.len().await?;
                Ok((file, len))
            }
        }
    }

    /// Computes on a thread that may take its time; a simulated disk does it at once.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        match &self.kind {
            Kind::Real(real) => real
                .pool
                .run_queued(real.deadline(), work)
                .await
                .map_err(|why| lost(DiskError::late(DiskOp::Compute, Path::new("")), why)),
            Kind::Sim(_) => Ok(work()),
        }
    }

    /// The directory and those above it that are missing, 0700.
    pub async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.step(Step::CreateDirAll { path: path.into() }).await
    }

    /// Replaces what stands at `to`.
    pub async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let (from, to) = (from.into(), to.into());
        self.step(Step::Rename { from, to }).await
    }

    /// A second name for a file; `Exists` if `to` is taken.
    pub async fn link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let (from, to) = (from.into(), to.into());
        self.step(Step::Link { from, to }).await
    }

    pub async fn unlink(&self, path: &Path) -> Result<(), DiskError> {
        self.step(Step::Unlink { path: path.into() }).await
    }

    /// Creates a file (`Exists` if there is one) and writes it. Syncs nothing.
    pub async fn write_new(&self, path: &Path, bytes: Vec<u8>) -> Result<(), DiskError> {
        let path = path.into();
        self.step(Step::WriteNew { path, bytes }).await
    }

    /// Makes the names in this directory durable.
    pub async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.step(Step::SyncDir { path: path.into() }).await
    }

    /// Cuts a file off, or extends it with zeros.
    pub async fn truncate(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        let path = path.into();
        self.step(Step::Truncate { path, len }).await
    }

    /// Sets the times of access and change of content.
    pub async fn set_times(&self, path: &Path, at: UnixMs) -> Result<(), DiskError> {
        let path = path.into();
        self.step(Step::SetTimes { path, at }).await
    }

    /// Removes a directory and all below it.
    pub async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.step(Step::RemoveDirAll { path: path.into() }).await
    }

    /// Does the steps in order in one trip to the pool. A failed step does not end the batch: the
    /// outcomes stand in the steps' order. Steps that must not be done without those before them
    /// are a [`Step::Group`]. The deadline is for the whole batch.
    pub async fn batch(&self, steps: Vec<Step>) -> Vec<Result<Done, DiskError>> {
        match &self.kind {
            Kind::Real(real) => {
                let late: Vec<_> = steps.iter().map(Step::late).collect();
                let reach = real.reach;
                let one = move |step: &Step| real::apply(step, reach);
                let work = move || steps.iter().map(one).collect();
                let until = real.deadline();
                let run = real.pool.run_queued(until, work);
                let outcome = match late.first() {
                    Some(first) => noted(first.op, &first.path, until, run).await,
                    None => return Vec::new(),
                };
                outcome
                    .unwrap_or(Err(PoolError::Late))
                    .unwrap_or_else(|why| late.into_iter().map(|e| Err(lost(e, why))).collect())
            }
            Kind::Sim(sim) => {
                let mut outcomes = Vec::with_capacity(steps.len());
                for step in &steps {
                    sim.delay().await;
                    outcomes.push(sim.apply(step));
                }
                outcomes
            }
        }
    }

    /// A whole file.
    pub async fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        self.read_at_most(path, u64::MAX).await
    }

    /// A whole file; `Io(EFBIG)` where it has more octets than that.
    pub async fn read_at_most(&self, path: &Path, max: u64) -> Result<Vec<u8>, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let read = move |path: &Path| real::read(path, max, reach);
                real.trip(DiskOp::Read, path, read).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                let bytes = sim.read(path)?;
                match bytes.len() as u64 > max {
                    true => Err(DiskError {
                        op: DiskOp::Read,
                        path: path.into(),
                        kind: DiskErrorKind::Io(rustix::io::Errno::FBIG.raw_os_error()),
                    }),
                    false => Ok(bytes),
                }
            }
        }
    }

    /// Whole files, and what `then` makes of them on the thread that read them: for what would hold
    /// a shard up for long.
    pub async fn read_each<T: Send + 'static>(
        &self,
        paths: Vec<PathBuf>,
        then: impl FnOnce(Vec<Vec<u8>>) -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let first = paths.first().cloned().unwrap_or_default();
                let reach = real.reach;
                let work = move || {
                    let read = |path: &PathBuf| {
                        let read = real::read(path, u64::MAX, reach);
                        read.map_err(|cause| DiskError::new(DiskOp::Read, path, &cause))
                    };
                    let files = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
                    Ok(then(files))
                };
                let until = real.deadline();
                let run = real.pool.run_queued(until, work);
                match noted(DiskOp::Read, &first, until, run).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(why)) => Err(lost(DiskError::late(DiskOp::Read, &first), why)),
                    Err(Elapsed) => Err(DiskError::late(DiskOp::Read, &first)),
                }
            }
            Kind::Sim(sim) => {
                let mut files = Vec::with_capacity(paths.len());
                for path in &paths {
                    sim.delay().await;
                    files.push(sim.read(path)?);
                }
                Ok(then(files))
            }
        }
    }

    /// Reads `from` through `how` into `to`, which is made or cut to nothing before, with a bound
    /// of the caller's.
    pub async fn convert<T: Send + 'static>(
        &self,
        from: &Path,
        to: &Path,
        how: impl FnOnce(&mut dyn io::Read, &mut dyn io::Write) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let (reach, to) = (real.reach, to.to_path_buf());
                let convert = move |from: &Path| real::convert((from, reach), &to, how);
                real.trip(DiskOp::Write, from, convert).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                sim.convert(from, to, how)
            }
        }
    }

    /// Makes durable what of a file is in memory alone, and forgets what an earlier sync has failed
    /// to: what is read from now on is on the disk.
    pub async fn settle(&self, path: &Path) -> Result<(), DiskError> {
        match &self.kind {
            Kind::Real(real) => real.trip(DiskOp::Fdatasync, path, real::settle).await,
            Kind::Sim(sim) => {
                sim.delay().await;
                sim.settle(path)
            }
        }
    }

    /// What is in a directory, by name.
    pub async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let list = move |path: &Path| real::list(path, reach);
                real.trip(DiskOp::List, path, list).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                sim.list(path)
            }
        }
    }

    /// The names in a directory, in order: without a look at each file, of which there may be very
    /// many.
    pub async fn names(&self, path: &Path) -> Result<Vec<OsString>, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let names = move |path: &Path| real::names(path, reach);
                real.trip(DiskOp::List, path, names).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                let entries = sim.list(path)?;
                Ok(entries.into_iter().map(|entry| entry.name).collect())
            }
        }
    }

    pub async fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == DiskErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The length of a file; `NotFound` where there is none.
    pub async fn file_len(&self, path: &Path) -> Result<u64, DiskError> {
        self.stat(path).await.map(|(len, _)| len)
    }

    /// When the content was last changed, or said to have been by `set_times`.
    pub async fn modified(&self, path: &Path) -> Result<UnixMs, DiskError> {
        self.stat(path).await.map(|(_, modified)| modified)
    }

    /// What `look` makes of the content of each file, and when that was last changed: for work on
    /// many files, in one trip to the pool. Outcomes stand in the order of the paths.
    pub async fn survey<T: Send + 'static>(
        &self,
        paths: Vec<PathBuf>,
        look: fn(&Path, &mut dyn io::Read) -> io::Result<T>,
    ) -> Vec<Result<(T, UnixMs), DiskError>> {
        match &self.kind {
            Kind::Real(real) => {
                let read = |path: &Path| DiskError::late(DiskOp::Read, path);
                let late: Vec<_> = paths.iter().map(|path| read(path)).collect();
                let reach = real.reach;
                let one = move |path: &PathBuf| {
                    real::survey(path, reach, look)
                        .map_err(|e| DiskError::new(DiskOp::Read, path, &e))
                };
                let work = move || paths.iter().map(one).collect();
                real.pool
                    .run_queued(real.deadline(), work)
                    .await
                    .unwrap_or_else(|why| late.into_iter().map(|e| Err(lost(e, why))).collect())
            }
            Kind::Sim(sim) => {
                let mut outcomes = Vec::with_capacity(paths.len());
                for path in &paths {
                    sim.delay().await;
                    let one = || {
                        let bytes = sim.read(path)?;
                        let seen = look(path, &mut bytes.as_slice());
                        let seen = seen.map_err(|e| DiskError::new(DiskOp::Read, path, &e))?;
                        Ok((seen, sim.stat(path)?.1))
                    };
                    outcomes.push(one());
                }
                outcomes
            }
        }
    }

    /// [`modified`](Disk::modified) of many, in one trip to the pool.
    pub async fn modified_all(&self, paths: Vec<PathBuf>) -> Vec<Result<UnixMs, DiskError>> {
        match &self.kind {
            Kind::Real(real) => {
                let late = |path: &PathBuf| DiskError::late(DiskOp::Stat, path);
                let late: Vec<_> = paths.iter().map(late).collect();
                let reach = real.reach;
                let one = move |path: &PathBuf| {
                    let stat = real::stat(path, reach).map(|(_, modified)| modified);
                    stat.map_err(|cause| DiskError::new(DiskOp::Stat, path, &cause))
                };
                let work = move || paths.iter().map(one).collect();
                real.pool
                    .run_queued(real.deadline(), work)
                    .await
                    .unwrap_or_else(|why| late.into_iter().map(|e| Err(lost(e, why))).collect())
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                let one = |path: &PathBuf| sim.stat(path).map(|(_, modified)| modified);
                paths.iter().map(one).collect()
            }
        }
    }

    /// Makes everything on the root's file system durable. `Io(EBADF)` without a root.
    pub async fn syncfs(&self) -> Result<(), DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let root = real.root.clone();
                let patient = Real {
                    span: real.span.max(PATIENCE),
                    ..real.clone()
                };
                let sync = move |_: &Path| real::syncfs(root);
                patient.trip(DiskOp::SyncFs, Path::new("/"), sync).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                sim.syncfs()
            }
        }
    }

    /// What is left for us on the root's file system. `Io(EBADF)` without a root.
    pub async fn free_bytes(&self) -> Result<u64, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let root = real.root.clone();
                real.trip(DiskOp::Stat, Path::new("/"), move |_| {
                    real::free_bytes(root)
                })
                .await
            }
            Kind::Sim(sim) => Ok(sim.free_bytes()),
        }
    }

    async fn stat(&self, path: &Path) -> Result<(u64, UnixMs), DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let reach = real.reach;
                let stat = move |path: &Path| real::stat(path, reach);
                real.trip(DiskOp::Stat, path, stat).await
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                sim.stat(path)
            }
        }
    }

    async fn step(&self, step: Step) -> Result<(), DiskError> {
        let outcome = self.batch(vec![step]).await.pop();
        outcome.expect("one outcome a step").map(drop)
    }
}

impl Real {
    /// One blocking call on the pool.
    async fn trip<T: Send + 'static>(
        &self,
        op: DiskOp,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let owned = path.to_path_buf();
        let work = move || call(&owned);
        let until = self.deadline();
        let run = self.pool.run_queued(until, work);
        match noted(op, path, until, run).await {
            Ok(Ok(outcome)) => outcome.map_err(|cause| DiskError::new(op, path, &cause)),
            Ok(Err(why)) => Err(lost(DiskError::late(op, path), why)),
            Err(Elapsed) => Err(DiskError::late(op, path)),
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(now(), self.span)
    }
}

/// Waits for an operation, and says so in the log while it takes long.
fn noted<T>(
    op: DiskOp,
    path: &Path,
    until: Deadline,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Elapsed>> {
    let note = move |so_far: Duration| {
        let seconds = so_far.as_secs();
        tracing::warn!(%op, path = %path.display(), seconds, "the disk has not answered yet");
    };
    deadline_noting(until, NOTE_EVERY, note, work)
}

/// What became of an operation that the pool gave no outcome for.
fn lost(late: DiskError, why: PoolError) -> DiskError {
    match why {
        PoolError::Full | PoolError::Late => late,
        PoolError::Panicked => DiskError {
            kind: DiskErrorKind::Io(rustix::io::Errno::IO.raw_os_error()),
            ..late
        },
    }
}

/// Longer than a disk's own retries, shorter than a client's patience.
const DISK_SPAN: Duration = Duration::from_secs(30);
/// Longer than others can keep a disk busy.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between lines in the log about an operation that is under way.
const NOTE_EVERY: Duration = Duration::from_secs(10);
