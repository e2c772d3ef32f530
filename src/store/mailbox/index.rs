//! The rows of one mailbox in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::extra::Extra;
use super::keywords::Keywords;
use super::rows::{RowData, Rows};
use super::snapshot::{self, Snapshot};
use super::vanished::Vanished;
use crate::base::{ModSeq, PSeq, PartitionId, Uid, UnixMs};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::{Flags, Row, ScanRow, maildir};

/// Keywords with a letter of their own in Maildir file names (Dovecot's `a` to `z`).
pub(in crate::store) const KEYWORD_LETTERS_MAX: usize = 26;

/// Names a placement for ever: its file is called after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) struct NameId {
    pub partition: PartitionId,
    pub pseq: PSeq,
    pub ordinal: u16,
}

/// Where the digest lies in the account's cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct CacheRef {
    pub at: u64,
    pub len: u32,
}

/// The highest bit of a row's prefix octets: its file's name says the UID.
const UID_IN_NAME: u32 = 1 << 31;

/// About what the texts of an extra take in memory, with its place in the tree.
const EXTRA_BYTES: usize = 96;

/// One row on its way in, from the journal or from the index log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct NewRow {
    pub uid: Uid,
    pub flags: Flags,
    pub keywords: Vec<String>,
    pub modseq: ModSeq,
    pub internal_date: UnixMs,
    pub saved: UnixMs,
    pub size: u64,
    pub cold: Cold,
    pub extra: Option<Box<Extra>>,
}

/// What listings do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Cold {
    pub name: NameId,
    pub cache: CacheRef,
    pub prefix_bytes: u32,
    /// Bare LF in the stored body: each is one octet more where a client sees CRLF.
    pub bare_newlines: u32,
    /// Letters in the file's name now, see `maildir::letters`.
    pub letters: u32,
    pub email_id: [u8; 16],
    /// The file's name says the UID; those of version 1 do not.
    pub uid_in_name: bool,
}

#[derive(Default)]
pub(in crate::store) struct Index {
    rows: Rows,
    /// Rows that have one.
    extras: usize,
    vanished: Vanished,
    keywords: Arc<Keywords>,
    /// The sum over all rows.
    total: Weight,
    /// The UIDs as views share them; rebuilt when asked for after a change.
    shared: Option<Arc<[Uid]>>,
}

/// What a row counts for in the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Weight {
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    pub size: u64,
    pub checksum: u64,
}

