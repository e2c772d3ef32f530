//! Reading the journal and changing nothing: for `palomar journal show` and `verify`.
//!
//! Every slot is read, block for block. Chains that a restart still needs are judged as recovery
//! would judge them, but all faults are told and not the first alone; of chains that a checkpoint
//! has covered what is left is read. It may run beside a server: a place where the server writes
//! meanwhile is looked at again before it is called a fault.

use std::ops::Range;
use std::path::PathBuf;

use hashbrown::HashSet;

use super::batch::{self, Kind, Valid};
use super::slot::{self, Found};
use super::{BLOCK, JournalError, TornTail, epoch};
use crate::base::{Crc32c, Epoch, PSeq, PartitionId};
use crate::runtime::{Disk, DiskFile, Open, yield_if_needed};
use crate::store::Record;
use crate::store::codec::{self, Decoded};

/// What to read.
#[derive(Clone, Debug)]
pub struct Look {
    /// The data directory.
    pub root: PathBuf,
    /// This stream alone.
    pub stream: Option<u16>,
}

/// A record as it stands in the journal.
pub struct Seen<'r> {
    pub stream: u16,
    pub slot: u64,
    /// Of its batch.
    pub offset: u64,
    /// A restart would replay it.
    pub live: bool,
    pub record: &'r Record,
    /// Octets of each body that stand in the journal: fewer than it has where it is packed.
    pub stored: &'r [Option<usize>],
}

/// Is told while the journal is read.
pub trait Onlooker {
    /// So many octets will be read.
    fn begin(&mut self, _bytes: u64) {}
    /// So many more are read.
    fn read(&mut self, _bytes: u64) {}
    fn record(&mut self, _seen: &Seen<'_>) {}
}

/// What was found.
#[derive(Debug, Default)]
pub struct Inspected {
    pub streams: u64,
    pub slots: u64,
    /// Of them those that a restart needs.
    pub live_slots: u64,
    pub batches: u64,
    pub records: u64,
    pub live_records: u64,
    pub torn: Vec<TornTail>,
    pub faults: Vec<JournalError>,
}

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Reads the journal below `look.root`. `Err` only where it cannot be read at all.
pub async fn inspect(
    look: &Look,
    disk: &Disk,
    onlooker: &mut dyn Onlooker,
) -> Result<Inspected, JournalError> {
    let epochs = epoch::read(disk, &look.root).await?;
    let retired = epochs.map_or(Epoch(0), |epochs| epochs.retired);
    let mut walk = Walk {
        look,
        disk,
        onlooker,
        found: Inspected::default(),
        places: Vec::new(),
    };
    let mut all = Vec::new();
    for stream in slot::streams(disk, &look.root).await? {
        if look.stream.is_none_or(|wanted| wanted == stream) {
            walk.found.streams += 1;
            all.push((stream, slot::scan(disk, &look.root, stream).await?));
        }
    }
    if epochs.is_none() && all.iter().any(|(_, slots)| !slots.is_empty()) {
        let path = epoch::path(&look.root);
        walk.found.faults.push(JournalError::Epoch { path });
    }
    let slots = all.iter().flat_map(|(_, slots)| slots);
    let bytes = slots.map(|slot| slot.header.slot_bytes).sum();
    walk.onlooker.begin(bytes);
    for (stream, slots) in &all {
        for chain in slots.chunk_by(|a, b| a.header.epoch == b.header.epoch) {
            let live = chain[0].header.epoch > retired;
            walk.chain(*stream, chain, live).await?;
        }
    }
    walk.positions();
    Ok(walk.found)
}

struct Walk<'a> {
    look: &'a Look,
    disk: &'a Disk,
    onlooker: &'a mut dyn Onlooker,
    found: Inspected,
    /// Of records that a restart needs.
    places: Vec<(PartitionId, Epoch, PSeq)>,
}

/// How far a chain was followed.
struct Chain {
    stream: u16,
    live: bool,
    /// Sequence and CRC of the last valid batch.
    last: Option<(u64, Crc32c)>,
    /// The oldest slot that a restart needs.
    oldest: u64,
    /// With the slot that each is in.
    places: Vec<(u64, PartitionId, Epoch, PSeq)>,
}

/// Where the batches of a slot end.
enum End {
    Next,
    Here(u64),
    /// The server has begun the slot anew.
    Recycled,
}

