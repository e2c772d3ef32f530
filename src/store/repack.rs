//! Compresses, in the background and at a bounded rate, message files that were written plain.
//!
//! A file is replaced by another with the same name only after that one is durable, and while
//! nothing is settled: so nobody renames or removes it meanwhile, and whoever has it open reads on.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::mailbox::{Mailbox, disk_error};
use super::maildir::file_name;
use super::owned::count;
use super::packed::pack;
use super::partition::Partition;
use super::shard::Shard;
use super::{Packing, StoreError, repair};
use crate::base::{Deadline, UnixMs};
use crate::runtime::{DiskErrorKind, Step, now, sleep, yield_if_needed};

/// Files done at a time, and the pause after them: at most 32 a second on a shard.
const FILES_MAX: usize = 16;
const PAUSE: Duration = Duration::from_millis(500);
/// Between one look at all files and the next.
const AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for settling and checkpoints.
const SETTLING_WAIT: Duration = Duration::from_secs(300);
/// A shorter file takes one block anyway.
const BYTES_MIN: u64 = 4096;

struct Plain {
    file: PathBuf,
    tmp: PathBuf,
    len: u64,
    date: UnixMs,
}

/// Runs until the store drains.
pub(super) async fn run(shard: Rc<Shard>) {
    while !shard.gate.is_closed() && shard.cfg.packing == Packing::Zstd {
        or(sleep(PAUSE), shard.gate.closing()).await;
        if let Err(why) = pass(&shard).await {
            tracing::warn!(?why, "compressing of old messages put off");
        }
        or(sleep(AGAIN_AFTER), shard.gate.closing()).await;
    }
}

/// One look at every file of the shard.
pub(super) async fn pass(shard: &Shard) -> Result<(), StoreError> {
    for partition in shard.owned.all() {
        let mailboxes: Vec<Rc<Mailbox>> = {
            let state = partition.state.borrow();
            let all = state.accounts.values().flat_map(|a| a.mailboxes.values());
            all.cloned().collect()
        };
        for mailbox in mailboxes {
            match one_mailbox(shard, &partition, &mailbox).await {
                // One file that cannot be read does not keep the others plain.
                Err(StoreError::Damaged { .. }) => {}
                outcome => outcome?,
            }
            mailbox.unload();
        }
    }
    Ok(())
}

async fn one_mailbox(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<(), StoreError> {
    let mut next = 0;
    loop {
        if shard.gate.is_closed() || shard.is_poisoned() || mailbox.deleted.get() {
            return Ok(());
        }
        let until = Deadline::after(now(), SETTLING_WAIT);
        let settling = shard.settling.acquire(1, until).await;
        let settling = settling.map_err(|_| StoreError::Late)?;
        repair::load(&shard.disk, &shard.owned, partition, mailbox).await?;
        let (part, after) = plain_from(mailbox, next);
        let Some(after) = after else { return Ok(()) };
        next = after;
        let mut done = false;
        for plain in part {
            done |= one_file(shard, plain).await?;
        }
        drop(settling);
        match done {
            true => or(sleep(PAUSE), shard.gate.closing()).await,
            false => yield_if_needed().await,
        }
    }
}

/// Messages with UIDs from `next` on, and where to go on; `None` at the end.
fn plain_from(mailbox: &Mailbox, next: u32) -> (Vec<Plain>, Option<u32>) {
    let index = mailbox.index.borrow();
    let Some(index) = index.as_ref() else {
        return (Vec::new(), None);
    };
    let from = index.uids().partition_point(|uid| uid.0 < next);
    let to = (from + FILES_MAX).min(index.len());
    let folder = mailbox.path();
    let plain = |at: usize| {
        let extra = index.extra(at);
        // A file with several owners would be one no more.
        let shared = extra.is_some_and(|e| e.archive.is_some() || !e.prefix.is_empty());
        let len = index.stored_size(at);
        if shared || len < BYTES_MIN {
            return None;
        }
        let stem = index.stem(at);
        let name = file_name(&stem, index.cold(at).letters);
        Some(Plain {
            file: folder.join("cur").join(name),
            tmp: folder.join("tmp").join(format!("{stem}.packed")),
            len,
            date: index.date(at),
        })
    };
    let part = (from..to).filter_map(plain).collect();
    let last = index.uids()[from..to].last();
    (part, last.map(|uid| uid.0.saturating_add(1)))
}

/// True if the file was plain and is compressed now.
async fn one_file(shard: &Shard, plain: Plain) -> Result<bool, StoreError> {
    // What is late may still happen, when something else has the name.
    let disk = &shard.patient;
    let Plain {
        file,
        tmp,
        len,
        date,
    } = plain;
    match disk.file_len(&file).await {
        Ok(found) if found == len => {}
        // Compressed, damaged, or not settled yet: not our business.
        Ok(_) => return Ok(false),
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(disk_error(&e)),
    }
    let steps = vec![
        Step::Convert {
            from: file.clone(),
            to: tmp.clone(),
            how: pack,
        },
        Step::SetTimes {
            path: tmp.clone(),
            at: date,
        },
        Step::SyncFile { path: tmp.clone() },
    ];
    let mut failed = None;
    for outcome in disk.batch(steps).await {
        failed = failed.or(outcome.err());
    }
    let shorter = match failed {
        None => disk.file_len(&tmp).await.is_ok_and(|packed| packed < len),
        Some(_) => false,
    };
    if !shorter {
        let _ = disk.unlink(&tmp).await;
        return failed.map_or(Ok(false), |e| Err(disk_error(&e)));
    }
    let renamed = disk.rename(&tmp, &file).await;
    renamed.map_err(|e| disk_error(&e))?;
    count(&shard.owned.counters.packed);
    Ok(true)
}
