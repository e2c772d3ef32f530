//! Mail that another program puts into a folder becomes a message of its mailbox.
//!
//! What comes into `new` is seen by the time at which that directory changed; what is copied into
//! `cur` only by looking at every name, which is done when somebody asks. While a folder is looked
//! at nothing settles and nothing that is doomed is removed: a file without a row is neither one
//! that waits for its name nor one that was expunged.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::HashSet;

use super::folder::{Candidate, Common, Found, Lists, Where, part, read_some, row};
use super::{UidlFormat, is_under_way, run};
use crate::base::{AccountId, Deadline, MailboxId, PartitionId, Uid};
use crate::observe::{event, log_event};
use crate::runtime::{Step, now, sleep, trace_id, unix_now};
use crate::store::doom::Doomed;
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::{Task, said_size};
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{AdoptedRow, Op, StoreError};

/// Between looks at the open mailboxes.
const OPEN_EVERY: Duration = Duration::from_secs(3);
/// Open mailboxes that are looked at in one trip.
const OPEN_MAX: usize = 1_000;
/// Between looks at those that nobody has open.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// And how many of them: INBOXes, and any.
const SWEEP_INBOXES: usize = 64;
const SWEEP_OTHERS: usize = 32;
/// A session asks at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A directory may change once more within the grain of its time.
const GRAIN_MS: i64 = 2_000;
/// Longest wait for settling to pause.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// Messages of one record.
const TAKEN_MAX: usize = 500;

/// Looks whether `new` changed since the last time, and takes what is in it. What goes wrong is
/// for the next time: a session does not fail for it.
pub(in crate::store) async fn look(
    shard: &Shard,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
) {
    let is_due = mailbox
        .looked
        .get()
        .is_none_or(|at| now().duration_since(at) >= LOOK_EVERY);
    if is_due {
        look_at(shard, vec![(partition.clone(), mailbox.clone())]).await;
    }
}

/// One trip for the times of all; then those that changed, one after the other.
async fn look_at(shard: &Shard, mailboxes: Due) {
    let dirs = mailboxes
        .iter()
        .map(|(_, m)| m.path().join("new"))
        .collect();
    let times = shard.disk.modified_all(dirs).await;
    for ((partition, mailbox), time) in mailboxes.into_iter().zip(times) {
        mailbox.looked.set(Some(now()));
        let Ok(time) = time else { continue };
        if mailbox.new_changed.get() == Some(time) {
            continue;
        }
        // A file system without times (0) is looked at every time.
        let is_settled = time.0 > 0 && unix_now().0 - time.0 > GRAIN_MS;
        match take(shard, &partition, &mailbox, Where::New).await {
            Ok(_) if is_settled => mailbox.new_changed.set(Some(time)),
            Ok(_) => {}
            Err(why) => tracing::debug!(?why, mailbox = %mailbox.id, "new mail not taken yet"),
        }
    }
}

/// Takes what is in a folder and is no row; answers how many messages that were. Others settle
/// between one part of them and the next.
pub(in crate::store) async fn take(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    whence: Where,
) -> Result<u64, StoreError> {
    let mut taken = 0;
    loop {
        let (some, left) = take_part(shard, partition, mailbox, whence).await?;
        taken += some;
        if some == 0 || !left {
            return Ok(taken);
        }
    }
}

/// How many were taken, and whether there are more.
async fn take_part(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    whence: Where,
) -> Result<(u64, bool), StoreError> {
    let until = Deadline::after(now(), TURN_WAIT);
    let pause = shard.settling.acquire(1, until).await;
    let _pause = pause.map_err(|_| StoreError::Busy)?;
    let is_ours = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&mailbox.account);
        account.is_some_and(|a| !is_under_way(a)) && mailbox.made.get() && !mailbox.deleted.get()
    };
    if !is_ours {
        return Ok((0, false));
    }
    let folder = mailbox.path();
    let found = Found::list(&shard.disk, &folder, &Lists::default(), whence).await;
    let mut files = found.map_err(|error| disk_error(&error))?.files;
    if files.is_empty() {
        return Ok((0, false));
    }
    let known = known(shard, partition, mailbox, whence).await?;
    files.retain(|file| !known.contains(&file.stem));
    part(&mut files);
    if files.is_empty() {
        return Ok((0, false));
    }
    let left = files.len() > TAKEN_MAX;
    files.truncate(TAKEN_MAX);
    let taken = take_some(shard, partition, mailbox, files).await?;
    Ok((taken, left))
}

