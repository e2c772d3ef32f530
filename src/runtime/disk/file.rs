//! An open file: positional reads and writes, and its syncs.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::BufferedFile;

use super::sim::SimFile;
use super::{DiskError, DiskOp, Real, SimDisk, noted};
use crate::base::Deadline;
use crate::runtime::error::io_error;

/// How to open. Nothing set opens nothing: `read` or `write` must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub read: bool,
    pub write: bool,
    /// Made if it is not there.
    pub create: bool,
    /// `Exists` if it is there.
    pub create_new: bool,
    pub truncate: bool,
}

/// A handle; clones are the same open file, which closes with the last.
#[derive(Clone)]
pub struct DiskFile {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Real(Rc<RealFile>),
    Sim(Rc<SimFile>),
}

struct RealFile {
    file: BufferedFile,
    path: PathBuf,
    disk: Real,
}

impl DiskFile {
    pub(super) fn real(fd: OwnedFd, path: &Path, disk: Real) -> Self {
        // SAFETY: the descriptor is owned and its ownership passes to the file.
        let file = unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) };
        let path = path.into();
        DiskFile {
            kind: Kind::Real(Rc::new(RealFile { file, path, disk })),
        }
    }

    pub(super) async fn sim(sim: &SimDisk, path: &Path, how: Open) -> Result<Self, DiskError> {
        sim.delay().await;
        let file = sim.open(path, how)?;
        Ok(DiskFile {
            kind: Kind::Sim(Rc::new(file)),
        })
    }

    /// Writes the whole buffer at a position and gives it back. After an error an unknown part of
    /// it has been written.
    pub async fn write_at(&self, buf: Vec<u8>, at: u64) -> Result<Vec<u8>, DiskError> {
        match &self.kind {
            Kind::Real(real) => real.bounded(DiskOp::Write, real.write(&buf, at)).await?,
            Kind::Sim(sim) => sim.write_at(&buf, at).await?,
        }
        Ok(buf)
    }

    /// `len` bytes at a position, fewer only where the file ends.
    pub async fn read_at(&self, len: usize, at: u64) -> Result<Vec<u8>, DiskError> {
        match &self.kind {
            Kind::Real(real) => real.bounded(DiskOp::Read, real.read(len, at)).await,
            Kind::Sim(sim) => sim.read_at(len, at).await,
        }
    }

    /// Makes what was written durable, with the length where it has changed. After an error the
    /// kernel has forgotten what it could not write: a later success says nothing about it.
    pub async fn fdatasync(&self) -> Result<(), DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let sync = async { real.file.fdatasync().await.map_err(io_error) };
                real.bounded(DiskOp::Fdatasync, sync).await
            }
            Kind::Sim(sim) => sim.sync(DiskOp::Fdatasync).await,
        }
    }

    /// [`fdatasync`](DiskFile::fdatasync) with times and the like.
    pub async fn sync_all(&self) -> Result<(), DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let fd = real
                    .dup()
                    .map_err(|cause| real.error(DiskOp::Fsync, &cause))?;
                let sync = move |_: &Path| Ok(rustix::fs::fsync(fd)?);
                real.disk.trip(DiskOp::Fsync, &real.path, sync).await
            }
            Kind::Sim(sim) => sim.sync(DiskOp::Fsync).await,
        }
    }

    /// The file's length now.
    pub async fn len(&self) -> Result<u64, DiskError> {
        match &self.kind {
            Kind::Real(real) => {
                let fd = real
                    .dup()
                    .map_err(|cause| real.error(DiskOp::Stat, &cause))?;
                let stat = move |_: &Path| Ok(rustix::fs::fstat(fd)?.st_size.unsigned_abs());
                real.disk.trip(DiskOp::Stat, &real.path, stat).await
            }
            Kind::Sim(sim) => Ok(sim.len()),
        }
    }

    /// True for a file without content.
    pub async fn is_empty(&self) -> Result<bool, DiskError> {
        self.len().await.map(|len| len == 0)
    }

    /// Closes the file if this is its last handle, and tells what the close says. Dropping the
    /// last handle closes it too, a little later.
    pub async fn close(self) -> Result<(), DiskError> {
        match self.kind {
            Kind::Real(real) => match Rc::try_unwrap(real) {
                Ok(RealFile { file, path, disk }) => {
                    let close = async { file.close().await.map_err(io_error) };
                    bounded(DiskOp::Close, &path, disk.deadline(), close).await
                }
                Err(_shared) => Ok(()),
            },
            Kind::Sim(_) => Ok(()),
        }
    }
}

impl RealFile {
    async fn write(&self, buf: &[u8], mut at: u64) -> io::Result<()> {
        let mut rest = buf;
        while !rest.is_empty() {
            // glommio drops the buffer that it is given, and a short write would take the rest
            // with it: it gets a copy. That is 10 us in 100 KB, next to the sync that follows.
            match self.file.write_at(rest.to_vec(), at).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    rest = &rest[n..];
                    at += n as u64;
                }
                Err(error) => retry_if_interrupted(io_error(error))?,
            }
        }
        Ok(())
    }

    async fn read(&self, len: usize, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let position = at + bytes.len() as u64;
            match self.file.read_at(position, len - bytes.len()).await {
                Ok(part) if part.is_empty() => break,
                Ok(part) => bytes.extend_from_slice(&part),
                Err(error) => retry_if_interrupted(io_error(error))?,
            }
        }
        Ok(bytes)
    }

    fn dup(&self) -> io::Result<OwnedFd> {
        // SAFETY: the file owns the descriptor and outlives this call.
        let fd = unsafe { BorrowedFd::borrow_raw(self.file.as_raw_fd()) };
        Ok(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
    }

    fn error(&self, op: DiskOp, cause: &io::Error) -> DiskError {
        DiskError::new(op, &self.path, cause)
    }

    async fn bounded<T>(
        &self,
        op: DiskOp,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DiskError> {
        bounded(op, &self.path, self.disk.deadline(), work).await
    }
}

async fn bounded<T>(
    op: DiskOp,
    path: &Path,
    until: Deadline,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, DiskError> {
    match noted(op, path, until, work).await {
        Ok(outcome) => outcome.map_err(|cause| DiskError::new(op, path, &cause)),
        Err(_) => Err(DiskError::late(op, path)),
    }
}

fn retry_if_interrupted(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(error),
    }
}
