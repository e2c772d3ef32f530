//! The way back: Dovecot's own lists, so that it gives each message the UID that it has here.
//!
//! Written when everything is settled on request, and never read by us but when the tree is
//! adopted again.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::{is_under_way, plan};
use crate::base::{AccountId, Deadline};
use crate::runtime::{DiskErrorKind, Step, now, yield_if_needed};
use crate::store::StoreError;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::{Entry, UidList, folder};
use crate::store::own_uidl;
use crate::store::partition::Partition;
use crate::store::shard::Shard;

/// Longest wait for settling and checkpoints.
const TURN_WAIT: Duration = Duration::from_secs(300);
const UIDLIST: &str = "dovecot-uidlist";
const SUBSCRIPTIONS: &str = "subscriptions";
/// File too large.
const EFBIG: i32 = 27;

/// Writes the lists of every account of this shard. What settles must have run before.
pub(in crate::store) async fn write_lists(shard: &Shard) -> Result<(), StoreError> {
    for partition in shard.owned.all() {
        let accounts: Vec<AccountId> = {
            let state = partition.state.borrow();
            let whole = state.accounts.iter().filter(|(_, a)| !is_under_way(a));
            whole.map(|(id, _)| *id).collect()
        };
        for account in accounts {
            let mailboxes: Vec<Rc<Mailbox>> = {
                let state = partition.state.borrow();
                let of_account = state.accounts.get(&account);
                of_account.map_or(Vec::new(), |a| a.mailboxes.values().cloned().collect())
            };
            for mailbox in mailboxes {
                write_uidlist(shard, &partition, &mailbox).await?;
                yield_if_needed().await;
            }
            write_subscriptions(shard, &partition, account).await?;
        }
    }
    Ok(())
}

async fn write_uidlist(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<(), StoreError> {
    // One settles at a time: names of files change here.
    let until = Deadline::after(now(), TURN_WAIT);
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Late)?;
    if mailbox.deleted.get() || !mailbox.made.get() {
        return Ok(());
    }
    shard.owned.load(mailbox, &shard.disk).await?;
    let is_stale = !mailbox.stale_names.borrow().is_empty() || mailbox.keywords_stale.get();
    if is_stale {
        // Which file lacks letters is seen only where an index is loaded.
        partition.queue(mailbox);
        shard.settler().letters(partition).await?;
    }
    let path = mailbox.path();
    let former = read(shard, &path.join(UIDLIST)).await?;
    let former = former.and_then(|bytes| UidList::parse(&bytes));
    let list = {
        let meta = mailbox.meta.borrow();
        let index = mailbox.index.borrow();
        let Some(index) = index.as_ref() else {
            return Ok(());
        };
        let is_inbox = meta.name == "INBOX";
        let entry = |at: usize| {
            let extra = index.extra(at);
            let uid = index.uids()[at];
            let uidl = || match extra.and_then(|e| e.uidl.as_deref()) {
                Some(uidl) => uidl.to_owned(),
                None => own_uidl(meta.uidvalidity, uid),
            };
            let has_file = extra.is_none_or(|e| e.archive.is_none());
            has_file.then(|| Entry {
                uid: uid.0,
                uidl: is_inbox.then(uidl),
                base: index.stem(at),
            })
        };
        let kept = former.filter(|f| f.uidvalidity == meta.uidvalidity.0);
        UidList {
            uidvalidity: meta.uidvalidity.0,
            uidnext: meta.uidnext.0,
            kept: kept.map_or(Vec::new(), |f| f.kept),
            entries: (0..index.len()).filter_map(entry).collect(),
            unread: 0,
        }
    };
    mailbox.unload();
    replace(shard, &path, UIDLIST, list.encode()).await
}

/// In the version in which the file is there; else in Dovecot's present one.
async fn write_subscriptions(
    shard: &Shard,
    partition: &Partition,
    account: AccountId,
) -> Result<(), StoreError> {
    let names: Vec<String> = {
        let state = partition.state.borrow();
        let Some(of_account) = state.accounts.get(&account) else {
            return Ok(());
        };
        of_account.subscriptions.iter().cloned().collect()
    };
    let root = shard.layout.account(partition.id, account);
    let former = read(shard, &root.join(SUBSCRIPTIONS)).await?;
    let is_two = former.is_none_or(|bytes| bytes.is_empty() || bytes.starts_with(b"V\t2"));
    let mut text = String::new();
    if is_two {
        text.push_str("V\t2\n\n");
    }
    for name in names {
        match folder(&name).strip_prefix('.') {
            None => text.push_str("INBOX"),
            Some(levels) if is_two => text.push_str(&levels.replace('.', "\t")),
            Some(levels) => text.push_str(levels),
        }
        text.push('\n');
    }
    replace(shard, &root, SUBSCRIPTIONS, text.into_bytes()).await
}

async fn read(shard: &Shard, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match plan::read(&shard.disk, path).await {
        // Nothing that is worth keeping.
        Err(error) if error.kind == DiskErrorKind::Io(EFBIG) => Ok(None),
        bytes => bytes.map_err(|error| disk_error(&error)),
    }
}

async fn replace(
    shard: &Shard,
    folder: &Path,
    name: &str,
    bytes: Vec<u8>,
) -> Result<(), StoreError> {
    let step = Step::Replace {
        tmp: folder.join(format!("{name}.new")),
        to: folder.join(name),
        bytes,
        rest: None,
        pack: None,
        modified: None,
    };
    match shard.disk.batch(vec![step]).await.remove(0) {
        // The folder was renamed or deleted meanwhile.
        Err(e) if e.kind == DiskErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop).map_err(|e| disk_error(&e)),
    }
}
