//! The store of one shard as the server holds it: opened, run in the background, drained.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future::or;

use super::archive::Looks;
use super::bodies::Bodies;
use super::catalogue::CatalogueRepair;
use super::doom::{self, Doomed};
use super::journal::{self, Journal, JournalError, ReaderStats, Stats};
use super::mailbox::Mailbox;
use super::maildir::Layout;
use super::owned::{Owned, count};
#[cfg(test)]
use super::partition::Partition;
use super::remote::{self, Remote};
use super::room::{self, Room};
use super::scrub::{self, ScrubOrder, ScrubStatus, Scrubs};
use super::shard::Shard;
use super::spool::Spools;
use super::startup::{self, Recovered, StartError};
use super::{
    AccountRef, KeywordsApart, MailboxRepair, RepairOrder, StoreConfig, StoreError, adopt, cache,
    checkpoint, history, outbox, repack, repair,
};
use crate::base::{Deadline, PSeq, ShardId};
use crate::runtime::local::{Notify, Semaphore};
use crate::runtime::{
    Disk, DiskErrorKind, Gate, Pool, now, rest, sleep, spawn_in, yield_if_needed,
};

/// Fill of the journal from which a checkpoint does not wait for its time.
const CHECKPOINT_PERMILLE: u32 = 500;
/// Between looks at the journal's fill.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// The same while nothing is applied: an idle server hardly wakes.
const WATCH_IDLE_EVERY: Duration = Duration::from_secs(2);
/// Between checkpoints of a full journal that a partition which cannot be settled keeps full.
const STUCK_PAUSE: Duration = Duration::from_secs(10);
/// After a failure of the disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a drain makes room for its last checkpoint.
const LAST_TRIES: u32 = 8;
/// An index nobody looked at for so long is forgotten when memory is short.
const IDLE_AFTER: Duration = Duration::from_secs(300);

/// One shard's store. Clones are handles to the same.
#[derive(Clone)]
pub struct Store {
    shard: Rc<Shard>,
    /// Held while any shard lives.
    _recovered: Rc<Recovered>,
}

/// What the store of one shard has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub journal: Stats,
    pub journal_fill_permille: u32,
    pub records: u64,
    pub settled: u64,
    pub checkpoints: u64,
    pub handed_over: u64,
    pub files_missing: u64,
    pub misfits: u64,
    pub settle_failures: u64,
    pub indexes_damaged: u64,
    pub indexes_rebuilt: u64,
    /// Copies of catalogues that were damaged.
    pub catalogues_damaged: u64,
    /// Places in live slots of the journal that were not what was written.
    pub journal_damaged: u64,
    pub digests_damaged: u64,
    pub messages_damaged: u64,
    pub orphans_taken: u64,
    pub archives_cut: u64,
    /// Removed messages that could not be kept, and days that went early for want of room.
    pub history_lost: u64,
    pub history_days_early: u64,
    /// Free on the file system, and how often that was too little for new mail.
    pub free_bytes: u64,
    pub mail_refused: u64,
    /// Files that were compressed after they were written.
    pub packed: u64,
    /// Mailbox indexes in memory, when it was last looked.
    pub indexes: u64,
    pub index_bytes: u64,
    /// Partitions that cannot be settled, and wait.
    pub stuck: u64,
    /// Tasks that wait to be settled, and messages that wait for their owners.
    pub unsettled: u64,
    pub outbox: u64,
}

