//! Reading the live slots once more, beside the writer: for the scrub.
//!
//! From the oldest slot that is kept to what is committed now. A slot is held only while a piece of it
//! is read, so nothing is kept from being recycled; what was recycled meanwhile is passed over.

use std::path::PathBuf;
use std::time::Duration;

use super::batch::{self, Kind, Valid};
use super::slot::{self, Header};
use super::{BLOCK, Journal, Position, Reading};
use crate::base::{Crc32c, Deadline};
use crate::runtime::{Disk, now, sleep};
use crate::store::StoreError;

/// Read at a time; a batch that is longer is read whole.
const PIECE_BYTES: usize = 256 << 10;
/// What is kept of a damaged place, and how many such copies.
const KEPT_BYTES_MAX: usize = 1 << 20;
const KEPT_MAX: usize = 16;
/// Longest wait for the writer to leave a slot, and between looks whether it has.
const LEAVE_WAIT: Duration = Duration::from_secs(10);
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// Octets of a live slot that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    pub stream: u16,
    pub slot: u64,
    pub offset: u64,
    /// Up to the next batch that is whole, or the end of what was written.
    pub bytes: u64,
}

/// The slot was recycled while it was read.
struct Recycled;

struct Piece {
    slot: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Journal {
    /// Reads what is committed and still there; `took` is told of octets read, and may wait.
    pub async fn verify(&self, took: impl AsyncFn(u64)) -> Vec<Rot> {
        let end = self.position();
        let mut all = Vec::new();
        let mut last = None;
        let oldest = self.core.ring.oldest().unwrap_or(end.slot);
        for slot in oldest..=end.slot {
            if self.core.poisoned.get() || self.core.closed.get() {
                break;
            }
            if self
                .slot(slot, end, &mut last, &mut all, &took)
                .await
                .is_err()
            {
                last = None;
            }
        }
        all
    }

    async fn slot(
        &self,
        slot: u64,
        end: Position,
        last: &mut Option<(u64, Crc32c)>,
        all: &mut Vec<Rot>,
        took: &impl AsyncFn(u64),
    ) -> Result<(), Recycled> {
        let core = &self.core;
        let generation = core.ring.find(slot).ok_or(Recycled)?.generation;
        let limit = match slot == end.slot {
            true => u64::from(end.offset),
            false => core.cfg.slot_bytes,
        };
        let rot = |offset: u64, bytes: u64| Rot {
            stream: core.stream,
            slot,
            offset,
            bytes,
        };
        let mut piece = Piece {
            slot,
            at: 0,
            bytes: Vec::new(),
        };
        let head = self.get(&mut piece, 0, BLOCK, took).await?;
        let header = Header::decode(head, &PathBuf::new()).ok().flatten();
        if header.is_none_or(|h| h.generation != generation || h.slot != slot) {
            all.push(rot(0, BLOCK as u64));
        }
        let mut offset = BLOCK as u64;
        while offset < limit {
            let mut valid = self.batch(&mut piece, generation, offset, took).await?;
            if !valid.as_ref().is_some_and(|v| follows(v, *last)) {
                // A read that went wrong once is not damage.
                piece.bytes.clear();
                valid = self.batch(&mut piece, generation, offset, took).await?;
            }
            if let Some(valid) = valid.filter(|v| follows(v, *last)) {
                *last = Some((valid.header.sequence, valid.crc));
                if valid.header.kind == Kind::End {
                    return Ok(());
                }
                offset += batch::padded(valid.header.length as usize) as u64;
                continue;
            }
            let from = offset;
            *last = None;
            loop {
                offset += BLOCK as u64;
                if offset >= limit {
                    break;
                }
                let next = self.batch(&mut piece, generation, offset, took).await?;
                if next.is_some() {
                    break;
                }
            }
            all.push(rot(from, offset.min(limit) - from));
        }
        Ok(())
    }

    async fn batch(
        &self,
        piece: &mut Piece,
        generation: u64,
        offset: u64,
        took: &impl AsyncFn(u64),
    ) -> Result<Option<Valid>, Recycled> {
        let head = self.get(piece, offset, batch::HEADER_BYTES, took).await?;
        let Some(header) = batch::Header::claimed(head, generation, offset) else {
            return Ok(None);
        };
        let len = header.length as usize;
        let bytes = self.get(piece, offset, len, took).await?;
        Ok(batch::check(bytes, header))
    }

    /// Up to `len` octets, fewer where they cannot be read.
    async fn get<'p>(
        &self,
        piece: &'p mut Piece,
        at: u64,
        len: usize,
        took: &impl AsyncFn(u64),
    ) -> Result<&'p [u8], Recycled> {
        let end = piece.at + piece.bytes.len() as u64;
        if at < piece.at || at + len as u64 > end {
            let left = self.core.cfg.slot_bytes.saturating_sub(at);
            let wanted = (len.max(PIECE_BYTES) as u64).min(left) as usize;
            piece.bytes = self.read_live(piece.slot, at, wanted).await?;
            piece.at = at;
            took(piece.bytes.len() as u64).await;
        }
        let from = (at - piece.at) as usize;
        let to = (from + len).min(piece.bytes.len());
        Ok(piece.bytes.get(from..to).unwrap_or_default())
    }

    async fn read_live(&self, slot: u64, at: u64, len: usize) -> Result<Vec<u8>, Recycled> {
        let slot = self.core.ring.find(slot).ok_or(Recycled)?;
        let file = slot.file.clone();
        let _reading = Reading {
            slot: Some(slot),
            core: &self.core,
        };
        Ok(file.read_at(len, at).await.unwrap_or_default())
    }

    /// Keeps a copy of a damaged place for a person to look at. Nothing depends on it.
    pub async fn keep_rot(&self, disk: &Disk, rot: &Rot) {
        let len = (rot.bytes as usize).min(KEPT_BYTES_MAX);
        let Ok(bytes) = self.read_live(rot.slot, rot.offset, len).await else {
            return;
        };
        let aside = slot::aside_dir(&self.core.cfg.root);
        let name = format!("{:012}-{}-{}.rot", rot.slot, rot.stream, rot.offset);
        let _ = disk.create_dir_all(&aside).await;
        let _ = disk.write_new(&aside.join(name), bytes).await;
        let Ok(there) = slot::list(disk, &aside).await else {
            return;
        };
        let names = there.into_iter().map(|entry| entry.name);
        let mut kept: Vec<_> = names
            .filter(|name| name.to_string_lossy().ends_with(".rot"))
            .collect();
        kept.sort();
        kept.truncate(kept.len().saturating_sub(KEPT_MAX));
        for name in kept {
            let _ = disk.unlink(&aside.join(name)).await;
        }
    }

    /// After a checkpoint that released this slot: no start reads it any more, nor those before it.
    pub async fn forget(&self, slot: u64) -> Result<(), StoreError> {
        let core = &self.core;
        let until = Deadline::after(now(), LEAVE_WAIT);
        // Whoever reads the journal could not read this one.
        core.readers.overtake(slot + 1);
        while core.ring.oldest().is_some_and(|oldest| oldest <= slot) {
            if core.poisoned.get() {
                return Err(StoreError::Poisoned);
            }
            if now() >= until.0 {
                return Err(StoreError::Late);
            }
            core.free();
            sleep(LEAVE_POLL).await;
        }
        core.ring.erase_free().await.map_err(|_| StoreError::Late)
    }

    /// Goes on in another slot than this one, so that a checkpoint can release it.
    pub async fn leave(&self, slot: u64) -> Result<(), StoreError> {
        let core = &self.core;
        let until = Deadline::after(now(), LEAVE_WAIT);
        while core.position().slot <= slot {
            if core.poisoned.get() {
                return Err(StoreError::Poisoned);
            }
            if now() >= until.0 {
                return Err(StoreError::Late);
            }
            core.left.set(slot);
            core.seal_now.set(true);
            core.wake.notify_all();
            sleep(LEAVE_POLL).await;
        }
        Ok(())
    }
}

fn follows(valid: &Valid, last: Option<(u64, Crc32c)>) -> bool {
    let header = &valid.header;
    last.is_none_or(|(sequence, crc)| header.sequence == sequence + 1 && header.crc_before == crc)
}
