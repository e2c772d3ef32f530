//! Bringing back what was removed: first told, then done. Only ever adds.
//!
//! A restored message is placed as if it had come anew (its body goes through the journal), with
//! its flags, keywords, date and email id. The record that places it also marks what it was
//! restored from, so that doing it again does nothing more, whatever was cut off where.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::choose::{Copy, End, Fate, choose};
use super::marks::Marks;
use super::read::{Gone, Past, Reader};
use super::renames::{Renames, below};
use crate::base::{BATCH_BYTES_MAX, Deadline, INLINE_BODY_BYTES_MAX, MailboxId, Uid, UnixMs};
use crate::runtime::{DiskErrorKind, now, unix_now, yield_if_needed};
use crate::store::account::{ensure_account, ensure_mailbox};
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::packed::{Stored, Unreadable};
use crate::store::partition::Partition;
use crate::store::quota::{Charge, octets};
use crate::store::shard::Shard;
use crate::store::{
    AccountRef, Body, BodyRef, Incoming, Message, Op, SpecialUse, StoreError, checkpoint, maildir,
    repair,
};

/// Rows of a report; what is beyond is counted only.
const ROWS_MAX: usize = 100_000;
/// Messages of one record, and what they may take of its batch.
const PLACES_MAX: usize = 200;
const INLINE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// Longest work for one request; the next one goes on.
const WORK_SPAN: Duration = Duration::from_secs(30);
const PIECE_BYTES: u64 = 256 << 10;
/// Copies of one content that are looked at on the shard, and not on the pool.
const CHOSEN_HERE_MAX: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Only what was there at this moment; without it everything that is kept.
    pub at: Option<UnixMs>,
    /// Only messages of this folder and those below it, by its name now, when they were removed, or
    /// at that moment (without one: at any time that is kept). With a moment it is as it was then,
    /// also where a message is in another folder by now.
    pub folder: Option<String>,
    /// Also what the account has in some folder already.
    pub duplicates: bool,
    /// Restore at most so many messages now; 0 only tells.
    pub messages_max: u64,
}

/// What would be done, or was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    pub rows: Vec<RestoreRow>,
    /// Rows beyond what a report takes.
    pub left_out: u64,
    /// Deleted folders that would be, or were, made again.
    pub folders: Vec<String>,
    /// Messages that can be restored and are not yet, and their octets.
    pub messages: u64,
    pub bytes: u64,
    /// Messages restored by this request.
    pub restored: u64,
    /// Octets, and messages, by which the account would be above its quota.
    pub over_quota: u64,
    #[serde(default)]
    pub over_quota_messages: u64,
    /// Parts of the history that could not be read.
    pub damaged: u64,
    /// No folder of the name that was given is or was there.
    pub is_unknown: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRow {
    pub folder: String,
    pub uid: Uid,
    pub state: RestoreState,
    /// When it was removed; `None` if it was not.
    pub removed: Option<UnixMs>,
    pub received: UnixMs,
    pub size: u64,
    /// First half of the BLAKE3 of its body, in hexadecimal digits.
    pub email_id: String,
}

impl RestoreReport {
    /// What both did, as the later one leaves it.
    pub fn go_on(&mut self, later: RestoreReport) {
        let earlier = std::mem::replace(self, later);
        let restored = |row: &RestoreRow| row.state == RestoreState::Restored;
        self.rows.extend(earlier.rows.into_iter().filter(restored));
        self.rows.sort_by(RestoreRow::order);
        let most = self.rows.len().min(ROWS_MAX);
        self.left_out += (self.rows.len() - most) as u64;
        self.rows.truncate(most);
        self.folders.extend(earlier.folders);
        self.restored += earlier.restored;
    }
}

