//! The way back: Dovecot's own lists, so that it gives each message the UID that it has here.
//!
//! Written when everything is settled on request, and never read by us but when the tree is
//! adopted again. Only what differs is written: of a mailbox that is as it was, whose list is the
//! file that was written or read then, nothing is even read.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::zip;
use hashbrown::HashSet;

use super::{is_under_way, plan};
use crate::base::{AccountId, Deadline, ModSeq, Uid, UidValidity, UnixMs};
use crate::runtime::{DiskErrorKind, Step, now, yield_if_needed};
use crate::store::StoreError;
use crate::store::mailbox::{Index, KEYWORD_LETTERS_MAX, Mailbox, Meta, Weight, disk_error};
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

/// A mailbox when its list was written, and the file that this became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Left {
    of: Present,
    len: u64,
    modified: UnixMs,
    keywords_apart: u32,
}

/// Keywords of a mailbox that no file's name tells, so that they stay behind: those in use beyond
/// the letters that there are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeywordsApart {
    pub account: AccountId,
    pub mailbox: String,
    pub keywords: u32,
}

/// Mailboxes that are told of.
const APART_MAX: usize = 1_000;

/// All that a list is made of changes one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Present {
    uidvalidity: UidValidity,
    uidnext: Uid,
    highest: ModSeq,
    weight: Weight,
    is_inbox: bool,
}

impl Present {
    fn of(meta: &Meta) -> Self {
        Present {
            uidvalidity: meta.uidvalidity,
            uidnext: meta.uidnext,
            highest: meta.highest,
            weight: meta.weight,
            is_inbox: meta.name == "INBOX",
        }
    }
}

/// Writes the lists of every account of this shard. What settles must have run before. Answers
/// what of it no list and no name can say.
pub(in crate::store) async fn write_lists(shard: &Shard) -> Result<Vec<KeywordsApart>, StoreError> {
    let mut apart = Vec::new();
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
                let keywords = write_uidlist(shard, &partition, &mailbox).await?;
                if keywords > 0 && apart.len() < APART_MAX {
                    let mailbox = mailbox.meta.borrow().name.clone();
                    apart.push(KeywordsApart {
                        account,
                        mailbox,
                        keywords,
                    });
                }
                yield_if_needed().await;
            }
            write_subscriptions(shard, &partition, account).await?;
        }
    }
    Ok(apart)
}

/// Keywords in use that have no letter.
fn keywords_apart(index: &Index) -> u32 {
    if index.keyword_names().len() <= KEYWORD_LETTERS_MAX {
        return 0;
    }
    let ids = (0..index.len()).flat_map(|at| index.keyword_ids(at));
    let apart: HashSet<u32> = ids.copied().filter(|id| !has_letter(index, *id)).collect();
    apart.len() as u32
}

fn has_letter(index: &Index, id: u32) -> bool {
    let id = id as usize;
    // RFC 5788: that is what Maildir's letter P says.
    id < KEYWORD_LETTERS_MAX || index.keyword_names()[id].eq_ignore_ascii_case("$Forwarded")
}

async fn write_uidlist(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<u32, StoreError> {
    // One settles at a time: names of files change here.
    let until = Deadline::after(now(), TURN_WAIT);
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Late)?;
    if mailbox.deleted.get() || !mailbox.made.get() {
        return Ok(0);
    }
    // Before anything is looked at: what changes meanwhile is looked at again the next time.
    let of = Present::of(&mailbox.meta.borrow());
    let path = mailbox.path();
    if let Some(left) = left(shard, mailbox, &path.join(UIDLIST)).await {
        return Ok(left.keywords_apart);
    }
    shard.owned.load(mailbox, &shard.disk).await?;
    let is_stale = !mailbox.stale_names.borrow().is_empty() || mailbox.keywords_stale.get();
    if is_stale {
        // Which file lacks letters is seen only where an index is loaded.
        partition.queue(mailbox);
        shard.settler().letters(partition).await?;
    }
    let former = read(shard, &path.join(UIDLIST)).await?;
    let listed = former.as_deref().and_then(UidList::parse);
    let (list, keywords_apart) = {
        let meta = mailbox.meta.borrow();
        let index = mailbox.index.borrow();
        let Some(index) = index.as_ref() else {
            return Ok(0);
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
        let kept = listed.filter(|f| f.uidvalidity == meta.uidvalidity.0);
        let list = UidList {
            uidvalidity: meta.uidvalidity.0,
            uidnext: meta.uidnext.0,
            kept: kept.map_or(Vec::new(), |f| f.kept),
            entries: (0..index.len()).filter_map(entry).collect(),
            unread: 0,
        };
        (list.encode(), keywords_apart(index))
    };
    mailbox.unload();
    let len = list.len() as u64;
    match former.as_ref() == Some(&list) {
        true => forget_half(shard, &path, UIDLIST).await?,
        false => replace(shard, &path, UIDLIST, list).await?,
    }
    let modified = shard.disk.modified(&path.join(UIDLIST)).await;
    mailbox.left.set(modified.ok().map(|modified| Left {
        of,
        len,
        modified,
        keywords_apart,
    }));
    Ok(keywords_apart)
}

/// What was left, where the list is what it would become. Flags that wait for their letters change
/// the modseq.
async fn left(shard: &Shard, mailbox: &Mailbox, path: &Path) -> Option<Left> {
    let left = mailbox.left.get()?;
    let is_stale = !mailbox.stale_names.borrow().is_empty() || mailbox.keywords_stale.get();
    if is_stale || left.of != Present::of(&mailbox.meta.borrow()) {
        return None;
    }
    let (len, modified) = zip(shard.disk.file_len(path), shard.disk.modified(path)).await;
    let is_same = len.is_ok_and(|len| len == left.len);
    (is_same && modified.is_ok_and(|modified| modified == left.modified)).then_some(left)
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
    let is_two = former
        .as_ref()
        .is_none_or(|bytes| bytes.is_empty() || bytes.starts_with(b"V\t2"));
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
    match former.is_some_and(|former| former == text.as_bytes()) {
        true => forget_half(shard, &root, SUBSCRIPTIONS).await,
        false => replace(shard, &root, SUBSCRIPTIONS, text.into_bytes()).await,
    }
}

async fn read(shard: &Shard, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match plan::read(&shard.disk, path).await {
        // Nothing that is worth keeping.
        Err(error) if error.kind == DiskErrorKind::Io(EFBIG) => Ok(None),
        bytes => bytes.map_err(|error| disk_error(&error)),
    }
}

/// What an attempt that was cut off left of a list that needs no other.
async fn forget_half(shard: &Shard, folder: &Path, name: &str) -> Result<(), StoreError> {
    match shard.disk.unlink(&folder.join(format!("{name}.new"))).await {
        Err(error) if error.kind != DiskErrorKind::NotFound => Err(disk_error(&error)),
        _ => Ok(()),
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
