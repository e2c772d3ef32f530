//! What the server acknowledged, and what it may therefore not have lost, doubled or renumbered.
//!
//! The ledger knows nothing of the server's code. A change whose answer never came is *pending*:
//! it may be there or not, but never twice and never half.

use std::collections::{BTreeMap, BTreeSet};

/// A message's own name, in its `X-Ledger` line.
pub type Letter = String;

/// One INBOX that deliveries go to.
#[derive(Debug, Default)]
pub struct Inbox {
    /// 250 was said.
    acknowledged: BTreeSet<Letter>,
    /// Sent, answer unknown.
    pending: BTreeSet<Letter>,
    /// Seen under this UID at some time: a UID means one message for ever.
    seen: BTreeMap<u32, Letter>,
    uidvalidity: Option<u64>,
}

/// A letter that breaks the promise.
#[derive(Debug, PartialEq, Eq)]
pub enum Breach {
    Missing(Letter),
    Doubled(Letter),
    Unknown(Letter),
    UidReused { uid: u32, was: Letter, is: Letter },
    UidValidityChanged { was: u64, is: u64 },
    Mailbox(String),
}

impl Inbox {
    pub fn sending(&mut self, letter: &Letter) {
        self.pending.insert(letter.clone());
    }

    pub fn acknowledged(&mut self, letter: &Letter) {
        self.pending.remove(letter);
        self.acknowledged.insert(letter.clone());
    }

    #[must_use]
    pub fn count_acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Judges the whole INBOX as it stands now.
    pub fn judge(&mut self, uidvalidity: u64, found: &[(u32, Letter)]) -> Vec<Breach> {
        let mut breaches = Vec::new();
        if let Some(was) = self.uidvalidity.replace(uidvalidity)
            && was != uidvalidity
        {
            breaches.push(Breach::UidValidityChanged {
                was,
                is: uidvalidity,
            });
        }
        let mut present = BTreeSet::new();
        for (uid, letter) in found {
            if !present.insert(letter) {
                breaches.push(Breach::Doubled(letter.clone()));
            }
            if !self.acknowledged.contains(letter) && !self.pending.contains(letter) {
                breaches.push(Breach::Unknown(letter.clone()));
            }
            if let Some(was) = self.seen.insert(*uid, letter.clone())
                && was != *letter
            {
                breaches.push(Breach::UidReused {
                    uid: *uid,
                    was,
                    is: letter.clone(),
                });
            }
        }
        let missing = self
            .acknowledged
            .iter()
            .filter(|letter| !present.contains(letter));
        breaches.extend(missing.map(|letter| Breach::Missing(letter.clone())));
        breaches
    }
}

/// One message of a mailbox that a single worker changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub letter: Letter,
    /// Sorted, without `\Recent`.
    pub flags: Vec<String>,
}

/// A mailbox with one writer: its state is known but for the one change in flight.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub entries: BTreeMap<u32, Entry>,
    pub pending: Option<Pending>,
    seen: BTreeMap<u32, Letter>,
    uid_highest: u32,
    uidvalidity: Option<u64>,
}

/// The change whose answer has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    Append(Entry),
    Flags { uid: u32, flags: Vec<String> },
    Expunge { uid: u32 },
}

impl Mailbox {
    /// The worker heard OK: `uid` is where an append went.
    pub fn confirmed(&mut self, uid: Option<u32>) {
        match self.pending.take() {
            Some(Pending::Append(entry)) => {
                if let Some(uid) = uid {
                    self.uid_highest = self.uid_highest.max(uid);
                    self.seen.insert(uid, entry.letter.clone());
                    self.entries.insert(uid, entry);
                }
            }
            Some(Pending::Flags { uid, flags }) => {
                if let Some(entry) = self.entries.get_mut(&uid) {
                    entry.flags = flags;
                }
            }
            Some(Pending::Expunge { uid }) => {
                self.entries.remove(&uid);
            }
            None => {}
        }
    }

