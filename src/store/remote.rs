//! The store as any shard may address it: owned requests over bounded meshes.
//!
//! A session asks its own shard's [`Remote`]; what another shard owns goes there as a [`Request`]
//! and comes back as a reply. Owners never ask other shards, so no request waits for another.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::account::ensure_account;
use super::deliver::{self, Placement, Shared};
use super::import;
use super::journal::Class;
use super::shard::Shard;
use super::{
    Account, AccountRef, Flags, Incoming, Message, Op, QuotaUsage, RestoreReport, RestoreRequest,
    StoreError, history, quota,
};
use crate::base::{Deadline, INLINE_BODY_BYTES_MAX, PSeq, PartitionId, TraceId, Uid, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime::{Inbox, NoAnswer, Refusal, Reply, deadline, reply, spawn_in};

/// Octets of copies in the journal from which on a spool file that all share comes instead. It writes
/// less from half as many on, but has two syncs of its own where copies share those of their batches,
/// and takes twice the time (`docs/PERFORMANCE.md`).
const COPIES_BYTES_MAX: u64 = 128 << 10;
/// Below, bodies are packed in the journal, and the names of a file cost what that leaves of them.
const SHARED_BODY_BYTES_MIN: u64 = 16 << 10;

/// Where one copy of a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub account: AccountRef,
    /// A mailbox by name; created when missing. "INBOX" by default.
    pub mailbox: String,
    pub flags: Flags,
    /// Return-Path and Delivered-To lines of this copy.
    pub prefix: Vec<u8>,
}

/// How an accepted message was made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// In the mailboxes: visible now. UIDs in the order of the targets.
    Placed(Vec<Uid>),
    /// In this shard's queue partition: the outbox hands it on.
    Queued,
}

/// What one shard asks another, with everything owned.
pub(super) enum Request {
    Preflight {
        account: AccountRef,
        bytes: u64,
        reply: Reply<Result<(), StoreError>>,
    },
    Quota {
        account: AccountRef,
        reply: Reply<QuotaUsage>,
    },
    Place {
        partition: PartitionId,
        shared: Shared,
        placements: Vec<Placement>,
        reply: Reply<Result<Vec<Uid>, StoreError>>,
    },
    /// Outbox entries of another partition. Nothing below `low_water` will come again.
    HandOver {
        partition: PartitionId,
        shared: Shared,
        placements: Vec<Placement>,
        low_water: (PartitionId, PSeq),
        reply: Reply<Result<(), StoreError>>,
    },
    SetValues {
        partition: PartitionId,
        values: Vec<ValueChange>,
        reply: Reply<Result<(), StoreError>>,
    },
    Purge {
        account: AccountRef,
        reply: Reply<Result<(), StoreError>>,
    },
    Import {
        account: AccountRef,
        step: import::Step,
        reply: Reply<Result<import::Stepped, StoreError>>,
    },
    Restore {
        account: AccountRef,
        request: RestoreRequest,
        reply: Reply<Result<RestoreReport, StoreError>>,
    },
}

/// Reaches every partition, from this shard. Clone, not `Send` (each shard has its own).
#[derive(Clone)]
pub struct Remote {
    shard: Rc<Shard>,
}

impl Remote {
    pub(super) fn new(shard: Rc<Shard>) -> Self {
        Remote { shard }
    }

    /// Begins a body on this shard. `spool` files count against this shard's memory budget.
    #[must_use]
    pub fn incoming(&self) -> Incoming {
        Incoming::new(self.shard.spools.clone(), INLINE_BODY_BYTES_MAX)
    }

    /// As [`Remote::incoming`], for one of many messages that wait for one another: its body does
    /// not wait in memory.
    #[must_use]
    pub fn incoming_to_spool(&self) -> Incoming {
        Incoming::new(self.shard.spools.clone(), 0)
    }

    pub(super) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// Whether this shard owns the partition.
    #[must_use]
    pub fn is_mine(&self, partition: PartitionId) -> bool {
        partition.owner(self.shard.cfg.shards) == self.shard.id
    }

    /// This shard, where it owns the partition.
    pub(super) fn shard_of(&self, partition: PartitionId) -> Option<&Rc<Shard>> {
        self.is_mine(partition).then_some(&self.shard)
    }

    /// Spool files of these messages belong to a record from here on.
    pub(super) fn own_spools(&self, messages: &[Arc<Message>]) {
        messages.iter().for_each(|m| self.shard.spools.given(m));
    }

