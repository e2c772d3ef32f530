//! Spool files: bodies too large for a journal record.
//!
//! A file belongs to the message that was received into it until a record names it; then to the
//! record, until a checkpoint covers it. A message that nobody stored (refused, abandoned) is
//! noticed by a later sweep, and what a crash leaves by the next start.
//!
//! Two records never name the same name, since each removes in the end what it names. So a body for
//! owners in several partitions has a further name (a hard link) for each of them: `<name>.<p>`,
//! made and synced together with the first one. Whatever is handed over again takes a new name.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::mailbox::disk_error;
use super::maildir::Layout;
use super::room::Room;
use super::{Body, Message, StoreError};
use crate::base::{Epoch, PartitionId, ShardId};
use crate::runtime::local::Notify;
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, DiskOp, Open, Step};

#[derive(Clone)]
pub(super) struct Spools {
    shared: Rc<Shared>,
}

struct Shared {
    disk: Disk,
    room: Rc<Room>,
    dir: PathBuf,
    epoch: Epoch,
    shard: ShardId,
    next: Cell<u64>,
    /// Bytes that bodies being received may still take in memory.
    memory: Cell<usize>,
    /// Files whose message is not in a record yet.
    loose: RefCell<Vec<(Weak<Message>, PathBuf)>>,
    syncs: Syncs,
}

/// A spool file being written. Dropped before `finish`, it goes with the next sweep.
pub(super) struct SpoolFile {
    file: DiskFile,
    path: PathBuf,
    at: u64,
    spools: Spools,
    finished: bool,
}

/// Syncs of the directory, by the numbers of those who asked for one.
#[derive(Default)]
struct Syncs {
    asked: Cell<u64>,
    /// Whose sync is over, well or not.
    done: Cell<u64>,
    /// Whose failed, or perhaps did: all above the first number, up to the second.
    failed: RefCell<Option<(u64, u64, DiskError)>>,
    is_running: Cell<bool>,
    turn: Notify,
}

/// The one sync that is under way. Given up, nobody knows what became of it.
struct Running<'s> {
    syncs: &'s Syncs,
    upto: u64,
    outcome: Result<(), DiskError>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let syncs = self.syncs;
        if let Err(error) = &self.outcome {
            let mut failed = syncs.failed.borrow_mut();
            // Who has not looked yet belongs to an earlier one perhaps.
            let from = failed.as_ref().map_or(syncs.done.get(), |failed| failed.0);
            *failed = Some((from, self.upto, error.clone()));
        }
        syncs.done.set(self.upto);
        syncs.is_running.set(false);
        syncs.turn.notify_all();
    }
}

/// Names that the next sweep removes, unless they were all made.
struct Making<'s> {
    spools: &'s Spools,
    names: Vec<PathBuf>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        names.into_iter().for_each(|name| self.spools.abandon(name));
    }
}

/// The name that a spool file has for one of its owners.
pub(super) fn name_for(path: &Path, owner: PartitionId) -> PathBuf {
    path.with_extension(owner.0.to_string())
}

/// Whether the file system gives a file no further name there: it has too many, is on another file
/// system, or there are no hard links.
pub(super) fn is_not_linkable(error: &DiskError) -> bool {
    use rustix::io::Errno;
    let all = [Errno::MLINK, Errno::XDEV, Errno::PERM, Errno::OPNOTSUPP];
    all.map(|errno| DiskErrorKind::Io(errno.raw_os_error()))
        .contains(&error.kind)
}

impl Spools {
    pub fn new(
        disk: Disk,
        room: Rc<Room>,
        layout: &Layout,
        epoch: Epoch,
        shard: ShardId,
        memory_bytes_max: usize,
    ) -> Self {
        Spools {
            shared: Rc::new(Shared {
                disk,
                room,
                dir: layout.spool(),
                epoch,
                shard,
                next: Cell::new(1),
                memory: Cell::new(memory_bytes_max),
                loose: RefCell::default(),
                syncs: Syncs::default(),
            }),
        }
    }

    /// A name in the spool directory that no other file of this life has.
    pub fn new_path(&self) -> PathBuf {
        let n = self.shared.next.get();
        self.shared.next.set(n + 1);
        let (epoch, shard) = (self.shared.epoch, self.shared.shard);
        self.shared.dir.join(format!("{epoch}-{shard}-{n}"))
    }

    /// Takes `bytes` of the memory for bodies, if there are as many left.
    pub fn take_memory(&self, bytes: usize) -> bool {
        let left = self.shared.memory.get();
        let fits = bytes <= left;
        if fits {
            self.shared.memory.set(left - bytes);
        }
        fits
    }

    pub fn give_memory(&self, bytes: usize) {
        self.shared.memory.set(self.shared.memory.get() + bytes);
    }