/// Stems that are messages already, or were, or wait to leave `new`.
async fn known(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    whence: Where,
) -> Result<HashSet<String>, StoreError> {
    let mut known = HashSet::new();
    if whence == Where::Everywhere {
        shard.owned.load(mailbox, &shard.disk).await?;
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
        known.extend((0..index.len()).map(|at| index.stem(at)));
    }
    // At one moment, and what is doomed stays where it is as long as nothing settles.
    for (_, task) in partition.tasks.borrow().iter() {
        match task {
            Task::Take {
                mailbox: of, stem, ..
            }
            | Task::Place {
                mailbox: of, stem, ..
            } if of.id == mailbox.id => {
                known.insert(stem.clone());
            }
            _ => {}
        }
    }
    for (_, doomed) in &partition.state.borrow().doomed {
        match doomed {
            Doomed::Message {
                mailbox: of, stem, ..
            } if *of == mailbox.id => {
                known.insert(stem.clone());
            }
            _ => {}
        }
    }
    Ok(known)
}

/// Files of `new` get names that no other file has or had; then one record has them all.
async fn take_some(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    mut files: Vec<Candidate>,
) -> Result<u64, StoreError> {
    let folder = mailbox.path();
    make_durable(shard, &folder, &mut files).await?;
    let common = Common {
        keywords: &keywords(mailbox),
        uidvalidity: mailbox.meta.borrow().uidvalidity,
        uidl: None::<&UidlFormat>,
        saved: Some(unix_now()),
    };
    let mut rows: Vec<AdoptedRow> = Vec::with_capacity(files.len());
    let mut at = 0;
    while at < files.len() {
        for outcome in read_some(&shard.disk, &folder, &files[at..]).await {
            // What cannot be read now is looked at again when the directory changes.
            if let Ok(Some((weighed, modified))) = outcome {
                rows.push(row(&files[at], weighed, modified, &common));
            }
            at += 1;
        }
    }
    shard.turn(partition, &[mailbox.account]).await?;
    if mailbox.deleted.get() || rows.is_empty() {
        return Ok(0);
    }
    run::number(shard, partition, mailbox, &mut rows)?;
    let taken: Vec<Uid> = rows.iter().map(|row| row.uid).collect();
    let op = Op::Adopted {
        account: mailbox.account,
        mailbox: mailbox.id,
        rows,
    };
    let ticket = shard.submit(partition, vec![op], Vec::new(), Class::NewMail)?;
    shard.commit(ticket).await?;
    for uid in &taken {
        log_event!(
            INFO,
            event::MESSAGE_ARRIVED,
            account = %mailbox.account,
            mailbox = mailbox.meta.borrow().name.as_str(),
            uid = uid.0
        );
    }
    Ok(taken.len() as u64)
}

/// Names that are ours, and both names and content on the disk: nobody else will see to that.
async fn make_durable(
    shard: &Shard,
    folder: &Path,
    files: &mut [Candidate],
) -> Result<(), StoreError> {
    let mut steps = Vec::new();
    let mut dirs: HashSet<PathBuf> = HashSet::new();
    for file in files {
        let from = file.path(folder);
        if file.is_new && !is_own(&file.stem) {
            // A stem that comes back must not cost the message that has it in `cur`.
            let said = said_size(&file.stem).map_or(String::new(), |size| format!(",S={size}"));
            // Lower case: it must not look like the name of a placement.
            let id = trace_id().to_string().to_ascii_lowercase();
            file.stem = format!("{}.I{id}.palomar{said}", unix_now().seconds());
        }
        file.name = file.wanted();
        let path = file.path(folder);
        dirs.extend(path.parent().map(Path::to_path_buf));
        if path != from {
            let to = path.clone();
            steps.push(Step::Rename { from, to });
        }
        steps.push(Step::SyncFile { path });
    }
    steps.extend(dirs.into_iter().map(|path| Step::SyncDir { path }));
    for done in shard.disk.batch(steps).await {
        done.map_err(|e| disk_error(&e))?;
    }
    Ok(())
}

