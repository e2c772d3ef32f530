//! One mailbox: its entry in the catalogue, always in memory, and its index, loaded when needed.
//!
//! What is applied goes to three places at once: the counts, the index if it is loaded, and the
//! pending bytes of the index log. File offsets are given out when a change is applied, not when
//! it is written, so that replay puts the same bytes in the same places.

mod extra;
mod feed;
mod files;
mod index;
mod keywords;
mod log;
mod rows;
mod salvage;
mod snapshot;
#[cfg(test)]
mod tests;
mod vanished;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use hashbrown::HashMap;

use super::adopt::Left;
use super::{Flags, SpecialUse, Status, StoreError};
use crate::base::{AccountId, MailboxId, ModSeq, PartitionId, Uid, UidValidity, UnixMs};
use crate::runtime::local::Semaphore;
use crate::runtime::{DiskErrorKind, unix_now};

pub(super) use extra::Extra;
pub(super) use feed::{Change, Feed};
pub(super) use index::{CacheRef, Cold, Index, KEYWORD_LETTERS_MAX, NameId, NewRow, Weight};
pub(super) use log::{ALIGN, LogOp, align, apply as apply_entry, replay};
pub(super) use salvage::{Salvage, salvage};
use snapshot::Snapshot;

/// What the catalogue knows of a mailbox.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub name: String,
    pub uidvalidity: UidValidity,
    pub uidnext: Uid,
    pub highest: ModSeq,
    pub weight: Weight,
    /// Messages from this UID on are recent to the next read-write session.
    pub recent_from: Uid,
    pub recent: u32,
    pub special_use: Option<SpecialUse>,
    /// Number of the index snapshot; 0 is none.
    pub generation: u32,
}

/// Where a mailbox lies on disk now. Settle alone changes it; files waiting to be linked from a
/// folder that is renamed meanwhile follow it through this handle.
pub(super) struct Folder {
    pub path: RefCell<PathBuf>,
    /// Stem to file names, while the partition recovers.
    pub listing: RefCell<Option<HashMap<String, Vec<String>>>>,
}

/// Bytes that are applied but not yet in the index files.
#[derive(Default)]
pub(super) struct Pending {
    pub snapshot: Option<Snapshot>,
    pub log: Vec<u8>,
    /// Offset of `log` in the log file.
    pub log_from: u64,
}

impl Pending {
    pub fn log_end(&self) -> u64 {
        self.log_from + self.log.len() as u64
    }
}

pub(super) struct Mailbox {
    pub account: AccountId,
    pub id: MailboxId,
    pub partition: PartitionId,
    pub meta: RefCell<Meta>,
    pub folder: Rc<Folder>,
    pub index: RefCell<Option<Index>>,
    pub pending: RefCell<Pending>,
    pub feed: Feed,
    pub views: Cell<u32>,
    /// Views that are awake: the index stays loaded for them.
    pub pins: Cell<u32>,
    /// Records in flight that name this mailbox: its index stays loaded.
    pub flight: Cell<u32>,
    pub deleted: Cell<bool>,
    /// Over an archive file: it is only read, and counts in no quota.
    pub archive: Cell<bool>,
    /// Its folder is there.
    pub made: Cell<bool>,
    /// Has pending bytes, and stands in the partition's list of those that have.
    pub queued: Cell<bool>,
    /// Rows whose file names lack letters; stands in the partition's list of those that have.
    pub stale_names: RefCell<Vec<Uid>>,
    /// Keyword letters changed since `dovecot-keywords` was written.
    pub keywords_stale: Cell<bool>,
    /// When `new` was looked at, and when it had changed, if all of that is known.
    pub looked: Cell<Option<std::time::Instant>>,
    pub new_changed: Cell<Option<UnixMs>>,
    /// The list of UIDs that was written for other programs, and what of.
    pub left: Cell<Option<Left>>,
    /// Counts reading and writing of the index files out of each other's way.
    io: Semaphore,
    /// Stands in the shard's list of loaded indexes.
    pub listed: Cell<bool>,
    /// For the eviction of what was not used for long.
    pub used: Cell<Option<std::time::Instant>>,
}

/// Where the index is read from.
pub(super) struct IndexFiles {
    /// A snapshot that is not written yet.
    pub waiting: Option<Snapshot>,
    pub snapshot: Option<PathBuf>,
    pub log: PathBuf,
    /// How long the log is.
    pub log_bytes: usize,
}

/// What a removed row leaves to be done.
pub(super) struct Removed {
    pub stem: String,
    pub letters: u32,
    pub size: u64,
    /// In the mailbox's archive file: there is no file to remove.
    pub archived: bool,
}

