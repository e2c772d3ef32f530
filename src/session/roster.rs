//! Who is connected to this shard: rows for `palomar who`, and the way to end a session.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::base::{TraceId, UnixMs};
use crate::runtime::local::Notify;

/// The sessions of one shard. Clones share it.
#[derive(Clone, Default)]
pub struct Roster(Rc<RefCell<HashMap<TraceId, Rc<Entry>>>>);

struct Entry {
    row: RefCell<Row>,
    kicked: Cell<bool>,
    kick: Notify,
}

/// One session, as `palomar who` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub session: String,
    pub protocol: String,
    pub peer: String,
    /// Empty before log-in.
    pub user: String,
    /// TLS version and cipher; empty in the clear.
    pub tls: String,
    pub since: UnixMs,
    pub shard: u16,
}

/// A session's place in the roster; dropping it leaves.
pub struct Presence {
    roster: Roster,
    id: TraceId,
    entry: Rc<Entry>,
}

impl Roster {
    /// Enters a session. `row.session` is its `id`.
    #[must_use]
    pub fn enter(&self, id: TraceId, row: Row) -> Presence {
        let entry = Rc::new(Entry {
            row: RefCell::new(row),
            kicked: Cell::new(false),
            kick: Notify::new(),
        });
        self.0.borrow_mut().insert(id, entry.clone());
        Presence {
            roster: self.clone(),
            id,
            entry,
        }
    }

    /// Every session, oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .0
            .borrow()
            .values()
            .map(|entry| entry.row.borrow().clone())
            .collect();
        rows.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        rows
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Asks every session of `user` to end; how many there were.
    pub fn kick(&self, user: &str) -> usize {
        let sessions = self.0.borrow();
        let of_user = sessions
            .values()
            .filter(|entry| entry.row.borrow().user.eq_ignore_ascii_case(user));
        of_user
            .map(|entry| {
                entry.kicked.set(true);
                entry.kick.notify_all();
            })
            .count()
    }
}

impl Presence {
    #[must_use]
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// The session is this user's from now on.
    pub fn logged_in(&self, user: &str) {
        user.clone_into(&mut self.entry.row.borrow_mut().user);
    }

    pub fn secured(&self, tls: String) {
        self.entry.row.borrow_mut().tls = tls;
    }

    #[must_use]
    pub fn is_kicked(&self) -> bool {
        self.entry.kicked.get()
    }

    /// Ends when the session is asked to end. Cancel-safe.
    pub async fn kicked(&self) {
        while !self.entry.kicked.get() {
            self.entry.kick.notified().await;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.roster.0.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: TraceId, user: &str) -> Row {
        Row {
            session: id.to_string(),
            protocol: "imap".to_owned(),
            peer: "192.0.2.1:9".to_owned(),
            user: user.to_owned(),
            tls: String::new(),
            since: UnixMs(0),
            shard: 0,
        }
    }

    #[test]
    fn a_kick_reaches_the_sessions_of_one_user_only() {
        let roster = Roster::default();
        let (a, b) = (TraceId::new(UnixMs(1), 1), TraceId::new(UnixMs(1), 2));
        let ana = roster.enter(a, row(a, "ana@example.org"));
        let ben = roster.enter(b, row(b, ""));
        ben.logged_in("ben@example.org");
        assert_eq!(roster.kick("Ana@example.org"), 1);
        assert!(ana.is_kicked() && !ben.is_kicked());
        drop(ana);
        assert_eq!(roster.rows().len(), 1);
    }
}
