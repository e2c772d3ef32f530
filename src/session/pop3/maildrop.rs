//! The messages that one session sees, as they were when it logged in (RFC 1939 5).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::base::{Uid, UidValidity};
use crate::store::own_uidl;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uid: Uid,
    /// As RETR sends it, without dot-stuffing and the final line.
    pub size: u64,
    pub is_deleted: bool,
}

/// What a number means is fixed for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maildrop {
    uidvalidity: UidValidity,
    entries: Vec<Entry>,
    /// What another server called messages.
    former: BTreeMap<Uid, Box<str>>,
}

impl Maildrop {
    /// `messages` by ascending UID.
    #[must_use]
    pub fn new(
        uidvalidity: UidValidity,
        messages: impl Iterator<Item = (Uid, u64)>,
        former: BTreeMap<Uid, Box<str>>,
    ) -> Self {
        let entry = |(uid, size)| Entry {
            uid,
            size,
            is_deleted: false,
        };
        Maildrop {
            uidvalidity,
            entries: messages.map(entry).collect(),
            former,
        }
    }

    /// A message that exists and is not marked as deleted, by its number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Entry> {
        let at = (number as usize).checked_sub(1)?;
        self.entries
            .get(at)
            .copied()
            .filter(|entry| !entry.is_deleted)
    }

    /// Marks a message; false where there is none.
    pub fn delete(&mut self, number: u32) -> bool {
        let at = (number as usize).wrapping_sub(1);
        match self.entries.get_mut(at) {
            Some(entry) if !entry.is_deleted => {
                entry.is_deleted = true;
                true
            }
            _ => false,
        }
    }

    /// Takes all marks back.
    pub fn reset(&mut self) {
        self.entries
            .iter_mut()
            .for_each(|entry| entry.is_deleted = false);
    }

    /// How many there are and what they weigh, marked ones left out.
    #[must_use]
    pub fn stat(&self) -> (usize, u64) {
        self.here().fold((0, 0), |(count, size), (_, entry)| {
            (count + 1, size + entry.size)
        })
    }

    /// Numbers and messages, marked ones left out.
    pub fn here(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (1..)
            .zip(&self.entries)
            .filter(|(_, entry)| !entry.is_deleted)
    }

    /// UIDs of what is marked, ascending.
    #[must_use]
    pub fn deleted(&self) -> Vec<Uid> {
        self.entries
            .iter()
            .filter(|entry| entry.is_deleted)
            .map(|entry| entry.uid)
            .collect()
    }

    /// The unique-id (RFC 1939 7): the same in every session, as long as the mailbox lives. That of
    /// the server it came from goes on: clients would fetch everything again under another.
    #[must_use]
    pub fn unique_id(&self, entry: &Entry) -> Cow<'_, str> {
        match self.former.get(&entry.uid) {
            Some(former) => Cow::Borrowed(former),
            None => Cow::Owned(own_uidl(self.uidvalidity, entry.uid)),
        }
    }
}
