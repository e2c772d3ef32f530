//! Quota: what an account may hold, how full it is, and the marks at which its owner is warned.
//!
//! A record that adds messages is checked against applied state and what is in flight, before it
//! has its place: so the check and the change are one. What crosses a mark (75, 90, 100 %) says
//! so in the very record that crosses, as a generic value of the account (`quota`/`mark`): `90
//! due` until the warning is placed, and `90` from the record on that places it. So there is one
//! warning for each crossing, whatever fails in between. Nobody has to watch for usage that falls:
//! the next addition compares the mark with the usage that it finds.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::journal::Class;
use super::partition::{Partition, bare_newlines};
use super::shard::Shard;
use super::{AccountRef, AdoptedRow, BodyRef, Flags, Message, Op, Remote, StoreError, ValueChange};
use crate::base::{AccountId, ByteSize, PartitionId};
use crate::runtime::local::Notify;
use crate::runtime::unix_now;

/// The limits of one account; what is `None` has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub bytes: Option<ByteSize>,
    pub messages: Option<u64>,
}

impl Quota {
    /// No limit at all.
    pub const NONE: Quota = Quota {
        bytes: None,
        messages: None,
    };

    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Quota::NONE
    }
}

/// What a quota counts (RFC 9208 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes.
    Storage,
    Messages,
}

/// How full an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    pub bytes: u64,
    pub messages: u64,
    pub limit: Quota,
}

/// A mailbox by its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderSize {
    pub name: String,
    pub bytes: u64,
    pub messages: u64,
}

/// A warning that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDue {
    pub account: AccountId,
    pub partition: PartitionId,
    /// The mark that is told, in percent.
    pub percent: u8,
    /// The mark that was crossed: lower, where the warning itself crosses one more.
    pub mark: u8,
    pub usage: QuotaUsage,
    /// Octets of a message for which there was no room, where that is why 100 is told.
    pub refused: Option<u64>,
    /// The largest, largest first.
    pub folders: Vec<FolderSize>,
}

/// What came of placing a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warned {
    Told,
    /// Another mark was crossed meanwhile, for which another warning is due.
    Superseded,
    /// It would itself cross a higher mark, and say less than is true: to be written anew.
    Crosses(QuotaUsage),
}

/// Where current limits are looked up: what a session brought along may be days old.
pub type QuotaBook = Rc<dyn Fn(AccountId) -> Option<Quota>>;

/// The marks, in percent of the limit that is nearest.
const MARKS: [u8; 3] = [75, 90, 100];
const FULL: u8 = 100;
/// Mail that is refused with this much used is refused because the mailbox is full. With less, it
/// is that message which is large.
const NEARLY_FULL: u8 = 90;

const NAMESPACE: &str = "quota";
const KEY: &[u8] = b"mark";

/// Folders that a warning names.
const FOLDERS_NAMED: usize = 5;

impl QuotaUsage {
    /// Percent used of the limit that is nearest, rounded down; 0 without any.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let of = |used: u64, limit: u64| match limit {
            0 => 100,
            limit => (u128::from(used) * 100 / u128::from(limit)) as u64,
        };
        let bytes = self.limit.bytes.map_or(0, |limit| of(self.bytes, limit.0));
        let messages = self.limit.messages.map_or(0, |max| of(self.messages, max));
        bytes.max(messages)
    }

    /// The highest mark reached; 0 below all.
    #[must_use]
    pub fn mark(&self) -> u8 {
        let percent = self.percent();
        let reached = MARKS.iter().rev().find(|mark| percent >= u64::from(**mark));
        reached.copied().unwrap_or(0)
    }

    fn with(&self, bytes: u64, messages: u64) -> QuotaUsage {
        QuotaUsage {
            bytes: self.bytes.saturating_add(bytes),
            messages: self.messages.saturating_add(messages),
            ..*self
        }
    }

    /// Whether so much more is within the limits.
    fn check(&self, bytes: u64, messages: u64) -> Result<(), StoreError> {
        let fits = |of, used: u64, more: u64, limit: Option<u64>| match limit {
            Some(limit) if used.saturating_add(more) > limit => Err(StoreError::OverQuota {
                of,
                used,
                more,
                limit,
            }),
            _ => Ok(()),
        };
        let limit = self.limit.bytes.map(|limit| limit.0);
        fits(Resource::Storage, self.bytes, bytes, limit)?;
        fits(
            Resource::Messages,
            self.messages,
            messages,
            self.limit.messages,
        )
    }
}

