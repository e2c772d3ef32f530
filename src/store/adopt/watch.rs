//! The watch: mail that other programs drop is noticed while nobody asks for it.
//!
//! The `new` of each open mailbox is watched by the kernel ([`Notices`]); a file that comes is
//! taken a second later, which is the time that a program has to write it where it did not write it
//! in `tmp`. Where there are no notices, or no more watches, and slowly where there are, `new` is
//! looked at, and so is that of mailboxes that nobody has open, in the course of time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::arrive::{Due, Key, look_at};
use crate::base::{AccountId, MailboxId};
use crate::runtime::{Notice, Notices, WatchId, now, rest, sleep};
use crate::store::mailbox::Mailbox;
use crate::store::partition::Partition;
use crate::store::shard::Shard;

/// Between passes over the open mailboxes: new ones are watched, closed ones no more, and those
/// that cannot be watched looked at.
const PASS_EVERY: Duration = Duration::from_secs(2);
/// Open mailboxes of one pass.
const OPEN_MAX: usize = 1_000;
/// Mailboxes of one shard that are watched. Each costs the kernel about 1 KiB.
const WATCHED_MAX: usize = 16_384;
/// From a notice to the look: more is on its way.
const GATHER: Duration = Duration::from_secs(1);
/// Between looks at open mailboxes although they are watched, and attempts to watch others: other
/// machines may write to a file system of the network, and nobody here is told.
const DISTRUST_EVERY: Duration = Duration::from_secs(60);
/// Between looks at mailboxes that nobody has open.
const SWEEP_EVERY: Duration = Duration::from_secs(20);
/// And how many of them: INBOXes, and any.
const SWEEP_INBOXES: usize = 128;
const SWEEP_OTHERS: usize = 64;

/// Until the store closes.
pub(in crate::store) async fn watch(shard: Rc<Shard>) {
    let mut watch = Watch::new(&shard);
    let mut passed = now();
    while !shard.gate.is_closed() {
        or(or(watch.arrival(), rest(PASS_EVERY)), shard.gate.closing()).await;
        if shard.gate.is_closed() || shard.is_poisoned() {
            continue;
        }
        watch.take_arrivals().await;
        // Arrivals must not put it off for ever.
        if now().duration_since(passed) >= PASS_EVERY / 2 {
            passed = now();
            watch.pass().await;
        }
    }
}

struct Watch<'s> {
    shard: &'s Rc<Shard>,
    notices: Option<Notices>,
    /// What came first since the last look; the rest waits in the queue of notices.
    arrived: Option<Notice>,
    watched: BTreeMap<Key, WatchId>,
    keys: BTreeMap<WatchId, Key>,
    /// Open, and not to be watched.
    refused: BTreeSet<Key>,
    /// Could not be taken at the last look.
    again: Vec<Key>,
    /// Where the rounds are.
    open: Key,
    closed: Key,
    inboxes: Key,
    all: Key,
    swept: Instant,
    distrusted: Instant,
}