impl RestoreRow {
    /// By folder, in the order of their going.
    fn order(&self, other: &RestoreRow) -> std::cmp::Ordering {
        let key = |row: &RestoreRow| (row.removed, row.uid);
        self.folder
            .cmp(&other.folder)
            .then(key(self).cmp(&key(other)))
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreState {
    /// Can be restored.
    Removed,
    /// Was restored by this request.
    Restored,
    /// The account has it, here or in another folder.
    There,
    /// The same message is restored from another folder.
    Duplicate,
    /// Its file is kept no more.
    Gone,
    /// Its file is not what the history says.
    Damaged,
}

/// Tells, and restores up to `messages_max` messages. On the owner of the account's partition.
pub(in crate::store) async fn restore(
    shard: &Shard,
    account: AccountRef,
    request: &RestoreRequest,
) -> Result<RestoreReport, StoreError> {
    let partition = shard.partition(account.partition)?;
    let unwritten = {
        let state = partition.state.borrow();
        !state.doomed.is_empty() || state.history.is_pending()
    };
    if unwritten {
        // What was removed a moment ago is in the history then, and its file where it is kept.
        checkpoint::checkpoint(shard).await?;
    }
    let reader = Reader {
        disk: &shard.disk,
        layout: &shard.layout,
        partition: &partition,
        account: account.account,
    };
    let past = reader.past().await?;
    let mut work = Work {
        shard,
        account,
        marks: Marks::load(&partition, account.account),
        renames: Renames::load(&partition, account.account),
        partition: partition.clone(),
        request,
        plan: Vec::new(),
        folders: Vec::new(),
        there: Vec::new(),
        report: RestoreReport {
            damaged: past.damaged,
            ..RestoreReport::default()
        },
    };
    work.plan(past).await?;
    if request.messages_max > 0 {
        ensure_account(shard, &partition, account.account).await?;
        work.make_folders().await?;
        work.place_all().await?;
    }
    Ok(work.finish())
}

/// Copies of each content that is looked at, with the place in the plan of what is in it.
#[derive(Default)]
struct Copies {
    of: HashMap<Content, Vec<(Copy, Option<usize>)>>,
    places: HashMap<String, u32>,
    /// Each folder for itself: what one had is not there because another has it.
    by_place: bool,
}

/// Email id, and the place where that counts.
type Content = ([u8; 16], u32);

impl Copies {
    fn place(&mut self, folder: &str) -> u32 {
        let next = self.places.len() as u32;
        *self.places.entry_ref(folder).or_insert(next)
    }

    fn content(&self, email_id: [u8; 16], place: u32) -> Content {
        (email_id, if self.by_place { place } else { 0 })
    }

    fn add(&mut self, email_id: [u8; 16], copy: Copy, plan: Option<usize>) {
        let content = self.content(email_id, copy.place);
        self.of.entry(content).or_default().push((copy, plan));
    }
}

/// Whether a folder is the one that is named, or below it.
fn is_or_below(name: &str, of: &str) -> bool {
    below(name, of).is_some()
}

/// A message of the past and what is to become of it.
struct Planned {
    gone: Gone,
    /// The mailbox it goes to, by its name now.
    folder: String,
    state: RestoreState,
}

struct Work<'w> {
    shard: &'w Shard,
    account: AccountRef,
    partition: Rc<Partition>,
    request: &'w RestoreRequest,
    marks: Marks,
    renames: Renames,
    plan: Vec<Planned>,
    /// Deleted folders to be made again.
    folders: Vec<(MailboxId, String)>,
    /// Rows that were there at the moment asked for, and are.
    there: Vec<RestoreRow>,
    report: RestoreReport,
}

impl Work<'_> {
    // ---- what would be done ----

