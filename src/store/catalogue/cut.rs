//! A catalogue as bytes at one record, made in slices, so that the shard never waits for it.
//!
//! A walk encodes accounts and values group by group, and lets others work
//! between groups. Records go on being applied meanwhile: what they touch is noted
//! ([`Touched`]) and encoded once more behind the walk, until so little is left that it is done in
//! one go with what ends the catalogue. That moment is the cut: no record between it and the last
//! group was missed, and none after it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use super::{
    AccountState, Catalogue, MAGIC, put_mailbox, put_origins, put_subscriptions, put_value,
    put_values,
};
use crate::base::{AccountId, Crc32c, MailboxId, PSeq, crc32c_append};
use crate::runtime::yield_if_needed;
use crate::store::Op;
use crate::store::bytes::Writer;
use crate::store::mailbox::{Mailbox, align};
use crate::store::partition::{Partition, purged};
use crate::store::queue::{self, Entries, Named, Writing};

/// Members of a group, and octets after which it is full.
const GROUP_MAX: usize = 64;
const GROUP_BYTES_MAX: usize = 32 << 10;
/// Groups that may be encoded again in one go.
const AT_ONCE_MAX: usize = 64;
/// Rounds behind the walk; a partition that is changed faster than it is encoded has its cut then.
const ROUNDS_MAX: u32 = 8;
/// What is written in one step.
const PIECE_BYTES: usize = 1 << 20;
/// Slices of the queue's log behind what was written ahead, before what is left has no pause.
const SLICES_MAX: usize = 256;
/// Doomed entries that are encoded without a pause.
const DOOMED_MAX: usize = 256;

type ValueKey = (String, Vec<u8>);

/// A partition's state at one record.
pub(in crate::store) struct Cut {
    pub partition: Rc<Partition>,
    pub at: PSeq,
    /// The file, piece by piece.
    pub pieces: Vec<Vec<u8>>,
    /// The end of the queue's log, which is not written yet.
    pub log: Writing,
    /// What the catalogue says of that log.
    pub named: Named,
}

/// What was changed since the walk began.
#[derive(Default)]
pub(in crate::store) struct Touched {
    accounts: BTreeMap<AccountId, TouchedAccount>,
    values: BTreeSet<ValueKey>,
}

#[derive(Default)]
struct TouchedAccount {
    mailboxes: BTreeSet<MailboxId>,
    /// Subscriptions or values.
    rest: bool,
}

impl Touched {
    /// What a record changes by this. What it does to entries of a queue these note themselves.
    pub fn op(&mut self, op: &Op) {
        match op {
            Op::MailboxCreated {
                account, mailbox, ..
            } => {
                self.mailbox(*account, *mailbox);
                // It ends the mark of a purge, too.
                self.values.insert(purged(*account));
            }
            Op::MailboxRenamed {
                account, mailbox, ..
            }
            | Op::MailboxDeleted {
                account, mailbox, ..
            }
            | Op::Placed {
                account, mailbox, ..
            }
            | Op::FlagsSet {
                account, mailbox, ..
            }
            | Op::Expunged {
                account, mailbox, ..
            }
            | Op::Adopted {
                account, mailbox, ..
            }
            | Op::MailboxSet {
                account, mailbox, ..
            } => self.mailbox(*account, *mailbox),
            Op::SubscriptionSet { account, .. }
            | Op::ValueSet {
                account: Some(account),
                ..
            } => self.accounts.entry(*account).or_default().rest = true,
            Op::AccountPurged { account } => {
                self.accounts.entry(*account).or_default();
                self.values.insert(purged(*account));
            }
            Op::ValueSet {
                account: None,
                namespace,
                key,
                ..
            } => {
                self.values.insert((namespace.clone(), key.clone()));
            }
            Op::Accepted { .. }
            | Op::HandedOver { .. }
            | Op::Tried { .. }
            | Op::Steered { .. }
            | Op::BodySettled { .. } => {}
        }
    }

    pub fn mailbox(&mut self, account: AccountId, mailbox: MailboxId) {
        let account = self.accounts.entry(account).or_default();
        account.mailboxes.insert(mailbox);
    }

    fn len(&self) -> usize {
        let in_account = |a: &TouchedAccount| 1 + a.mailboxes.len();
        let accounts: usize = self.accounts.values().map(in_account).sum();
        accounts + self.values.len()
    }
}

