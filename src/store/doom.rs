//! What removals doom: it goes once a checkpoint covers the record, and is kept for a while below
//! `removed/`, or not.
//!
//! An expunged message's file gets its second name ([`keep`]) before the sync that makes the
//! checkpoint durable, and loses its first one ([`doom`]) after it: at no moment can a power cut
//! leave it without a name.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::HashMap;

use super::StoreError;
use super::bytes::{Malformed, Reader, Writer};
use super::catalogue::AccountState;
use super::history::{self, Day, Head, Rows};
use super::mailbox::Change;
use super::maildir::{Layout, Settler, Task, file_name, parse};
use super::owned::Owned;
use super::partition::{Partition, purged};
use super::shard::Shard;
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, PartitionId, Uid, UnixMs};
use crate::runtime::local::Notify;
use crate::runtime::{DirEntry, Disk, DiskError, DiskErrorKind, Step, sleep, yield_if_needed};

/// Files linked or removed in one trip.
const FILES_MAX: usize = 512;
/// Between trips that remove a tree.
const TREE_REST: Duration = Duration::from_millis(20);
/// Folders are two levels deep; what is deeper goes at once.
const TREE_DEPTH_MAX: u32 = 4;

/// What is to be removed once a checkpoint covers the record that removed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doomed {
    /// A message's file, and the day under which it is kept.
    Message {
        account: AccountId,
        mailbox: MailboxId,
        stem: String,
        letters: u32,
        day: Day,
    },
    /// A file; relative to the data directory, as is the next.
    File(PathBuf),
    /// A directory with all below it.
    Tree(PathBuf),
    /// A deleted folder in its grave, where it stays as long as its day is kept.
    Folder {
        account: AccountId,
        mailbox: MailboxId,
        day: Day,
    },
    /// All that is kept of a purged account.
    Kept(AccountId),
    /// A frame of a history file that was written anew without a purged account.
    Frame { day: Day, at: u64, bytes: u64 },
}

impl Doomed {
    pub fn encode(&self, w: &mut Writer) {
        let path = |w: &mut Writer, path: &Path| {
            use std::os::unix::ffi::OsStrExt;
            w.bytes(path.as_os_str().as_bytes());
        };
        match self {
            Doomed::File(file) => {
                w.u8(2);
                path(w, file);
            }
            Doomed::Tree(tree) => {
                w.u8(3);
                path(w, tree);
            }
            Doomed::Message {
                account,
                mailbox,
                stem,
                letters,
                day,
            } => {
                w.u8(4);
                w.u64(account.0);
                w.u64(mailbox.0);
                w.str(stem);
                w.u32(*letters);
                w.u32(day.0);
            }
            Doomed::Folder {
                account,
                mailbox,
                day,
            } => {
                w.u8(5);
                w.u64(account.0);
                w.u64(mailbox.0);
                w.u32(day.0);
            }
            Doomed::Kept(account) => {
                w.u8(6);
                w.u64(account.0);
            }
            Doomed::Frame { day, at, bytes } => {
                w.u8(7);
                w.u32(day.0);
                w.u64(*at);
                w.u64(*bytes);
            }
        }
    }

