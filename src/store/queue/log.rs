//! The entries of a partition on the disk: a log of what they became, twice (`docs/STORE.md`,
//! "Queue log"), for queues that are too long to be written with every catalogue.
//!
//! A checkpoint appends what changed and the catalogue names how far the log counts. [`Log`] knows
//! what has changed and what is durable, [`Writing`] is one attempt to write the rest. An attempt
//! that fails leaves nothing but octets that no catalogue names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::entries::Entries;
use crate::base::{Crc32c, PSeq, PartitionId, crc32c, crc32c_append};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::mailbox::align;
use crate::store::maildir::Layout;
use crate::store::partition::Partition;

pub(super) const MAGIC: &[u8; 8] = b"PALQUE01";
pub(super) const HEAD_BYTES: usize = 8 + 2 + 8 + 4;
/// Length and checksum.
pub(super) const FRAME_HEAD_BYTES: usize = 8;
pub(super) const PADDING: u8 = 0;
pub(super) const ENTRY: u8 = 1;
pub(super) const GONE: u8 = 2;
/// What comes before the octets of an entry.
pub(super) const ENTRY_HEAD_BYTES: usize = 1 + 8;

/// What is appended in one step.
const PIECE_BYTES: usize = 256 << 10;
/// Entries that are framed in one go.
const SLICE: usize = 64;
/// Slices behind the first walk: a queue that changes faster than it is written has its cut then.
const SLICES_MAX: usize = 4096;

/// When a queue gets a log, and when that is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// A queue of up to so many octets stands in the catalogue.
    pub inline_bytes_max: u64,
    /// A log with fewer dead octets is not written anew.
    pub dead_bytes_min: u64,
}

impl Default for QueueBounds {
    fn default() -> Self {
        QueueBounds {
            inline_bytes_max: 64 << 10,
            dead_bytes_min: 4 << 20,
        }
    }
}

/// What a catalogue says of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Named {
    /// The last one that there was, also where there is none.
    pub generation: u64,
    /// Octets that count; 0: there is no log.
    pub end: u64,
    /// Of all of them.
    pub crc: Crc32c,
    /// That they say are there.
    pub entries: u32,
}

impl Named {
    pub fn is_there(&self) -> bool {
        self.end > 0
    }

    pub fn encode(&self, w: &mut Writer) {
        w.u64(self.generation);
        w.u64(self.end);
        w.u32(self.crc.0);
        w.u32(self.entries);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Named, Malformed> {
        Ok(Named {
            generation: r.u64()?,
            end: r.u64()?,
            crc: Crc32c(r.u32()?),
            entries: r.u32()?,
        })
    }
}

/// What of the entries is on the disk, and what is not yet.
#[derive(Default)]
pub(in crate::store) struct Log {
    /// Durable, and perhaps named by a catalogue: it is never written again.
    named: Named,
    dirty: BTreeSet<PSeq>,
    /// Framed by the attempt that is under way, or that failed.
    taken: Vec<PSeq>,
    /// None above it was ever framed: nobody has to be told that it is gone.
    framed_upto: PSeq,
    /// A generation that an attempt began which may have failed.
    begun: Option<u64>,
    /// Generations that no catalogue names once the next checkpoint is made.
    old: Vec<u64>,
    /// A copy of it is: it is written anew.
    is_damaged: bool,
}

impl Log {
    /// As a catalogue and its log say.
    pub fn of(named: Named, framed_upto: PSeq, is_damaged: bool) -> Log {
        Log {
            named,
            framed_upto,
            is_damaged,
            ..Log::default()
        }
    }

    pub fn named(&self) -> Named {
        self.named
    }

    pub fn note_damaged(&mut self) {
        self.is_damaged = true;
    }

    pub(super) fn came(&mut self, pseq: PSeq) {
        self.dirty.insert(pseq);
    }

    pub(super) fn changed(&mut self, pseq: PSeq) {
        self.dirty.insert(pseq);
    }

    pub(super) fn went(&mut self, pseq: PSeq) {
        match pseq <= self.framed_upto {
            true => drop(self.dirty.insert(pseq)),
            false => drop(self.dirty.remove(&pseq)),
        }
    }