impl Store {
    /// Once a process, before any shard serves: locks the data directory, replays, settles and
    /// makes durable what a former process left. `disk` has its root in the data directory.
    pub async fn recover_all(cfg: StoreConfig, disk: &Disk) -> Result<Recovered, StartError> {
        let lock = match cfg.lock {
            true => Some(Arc::new(startup::lock(&cfg.data_dir)?)),
            false => None,
        };
        let layout = Layout {
            root: cfg.data_dir.clone(),
        };
        loop {
            // A start that failed has changed nothing that the next one does not do again.
            match startup::recover_all(cfg.clone(), disk, lock.clone()).await {
                Err(why) if why.is_full() => {
                    tracing::warn!(%why, "the start found no room");
                    if !room::for_start(disk, &layout).await? {
                        return Err(full(disk, &layout).await);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens one shard's part and starts its background tasks.
    pub async fn open(id: ShardId, from: &Recovered, disk: Disk) -> Result<Store, StartError> {
        let inbox = from
            .inboxes
            .get(usize::from(id.0))
            .and_then(|i| i.try_recv().ok());
        let inbox = inbox.ok_or(StartError::Opened)?;
        let cfg = from.cfg.clone();
        let layout = Layout {
            root: cfg.data_dir.clone(),
        };
        let owned = Owned::new(layout.clone());
        owned.epoch.set(from.epoch);
        owned.keep_days.set(cfg.undelete_days);
        owned.packing.set(cfg.packing);
        owned.queue_bounds.set(cfg.queue_bounds);
        for partition in from.present.iter().filter(|p| p.owner(cfg.shards) == id) {
            let handed = from.entries.get(partition).and_then(|e| e.try_recv().ok());
            let loaded = startup::load_partition(&disk, &layout, *partition, handed).await?;
            // The start removed the others already; these write to the history.
            let mut state = loaded.state.borrow_mut();
            let to_history = |d: &Doomed| matches!(d, Doomed::Kept(_) | Doomed::Frame { .. });
            let left = from.left.get(partition).map_or(&[][..], Vec::as_slice);
            state
                .doomed
                .retain(|entry| to_history(&entry.1) || left.contains(entry));
            loaded.dirty.set(!state.doomed.is_empty());
            drop(state);
            owned.quota.look_through(&loaded);
            owned.orphans.take_over(&loaded, &from.orphans);
            owned.note_queued(&loaded);
            owned.partitions.borrow_mut().insert(*partition, loaded);
        }
        let ours = |r: &&CatalogueRepair| r.partition.owner(cfg.shards) == id;
        for repair in from.catalogues.iter().filter(ours) {
            owned.note_catalogue(repair.clone());
        }
        let room = Room::new(cfg.free_bytes_min, from.room.clone(), id);
        let journal = begin_journal(&cfg, &disk, &layout, id, &owned).await?;
        let memory = cfg.body_memory_bytes_max;
        let shard = Rc::new(Shard {
            id,
            epoch: from.epoch,
            bodies: Bodies::live(disk.clone(), journal.clone()),
            spools: Spools::new(disk.clone(), room.clone(), &layout, from.epoch, id, memory),
            room,
            layout,
            patient: disk.patient(),
            disk,
            journal,
            owned,
            mesh: from.mesh.clone(),
            gate: Gate::new(),
            settling: Semaphore::new(1),
            checkpointing: from.checkpointing.clone(),
            checkpoint_wanted: Notify::new(),
            sync_failed: from.sync_failed.clone(),
            poisoned: Notify::new(),
            scrubs: Scrubs::default(),
            archives: Looks::new(from.unpacking.clone()),
            cfg,
        });
        room::look(&shard).await;
        if id == ShardId(0) {
            take_leftovers(&shard, &from.leftovers);
        }
        spawn_in(
            &shard.gate,
            "store-requests",
            remote::serve(shard.clone(), inbox),
        );
        spawn_in(&shard.gate, "store-settle", settle_loop(shard.clone()));
        spawn_in(
            &shard.gate,
            "store-checkpoint",
            checkpoint_loop(shard.clone()),
        );
        spawn_in(&shard.gate, "store-watch", adopt::watch(shard.clone()));
        spawn_in(&shard.gate, "store-outbox", outbox::run(shard.clone()));
        spawn_in(&shard.gate, "store-orphans", repair::run(shard.clone()));
        spawn_in(&shard.gate, "store-trees", doom::run(shard.clone()));
        spawn_in(&shard.gate, "store-scrub", scrub::run(shard.clone()));
        spawn_in(&shard.gate, "store-prune", history::run(shard.clone()));
        spawn_in(&shard.gate, "store-room", room::watch(shard.clone()));
        if shard.cfg.pack_old {
            spawn_in(&shard.gate, "store-repack", repack::run(shard.clone()));
        }
        Ok(Store {
            shard,
            _recovered: Rc::new(from.clone()),
        })
    }

    /// The whole data directory on this one shard: for a command on a stopped server.
    pub async fn open_single(data_dir: &Path) -> Result<Store, StartError> {
        let cfg = StoreConfig::new(data_dir.to_path_buf(), 1);
        std::fs::create_dir_all(data_dir).map_err(|cause| StartError::InUse {
            lock: data_dir.into(),
            by: cause.to_string(),
        })?;
        let disk = Disk::real(Pool::start(2, 1024)).with_root(data_dir)?;
        let recovered = Self::recover_all(cfg, &disk).await?;
        Self::open(ShardId(0), &recovered, disk).await
    }

    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(self.shard.clone())
    }

    /// User partitions of this data directory: 0 to this.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self._recovered.partitions
    }

    /// Looks at everything at rest that the order names, to the end. `Busy` while another one runs.
    pub async fn scrub(&self, order: ScrubOrder) -> Result<(), StoreError> {
        scrub::scrub(&self.shard, order).await
    }

    /// How far the scrub is, and what it found.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        self.shard.scrubs.status(&self.shard)
    }

    /// Looks at, or mends, an account's mailboxes.
    pub async fn repair(
        &self,
        account: AccountRef,
        order: &RepairOrder,
    ) -> Result<Vec<MailboxRepair>, StoreError> {
        repair::repair(&self.shard, account, order).await
    }

    /// Makes a checkpoint now.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        checkpoint::checkpoint(&self.shard).await
    }

    /// Writes every file that is due, and the lists that other programs go by, without a sync.
    /// Answers what of the flags these cannot say.
    pub async fn settle_all(&self) -> Result<Vec<KeywordsApart>, StoreError> {
        settle(&self.shard, true).await?;
        adopt::write_lists(&self.shard).await
    }

    /// To look into.
    #[cfg(test)]
    pub(super) fn partition(&self, id: crate::base::PartitionId) -> Rc<Partition> {
        self.shard.owned.partition(id)
    }

    /// Begins a new generation of an index now, as a checkpoint does when its log is long.
    #[cfg(test)]
    pub(super) async fn rewrite_index(&self, account: u64, name: &str) -> Result<(), StoreError> {
        let account = super::tests::account(account);
        let partition = self.shard.partition(account.partition)?;
        let mailbox = {
            let state = partition.state.borrow();
            let of_account = state.accounts.get(&account.account);
            of_account.and_then(|a| a.find(name)).cloned()
        };
        let mailbox = mailbox.ok_or(StoreError::NoMailbox)?;
        repair::rewrite(&self.shard.disk, &self.shard.owned, &partition, &mailbox).await
    }

    /// Compresses, now, files that were written plain; what the background does with `pack_old`.
    #[cfg(test)]
    pub(super) async fn repack(&self) -> Result<(), StoreError> {
        repack::pass(&self.shard).await
    }

    /// Gives dead room in caches back now, where there is more of it than `dead_bytes_min`.
    #[cfg(test)]
    pub(super) async fn compact_caches(&self, dead_bytes_min: u64) -> Result<(), StoreError> {
        cache::pass(&self.shard, dead_bytes_min).await
    }

    /// Ends the background tasks, commits what is in flight and makes a last checkpoint; nothing is
    /// taken from then on. Whatever fails, what was acknowledged is in the journal. The last shard
    /// that comes to a clean end retires the journals: the next start has nothing to replay.
    pub async fn drain(&self, until: Deadline) -> Result<(), StoreError> {
        let shard = &self.shard;
        if let Err(inside) = shard.gate.close(until).await {
            tracing::warn!(inside, "store tasks still running at the end of the drain");
        }
        // Sessions that were cut off may still be about to change something.
        shard.journal.end();
        shard.journal.drain(until).await?;
        let last = last_checkpoint(shard);
        crate::runtime::deadline(until, last)
            .await
            .map_err(|_| StoreError::Late)??;
        let ended = &self._recovered.ended;
        if shard.is_poisoned() || ended.fetch_add(1, Ordering::AcqRel) + 1 != shard.cfg.shards {
            return Ok(());
        }
        let root = &shard.layout.root;
        if let Err(why) = journal::retire_all(&shard.disk, root, shard.epoch).await {
            tracing::warn!(%why, "the next start reads the journal once more");
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Forgets the removed mail of days that are over on day `today`.
    #[cfg(test)]
    pub(super) async fn prune(&self, today: history::Day) {
        let pruned = history::prune(&self.shard, today).await;
        pruned.expect("nothing fails");
    }

    /// True once a disk failure has ended all acknowledging.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shard.is_poisoned()
    }

    /// Returns when the store is poisoned: the process says why and exits.
    pub async fn poisoned(&self) {
        let sync_failed = async {
            loop {
                let told = self.shard.poisoned.notified();
                if self.shard.sync_failed.load(Ordering::Acquire) {
                    return;
                }
                told.await;
            }
        };
        or(self.shard.journal.when_poisoned(), sync_failed).await;
    }

    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = &self.shard.owned.counters;
        let all = self.shard.owned.all();
        StoreStats {
            journal: self.shard.journal.stats(),
            journal_fill_permille: self.shard.journal.fill_permille(),
            records: counters.records.get(),
            settled: counters.settled.get(),
            checkpoints: counters.checkpoints.get(),
            handed_over: counters.handed_over.get(),
            files_missing: counters.files_missing.get(),
            misfits: counters.misfits.get(),
            settle_failures: counters.settle_failures.get(),
            indexes: self.shard.owned.loaded.borrow().len() as u64,
            index_bytes: counters.index_bytes.get(),
            indexes_damaged: counters.indexes_damaged.get(),
            indexes_rebuilt: counters.indexes_rebuilt.get(),
            catalogues_damaged: counters.catalogues_damaged.get(),
            journal_damaged: counters.journal_damaged.get(),
            digests_damaged: counters.digests_damaged.get(),
            messages_damaged: counters.messages_damaged.get(),
            orphans_taken: counters.orphans_taken.get(),
            archives_cut: counters.archives_cut.get(),
            history_lost: counters.history_lost.get(),
            history_days_early: counters.history_days_early.get(),
            free_bytes: self.shard.room.free(),
            mail_refused: self.shard.room.refused.get(),
            packed: counters.packed.get(),
            stuck: all.iter().filter(|p| p.stuck.borrow().is_some()).count() as u64,
            unsettled: all.iter().map(|p| p.tasks.borrow().len() as u64).sum(),
            outbox: all
                .iter()
                .map(|p| p.state.borrow().accepted.len() as u64)
                .sum(),
        }
    }
}

impl Store {
    /// Who reads the journal, and how far each is.
    #[must_use]
    pub fn journal_readers(&self) -> Vec<ReaderStats> {
        self.shard.journal.readers()
    }
}

/// What the start could not remove is tried again from time to time.
fn take_leftovers(shard: &Shard, left: &[PathBuf]) {
    let mut trees = Vec::new();
    for path in left.iter().cloned() {
        match path.starts_with(shard.layout.spool()) {
            true => shard.spools.abandon(path),
            false => trees.push(path),
        }
    }
    shard.owned.trees.add(trees);
}

/// Settles all partitions; with `letters` also names of files.
async fn settle(shard: &Shard, letters: bool) -> Result<(), StoreError> {
    let until = Deadline::after(now(), Duration::from_secs(300));
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Late)?;
    let settler = shard.settler();
    let mut stuck = Ok(());
    for partition in shard.owned.all() {
        let outcome = match settler.run(&partition, PSeq(u64::MAX)).await {
            Ok(()) if letters => settler.letters(&partition).await,
            outcome => outcome,
        };
        if !shard.owned.judge(&partition, outcome.clone())? {
            stuck = outcome;
        }
        history::compress(&shard.disk, &partition).await;
        yield_if_needed().await;
    }
    stuck
}

