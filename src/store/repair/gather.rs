//! What is left of a mailbox whose index cannot be read. Waits for the disk; decides nothing.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use crate::base::{AccountId, Uid, UnixMs};
use crate::runtime::{Disk, DiskErrorKind, Open, yield_if_needed};
use crate::store::StoreError;
use crate::store::cache::{self, Known};
use crate::store::doom::Doomed;
use crate::store::mailbox::{Mailbox, Salvage, disk_error, salvage};
use crate::store::maildir::{KeywordLetters, OwnName, Task, UidList, parse};
use crate::store::owned::Owned;
use crate::store::partition::Partition;

/// Of the cache file, read at a time.
const CACHE_PIECE_BYTES: usize = 4 << 20;

/// A message file, or one that is about to be written.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub stem: String,
    pub letters: u32,
    pub modified: UnixMs,
}

pub(super) struct Found {
    pub folder: PathBuf,
    pub files: Vec<File>,
    pub salvage: Salvage,
    /// Keyword names by number, as the folder's own list has them.
    pub keywords: Vec<(usize, String)>,
    /// UIDs of files that another program named, from Dovecot's list.
    pub uids: HashMap<String, Uid>,
    pub cache: Known,
    /// Stems of messages that are expunged, and whose files may still be there.
    pub gone: HashSet<String>,
}

pub(super) async fn gather(
    disk: &Disk,
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<Found, StoreError> {
    let folder = mailbox.path();
    let gone = doomed(partition, mailbox);
    // Before the listing: what is settled meanwhile is in one of them.
    let mut files = unsettled(partition, mailbox);
    let salvage = salvage_files(disk, mailbox).await?;
    let named: HashSet<String> = files.iter().map(|file| file.stem.clone()).collect();
    for file in list_messages(disk, &folder.join("cur"), mailbox.made.get()).await? {
        if !named.contains(&file.stem) {
            files.push(file);
        }
    }
    let text = read(disk, &folder.join("dovecot-keywords")).await?;
    let keywords = KeywordLetters::of(&text.unwrap_or_default())
        .names
        .into_iter()
        .enumerate()
        .filter_map(|(number, name)| Some((number, name?)))
        .collect();
    let foreign = files.iter().any(|f| OwnName::parse(&f.stem).is_none());
    let uids = match foreign {
        true => {
            let text = read(disk, &folder.join("dovecot-uidlist")).await?;
            let list = UidList::parse(&text.unwrap_or_default());
            list.map_or_else(HashMap::new, |list| uids_of(list, mailbox))
        }
        false => HashMap::new(),
    };
    let by_stem: HashSet<String> = salvage.rows.values().map(row_stem).collect();
    let is_lost = files.iter().any(|f| !by_stem.contains(&f.stem));
    let cache = match is_lost {
        true => scan_cache(disk, owned, partition, mailbox.account).await,
        false => Known::new(),
    };
    Ok(Found {
        folder,
        files,
        salvage,
        keywords,
        uids,
        cache,
        gone,
    })
}

/// Whether the files of the index can be read.
pub(super) async fn is_whole(disk: &Disk, mailbox: &Mailbox) -> Result<bool, StoreError> {
    let salvage = salvage_files(disk, mailbox).await?;
    Ok(salvage.snapshot_whole && salvage.log_whole)
}

async fn salvage_files(disk: &Disk, mailbox: &Mailbox) -> Result<Salvage, StoreError> {
    let files = mailbox.index_files();
    let snapshot = match (files.waiting, files.snapshot) {
        (Some(snapshot), _) => Some(snapshot.pieces().flatten().collect()),
        (None, Some(path)) => Some(read(disk, &path).await?.unwrap_or_default()),
        (None, None) => None,
    };
    let log = match files.log_bytes {
        0 => None,
        _ => read(disk, &files.log).await?,
    };
    Ok(salvage(
        snapshot.as_deref(),
        log.as_deref(),
        files.log_bytes,
    ))
}

pub(super) fn row_stem(row: &crate::store::mailbox::NewRow) -> String {
    crate::store::maildir::stem(
        row.uid,
        &row.cold,
        row.extra.as_deref(),
        row.saved,
        row.size,
    )
}

/// Stems of the mailbox's messages that are expunged.
pub(super) fn doomed(partition: &Partition, of: &Mailbox) -> HashSet<String> {
    let state = partition.state.borrow();
    let stem = |doomed: &Doomed| match doomed {
        Doomed::Message { mailbox, stem, .. } if *mailbox == of.id => Some(stem.clone()),
        _ => None,
    };
    state.doomed.iter().filter_map(|(_, d)| stem(d)).collect()
}

/// Placements that are no files yet.
pub(super) fn unsettled(partition: &Partition, of: &Mailbox) -> Vec<File> {
    let tasks = partition.tasks.borrow();
    let file = |task: &Task| match task {
        Task::Place {
            mailbox,
            stem,
            letters,
            date,
            ..
        } if mailbox.id == of.id && mailbox.account == of.account => Some(File {
            stem: stem.clone(),
            letters: *letters,
            modified: *date,
        }),
        _ => None,
    };
    tasks.iter().filter_map(|(_, task)| file(task)).collect()
}

/// What cannot be read is as good as not there.
async fn read(disk: &Disk, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match disk.read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind, DiskErrorKind::NotFound | DiskErrorKind::Io(_)) => Ok(None),
        Err(e) => Err(disk_error(&e)),
    }
}