impl<'s> Watch<'s> {
    fn new(shard: &'s Rc<Shard>) -> Watch<'s> {
        Watch {
            shard,
            notices: shard.disk.notices(),
            arrived: None,
            watched: BTreeMap::new(),
            keys: BTreeMap::new(),
            refused: BTreeSet::new(),
            again: Vec::new(),
            open: Key::default(),
            closed: Key::default(),
            inboxes: Key::default(),
            all: Key::default(),
            swept: now(),
            distrusted: now(),
        }
    }

    /// Ends with the first notice, never where there are none.
    async fn arrival(&mut self) {
        let Some(notices) = &self.notices else {
            return std::future::pending().await;
        };
        self.arrived = notices.next().await;
        if self.arrived.is_none() {
            tracing::error!("inotify has ended: mail of other programs is looked for instead");
            self.notices = None;
            self.watched.clear();
            self.keys.clear();
        }
    }

    /// Takes what notices tell of.
    async fn take_arrivals(&mut self) {
        let Some(first) = self.arrived.take() else {
            return;
        };
        or(sleep(GATHER), self.shard.gate.closing()).await;
        let (mut due, mut ended) = (BTreeSet::new(), Vec::new());
        let mut next = Some(first);
        while let Some(notice) = next {
            match notice {
                Notice::Arrived(id) => due.extend(self.keys.get(&id)),
                Notice::Missed => due.extend(self.watched.keys()),
                Notice::Ended(id) => {
                    ended.push(id);
                    // The next pass watches the directory that is there then.
                    if let Some(key) = self.keys.remove(&id) {
                        self.watched.remove(&key);
                    }
                }
            }
            next = self.notices.as_ref().and_then(Notices::try_next);
        }
        if let Some(notices) = &self.notices
            && !ended.is_empty()
        {
            notices.change(ended, Vec::new()).await;
        }
        self.look(due.into_iter().collect()).await;
    }

    /// Looks at mailboxes, those of them that are open still.
    async fn look(&mut self, keys: Vec<Key>) {
        for part in keys.chunks(OPEN_MAX) {
            let due = part.iter().filter_map(|key| find_open(self.shard, *key));
            let due: Due = due.collect();
            let again = look_at(self.shard, due).await;
            self.again.extend(again);
        }
    }

    /// What there is to do besides notices.
    async fn pass(&mut self) {
        let mut due = std::mem::take(&mut self.again);
        let distrusts = now().duration_since(self.distrusted) >= DISTRUST_EVERY;
        if distrusts {
            self.distrusted = now();
            self.refused.clear();
        }
        let mut open = next_keys(&self.shard.owned.open.borrow(), &mut self.open);
        // An archive is a file elsewhere, and has rounds of its own.
        open.retain(|key| find_open(self.shard, *key).is_some_and(|(_, m)| !m.archive.get()));
        let is_watched = |key: &Key| self.watched.contains_key(key);
        let (watched, others): (Vec<Key>, Vec<Key>) = open.into_iter().partition(is_watched);
        self.change_watches(&others).await;
        // Also those that are watched from now on: what came before is not told.
        due.extend(others);
        if distrusts {
            due.extend(watched);
        }
        self.look(due).await;
        if now().duration_since(self.swept) >= SWEEP_EVERY {
            self.swept = now();
            let mut due = next_inboxes(self.shard, &mut self.inboxes);
            due.extend(next_of_all(self.shard, &mut self.all));
            look_at(self.shard, due).await;
        }
    }

    /// Watches mailboxes, and closed ones no more.
    async fn change_watches(&mut self, others: &[Key]) {
        let Some(notices) = &self.notices else {
            return;
        };
        let ended: Vec<Key> = {
            let open = self.shard.owned.open.borrow();
            let known = next_keys(&self.watched, &mut self.closed);
            known
                .into_iter()
                .filter(|k| !open.contains_key(k))
                .collect()
        };
        let ids: Vec<WatchId> = ended
            .iter()
            .filter_map(|key| self.watched.remove(key))
            .collect();
        for id in &ids {
            self.keys.remove(id);
        }
        let room = WATCHED_MAX.saturating_sub(self.watched.len());
        let new = others.iter().filter(|key| !self.refused.contains(*key));
        let new: Vec<(Key, Rc<Mailbox>)> = new
            .filter_map(|key| Some((*key, find_open(self.shard, *key)?.1)))
            .take(room)
            .collect();
        if ids.is_empty() && new.is_empty() {
            return;
        }
        let paths = new.iter().map(|(_, m)| m.path().join("new")).collect();
        let begun = notices.change(ids, paths).await;
        for ((key, _), id) in new.into_iter().zip(begun) {
            match id {
                Some(id) => {
                    self.watched.insert(key, id);
                    self.keys.insert(id, key);
                }
                None => {
                    self.refused.insert(key);
                }
            }
        }
    }
}

fn find_open(shard: &Shard, key: Key) -> Option<(Rc<Partition>, Rc<Mailbox>)> {
    let mailbox = shard.owned.open.borrow().get(&key)?.clone();
    Some((shard.owned.partition(key.0), mailbox))
}

/// The keys behind `from`, which goes on to the last of them, or back to the first.
fn next_keys<V>(map: &BTreeMap<Key, V>, from: &mut Key) -> Vec<Key> {
    let behind = map.range((Bound::Excluded(*from), Bound::Unbounded));
    let keys: Vec<Key> = behind.map(|(key, _)| *key).take(OPEN_MAX).collect();
    *from = match keys.last() {
        Some(last) if keys.len() == OPEN_MAX => *last,
        _ => Key::default(),
    };
    keys
}

/// The INBOXes behind `from`, in the same way, of all accounts.
fn next_inboxes(shard: &Shard, from: &mut Key) -> Due {
    let mut due = Vec::new();
    let mut last = Key::default();
    for (id, partition) in shard.owned.partitions.borrow().range(from.0..) {
        let behind = if *id == from.0 {
            from.1
        } else {
            AccountId::default()
        };
        let state = partition.state.borrow();
        for (account, of) in state
            .accounts
            .range((Bound::Excluded(behind), Bound::Unbounded))
        {
            if due.len() == SWEEP_INBOXES {
                *from = last;
                return due;
            }
            last = (*id, *account, MailboxId::default());
            due.extend(of.find("INBOX").map(|m| (partition.clone(), m.clone())));
        }
    }
    *from = Key::default();
    due
}

/// And any mailboxes.
fn next_of_all(shard: &Shard, from: &mut Key) -> Due {
    let mut due = Vec::new();
    let mut last = Key::default();
    for (id, partition) in shard.owned.partitions.borrow().range(from.0..) {
        let account = if *id == from.0 {
            from.1
        } else {
            AccountId::default()
        };
        let state = partition.state.borrow();
        for (account, of) in state.accounts.range(account..) {
            let is_same = (*id, *account) == (from.0, from.1);
            let behind = if is_same {
                from.2
            } else {
                MailboxId::default()
            };
            for (mailbox, found) in of
                .mailboxes
                .range((Bound::Excluded(behind), Bound::Unbounded))
            {
                if due.len() == SWEEP_OTHERS {
                    *from = last;
                    return due;
                }
                last = (*id, *account, *mailbox);
                due.push((partition.clone(), found.clone()));
            }
        }
    }
    *from = Key::default();
    due
}
