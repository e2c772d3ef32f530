//! The outbox: messages in this shard's queue partitions go to their owners, each target once.
//!
//! Delivered at least once, applied once: the owner's record carries the entry's key, and its
//! marks outlive a restart. An entry is tried for ever, with growing pauses; nothing is bounced.
//! New entries and those that failed before have workers of their own, and an owner that cannot
//! be served does not keep the others of the same message waiting.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::body::Source;
use super::deliver::{Placement, Shared};
use super::journal::Class;
use super::maildir::Layout;
use super::owned::count;
use super::partition::Partition;
use super::remote::{HAND_OVER_SPAN, Remote};
use super::shard::Shard;
use super::spool::{name_for, of_spool};
use super::{Body, Message, Op, OutboxKey, StoreError, repair};
use crate::base::{Deadline, PSeq, PartitionId};
use crate::runtime::{now, sleep, spawn_in};

/// New messages handed over at the same time.
const FRESH_MAX: usize = 24;
/// The same of those that failed before: however many there are, new ones pass them.
const AGAIN_MAX: usize = 8;
/// Owners of one message that are asked at the same time.
const OWNERS_MAX: usize = 8;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The first wait for an owner; it doubles up to [`HAND_OVER_SPAN`].
const SPAN_MIN: Duration = Duration::from_secs(5);

type Entry = (PartitionId, PSeq);

/// Who is at work, and what waits to be tried again. An entry stands in one place at most.
#[derive(Default)]
struct Desk {
    fresh: usize,
    again: usize,
    /// Below it every entry of a queue was begun.
    begun: BTreeMap<PartitionId, PSeq>,
    /// By the time of the next attempt; with the attempts so far.
    resting: BTreeMap<(Instant, Entry), u32>,
}

impl Desk {
    /// The next entry to begin, and how often it was tried.
    fn next(&mut self, shard: &Shard) -> Option<(Rc<Partition>, PSeq, u32)> {
        let at = now();
        if self.again < AGAIN_MAX
            && let Some(first) = self.resting.first_entry()
            && first.key().0 <= at
        {
            let ((_, (id, pseq)), attempts) = first.remove_entry();
            return Some((shard.owned.partition(id), pseq, attempts));
        }
        if self.fresh >= FRESH_MAX {
            return None;
        }
        for partition in shard.owned.all().into_iter().filter(|p| p.id.is_queue()) {
            let from = self.begun.entry(partition.id).or_default();
            let next = partition.state.borrow().owed.range(*from..).next().copied();
            if let Some(pseq) = next {
                *from = PSeq(pseq.0 + 1);
                return Some((partition, pseq, 0));
            }
        }
        None
    }
}

/// One worker's entry. However the work ends, the entry is done or rests.
struct Worker {
    shard: Rc<Shard>,
    desk: Rc<RefCell<Desk>>,
    entry: Entry,
    attempts: u32,
    done: bool,
}

impl Worker {
    fn end(mut self) {
        self.done = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut desk = self.desk.borrow_mut();
        match self.attempts {
            0 => desk.fresh -= 1,
            _ => desk.again -= 1,
        }
        if !self.done {
            let pause = doubled(PAUSE_MIN, self.attempts).min(PAUSE_MAX);
            let attempts = self.attempts.saturating_add(1);
            desk.resting.insert((now() + pause, self.entry), attempts);
        }
        drop(desk);
        // There is a worker for what waits.
        self.shard.owned.outbox.notify_all();
    }
}

fn doubled(span: Duration, times: u32) -> Duration {
    span * (1 << times.min(10))
}

/// Runs until the store drains.
pub(super) async fn run(shard: Rc<Shard>) {
    let desk = Rc::<RefCell<Desk>>::default();
    while !shard.gate.is_closed() && !shard.is_poisoned() {
        let told = shard.owned.outbox.notified();
        loop {
            let next = desk.borrow_mut().next(&shard);
            let Some((partition, pseq, attempts)) = next else {
                break;
            };
            begin(&shard, &desk, partition, pseq, attempts);
        }
        let rests = {
            let desk = desk.borrow();
            let first = desk.resting.keys().next().map(|(at, _)| *at);
            // With every worker busy, the first that ends tells.
            first.filter(|_| desk.again < AGAIN_MAX)
        };
        let again = async {
            match rests {
                Some(at) => or(sleep(at.saturating_duration_since(now())), told).await,
                None => told.await,
            }
        };
        or(again, shard.gate.closing()).await;
    }
}

fn begin(
    shard: &Rc<Shard>,
    desk: &Rc<RefCell<Desk>>,
    partition: Rc<Partition>,
    pseq: PSeq,
    attempts: u32,
) {
    match attempts {
        0 => desk.borrow_mut().fresh += 1,
        _ => desk.borrow_mut().again += 1,
    }
    let worker = Worker {
        shard: shard.clone(),
        desk: desk.clone(),
        entry: (partition.id, pseq),
        attempts,
        done: false,
    };
    spawn_in(&shard.gate, "outbox", async move {
        let shard = worker.shard.clone();
        match hand_over_all(&shard, &partition, pseq, attempts).await {
            Ok(()) => worker.end(),
            Err(why) => {
                tracing::warn!(?why, partition = %partition.id, %pseq, "hand-over put off");
                drop(worker);
            }
        }
    });
}

