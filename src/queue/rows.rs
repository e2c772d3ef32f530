//! What this shard's entries wait for: one row for an entry at a destination. Pure.
//!
//! A row is due at a time; or out, offered to the shard of its destination, which has not said yet
//! what became of it; or full, since that shard had no room and will say when it has. So an entry
//! is tried by one at a time, and what is on record is what the next attempt begins with.

use std::collections::{BTreeMap, BTreeSet};

use super::desk::{Destination, EntryKey};
use crate::base::UnixMs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Due(UnixMs),
    Out,
    Full(UnixMs),
}

/// The rows of one shard.
#[derive(Default)]
pub struct Rows {
    standing: BTreeMap<(EntryKey, Destination), Standing>,
    due: BTreeSet<(UnixMs, EntryKey, Destination)>,
    full: BTreeMap<Destination, BTreeSet<(UnixMs, EntryKey)>>,
    names: BTreeSet<Destination>,
    /// Rows of a destination that are out.
    out: BTreeMap<Destination, usize>,
}

/// Names that nobody uses any more are looked for when there are so many more.
const NAMES_SLACK: usize = 1024;

impl Rows {
    /// Rows, in whatever standing.
    #[must_use]
    pub fn len(&self) -> usize {
        self.standing.len()
    }

    /// Rows that are out.
    #[must_use]
    pub fn out(&self) -> usize {
        let full: usize = self.full.values().map(BTreeSet::len).sum();
        self.standing.len() - self.due.len() - full
    }

    /// The one name of a destination.
    pub fn name(&mut self, text: &str) -> Destination {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let used = self.standing.len();
        if self.names.len() > used + NAMES_SLACK {
            self.names
                .retain(|name| Destination::strong_count(name) > 1);
        }
        let name = Destination::from(text);
        self.names.insert(name.clone());
        name
    }

    /// What an entry waits for by what is on record: nothing, where it is done. A row that is out
    /// stays so until it is [`Rows::back`].
    pub fn set(&mut self, entry: EntryKey, wanted: &[(Destination, UnixMs)]) {
        let gone: Vec<Destination> = self
            .of(entry)
            .filter(|(name, standing)| {
                *standing != Standing::Out && wanted.iter().all(|(w, _)| w != *name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.remove(entry, &name);
        }
        for (name, due) in wanted {
            match self.standing.get(&(entry, name.clone())) {
                Some(Standing::Out) => {}
                Some(Standing::Full(at)) if at == due => {}
                Some(Standing::Due(at)) if at == due => {}
                _ => self.put(entry, name, *due),
            }
        }
    }

    /// It is not out any more. Where nothing is on record any more, `set` takes it away.
    pub fn back(&mut self, entry: EntryKey, name: &Destination, due: UnixMs) {
        if self.standing.get(&(entry, name.clone())) == Some(&Standing::Out) {
            self.put(entry, name, due);
        }
    }

    /// The shard of the destination has no room for it.
    pub fn declined(&mut self, entry: EntryKey, name: &Destination, due: UnixMs) {
        let key = (entry, name.clone());
        if self.standing.get(&key) == Some(&Standing::Out) {
            self.not_out(name);
            self.standing.insert(key, Standing::Full(due));
            let full = self.full.entry(name.clone()).or_default();
            full.insert((due, entry));
        }
    }

    /// There is room again: the first `max` of those that were declined are due.
    pub fn hungry(&mut self, name: &Destination, max: usize) {
        let Some(mut full) = self.full.remove(name) else {
            return;
        };
        for _ in 0..max {
            let Some((due, entry)) = full.pop_first() else {
                break;
            };
            let key = (entry, name.clone());
            self.standing.insert(key, Standing::Due(due));
            self.due.insert((due, entry, name.clone()));
        }
        if !full.is_empty() {
            self.full.insert(name.clone(), full);
        }
    }

    /// Where nothing of a destination is out, nobody there will say that there is room: who was
    /// declined is due.
    pub fn refill(&mut self, name: &Destination, max: usize) -> bool {
        let is_stuck = self.full.contains_key(name) && !self.out.contains_key(name);
        if is_stuck {
            self.hungry(name, max);
        }
        is_stuck
    }

    fn not_out(&mut self, name: &Destination) {
        if let Some(count) = self.out.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.out.remove(name);
            }
        }
    }