async fn settle_loop(shard: Rc<Shard>) {
    while !shard.gate.is_closed() {
        let work = shard.owned.work.notified();
        let waiting = shard
            .owned
            .all()
            .iter()
            .any(|p| !p.tasks.borrow().is_empty());
        if !waiting {
            or(work, shard.gate.closing()).await;
            // More is on its way: one trip to the disk's threads then does it all.
            or(sleep(shard.cfg.settle_after), shard.gate.closing()).await;
        }
        if let Err(why) = settle(&shard, false).await {
            count(&shard.owned.counters.settle_failures);
            tracing::warn!(?why, "settling put off");
            make_room(&shard, &why).await;
            or(sleep(RETRY_AFTER), shard.gate.closing()).await;
        }
    }
}

async fn checkpoint_loop(shard: Rc<Shard>) {
    let mut last = now();
    while !shard.gate.is_closed() {
        let wanted = shard.checkpoint_wanted.notified();
        // What is applied may fill the journal; otherwise there is only the time to watch.
        let applied = shard.owned.work.notified();
        let worked = async {
            applied.await;
            sleep(WATCH_EVERY).await;
        };
        let passed = or(rest(WATCH_IDLE_EVERY), worked);
        or(or(passed, wanted), shard.gate.closing()).await;
        let dirty = shard.owned.all().iter().any(|p| p.dirty.get());
        let due = now().duration_since(last) >= shard.cfg.checkpoint_every;
        let full = shard.journal.unreleased_permille() >= CHECKPOINT_PERMILLE;
        // What waits keeps the journal full, whatever is done.
        let is_stuck = shard.owned.all().iter().any(|p| p.stuck.borrow().is_some());
        let full = full && (!is_stuck || now().duration_since(last) >= STUCK_PAUSE);
        // What is doomed, and slots that are done with, are what there is to give back.
        let short = shard.room.is_pressed() || shard.journal.starved();
        let due = due || (short && now().duration_since(last) >= RETRY_AFTER);
        // Not left to checkpoints: on a full disk they may wait for just this room.
        if shard.spools.sweep().await && shard.room.has_refused() {
            give_back(&shard).await;
        }
        forget_idle(&shard);
        if shard.gate.is_closed() || shard.is_poisoned() || !(full || (due && dirty)) {
            continue;
        }
        last = now();
        match checkpoint::checkpoint(&shard).await {
            Ok(()) => cache::begin(&shard),
            Err(why) => {
                tracing::warn!(?why, "checkpoint put off");
                make_room(&shard, &why).await;
                or(sleep(RETRY_AFTER), shard.gate.closing()).await;
            }
        }
    }
}

