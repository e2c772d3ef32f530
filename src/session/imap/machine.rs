//! What may be said when, and what a command does to sequence numbers. Pure.

use crate::wire::imap::Body;

/// The states of RFC 9051 3, each a bit, so that a rule can name several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    pub const NOT_AUTHENTICATED: States = States(1);
    pub const AUTHENTICATED: States = States(2);
    pub const SELECTED: States = States(4);
    const ANY: States = States(7);
    const LOGGED_IN: States = States(6);

    #[must_use]
    pub fn allows(self, state: States) -> bool {
        self.0 & state.0 != 0
    }
}

/// What may happen to sequence numbers while the command runs (RFC 9051 7.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// FETCH, STORE and SEARCH by number: no EXPUNGE may be told.
    Stay,
    /// Expunges of others may be told at its end, unless what is pipelined behind it counts.
    MayShift,
    /// The command itself removes messages and must say so.
    Shift,
}

/// A command's line in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub states: States,
    pub numbers: Numbers,
    /// FETCH responses that it causes carry the UID (RFC 9051 6.4.9).
    pub by_uid: bool,
}

const fn rule(name: &'static str, states: States, numbers: Numbers) -> Rule {
    Rule {
        name,
        states,
        numbers,
        by_uid: false,
    }
}

fn either(by_uid: bool, names: [&'static str; 2], by_number: Numbers) -> Rule {
    let numbers = if by_uid && by_number == Numbers::Stay {
        Numbers::MayShift
    } else {
        by_number
    };
    Rule {
        name: names[usize::from(by_uid)],
        states: States::SELECTED,
        numbers,
        by_uid,
    }
}

/// The command table. A new command does not compile without its line.
#[must_use]
pub fn rule_of(body: &Body<'_>) -> Rule {
    use Numbers::{MayShift, Shift, Stay};
    match body {
        Body::Capability => rule("CAPABILITY", States::ANY, MayShift),
        Body::Noop => rule("NOOP", States::ANY, MayShift),
        Body::Logout => rule("LOGOUT", States::ANY, Stay),
        Body::Id(_) => rule("ID", States::ANY, MayShift),
        Body::StartTls => rule("STARTTLS", States::NOT_AUTHENTICATED, Stay),
        Body::Authenticate(_) => rule("AUTHENTICATE", States::NOT_AUTHENTICATED, Stay),
        Body::Login(_) => rule("LOGIN", States::NOT_AUTHENTICATED, Stay),
        // RFC 5161 3.1: only before a mailbox is selected; RFC 9051 6.3.1 lifts that.
        Body::Enable(_) => rule("ENABLE", States::LOGGED_IN, Stay),
        Body::Select(_) => rule("SELECT", States::LOGGED_IN, Stay),
        Body::Examine(_) => rule("EXAMINE", States::LOGGED_IN, Stay),
        Body::Create(_) => rule("CREATE", States::LOGGED_IN, MayShift),
        Body::Delete(_) => rule("DELETE", States::LOGGED_IN, MayShift),
        Body::Rename { .. } => rule("RENAME", States::LOGGED_IN, MayShift),
        Body::Subscribe(_) => rule("SUBSCRIBE", States::LOGGED_IN, MayShift),
        Body::Unsubscribe(_) => rule("UNSUBSCRIBE", States::LOGGED_IN, MayShift),
        Body::List(_) => rule("LIST", States::LOGGED_IN, MayShift),
        Body::Lsub { .. } => rule("LSUB", States::LOGGED_IN, MayShift),
        Body::Namespace => rule("NAMESPACE", States::LOGGED_IN, MayShift),
        Body::Status { .. } => rule("STATUS", States::LOGGED_IN, MayShift),
        Body::GetQuota(_) => rule("GETQUOTA", States::LOGGED_IN, MayShift),
        Body::GetQuotaRoot(_) => rule("GETQUOTAROOT", States::LOGGED_IN, MayShift),
        Body::Append(_) => rule("APPEND", States::LOGGED_IN, MayShift),
        Body::Idle => rule("IDLE", States::LOGGED_IN, MayShift),
        Body::Check => rule("CHECK", States::SELECTED, MayShift),
        // No untagged EXPUNGE comes from CLOSE (RFC 9051 6.4.1).
        Body::Close => rule("CLOSE", States::SELECTED, Stay),
        Body::Unselect => rule("UNSELECT", States::SELECTED, Stay),
        Body::Expunge(set) => either(set.is_some(), ["EXPUNGE", "UID EXPUNGE"], Shift),
        Body::Search(search) => either(search.uid, ["SEARCH", "UID SEARCH"], Stay),
        Body::Fetch(fetch) => either(fetch.uid, ["FETCH", "UID FETCH"], Stay),
        Body::Store(store) => either(store.uid, ["STORE", "UID STORE"], Stay),
        Body::Copy { uid, .. } => either(*uid, ["COPY", "UID COPY"], MayShift),
        Body::Move { uid, .. } => either(*uid, ["MOVE", "UID MOVE"], Shift),
    }
}

/// Why a command may not run now, in words behind `BAD`.
#[must_use]
pub fn why_not(rule: Rule, state: States) -> Option<&'static str> {
    if rule.states.allows(state) {
        return None;
    }
    Some(if rule.states == States::NOT_AUTHENTICATED {
        "you are logged in already"
    } else if state == States::NOT_AUTHENTICATED {
        "log in first"
    } else {
        "select a mailbox first"
    })
}