    /// What ends it, where that is one step and is due.
    fn end(&self, owned: &Owned, partition: &Partition) -> Option<Step> {
        let root = &owned.layout.root;
        match self {
            Doomed::Message { .. } | Doomed::Kept(_) => None,
            Doomed::File(path) => {
                let path = root.join(path);
                let is_live = is_live(owned, partition, &path);
                (!is_live).then_some(Step::Unlink { path })
            }
            Doomed::Tree(path) => {
                let path = root.join(path);
                Some(Step::RemoveDirAll { path })
            }
            Doomed::Folder {
                account,
                mailbox,
                day,
            } => {
                let keeps = owned.keep_days.get() > 0 && *day != Day::UNKNOWN;
                let grave = Layout::buried_folder(partition.id, *account, *mailbox, *day);
                let path = root.join(grave);
                (!keeps).then_some(Step::RemoveDirAll { path })
            }
            Doomed::Frame { day, at, bytes } => {
                let path = history::day_file(&owned.layout, partition.id, *day);
                let there = partition.state.borrow().history.has(*day);
                there.then(|| Step::Append {
                    path,
                    at: *at,
                    bytes: vec![0; *bytes as usize],
                })
            }
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Doomed, Malformed> {
        let path = |r: &mut Reader<'_>| {
            use std::os::unix::ffi::OsStrExt;
            Ok(PathBuf::from(std::ffi::OsStr::from_bytes(r.bytes()?)))
        };
        Ok(match r.u8()? {
            kind @ (1 | 4) => Doomed::Message {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u64()?),
                stem: r.str()?.to_owned(),
                letters: r.u32()?,
                // Version 1 kept nothing.
                day: match kind {
                    4 => Day(r.u32()?),
                    _ => Day::UNKNOWN,
                },
            },
            2 => Doomed::File(path(r)?),
            3 => Doomed::Tree(path(r)?),
            5 => Doomed::Folder {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u64()?),
                day: Day(r.u32()?),
            },
            6 => Doomed::Kept(AccountId(r.u64()?)),
            7 => Doomed::Frame {
                day: Day(r.u32()?),
                at: r.u64()?,
                bytes: r.u64()?,
            },
            _ => return Err(Malformed),
        })
    }
}

/// What `apply` does for the ops that remove.
impl Partition {
    pub fn apply_deleted(
        &self,
        (pseq, at): (PSeq, UnixMs),
        account: AccountId,
        id: MailboxId,
        owned: &Owned,
    ) {
        let mut state = self.state.borrow_mut();
        let Some(of_account) = state.accounts.get_mut(&account) else {
            return;
        };
        let Some(mailbox) = of_account.remove(id) else {
            return;
        };
        let weight = mailbox.meta.borrow().weight;
        let (gone, all) = (weight.messages.into(), of_account.messages);
        of_account.cache.bury_share(gone, all.max(gone));
        // An archive counts in no quota, and its messages are in a file that stays.
        let is_archive = mailbox.archive.get();
        if !is_archive {
            of_account.bytes = of_account.bytes.saturating_sub(weight.size);
            of_account.messages = of_account.messages.saturating_sub(weight.messages.into());
        }
        let day = match is_archive {
            true => Day::UNKNOWN,
            false => Day::of(at),
        };
        let folder = Doomed::Folder {
            account,
            mailbox: id,
            day,
        };
        state.doomed.push_back((pseq, folder));
        if owned.keep_days.get() > 0 && day != Day::UNKNOWN {
            let entry = Head::of(&mailbox, pseq, at).deleted(&mailbox);
            state.history.push(day, &entry);
        }
        drop(state);
        mailbox.deleted.set(true);
        mailbox.feed.tell(Change::Added, mailbox.views.get());
        self.tasks
            .borrow_mut()
            .push_back((pseq, Task::Bury(mailbox, day)));
    }

    pub fn apply_purged(&self, pseq: PSeq, account: AccountId) {
        let mut state = self.state.borrow_mut();
        state.values.insert(purged(account), Arc::from([]));
        let Some(gone) = state.accounts.remove(&account) else {
            return;
        };
        let grave = Layout::buried_account(self.id, account, pseq);
        state.doomed.push_back((pseq, Doomed::Tree(grave)));
        state.doomed.push_back((pseq, Doomed::Kept(account)));
        drop(state);
        for mailbox in gone.mailboxes.into_values() {
            mailbox.deleted.set(true);
            mailbox.feed.tell(Change::Added, mailbox.views.get());
        }
        self.caches.borrow_mut().remove(&account);
        self.tasks
            .borrow_mut()
            .push_back((pseq, Task::BuryAccount(account)));
    }

