//! The index log: what was applied to a mailbox since its last snapshot.
//!
//! Frame: length of the payload (u32), CRC32C of the payload (u32), payload. A zero length is
//! padding: the reader goes on at the next multiple of [`ALIGN`] from the start of the file, so
//! that bytes which a checkpoint made durable are never written again.

use super::extra::Extra;
use super::index::{CacheRef, Cold, Index, NewRow};
use crate::base::{Crc32c, ModSeq, Uid, UnixMs, crc32c};
use crate::store::Flags;
use crate::store::bytes::{Malformed, Reader, Writer};

/// The first append after a checkpoint begins at a multiple of this (a disk sector).
pub(in crate::store) const ALIGN: u64 = 512;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum LogOp {
    Added(NewRow),
    Flags {
        modseq: ModSeq,
        entries: Vec<(Uid, Flags, Vec<String>)>,
    },
    Expunged {
        uids: Vec<Uid>,
        /// Not in entries of version 1.
        modseq: Option<ModSeq>,
    },
    /// Files carry these letters now.
    Letters(Vec<(Uid, u32)>),
    /// Digests were made anew: where they are, and what the messages' ids are.
    Cached(Vec<(Uid, CacheRef, [u8; 16])>),
}

/// Rounds a file offset up to [`ALIGN`].
pub(in crate::store) fn align(at: u64) -> u64 {
    at.next_multiple_of(ALIGN)
}

