//! Journal: the one truth of a shard, as `docs/JOURNAL.md` lays it out.
//!
//! [`Journal`] takes records, commits them in groups (one batch is written and synced while the
//! next collects), hands each durable batch to [`Apply`], and only then wakes who waits.
//! [`recover`] reads what a former process left, whatever its number of shards was.
//!
//! Invariants: applied <= committed; a record is acknowledged after it is applied; records of a
//! stream are applied in the order of `append`; after a failed write or sync nothing is
//! acknowledged any more.
//!
//! Runs on: every shard, one stream each; `recover` and `retire` before the shards serve.
//! Deliberately absent: what a record means (`partition`), where bodies go next (`settle`).

mod batch;
mod epoch;
mod error;
mod inspect;
mod readers;
mod recover;
mod repair;
mod ring;
mod slot;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::{Packing, Record, codec};
use crate::base::BATCH_BYTES_MAX;
use writer::{Core, Reading};

pub use error::JournalError;
pub use inspect::{Inspected, Look, Onlooker, Seen, inspect};
pub use readers::{LostPlace, Reader, ReaderStats};
pub use recover::{
    Recorded, Recovered, Report, SlotFiles, TornTail, give_up_slot, recover, recover_telling,
    retire, retire_all,
};
pub use repair::{Loss, cut, losses};
pub use verify::Rot;
pub use writer::{Journal, Stats, Ticket};

/// A record's frame, at most. Whoever makes larger ones splits the command.
pub const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX - BLOCK;

/// Everything in a slot begins at a multiple of this.
const BLOCK: usize = 4096;

/// Where the journals lie and how large they may become.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The data directory.
    pub root: PathBuf,
    /// Size of each slot file; a multiple of 4,096.
    pub slot_bytes: u64,
    /// Slot files of one stream, at most; they are made as they are needed.
    pub slots_max: u32,
    /// No further slot file is made while less would be left on the file system after it; the first
    /// two, without which nothing goes on, always. 0: as long as there is room.
    pub free_bytes_min: u64,
    /// Slots that a reader may be behind before it loses its place; never above half of
    /// `slots_max`.
    pub reader_slots_max: u32,
    /// Streams of this start, one a shard.
    pub streams: u16,
    /// Largest batch; [`BATCH_BYTES_MAX`] but for tests.
    pub batch_bytes_max: usize,
    /// A seal batch follows the last record after this time without another.
    pub seal_after: Duration,
    /// How bodies are written from now on; they are read either way.
    pub packing: Packing,
}

impl JournalConfig {
    /// Sixteen slots of 64 MiB a stream.
    #[must_use]
    pub fn new(root: PathBuf, streams: u16) -> Self {
        JournalConfig {
            root,
            slot_bytes: 64 << 20,
            slots_max: 16,
            free_bytes_min: 0,
            reader_slots_max: 4,
            streams,
            batch_bytes_max: BATCH_BYTES_MAX,
            seal_after: Duration::from_secs(1),
            packing: Packing::Zstd,
        }
    }

    /// Only a bug makes another one.
    fn assert_sound(&self) {
        let block = BLOCK as u64;
        assert!(self.batch_bytes_max <= BATCH_BYTES_MAX);
        assert!(self.batch_bytes_max >= 2 * BLOCK && self.batch_bytes_max.is_multiple_of(BLOCK));
        assert!(self.slot_bytes.is_multiple_of(block) && self.slot_bytes <= u64::from(u32::MAX));
        // Header, one largest batch, a seal, the end batch.
        assert!(self.slot_bytes >= self.batch_bytes_max as u64 + 3 * block);
        assert!(self.slots_max >= 3);
    }
}

/// Where the bytes of a body lie in the journal. Valid until its slot is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    pub stream: u16,
    /// Slot sequence: rises within the stream for ever.
    pub slot: u64,
    pub offset: u32,
    /// In the slot: the octets of the body, or fewer where it is packed.
    pub len: u32,
    /// Octets of the body.
    pub size: u32,
}

impl Location {
    fn is_packed(self) -> bool {
        self.len < self.size
    }

    /// What to read for `range` of the body, cut at its end, as position in the slot and length.
    fn part(self, range: Range<u64>) -> (u64, usize) {
        let len = u64::from(self.len);
        let (start, end) = match self.is_packed() {
            true => (0, len),
            false => (range.start.min(len), range.end.min(len)),
        };
        let part = end.saturating_sub(start) as usize;
        (u64::from(self.offset) + start, part)
    }

    /// The octets of `range`, of what was read where [`part`](Location::part) says.
    fn body(self, read: Vec<u8>, range: Range<u64>) -> Vec<u8> {
        match self.is_packed() {
            true => codec::unpack_part(&read, self.size as usize, range),
            false => read,
        }
    }
}

/// Where a committed body lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPlace {
    InJournal(Location),
    Spool(PathBuf),
}

/// A durable record and where its bodies lie: `bodies[n]` is `record.bodies[n]`.
#[derive(Clone, Debug)]
pub struct Committed {
    pub record: Rc<Record>,
    pub bodies: Vec<BodyPlace>,
}

/// What a durable batch is given to.
pub trait Apply {
    /// Synchronous; called once for each durable batch, in order, before anybody who waits for
    /// one of its records wakes. Never decides, never fails.
    fn apply(&self, batch: &[Committed]);
}

/// What a record is for: the fuller the ring, the fewer classes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Refused from 85 % on.
    NewMail,
    /// Refused from 95 % on.
    Change,
    /// Deletes, hand-overs, what helps to get the ring empty: taken while there is room.
    Completion,
}

/// A place in the order of a stream: everything below it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub slot: u64,
    pub offset: u32,
}