    pub fn apply_expunged(
        &self,
        (pseq, at): (PSeq, UnixMs),
        (account, mailbox): (AccountId, MailboxId),
        modseq: ModSeq,
        uids: &[Uid],
        owned: &Owned,
    ) {
        let Ok(target) = self.mailbox(account, mailbox) else {
            return;
        };
        let day = Day::of(at);
        let keeps = owned.keep_days.get() > 0 && day != Day::UNKNOWN;
        let mut rows = Rows::default();
        let mut uncached = Vec::new();
        let removed = target.apply_expunged(modseq, uids, &mut |index, at| {
            uncached.push(index.cold(at).cache.len);
            if keeps {
                rows.push(index, at);
            }
        });
        self.queue(&target);
        let mut state = self.state.borrow_mut();
        for entry in rows.entries(&Head::of(&target, pseq, at)) {
            state.history.push(day, &entry);
        }
        let bytes: u64 = removed.iter().map(|r| r.size).sum();
        let mut of_account = state.accounts.get_mut(&account);
        if let Some(of_account) = &mut of_account {
            uncached.iter().for_each(|&len| of_account.cache.bury(len));
        }
        if let Some(of_account) = of_account.filter(|_| !target.archive.get()) {
            of_account.bytes = of_account.bytes.saturating_sub(bytes);
            of_account.messages = of_account.messages.saturating_sub(removed.len() as u64);
        }
        for row in removed.into_iter().filter(|row| !row.archived) {
            let (stem, letters) = (row.stem, row.letters);
            state.doomed.push_back((
                pseq,
                Doomed::Message {
                    account,
                    mailbox,
                    stem,
                    letters,
                    day,
                },
            ));
        }
    }

    /// Dooms files that only catalogues up to now name.
    pub fn give_up(&self, files: impl IntoIterator<Item = PathBuf>) {
        if self.cutting.get() {
            // One of those is about to be the durable one: with no record since, the files would
            // go with this very checkpoint.
            self.given_up.borrow_mut().extend(files);
            return;
        }
        let mut state = self.state.borrow_mut();
        let at = state.applied;
        let doomed = files.into_iter().map(|file| (at, Doomed::File(file)));
        state.doomed.extend(doomed);
    }

    /// The catalogue that was taken is in its place, or was given up.
    pub fn end_cut(&self) {
        self.cutting.set(false);
        let files = self.given_up.take();
        if !files.is_empty() {
            self.dirty.set(true);
            self.give_up(files);
        }
    }
}

/// Gives the files of expunged messages, up to record `upto`, a second name below `removed/`.
/// `Full` while something kept can still make room; what then cannot be kept is counted, and goes.
pub(super) async fn keep(
    settler: &Settler<'_>,
    partition: &Partition,
    upto: PSeq,
) -> Result<(), StoreError> {
    if settler.owned.keep_days.get() == 0 {
        return Ok(());
    }
    let mut groups: BTreeMap<(Day, AccountId, MailboxId), Vec<Name>> = BTreeMap::new();
    {
        let state = partition.state.borrow();
        let kept = partition.kept.get();
        let due = state.doomed.iter().take_while(|(at, _)| *at <= upto);
        for (_, doomed) in due.filter(|(at, _)| *at > kept) {
            let Doomed::Message {
                account,
                mailbox,
                stem,
                letters,
                day,
            } = doomed
            else {
                continue;
            };
            if *day != Day::UNKNOWN {
                let group = groups.entry((*day, *account, *mailbox)).or_default();
                group.push((stem.clone(), *letters));
            }
        }
    }
    for ((day, account, id), files) in groups {
        // With a deleted mailbox its folder is kept as a whole.
        let Ok(mailbox) = partition.mailbox(account, id) else {
            continue;
        };
        let to = history::kept_dir(&settler.owned.layout, day, partition.id, account, id);
        for part in files.chunks(FILES_MAX) {
            let cur = mailbox.path().join("cur");
            let troubles = keep_part(settler, partition, &cur, &to, part).await;
            let Some(error) = troubles.first() else {
                continue;
            };
            if error.kind == DiskErrorKind::Full && !settler.owned.keeps_no_more.get() {
                return Err(StoreError::Full);
            }
            let lost = &settler.owned.counters.history_lost;
            lost.set(lost.get() + troubles.len() as u64);
            tracing::warn!(%error, messages = troubles.len(), "expunged messages are not kept");
        }
        yield_if_needed().await;
    }
    Ok(())
}