/// What a warned mark still stands for, with so much used: below it, it is armed again. 100 is
/// also told for mail that was refused; it stays told until there is room again.
fn standing(warned: u8, used: u8) -> u8 {
    match warned == FULL && used >= NEARLY_FULL {
        true => FULL,
        false => warned.min(used),
    }
}

/// The mark that going from one usage to the other crosses.
fn crossed(warned: u8, before: &QuotaUsage, after: &QuotaUsage) -> Option<u8> {
    let mark = after.mark();
    (mark > standing(warned, before.mark())).then_some(mark)
}

/// The mark in a value of an account, and whether its warning is still due.
fn parse(value: &[u8]) -> Option<(u8, bool)> {
    let text = std::str::from_utf8(value).ok()?;
    let (mark, due) = match text.strip_suffix(" due") {
        Some(mark) => (mark, true),
        None => (text, false),
    };
    mark.parse().ok().map(|mark| (mark, due))
}

/// The mark that a value sets, if it is one, and whether a warning is then due.
pub(super) fn mark_set(namespace: &str, key: &[u8], value: Option<&[u8]>) -> Option<(u8, bool)> {
    let is_mark = namespace == NAMESPACE && key == KEY;
    is_mark.then(|| value.and_then(parse).unwrap_or_default())
}

fn set_mark(account: AccountId, mark: u8, due: bool) -> Op {
    let text = match due {
        true => format!("{mark} due"),
        false => mark.to_string(),
    };
    Op::ValueSet {
        account: Some(account),
        namespace: NAMESPACE.to_owned(),
        key: KEY.to_vec(),
        value: Some(text.into_bytes()),
    }
}

/// Octets of a message as they count: with CRLF line ends, as IMAP shows it.
pub(super) fn octets(message: &Message, prefix: &[u8]) -> u64 {
    message.size + u64::from(bare_newlines(message)) + prefix.len() as u64
}

/// Which accounts have a warning due, and where limits are looked up.
#[derive(Default)]
pub(super) struct Watch {
    book: RefCell<Option<QuotaBook>>,
    due: RefCell<VecDeque<(PartitionId, AccountId)>>,
    /// Octets of the message that was refused, for warnings of that.
    refused: RefCell<HashMap<AccountId, u64>>,
    told: Notify,
}

impl Watch {
    /// A value was applied.
    pub fn saw(&self, partition: PartitionId, change: &ValueChange) {
        let (Some(account), Some(value)) = (change.account, &change.value) else {
            return;
        };
        if change.namespace == NAMESPACE && change.key == KEY {
            self.note(partition, account, value);
        }
    }

    fn note(&self, partition: PartitionId, account: AccountId, value: &[u8]) {
        if matches!(parse(value), Some((_, true))) {
            self.due.borrow_mut().push_back((partition, account));
            self.told.notify_all();
        }
    }

    /// Warnings that a former process owes.
    pub fn look_through(&self, partition: &Partition) {
        let key = (NAMESPACE.to_owned(), KEY.to_vec());
        for (id, account) in &partition.state.borrow().accounts {
            if let Some(value) = account.values.get(&key) {
                self.note(partition.id, *id, value);
            }
        }
    }
}

impl Partition {
    /// Usage against `limit`, with what is in flight.
    fn usage_of(&self, account: AccountId, limit: Quota) -> QuotaUsage {
        let (bytes, messages) = self.usage(account);
        QuotaUsage {
            bytes,
            messages,
            limit,
        }
    }

    /// The mark that was told last, and whether its warning is still due.
    fn mark(&self, account: AccountId) -> (u8, bool) {
        let key = (NAMESPACE.to_owned(), KEY.to_vec());
        let state = self.state.borrow();
        let value = state
            .accounts
            .get(&account)
            .and_then(|a| a.values.get(&key));
        let applied = value.and_then(|value| parse(value)).unwrap_or_default();
        let flight = self.flight.borrow();
        let in_flight = flight.account(account).and_then(|f| f.mark);
        in_flight.unwrap_or(applied)
    }

