//! A session's view of one mailbox: sequence numbers are the view's, UIDs the mailbox's.

mod change;
mod digests;
mod relocate;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::mailbox::{Change, Mailbox};
use super::partition::Partition;
use super::shard::Shard;
use super::{AccountRef, BodyReader, Flags, Status, StoreError, repair};
use crate::base::{MailboxId, ModSeq, Uid, UidValidity, UnixMs};
use crate::runtime::now;

/// How a mailbox was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// One message's index row, as applied now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub uid: Uid,
    pub flags: Flags,
    /// Spelled as first used in this mailbox.
    pub keywords: Vec<Arc<str>>,
    pub modseq: ModSeq,
    pub internal_date: UnixMs,
    pub saved: UnixMs,
    /// RFC822.SIZE: octets with CRLF line ends, prefix included.
    pub size: u64,
    /// Octets of the prefix before the shared body: digest ranges shift by this.
    pub prefix_bytes: u32,
    /// RFC 8474 EMAILID material: equal for equal bodies.
    pub email_id: [u8; 16],
}

/// What `refresh` brought, in the order in which it must be told (RFC 9051 7.5.1): expunges
/// first, each with the sequence number valid when it is sent, then the new count, then flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub expunged: Vec<u32>,
    pub expunged_uids: Vec<Uid>,
    pub exists: Option<u32>,
    pub recent: Option<u32>,
    /// UIDs in the view whose flags changed since the last refresh, ascending. Own changes are
    /// among them.
    pub flags: Vec<Uid>,
    /// A keyword appeared that the mailbox did not have: FLAGS must be told again.
    pub keywords_new: bool,
}

/// The outcome of a STORE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Changed or confirmed, ascending.
    pub uids: Vec<Uid>,
    /// Left alone because their modseq is above UNCHANGEDSINCE (RFC 7162 3.1.3).
    pub modified: Vec<Uid>,
    /// Gone meanwhile.
    pub missing: Vec<Uid>,
    /// Of each of `uids`.
    pub modseqs: Vec<ModSeq>,
    /// The highest of them.
    pub modseq: ModSeq,
    /// Why those that are not told of were not looked at: a later part of a large command failed.
    pub failed: Option<StoreError>,
}

/// COPYUID (RFC 9051 7.1): `from[i]` became `to[i]`. Messages gone meanwhile are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub uidvalidity: UidValidity,
    pub from: Vec<Uid>,
    pub to: Vec<Uid>,
}

/// An open mailbox. Dropping it leaves the mailbox. While it rests the index may leave memory, and
/// only `uids`, `is_dirty`, `changed`, `recent` and `status` say anything.
pub struct View {
    shard: Rc<Shard>,
    partition: Rc<Partition>,
    account: AccountRef,
    mailbox: Rc<Mailbox>,
    access: Access,
    /// The index stays in memory.
    awake: Cell<bool>,
    uids: Arc<[Uid]>,
    /// Expunged, but this session was not told yet; they are still in `uids`.
    lingering: Vec<Uid>,
    /// The feed's round and the highest modseq at the last refresh.
    seen: u64,
    seen_modseq: ModSeq,
    /// UIDs from here on are new to the view.
    uidnext: Uid,
    /// Ranges of UIDs that are recent to this session.
    recent: RefCell<Vec<(Uid, Uid)>>,
}

impl Drop for View {
    fn drop(&mut self) {
        self.rest();
        self.mailbox.views.set(self.mailbox.views.get() - 1);
        self.shard.owned.note_open(&self.mailbox);
    }
}

impl View {
    /// The index is loaded, and nothing is waited for between that and this.
    pub(super) fn open(
        shard: &Rc<Shard>,
        partition: &Rc<Partition>,
        account: AccountRef,
        mailbox: Rc<Mailbox>,
        access: Access,
    ) -> View {
        mailbox.views.set(mailbox.views.get() + 1);
        mailbox.pins.set(mailbox.pins.get() + 1);
        shard.owned.note_open(&mailbox);
        let uids = match &mut *mailbox.index.borrow_mut() {
            Some(index) => index.shared(),
            None => Arc::from([]),
        };
        let (seen_modseq, uidnext) = {
            let meta = mailbox.meta.borrow();
            (meta.highest, meta.uidnext)
        };
        let view = View {
            shard: shard.clone(),
            partition: partition.clone(),
            account,
            seen: mailbox.feed.round(),
            mailbox,
            access,
            awake: Cell::new(true),
            uids,
            lingering: Vec::new(),
            seen_modseq,
            uidnext,
            recent: RefCell::default(),
        };
        view.take_recent();
        view
    }

    /// Nothing is asked of the view until `wake`: memory may be used for others meanwhile.
    pub fn rest(&self) {
        if self.awake.replace(false) {
            self.mailbox.pins.set(self.mailbox.pins.get() - 1);
            self.mailbox.used.set(Some(now()));
        }
    }