/// An expunged message's file: its stem and letters.
type Name = (String, u32);

/// Links one trip of files; answers what went wrong, once a file. A file that is not there at all
/// was reported when it was missed.
async fn keep_part(
    settler: &Settler<'_>,
    partition: &Partition,
    cur: &Path,
    to: &Path,
    files: &[Name],
) -> Vec<DiskError> {
    let disk = settler.disk;
    if let Err(error) = disk.create_dir_all(to).await {
        return vec![error; files.len()];
    }
    let mut steps = Vec::new();
    if partition.recovering.get().is_some() {
        // A link of a life that did not come to its checkpoint may be to a file that was torn.
        steps.extend(files.iter().map(|(stem, _)| Step::Unlink {
            path: to.join(stem),
        }));
    }
    let from = steps.len();
    steps.extend(files.iter().map(|(stem, letters)| Step::Link {
        from: cur.join(file_name(stem, *letters)),
        to: to.join(stem),
    }));
    let mut outcomes = disk.batch(steps).await;
    let linked = outcomes.split_off(from);
    let mut moved = HashMap::new();
    let mut troubles: Vec<DiskError> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .filter(|error| error.kind != DiskErrorKind::NotFound)
        .collect();
    for ((stem, _), outcome) in files.iter().zip(linked) {
        match outcome {
            Err(error) if error.kind == DiskErrorKind::NotFound => {
                moved.insert(stem.as_str(), ());
            }
            Err(error) if error.kind != DiskErrorKind::Exists => troubles.push(error),
            _ => {}
        }
    }
    if moved.is_empty() {
        return troubles;
    }
    // Not under the expected letters: one look at every name finds them all.
    let names = match disk.names(cur).await {
        Ok(names) => names,
        Err(error) if error.kind == DiskErrorKind::NotFound => Vec::new(),
        Err(error) => {
            troubles.extend(vec![error; moved.len()]);
            return troubles;
        }
    };
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let link = |name: String| Step::Link {
        from: cur.join(&name),
        to: to.join(parse(&name).0),
    };
    let found = names.filter(|name| moved.contains_key(parse(name).0));
    for outcome in disk.batch(found.map(link).collect()).await {
        let error = outcome.err();
        troubles.extend(error.filter(|e| e.kind != DiskErrorKind::Exists));
    }
    troubles
}

/// Removes what a durable checkpoint at `upto` has made superfluous. What cannot be removed now
/// is tried again after the next one.
pub(super) async fn doom(disk: &Disk, owned: &Owned, partition: &Partition, upto: PSeq) {
    partition.dooms.set(partition.dooms.get() + 1);
    remove_doomed(disk, owned, partition, upto).await;
    partition.dooms.set(partition.dooms.get() + 1);
}

