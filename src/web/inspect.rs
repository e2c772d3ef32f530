//! What an administrator asks of one user's mailboxes, and what comes back.

use serde::{Deserialize, Serialize};

use crate::directory::LimitOf;
use crate::store::{FolderSize, Recount};

/// Octets of a body that travel in one answer of a running server.
pub const PIECE_BYTES_MAX: u64 = 4 << 20;

/// Carried out by the shard that owns the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// [`MailboxRow`]s.
    Mailboxes,
    /// A [`MessageRow`].
    Message { folder: String, uid: u32 },
    /// A [`Piece`]: what of the message, or of its header, comes from octet `from` on.
    Body {
        folder: String,
        uid: u32,
        headers: bool,
        from: u64,
    },
    /// A [`Recounted`].
    Recount,
    /// [`Rescanned`](crate::store::Rescanned)s, of one folder or of all.
    Rescan { folder: Option<String> },
}

/// A mailbox as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    pub name: String,
    pub id: u64,
    /// `\Sent` and so on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub special_use: Option<String>,
    pub subscribed: bool,
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    pub bytes: u64,
    pub uidnext: u32,
    pub uidvalidity: u32,
    pub highest_modseq: u64,
}

/// A message as the index has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    pub folder: String,
    pub uid: u32,
    /// Flags and keywords, as IMAP writes them.
    pub flags: Vec<String>,
    pub modseq: u64,
    /// Milliseconds since 1970, as are all times.
    pub internal_date: i64,
    pub saved: i64,
    /// As IMAP shows it, every line end CRLF.
    pub bytes: u64,
    /// RFC 8474; the same for equal messages.
    pub email_id: String,
}

/// Octets of a message in base 64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Octets of all pieces together.
    pub total: u64,
    pub data: String,
}

/// How full an account is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRow {
    pub address: String,
    pub class: String,
    pub bytes: u64,
    pub messages: u64,
    /// None where there is no limit.
    pub bytes_max: Option<u64>,
    pub bytes_max_of: Option<LimitOf>,
    pub messages_max: Option<u64>,
    pub messages_max_of: Option<LimitOf>,
    /// Of the limit that is nearest.
    pub percent: u64,
    /// The largest; only for one user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<FolderSize>,
}

/// What counting found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recounted {
    pub address: String,
    #[serde(flatten)]
    pub count: Recount,
}

/// What settling everything came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settled {
    pub settled: bool,
    #[serde(default)]
    pub keywords_apart: Vec<SettledApart>,
}

/// A folder some of whose keywords are in no file's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettledApart {
    pub address: String,
    pub mailbox: String,
    pub keywords: u32,
}
