//! Reading what a former process left: every stream there is, whatever the number of shards was.
//!
//! A chain is followed from its oldest slot, batch by batch, until a batch is not valid. If no
//! valid batch comes after that place, it is the torn tail that a power cut leaves; else it is
//! damage, and the node does not start. Nothing but `epoch` and `aside/` is changed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{self, Kind, Valid};
use super::epoch::{self, Epochs};
use super::slot::{self, Found};
use super::{BLOCK, BodyPlace, JournalConfig, JournalError, Location};
use crate::base::{Crc32c, Epoch, PartitionId};
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, FilePart, Open};
use crate::store::codec::{self, CodecError, Decoded};
use crate::store::{Body, Record, StoreError};

/// A record as it was committed, and where its bodies lie.
pub type Recorded = (Record, Vec<BodyPlace>);

/// What was committed and is not retired. `Send`: one shard recovers for all.
#[derive(Debug)]
pub struct Recovered {
    /// Each partition's records, in order, without gap. Inline bodies are [`Body::InJournal`].
    pub partitions: BTreeMap<PartitionId, Vec<Recorded>>,
    /// This start's epoch; above every epoch of a record, and durable.
    pub epoch: Epoch,
    /// Reads bodies by location until [`retire`].
    pub files: SlotFiles,
    pub report: Report,
}

/// What recovery saw, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub streams: u64,
    pub slots: u64,
    pub batches: u64,
    pub records: u64,
    /// Of the slots that were read.
    pub bytes: u64,
    pub torn: Vec<TornTail>,
}

/// A batch that was being written when the power went: nobody was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub stream: u16,
    pub slot: u64,
    pub offset: u64,
    pub bytes: u64,
}

/// The recovered slots, to read bodies from. Cheap to clone, `Send`.
#[derive(Clone, Debug, Default)]
pub struct SlotFiles {
    paths: Arc<BTreeMap<(u16, u64), PathBuf>>,
}

impl SlotFiles {
    /// The file of a body, and where in it.
    #[must_use]
    pub fn part(&self, at: Location) -> Option<FilePart> {
        let path = self.paths.get(&(at.stream, at.slot))?;
        let (from, len) = at.part(0..u64::MAX);
        Some(FilePart {
            path: path.clone(),
            at: from,
            len,
            unpack: at.is_packed().then_some((codec::unpack, at.size as usize)),
        })
    }

    /// As [`Journal::read`](super::Journal::read).
    pub async fn read(
        &self,
        disk: &Disk,
        at: Location,
        range: Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
        let path = self.paths.get(&(at.stream, at.slot));
        let path = path.ok_or(StoreError::Expunged)?;
        let (position, len) = at.part(range.clone());
        let read = async {
            let file = disk.open(path, READ).await?;
            let bytes = file.read_at(len, position).await?;
            file.close().await?;
            Ok::<_, DiskError>(bytes)
        };
        match read.await {
            Ok(bytes) if bytes.len() == len => Ok(at.body(bytes, range)),
            _ => Err(StoreError::Late),
        }
    }
}

const READ: Open = Open {
    read: true,
    write: false,
    create: false,
    create_new: false,
    truncate: false,
};
/// Read at a time; a batch that is longer is read whole.
const WINDOW_BYTES: usize = 1 << 20;
/// Torn tails that are kept.
const ASIDE_MAX: usize = 16;

/// Reads every stream and raises the epoch. Before any shard serves.
pub async fn recover(cfg: &JournalConfig, disk: &Disk) -> Result<Recovered, JournalError> {
    recover_telling(cfg, disk, &|_, _| {}).await
}

