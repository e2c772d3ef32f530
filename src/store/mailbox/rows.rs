//! The rows of an index: their order, and the columns in chunks that a snapshot shares.
//!
//! A row keeps its place in its chunk while it lives. What a snapshot shares is copied, a chunk at
//! a time, when it is written to next: so a snapshot of a million rows takes a moment, and nothing
//! waits while it is encoded. Expunged rows leave holes; a chunk of holes is let go, and one that
//! is mostly holes is emptied into the last.

use std::sync::Arc;

use super::extra::Extra;
use super::index::{Cold, NewRow};
use crate::base::{ModSeq, Uid, UnixMs};
use crate::store::Flags;

/// A copy of a chunk takes some ten microseconds.
pub(super) const CHUNK_ROWS: usize = 1024;
/// A chunk with fewer rows alive is emptied.
const ALIVE_MIN: u32 = CHUNK_ROWS as u32 / 4;
/// Chunks emptied at one expunge.
const EMPTIED_MAX: usize = 4;

/// A row in full, but for its UID.
#[derive(Clone, Debug)]
pub(super) struct RowData {
    pub flags: Flags,
    pub set: u32,
    pub modseq: ModSeq,
    pub internal_date: UnixMs,
    pub saved: UnixMs,
    pub size: u64,
    pub cold: Cold,
    pub extra: Option<Arc<Extra>>,
}

impl RowData {
    pub fn of(row: &NewRow, set: u32) -> Self {
        RowData {
            flags: row.flags,
            set,
            modseq: row.modseq,
            internal_date: row.internal_date,
            saved: row.saved,
            size: row.size,
            cold: row.cold,
            extra: row.extra.clone().map(Arc::from),
        }
    }
}

/// A column each. Places that no row has any more keep what was there.
#[derive(Clone, Default)]
pub(super) struct Chunk {
    pub uids: Vec<Uid>,
    pub flags: Vec<Flags>,
    pub sets: Vec<u32>,
    pub modseqs: Vec<ModSeq>,
    pub dates: Vec<UnixMs>,
    pub saved: Vec<UnixMs>,
    pub sizes: Vec<u64>,
    pub cold: Vec<Cold>,
    /// As long as the others, or empty where no row has one.
    extras: Vec<Option<Arc<Extra>>>,
}

impl Chunk {
    fn push(&mut self, uid: Uid, row: RowData) {
        self.uids.push(uid);
        self.flags.push(row.flags);
        self.sets.push(row.set);
        self.modseqs.push(row.modseq);
        self.dates.push(row.internal_date);
        self.saved.push(row.saved);
        self.sizes.push(row.size);
        self.cold.push(row.cold);
        if row.extra.is_some() || !self.extras.is_empty() {
            self.extras.resize(self.uids.len() - 1, None);
            self.extras.push(row.extra);
        }
    }

    fn row(&self, n: usize) -> RowData {
        RowData {
            flags: self.flags[n],
            set: self.sets[n],
            modseq: self.modseqs[n],
            internal_date: self.dates[n],
            saved: self.saved[n],
            size: self.sizes[n],
            cold: self.cold[n],
            extra: self.extras.get(n).cloned().flatten(),
        }
    }

    pub fn extra(&self, n: usize) -> Option<&Arc<Extra>> {
        self.extras.get(n)?.as_ref()
    }
}

/// Where a row lies: chunk and place in it.
pub(super) type Place = u32;

#[derive(Clone, Default)]
pub(super) struct Rows {
    /// In order.
    pub uids: Vec<Uid>,
    /// Of the row at the same position.
    pub places: Vec<Place>,
    pub chunks: Vec<Arc<Chunk>>,
    /// Rows of each chunk that are not holes.
    alive: Vec<u32>,
}

fn split(place: Place) -> (usize, usize) {
    let place = place as usize;
    (place / CHUNK_ROWS, place % CHUNK_ROWS)
}

