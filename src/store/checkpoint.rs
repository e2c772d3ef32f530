//! Checkpoints: what is applied becomes durable as files, so that journal slots can be reused.
//!
//! Protocol. (0) Settle everything. (1) Cut: note the journal's position, then take each dirty
//! partition's catalogue as bytes at some record at or after it. (2) Settle up to the cuts, write
//! index and cache bytes, and the catalogues under another name. (3) One syncfs. (4) Rename the
//! catalogues and sync again: this commits. (5) Release the journal, remove what is doomed.
//! A crash before (4) leaves the old catalogues and a journal that still has everything after
//! them; between (4) and (5) it leaves doomed files, which the next start removes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;

use super::body::Source;
use super::catalogue::Doomed;
use super::mailbox::{align, disk_error};
use super::maildir::{Settler, file_name, parse};
use super::owned::{Owned, count};
use super::partition::Partition;
use super::shard::Shard;
use super::{StoreError, repair};
use crate::base::{AccountId, Deadline, MailboxId, PSeq};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step, now, sleep, yield_if_needed};

/// Longest wait for another shard's checkpoint and a settling that is under way.
const SETTLING_WAIT: Duration = Duration::from_secs(300);
/// Between looks whether another shard's checkpoint is done.
const TURN_POLL: Duration = Duration::from_millis(20);
/// Files removed in one trip.
const UNLINKS_MAX: usize = 512;

/// A partition's state at one record.
pub(super) struct Cut {
    pub partition: Rc<Partition>,
    pub at: PSeq,
    catalogue: Vec<u8>,
}

/// The one checkpoint of the process that is under way.
struct Turn<'s>(&'s Shard);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.checkpointing.store(false, Ordering::Release);
    }
}

pub(super) async fn checkpoint(shard: &Shard) -> Result<(), StoreError> {
    let until = Deadline::after(now(), SETTLING_WAIT);
    while shard.checkpointing.swap(true, Ordering::AcqRel) {
        if shard.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        // Another shard hangs: the caller tries again, and tells that it had to.
        if now() >= until.0 {
            return Err(StoreError::Late);
        }
        sleep(TURN_POLL).await;
    }
    let _turn = Turn(shard);
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Late)?;
    if shard.is_poisoned() {
        return Err(StoreError::Poisoned);
    }
    let settler = shard.settler();
    for partition in shard.owned.all() {
        settler.run(&partition, PSeq(u64::MAX)).await?;
        settler.letters(&partition).await?;
        new_generations(&settler, &partition).await?;
    }
    let position = shard.journal.position();
    // Looked up only now: a partition that came to be meanwhile has its records below `position`.
    let partitions = shard.owned.all();
    let mut cuts = Vec::new();
    for partition in partitions.iter().filter(|p| p.dirty.get()) {
        cuts.push(cut(partition));
        yield_if_needed().await;
    }
    let outcome = commit(&settler, &cuts).await;
    if outcome.is_err() {
        cuts.iter().for_each(|cut| cut.partition.dirty.set(true));
    }
    if let Err(Fault::Sync(error)) = &outcome {
        // The kernel has dropped what it could not write: only a replay writes it again.
        tracing::error!(%error, "checkpoint not durable, no more acknowledgements");
        shard.sync_failed.store(true, Ordering::Release);
        shard.poisoned.notify_all();
        return Err(StoreError::Poisoned);
    }
    if let Err(Fault::Store(why)) = outcome {
        return Err(why);
    }
    shard.journal.release_below(position);
    for cut in &cuts {
        doom(&shard.patient, &shard.owned, &cut.partition, cut.at).await;
    }
    shard.spools.sweep().await;
    count(&shard.owned.counters.checkpoints);
    Ok(())
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

