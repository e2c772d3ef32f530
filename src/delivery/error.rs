//! Why mail is not taken. Facts; each protocol turns them into its replies.

use std::fmt;

use super::counters::{MessageCause, RecipientCause};
use crate::store::StoreError;
use crate::wire::smtp::DataFault;

/// Why MAIL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailRefusal {
    /// The announced size is above the limit (RFC 1870 6.1).
    TooLarge { bytes_max: u64 },
}

/// Why a recipient is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientRefusal {
    /// Of another domain: relaying, which this client may not.
    NotOurs,
    /// Of another domain, by a name that the DNS has not.
    BadDomain,
    NoSuchUser,
    /// A forward-only account without an alias.
    NoMailbox,
    /// Aliases lead in a circle, or to more than can be served.
    AliasLoop,
    /// The message has as many recipients as it may (RFC 5321 4.5.3.1.10).
    TooMany,
    OverQuota,
    /// The message is larger than all that the mailbox may hold.
    ExceedsQuota,
    Store(StoreError),
}

/// Why a message is refused after its content came, for one recipient or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageRefusal {
    /// The content itself.
    Content(DataFault),
    /// As many Received lines as no way has stations (RFC 5321 6.3).
    TooManyHops,
    /// It has been delivered to this recipient before.
    Loop,
    OverQuota,
    /// It is larger than all that the mailbox may hold.
    ExceedsQuota,
    Store(StoreError),
}

impl From<StoreError> for RecipientRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            error if error.exceeds_quota() => RecipientRefusal::ExceedsQuota,
            StoreError::OverQuota { .. } => RecipientRefusal::OverQuota,
            error => RecipientRefusal::Store(error),
        }
    }
}

impl From<StoreError> for MessageRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            error if error.exceeds_quota() => MessageRefusal::ExceedsQuota,
            StoreError::OverQuota { .. } => MessageRefusal::OverQuota,
            error => MessageRefusal::Store(error),
        }
    }
}

impl RecipientRefusal {
    pub(super) fn cause(&self) -> RecipientCause {
        use RecipientRefusal as R;
        match self {
            R::NotOurs => RecipientCause::NotOurs,
            R::NoSuchUser | R::NoMailbox | R::BadDomain => RecipientCause::Unknown,
            R::AliasLoop => RecipientCause::Alias,
            R::TooMany => RecipientCause::TooMany,
            R::OverQuota | R::ExceedsQuota => RecipientCause::Quota,
            R::Store(_) => RecipientCause::Store,
        }
    }
}

impl MessageRefusal {
    pub(super) fn cause(&self) -> MessageCause {
        match self {
            MessageRefusal::Content(DataFault::TooLarge) => MessageCause::Size,
            MessageRefusal::Content(_) => MessageCause::Content,
            MessageRefusal::TooManyHops | MessageRefusal::Loop => MessageCause::Loop,
            MessageRefusal::OverQuota | MessageRefusal::ExceedsQuota => MessageCause::Quota,
            MessageRefusal::Store(_) => MessageCause::Store,
        }
    }
}

/// For log lines.
impl fmt::Display for RecipientRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use RecipientRefusal as R;
        f.write_str(match self {
            R::NotOurs => "of another domain",
            R::NoSuchUser => "no such user",
            R::BadDomain => "no name of a domain",
            R::NoMailbox => "forward-only without a target",
            R::AliasLoop => "alias loop",
            R::TooMany => "too many recipients",
            R::OverQuota => "over quota",
            R::ExceedsQuota => "larger than the quota",
            R::Store(error) => return write!(f, "store: {error:?}"),
        })
    }
}

/// For log lines.
impl fmt::Display for MessageRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageRefusal::Content(DataFault::BareCr) => "bare CR",
            MessageRefusal::Content(DataFault::BareLf) => "bare LF",
            MessageRefusal::Content(DataFault::Nul) => "NUL",
            MessageRefusal::Content(DataFault::TooLarge) => "too large",
            MessageRefusal::TooManyHops => "too many hops",
            MessageRefusal::Loop => "delivered here before",
            MessageRefusal::OverQuota => "over quota",
            MessageRefusal::ExceedsQuota => "larger than the quota",
            MessageRefusal::Store(error) => return write!(f, "store: {error:?}"),
        })
    }
}