/// Order-free checksum of a row: the sum over a mailbox proves two copies of it equal.
pub(in crate::store) fn row_sum<'k>(
    uid: Uid,
    flags: Flags,
    keywords: impl Iterator<Item = &'k str>,
    modseq: ModSeq,
    email_id: &[u8; 16],
) -> u64 {
    let (low, high) = email_id.split_at(8);
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
    let mut sum = mix(u64::from(uid.0) << 8 | u64::from(flags.0));
    sum = mix(sum ^ modseq.0);
    sum = mix(mix(sum ^ word(low)) ^ word(high));
    // Keywords are a set: summed, so that their order does not count.
    let names = keywords.fold(0u64, |all, name| {
        let one = name
            .bytes()
            .fold(7u64, |h, b| mix(h ^ u64::from(b.to_ascii_lowercase())));
        all.wrapping_add(one)
    });
    mix(sum ^ names)
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl NewRow {
    pub fn weight(&self) -> Weight {
        // The index holds a set: a keyword that a client names twice is there once.
        let is_first = |(n, name): &(usize, &String)| {
            let before = &self.keywords[..*n];
            !before.iter().any(|other| other.eq_ignore_ascii_case(name))
        };
        let keywords = self.keywords.iter().enumerate().filter(is_first);
        Weight {
            messages: 1,
            unseen: u32::from(!self.flags.contains(Flags::SEEN)),
            deleted: u32::from(self.flags.contains(Flags::DELETED)),
            size: self.size,
            checksum: row_sum(
                self.uid,
                self.flags,
                keywords.map(|(_, name)| name.as_str()),
                self.modseq,
                &self.cold.email_id,
            ),
        }
    }
}

impl Index {
    /// Without rows.
    pub(super) fn of(keywords: Keywords, vanished: Vanished) -> Self {
        Index {
            keywords: Arc::new(keywords),
            vanished,
            ..Index::default()
        }
    }

    pub fn len(&self) -> usize {
        self.rows.uids.len()
    }

    pub fn uids(&self) -> &[Uid] {
        &self.rows.uids
    }

    pub fn position(&self, uid: Uid) -> Option<usize> {
        self.rows.uids.binary_search(&uid).ok()
    }

    /// The UIDs for views to share.
    pub fn shared(&mut self) -> Arc<[Uid]> {
        let uids = &self.rows.uids;
        self.shared
            .get_or_insert_with(|| Arc::from(uids.as_slice()))
            .clone()
    }

    /// What all rows count for.
    pub fn total(&self) -> Weight {
        self.total
    }

    pub fn keyword_names(&self) -> &[Arc<str>] {
        &self.keywords.names
    }

    pub fn flags(&self, at: usize) -> Flags {
        let (chunk, n) = self.rows.chunk(at);
        chunk.flags[n]
    }

    pub fn modseq(&self, at: usize) -> ModSeq {
        let (chunk, n) = self.rows.chunk(at);
        chunk.modseqs[n]
    }

    pub fn cold(&self, at: usize) -> &Cold {
        let (chunk, n) = self.rows.chunk(at);
        &chunk.cold[n]
    }

    pub fn extra(&self, at: usize) -> Option<&Extra> {
        if self.extras == 0 {
            return None;
        }
        let (chunk, n) = self.rows.chunk(at);
        chunk.extra(n).map(|extra| &**extra)
    }

    /// What POP3 clients know messages by, where it is not ours.
    pub fn uidls(&self) -> impl Iterator<Item = (Uid, &str)> {
        let rows = if self.extras == 0 { 0 } else { self.len() };
        (0..rows).filter_map(|at| Some((self.uids()[at], self.extra(at)?.uidl.as_deref()?)))
    }

    /// The name of the row's file before its letters.
    pub fn stem(&self, at: usize) -> String {
        let (saved, size) = (self.saved(at), self.size(at));
        maildir::stem(self.uids()[at], self.cold(at), self.extra(at), saved, size)
    }

    /// UIDs that were expunged, and when.
    pub fn vanished(&self) -> &Vanished {
        &self.vanished
    }

    /// What vanished up to `floor` is not known.
    pub fn forget_vanished(&mut self, floor: ModSeq) {
        self.vanished.forget_below(floor);
    }

    pub fn saved(&self, at: usize) -> UnixMs {
        let (chunk, n) = self.rows.chunk(at);
        chunk.saved[n]
    }

    /// RFC822.SIZE: octets as a client sees them, every line end CRLF.
    pub fn size(&self, at: usize) -> u64 {
        let (chunk, n) = self.rows.chunk(at);
        chunk.sizes[n]
    }

    /// Octets as stored, with a prefix wherever it stands.
    pub fn stored_size(&self, at: usize) -> u64 {
        let bare = u64::from(self.cold(at).bare_newlines);
        self.size(at).saturating_sub(bare)
    }

    /// Octets of the body as stored, without any prefix.
    pub fn body_bytes(&self, at: usize) -> u64 {
        let prefix = u64::from(self.cold(at).prefix_bytes);
        self.stored_size(at).saturating_sub(prefix)
    }

    pub fn date(&self, at: usize) -> UnixMs {
        let (chunk, n) = self.rows.chunk(at);
        chunk.dates[n]
    }

    pub fn keywords(&self, at: usize) -> impl Iterator<Item = &Arc<str>> + '_ {
        let ids = self.keyword_ids(at);
        ids.iter().map(|&id| &self.keywords.names[id as usize])
    }

    /// Ids of the row's keywords, ascending.
    pub fn keyword_ids(&self, at: usize) -> &[u32] {
        let (chunk, n) = self.rows.chunk(at);
        &self.keywords.sets[chunk.sets[n] as usize]
    }

    pub(super) fn has_set(&self, set: u32) -> bool {
        (set as usize) < self.keywords.sets.len()
    }

    pub fn row(&self, at: usize) -> Row {
        let (chunk, n) = self.rows.chunk(at);
        Row {
            uid: self.rows.uids[at],
            flags: chunk.flags[n],
            keywords: self.keywords(at).cloned().collect(),
            modseq: chunk.modseqs[n],
            internal_date: chunk.dates[n],
            saved: chunk.saved[n],
            size: chunk.sizes[n],
            prefix_bytes: chunk.cold[n].prefix_bytes,
            email_id: chunk.cold[n].email_id,
        }
    }

    pub fn scan_row(&self, at: usize) -> ScanRow {
        let (chunk, n) = self.rows.chunk(at);
        ScanRow {
            uid: self.rows.uids[at],
            flags: chunk.flags[n],
            has_keywords: chunk.sets[n] != 0,
            modseq: chunk.modseqs[n],
            internal_date: chunk.dates[n],
            saved: chunk.saved[n],
            size: chunk.sizes[n],
        }
    }

    pub fn weight(&self, at: usize) -> Weight {
        let (chunk, n) = self.rows.chunk(at);
        let flags = chunk.flags[n];
        Weight {
            messages: 1,
            unseen: u32::from(!flags.contains(Flags::SEEN)),
            deleted: u32::from(flags.contains(Flags::DELETED)),
            size: chunk.sizes[n],
            checksum: row_sum(
                self.rows.uids[at],
                flags,
                self.keywords(at).map(|k| &**k),
                chunk.modseqs[n],
                &chunk.cold[n].email_id,
            ),
        }
    }

    /// Adds a row; UIDs only rise. True when it brought a keyword that is new here.
    pub fn add(&mut self, row: &NewRow) -> bool {
        assert!(
            self.uids().last().is_none_or(|&last| last < row.uid),
            "UIDs rise"
        );
        let known = self.keywords.names.len();
        let set = Keywords::set(&mut self.keywords, &row.keywords);
        self.push(row.uid, RowData::of(row, set));
        known != self.keywords.names.len()
    }

    pub(super) fn push(&mut self, uid: Uid, row: RowData) {
        self.extras += usize::from(row.extra.is_some());
        self.rows.push(uid, row);
        self.total.add(self.weight(self.len() - 1));
        self.shared = None;
    }

    /// Sets flags and keywords of a row. True when it brought a keyword that is new here.
    pub fn set(&mut self, at: usize, flags: Flags, keywords: &[String], modseq: ModSeq) -> bool {
        let known = self.keywords.names.len();
        self.total.sub(self.weight(at));
        let set = Keywords::set(&mut self.keywords, keywords);
        let (chunk, n) = self.rows.chunk_mut(at);
        chunk.flags[n] = flags;
        chunk.sets[n] = set;
        chunk.modseqs[n] = modseq;
        self.total.add(self.weight(at));
        known != self.keywords.names.len()
    }

    pub fn set_letters(&mut self, at: usize, letters: u32) {
        let (chunk, n) = self.rows.chunk_mut(at);
        chunk.cold[n].letters = letters;
    }

    /// Where the row's digest is from now on.
    pub fn set_cached(&mut self, at: usize, cache: CacheRef, email_id: [u8; 16]) {
        self.total.sub(self.weight(at));
        let (chunk, n) = self.rows.chunk_mut(at);
        chunk.cold[n].cache = cache;
        chunk.cold[n].email_id = email_id;
        self.total.add(self.weight(at));
    }

    /// Everything of a row.
    pub fn new_row(&self, at: usize) -> NewRow {
        let (chunk, n) = self.rows.chunk(at);
        NewRow {
            uid: self.rows.uids[at],
            flags: chunk.flags[n],
            keywords: self.keywords(at).map(|k| k.to_string()).collect(),
            modseq: chunk.modseqs[n],
            internal_date: chunk.dates[n],
            saved: chunk.saved[n],
            size: chunk.sizes[n],
            cold: chunk.cold[n],
            extra: self.extra(at).cloned().map(Box::new),
        }
    }

    /// An empty one that knows these keywords, in this order; what vanished up to `floor` is not
    /// known.
    pub fn with_keywords(names: &[String], floor: ModSeq) -> Index {
        let mut index = Index::of(Keywords::named(names), Vanished::default());
        index.forget_vanished(floor);
        index
    }

    /// Removes rows by position, ascending and each once, at `modseq`. Entries of version 1 of the
    /// log have none.
    pub fn remove(&mut self, positions: &[usize], modseq: Option<ModSeq>) {
        if !positions.is_sorted_by(|one, two| one < two) {
            let sorted: BTreeSet<usize> = positions.iter().copied().collect();
            return self.remove(&Vec::from_iter(sorted), modseq);
        }
        for &at in positions {
            self.total.sub(self.weight(at));
            self.extras -= usize::from(self.extra(at).is_some());
        }
        let gone = positions.iter().map(|&at| self.rows.uids[at]);
        match modseq {
            Some(modseq) => self.vanished.add(gone, modseq),
            None if positions.is_empty() => {}
            None => {
                let highest = (0..self.len()).map(|at| self.modseq(at)).max();
                self.vanished.forget_below(highest.unwrap_or(ModSeq(0)));
            }
        }
        self.rows.remove(positions);
        self.shared = None;
    }

    /// Roughly what this takes in memory.
    pub fn bytes(&self) -> usize {
        let extras = self.extras * (size_of::<Extra>() + EXTRA_BYTES);
        let shared = self.shared.as_ref().map_or(0, |uids| uids.len() * 4);
        self.rows.bytes() + extras + shared + self.vanished.bytes() + 512
    }

    /// The index as it is now. Costs some octets a row, whatever is done with it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            rows: self.rows.clone(),
            extras: self.extras,
            vanished: self.vanished.clone(),
            keywords: self.keywords.clone(),
        }
    }

    /// The index as it was.
    pub fn restore(snapshot: Snapshot) -> Self {
        let mut index = Index {
            rows: snapshot.rows,
            extras: snapshot.extras,
            vanished: snapshot.vanished,
            keywords: snapshot.keywords,
            ..Index::default()
        };
        for at in 0..index.len() {
            index.total.add(index.weight(at));
        }
        index
    }

    /// The whole snapshot file.
    #[cfg(test)]
    pub fn encode(&self) -> Vec<u8> {
        self.snapshot().pieces().flatten().collect()
    }

    /// Reads a snapshot file.
    pub fn decode(bytes: &[u8]) -> Result<Index, Malformed> {
        snapshot::decode(bytes)
    }
}

