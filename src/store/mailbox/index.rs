//! The rows of one mailbox in memory, a column each, and their snapshot on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::extra::Extra;
use super::vanished::Vanished;
use crate::base::{ModSeq, PSeq, PartitionId, Uid, UnixMs, crc32c};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::{Flags, Row, ScanRow, maildir};

/// Keywords with a letter of their own in Maildir file names (Dovecot's `a` to `z`).
pub(in crate::store) const KEYWORD_LETTERS_MAX: usize = 26;

const MAGIC: &[u8; 8] = b"PALIDX02";
/// Without extras and vanished UIDs.
const MAGIC_1: &[u8; 8] = b"PALIDX01";

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
    uids: Vec<Uid>,
    flags: Vec<Flags>,
    sets: Vec<u32>,
    modseqs: Vec<ModSeq>,
    dates: Vec<UnixMs>,
    saved: Vec<UnixMs>,
    sizes: Vec<u64>,
    cold: Vec<Cold>,
    /// What few rows have.
    extras: BTreeMap<Uid, Box<Extra>>,
    vanished: Vanished,
    keywords: Keywords,
    /// The UIDs as views share them; rebuilt when asked for after a change.
    shared: Option<Arc<[Uid]>>,
}

/// Keyword names in order of first use, and the sets of them that rows have.
struct Keywords {
    names: Vec<Arc<str>>,
    by_name: HashMap<String, u32>,
    sets: Vec<Box<[u32]>>,
    by_set: HashMap<Box<[u32]>, u32>,
}

impl Default for Keywords {
    fn default() -> Self {
        let none: Box<[u32]> = Box::default();
        Keywords {
            names: Vec::new(),
            by_name: HashMap::new(),
            sets: vec![none.clone()],
            by_set: HashMap::from_iter([(none, 0)]),
        }
    }
}

impl Keywords {
    fn name(&mut self, name: &str) -> u32 {
        let lower = name.to_ascii_lowercase();
        if let Some(&id) = self.by_name.get(&lower) {
            return id;
        }
        let id = self.names.len() as u32;
        self.names.push(Arc::from(name));
        self.by_name.insert(lower, id);
        id
    }

    fn set(&mut self, names: &[String]) -> u32 {
        if names.is_empty() {
            return 0;
        }
        let mut ids: Vec<u32> = names.iter().map(|n| self.name(n)).collect();
        ids.sort_unstable();
        ids.dedup();
        let ids = ids.into_boxed_slice();
        if let Some(&set) = self.by_set.get(&ids) {
            return set;
        }
        let set = self.sets.len() as u32;
        self.sets.push(ids.clone());
        self.by_set.insert(ids, set);
        set
    }
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
    pub fn len(&self) -> usize {
        self.uids.len()
    }

    pub fn uids(&self) -> &[Uid] {
        &self.uids
    }

    pub fn position(&self, uid: Uid) -> Option<usize> {
        // Most look-ups are near the end or exact by position: the dense case costs nothing.
        self.uids.binary_search(&uid).ok()
    }

    /// The UIDs for views to share.
    pub fn shared(&mut self) -> Arc<[Uid]> {
        let uids = &self.uids;
        self.shared
            .get_or_insert_with(|| Arc::from(uids.as_slice()))
            .clone()
    }

    pub fn keyword_names(&self) -> &[Arc<str>] {
        &self.keywords.names
    }

    pub fn flags(&self, at: usize) -> Flags {
        self.flags[at]
    }

    pub fn modseq(&self, at: usize) -> ModSeq {
        self.modseqs[at]
    }

    pub fn cold(&self, at: usize) -> &Cold {
        &self.cold[at]
    }

    pub fn extra(&self, at: usize) -> Option<&Extra> {
        if self.extras.is_empty() {
            return None;
        }
        self.extras.get(&self.uids[at]).map(|extra| &**extra)
    }

    /// What POP3 clients know messages by, where it is not ours.
    pub fn uidls(&self) -> impl Iterator<Item = (Uid, &str)> {
        let extras = self.extras.iter();
        extras.filter_map(|(uid, extra)| Some((*uid, extra.uidl.as_deref()?)))
    }

    /// The name of the row's file before its letters.
    pub fn stem(&self, at: usize) -> String {
        let (saved, size) = (self.saved[at], self.sizes[at]);
        maildir::stem(self.uids[at], &self.cold[at], self.extra(at), saved, size)
    }

    /// UIDs that were expunged, and when.
    pub fn vanished(&self) -> &Vanished {
        &self.vanished
    }

    /// RFC822.SIZE: octets as a client sees them, every line end CRLF.
    pub fn size(&self, at: usize) -> u64 {
        self.sizes[at]
    }

    /// Octets as stored, with a prefix wherever it stands.
    pub fn stored_size(&self, at: usize) -> u64 {
        self.sizes[at].saturating_sub(u64::from(self.cold[at].bare_newlines))
    }

