//! What this shard's entries wait for: one row for an entry at a destination. Pure.
//!
//! A row is due at a time; or out, offered to the shard of its destination, which has not said yet
//! what became of it; or full, since that shard had no room and will say when it has, or is asked
//! again after a while: what it says may pass the answer to the offer. So an entry is tried by one
//! at a time, and what is on record is what the next attempt begins with.

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
    full: BTreeMap<Destination, Full>,
    /// By the time from which on each destination of `full` is asked again.
    asked: BTreeSet<(UnixMs, Destination)>,
    names: BTreeSet<Destination>,
}

/// What a destination had no room for.
#[derive(Default)]
struct Full {
    rows: BTreeSet<(UnixMs, EntryKey)>,
    again: UnixMs,
}

/// A destination without room that says nothing is asked again after so long.
const ASK_AGAIN_MS: i64 = 10_000;
/// Rows of a destination that had no room, and are offered at once when it has.
pub(super) const FEED_MAX: usize = 256;

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
        let full: usize = self.full.values().map(|full| full.rows.len()).sum();
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

    /// The shard of the destination had no room for it at `now`.
    pub fn declined(&mut self, entry: EntryKey, name: &Destination, now: UnixMs) {
        let key = (entry, name.clone());
        if self.standing.get(&key) == Some(&Standing::Out) {
            self.standing.insert(key, Standing::Full(now));
            let full = self.full.entry(name.clone()).or_default();
            full.rows.insert((now, entry));
            self.ask_again(name, now);
        }
    }

    /// There is room again: the first [`FEED_MAX`] of those that were declined are due.
    pub fn hungry(&mut self, name: &Destination, now: UnixMs) {
        for _ in 0..FEED_MAX {
            let first = self
                .full
                .get_mut(name)
                .and_then(|full| full.rows.pop_first());
            let Some((due, entry)) = first else { break };
            let due = due.min(now);
            self.standing
                .insert((entry, name.clone()), Standing::Due(due));
            self.due.insert((due, entry, name.clone()));
        }
        self.ask_again(name, now);
    }

    /// Takes up to `max` rows that are due: they are out from now on.
    pub fn take(&mut self, now: UnixMs, max: usize) -> Vec<(Destination, EntryKey)> {
        while let Some((again, name)) = self.asked.first().cloned() {
            // A clock that went back makes nobody wait.
            if again > now && again.0 <= now.0.saturating_add(ASK_AGAIN_MS) {
                break;
            }
            self.hungry(&name, now);
        }
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((at, ..)) = self.due.first()
            && *at <= now
            && let Some((_, entry, name)) = self.due.pop_first()
        {
            self.standing.insert((entry, name.clone()), Standing::Out);
            taken.push((name, entry));
        }
        taken
    }

    fn ask_again(&mut self, name: &Destination, now: UnixMs) {
        let Some(full) = self.full.get_mut(name) else {
            return;
        };
        self.asked.remove(&(full.again, name.clone()));
        match full.rows.is_empty() {
            true => drop(self.full.remove(name)),
            false => {
                full.again = UnixMs(now.0.saturating_add(ASK_AGAIN_MS));
                self.asked.insert((full.again, name.clone()));
            }
        }
    }

    /// When the next row is due.
    #[must_use]
    pub fn next(&self) -> Option<UnixMs> {
        let due = self.due.first().map(|(at, ..)| *at);
        let asked = self.asked.first().map(|(at, _)| *at);
        [due, asked].into_iter().flatten().min()
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
                    full.rows.remove(&(at, entry));
                    let again = full.again;
                    if full.rows.is_empty() {
                        self.full.remove(name);
                        self.asked.remove(&(again, name.clone()));
                    }
                }
            }
            Some(Standing::Out) | None => {}
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
        assert_eq!((rows.out(), taken(&mut rows, 9, 9)), (0, vec![]));
        // Held meanwhile by a person: its row goes.
        rows.set(entry(2), &[]);
        rows.hungry(&a, UnixMs(9));
        assert_eq!(taken(&mut rows, 9, 1), [("a".into(), 1)]);
        assert_eq!(taken(&mut rows, 9, 9), [("a".into(), 3)]);
        assert_eq!((rows.out(), rows.next()), (2, None));
    }

    #[test]
    fn who_says_nothing_is_asked_again() {
        let mut rows = Rows::default();
        let (a, b) = (rows.name("a"), rows.name("b"));
        for n in 0..600 {
            rows.set(entry(n), &[(a.clone(), UnixMs(0)), (b.clone(), UnixMs(0))]);
        }
        for (name, entry) in rows.take(UnixMs(0), 2_000) {
            rows.declined(entry, &name, UnixMs(0));
        }
        rows.hungry(&b, UnixMs(5_000));
        assert_eq!(taken(&mut rows, 5_000, 2_000).len(), FEED_MAX);
        assert_eq!(rows.next(), Some(UnixMs(10_000)));
        assert_eq!(taken(&mut rows, 9_999, 2_000), []);
        // A part at a time, until nothing is left.
        assert_eq!(taken(&mut rows, 10_000, 2_000).len(), FEED_MAX);
        assert_eq!(taken(&mut rows, 15_000, 2_000).len(), FEED_MAX);
        assert_eq!(taken(&mut rows, 20_000, 2_000).len(), FEED_MAX);
        assert_eq!(taken(&mut rows, 30_000, 2_000).len(), 600 - 512 + 600 - 512);
        assert_eq!((rows.out(), rows.next()), (1_200, None));
        // The clock went back by an hour.
        rows.back(entry(1), &a, UnixMs(0));
        for (name, entry) in rows.take(UnixMs(3_600_000), 1) {
            rows.declined(entry, &name, UnixMs(3_600_000));
        }
        assert_eq!(taken(&mut rows, 1, 9), [("a".into(), 1)]);
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