/// What ENABLE and some commands switch on for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    pub imap4rev2: bool,
    /// A CONDSTORE enabling command was seen: FETCH responses tell MODSEQ (RFC 7162 3.1).
    pub condstore: bool,
}

/// Counts commands that made no sense.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nonsense(u8);

/// So many in a row end the session: whoever speaks here speaks no IMAP.
pub const NONSENSE_MAX: u8 = 20;

impl Nonsense {
    /// One more; true when it was one too many.
    #[must_use]
    pub fn another(&mut self) -> bool {
        self.0 += 1;
        self.0 >= NONSENSE_MAX
    }

    /// A command that made sense forgives those before it.
    pub fn forgive(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::parse;

    #[track_caller]
    fn check(line: &str, numbers: Numbers, by_uid: bool, states: &str) {
        let text = format!("a {line}\r\n");
        let command = parse(text.as_bytes()).expect(line);
        let rule = rule_of(&command.body);
        assert_eq!((rule.numbers, rule.by_uid), (numbers, by_uid), "{line}");
        assert!(
            line.starts_with(rule.name),
            "{line} is called {}",
            rule.name
        );
        let each = [
            States::NOT_AUTHENTICATED,
            States::AUTHENTICATED,
            States::SELECTED,
        ];
        let got: String = each
            .iter()
            .zip("nas".chars())
            .filter(|(s, _)| rule.states.allows(**s))
            .map(|p| p.1)
            .collect();
        assert_eq!(got, states, "{line}");
    }

    #[test]
    fn the_table() {
        check("NOOP", Numbers::MayShift, false, "nas");
        check("LOGIN a b", Numbers::Stay, false, "n");
        check("SELECT x", Numbers::Stay, false, "as");
        check("FETCH 1 FLAGS", Numbers::Stay, false, "s");
        check("UID FETCH 1 FLAGS", Numbers::MayShift, true, "s");
        check("STORE 1 FLAGS ()", Numbers::Stay, false, "s");
        check("UID SEARCH ALL", Numbers::MayShift, true, "s");
        check("GETQUOTAROOT x", Numbers::MayShift, false, "as");
        check("COPY 1 x", Numbers::MayShift, false, "s");
        check("UID MOVE 1 x", Numbers::Shift, true, "s");
        check("EXPUNGE", Numbers::Shift, false, "s");
        check("CLOSE", Numbers::Stay, false, "s");
    }

    #[test]
    fn nonsense_ends_a_session() {
        let mut nonsense = Nonsense::default();
        assert!((1..NONSENSE_MAX).all(|_| !nonsense.another()));
        nonsense.forgive();
        assert!((1..NONSENSE_MAX).all(|_| !nonsense.another()));
        assert!(nonsense.another());
    }
}
