//! Group commit: while one batch is written and synced, the next one collects.
//!
//! `append` encodes a record straight into the collecting buffer and takes its place in the order.
//! One task per journal takes the buffers one by one: place in a slot, write, fdatasync, apply,
//! wake. Nothing but that task writes to live slots, so the order on disk is the order of `append`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::batch::{self, Kind};
use super::epoch;
use super::readers::{Reader, ReaderStats, Readers};
use super::ring::{Ring, Slot};
use super::{
    Apply, BLOCK, BodyPlace, Class, Committed, JournalConfig, JournalError, Location, Position,
};
use crate::base::{BATCH_BYTES_MAX, Crc32c, Deadline, Epoch};
use crate::runtime::local::Notify;
use crate::runtime::{Disk, DiskError, deadline, now, spawn};
use crate::store::codec::{self, BodyRanges, CodecError, Packer};
use crate::store::{Body, Message, Record, StoreError};

/// Encoded records that wait for the disk, at most; above it `append` answers `Busy`.
const QUEUED_BYTES_MAX: usize = 16 * BATCH_BYTES_MAX;
/// Buffers kept for the next batches: one in flight, one that collects.
const SPARE_BUFFERS_MAX: usize = 2;
const NEW_MAIL_PERMILLE: u64 = 850;
const CHANGE_PERMILLE: u64 = 950;
const FULL_PERMILLE: u64 = 1000;
const LAST_SLOT_CHANGE_PERMILLE: u64 = 750;
const LAST_SLOT_COMPLETION_PERMILLE: u64 = 900;

/// One shard's journal. Clones are handles to the same one; its tasks end with the last.
#[derive(Clone)]
pub struct Journal {
    pub(super) core: Rc<Core>,
    _life: Rc<Life>,
}

/// A record's place in the order; [`Journal::committed`] waits for it.
#[derive(Clone)]
pub struct Ticket {
    outcome: Rc<Outcome>,
}

/// What was done since the start. Rates and ratios are the reader's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub records: u64,
    /// Batches with records; seals and ends come on top.
    pub batches: u64,
    pub seals: u64,
    /// Of batches of every kind.
    pub fdatasyncs: u64,
    /// Written, padding included.
    pub bytes: u64,
    pub slots: u64,
    pub slots_recycled: u64,
    /// Readers that lost their place.
    pub readers_lost: u64,
}

/// The fate of one batch, for all who wait for it.
#[derive(Default)]
struct Outcome {
    done: Cell<Option<Result<(), ()>>>,
    notify: Notify,
}

impl Outcome {
    fn settle(&self, result: Result<(), ()>) {
        self.done.set(Some(result));
        self.notify.notify_all();
    }
}

/// A batch that is not yet in flight.
struct Collecting {
    buffer: Vec<u8>,
    records: Vec<(Rc<Record>, BodyRanges)>,
    outcome: Rc<Outcome>,
}

/// The next batch goes here.
#[derive(Clone)]
struct Tail {
    slot: Rc<Slot>,
    offset: u64,
    sequence: u64,
    crc: Crc32c,
    /// What the last durable batch said is the oldest slot needed.
    oldest: u64,
}

pub(super) struct Core {
    pub(super) cfg: JournalConfig,
    pub(super) stream: u16,
    pub(super) ring: Ring,
    sink: Rc<dyn Apply>,
    /// Oldest first; the last one collects.
    queue: RefCell<VecDeque<Collecting>>,
    queued_bytes: Cell<usize>,
    spare: RefCell<Vec<Vec<u8>>>,
    packer: RefCell<Packer>,
    tail: RefCell<Tail>,
    /// Slots below are covered by a checkpoint.
    released: Cell<u64>,
    pub(super) readers: Readers,
    in_flight: Cell<bool>,
    /// The last batch is a seal, or there is none.
    sealed: Cell<bool>,
    pub(super) seal_now: Cell<bool>,
    /// A damaged slot, which nothing more is written to; 0 is none.
    pub(super) left: Cell<u64>,
    pub(super) closed: Cell<bool>,
    /// Nothing more is taken: the last checkpoint of this life is on its way.
    ended: Cell<bool>,
    pub(super) poisoned: Cell<bool>,
    reason: RefCell<Option<DiskError>>,
    stats: Cell<Stats>,
    /// For the commit task.
    pub(super) wake: Notify,
    /// From the commit task: a batch is done, or all is over.
    idle: Notify,
}