    /// Judges the mailbox as it stands now: the known state, with or without the pending change.
    /// What is found becomes the known state.
    pub fn judge(&mut self, uidvalidity: u64, found: BTreeMap<u32, Entry>) -> Vec<Breach> {
        let mut breaches = Vec::new();
        if let Some(was) = self.uidvalidity.replace(uidvalidity)
            && was != uidvalidity
        {
            breaches.push(Breach::UidValidityChanged {
                was,
                is: uidvalidity,
            });
        }
        for (uid, entry) in &found {
            if let Some(was) = self.seen.insert(*uid, entry.letter.clone())
                && was != entry.letter
            {
                let is = entry.letter.clone();
                breaches.push(Breach::UidReused { uid: *uid, was, is });
            }
        }
        if found != self.entries && !self.with_pending(&found) {
            breaches.push(Breach::Mailbox(self.difference(&found)));
        }
        self.pending = None;
        self.uid_highest = found
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(self.uid_highest);
        self.entries = found;
        breaches
    }

    /// True where `found` is the known state after the pending change.
    fn with_pending(&self, found: &BTreeMap<u32, Entry>) -> bool {
        let mut expected = self.entries.clone();
        match &self.pending {
            None => return false,
            Some(Pending::Append(entry)) => {
                let Some((uid, last)) = found.iter().next_back() else {
                    return false;
                };
                if *uid <= self.uid_highest || last != entry {
                    return false;
                }
                expected.insert(*uid, entry.clone());
            }
            Some(Pending::Flags { uid, flags }) => {
                if let Some(entry) = expected.get_mut(uid) {
                    entry.flags.clone_from(flags);
                }
            }
            Some(Pending::Expunge { uid }) => {
                expected.remove(uid);
            }
        }
        expected == *found
    }

    fn difference(&self, found: &BTreeMap<u32, Entry>) -> String {
        let missing: Vec<_> = self
            .entries
            .iter()
            .filter(|(uid, e)| found.get(uid) != Some(e))
            .collect();
        let extra: Vec<_> = found
            .iter()
            .filter(|(uid, e)| self.entries.get(uid) != Some(e))
            .collect();
        format!(
            "known but not found {missing:?}; found but not known {extra:?}; {:?}",
            self.pending
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(letter: &str) -> Entry {
        Entry {
            letter: letter.to_owned(),
            flags: Vec::new(),
        }
    }

    #[test]
    fn an_acknowledged_letter_must_be_there_once() {
        let mut inbox = Inbox::default();
        for letter in ["a", "b", "c"] {
            inbox.sending(&letter.to_owned());
        }
        inbox.acknowledged(&"a".to_owned());
        inbox.acknowledged(&"b".to_owned());
        let found = [
            (1, "a".to_owned()),
            (2, "c".to_owned()),
            (3, "c".to_owned()),
        ];
        assert_eq!(
            inbox.judge(9, &found),
            [
                Breach::Doubled("c".to_owned()),
                Breach::Missing("b".to_owned())
            ]
        );
    }

    #[test]
    fn a_uid_means_one_message_for_ever() {
        let mut inbox = Inbox::default();
        for letter in ["a", "b"] {
            inbox.sending(&letter.to_owned());
        }
        assert_eq!(inbox.judge(9, &[(1, "a".to_owned())]), []);
        let reused = Breach::UidReused {
            uid: 1,
            was: "a".to_owned(),
            is: "b".to_owned(),
        };
        assert_eq!(inbox.judge(9, &[(1, "b".to_owned())]), [reused]);
    }

    #[test]
    fn a_pending_change_may_be_there_or_not_but_not_half() {
        let mut mailbox = Mailbox {
            pending: Some(Pending::Append(entry("a"))),
            ..Mailbox::default()
        };
        mailbox.confirmed(Some(4));
        mailbox.pending = Some(Pending::Append(entry("b")));
        let with = BTreeMap::from([(4, entry("a")), (5, entry("b"))]);
        assert_eq!(mailbox.judge(1, with.clone()), []);
        mailbox.pending = Some(Pending::Expunge { uid: 4 });
        assert_eq!(mailbox.judge(1, with), []);
        assert_eq!(mailbox.judge(1, BTreeMap::new()).len(), 1);
    }
}