    /// Reads the index again if it left memory.
    ///
    /// # Errors
    /// As opening the mailbox; the view rests on.
    pub async fn wake(&self) -> Result<(), StoreError> {
        // Of a mailbox that is gone there is nothing to be read, and whoever looks is told so.
        if self.awake.get() || self.mailbox.deleted.get() {
            return Ok(());
        }
        let Shard { disk, owned, .. } = &*self.shard;
        repair::load(disk, owned, &self.partition, &self.mailbox).await?;
        if !self.awake.replace(true) {
            self.mailbox.pins.set(self.mailbox.pins.get() + 1);
        }
        Ok(())
    }

    /// A read-write session takes what is recent (RFC 3501 2.3.2); another only looks.
    fn take_recent(&self) {
        if self.mailbox.archive.get() {
            return;
        }
        let mut meta = self.mailbox.meta.borrow_mut();
        if meta.recent_from < meta.uidnext {
            let range = (meta.recent_from, meta.uidnext);
            let mut recent = self.recent.borrow_mut();
            if self.access == Access::ReadOnly {
                recent.retain(|r| r.1 <= range.0);
            }
            recent.push(range);
        }
        if self.access == Access::ReadWrite && meta.recent_from != meta.uidnext {
            meta.recent_from = meta.uidnext;
            meta.recent = 0;
            self.partition.dirty.set(true);
        }
    }

    #[must_use]
    pub fn mailbox(&self) -> MailboxId {
        self.mailbox.id
    }

    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// UIDs in the view, ascending: sequence number `n` is `uids()[n - 1]`.
    #[must_use]
    pub fn uids(&self) -> &[Uid] {
        &self.uids
    }

    /// Counts of the mailbox as applied now (may be ahead of the view).
    pub fn status(&self) -> Result<Status, StoreError> {
        self.there()?;
        Ok(self.mailbox.status())
    }

    fn there(&self) -> Result<(), StoreError> {
        if self.mailbox.deleted.get() {
            Err(StoreError::MailboxGone)
        } else {
            Ok(())
        }
    }

    /// How many of the view are recent to this session.
    #[must_use]
    pub fn recent(&self) -> u32 {
        let below = |uid: Uid| self.uids.partition_point(|&u| u < uid);
        let recent = self.recent.borrow();
        recent
            .iter()
            .map(|&(from, to)| (below(to) - below(from)) as u32)
            .sum()
    }

    #[must_use]
    pub fn is_recent(&self, uid: Uid) -> bool {
        self.recent
            .borrow()
            .iter()
            .any(|&(from, to)| (from..to).contains(&uid))
    }

    /// Keywords known in this mailbox, for FLAGS and PERMANENTFLAGS.
    #[must_use]
    pub fn keywords(&self) -> Vec<Arc<str>> {
        let index = self.mailbox.index.borrow();
        index
            .as_ref()
            .map(|i| i.keyword_names().to_vec())
            .unwrap_or_default()
    }

    /// The row of a UID in the view; `None` when it was expunged meanwhile.
    #[must_use]
    pub fn row(&self, uid: Uid) -> Option<Row> {
        let index = self.mailbox.index.borrow();
        let index = index.as_ref()?;
        index.position(uid).map(|at| index.row(at))
    }

    /// UIDs that were expunged after `modseq`, as ascending runs, for VANISHED (RFC 7162 3.2.10);
    /// `None` where the store does not know all of them any more.
    #[must_use]
    pub fn vanished_since(&self, modseq: ModSeq) -> Option<Vec<(Uid, Uid)>> {
        let index = self.mailbox.index.borrow();
        index.as_ref()?.vanished().since(modseq)
    }

    /// Rows without allocation for long scans: UID, flags, modseq, size, internal date and saved
    /// are plain values; keywords come by `row` only when `has_keywords`.
    pub fn scan(&self, uids: &[Uid], each: &mut dyn FnMut(ScanRow)) {
        let index = self.mailbox.index.borrow();
        let Some(index) = index.as_ref() else { return };
        let all = index.uids();
        let mut next = 0;
        for &uid in uids {
            // Ascending lists, the usual kind, are walked; any other order is looked up.
            let at = match all.get(next) {
                Some(&here) if here == uid => next,
                _ => match index.position(uid) {
                    Some(at) => at,
                    None => continue,
                },
            };
            next = at + 1;
            each(index.scan_row(at));
        }
    }

    /// Messages that POP3 clients know by what another server called them, and what that is.
    #[must_use]
    pub fn former_uidls(&self) -> BTreeMap<Uid, Box<str>> {
        let index = self.mailbox.index.borrow();
        let Some(index) = index.as_ref() else {
            return BTreeMap::new();
        };
        index
            .uidls()
            .map(|(uid, uidl)| (uid, uidl.into()))
            .collect()
    }

