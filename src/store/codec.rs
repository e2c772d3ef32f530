//! Records as bytes: the tables of `docs/JOURNAL.md`, and nothing else.
//!
//! Encoding appends to a batch buffer, so that a body is copied or packed once. Decoding leaves
//! bodies where they are, packed or not, and answers their ranges. No bytes make it panic or use memory beyond their size and
//! [`UIDS_PER_RECORD_MAX`].

mod outbound;
mod pack;
mod read;
mod write;

use std::ops::Range;
use std::path::Path;

pub use outbound::{outbound, put_outbound};
pub use pack::{Packer, unpack, unpack_part};
use read::Reader;

use super::{Record, SpecialUse};
use crate::base::{Crc32c, Epoch, PSeq, PartitionId, crc32c};

/// Length and CRC, before the content of a record.
pub const FRAME_BYTES: usize = 8;

/// UIDs that the operations of one record name at most; runs make them cheap on disk, not here.
pub const UIDS_PER_RECORD_MAX: usize = 2 << 20;

/// What is written; all before are read. Version 1 had no packed bodies.
const RECORD_VERSION: u8 = 2;

mod kind {
    pub const MAILBOX_CREATED: u8 = 1;
    pub const MAILBOX_RENAMED: u8 = 2;
    pub const MAILBOX_DELETED: u8 = 3;
    pub const SUBSCRIPTION_SET: u8 = 4;
    pub const PLACED: u8 = 5;
    pub const FLAGS_SET: u8 = 6;
    pub const EXPUNGED: u8 = 7;
    pub const ACCOUNT_PURGED: u8 = 8;
    pub const VALUE_SET: u8 = 9;
    pub const ACCEPTED: u8 = 10;
    pub const HANDED_OVER: u8 = 11;
    pub const BODY_SETTLED: u8 = 12;
    pub const ADOPTED: u8 = 13;
    pub const MAILBOX_SET: u8 = 14;
    pub const TRIED: u8 = 15;
    pub const STEERED: u8 = 16;
}

/// Special uses by number, from 1 on; 0 is none.
const USES: [SpecialUse; 5] = [
    SpecialUse::Archive,
    SpecialUse::Drafts,
    SpecialUse::Junk,
    SpecialUse::Sent,
    SpecialUse::Trash,
];

/// Why bytes are no record, or a record cannot become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// They end inside a field, or go on after the last.
    Length,
    /// The CRC does not fit.
    Checksum,
    /// Written by a newer Palomar: this node must not go on.
    UnknownVersion { version: u8 },
    /// Written by a newer Palomar: this node must not go on.
    UnknownKind { kind: u8, version: u8 },
    /// A field holds what the encoder never writes.
    Field(&'static str),
    /// More UIDs than [`UIDS_PER_RECORD_MAX`].
    TooManyUids,
    /// A body without its bytes: it was itself read back from a journal.
    BodyNotHere,
}

/// For each body of a record its bytes within a buffer, or `None` where they are in a spool file.
/// Fewer bytes than the message has are its frame, which [`unpack`] reads.
pub type BodyRanges = Vec<Option<Range<usize>>>;

/// A record read back. Inline bodies are [`Body::InJournal`]; their bytes are at the ranges.
#[derive(Debug)]
pub struct Decoded {
    pub record: Record,
    /// Within the frame.
    pub bodies: BodyRanges,
}

/// Appends `record` as one frame to `out`. Answers where in `out` the inline bodies stand. On an
/// error `out` is as before. Spool paths are kept relative to `root`, so that it may be moved.
pub fn encode(
    record: &Record,
    root: &Path,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) -> Result<BodyRanges, CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    let bodies = match write::put_record(record, root, packer, out) {
        Ok(bodies) => bodies,
        Err(why) => {
            out.truncate(start);
            return Err(why);
        }
    };
    let content = start + FRAME_BYTES;
    let Ok(length) = u32::try_from(out.len() - content) else {
        out.truncate(start);
        return Err(CodecError::Length);
    };
    let crc = crc32c(&out[content..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..content].copy_from_slice(&crc.0.to_le_bytes());
    Ok(bodies)
}

/// The whole frame that begins at `bytes`, its CRC checked. What follows it is the caller's.
pub fn frame(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let head = bytes.get(..FRAME_BYTES).ok_or(CodecError::Length)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let end = FRAME_BYTES.checked_add(length).ok_or(CodecError::Length)?;
    let frame = bytes.get(..end).ok_or(CodecError::Length)?;
    let crc = Crc32c(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
    if crc32c(&frame[FRAME_BYTES..]) == crc {
        Ok(frame)
    } else {
        Err(CodecError::Checksum)
    }
}

/// Reads a frame that [`frame`] answered: the CRC is not checked again.
pub fn decode(frame: &[u8], root: &Path) -> Result<Decoded, CodecError> {
    let mut from = Reader::new(frame, FRAME_BYTES);
    let version = from.octet()?;
    if !(1..=RECORD_VERSION).contains(&version) {
        return Err(CodecError::UnknownVersion { version });
    }
    let partition = PartitionId(u16::from_le_bytes(from.array()?));
    let epoch = Epoch(u32::from_le_bytes(from.array()?));
    let pseq = PSeq(u64::from_le_bytes(from.array()?));
    let ops = from.list(Reader::op)?;
    let (bodies, ranges) = from.list(|r| r.body(root, version))?.into_iter().unzip();
    if !from.is_empty() {
        return Err(CodecError::Length);
    }
    Ok(Decoded {
        record: Record {
            partition,
            epoch,
            pseq,
            ops,
            bodies,
        },
        bodies: ranges,
    })
}

#[cfg(test)]
mod tests;
