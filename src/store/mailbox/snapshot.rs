//! An index as it was at one moment, and its file: written piece by piece, read on another thread.
//! `docs/STORE.md`, "Index snapshot".

use std::sync::Arc;

use super::extra::Extra;
use super::index::{Cold, Index};
use super::keywords::Keywords;
use super::rows::{Chunk, RowData, Rows};
use super::vanished::Vanished;
use crate::base::{Crc32c, ModSeq, Uid, UnixMs, crc32c, crc32c_append};
use crate::store::Flags;
use crate::store::bytes::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"PALIDX02";
/// Without extras and vanished UIDs.
const MAGIC_1: &[u8; 8] = b"PALIDX01";

/// About what a piece of the file takes, so that encoding one does not hold up a shard.
const PIECE_BYTES: usize = 128 << 10;

/// Shares what it can with the index it was taken of.
#[derive(Clone)]
pub(in crate::store) struct Snapshot {
    pub(super) rows: Rows,
    pub(super) extras: usize,
    pub(super) vanished: Vanished,
    pub(super) keywords: Arc<Keywords>,
}

/// A column: what one row takes in it, and how it is written.
type Column = (usize, fn(&mut Writer, &Chunk, usize));

const COLUMNS: [Column; 8] = [
    (4, |w, c, n| w.u32(c.uids[n].0)),
    (1, |w, c, n| w.u8(c.flags[n].0)),
    (4, |w, c, n| w.u32(c.sets[n])),
    (8, |w, c, n| w.u64(c.modseqs[n].0)),
    (8, |w, c, n| w.i64(c.dates[n].0)),
    (8, |w, c, n| w.i64(c.saved[n].0)),
    (8, |w, c, n| w.u64(c.sizes[n])),
    (Cold::BYTES, |w, c, n| c.cold[n].encode(w)),
];
/// About what an extra takes.
const EXTRA_BYTES: usize = 64;

/// Gives the file from its begin to its end.
pub(in crate::store) struct Pieces {
    snapshot: Snapshot,
    /// 0 is what stands before the columns, then each of them, the extras, the end.
    part: usize,
    /// Row to go on at.
    row: usize,
    crc: Crc32c,
}

impl Snapshot {
    pub fn pieces(self) -> Pieces {
        Pieces {
            snapshot: self,
            part: 0,
            row: 0,
            crc: Crc32c(0),
        }
    }

    fn head(&self, w: &mut Writer) {
        w.out.extend_from_slice(MAGIC);
        w.count(self.keywords.names.len());
        for name in &self.keywords.names {
            w.str(name);
        }
        w.count(self.keywords.sets.len());
        for set in &self.keywords.sets {
            w.count(set.len());
            set.iter().for_each(|&id| w.u32(id));
        }
        w.count(self.rows.uids.len());
    }
}

impl Pieces {
    fn each_row(&mut self, w: &mut Writer, width: usize, one: impl Fn(&mut Writer, &Chunk, usize)) {
        let rows = self.snapshot.rows.uids.len();
        let until = (self.row + PIECE_BYTES / width).min(rows);
        for at in self.row..until {
            let (chunk, n) = self.snapshot.rows.chunk(at);
            one(w, chunk, n);
        }
        self.row = until;
        if until == rows {
            self.part += 1;
            self.row = 0;
        }
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut w = Writer::default();
        let last = COLUMNS.len() + 2;
        match self.part {
            0 => {
                self.snapshot.head(&mut w);
                self.part = 1;
            }
            part if part <= COLUMNS.len() => {
                let (width, one) = COLUMNS[part - 1];
                self.each_row(&mut w, width, one);
            }
            part if part < last => {
                if self.row == 0 {
                    w.count(self.snapshot.extras);
                }
                self.each_row(&mut w, EXTRA_BYTES, |w, chunk, n| {
                    if let Some(extra) = chunk.extra(n) {
                        w.u32(chunk.uids[n].0);
                        extra.encode(w);
                    }
                });
            }
            part if part == last => {
                self.snapshot.vanished.encode(&mut w);
                self.part += 1;
            }
            part if part == last + 1 => {
                self.part += 1;
                return Some(self.crc.0.to_le_bytes().to_vec());
            }
            _ => return None,
        }
        self.crc = crc32c_append(self.crc, &w.out);
        Some(w.out)
    }
}

/// Reads a file of any version.
pub(super) fn decode(bytes: &[u8]) -> Result<Index, Malformed> {
    let body = bytes.len().checked_sub(4).ok_or(Malformed)?;
    let (body, crc) = bytes.split_at(body);
    if crc32c(body).0.to_le_bytes() != crc {
        return Err(Malformed);
    }
    let mut r = Reader::new(body);
    let magic = r.take(8)?;
    if magic != MAGIC && magic != MAGIC_1 {
        return Err(Malformed);
    }
    let keywords = keywords(&mut r)?;
    let n = r.count(4 + 1 + 4 + 8 * 4 + Cold::BYTES)?;
    let mut column = |width: usize| r.take(n * width).map(Reader::new);
    let [mut uids, mut flags, mut sets] = [column(4)?, column(1)?, column(4)?];
    let [mut modseqs, mut dates, mut saved] = [column(8)?, column(8)?, column(8)?];
    let [mut sizes, mut cold] = [column(8)?, column(Cold::BYTES)?];
    let mut extras: Vec<(Uid, Extra)> = Vec::new();
    let mut vanished = Vanished::default();
    if magic == MAGIC {
        for _ in 0..r.count(5)? {
            extras.push((Uid(r.u32()?), Extra::decode(&mut r)?));
        }
        vanished = Vanished::decode(&mut r)?;
    }
    if !r.is_empty() {
        return Err(Malformed);
    }
    let mut index = Index::of(keywords, vanished);
    let mut extras = extras.into_iter().peekable();
    let mut highest = ModSeq(0);
    for _ in 0..n {
        let uid = Uid(uids.u32()?);
        let row = RowData {
            flags: Flags(flags.u8()?),
            set: sets.u32()?,
            modseq: ModSeq(modseqs.u64()?),
            internal_date: UnixMs(dates.i64()?),
            saved: UnixMs(saved.i64()?),
            size: sizes.u64()?,
            cold: Cold::decode(&mut cold)?,
            extra: extras
                .next_if(|(of, _)| *of == uid)
                .map(|(_, extra)| Arc::new(extra)),
        };
        highest = highest.max(row.modseq);
        let rising = index.uids().last().is_none_or(|&last| last < uid);
        if !rising || !index.has_set(row.set) {
            return Err(Malformed);
        }
        index.push(uid, row);
    }
    if extras.next().is_some() {
        return Err(Malformed);
    }
    if magic == MAGIC_1 {
        // What vanished before version 2 is not known.
        index.forget_vanished(highest);
    }
    Ok(index)
}

fn keywords(r: &mut Reader<'_>) -> Result<Keywords, Malformed> {
    let names = (0..r.count(4)?)
        .map(|_| r.str())
        .collect::<Result<Vec<_>, _>>()?;
    let sets = (0..r.count(4)?)
        .map(|_| {
            let len = r.count(4)?;
            let set = (0..len)
                .map(|_| r.u32())
                .collect::<Result<Box<[u32]>, _>>()?;
            match set.iter().all(|&id| (id as usize) < names.len()) {
                true => Ok(set),
                false => Err(Malformed),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let keywords = Keywords::of(&names, sets);
    match keywords.names.len() == names.len() {
        true => Ok(keywords),
        // Two that differ in case alone.
        false => Err(Malformed),
    }
}