    /// Takes in what another program put into the mailbox's folder: for NOOP and CHECK.
    pub async fn look(&self) {
        super::adopt::look(&self.shard, &self.partition, &self.mailbox).await;
    }

    /// Brings the view up to the applied state. Without `expunges` removed messages stay in the
    /// view (RFC 9051 7.5.1: none during FETCH, STORE, SEARCH by sequence number).
    pub fn refresh(&mut self, expunges: bool) -> Changes {
        let mut changes = Changes::default();
        let round = self.mailbox.feed.round();
        if round == self.seen && (self.lingering.is_empty() || !expunges) {
            return changes;
        }
        let mut index = self.mailbox.index.borrow_mut();
        let Some(index) = index.as_mut() else {
            return changes;
        };
        let mut gone = std::mem::take(&mut self.lingering);
        let old = self.uids.clone();
        let known = |uid: &Uid| old.binary_search(uid).is_ok();
        let complete = self.mailbox.feed.since(self.seen, |change| match change {
            Change::Flags(uids) => changes.flags.extend(uids.iter().filter(|u| known(u))),
            Change::Expunged(uids) => gone.extend(uids.iter().filter(|u| known(u))),
            Change::KeywordsNew => changes.keywords_new = true,
            Change::Added => {}
        });
        if !complete {
            self.compare(index, &mut gone, &mut changes);
        }
        for list in [&mut gone, &mut changes.flags] {
            list.sort_unstable();
            list.dedup();
        }
        changes.flags.retain(|uid| gone.binary_search(uid).is_err());
        let from = index.uids().partition_point(|&uid| uid < self.uidnext);
        let added = index.len() - from;
        if expunges {
            let place = |uid: &Uid| old.binary_search(uid).ok();
            let told = gone.iter().filter_map(place).enumerate();
            // Each number is the one valid when it is sent, after those before it went.
            changes.expunged = told.map(|(before, at)| (at + 1 - before) as u32).collect();
            changes.expunged_uids = gone;
            self.uids = index.shared();
        } else if gone.is_empty() {
            self.uids = index.shared();
        } else {
            self.uids = old.iter().chain(&index.uids()[from..]).copied().collect();
            self.lingering = gone;
        }
        self.seen = round;
        {
            let meta = self.mailbox.meta.borrow();
            self.seen_modseq = meta.highest;
            self.uidnext = meta.uidnext;
        }
        if added > 0 {
            self.take_recent();
            changes.exists = Some(self.uids.len() as u32);
            changes.recent = Some(self.recent());
        }
        changes
    }

    /// What the feed has forgotten: by UIDs and modseqs.
    fn compare(&self, index: &super::mailbox::Index, gone: &mut Vec<Uid>, changes: &mut Changes) {
        let mut now = index.uids().iter().peekable();
        for uid in self.uids.iter() {
            while now.next_if(|&n| n < uid).is_some() {}
            if now.next_if_eq(&uid).is_none() {
                gone.push(*uid);
            }
        }
        for at in 0..index.len() {
            let uid = index.uids()[at];
            if index.modseq(at) > self.seen_modseq && uid < self.uidnext {
                changes.flags.push(uid);
            }
        }
        changes.keywords_new = true;
    }

    /// True when `refresh` would bring something. Costs one load.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.seen != self.mailbox.feed.round()
    }

    /// Waits until the mailbox changes after the last `refresh`. Cancel-safe.
    pub async fn changed(&self) {
        while !self.is_dirty() {
            self.mailbox.feed.notify.notified().await;
        }
    }

    pub async fn body(&self, uid: Uid) -> Result<BodyReader, StoreError> {
        self.there()?;
        let (shard, partition) = (self.shard.clone(), self.partition.clone());
        BodyReader::new(shard, partition, self.mailbox.clone(), uid)
    }
}

/// The POP3 unique-id of a message (RFC 1939 7) that no other server gave it.
#[must_use]
pub fn own_uidl(uidvalidity: UidValidity, uid: Uid) -> String {
    format!("{:08x}{:08x}", uidvalidity.0, uid.0)
}

/// The plain columns of a row.
#[derive(Clone, Copy, Debug)]
pub struct ScanRow {
    pub uid: Uid,
    pub flags: Flags,
    pub has_keywords: bool,
    pub modseq: ModSeq,
    pub internal_date: UnixMs,
    pub saved: UnixMs,
    pub size: u64,
}

#[cfg(test)]
impl View {
    /// The mailbox's checksum as it is kept, and as its rows give it.
    pub(super) fn checksums(&self) -> (u64, u64) {
        let index = self.mailbox.index.borrow();
        let mut anew = super::mailbox::Weight::default();
        if let Some(index) = index.as_ref() {
            (0..index.len()).for_each(|at| anew.add(index.weight(at)));
        }
        (self.mailbox.meta.borrow().weight.checksum, anew.checksum)
    }
}