/// Whether the row's file name lacks letters. What lies in an archive file has no name.
fn wants_letters(index: &Index, at: usize) -> bool {
    super::maildir::row_letters(index, at) != index.cold(at).letters
        && index.extra(at).is_none_or(|e| e.archive.is_none())
}

impl Mailbox {
    pub fn new(
        partition: PartitionId,
        account: AccountId,
        id: MailboxId,
        meta: Meta,
        path: PathBuf,
        log_from: u64,
    ) -> Rc<Mailbox> {
        Rc::new(Mailbox {
            account,
            id,
            partition,
            meta: RefCell::new(meta),
            folder: Rc::new(Folder {
                path: RefCell::new(path),
                listing: RefCell::new(None),
            }),
            index: RefCell::new(None),
            pending: RefCell::new(Pending {
                log_from,
                ..Pending::default()
            }),
            feed: Feed::default(),
            views: Cell::new(0),
            pins: Cell::new(0),
            flight: Cell::new(0),
            deleted: Cell::new(false),
            archive: Cell::new(false),
            made: Cell::new(true),
            queued: Cell::new(false),
            stale_names: RefCell::default(),
            keywords_stale: Cell::new(false),
            looked: Cell::new(None),
            new_changed: Cell::new(None),
            left: Cell::new(None),
            io: Semaphore::new(1),
            listed: Cell::new(false),
            used: Cell::new(None),
        })
    }

