//! What the room `queue` may ask of the entries of this shard. All of it is local: an entry never
//! leaves the shard that took it in.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

use super::{EntryKey, MailClass, Outbound, RecipientState, Redirect, Steering, Tried};
use crate::base::{Crc32c, Deadline, PSeq, PartitionId, TraceId, UnixMs};
use crate::runtime::{deadline, trace_id, unix_now, yield_if_needed};
use crate::store::journal::Class;
use crate::store::outbox::body_of;
use crate::store::partition::Partition;
use crate::store::remote::is_better_shared;
use crate::store::{Body, BodyRef, Message, Op, Remote, StoreError, Target, ValueChange};
use crate::wire::smtp::MailFrom;

/// Entries that are looked at in one go.
const SLICE: usize = 256;

/// An entry as it is now.
#[derive(Clone, Copy, Debug)]
pub struct QueueEntry<'e> {
    pub saved: UnixMs,
    pub trace: Option<TraceId>,
    /// Octets of the body, without `Outbound::head`.
    pub size: u64,
    pub outbound: &'e Outbound,
}

/// A message of our own making that becomes durable together with what it is about: a notice, or
/// the copies of what was held.
#[derive(Clone, Debug)]
pub struct NewEntry {
    pub message: Arc<Message>,
    pub trace: TraceId,
    /// Who has it here; else `outbound` names who elsewhere.
    pub targets: Vec<Target>,
    pub outbound: Option<Box<Outbound>>,
}

impl Remote {
    /// Makes a message durable in this shard's queue partition: for owners here, to whom the outbox
    /// hands it on, and for whom `outbound` names elsewhere. `Late` leaves open whether it is.
    pub async fn send(
        &self,
        message: Arc<Message>,
        targets: Vec<Target>,
        outbound: Option<Box<Outbound>>,
        trace: TraceId,
        until: Deadline,
    ) -> Result<EntryKey, StoreError> {
        let shard = self.shard();
        let home = shard.partition(PartitionId::queue(shard.id.0))?;
        let owners: BTreeSet<_> = targets.iter().map(|t| t.account.partition).collect();
        let is_spooled = matches!(message.body, Body::Spool(_));
        let is_shared = is_spooled || is_better_shared(message.size, owners.len());
        let message = match is_shared && !owners.is_empty() {
            true => {
                let sharing = shard.spools.share(&message, owners.into_iter());
                deadline(until, sharing)
                    .await
                    .unwrap_or(Err(StoreError::Late))?
            }
            false => message,
        };
        let op = Op::Accepted {
            body: BodyRef::New(0),
            targets,
            outbound,
            saved: unix_now(),
            trace: Some(trace),
        };
        let bodies = vec![message.clone()];
        let ticket = shard.submit(&home, vec![op], bodies, Class::NewMail)?;
        shard.spools.given(&message);
        let pseq = home.flight.borrow().last;
        let partition = home.id;
        match deadline(until, shard.commit(ticket)).await {
            Ok(durable) => durable.map(|()| EntryKey { partition, pseq }),
            Err(_) => Err(StoreError::Late),
        }
    }

    /// Entries that came, changed or went since the last call; at first all there are. Waits until
    /// there is one.
    pub async fn queue_changes(&self) -> Vec<EntryKey> {
        let owned = &self.shard().owned;
        loop {
            let told = owned.queue_told.notified();
            let changed = std::mem::take(&mut *owned.queue_changes.borrow_mut());
            if !changed.is_empty() {
                return changed.into_iter().collect();
            }
            told.await;
        }
    }

