//! Checkpoints: what is applied becomes durable as files, so that journal slots can be reused.
//!
//! Protocol. (0) Settle everything. (1) Cut: note the journal's position, then take each dirty
//! partition's catalogue as bytes at some record at or after it, in slices; the log of a long queue is
//! written ahead of that. (2) Settle up to the cuts, write
//! index and cache bytes, and the catalogues, each twice, under other names. (3) One syncfs. (4)
//! Rename the catalogues and sync again: this commits. (5) Release the journal, remove what is doomed.
//! Expunged messages get their second names, and the history its entries, in (2).
//! A crash before (4) leaves the old catalogues and a journal that still has everything after
//! them; between (4) and (5) it leaves doomed files, which the next start removes.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::catalogue::{self, Cut};
use super::doom::{self, Doomed};
use super::journal::Position;
use super::mailbox::disk_error;
use super::maildir::Settler;
use super::owned::count;
use super::partition::Partition;
use super::shard::Shard;
use super::{StoreError, history, queue, repair};
use crate::base::{Deadline, PSeq, PartitionId};
use crate::runtime::{DiskError, DiskErrorKind, Step, now, sleep, unix_now};

/// Longest wait for another shard's checkpoint and a settling that is under way.
const SETTLING_WAIT: Duration = Duration::from_secs(300);
/// Between looks whether another shard's checkpoint is done.
const TURN_POLL: Duration = Duration::from_millis(20);

/// The one checkpoint of the process that is under way.
struct Turn<'s>(&'s Shard);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.checkpointing.store(false, Ordering::Release);
    }
}

pub(super) async fn checkpoint(shard: &Shard) -> Result<(), StoreError> {
    let until = Deadline::after(now(), SETTLING_WAIT);
    let _settling = loop {
        // No other shard waits for what is under way here, and nothing here for another shard.
        let settling = shard.settling.acquire(1, until).await;
        let settling = settling.map_err(|_| StoreError::Late)?;
        if shard.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        if !shard.checkpointing.swap(true, Ordering::AcqRel) {
            break settling;
        }
        drop(settling);
        // Another shard hangs: the caller tries again, and tells that it had to.
        if now() >= until.0 {
            return Err(StoreError::Late);
        }
        sleep(TURN_POLL).await;
    };
    let _turn = Turn(shard);
    let settler = shard.settler();
    let mut stuck = BTreeSet::new();
    for partition in shard.owned.all() {
        let outcome = match settler.run(&partition, PSeq(u64::MAX)).await {
            Ok(()) => settler.letters(&partition).await,
            outcome => outcome,
        };
        if !shard.owned.judge(&partition, outcome)? {
            stuck.insert(partition.id);
            continue;
        }
        // A log may grow for a while: an index written anew takes as much again as it has.
        if !shard.room.is_pressed() {
            new_generations(&settler, &partition).await?;
        }
        history::compress(&shard.disk, &partition).await;
    }
    let position = shard.journal.position();
    // Looked up only now: a partition that came to be meanwhile has its records below `position`.
    let partitions = shard.owned.all();
    let mut cuts = Vec::new();
    let mut cutting = Cutting::default();
    let due = |p: &&Rc<Partition>| p.dirty.get() && !stuck.contains(&p.id);
    let may_rewrite = !shard.room.is_pressed();
    let outcome = async {
        for partition in partitions.iter().filter(due) {
            cutting.begin(partition);
            cuts.push(cut(&settler, partition, may_rewrite).await?);
        }
        commit(&settler, &mut cuts).await
    };
    let outcome = outcome.await;
    cutting.is_in_place = outcome.is_ok();
    if let Err(Fault::Sync(error)) = &outcome {
        // The kernel has dropped what it could not write: only a replay writes it again.
        tracing::error!(%error, "checkpoint not durable, no more acknowledgements");
        shard.sync_failed.store(true, Ordering::Release);
        shard.poisoned.notify_all();
        return Err(StoreError::Poisoned);
    }
    let left = match outcome {
        Err(Fault::Store(why)) => return Err(why),
        outcome => outcome.unwrap_or_default(),
    };
    stuck.extend(left);
    release(shard, &partitions, &stuck, position);
    for cut in cuts.iter().filter(|cut| !stuck.contains(&cut.partition.id)) {
        doom::doom(&shard.patient, &shard.owned, &cut.partition, cut.at).await;
        let removed = queue::remove_old(&shard.disk, &shard.layout, &cut.partition).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "a queue's log of before is not removed yet");
        }
    }
    shard.spools.sweep().await;
    shard.owned.keeps_no_more.set(false);
    shard.room.note_stuck(false);
    count(&shard.owned.counters.checkpoints);
    match stuck.first() {
        None => Ok(()),
        Some(&partition) => Err(StoreError::Damaged {
            partition,
            since: unix_now(),
        }),
    }
}

