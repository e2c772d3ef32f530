//! The outbox: messages in this shard's queue partitions go to their owners, each target once.
//!
//! Delivered at least once, applied once: the owner's record carries the entry's key, and its
//! marks outlive a restart. An entry is tried for ever, with growing pauses; nothing is bounced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::HashSet;

use super::body::Source;
use super::deliver::{Placement, Shared};
use super::journal::Class;
use super::owned::count;
use super::partition::Partition;
use super::remote::{HAND_OVER_SPAN, Remote};
use super::shard::Shard;
use super::{Body, Message, Op, OutboxKey, StoreError, repair};
use crate::base::{Deadline, PSeq, PartitionId};
use crate::runtime::{now, sleep, spawn_in};

/// Messages handed over at the same time.
const WORKERS_MAX: usize = 32;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Entries that found no worker are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

type Working = Rc<RefCell<HashSet<(PartitionId, PSeq)>>>;

/// Runs until the store drains.
pub(super) async fn run(shard: Rc<Shard>) {
    let working: Working = Rc::default();
    while !shard.gate.is_closed() && !shard.is_poisoned() {
        let told = shard.owned.outbox.notified();
        let mut waiting = false;
        for partition in shard.owned.all().into_iter().filter(|p| p.id.is_queue()) {
            // No more than can be begun: there may be very many, and this runs for each new one.
            let entries: Vec<PSeq> = {
                let (state, working) = (partition.state.borrow(), working.borrow());
                let free = |pseq: &PSeq| !working.contains(&(partition.id, *pseq));
                let waiting = state.accepted.keys().copied().filter(free);
                waiting.take(WORKERS_MAX + 1).collect()
            };
            for pseq in entries {
                let key = (partition.id, pseq);
                if working.borrow().len() >= WORKERS_MAX {
                    waiting = true;
                    break;
                }
                working.borrow_mut().insert(key);
                let (shard_too, partition, working) =
                    (shard.clone(), partition.clone(), working.clone());
                spawn_in(&shard.gate, "outbox", async move {
                    hand_over_all(&shard_too, &partition, pseq).await;
                    working.borrow_mut().remove(&key);
                    // There is a worker for what waits.
                    shard_too.owned.outbox.notify_all();
                });
            }
        }
        let again = async {
            match waiting {
                true => or(sleep(LOOK_AGAIN), told).await,
                false => told.await,
            }
        };
        or(again, shard.gate.closing()).await;
    }
}

/// Hands over one message to all its owners.
async fn hand_over_all(shard: &Rc<Shard>, partition: &Rc<Partition>, pseq: PSeq) {
    let mut pause = PAUSE_MIN;
    while !shard.gate.is_closed() && !shard.is_poisoned() {
        match try_once(shard, partition, pseq).await {
            Ok(true) => return,
            Ok(false) => pause = PAUSE_MIN,
            Err(why) => {
                tracing::warn!(?why, partition = %partition.id, %pseq, "hand-over put off");
                or(sleep(pause), shard.gate.closing()).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// One owner's share of one message. True when nothing is left.
async fn try_once(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    pseq: PSeq,
) -> Result<bool, StoreError> {
    let mut by_owner: BTreeMap<PartitionId, Vec<(u16, Placement)>> = BTreeMap::new();
    {
        let state = partition.state.borrow();
        let Some(accepted) = state.accepted.get(&pseq) else {
            return Ok(true);
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
            by_owner
                .entry(target.account.partition)
                .or_default()
                .push((ordinal, placement));
        }
    }
    let Some((owner, share)) = by_owner.pop_first() else {
        return Ok(true);
    };
    let shared = message_of(shard, partition, pseq).await?;
    let low_water = (partition.id, partition.state.borrow().low_water());
    let (ordinals, placements): (Vec<u16>, Vec<Placement>) = share.into_iter().unzip();
    let until = Deadline::after(now(), HAND_OVER_SPAN);
    let remote = Remote::new(shard.clone());
    remote
        .hand_over(owner, shared, placements, low_water, until)
        .await?;
    count(&shard.owned.counters.handed_over);
    let done = ordinals
        .into_iter()
        .map(|ordinal| Op::HandedOver { pseq, ordinal })
        .collect();
    let ticket = shard.submit(partition, done, Vec::new(), Class::Completion)?;
    shard.commit(ticket).await?;
    Ok(by_owner.is_empty())
}

async fn message_of(
    shard: &Shard,
    partition: &Partition,
    pseq: PSeq,
) -> Result<Shared, StoreError> {
    let (source, shared, size) = {
        let state = partition.state.borrow();
        let accepted = state.accepted.get(&pseq).ok_or(StoreError::Expunged)?;
        let message = match &accepted.memory {
            Some(message) => message.clone(),
            None => Arc::new(Message {
                body: Body::InJournal,
                digest: accepted.digest.clone(),
                size: accepted.size,
                crc32c: accepted.crc32c,
                blake3: accepted.blake3,
            }),
        };
        let shared = Shared {
            message,
            received: accepted.saved,
            trace: accepted.trace,
        };
        (accepted.source.clone(), shared, accepted.size)
    };
    if !matches!(shared.message.body, Body::InJournal) {
        return Ok(shared);
    }
    let body = match source {
        Source::Spool(path) => Body::Spool(path),
        source => {
            let sum = shared.message.crc32c;
            let (bytes, is_whole) = shard.bodies.whole(&source, None, size, sum).await?;
            if !is_whole {
                // Its owners get what there is: nothing else will ever be there.
                repair::note_damaged_queue(&shard.owned, partition.id, pseq);
            }
            Body::Inline(bytes)
        }
    };
    let message = Arc::new(Message {
        body,
        digest: shared.message.digest.clone(),
        size: shared.message.size,
        crc32c: shared.message.crc32c,
        blake3: shared.message.blake3,
    });
    Ok(Shared { message, ..shared })
}