impl Cold {
    /// Encoded length.
    pub const BYTES: usize = 2 + 8 + 2 + 8 + 4 + 4 + 4 + 4 + 16;

    pub fn encode(&self, w: &mut Writer) {
        w.u16(self.name.partition.0);
        w.u64(self.name.pseq.0);
        w.u16(self.name.ordinal);
        w.u64(self.cache.at);
        w.u32(self.cache.len);
        let named = if self.uid_in_name { UID_IN_NAME } else { 0 };
        w.u32(self.prefix_bytes & !UID_IN_NAME | named);
        w.u32(self.bare_newlines);
        w.u32(self.letters);
        w.out.extend_from_slice(&self.email_id);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Cold, Malformed> {
        let name = NameId {
            partition: PartitionId(r.u16()?),
            pseq: PSeq(r.u64()?),
            ordinal: r.u16()?,
        };
        let cache = CacheRef {
            at: r.u64()?,
            len: r.u32()?,
        };
        let prefix = r.u32()?;
        Ok(Cold {
            name,
            cache,
            prefix_bytes: prefix & !UID_IN_NAME,
            bare_newlines: r.u32()?,
            letters: r.u32()?,
            email_id: r.array()?,
            uid_in_name: prefix & UID_IN_NAME != 0,
        })
    }
}