/// Hands over one message to all its owners; whoever fails does not keep it from the rest.
async fn hand_over_all(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    pseq: PSeq,
    attempts: u32,
) -> Result<(), StoreError> {
    let shares = shares(&shard.layout, partition, pseq);
    if shares.is_empty() {
        return Ok(());
    }
    let shared = message_of(shard, partition, pseq).await?;
    let span = doubled(SPAN_MIN, attempts).min(HAND_OVER_SPAN);
    let jobs = shares.into_iter().map(|(owner, share)| {
        let shared = match &shared.message.body {
            // Its name of old may be another record's by now, whatever we were told.
            Body::Spool(path) if attempts == 0 => Shared {
                message: of_spool(&shared.message, name_for(path, owner)),
                ..shared.clone()
            },
            _ => shared.clone(),
        };
        hand_over(shard, partition, shared, (owner, share), span)
    });
    let mut outcome = Ok(());
    let mut done = Vec::new();
    for handed in all_of(jobs).await {
        match handed {
            Ok(ordinals) => done.extend(ordinals),
            Err(why) => outcome = outcome.and(Err(why)),
        }
    }
    if !done.is_empty() {
        let handed_over = |ordinal| Op::HandedOver { pseq, ordinal };
        let ops = done.into_iter().map(handed_over).collect();
        let ticket = shard.submit(partition, ops, Vec::new(), Class::Completion)?;
        shard.commit(ticket).await?;
    }
    outcome
}

/// Does the jobs, [`OWNERS_MAX`] at a time: what they write shares batches.
async fn all_of<F: Future>(mut jobs: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        loop {
            running.extend(jobs.by_ref().take(OWNERS_MAX - running.len()).map(Box::pin));
            let before = running.len();
            running.retain_mut(|job| match job.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(outcome) => {
                    done.push(outcome);
                    false
                }
            });
            if running.is_empty() && before == 0 {
                return Poll::Ready(std::mem::take(&mut done));
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}

type Share = Vec<(u16, Placement)>;

/// What is left to be handed over, by the owning partition.
fn shares(layout: &Layout, partition: &Partition, pseq: PSeq) -> BTreeMap<PartitionId, Share> {
    let mut by_owner: BTreeMap<PartitionId, Share> = BTreeMap::new();
    let state = partition.state.borrow();
    let Some(accepted) = state.accepted.get(layout, pseq) else {
        return by_owner;
    };
    for (n, target) in accepted.targets.iter().enumerate() {
        let Some(target) = target else { continue };
        let ordinal = n as u16;
        let origin = Some(OutboxKey {
            source: partition.id,
            pseq,
            ordinal,
        });
        let placement = Placement {
            target: target.clone(),
            origin,
        };
        let share = by_owner.entry(target.account.partition).or_default();
        share.push((ordinal, placement));
    }
    by_owner
}

/// One owner's share of one message; answers what it has now.
async fn hand_over(
    shard: &Rc<Shard>,
    partition: &Partition,
    shared: Shared,
    (owner, share): (PartitionId, Share),
    span: Duration,
) -> Result<Vec<u16>, StoreError> {
    if shard.is_poisoned() || shard.gate.is_closed() {
        return Err(StoreError::Poisoned);
    }
    let low_water = (partition.id, partition.state.borrow().low_water());
    let (ordinals, placements): (Vec<u16>, Vec<Placement>) = share.into_iter().unzip();
    let until = Deadline::after(now(), span);
    let remote = Remote::new(shard.clone());
    remote
        .hand_over(owner, shared, placements, low_water, until)
        .await?;
    count(&shard.owned.counters.handed_over);
    Ok(ordinals)
}

/// A message for its owners. They get what there is: nothing else will ever be there.
async fn message_of(
    shard: &Shard,
    partition: &Partition,
    pseq: PSeq,
) -> Result<Shared, StoreError> {
    let (message, is_whole) = body_of(shard, partition, pseq).await?;
    if !is_whole {
        repair::note_damaged_queue(&shard.owned, partition.id, pseq);
    }
    let state = partition.state.borrow();
    let accepted = state
        .accepted
        .get(&shard.layout, pseq)
        .ok_or(StoreError::Expunged)?;
    Ok(Shared {
        message,
        received: accepted.saved,
        trace: accepted.trace,
    })
}

/// The body of an entry, with what can be read of it, and whether that is what was taken in. One in
/// a spool file is not looked at.
pub(super) async fn body_of(
    shard: &Shard,
    partition: &Partition,
    pseq: PSeq,
) -> Result<(Arc<Message>, bool), StoreError> {
    let (source, message) = {
        let state = partition.state.borrow();
        let accepted = state
            .accepted
            .get(&shard.layout, pseq)
            .ok_or(StoreError::Expunged)?;
        let known = Arc::new(Message {
            body: Body::InJournal,
            digest: accepted.digest.clone(),
            size: accepted.size,
            crc32c: accepted.crc32c,
            blake3: accepted.blake3,
        });
        let message = accepted.memory.clone().unwrap_or(known);
        (accepted.source.clone(), message)
    };
    if !matches!(message.body, Body::InJournal) {
        return Ok((message, true));
    }
    let (body, is_whole) = match source {
        Source::Spool(path) => (Body::Spool(path), true),
        source => {
            let read = shard
                .bodies
                .whole(&source, None, message.size, message.crc32c);
            let (bytes, is_whole) = read.await?;
            (Body::Inline(bytes), is_whole)
        }
    };
    let message = Message {
        body,
        digest: message.digest.clone(),
        size: message.size,
        crc32c: message.crc32c,
        blake3: message.blake3,
    };
    Ok((Arc::new(message), is_whole))
}
