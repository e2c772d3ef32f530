//! What can still be read of a damaged index: every entry whose checksum is right.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use super::index::{Index, NewRow};
use super::log::{self, ALIGN, LogOp};
use crate::base::{ModSeq, Uid, crc32c};
use crate::store::bytes::Reader;

/// Bytes that the search for the next whole entry sums, at most: a damaged length makes every
/// place a candidate.
const SEARCH_BYTES_MAX: usize = 256 << 20;

/// Rows and names, as far as they are known.
#[derive(Default)]
pub(in crate::store) struct Salvage {
    pub rows: BTreeMap<Uid, NewRow>,
    /// In the order of their numbers, as far as nothing is missing.
    pub keywords: Vec<String>,
    /// Keywords whose numbers are not known.
    pub keywords_later: Vec<String>,
    /// The last UID in the snapshot.
    pub snapshot_last: Uid,
    /// Nothing is missing in the snapshot, or in the log.
    pub snapshot_whole: bool,
    pub log_whole: bool,
    /// Rows of which nothing was missed since their flags were set.
    pub certain: HashSet<Uid>,
    /// Nothing was missing so far.
    in_order: bool,
}

/// Reads what is whole. `log_bytes` is how long the log should be.
pub(in crate::store) fn salvage(
    snapshot: Option<&[u8]>,
    log: Option<&[u8]>,
    log_bytes: usize,
) -> Salvage {
    let mut out = Salvage {
        in_order: true,
        snapshot_whole: true,
        log_whole: true,
        ..Salvage::default()
    };
    match snapshot.map(Index::decode) {
        None => {}
        Some(Ok(index)) => out.take(&index),
        Some(Err(_)) => (out.snapshot_whole, out.in_order) = (false, false),
    }
    let log = log.unwrap_or_default();
    let log = &log[..log.len().min(log_bytes)];
    out.log_whole = out.replay(log) && log.len() == log_bytes;
    if log.len() < log_bytes {
        out.certain.clear();
    }
    out
}

impl Salvage {
    fn take(&mut self, index: &Index) {
        let names = index.keyword_names().iter();
        self.keywords = names.map(|name| name.to_string()).collect();
        self.snapshot_last = index.uids().last().copied().unwrap_or(Uid(0));
        for at in 0..index.len() {
            let row = index.new_row(at);
            self.rows.insert(row.uid, row);
        }
    }

    /// Applies the whole entries; true where nothing else is there.
    fn replay(&mut self, bytes: &[u8]) -> bool {
        let mut whole = true;
        let mut budget = SEARCH_BYTES_MAX;
        let (mut at, mut padded) = (0, 0);
        while at < bytes.len() {
            if let Some(end) = padding(bytes, at, padded) {
                padded = end - at;
                at = end;
                continue;
            }
            padded = 0;
            match entry(&bytes[at..]) {
                Some((op, len)) => {
                    self.apply(op);
                    at += len;
                }
                None => {
                    (whole, self.in_order) = (false, false);
                    self.certain.clear();
                    match next_entry(bytes, at + 1, &mut budget) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        whole
    }

    fn apply(&mut self, op: LogOp) {
        match op {
            LogOp::Added(row) => {
                self.note(&row.keywords);
                self.certain.insert(row.uid);
                self.rows.insert(row.uid, row);
            }
            LogOp::Flags { modseq, entries } => {
                for (uid, flags, keywords) in entries {
                    self.note(&keywords);
                    self.certain.insert(uid);
                    if let Some(row) = self.rows.get_mut(&uid) {
                        (row.flags, row.keywords, row.modseq) = (flags, keywords, modseq);
                    }
                }
            }
            LogOp::Expunged { uids, .. } => uids.iter().for_each(|uid| {
                self.rows.remove(uid);
            }),
            LogOp::Letters(entries) => {
                for (uid, letters) in entries {
                    if let Some(row) = self.rows.get_mut(&uid) {
                        row.cold.letters = letters;
                    }
                }
            }
            LogOp::Cached(entries) => {
                for (uid, cache, email_id) in entries {
                    if let Some(row) = self.rows.get_mut(&uid) {
                        (row.cold.cache, row.cold.email_id) = (cache, email_id);
                    }
                }
            }
        }
    }

    fn note(&mut self, keywords: &[String]) {
        for word in keywords {
            let mut known = self.keywords.iter().chain(&self.keywords_later);
            if known.any(|k| k.eq_ignore_ascii_case(word)) {
                continue;
            }
            match self.in_order {
                true => self.keywords.push(word.clone()),
                false => self.keywords_later.push(word.clone()),
            }
        }
    }

    /// The highest modseq that is known of a row.
    pub fn highest(&self) -> ModSeq {
        let all = self.rows.values().map(|row| row.modseq);
        all.max().unwrap_or(ModSeq(0))
    }
}

/// Where padding at `at` ends, if it is padding: a length may have become zero by damage. It does
/// not begin at a multiple of [`ALIGN`], but after a piece of it that was too small for a length.
fn padding(bytes: &[u8], at: usize, padded: usize) -> Option<usize> {
    let end = log::padding_end(bytes, at)?.min(bytes.len());
    let begins = !(at as u64).is_multiple_of(ALIGN) || (1..4).contains(&padded);
    (begins && bytes[at..end].iter().all(|b| *b == 0)).then_some(end)
}

/// The entry at the begin of `bytes`, if it is whole.
fn entry(bytes: &[u8]) -> Option<(LogOp, usize)> {
    let mut r = Reader::new(bytes);
    let len = r.u32().ok().filter(|len| *len > 0)? as usize;
    let crc = r.u32().ok()?;
    let payload = r.take(len).ok()?;
    if crc32c(payload).0 != crc {
        return None;
    }
    Some((LogOp::decode(payload).ok()?, 8 + len))
}

/// Where the next whole entry begins.
fn next_entry(bytes: &[u8], from: usize, budget: &mut usize) -> Option<usize> {
    for at in from..bytes.len().saturating_sub(8) {
        let mut r = Reader::new(&bytes[at..]);
        let len = r.u32().ok()? as usize;
        let kind = bytes.get(at + 8).copied().unwrap_or_default();
        let fits = len > 0 && len <= bytes.len() - at - 8;
        if !fits || !log::is_kind(kind) {
            continue;
        }
        *budget = budget.checked_sub(len)?;
        if entry(&bytes[at..]).is_some() {
            return Some(at);
        }
    }
    None
}
