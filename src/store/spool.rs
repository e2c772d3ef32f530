//! Spool files: bodies too large for a journal record.
//!
//! A file belongs to the message that was received into it until a record names it; then to the
//! record, until a checkpoint covers it. A message that nobody stored (refused, abandoned) is
//! noticed by a later sweep, and what a crash leaves by the next start.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::mailbox::disk_error;
use super::maildir::Layout;
use super::room::Room;
use super::{Body, Message, StoreError};
use crate::base::{Epoch, ShardId};
use crate::runtime::{Disk, DiskErrorKind, DiskFile, Open};

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
}

/// A spool file being written. Dropped before `finish`, it goes with the next sweep.
pub(super) struct SpoolFile {
    file: DiskFile,
    path: PathBuf,
    at: u64,
    spools: Spools,
    finished: bool,
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

    /// A record has the message, or may have it: its file is no more ours to remove.
    pub fn given(&self, message: &Arc<Message>) {
        if let Body::Spool(path) = &message.body {
            self.shared
                .loose
                .borrow_mut()
                .retain(|(_, loose)| loose != path);
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
            tracing::warn!(%error, "spool file not removed");
            if error.kind != DiskErrorKind::NotFound {
                self.abandon(path);
            }
        }
        any
    }

    /// A file that no message has: the next sweep removes it.
    fn abandon(&self, path: PathBuf) {
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
        let disk = &self.shared.disk;
        disk.link(from, &to).await.map_err(|e| disk_error(&e))?;
        if let Err(error) = disk.sync_dir(&self.shared.dir).await {
            self.abandon(to);
            return Err(disk_error(&error));
        }
        Ok(self.with_spool(message, to))
    }

    /// The message with its inline bytes in a spool file.
    pub async fn spill(&self, message: &Arc<Message>) -> Result<Arc<Message>, StoreError> {
        let Body::Inline(bytes) = &message.body else {
            return Ok(message.clone());
        };
        let mut file = self.create().await?;
        file.write(bytes.clone()).await?;
        let path = file.finish().await?;
        Ok(self.with_spool(message, path))
    }

    fn with_spool(&self, message: &Message, path: PathBuf) -> Arc<Message> {
        let message = Arc::new(Message {
            body: Body::Spool(path),
            digest: message.digest.clone(),
            size: message.size,
            crc32c: message.crc32c,
            blake3: message.blake3,
        });
        self.watch(&message);
        message
    }

    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
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
    pub async fn finish(mut self) -> Result<PathBuf, StoreError> {
        self.file.sync_all().await.map_err(|e| disk_error(&e))?;
        let dir = self.spools.dir().to_path_buf();
        self.spools
            .shared
            .disk
            .sync_dir(&dir)
            .await
            .map_err(|e| disk_error(&e))?;
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