    pub fn status(&self) -> Status {
        let meta = self.meta.borrow();
        Status {
            id: self.id,
            messages: meta.weight.messages,
            unseen: meta.weight.unseen,
            deleted: meta.weight.deleted,
            // Nobody takes what is recent in an archive: it would be so for ever.
            recent: if self.archive.get() { 0 } else { meta.recent },
            uidnext: meta.uidnext,
            uidvalidity: meta.uidvalidity,
            highest_modseq: meta.highest,
            size: meta.weight.size,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path.borrow().clone()
    }

    fn log(&self, op: &LogOp) {
        op.encode(&mut self.pending.borrow_mut().log);
    }

    // ---- apply: synchronous, never decides ----

    pub fn apply_placed(&self, row: &NewRow) {
        {
            let mut meta = self.meta.borrow_mut();
            meta.weight.add(row.weight());
            meta.uidnext = Uid(row.uid.0.saturating_add(1)).max(meta.uidnext);
            meta.highest = meta.highest.max(row.modseq);
            meta.recent += u32::from(row.uid >= meta.recent_from);
        }
        self.log(&LogOp::Added(row.clone()));
        let keywords_new = match &mut *self.index.borrow_mut() {
            Some(index) => {
                let new = index.add(row);
                if wants_letters(index, index.len() - 1) {
                    self.stale_names.borrow_mut().push(row.uid);
                }
                new
            }
            None => !row.keywords.is_empty(),
        };
        self.tell_keywords(keywords_new);
        self.feed.tell(Change::Added, self.views.get());
    }

    /// The message that came last was told to a session of another server: it is not recent,
    /// unless others before it still are.
    pub fn seen_before(&self, uid: Uid) {
        let mut meta = self.meta.borrow_mut();
        if meta.recent <= 1 {
            meta.recent_from = meta.recent_from.max(Uid(uid.0.saturating_add(1)));
            meta.recent = 0;
        }
    }

    pub fn apply_flags(&self, modseq: ModSeq, entries: &[(Uid, Flags, Vec<String>)]) {
        let mut keywords_new = false;
        let mut uids = Vec::with_capacity(entries.len());
        {
            let mut index = self.index.borrow_mut();
            let index = index
                .as_mut()
                .expect("a change of flags holds its index loaded");
            let mut meta = self.meta.borrow_mut();
            for (uid, flags, keywords) in entries {
                let Some(at) = index.position(*uid) else {
                    continue;
                };
                keywords_new |= index.set(at, *flags, keywords, modseq);
                uids.push(*uid);
            }
            meta.weight = index.total();
            meta.highest = meta.highest.max(modseq);
        }
        self.log(&LogOp::Flags {
            modseq,
            entries: entries.to_vec(),
        });
        self.stale_names.borrow_mut().extend_from_slice(&uids);
        self.tell_keywords(keywords_new);
        self.feed.tell(Change::Flags(uids), self.views.get());
    }

    /// `each` sees every row before it goes.
    pub fn apply_expunged(
        &self,
        modseq: ModSeq,
        uids: &[Uid],
        each: &mut dyn FnMut(&Index, usize),
    ) -> Vec<Removed> {
        let mut removed = Vec::with_capacity(uids.len());
        {
            let mut index = self.index.borrow_mut();
            let index = index.as_mut().expect("an expunge holds its index loaded");
            let mut meta = self.meta.borrow_mut();
            let mut positions = Vec::with_capacity(uids.len());
            for &uid in uids {
                let Some(at) = index.position(uid) else {
                    continue;
                };
                if uid >= meta.recent_from {
                    meta.recent = meta.recent.saturating_sub(1);
                }
                positions.push(at);
                each(index, at);
                removed.push(Removed {
                    stem: index.stem(at),
                    letters: index.cold(at).letters,
                    size: index.size(at),
                    archived: index.extra(at).is_some_and(|e| e.archive.is_some()),
                });
            }
            index.remove(&positions, Some(modseq));
            meta.weight = index.total();
            meta.highest = meta.highest.max(modseq);
        }
        self.log(&LogOp::Expunged {
            uids: uids.to_vec(),
            modseq: Some(modseq),
        });
        self.feed
            .tell(Change::Expunged(uids.to_vec()), self.views.get());
        removed
    }

    /// Numbers and use that came from elsewhere.
    pub fn apply_set(
        &self,
        uidnext: Option<Uid>,
        highest: Option<ModSeq>,
        special_use: Option<Option<SpecialUse>>,
    ) {
        let mut meta = self.meta.borrow_mut();
        meta.uidnext = meta.uidnext.max(uidnext.unwrap_or(Uid(0)));
        meta.highest = meta.highest.max(highest.unwrap_or(ModSeq(0)));
        meta.special_use = special_use.unwrap_or(meta.special_use);
    }

    /// A digest was made anew. An id that was not known is known now.
    pub fn set_cached(&self, uid: Uid, cache: CacheRef, email_id: [u8; 16]) {
        let mut index = self.index.borrow_mut();
        let Some(index) = index.as_mut() else { return };
        let Some(at) = index.position(uid) else {
            return;
        };
        index.set_cached(at, cache, email_id);
        self.meta.borrow_mut().weight = index.total();
        self.log(&LogOp::Cached(vec![(uid, cache, email_id)]));
    }

    /// Digests have other places.
    pub fn move_cached(&self, moved: Vec<(Uid, CacheRef, [u8; 16])>) {
        if let Some(index) = self.index.borrow_mut().as_mut() {
            for (uid, cache, email_id) in &moved {
                if let Some(at) = index.position(*uid) {
                    index.set_cached(at, *cache, *email_id);
                }
            }
        }
        self.log(&LogOp::Cached(moved));
    }

    fn tell_keywords(&self, new: bool) {
        if new {
            self.keywords_stale.set(true);
            self.feed.tell(Change::KeywordsNew, self.views.get());
        }
    }

    /// Keeps the index loaded, if it is, as long as the answer lives.
    pub fn pin(self: &Rc<Self>) -> Pin {
        self.pins.set(self.pins.get() + 1);
        Pin(self.clone())
    }

    /// Forgets the index if nobody needs it. What it held is in files and pending bytes.
    pub fn unload(&self) -> bool {
        let free =
            self.pins.get() == 0 && self.flight.get() == 0 && self.stale_names.borrow().is_empty();
        if free {
            *self.index.borrow_mut() = None;
        }
        free
    }

    /// Forgets the index although names lack letters: the next `load` finds out which do.
    pub fn give_up(&self) {
        assert!(self.pins.get() == 0 && self.flight.get() == 0, "in use");
        self.stale_names.borrow_mut().clear();
        *self.index.borrow_mut() = None;
    }
}

/// Who needs a mailbox's index for a while.
pub(super) struct Pin(Rc<Mailbox>);

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.set(self.0.pins.get() - 1);
    }
}

/// Too many open files, in the process or in the system: that passes.
fn is_out_of_files(errno: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].contains(&Errno::from_raw_os_error(errno))
}

/// What a failed disk step means to who asked for it.
pub(super) fn disk_error(error: &crate::runtime::DiskError) -> StoreError {
    match error.kind {
        DiskErrorKind::Full => StoreError::Full,
        DiskErrorKind::Late => StoreError::Late,
        DiskErrorKind::Io(errno) if is_out_of_files(errno) => StoreError::Busy,
        DiskErrorKind::NotFound | DiskErrorKind::Exists | DiskErrorKind::Io(_) => {
            tracing::debug!(%error, "what is not on the disk as it should be");
            StoreError::Damaged {
                partition: PartitionId::default(),
                since: unix_now(),
            }
        }
    }
}

impl Weight {
    pub fn add(&mut self, other: Weight) {
        self.messages += other.messages;
        self.unseen += other.unseen;
        self.deleted += other.deleted;
        self.size += other.size;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }

    pub fn sub(&mut self, other: Weight) {
        self.messages -= other.messages;
        self.unseen -= other.unseen;
        self.deleted -= other.deleted;
        self.size -= other.size;
        self.checksum = self.checksum.wrapping_sub(other.checksum);
    }
}
