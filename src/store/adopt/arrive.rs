//! Mail that another program puts into a folder becomes a message of its mailbox.
//!
//! Whether something came into `new` is told by the time at which that directory changed; what is
//! copied into `cur` is seen only by looking at every name, which is done when somebody asks. While
//! a folder is looked at nothing settles and nothing that is doomed is removed: a file without a
//! row is neither one that waits for its name nor one that was expunged.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashSet;

use super::folder::{Candidate, Common, Found, Lists, Where, part, read_some, row};
use super::{UidlFormat, is_under_way, run};
use crate::base::{AccountId, Deadline, MailboxId, PartitionId, Uid};
use crate::observe::{event, log_event};
use crate::runtime::{Step, now, trace_id, unix_now};
use crate::store::doom::Doomed;
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::{OwnName, Task, said_size};
use crate::store::partition::Partition;
use crate::store::quota::Charge;
use crate::store::shard::Shard;
use crate::store::{AdoptedRow, Op, StoreError, repair};

/// A session asks at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A directory may change once more within the grain of its time.
const GRAIN_MS: i64 = 2_000;
/// Longest wait for settling to pause.
pub(super) const TURN_WAIT: Duration = Duration::from_secs(5);
/// Messages of one record.
pub(super) const TAKEN_MAX: usize = 500;

pub(super) type Key = (PartitionId, AccountId, MailboxId);
pub(super) type Due = Vec<(Rc<Partition>, Rc<Mailbox>)>;

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

/// One trip for the times of all, and one to see which of those that changed have anything in them:
/// these, one after the other. Answers which have to be looked at again.
pub(super) async fn look_at(shard: &Shard, mailboxes: Due) -> Vec<Key> {
    let dir = |(_, mailbox): &(_, Rc<Mailbox>)| mailbox.path().join("new");
    let times = shard.disk.modified_all(mailboxes.iter().map(dir).collect());
    let times = times.await.into_iter();
    let mut changed = Vec::new();
    for (one, time) in mailboxes.into_iter().zip(times) {
        one.1.looked.set(Some(now()));
        match time {
            Ok(time) if one.1.new_changed.get() != Some(time) => changed.push((one, time)),
            _ => {}
        }
    }
    if changed.is_empty() {
        return Vec::new();
    }
    let asked = unix_now();
    let dirs = changed.iter().map(|(one, _)| dir(one)).collect();
    let filled = shard.disk.filled_all(dirs).await;
    let mut again = Vec::new();
    for (((partition, mailbox), time), filled) in changed.into_iter().zip(filled) {
        let outcome = match filled {
            Ok(false) => Ok(Taken::default()),
            _ => take(shard, &partition, &mailbox, Where::New).await,
        };
        // A file system without times (0) is looked at every time.
        let is_settled = time.0 > 0 && asked.0 - time.0 > GRAIN_MS;
        match outcome {
            Ok(taken) if taken.young > 0 => again.push((partition.id, mailbox.account, mailbox.id)),
            Ok(_) if is_settled => mailbox.new_changed.set(Some(time)),
            Ok(_) => {}
            Err(why) => {
                tracing::debug!(?why, mailbox = %mailbox.id, "new mail not taken yet");
                again.push((partition.id, mailbox.account, mailbox.id));
            }
        }
    }
    again
}

/// What taking came to: files that were no rows, and how many of them are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub files: u64,
    pub taken_in: u64,
    /// Left for the next look: somebody may be writing to them.
    pub young: u64,
}

/// What one look need not look at again.
#[derive(Default)]
struct Passed {
    files: HashSet<PathBuf>,
    young: HashSet<PathBuf>,
}

/// Takes what is in a folder and is no row. Others settle between one part of it and the next.
pub(super) async fn take(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    whence: Where,
) -> Result<Taken, StoreError> {
    let mut taken = Taken::default();
    let mut passed = Passed::default();
    while let Some(some) = take_part(shard, partition, mailbox, whence, &mut passed).await? {
        taken.files += some.files;
        taken.taken_in += some.taken_in;
    }
    taken.young = passed.young.len() as u64;
    taken.files += taken.young;
    Ok(taken)
}