/// Ends the tasks when the last handle goes.
struct Life {
    core: Rc<Core>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.core.closed.set(true);
        self.core.wake.notify_all();
        self.core.ring.close();
    }
}

impl Journal {
    /// Begins this start's chain of a stream. [`retire`](super::retire) must have been called.
    pub async fn create(
        cfg: &JournalConfig,
        disk: Disk,
        stream: u16,
        sink: Rc<dyn Apply>,
    ) -> Result<Journal, JournalError> {
        cfg.assert_sound();
        let Some(epochs) = epoch::read(&disk, &cfg.root).await? else {
            let path = epoch::path(&cfg.root);
            return Err(JournalError::Epoch { path });
        };
        if epochs.retired.0 + 1 != epochs.epoch.0 {
            return Err(JournalError::NotRetired {
                epoch: epochs.epoch,
            });
        }
        let core = Core::new(cfg, disk, stream, epochs.epoch, sink).await?;
        spawn("journal-commit", commit_batches(core.clone()));
        spawn("journal-slots", make_slots(core.clone()));
        Ok(Journal {
            _life: Rc::new(Life { core: core.clone() }),
            core,
        })
    }

    /// Takes the record's place in the order now; it becomes durable later. Refused, it leaves no
    /// trace. `NotAllowed`: the record is too large to be one ([`super::RECORD_BYTES_MAX`]).
    pub fn append(
        &self,
        record: impl Into<Rc<Record>>,
        class: Class,
    ) -> Result<Ticket, StoreError> {
        self.core.admit(class)?;
        let outcome = self.core.collect(record.into())?;
        self.core.wake.notify_all();
        Ok(Ticket { outcome })
    }

    /// Returns when the record is durable and applied. An error tells nothing of either.
    pub async fn committed(&self, ticket: Ticket) -> Result<(), StoreError> {
        if cfg!(feature = "mutant-reply-before-commit") {
            return Ok(());
        }
        loop {
            let notified = ticket.outcome.notify.notified();
            if let Some(result) = ticket.outcome.done.get() {
                return result.map_err(|()| StoreError::Poisoned);
            }
            notified.await;
        }
    }

    /// Part of a body, cut at its end. `Expunged`: the slot was recycled, so the body lies
    /// elsewhere by now. `Late`: the disk gave nothing.
    pub async fn read(&self, at: Location, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let slot = match self.core.ring.find(at.slot) {
            Some(slot) if at.stream == self.core.stream => slot,
            _ => return Err(StoreError::Expunged),
        };
        let (position, len) = at.part(range.clone());
        let file = slot.file.clone();
        let _reading = Reading {
            slot: Some(slot),
            core: &self.core,
        };
        match file.read_at(len, position).await {
            Ok(bytes) if bytes.len() == len => Ok(at.body(bytes, range)),
            _ => Err(StoreError::Late),
        }
    }

