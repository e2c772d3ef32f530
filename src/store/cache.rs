//! Entries of an account's cache file: a digest each, that says whose it is and whether it is whole.
//!
//! `PALC`, u32 octets of the digest, u32 CRC32C of what follows, u16 partition, u64 pseq, u16 op
//! (the placement that brought it), 16 octets email id, the digest. Version 1 has bare digests; a
//! file may hold both.
//!
//! Places count on for ever, and none is given twice. A file holds those from its begin on; while
//! entries that are still needed move out of the first one (`compact`), there are two.

mod compact;
mod read;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashMap;
use memchr::memmem;

use super::bytes::{Malformed, Reader, Writer};
use super::mailbox::{CacheRef, NameId, align};
use super::maildir::Layout;
use crate::base::{AccountId, PSeq, PartitionId, crc32c};
use crate::wire::mime::DigestView;

pub(super) use compact::begin;
#[cfg(test)]
pub(super) use compact::pass;
pub(super) use read::{Wanted, read};

const MAGIC: &[u8; 4] = b"PALC";
const HEAD_BYTES: usize = 4 + 4 + 4 + ID_BYTES;
const ID_BYTES: usize = 2 + 8 + 2 + 16;

/// What whole entries say: whose, where, and the message's id.
pub(super) type Known = HashMap<NameId, (CacheRef, [u8; 16])>;

/// No digest has this place.
pub(super) const NOT_CACHED: CacheRef = CacheRef { at: 0, len: 0 };

/// Where an account's entries are, and those that are applied but not yet written.
#[derive(Default)]
pub(super) struct Cache {
    /// The next entry's place.
    pub end: u64,
    /// Octets that no row names, of those from `first` on; a copy's row counts as if it had an entry
    /// of its own.
    pub dead: i64,
    /// Where the first file begins.
    pub first: u64,
    /// Where the second one does, while what is needed of the first moves there.
    pub second: Option<u64>,
    /// A row came that names the first file although there is a second.
    pub has_strays: bool,
    pub waiting: VecDeque<(u64, Arc<[u8]>)>,
}

impl Cache {
    /// Gives a digest its place.
    pub fn push(&mut self, name: NameId, email_id: &[u8; 16], digest: &[u8]) -> CacheRef {
        let entry = entry(name, email_id, digest);
        let (at, len) = (self.end, entry.len() as u32);
        self.end += u64::from(len);
        self.waiting.push_back((at, entry));
        CacheRef { at, len }
    }

    /// An entry that is not in a file yet.
    pub fn waiting_at(&self, at: u64) -> Option<Arc<[u8]>> {
        let n = self.waiting.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        Some(self.waiting[n].1.clone())
    }

    /// A row names this place no more.
    pub fn bury(&mut self, len: u32) {
        self.dead = self.dead.saturating_add(len.into());
    }

    /// A copy of a row names the same place.
    pub fn share(&mut self, cache: CacheRef) {
        self.dead = self.dead.saturating_sub(cache.len.into());
        self.has_strays |= cache.len > 0 && self.second.is_some_and(|second| cache.at < second);
    }

    /// A mailbox went with `messages` of the `all` that there were: about that part is dead.
    pub fn bury_share(&mut self, messages: u64, all: u64) {
        let share = u128::from(self.used()) * u128::from(messages) / u128::from(all.max(1));
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        self.dead = self.dead.saturating_add(share);
    }

    /// What comes after a checkpoint leaves the sectors alone that it makes durable.
    pub fn seal(&mut self) {
        let end = align(self.end);
        self.bury((end - self.end) as u32);
        self.end = end;
    }

