//! Why a journal cannot be opened. Each says where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::base::{Epoch, PSeq, PartitionId};
use crate::runtime::DiskError;
use crate::store::codec::CodecError;

/// The refuse-to-start list of `docs/JOURNAL.md`. A disk's failure apart, none goes away by trying
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    Disk(DiskError),
    /// A batch is not valid although a later one is.
    Damaged {
        stream: u16,
        slot: u64,
        path: PathBuf,
        offset: u64,
        /// Where the later batch is.
        later_slot: u64,
        later_offset: u64,
    },
    /// A batch is valid but does not follow the one before it.
    BrokenChain {
        stream: u16,
        slot: u64,
        path: PathBuf,
        offset: u64,
    },
    /// A slot that must be there is not, or its header is not valid.
    SlotMissing {
        stream: u16,
        slot: u64,
    },
    /// Two files hold one slot.
    SlotTwice {
        stream: u16,
        slot: u64,
        paths: [PathBuf; 2],
    },
    /// A slot of a newer Palomar.
    SlotVersion {
        path: PathBuf,
        version: u16,
    },
    /// A batch is valid, but a record in it is not to be understood.
    Record {
        stream: u16,
        slot: u64,
        path: PathBuf,
        offset: u64,
        why: CodecError,
    },
    /// Records of a partition are missing between two that are there, or stand twice.
    PSeqGap {
        partition: PartitionId,
        after: PSeq,
        found: PSeq,
    },
    /// The file `epoch` is damaged, or missing while there are slots.
    Epoch {
        path: PathBuf,
    },
    /// `retire` has not been called since `recover`: old slots may still be needed.
    NotRetired {
        epoch: Epoch,
    },
    /// Nothing to repair at the place that was named.
    NothingToCut {
        stream: u16,
        slot: u64,
    },
}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> Self {
        JournalError::Disk(error)
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Disk(error) => write!(f, "the journal cannot be opened: {error}"),
            JournalError::Damaged {
                stream,
                slot,
                path,
                offset,
                later_slot,
                later_offset,
            } => {
                write!(
                    f,
                    "the journal is damaged: stream {stream}, slot {slot} ({}), offset {offset}: \
                     no valid batch, but a later one is in slot {later_slot} at offset \
                     {later_offset}; ",
                    path.display()
                )?;
                remedy(f, *stream, *slot, *offset)
            }
            JournalError::BrokenChain {
                stream,
                slot,
                path,
                offset,
            } => {
                write!(
                    f,
                    "the journal is damaged: stream {stream}, slot {slot} ({}), offset {offset}: \
                     this batch does not follow the one before it; ",
                    path.display()
                )?;
                remedy(f, *stream, *slot, *offset)
            }
            JournalError::SlotMissing { stream, slot } => {
                write!(
                    f,
                    "the journal is damaged: stream {stream}: slot {slot} is missing; "
                )?;
                remedy(f, *stream, *slot, 0)
            }
            JournalError::SlotTwice {
                stream,
                slot,
                paths: [a, b],
            } => write!(
                f,
                "the journal is damaged: stream {stream}: slot {slot} is in two files, {} and {}; \
                 one is a copy that somebody made: move it away",
                a.display(),
                b.display()
            ),
            JournalError::SlotVersion { path, version } => write!(
                f,
                "{} has version {version}: it was written by a newer Palomar; start that one",
                path.display()
            ),
            JournalError::Record {
                stream,
                slot,
                path,
                offset,
                why,
            } => {
                write!(
                    f,
                    "stream {stream}, slot {slot} ({}), batch at offset {offset}: ",
                    path.display()
                )?;
                match why {
                    CodecError::UnknownKind { kind, version } => write!(
                        f,
                        "a record of kind {kind} version {version} was written by a newer \
                         Palomar; start that one"
                    ),
                    CodecError::UnknownVersion { version } => write!(
                        f,
                        "a record of version {version} was written by a newer Palomar; start that \
                         one"
                    ),
                    why => {
                        write!(
                            f,
                            "a record is not what Palomar writes ({why:?}): report it; "
                        )?;
                        remedy(f, *stream, *slot, *offset)
                    }
                }
            }
            JournalError::PSeqGap {
                partition,
                after,
                found,
            } => write!(
                f,
                "the journal is damaged: partition {partition}: record {found} follows record \
                 {after}; a slot file is from another time or place: restore it, or the backup"
            ),
            JournalError::Epoch { path } => write!(
                f,
                "{} is damaged or missing, but there is a journal: restore it from a backup of \
                 this data directory",
                path.display()
            ),
            JournalError::NotRetired { epoch } => write!(
                f,
                "the journal of epoch {epoch} cannot begin: former ones are not retired"
            ),
            JournalError::NothingToCut { stream, slot } => {
                write!(f, "stream {stream} has no live slot {slot}: nothing to cut")
            }
        }
    }
}

impl std::error::Error for JournalError {}

fn remedy(f: &mut fmt::Formatter<'_>, stream: u16, slot: u64, offset: u64) -> fmt::Result {
    write!(
        f,
        "restore the file, or lose what came after with `palomar journal cut --stream {stream} \
         --slot {slot} --offset {offset}` (a copy is kept)"
    )
}