    /// Everything below is applied.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core.position()
    }

    /// Registers who reads what is written from now on. Slots stay until it has moved on, or is
    /// [`JournalConfig::reader_slots_max`] behind.
    #[must_use]
    pub fn reader(&self, name: &'static str) -> Reader {
        Reader::new(self.core.clone(), name)
    }

    /// The readers there are.
    #[must_use]
    pub fn readers(&self) -> Vec<ReaderStats> {
        let core = &self.core;
        core.readers.stats(core.position(), core.cfg.slot_bytes)
    }

    /// A checkpoint covers everything below `position`: slots wholly below may be recycled.
    pub fn release_below(&self, position: Position) {
        let core = &self.core;
        assert!(
            position <= core.position(),
            "release of what is not applied"
        );
        if position.slot > core.released.get() {
            core.released.set(position.slot);
            core.seal_now.set(true);
            core.wake.notify_all();
            core.ring.changed.notify_all();
        }
    }

    /// Encoded records that wait for the disk.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.core.queued_bytes.get() as u64
    }

    /// No slot is ready, and there is no room for another: only a checkpoint helps.
    #[must_use]
    pub fn starved(&self) -> bool {
        self.core.ring.starved()
    }

    /// How full the ring is, in thousandths.
    #[must_use]
    pub fn fill_permille(&self) -> u32 {
        u32::try_from(self.core.fill_permille()).unwrap_or(u32::MAX)
    }

    /// How much of the ring a checkpoint would release, in thousandths.
    #[must_use]
    pub fn unreleased_permille(&self) -> u32 {
        let permille = self.core.used_permille(self.core.released.get());
        u32::try_from(permille).unwrap_or(u32::MAX)
    }

    /// From now on every record is refused, with `Busy`. What a drain and a checkpoint cover after
    /// this is all that there ever was.
    pub fn end(&self) {
        self.core.ended.set(true);
    }

    /// Returns when everything appended so far is durable, applied and sealed.
    pub async fn drain(&self, until: Deadline) -> Result<(), StoreError> {
        let core = &self.core;
        loop {
            let idle = core.idle.notified();
            if core.poisoned.get() {
                return Err(StoreError::Poisoned);
            }
            let quiet = core.queue.borrow().is_empty() && !core.in_flight.get();
            if quiet && core.sealed.get() {
                return Ok(());
            }
            core.seal_now.set(true);
            core.wake.notify_all();
            deadline(until, idle).await.map_err(|_| StoreError::Late)?;
        }
    }

    /// True once a write or sync has failed: nothing is acknowledged any more.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.core.poisoned.get()
    }

    /// What failed. `None` while nothing has, or where `apply` panicked.
    #[must_use]
    pub fn poison_reason(&self) -> Option<DiskError> {
        self.core.reason.borrow().clone()
    }

    /// Returns when the journal is poisoned.
    pub async fn when_poisoned(&self) {
        loop {
            let idle = self.core.idle.notified();
            if self.core.poisoned.get() {
                return;
            }
            idle.await;
        }
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let (slots, slots_recycled) = self.core.ring.counts();
        Stats {
            slots,
            slots_recycled,
            readers_lost: self.core.readers.lost(),
            ..self.core.stats.get()
        }
    }
}

/// A read in progress keeps its slot; the last one to leave lets it go, also when cancelled.
pub(super) struct Reading<'a> {
    pub slot: Option<Rc<Slot>>,
    pub core: &'a Core,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.slot = None;
        self.core.free();
    }
}

async fn make_slots(core: Rc<Core>) {
    let watch = Watch(core.clone());
    if let Err(error) = core.ring.keep_ready().await {
        core.poison(Some(error));
    }
    drop(watch);
}

async fn commit_batches(core: Rc<Core>) {
    let watch = Watch(core.clone());
    while let Some(work) = core.next_work().await {
        core.in_flight.set(true);
        let outcome = match work {
            Work::Records(batch) => core.commit(batch).await,
            Work::Seal => core.seal().await,
        };
        core.in_flight.set(false);
        match outcome {
            Ok(()) => core.idle.notify_all(),
            Err(Stopped::Closed) => break,
            Err(Stopped::Disk(error)) => core.poison(Some(error)),
        }
    }
    drop(watch);
}

/// A task of the journal that ends while it is open, for instance because `apply` panicked, must
/// not leave anybody waiting.
struct Watch(Rc<Core>);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.0.closed.get() {
            self.0.poison(None);
        }
    }
}

enum Work {
    Records(Collecting),
    Seal,
}

enum Stopped {
    Closed,
    Disk(DiskError),
}

impl From<DiskError> for Stopped {
    fn from(error: DiskError) -> Self {
        Stopped::Disk(error)
    }
}