    async fn plan(&mut self, past: Past) -> Result<(), StoreError> {
        let wanted = self.request.folder.as_deref().map(maildir::canonical);
        self.report.is_unknown = wanted
            .as_deref()
            .is_some_and(|of| !self.is_known(of, &past));
        let at = self.request.at;
        let was_there = |gone: &Gone| at.is_none_or(|at| gone.row.saved <= at && at < gone.head.at);
        let mut copies = Copies {
            by_place: at.is_some() && wanted.is_some(),
            ..Copies::default()
        };
        for gone in past.messages {
            let folder = self.name_now(gone.head.mailbox, &gone.head.name);
            let is_of = self.is_of(wanted.as_deref(), &folder, unix_now())
                || self.is_of(wanted.as_deref(), &gone.head.name, gone.head.at);
            let is_asked = is_of && was_there(&gone);
            let is_marked = self.marks.contains(gone.head.mailbox, gone.row.uid);
            let is_planned = is_asked && !is_marked;
            let plan = is_planned.then_some(self.plan.len());
            let end = match is_marked {
                true => End::Restored {
                    at: gone.head.at,
                    is_wanted: is_asked,
                },
                false => End::Removed {
                    at: gone.head.at,
                    is_wanted: is_asked && gone.file.is_some(),
                    with_folder: gone.with_folder,
                },
            };
            let copy = Copy {
                mailbox: gone.head.mailbox,
                place: copies.place(&folder),
                is_waste: self.is_waste(gone.head.mailbox, &folder),
                saved: gone.row.saved,
                end,
            };
            copies.add(gone.row.cold.email_id, copy, plan);
            if is_planned {
                let state = match gone.file {
                    Some(_) => RestoreState::Removed,
                    None => RestoreState::Gone,
                };
                self.plan.push(Planned {
                    gone,
                    folder,
                    state,
                });
            }
        }
        for head in past.folders {
            let marked = self.marks.contains(head.mailbox, Uid(0));
            let filled = self
                .plan
                .iter()
                .any(|p| p.gone.head.mailbox == head.mailbox);
            let existed = at.is_none_or(|at| at < head.at && filled);
            let made = self.folders.iter().any(|(_, name)| *name == head.name);
            let is_of = self.is_of(wanted.as_deref(), &head.name, head.at);
            if is_of && existed && !marked && !made && !self.is_folder(&head.name) {
                self.folders.push((head.mailbox, head.name.clone()));
            }
        }
        // Outer ones first.
        self.folders.sort_by(|(_, a), (_, b)| a.cmp(b));
        copies
            .of
            .retain(|_, of| of.iter().any(|(_, plan)| plan.is_some()));
        self.look_at_present(wanted.as_deref(), &mut copies).await?;
        match self.request.duplicates {
            true => Ok(()),
            false => self.choose(copies).await,
        }
    }

    fn is_folder(&self, name: &str) -> bool {
        let state = self.partition.state.borrow();
        let of_account = state.accounts.get(&self.account.account);
        of_account.is_some_and(|a| a.find(name).is_some())
    }

    /// Whether a folder that had this name at `until` is the one that is asked for, or below it: by
    /// that name or by the one that it had at the moment that is asked for, if any is.
    fn is_of(&self, wanted: Option<&str>, name: &str, until: UnixMs) -> bool {
        let Some(wanted) = wanted else { return true };
        let earlier = || self.renames.before(name, until, self.request.at);
        is_or_below(name, wanted) || earlier().iter().any(|name| is_or_below(name, wanted))
    }

    /// Whether a folder of this name, or one below it, is or was there.
    fn is_known(&self, wanted: &str, past: &Past) -> bool {
        let is_it = |name: &str, until| {
            let earlier = self.renames.before(name, until, None);
            is_or_below(name, wanted) || earlier.iter().any(|name| is_or_below(name, wanted))
        };
        let mailboxes = self.mailboxes();
        let mut now = mailboxes.iter().map(|mailbox| mailbox.meta.borrow());
        let messages = past.messages.iter().map(|gone| &gone.head);
        let mut heads = past.folders.iter().chain(messages);
        now.any(|meta| is_it(&meta.name, unix_now()))
            || heads.any(|head| is_it(&head.name, head.at))
    }

    fn mailboxes(&self) -> Vec<Rc<Mailbox>> {
        let state = self.partition.state.borrow();
        let of_account = state.accounts.get(&self.account.account);
        of_account.map_or(Vec::new(), |a| a.mailboxes.values().cloned().collect())
    }

    /// What a mailbox is called now, or was when it went.
    fn name_now(&self, id: MailboxId, then: &str) -> String {
        match self.partition.mailbox(self.account.account, id) {
            Ok(mailbox) => mailbox.meta.borrow().name.clone(),
            Err(_) => then.to_owned(),
        }
    }

