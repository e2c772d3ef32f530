//! Base: the small nouns every room shares. Ids, units, limits, checksums, time.
//!
//! Pure values: no IO, no async, no clock (time comes in as an argument). What is here is used by
//! at least two rooms; what only one room needs lives in that room.

mod checksum;
mod ids;
mod limits;
mod time;
mod units;

pub use checksum::{Crc32c, crc32c, crc32c_append};
pub use ids::{
    AccountId, BlobId, Epoch, IdParseError, MailboxId, ModSeq, PSeq, PartitionId, ShardId, TraceId,
    Uid, UidValidity,
};
pub use limits::*;
pub use time::{Deadline, UnixMs};
pub use units::{ByteSize, Span, UnitError};