impl Walk<'_> {
    async fn chain(
        &mut self,
        stream: u16,
        slots: &[Found],
        live: bool,
    ) -> Result<(), JournalError> {
        let mut chain = Chain {
            stream,
            live,
            last: None,
            oldest: 0,
            places: Vec::new(),
        };
        let mut ended = false;
        for (index, found) in slots.iter().enumerate() {
            self.found.slots += 1;
            self.found.live_slots += u64::from(live);
            chain.oldest = chain.oldest.max(found.header.oldest);
            let follows = index == 0 || slots[index - 1].header.slot + 1 == found.header.slot;
            if !follows {
                chain.last = None;
                let slot = found.header.slot - 1;
                self.fault(live, JournalError::SlotMissing { stream, slot });
            }
            if !ended {
                ended = self.slot(&mut chain, slots, index).await?;
            }
            self.onlooker.read(found.header.slot_bytes);
        }
        let (first, last) = (&slots[0].header, &slots[slots.len() - 1].header);
        if live && !ended {
            let slot = last.slot + 1;
            self.fault(live, JournalError::SlotMissing { stream, slot });
        }
        if live && first.slot > chain.oldest {
            let slot = chain.oldest;
            self.fault(live, JournalError::SlotMissing { stream, slot });
        }
        if live {
            let needed = chain.places.into_iter().filter(|p| p.0 >= chain.oldest);
            let before = self.places.len();
            self.places.extend(needed.map(|(_, p, e, q)| (p, e, q)));
            self.found.live_records += (self.places.len() - before) as u64;
        }
        Ok(())
    }

    fn fault(&mut self, live: bool, fault: JournalError) {
        if live {
            self.found.faults.push(fault);
        }
    }

    /// Reads one slot; true where the chain ends in it.
    async fn slot(
        &mut self,
        chain: &mut Chain,
        slots: &[Found],
        index: usize,
    ) -> Result<bool, JournalError> {
        let found = &slots[index];
        let mut pages = Pages::open(self.disk, found).await?;
        let mut from = BLOCK as u64;
        loop {
            match self.batches(chain, found, &mut pages, from).await? {
                End::Next => return Ok(false),
                End::Recycled => {
                    chain.last = None;
                    return Ok(false);
                }
                // Nobody needs it any more, and what follows may be overwritten.
                End::Here(_) if !chain.live => {
                    chain.last = None;
                    return Ok(false);
                }
                End::Here(offset) => {
                    let later = self.later(chain, &slots[index..], offset).await?;
                    pages.forget();
                    // The server went on writing where the chain seemed to end.
                    if pages.batch(offset).await?.is_some() {
                        from = offset;
                        continue;
                    }
                    self.ends(chain, found, &mut pages, offset, later).await?;
                    return Ok(true);
                }
            }
        }
    }

    /// Takes the batches of a slot from `offset` on.
    async fn batches(
        &mut self,
        chain: &mut Chain,
        found: &Found,
        pages: &mut Pages,
        mut offset: u64,
    ) -> Result<End, JournalError> {
        let slot = found.header.slot;
        while let Some((bytes, valid)) = pages.batch(offset).await? {
            let header = valid.header;
            let follows = chain.last.is_none_or(|(sequence, crc)| {
                header.sequence == sequence + 1 && header.crc_before == crc
            });
            if !follows {
                if is_recycled(self.disk, found).await? {
                    return Ok(End::Recycled);
                }
                let fault = JournalError::BrokenChain {
                    stream: chain.stream,
                    slot,
                    path: found.path.clone(),
                    offset,
                };
                self.fault(chain.live, fault);
            }
            for frame in &valid.frames {
                match codec::decode(&bytes[frame.clone()], &self.look.root) {
                    Ok(decoded) => self.take(chain, slot, offset, &decoded),
                    Err(why) => {
                        let fault = JournalError::Record {
                            stream: chain.stream,
                            slot,
                            path: found.path.clone(),
                            offset,
                            why,
                        };
                        self.fault(chain.live, fault);
                    }
                }
            }
            chain.last = Some((header.sequence, valid.crc));
            chain.oldest = chain.oldest.max(header.oldest);
            self.found.batches += 1;
            if header.kind == Kind::End {
                return Ok(End::Next);
            }
            offset += batch::padded(header.length as usize) as u64;
            yield_if_needed().await;
        }
        match is_recycled(self.disk, found).await? {
            true => Ok(End::Recycled),
            false => Ok(End::Here(offset)),
        }
    }

    fn take(&mut self, chain: &mut Chain, slot: u64, offset: u64, decoded: &Decoded) {
        let record = &decoded.record;
        let bodies = decoded.bodies.iter();
        let stored: Vec<_> = bodies.map(|range| range.as_ref().map(Range::len)).collect();
        self.found.records += 1;
        if chain.live {
            let place = (slot, record.partition, record.epoch, record.pseq);
            chain.places.push(place);
        }
        self.onlooker.record(&Seen {
            stream: chain.stream,
            slot,
            offset,
            live: chain.live,
            record,
            stored: &stored,
        });
    }

    /// A valid batch of this chain after the place where it stops: slot and offset.
    async fn later(
        &mut self,
        chain: &Chain,
        slots: &[Found],
        offset: u64,
    ) -> Result<Option<(u64, u64)>, JournalError> {
        let last = chain.last.map_or(0, |(sequence, _)| sequence);
        for (index, found) in slots.iter().enumerate() {
            let mut pages = Pages::open(self.disk, found).await?;
            let mut at = if index == 0 { offset } else { 0 } + BLOCK as u64;
            while at < found.header.slot_bytes {
                let later = pages.batch(at).await?;
                if later.is_some_and(|(_, valid)| valid.header.sequence > last) {
                    return Ok(Some((found.header.slot, at)));
                }
                at += BLOCK as u64;
                yield_if_needed().await;
            }
        }
        Ok(None)
    }

    /// The chain ends here: rightly, in a torn tail, or because of damage.
    async fn ends(
        &mut self,
        chain: &Chain,
        found: &Found,
        pages: &mut Pages,
        offset: u64,
        later: Option<(u64, u64)>,
    ) -> Result<(), JournalError> {
        if let Some((later_slot, later_offset)) = later {
            self.found.faults.push(JournalError::Damaged {
                stream: chain.stream,
                slot: found.header.slot,
                path: found.path.clone(),
                offset,
                later_slot,
                later_offset,
            });
            return Ok(());
        }
        let next = chain.last.map_or(1, |(sequence, _)| sequence + 1);
        let claimed = pages.claimed(offset).await?;
        let torn = claimed.filter(|header| header.sequence == next);
        self.found.torn.extend(torn.map(|header| TornTail {
            stream: chain.stream,
            slot: found.header.slot,
            offset,
            bytes: u64::from(header.length),
        }));
        Ok(())
    }

    /// Records of a partition follow one another without a gap.
    fn positions(&mut self) {
        self.places.sort_unstable();
        let mut told = HashSet::new();
        for pair in self.places.windows(2) {
            let ((partition, _, after), (same, _, found)) = (pair[0], pair[1]);
            if partition == same && after.0 + 1 != found.0 && told.insert(partition) {
                self.found.faults.push(JournalError::PSeqGap {
                    partition,
                    after,
                    found,
                });
            }
        }
    }
}

