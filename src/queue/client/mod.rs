//! One connection to a hop, from its greeting to QUIT (RFC 5321, RFC 2033 for LMTP).
//!
//! ```text
//!  connect ─► greeting ─► EHLO ─► STARTTLS ─► EHLO ─► AUTH ─► ready ─┬─► QUIT
//!                                                              ▲     │ Letter
//!                     Report: a fate per recipient             │     ▼
//!                                    └──── [RSET] MAIL RCPT* DATA|BDAT content
//! ```
//! [`Machine`](machine::Machine) knows what may be said when, and reads no clock and no socket;
//! `transaction` is the part of it that is one message; `drive` waits, with a deadline on each
//! step and one on the whole, so that a hop that sends an octet a minute holds nobody for long.

mod content;
mod drive;
mod fit;
mod machine;
mod outcome;
#[cfg(test)]
mod tests;
mod times;
mod transaction;
mod trouble;

pub use content::{Content, ContentFault, MessageContent, PIECE_BYTES};
pub use drive::{Client, Facts, TlsState, Unopened};
pub use fit::Need;
pub use outcome::{Cause, Fate, Report};
pub use times::{Phase, Times};
pub use trouble::{NoTls, Trouble};

use crate::wire::sasl::Login;
use crate::wire::smtp::{MailFrom, RcptTo};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    /// RFC 2033: one answer per recipient after the content.
    Lmtp,
}

/// What is asked of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It is not even tried: where it broke before, and policy lets it.
    Never,
    /// If it is offered, with whoever is there (RFC 7435).
    Opportunistic,
    /// With whoever is there; a policy of one's own judges the certificates ([`Facts`]).
    Encrypted,
    /// With a certificate for the host from an authority that we trust.
    Verified,
}

/// How to talk to a hop.
#[derive(Debug)]
pub struct Terms {
    pub protocol: Protocol,
    /// What we call ourselves in EHLO.
    pub own_name: String,
    /// What the hop is called: for SNI, and in certificates.
    pub host: String,
    pub security: Security,
    /// TLS from the first octet (RFC 8314 3.3) instead of STARTTLS.
    pub is_tls_from_start: bool,
    pub login: Option<Login>,
    /// The password may be sent without TLS: to a hop on this machine.
    pub is_clear_login_allowed: bool,
    /// Use BDAT where it is offered.
    pub is_chunking_used: bool,
    /// Our own limits; the hop may have lower ones.
    pub recipients_max: usize,
    pub letters_max: u64,
    pub times: Times,
}

/// One message for one hop.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What the message wants; what the hop does not offer is left out, or makes it unfit. SIZE is
    /// taken from `size`. `smtputf8`: something in it needs SMTPUTF8.
    pub mail: MailFrom,
    pub recipients: Vec<RcptTo>,
    /// Octets of the content.
    pub size: u64,
    /// An 8-bit body goes as it is to a hop that does not offer 8BITMIME.
    pub is_eight_bit_forced: bool,
}
