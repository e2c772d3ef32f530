//! What ends a connection before its time.

use std::fmt;

use super::content::ContentFault;
use super::times::Phase;
use crate::net::{Distrust, NetError};
use crate::wire::smtp::{Enhanced, PeerReply, ReplyFault};

/// Why there is no connection any more, or never was one to be used.
#[derive(Debug)]
pub enum Trouble {
    /// The network: refused, unreachable, reset.
    Net { phase: Phase, error: NetError },
    /// The hop took too long for one step.
    Late { phase: Phase },
    /// The hop took too long for all of them together.
    Overdue { phase: Phase },
    /// The hop closed the connection.
    Closed { phase: Phase },
    /// The hop said that it ends the connection (421).
    Closing { phase: Phase, reply: PeerReply },
    /// The hop does not want us: its greeting, its answer to EHLO or to AUTH.
    Refused { phase: Phase, reply: PeerReply },
    /// A good answer that means nothing in its place, or one that nobody asked for.
    Unexpected { phase: Phase, reply: PeerReply },
    /// No answer of the protocol.
    BadReply { phase: Phase, fault: ReplyFault },
    /// TLS is required, and there is none.
    NoTls(NoTls),
    /// The TLS handshake failed. Whether to come again without TLS is for policy to say.
    Handshake(NetError),
    /// Whoever is there is not proven to be the host.
    Distrusted(Distrust),
    /// We are to log in, and the hop offers no way that we know, or none without TLS.
    NoLogIn,
    /// The content could not be read, so its end was not sent.
    Content(ContentFault),
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTls {
    NotOffered,
    Refused(PeerReply),
}

impl Trouble {
    /// True if the hop just was not there any more, or said that it goes.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Trouble::Closed { .. } | Trouble::Closing { .. } | Trouble::Net { .. }
        )
    }

    /// The enhanced status code for who is told, where the hop gave none (RFC 3463).
    #[must_use]
    pub fn enhanced(&self) -> Enhanced {
        let (subject, detail) = match self {
            // 4.4.1 no answer from host, 4.4.2 bad connection.
            Trouble::Net { phase, .. } | Trouble::Late { phase } if *phase == Phase::Connect => {
                (4, 1)
            }
            Trouble::Net { .. }
            | Trouble::Late { .. }
            | Trouble::Overdue { .. }
            | Trouble::Closed { .. } => (4, 2),
            Trouble::Closing { reply, .. } | Trouble::Refused { reply, .. } => {
                match reply.enhanced() {
                    Some(enhanced) => (enhanced.subject, enhanced.detail),
                    None => (3, 2),
                }
            }
            // 4.5.0 other protocol status.
            Trouble::Unexpected { .. } | Trouble::BadReply { .. } => (5, 0),
            // 4.7.5 cryptographic failure, 4.7.10 encryption needed.
            Trouble::Handshake(_) | Trouble::Distrusted(_) => (7, 5),
            Trouble::NoTls(_) => (7, 10),
            Trouble::NoLogIn => (7, 0),
            // 4.3.0 other mail system status: ours.
            Trouble::Content(_) => (3, 0),
        };
        Enhanced {
            class: 4,
            subject,
            detail,
        }
    }
}

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoTls::NotOffered => f.write_str("it does not offer STARTTLS"),
            NoTls::Refused(reply) => write!(f, "it answered STARTTLS with: {reply}"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Net { phase, error } => {
                write!(f, "the connection failed in {phase}: ")?;
                match error {
                    // The phase says it better than what the socket was doing.
                    NetError::Io(_, error) => error.fmt(f),
                    error => error.fmt(f),
                }
            }
            Trouble::Late { phase } => write!(f, "no answer in time in {phase}"),
            Trouble::Overdue { phase } => write!(f, "the host was too slow, last in {phase}"),
            Trouble::Closed { phase } => write!(f, "the host closed the connection in {phase}"),
            Trouble::Closing { phase, reply } => write!(f, "the host left in {phase}: {reply}"),
            Trouble::Refused { phase, reply } => write!(f, "the host refused in {phase}: {reply}"),
            Trouble::Unexpected { phase, reply } => {
                write!(f, "an answer out of place in {phase}: {reply}")
            }
            Trouble::BadReply { phase, fault } => write!(f, "no SMTP in {phase}: {fault}"),
            Trouble::NoTls(why) => write!(f, "TLS is required: {why}"),
            Trouble::Handshake(error) => write!(f, "TLS failed: {error}"),
            Trouble::Distrusted(why) => write!(f, "the host is not verified: {why}"),
            Trouble::NoLogIn => f.write_str("the host offers no way to log in"),
            Trouble::Content(fault) => write!(f, "the message was not read: {fault}"),
        }
    }
}