    /// Octets of the body as stored, without any prefix.
    pub fn body_bytes(&self, at: usize) -> u64 {
        let prefix = u64::from(self.cold[at].prefix_bytes);
        self.stored_size(at).saturating_sub(prefix)
    }

    pub fn date(&self, at: usize) -> UnixMs {
        self.dates[at]
    }

    pub fn keywords(&self, at: usize) -> impl Iterator<Item = &Arc<str>> + '_ {
        let set = &self.keywords.sets[self.sets[at] as usize];
        set.iter().map(|&id| &self.keywords.names[id as usize])
    }

    /// Ids of the row's keywords, ascending.
    pub fn keyword_ids(&self, at: usize) -> &[u32] {
        &self.keywords.sets[self.sets[at] as usize]
    }

    pub fn row(&self, at: usize) -> Row {
        Row {
            uid: self.uids[at],
            flags: self.flags[at],
            keywords: self.keywords(at).cloned().collect(),
            modseq: self.modseqs[at],
            internal_date: self.dates[at],
            saved: self.saved[at],
            size: self.sizes[at],
            prefix_bytes: self.cold[at].prefix_bytes,
            email_id: self.cold[at].email_id,
        }
    }

    pub fn scan_row(&self, at: usize) -> ScanRow {
        ScanRow {
            uid: self.uids[at],
            flags: self.flags[at],
            has_keywords: self.sets[at] != 0,
            modseq: self.modseqs[at],
            internal_date: self.dates[at],
            saved: self.saved[at],
            size: self.sizes[at],
        }
    }

    pub fn weight(&self, at: usize) -> Weight {
        Weight {
            messages: 1,
            unseen: u32::from(!self.flags[at].contains(Flags::SEEN)),
            deleted: u32::from(self.flags[at].contains(Flags::DELETED)),
            size: self.sizes[at],
            checksum: row_sum(
                self.uids[at],
                self.flags[at],
                self.keywords(at).map(|k| &**k),
                self.modseqs[at],
                &self.cold[at].email_id,
            ),
        }
    }

    /// Adds a row; UIDs only rise. True when it brought a keyword that is new here.
    pub fn add(&mut self, row: &NewRow) -> bool {
        assert!(
            self.uids.last().is_none_or(|&last| last < row.uid),
            "UIDs rise"
        );
        let known = self.keywords.names.len();
        self.uids.push(row.uid);
        self.flags.push(row.flags);
        let set = self.keywords.set(&row.keywords);
        self.sets.push(set);
        self.modseqs.push(row.modseq);
        self.dates.push(row.internal_date);
        self.saved.push(row.saved);
        self.sizes.push(row.size);
        self.cold.push(row.cold);
        if let Some(extra) = &row.extra {
            self.extras.insert(row.uid, extra.clone());
        }
        self.shared = None;
        known != self.keywords.names.len()
    }

    /// Sets flags and keywords of a row. True when it brought a keyword that is new here.
    pub fn set(&mut self, at: usize, flags: Flags, keywords: &[String], modseq: ModSeq) -> bool {
        let known = self.keywords.names.len();
        self.flags[at] = flags;
        self.sets[at] = self.keywords.set(keywords);
        self.modseqs[at] = modseq;
        known != self.keywords.names.len()
    }

    pub fn set_letters(&mut self, at: usize, letters: u32) {
        self.cold[at].letters = letters;
    }

    /// Where the row's digest is from now on.
    pub fn set_cached(&mut self, at: usize, cache: CacheRef, email_id: [u8; 16]) {
        self.cold[at].cache = cache;
        self.cold[at].email_id = email_id;
    }

    /// Everything of a row.
    pub fn new_row(&self, at: usize) -> NewRow {
        NewRow {
            uid: self.uids[at],
            flags: self.flags[at],
            keywords: self.keywords(at).map(|k| k.to_string()).collect(),
            modseq: self.modseqs[at],
            internal_date: self.dates[at],
            saved: self.saved[at],
            size: self.sizes[at],
            cold: self.cold[at],
            extra: self.extra(at).cloned().map(Box::new),
        }
    }

    /// An empty one that knows these keywords, in this order; what vanished up to `floor` is not
    /// known.
    pub fn with_keywords(names: &[String], floor: ModSeq) -> Index {
        let mut index = Index::default();
        names.iter().for_each(|name| {
            index.keywords.name(name);
        });
        index.vanished.forget_below(floor);
        index
    }

    /// What vanished up to `floor` is not known.
    pub fn forget_vanished(&mut self, floor: ModSeq) {
        self.vanished.forget_below(floor);
    }

    /// Removes rows by ascending position, at `modseq`. Entries of version 1 of the log have none.
    pub fn remove(&mut self, positions: &[usize], modseq: Option<ModSeq>) {
        for &at in positions {
            self.extras.remove(&self.uids[at]);
        }
        let gone = positions.iter().map(|&at| self.uids[at]);
        match modseq {
            Some(modseq) => self.vanished.add(gone, modseq),
            None if positions.is_empty() => {}
            None => {
                let highest = self.modseqs.iter().max();
                self.vanished
                    .forget_below(highest.copied().unwrap_or(ModSeq(0)));
            }
        }
        fn cut<T: Copy>(column: &mut Vec<T>, positions: &[usize]) {
            let mut gone = positions.iter().peekable();
            let mut at = 0;
            column.retain(|_| {
                let keep = gone.next_if(|&&p| p == at).is_none();
                at += 1;
                keep
            });
        }
        cut(&mut self.uids, positions);
        cut(&mut self.flags, positions);
        cut(&mut self.sets, positions);
        cut(&mut self.modseqs, positions);
        cut(&mut self.dates, positions);
        cut(&mut self.saved, positions);
        cut(&mut self.sizes, positions);
        cut(&mut self.cold, positions);
        self.shared = None;
    }

    /// Roughly what this takes in memory.
    pub fn bytes(&self) -> usize {
        let columns = self.uids.capacity() * (4 + 1 + 4 + 8 + 8 + 8 + 8 + size_of::<Cold>());
        let extras = self.extras.len() * (size_of::<Extra>() + EXTRA_BYTES);
        columns + extras + self.vanished.bytes() + 512
    }

    /// The snapshot file: `docs/STORE.md`, "Index snapshot".
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.out.reserve(64 + self.len() * 96);
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
        w.count(self.len());
        self.uids.iter().for_each(|v| w.u32(v.0));
        self.flags.iter().for_each(|v| w.u8(v.0));
        self.sets.iter().for_each(|&v| w.u32(v));
        self.modseqs.iter().for_each(|v| w.u64(v.0));
        self.dates.iter().for_each(|v| w.i64(v.0));
        self.saved.iter().for_each(|v| w.i64(v.0));
        self.sizes.iter().for_each(|&v| w.u64(v));
        self.cold.iter().for_each(|v| v.encode(&mut w));
        w.count(self.extras.len());
        for (uid, extra) in &self.extras {
            w.u32(uid.0);
            extra.encode(&mut w);
        }
        self.vanished.encode(&mut w);
        let crc = crc32c(&w.out);
        w.u32(crc.0);
        w.out
    }

    pub fn decode(bytes: &[u8]) -> Result<Index, Malformed> {
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
        let mut index = Index::default();
        for _ in 0..r.count(4)? {
            let name = r.str()?;
            index.keywords.name(name);
        }
        let names = index.keywords.names.len() as u32;
        let sets = r.count(4)?;
        index.keywords.sets.clear();
        index.keywords.by_set.clear();
        for n in 0..sets {
            let len = r.count(4)?;
            let set = (0..len)
                .map(|_| r.u32())
                .collect::<Result<Box<[u32]>, _>>()?;
            if set.iter().any(|&id| id >= names) {
                return Err(Malformed);
            }
            index.keywords.by_set.insert(set.clone(), n as u32);
            index.keywords.sets.push(set);
        }
        let n = r.count(4 + 1 + 4 + 8 * 4 + Cold::BYTES)?;
        index.uids = (0..n).map(|_| r.u32().map(Uid)).collect::<Result<_, _>>()?;
        index.flags = (0..n)
            .map(|_| r.u8().map(Flags))
            .collect::<Result<_, _>>()?;
        index.sets = (0..n).map(|_| r.u32()).collect::<Result<_, _>>()?;
        index.modseqs = (0..n)
            .map(|_| r.u64().map(ModSeq))
            .collect::<Result<_, _>>()?;
        index.dates = (0..n)
            .map(|_| r.i64().map(UnixMs))
            .collect::<Result<_, _>>()?;
        index.saved = (0..n)
            .map(|_| r.i64().map(UnixMs))
            .collect::<Result<_, _>>()?;
        index.sizes = (0..n).map(|_| r.u64()).collect::<Result<_, _>>()?;
        index.cold = (0..n)
            .map(|_| Cold::decode(&mut r))
            .collect::<Result<_, _>>()?;
        if magic == MAGIC {
            for _ in 0..r.count(5)? {
                index
                    .extras
                    .insert(Uid(r.u32()?), Box::new(Extra::decode(&mut r)?));
            }
            index.vanished = Vanished::decode(&mut r)?;
        } else {
            // What vanished before version 2 is not known.
            let highest = index.modseqs.iter().max();
            index
                .vanished
                .forget_below(highest.copied().unwrap_or(ModSeq(0)));
        }
        let rising = index.uids.windows(2).all(|w| w[0] < w[1]);
        if !r.is_empty() || !rising || index.sets.iter().any(|&s| s as usize >= sets) {
            return Err(Malformed);
        }
        Ok(index)
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