    /// Shows an entry that is not done, of this shard.
    pub fn queue_entry<T>(
        &self,
        key: EntryKey,
        see: impl FnOnce(QueueEntry<'_>) -> T,
    ) -> Option<T> {
        let partition = self.shard().partition(key.partition).ok()?;
        let state = partition.state.borrow();
        let accepted = state.accepted.get(&key.pseq)?;
        let outbound = accepted.outbound.as_deref()?;
        Some(see(QueueEntry {
            saved: accepted.saved,
            trace: accepted.trace,
            size: accepted.size,
            outbound,
        }))
    }

    /// Shows every entry of this shard, in the order in which they were taken in. What comes or goes
    /// meanwhile may be among them or not: others have a turn in between.
    pub async fn queue_entries(&self, see: &mut dyn FnMut(EntryKey, QueueEntry<'_>)) {
        for partition in self.shard().owned.all() {
            let mut from = Bound::Unbounded;
            loop {
                let last = self.queue_slice(&partition, from, see);
                let Some(last) = last else { break };
                from = Bound::Excluded(last);
                yield_if_needed().await;
            }
        }
    }

    /// Shows some; answers the last one that was looked at.
    fn queue_slice(
        &self,
        partition: &Partition,
        from: Bound<PSeq>,
        see: &mut dyn FnMut(EntryKey, QueueEntry<'_>),
    ) -> Option<PSeq> {
        let state = partition.state.borrow();
        let range = state.accepted.range((from, Bound::Unbounded));
        let mut last = None;
        for (pseq, accepted) in range.take(SLICE) {
            last = Some(*pseq);
            let Some(outbound) = accepted.outbound.as_deref() else {
                continue;
            };
            let key = EntryKey {
                partition: partition.id,
                pseq: *pseq,
            };
            let entry = QueueEntry {
                saved: accepted.saved,
                trace: accepted.trace,
                size: accepted.size,
                outbound,
            };
            see(key, entry);
        }
        last
    }

    /// The body of an entry: from memory, journal or file. `Damaged`: it is not what was taken in.
    pub async fn queue_body(&self, key: EntryKey) -> Result<Arc<Message>, StoreError> {
        let shard = self.shard();
        let partition = shard.partition(key.partition)?;
        let (message, is_whole) = body_of(shard, &partition, key.pseq).await?;
        match is_whole {
            true => Ok(message),
            false => Err(StoreError::Damaged {
                partition: key.partition,
                since: unix_now(),
            }),
        }
    }

    /// Part of the body of an entry as it lies there, and the sum that all of it must have.
    pub async fn queue_piece(
        &self,
        key: EntryKey,
        range: Range<u64>,
    ) -> Result<(Vec<u8>, Crc32c), StoreError> {
        let shard = self.shard();
        let partition = shard.partition(key.partition)?;
        let (source, memory, sum) = {
            let state = partition.state.borrow();
            let accepted = state.accepted.get(&key.pseq).ok_or(StoreError::Expunged)?;
            let (source, memory) = (accepted.source.clone(), accepted.memory.clone());
            (source, memory, accepted.crc32c)
        };
        let read = shard.bodies.read(&source, memory.as_ref(), range);
        Ok((read.await?, sum))
    }

    /// A value that the queue of this shard keeps for itself.
    #[must_use]
    pub fn queue_value(&self, namespace: &str, key: &[u8]) -> Option<Arc<[u8]>> {
        let shard = self.shard();
        let home = shard.partition(PartitionId::queue(shard.id.0)).ok()?;
        let state = home.state.borrow();
        let key = (namespace.to_owned(), key.to_vec());
        state.values.get(&key).cloned()
    }

    /// Keeps one.
    pub async fn set_queue_value(
        &self,
        namespace: &str,
        key: &[u8],
        value: Vec<u8>,
        until: Deadline,
    ) -> Result<(), StoreError> {
        let change = ValueChange {
            account: None,
            namespace: namespace.to_owned(),
            key: key.to_vec(),
            value: Some(value),
        };
        let home = PartitionId::queue(self.shard().id.0);
        self.set_values(home, vec![change], until).await
    }

    /// Makes an attempt's results durable, and the notice about them in the same record: there is
    /// no end without its notice, and no notice without its end.
    pub async fn queue_tried(
        &self,
        key: EntryKey,
        tried: Tried,
        notice: Option<NewEntry>,
    ) -> Result<(), StoreError> {
        let op = Op::Tried {
            entry: key.pseq,
            tried,
        };
        self.queue_change(key, op, notice).await
    }

    /// Makes durable that recipients who are owners here have their copy, from the outbox, and the
    /// attempt's results in the same record.
    pub async fn queue_bring(
        &self,
        key: EntryKey,
        tried: Tried,
        targets: Vec<Target>,
    ) -> Result<(), StoreError> {
        let shard = self.shard();
        let message = shard.spools.own_copy(&self.queue_body(key).await?).await?;
        let owners: BTreeSet<_> = targets.iter().map(|t| t.account.partition).collect();
        let message = match matches!(message.body, Body::Spool(_))
            || is_better_shared(message.size, owners.len())
        {
            true => shard.spools.share(&message, owners.into_iter()).await?,
            false => message,
        };
        let trace = self.queue_entry(key, |entry| entry.trace).flatten();
        let copies = NewEntry {
            message,
            trace: trace.unwrap_or_else(trace_id),
            targets,
            outbound: None,
        };
        let op = Op::Tried {
            entry: key.pseq,
            tried,
        };
        self.queue_change(key, op, Some(copies)).await
    }

    /// Makes durable what a person, or the clock, wants of recipients.
    pub async fn queue_steer(
        &self,
        key: EntryKey,
        ordinals: Vec<u16>,
        steering: Steering,
        notice: Option<NewEntry>,
    ) -> Result<(), StoreError> {
        let op = Op::Steered {
            entry: key.pseq,
            at: unix_now(),
            ordinals,
            steering,
        };
        self.queue_change(key, op, notice).await
    }

    async fn queue_change(
        &self,
        key: EntryKey,
        op: Op,
        new: Option<NewEntry>,
    ) -> Result<(), StoreError> {
        let shard = self.shard();
        let home = shard.partition(key.partition)?;
        let mut ops = vec![op];
        let mut bodies = Vec::new();
        if let Some(one) = new {
            ops.push(Op::Accepted {
                body: BodyRef::New(0),
                targets: one.targets,
                outbound: one.outbound,
                saved: unix_now(),
                trace: Some(one.trace),
            });
            bodies.push(one.message);
        }
        // What makes the queue shorter has room where nothing else has.
        let ticket = shard.submit(&home, ops, bodies.clone(), Class::Completion)?;
        bodies.iter().for_each(|body| shard.spools.given(body));
        shard.commit(ticket).await
    }
}

impl QueueEntry<'_> {
    /// Ordinals of recipients of a destination that are due at `now`, and of those the earliest due
    /// time of any that waits.
    #[must_use]
    pub fn due(&self, destination: &str, now: UnixMs) -> Vec<u16> {
        let of = self.outbound.recipients.iter().enumerate();
        of.filter(|(_, r)| r.destination == destination)
            .filter(|(_, r)| matches!(r.state, RecipientState::Waiting { due } if due <= now))
            .map(|(ordinal, _)| ordinal as u16)
            .collect()
    }

    /// What MAIL says of a copy, and what stands before the shared body in it.
    #[must_use]
    pub fn copy(&self, redirect: Option<&Redirect>) -> (MailFrom, Vec<u8>) {
        let (mut mail, mut head) = (self.outbound.mail.clone(), Vec::new());
        if let Some(redirect) = redirect {
            mail.path = redirect.reverse.clone();
            head.extend_from_slice(&redirect.head);
        }
        head.extend_from_slice(&self.outbound.head);
        (mail, head)
    }

    /// What class of mail it is.
    #[must_use]
    pub fn class(&self) -> MailClass {
        self.outbound.class
    }
}