async fn remove_doomed(disk: &Disk, owned: &Owned, partition: &Partition, upto: PSeq) {
    partition
        .kept
        .set(upto.min(partition.state.borrow().applied));
    let mut doomed: Vec<(PSeq, Doomed)> = {
        let mut state = partition.state.borrow_mut();
        let n = state.doomed.partition_point(|(at, _)| *at <= upto);
        state.doomed.drain(..n).collect()
    };
    if doomed.is_empty() {
        return;
    }
    partition.dirty.set(true);
    let mut messages: BTreeMap<(AccountId, MailboxId), Vec<Named>> = BTreeMap::new();
    // By place in the list: what is done, and what is to be tried again.
    let mut of_step = Vec::new();
    let mut steps = Vec::new();
    let mut left = BTreeSet::new();
    for (n, (_, doomed)) in doomed.iter().enumerate() {
        match doomed {
            Doomed::Message {
                account,
                mailbox,
                stem,
                letters,
                day: _,
            } => {
                let of_mailbox = messages.entry((*account, *mailbox)).or_default();
                of_mailbox.push((n, stem.clone(), *letters));
                continue;
            }
            Doomed::Kept(account) => {
                let erased = history::erase(disk, &owned.layout, partition, *account).await;
                if let Err(why) = erased {
                    tracing::warn!(?why, "history of a purged account is still there");
                    left.insert(n);
                }
                let days = history::kept_days(disk, &owned.layout).await;
                if let Err(error) = &days {
                    tracing::warn!(%error, "what is kept of a purged account is still there");
                    left.insert(n);
                }
                for day in days.unwrap_or_default() {
                    let path = history::kept_account(&owned.layout, day, partition.id, *account);
                    steps.push(Step::RemoveDirAll { path });
                }
            }
            other => steps.extend(other.end(owned, partition)),
        }
        of_step.resize(steps.len(), n);
    }
    let trees = owned.trees.put_aside(owned, partition.id, &mut steps);
    for (n, outcome) in of_step.into_iter().zip(disk.batch(steps).await) {
        if let Err(error) = outcome
            && error.kind != DiskErrorKind::NotFound
        {
            tracing::warn!(%error, "doomed file not removed");
            left.insert(n);
        }
    }
    owned.trees.add(trees);
    for ((account, mailbox), files) in messages {
        // With a deleted mailbox its folder is kept, or goes, as a whole.
        let Ok(mailbox) = partition.mailbox(account, mailbox) else {
            continue;
        };
        for part in files.chunks(FILES_MAX) {
            let several = partition.recovering.get().is_some();
            if let Err(error) = unlink_messages(disk, &mailbox.path(), part, several).await {
                tracing::warn!(%error, "expunged messages not removed");
                left.extend(part.iter().map(|(n, ..)| *n));
            }
        }
    }
    let mut state = partition.state.borrow_mut();
    for n in left.into_iter().rev() {
        state.doomed.push_front(doomed.swap_remove(n));
    }
}

/// Trees that are out of the way, to be removed while others settle. What is left of them at the
/// end of the process goes at the next start.
#[derive(Default)]
pub(super) struct Trees {
    waiting: RefCell<VecDeque<PathBuf>>,
    told: Notify,
    /// Somebody removes them; at the start nobody does.
    is_open: Cell<bool>,
    number: Cell<u64>,
}

impl Trees {
    /// Makes a renaming of each removal of a tree; answers where they go. The names are of this
    /// start and this partition, so that no other shard takes one of them.
    fn put_aside(&self, owned: &Owned, of: PartitionId, steps: &mut [Step]) -> Vec<PathBuf> {
        let mut all = Vec::new();
        if !self.is_open.get() {
            return all;
        }
        for step in steps {
            let Step::RemoveDirAll { path } = step else {
                continue;
            };
            self.number.set(self.number.get() + 1);
            let (epoch, n) = (owned.epoch.get(), self.number.get());
            let to = owned
                .layout
                .root
                .join(format!("removed/gone-{epoch}-{of}-{n}"));
            all.push(to.clone());
            let from = std::mem::take(path);
            *step = Step::Rename { from, to };
        }
        all
    }

    pub fn add(&self, trees: Vec<PathBuf>) {
        self.waiting.borrow_mut().extend(trees);
        self.told.notify_all();
    }
}

/// Removes trees a little at a time, until the store closes.
pub(super) async fn run(shard: Rc<Shard>) {
    let trees = &shard.owned.trees;
    trees.is_open.set(true);
    while !shard.gate.is_closed() {
        let told = trees.told.notified();
        let next = trees.waiting.borrow_mut().pop_front();
        let Some(tree) = next else {
            or(told, shard.gate.closing()).await;
            continue;
        };
        if let Err(error) = remove_slowly(&shard, &tree).await {
            tracing::warn!(%error, "left for the next start to remove");
        }
    }
}

