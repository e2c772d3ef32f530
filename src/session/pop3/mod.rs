//! POP3: a mailbox to fetch from (RFC 1939, 2449 CAPA, 2595 STLS, 3206, 5034 AUTH).
//!
//! [`machine`] knows what may be said when, and the [`maildrop`] that a session sees; both are
//! pure. `serve` moves bytes and waits; `cmd/` carries out what needs the store or the net.
//!
//! Invariants:
//! - A session sees INBOX as it was at log-in, and locks nobody out: a message that somebody else
//!   removed meanwhile is an error for its RETR alone.
//! - DELE removes nothing; QUIT removes all that was marked, as one record (RFC 1939 6).
//! - Sizes are those of what RETR sends.
//!
//! Runs on the shard that owns the account, from log-in on. Deliberately absent: APOP, and UTF8
//! (RFC 6856): messages are sent as they are.

mod cmd;
mod counters;
mod machine;
mod maildrop;
mod reply;
mod serve;
#[cfg(test)]
mod tests;

use super::{Arrivals, LoginDesk, Roster};
use crate::runtime::Stop;
use crate::store::Remote;

pub use counters::METRICS;
pub use serve::Carried;

/// What POP3 needs on one shard.
pub struct Service {
    remote: Remote,
    desk: LoginDesk,
    roster: Roster,
    arrivals: Arrivals,
    stop: Stop,
}

impl Service {
    /// `stop` tells the sessions that the server drains.
    #[must_use]
    pub fn new(
        remote: Remote,
        desk: LoginDesk,
        roster: Roster,
        arrivals: Arrivals,
        stop: Stop,
    ) -> Self {
        Service {
            remote,
            desk,
            roster,
            arrivals,
            stop,
        }
    }
}