/// A slot file, read in large pieces.
struct Pages {
    file: DiskFile,
    generation: u64,
    slot_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Pages {
    async fn open(disk: &Disk, found: &Found) -> Result<Pages, JournalError> {
        let how = Open {
            read: true,
            ..Open::default()
        };
        Ok(Pages {
            file: disk.open(&found.path, how).await?,
            generation: found.header.generation,
            slot_bytes: found.header.slot_bytes,
            start: 0,
            bytes: Vec::new(),
        })
    }

    fn forget(&mut self) {
        self.bytes.clear();
    }

    /// At least `len` octets from `at` on, where the slot has them.
    async fn get(&mut self, at: u64, len: usize) -> Result<&[u8], JournalError> {
        let within = at >= self.start && at + len as u64 <= self.start + self.bytes.len() as u64;
        if !within {
            let left = self.slot_bytes.saturating_sub(at);
            let wanted = (len.max(PIECE_BYTES) as u64).min(left) as usize;
            self.bytes = self.file.read_at(wanted, at).await?;
            self.start = at;
        }
        let from = ((at - self.start) as usize).min(self.bytes.len());
        let to = (from + len).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }

    async fn claimed(&mut self, at: u64) -> Result<Option<batch::Header>, JournalError> {
        if at + BLOCK as u64 > self.slot_bytes {
            return Ok(None);
        }
        let generation = self.generation;
        let head = self.get(at, BLOCK).await?;
        Ok(batch::Header::claimed(head, generation, at))
    }

    async fn batch(&mut self, at: u64) -> Result<Option<(&[u8], Valid)>, JournalError> {
        let Some(header) = self.claimed(at).await? else {
            return Ok(None);
        };
        let bytes = self.get(at, header.length as usize).await?;
        Ok(batch::check(bytes, header).map(|valid| (bytes, valid)))
    }
}

/// Whether the server has begun the slot anew since it was looked at.
async fn is_recycled(disk: &Disk, found: &Found) -> Result<bool, JournalError> {
    let now = slot::scan_one(disk, &found.path).await?;
    Ok(now.is_none_or(|now| now.generation != found.header.generation))
}
