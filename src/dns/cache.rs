//! What is known, for as long as its zone allows: a cache on each shard, and a snapshot that all
//! shards read.
//!
//! Both are bounded in octets. A shard's own cache gives up first what nobody has asked for since
//! it was last looked at. What a shard learns it publishes now and then: a new snapshot with the
//! others' entries and its own, swapped in as a whole. Nothing is given out past its time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use hickory_proto::op::Message;

use super::answer::{DnsError, Rdata, Security};
use super::counters::CACHE_BYTES;
use super::message::{Question, Step};

/// What an entry takes beyond its names and data: keys, maps, counts.
const ENTRY_BYTES: usize = 320;
/// How often a shard publishes what it has learnt.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// What will be gone before another shard asks for it is not published.
const PUBLISH_SPAN_MIN: Duration = Duration::from_secs(5);
/// A snapshot is copied as a whole: more entries would hold up the shard that publishes.
const SNAPSHOT_ENTRIES_MAX: usize = 8192;
/// Entries a shard holds back until it publishes.
const FRESH_MAX: usize = 1024;

/// One thing that is known.
#[derive(Clone, Debug)]
pub enum Known {
    /// What a name leads to.
    Step(Arc<Found>),
    /// A message that serves validation, from a server that speaks DNSSEC.
    Message(Arc<Message>),
    /// RFC 9520 3.2: nobody could tell a moment ago.
    Failed(DnsError),
}

/// What one question brought.
#[derive(Debug)]
pub struct Found {
    pub step: Step,
    pub security: Security,
    pub server: SocketAddr,
}

/// The question, and whether the message itself is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub question: Question,
    pub whole: bool,
}

#[derive(Clone)]
struct Entry {
    known: Known,
    expires: Instant,
    bytes: usize,
}

type Snapshot = HashMap<Key, Entry>;

/// What all shards know.
#[derive(Default)]
pub struct SharedCache {
    snapshot: ArcSwap<Snapshot>,
}

/// What this shard knows.
pub struct Cache {
    local: RefCell<Local>,
    shared: Arc<SharedCache>,
    bytes_max: usize,
}

#[derive(Default)]
struct Local {
    entries: HashMap<Key, (Entry, bool)>,
    /// Every key once, the next to be looked at first.
    order: VecDeque<Key>,
    bytes: usize,
    fresh: Vec<Key>,
    published: Option<Instant>,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Local,
    Shared,
}

impl Cache {
    pub fn new(bytes_max: usize, shared: Arc<SharedCache>) -> Self {
        Cache {
            local: RefCell::default(),
            shared,
            bytes_max,
        }
    }

    /// What is known, and for how many seconds yet.
    pub fn get(&self, key: &Key, now: Instant) -> Option<(Known, u32, Where)> {
        let mut local = self.local.borrow_mut();
        if let Some((entry, used)) = local.entries.get_mut(key)
            && let Some(ttl) = left(entry, now)
        {
            *used = true;
            return Some((entry.known.clone(), ttl, Where::Local));
        }
        let snapshot = self.shared.snapshot.load();
        let entry = snapshot.get(key)?;
        let ttl = left(entry, now)?;
        local.put(key.clone(), entry.clone());
        local.shrink(self.bytes_max, now);
        Some((entry.known.clone(), ttl, Where::Shared))
    }

    /// Keeps it for `ttl` seconds; not at all where that is 0.
    pub fn put(&self, key: Key, known: Known, ttl: u32, now: Instant) {
        if ttl == 0 {
            return;
        }
        let span = Duration::from_secs(ttl.into());
        let entry = Entry {
            bytes: weigh(&key, &known),
            expires: now + span,
            known,
        };
        if entry.bytes > self.bytes_max {
            return;
        }
        let mut local = self.local.borrow_mut();
        let lasts = span >= PUBLISH_SPAN_MIN && !matches!(entry.known, Known::Failed(_));
        if lasts && local.fresh.len() < FRESH_MAX {
            local.fresh.push(key.clone());
        }
        local.put(key, entry);
        local.shrink(self.bytes_max, now);
        let due = local
            .published
            .is_none_or(|published| now.saturating_duration_since(published) >= PUBLISH_EVERY);
        if due && !local.fresh.is_empty() {
            local.published = Some(now);
            self.publish(&mut local, now);
        }
    }