/// One record of them, and of those that were not `passed` already; `None` where none is left.
async fn take_part(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    whence: Where,
    passed: &mut Passed,
) -> Result<Option<Taken>, StoreError> {
    let until = Deadline::after(now(), TURN_WAIT);
    let pause = shard.settling.acquire(1, until).await;
    let _pause = pause.map_err(|_| StoreError::Busy)?;
    let is_ours = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&mailbox.account);
        account.is_some_and(|a| !is_under_way(a)) && mailbox.made.get() && !mailbox.deleted.get()
    };
    if !is_ours {
        return Ok(None);
    }
    let folder = mailbox.path();
    let found = Found::list(&shard.disk, &folder, &Lists::default(), whence).await;
    let mut files = found.map_err(|error| disk_error(&error))?.files;
    if files.is_empty() {
        return Ok(None);
    }
    let named = match whence {
        Where::New => HashSet::new(),
        Where::Everywhere => rows(shard, partition, mailbox).await?,
    };
    let known = known(partition, mailbox);
    let asked = unix_now();
    files.retain(|file| {
        // A row's file is in `cur`; in `new` the same stem is another message.
        let is_row = !file.is_new && named.contains(&file.stem);
        let path = file.path(&folder);
        if known.contains(&file.stem) || is_row || passed.files.contains(&path) {
            return false;
        }
        // Where it is looked at again it keeps its name until then.
        !(passed.young.contains(&path) || file.is_young(asked) && passed.young.insert(path))
    });
    if files.is_empty() {
        return Ok(None);
    }
    part(&mut files);
    // First those that shared a stem: once the other is a row they would be taken for its file.
    let has_its_stem =
        |file: &Candidate| file.name.to_string_lossy().starts_with(file.stem.as_str());
    files.sort_by_key(has_its_stem);
    files.truncate(TAKEN_MAX);
    passed
        .files
        .extend(files.iter().map(|file| file.path(&folder)));
    let taken_in = take_some(shard, partition, mailbox, &mut files).await?;
    // Some have other names by now.
    passed
        .files
        .extend(files.iter().map(|file| file.path(&folder)));
    Ok(Some(Taken {
        files: files.len() as u64,
        taken_in,
        young: 0,
    }))
}

/// Stems of the rows.
async fn rows(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<HashSet<String>, StoreError> {
    repair::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let index = mailbox.index.borrow();
    let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
    Ok((0..index.len()).map(|at| index.stem(at)).collect())
}

/// Stems of messages that wait to leave `new`, or to be written, and of those that were expunged.
fn known(partition: &Partition, mailbox: &Mailbox) -> HashSet<String> {
    let mut known = HashSet::new();
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
    known
}

/// Files of `new` get names that no other file has or had; then one record has them all.
async fn take_some(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    files: &mut [Candidate],
) -> Result<u64, StoreError> {
    let folder = mailbox.path();
    make_durable(shard, &folder, files).await?;
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
    let marks = Charge::of_rows(shard, partition, mailbox.account, &rows).marks();
    let mut ops = vec![Op::Adopted {
        account: mailbox.account,
        mailbox: mailbox.id,
        rows,
    }];
    ops.extend(marks);
    let ticket = shard.submit(partition, ops, Vec::new(), Class::NewMail)?;
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
        // A stem that comes back must not cost the message that has it in `cur`, also where a backup
        // brings one that we gave; and the name of a placement says a UID, which is another message's.
        if file.is_new || OwnName::parse(&file.stem).is_some() {
            file.stem = own_stem(&file.stem);
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
    // Settling has moved others from `new` to `cur`: the name that they have must not be less
    // durable than the one that they had.
    let cur = folder.join("cur");
    dirs.remove(&cur);
    steps.push(Step::SyncDir { path: cur });
    steps.extend(dirs.into_iter().map(|path| Step::SyncDir { path }));
    for done in shard.disk.batch(steps).await {
        done.map_err(|e| disk_error(&e))?;
    }
    Ok(())
}

/// A stem for a file of another program, which no other file has or had.
pub(super) fn own_stem(former: &str) -> String {
    let said = said_size(former).map_or(String::new(), |size| format!(",S={size}"));
    // Lower case: it must not look like the name of a placement.
    let id = trace_id().to_string().to_ascii_lowercase();
    format!("{}.I{id}.palomar{said}", unix_now().seconds())
}

/// Whether the name is one that we gave to a file of another program.
pub(in crate::store) fn is_own(stem: &str) -> bool {
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
