//! The log line of a message's first reading, the end of its trace (`palomar explain`).
//!
//! First is when reading sets `\Seen`, or, for clients that peek, when the first session that was
//! told of an unseen message reads it.

use hashbrown::HashSet;

use super::super::super::client::Client;
use crate::base::Uid;
use crate::directory::Account;
use crate::observe::{event, log_event};
use crate::store::{Flags, ScanRow, View};

/// Beyond, a session that reads a whole mailbox logs no more of it.
const NOTED_MAX: usize = 10_000;

/// True once for each message that is read now and was not before.
pub fn is_first(noted: &mut HashSet<Uid>, view: &View, row: &ScanRow, set_seen: bool) -> bool {
    let peeked = || !row.flags.contains(Flags::SEEN) && view.is_recent(row.uid);
    (set_seen || peeked()) && noted.len() < NOTED_MAX && noted.insert(row.uid)
}

pub fn log(client: &Client, owner: &Account, mailbox: &str, uid: Uid) {
    log_event!(
        INFO,
        event::MESSAGE_FETCHED_FIRST,
        session = %client.presence.id(),
        user = owner.address.as_str(),
        account = %owner.id,
        peer = %client.conn.peer(),
        proto = "imap",
        mailbox = mailbox,
        uid = uid.0
    );
}
