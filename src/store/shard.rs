//! What the handles of a shard's store share, and how a record gets into the journal.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::archive::Looks;
use super::bodies::{Bodies, From};
use super::journal::{Class, Journal, Ticket};
use super::maildir::{Layout, Settler};
use super::owned::Owned;
use super::partition::Partition;
use super::remote::Request;
use super::room::{self, Room};
use super::scrub::Scrubs;
use super::spool::Spools;
use super::{Message, Op, Record, StoreConfig, StoreError};
use crate::base::{AccountId, Deadline, Epoch, PSeq, PartitionId, ShardId};
use crate::runtime::local::{Notify, Semaphore};
use crate::runtime::{Disk, Gate, Mesh, deadline, now};

/// Longest wait for what is in flight before a change of folders, and the other way round.
const TURN_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Shard {
    pub id: ShardId,
    pub epoch: Epoch,
    pub cfg: StoreConfig,
    pub layout: Layout,
    pub disk: Disk,
    /// The same for what happens in the background.
    pub patient: Disk,
    pub journal: Journal,
    pub owned: Rc<Owned>,
    pub bodies: Bodies,
    pub mesh: Mesh<Request>,
    pub spools: Spools,
    pub room: Rc<Room>,
    /// Background tasks; closed when the store drains.
    pub gate: Gate,
    /// One settles at a time.
    pub settling: Semaphore,
    /// One shard makes a checkpoint at a time.
    pub checkpointing: Arc<AtomicBool>,
    /// A checkpoint is wanted now.
    pub checkpoint_wanted: Notify,
    /// A sync of the file system failed, on whichever shard: the kernel has dropped what it could
    /// not write, and the next sync succeeds without it. No checkpoint can be trusted any more.
    pub sync_failed: Arc<AtomicBool>,
    pub poisoned: Notify,
    pub scrubs: Scrubs,
    pub archives: Looks,
}

/// An account that is held for a change of its folders.
pub(super) struct Bar {
    partition: Rc<Partition>,
    account: AccountId,
    /// The record that changes them is in flight: its `apply` lifts the bar.
    handed: bool,
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.handed {
            self.partition.flight.borrow_mut().unbar(self.account);
            self.partition.turn.notify_all();
        }
    }
}

impl Shard {
    pub fn partition(&self, id: PartitionId) -> Result<Rc<Partition>, StoreError> {
        if id.owner(self.cfg.shards) != self.id {
            return Err(StoreError::NotOwner(id));
        }
        Ok(self.owned.partition(id))
    }

    pub fn is_poisoned(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire) || self.journal.poisoned()
    }

    pub fn settler(&self) -> Settler<'_> {
        Settler {
            disk: &self.patient,
            owned: &self.owned,
            bodies: &self.bodies,
        }
    }

    /// Waits until no change of the accounts' folders is waiting or in flight. What the caller
    /// then does without waiting, it does in its turn. `MailboxGone`: one of them was purged.
    pub async fn turn(
        &self,
        partition: &Partition,
        accounts: &[AccountId],
    ) -> Result<(), StoreError> {
        let until = Deadline::after(now(), TURN_WAIT);
        loop {
            let turn = partition.turn.notified();
            if !accounts
                .iter()
                .any(|&a| partition.flight.borrow().is_barred(a))
            {
                // Whoever comes after a purge must not bring the account back.
                return match accounts.iter().any(|&a| partition.is_purged(a)) {
                    true => Err(StoreError::MailboxGone),
                    false => Ok(()),
                };
            }
            deadline(until, turn).await.map_err(|_| StoreError::Late)?;
        }
    }

    /// Holds the account for a change of its folders, with nothing of it in flight.
    pub async fn bar(
        &self,
        partition: &Rc<Partition>,
        account: AccountId,
    ) -> Result<Bar, StoreError> {
        self.turn(partition, &[account]).await?;
        partition.flight.borrow_mut().bar(account);
        let bar = Bar {
            partition: partition.clone(),
            account,
            handed: false,
        };
        let until = Deadline::after(now(), TURN_WAIT);
        loop {
            let turn = partition.turn.notified();
            if !partition.flight.borrow().is_busy(account) {
                return Ok(bar);
            }
            deadline(until, turn).await.map_err(|_| StoreError::Late)?;
        }
    }

    /// Gives a record its place. Synchronous, so that nothing comes between what `ops` were
    /// prepared against and their place in the order. Nothing has happened if it fails.
    pub fn submit(
        &self,
        partition: &Partition,
        ops: Vec<Op>,
        bodies: Vec<Arc<Message>>,
        class: Class,
    ) -> Result<Ticket, StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let taken = match class {
            Class::NewMail => room::weight(&bodies),
            _ => 0,
        };
        if class == Class::NewMail {
            self.room.admit(taken)?;
        }
        let pseq = PSeq(partition.flight.borrow().last.0 + 1);
        let record = Rc::new(Record {
            partition: partition.id,
            epoch: self.epoch,
            pseq,
            ops,
            bodies,
        });
        // Held only once it has its place: a refused record must not cover what is in flight.
        let ticket = self.journal.append(record.clone(), class)?;
        self.room.spend(taken);
        partition.hold(&record);
        partition.flight.borrow_mut().last = pseq;
        Ok(ticket)
    }

    /// Submits a change of folders; its `apply` lifts the bar, even if the caller goes away.
    pub fn submit_barred(
        &self,
        partition: &Partition,
        ops: Vec<Op>,
        class: Class,
        bar: &mut Bar,
    ) -> Result<Ticket, StoreError> {
        let ticket = self.submit(partition, ops, Vec::new(), class)?;
        bar.handed = true;
        Ok(ticket)
    }

    pub async fn commit(&self, ticket: Ticket) -> Result<(), StoreError> {
        self.journal.committed(ticket).await
    }
}

impl Bodies {
    pub fn live(disk: Disk, journal: Journal) -> Self {
        Bodies {
            disk,
            from: From::Journal(journal),
        }
    }
}
