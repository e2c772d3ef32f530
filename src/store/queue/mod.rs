//! Mail that leaves: entries of queue partitions (docs/QUEUE.md), as records make them.
//!
//! An entry is an accepted message with an [`Outbound`]: its envelope, and a state for each
//! recipient elsewhere. It is made by `Accepted`, changed by `Tried` and `Steered`, and gone, body
//! and all, once every recipient has an end and every owner here has his copy. Who goes next and
//! where to is the room `queue`'s; here is what lasts.
//!
//! - [`access`]: what the room `queue` may ask of this shard's entries.
//! - [`apply`](apply): what the records make of an entry.
//! - [`entries`]: those of a partition in memory.
//! - [`log`] and [`read`]: the same on the disk, where they are many; [`octets`]: one of them.

mod access;
mod apply;
mod entries;
mod log;
mod octets;
mod read;

pub use access::{NewEntry, QueueEntry};
pub(super) use entries::Entries;
pub use log::QueueBounds;
pub(super) use log::{
    Log, Named, Writing, end, frame_slice, placed, places, remove_old, write_ahead,
};
pub(super) use octets::read as read_entry;
pub(super) use read::{Read, read};

use crate::base::{AccountId, PSeq, PartitionId, UnixMs};
use crate::wire::address::Path;
use crate::wire::smtp::{MailFrom, RcptTo};

/// An entry of a queue partition, anywhere in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    pub partition: PartitionId,
    pub pseq: PSeq,
}

/// What a message is to the queue: each class has a schedule and a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MailClass {
    /// Notices of our own about other mail.
    Notice,
    #[default]
    Normal,
    /// Many of a kind, which nobody waits for.
    Bulk,
}

/// Envelope and recipients of a message that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// What MAIL says; SIZE is the body's.
    pub mail: MailFrom,
    pub class: MailClass,
    /// Whose log-in it was sent with.
    pub submitter: Option<AccountId>,
    /// Header lines of the copies that leave, before the shared body (signatures).
    pub head: Vec<u8>,
    /// What is not delivered by then fails.
    pub expires: UnixMs,
    pub recipients: Vec<OutboundRecipient>,
}

/// One recipient elsewhere; its place in the list is its ordinal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRecipient {
    pub rcpt: RcptTo,
    /// Where it goes: a domain as A-labels, or an address literal with its brackets.
    pub destination: String,
    /// It was sent on from an address here.
    pub redirect: Option<Box<Redirect>>,
    pub state: RecipientState,
    /// Attempts so far.
    pub tries: u32,
    pub last: Option<LastTry>,
    /// The sender was told that it takes longer.
    pub is_delay_told: bool,
}

impl OutboundRecipient {
    /// Not tried yet.
    #[must_use]
    pub fn waiting(rcpt: RcptTo, destination: String, due: UnixMs) -> Self {
        OutboundRecipient {
            rcpt,
            destination,
            redirect: None,
            state: RecipientState::Waiting { due },
            tries: 0,
            last: None,
            is_delay_told: false,
        }
    }
}

/// What is different for a recipient that mail is sent on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// In place of the envelope's.
    pub reverse: Path,
    /// Header lines of this copy alone: Delivered-To, by which a loop is seen.
    pub head: Vec<u8>,
}

/// What becomes of a recipient (docs/QUEUE.md, "Words").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientState {
    /// To be tried from then on.
    Waiting {
        due: UnixMs,
    },
    /// Until a person says otherwise.
    Held {
        since: UnixMs,
    },
    Delivered,
    Failed,
    Expired,
    /// Taken out by a person, without a notice.
    Removed,
}

/// How the last attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastTry {
    pub at: UnixMs,
    /// Who was asked: a host with its address, or nothing where it did not come to that.
    pub hop: String,
    /// RFC 3463: `4.4.1`.
    pub status: String,
    /// What was answered, with its code, or our own words.
    pub reply: String,
}

/// An attempt, for the recipients of one entry that took part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub at: UnixMs,
    pub hop: String,
    pub results: Vec<TriedRecipient>,
}

/// What an attempt made of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriedRecipient {
    pub ordinal: u16,
    /// Waiting again, or an end.
    pub state: RecipientState,
    pub status: String,
    pub reply: String,
}

/// What a person, or the clock, does with recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    Hold,
    /// To be tried at this time; a held one is released by it.
    Due(UnixMs),
    Remove,
    /// The sender is told, by the notice in the same record, that it takes longer.
    DelayTold,
    /// To another destination, and, where it waits for another try, at once.
    Reroute(String),
}

/// Longest reply that is kept.
pub const REPLY_BYTES_MAX: usize = 1_000;

impl RecipientState {
    /// Nothing more will be tried.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(
            self,
            RecipientState::Waiting { .. } | RecipientState::Held { .. }
        )
    }

    /// One word, for listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RecipientState::Waiting { .. } => "waiting",
            RecipientState::Held { .. } => "held",
            RecipientState::Delivered => "delivered",
            RecipientState::Failed => "failed",
            RecipientState::Expired => "expired",
            RecipientState::Removed => "removed",
        }
    }
}

impl MailClass {
    /// One word, for listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MailClass::Notice => "notice",
            MailClass::Normal => "normal",
            MailClass::Bulk => "bulk",
        }
    }
}

impl Outbound {
    /// Every recipient has an end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.recipients.iter().all(|r| r.state.is_end())
    }
}

/// No more than fits a record; replies are for people.
#[must_use]
pub fn cut_reply(reply: &str) -> String {
    let mut end = reply.len().min(REPLY_BYTES_MAX);
    while !reply.is_char_boundary(end) {
        end -= 1;
    }
    reply[..end].to_owned()
}
