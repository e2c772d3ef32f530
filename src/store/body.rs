//! Where bodies lie between their record and their file.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::journal::Location;
use super::mailbox::{Folder, NameId};
use super::{Message, Outbound, Target};
use crate::base::{Crc32c, PSeq, PartitionId, TraceId, UnixMs};

/// The bytes of a shared body, without anybody's prefix.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Journal(Location),
    Spool(PathBuf),
    /// A message in a queue partition that outlived a checkpoint.
    File(PathBuf),
}

/// A message that a queue partition handed to its owners: the partition, and its record there.
pub(super) type Handed = (PartitionId, PSeq);

/// What a placement that is not settled yet will be made of.
#[derive(Clone)]
pub(super) enum Unsettled {
    Body {
        source: Source,
        /// The message itself while memory allows.
        memory: Option<Arc<Message>>,
        prefix: Arc<[u8]>,
        /// Of the body without the prefix.
        crc32c: Crc32c,
        size: u64,
        /// Other partitions have the same file, where this is known.
        shared: Option<Handed>,
    },
    /// A copy: the file of another placement of the account, prefix and all.
    Link {
        folder: Rc<Folder>,
        name: NameId,
        stem: String,
        letters: u32,
    },
}

/// A message that a queue partition holds for its owners, or for other hosts.
pub(super) struct Accepted {
    pub saved: UnixMs,
    pub trace: Option<TraceId>,
    pub size: u64,
    pub crc32c: Crc32c,
    pub blake3: [u8; 32],
    pub digest: Arc<[u8]>,
    /// Entry `n` of the outbox; `None` once handed over.
    pub targets: Vec<Option<Target>>,
    /// Recipients elsewhere, where there are any.
    pub outbound: Option<Box<Outbound>>,
    pub source: Source,
    pub memory: Option<Arc<Message>>,
}