/// As [`recover`], and tells how many octets it has read of how many.
pub async fn recover_telling(
    cfg: &JournalConfig,
    disk: &Disk,
    tell: &dyn Fn(u64, u64),
) -> Result<Recovered, JournalError> {
    let root = &cfg.root;
    let before = epoch::read(disk, root).await?;
    let retired = before.map_or(Epoch(0), |epochs| epochs.retired);
    let mut found = Gathered::default();
    let mut streams = Vec::new();
    for stream in slot::streams(disk, root).await? {
        let mut slots = slot::scan(disk, root, stream).await?;
        if before.is_none() && !slots.is_empty() {
            let path = epoch::path(root);
            return Err(JournalError::Epoch { path });
        }
        slots.retain(|slot| slot.header.epoch > retired);
        streams.push((stream, slots));
    }
    let slots = streams.iter().flat_map(|(_, slots)| slots);
    let all = slots.map(|slot| slot.header.slot_bytes).sum();
    for (stream, slots) in streams {
        found.report.streams += 1;
        // Slot sequences rise across chains too, so chains stand one after the other.
        for chain in slots.chunk_by(|a, b| a.header.epoch == b.header.epoch) {
            // A process that was killed, or whose last sync failed, leaves a batch that only
            // memory has: replayed and then lost, it would leave files that nobody knows.
            for slot in chain.iter().rev().take(2) {
                disk.settle(&slot.path).await?;
            }
            follow(disk, root, stream, chain, &mut found).await?;
            tell(found.report.bytes, all);
        }
    }
    let partitions = found.in_order()?;
    for tail in &found.report.torn {
        keep_aside(disk, root, tail, &found.paths).await;
    }
    let epochs = Epochs {
        epoch: Epoch(before.map_or(0, |epochs| epochs.epoch.0) + 1),
        retired,
    };
    if before.is_none() {
        make_root(disk, root).await?;
    }
    epoch::write(disk, root, epochs).await?;
    Ok(Recovered {
        partitions,
        epoch: epochs.epoch,
        files: SlotFiles {
            paths: Arc::new(found.paths),
        },
        report: found.report,
    })
}

/// The data directory, with a name that lasts.
async fn make_root(disk: &Disk, root: &Path) -> Result<(), DiskError> {
    let mut unsynced = Vec::new();
    for dir in root.ancestors() {
        unsynced.extend(dir.parent().map(|parent| match parent {
            here if here.as_os_str().is_empty() => Path::new("."),
            parent => parent,
        }));
        // The first start may have been killed right after it made the data directory.
        if dir != root && (dir.as_os_str().is_empty() || disk.exists(dir).await?) {
            break;
        }
    }
    disk.create_dir_all(root).await?;
    for dir in unsynced {
        disk.sync_dir(dir).await?;
    }
    Ok(())
}

/// After the checkpoint that covers all that was recovered: the old slots become free. Durable
/// when this returns.
pub async fn retire(
    cfg: &JournalConfig,
    disk: &Disk,
    recovered: &Recovered,
) -> Result<(), JournalError> {
    let epochs = Epochs {
        epoch: recovered.epoch,
        retired: Epoch(recovered.epoch.0 - 1),
    };
    epoch::write(disk, &cfg.root, epochs).await?;
    for stream in slot::streams(disk, &cfg.root).await? {
        if stream >= cfg.streams {
            let dir = slot::stream_dir(&cfg.root, stream);
            disk.remove_dir_all(&dir).await?;
        }
    }
    Ok(())
}

/// After a clean end: every stream is drained, takes nothing more, and a durable checkpoint covers
/// all of it. So nothing of this life's chains is ever read again, and damage in them harms nobody.
/// `epoch` is raised with `retired`, which stays below it: a Palomar of before reads that, too.
pub async fn retire_all(disk: &Disk, root: &Path, epoch: Epoch) -> Result<(), JournalError> {
    let there = epoch::read(disk, root).await?;
    let Some(raised) = epoch.0.checked_add(1).filter(|_| {
        // Another process may have it by now: its chains are not ours to retire.
        there.is_some_and(|epochs| epochs.epoch == epoch)
    }) else {
        let path = epoch::path(root);
        return Err(JournalError::Epoch { path });
    };
    let epochs = Epochs {
        epoch: Epoch(raised),
        retired: epoch,
    };
    epoch::write(disk, root, epochs).await
}