/// The one that a drain ends with. Where there is no room for it, what can be given up for it goes.
async fn last_checkpoint(shard: &Shard) -> Result<(), StoreError> {
    let mut outcome = checkpoint::checkpoint(shard).await;
    for _ in 0..LAST_TRIES {
        let Err(why @ StoreError::Full) = &outcome else {
            break;
        };
        make_room(shard, why).await;
        outcome = checkpoint::checkpoint(shard).await;
    }
    outcome
}

/// The reserve goes, and then what is kept of removed mail, before anything waits for room.
async fn make_room(shard: &Shard, why: &StoreError) {
    if *why != StoreError::Full {
        return;
    }
    shard.room.note_stuck(true);
    let given = room::release(&shard.patient, &shard.layout.root).await || give_up_day(shard).await;
    match given {
        true => give_back(shard).await,
        false => shard.owned.keeps_no_more.set(true),
    }
}

/// The oldest day of removed mail goes, while no folder is on its way into it.
pub(super) async fn give_up_day(shard: &Shard) -> bool {
    let until = Deadline::after(now(), Duration::from_secs(300));
    let settling = shard.settling.acquire(1, until).await;
    let Ok(_settling) = settling else {
        return false;
    };
    history::free(&shard.patient, &shard.owned).await
}

/// Some file systems give room back only at a sync.
pub(super) async fn give_back(shard: &Shard) {
    if let Err(error) = shard.disk.syncfs().await {
        tracing::error!(%error, "sync failed, no more acknowledgements");
        shard.sync_failed.store(true, Ordering::Release);
        shard.poisoned.notify_all();
    }
}