    /// Takes up to `max` rows that are due: they are out from now on.
    pub fn take(&mut self, now: UnixMs, max: usize) -> Vec<(Destination, EntryKey)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((at, ..)) = self.due.first()
            && *at <= now
            && let Some((_, entry, name)) = self.due.pop_first()
        {
            *self.out.entry(name.clone()).or_default() += 1;
            self.standing.insert((entry, name.clone()), Standing::Out);
            taken.push((name, entry));
        }
        taken
    }

    /// When the next row is due.
    #[must_use]
    pub fn next(&self) -> Option<UnixMs> {
        self.due.first().map(|(at, ..)| *at)
    }

    fn of(&self, entry: EntryKey) -> impl Iterator<Item = (&Destination, Standing)> {
        let first = (entry, Destination::from(""));
        let range = self.standing.range(first..);
        range
            .take_while(move |((e, _), _)| *e == entry)
            .map(|((_, name), standing)| (name, *standing))
    }

    fn put(&mut self, entry: EntryKey, name: &Destination, due: UnixMs) {
        self.remove(entry, name);
        self.standing
            .insert((entry, name.clone()), Standing::Due(due));
        self.due.insert((due, entry, name.clone()));
    }

    fn remove(&mut self, entry: EntryKey, name: &Destination) {
        match self.standing.remove(&(entry, name.clone())) {
            Some(Standing::Due(at)) => drop(self.due.remove(&(at, entry, name.clone()))),
            Some(Standing::Full(at)) => {
                if let Some(full) = self.full.get_mut(name) {
                    full.remove(&(at, entry));
                    if full.is_empty() {
                        self.full.remove(name);
                    }
                }
            }
            Some(Standing::Out) => self.not_out(name),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PSeq, PartitionId};

    fn entry(n: u64) -> EntryKey {
        EntryKey {
            partition: PartitionId(0),
            pseq: PSeq(n),
        }
    }

    fn taken(rows: &mut Rows, now: i64, max: usize) -> Vec<(String, u64)> {
        let taken = rows.take(UnixMs(now), max);
        let plain = |(name, entry): (Destination, EntryKey)| (name.to_string(), entry.pseq.0);
        taken.into_iter().map(plain).collect()
    }

    #[test]
    fn rows_are_taken_once_by_due() {
        let mut rows = Rows::default();
        let (a, b) = (rows.name("a"), rows.name("b"));
        rows.set(
            entry(1),
            &[(a.clone(), UnixMs(30)), (b.clone(), UnixMs(10))],
        );
        rows.set(entry(2), &[(a.clone(), UnixMs(20))]);
        assert_eq!(rows.next(), Some(UnixMs(10)));
        assert_eq!(taken(&mut rows, 9, 9), []);
        assert_eq!(taken(&mut rows, 25, 9), [("b".into(), 1), ("a".into(), 2)]);
        assert_eq!(rows.out(), 2);
        // What is on record again changes nothing of what is out.
        rows.set(entry(2), &[(a.clone(), UnixMs(20))]);
        assert_eq!(taken(&mut rows, 25, 9), []);
        rows.back(entry(2), &a, UnixMs(40));
        assert_eq!(taken(&mut rows, 40, 1), [("a".into(), 1)]);
        assert_eq!(taken(&mut rows, 40, 9), [("a".into(), 2)]);
    }

    #[test]
    fn what_is_done_goes_when_it_is_back() {
        let mut rows = Rows::default();
        let a = rows.name("a");
        rows.set(entry(1), &[(a.clone(), UnixMs(1))]);
        assert_eq!(taken(&mut rows, 1, 9).len(), 1);
        rows.set(entry(1), &[]);
        assert_eq!(rows.len(), 1);
        rows.back(entry(1), &a, UnixMs(2));
        rows.set(entry(1), &[]);
        assert_eq!((rows.len(), rows.next()), (0, None));
    }

    #[test]
    fn declined_ones_wait_until_there_is_room() {
        let mut rows = Rows::default();
        let a = rows.name("a");
        for n in 1..=3 {
            rows.set(entry(n), &[(a.clone(), UnixMs(n as i64))]);
        }
        for (name, entry) in rows.take(UnixMs(9), 9) {
            rows.declined(entry, &name, UnixMs(entry.pseq.0 as i64));
        }
        assert_eq!((rows.out(), rows.next()), (0, None));
        // Held meanwhile by a person: its row goes.
        rows.set(entry(2), &[]);
        rows.hungry(&a, 1);
        assert_eq!(taken(&mut rows, 9, 9), [("a".into(), 1)]);
        rows.hungry(&a, 9);
        assert_eq!(taken(&mut rows, 9, 9), [("a".into(), 3)]);
    }

    #[test]
    fn who_was_declined_is_due_when_nobody_else_is_out() {
        let mut rows = Rows::default();
        let a = rows.name("a");
        for n in 1..=3 {
            rows.set(entry(n), &[(a.clone(), UnixMs(n as i64))]);
        }
        assert_eq!(rows.take(UnixMs(9), 9).len(), 3);
        rows.declined(entry(2), &a, UnixMs(2));
        rows.declined(entry(3), &a, UnixMs(3));
        assert!(!rows.refill(&a, 1), "one is out still");
        rows.back(entry(1), &a, UnixMs(50));
        assert!(rows.refill(&a, 1));
        assert_eq!(taken(&mut rows, 9, 9), [("a".into(), 2)]);
        assert!(!rows.refill(&a, 1));
    }

    #[test]
    fn names_that_nobody_uses_go() {
        let mut rows = Rows::default();
        for n in 0..5_000 {
            let name = rows.name(&format!("host{n}.example"));
            rows.set(entry(n), &[(name.clone(), UnixMs(0))]);
            rows.set(entry(n), &[]);
        }
        assert!(rows.names.len() <= NAMES_SLACK + 1, "{}", rows.names.len());
    }
}