/// Removes one slot file that nobody will read again, for a start that finds no room: the oldest of
/// a stream that keeps another. False where there is none.
pub async fn give_up_slot(disk: &Disk, root: &Path) -> Result<bool, JournalError> {
    let epochs = epoch::read(disk, root).await?;
    let retired = epochs.map_or(Epoch(0), |epochs| epochs.retired);
    for stream in slot::streams(disk, root).await? {
        // In the order of their sequences: the last one tells which comes next.
        let slots = slot::scan(disk, root, stream).await?;
        if let [oldest, _, ..] = slots.as_slice()
            && oldest.header.epoch <= retired
        {
            disk.unlink(&oldest.path).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Default)]
struct Gathered {
    records: Vec<Recorded>,
    paths: BTreeMap<(u16, u64), PathBuf>,
    report: Report,
}

impl Gathered {
    /// Groups by partition and orders by (epoch, pseq); each pseq must follow the one before.
    fn in_order(&mut self) -> Result<BTreeMap<PartitionId, Vec<Recorded>>, JournalError> {
        let mut records = std::mem::take(&mut self.records);
        records.sort_by_key(|(record, _)| (record.partition, record.epoch, record.pseq));
        for pair in records.windows(2) {
            let (one, two) = (&pair[0].0, &pair[1].0);
            if one.partition == two.partition && one.pseq.0.checked_add(1) != Some(two.pseq.0) {
                return Err(JournalError::PSeqGap {
                    partition: one.partition,
                    after: one.pseq,
                    found: two.pseq,
                });
            }
        }
        let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (record, bodies) in records {
            let partition = partitions.entry(record.partition).or_default();
            partition.push((record, bodies));
        }
        Ok(partitions)
    }
}

/// A chain as far as it was followed.
#[derive(Default)]
struct Chain {
    stream: u16,
    /// The slot that is walked.
    slot: u64,
    /// Sequence and CRC of the last valid batch.
    last: Option<(u64, Crc32c)>,
    /// The oldest slot that a restart needs, as far as a header or batch says.
    oldest: u64,
    batches: u64,
    /// With the slot that each is in.
    records: Vec<(u64, Record, Vec<BodyPlace>)>,
}

/// Where the batches of a slot end.
enum End {
    /// By an end batch: the chain goes on in the next slot.
    Next,
    /// At an offset where no valid batch stands.
    Here(u64),
}

async fn follow(
    disk: &Disk,
    root: &Path,
    stream: u16,
    slots: &[Found],
    found: &mut Gathered,
) -> Result<(), JournalError> {
    for pair in slots.windows(2) {
        let slot = pair[0].header.slot + 1;
        if pair[1].header.slot != slot {
            return Err(JournalError::SlotMissing { stream, slot });
        }
    }
    let mut chain = Chain {
        stream,
        ..Chain::default()
    };
    let mut ended = false;
    for (index, slot) in slots.iter().enumerate() {
        let header = &slot.header;
        found.report.slots += 1;
        found.paths.insert((stream, header.slot), slot.path.clone());
        chain.oldest = chain.oldest.max(header.oldest);
        if ended {
            continue;
        }
        let mut window = Window::open(disk, slot).await?;
        let end = chain.walk(&mut window, root).await?;
        found.report.bytes += window.start + window.bytes.len() as u64;
        if let End::Here(offset) = end {
            ended = true;
            chain.refuse_later(disk, &slots[index..], offset).await?;
            found
                .report
                .torn
                .extend(chain.torn(&mut window, offset).await?);
        }
    }
    let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
        return Ok(());
    };
    if !ended {
        let slot = last.header.slot + 1;
        return Err(JournalError::SlotMissing { stream, slot });
    }
    if first.header.slot > chain.oldest {
        let slot = chain.oldest;
        return Err(JournalError::SlotMissing { stream, slot });
    }
    // What is below is covered by a checkpoint, and some of it is overwritten already.
    chain.records.retain(|(slot, ..)| *slot >= chain.oldest);
    found.report.batches += chain.batches;
    found.report.records += chain.records.len() as u64;
    let records = chain.records.into_iter();
    found
        .records
        .extend(records.map(|(_, record, places)| (record, places)));
    Ok(())
}

impl Chain {
    /// Takes the batches of one slot, from its first on.
    async fn walk(&mut self, window: &mut Window<'_>, root: &Path) -> Result<End, JournalError> {
        let mut offset = BLOCK as u64;
        self.slot = window.slot.header.slot;
        loop {
            let Some((bytes, valid)) = window.batch(offset).await? else {
                return Ok(End::Here(offset));
            };
            let header = valid.header;
            let follows = self.last.is_none_or(|(sequence, crc)| {
                header.sequence == sequence + 1 && header.crc_before == crc
            });
            if !follows {
                let slot = window.slot;
                return Err(JournalError::BrokenChain {
                    stream: self.stream,
                    slot: slot.header.slot,
                    path: slot.path.clone(),
                    offset,
                });
            }
            self.take(bytes, &valid, root)
                .map_err(|why| JournalError::Record {
                    stream: self.stream,
                    slot: window.slot.header.slot,
                    path: window.slot.path.clone(),
                    offset,
                    why,
                })?;
            self.last = Some((header.sequence, valid.crc));
            self.oldest = self.oldest.max(header.oldest);
            self.batches += 1;
            if header.kind == Kind::End {
                return Ok(End::Next);
            }
            offset += batch::padded(header.length as usize) as u64;
        }
    }