    fn publish(&self, local: &mut Local, now: Instant) {
        let fresh: Vec<(Key, Entry)> = std::mem::take(&mut local.fresh)
            .into_iter()
            .filter_map(|key| {
                let (entry, _) = local.entries.get(&key)?;
                let entry = entry.clone();
                Some((key, entry))
            })
            .collect();
        self.shared.snapshot.rcu(|snapshot| {
            let alive = snapshot.iter().filter(|(_, entry)| entry.expires > now);
            let known = alive.map(|(key, entry)| (key.clone(), entry.clone()));
            // In this order: a later entry replaces an earlier one.
            let mut next: Snapshot = known.chain(fresh.iter().cloned()).collect();
            bound(&mut next, self.bytes_max);
            next
        });
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        CACHE_BYTES.subtract(self.local.borrow().bytes as u64);
    }
}

impl Local {
    fn put(&mut self, key: Key, entry: Entry) {
        self.bytes += entry.bytes;
        CACHE_BYTES.add(entry.bytes as u64);
        match self.entries.insert(key.clone(), (entry, false)) {
            Some((before, _)) => self.forget(before.bytes),
            None => self.order.push_back(key),
        }
    }

    fn forget(&mut self, bytes: usize) {
        self.bytes -= bytes;
        CACHE_BYTES.subtract(bytes as u64);
    }

    /// What was used since it was last looked at gets another round.
    fn shrink(&mut self, bytes_max: usize, now: Instant) {
        while self.bytes > bytes_max {
            let Some(key) = self.order.pop_front() else {
                return;
            };
            let Some((entry, used)) = self.entries.get_mut(&key) else {
                continue;
            };
            if *used && entry.expires > now {
                *used = false;
                self.order.push_back(key);
                continue;
            }
            let bytes = entry.bytes;
            self.entries.remove(&key);
            self.forget(bytes);
        }
    }
}

/// Keeps what lives longest.
fn bound(snapshot: &mut Snapshot, bytes_max: usize) {
    let bytes: usize = snapshot.values().map(|entry| entry.bytes).sum();
    if bytes <= bytes_max && snapshot.len() <= SNAPSHOT_ENTRIES_MAX {
        return;
    }
    let mut ends: Vec<(Instant, usize)> = snapshot
        .values()
        .map(|entry| (entry.expires, entry.bytes))
        .collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let mut room = bytes_max;
    // With some room, so that this is not done again for the next entry.
    let kept = ends
        .iter()
        .take(SNAPSHOT_ENTRIES_MAX * 7 / 8)
        .take_while(|(_, bytes)| {
            let fits = *bytes <= room;
            room = room.saturating_sub(*bytes);
            fits
        });
    let Some((earliest, _)) = kept.last() else {
        return snapshot.clear();
    };
    let earliest = *earliest;
    // Many may end together with the last one that fits: of those only as many as fit.
    let mut left = bytes_max;
    snapshot.retain(|_, entry| {
        let fits = entry.expires >= earliest && entry.bytes <= left;
        if fits {
            left -= entry.bytes;
        }
        fits
    });
}

/// Whole seconds until it ends; at least 1 where it has not.
fn left(entry: &Entry, now: Instant) -> Option<u32> {
    let left = entry.expires.checked_duration_since(now)?;
    if left.is_zero() {
        return None;
    }
    Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1))
}

/// About what an entry takes in memory.
fn weigh(key: &Key, known: &Known) -> usize {
    let name = 2 * key.question.name.len();
    let data = match known {
        Known::Failed(_) => 32,
        // Decoded, a record is some times as large as on the wire.
        Known::Message(message) => message.to_vec().map_or(4096, |bytes| 4 * bytes.len()),
        Known::Step(found) => match &found.step {
            Step::Alias(name) => name.len(),
            Step::Records(records) => records.iter().map(rdata_bytes).sum(),
            Step::NoData | Step::NoName => 0,
        },
    };
    ENTRY_BYTES + name + data
}

fn rdata_bytes(rdata: &Rdata) -> usize {
    let held = match rdata {
        Rdata::Address(_) => 0,
        Rdata::Mx { host: text, .. }
        | Rdata::Name(text)
        | Rdata::Text(text)
        | Rdata::Soa { primary: text, .. }
        | Rdata::Srv { target: text, .. } => text.len(),
        Rdata::Tlsa { data, .. } => data.len(),
    };
    size_of::<Rdata>() + held
}
