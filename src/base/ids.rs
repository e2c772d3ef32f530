//! Identities. Every id is a newtype, so that a UID is never taken for a sequence number.

use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// An account, for as long as the installation lives. Never reused, never renamed.
    AccountId(u64)
}
id! {
    /// A mailbox within its account. Never reused; a rename keeps it.
    MailboxId(u64)
}
id! {
    /// One executor, pinned to one core. Changes between starts; nothing on disk holds it.
    ShardId(u16)
}
id! {
    /// Raised at every start, before anything is served.
    Epoch(u32)
}
id! {
    /// Position of a record within its partition; strictly one more than the last.
    PSeq(u64)
}
id! {
    /// RFC 9051 2.3.1.1. Zero is never a message's UID.
    Uid(u32)
}
id! {
    /// RFC 9051 2.3.1.1.
    UidValidity(u32)
}
id! {
    /// RFC 7162 3.1: 63 bits, strictly rising within a mailbox. Epoch in the high bits, so that
    /// a value that was never committed is never given out twice.
    ModSeq(u64)
}

impl ModSeq {
    const COUNTER_BITS: u32 = 40;

    /// The first value of `epoch`; values within an epoch count up from it.
    #[must_use]
    pub fn first_of(epoch: Epoch) -> Self {
        ModSeq((u64::from(epoch.0) << Self::COUNTER_BITS) | 1)
    }

    /// The next value to give out in `epoch`: above `self`, and not below the epoch's first.
    #[must_use]
    pub fn next(self, epoch: Epoch) -> Self {
        Self::first_of(epoch).max(ModSeq(self.0 + 1))
    }
}

impl Uid {
    /// The next UID, or `None` where the mailbox has used all 2^32 - 1 (RFC 9051 2.3.1.1).
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Uid)
    }
}

/// The unit of order, of moving between shards, and of what a spare applies.
///
/// One number space: user partitions from 0, queue partitions from [`PartitionId::QUEUE_FIRST`],
/// and the one system partition, which holds the directory.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The first queue partition; every shard owns at least one.
    pub const QUEUE_FIRST: u16 = 0x8000;
    /// The partition of the directory.
    pub const SYSTEM: PartitionId = PartitionId(0xffff);

    /// Queue partition number `n`.
    #[must_use]
    pub fn queue(n: u16) -> Self {
        assert!(n < 0x7fff, "queue partition number out of range");
        PartitionId(Self::QUEUE_FIRST + n)
    }

    /// True for a partition that holds users' mailboxes.
    #[must_use]
    pub fn is_user(self) -> bool {
        self.0 < Self::QUEUE_FIRST
    }

    /// True for a partition that holds accepted messages on their way to several owners.
    #[must_use]
    pub fn is_queue(self) -> bool {
        !self.is_user() && self != Self::SYSTEM
    }

    /// The shard that owns this partition while a process with `shards` shards lives.
    #[must_use]
    pub fn owner(self, shards: u16) -> ShardId {
        match self {
            Self::SYSTEM => ShardId(0),
            p if p.is_queue() => ShardId((p.0 - Self::QUEUE_FIRST) % shards),
            p => ShardId(p.0 % shards),
        }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SYSTEM => f.write_str("system"),
            p if p.is_queue() => write!(f, "queue-{}", p.0 - Self::QUEUE_FIRST),
            p => write!(f, "{}", p.0),
        }
    }
}

/// A message body: the `ordinal`-th body of record `pseq` in `partition`. Where it lies (journal,
/// spool, Maildir file) is the store's affair and changes; the id does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId {
    pub partition: PartitionId,
    pub pseq: PSeq,
    pub ordinal: u16,
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}Q{}N{}", self.partition.0, self.pseq, self.ordinal)
    }
}

/// One session or one message, in Received, in `250 2.0.0 queued as ID` and in every log line.
///
/// Sixteen characters of lower-case base 32 (RFC 4648 alphabet): 48 bits of milliseconds since
/// 1970, then 32 bits that the giver makes unique (shard and counter), so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 10]);

/// A text that is no trace id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdParseError;

impl TraceId {
    /// An id for something that began at `now`; `unique` must differ within a millisecond.
    #[must_use]
    pub fn new(now: super::UnixMs, unique: u32) -> Self {
        let mut bytes = [0; 10];
        bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&unique.to_be_bytes());
        TraceId(bytes)
    }

    /// When it was given.
    #[must_use]
    pub fn time(self) -> super::UnixMs {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        super::UnixMs(i64::from_be_bytes(bytes))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 16];
        data_encoding::BASE32_NOPAD.encode_mut(&self.0, &mut text);
        text.make_ascii_lowercase();
        f.write_str(std::str::from_utf8(&text).expect("base 32 is ASCII"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceId {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let bytes = data_encoding::BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| IdParseError)?;
        Ok(TraceId(bytes.try_into().map_err(|_| IdParseError)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixMs;

    #[test]
    fn trace_ids_sort_by_time_and_parse_back() {
        let a = TraceId::new(UnixMs(1_700_000_000_000), 9);
        let b = TraceId::new(UnixMs(1_700_000_000_001), 1);
        assert!(a < b && a.to_string() < b.to_string());
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!(a.time(), UnixMs(1_700_000_000_000));
        assert_eq!("no id".parse::<TraceId>(), Err(IdParseError));
    }

    #[test]
    fn modseq_rises_within_and_across_epochs() {
        let one = ModSeq(0).next(Epoch(1));
        let two = one.next(Epoch(1));
        let three = two.next(Epoch(2));
        assert!(one < two && two < three);
        assert_eq!(three, ModSeq::first_of(Epoch(2)));
    }

    #[test]
    fn every_partition_has_one_owner() {
        assert_eq!(PartitionId::SYSTEM.owner(4), ShardId(0));
        assert_eq!(PartitionId::queue(5).owner(4), ShardId(1));
        assert_eq!(PartitionId(7).owner(4), ShardId(3));
    }
}
