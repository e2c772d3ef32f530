//! One partition: its applied state, what is in flight, and what waits to be settled.
//!
//! `apply` is the only way in which applied state changes. Live, replay and (later) the spare call
//! it with the same records in the same order and come to the same state. It runs to its end
//! without waiting, never decides and never fails: a record that does not fit is a bug or damage,
//! which is counted, not repaired.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::body::{Source, Unsettled};
use super::catalogue::{Catalogue, Touched};
use super::doom::Doomed;
use super::journal::{BodyPlace, Committed, Position};
use super::mailbox::{Cold, Extra, Mailbox, Meta, NameId, NewRow, Weight};
use super::maildir::{OwnName, Task, flag_letters, stem};
use super::overlay::Overlay;
use super::owned::Owned;
use super::{
    AdoptedPlace, AdoptedRow, BodyRef, Message, Op, Record, StoreError, ValueChange, archive,
};
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, PartitionId, Uid};
use crate::runtime::DiskError;
use crate::runtime::local::Notify;
use crate::wire::mime::DigestView;

pub(super) struct Partition {
    pub id: PartitionId,
    pub state: RefCell<Catalogue>,
    pub flight: RefCell<Overlay>,
    /// Told whenever something in flight is applied or a bar is lifted.
    pub turn: Notify,
    pub tasks: RefCell<VecDeque<(PSeq, Task)>>,
    pub unsettled: RefCell<HashMap<(PSeq, u16), Unsettled>>,
    /// Mailboxes with pending index bytes or names without their letters.
    pub unflushed: RefCell<Vec<Rc<Mailbox>>>,
    /// Accounts with digests that wait for the cache file.
    pub caches: RefCell<BTreeSet<AccountId>>,
    /// Changed since the last checkpoint.
    pub dirty: Cell<bool>,
    /// Mailbox id and UIDVALIDITY that were given out last, in flight or not.
    pub numbers: Cell<(u64, u32)>,
    /// Sources of outbox entries, and below which none is new. Of this life: attempts are too.
    pub low_waters: RefCell<HashMap<PartitionId, PSeq>>,
    /// Odd while files of expunged messages are being removed.
    pub dooms: Cell<u64>,
    /// Expunged messages up to this record have their names below `removed/`, as a durable
    /// catalogue says.
    pub kept: Cell<PSeq>,
    /// What is changed while a cut is made; nothing is noted where there is none.
    touched: RefCell<Option<Touched>>,
    /// Start-up: files of an earlier life, of records after this, may lie where ours go.
    pub recovering: Cell<Option<PSeq>>,
    /// A catalogue was taken, and is not in its place yet.
    pub cutting: Cell<bool>,
    /// Files that it names, and that were given up since.
    pub given_up: RefCell<Vec<PathBuf>>,
    /// What keeps it from being settled, where that is neither room nor time: the others go on.
    pub stuck: RefCell<Option<DiskError>>,
    /// Up to where in the journal a checkpoint covers its records.
    pub covered: Cell<Option<Position>>,
}

impl Partition {
    pub fn new(id: PartitionId, mut state: Catalogue) -> Rc<Partition> {
        state.accepted.home = id;
        let flight = Overlay::after(state.applied);
        let kept = Cell::new(state.applied);
        Rc::new(Partition {
            id,
            state: RefCell::new(state),
            flight: RefCell::new(flight),
            turn: Notify::new(),
            tasks: RefCell::default(),
            unsettled: RefCell::default(),
            unflushed: RefCell::default(),
            caches: RefCell::default(),
            dirty: Cell::new(false),
            numbers: Cell::new((0, 0)),
            low_waters: RefCell::default(),
            kept,
            dooms: Cell::new(0),
            touched: RefCell::default(),
            recovering: Cell::new(None),
            cutting: Cell::new(false),
            given_up: RefCell::default(),
            stuck: RefCell::default(),
            covered: Cell::new(None),
        })
    }