impl Rows {
    pub fn chunk(&self, at: usize) -> (&Chunk, usize) {
        let (chunk, n) = split(self.places[at]);
        (&self.chunks[chunk], n)
    }

    /// To write to: a copy where a snapshot has it.
    pub fn chunk_mut(&mut self, at: usize) -> (&mut Chunk, usize) {
        let (chunk, n) = split(self.places[at]);
        (Arc::make_mut(&mut self.chunks[chunk]), n)
    }

    /// Appends a row; its UID is above all others.
    pub fn push(&mut self, uid: Uid, row: RowData) {
        let place = self.put(uid, row);
        self.uids.push(uid);
        self.places.push(place);
    }

    fn put(&mut self, uid: Uid, row: RowData) -> Place {
        let full = |chunk: &Arc<Chunk>| chunk.uids.len() == CHUNK_ROWS;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Arc::default());
            self.alive.push(0);
        }
        let last = self.chunks.len() - 1;
        let chunk = Arc::make_mut(&mut self.chunks[last]);
        let place = last * CHUNK_ROWS + chunk.uids.len();
        chunk.push(uid, row);
        self.alive[last] += 1;
        Place::try_from(place).expect("fewer rows than UIDs")
    }

    /// Removes rows by ascending position.
    pub fn remove(&mut self, positions: &[usize]) {
        for &at in positions {
            let (chunk, _) = split(self.places[at]);
            self.alive[chunk] -= 1;
        }
        cut(&mut self.uids, positions);
        cut(&mut self.places, positions);
        let last = self.chunks.len().saturating_sub(1);
        let mut emptied = 0;
        for chunk in 0..last {
            let thin = (1..ALIVE_MIN).contains(&self.alive[chunk]);
            if thin && emptied < EMPTIED_MAX {
                self.empty(chunk);
                emptied += 1;
            }
            if self.alive[chunk] == 0 && !self.chunks[chunk].uids.is_empty() {
                self.chunks[chunk] = Arc::default();
            }
        }
    }

    /// Moves the rows of a chunk to the last.
    fn empty(&mut self, from: usize) {
        let chunk = self.chunks[from].clone();
        for n in 0..chunk.uids.len() {
            let place = (from * CHUNK_ROWS + n) as Place;
            let Ok(at) = self.uids.binary_search(&chunk.uids[n]) else {
                continue;
            };
            // A hole, whose UID a row elsewhere cannot have: but a moved row has left one, too.
            if self.places[at] == place {
                self.places[at] = self.put(chunk.uids[n], chunk.row(n));
                self.alive[from] -= 1;
            }
        }
        assert_eq!(self.alive[from], 0, "every row was moved");
    }

    /// Roughly what this takes in memory.
    pub fn bytes(&self) -> usize {
        let row = 4 + 1 + 4 + 8 + 8 + 8 + 8 + size_of::<Cold>();
        let in_chunk =
            |chunk: &Arc<Chunk>| chunk.cold.capacity() * row + chunk.extras.capacity() * 8;
        self.uids.capacity() * 8 + self.chunks.iter().map(in_chunk).sum::<usize>()
    }
}

/// Takes out what stands at the ascending `positions`.
fn cut<T: Copy>(column: &mut Vec<T>, positions: &[usize]) {
    let Some(&first) = positions.first() else {
        return;
    };
    let mut to = first;
    for (n, &gone) in positions.iter().enumerate() {
        let until = positions.get(n + 1).copied().unwrap_or(column.len());
        column.copy_within(gone + 1..until, to);
        to += until - gone - 1;
    }
    column.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_what_it_is_told() {
        let check = |positions: &[usize]| {
            let mut column: Vec<usize> = (0..9).collect();
            cut(&mut column, positions);
            let want: Vec<usize> = (0..9).filter(|n| !positions.contains(n)).collect();
            assert_eq!(column, want, "{positions:?}");
        };
        check(&[]);
        check(&[0]);
        check(&[8]);
        check(&[0, 1, 4, 8]);
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
