//! The entries of a partition in memory.
//!
//! An entry that only waits, whose body is in a file and whom nobody here is to be given, *rests*:
//! it is kept as the octets that the log has of it, and decoded when it is asked for. So a long
//! queue costs about 250 octets an entry (`docs/QUEUE.md`), and nothing waits for a disk.

use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::path::PathBuf;
use std::sync::Arc;

use super::log::Log;
use super::octets;
use crate::base::{PSeq, PartitionId};
use crate::store::Message;
use crate::store::body::{Accepted, Source};
use crate::store::bytes::{Reader, Writer};
use crate::store::maildir::Layout;

enum Entry {
    Open(Box<Accepted>),
    Resting(Box<[u8]>),
}

const _: () = assert!(size_of::<Entry>() == 16);

/// An entry to look at.
pub(in crate::store) enum Seen<'e> {
    Open(&'e Accepted),
    Decoded(Box<Accepted>),
}

impl Deref for Seen<'_> {
    type Target = Accepted;

    fn deref(&self) -> &Accepted {
        match self {
            Seen::Open(accepted) => accepted,
            Seen::Decoded(accepted) => accepted,
        }
    }
}

/// Messages on their way to several owners, or to other hosts, by the record that took them in.
#[derive(Default)]
pub(in crate::store) struct Entries {
    pub home: PartitionId,
    all: BTreeMap<PSeq, Entry>,
    resting: Resting,
    /// What of them is on the disk.
    pub log: Log,
}

/// How many rest, and their octets.
#[derive(Default)]
struct Resting {
    count: u64,
    bytes: u64,
}

impl Resting {
    fn more(&mut self, octets: &[u8]) {
        self.count += 1;
        self.bytes += octets.len() as u64;
    }

    fn less(&mut self, octets: &[u8]) {
        self.count -= 1;
        self.bytes -= octets.len() as u64;
    }
}

/// What an open entry is taken for where octets are only estimated.
const OPEN_BYTES: u64 = 512;

