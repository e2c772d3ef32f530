//! Making folders: on request, at an account's first touch, and removing them.

use std::rc::Rc;

use super::{Account, Class, Op, SpecialUse, StoreError, maildir};
use crate::base::{AccountId, MailboxId, Uid, UidValidity};
use crate::runtime::unix_now;
use crate::store::adopt;
use crate::store::archive;
use crate::store::mailbox::Mailbox;
use crate::store::partition::Partition;
use crate::store::shard::Shard;

/// Every account has these, with this use (RFC 6154).
const DEFAULTS: [(&str, SpecialUse); 5] = [
    ("Archive", SpecialUse::Archive),
    ("Drafts", SpecialUse::Drafts),
    ("Junk", SpecialUse::Junk),
    ("Sent", SpecialUse::Sent),
    ("Trash", SpecialUse::Trash),
];

/// What other servers and clients call the same folders.
const WELL_KNOWN: [(&str, SpecialUse); 14] = [
    ("archive", SpecialUse::Archive),
    ("archives", SpecialUse::Archive),
    ("drafts", SpecialUse::Drafts),
    ("draft", SpecialUse::Drafts),
    ("junk", SpecialUse::Junk),
    ("junk e-mail", SpecialUse::Junk),
    ("junk email", SpecialUse::Junk),
    ("spam", SpecialUse::Junk),
    ("sent", SpecialUse::Sent),
    ("sent items", SpecialUse::Sent),
    ("sent messages", SpecialUse::Sent),
    ("trash", SpecialUse::Trash),
    ("deleted items", SpecialUse::Trash),
    ("deleted messages", SpecialUse::Trash),
];

fn well_known(name: &str) -> Option<SpecialUse> {
    let is_it = |(known, _): &&(&str, SpecialUse)| name.eq_ignore_ascii_case(known);
    WELL_KNOWN.iter().find(is_it).map(|(_, of)| *of)
}

/// Gives out mailbox ids and UIDVALIDITYs for one record.
pub(in crate::store) struct Numbers {
    mailbox: u64,
    uidvalidity: u32,
}

impl Numbers {
    /// The account must be held: no other record makes mailboxes of it, and `bar` keeps those of
    /// other accounts in the partition from taking the same numbers by their own ids.
    pub fn of(partition: &Partition) -> Self {
        let mut last = partition.numbers.get();
        let state = partition.state.borrow();
        // UIDVALIDITY rises for ever, so a name that comes back is never mistaken (RFC 9051
        // 2.3.1.1).
        // A clock that is set to nonsense for a while must not use them up.
        let clock = u32::try_from(unix_now().seconds()).unwrap_or(0);
        // Beyond what a clock gives they are counted on from the last one.
        let clock = clock.min(maildir::NUMBER_MAX);
        last.0 = last.0.max(state.mailbox_last);
        last.1 = last.1.max(state.uidvalidity_last).max(clock);
        Numbers {
            mailbox: last.0,
            uidvalidity: last.1,
        }
    }