    /// No record took them.
    pub(super) fn disown_spools(&self, messages: &[Arc<Message>]) {
        messages.iter().for_each(|m| self.shard.spools.watch(m));
    }

    /// Posts a request to the owner of `partition` and waits for its reply.
    pub(super) async fn ask<T: Send>(
        &self,
        partition: PartitionId,
        until: Deadline,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, StoreError> {
        let (to_reply, answer) = reply();
        let owner = partition.owner(self.shard.cfg.shards);
        let posted = self.shard.mesh.post(owner, request(to_reply), until).await;
        posted.map_err(|refused| match refused.why {
            Refusal::Full | Refusal::Late => StoreError::Busy,
            Refusal::Closed => StoreError::Poisoned,
        })?;
        answer.wait(until).await.map_err(|why| match why {
            NoAnswer::Late | NoAnswer::Gone => StoreError::Late,
        })
    }

    /// The account, where this shard owns its partition; makes its default folders at first touch.
    pub async fn account(&self, account: AccountRef) -> Result<Account, StoreError> {
        let partition = self.shard.partition(account.partition)?;
        ensure_account(&self.shard, &partition, account.account).await?;
        Ok(Account::new(self.shard.clone(), partition, account))
    }

    /// The account as it is, perhaps without any mailbox: to look at it.
    pub fn look_at(&self, account: AccountRef) -> Result<Account, StoreError> {
        let partition = self.shard.partition(account.partition)?;
        Ok(Account::new(self.shard.clone(), partition, account))
    }

    /// One preflight to the owner at RCPT: would `bytes` more fit?
    pub async fn preflight(
        &self,
        account: AccountRef,
        bytes: u64,
        until: Deadline,
    ) -> Result<(), StoreError> {
        if self.is_mine(account.partition) {
            return preflight(&self.shard, account, bytes);
        }
        let request = |reply| Request::Preflight {
            account,
            bytes,
            reply,
        };
        self.ask(account.partition, until, request).await?
    }

    /// Usage of an account of this shard.
    #[must_use]
    pub fn usage(&self, account: AccountRef) -> QuotaUsage {
        self.shard.quota_usage(account)
    }

    /// Usage of any account.
    pub async fn quota(
        &self,
        account: AccountRef,
        until: Deadline,
    ) -> Result<QuotaUsage, StoreError> {
        if self.is_mine(account.partition) {
            return Ok(self.shard.quota_usage(account));
        }
        self.ask(account.partition, until, |reply| Request::Quota {
            account,
            reply,
        })
        .await
    }

    /// Makes a message durable for all targets: placed by the one owning shard where all targets
    /// are in one partition, else journaled here and handed on. Returns only when durable.
    pub async fn deliver(
        &self,
        message: Arc<Message>,
        targets: Vec<Target>,
        received: UnixMs,
        trace: TraceId,
        until: Deadline,
    ) -> Result<Delivered, StoreError> {
        let Some(first) = targets.first() else {
            return Ok(Delivered::Placed(Vec::new()));
        };
        let partition = first.account.partition;
        if targets.iter().any(|t| t.account.partition != partition) {
            let sent = self.send(message, targets, None, trace, until).await;
            return sent.map(|_| Delivered::Queued);
        }
        let shared = Shared {
            message,
            received,
            trace: Some(trace),
        };
        let placements: Vec<Placement> = targets
            .into_iter()
            .map(|target| Placement {
                target,
                origin: None,
            })
            .collect();
        if self.is_mine(partition) {
            let home = self.shard.partition(partition)?;
            // The spool file is the record's from the moment on at which there is one, and not
            // before: this wait may end, or be given up, without.
            let placing = deliver::place(&self.shard, &home, &shared, &placements);
            let placed = deadline(until, placing).await;
            return placed
                .unwrap_or(Err(StoreError::Late))
                .map(Delivered::Placed);
        }
        let message = shared.message.clone();
        // Once asked for, another shard's record may name the spool file, whatever becomes of us.
        self.shard.spools.given(&message);
        let request = |reply| Request::Place {
            partition,
            shared,
            placements,
            reply,
        };
        let asked = self.ask(partition, until, request).await;
        let outcome = asked.and_then(|placed| placed);
        let named = matches!(
            outcome,
            Ok(_) | Err(StoreError::Late | StoreError::Poisoned)
        );
        if !named {
            self.shard.spools.watch(&message);
        }
        outcome.map(Delivered::Placed)
    }

    /// Sets or removes generic values as one record; `account: None` in the system partition is
    /// the directory's. Durable and applied when this returns.
    pub async fn set_values(
        &self,
        partition: PartitionId,
        values: Vec<ValueChange>,
        until: Deadline,
    ) -> Result<(), StoreError> {
        if self.is_mine(partition) {
            return set_values(&self.shard, partition, values).await;
        }
        let request = |reply| Request::SetValues {
            partition,
            values,
            reply,
        };
        self.ask(partition, until, request).await?
    }

    /// Every site value of a namespace, with its key. Only on the owner of the system partition.
    pub fn site_values(&self, each: &mut SiteValueSink<'_>) {
        let Ok(partition) = self.shard.partition(PartitionId::SYSTEM) else {
            return;
        };
        let state = partition.state.borrow();
        for ((namespace, key), value) in &state.values {
            each(namespace, key, value);
        }
    }

    /// Calls `hook` at each applied site value change, on the owner of the system partition.
    pub fn on_site_value(&self, hook: Rc<dyn Fn(&ValueChange)>) {
        self.shard.owned.on_site_value(hook);
    }

    /// Removes all mail of an account, for ever: what still comes for its id is dropped.
    pub async fn purge(&self, account: AccountRef, until: Deadline) -> Result<(), StoreError> {
        if self.is_mine(account.partition) {
            return purge(&self.shard, account).await;
        }
        self.ask(account.partition, until, |reply| Request::Purge {
            account,
            reply,
        })
        .await?
    }

    /// Tells what of an account's removed mail could be restored, and restores it as asked.
    pub async fn restore(
        &self,
        account: AccountRef,
        request: RestoreRequest,
        until: Deadline,
    ) -> Result<RestoreReport, StoreError> {
        if self.is_mine(account.partition) {
            return history::restore(&self.shard, account, &request).await;
        }
        let request = |reply| Request::Restore {
            account,
            request,
            reply,
        };
        self.ask(account.partition, until, request).await?
    }

    /// Hands outbox entries to the owner of `partition`.
    pub(super) async fn hand_over(
        &self,
        partition: PartitionId,
        shared: Shared,
        placements: Vec<Placement>,
        low_water: (PartitionId, PSeq),
        until: Deadline,
    ) -> Result<(), StoreError> {
        if self.is_mine(partition) {
            return take_over(&self.shard, partition, &shared, &placements, low_water).await;
        }
        let message = shared.message.clone();
        let request = |reply| Request::HandOver {
            partition,
            shared,
            placements,
            low_water,
            reply,
        };
        let asked = self.ask(partition, until, request).await;
        // It never got there.
        if matches!(asked, Err(StoreError::Busy | StoreError::Poisoned)) {
            self.shard.spools.give_up(&message);
        }
        asked?
    }
}

/// Whether a body for owners in so many partitions becomes a spool file, which their records and
/// their files share. Else each of them has it in the journal once more, and the owners of a shard
/// share what one of them settles.
pub(super) fn is_better_shared(bytes: u64, owners: usize) -> bool {
    bytes > SHARED_BODY_BYTES_MIN && bytes.saturating_mul(owners as u64 + 1) >= COPIES_BYTES_MAX
}

// ---- on the owner ----

fn preflight(shard: &Shard, account: AccountRef, bytes: u64) -> Result<(), StoreError> {
    let partition = shard.partition(account.partition)?;
    quota::check(shard, &partition, account, bytes, 1)
}

async fn set_values(
    shard: &Shard,
    partition: PartitionId,
    values: Vec<ValueChange>,
) -> Result<(), StoreError> {
    let partition = shard.partition(partition)?;
    let mut values = values;
    loop {
        // What is late for an account that was purged (its last log-in) is for nobody.
        values.retain(|v| v.account.is_none_or(|a| !partition.is_purged(a)));
        if values.is_empty() {
            return Ok(());
        }
        let accounts: Vec<_> = values.iter().filter_map(|v| v.account).collect();
        match shard.turn(&partition, &accounts).await {
            Err(StoreError::MailboxGone) => {}
            turn => break turn?,
        }
    }
    let set = |v: ValueChange| Op::ValueSet {
        account: v.account,
        namespace: v.namespace,
        key: v.key,
        value: v.value,
    };
    let ops = values.into_iter().map(set).collect();
    let ticket = shard.submit(&partition, ops, Vec::new(), Class::Change)?;
    shard.commit(ticket).await
}

async fn purge(shard: &Shard, account: AccountRef) -> Result<(), StoreError> {
    let partition = shard.partition(account.partition)?;
    let mut bar = match shard.bar(&partition, account.account).await {
        // It was done before, and its client was not told.
        Err(StoreError::MailboxGone) => return Ok(()),
        bar => bar?,
    };
    let ops = vec![Op::AccountPurged {
        account: account.account,
    }];
    let ticket = shard.submit_barred(&partition, ops, Class::Completion, &mut bar)?;
    shard.commit(ticket).await
}

async fn take_over(
    shard: &Shard,
    partition: PartitionId,
    shared: &Shared,
    placements: &[Placement],
    low_water: (PartitionId, PSeq),
) -> Result<(), StoreError> {
    let home = shard.partition(partition)?;
    deliver::forget_marks(&home, low_water.0, low_water.1);
    // Each record that names a spool file removes it in the end: so each has its own.
    let message = shard.spools.claim(&shared.message).await?;
    let own = Shared {
        message,
        ..shared.clone()
    };
    let uids = deliver::place(shard, &home, &own, placements).await?;
    note_placed(&own, placements, &uids);
    Ok(())
}

/// What `explain` tells of a message that reached its owners through the outbox. UID 0 is an entry
/// that was placed before.
fn note_placed(shared: &Shared, placements: &[Placement], uids: &[Uid]) {
    let Some(message) = shared.trace else { return };
    let placed = placements.iter().zip(uids).filter(|(_, uid)| uid.0 > 0);
    for (placement, uid) in placed {
        log_event!(
            INFO,
            event::MESSAGE_PLACED,
            %message,
            account = %placement.target.account.account,
            mailbox = placement.target.mailbox.as_str(),
            uid = uid.0
        );
    }
}

/// Serves what other shards ask, until their ends of the mesh are gone or the gate closes.
pub(super) async fn serve(shard: Rc<Shard>, mut inbox: Inbox<Request>) {
    let closing = shard.gate.clone();
    loop {
        let next = or(inbox.next(), async {
            closing.closing().await;
            None
        });
        let Some(request) = next.await else { return };
        let at = shard.clone();
        spawn_in(&shard.gate, "store-request", async move {
            answer(&at, request).await
        });
    }
}

async fn answer(shard: &Rc<Shard>, request: Request) {
    match request {
        Request::Preflight {
            account,
            bytes,
            reply,
        } => {
            reply.send(preflight(shard, account, bytes));
        }
        Request::Quota { account, reply } => reply.send(shard.quota_usage(account)),
        Request::Place {
            partition,
            shared,
            placements,
            reply,
        } => {
            // Its client was told to try again: placed now as well, the message would be double.
            if reply.is_abandoned() {
                return;
            }
            let outcome = match shard.partition(partition) {
                Ok(home) => deliver::place(shard, &home, &shared, &placements).await,
                Err(why) => Err(why),
            };
            reply.send(outcome);
        }
        Request::HandOver {
            partition,
            shared,
            placements,
            low_water,
            reply,
        } => {
            if reply.is_abandoned() {
                shard.spools.give_up(&shared.message);
                return;
            }
            reply.send(take_over(shard, partition, &shared, &placements, low_water).await);
        }
        Request::SetValues {
            partition,
            values,
            reply,
        } => {
            reply.send(set_values(shard, partition, values).await);
        }
        Request::Purge { account, reply } => reply.send(purge(shard, account).await),
        Request::Import {
            account,
            step,
            reply,
        } => import::answer(shard, account, step, reply).await,
        Request::Restore {
            account,
            request,
            reply,
        } => {
            reply.send(history::restore(shard, account, &request).await);
        }
    }
}

/// What is shown each site value: namespace, key, value.
pub type SiteValueSink<'s> = dyn FnMut(&str, &[u8], &Arc<[u8]>) + 's;

/// Requests that wait at one shard.
pub(super) const REQUESTS_MAX: usize = 1024;
/// How long the outbox waits for an owner.
pub(super) const HAND_OVER_SPAN: Duration = Duration::from_secs(60);

/// One generic value set or (without value) removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueChange {
    pub account: Option<crate::base::AccountId>,
    pub namespace: String,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}
