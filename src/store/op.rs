//! What a record can say. Results only, never decisions: allocated UIDs, absolute flags.

use std::sync::Arc;

use super::{Flags, Message, SpecialUse};
use crate::base::{
    AccountId, BlobId, Epoch, MailboxId, ModSeq, PSeq, PartitionId, TraceId, Uid, UidValidity,
    UnixMs,
};

/// One change of one partition: what commits, applies, replays and (later) ships as a whole.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub pseq: PSeq,
    pub ops: Vec<Op>,
    /// Bodies that came with this record; `BodyRef::New(n)` is `bodies[n]`.
    pub bodies: Vec<Arc<Message>>,
}

/// A body that a placement refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRef {
    /// The n-th body of this record.
    New(u16),
    /// The body of a message already in this account (COPY, MOVE).
    Copy { mailbox: MailboxId, uid: Uid },
    /// A body accepted earlier into a queue partition and handed on (the bytes travel with the
    /// request and stand in this record's bodies too, so that a partition stands on its own).
    Handed(u16),
}

/// Names an outbox entry: delivered at least once, applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboxKey {
    pub source: PartitionId,
    pub pseq: PSeq,
    pub ordinal: u16,
}

/// The numbered changes; numbers stand in `docs/JOURNAL.md` and are never reused.
#[derive(Clone, Debug)]
pub enum Op {
    MailboxCreated {
        account: AccountId,
        mailbox: MailboxId,
        name: String,
        uidvalidity: UidValidity,
        special_use: Option<SpecialUse>,
    },
    MailboxRenamed {
        account: AccountId,
        mailbox: MailboxId,
        name: String,
    },
    MailboxDeleted {
        account: AccountId,
        mailbox: MailboxId,
        at: UnixMs,
    },
    SubscriptionSet {
        account: AccountId,
        name: String,
        subscribed: bool,
    },
    Placed {
        account: AccountId,
        mailbox: MailboxId,
        uid: Uid,
        modseq: ModSeq,
        flags: Flags,
        keywords: Vec<String>,
        internal_date: UnixMs,
        saved: UnixMs,
        body: BodyRef,
        /// Header lines of this copy alone (Return-Path, Delivered-To), before the shared body.
        prefix: Vec<u8>,
        /// The prefix stands in the index and not in the file, so that the placements of one body
        /// in this record, or handed on to several partitions, share one file (hard links).
        apart: bool,
        origin: Option<OutboxKey>,
        trace: Option<TraceId>,
    },
    FlagsSet {
        account: AccountId,
        mailbox: MailboxId,
        modseq: ModSeq,
        entries: Vec<(Uid, Flags, Vec<String>)>,
    },
    Expunged {
        account: AccountId,
        mailbox: MailboxId,
        modseq: ModSeq,
        uids: Vec<Uid>,
        at: UnixMs,
    },
    AccountPurged {
        account: AccountId,
    },
    /// The generic record: site (no account) or account, namespace, key; no value removes it.
    ValueSet {
        account: Option<AccountId>,
        namespace: String,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    },
    /// A queue partition took a message for several owners, or for other hosts; target `n` is outbox
    /// entry `n`.
    Accepted {
        body: BodyRef,
        targets: Vec<super::Target>,
        /// Envelope and recipients elsewhere, where there are any.
        outbound: Option<Box<super::Outbound>>,
        saved: UnixMs,
        trace: Option<TraceId>,
    },
    /// An attempt to deliver an entry of this queue partition elsewhere.
    Tried {
        entry: PSeq,
        tried: super::Tried,
    },
    /// What a person or the clock does with recipients of an entry.
    Steered {
        entry: PSeq,
        at: UnixMs,
        ordinals: Vec<u16>,
        steering: super::Steering,
    },
    /// The owner has outbox entry (`pseq`, `ordinal`) of this partition durably.
    HandedOver {
        pseq: PSeq,
        ordinal: u16,
    },
    /// A body's place became a file; what stood in the journal may be recycled.
    BodySettled {
        blob: BlobId,
    },
    /// Messages whose files another program made. They are durable where they are, and keep their
    /// names. At most [`ADOPTED_PER_RECORD_MAX`], and the only op of the record that names files.
    Adopted {
        account: AccountId,
        mailbox: MailboxId,
        rows: Vec<AdoptedRow>,
    },
    /// Numbers and use of a mailbox that came from elsewhere; each only rises, or is as it was.
    MailboxSet {
        account: AccountId,
        mailbox: MailboxId,
        uidnext: Option<Uid>,
        highest: Option<ModSeq>,
        /// `Some(None)` takes the use away.
        special_use: Option<Option<SpecialUse>>,
    },
}

/// Rows of one [`Op::Adopted`]: their numbers are part of names, in 16 bits.
pub const ADOPTED_PER_RECORD_MAX: usize = 10_000;

/// A message that another program wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRow {
    pub uid: Uid,
    pub modseq: ModSeq,
    pub flags: Flags,
    pub keywords: Vec<String>,
    pub internal_date: UnixMs,
    pub saved: UnixMs,
    /// Octets as a client sees them, every line end CRLF.
    pub size: u64,
    /// Bare LF in the stored body.
    pub bare_newlines: u32,
    /// First half of the BLAKE3 of the stored body.
    pub email_id: [u8; 16],
    /// The file's name before `:2,`.
    pub stem: String,
    /// The letters of the file's name.
    pub letters: u32,
    pub place: AdoptedPlace,
    /// The unique id that POP3 clients know it by, where it is not ours.
    pub uidl: Option<String>,
    pub digest: Arc<[u8]>,
}

/// Where the body of an adopted message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptedPlace {
    /// In `cur` of its folder, under its stem and letters.
    Cur,
    /// In `new` of its folder, from where settling takes it to `cur`.
    New,
    /// In the mailbox's archive file: octets, decompressed, that stay where they are.
    Archive { at: u64, len: u64 },
}
