//! One change to a directory tree, as a value, so that hundreds go to the pool in one trip.

use std::io;
use std::path::{Path, PathBuf};

use super::{DiskError, DiskOp, Open};
use crate::base::UnixMs;

/// A change or a sync. See the methods of [`Disk`](super::Disk) of the same names.
#[derive(Clone, Debug)]
pub enum Step {
    WriteNew {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    /// Writes at a position; the file is made if it is not there.
    Append {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    /// A whole file: written as `tmp`, and given its name only if all of that was done. What was
    /// `to` before is replaced.
    Replace {
        tmp: PathBuf,
        to: PathBuf,
        bytes: Vec<u8>,
        /// What of another file follows the bytes.
        rest: Option<FilePart>,
        /// Makes of the whole what is written.
        pack: Option<fn(Vec<u8>) -> Vec<u8>>,
        /// When the content was last changed, for those who ask; now where it is not said.
        modified: Option<UnixMs>,
    },
    /// Reads `from` through `how` into `to`, which is made or cut to nothing before.
    Convert {
        from: PathBuf,
        to: PathBuf,
        how: Convert,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    CreateDirAll {
        path: PathBuf,
    },
    RemoveDirAll {
        path: PathBuf,
    },
    Truncate {
        path: PathBuf,
        len: u64,
    },
    SetTimes {
        path: PathBuf,
        at: UnixMs,
    },
    /// fsync of the file.
    SyncFile {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    /// The steps in order, as far as the first that fails: what comes after it is not done.
    Group(Vec<Step>),
}

/// Makes one stream of octets of another: pure, and with bounded memory.
pub type Convert = fn(&mut dyn io::Read, &mut dyn io::Write) -> io::Result<()>;
/// Makes so many octets of what was packed. Pure, and it cannot fail.
pub type Unpack = fn(&[u8], usize) -> Vec<u8>;

/// Part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    pub path: PathBuf,
    pub at: u64,
    pub len: usize,
    /// Makes of it what is meant, which has so many octets.
    pub unpack: Option<(Unpack, usize)>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub bytes_written: u64,
}

impl Step {
    /// The operation by which an error of this step is named, and the path that is named with it.
    #[must_use]
    pub fn subject(&self) -> (DiskOp, &Path) {
        match self {
            Step::WriteNew { path, .. } | Step::Append { path, .. } => (DiskOp::Write, path),
            Step::Replace { tmp, .. } => (DiskOp::Write, tmp),
            Step::Convert { to, .. } => (DiskOp::Write, to),
            Step::Rename { from, .. } => (DiskOp::Rename, from),
            Step::Link { to, .. } => (DiskOp::Link, to),
            Step::Unlink { path } => (DiskOp::Unlink, path),
            Step::CreateDirAll { path } => (DiskOp::CreateDir, path),
            Step::RemoveDirAll { path } => (DiskOp::RemoveDir, path),
            Step::Truncate { path, .. } => (DiskOp::Truncate, path),
            Step::SetTimes { path, .. } => (DiskOp::SetTimes, path),
            Step::SyncFile { path } => (DiskOp::Fsync, path),
            Step::SyncDir { path } => (DiskOp::SyncDir, path),
            Step::Group(steps) => match steps.first() {
                Some(first) => first.subject(),
                None => (DiskOp::Compute, Path::new("")),
            },
        }
    }

    /// The two steps that write, as path, position, content and how to open.
    pub(super) fn as_write(&self) -> Option<(&Path, u64, &[u8], Open)> {
        match self {
            Step::WriteNew { path, bytes } => Some((path, 0, bytes, NEW)),
            Step::Append { path, at, bytes } => Some((path, *at, bytes, APPEND)),
            _ => None,
        }
    }

    pub(super) fn late(&self) -> DiskError {
        let (op, path) = self.subject();
        DiskError::late(op, path)
    }
}

impl Done {
    pub(super) fn and(self, other: Done) -> Self {
        Done {
            bytes_written: self.bytes_written + other.bytes_written,
        }
    }

    pub(super) fn wrote(bytes: &[u8]) -> Self {
        Done {
            bytes_written: bytes.len() as u64,
        }
    }
}

const NEW: Open = Open {
    read: false,
    write: true,
    create: false,
    create_new: true,
    truncate: false,
};

pub(super) const APPEND: Open = Open {
    create: true,
    create_new: false,
    ..NEW
};