/// The journal lets go what every partition has in its files by now.
fn release(
    shard: &Shard,
    partitions: &[Rc<Partition>],
    stuck: &BTreeSet<PartitionId>,
    position: Position,
) {
    let mut oldest = Some(position);
    for partition in partitions {
        if !stuck.contains(&partition.id) {
            partition.covered.set(Some(position));
        }
        // `None`: no checkpoint of this life has covered any of it.
        oldest = oldest.min(partition.covered.get());
    }
    if let Some(oldest) = oldest {
        shard.journal.release_below(oldest);
    }
}

/// Partitions whose catalogues are on their way: what those name must stay until it is over.
#[derive(Default)]
struct Cutting {
    partitions: Vec<Rc<Partition>>,
    is_in_place: bool,
}

impl Cutting {
    /// Before the walk: what is given up while it goes on may be in its slices already.
    fn begin(&mut self, partition: &Rc<Partition>) {
        partition.cutting.set(true);
        self.partitions.push(partition.clone());
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        for partition in &self.partitions {
            if !self.is_in_place {
                // Also where nobody waited for the end of it: the next one has it to do.
                partition.dirty.set(true);
            }
            partition.end_cut();
        }
    }
}

pub(super) enum Fault {
    Store(StoreError),
    /// A sync failed: what it should have made durable may be lost.
    Sync(DiskError),
}

impl From<StoreError> for Fault {
    fn from(why: StoreError) -> Self {
        Fault::Store(why)
    }
}

/// Writes ahead what a queue's log lacks, and takes the state.
pub(super) async fn cut(
    settler: &Settler<'_>,
    partition: &Rc<Partition>,
    may_rewrite: bool,
) -> Result<Cut, Fault> {
    let Settler { disk, owned, .. } = settler;
    let how = (owned.queue_bounds.get(), may_rewrite);
    let log = queue::write_ahead(disk, &owned.layout, partition, how).await;
    Ok(catalogue::cut(partition, log.map_err(catalogue_fault)?).await)
}

/// Settles up to the cuts, makes it durable, and puts the catalogues in place. Answers the
/// partitions that cannot be settled, and are not part of it.
pub(super) async fn commit(
    settler: &Settler<'_>,
    cuts: &mut [Cut],
) -> Result<Vec<PartitionId>, Fault> {
    let mut stuck = Vec::new();
    if cuts.is_empty() {
        return Ok(stuck);
    }
    let layout = &settler.owned.layout;
    let mut renames = Vec::new();
    for cut in cuts.iter_mut() {
        let outcome = settle_cut(settler, cut).await;
        if !settler.owned.judge(&cut.partition, outcome)? {
            cut.partition.dirty.set(true);
            stuck.push(cut.partition.id);
            continue;
        }
        let written = cut.log.write(settler.disk, layout, cut.partition.id).await;
        written.map_err(catalogue_fault)?;
        let written = catalogue::write(settler.disk, layout, cut).await;
        renames.extend(written.map_err(catalogue_fault)?);
    }
    settler.disk.syncfs().await.map_err(Fault::Sync)?;
    for cut in cuts.iter().filter(|cut| !stuck.contains(&cut.partition.id)) {
        let mut state = cut.partition.state.borrow_mut();
        state.accepted.log.advance(cut.named);
    }
    for outcome in settler.disk.batch(renames).await {
        outcome.map_err(catalogue_fault)?;
    }
    settler.disk.syncfs().await.map_err(Fault::Sync)?;
    Ok(stuck)
}

