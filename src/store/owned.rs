//! The partitions of one shard, as the journal's commit task reaches them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashSet;

use super::catalogue::{Catalogue, CatalogueRepair};
use super::doom::Trees;
use super::journal::{Apply, Committed};
use super::mailbox::Mailbox;
use super::maildir::{Layout, SharedFiles};
use super::partition::Partition;
use super::quota::Watch;
use super::repair::{IndexRepair, Orphans};
use super::{Body, EntryKey, Message, Packing, QueueBounds, StoreError, ValueChange};
use crate::base::{AccountId, Epoch, MailboxId, PartitionId, Uid};
use crate::observe::{event, log_event};
use crate::runtime::local::Notify;
use crate::runtime::{Disk, DiskError};

/// Bodies of recent messages kept in memory until they are files.
const BODIES_BYTES_MAX: usize = 16 << 20;

/// What to do about a partition that cannot be settled.
const STUCK_REMEDY: &str = "give the path and what is in it to the user that palomar runs as, or \
     move it away; palomar tries again by itself";
/// Damaged catalogues that are remembered for a report.
const CATALOGUES_MAX: usize = 256;

/// Damaged messages that are remembered, so that each is told of once; beyond, again.
const TOLD_MAX: usize = 65_536;

type OpenKey = (PartitionId, AccountId, MailboxId);
pub(super) type ToldKey = (AccountId, MailboxId, Uid);

type SiteHook = Rc<dyn Fn(&ValueChange)>;

pub(super) struct Owned {
    pub layout: Layout,
    pub partitions: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    /// Mailboxes that sessions have open.
    pub open: RefCell<BTreeMap<OpenKey, Rc<Mailbox>>>,
    /// How message files are written.
    pub packing: Cell<Packing>,
    /// Something waits to be settled.
    pub work: Notify,
    /// A queue partition took a message.
    pub outbox: Notify,
    /// Entries of queue partitions that are not as the queue last saw them.
    pub queue_changes: RefCell<BTreeSet<EntryKey>>,
    pub queue_told: Notify,
    pub counters: Counters,
    /// Mailboxes whose index was loaded, and may be still.
    pub loaded: RefCell<Vec<Rc<Mailbox>>>,
    /// Of this start.
    pub epoch: Cell<Epoch>,
    /// What became of indexes that could not be read, newest last.
    pub repairs: RefCell<VecDeque<IndexRepair>>,
    /// What the disk said last when settling failed for another reason than room or time.
    pub trouble: RefCell<Option<DiskError>>,
    /// The same of catalogues.
    pub catalogues: RefCell<VecDeque<CatalogueRepair>>,
    pub orphans: Orphans,
    /// Messages that were told of as damaged or missing in this life.
    pub told: RefCell<HashSet<ToldKey>>,
    pub trees: Trees,
    pub quota: Watch,
    /// Dead room in caches is being given back.
    pub compacting: Cell<bool>,
    /// What owners in several partitions have one file of.
    pub shared: SharedFiles,
    /// A file that was not finished may lie in some `tmp` since this start.
    pub is_tmp_used: Cell<bool>,
    /// Days for which removed messages are kept; 0 keeps none.
    pub keep_days: Cell<u32>,
    pub queue_bounds: Cell<QueueBounds>,
    /// The disk is full and nothing kept is left to make room: what cannot be kept goes.
    pub keeps_no_more: Cell<bool>,
    site_hooks: RefCell<Vec<SiteHook>>,
    bodies_bytes: Cell<usize>,
}

/// What the store counts.
#[derive(Default)]
pub(super) struct Counters {
    pub records: Cell<u64>,
    pub settled: Cell<u64>,
    /// Folders that were renamed or put out of sight.
    pub folders_settled: Cell<u64>,
    pub checkpoints: Cell<u64>,
    /// Operations that did not fit the state they were applied to.
    pub misfits: Cell<u64>,
    /// Files that were not where the index has them.
    pub files_missing: Cell<u64>,
    pub settle_failures: Cell<u64>,
    /// Files that were compressed after they were written.
    pub packed: Cell<u64>,
    pub handed_over: Cell<u64>,
    pub index_bytes: Cell<u64>,
    /// Indexes that could not be read, and those of them that were made anew.
    pub indexes_damaged: Cell<u64>,
    pub indexes_rebuilt: Cell<u64>,
    /// Copies of catalogues that were damaged.
    pub catalogues_damaged: Cell<u64>,
    /// Places in live slots of the journal that were not what was written.
    pub journal_damaged: Cell<u64>,
    /// Digests that were damaged or missing; they are made anew when they are asked for.
    pub digests_damaged: Cell<u64>,
    /// Messages that are not what the index says.
    pub messages_damaged: Cell<u64>,
    /// Files without a row that were taken in as new messages.
    pub orphans_taken: Cell<u64>,
    /// Compressed archive files of which only a part could be unpacked.
    pub archives_cut: Cell<u64>,
    /// Removed messages, and entries of the history, that could not be kept.
    pub history_lost: Cell<u64>,
    /// Days of removed messages that went early because the disk was full.
    pub history_days_early: Cell<u64>,
}

pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Owned {
    pub fn new(layout: Layout) -> Rc<Owned> {
        Rc::new(Owned {
            layout,
            partitions: RefCell::default(),
            open: RefCell::default(),
            packing: Cell::default(),
            work: Notify::new(),
            outbox: Notify::new(),
            queue_changes: RefCell::default(),
            queue_told: Notify::new(),
            counters: Counters::default(),
            loaded: RefCell::default(),
            epoch: Cell::new(Epoch(0)),
            repairs: RefCell::default(),
            trouble: RefCell::default(),
            catalogues: RefCell::default(),
            orphans: Orphans::default(),
            told: RefCell::default(),
            trees: Trees::default(),
            quota: Watch::default(),
            compacting: Cell::new(false),
            shared: SharedFiles::default(),
            is_tmp_used: Cell::new(false),
            keep_days: Cell::new(0),
            queue_bounds: Cell::default(),
            keeps_no_more: Cell::new(false),
            site_hooks: RefCell::default(),
            bodies_bytes: Cell::new(0),
        })
    }

    /// The partition; an empty one where there was none.
    pub fn partition(&self, id: PartitionId) -> Rc<Partition> {
        let mut partitions = self.partitions.borrow_mut();
        partitions
            .entry(id)
            .or_insert_with(|| Partition::new(id, Catalogue::default()))
            .clone()
    }

    pub fn all(&self) -> Vec<Rc<Partition>> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// The queue has not seen any entry of a partition yet.
    pub fn note_queued(&self, partition: &Partition) {
        let state = partition.state.borrow();
        let partition = partition.id;
        let keys = state
            .accepted
            .leaving()
            .map(|pseq| EntryKey { partition, pseq });
        self.queue_changes.borrow_mut().extend(keys);
    }

    /// What came of settling a partition, or of its part in a checkpoint. `Err` is what concerns
    /// all of them; for what concerns this one alone (a folder that cannot be renamed, a tree that
    /// somebody else owns) it waits, and is told of.
    pub fn judge(
        &self,
        partition: &Partition,
        outcome: Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let trouble = self.trouble.borrow_mut().take();
        match (outcome, trouble) {
            (Ok(()), _) => {
                if partition.stuck.borrow_mut().take().is_some() {
                    let partition = partition.id;
                    log_event!(INFO, event::PARTITION_FREED, %partition);
                }
                Ok(true)
            }
            (Err(StoreError::Damaged { .. }), Some(error)) => {
                if partition.stuck.borrow().as_ref() != Some(&error) {
                    log_event!(
                        ERROR,
                        event::PARTITION_STUCK,
                        partition = %partition.id,
                        path = %error.path.display(),
                        %error,
                        remedy = STUCK_REMEDY
                    );
                }
                *partition.stuck.borrow_mut() = Some(error);
                Ok(false)
            }
            (Err(why), _) => Err(why),
        }
    }

    /// Reads the index of a mailbox, which is unloaded again when memory is short.
    pub async fn load(&self, mailbox: &Rc<Mailbox>, disk: &Disk) -> Result<(), StoreError> {
        mailbox.load(disk).await?;
        self.note_loaded(mailbox);
        Ok(())
    }

    /// The index of a mailbox is in memory.
    pub fn note_loaded(&self, mailbox: &Rc<Mailbox>) {
        if !mailbox.listed.replace(true) {
            self.loaded.borrow_mut().push(mailbox.clone());
        }
    }

    /// A session has opened the mailbox, or closed it.
    pub fn note_open(&self, mailbox: &Rc<Mailbox>) {
        let key = (mailbox.partition, mailbox.account, mailbox.id);
        match mailbox.views.get() {
            0 => drop(self.open.borrow_mut().remove(&key)),
            1 => drop(self.open.borrow_mut().insert(key, mailbox.clone())),
            _ => {}
        }
    }

    /// The message, where memory allows to keep it until its file is written.
    pub fn keep(&self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let Body::Inline(bytes) = &message.body else {
            return None;
        };
        let held = self.bodies_bytes.get() + bytes.len();
        (held <= BODIES_BYTES_MAX).then(|| {
            self.bodies_bytes.set(held);
            message.clone()
        })
    }

    /// The opposite of [`keep`](Owned::keep).
    pub fn forget(&self, kept: Option<&Arc<Message>>) {
        if let Some(Body::Inline(bytes)) = kept.map(|m| &m.body) {
            self.bodies_bytes
                .set(self.bodies_bytes.get().saturating_sub(bytes.len()));
        }
    }

    /// A message is damaged or missing: whether that is news. One without a UID always is.
    pub fn is_news(&self, message: ToldKey) -> bool {
        let mut told = self.told.borrow_mut();
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(message) || message.2 == Uid::default()
    }

    /// It was read to its end, and is what was taken in.
    pub fn note_whole(&self, mailbox: &Mailbox, uid: Uid) {
        let key = (mailbox.account, mailbox.id, uid);
        self.told.borrow_mut().remove(&key);
    }

    /// A catalogue was damaged.
    pub fn note_catalogue(&self, repair: CatalogueRepair) {
        let damaged = &self.counters.catalogues_damaged;
        damaged.set(damaged.get() + repair.files.len() as u64);
        let mut all = self.catalogues.borrow_mut();
        all.push_back(repair);
        if all.len() > CATALOGUES_MAX {
            all.pop_front();
        }
    }

    pub fn on_site_value(&self, hook: SiteHook) {
        self.site_hooks.borrow_mut().push(hook);
    }

    pub fn tell_site_value(&self, change: &ValueChange) {
        let hooks = self.site_hooks.borrow().clone();
        hooks.iter().for_each(|hook| hook(change));
    }
}

impl Apply for Owned {
    fn apply(&self, batch: &[Committed]) {
        for committed in batch {
            self.partition(committed.record.partition)
                .apply(committed, self);
            count(&self.counters.records);
        }
        self.work.notify_all();
    }
}
