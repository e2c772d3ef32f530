//! Settling: what is applied becomes files, in the order of the records, without a sync.
//!
//! Every task can be done again: after a crash replay queues it anew and finds what an earlier
//! life left. The order makes hard links safe: the file that a copy is linked from is written or
//! renamed by an earlier task, and unlinked only after a checkpoint that covers the expunge.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{OwnName, file_name, marked, parse, placed_by};
use crate::base::{AccountId, Crc32c, PSeq, UnixMs, crc32c_append};
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskOp, Step, yield_if_needed};
use crate::store::bodies::Bodies;
use crate::store::body::{Source, Unsettled};
use crate::store::history::Day;
use crate::store::mailbox::{Folder, Mailbox, NameId, disk_error};
use crate::store::owned::{Owned, count};
use crate::store::packed::pack;
use crate::store::partition::Partition;
use crate::store::spool::is_not_linkable;
use crate::store::{Packing, StoreError, adopt, repair};

/// Placements that go to the pool in one trip.
const PLACES_MAX: usize = 128;
/// And their bytes.
const PLACE_BYTES_MAX: usize = 8 << 20;
/// Larger bodies are written piece by piece.
const PIECE_BYTES: u64 = 1 << 20;

#[derive(Clone)]
pub(in crate::store) enum Task {
    /// Make the folder.
    Make(Rc<Mailbox>),
    /// Give the folder the name.
    Move(Rc<Mailbox>, String),
    /// Put the folder out of sight, under the day of its end.
    Bury(Rc<Mailbox>, Day),
    BuryAccount(AccountId),
    /// Write or link the file of a placement.
    Place {
        mailbox: Rc<Mailbox>,
        name: NameId,
        stem: String,
        letters: u32,
        date: UnixMs,
    },
    /// Take the file of an adopted message from `new` to `cur`.
    Take {
        mailbox: Rc<Mailbox>,
        stem: String,
        letters: u32,
    },
}

/// What settling works with.
pub(in crate::store) struct Settler<'s> {
    pub disk: &'s Disk,
    pub owned: &'s Owned,
    pub bodies: &'s Bodies,
}

/// A placement being written.
struct Place {
    key: (PSeq, u16),
    mailbox: Rc<Mailbox>,
    stem: String,
    file: PathBuf,
    date: UnixMs,
    unsettled: Option<Unsettled>,
    /// The file that it becomes another name of.
    from: Option<PathBuf>,
    steps: std::ops::Range<usize>,
}

impl Place {
    fn link(&self, from: &Path) -> Step {
        let link = Step::Link {
            from: from.to_path_buf(),
            to: self.file.clone(),
        };
        match &self.unsettled {
            // It says when it was taken in, until it is a message's: all its owners have it then.
            Some(Unsettled::Body {
                source: Source::Spool(path),
                ..
            }) if path == from => Step::Group(vec![
                Step::SetTimes {
                    path: path.clone(),
                    at: self.date,
                },
                link,
            ]),
            _ => link,
        }
    }
}