impl LogOp {
    /// Appends the framed entry to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut w = Writer {
            out: std::mem::take(out),
        };
        w.u64(0);
        match self {
            LogOp::Added(row) => {
                row.encode(&mut w);
            }
            LogOp::Flags { modseq, entries } => {
                w.u8(2);
                w.u64(modseq.0);
                w.count(entries.len());
                for (uid, flags, keywords) in entries {
                    w.u32(uid.0);
                    w.u8(flags.0);
                    put_keywords(&mut w, keywords);
                }
            }
            LogOp::Expunged { uids, modseq } => {
                w.u8(if modseq.is_some() { 6 } else { 3 });
                if let Some(modseq) = modseq {
                    w.u64(modseq.0);
                }
                w.count(uids.len());
                uids.iter().for_each(|uid| w.u32(uid.0));
            }
            LogOp::Letters(entries) => {
                w.u8(4);
                w.count(entries.len());
                for (uid, letters) in entries {
                    w.u32(uid.0);
                    w.u32(*letters);
                }
            }
            LogOp::Cached(entries) => {
                w.u8(7);
                w.count(entries.len());
                for (uid, cache, email_id) in entries {
                    w.u32(uid.0);
                    w.u64(cache.at);
                    w.u32(cache.len);
                    w.out.extend_from_slice(email_id);
                }
            }
        }
        *out = w.out;
        let payload = &out[start + 8..];
        let crc = crc32c(payload).0.to_le_bytes();
        let len = u32::try_from(payload.len())
            .expect("an entry is bounded")
            .to_le_bytes();
        out[start..start + 4].copy_from_slice(&len);
        out[start + 4..start + 8].copy_from_slice(&crc);
    }

    pub fn decode(payload: &[u8]) -> Result<LogOp, Malformed> {
        let mut r = Reader::new(payload);
        let op = match r.u8()? {
            kind @ (1 | 5) => LogOp::Added(NewRow::of_kind(kind, &mut r)?),
            2 => {
                let modseq = ModSeq(r.u64()?);
                let entries = (0..r.count(7)?)
                    .map(|_| Ok((Uid(r.u32()?), Flags(r.u8()?), keywords(&mut r)?)))
                    .collect::<Result<_, _>>()?;
                LogOp::Flags { modseq, entries }
            }
            kind @ (3 | 6) => {
                let modseq = match kind {
                    6 => Some(ModSeq(r.u64()?)),
                    _ => None,
                };
                let uids = (0..r.count(4)?)
                    .map(|_| r.u32().map(Uid))
                    .collect::<Result<_, _>>()?;
                LogOp::Expunged { uids, modseq }
            }
            4 => LogOp::Letters(
                (0..r.count(8)?)
                    .map(|_| Ok((Uid(r.u32()?), r.u32()?)))
                    .collect::<Result<_, _>>()?,
            ),
            7 => LogOp::Cached(
                (0..r.count(32)?)
                    .map(|_| {
                        let uid = Uid(r.u32()?);
                        let (at, len) = (r.u64()?, r.u32()?);
                        Ok((uid, CacheRef { at, len }, r.array()?))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(Malformed),
        };
        if r.is_empty() { Ok(op) } else { Err(Malformed) }
    }
}

impl NewRow {
    /// The least that a row takes.
    pub const BYTES_MIN: usize = 1 + 4 + 1 + 2 + 8 * 4 + Cold::BYTES;

    /// As the log has it, with its kind.
    pub fn encode(&self, w: &mut Writer) {
        w.u8(if self.extra.is_some() { 5 } else { 1 });
        w.u32(self.uid.0);
        w.u8(self.flags.0);
        put_keywords(w, &self.keywords);
        w.u64(self.modseq.0);
        w.i64(self.internal_date.0);
        w.i64(self.saved.0);
        w.u64(self.size);
        self.cold.encode(w);
        if let Some(extra) = &self.extra {
            extra.encode(w);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<NewRow, Malformed> {
        match r.u8()? {
            kind @ (1 | 5) => NewRow::of_kind(kind, r),
            _ => Err(Malformed),
        }
    }

    fn of_kind(kind: u8, r: &mut Reader<'_>) -> Result<NewRow, Malformed> {
        Ok(NewRow {
            uid: Uid(r.u32()?),
            flags: Flags(r.u8()?),
            keywords: keywords(r)?,
            modseq: ModSeq(r.u64()?),
            internal_date: UnixMs(r.i64()?),
            saved: UnixMs(r.i64()?),
            size: r.u64()?,
            cold: Cold::decode(r)?,
            extra: match kind {
                5 => Some(Box::new(Extra::decode(r)?)),
                _ => None,
            },
        })
    }
}

fn put_keywords(w: &mut Writer, keywords: &[String]) {
    w.u16(u16::try_from(keywords.len()).expect("keywords of a message are bounded"));
    keywords.iter().for_each(|k| w.str(k));
}

fn keywords(r: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    (0..r.u16()?).map(|_| r.str().map(str::to_owned)).collect()
}

/// Whether an entry may begin so.
pub(super) fn is_kind(kind: u8) -> bool {
    (1..=7).contains(&kind)
}

/// Where padding that begins at `at` of a log ends; `None` where an entry begins.
pub(super) fn padding_end(log: &[u8], at: usize) -> Option<usize> {
    match Reader::new(&log[at..]).u32() {
        Ok(0) | Err(Malformed) => Some(align(at as u64 + 1) as usize),
        Ok(_) => None,
    }
}

/// The entries in `bytes`, which stand at offset `at` of the log.
pub(in crate::store) fn entries(bytes: &[u8], at: u64) -> Result<Vec<LogOp>, Malformed> {
    let mut all = Vec::new();
    each(bytes, at, |op| {
        all.push(op);
        Ok(())
    })?;
    Ok(all)
}

/// Applies the entries in `bytes`, which stand at offset `at` of the log, to `index`.
pub(in crate::store) fn replay(index: &mut Index, bytes: &[u8], at: u64) -> Result<(), Malformed> {
    each(bytes, at, |op| apply(index, op))
}

/// As `replay`, and tells the UIDs of rows that are new or have other flags.
pub(super) fn replay_telling(
    index: &mut Index,
    bytes: &[u8],
    at: u64,
    touched: &mut dyn FnMut(Uid),
) -> Result<(), Malformed> {
    each(bytes, at, |op| {
        match &op {
            LogOp::Added(row) => touched(row.uid),
            LogOp::Flags { entries, .. } => entries.iter().for_each(|(uid, ..)| touched(*uid)),
            LogOp::Expunged { .. } | LogOp::Letters(_) | LogOp::Cached(_) => {}
        }
        apply(index, op)
    })
}

fn each(
    bytes: &[u8],
    at: u64,
    mut take: impl FnMut(LogOp) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut pos = 0usize;
    while pos < bytes.len() {
        let mut r = Reader::new(&bytes[pos..]);
        let len = match r.u32() {
            Ok(0) | Err(Malformed) => {
                let here = at + pos as u64;
                let next = align(here + 1);
                pos += (next - here) as usize;
                continue;
            }
            Ok(len) => len as usize,
        };
        let crc = Crc32c(r.u32()?);
        let payload = r.take(len)?;
        if crc32c(payload) != crc {
            return Err(Malformed);
        }
        take(LogOp::decode(payload)?)?;
        pos += 8 + len;
    }
    Ok(())
}

/// Applies one entry. One that does not fit changes nothing.
pub(in crate::store) fn apply(index: &mut Index, op: LogOp) -> Result<(), Malformed> {
    match op {
        LogOp::Added(row) => {
            if index.uids().last().is_some_and(|&last| last >= row.uid) {
                return Err(Malformed);
            }
            index.add(&row);
        }
        LogOp::Flags { modseq, entries } => {
            for (uid, flags, keywords) in entries {
                if let Some(at) = index.position(uid) {
                    index.set(at, flags, &keywords, modseq);
                }
            }
        }
        LogOp::Expunged { uids, modseq } => {
            let gone: Vec<usize> = uids.iter().filter_map(|&u| index.position(u)).collect();
            index.remove(&gone, modseq);
        }
        LogOp::Letters(entries) => {
            for (uid, letters) in entries {
                if let Some(at) = index.position(uid) {
                    index.set_letters(at, letters);
                }
            }
        }
        LogOp::Cached(entries) => {
            for (uid, cache, email_id) in entries {
                if let Some(at) = index.position(uid) {
                    index.set_cached(at, cache, email_id);
                }
            }
        }
    }
    Ok(())
}