    /// `Full` where that would take what others need.
    pub async fn create(&self) -> Result<SpoolFile, StoreError> {
        self.shared.room.admit(0)?;
        let path = self.new_path();
        let how = Open {
            write: true,
            create_new: true,
            ..Open::default()
        };
        let file = self
            .shared
            .disk
            .open(&path, how)
            .await
            .map_err(|e| disk_error(&e))?;
        Ok(SpoolFile {
            file,
            path,
            at: 0,
            spools: self.clone(),
            finished: false,
        })
    }

    /// Remembers a message until a record has it.
    pub fn watch(&self, message: &Arc<Message>) {
        if let Body::Spool(path) = &message.body {
            self.shared
                .loose
                .borrow_mut()
                .push((Arc::downgrade(message), path.clone()));
        }
    }

    /// No record will name the name that an owner has, if it came under that: the first name is
    /// another record's.
    pub fn give_up(&self, message: &Arc<Message>) {
        if let Body::Spool(path) = &message.body
            && path.extension().is_some()
        {
            self.watch(message);
        }
    }

    /// A record has the message, or may have it: its file is no more ours to remove.
    pub fn given(&self, message: &Arc<Message>) {
        if let Body::Spool(path) = &message.body {
            let is_it = |loose: &Path| loose == path || loose.with_extension("") == *path;
            let mut all = self.shared.loose.borrow_mut();
            all.retain(|(_, loose)| !is_it(loose));
        }
    }

    /// Removes files of messages that nobody holds any more. True where there were any.
    pub async fn sweep(&self) -> bool {
        let gone: Vec<PathBuf> = {
            let mut loose = self.shared.loose.borrow_mut();
            let (kept, gone) = loose.drain(..).partition(|(m, _)| m.strong_count() > 0);
            *loose = kept;
            let gone: Vec<(Weak<Message>, PathBuf)> = gone;
            gone.into_iter().map(|(_, path)| path).collect()
        };
        let any = !gone.is_empty();
        for path in gone {
            let Err(error) = self.shared.disk.unlink(&path).await else {
                continue;
            };
            if error.kind != DiskErrorKind::NotFound {
                tracing::warn!(%error, "spool file not removed");
                self.abandon(path);
            }
        }
        any
    }

    /// A file that no message has: the next sweep removes it.
    pub fn abandon(&self, path: PathBuf) {
        let mut loose = self.shared.loose.borrow_mut();
        loose.push((Weak::new(), path));
    }

    /// A message like `message` with a spool file of its own: a second name of the same file, or
    /// the bytes themselves. What two records name must not be one file.
    pub async fn own_copy(&self, message: &Arc<Message>) -> Result<Arc<Message>, StoreError> {
        let Body::Spool(from) = &message.body else {
            return Ok(message.clone());
        };
        let to = self.new_path();
        let making = self.making(vec![to.clone()]);
        match self.shared.disk.link(from, &to).await {
            Err(error) if is_not_linkable(&error) => self.copy(from, &to).await,
            linked => linked,
        }
        .map_err(|e| disk_error(&e))?;
        self.sync_dir().await?;
        making.made();
        Ok(self.with_spool(message, to))
    }

    /// As [`own_copy`](Spools::own_copy), for a message that came under its owner's name, if it
    /// still has that.
    pub async fn claim(&self, message: &Arc<Message>) -> Result<Arc<Message>, StoreError> {
        let Body::Spool(name) = &message.body else {
            return Ok(message.clone());
        };
        if name.extension().is_none() {
            return self.own_copy(message).await;
        }
        let there = self.shared.disk.exists(name).await;
        if there != Ok(true) {
            if there.is_err() {
                // It may be there: nobody else will come for it.
                self.abandon(name.clone());
            }
            let first = name.with_extension("");
            return self.own_copy(&of_spool(message, first)).await;
        }
        let own = of_spool(message, name.clone());
        self.watch(&own);
        Ok(own)
    }

    /// The message in a spool file that has a name for each of `owners`, too.
    pub async fn share(
        &self,
        message: &Arc<Message>,
        owners: impl Iterator<Item = PartitionId>,
    ) -> Result<Arc<Message>, StoreError> {
        let (shared, names) = match &message.body {
            Body::InJournal => return Ok(message.clone()),
            Body::Inline(bytes) => {
                let mut file = self.create().await?;
                file.write(bytes.clone()).await?;
                let names: Vec<_> = owners.map(|p| name_for(&file.path, p)).collect();
                let path = file.finish_as(&names).await?;
                (self.with_spool(message, path), names)
            }
            Body::Spool(path) => {
                let names: Vec<_> = owners.map(|p| name_for(path, p)).collect();
                let making = self.making(names.clone());
                self.link(path, &names).await?;
                self.sync_dir().await?;
                making.made();
                (message.clone(), names)
            }
        };
        let whose = Arc::downgrade(&shared);
        let mut loose = self.shared.loose.borrow_mut();
        loose.extend(names.into_iter().map(|name| (whose.clone(), name)));
        drop(loose);
        Ok(shared)
    }