    /// Octets of all places, in use or not.
    pub fn used(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Where the files begin.
    pub fn begins(&self) -> impl Iterator<Item = u64> + use<> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The begin of the file with this place.
    pub fn begin_of(&self, at: u64) -> u64 {
        match self.second {
            Some(second) if at >= second => second,
            _ => self.first,
        }
    }

    /// The files that there should be.
    pub fn files(
        &self,
        layout: &Layout,
        partition: PartitionId,
        account: AccountId,
    ) -> impl Iterator<Item = PathBuf> {
        self.begins()
            .map(move |begin| layout.cache(partition, account, begin))
    }
}

/// A digest as the file has it.
pub(super) fn entry(name: NameId, email_id: &[u8; 16], digest: &[u8]) -> Arc<[u8]> {
    let mut w = Writer::default();
    w.out.reserve(HEAD_BYTES + digest.len());
    w.out.extend_from_slice(MAGIC);
    w.count(digest.len());
    w.u32(0);
    w.u16(name.partition.0);
    w.u64(name.pseq.0);
    w.u16(name.ordinal);
    w.out.extend_from_slice(email_id);
    w.out.extend_from_slice(digest);
    let crc = crc32c(&w.out[12..]).0.to_le_bytes();
    w.out[8..12].copy_from_slice(&crc);
    w.out.into()
}

/// The digest in an entry, if it is whole and of a message of `bytes` octets.
pub(super) fn digest(entry: &[u8], bytes: u64) -> Option<&[u8]> {
    let digest = match entry.starts_with(MAGIC) {
        true => parse(entry).ok().map(|found| found.digest)?,
        false => entry,
    };
    let view = DigestView::parse(digest).ok()?;
    (view.bytes() == bytes).then_some(digest)
}

struct Entry<'a> {
    name: NameId,
    email_id: [u8; 16],
    digest: &'a [u8],
}

/// The entry at the begin of `bytes`.
fn parse(bytes: &[u8]) -> Result<Entry<'_>, Malformed> {
    let mut r = Reader::new(bytes);
    if r.take(4)? != MAGIC {
        return Err(Malformed);
    }
    let len = r.u32()? as usize;
    let crc = r.u32()?;
    let summed = r.take(ID_BYTES.checked_add(len).ok_or(Malformed)?)?;
    if crc32c(summed).0 != crc {
        return Err(Malformed);
    }
    let mut r = Reader::new(summed);
    Ok(Entry {
        name: NameId {
            partition: PartitionId(r.u16()?),
            pseq: PSeq(r.u64()?),
            ordinal: r.u16()?,
        },
        email_id: r.array()?,
        digest: r.take(len)?,
    })
}

/// Notes the whole entries in `bytes`, which stand at `at` of the file. Answers how much of it is
/// done with: what follows is to be given again with more behind it, unless the file ends there.
pub(super) fn scan(bytes: &[u8], at: u64, is_end: bool, known: &mut Known) -> usize {
    let mut pos = 0;
    while let Some(found) = memmem::find(&bytes[pos..], MAGIC) {
        let here = pos + found;
        if let Ok(entry) = parse(&bytes[here..]) {
            let len = HEAD_BYTES + entry.digest.len();
            let cache = CacheRef {
                at: at + here as u64,
                len: len as u32,
            };
            known.entry(entry.name).or_insert((cache, entry.email_id));
            pos = here + len;
            continue;
        }
        let len = Reader::new(&bytes[(here + 4).min(bytes.len())..]).u32();
        let more = len.map_or(true, |len| {
            (len as usize) < ENTRY_BYTES_MAX && here + HEAD_BYTES + len as usize > bytes.len()
        });
        if more && !is_end {
            return here;
        }
        pos = here + MAGIC.len();
    }
    match is_end {
        true => bytes.len(),
        false => pos.max(bytes.len().saturating_sub(MAGIC.len() - 1)),
    }
}

/// No digest is longer.
pub(super) const ENTRY_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u64) -> NameId {
        NameId {
            partition: PartitionId(1),
            pseq: PSeq(n),
            ordinal: 0,
        }
    }

    #[test]
    fn entries_are_found_around_damage() {
        let mut file = b"\xd6 an entry of version 1".to_vec();
        for n in 1..=4u64 {
            file.resize(file.len().next_multiple_of(64), 0);
            file.extend_from_slice(&entry(name(n), &[n as u8; 16], &[b'd'; 90]));
        }
        let second = memmem::find_iter(&file, MAGIC).nth(1).expect("is there");
        file[second + HEAD_BYTES + 5] ^= 1;
        for piece in [50, 100, 133, 700] {
            let (mut known, mut at, mut end) = (Known::new(), 0, 0);
            while at < file.len() {
                end = (end.max(at) + piece).min(file.len());
                at += scan(&file[at..end], at as u64, end == file.len(), &mut known);
            }
            let mut found: Vec<u64> = known.keys().map(|name| name.pseq.0).collect();
            found.sort_unstable();
            assert_eq!(found, [1, 3, 4], "in pieces of {piece}");
            for (name, (cache, email_id)) in known {
                let range = cache.at as usize..cache.at as usize + cache.len as usize;
                let entry = parse(&file[range]).map_err(|_| "damaged").expect("whole");
                assert_eq!((entry.name, entry.email_id), (name, email_id));
            }
        }
    }
}