async fn settle_cut(settler: &Settler<'_>, cut: &Cut) -> Result<(), StoreError> {
    settler.run(&cut.partition, cut.at).await?;
    // Once more: nobody would ever look again at a name, or a list of keywords, that a change
    // before the cut has made wrong.
    settler.letters(&cut.partition).await?;
    settle_accepted(settler, &cut.partition, cut.at).await?;
    settler.flush(&cut.partition).await?;
    history::flush(settler, &cut.partition).await?;
    doom::keep(settler, &cut.partition, cut.at).await
}

/// What is late with a catalogue may still happen, in the middle of the next attempt, and put half
/// of that one in place: there must be none in this life.
fn catalogue_fault(error: DiskError) -> Fault {
    match error.kind {
        DiskErrorKind::Late => Fault::Sync(error),
        _ => Fault::Store(disk_error(&error)),
    }
}

/// Begins new index generations where logs have become long.
async fn new_generations(settler: &Settler<'_>, partition: &Partition) -> Result<(), StoreError> {
    let mailboxes = partition.unflushed.borrow().clone();
    for mailbox in mailboxes
        .iter()
        .filter(|m| !m.deleted.get() && m.wants_snapshot())
    {
        if repair::load(settler.disk, settler.owned, partition, mailbox)
            .await
            .is_err()
        {
            // Its log grows on; nobody else waits for it.
            continue;
        }
        let old = mailbox.begin_generation();
        let mut state = partition.state.borrow_mut();
        let at = state.applied;
        for path in old {
            let file = settler.owned.layout.relative(&path).to_path_buf();
            state.doomed.push_back((at, Doomed::File(file)));
        }
    }
    Ok(())
}

/// Messages that still wait for their owners leave the journal for files of their own.
async fn settle_accepted(
    settler: &Settler<'_>,
    partition: &Partition,
    upto: PSeq,
) -> Result<(), StoreError> {
    let waiting: Vec<PSeq> = {
        let state = partition.state.borrow();
        state.unfiled.range(..=upto).copied().collect()
    };
    for pseq in waiting {
        let (source, memory, size, crc32c) = {
            let state = partition.state.borrow();
            let Some(accepted) = state.accepted.get(&settler.owned.layout, pseq) else {
                continue;
            };
            (
                accepted.source.clone(),
                accepted.memory.clone(),
                accepted.size,
                accepted.crc32c,
            )
        };
        let read = settler.bodies.whole(&source, memory.as_ref(), size, crc32c);
        let (bytes, is_whole) = read.await?;
        if !is_whole {
            repair::note_damaged_queue(settler.owned, partition.id, pseq);
        }
        let path = settler.owned.layout.queue_file(partition.id, pseq);
        let dir = settler.owned.layout.partition(partition.id);
        let done = settler.disk.batch(vec![
            Step::CreateDirAll { path: dir },
            Step::Append {
                path: path.clone(),
                at: 0,
                bytes,
            },
            Step::Truncate {
                path: path.clone(),
                len: size,
            },
        ]);
        for outcome in done.await {
            outcome.map_err(|e| settler.fault(&e))?;
        }
        let mut state = partition.state.borrow_mut();
        state.unfiled.remove(&pseq);
        match state.accepted.filed(pseq, path.clone()) {
            // What waits for days does not do so in memory.
            Some(kept) => settler.owned.forget(kept.as_ref()),
            // Handed over meanwhile.
            None => {
                let at = state.applied;
                let file = settler.owned.layout.relative(&path).to_path_buf();
                state.doomed.push_back((at, Doomed::File(file)));
            }
        }
    }
    Ok(())
}
