//! One mailbox: its entry in the catalogue, always in memory, and its index, loaded when needed.
//!
//! What is applied goes to three places at once: the counts, the index if it is loaded, and the
//! pending bytes of the index log. File offsets are given out when a change is applied, not when
//! it is written, so that replay puts the same bytes in the same places.

mod extra;
mod feed;
mod index;
mod log;
mod salvage;
mod vanished;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;

use super::{Flags, SpecialUse, Status, StoreError};
use crate::base::{AccountId, Deadline, MailboxId, ModSeq, PartitionId, Uid, UidValidity, UnixMs};
use crate::runtime::local::{Permit, Semaphore};
use crate::runtime::{Disk, DiskErrorKind, now, sleep, unix_now};

pub(super) use extra::Extra;
pub(super) use feed::{Change, Feed};
pub(super) use index::{CacheRef, Cold, Index, KEYWORD_LETTERS_MAX, NameId, NewRow, Weight};
pub(super) use log::{ALIGN, LogOp, align, apply as apply_entry, replay};
pub(super) use salvage::{Salvage, salvage};

/// An index whose log is longer than this, and than half its rows, is written anew.
const LOG_BYTES_MIN: u64 = 64 << 10;
/// About what one row takes in a snapshot.
const ROW_BYTES: u64 = 96;
/// Longest wait for another task that reads or writes the same index.
const INDEX_WAIT: Duration = Duration::from_secs(30);

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
    pub snapshot: Option<Vec<u8>>,
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
    /// Counts reading and writing of the index files out of each other's way.
    io: Semaphore,
    /// For the eviction of what was not used for long.
    pub used: Cell<Option<std::time::Instant>>,
}

