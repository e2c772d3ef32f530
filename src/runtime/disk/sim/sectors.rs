//! One simulated file: what is on the platter, what is in memory, and which sectors differ.

use std::collections::BTreeMap;

use super::Random;
use crate::base::UnixMs;

#[derive(Clone, Default)]
pub(super) struct Sectors {
    /// As every reader sees it.
    memory: Vec<u8>,
    /// As the next boot sees it, if nothing dirty is kept.
    platter: Vec<u8>,
    /// Sectors that a sync has to write, by number, each with the change that made it dirty.
    dirty: BTreeMap<usize, u64>,
    /// The change since which the length is still to be written.
    len_dirty: Option<u64>,
    /// Changes so far.
    changes: u64,
    /// Failed syncs that lost something, and whether anybody was told of the last one.
    losses: u64,
    is_untold: bool,
    /// Open files.
    pub(super) handles: usize,
    pub(super) modified: UnixMs,
}

impl Sectors {
    pub(super) fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let start = index(offset).min(self.memory.len());
        let end = start.saturating_add(len).min(self.memory.len());
        self.memory[start..end].to_vec()
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = index(offset);
        let end = start + bytes.len();
        if end > self.memory.len() {
            self.set_len(end as u64);
        }
        self.memory[start..end].copy_from_slice(bytes);
        self.soil(start, end);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let (before, after) = (self.memory.len(), index(len));
        if before == after {
            return;
        }
        self.memory.resize(after, 0);
        self.len_dirty = self.len_dirty.or(Some(self.changes + 1));
        // What lies between is zeros from now on, also where the platter has something else.
        self.soil(before.min(after), before.max(after));
    }

    /// Where a sync that begins now ends.
    pub(super) fn mark(&self) -> u64 {
        self.changes
    }

    /// Writes what was dirty at the mark, as it is now.
    pub(super) fn sync(&mut self, mark: u64) {
        if self.len_dirty.is_some_and(|since| since <= mark) {
            self.platter.resize(self.memory.len(), 0);
            self.len_dirty = None;
        }
        let (memory, platter) = (&self.memory, &mut self.platter);
        self.dirty.retain(|&sector, since| {
            if *since <= mark {
                // A failed sync may have lost the length: what is written again brings it back.
                let end = ((sector + 1) * SECTOR).min(memory.len());
                platter.resize(platter.len().max(end), 0);
                copy_sector(memory, platter, sector, SECTOR);
            }
            *since > mark
        });
    }

    fn soil(&mut self, start: usize, end: usize) {
        self.changes += 1;
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            self.dirty.entry(sector).or_insert(self.changes);
        }
    }

    /// A failed sync: some of it reached the platter, and nothing is dirty any more.
    pub(super) fn forget_dirty(&mut self, random: &mut Random) {
        if self.dirty.is_empty() && self.len_dirty.is_none() {
            return;
        }
        self.platter = self.survivor(random);
        self.dirty.clear();
        self.len_dirty = None;
        self.losses += 1;
        self.is_untold = true;
    }

    /// Losses that a handle opened now is not told of.
    pub(super) fn losses_told(&self) -> u64 {
        self.losses - u64::from(self.is_untold)
    }

    /// Whoever asks is told of all of them.
    pub(super) fn tell_losses(&mut self) -> u64 {
        self.is_untold = false;
        self.losses
    }

    /// After a sync: what an earlier, failed one has lost is seen no more.
    pub(super) fn forget_memory(&mut self) {
        self.memory = self.platter.clone();
    }

    pub(super) fn after_power_cut(&self, random: &mut Random) -> Sectors {
        let bytes = self.survivor(random);
        Sectors {
            memory: bytes.clone(),
            platter: bytes,
            modified: self.modified,
            ..Sectors::default()
        }
    }

    fn survivor(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.platter.clone();
        if self.len_dirty.is_some() && random.coin() {
            bytes.resize(self.memory.len(), 0);
        }
        // One cut in eight loses, and one keeps, all that it can: the ends are worth meeting.
        let mood = random.below(8);
        for &sector in self.dirty.keys() {
            let kept = match (mood, random.below(8)) {
                (0, _) => 0,
                (1, _) => SECTOR,
                (_, 0) => usize::try_from(random.below(SECTOR as u64)).unwrap_or(0),
                (_, n) if n < 4 => 0,
                _ => SECTOR,
            };
            copy_sector(&self.memory, &mut bytes, sector, kept);
        }
        bytes
    }
}

/// Copies the first `len` bytes of a sector, as far as both sides reach.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize, len: usize) {
    let start = sector * SECTOR;
    let end = (start + len).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated disk fits into memory")
}

const SECTOR: usize = 512;