    pub fn mailbox(
        &self,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<Rc<Mailbox>, StoreError> {
        let state = self.state.borrow();
        state
            .mailbox(account, mailbox)
            .cloned()
            .ok_or(StoreError::MailboxGone)
    }

    /// Whether the account was purged. Ids are not given twice, so it does not come back.
    pub fn is_purged(&self, account: AccountId) -> bool {
        self.state.borrow().values.contains_key(&purged(account))
    }

    /// The UID and modseq that the next message of a mailbox gets.
    pub fn next_uid(&self, mailbox: &Mailbox) -> Result<Uid, StoreError> {
        let flight = self.flight.borrow();
        let taken = flight
            .mailbox(mailbox.account, mailbox.id)
            .map_or(Uid(0), |f| f.uidnext);
        let next = mailbox.meta.borrow().uidnext.max(taken);
        // RFC 9051 2.3.1.1: a mailbox that has used all UIDs takes no more messages.
        next.next().ok_or(StoreError::UidsUsedUp).map(|_| next)
    }

    /// The highest modseq given out for a mailbox.
    pub fn highest(&self, mailbox: &Mailbox) -> ModSeq {
        let flight = self.flight.borrow();
        let taken = flight
            .mailbox(mailbox.account, mailbox.id)
            .map_or(ModSeq(0), |f| f.highest);
        mailbox.meta.borrow().highest.max(taken)
    }

    /// Bytes and messages of an account, with what is in flight.
    pub fn usage(&self, account: AccountId) -> (u64, u64) {
        let state = self.state.borrow();
        let (bytes, messages) = state
            .accounts
            .get(&account)
            .map_or((0, 0), |a| (a.bytes, a.messages));
        let flight = self.flight.borrow();
        let (more, more_messages) = flight
            .account(account)
            .map_or((0, 0), |f| (f.bytes, f.messages));
        (
            bytes.saturating_add_signed(more),
            messages.saturating_add_signed(more_messages),
        )
    }

    /// Takes a record into the overlay, when the journal has it and before anything else happens.
    pub fn hold(&self, record: &Record) {
        let state = self.state.borrow();
        let size = |account, mailbox, uid| {
            let mailbox = state.mailbox(account, mailbox);
            mailbox
                .and_then(|m| {
                    let index = m.index.borrow();
                    let index = index.as_ref()?;
                    index.position(uid).map(|at| index.size(at))
                })
                .unwrap_or(0)
        };
        let mut flight = self.flight.borrow_mut();
        flight.hold(record, size);
        for (account, mailbox) in flight.mailboxes_of(record.pseq) {
            if let Some(mailbox) = state.mailbox(*account, *mailbox) {
                mailbox.flight.set(mailbox.flight.get() + 1);
            }
        }
    }

    /// The opposite of `hold`: the record is applied.
    pub fn release(&self, pseq: PSeq) {
        let mut flight = self.flight.borrow_mut();
        let state = self.state.borrow();
        for (account, mailbox) in flight.mailboxes_of(pseq) {
            if let Some(mailbox) = state.mailbox(*account, *mailbox) {
                // A mailbox that the record itself made was not there to be counted.
                mailbox.flight.set(mailbox.flight.get().saturating_sub(1));
            }
        }
        flight.release(pseq);
        drop(flight);
        self.turn.notify_all();
    }

    // ---- apply ----

    pub fn apply(&self, committed: &Committed, owned: &Owned) {
        let record = &committed.record;
        let pseq = record.pseq;
        {
            let mut state = self.state.borrow_mut();
            assert_eq!(
                pseq.0,
                state.applied.0 + 1,
                "records of a partition come in order"
            );
            state.applied = pseq;
        }
        self.dirty.set(true);
        if let Some(touched) = self.touched.borrow_mut().as_mut() {
            record.ops.iter().for_each(|op| touched.op(op));
        }
        for (ordinal, op) in record.ops.iter().enumerate() {
            self.apply_op(committed, ordinal as u16, op, owned);
        }
        self.doom_spools(committed);
        let structural = record.ops.iter().find_map(structural);
        self.release(pseq);
        if let Some(account) = structural {
            self.flight.borrow_mut().unbar(account);
            self.turn.notify_all();
        }
        let mut flight = self.flight.borrow_mut();
        flight.last = flight.last.max(pseq);
    }

    fn apply_op(&self, committed: &Committed, ordinal: u16, op: &Op, owned: &Owned) {
        let pseq = committed.record.pseq;
        match op {
            Op::MailboxCreated {
                account, mailbox, ..
            } => {
                self.apply_created(op, owned);
                self.task(pseq, *account, *mailbox, Task::Make);
            }
            Op::MailboxRenamed {
                account,
                mailbox,
                name,
            } => {
                if let Some(account) = self.state.borrow_mut().accounts.get_mut(account) {
                    account.rename(*mailbox, name);
                }
                let name = name.clone();
                self.task(pseq, *account, *mailbox, |m| Task::Move(m, name));
            }
            Op::MailboxDeleted {
                account,
                mailbox,
                at,
            } => self.apply_deleted((pseq, *at), *account, *mailbox, owned),
            Op::SubscriptionSet {
                account,
                name,
                subscribed,
            } => {
                let mut state = self.state.borrow_mut();
                let names = &mut state.accounts.entry(*account).or_default().subscriptions;
                if *subscribed {
                    names.insert(name.clone());
                } else {
                    names.remove(name);
                }
            }
            Op::Placed { .. } => self.apply_placed(committed, ordinal, op, owned),
            Op::FlagsSet {
                account,
                mailbox,
                modseq,
                entries,
            } => {
                if let Ok(mailbox) = self.mailbox(*account, *mailbox) {
                    mailbox.apply_flags(*modseq, entries);
                    self.queue(&mailbox);
                }
            }
            Op::Expunged {
                account,
                mailbox,
                modseq,
                uids,
                at,
            } => {
                let target = (*account, *mailbox);
                self.apply_expunged((pseq, *at), target, *modseq, uids, owned);
            }
            Op::AccountPurged { account } => self.apply_purged(pseq, *account),
            Op::ValueSet {
                account,
                namespace,
                key,
                value,
            } => {
                let change = ValueChange {
                    account: *account,
                    namespace: namespace.clone(),
                    key: key.clone(),
                    value: value.clone(),
                };
                self.apply_value(&change, owned);
            }
            Op::Accepted { .. } => self.apply_accepted(committed, op, owned),
            Op::Tried { entry, tried } => self.apply_tried(pseq, *entry, tried, owned),
            Op::Steered {
                entry,
                at,
                ordinals,
                steering,
            } => self.apply_steered(pseq, *entry, (*at, ordinals, steering), owned),
            Op::HandedOver {
                pseq: entry,
                ordinal,
            } => {
                self.apply_handed_over(pseq, *entry, *ordinal, owned);
            }
            // Where a body lies is known from checkpoints; the record is for a spare.
            Op::BodySettled { .. } => {}
            Op::Adopted {
                account,
                mailbox,
                rows,
            } => self.apply_adopted(pseq, *account, *mailbox, rows, owned),
            Op::MailboxSet {
                account,
                mailbox,
                uidnext,
                highest,
                special_use,
            } => {
                if let Ok(mailbox) = self.mailbox(*account, *mailbox) {
                    mailbox.apply_set(*uidnext, *highest, *special_use);
                }
            }
        }
    }

    fn apply_created(&self, op: &Op, owned: &Owned) {
        let Op::MailboxCreated {
            account,
            mailbox,
            name,
            uidvalidity,
            special_use,
        } = op
        else {
            return;
        };
        let meta = Meta {
            name: name.clone(),
            uidvalidity: *uidvalidity,
            uidnext: Uid(1),
            highest: ModSeq(1),
            weight: Weight::default(),
            recent_from: Uid(1),
            recent: 0,
            special_use: *special_use,
            generation: 0,
        };
        let path = owned.layout.folder(self.id, *account, name);
        let new = Mailbox::new(self.id, *account, *mailbox, meta, path, 0);
        new.made.set(false);
        let mut state = self.state.borrow_mut();
        // By a former version, which let hand-overs bring an account back.
        state.values.remove(&purged(*account));
        state.uidvalidity_last = state.uidvalidity_last.max(uidvalidity.0);
        state.mailbox_last = state.mailbox_last.max(mailbox.0);
        state.accounts.entry(*account).or_default().insert(new);
    }

    fn apply_placed(&self, committed: &Committed, ordinal: u16, op: &Op, owned: &Owned) {
        let Op::Placed {
            account,
            mailbox,
            uid,
            modseq,
            flags,
            keywords,
            internal_date,
            saved,
            body,
            prefix,
            apart,
            origin,
            trace: _,
        } = op
        else {
            return;
        };
        let pseq = committed.record.pseq;
        let name = NameId {
            partition: self.id,
            pseq,
            ordinal,
        };
        let mut state = self.state.borrow_mut();
        if let Some(key) = origin {
            state
                .origins
                .entry(key.source)
                .or_default()
                .insert((key.pseq, key.ordinal));
        }
        let Some(target) = state.mailbox(*account, *mailbox).cloned() else {
            owned.counters.misfits.set(owned.counters.misfits.get() + 1);
            return;
        };
        let Some(of_account) = state.accounts.get_mut(account) else {
            return;
        };
        let letters = flag_letters(*flags);
        let (cold, extra, size, unsettled) = match *body {
            BodyRef::New(n) | BodyRef::Handed(n) => {
                let message = &committed.record.bodies[usize::from(n)];
                let mut email_id = [0; 16];
                email_id.copy_from_slice(&message.blake3[..16]);
                let cache = of_account.cache.push(name, &email_id, &message.digest);
                self.caches.borrow_mut().insert(*account);
                let bare_newlines = bare_newlines(message);
                let size = message.size + u64::from(bare_newlines) + prefix.len() as u64;
                let (in_file, prefix_apart): (&[u8], &[u8]) = match apart {
                    true => (&[], prefix),
                    false => (prefix, &[]),
                };
                let shared = apart.then(|| self.shared_file(&state, committed, ordinal, n));
                let unsettled = shared.flatten().unwrap_or_else(|| Unsettled::Body {
                    source: source(&committed.bodies[usize::from(n)]),
                    memory: owned.keep(message),
                    prefix: Arc::from(in_file),
                    crc32c: message.crc32c,
                    size: message.size,
                    shared: origin.filter(|_| *apart).map(|key| (key.source, key.pseq)),
                });
                let cold = Cold {
                    name,
                    cache,
                    prefix_bytes: prefix.len() as u32,
                    bare_newlines,
                    letters,
                    email_id,
                    uid_in_name: true,
                };
                let extra = Extra {
                    prefix: prefix_apart.into(),
                    ..Extra::default()
                };
                (cold, extra.boxed(), size, unsettled)
            }
            BodyRef::Copy { mailbox, uid } => {
                let from = of_account.mailboxes.get(&mailbox);
                let Some(copy) = from.and_then(|from| copy_of(from, uid)) else {
                    owned.counters.misfits.set(owned.counters.misfits.get() + 1);
                    return;
                };
                let (cold, extra, size, unsettled) = copy;
                of_account.cache.share(cold.cache);
                let cold = Cold {
                    name,
                    letters,
                    uid_in_name: true,
                    ..cold
                };
                (cold, extra, size, unsettled)
            }
        };
        let of_account = state.accounts.entry(*account).or_default();
        of_account.bytes += size;
        of_account.messages += 1;
        drop(state);
        let row = NewRow {
            uid: *uid,
            flags: *flags,
            keywords: keywords.clone(),
            modseq: *modseq,
            internal_date: *internal_date,
            saved: *saved,
            size,
            cold,
            extra,
        };
        self.unsettled
            .borrow_mut()
            .insert((pseq, ordinal), unsettled);
        let task = Task::Place {
            mailbox: target.clone(),
            name,
            stem: stem(*uid, &row.cold, row.extra.as_deref(), *saved, size),
            letters,
            date: *internal_date,
        };
        self.tasks.borrow_mut().push_back((pseq, task));
        self.queue(&target);
        target.apply_placed(&row);
    }

    /// The file that an earlier placement of the same body in this record gets.
    fn shared_file(
        &self,
        state: &Catalogue,
        committed: &Committed,
        ordinal: u16,
        body: u16,
    ) -> Option<Unsettled> {
        let pseq = committed.record.pseq;
        let unsettled = self.unsettled.borrow();
        let earlier = committed.record.ops.iter().enumerate();
        earlier.take(usize::from(ordinal)).find_map(|(n, op)| {
            let Op::Placed {
                account,
                mailbox,
                uid,
                flags,
                saved,
                body: BodyRef::New(b) | BodyRef::Handed(b),
                apart: true,
                ..
            } = op
            else {
                return None;
            };
            let ordinal = n as u16;
            let is_file = matches!(
                unsettled.get(&(pseq, ordinal)),
                Some(Unsettled::Body { .. })
            );
            if *b != body || !is_file {
                return None;
            }
            let message = &committed.record.bodies[usize::from(body)];
            let bare_newlines = bare_newlines(message);
            let name = NameId {
                partition: self.id,
                pseq,
                ordinal,
            };
            let own = OwnName {
                saved_secs: saved.seconds(),
                id: name,
                uid: Some(*uid),
                prefix_bytes: 0,
                stored: message.size,
                size: message.size + u64::from(bare_newlines),
            };
            Some(Unsettled::Link {
                folder: state.mailbox(*account, *mailbox)?.folder.clone(),
                name,
                stem: own.stem(),
                letters: flag_letters(*flags),
            })
        })
    }

    fn apply_adopted(
        &self,
        pseq: PSeq,
        account: AccountId,
        mailbox: MailboxId,
        rows: &[AdoptedRow],
        owned: &Owned,
    ) {
        let Ok(target) = self.mailbox(account, mailbox) else {
            owned.counters.misfits.set(owned.counters.misfits.get() + 1);
            return;
        };
        self.queue(&target);
        for (ordinal, row) in rows.iter().enumerate() {
            let name = NameId {
                partition: self.id,
                pseq,
                ordinal: ordinal as u16,
            };
            let cache = {
                let mut state = self.state.borrow_mut();
                let of_account = state.accounts.entry(account).or_default();
                if !target.archive.get() {
                    of_account.bytes += row.size;
                    of_account.messages += 1;
                }
                of_account.cache.push(name, &row.email_id, &row.digest)
            };
            let archive = match row.place {
                AdoptedPlace::Archive { at, len } => Some((at, len)),
                AdoptedPlace::Cur | AdoptedPlace::New => None,
            };
            let extra = Extra {
                stem: archive.is_none().then(|| row.stem.as_str().into()),
                uidl: row.uidl.as_deref().map(Into::into),
                archive,
                ..Extra::default()
            };
            target.apply_placed(&NewRow {
                uid: row.uid,
                flags: row.flags,
                keywords: row.keywords.clone(),
                modseq: row.modseq,
                internal_date: row.internal_date,
                saved: row.saved,
                size: row.size,
                cold: Cold {
                    name,
                    cache,
                    prefix_bytes: 0,
                    bare_newlines: row.bare_newlines,
                    letters: row.letters,
                    email_id: row.email_id,
                    uid_in_name: false,
                },
                extra: extra.boxed(),
            });
            if row.place != AdoptedPlace::New {
                target.seen_before(row.uid);
            }
            if row.place == AdoptedPlace::New {
                let task = Task::Take {
                    mailbox: target.clone(),
                    stem: row.stem.clone(),
                    letters: row.letters,
                };
                self.tasks.borrow_mut().push_back((pseq, task));
            }
        }
        self.caches.borrow_mut().insert(account);
    }

    fn apply_value(&self, change: &ValueChange, owned: &Owned) {
        {
            let mut state = self.state.borrow_mut();
            let values = match change.account {
                Some(account) => &mut state.accounts.entry(account).or_default().values,
                None => &mut state.values,
            };
            let key = (change.namespace.clone(), change.key.clone());
            match &change.value {
                Some(value) => {
                    values.insert(key, Arc::from(value.as_slice()));
                }
                None => {
                    values.remove(&key);
                }
            }
            let of_account = change.account.and_then(|id| state.accounts.get(&id));
            if let Some(of_account) = of_account {
                let set = change.value.is_some();
                archive::note(of_account, &change.namespace, &change.key, set);
            }
        }
        owned.quota.saw(self.id, change);
        if change.account.is_none() && self.id == PartitionId::SYSTEM {
            owned.tell_site_value(change);
        }
    }

    /// Spool files of placed bodies go once a checkpoint has proven the Maildir files.
    fn doom_spools(&self, committed: &Committed) {
        let record = &committed.record;
        if record
            .ops
            .iter()
            .any(|op| matches!(op, Op::Accepted { .. }))
        {
            return;
        }
        let mut state = self.state.borrow_mut();
        for place in &committed.bodies {
            if let BodyPlace::Spool(path) = place {
                let name = path.file_name().unwrap_or_default();
                let file = std::path::Path::new("spool").join(name);
                state.doomed.push_back((record.pseq, Doomed::File(file)));
            }
        }
    }

    fn task(
        &self,
        pseq: PSeq,
        account: AccountId,
        mailbox: MailboxId,
        make: impl FnOnce(Rc<Mailbox>) -> Task,
    ) {
        if let Ok(mailbox) = self.mailbox(account, mailbox) {
            self.tasks.borrow_mut().push_back((pseq, make(mailbox)));
        }
    }

    /// Notes that a mailbox has something to write, and is another than it was.
    pub fn queue(&self, mailbox: &Rc<Mailbox>) {
        self.touch(mailbox);
        self.enqueue(mailbox);
    }

    /// Notes that a mailbox has something to write.
    pub fn enqueue(&self, mailbox: &Rc<Mailbox>) {
        if !mailbox.queued.replace(true) {
            self.unflushed.borrow_mut().push(mailbox.clone());
        }
    }
}

/// For the cut, see `catalogue/cut.rs`.
impl Partition {
    /// Notes what changes from now on, or no more.
    pub fn watch_touched(&self, watch: bool) {
        *self.touched.borrow_mut() = watch.then(Touched::default);
    }

