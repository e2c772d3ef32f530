//! What became of a letter.

use std::fmt;
use std::sync::Arc;

use super::fit::Need;
use super::times::Phase;
use super::trouble::Trouble;
use crate::wire::smtp::PeerReply;

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The hop has it.
    Delivered(Arc<PeerReply>),
    /// The hop will never take it.
    Failed(Cause),
    /// It may take it another time, or another hop may.
    Deferred(Cause),
    /// The content was sent whole and its answer did not come (RFC 1047): the hop may have it or
    /// not. The trouble is the report's.
    Unsure,
    /// The hop does not offer what the message needs; nothing was sent. Whether that is a failure,
    /// or the message is changed and offered again, is the caller's to say.
    Unfit(Need),
    /// More recipients than the hop takes at once: this one was not tried, or was told to come with
    /// the next letter (RFC 5321 4.5.3.1.10).
    Next,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The hop, in answer to this.
    Reply { phase: Phase, reply: Arc<PeerReply> },
    /// The connection ended; the trouble is the report's.
    Trouble,
    /// The address cannot be written on a command line.
    Address,
}

/// What became of a letter and of the connection.
#[derive(Debug)]
pub struct Report {
    /// In the order of the letter's recipients.
    pub fates: Vec<Fate>,
    /// What ended the connection, if something did.
    pub trouble: Option<Trouble>,
    /// The hop was asked for delivery notices, and sends them from now on; else they end here
    /// (RFC 3461 5.2.2: "relayed").
    pub is_dsn_passed: bool,
    /// A connection that had been kept turned out to be dead before the hop answered anything: no
    /// fault of the hop's, to be tried again at once on a new one.
    pub is_stale: bool,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Reply { phase, reply } => write!(f, "{reply} (in reply to {phase})"),
            Cause::Trouble => f.write_str("the connection ended"),
            Cause::Address => f.write_str("the address cannot be written in SMTP"),
        }
    }
}
