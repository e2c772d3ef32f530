//! Making what is derived anew from what is left, while others go on.
//!
//! An index that cannot be read is put aside and made again ([`load`]) from its own whole entries,
//! the Maildir's file names, the cache and the catalogue: UIDs stand in the names. What has no UID
//! any more waits as an orphan until [`orphans`] takes it in as new mail, by a record.
//!
//! Invariants: a message that was expunged never comes back; a UID is never given twice; rows that
//! are not as they were have a modseq above all that were told. A rebuilt index is the same state
//! as before only where the catalogue's checksum says so, and is then left alone in every column.
//!
//! Runs on: the shard that owns the partition, and at the start. Nothing here is a record: replay
//! meets the same damage, and mends it the same way.

mod command;
mod gather;
mod orphans;
mod rebuild;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::StoreError;
use super::mailbox::Mailbox;
use super::maildir::Layout;
use super::owned::{Owned, ToldKey, count};
use super::partition::Partition;
use crate::base::{AccountId, Deadline, MailboxId, PSeq, PartitionId, Uid, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime::{Disk, Step, now, sleep, unix_now};

pub(super) use command::repair;
pub use command::{MailboxRepair, RepairOrder};
pub(super) use orphans::{Orphans, find_orphans, provisional_id, run};
pub(super) use rebuild::Rebuilt;

/// Longest wait for whoever reads or rebuilds the same index, and for files being removed.
const WAIT: std::time::Duration = std::time::Duration::from_secs(30);
/// Rebuilt indexes that are remembered for a report.
const REPORTS_MAX: usize = 256;
/// Damaged files that are kept for a person to look at.
const ASIDE_MAX: usize = 64;

/// What became of an index that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IndexRepair {
    pub at: UnixMs,
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub name: String,
    /// Messages that it has now.
    pub messages: u32,
    /// The checksum proves that nothing was lost.
    pub is_exact: bool,
    /// Messages whose flags come from file names, and whose keywords beyond 26 are lost.
    pub from_names: u32,
    /// Files whose UID is lost: they come as new messages.
    pub orphans: u32,
    /// Rows whose files are not there.
    pub without_file: u32,
    /// Rows that were dropped because an expunge of them was lost.
    pub dropped: u32,
}

/// How the files of an index are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexState {
    Whole,
    Damaged,
    /// They were damaged, and are made anew.
    Mended,
}

/// Reads the files of an index, loaded or not; makes them anew where that is wanted and needed.
pub(super) async fn mend_index(
    disk: &Disk,
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    mend: bool,
) -> Result<IndexState, StoreError> {
    if mailbox.index.borrow().is_none() {
        // A load compares them, and the catalogue's checksum too.
        let rebuilt = owned.counters.indexes_rebuilt.get();
        if mend {
            load(disk, owned, partition, mailbox).await?;
        } else {
            match owned.load(mailbox, disk).await {
                Err(StoreError::Damaged { .. }) => return Ok(IndexState::Damaged),
                other => other?,
            }
        }
        return Ok(match owned.counters.indexes_rebuilt.get() == rebuilt {
            true => IndexState::Whole,
            false => IndexState::Mended,
        });
    }
    let is_whole = {
        let _turn = mailbox.turn(Deadline::after(now(), WAIT)).await?;
        gather::is_whole(disk, mailbox).await?
    };
    if is_whole {
        return Ok(IndexState::Whole);
    }
    if !mend {
        return Ok(IndexState::Damaged);
    }
    // What is in memory is what they said when they were whole, or were made from.
    count(&owned.counters.indexes_damaged);
    load(disk, owned, partition, mailbox).await?;
    let old = rebuild::begin_anew(owned, partition, mailbox);
    keep_aside(disk, owned, mailbox, &old).await;
    count(&owned.counters.indexes_rebuilt);
    Ok(IndexState::Mended)
}