/// Where the index is read from.
pub(super) struct IndexFiles {
    /// A snapshot that is not written yet.
    pub waiting: Option<Vec<u8>>,
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
            flight: Cell::new(0),
            deleted: Cell::new(false),
            archive: Cell::new(false),
            made: Cell::new(true),
            queued: Cell::new(false),
            stale_names: RefCell::default(),
            keywords_stale: Cell::new(false),
            looked: Cell::new(None),
            new_changed: Cell::new(None),
            io: Semaphore::new(1),
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
                meta.weight.sub(index.weight(at));
                keywords_new |= index.set(at, *flags, keywords, modseq);
                meta.weight.add(index.weight(at));
                uids.push(*uid);
            }
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
                meta.weight.sub(index.weight(at));
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

    fn tell_keywords(&self, new: bool) {
        if new {
            self.keywords_stale.set(true);
            self.feed.tell(Change::KeywordsNew, self.views.get());
        }
    }

    // ---- the index and its files ----

    fn snapshot_path(&self, generation: u32) -> PathBuf {
        self.path().join(format!("palomar.index.{generation}"))
    }

    fn log_path(&self, generation: u32) -> PathBuf {
        self.path().join(format!("palomar.log.{generation}"))
    }

    /// Whether this is the snapshot or log of the index as it is now.
    pub fn writes_to(&self, path: &Path) -> bool {
        let generation = self.meta.borrow().generation;
        path.parent() == Some(self.folder.path.borrow().as_path())
            && (path == self.snapshot_path(generation) || path == self.log_path(generation))
    }

    /// Keeps others from reading, writing and moving the index files meanwhile.
    pub async fn files_turn(&self) -> Result<Permit, StoreError> {
        let until = crate::base::Deadline::after(now(), INDEX_WAIT);
        let turn = self.io.acquire(1, until).await;
        turn.map_err(|_| StoreError::Late)
    }

    /// Reads the index unless it is loaded.
    pub async fn load(&self, disk: &Disk) -> Result<(), StoreError> {
        self.used.set(Some(now()));
        if self.index.borrow().is_some() {
            return Ok(());
        }
        let _turn = self.files_turn().await?;
        if self.index.borrow().is_some() {
            return Ok(());
        }
        let damaged = || StoreError::Damaged {
            partition: self.partition,
            since: unix_now(),
        };
        let generation = self.meta.borrow().generation;
        let (waiting, written) = {
            let pending = self.pending.borrow();
            (pending.snapshot.clone(), pending.log_from)
        };
        let snapshot = match (waiting, generation) {
            (Some(bytes), _) => Some(bytes),
            (None, 0) => None,
            (None, generation) => Some(read_whole(disk, &self.snapshot_path(generation)).await?),
        };
        let mut index = match snapshot {
            Some(bytes) => Index::decode(&bytes).map_err(|_| damaged())?,
            None => Index::default(),
        };
        if written > 0 {
            let bytes = read_whole(disk, &self.log_path(generation)).await?;
            let bytes = bytes.get(..written as usize).ok_or_else(damaged)?;
            log::replay(&mut index, bytes, 0).map_err(|_| damaged())?;
        }
        // From here on nothing waits: what was applied meanwhile stands in the pending bytes.
        let pending = self.pending.borrow();
        log::replay(&mut index, &pending.log, pending.log_from).map_err(|_| damaged())?;
        let mut weight = Weight::default();
        let mut stale = Vec::new();
        for at in 0..index.len() {
            weight.add(index.weight(at));
            if wants_letters(&index, at) {
                stale.push(index.uids()[at]);
            }
        }
        if weight != self.meta.borrow().weight {
            return Err(damaged());
        }
        *self.stale_names.borrow_mut() = stale;
        *self.index.borrow_mut() = Some(index);
        Ok(())
    }

    /// Waits for whoever reads or writes the index files.
    pub async fn turn(&self, until: Deadline) -> Result<Permit, StoreError> {
        self.io
            .acquire(1, until)
            .await
            .map_err(|_| StoreError::Late)
    }

    /// What a load reads, before it comes to what is pending.
    pub fn index_files(&self) -> IndexFiles {
        let generation = self.meta.borrow().generation;
        let pending = self.pending.borrow();
        IndexFiles {
            waiting: pending.snapshot.clone(),
            snapshot: (generation > 0).then(|| self.snapshot_path(generation)),
            log: self.log_path(generation),
            log_bytes: pending.log_from as usize,
        }
    }

    /// What is applied and not in the files yet.
    pub fn pending_entries(&self) -> Vec<LogOp> {
        let pending = self.pending.borrow();
        log::entries(&pending.log, pending.log_from).unwrap_or_default()
    }

    /// A digest was made anew. An id that was not known is known now.
    pub fn set_cached(&self, uid: Uid, cache: CacheRef, email_id: [u8; 16]) {
        let mut index = self.index.borrow_mut();
        let Some(index) = index.as_mut() else { return };
        let Some(at) = index.position(uid) else {
            return;
        };
        let mut meta = self.meta.borrow_mut();
        meta.weight.sub(index.weight(at));
        index.set_cached(at, cache, email_id);
        meta.weight.add(index.weight(at));
        self.log(&LogOp::Cached(vec![(uid, cache, email_id)]));
    }

    /// Takes an index that was made of something else than its files.
    pub fn put_index(&self, index: Index) {
        let stale = (0..index.len()).filter(|&at| wants_letters(&index, at));
        *self.stale_names.borrow_mut() = stale.map(|at| index.uids()[at]).collect();
        *self.index.borrow_mut() = Some(index);
        self.used.set(Some(now()));
    }

    /// Forgets the index if nobody needs it. What it held is in files and pending bytes.
    pub fn unload(&self) -> bool {
        let free =
            self.views.get() == 0 && self.flight.get() == 0 && self.stale_names.borrow().is_empty();
        if free {
            *self.index.borrow_mut() = None;
        }
        free
    }

    /// Forgets the index although names lack letters: the next `load` finds out which do.
    pub fn give_up(&self) {
        assert!(self.views.get() == 0 && self.flight.get() == 0, "in use");
        self.stale_names.borrow_mut().clear();
        *self.index.borrow_mut() = None;
    }

    /// True when the next checkpoint should write the index anew.
    pub fn wants_snapshot(&self) -> bool {
        let rows = u64::from(self.meta.borrow().weight.messages);
        self.pending.borrow().log_end() > LOG_BYTES_MIN.max(rows * ROW_BYTES / 2)
    }

    /// Begins a new generation: a snapshot of what is applied now, and an empty log. Answers the
    /// files of the old one, to be removed after the checkpoint. The index must be loaded.
    pub fn begin_generation(&self) -> Vec<PathBuf> {
        let index = self.index.borrow();
        let Some(index) = index.as_ref() else {
            return Vec::new();
        };
        let old = self.meta.borrow().generation;
        *self.pending.borrow_mut() = Pending {
            snapshot: Some(index.encode()),
            ..Pending::default()
        };
        self.meta.borrow_mut().generation = old + 1;
        vec![self.snapshot_path(old), self.log_path(old)]
    }

    /// Pads the log so that what comes after a checkpoint leaves its sectors alone.
    pub fn seal_log(&self) {
        let mut pending = self.pending.borrow_mut();
        let mut padding = align(pending.log_end()) - pending.log_end();
        if (1..4).contains(&padding) {
            // Too little to hold the zero length that says so.
            padding += align(1);
        }
        let len = pending.log.len() + padding as usize;
        pending.log.resize(len, 0);
    }

    /// Writes pending bytes to the index files. They stay pending if that fails.
    pub async fn flush(&self, disk: &Disk) -> Result<(), StoreError> {
        use crate::runtime::Step;
        let _turn = self.files_turn().await?;
        let generation = self.meta.borrow().generation;
        let (snapshot, log, from) = {
            let pending = self.pending.borrow();
            (
                pending.snapshot.clone(),
                pending.log.clone(),
                pending.log_from,
            )
        };
        let mut steps = Vec::new();
        if let Some(bytes) = &snapshot {
            // Written in place: no catalogue names this generation before the checkpoint that
            // makes it durable, and a replay writes the same or a later state anew.
            let path = self.snapshot_path(generation);
            let len = bytes.len() as u64;
            steps.push(Step::Append {
                path: path.clone(),
                at: 0,
                bytes: bytes.clone(),
            });
            steps.push(Step::Truncate { path, len });
        }
        let written = log.len();
        if written > 0 {
            steps.push(Step::Append {
                path: self.log_path(generation),
                at: from,
                bytes: log,
            });
        }
        for done in disk.batch(steps).await {
            done.map_err(|e| disk_error(&e))?;
        }
        if self.meta.borrow().generation == generation {
            let mut pending = self.pending.borrow_mut();
            if snapshot.is_some() {
                pending.snapshot = None;
            }
            pending.log.drain(..written);
            pending.log_from += written as u64;
        }
        Ok(())
    }
}

/// An index file. Damage stays, but an error of the disk may pass: an index that is made anew has
/// lost what its files would say a moment later.
async fn read_whole(disk: &Disk, path: &Path) -> Result<Vec<u8>, StoreError> {
    for pause in READ_AGAIN_AFTER {
        match disk.read(path).await {
            Err(e) if matches!(e.kind, DiskErrorKind::Io(n) if !is_out_of_files(n)) => {
                sleep(pause).await;
            }
            other => return other.map_err(|e| disk_error(&e)),
        }
    }
    disk.read(path).await.map_err(|e| disk_error(&e))
}

const READ_AGAIN_AFTER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

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
