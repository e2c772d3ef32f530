//! What a disk says when it does not do what it was told.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// A failed operation. Whether its effect is there is unknown for `Late` and `Io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    pub op: DiskOp,
    pub path: PathBuf,
    pub kind: DiskErrorKind,
}

/// What went wrong, as far as callers tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No space, or the file system's quota for us is used up.
    Full,
    NotFound,
    Exists,
    /// Any other errno.
    Io(i32),
    /// Not done by the deadline; it may still happen.
    Late,
}

/// The operations, named in errors and in what [`SimDisk`](super::SimDisk) lets fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskOp {
    Open,
    Write,
    Read,
    Fdatasync,
    Fsync,
    Close,
    CreateDir,
    Rename,
    Link,
    Unlink,
    RemoveDir,
    List,
    SyncDir,
    SyncFs,
    Truncate,
    SetTimes,
    Stat,
    /// Work on a pool thread that touches no file.
    Compute,
}

impl DiskError {
    #[must_use]
    pub fn new(op: DiskOp, path: &Path, cause: &io::Error) -> Self {
        DiskError {
            op,
            path: path.into(),
            kind: DiskErrorKind::of(cause),
        }
    }

    pub(super) fn late(op: DiskOp, path: &Path) -> Self {
        DiskError {
            op,
            path: path.into(),
            kind: DiskErrorKind::Late,
        }
    }
}

impl DiskErrorKind {
    /// The kind of an errno.
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match Errno::from_raw_os_error(errno) {
            Errno::NOSPC | Errno::DQUOT => DiskErrorKind::Full,
            Errno::NOENT => DiskErrorKind::NotFound,
            Errno::EXIST => DiskErrorKind::Exists,
            _ => DiskErrorKind::Io(errno),
        }
    }

    fn of(cause: &io::Error) -> Self {
        match cause.raw_os_error() {
            Some(errno) => Self::from_errno(errno),
            None if cause.kind() == io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            None => DiskErrorKind::Io(Errno::IO.raw_os_error()),
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.op, self.path.display())?;
        match self.kind {
            DiskErrorKind::Full => f.write_str("no space left"),
            DiskErrorKind::NotFound => f.write_str("not found"),
            DiskErrorKind::Exists => f.write_str("exists"),
            DiskErrorKind::Io(errno) => write!(f, "{}", io::Error::from_raw_os_error(errno)),
            DiskErrorKind::Late => f.write_str("no answer from the disk in time"),
        }
    }
}

impl fmt::Display for DiskOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskOp::Open => "open",
            DiskOp::Write => "write",
            DiskOp::Read => "read",
            DiskOp::Fdatasync => "fdatasync",
            DiskOp::Fsync => "fsync",
            DiskOp::Close => "close",
            DiskOp::CreateDir => "mkdir",
            DiskOp::Rename => "rename",
            DiskOp::Link => "link",
            DiskOp::Unlink => "unlink",
            DiskOp::RemoveDir => "rmdir",
            DiskOp::List => "list",
            DiskOp::SyncDir => "sync directory",
            DiskOp::SyncFs => "syncfs",
            DiskOp::Truncate => "truncate",
            DiskOp::SetTimes => "set times",
            DiskOp::Stat => "stat",
            DiskOp::Compute => "compute",
        })
    }
}

impl std::error::Error for DiskError {}