async fn remove_slowly(shard: &Shard, tree: &Path) -> Result<(), DiskError> {
    let disk = &shard.patient;
    let mut dirs = vec![(tree.to_path_buf(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let entries = match disk.list(&dir).await {
            // One that could not be renamed, or a file.
            Err(error) if depth == 0 && error.kind == DiskErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let (below, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.is_dir);
        if depth < TREE_DEPTH_MAX {
            let below = below.iter().map(|entry| (dir.join(&entry.name), depth + 1));
            dirs.extend(below);
        }
        for part in files.chunks(FILES_MAX) {
            let unlink = |entry: &DirEntry| Step::Unlink {
                path: dir.join(&entry.name),
            };
            for outcome in disk.batch(part.iter().map(unlink).collect()).await {
                outcome?;
            }
            or(sleep(TREE_REST), shard.gate.closing()).await;
            if shard.gate.is_closed() {
                return Ok(());
            }
        }
    }
    disk.remove_dir_all(tree).await
}

/// Whether a doomed index file is a mailbox's own by now: one that took the name, and with it the
/// folder, of the mailbox whose file it was. The same of the cache of an account that came back.
fn is_live(owned: &Owned, partition: &Partition, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(|name| name.starts_with("palomar.")) {
        return false;
    }
    let state = partition.state.borrow();
    let is_cache = |(id, account): (&AccountId, &AccountState)| {
        let mut files = account.cache.files(&owned.layout, partition.id, *id);
        files.any(|file| file == path)
    };
    let mut mailboxes = state.accounts.values().flat_map(|a| a.mailboxes.values());
    mailboxes.any(|mailbox| mailbox.writes_to(path)) || state.accounts.iter().any(is_cache)
}

/// A doomed message: its place in the list, its stem and its letters.
type Named = (usize, String, u32);

/// Removes messages' files; `several`: a power cut may have left them under several names.
async fn unlink_messages(
    disk: &Disk,
    folder: &Path,
    files: &[Named],
    several: bool,
) -> Result<(), DiskError> {
    let cur = folder.join("cur");
    let unlink = |(_, stem, letters): &Named| Step::Unlink {
        path: cur.join(file_name(stem, *letters)),
    };
    let outcomes = disk.batch(files.iter().map(unlink).collect()).await;
    let mut lost: HashMap<&str, ()> = HashMap::new();
    let mut trouble = None;
    for ((_, stem, _), outcome) in files.iter().zip(outcomes) {
        match outcome {
            Err(error) if error.kind == DiskErrorKind::NotFound => {
                lost.insert(stem, ());
            }
            Err(error) => trouble = Some(error),
            Ok(_) => {}
        }
    }
    if several {
        lost.extend(files.iter().map(|(_, stem, _)| (stem.as_str(), ())));
    }
    if lost.is_empty() {
        return trouble.map_or(Ok(()), Err);
    }
    // Not under the expected letters: one look at every name finds them all.
    let names = match disk.list(&cur).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let found: Vec<PathBuf> = names
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok())
        .filter(|name| lost.contains_key(parse(name).0))
        .map(|name| cur.join(name))
        .collect();
    let steps = found
        .into_iter()
        .map(|path| Step::Unlink { path })
        .collect();
    for outcome in disk.batch(steps).await {
        trouble = trouble.or(outcome.err());
    }
    trouble.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards purged an account in the same millisecond, and named what was to be removed
    /// alike: the second one's stayed where it was.
    #[test]
    fn no_two_shards_name_a_tree_alike() {
        let root = PathBuf::from("/data");
        let aside = |partition: u16| {
            let owned = Owned::new(Layout { root: root.clone() });
            owned.trees.is_open.set(true);
            let path = root.join("removed/grave");
            let mut steps = vec![Step::RemoveDirAll { path }];
            owned
                .trees
                .put_aside(&owned, PartitionId(partition), &mut steps)
        };
        let (one, two) = (aside(1), aside(2));
        assert_eq!((one.len(), two.len()), (1, 1));
        assert_ne!(one, two);
    }
}