    /// Of the folders that count, largest first.
    pub fn folder_sizes(&self, account: AccountId) -> Vec<FolderSize> {
        let state = self.state.borrow();
        let Some(account) = state.accounts.get(&account) else {
            return Vec::new();
        };
        let size = |mailbox: &Rc<super::mailbox::Mailbox>| {
            let meta = mailbox.meta.borrow();
            FolderSize {
                name: meta.name.clone(),
                bytes: meta.weight.size,
                messages: meta.weight.messages.into(),
            }
        };
        let counted = account.mailboxes.values().filter(|m| !m.archive.get());
        let mut folders: Vec<FolderSize> = counted.map(size).collect();
        folders.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        folders
    }
}

/// What one record adds to accounts.
pub(super) struct Charge<'a> {
    shard: &'a Shard,
    partition: &'a Partition,
    added: Vec<(AccountRef, u64, u64)>,
}

impl<'a> Charge<'a> {
    /// Of what is in a folder already, and becomes messages of one account whatever its quota.
    pub fn of_rows(
        shard: &'a Shard,
        partition: &'a Partition,
        account: AccountId,
        rows: &[AdoptedRow],
    ) -> Self {
        let mut charge = Charge::new(shard, partition);
        let account = AccountRef {
            account,
            partition: partition.id,
            quota: Quota::NONE,
        };
        let bytes = rows.iter().map(|row| row.size).sum();
        charge.add(account, bytes, rows.len() as u64);
        charge
    }

    pub fn new(shard: &'a Shard, partition: &'a Partition) -> Self {
        Charge {
            shard,
            partition,
            added: Vec::new(),
        }
    }

    pub fn add(&mut self, account: AccountRef, bytes: u64, messages: u64) {
        let known = |entry: &&mut (AccountRef, u64, u64)| entry.0.account == account.account;
        match self.added.iter_mut().find(known) {
            Some(entry) => (entry.1, entry.2) = (entry.1 + bytes, entry.2 + messages),
            None => self.added.push((account, bytes, messages)),
        }
    }

    /// Does what was added so far fit the quota that `account` came with?
    pub fn check(&self, account: AccountRef) -> Result<(), StoreError> {
        let of_account = |entry: &&(AccountRef, u64, u64)| entry.0.account == account.account;
        let added = self.added.iter().find(of_account);
        let (bytes, messages) = added.map_or((0, 0), |added| (added.1, added.2));
        check(self.shard, self.partition, account, bytes, messages)
    }

    /// For the end of the record: the marks that it crosses.
    pub fn marks(&self) -> Vec<Op> {
        let mark = |(account, bytes, messages): &(AccountRef, u64, u64)| {
            let limit = self.shard.limits(*account);
            let before = self.partition.usage_of(account.account, limit);
            let after = before.with(*bytes, *messages);
            // The usual case, and nothing is looked up for it.
            if after.mark() == 0 {
                return None;
            }
            let (warned, _) = self.partition.mark(account.account);
            crossed(warned, &before, &after).map(|mark| set_mark(account.account, mark, true))
        };
        self.added.iter().filter_map(mark).collect()
    }
}

/// Would so much more fit the quota that `account` came with, with what is in flight?
pub(super) fn check(
    shard: &Shard,
    partition: &Partition,
    account: AccountRef,
    bytes: u64,
    messages: u64,
) -> Result<(), StoreError> {
    let used = partition.usage_of(account.account, account.quota);
    let outcome = used.check(bytes, messages);
    if outcome.is_err() && used.mark() >= NEARLY_FULL {
        note_full(shard, partition, account.account, bytes);
    }
    outcome
}

/// Mail is refused: its owner is told once, until there is room again.
fn note_full(shard: &Shard, partition: &Partition, account: AccountId, bytes: u64) {
    if partition.mark(account).0 == FULL {
        return;
    }
    if note(shard, partition, account, FULL) {
        let mut refused = shard.owned.quota.refused.borrow_mut();
        refused.insert(account, bytes);
    }
}