/// The messages in a folder; `made`: it should be there.
pub(super) async fn list_messages(
    disk: &Disk,
    cur: &Path,
    made: bool,
) -> Result<Vec<File>, StoreError> {
    let entries = match disk.list(cur).await {
        Ok(entries) => entries,
        // Not made yet, or taken away with all in it.
        Err(e) if e.kind == DiskErrorKind::NotFound => {
            if made {
                tracing::error!(folder = %cur.display(), "the folder of a mailbox is gone");
            }
            Vec::new()
        }
        Err(e) => return Err(disk_error(&e)),
    };
    let mut files = Vec::with_capacity(entries.len());
    for entry in entries {
        let Ok(name) = entry.name.into_string() else {
            continue;
        };
        if entry.is_dir || name.starts_with('.') {
            continue;
        }
        let (stem, letters) = parse(&name);
        files.push(File {
            stem: stem.to_owned(),
            letters,
            modified: entry.modified,
        });
        yield_if_needed().await;
    }
    Ok(files)
}

/// What Dovecot's list says, where it is of this UIDVALIDITY.
fn uids_of(list: UidList, mailbox: &Mailbox) -> HashMap<String, Uid> {
    let is_same = list.uidvalidity == mailbox.meta.borrow().uidvalidity.0;
    let entries = list.entries.into_iter().filter(|_| is_same);
    entries.map(|entry| (entry.base, Uid(entry.uid))).collect()
}

/// What the account's cache says of placements. Only a help: what it does not say is made anew.
async fn scan_cache(
    disk: &Disk,
    owned: &Owned,
    partition: &Partition,
    account: AccountId,
) -> Known {
    let mut begins: Vec<u64> = {
        let state = partition.state.borrow();
        let of_account = state.accounts.get(&account);
        of_account.map_or_else(Vec::new, |a| a.cache.begins().collect())
    };
    let mut known = Known::new();
    // Of two the second is the one that stays.
    begins.reverse();
    for begin in begins {
        let path = owned.layout.cache(partition.id, account, begin);
        scan_file(disk, &path, begin, &mut known).await;
    }
    known
}

async fn scan_file(disk: &Disk, path: &Path, begin: u64, known: &mut Known) {
    let how = Open {
        read: true,
        ..Open::default()
    };
    let Ok(file) = disk.open(path, how).await else {
        return;
    };
    let end = file.len().await.unwrap_or(0);
    let (mut at, mut len) = (0, CACHE_PIECE_BYTES);
    while at < end {
        let Ok(piece) = file.read_at(len, at).await else {
            return;
        };
        let is_end = at + piece.len() as u64 >= end || piece.is_empty();
        let done = cache::scan(&piece, begin + at, is_end, known);
        if is_end {
            return;
        }
        at += done as u64;
        // An entry that does not fit is read whole, once more.
        len = if done == 0 {
            len * 2
        } else {
            CACHE_PIECE_BYTES
        };
        yield_if_needed().await;
    }
}