/// Takes the state as it is applied now. Synchronous.
pub(super) fn cut(partition: &Rc<Partition>) -> Cut {
    // What comes after this leaves the sectors alone that the checkpoint makes durable.
    for mailbox in partition.unflushed.borrow().iter() {
        mailbox.seal_log();
    }
    let mut state = partition.state.borrow_mut();
    for account in partition.caches.borrow().iter() {
        if let Some(account) = state.accounts.get_mut(account) {
            account.cache.end = align(account.cache.end);
        }
    }
    partition.dirty.set(false);
    let (at, catalogue) = (state.applied, state.encode(partition.id));
    drop(state);
    Cut {
        partition: partition.clone(),
        at,
        catalogue,
    }
}

/// Settles up to the cuts, makes it durable, and puts the catalogues in place.
pub(super) async fn commit(settler: &Settler<'_>, cuts: &[Cut]) -> Result<(), Fault> {
    if cuts.is_empty() {
        return Ok(());
    }
    let layout = &settler.owned.layout;
    let mut renames = Vec::new();
    for cut in cuts {
        settler.run(&cut.partition, cut.at).await?;
        // Once more: nobody would ever look again at a name, or a list of keywords, that a change
        // before the cut has made wrong.
        settler.letters(&cut.partition).await?;
        settle_accepted(settler, &cut.partition, cut.at).await?;
        settler.flush(&cut.partition).await?;
        let to = layout.catalogue(cut.partition.id);
        let path = to.with_extension("new");
        let len = cut.catalogue.len() as u64;
        let dir = layout.partition(cut.partition.id);
        let done = settler.disk.batch(vec![
            Step::CreateDirAll { path: dir },
            Step::Append {
                path: path.clone(),
                at: 0,
                bytes: cut.catalogue.clone(),
            },
            Step::Truncate {
                path: path.clone(),
                len,
            },
        ]);
        for outcome in done.await {
            outcome.map_err(catalogue_fault)?;
        }
        renames.push(Step::Rename { from: path, to });
    }
    settler.disk.syncfs().await.map_err(Fault::Sync)?;
    for outcome in settler.disk.batch(renames).await {
        outcome.map_err(catalogue_fault)?;
    }
    settler.disk.syncfs().await.map_err(Fault::Sync)
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
        let in_journal = state
            .accepted
            .range(..=upto)
            .filter(|(_, a)| matches!(a.source, Source::Journal(_)));
        in_journal.map(|(pseq, _)| *pseq).collect()
    };
    for pseq in waiting {
        let (source, memory, size) = {
            let state = partition.state.borrow();
            let Some(accepted) = state.accepted.get(&pseq) else {
                continue;
            };
            (
                accepted.source.clone(),
                accepted.memory.clone(),
                accepted.size,
            )
        };
        let bytes = settler
            .bodies
            .read(&source, memory.as_ref(), 0..size)
            .await?;
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
            outcome.map_err(|e| disk_error(&e))?;
        }
        let mut state = partition.state.borrow_mut();
        match state.accepted.get_mut(&pseq) {
            Some(accepted) => accepted.source = Source::File(path),
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

/// Removes what a durable checkpoint at `upto` has made superfluous. What cannot be removed now
/// is tried again after the next one.
pub(super) async fn doom(disk: &Disk, owned: &Owned, partition: &Partition, upto: PSeq) {
    partition.dooms.set(partition.dooms.get() + 1);
    remove_doomed(disk, owned, partition, upto).await;
    partition.dooms.set(partition.dooms.get() + 1);
}

async fn remove_doomed(disk: &Disk, owned: &Owned, partition: &Partition, upto: PSeq) {
    let mut doomed: Vec<(PSeq, Doomed)> = {
        let mut state = partition.state.borrow_mut();
        let n = state.doomed.partition_point(|(at, _)| *at <= upto);
        state.doomed.drain(..n).collect()
    };
    if doomed.is_empty() {
        return;
    }
    partition.dirty.set(true);
    let mut messages: BTreeMap<(AccountId, MailboxId), Vec<Named>> = BTreeMap::new();
    let mut steps = Vec::new();
    // By place in the list: what is to be tried again.
    let mut of_step = Vec::new();
    let mut left = BTreeSet::new();
    for (n, (_, doomed)) in doomed.iter().enumerate() {
        let path = match doomed {
            Doomed::Message {
                account,
                mailbox,
                stem,
                letters,
            } => {
                let of_mailbox = messages.entry((*account, *mailbox)).or_default();
                of_mailbox.push((n, stem.clone(), *letters));
                continue;
            }
            Doomed::File(path) | Doomed::Tree(path) => owned.layout.root.join(path),
        };
        let step = match doomed {
            Doomed::Tree(_) => Step::RemoveDirAll { path },
            _ if is_live_index(partition, &path) => continue,
            _ => Step::Unlink { path },
        };
        of_step.push(n);
        steps.push(step);
    }
    for (n, outcome) in of_step.into_iter().zip(disk.batch(steps).await) {
        if let Err(error) = outcome
            && error.kind != DiskErrorKind::NotFound
        {
            tracing::warn!(%error, "doomed file not removed");
            left.insert(n);
        }
    }
    for ((account, mailbox), files) in messages {
        // With a deleted mailbox its folder goes as a whole.
        let Ok(mailbox) = partition.mailbox(account, mailbox) else {
            continue;
        };
        for part in files.chunks(UNLINKS_MAX) {
            let several = partition.recovering.get().is_some();
            if let Err(error) = unlink_messages(disk, &mailbox.path(), part, several).await {
                tracing::warn!(%error, "expunged messages not removed");
                left.extend(part.iter().map(|(n, ..)| *n));
            }
        }
    }
    let mut state = partition.state.borrow_mut();
    for n in left.into_iter().rev() {
        state.doomed.push_front(doomed.swap_remove(n));
    }
}

/// Whether a doomed index file is a mailbox's own by now: one that took the name, and with it the
/// folder, of the mailbox whose file it was.
fn is_live_index(partition: &Partition, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(|name| name.starts_with("palomar.")) {
        return false;
    }
    let state = partition.state.borrow();
    let mut mailboxes = state.accounts.values().flat_map(|a| a.mailboxes.values());
    mailboxes.any(|mailbox| mailbox.writes_to(path))
}

/// A doomed message: its place in the list, its stem and its letters.
type Named = (usize, String, u32);

/// Removes messages' files; `several`: a power cut may have left them under several names.
async fn unlink_messages(
    disk: &Disk,
    folder: &Path,
    files: &[Named],
    several: bool,
) -> Result<(), DiskError> {
    let cur = folder.join("cur");
    let unlink = |(_, stem, letters): &Named| Step::Unlink {
        path: cur.join(file_name(stem, *letters)),
    };
    let outcomes = disk.batch(files.iter().map(unlink).collect()).await;
    let mut lost: HashMap<&str, ()> = HashMap::new();
    let mut trouble = None;
    if several {
        lost.extend(files.iter().map(|(_, stem, _)| (stem.as_str(), ())));
    }
    for ((_, stem, _), outcome) in files.iter().zip(outcomes) {
        match outcome {
            Err(error) if error.kind == DiskErrorKind::NotFound => {
                lost.insert(stem, ());
            }
            Err(error) => trouble = Some(error),
            Ok(_) => {}
        }
    }
    if lost.is_empty() {
        return trouble.map_or(Ok(()), Err);
    }
    // Not under the expected letters: one look at every name finds them all.
    let names = match disk.list(&cur).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let found: Vec<PathBuf> = names
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok())
        .filter(|name| lost.contains_key(parse(name).0))
        .map(|name| cur.join(name))
        .collect();
    let steps = found
        .into_iter()
        .map(|path| Step::Unlink { path })
        .collect();
    for outcome in disk.batch(steps).await {
        trouble = trouble.or(outcome.err());
    }
    trouble.map_or(Ok(()), Err)
}
