//! What `palomar repair` does to an account: shown first, then done.

use std::rc::Rc;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use super::gather::{list_messages, unsettled};
use super::{IndexState, find_orphans, mend_index, orphans};
use crate::base::Uid;
use crate::runtime::unix_now;
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::{canonical, file_name, find_file};
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{AccountRef, Op, StoreError, adopt};

/// Rows that one record drops.
const DROPPED_MAX: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairOrder {
    /// One mailbox by name; all where none is given.
    pub folder: Option<String>,
    /// Do it; otherwise only tell.
    pub apply: bool,
    /// Expunge messages whose files are gone.
    pub drop_missing: bool,
}

/// What is, or was, wrong with one mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRepair {
    pub name: String,
    pub index: IndexState,
    /// Files that no row names: they become new messages. Not known of an index that is damaged,
    /// before it is made anew.
    pub files_without_row: Vec<String>,
    /// UIDs of messages whose files are gone.
    pub missing: Vec<u32>,
    /// UIDs of messages whose files, which another program made, are longer than they are: to be
    /// expunged, and to come as new ones.
    #[serde(default)]
    pub grown: Vec<u32>,
    /// What was done.
    #[serde(default)]
    pub renewed: u32,
    pub taken_in: u32,
    pub dropped: u32,
}

/// Looks at, or mends, the account's mailboxes.
pub(in crate::store) async fn repair(
    shard: &Rc<Shard>,
    of: AccountRef,
    order: &RepairOrder,
) -> Result<Vec<MailboxRepair>, StoreError> {
    let partition = shard.partition(of.partition)?;
    let mut mailboxes: Vec<Rc<Mailbox>> = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&of.account);
        let account = account.ok_or(StoreError::NoMailbox)?;
        match &order.folder {
            Some(name) => {
                let found = account.find(&canonical(name)).cloned();
                vec![found.ok_or(StoreError::NoMailbox)?]
            }
            None => account.mailboxes.values().cloned().collect(),
        }
    };
    mailboxes.sort_by_key(|m| m.meta.borrow().name.clone());
    let mut all = Vec::with_capacity(mailboxes.len());
    for mailbox in mailboxes {
        all.push(one(shard, &partition, &mailbox, order).await?);
        mailbox.unload();
    }
    Ok(all)
}

async fn one(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
    order: &RepairOrder,
) -> Result<MailboxRepair, StoreError> {
    let mend = mend_index(&shard.disk, &shard.owned, partition, mailbox, order.apply);
    let index = mend.await?;
    let mut outcome = MailboxRepair {
        name: mailbox.meta.borrow().name.clone(),
        index,
        files_without_row: Vec::new(),
        missing: Vec::new(),
        grown: Vec::new(),
        renewed: 0,
        taken_in: 0,
        dropped: 0,
    };
    if index == IndexState::Damaged {
        return Ok(outcome);
    }
    outcome.files_without_row = find_orphans(shard, partition, mailbox).await?;
    let missing = missing(shard, partition, mailbox).await?;
    outcome.missing = missing.iter().map(|uid| uid.0).collect();
    let grown = adopt::grown(shard, partition, mailbox).await?;
    outcome.grown = grown.iter().map(|uid| uid.0).collect();
    if !order.apply {
        return Ok(outcome);
    }
    if !grown.is_empty() {
        let renewed = adopt::take_grown(shard, partition, mailbox).await?;
        outcome.renewed = u32::try_from(renewed).unwrap_or(u32::MAX);
    }
    if !outcome.files_without_row.is_empty() {
        outcome.taken_in = orphans::adopt(shard, partition, mailbox).await?;
    }
    if order.drop_missing {
        for part in missing.chunks(DROPPED_MAX) {
            outcome.dropped += drop_rows(shard, partition, mailbox, part).await?;
        }
    }
    Ok(outcome)
}

/// Messages whose files are not there, each looked for by itself before it is said to be gone.
async fn missing(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<Vec<Uid>, StoreError> {
    super::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let folder = mailbox.path();
    // Before the listing: what is settled meanwhile is in one of them.
    let waiting = unsettled(partition, mailbox);
    let mut there: HashSet<String> = waiting.into_iter().map(|file| file.stem).collect();
    for sub in ["cur", "new"] {
        let files = list_messages(&shard.disk, &folder.join(sub), false).await?;
        there.extend(files.into_iter().map(|file| file.stem));
    }
    let suspects: Vec<Uid> = {
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::Late)?;
        let archived = |at: usize| index.extra(at).is_some_and(|e| e.archive.is_some());
        let gone = |at: &usize| !archived(*at) && !there.contains(&index.stem(*at));
        (0..index.len())
            .filter(gone)
            .map(|at| index.uids()[at])
            .collect()
    };
    let mut missing = Vec::new();
    for uid in suspects {
        let name = {
            let index = mailbox.index.borrow();
            let found = index.as_ref().and_then(|i| Some((i, i.position(uid)?)));
            found.map(|(index, at)| (index.stem(at), *index.cold(at)))
        };
        let Some((stem, cold)) = name else { continue };
        let key = (cold.name.pseq, cold.name.ordinal);
        if partition.unsettled.borrow().contains_key(&key) {
            continue;
        }
        let path = folder.join("cur").join(file_name(&stem, cold.letters));
        let is_there = shard.disk.exists(&path).await.map_err(|e| disk_error(&e))?;
        if !is_there && find_file(&shard.disk, &folder, &stem).await?.is_none() {
            missing.push(uid);
        }
    }
    Ok(missing)
}

/// Through a record as any expunge.
async fn drop_rows(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    uids: &[Uid],
) -> Result<u32, StoreError> {
    shard.turn(partition, &[mailbox.account]).await?;
    super::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let there: Vec<Uid> = {
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::Late)?;
        let there = uids.iter().filter(|uid| index.position(**uid).is_some());
        there.copied().collect()
    };
    if there.is_empty() || mailbox.deleted.get() {
        return Ok(0);
    }
    let dropped = there.len() as u32;
    let op = Op::Expunged {
        account: mailbox.account,
        mailbox: mailbox.id,
        modseq: partition.highest(mailbox).next(shard.epoch),
        uids: there,
        at: unix_now(),
    };
    let ticket = shard.submit(partition, vec![op], Vec::new(), Class::Completion)?;
    shard.commit(ticket).await?;
    Ok(dropped)
}