impl Entries {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, layout: &Layout, pseq: PSeq) -> Option<Seen<'_>> {
        let entry = self.all.get(&pseq)?;
        Some(self.see(layout, pseq, entry))
    }

    fn see<'e>(&self, layout: &Layout, pseq: PSeq, entry: &'e Entry) -> Seen<'e> {
        match entry {
            Entry::Open(accepted) => Seen::Open(accepted),
            Entry::Resting(octets) => {
                Seen::Decoded(Box::new(decoded(octets, layout, (self.home, pseq))))
            }
        }
    }

    /// Those behind a place, in the order in which they came.
    pub fn after<'e>(
        &'e self,
        layout: &'e Layout,
        from: Bound<PSeq>,
    ) -> impl Iterator<Item = (PSeq, Seen<'e>)> {
        let range = self.all.range((from, Bound::Unbounded));
        range.map(|(pseq, entry)| (*pseq, self.see(layout, *pseq, entry)))
    }

    /// Those that have recipients elsewhere.
    pub fn leaving(&self) -> impl Iterator<Item = PSeq> {
        let leaves = |entry: &Entry| match entry {
            Entry::Open(accepted) => accepted.outbound.is_some(),
            // Nothing else would keep it.
            Entry::Resting(_) => true,
        };
        let leaving = self.all.iter().filter(move |(_, entry)| leaves(entry));
        leaving.map(|(pseq, _)| *pseq)
    }

    /// Those that an owner here does not have yet.
    pub fn owed(&self) -> impl Iterator<Item = PSeq> {
        let is_owed = |entry: &Entry| match entry {
            Entry::Open(accepted) => accepted.targets.iter().any(Option::is_some),
            Entry::Resting(_) => false,
        };
        let owed = self.all.iter().filter(move |(_, entry)| is_owed(entry));
        owed.map(|(pseq, _)| *pseq)
    }

    /// The spool files of all.
    pub fn spool_files(&self, layout: &Layout) -> impl Iterator<Item = PathBuf> {
        let spool = layout.spool();
        self.all.values().filter_map(move |entry| match entry {
            Entry::Resting(octets) => octets::spool_of(octets).map(|name| spool.join(name)),
            Entry::Open(accepted) => match &accepted.source {
                Source::Spool(path) => Some(path.clone()),
                Source::Journal(_) | Source::File(_) => None,
            },
        })
    }

    pub fn insert(&mut self, pseq: PSeq, accepted: Accepted) {
        self.log.came(pseq);
        self.put(pseq, accepted);
    }

    /// One that stands in a catalogue or log.
    pub fn put(&mut self, pseq: PSeq, accepted: Accepted) {
        let before = self.all.insert(pseq, Entry::Open(Box::new(accepted)));
        self.forget(before);
        self.rest(pseq);
    }

    /// As [`put`](Entries::put), where the octets of one that rests are at hand.
    pub fn put_octets(&mut self, pseq: PSeq, accepted: Accepted, octets: &[u8]) {
        if !is_resting(&accepted) {
            return self.put(pseq, accepted);
        }
        self.resting.more(octets);
        let before = self.all.insert(pseq, Entry::Resting(octets.into()));
        self.forget(before);
    }

    /// Takes one out that the log says is gone.
    pub fn drop_one(&mut self, pseq: PSeq) {
        let before = self.all.remove(&pseq);
        self.forget(before);
    }

    fn forget(&mut self, before: Option<Entry>) {
        if let Some(Entry::Resting(octets)) = before {
            self.resting.less(&octets);
        }
    }

    /// Makes another of an entry, by a record.
    pub fn change<T>(
        &mut self,
        layout: &Layout,
        pseq: PSeq,
        change: impl FnOnce(&mut Accepted) -> T,
    ) -> Option<T> {
        let entry = self.all.get_mut(&pseq)?;
        let outcome = match entry {
            Entry::Open(accepted) => change(accepted),
            Entry::Resting(octets) => {
                let mut accepted = decoded(octets, layout, (self.home, pseq));
                let outcome = change(&mut accepted);
                self.resting.less(octets);
                *entry = Entry::Open(Box::new(accepted));
                outcome
            }
        };
        self.log.changed(pseq);
        self.rest(pseq);
        Some(outcome)
    }

    /// Its body is in a file of its own now; what it is stays the same. Answers what was kept of it
    /// in memory, or that it is not there any more.
    pub fn filed(&mut self, pseq: PSeq, path: PathBuf) -> Option<Option<Arc<Message>>> {
        let Entry::Open(accepted) = self.all.get_mut(&pseq)? else {
            return Some(None);
        };
        accepted.source = Source::File(path);
        let kept = accepted.memory.take();
        self.rest(pseq);
        Some(kept)
    }

    pub fn remove(&mut self, layout: &Layout, pseq: PSeq) -> Option<Accepted> {
        let entry = self.all.remove(&pseq)?;
        self.log.went(pseq);
        Some(match entry {
            Entry::Open(accepted) => *accepted,
            Entry::Resting(octets) => {
                self.resting.less(&octets);
                decoded(&octets, layout, (self.home, pseq))
            }
        })
    }

    fn rest(&mut self, pseq: PSeq) {
        if let Some(entry) = self.all.get_mut(&pseq)
            && let Entry::Open(accepted) = entry
            && is_resting(accepted)
        {
            let mut w = Writer::default();
            octets::put(&mut w, accepted);
            self.resting.more(&w.out);
            *entry = Entry::Resting(w.out.into_boxed_slice());
        }
    }

    /// About how many octets it takes to write all of them.
    pub fn octets(&self, each: u64) -> u64 {
        let all = self.all.len() as u64;
        self.resting.bytes + (all - self.resting.count) * OPEN_BYTES + all * each
    }

    /// Appends one as it is now, without its number; false where it is not there any more.
    pub fn encode(&self, w: &mut Writer, pseq: PSeq) -> bool {
        match self.all.get(&pseq) {
            None => return false,
            Some(Entry::Open(accepted)) => octets::put(w, accepted),
            Some(Entry::Resting(octets)) => w.out.extend_from_slice(octets),
        }
        true
    }

    /// Numbers behind one, in order.
    pub fn numbers_after(&self, pseq: PSeq) -> impl Iterator<Item = PSeq> {
        let range = self.all.range((Bound::Excluded(pseq), Bound::Unbounded));
        range.map(|(pseq, _)| *pseq)
    }
}

/// Nothing of it is needed but what stands in a file.
fn is_resting(accepted: &Accepted) -> bool {
    accepted.memory.is_none()
        && accepted.outbound.is_some()
        && accepted.targets.iter().all(Option::is_none)
        && !matches!(accepted.source, Source::Journal(_))
}

fn decoded(octets: &[u8], layout: &Layout, of: (PartitionId, PSeq)) -> Accepted {
    let accepted = octets::read(&mut Reader::new(octets), octets::TODAY, layout, of);
    accepted.expect("what was encoded, or decoded before, decodes")
}