    /// The message with its inline bytes in a spool file.
    pub async fn spill(&self, message: &Arc<Message>) -> Result<Arc<Message>, StoreError> {
        match &message.body {
            Body::Inline(_) => self.share(message, std::iter::empty()).await,
            _ => Ok(message.clone()),
        }
    }

    /// Gives a spool file `more` names, as far as it can have them. Who does not find its own
    /// takes another later.
    async fn link(&self, path: &Path, more: &[PathBuf]) -> Result<(), StoreError> {
        let link = |to: &PathBuf| Step::Link {
            from: path.to_path_buf(),
            to: to.clone(),
        };
        for linked in self
            .shared
            .disk
            .batch(more.iter().map(link).collect())
            .await
        {
            match linked {
                // It may come to be after the sync, and be found then.
                Err(error) if error.kind == DiskErrorKind::Late => return Err(disk_error(&error)),
                Err(error) => tracing::warn!(%error, "spool file without a name for its owner"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Makes the names that are there durable. While one sync is under way, those who come wait
    /// for it and share the next.
    async fn sync_dir(&self) -> Result<(), StoreError> {
        let syncs = &self.shared.syncs;
        let mine = syncs.asked.get() + 1;
        syncs.asked.set(mine);
        loop {
            let turn = syncs.turn.notified();
            // A sync that failed is not made good by a later one: the kernel forgets.
            if let Some(error) = syncs.failure_of(mine) {
                return Err(disk_error(&error));
            }
            if syncs.done.get() >= mine {
                return Ok(());
            }
            if syncs.is_running.replace(true) {
                turn.await;
                continue;
            }
            let dir = &self.shared.dir;
            let mut running = Running {
                syncs,
                upto: syncs.asked.get(),
                outcome: Err(DiskError {
                    op: DiskOp::SyncDir,
                    path: dir.clone(),
                    kind: DiskErrorKind::Late,
                }),
            };
            running.outcome = self.shared.disk.sync_dir(dir).await;
        }
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let steps = vec![
            Step::Convert {
                from: from.to_path_buf(),
                to: to.to_path_buf(),
                how: |from, to| std::io::copy(from, to).map(drop),
            },
            Step::SyncFile {
                path: to.to_path_buf(),
            },
        ];
        let done = self.shared.disk.batch(vec![Step::Group(steps)]).await;
        done.into_iter().try_for_each(|outcome| outcome.map(drop))
    }

    fn making(&self, names: Vec<PathBuf>) -> Making<'_> {
        Making {
            spools: self,
            names,
        }
    }

    fn with_spool(&self, message: &Message, path: PathBuf) -> Arc<Message> {
        let message = of_spool(message, path);
        self.watch(&message);
        message
    }
}

impl Syncs {
    fn failure_of(&self, number: u64) -> Option<DiskError> {
        let failed = self.failed.borrow();
        let (above, upto, error) = failed.as_ref()?;
        let is_its = number > *above && number <= *upto;
        is_its.then(|| error.clone())
    }
}

impl Making<'_> {
    fn made(mut self) {
        self.names.clear();
    }
}

/// The message under one of the names of its spool file.
pub(super) fn of_spool(message: &Message, path: PathBuf) -> Arc<Message> {
    Arc::new(Message {
        body: Body::Spool(path),
        digest: message.digest.clone(),
        size: message.size,
        crc32c: message.crc32c,
        blake3: message.blake3,
    })
}

impl SpoolFile {
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), StoreError> {
        let len = bytes.len() as u64;
        let room = &self.spools.shared.room;
        // What lies in the spool is written once more, to where it belongs.
        room.admit(self.at + 2 * len)?;
        room.spend(len);
        self.file
            .write_at(bytes, self.at)
            .await
            .map_err(|e| disk_error(&e))?;
        self.at += len;
        Ok(())
    }

    /// Makes the file and its name durable.
    pub async fn finish(self) -> Result<PathBuf, StoreError> {
        self.finish_as(&[]).await
    }

    /// As [`finish`](SpoolFile::finish), with `more` names.
    async fn finish_as(mut self, more: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let spools = self.spools.clone();
        let making = spools.making(more.to_vec());
        // Before the file's sync, which most file systems make one of both.
        if !more.is_empty() {
            spools.link(&self.path, more).await?;
        }
        self.file.sync_all().await.map_err(|e| disk_error(&e))?;
        spools.sync_dir().await?;
        making.made();
        self.finished = true;
        Ok(self.path.clone())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if !self.finished {
            self.spools.abandon(self.path.clone());
        }
    }
}