impl Core {
    async fn new(
        cfg: &JournalConfig,
        disk: Disk,
        stream: u16,
        epoch: Epoch,
        sink: Rc<dyn Apply>,
    ) -> Result<Rc<Self>, JournalError> {
        let ring = Ring::open(cfg, disk, stream, epoch).await?;
        let slot = ring.advance().expect("an opened ring has a slot ready");
        Ok(Rc::new(Core {
            cfg: cfg.clone(),
            stream,
            ring,
            sink,
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            spare: RefCell::default(),
            packer: RefCell::new(Packer::new(cfg.packing)),
            released: Cell::new(slot.sequence),
            readers: Readers::default(),
            tail: RefCell::new(Tail {
                offset: BLOCK as u64,
                sequence: 0,
                crc: Crc32c(0),
                oldest: slot.sequence,
                slot,
            }),
            in_flight: Cell::new(false),
            sealed: Cell::new(true),
            seal_now: Cell::new(false),
            left: Cell::new(0),
            closed: Cell::new(false),
            ended: Cell::new(false),
            poisoned: Cell::new(false),
            reason: RefCell::default(),
            stats: Cell::default(),
            wake: Notify::new(),
            idle: Notify::new(),
        }))
    }

    fn admit(&self, class: Class) -> Result<(), StoreError> {
        if self.poisoned.get() {
            return Err(StoreError::Poisoned);
        }
        if self.ended.get() || self.queued_bytes.get() > QUEUED_BYTES_MAX {
            return Err(StoreError::Busy);
        }
        let most = match class {
            Class::NewMail => NEW_MAIL_PERMILLE,
            Class::Change => CHANGE_PERMILLE,
            Class::Completion => FULL_PERMILLE,
        };
        let starved = self.ring.starved() && self.slot_permille() >= most_of_last(class);
        if starved || self.fill_permille() >= most {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// How much of the slot in use is taken by what is written and what waits.
    fn slot_permille(&self) -> u64 {
        let used = self.tail.borrow().offset + self.queued_bytes.get() as u64;
        used * 1000 / self.cfg.slot_bytes
    }

    /// Encodes into the batch that collects, or into a new one where it is full.
    fn collect(&self, record: Rc<Record>) -> Result<Rc<Outcome>, StoreError> {
        let mut queue = self.queue.borrow_mut();
        let mut open = queue.pop_back().unwrap_or_else(|| self.collecting());
        let start = open.buffer.len();
        let mut packer = self.packer.borrow_mut();
        let encoded = codec::encode(&record, &self.cfg.root, &mut packer, &mut open.buffer);
        let end = open.buffer.len();
        let too_large = batch::padded(end - start + batch::HEADER_BYTES) > self.cfg.batch_bytes_max;
        let mut bodies = match encoded {
            Ok(bodies) if !too_large => bodies,
            refused => {
                open.buffer.truncate(start);
                if !open.records.is_empty() {
                    queue.push_back(open);
                }
                assert!(
                    !matches!(refused, Err(CodecError::BodyNotHere | CodecError::Field(_))),
                    "a record that nobody can have meant: {refused:?}"
                );
                return Err(StoreError::NotAllowed);
            }
        };
        if batch::padded(end) > self.cfg.batch_bytes_max {
            let mut next = self.collecting();
            let shift = start - next.buffer.len();
            next.buffer.extend_from_slice(&open.buffer[start..]);
            open.buffer.truncate(start);
            for range in bodies.iter_mut().flatten() {
                *range = range.start - shift..range.end - shift;
            }
            queue.push_back(open);
            open = next;
        }
        self.queued_bytes.set(self.queued_bytes.get() + end - start);
        open.records.push((record, bodies));
        let outcome = open.outcome.clone();
        queue.push_back(open);
        Ok(outcome)
    }

    fn collecting(&self) -> Collecting {
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        batch::begin(&mut buffer);
        Collecting {
            buffer,
            records: Vec::new(),
            outcome: Rc::default(),
        }
    }

    /// What to write next; `None` when there will be nothing more.
    async fn next_work(&self) -> Option<Work> {
        loop {
            let wake = self.wake.notified();
            if self.closed.get() || self.poisoned.get() {
                return None;
            }
            if let Some(batch) = self.queue.borrow_mut().pop_front() {
                return Some(Work::Records(batch));
            }
            if self.seal_now.get() {
                return Some(Work::Seal);
            }
            if self.sealed.get() {
                wake.await;
            } else {
                let until = Deadline::after(now(), self.cfg.seal_after);
                if deadline(until, wake).await.is_err() {
                    return Some(Work::Seal);
                }
            }
        }
    }

    async fn commit(&self, batch: Collecting) -> Result<(), Stopped> {
        // Held until the end: a batch that stops on its way must not leave anybody waiting.
        let waiting = Waiting(batch.outcome);
        let bytes = batch.buffer.len() - batch::HEADER_BYTES;
        self.place(batch::padded(batch.buffer.len())).await?;
        let start = self.write(Kind::Records, batch.buffer).await?;
        let place = |range: &Option<Range<usize>>, message: &Message| match (range, &message.body) {
            (Some(range), _) => BodyPlace::InJournal(Location {
                stream: self.stream,
                slot: start.slot,
                offset: start.offset + narrow(range.start),
                len: narrow(range.len()),
                size: message.size as u32,
            }),
            (None, Body::Spool(path)) => BodyPlace::Spool(path.clone()),
            (None, _) => unreachable!("the encoder answers a range for inline bodies"),
        };
        let committed: Vec<Committed> = batch
            .records
            .into_iter()
            .map(|(record, ranges)| Committed {
                bodies: ranges
                    .iter()
                    .zip(&record.bodies)
                    .map(|(range, message)| place(range, message))
                    .collect(),
                record,
            })
            .collect();
        let mut stats = self.stats.get();
        stats.records += committed.len() as u64;
        self.stats.set(stats);
        self.queued_bytes.set(self.queued_bytes.get() - bytes);
        self.sink.apply(&committed);
        waiting.0.settle(Ok(()));
        Ok(())
    }

    async fn seal(&self) -> Result<(), Stopped> {
        self.place(BLOCK).await?;
        self.write_empty(Kind::Seal).await
    }

    /// Makes sure that `need` bytes fit where the next batch goes, in a next slot if they must.
    /// The last two blocks of a slot are kept: one for the end batch, one for a seal that tells
    /// the disk that older slots are free when the way on waits for just that.
    async fn place(&self, need: usize) -> Result<(), Stopped> {
        let most = self.cfg.slot_bytes - 2 * BLOCK as u64;
        loop {
            let changed = self.ring.changed.notified();
            if self.closed.get() || self.poisoned.get() {
                return Err(Stopped::Closed);
            }
            let (offset, oldest, slot) = {
                let tail = self.tail.borrow();
                (tail.offset, tail.oldest, tail.slot.sequence)
            };
            let leaves = self.left.get() == slot && self.ring.has_ready();
            if offset + need as u64 <= most && !leaves {
                return Ok(());
            }
            if self.ring.has_ready() {
                self.write_empty(Kind::End).await?;
                let slot = self.ring.advance().expect("ready slots stay ready");
                let mut tail = self.tail.borrow_mut();
                tail.slot = slot;
                tail.offset = BLOCK as u64;
            } else if self.released.get() > oldest && offset <= most {
                self.write_empty(Kind::Seal).await?;
            } else {
                changed.await;
            }
        }
    }

    async fn write_empty(&self, kind: Kind) -> Result<(), Stopped> {
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        batch::begin(&mut buffer);
        self.write(kind, buffer).await.map(drop)
    }

    /// One batch: durable when this returns. Answers where it begins.
    async fn write(&self, kind: Kind, mut buffer: Vec<u8>) -> Result<Position, Stopped> {
        let before = self.tail.borrow().clone();
        let start = Position {
            slot: before.slot.sequence,
            offset: u32::try_from(before.offset).expect("slots are below 4 GiB"),
        };
        let oldest = self.released.get();
        let header = batch::Header {
            generation: before.slot.generation,
            sequence: before.sequence + 1,
            crc_before: before.crc,
            length: 0,
            records: 0,
            kind,
            durable: before.sequence,
            oldest,
            offset: start.offset,
        };
        let crc = batch::finish(&mut buffer, header);
        let len = buffer.len() as u64;
        assert!(
            before.offset + len <= self.cfg.slot_bytes,
            "batch across slots"
        );
        buffer = before.slot.file.write_at(buffer, before.offset).await?;
        if !cfg!(feature = "mutant-no-fdatasync") {
            before.slot.file.fdatasync().await?;
        }
        *self.tail.borrow_mut() = Tail {
            offset: before.offset + len,
            sequence: before.sequence + 1,
            crc,
            oldest,
            slot: before.slot,
        };
        self.count(kind, len);
        self.sealed.set(kind == Kind::Seal);
        if oldest == self.released.get() && kind != Kind::End {
            self.seal_now.set(false);
        }
        let behind = u64::from(self.cfg.reader_slots_max.min(self.cfg.slots_max / 2));
        self.readers.overtake(start.slot.saturating_sub(behind));
        self.free();
        self.keep(buffer);
        Ok(start)
    }

    fn count(&self, kind: Kind, bytes: u64) {
        let mut stats = self.stats.get();
        stats.fdatasyncs += 1;
        stats.bytes += bytes;
        match kind {
            Kind::Records => stats.batches += 1,
            Kind::Seal => stats.seals += 1,
            Kind::End => {}
        }
        self.stats.set(stats);
    }

    fn keep(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }

    /// Frees what a durable batch says no restart needs, and no reader does.
    pub(super) fn free(&self) {
        let oldest = self.tail.borrow().oldest;
        let below = self
            .readers
            .low_water()
            .map_or(oldest, |low| low.min(oldest));
        if self.ring.oldest() < Some(below) {
            self.ring.free_below(below);
        }
    }

    pub(super) fn position(&self) -> Position {
        let tail = self.tail.borrow();
        Position {
            slot: tail.slot.sequence,
            offset: u32::try_from(tail.offset).expect("slots are below 4 GiB"),
        }
    }

    fn fill_permille(&self) -> u64 {
        let released = self.released.get();
        let low = self.readers.low_water();
        self.used_permille(low.map_or(released, |low| low.min(released)))
    }

    /// What the slots from `oldest` on are of the whole ring.
    fn used_permille(&self, oldest: u64) -> u64 {
        let position = self.position();
        let slots = position.slot.saturating_sub(oldest);
        let used = slots * self.cfg.slot_bytes
            + u64::from(position.offset)
            + self.queued_bytes.get() as u64;
        used * 1000 / (u64::from(self.cfg.slots_max) * self.cfg.slot_bytes)
    }

    /// Nothing is acknowledged from now on; whoever waits is told so.
    fn poison(&self, reason: Option<DiskError>) {
        if self.poisoned.replace(true) {
            return;
        }
        match &reason {
            Some(error) => tracing::error!(stream = self.stream, %error, "journal poisoned"),
            None => tracing::error!(stream = self.stream, "journal poisoned by a panic"),
        }
        *self.reason.borrow_mut() = reason;
        let queue = std::mem::take(&mut *self.queue.borrow_mut());
        for batch in queue {
            batch.outcome.settle(Err(()));
        }
        self.wake.notify_all();
        self.idle.notify_all();
        self.ring.close();
    }
}

/// How full the last slot there is room for may become: beyond that a record would wait for space
/// on the disk, and whoever sent it with it.
fn most_of_last(class: Class) -> u64 {
    match class {
        Class::NewMail => 0,
        Class::Change => LAST_SLOT_CHANGE_PERMILLE,
        Class::Completion => LAST_SLOT_COMPLETION_PERMILLE,
    }
}

/// Dropped before its batch is committed, it tells so to all who wait.
struct Waiting(Rc<Outcome>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.done.get().is_none() {
            self.0.settle(Err(()));
        }
    }
}

fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("batches are bounded")
}
