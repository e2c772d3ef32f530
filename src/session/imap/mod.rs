//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051), the server's side.
//!
//! - `machine`: what may be said when, and what each command does to sequence numbers (pure).
//! - `caps`: what is announced, in which state (pure).
//! - `numbering`: sets to UIDs, and when an EXPUNGE may be told (pure).
//! - `answer`: replies as values; the one match from store and log-in errors to response codes.
//! - `report`: what changed in a mailbox, as untagged responses.
//! - `client`: the connection: commands in, responses out, deadlines, counts.
//! - `gate`: the dialogue before log-in; `serve`: the one after it, on the owner's shard.
//! - `cmd`: one file a command or small group.
//!
//! Invariants: commands run one after the other, in the order in which they came; what a command
//! changed is durable before its OK; an EXPUNGE is told only where no sequence number of a command
//! that is already under way could shift (RFC 9051 5.5, 7.5.1); a message body is never whole in
//! memory.
//!
//! Runs on: every shard; after log-in on the shard that owns the account. Deliberately absent:
//! where mail lies (store), how bytes read (wire).

mod answer;
mod caps;
mod client;
mod cmd;
mod gate;
mod machine;
mod numbering;
mod report;
mod serve;

use std::rc::Rc;

use super::{Arrivals, LoginDesk, Roster};
use crate::runtime::Stop;
use crate::store::Remote;

/// Serves IMAP on one shard.
pub struct Service {
    desk: LoginDesk,
    arrivals: Arrivals,
    remote: Remote,
    roster: Roster,
    stop: Stop,
}

/// What travels with a session to the shard of its account.
pub struct Carried {
    /// The log-in command that is still to be answered.
    pub tag: String,
    /// What the client said of itself by ID, if it did.
    pub client: Option<String>,
    /// Octets so far, for the closing log line.
    pub received: u64,
    pub sent: u64,
}

impl Service {
    #[must_use]
    pub fn new(
        desk: LoginDesk,
        arrivals: Arrivals,
        remote: Remote,
        roster: Roster,
        stop: Stop,
    ) -> Rc<Self> {
        Rc::new(Service {
            desk,
            arrivals,
            remote,
            roster,
            stop,
        })
    }
}
