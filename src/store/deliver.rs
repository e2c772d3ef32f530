//! Placing one message for targets of one partition, as one record, on the shard that owns it.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::account::{ensure_account, ensure_mailbox, under_way};
use super::archive;
use super::journal::Class;
use super::mailbox::Mailbox;
use super::partition::Partition;
use super::quota::{self, Charge};
use super::shard::Shard;
use super::{BodyRef, Message, Op, OutboxKey, StoreError, Target};
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, PartitionId, TraceId, Uid, UnixMs};
use crate::runtime::unix_now;

/// One copy to place; with a key it comes from an outbox, and is placed once however often it
/// comes, whatever the quota says.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub target: Target,
    pub origin: Option<OutboxKey>,
}

/// What all copies share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub message: Arc<Message>,
    pub received: UnixMs,
    pub trace: Option<TraceId>,
}

/// Places the message. UIDs in the order of the placements; zero for one placed before, and for one
/// from an outbox whose account was purged meanwhile: there is nobody any more who could read it.
pub(super) async fn place(
    shard: &Shard,
    partition: &Rc<Partition>,
    shared: &Shared,
    placements: &[Placement],
) -> Result<Vec<Uid>, StoreError> {
    let is_kept =
        |p: &Placement| p.origin.is_none() || !partition.is_purged(p.target.account.account);
    let kept: Vec<bool> = placements.iter().map(is_kept).collect();
    if kept.iter().all(|kept| *kept) {
        let placed = place_all(shard, partition, shared, placements).await;
        let is_handed = placements.len() > 1 && placements.iter().all(|p| p.origin.is_some());
        return match placed {
            Err(why) if is_handed && is_its_own(&why) => {
                place_singly(shard, partition, shared, placements).await
            }
            placed => placed,
        };
    }
    let some = placements.iter().zip(&kept).filter(|(_, kept)| **kept);
    let some: Vec<Placement> = some.map(|(p, _)| p.clone()).collect();
    let mut uids = place_all(shard, partition, shared, &some)
        .await?
        .into_iter();
    let of = |kept: bool| if kept { uids.next() } else { None };
    let all = kept.into_iter().map(of);
    Ok(all.map(Option::unwrap_or_default).collect())
}

async fn place_all(
    shard: &Shard,
    partition: &Rc<Partition>,
    shared: &Shared,
    placements: &[Placement],
) -> Result<Vec<Uid>, StoreError> {
    let accounts: Vec<AccountId> = placements
        .iter()
        .map(|p| p.target.account.account)
        .collect();
    for account in &accounts {
        ensure_account(shard, partition, *account).await?;
    }
    loop {
        for p in placements {
            let (account, name) = (p.target.account.account, &p.target.mailbox);
            if archive::is_reserved(shard, name) {
                continue;
            }
            match ensure_mailbox(shard, partition, account, name).await {
                // A name that no mailbox can have: the mail is not lost for it.
                Ok(_) | Err(StoreError::BadName) => {}
                Err(why) => return Err(why),
            }
        }
        shard.turn(partition, &accounts).await?;
        // It may have begun while the turn was waited for.
        if accounts
            .iter()
            .any(|account| under_way(partition, *account))
        {
            return Err(StoreError::Busy);
        }
        if let Some(found) = resolve(shard, partition, placements) {
            return place_now(shard, partition, shared, placements, &found).await;
        }
    }
}

/// Each placement from an outbox by itself: whoever cannot get the message does not keep it from
/// the rest, whose keys tell the next attempt that they have it.
async fn place_singly(
    shard: &Shard,
    partition: &Rc<Partition>,
    shared: &Shared,
    placements: &[Placement],
) -> Result<Vec<Uid>, StoreError> {
    let mut uids = Vec::with_capacity(placements.len());
    let mut failed = None;
    for one in placements.chunks(1) {
        // Each record that names a spool file removes it in the end: so each has its own.
        let own = Shared {
            message: shard.spools.own_copy(&shared.message).await?,
            ..shared.clone()
        };
        match place_all(shard, partition, &own, one).await {
            Ok(placed) => uids.extend(placed),
            Err(why) if is_its_own(&why) => failed = Some(why),
            Err(why) => return Err(why),
        }
    }
    match failed {
        Some(why) => Err(why),
        None => Ok(uids),
    }
}

/// Whether another target of the same record may fare better.
fn is_its_own(why: &StoreError) -> bool {
    matches!(why, StoreError::UidsUsedUp | StoreError::Busy)
}