/// Takes the state at some record from now on. `log`: what was written ahead of the queue's log.
pub(in crate::store) async fn cut(partition: &Rc<Partition>, mut log: Writing) -> Cut {
    let _watch = Watch::begin(partition);
    let mut walk = Walk::default();
    walk.accounts(partition).await;
    walk.values(partition).await;
    walk.doomed(partition).await;
    walk.entries(partition, &mut log).await;
    for _ in 0..ROUNDS_MAX {
        let touched = partition.take_touched();
        if touched.len() <= AT_ONCE_MAX {
            partition.give_touched(touched);
            break;
        }
        walk.again_slowly(partition, touched).await;
    }
    let touched = partition.take_touched();
    // Nothing is waited for from here to the end of the state.
    walk.again(partition, touched);
    let (at, ends) = walk.ends(partition, &mut log);
    let named = ends.named;
    let pieces = walk.pieces(ends).await;
    Cut {
        partition: partition.clone(),
        at,
        pieces,
        log,
        named,
    }
}

/// Notes what is touched, as long as it lives.
struct Watch<'p>(&'p Partition);

impl<'p> Watch<'p> {
    fn begin(partition: &'p Partition) -> Self {
        partition.watch_touched(true);
        Watch(partition)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.watch_touched(false);
    }
}

/// Members of one list, encoded in groups that are found again by the key of the first.
struct Groups<K> {
    all: BTreeMap<K, Group>,
}

struct Group {
    count: usize,
    bytes: Vec<u8>,
}

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Groups {
            all: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Groups<K> {
    /// Encodes the group behind `after`; answers its last key, or that there is none.
    fn next<V>(
        &mut self,
        of: &BTreeMap<K, V>,
        after: Option<&K>,
        put: &dyn Fn(&mut Writer, &K, &V),
    ) -> Option<K> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut members = of.range::<K, _>((from, Bound::Unbounded));
        let mut w = Writer::default();
        let (mut first, mut last, mut count) = (None, None, 0);
        while count < GROUP_MAX && w.out.len() < GROUP_BYTES_MAX {
            let Some((key, value)) = members.next() else {
                break;
            };
            put(&mut w, key, value);
            first = first.or(Some(key));
            last = Some(key);
            count += 1;
        }
        let bytes = w.out;
        self.all.insert(first?.clone(), Group { count, bytes });
        last.cloned()
    }

    /// The group that a key belongs to.
    fn of(&self, key: &K) -> Option<&K> {
        let before = self.all.range(..=key).next_back();
        before.or_else(|| self.all.iter().next()).map(|(k, _)| k)
    }

    /// Encodes the groups of these keys, which ascend, once more, as they are now.
    fn again<'k, V>(
        &mut self,
        of: &BTreeMap<K, V>,
        keys: impl Iterator<Item = &'k K>,
        put: &dyn Fn(&mut Writer, &K, &V),
    ) where
        K: 'k,
    {
        let mut groups: BTreeMap<K, K> = BTreeMap::new();
        let mut keys = keys.peekable();
        let Some(lowest) = keys.peek().copied() else {
            return;
        };
        for key in keys {
            // Of an empty list all is in the group of the first one.
            let group = self.of(key).unwrap_or(lowest).clone();
            let first = groups.entry(group).or_insert_with(|| key.clone());
            if key < first {
                *first = key.clone();
            }
        }
        for (group, first_touched) in groups {
            self.all.remove(&group);
            // A key before all groups belongs to the first one.
            let from = group.min(first_touched);
            let to = self.all.range(&from..).next().map(|(k, _)| k);
            let to = to.map_or(Bound::Unbounded, Bound::Excluded);
            let mut w = Writer::default();
            let mut count = 0;
            for (key, value) in of.range::<K, _>((Bound::Included(&from), to)) {
                put(&mut w, key, value);
                count += 1;
            }
            if count > 0 {
                let bytes = w.out;
                self.all.insert(from, Group { count, bytes });
            }
        }
    }

    fn count(&self) -> usize {
        self.all.values().map(|group| group.count).sum()
    }
}

#[derive(Default)]
struct AccountBytes {
    mailboxes: Groups<MailboxId>,
    /// What comes before the mailboxes, but for their number.
    head: Vec<u8>,
    rest: Vec<u8>,
}

#[derive(Default)]
struct Walk {
    accounts: BTreeMap<AccountId, AccountBytes>,
    values: Groups<ValueKey>,
    /// How many are encoded.
    doomed_done: usize,
    doomed: Vec<u8>,
}

/// What is encoded at the cut itself.
struct Ends {
    head: Vec<u8>,
    origins: Vec<u8>,
    /// The log, or the entries themselves.
    entries: Vec<u8>,
    named: Named,
    doomed: usize,
    history: Vec<u8>,
}