/// Named by us in an attempt that came to no record.
fn is_own(stem: &str) -> bool {
    let mut words = stem.split('.');
    let id = words.nth(1).and_then(|word| word.strip_prefix('I'));
    id.is_some_and(|id| id.len() == 16) && words.next().is_some_and(|w| w.starts_with("palomar"))
}

/// What letters stand for in this folder now.
fn keywords(mailbox: &Mailbox) -> Vec<Option<String>> {
    let index = mailbox.index.borrow();
    let names = index
        .as_ref()
        .map_or(&[][..], |index| index.keyword_names());
    names.iter().map(|name| Some(name.to_string())).collect()
}

// ---- the watch ----

/// Looks at open mailboxes every few seconds, and at all others in the course of time.
pub(in crate::store) async fn watch(shard: Rc<Shard>) {
    let (mut open, mut inboxes, mut all) = (Key::default(), Key::default(), Key::default());
    let mut swept = now();
    while !shard.gate.is_closed() {
        or(sleep(OPEN_EVERY), shard.gate.closing()).await;
        if shard.gate.is_closed() || shard.is_poisoned() {
            continue;
        }
        let mut due = next_open(&shard, &mut open);
        if now().duration_since(swept) >= SWEEP_EVERY {
            swept = now();
            due.extend(next_inboxes(&shard, &mut inboxes));
            due.extend(next_of_all(&shard, &mut all));
        }
        if !due.is_empty() {
            look_at(&shard, due).await;
        }
    }
}

type Key = (PartitionId, AccountId, MailboxId);
type Due = Vec<(Rc<Partition>, Rc<Mailbox>)>;

/// The open mailboxes behind `from`, which goes on to the last of them, or back to the first.
fn next_open(shard: &Shard, from: &mut Key) -> Due {
    let open = shard.owned.open.borrow();
    let behind = open.range((Bound::Excluded(*from), Bound::Unbounded));
    let keys: Vec<Key> = behind.map(|(key, _)| *key).take(OPEN_MAX).collect();
    *from = match keys.last() {
        Some(last) if keys.len() == OPEN_MAX => *last,
        _ => Key::default(),
    };
    let due = keys
        .iter()
        .filter_map(|key| Some((key.0, open.get(key)?.clone())));
    due.map(|(id, mailbox)| (shard.owned.partition(id), mailbox))
        .collect()
}

/// The same of all INBOXes.
fn next_inboxes(shard: &Shard, from: &mut Key) -> Due {
    let mut due = Vec::new();
    let mut last = Key::default();
    for (id, partition) in shard.owned.partitions.borrow().range(from.0..) {
        let behind = if *id == from.0 {
            from.1
        } else {
            AccountId::default()
        };
        let state = partition.state.borrow();
        for (account, of) in state
            .accounts
            .range((Bound::Excluded(behind), Bound::Unbounded))
        {
            if due.len() == SWEEP_INBOXES {
                *from = last;
                return due;
            }
            last = (*id, *account, MailboxId::default());
            due.extend(of.find("INBOX").map(|m| (partition.clone(), m.clone())));
        }
    }
    *from = Key::default();
    due
}

/// And of all mailboxes.
fn next_of_all(shard: &Shard, from: &mut Key) -> Due {
    let mut due = Vec::new();
    let mut last = Key::default();
    for (id, partition) in shard.owned.partitions.borrow().range(from.0..) {
        let account = if *id == from.0 {
            from.1
        } else {
            AccountId::default()
        };
        let state = partition.state.borrow();
        for (account, of) in state.accounts.range(account..) {
            let is_same = (*id, *account) == (from.0, from.1);
            let behind = if is_same {
                from.2
            } else {
                MailboxId::default()
            };
            for (mailbox, found) in of
                .mailboxes
                .range((Bound::Excluded(behind), Bound::Unbounded))
            {
                if due.len() == SWEEP_OTHERS {
                    *from = last;
                    return due;
                }
                last = (*id, *account, *mailbox);
                due.push((partition.clone(), found.clone()));
            }
        }
    }
    *from = Key::default();
    due
}
