//! The slot files of one stream: made ahead of need, used in order, recycled by overwriting.
//!
//! A slot goes free -> ready -> live -> free. *Ready* means that its header is durable; only then
//! is it referred to. Freeing takes a durable batch that says that no restart needs the slot, and
//! no reader in it; it goes oldest first, so that live slots are a gapless run.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::slot::{self, Header};
use super::{BLOCK, JournalConfig, JournalError};
use crate::base::Epoch;
use crate::runtime::local::Notify;
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, Open, sleep};

/// A slot in use. Whoever reads from it holds a clone, which keeps it from being recycled.
pub(super) struct Slot {
    pub sequence: u64,
    pub generation: u64,
    pub file: DiskFile,
    number: u32,
}

pub(super) struct Ring {
    disk: Disk,
    dir: PathBuf,
    stream: u16,
    epoch: Epoch,
    slot_bytes: u64,
    slots_max: u32,
    free_bytes_min: u64,
    state: RefCell<State>,
    closed: Cell<bool>,
    /// A slot became ready, or will not.
    pub changed: Notify,
    /// There is something to make ready.
    work: Notify,
}

struct State {
    /// Oldest first; the last one is written to.
    live: VecDeque<Rc<Slot>>,
    ready: Option<Rc<Slot>>,
    free: VecDeque<Free>,
    /// Numbers of all files, whatever they are used for.
    files: BTreeSet<u32>,
    next_sequence: u64,
    /// The file system has no room for another file.
    starved: bool,
    recycled: u64,
}

struct Free {
    number: u32,
    file: Option<DiskFile>,
}

/// How long to wait before a full file system is tried again.
const RETRY: Duration = Duration::from_secs(1);
const ZEROS_BYTES: u64 = 1 << 20;
/// One is written to while the other becomes ready.
const FILES_MIN: usize = 2;

impl Ring {
    /// Takes over the files of a stream whose former chains are retired, and makes one ready.
    pub async fn open(
        cfg: &JournalConfig,
        disk: Disk,
        stream: u16,
        epoch: Epoch,
    ) -> Result<Self, JournalError> {
        let dir = slot::stream_dir(&cfg.root, stream);
        disk.create_dir_all(&dir).await?;
        let mut state = State {
            live: VecDeque::new(),
            ready: None,
            free: VecDeque::new(),
            files: BTreeSet::new(),
            next_sequence: 1,
            starved: false,
            recycled: 0,
        };
        for found in slot::scan(&disk, &cfg.root, stream).await? {
            state.next_sequence = state.next_sequence.max(found.header.slot + 1);
        }
        for entry in slot::list(&disk, &dir).await? {
            let Some(number) = slot::file_number(&entry) else {
                continue;
            };
            if entry.len == cfg.slot_bytes && number < cfg.slots_max {
                state.files.insert(number);
                state.free.push_back(Free { number, file: None });
            } else {
                disk.unlink(&dir.join(entry.name)).await?;
            }
        }
        // A file may have its name from a process that was killed before it synced the directory.
        for dir in [dir.as_path(), &slot::journal_dir(&cfg.root), &cfg.root] {
            disk.sync_dir(dir).await?;
        }
        let ring = Ring {
            disk,
            dir,
            stream,
            epoch,
            slot_bytes: cfg.slot_bytes,
            slots_max: cfg.slots_max,
            free_bytes_min: cfg.free_bytes_min,
            state: RefCell::new(state),
            closed: Cell::new(false),
            changed: Notify::new(),
            work: Notify::new(),
        };
        ring.make_ready().await?;
        Ok(ring)
    }