    /// Finds what the account still has, and with a moment and a folder what was there then.
    async fn look_at_present(
        &mut self,
        wanted: Option<&str>,
        copies: &mut Copies,
    ) -> Result<(), StoreError> {
        for mailbox in self.mailboxes() {
            let name = mailbox.meta.borrow().name.clone();
            let is_listed = wanted.is_some() && self.is_of(wanted, &name, unix_now());
            let listed = self.request.at.filter(|_| is_listed);
            let empty = mailbox.meta.borrow().weight.messages == 0;
            if empty || (copies.of.is_empty() && listed.is_none()) {
                continue;
            }
            let place = copies.place(&name);
            let loaded = mailbox.index.borrow().is_some();
            self.shard.owned.load(&mailbox, &self.shard.disk).await?;
            if let Some(index) = &*mailbox.index.borrow() {
                for row in 0..index.len() {
                    let email_id = index.cold(row).email_id;
                    let content = copies.content(email_id, place);
                    if let Some(of) = copies.of.get_mut(&content) {
                        let copy = Copy {
                            mailbox: mailbox.id,
                            place,
                            is_waste: false,
                            saved: index.saved(row),
                            end: End::There,
                        };
                        of.push((copy, None));
                    }
                    let scanned = index.scan_row(row);
                    if listed.is_some_and(|at| scanned.saved <= at) {
                        self.there.push(RestoreRow {
                            folder: name.clone(),
                            uid: scanned.uid,
                            state: RestoreState::There,
                            removed: None,
                            received: scanned.internal_date,
                            size: scanned.size,
                            email_id: hex(&email_id),
                        });
                    }
                }
            }
            if !loaded {
                mailbox.unload();
            }
            yield_if_needed().await;
        }
        Ok(())
    }

    /// Says which removals are undone, content by content.
    async fn choose(&mut self, copies: Copies) -> Result<(), StoreError> {
        // A folder that is named, or made again, gets what it had, whatever is elsewhere.
        let is_whole = |mailbox: MailboxId| {
            self.request.folder.is_some()
                || self.folders.iter().any(|(id, _)| *id == mailbox)
                || self.marks.contains(mailbox, Uid(0))
        };
        let mut whole: HashMap<MailboxId, bool> = HashMap::new();
        for of in copies.of.into_values() {
            let (mut of, plans): (Vec<Copy>, Vec<Option<usize>>) = of.into_iter().unzip();
            for copy in &mut of {
                if let End::Removed { with_folder, .. } = &mut copy.end {
                    let id = copy.mailbox;
                    *with_folder &= *whole.entry(id).or_insert_with(|| is_whole(id));
                }
            }
            let fates = match of.len() <= CHOSEN_HERE_MAX {
                true => choose(&of),
                false => {
                    let chosen = self.shard.disk.compute(move || choose(&of)).await;
                    chosen.map_err(|e| disk_error(&e))?
                }
            };
            for (fate, plan) in fates.into_iter().zip(plans) {
                let Some(plan) = plan else { continue };
                let state = &mut self.plan[plan].state;
                *state = match (fate, *state) {
                    (Fate::There, _) => RestoreState::There,
                    (Fate::Duplicate, RestoreState::Removed) => RestoreState::Duplicate,
                    (_, state) => state,
                };
            }
            yield_if_needed().await;
        }
        Ok(())
    }

    fn is_waste(&self, id: MailboxId, folder: &str) -> bool {
        match self.partition.mailbox(self.account.account, id) {
            Ok(mailbox) => {
                let of = mailbox.meta.borrow().special_use;
                matches!(of, Some(SpecialUse::Trash | SpecialUse::Junk))
            }
            Err(_) => ["Trash", "Junk"].contains(&folder),
        }
    }

    // ---- doing it ----

