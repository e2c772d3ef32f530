//! The partitions of one shard, as the journal's commit task reaches them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::journal::{Apply, Committed};
use super::maildir::Layout;
use super::partition::Partition;
use super::{Body, Message, Packing, ValueChange};
use crate::base::PartitionId;
use crate::runtime::local::Notify;

/// Bodies of recent messages kept in memory until they are files.
const BODIES_BYTES_MAX: usize = 16 << 20;

type SiteHook = Rc<dyn Fn(&ValueChange)>;

pub(super) struct Owned {
    pub layout: Layout,
    pub partitions: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    /// How message files are written.
    pub packing: Cell<Packing>,
    /// Something waits to be settled.
    pub work: Notify,
    /// A queue partition took a message.
    pub outbox: Notify,
    pub counters: Counters,
    /// Days for which removed messages are kept; 0 keeps none.
    pub keep_days: Cell<u32>,
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
    pub checkpoints: Cell<u64>,
    /// Operations that did not fit the state they were applied to.
    pub misfits: Cell<u64>,
    /// Files that were not where the index has them.
    pub files_missing: Cell<u64>,
    pub settle_failures: Cell<u64>,
    /// Files that were compressed after they were written.
    pub packed: Cell<u64>,
    pub handed_over: Cell<u64>,
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
            packing: Cell::default(),
            work: Notify::new(),
            outbox: Notify::new(),
            counters: Counters::default(),
            keep_days: Cell::new(0),
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
