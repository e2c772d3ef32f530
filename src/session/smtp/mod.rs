//! SMTP, LMTP and submission: mail comes in.
//!
//! [`machine`] reads commands and content off a byte stream and says what may happen when, without
//! IO; `serve` moves bytes, waits and watches deadlines; `cmd/` carries out what needs more than a
//! reply; `reply` has the one table from refusals to what a client is told.
//!
//! Invariants:
//! - Only CRLF `.` CRLF ends DATA and only counting ends BDAT: nothing inside a message is ever
//!   taken for a command (RFC 5321 2.3.8).
//! - STARTTLS forgets everything that was said before it (RFC 3207 4.2).
//! - `250` after the content is written only when the message is durable.
//! - A session stays on the shard that accepted it; delivery sends the message to its owners.
//!
//! Deliberately absent: relaying, and what a message may do (delivery).

mod cmd;
mod counters;
mod machine;
mod reply;
mod serve;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::{LoginDesk, Roster};
use crate::delivery::Intake;
use crate::net::HandshakeFailures;
use crate::runtime::Stop;

pub use counters::METRICS;

/// What SMTP needs on one shard.
pub struct Service {
    intake: Intake,
    desk: LoginDesk,
    roster: Roster,
    stop: Stop,
    /// Who cannot do TLS with us.
    failures: RefCell<HandshakeFailures>,
}

impl Service {
    /// `stop` tells the sessions that the server drains.
    #[must_use]
    pub fn new(intake: Intake, desk: LoginDesk, roster: Roster, stop: Stop) -> Self {
        Service {
            intake,
            desk,
            roster,
            stop,
            failures: RefCell::default(),
        }
    }
}