    /// Makes deleted folders again, subscribed, so that their owner sees them.
    async fn make_folders(&mut self) -> Result<(), StoreError> {
        for (id, name) in self.folders.clone() {
            self.folder(&name).await?;
            self.marks.add(id, Uid(0));
            let ops = vec![self.marks.op(self.account.account, id)];
            self.shard
                .turn(&self.partition, &[self.account.account])
                .await?;
            let ticket = self
                .shard
                .submit(&self.partition, ops, Vec::new(), Class::Change)?;
            self.shard.commit(ticket).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, name: &str, mark: Option<Op>) -> Result<(), StoreError> {
        let account = self.account.account;
        let mut ops = vec![Op::SubscriptionSet {
            account,
            name: name.to_owned(),
            subscribed: true,
        }];
        ops.extend(mark);
        let (shard, partition) = (self.shard, &self.partition);
        shard.turn(partition, &[account]).await?;
        let ticket = shard.submit(partition, ops, Vec::new(), Class::Change)?;
        shard.commit(ticket).await
    }

    /// The mailbox of that name; one that is made for it is subscribed.
    async fn folder(&self, name: &str) -> Result<Rc<Mailbox>, StoreError> {
        let account = self.account.account;
        if !self.is_folder(name) {
            ensure_mailbox(self.shard, &self.partition, account, name).await?;
            self.subscribe(name, None).await?;
        }
        ensure_mailbox(self.shard, &self.partition, account, name).await
    }

    async fn place_all(&mut self) -> Result<(), StoreError> {
        let until = Deadline::after(now(), WORK_SPAN);
        let mut by_folder: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let due = |p: &(usize, &Planned)| p.1.state == RestoreState::Removed;
        let most = usize::try_from(self.request.messages_max).unwrap_or(usize::MAX);
        for (n, planned) in self.plan.iter().enumerate().filter(due).take(most) {
            by_folder.entry(planned.folder.clone()).or_default().push(n);
        }
        for (folder, due) in by_folder {
            let mut due = due.into_iter().peekable();
            while due.peek().is_some() {
                if now() >= until.0 {
                    return Ok(());
                }
                let mut batch = Vec::new();
                let mut inline = 0;
                while batch.len() < PLACES_MAX && inline < INLINE_BYTES_MAX - PLACED_BYTES_MAX {
                    let Some(n) = due.next() else { break };
                    let Some((message, prefix)) = self.body(n).await? else {
                        self.note_damaged(n);
                        continue;
                    };
                    inline += message.digest.len() + prefix.len();
                    if let Body::Inline(bytes) = &message.body {
                        inline += bytes.len();
                    }
                    batch.push((n, message, prefix));
                }
                self.place(&folder, batch).await?;
            }
        }
        Ok(())
    }

    fn note_damaged(&mut self, n: usize) {
        let planned = &mut self.plan[n];
        planned.state = RestoreState::Damaged;
        let Gone {
            head, row, file, ..
        } = &planned.gone;
        if let Some(file) = file {
            let key = (head.account, head.mailbox, row.uid);
            repair::note_damaged_kept(&self.shard.owned, key, &planned.folder, file);
        }
    }

    /// The message as it was before its own prefix, and the prefix. `None` where the file is not
    /// what the history says.
    async fn body(&self, n: usize) -> Result<Option<(Arc<Message>, Vec<u8>)>, StoreError> {
        let Gone { row, file, .. } = &self.plan[n].gone;
        let Some(path) = file else { return Ok(None) };
        let apart = row.extra.as_ref().map(|e| e.prefix.to_vec());
        let mut prefix = apart.unwrap_or_default();
        let outside = u64::from(row.cold.bare_newlines) + prefix.len() as u64;
        let len = row.size.saturating_sub(outside);
        let scratch = || self.shard.spools.new_path();
        let file = match Stored::open(&self.shard.disk, path, len, scratch).await {
            Ok(file) => file,
            Err(Unreadable::Disk(e)) if e.kind != DiskErrorKind::NotFound => {
                return Err(disk_error(&e));
            }
            Err(_) => return Ok(None),
        };
        let in_file = u64::from(row.cold.prefix_bytes).saturating_sub(prefix.len() as u64);
        let in_file = in_file.min(len);
        prefix.extend(file.read(0..in_file).await?);
        let mut incoming = Incoming::new(self.shard.spools.clone(), INLINE_BODY_BYTES_MAX);
        let mut at = in_file;
        while at < len {
            let piece = (len - at).min(PIECE_BYTES);
            let bytes = file.read(at..at + piece).await?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            incoming.write(&bytes).await?;
        }
        let message = incoming.finish().await?;
        let is_it = message.blake3[..16] == row.cold.email_id;
        Ok(is_it.then_some((message, prefix)))
    }

    /// Places a batch, as one record with its marks.
    async fn place(
        &mut self,
        folder: &str,
        batch: Vec<(usize, Arc<Message>, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let account = self.account.account;
        let target = self.folder(folder).await?;
        self.shard.turn(&self.partition, &[account]).await?;
        if target.deleted.get() {
            return Err(StoreError::MailboxGone);
        }
        let mut uid = self.partition.next_uid(&target)?;
        let modseq = self.partition.highest(&target).next(self.shard.epoch);
        let saved = unix_now();
        let mut ops = Vec::with_capacity(batch.len() + 1);
        let mut bodies = Vec::with_capacity(batch.len());
        let mut sources: Vec<MailboxId> = Vec::new();
        let mut placed = Vec::with_capacity(batch.len());
        // Nothing is refused for the quota, and its owner is told.
        let mut charge = Charge::new(self.shard, &self.partition);
        for (n, message, prefix) in batch {
            charge.add(self.account, octets(&message, &prefix), 1);
            let Gone { head, row, .. } = &self.plan[n].gone;
            ops.push(Op::Placed {
                account,
                mailbox: target.id,
                uid,
                modseq,
                flags: row.flags.without(crate::store::Flags::DELETED),
                keywords: row.keywords.clone(),
                internal_date: row.internal_date,
                saved,
                body: BodyRef::New(bodies.len() as u16),
                prefix,
                apart: false,
                origin: None,
                trace: None,
            });
            bodies.push(message);
            placed.push(n);
            self.marks.add(head.mailbox, row.uid);
            if !sources.contains(&head.mailbox) {
                sources.push(head.mailbox);
            }
            uid = uid.next().ok_or(StoreError::UidsUsedUp)?;
        }
        ops.extend(sources.into_iter().map(|id| self.marks.op(account, id)));
        ops.extend(charge.marks());
        let class = Class::NewMail;
        let ticket = self
            .shard
            .submit(&self.partition, ops, bodies.clone(), class)?;
        bodies.iter().for_each(|body| self.shard.spools.given(body));
        self.shard.commit(ticket).await?;
        for n in placed {
            self.plan[n].state = RestoreState::Restored;
            self.report.restored += 1;
        }
        Ok(())
    }

    // ---- telling ----

    fn finish(mut self) -> RestoreReport {
        let report = &mut self.report;
        report.folders = self.folders.into_iter().map(|(_, name)| name).collect();
        let mut rows = self.there;
        for planned in &self.plan {
            let row = &planned.gone.row;
            if planned.state == RestoreState::Removed {
                report.messages += 1;
                report.bytes += row.size;
            }
            rows.push(RestoreRow {
                folder: planned.folder.clone(),
                uid: row.uid,
                state: planned.state,
                removed: Some(planned.gone.head.at),
                received: row.internal_date,
                size: row.size,
                email_id: hex(&row.cold.email_id),
            });
        }
        rows.sort_by(RestoreRow::order);
        report.left_out = rows.len().saturating_sub(ROWS_MAX) as u64;
        rows.truncate(ROWS_MAX);
        report.rows = rows;
        let (bytes, messages) = self.partition.usage(self.account.account);
        let limits = self.shard.limits(self.account);
        if let Some(limit) = limits.bytes {
            report.over_quota = (bytes + report.bytes).saturating_sub(limit.0);
        }
        if let Some(limit) = limits.messages {
            report.over_quota_messages = (messages + report.messages).saturating_sub(limit);
        }
        self.report
    }
}

/// What one more message may take of a record beside an inline body.
const PLACED_BYTES_MAX: usize = INLINE_BODY_BYTES_MAX + (512 << 10);

const _: () = assert!(PLACED_BYTES_MAX < INLINE_BYTES_MAX);

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
