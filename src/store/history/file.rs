//! Day files: compressed frames, each at a multiple of 512, so that no durable sector is written
//! again, and a damaged frame costs what it holds and nothing after it.

use super::entry::Entry;
use crate::base::crc32c;
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::mailbox::align;

/// Every frame begins with it, the file's first one too.
const MAGIC: &[u8; 8] = b"PALHIS01";
pub(super) const HEAD_BYTES: usize = 8 + 4 + 4 + 4;
/// A frame is one chunk, and one entry may exceed that by its keywords.
const RAW_BYTES_MAX: usize = 256 << 20;
const LEVEL: i32 = 1;

/// What is gathered as it goes to the file, padded.
pub(in crate::store) fn frame(raw: &[u8]) -> Vec<u8> {
    assert!(raw.len() <= RAW_BYTES_MAX, "entries are bounded");
    let packed = zstd::bulk::compress(raw, LEVEL).expect("memory can be compressed to memory");
    let mut w = Writer::default();
    w.out.extend_from_slice(MAGIC);
    w.count(raw.len());
    w.count(packed.len());
    w.u32(crc32c(&packed).0);
    w.out.extend_from_slice(&packed);
    let len = align(w.out.len() as u64) as usize;
    w.out.resize(len, 0);
    w.out
}

/// All entries of a file.
#[cfg(test)]
pub(in crate::store) fn entries_of(mut bytes: &[u8]) -> Vec<Entry> {
    let mut all = Vec::new();
    while let Found::Frame(head) = look(bytes) {
        all.extend(head.entries(bytes).expect("decodes"));
        bytes = &bytes[head.frame_bytes()..];
    }
    assert!(bytes.is_empty(), "nothing follows");
    all
}

/// What stands at a place of the file.
pub(super) enum Found {
    Frame(Head),
    Nothing,
}

/// A frame's head.
#[derive(Clone, Copy)]
pub(super) struct Head {
    raw: usize,
    packed: usize,
    crc: u32,
}

impl Head {
    /// With its padding.
    pub fn frame_bytes(&self) -> usize {
        align((HEAD_BYTES + self.packed) as u64) as usize
    }

    /// The entries of the frame in `bytes`, which begin with the head.
    pub fn entries(&self, bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
        let packed = bytes.get(HEAD_BYTES..HEAD_BYTES + self.packed);
        let packed = packed.ok_or(Malformed)?;
        if crc32c(packed).0 != self.crc {
            return Err(Malformed);
        }
        let raw = zstd::bulk::decompress(packed, self.raw).map_err(|_| Malformed)?;
        let mut r = Reader::new(&raw);
        let mut entries = Vec::new();
        while !r.is_empty() {
            entries.push(Entry::decode(&mut r)?);
        }
        Ok(entries)
    }
}

/// Looks at the beginning of a block.
pub(super) fn look(bytes: &[u8]) -> Found {
    let head = || {
        let mut r = Reader::new(bytes);
        if r.take(8)? != MAGIC {
            return Err(Malformed);
        }
        let (raw, packed, crc) = (r.u32()? as usize, r.u32()? as usize, r.u32()?);
        if raw > RAW_BYTES_MAX || packed > RAW_BYTES_MAX {
            return Err(Malformed);
        }
        Ok(Head { raw, packed, crc })
    };
    head().map_or(Found::Nothing, Found::Frame)
}