    /// A mailbox changed by no record.
    pub fn touch(&self, mailbox: &Mailbox) {
        if let Some(touched) = self.touched.borrow_mut().as_mut() {
            touched.mailbox(mailbox.account, mailbox.id);
        }
    }

    /// What was noted so far, once.
    pub fn take_touched(&self) -> Touched {
        let mut touched = self.touched.borrow_mut();
        touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Not done yet: nothing may have happened since it was taken.
    pub fn give_touched(&self, taken: Touched) {
        *self.touched.borrow_mut() = Some(taken);
    }
}

/// The value of the partition that says that an account was purged.
pub(super) fn purged(account: AccountId) -> (String, Vec<u8>) {
    ("purged".to_owned(), account.0.to_le_bytes().to_vec())
}

/// Line ends of the body that are stored as bare LF.
pub(super) fn bare_newlines(message: &Message) -> u32 {
    let Ok(digest) = DigestView::parse(&message.digest) else {
        return 0;
    };
    u32::try_from(digest.crlf_bytes().saturating_sub(digest.bytes())).unwrap_or(u32::MAX)
}

/// What a copy takes from the row it is made of.
type Copy = (Cold, Option<Box<Extra>>, u64, Unsettled);

fn copy_of(from: &Mailbox, uid: Uid) -> Option<Copy> {
    let index = from.index.borrow();
    let index = index.as_ref()?;
    let at = index.position(uid)?;
    let (cold, size) = (*index.cold(at), index.size(at));
    let link = Unsettled::Link {
        folder: from.folder.clone(),
        name: cold.name,
        stem: index.stem(at),
        letters: cold.letters,
    };
    let extra = index.extra(at).and_then(Extra::of_copy);
    Some((cold, extra, size, link))
}

pub(super) fn source(place: &BodyPlace) -> Source {
    match place {
        BodyPlace::InJournal(at) => Source::Journal(*at),
        BodyPlace::Spool(path) => Source::Spool(path.clone()),
    }
}

/// The account whose folders an operation changes.
fn structural(op: &Op) -> Option<AccountId> {
    match op {
        Op::MailboxCreated { account, .. }
        | Op::MailboxRenamed { account, .. }
        | Op::MailboxDeleted { account, .. }
        | Op::AccountPurged { account } => Some(*account),
        _ => None,
    }
}