/// A warning is due, in a record of its own. Not waited for, and no harm where the journal does not
/// take it: whoever comes upon it next tries again.
fn note(shard: &Shard, partition: &Partition, account: AccountId, mark: u8) -> bool {
    let is_there = partition.state.borrow().accounts.contains_key(&account);
    if !is_there || partition.flight.borrow().is_barred(account) {
        return false;
    }
    let op = set_mark(account, mark, true);
    let noted = shard.submit(partition, vec![op], Vec::new(), Class::Change);
    if let Err(why) = &noted {
        tracing::debug!(?why, %account, "quota mark put off");
    }
    noted.is_ok()
}

impl Shard {
    /// The limits in force now.
    pub fn limits(&self, account: AccountRef) -> Quota {
        let book = self.owned.quota.book.borrow().clone();
        let current = book.and_then(|book| book(account.account));
        current.unwrap_or(account.quota)
    }

    /// The account with the limits in force now.
    pub fn current(&self, account: AccountRef) -> AccountRef {
        AccountRef {
            quota: self.limits(account),
            ..account
        }
    }

    /// Usage as applied: what a client sees, it can find in its mailboxes.
    pub fn quota_usage(&self, account: AccountRef) -> QuotaUsage {
        let partition = self.owned.partition(account.partition);
        let state = partition.state.borrow();
        let of_account = state.accounts.get(&account.account);
        let (bytes, messages) = of_account.map_or((0, 0), |a| (a.bytes, a.messages));
        QuotaUsage {
            bytes,
            messages,
            limit: self.limits(account),
        }
    }
}

impl Remote {
    /// Where this shard looks up current limits from now on.
    pub fn set_quota_book(&self, book: QuotaBook) {
        *self.shard().owned.quota.book.borrow_mut() = Some(book);
    }

    /// The limits of an account of this shard are others now; `before` is not known at a start.
    /// What is used may be above a mark of the new ones. False where that cannot be noted now.
    pub fn look_at_quota(&self, account: AccountRef, before: Option<Quota>) -> bool {
        let shard = self.shard();
        let Ok(partition) = shard.partition(account.partition) else {
            return true;
        };
        let id = account.account;
        if !partition.state.borrow().accounts.contains_key(&id) {
            return true;
        }
        let after = partition.usage_of(id, shard.limits(account));
        let before = QuotaUsage {
            limit: before.unwrap_or(after.limit),
            ..after
        };
        let (warned, _) = partition.mark(id);
        match crossed(warned, &before, &after) {
            Some(mark) => note(shard, &partition, id, mark),
            None => true,
        }
    }

    /// The next warning that is due to an account of this shard. Cancel-safe.
    pub async fn quota_due(&self) -> QuotaDue {
        let watch = &self.shard().owned.quota;
        loop {
            let told = watch.told.notified();
            let next = watch.due.borrow_mut().pop_front();
            let Some((partition, account)) = next else {
                told.await;
                continue;
            };
            let Ok(home) = self.shard().partition(partition) else {
                continue;
            };
            let (percent, due) = home.mark(account);
            if !due || !home.state.borrow().accounts.contains_key(&account) {
                continue;
            }
            let of_account = AccountRef {
                account,
                partition,
                quota: Quota::default(),
            };
            let mut folders = home.folder_sizes(account);
            folders.truncate(FOLDERS_NAMED);
            let refused = watch.refused.borrow_mut().remove(&account);
            return QuotaDue {
                account,
                partition,
                percent,
                mark: percent,
                usage: self.shard().quota_usage(of_account),
                refused: refused.filter(|_| percent == FULL),
                folders,
            };
        }
    }

    /// Puts back a warning that could not be placed.
    pub fn quota_still_due(&self, due: &QuotaDue) {
        let watch = &self.shard().owned.quota;
        let entry = (due.partition, due.account);
        if let Some(bytes) = due.refused {
            watch.refused.borrow_mut().insert(due.account, bytes);
        }
        watch.due.borrow_mut().push_back(entry);
        watch.told.notify_all();
    }