impl Settler<'_> {
    /// Does the partition's tasks up to record `upto`, or as far as the disk lets it.
    pub async fn run(&self, partition: &Partition, upto: PSeq) -> Result<(), StoreError> {
        loop {
            let front = partition.tasks.borrow().front().cloned();
            let Some((pseq, task)) = front.filter(|(pseq, _)| *pseq <= upto) else {
                return Ok(());
            };
            match task {
                Task::Make(mailbox) => self.make(&mailbox).await?,
                Task::Move(..) | Task::Bury(..) => {
                    self.move_some(partition, upto).await?;
                    yield_if_needed().await;
                    continue;
                }
                Task::BuryAccount(account) => self.bury_account(partition, account, pseq).await?,
                Task::Take {
                    mailbox,
                    stem,
                    letters,
                } => self.take(partition, &mailbox, &stem, letters).await?,
                Task::Place { .. } => {
                    self.place(partition, upto).await?;
                    continue;
                }
            }
            partition.tasks.borrow_mut().pop_front();
            yield_if_needed().await;
        }
    }

    pub async fn steps(&self, steps: Vec<Step>) -> Result<(), StoreError> {
        for done in self.disk.batch(steps).await {
            done.map_err(|e| self.fault(&e))?;
        }
        Ok(())
    }

    /// Names the place where nothing better is known.
    fn note_trouble(&self, why: &StoreError, path: &Path) {
        let mut trouble = self.owned.trouble.borrow_mut();
        if trouble.is_none() && matches!(why, StoreError::Damaged { .. }) {
            *trouble = Some(DiskError {
                op: DiskOp::Write,
                path: path.into(),
                kind: DiskErrorKind::Io(rustix::io::Errno::IO.raw_os_error()),
            });
        }
    }

    /// As [`disk_error`], and keeps what the disk said for who tells of it.
    pub fn fault(&self, error: &DiskError) -> StoreError {
        let why = disk_error(error);
        if matches!(why, StoreError::Damaged { .. }) {
            *self.owned.trouble.borrow_mut() = Some(error.clone());
        }
        why
    }

    // ---- messages ----

    /// An adopted message leaves `new`, whatever its name there says of flags.
    async fn take(
        &self,
        partition: &Partition,
        mailbox: &Mailbox,
        stem: &str,
        letters: u32,
    ) -> Result<(), StoreError> {
        let folder = mailbox.path();
        let new = folder.join("new").join(stem);
        let to = folder.join("cur").join(file_name(stem, letters));
        match self.disk.rename(&new, &to).await {
            // Where power went in the middle of it, both are names of one file, and a rename between
            // them does nothing (rename(2)).
            Ok(()) if partition.recovering.get().is_some() && adopt::is_own(stem) => {
                return match self.disk.unlink(&new).await {
                    Err(e) if e.kind != DiskErrorKind::NotFound => Err(self.fault(&e)),
                    _ => Ok(()),
                };
            }
            Ok(()) => return Ok(()),
            Err(e) if e.kind == DiskErrorKind::NotFound => {}
            Err(e) => return Err(self.fault(&e)),
        }
        match find_file(self.disk, &folder, stem).await? {
            // Taken in an earlier life, perhaps under letters that it got since.
            Some(found) if found.parent().is_some_and(|dir| dir.ends_with("cur")) => Ok(()),
            Some(found) => self
                .disk
                .rename(&found, &to)
                .await
                .map_err(|e| self.fault(&e)),
            None => {
                count(&self.owned.counters.files_missing);
                Ok(())
            }
        }
    }

    /// Settles the placements at the front of the queue, as many as one trip takes.
    async fn place(&self, partition: &Partition, upto: PSeq) -> Result<(), StoreError> {
        let batch: Vec<(PSeq, Task)> = {
            let tasks = partition.tasks.borrow();
            let place = |t: &&(PSeq, Task)| t.0 <= upto && matches!(t.1, Task::Place { .. });
            tasks
                .iter()
                .take_while(place)
                .take(PLACES_MAX)
                .cloned()
                .collect()
        };
        self.clear_tmp(partition, &batch).await;
        let mut steps = Vec::new();
        let mut places = Vec::new();
        let mut bytes = 0;
        for (pseq, task) in batch {
            let Task::Place {
                mailbox,
                name,
                stem,
                letters,
                date,
            } = task
            else {
                break;
            };
            let key = (pseq, name.ordinal);
            let unsettled = partition.unsettled.borrow().get(&key).cloned();
            let file = mailbox.path().join("cur").join(file_name(&stem, letters));
            let from = unsettled.as_ref().and_then(|what| self.linked_from(what));
            if let Some(after) = partition.recovering.get() {
                // A link of an earlier life may be to a file that was torn; a body is written
                // under the same name anew.
                let keep = from.is_none().then_some(file.as_path());
                self.clear_old(&mailbox.folder, &stem, keep, after, &mut steps)
                    .await?;
            }
            let mut place = Place {
                key,
                mailbox,
                stem,
                file,
                date,
                unsettled,
                from,
                steps: steps.len()..steps.len(),
            };
            steps.extend(match &place.from {
                Some(from) => Some(place.link(from)),
                None => {
                    let written = self.write(&place).await;
                    let (step, taken) =
                        written.inspect_err(|_| self.owned.is_tmp_used.set(true))?;
                    bytes += taken;
                    step
                }
            });
            place.steps.end = steps.len();
            places.push(place);
            if bytes > PLACE_BYTES_MAX {
                break;
            }
        }
        let done = self.disk.batch(steps).await;
        for place in places {
            self.placed(partition, &place, &done[place.steps.clone()])
                .await?;
        }
        Ok(())
    }

    /// The file that a placement becomes another name of, if it has no need of its own.
    fn linked_from(&self, what: &Unsettled) -> Option<PathBuf> {
        match what {
            Unsettled::Link {
                folder,
                stem,
                letters,
                ..
            } => {
                let cur = folder.path.borrow().join("cur");
                Some(cur.join(file_name(stem, *letters)))
            }
            Unsettled::Body {
                source,
                prefix,
                shared,
                ..
            } => match (source, self.owned.packing.get()) {
                // Written and synced when it was taken in, and never written again.
                (Source::Spool(path), Packing::Plain) if prefix.is_empty() => Some(path.clone()),
                _ => self.owned.shared.find((*shared)?),
            },
        }
    }

    /// Removes what attempts to write the files have left. Where it is a link now, nothing comes in
    /// its place; and where power went in the middle of a rename, both are names of one file, and a
    /// further rename between them does nothing (rename(2)).
    async fn clear_tmp(&self, partition: &Partition, batch: &[(PSeq, Task)]) {
        if partition.recovering.get().is_none() && !self.owned.is_tmp_used.get() {
            return;
        }
        let mut steps = Vec::new();
        for (_, task) in batch {
            if let Task::Place { mailbox, stem, .. } = task {
                let tmp = mailbox.path().join("tmp").join(stem);
                let plain = tmp.with_extension("plain");
                steps.extend([tmp, plain].map(|path| Step::Unlink { path }));
            }
        }
        // Most are not there.
        self.disk.batch(steps).await;
    }

    /// What makes a file of a body, and the octets of it that are in memory until then.
    async fn write(&self, place: &Place) -> Result<(Option<Step>, usize), StoreError> {
        let Some(Unsettled::Body {
            source,
            memory,
            prefix,
            crc32c,
            ..
        }) = &place.unsettled
        else {
            return Ok((None, 0));
        };
        let (mailbox, stem) = (&place.mailbox, &place.stem);
        let tmp = mailbox.path().join("tmp").join(stem);
        let size = self.bodies.size(source, memory.as_ref()).await?;
        if size > PIECE_BYTES {
            let mut whole = Vec::new();
            let sum = if self.owned.packing.get() == Packing::Zstd {
                let plain = tmp.with_extension("plain");
                let sum = self.write_large(&plain, prefix, source, size).await?;
                whole.push(Step::Convert {
                    from: plain.clone(),
                    to: tmp.clone(),
                    how: pack,
                });
                whole.push(Step::Unlink { path: plain });
                sum
            } else {
                self.write_large(&tmp, prefix, source, size).await?
            };
            self.compare(sum == *crc32c, mailbox, stem);
            whole.push(Step::SetTimes {
                path: tmp.clone(),
                at: place.date,
            });
            whole.push(Step::Rename {
                from: tmp,
                to: place.file.clone(),
            });
            return Ok((Some(Step::Group(whole)), 0));
        }
        let mut whole = prefix.to_vec();
        let memory = memory.as_ref();
        let rest = self.bodies.part(source, memory);
        if rest.is_none() {
            let (body, is_whole) = self.bodies.whole(source, memory, size, *crc32c).await?;
            self.compare(is_whole, mailbox, stem);
            whole.extend_from_slice(&body);
        }
        let bytes = size as usize + prefix.len();
        // A name is given to a whole file only: a copy that is settled later takes what is under
        // it.
        let replace = Step::Replace {
            tmp,
            to: place.file.clone(),
            bytes: whole,
            rest,
            pack: self.owned.packing.get().of_bytes(),
            modified: Some(place.date),
        };
        Ok((Some(replace), bytes))
    }

    /// Judges what became of one placement; it leaves the queue if it is a file now.
    async fn placed(
        &self,
        partition: &Partition,
        place: &Place,
        done: &[Result<crate::runtime::Done, DiskError>],
    ) -> Result<(), StoreError> {
        for error in done.iter().filter_map(|outcome| outcome.as_ref().err()) {
            let Some(from) = &place.from else {
                self.owned.is_tmp_used.set(true);
                return Err(self.fault(error));
            };
            match (&place.unsettled, error.kind) {
                // By an attempt whose end was not known.
                (_, DiskErrorKind::Exists) => {}
                (Some(Unsettled::Link { .. }), _) if is_not_linkable(error) => {
                    self.copy(from, place).await?;
                }
                (Some(Unsettled::Link { folder, stem, .. }), DiskErrorKind::NotFound) => {
                    self.link_found(folder, stem, place).await?;
                }
                (Some(Unsettled::Body { .. }), kind)
                    if kind == DiskErrorKind::NotFound || is_not_linkable(error) =>
                {
                    self.owned.is_tmp_used.set(true);
                    let (step, _) = self.write(place).await?;
                    self.steps(step.into_iter().collect()).await?;
                }
                _ => return Err(self.fault(error)),
            }
        }
        partition.tasks.borrow_mut().pop_front();
        partition.unsettled.borrow_mut().remove(&place.key);
        if let Some(Unsettled::Body { memory, shared, .. }) = &place.unsettled {
            self.owned.forget(memory.as_ref());
            if let Some(of) = *shared {
                self.owned.shared.note(of, &place.file);
            }
        }
        count(&self.owned.counters.settled);
        Ok(())
    }

    /// Links from a file that is not under the name it was said to have.
    async fn link_found(
        &self,
        folder: &Folder,
        stem: &str,
        place: &Place,
    ) -> Result<(), StoreError> {
        let dir = folder.path.borrow().clone();
        let Some(found) = find_file(self.disk, &dir, stem).await? else {
            // Nothing to copy from: reported; reading it answers that it is damaged.
            count(&self.owned.counters.files_missing);
            return Ok(());
        };
        match self.disk.link(&found, &place.file).await {
            Err(e) if is_not_linkable(&e) => self.copy(&found, place).await,
            Err(e) if e.kind != DiskErrorKind::Exists => Err(self.fault(&e)),
            _ => Ok(()),
        }
    }

    /// A file of its own for a copy that the file system gives no further name to.
    async fn copy(&self, from: &Path, place: &Place) -> Result<(), StoreError> {
        let tmp = place.mailbox.path().join("tmp").join(&place.stem);
        self.owned.is_tmp_used.set(true);
        self.steps(vec![Step::Group(vec![
            Step::Convert {
                from: from.to_path_buf(),
                to: tmp.clone(),
                how: |from, to| std::io::copy(from, to).map(drop),
            },
            Step::SetTimes {
                path: tmp.clone(),
                at: place.date,
            },
            Step::Rename {
                from: tmp,
                to: place.file.clone(),
            },
        ])])
        .await
    }

    /// A body that is not what was taken in is written all the same: it is the best there is.
    fn compare(&self, is_whole: bool, mailbox: &Mailbox, stem: &str) {
        if !is_whole {
            let uid = OwnName::parse(stem).and_then(|own| own.uid);
            let uid = uid.unwrap_or_default();
            repair::note_damaged(
                self.owned,
                mailbox,
                uid,
                stem,
                "it was damaged before it was a file",
            );
        }
    }

    /// Answers the sum of what was read.
    async fn write_large(
        &self,
        tmp: &Path,
        prefix: &[u8],
        source: &Source,
        size: u64,
    ) -> Result<Crc32c, StoreError> {
        let head = prefix.len() as u64;
        self.steps(vec![
            Step::Append {
                path: tmp.into(),
                at: 0,
                bytes: prefix.to_vec(),
            },
            Step::Truncate {
                path: tmp.into(),
                len: head,
            },
        ])
        .await?;
        let (mut at, mut sum) = (0, Crc32c(0));
        while at < size {
            let end = (at + PIECE_BYTES).min(size);
            let bytes = self.bodies.read(source, None, at..end).await?;
            sum = crc32c_append(sum, &bytes);
            self.steps(vec![Step::Append {
                path: tmp.into(),
                at: head + at,
                bytes,
            }])
            .await?;
            at = end;
        }
        Ok(sum)
    }

    /// Removes the names that an earlier life gave to the file we are about to make, but `keep`.
    async fn clear_old(
        &self,
        folder: &Folder,
        stem: &str,
        keep: Option<&Path>,
        after: PSeq,
        steps: &mut Vec<Step>,
    ) -> Result<(), StoreError> {
        let cur = folder.path.borrow().join("cur");
        if folder.listing.borrow().is_none() {
            let mut names = HashMap::new();
            for name in list(self.disk, &cur).await? {
                let stem = parse(&name).0;
                if placed_by(stem).is_some_and(|by| by > after) {
                    let names = names.entry(stem.to_owned()).or_insert_with(Vec::new);
                    names.push(name);
                }
            }
            *folder.listing.borrow_mut() = Some(names);
        }
        let listing = folder.listing.borrow();
        let names = listing.as_ref().and_then(|all| all.get(stem));
        // An older Palomar may have had the life before.
        let before = OwnName::of_version_1(stem);
        let before = before.and_then(|stem| listing.as_ref()?.get(&stem));
        for name in names.into_iter().chain(before).flatten() {
            let old = cur.join(name);
            if Some(old.as_path()) != keep {
                steps.push(Step::Unlink { path: old });
            }
        }
        Ok(())
    }

    // ---- index and cache ----

    /// Writes pending bytes of indexes and caches.
    pub async fn flush(&self, partition: &Partition) -> Result<(), StoreError> {
        let mailboxes = std::mem::take(&mut *partition.unflushed.borrow_mut());
        let mut failed = None;
        for mailbox in mailboxes {
            mailbox.queued.set(false);
            // Deleted after the cut, its folder lies there still, and the catalogue names its log.
            if mailbox.deleted.get() && !self.disk.exists(&mailbox.path()).await.unwrap_or(false) {
                continue;
            }
            let outcome = match mailbox.made.get() {
                true => mailbox.flush(self.disk).await,
                false => Ok(()),
            };
            // A copy may have brought a keyword since the list of them was written for this flush:
            // its file has its letters, and nothing else would ever lead back to the list.
            let is_stale = mailbox.keywords_stale.get() || !mailbox.stale_names.borrow().is_empty();
            if outcome.is_err() || !mailbox.made.get() || is_stale {
                partition.queue(&mailbox);
            }
            if let Err(why) = outcome {
                self.note_trouble(&why, &mailbox.path());
                failed = failed.or(Some(why));
            }
        }
        let accounts = std::mem::take(&mut *partition.caches.borrow_mut());
        for account in accounts {
            if let Err(why) = self.flush_cache(partition, account).await {
                partition.caches.borrow_mut().insert(account);
                failed = Some(why);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    pub async fn flush_cache(
        &self,
        partition: &Partition,
        account: AccountId,
    ) -> Result<(), StoreError> {
        let waiting: Vec<(u64, u64, Arc<[u8]>)> = {
            let state = partition.state.borrow();
            let Some(of_account) = state.accounts.get(&account) else {
                return Ok(());
            };
            // One that was purged and has come back: its folder is still to be buried and made.
            if of_account
                .find("INBOX")
                .is_some_and(|inbox| !inbox.made.get())
            {
                partition.caches.borrow_mut().insert(account);
                return Ok(());
            }
            let cache = &of_account.cache;
            let placed =
                |(at, digest): &(u64, Arc<[u8]>)| (*at, cache.begin_of(*at), digest.clone());
            cache.waiting.iter().map(placed).collect()
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut next = (0, 0);
        for (at, begin, digest) in &waiting {
            let goes_on = next == (*at, *begin);
            next = (*at + digest.len() as u64, *begin);
            if let Some(Step::Append { bytes, .. }) = steps.last_mut().filter(|_| goes_on) {
                bytes.extend_from_slice(digest);
                continue;
            }
            steps.push(Step::Append {
                path: self.owned.layout.cache(partition.id, account, *begin),
                at: *at - begin,
                bytes: digest.to_vec(),
            });
        }
        self.steps(steps).await?;
        let mut state = partition.state.borrow_mut();
        if let Some(of_account) = state.accounts.get_mut(&account) {
            // Purged and come back meanwhile, it has others at the same places.
            let cache = &mut of_account.cache.waiting;
            for (at, _, digest) in &waiting {
                let is_written =
                    |front: &(u64, Arc<[u8]>)| front.0 == *at && Arc::ptr_eq(&front.1, digest);
                if cache.front().is_some_and(is_written) {
                    cache.pop_front();
                }
            }
        }
        Ok(())
    }
}

pub(in crate::store) async fn list(disk: &Disk, dir: &Path) -> Result<Vec<String>, StoreError> {
    match disk.names(dir).await {
        Ok(names) => Ok(names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect()),
        Err(e) if e.kind == DiskErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(disk_error(&e)),
    }
}

/// The file with this stem in `cur` or `new`, by looking at every name.
pub(in crate::store) async fn find_file(
    disk: &Disk,
    folder: &Path,
    stem: &str,
) -> Result<Option<PathBuf>, StoreError> {
    for sub in ["cur", "new"] {
        let dir = folder.join(sub);
        let name = list(disk, &dir)
            .await?
            .into_iter()
            .find(|name| parse(name).0 == stem);
        if let Some(name) = name {
            return Ok(Some(dir.join(name)));
        }
    }
    Ok(None)
}

/// Where the folders of an account are, by their markers.
pub(in crate::store) async fn find_folders(
    disk: &Disk,
    account: &Path,
) -> Result<Vec<(crate::base::MailboxId, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for name in list(disk, account).await? {
        if let Some(id) = marked(&name) {
            found.push((id, account.to_path_buf()));
        }
        if !name.starts_with('.') {
            continue;
        }
        let folder = account.join(&name);
        let inside = list(disk, &folder).await.unwrap_or_default();
        found.extend(
            inside
                .iter()
                .filter_map(|n| marked(n))
                .map(|id| (id, folder.clone())),
        );
    }
    Ok(found)
}