/// Reads the index unless it is loaded; makes it anew where it cannot be read.
pub(super) async fn load(
    disk: &Disk,
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<(), StoreError> {
    match owned.load(mailbox, disk).await {
        Err(StoreError::Damaged { .. }) => {}
        other => return other,
    }
    let until = Deadline::after(now(), WAIT);
    let _turn = mailbox.turn(until).await?;
    if mailbox.index.borrow().is_some() {
        return Ok(());
    }
    count(&owned.counters.indexes_damaged);
    log_event!(
        ERROR,
        event::INDEX_DAMAGED,
        account = %mailbox.account,
        mailbox = %mailbox.id,
        folder = %mailbox.path().display()
    );
    let rebuilt = loop {
        let round = partition.dooms.get();
        if round % 2 == 1 {
            // Files of expunged messages are being removed, and nothing says any more which.
            if now() > until.0 {
                return Err(StoreError::Late);
            }
            sleep(POLL).await;
            continue;
        }
        let found = gather::gather(disk, owned, partition, mailbox).await?;
        if partition.dooms.get() == round && mailbox.path() == found.folder {
            // Nothing is waited for from here on.
            break rebuild::rebuild(owned, partition, mailbox, found);
        }
    };
    owned.note_loaded(mailbox);
    keep_aside(disk, owned, mailbox, &rebuilt.old_files).await;
    report(owned, mailbox, rebuilt);
    Ok(())
}

/// Writes the files of an index anew, from memory if it is loaded.
#[cfg(test)]
pub(super) async fn rewrite(
    disk: &Disk,
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<(), StoreError> {
    load(disk, owned, partition, mailbox).await?;
    rebuild::begin_anew(owned, partition, mailbox);
    Ok(())
}

/// Between looks whether files are still being removed.
const POLL: std::time::Duration = std::time::Duration::from_millis(10);

fn report(owned: &Owned, mailbox: &Mailbox, rebuilt: Rebuilt) {
    count(&owned.counters.indexes_rebuilt);
    let report = rebuilt.report;
    log_event!(
        WARN,
        event::INDEX_REBUILT,
        account = %mailbox.account,
        mailbox = %mailbox.id,
        name = report.name.as_str(),
        messages = report.messages,
        exact = report.is_exact,
        from_names = report.from_names,
        orphans = report.orphans,
        without_file = report.without_file,
        dropped = report.dropped
    );
    let mut reports = owned.repairs.borrow_mut();
    reports.push_back(report);
    while reports.len() > REPORTS_MAX {
        reports.pop_front();
    }
    if rebuilt.has_orphans || rebuilt.is_stale {
        owned.orphans.add(mailbox.account, mailbox.id);
    }
}

/// A second name for files that are about to go, in `damaged/`.
async fn keep_aside(disk: &Disk, owned: &Owned, mailbox: &Mailbox, files: &[PathBuf]) {
    let named = |file: &PathBuf| {
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("file");
        let (account, id) = (mailbox.account, mailbox.id);
        (file.clone(), format!("A{account}M{id}-{name}"))
    };
    set_aside(disk, &owned.layout, files.iter().map(named).collect()).await;
}

/// Gives files a second name in `damaged/`, behind the time. Only a help for who looks.
pub(super) async fn set_aside(disk: &Disk, layout: &Layout, files: Vec<(PathBuf, String)>) {
    let dir = layout.root.join("damaged");
    let secs = unix_now().seconds();
    let mut steps = vec![Step::CreateDirAll { path: dir.clone() }];
    steps.extend(files.into_iter().map(|(from, name)| Step::Link {
        from,
        to: dir.join(format!("{secs}-{name}")),
    }));
    // A file that is missing has nothing to be kept of.
    let _ = disk.batch(steps).await;
    let Ok(kept) = disk.list(&dir).await else {
        return;
    };
    let old = kept.len().saturating_sub(ASIDE_MAX);
    let old = kept.into_iter().take(old).map(|entry| Step::Unlink {
        path: dir.join(entry.name),
    });
    let _ = disk.batch(old.collect()).await;
}

/// The same of a message that waits for its owners.
pub(super) fn note_damaged_queue(owned: &Owned, partition: PartitionId, pseq: PSeq) {
    count(&owned.counters.messages_damaged);
    let why = "it was damaged while it waited for its owners";
    log_event!(ERROR, event::MESSAGE_DAMAGED, %partition, %pseq, why);
}

/// Counts a message that is not what was taken in, and tells of it, once in a life.
pub(super) fn note_damaged(
    owned: &Owned,
    mailbox: &Mailbox,
    uid: Uid,
    stem: &str,
    why: &'static str,
) {
    let name = &mailbox.meta.borrow().name;
    let file = file_of(owned, mailbox, stem);
    let key = (mailbox.account, mailbox.id, uid);
    note(
        owned,
        &owned.counters.messages_damaged,
        key,
        name,
        &file,
        why,
    );
}

/// The same of one whose file is gone.
pub(super) fn note_missing(owned: &Owned, mailbox: &Mailbox, uid: Uid, stem: &str) {
    let name = &mailbox.meta.borrow().name;
    let file = file_of(owned, mailbox, stem);
    let key = (mailbox.account, mailbox.id, uid);
    let why = "its file is gone";
    note(owned, &owned.counters.files_missing, key, name, &file, why);
}

/// The same of one that was removed, and is kept.
pub(super) fn note_damaged_kept(owned: &Owned, key: ToldKey, name: &str, file: &Path) {
    let file = owned.layout.relative(file).display().to_string();
    let why = "it can not be restored: it is not what was removed";
    note(
        owned,
        &owned.counters.messages_damaged,
        key,
        name,
        &file,
        why,
    );
}

fn note(
    owned: &Owned,
    counter: &Cell<u64>,
    key: ToldKey,
    name: &str,
    file: &str,
    why: &'static str,
) {
    if !owned.is_news(key) {
        return;
    }
    count(counter);
    let (account, mailbox, uid) = key;
    log_event!(
        ERROR,
        event::MESSAGE_DAMAGED,
        account = %account,
        mailbox = %mailbox,
        name = name,
        uid = uid.0,
        file = file,
        why
    );
}

/// Where a message's file is or was, below the data directory and before the letters of its flags:
/// what is restored from a backup.
pub(super) fn file_of(owned: &Owned, mailbox: &Mailbox, stem: &str) -> String {
    let path = mailbox.path().join("cur").join(stem);
    owned.layout.relative(&path).display().to_string()
}