    pub fn created(
        &mut self,
        partition: &Partition,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> (MailboxId, Op) {
        self.mailbox += 1;
        self.uidvalidity = self.uidvalidity.saturating_add(1);
        partition.numbers.set((self.mailbox, self.uidvalidity));
        let mailbox = MailboxId(self.mailbox);
        let op = Op::MailboxCreated {
            account,
            mailbox,
            name: name.to_owned(),
            uidvalidity: UidValidity(self.uidvalidity),
            special_use,
        };
        (mailbox, op)
    }
}

/// The levels of `name` that are missing, outermost first, `name` itself last.
pub(super) fn missing_levels(partition: &Partition, account: AccountId, name: &str) -> Vec<String> {
    let state = partition.state.borrow();
    let there = |level: &str| {
        state
            .accounts
            .get(&account)
            .is_some_and(|a| a.find(level).is_some())
    };
    let ends = name
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([name.len()]);
    ends.map(|end| &name[..end])
        .filter(|level| !there(level))
        .map(str::to_owned)
        .collect()
}

/// Makes INBOX and the default folders unless the account has them.
pub(in crate::store) async fn ensure_account(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
) -> Result<(), StoreError> {
    let is_there = || {
        let state = partition.state.borrow();
        let Some(of_account) = state.accounts.get(&account) else {
            return Ok(false);
        };
        match adopt::is_under_way(of_account) {
            true => Err(StoreError::Busy),
            false => Ok(of_account.find("INBOX").is_some()),
        }
    };
    if is_there()? {
        return Ok(());
    }
    let mut bar = shard.bar(partition, account).await?;
    if is_there()? {
        return Ok(());
    }
    let taken: Vec<SpecialUse> = {
        let state = partition.state.borrow();
        let uses = |m: &Rc<Mailbox>| m.meta.borrow().special_use;
        state.accounts.get(&account).map_or(Vec::new(), |a| {
            a.mailboxes.values().filter_map(uses).collect()
        })
    };
    let mut numbers = Numbers::of(partition);
    let mut ops = vec![numbers.created(partition, account, "INBOX", None).1];
    let subscribed = |name: &str| Op::SubscriptionSet {
        account,
        name: name.to_owned(),
        subscribed: true,
    };
    ops.push(subscribed("INBOX"));
    for (name, special_use) in DEFAULTS {
        if !taken.contains(&special_use) {
            ops.push(
                numbers
                    .created(partition, account, name, Some(special_use))
                    .1,
            );
            ops.push(subscribed(name));
        }
    }
    let ticket = shard.submit_barred(partition, ops, Class::NewMail, &mut bar)?;
    shard.commit(ticket).await
}

/// The mailbox of that name, made with its superiors if it is missing. The account is there.
pub(in crate::store) async fn ensure_mailbox(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    name: &str,
) -> Result<Rc<Mailbox>, StoreError> {
    loop {
        let found = {
            let state = partition.state.borrow();
            state
                .accounts
                .get(&account)
                .and_then(|a| a.find(name).cloned())
        };
        if let Some(mailbox) = found {
            return Ok(mailbox);
        }
        match create(shard, partition, account, name, None).await {
            Ok(_) | Err(StoreError::MailboxExists) => {}
            Err(why) => return Err(why),
        }
    }
}

/// Whether a tree is becoming the account's mail: nobody else makes folders or places mail.
pub(in crate::store) fn under_way(partition: &Partition, account: AccountId) -> bool {
    let state = partition.state.borrow();
    let of_account = state.accounts.get(&account);
    of_account.is_some_and(adopt::is_under_way)
}

async fn create(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    name: &str,
    special_use: Option<SpecialUse>,
) -> Result<MailboxId, StoreError> {
    // RFC 9051 6.3.4: a trailing separator says that inferiors will follow; it is not the name.
    let name = maildir::canonical(name.strip_suffix('/').unwrap_or(name)).into_owned();
    if !maildir::is_good(&name) {
        return Err(StoreError::BadName);
    }
    let mut bar = shard.bar(partition, account).await?;
    // It may have begun since the account was found.
    if under_way(partition, account) {
        return Err(StoreError::Busy);
    }
    let levels = missing_levels(partition, account, &name);
    if levels.last() != Some(&name) {
        return Err(StoreError::MailboxExists);
    }
    let taken = |of: SpecialUse| {
        let state = partition.state.borrow();
        state.accounts.get(&account).is_some_and(|a| {
            a.mailboxes
                .values()
                .any(|m| m.meta.borrow().special_use == Some(of))
        })
    };
    let special_use = special_use.or_else(|| well_known(&name).filter(|&of| !taken(of)));
    let mut numbers = Numbers::of(partition);
    let mut ops = Vec::with_capacity(levels.len());
    let mut id = MailboxId(0);
    for level in &levels {
        let (made, op) = numbers.created(
            partition,
            account,
            level,
            special_use.filter(|_| *level == name),
        );
        id = made;
        ops.push(op);
    }
    let ticket = shard.submit_barred(partition, ops, Class::Change, &mut bar)?;
    shard.commit(ticket).await?;
    Ok(id)
}

/// What makes the folders of an adopted account: with the numbers that they had, subscribed as they
/// were, and the default ones that are missing. The account is held, and has none.
pub(in crate::store) fn folder_ops(
    partition: &Partition,
    account: AccountId,
    numbers: &mut Numbers,
    folders: &[(String, Option<(UidValidity, Uid)>)],
    subscriptions: &[String],
) -> Vec<Op> {
    let is_default = |name: &str| DEFAULTS.iter().find(|(known, _)| *known == name);
    let mut uses: Vec<(SpecialUse, &str)> = folders
        .iter()
        .filter_map(|(name, _)| is_default(name).map(|(known, of)| (*of, *known)))
        .collect();
    for (name, _) in folders {
        if let Some(of) = well_known(name).filter(|of| uses.iter().all(|(used, _)| used != of)) {
            uses.push((of, name));
        }
    }
    let mut ops = Vec::new();
    for (name, had) in folders {
        let special_use = uses.iter().find(|(_, of)| of == name).map(|(of, _)| *of);
        let (mailbox, mut op) = numbers.created(partition, account, name, special_use);
        if let (Op::MailboxCreated { uidvalidity, .. }, Some((had, _))) = (&mut op, had) {
            *uidvalidity = *had;
        }
        ops.push(op);
        if let Some((_, uidnext)) = had {
            ops.push(Op::MailboxSet {
                account,
                mailbox,
                uidnext: Some(*uidnext),
                highest: None,
                special_use: None,
            });
        }
    }
    let subscribed = |name: &str| Op::SubscriptionSet {
        account,
        name: name.to_owned(),
        subscribed: true,
    };
    for (name, of) in DEFAULTS {
        if uses.iter().all(|(used, _)| *used != of) {
            ops.push(numbers.created(partition, account, name, Some(of)).1);
            ops.push(subscribed(name));
        }
    }
    ops.extend(subscriptions.iter().map(|name| subscribed(name)));
    ops
}

impl Account {
    /// Creates `name`, and its missing superiors (RFC 9051 6.3.4).
    pub async fn create(
        &self,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, StoreError> {
        self.may_make(name)?;
        create(&self.shard, &self.partition, self.id(), name, special_use).await
    }

    /// Refuses names among those of archive folders, but of mailboxes that are there from before.
    pub(in crate::store) fn may_make(&self, name: &str) -> Result<(), StoreError> {
        match archive::is_reserved(&self.shard, name) && self.find(name).is_none() {
            true => Err(StoreError::ArchivesOnly),
            false => Ok(()),
        }
    }

    /// Deletes a mailbox; inferiors stay (RFC 9051 6.3.5).
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = maildir::canonical(name).into_owned();
        // RFC 9051 6.3.5: INBOX cannot be deleted.
        if name == "INBOX" {
            return Err(StoreError::NotAllowed);
        }
        let mut bar = self.shard.bar(&self.partition, self.id()).await?;
        let mailbox = self.find(&name).ok_or(StoreError::NoMailbox)?;
        let mut ops = vec![Op::MailboxDeleted {
            account: self.id(),
            mailbox,
            at: unix_now(),
        }];
        if self.mailbox(mailbox)?.archive.get() {
            ops.extend(self.forget_archive(mailbox).await?);
        }
        let ticket = self
            .shard
            .submit_barred(&self.partition, ops, Class::Completion, &mut bar)?;
        self.shard.commit(ticket).await
    }
}