    /// Places a warning in the INBOX, whatever the quota, and notes that it is told: one record.
    pub async fn warn_of_quota(
        &self,
        due: &QuotaDue,
        message: Arc<Message>,
    ) -> Result<Warned, StoreError> {
        let shard = self.shard();
        let partition = shard.partition(due.partition)?;
        shard.turn(&partition, &[due.account]).await?;
        if partition.mark(due.account) != (due.mark, true) {
            return Ok(Warned::Superseded);
        }
        let ops = {
            let state = partition.state.borrow();
            let account = state.accounts.get(&due.account);
            let inbox = account.and_then(|a| a.find("INBOX"));
            let inbox = inbox.ok_or(StoreError::NoMailbox)?;
            let now = unix_now();
            let before = partition.usage_of(due.account, due.usage.limit);
            // Told of what it is with the warning itself, which must not cause another.
            let after = before.with(octets(&message, &[]), 1);
            if after.mark() > due.percent {
                return Ok(Warned::Crosses(after));
            }
            let place = Op::Placed {
                account: due.account,
                mailbox: inbox.id,
                uid: partition.next_uid(inbox)?,
                modseq: partition.highest(inbox).next(shard.epoch),
                flags: Flags::default(),
                keywords: Vec::new(),
                internal_date: now,
                saved: now,
                body: BodyRef::New(0),
                prefix: Vec::new(),
                apart: false,
                origin: None,
                trace: None,
            };
            let told = set_mark(due.account, due.percent, false);
            vec![place, told]
        };
        let bodies = vec![message.clone()];
        let ticket = shard.submit(&partition, ops, bodies, Class::NewMail)?;
        shard.spools.given(&message);
        shard.commit(ticket).await?;
        Ok(Warned::Told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64) -> QuotaUsage {
        QuotaUsage {
            bytes,
            messages: 0,
            limit: Quota {
                bytes: Some(ByteSize(1000)),
                messages: None,
            },
        }
    }

    #[track_caller]
    fn check(warned: u8, before: u64, after: u64, want: Option<u8>) {
        let got = crossed(warned, &usage(before), &usage(after));
        assert_eq!(got, want, "{warned}: {before} to {after}");
    }

    #[test]
    fn crossings() {
        check(0, 0, 749, None);
        check(0, 0, 750, Some(75));
        check(0, 700, 950, Some(90));
        check(0, 0, 1000, Some(100));
        check(75, 760, 899, None);
        check(75, 760, 900, Some(90));
        // It fell below, so it is armed again.
        check(75, 700, 760, Some(75));
        check(90, 800, 899, None);
        check(90, 800, 900, Some(90));
        // Told of refused mail, and still without room.
        check(100, 950, 1000, None);
        check(100, 850, 900, Some(90));
        // The limit was lowered.
        check(0, 950, 951, Some(90));
    }

    #[test]
    fn the_nearest_limit_counts() {
        let of = |bytes, messages, max_bytes, max_messages| {
            let limit = Quota {
                bytes: Some(ByteSize(max_bytes)),
                messages: Some(max_messages),
            };
            let usage = QuotaUsage {
                bytes,
                messages,
                limit,
            };
            usage.percent()
        };
        assert_eq!(of(10, 8, 100, 10), 80);
        assert_eq!(of(90, 8, 100, 10), 90);
        assert_eq!(of(u64::MAX, 0, u64::MAX, 1), 100);
        assert_eq!(usage(1500).percent(), 150);
        let none = QuotaUsage {
            limit: Quota::NONE,
            ..usage(5)
        };
        assert_eq!(none.percent(), 0);
    }

    #[test]
    fn marks_are_read_back() {
        for (mark, due) in [(75, true), (90, false), (100, true)] {
            let Op::ValueSet {
                namespace,
                key,
                value,
                ..
            } = set_mark(AccountId(1), mark, due)
            else {
                panic!("a value");
            };
            let read = mark_set(&namespace, &key, value.as_deref());
            assert_eq!(read, Some((mark, due)));
        }
        assert_eq!(mark_set("vacation", KEY, None), None);
    }
}
