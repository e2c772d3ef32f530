//! Days that are over: removed messages and history older than the operator wants go, slowly; on
//! a full disk the oldest day goes at once.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::HashSet;

use super::span::Span;
use super::{Day, day_file, kept_partition};
use crate::base::PartitionId;
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step, now, sleep, unix_now};
use crate::store::doom::Doomed;
use crate::store::maildir::Layout;
use crate::store::owned::{Owned, count};
use crate::store::shard::Shard;

/// Between looks for days that are over.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// After the start, when there is more to do.
const FIRST_AFTER: Duration = Duration::from_secs(20);
/// Files removed in one trip, and the rest after it.
const FILES_MAX: usize = 256;
const REST: Duration = Duration::from_millis(50);

/// Removes what is over, until the gate closes.
pub(in crate::store) async fn run(shard: Rc<Shard>) {
    let (disk, layout) = (&shard.disk, &shard.layout);
    let mut span = Span::load(disk, layout, shard.id).await;
    let mut wait = FIRST_AFTER;
    let mut looked = now();
    loop {
        or(sleep(wait), shard.gate.closing()).await;
        if shard.gate.is_closed() {
            return;
        }
        wait = PRUNE_EVERY;
        let uptime = now().duration_since(looked);
        looked += uptime;
        if let Err(error) = look(&shard, &mut span, uptime).await {
            tracing::warn!(%error, "days of removed messages that are over are still there");
        }
    }
}

/// Removes what a day of looks at the clock agrees on.
async fn look(shard: &Shard, span: &mut Span, uptime: Duration) -> Result<(), DiskError> {
    let today = Day::of(unix_now());
    let agreed = span.look(today, uptime);
    // Where nothing is to be kept, it does not matter what day it is.
    let keeps_nothing = shard.owned.keep_days.get() == 0;
    if let Some(day) = agreed.or(keeps_nothing.then_some(today)) {
        prune(shard, day).await?;
    }
    if agreed.is_some() {
        span.begin_anew(today);
    }
    span.save(&shard.disk, &shard.layout, shard.id).await
}

/// One pass. With nothing to keep any more, all goes.
pub(in crate::store) async fn prune(shard: &Shard, today: Day) -> Result<(), DiskError> {
    let (disk, layout, owned) = (&shard.disk, &shard.layout, &shard.owned);
    let days = owned.keep_days.get();
    let first = match days {
        0 => Day(today.0.saturating_add(1)),
        days => today.minus(days),
    };
    for day in kept_days(disk, layout).await? {
        if day >= first {
            break;
        }
        for partition in partitions(disk, &layout.root.join(format!("removed/{day}"))).await? {
            if owned.partitions.borrow().contains_key(&partition) {
                let dir = kept_partition(layout, day, partition);
                remove_slowly(shard, partition, day, &dir).await?;
            }
            if shard.gate.is_closed() {
                return Ok(());
            }
        }
        remove_empty(disk, layout, day).await?;
    }
    for partition in owned.all() {
        let days = partition.state.borrow().history.days();
        for (day, _) in days.into_iter().filter(|(day, _)| *day < first) {
            partition.state.borrow_mut().history.forget(day);
            partition.dirty.set(true);
            gone(disk.unlink(&day_file(layout, partition.id, day)).await)?;
        }
    }
    Ok(())
}

