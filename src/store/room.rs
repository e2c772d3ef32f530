//! Room on the disk: what new mail may take, and the reserve for what must never fail.
//!
//! Settling, checkpoints, the epoch and deletion need room themselves, and nothing comes back
//! without them. So new mail is refused while less than a floor is free beside what the journal
//! still owes the file system, and journals do not grow. Others may fill the disk all the same:
//! `DATA/reserve` takes room in good times and is removed when something finds none.
//!
//! Each shard looks at the disk at a slow pace ([`watch`]) and counts down in between. While it is
//! short, checkpoints do not wait for their time, and removed mail that is kept goes oldest first.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::body::{Source, Unsettled};
use super::journal::{self, JournalError};
use super::maildir::Layout;
use super::owned::count;
use super::partition::Partition;
use super::shard::Shard;
use super::{Message, Packing, StoreError, history, service};
use crate::base::ShardId;
use crate::observe::{event, log_event};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Open, now, sleep, yield_if_needed};

/// Between looks while something is written, and while nothing is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(2);
/// Looks in a row that find too little before removed mail goes: a checkpoint may be about to
/// give back more than that.
const LOOKS_BEFORE_HISTORY: u32 = 3;
/// A message that was refused for its size is remembered so long: its sender comes back.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// Between attempts to make the reserve.
const RESERVE_EVERY: Duration = Duration::from_secs(10);
const RESERVE_PIECE_BYTES: u64 = 1 << 20;
const BLOCK: u64 = 4096;
/// What a message takes beside its file: names, rows, its digest.
const BESIDE_BYTES: u64 = 4096;

/// What the shards of a process know of the disk together.
#[derive(Debug)]
pub(super) struct Common {
    /// Free when it was last looked.
    free: AtomicU64,
    /// Free of debts, as it is counted down between looks.
    left: AtomicU64,
    /// What each shard has yet to write.
    owed: Box<[AtomicU64]>,
    /// The largest message that each has refused lately.
    wanted: Box<[AtomicU64]>,
}

impl Common {
    pub fn new(shards: u16) -> Arc<Self> {
        let each = || (0..shards).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Common {
            free: AtomicU64::new(u64::MAX),
            left: AtomicU64::new(u64::MAX),
            owed: each(),
            wanted: each(),
        })
    }

    /// Tells the others what this shard owes and wants. Answers the sum, and the largest.
    fn exchange(&self, shard: ShardId, owed: u64, wanted: u64) -> (u64, u64) {
        let at = usize::from(shard.0);
        self.owed[at].store(owed, Ordering::Relaxed);
        self.wanted[at].store(wanted, Ordering::Relaxed);
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let owed = self.owed.iter().map(read).sum();
        (owed, self.wanted.iter().map(read).max().unwrap_or(0))
    }
}

/// One shard's view of it.
pub(super) struct Room {
    /// 0: nobody looks, and nothing is refused.
    floor: u64,
    common: Arc<Common>,
    shard: ShardId,
    /// Too little was left at the last look.
    short: Cell<bool>,
    /// Or too little for what was refused.
    pressed: Cell<bool>,
    /// What was refused, and until when that matters.
    wanted: Cell<Option<(u64, Instant)>>,
    /// Something found no room, and nothing has been written since.
    stuck: Cell<bool>,
    looks_short: Cell<u32>,
    /// New mail that was refused.
    pub refused: Cell<u64>,
}

impl Room {
    pub fn new(floor: u64, common: Arc<Common>, shard: ShardId) -> Rc<Self> {
        Rc::new(Room {
            floor,
            common,
            shard,
            short: Cell::new(false),
            pressed: Cell::new(false),
            wanted: Cell::default(),
            stuck: Cell::new(false),
            looks_short: Cell::new(0),
            refused: Cell::new(0),
        })
    }

    /// Free on the file system when it was last looked.
    pub fn free(&self) -> u64 {
        self.common.free.load(Ordering::Relaxed)
    }

    /// Whether what gives room back is in a hurry.
    pub fn is_pressed(&self) -> bool {
        self.floor > 0 && (self.pressed.get() || self.stuck.get())
    }

    /// Refuses new mail that would take `bytes` of what others need.
    pub fn admit(&self, bytes: u64) -> Result<(), StoreError> {
        let left = self.common.left.load(Ordering::Relaxed);
        let fits = left >= self.floor.saturating_add(bytes);
        if self.floor == 0 || (fits && !self.short.get() && !self.stuck.get()) {
            return Ok(());
        }
        let before = self.wanted.get().map_or(0, |(bytes, _)| bytes);
        let until = now() + WANTED_FOR;
        self.wanted.set(Some((bytes.max(before), until)));
        self.pressed.set(true);
        count(&self.refused);
        Err(StoreError::Full)
    }