    /// Keeps one slot ready until the ring closes. An error other than a full disk ends it.
    pub async fn keep_ready(&self) -> Result<(), DiskError> {
        while !self.closed.get() {
            let work = self.work.notified();
            if !self.can_make() {
                work.await;
                continue;
            }
            match self.make_ready().await {
                Ok(()) => {}
                Err(error) if error.kind == DiskErrorKind::Full => {
                    self.state.borrow_mut().starved = true;
                    self.changed.notify_all();
                    sleep(RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn close(&self) {
        self.closed.set(true);
        self.work.notify_all();
        self.changed.notify_all();
    }

    pub fn has_ready(&self) -> bool {
        self.state.borrow().ready.is_some()
    }

    /// Nothing is ready and the file system has no room: only a release helps.
    pub fn starved(&self) -> bool {
        let state = self.state.borrow();
        state.starved && state.ready.is_none()
    }

    /// Begins to use the ready slot.
    pub fn advance(&self) -> Option<Rc<Slot>> {
        let mut state = self.state.borrow_mut();
        let slot = state.ready.take()?;
        state.live.push_back(slot.clone());
        drop(state);
        self.work.notify_all();
        Some(slot)
    }

    /// Frees what is below `oldest` and not read from. A durable batch must have said so.
    pub fn free_below(&self, oldest: u64) {
        let mut state = self.state.borrow_mut();
        let recycled_before = state.recycled;
        while state.live.len() > 1 {
            let front = &state.live[0];
            if front.sequence >= oldest || Rc::strong_count(front) > 1 {
                break;
            }
            let Some(Ok(slot)) = state.live.pop_front().map(Rc::try_unwrap) else {
                break;
            };
            state.recycled += 1;
            state.free.push_back(Free {
                number: slot.number,
                file: Some(slot.file),
            });
        }
        let freed = state.recycled > recycled_before;
        drop(state);
        if freed {
            self.work.notify_all();
        }
    }

    /// Takes the headers from files that were used in this life and are free, oldest first, so
    /// that no start reads what is in them. Meanwhile none of them is used again.
    pub async fn erase_free(&self) -> Result<(), DiskError> {
        let taken = std::mem::take(&mut self.state.borrow_mut().free);
        let mut outcome = Ok(());
        for free in &taken {
            if let (Some(file), Ok(())) = (&free.file, &outcome) {
                outcome = match file.write_at(vec![0; BLOCK], 0).await {
                    Ok(_) => file.fdatasync().await,
                    Err(error) => Err(error),
                };
            }
        }
        self.state.borrow_mut().free.extend(taken);
        self.work.notify_all();
        outcome
    }

    /// A live slot, to read from.
    pub fn find(&self, sequence: u64) -> Option<Rc<Slot>> {
        let state = self.state.borrow();
        let first = state.live.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        state.live.get(index).cloned()
    }

    /// The oldest slot that is not free.
    pub fn oldest(&self) -> Option<u64> {
        let state = self.state.borrow();
        state.live.front().map(|slot| slot.sequence)
    }

    /// Files there are, and how often one was recycled.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.files.len() as u64, state.recycled)
    }

    fn can_make(&self) -> bool {
        let state = self.state.borrow();
        state.ready.is_none()
            && (!state.free.is_empty() || state.files.len() < self.slots_max as usize)
    }

    async fn make_ready(&self) -> Result<(), DiskError> {
        let free = self.state.borrow_mut().free.pop_front();
        let (number, file) = match free {
            Some(Free {
                number,
                file: Some(file),
            }) => (number, file),
            Some(Free { number, file: None }) => {
                let how = Open {
                    read: true,
                    write: true,
                    ..Open::default()
                };
                let path = self.dir.join(slot::file_name(number));
                (number, self.disk.open(&path, how).await?)
            }
            None => self.make_file().await?,
        };
        let generation = getrandom::u64().map_err(|_| DiskError {
            op: crate::runtime::DiskOp::Open,
            path: "getrandom".into(),
            kind: DiskErrorKind::Late,
        })?;
        let sequence = self.state.borrow().next_sequence;
        let header = Header {
            stream: self.stream,
            epoch: self.epoch,
            slot: sequence,
            generation,
            slot_bytes: self.slot_bytes,
            oldest: self.oldest().unwrap_or(sequence),
        };
        // From here on a failure is final: whether the header is on the disk cannot be known, and
        // the same sequence must not come into a second file.
        let certain = |error: DiskError| DiskError {
            kind: match error.kind {
                DiskErrorKind::Full => DiskErrorKind::Late,
                kind => kind,
            },
            ..error
        };
        file.write_at(header.encode(), 0).await.map_err(certain)?;
        file.fdatasync().await.map_err(certain)?;
        let mut state = self.state.borrow_mut();
        state.next_sequence += 1;
        state.starved = false;
        state.ready = Some(Rc::new(Slot {
            sequence,
            generation,
            file,
            number,
        }));
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Whether another file leaves enough for others: what lies in the live slots may have to be
    /// written once more, as files.
    async fn may_grow(&self) -> bool {
        let (files, live) = {
            let state = self.state.borrow();
            (state.files.len(), state.live.len() as u64)
        };
        if self.free_bytes_min == 0 || files < FILES_MIN {
            return true;
        }
        let needed = (live + 1) * self.slot_bytes + self.free_bytes_min;
        // A disk that does not say is tried.
        let free = self.disk.free_bytes().await;
        free.map_or(true, |free| free >= needed)
    }

    /// A new file: zeros, fsync, and only then its name made durable.
    async fn make_file(&self) -> Result<(u32, DiskFile), DiskError> {
        if !self.may_grow().await {
            return Err(DiskError {
                op: crate::runtime::DiskOp::Open,
                path: self.dir.clone(),
                kind: DiskErrorKind::Full,
            });
        }
        let number = {
            let state = self.state.borrow();
            (0..self.slots_max).find(|number| !state.files.contains(number))
        };
        let number = number.expect("can_make has looked for room");
        let path = self.dir.join(slot::file_name(number));
        let how = Open {
            read: true,
            write: true,
            create: true,
            truncate: true,
            ..Open::default()
        };
        let file = self.disk.open(&path, how).await?;
        if let Err(error) = self.zero(&file).await {
            // Part of a file is of no use and takes what others may need now.
            let _ = self.disk.unlink(&path).await;
            return Err(error);
        }
        if !cfg!(feature = "mutant-no-directory-sync") {
            self.disk.sync_dir(&self.dir).await?;
        }
        self.state.borrow_mut().files.insert(number);
        Ok((number, file))
    }

    async fn zero(&self, file: &DiskFile) -> Result<(), DiskError> {
        let mut zeros = vec![0; ZEROS_BYTES.min(self.slot_bytes) as usize];
        let mut at = 0;
        while at < self.slot_bytes {
            zeros.truncate((self.slot_bytes - at) as usize);
            zeros = file.write_at(zeros, at).await?;
            at += zeros.len() as u64;
        }
        file.sync_all().await
    }
}

const _: () = assert!(ZEROS_BYTES.is_multiple_of(BLOCK as u64));