fn gone(outcome: Result<(), DiskError>) -> Result<(), DiskError> {
    match outcome {
        Err(error) if error.kind != DiskErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Days of which anything is kept, oldest first.
pub(in crate::store) async fn kept_days(
    disk: &Disk,
    layout: &Layout,
) -> Result<Vec<Day>, DiskError> {
    let names = list(disk, &layout.root.join("removed")).await?;
    let mut days: Vec<Day> = names.iter().filter_map(|name| name.parse().ok()).collect();
    days.sort_unstable();
    Ok(days)
}

async fn partitions(disk: &Disk, day: &Path) -> Result<Vec<PartitionId>, DiskError> {
    let all = list(disk, day).await?.into_iter();
    Ok(all
        .filter_map(|name| name.parse().ok().map(PartitionId))
        .collect())
}

/// Folders deleted on that day that a replay may still need: no checkpoint covers their end, and
/// what was copied from them is copied again.
fn needed(owned: &Owned, partition: PartitionId, day: Day) -> HashSet<PathBuf> {
    let Some(partition) = owned.partitions.borrow().get(&partition).cloned() else {
        return HashSet::new();
    };
    let state = partition.state.borrow();
    let folder = |doomed: &Doomed| match doomed {
        Doomed::Folder {
            account,
            mailbox,
            day: of,
        } if *of == day => Some(Layout::buried_folder(partition.id, *account, *mailbox, day)),
        _ => None,
    };
    let folders = state.doomed.iter().filter_map(|(_, d)| folder(d));
    folders.map(|path| owned.layout.root.join(path)).collect()
}

/// A directory three levels deep of accounts, mailboxes and files, a little at a time.
async fn remove_slowly(
    shard: &Shard,
    partition: PartitionId,
    day: Day,
    dir: &Path,
) -> Result<(), DiskError> {
    let (disk, gate) = (&shard.disk, &shard.gate);
    for account in list(disk, dir).await? {
        let account = dir.join(account);
        for mailbox in list(disk, &account).await? {
            let mailbox = account.join(&mailbox);
            if needed(&shard.owned, partition, day).contains(&mailbox) {
                continue;
            }
            // A deleted folder has its files one level below.
            for files in [mailbox.clone(), mailbox.join("cur")] {
                let names = list(disk, &files).await?;
                for part in names.chunks(FILES_MAX) {
                    let unlink = |name: &String| Step::Unlink {
                        path: files.join(name),
                    };
                    // Directories refuse, and go with what is above them.
                    disk.batch(part.iter().map(unlink).collect()).await;
                    or(sleep(REST), gate.closing()).await;
                    if gate.is_closed() {
                        return Ok(());
                    }
                }
            }
        }
    }
    remove(disk, &shard.owned, partition, day, dir)
        .await
        .map(drop)
}

/// All that is kept of a partition from a day, at once. True where something was.
async fn remove(
    disk: &Disk,
    owned: &Owned,
    partition: PartitionId,
    day: Day,
    dir: &Path,
) -> Result<bool, DiskError> {
    let mut any = false;
    let mut is_left = false;
    for account in list(disk, dir).await? {
        let account = dir.join(account);
        let mut is_needed = false;
        for mailbox in list(disk, &account).await? {
            let mailbox = account.join(mailbox);
            if needed(owned, partition, day).contains(&mailbox) {
                is_needed = true;
                continue;
            }
            gone(disk.remove_dir_all(&mailbox).await)?;
            any = true;
        }
        if !is_needed {
            gone(disk.remove_dir_all(&account).await)?;
        }
        is_left |= is_needed;
    }
    if !is_left {
        gone(disk.remove_dir_all(dir).await)?;
    }
    Ok(any)
}

async fn list(disk: &Disk, dir: &Path) -> Result<Vec<String>, DiskError> {
    match disk.list(dir).await {
        Err(error) if error.kind != DiskErrorKind::NotFound => match error.kind {
            // Not a directory.
            DiskErrorKind::Io(errno) if errno == rustix::io::Errno::NOTDIR.raw_os_error() => {
                Ok(Vec::new())
            }
            _ => Err(error),
        },
        Err(_) => Ok(Vec::new()),
        Ok(entries) => Ok(entries
            .into_iter()
            .filter_map(|e| e.name.into_string().ok())
            .collect()),
    }
}

/// The day's directory goes with the last partition in it, whichever shard comes last.
async fn remove_empty(disk: &Disk, layout: &Layout, day: Day) -> Result<(), DiskError> {
    let dir = layout.root.join(format!("removed/{day}"));
    if list(disk, &dir).await?.is_empty() {
        gone(disk.remove_dir_all(&dir).await)?;
    }
    Ok(())
}

/// The disk is full: the oldest day of the partitions here goes at once, whatever its age. False
/// when nothing was kept.
pub(in crate::store) async fn free(disk: &Disk, owned: &Owned) -> bool {
    let layout = &owned.layout;
    let days = kept_days(disk, layout).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "removed messages still take room on the full disk");
        Vec::new()
    });
    for day in days {
        let mut any = false;
        for partition in owned.all() {
            let dir = kept_partition(layout, day, partition.id);
            match remove(disk, owned, partition.id, day, &dir).await {
                Ok(true) => any = true,
                Ok(false) => continue,
                Err(error) => {
                    tracing::warn!(%error, "removed messages still take room on the full disk");
                    continue;
                }
            }
            partition.state.borrow_mut().history.forget(day);
            partition.dirty.set(true);
            // Without its messages it tells of nothing that could be restored.
            let _ = disk.unlink(&day_file(layout, partition.id, day)).await;
        }
        if any {
            count(&owned.counters.history_days_early);
            tracing::warn!(%day, "the disk is full: what was removed on that day is gone for good");
            let _ = remove_empty(disk, layout, day).await;
            return true;
        }
    }
    false
}