/// The mailboxes, unless one was deleted meanwhile.
fn resolve(
    shard: &Shard,
    partition: &Partition,
    placements: &[Placement],
) -> Option<Vec<Rc<Mailbox>>> {
    let state = partition.state.borrow();
    let one = |p: &Placement| {
        let account = state.accounts.get(&p.target.account.account)?;
        if !super::maildir::is_good(&super::maildir::canonical(&p.target.mailbox)) {
            return account.find("INBOX").cloned();
        }
        let found = account.find(&p.target.mailbox).cloned();
        // Nothing is put into an archive, or where no UID is left, and the mail is not lost for it.
        let takes = |m: &Rc<Mailbox>| !m.archive.get() && partition.next_uid(m).is_ok();
        match found.filter(takes) {
            Some(mailbox) => Some(mailbox),
            None if account.find(&p.target.mailbox).is_some()
                || archive::is_reserved(shard, &p.target.mailbox) =>
            {
                account.find("INBOX").cloned()
            }
            None => None,
        }
    };
    placements.iter().map(one).collect()
}

async fn place_now(
    shard: &Shard,
    partition: &Rc<Partition>,
    shared: &Shared,
    placements: &[Placement],
    mailboxes: &[Rc<Mailbox>],
) -> Result<Vec<Uid>, StoreError> {
    let message = &shared.message;
    let mut next: HashMap<(AccountId, MailboxId), (Uid, ModSeq)> = HashMap::new();
    let mut charge = Charge::new(shard, partition);
    let mut ops = Vec::with_capacity(placements.len());
    let mut uids = Vec::with_capacity(placements.len());
    let mut waits = false;
    let saved = unix_now();
    // One file for all of them, where there are several, here or in other partitions (whose outbox
    // entries these are); each has its own prefix in the index.
    let apart = placements.len() > 1 || placements.iter().any(|p| p.origin.is_some());
    for (p, mailbox) in placements.iter().zip(mailboxes) {
        let account = p.target.account;
        if let Some(key) = &p.origin {
            let in_flight = partition.flight.borrow().has_origin(key);
            if in_flight || is_placed(partition, key) {
                waits |= in_flight;
                uids.push(Uid(0));
                continue;
            }
        }
        charge.add(account, quota::octets(message, &p.target.prefix), 1);
        // What an outbox hands on was accepted: it may overshoot, and is never bounced.
        if p.origin.is_none() {
            charge.check(account)?;
        }
        let key = (account.account, mailbox.id);
        let (uid, modseq) = match next.get(&key) {
            Some(taken) => *taken,
            None => {
                let modseq = partition.highest(mailbox).next(shard.epoch);
                (partition.next_uid(mailbox)?, modseq)
            }
        };
        next.insert(key, (uid.next().ok_or(StoreError::UidsUsedUp)?, modseq));
        uids.push(uid);
        ops.push(Op::Placed {
            account: account.account,
            mailbox: mailbox.id,
            uid,
            modseq,
            flags: p.target.flags,
            keywords: Vec::new(),
            internal_date: shared.received,
            saved,
            body: match p.origin {
                Some(_) => BodyRef::Handed(0),
                None => BodyRef::New(0),
            },
            prefix: p.target.prefix.clone(),
            apart,
            origin: p.origin,
            trace: shared.trace,
        });
    }
    if !ops.is_empty() {
        ops.extend(charge.marks());
        let class = match placements.iter().any(|p| p.origin.is_some()) {
            true => Class::Change,
            false => Class::NewMail,
        };
        let ticket = shard.submit(partition, ops, vec![message.clone()], class)?;
        shard.spools.given(message);
        shard.commit(ticket).await?;
    }
    if waits {
        wait_placed(shard, partition, placements).await?;
    }
    Ok(uids)
}

fn is_placed(partition: &Partition, key: &OutboxKey) -> bool {
    let low_waters = partition.low_waters.borrow();
    if low_waters
        .get(&key.source)
        .is_some_and(|low| key.pseq < *low)
    {
        return true;
    }
    let state = partition.state.borrow();
    let marks = state.origins.get(&key.source);
    marks.is_some_and(|marks| marks.contains(&(key.pseq, key.ordinal)))
}

/// An earlier attempt is in flight: its end is ours.
async fn wait_placed(
    shard: &Shard,
    partition: &Partition,
    placements: &[Placement],
) -> Result<(), StoreError> {
    loop {
        let turn = partition.turn.notified();
        let in_flight = |p: &Placement| {
            p.origin
                .is_some_and(|key| partition.flight.borrow().has_origin(&key))
        };
        if !placements.iter().any(in_flight) {
            return Ok(());
        }
        if shard.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let until =
            crate::base::Deadline::after(crate::runtime::now(), std::time::Duration::from_secs(30));
        crate::runtime::deadline(until, turn)
            .await
            .map_err(|_| StoreError::Late)?;
    }
}

/// Forgets marks of `source` below its low-water mark: it will never send those again. An attempt
/// that it gave up may still be on its way here, so the low-water mark itself is remembered.
pub(super) fn forget_marks(partition: &Partition, source: PartitionId, low_water: PSeq) {
    let mut low_waters = partition.low_waters.borrow_mut();
    let low = low_waters.entry(source).or_default();
    *low = low_water.max(*low);
    let mut state = partition.state.borrow_mut();
    if let Some(marks) = state.origins.get_mut(&source) {
        *marks = marks.split_off(&(low_water, 0));
    }
}