    fn take(&mut self, bytes: &[u8], valid: &Valid, root: &Path) -> Result<(), CodecError> {
        // Window::batch was asked at this offset, so the header's own offset is true.
        let header = &valid.header;
        for frame in &valid.frames {
            let Decoded { record, bodies } = codec::decode(&bytes[frame.clone()], root)?;
            let places = bodies
                .into_iter()
                .zip(&record.bodies)
                .map(|(range, message)| match (range, &message.body) {
                    (Some(range), _) => BodyPlace::InJournal(Location {
                        stream: self.stream,
                        slot: self.slot,
                        offset: header.offset + (frame.start + range.start) as u32,
                        len: range.len() as u32,
                        size: message.size as u32,
                    }),
                    (None, Body::Spool(path)) => BodyPlace::Spool(path.clone()),
                    (None, _) => unreachable!("the decoder answers a range for inline bodies"),
                })
                .collect();
            self.records.push((self.slot, record, places));
        }
        Ok(())
    }

    /// A valid batch after the place where the chain stops makes it damage instead of a torn tail.
    async fn refuse_later(
        &self,
        disk: &Disk,
        slots: &[Found],
        offset: u64,
    ) -> Result<(), JournalError> {
        let last = self.last.map_or(0, |(sequence, _)| sequence);
        for (index, slot) in slots.iter().enumerate() {
            let mut window = Window::open(disk, slot).await?;
            let mut at = if index == 0 { offset } else { 0 } + BLOCK as u64;
            while at < slot.header.slot_bytes {
                let later = window.batch(at).await?;
                if later.is_some_and(|(_, valid)| valid.header.sequence > last) {
                    return Err(JournalError::Damaged {
                        stream: self.stream,
                        slot: slots[0].header.slot,
                        path: slots[0].path.clone(),
                        offset,
                        later_slot: slot.header.slot,
                        later_offset: at,
                    });
                }
                at += BLOCK as u64;
            }
        }
        Ok(())
    }

    /// What was being written where the chain stops, if its header made it to the disk.
    async fn torn(
        &self,
        window: &mut Window<'_>,
        offset: u64,
    ) -> Result<Option<TornTail>, JournalError> {
        let claimed = window.claimed(offset).await?;
        let next = self.last.map_or(1, |(sequence, _)| sequence + 1);
        Ok(claimed
            .filter(|header| header.sequence == next)
            .map(|header| TornTail {
                stream: self.stream,
                slot: window.slot.header.slot,
                offset,
                bytes: u64::from(header.length),
            }))
    }
}

/// A slot file, read in large pieces.
struct Window<'a> {
    slot: &'a Found,
    file: DiskFile,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    async fn open(disk: &Disk, slot: &'a Found) -> Result<Self, JournalError> {
        Ok(Window {
            slot,
            file: disk.open(&slot.path, READ).await?,
            start: 0,
            bytes: Vec::new(),
        })
    }

    /// The batch at an offset with its bytes, if it is valid.
    async fn batch(&mut self, offset: u64) -> Result<Option<(&[u8], Valid)>, JournalError> {
        let Some(header) = self.claimed(offset).await? else {
            return Ok(None);
        };
        let bytes = self.get(offset, header.length as usize).await?;
        Ok(batch::check(bytes, header).map(|valid| (bytes, valid)))
    }

    async fn claimed(&mut self, offset: u64) -> Result<Option<batch::Header>, JournalError> {
        let generation = self.slot.header.generation;
        let head = self.get(offset, batch::HEADER_BYTES).await?;
        Ok(batch::Header::claimed(head, generation, offset))
    }

    /// Up to `len` bytes at an offset, fewer where the file ends.
    async fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], JournalError> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + len as u64 > end {
            self.bytes = self.file.read_at(len.max(WINDOW_BYTES), offset).await?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let to = (from + len).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }
}

/// For a person to look at. Nothing depends on it, so a failure is no reason not to start.
async fn keep_aside(
    disk: &Disk,
    root: &Path,
    tail: &TornTail,
    paths: &BTreeMap<(u16, u64), PathBuf>,
) {
    let Some(path) = paths.get(&(tail.stream, tail.slot)) else {
        return;
    };
    let aside = slot::aside_dir(root);
    let name = format!("{:012}-{}-{}.torn", tail.slot, tail.stream, tail.offset);
    let kept = async {
        let file = disk.open(path, READ).await?;
        let bytes = file.read_at(tail.bytes as usize, tail.offset).await?;
        disk.create_dir_all(&aside).await?;
        match disk.write_new(&aside.join(name), bytes).await {
            Err(error) if error.kind != DiskErrorKind::Exists => return Err(error),
            _ => {}
        }
        let mut names: Vec<_> = slot::list(disk, &aside)
            .await?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| name.to_string_lossy().ends_with(".torn"))
            .collect();
        names.sort();
        names.truncate(names.len().saturating_sub(ASIDE_MAX));
        for name in names {
            disk.unlink(&aside.join(name)).await?;
        }
        Ok::<_, DiskError>(())
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, "torn tail not kept");
    }
}