/// This start's chain. Where there is no room for its first slot, what can be given up goes.
async fn begin_journal(
    cfg: &StoreConfig,
    disk: &Disk,
    layout: &Layout,
    id: ShardId,
    owned: &Rc<Owned>,
) -> Result<Journal, StartError> {
    loop {
        let sink = owned.clone();
        match Journal::create(&cfg.journal, disk.patient(), id.0, sink).await {
            Err(JournalError::Disk(e)) if e.kind == DiskErrorKind::Full => {
                if !room::for_start(disk, layout).await? {
                    return Err(full(disk, layout).await);
                }
            }
            outcome => return Ok(outcome?),
        }
    }
}

async fn full(disk: &Disk, layout: &Layout) -> StartError {
    let root = layout.root.clone();
    let free = disk.free_bytes().await.unwrap_or_default();
    StartError::Full { root, free }
}

/// Unloads indexes that nobody has open, the longest unused first: those nobody looked at for long,
/// and more until the rest fits. One that a session has open stays, however idle the session is.
fn forget_idle(shard: &Shard) {
    let mut loaded = shard.owned.loaded.borrow_mut();
    let size = |mailbox: &Rc<Mailbox>| mailbox.index.borrow().as_ref().map_or(0, |i| i.bytes());
    let drop_unloaded = |mailbox: &Rc<Mailbox>| {
        let there = mailbox.index.borrow().is_some();
        mailbox.listed.set(there);
        there
    };
    loaded.retain(drop_unloaded);
    let mut bytes: usize = loaded.iter().map(size).sum();
    loaded.sort_by_key(|mailbox| mailbox.used.get());
    let most = shard.cfg.index_memory_bytes_max;
    loaded.retain(|mailbox| {
        let used = mailbox.used.get();
        let long = used.is_none_or(|at| now().duration_since(at) > IDLE_AFTER);
        let idle = long || mailbox.deleted.get();
        let (size, wanted) = (size(mailbox), idle || bytes > most);
        let unloaded = wanted && mailbox.unload();
        if unloaded {
            bytes -= size;
            mailbox.listed.set(false);
        }
        !unloaded
    });
    shard.owned.counters.index_bytes.set(bytes as u64);
}