    /// What was written up to there is durable; a catalogue that says so may be the next thing that
    /// is.
    pub fn advance(&mut self, to: Named) {
        let before = std::mem::replace(&mut self.named, to);
        self.taken = Vec::new();
        self.begun = None;
        let is_another = before.generation != to.generation || !to.is_there();
        if is_another {
            self.is_damaged = false;
            self.old
                .extend(before.is_there().then_some(before.generation));
        }
        if !to.is_there() {
            self.framed_upto = PSeq(0);
        }
    }
}

/// One attempt to bring the log up to date.
#[derive(Default)]
pub(in crate::store) struct Writing {
    /// What it comes to so far, but for the tail.
    named: Named,
    /// Framed, and not written.
    tail: Vec<u8>,
    /// A new generation: the entry up to which all are framed.
    walked: Option<PSeq>,
    /// Of its frames; where there is no log, entries stand in the catalogue.
    seed: Option<Crc32c>,
}

impl Entries {
    /// Begins an attempt. `may_rewrite`: there is room for more than what changed.
    fn begin(&mut self, bounds: QueueBounds, may_rewrite: bool) -> Writing {
        let log = &mut self.log;
        log.begun = None;
        // Of an attempt that failed.
        log.dirty.extend(std::mem::take(&mut log.taken));
        let named = log.named;
        let octets = self.octets((FRAME_HEAD_BYTES + ENTRY_HEAD_BYTES) as u64);
        let inline_max = match named.is_there() {
            true => bounds.inline_bytes_max / 4,
            false => bounds.inline_bytes_max,
        };
        if octets <= inline_max {
            let generation = named.generation;
            return Writing {
                named: Named {
                    generation,
                    ..Named::default()
                },
                ..Writing::default()
            };
        }
        let log = &mut self.log;
        let dead = named.end.saturating_sub(octets);
        let is_worn = dead > octets.max(bounds.dead_bytes_min) && may_rewrite;
        if named.is_there() && !log.is_damaged && !is_worn {
            return Writing {
                named,
                seed: Some(seed(self.home, named.generation)),
                ..Writing::default()
            };
        }
        let generation = named.generation + 1;
        log.begun = Some(generation);
        log.taken = std::mem::take(&mut log.dirty).into_iter().collect();
        Writing {
            named: Named {
                generation,
                ..Named::default()
            },
            tail: head(self.home, generation),
            walked: Some(PSeq(0)),
            seed: Some(seed(self.home, generation)),
        }
    }

    /// Frames some of what is due; false where nothing is left, for now.
    fn frame_some(&mut self, writing: &mut Writing) -> bool {
        if let Some(walked) = writing.walked {
            let some: Vec<PSeq> = self.numbers_after(walked).take(SLICE).collect();
            some.iter().for_each(|pseq| self.frame(writing, *pseq));
            writing.walked = some.last().copied();
            return true;
        }
        for _ in 0..SLICE {
            let Some(pseq) = self.log.dirty.pop_first() else {
                return false;
            };
            self.log.taken.push(pseq);
            self.frame(writing, pseq);
        }
        true
    }

    fn frame(&mut self, writing: &mut Writing, pseq: PSeq) {
        let mut w = writing.begin_frame();
        let kind = w.out.len();
        w.u8(ENTRY);
        w.u64(pseq.0);
        if !self.encode(&mut w, pseq) {
            w.out[kind] = GONE;
        }
        writing.end_frame(w, kind);
        self.log.framed_upto = self.log.framed_upto.max(pseq);
    }

    /// The end of the attempt, with all that is due: the state as it is now. Synchronous.
    fn frame_rest(&mut self, writing: &mut Writing) -> Named {
        if writing.is_inline() {
            let log = &mut self.log;
            log.taken.extend(std::mem::take(&mut log.dirty));
            return writing.named;
        }
        while self.frame_some(writing) {}
        writing.pad();
        writing.named.entries = u32::try_from(self.len()).expect("entries fit 32 bits");
        Named {
            end: writing.named.end + writing.tail.len() as u64,
            crc: crc32c_append(writing.named.crc, &writing.tail),
            ..writing.named
        }
    }
}

impl Writing {
    /// There is no log: entries stand in the catalogue.
    pub fn is_inline(&self) -> bool {
        self.seed.is_none()
    }

    fn begin_frame(&mut self) -> Writer {
        let mut w = Writer {
            out: std::mem::take(&mut self.tail),
        };
        w.out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        w
    }

    /// `payload`: where that of the frame begins.
    fn end_frame(&mut self, mut w: Writer, payload: usize) {
        let octets = &w.out[payload..];
        let len = u32::try_from(octets.len()).expect("an entry fits 32 bits");
        let crc = crc32c_append(self.seed.unwrap_or_default(), octets);
        let head = payload - FRAME_HEAD_BYTES;
        w.out[head..head + 4].copy_from_slice(&len.to_le_bytes());
        w.out[head + 4..payload].copy_from_slice(&crc.0.to_le_bytes());
        self.tail = w.out;
    }

    /// So that what comes next leaves the sectors alone that are durable by then.
    fn pad(&mut self) {
        let at = self.named.end + self.tail.len() as u64;
        if at == align(at) {
            return;
        }
        let least = (FRAME_HEAD_BYTES + 1) as u64;
        let mut w = self.begin_frame();
        let payload = w.out.len();
        w.u8(PADDING);
        let zeros = align(at + least) - (at + least);
        w.out.extend((0..zeros).map(|_| 0));
        self.end_frame(w, payload);
    }