    /// So much was taken since the last look, or will be.
    pub fn spend(&self, bytes: u64) {
        let left = &self.common.left;
        let less = |left: u64| (left < u64::MAX).then(|| left.saturating_sub(bytes));
        let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether new mail was refused lately.
    pub fn has_refused(&self) -> bool {
        self.wanted.get().is_some()
    }

    fn wanted(&self) -> u64 {
        let wanted = self.wanted.get().filter(|(_, until)| now() < *until);
        self.wanted.set(wanted);
        wanted.map_or(0, |(bytes, _)| bytes)
    }

    /// Something found no room; or found it again.
    pub fn note_stuck(&self, stuck: bool) {
        self.stuck.set(stuck);
    }

    /// The reserve: enough for checkpoints, not so much that it is missed.
    fn reserve_bytes(&self) -> u64 {
        self.floor / 2
    }
}

/// What the files of these messages will take.
pub(super) fn weight(bodies: &[Arc<Message>]) -> u64 {
    bodies.iter().map(|message| of_file(message.size)).sum()
}

fn of_file(bytes: u64) -> u64 {
    bytes.saturating_add(BLOCK - 1) / BLOCK * BLOCK + BESIDE_BYTES
}

/// What the shard has acknowledged and not written yet.
async fn owed(shard: &Shard) -> u64 {
    let mut bytes = shard.journal.queued_bytes();
    for partition in shard.owned.all() {
        bytes += of_partition(&shard.layout, &partition, shard.owned.packing.get());
        yield_if_needed().await;
    }
    bytes
}

fn of_partition(layout: &Layout, partition: &Partition, packing: Packing) -> u64 {
    // What lies in the spool becomes a file by another name, where nothing has to be added.
    let is_linked =
        |source: &Source| packing == Packing::Plain && matches!(source, Source::Spool(_));
    let unsettled = partition.unsettled.borrow();
    let bodies = unsettled.values().map(|unsettled| match unsettled {
        Unsettled::Body { source, prefix, .. } if is_linked(source) && prefix.is_empty() => {
            BESIDE_BYTES
        }
        Unsettled::Body { size, .. } => of_file(*size),
        Unsettled::Link { .. } => 0,
    });
    let state = partition.state.borrow();
    // However many wait for other hosts: what is in a file already takes no more room.
    let unsettled = state.unfiled.union(&state.owed);
    let unsettled = unsettled.filter_map(|pseq| state.accepted.get(layout, *pseq));
    let accepted = unsettled.map(|accepted| {
        let own = matches!(accepted.source, Source::Journal(_));
        let mut owners: Vec<_> = accepted.targets.iter().flatten().collect();
        owners.sort_by_key(|target| target.account.partition);
        owners.dedup_by_key(|target| target.account.partition);
        let each = match is_linked(&accepted.source) {
            true => BESIDE_BYTES,
            false => of_file(accepted.size),
        };
        u64::from(own) * of_file(accepted.size) + each * owners.len() as u64
    });
    bodies.sum::<u64>() + accepted.sum::<u64>()
}

/// Looks at the disk until the gate closes.
pub(super) async fn watch(shard: Rc<Shard>) {
    let mut reserve_at = now();
    while !shard.gate.is_closed() {
        let quiet = !shard.owned.all().iter().any(|p| p.dirty.get());
        let idle = quiet && !shard.room.is_pressed();
        let every = if idle { LOOK_IDLE_EVERY } else { LOOK_EVERY };
        or(sleep(every), shard.gate.closing()).await;
        look(&shard).await;
        if shard.room.looks_short.get() >= LOOKS_BEFORE_HISTORY && !shard.is_poisoned() {
            if service::give_up_day(&shard).await {
                service::give_back(&shard).await;
                // What was freed is looked at first.
                shard.room.looks_short.set(LOOKS_BEFORE_HISTORY - 1);
            }
        } else if shard.id == ShardId(0) && now() >= reserve_at {
            reserve_at = keep_reserve(&shard).await;
        }
    }
}

/// Takes the measure of the disk.
pub(super) async fn look(shard: &Shard) {
    let room = &shard.room;
    let owed = owed(shard).await;
    let common = &room.common;
    let (owed, wanted) = common.exchange(room.shard, owed, room.wanted());
    let free = match shard.disk.free_bytes().await {
        Ok(free) => free,
        Err(error) => {
            tracing::warn!(%error, "the disk does not say how much is free");
            return;
        }
    };
    let left = free.saturating_sub(owed);
    common.free.store(free, Ordering::Relaxed);
    common.left.store(left, Ordering::Relaxed);
    if room.floor == 0 {
        return;
    }
    let was = room.short.get();
    // A little more than the floor ends it, so that it does not come and go with every message.
    let enough = if was {
        room.floor + room.floor / 8
    } else {
        room.floor
    };
    room.short.set(left < enough);
    room.pressed.set(left < enough.saturating_add(wanted));
    let looks = match room.pressed.get() {
        true => room.looks_short.get().saturating_add(1),
        false => 0,
    };
    room.looks_short.set(looks);
    if was != room.short.get() {
        tell(room, &shard.layout.root, free, owed);
    }
}

fn tell(room: &Room, root: &Path, free: u64, owed: u64) {
    let (shard, floor) = (room.shard.0, room.floor);
    let root = root.display();
    match room.short.get() {
        true => log_event!(
            WARN,
            event::DISK_FILLED,
            shard,
            free,
            owed,
            floor,
            "new mail is refused (452) until the file system of {root} has more than \
             `store.free_bytes_min` free: remove mail or other files there, or enlarge it \
             (docs/howto/full-disk.md)"
        ),
        false => log_event!(INFO, event::DISK_FREED, shard, free, owed, floor),
    }
}

// ---- the reserve ----

fn reserve(root: &Path) -> PathBuf {
    root.join("reserve")
}

/// Gives the reserve up. False where there is none.
pub(super) async fn release(disk: &Disk, root: &Path) -> bool {
    match disk.unlink(&reserve(root)).await {
        Ok(()) => {
            tracing::warn!("the disk is full: its reserve is given up");
            true
        }
        Err(error) if error.kind == DiskErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(%error, "the reserve still takes room on the full disk");
            false
        }
    }
}