impl Walk {
    async fn accounts(&mut self, partition: &Partition) {
        let mut after: Option<AccountId> = None;
        loop {
            let next = {
                let state = partition.state.borrow();
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut rest = state.accounts.range((from, Bound::Unbounded));
                rest.next().map(|(id, _)| *id)
            };
            let Some(id) = next else { return };
            self.account(partition, id).await;
            after = Some(id);
        }
    }

    async fn account(&mut self, partition: &Partition, id: AccountId) {
        let mut bytes = AccountBytes::default();
        let mut last: Option<MailboxId> = None;
        loop {
            {
                let state = partition.state.borrow();
                // Purged meanwhile, and touched by that.
                let Some(account) = state.accounts.get(&id) else {
                    return;
                };
                let put = put_sealed(partition);
                last = bytes
                    .mailboxes
                    .next(&account.mailboxes, last.as_ref(), &put);
            }
            yield_if_needed().await;
            if last.is_none() {
                break;
            }
        }
        let mut state = partition.state.borrow_mut();
        if let Some(account) = state.accounts.get_mut(&id) {
            // After the mailboxes: whatever place in the cache their rows name is below its end.
            bytes.head = head_of(id, account);
            bytes.rest = rest_of(account);
            self.accounts.insert(id, bytes);
        }
    }

    async fn values(&mut self, partition: &Partition) {
        let mut last = None;
        loop {
            last = {
                let state = partition.state.borrow();
                self.values.next(&state.values, last.as_ref(), &put_value)
            };
            if last.is_none() {
                return;
            }
            yield_if_needed().await;
        }
    }

    /// What changed of a long queue since its log was written ahead.
    async fn entries(&mut self, partition: &Partition, log: &mut Writing) {
        for _ in 0..SLICES_MAX {
            let is_more = {
                let mut state = partition.state.borrow_mut();
                queue::frame_slice(&mut state.accepted, log)
            };
            if !is_more {
                return;
            }
            yield_if_needed().await;
        }
    }

    /// Only the end of the list changes while a checkpoint is under way.
    async fn doomed(&mut self, partition: &Partition) {
        while partition.state.borrow().doomed.len() > self.doomed_done + DOOMED_MAX {
            self.some_doomed(&partition.state.borrow(), DOOMED_MAX);
            yield_if_needed().await;
        }
    }

    fn some_doomed(&mut self, state: &Catalogue, max: usize) {
        let mut w = Writer {
            out: std::mem::take(&mut self.doomed),
        };
        for (pseq, doomed) in state.doomed.iter().skip(self.doomed_done).take(max) {
            w.u64(pseq.0);
            doomed.encode(&mut w);
            self.doomed_done += 1;
        }
        self.doomed = w.out;
    }

    /// Encodes once more what was touched, with pauses.
    async fn again_slowly(&mut self, partition: &Partition, touched: Touched) {
        for (id, account) in touched.accounts {
            let mut mailboxes = account.mailboxes.into_iter();
            let mut rest = account.rest;
            loop {
                let mailboxes: BTreeSet<MailboxId> = mailboxes.by_ref().take(GROUP_MAX).collect();
                let done = mailboxes.len() < GROUP_MAX;
                let some = TouchedAccount { mailboxes, rest };
                rest = false;
                self.again(
                    partition,
                    Touched {
                        accounts: BTreeMap::from([(id, some)]),
                        ..Touched::default()
                    },
                );
                yield_if_needed().await;
                if done {
                    break;
                }
            }
        }
        let mut values = touched.values;
        while !values.is_empty() {
            let some = Touched {
                values: first_of(&mut values),
                ..Touched::default()
            };
            self.again(partition, some);
            yield_if_needed().await;
        }
    }

    /// Encodes once more what was touched. Synchronous.
    fn again(&mut self, partition: &Partition, touched: Touched) {
        let mut state = partition.state.borrow_mut();
        for (id, touched) in &touched.accounts {
            let Some(account) = state.accounts.get_mut(id) else {
                self.accounts.remove(id);
                continue;
            };
            let is_new = !self.accounts.contains_key(id);
            let bytes = self.accounts.entry(*id).or_default();
            let mailboxes = touched.mailboxes.iter();
            let put = put_sealed(partition);
            bytes.mailboxes.again(&account.mailboxes, mailboxes, &put);
            bytes.head = head_of(*id, account);
            if touched.rest || is_new {
                bytes.rest = rest_of(account);
            }
        }
        let values = touched.values.iter();
        self.values.again(&state.values, values, &put_value);
    }