    fn piece(&mut self) -> Vec<u8> {
        self.named.crc = crc32c_append(self.named.crc, &self.tail);
        std::mem::take(&mut self.tail)
    }

    /// Appends what is framed to both copies.
    pub async fn write(
        &mut self,
        disk: &Disk,
        layout: &Layout,
        id: PartitionId,
    ) -> Result<(), DiskError> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let at = self.named.end;
        let bytes = self.piece();
        self.named.end += bytes.len() as u64;
        let steps = places(layout, id, self.named.generation).map(|path| Step::Append {
            path,
            at,
            bytes: bytes.clone(),
        });
        for outcome in disk.batch(steps.into()).await {
            outcome?;
        }
        Ok(())
    }
}

/// Where the copies are, the first one first.
pub(in crate::store) fn places(layout: &Layout, id: PartitionId, generation: u64) -> [PathBuf; 2] {
    let id = id.0;
    [
        layout.root.join(format!("queue/{id}.{generation}")),
        layout
            .root
            .join(format!("catalogues/{id}.queue.{generation}")),
    ]
}

/// The partition and the generation of a file that [`places`] named.
pub(in crate::store) fn placed(file_name: &str) -> Option<(PartitionId, u64)> {
    let (id, rest) = file_name.split_once('.')?;
    let generation = rest.strip_prefix("queue.").unwrap_or(rest);
    Some((PartitionId(id.parse().ok()?), generation.parse().ok()?))
}

pub(super) fn head(id: PartitionId, generation: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.out.extend_from_slice(MAGIC);
    w.u16(id.0);
    w.u64(generation);
    let crc = crc32c(&w.out);
    w.u32(crc.0);
    w.out
}

/// Begins the checksum of each frame: what another log has left is never taken for this one's.
pub(super) fn seed(id: PartitionId, generation: u64) -> Crc32c {
    let mut w = Writer::default();
    w.u16(id.0);
    w.u64(generation);
    crc32c(&w.out)
}

/// Begins an attempt, and writes what is due by now, while others work. The rest comes with the cut.
pub(in crate::store) async fn write_ahead(
    disk: &Disk,
    layout: &Layout,
    partition: &Partition,
    (bounds, may_rewrite): (QueueBounds, bool),
) -> Result<Writing, DiskError> {
    let stray = partition.state.borrow().accepted.log.begun;
    remove(disk, layout, partition.id, &stray).await?;
    let mut writing = {
        let mut state = partition.state.borrow_mut();
        state.accepted.begin(bounds, may_rewrite)
    };
    let is_done = ahead(disk, layout, partition, &mut writing).await;
    if is_done.is_err() {
        // It may have been room that was missing.
        let stray = partition.state.borrow().accepted.log.begun;
        let _tried_again_by_the_next = remove(disk, layout, partition.id, &stray).await;
    }
    is_done.map(|()| writing)
}

async fn ahead(
    disk: &Disk,
    layout: &Layout,
    partition: &Partition,
    writing: &mut Writing,
) -> Result<(), DiskError> {
    if writing.is_inline() {
        return Ok(());
    }
    let mut slices = 0;
    loop {
        let is_more = {
            let mut state = partition.state.borrow_mut();
            state.accepted.frame_some(writing)
        };
        slices += usize::from(writing.walked.is_none());
        if writing.tail.len() >= PIECE_BYTES {
            writing.write(disk, layout, partition.id).await?;
        }
        if !is_more || slices > SLICES_MAX {
            return Ok(());
        }
        crate::runtime::yield_if_needed().await;
    }
}

/// What is left of an attempt, at the cut. Synchronous.
pub(in crate::store) fn end(entries: &mut Entries, writing: &mut Writing) -> Named {
    entries.frame_rest(writing)
}

/// What was due has become little enough for [`end`].
pub(in crate::store) fn frame_slice(entries: &mut Entries, writing: &mut Writing) -> bool {
    !writing.is_inline() && entries.frame_some(writing)
}

/// Removes the generations that no catalogue names any more.
pub(in crate::store) async fn remove_old(
    disk: &Disk,
    layout: &Layout,
    partition: &Partition,
) -> Result<(), DiskError> {
    let old = std::mem::take(&mut partition.state.borrow_mut().accepted.log.old);
    let removed = remove(disk, layout, partition.id, &old).await;
    if removed.is_err() {
        partition.state.borrow_mut().accepted.log.old.extend(old);
    }
    removed
}

async fn remove(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
    generations: impl IntoIterator<Item = &u64>,
) -> Result<(), DiskError> {
    let paths = generations.into_iter().flat_map(|g| places(layout, id, *g));
    let steps: Vec<Step> = paths.map(|path| Step::Unlink { path }).collect();
    if steps.is_empty() {
        return Ok(());
    }
    for outcome in disk.batch(steps).await {
        match outcome {
            Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