/// Makes the reserve where it is missing and there is plenty. Answers when to look again.
async fn keep_reserve(shard: &Shard) -> Instant {
    let next = now() + RESERVE_EVERY;
    let (room, root) = (&shard.room, &shard.layout.root);
    let (wanted, path) = (room.reserve_bytes(), reserve(root));
    let there = match shard.disk.file_len(&path).await {
        Ok(len) => Some(len),
        Err(error) if error.kind == DiskErrorKind::NotFound => None,
        Err(_) => return next,
    };
    if there == Some(wanted) || (there.is_none() && wanted == 0) {
        return next;
    }
    let left = room.common.left.load(Ordering::Relaxed);
    // With it there is still twice the floor: mail is not refused for its sake.
    let plenty = left.saturating_add(there.unwrap_or(0)) >= room.floor * 2 + wanted;
    if there.is_some() {
        // Half of one, or of another size.
        let _ = shard.disk.unlink(&path).await;
    }
    if wanted == 0 || !plenty || room.is_pressed() {
        return next;
    }
    if let Err(error) = make(shard, &path, wanted).await {
        tracing::warn!(%error, "no reserve could be made");
        let _ = shard.disk.unlink(&path).await;
    }
    next
}

async fn make(shard: &Shard, path: &Path, bytes: u64) -> Result<(), DiskError> {
    let how = Open {
        write: true,
        create: true,
        truncate: true,
        ..Open::default()
    };
    let file = shard.disk.open(path, how).await?;
    // Zeros take no room where the file system compresses.
    let mut piece = vec![0; RESERVE_PIECE_BYTES as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut piece);
    let mut at = 0;
    while at < bytes {
        piece.truncate((bytes - at).min(RESERVE_PIECE_BYTES) as usize);
        piece = file.write_at(piece, at).await?;
        at += piece.len() as u64;
        shard.room.spend(piece.len() as u64);
    }
    file.sync_all().await?;
    file.close().await?;
    shard.disk.sync_dir(&shard.layout.root).await
}

// ---- a start on a full disk ----

/// Something for a start that finds no room: the reserve, then journal slots that are done with,
/// then what is kept of the oldest day, for all partitions. False where nothing is left to give up.
/// An error ends the start: after a failed sync the next one succeeds without what was dropped.
pub(super) async fn for_start(disk: &Disk, layout: &Layout) -> Result<bool, JournalError> {
    let root = &layout.root;
    if !release(disk, root).await && !journal::give_up_slot(disk, root).await? {
        let mut gone = None;
        for day in history::kept_days(disk, layout).await? {
            if forget(disk, &root.join(format!("removed/{day}"))).await? {
                gone = Some(day);
                break;
            }
        }
        let Some(day) = gone else {
            return Ok(false);
        };
        tracing::warn!(%day, "the disk is full: messages removed on that day are gone for good");
    }
    // Some file systems give room back only then.
    disk.syncfs().await?;
    Ok(true)
}

/// Removes the messages that are kept of a day; true where there were any. Folders stay: before a
/// replay nobody knows from which of them it copies.
pub(super) async fn forget(disk: &Disk, day: &Path) -> Result<bool, DiskError> {
    let mut any = false;
    for partition in directories(disk, day).await? {
        for account in directories(disk, &partition).await? {
            for kept in directories(disk, &account).await? {
                let name = kept.file_name().unwrap_or_default().as_encoded_bytes();
                if !name.starts_with(b"F") {
                    disk.remove_dir_all(&kept).await?;
                    any = true;
                }
            }
        }
    }
    Ok(any)
}

async fn directories(disk: &Disk, of: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let all = disk.list(of).await?.into_iter();
    Ok(all.filter(|e| e.is_dir).map(|e| of.join(e.name)).collect())
}