    /// What is left, at the cut. Synchronous.
    fn ends(&mut self, partition: &Partition, log: &mut Writing) -> (PSeq, Ends) {
        let mut state = partition.state.borrow_mut();
        state.history.seal();
        partition.dirty.set(false);
        self.some_doomed(&state, usize::MAX);
        let mut head = Writer::default();
        head.out.extend_from_slice(MAGIC);
        head.u16(partition.id.0);
        head.u64(state.applied.0);
        head.u32(state.uidvalidity_last);
        head.u64(state.mailbox_last);
        let mut origins = Writer::default();
        put_origins(&mut origins, &state.origins);
        let named = queue::end(&mut state.accepted, log);
        let mut entries = Writer::default();
        put_entries(&mut entries, &state.accepted, named);
        let mut history = Writer::default();
        state.history.encode(&mut history);
        let ends = Ends {
            head: head.out,
            origins: origins.out,
            entries: entries.out,
            named,
            doomed: state.doomed.len(),
            history: history.out,
        };
        (state.applied, ends)
    }

    /// Puts all of it together.
    async fn pieces(self, ends: Ends) -> Vec<Vec<u8>> {
        let mut file = Pieces::default();
        file.put(&ends.head);
        file.count(self.accounts.len());
        for account in self.accounts.into_values() {
            file.put(&account.head);
            file.groups(account.mailboxes).await;
            file.put(&account.rest);
            yield_if_needed().await;
        }
        file.groups(self.values).await;
        file.put(&ends.origins);
        file.put(&ends.entries);
        file.count(ends.doomed);
        for part in self.doomed.chunks(PIECE_BYTES) {
            file.put(part);
            yield_if_needed().await;
        }
        file.put(&ends.history);
        file.end()
    }
}

fn first_of<K: Ord + Clone>(all: &mut BTreeSet<K>) -> BTreeSet<K> {
    let Some(after) = all.iter().nth(GROUP_MAX).cloned() else {
        return std::mem::take(all);
    };
    let later = all.split_off(&after);
    std::mem::replace(all, later)
}

/// The file as it grows.
#[derive(Default)]
struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    crc: Crc32c,
}

impl Pieces {
    fn put(&mut self, bytes: &[u8]) {
        self.crc = crc32c_append(self.crc, bytes);
        self.last.extend_from_slice(bytes);
        if self.last.len() >= PIECE_BYTES {
            self.full.push(std::mem::take(&mut self.last));
        }
    }

    fn count(&mut self, n: usize) {
        let mut w = Writer::default();
        w.count(n);
        self.put(&w.out);
    }

    async fn groups<K: Ord + Clone>(&mut self, groups: Groups<K>) {
        self.count(groups.count());
        for group in groups.all.into_values() {
            self.put(&group.bytes);
            yield_if_needed().await;
        }
    }

    fn end(mut self) -> Vec<Vec<u8>> {
        let crc = self.crc.0.to_le_bytes();
        self.last.extend_from_slice(&crc);
        self.full.push(self.last);
        self.full
    }
}

/// A mailbox whose log is padded first: what comes after this leaves the sectors alone that the
/// checkpoint makes durable.
fn put_sealed(partition: &Partition) -> impl Fn(&mut Writer, &MailboxId, &Rc<Mailbox>) {
    move |w, id, mailbox| {
        let end = mailbox.pending.borrow().log_end();
        if end != align(end) {
            mailbox.seal_log();
            partition.enqueue(mailbox);
        }
        put_mailbox(w, *id, mailbox);
    }
}

/// Where the entries of a queue are, and where that is here, these.
fn put_entries(w: &mut Writer, entries: &Entries, named: Named) {
    named.encode(w);
    let is_here = !named.is_there();
    w.count(if is_here { entries.len() } else { 0 });
    for pseq in entries.numbers_after(PSeq(0)).filter(|_| is_here) {
        w.u64(pseq.0);
        entries.encode(w, pseq);
    }
}

fn head_of(id: AccountId, account: &mut AccountState) -> Vec<u8> {
    account.cache.seal();
    let mut w = Writer::default();
    w.u64(id.0);
    w.u64(account.bytes);
    w.u64(account.messages);
    w.u64(account.cache.end);
    w.i64(account.cache.dead);
    w.u64(account.cache.first);
    w.u64(account.cache.second.unwrap_or(0));
    w.out
}

fn rest_of(account: &AccountState) -> Vec<u8> {
    let mut w = Writer::default();
    put_subscriptions(&mut w, account);
    put_values(&mut w, &account.values);
    w.out
}
