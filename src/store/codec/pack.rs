//! Bodies made smaller for the journal: one zstd frame each.
//!
//! A frame is always shorter than its body, so the two lengths tell which of them stands there.
//! No sample is tried before: what does not shrink costs the compressor 5 us in 10 KB (text 28),
//! since it skips more and more of what repeats nothing. It runs on the shard: a record has its
//! place in the order when it is encoded.

use std::cell::RefCell;
use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use crate::base::INLINE_BODY_BYTES_MAX;
use crate::store::Packing;

/// A smaller body saves less than the file system's block that it comes in.
pub const PACKED_BYTES_MIN: usize = 2 << 10;
/// A larger one is written little more than twice anyway, and packing text takes 2.5 us in 1 KB:
/// a fifth of what the delivery of 50 KB costs in all.
pub const PACKED_BYTES_MAX: usize = 16 << 10;
const _: () = assert!(PACKED_BYTES_MAX <= INLINE_BODY_BYTES_MAX);
/// A frame saves at least this part of its body.
const SAVED_PART_MIN: usize = 8;
const LEVEL: i32 = 1;
/// Tables of 32 KiB, which stay in the processor's cache from one body to the next, and matches
/// long enough to be worth their cost: a quarter less time than the level's own choice, for frames
/// that are 5 % longer.
const HASH_LOG: u32 = 13;
const MATCH_BYTES_MIN: u32 = 7;

/// Makes the frames of one journal; its tables are made once.
#[derive(Default)]
pub struct Packer {
    /// `None`: bodies stay as they are.
    compressor: Option<Compressor<'static>>,
    /// The frame made last, at its begin.
    frame: Vec<u8>,
}

impl Packer {
    pub fn new(packing: Packing) -> Packer {
        let compressor = match packing {
            Packing::Plain => None,
            // Without its tables there are no frames, which is never wrong.
            Packing::Zstd => compressor().ok(),
        };
        Packer {
            compressor,
            frame: Vec::new(),
        }
    }

    /// The body as a frame, where that is worth it.
    pub fn pack(&mut self, body: &[u8]) -> Option<&[u8]> {
        let compressor = self.compressor.as_mut()?;
        if !(PACKED_BYTES_MIN..=PACKED_BYTES_MAX).contains(&body.len()) {
            return None;
        }
        let most = body.len() - body.len() / SAVED_PART_MIN;
        if self.frame.len() < most {
            self.frame.resize(most, 0);
        }
        // It fails where the frame does not fit.
        let packed = compressor.compress_to_buffer(body, &mut self.frame[..most]);
        packed.ok().map(|len| &self.frame[..len])
    }
}

fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::HashLog(HASH_LOG))?;
    compressor.set_parameter(CParameter::MinMatch(MATCH_BYTES_MIN))?;
    Ok(compressor)
}

/// Whether the bytes may be the frame of a body of `size` octets: one frame, that says so itself.
pub(super) fn is_frame_of(bytes: &[u8], size: u64) -> bool {
    size <= INLINE_BODY_BYTES_MAX as u64
        && (bytes.len() as u64) < size
        && matches!(zstd_safe::get_frame_content_size(bytes), Ok(Some(says)) if says == size)
        && zstd_safe::find_frame_compressed_size(bytes) == Ok(bytes.len())
}

thread_local! {
    /// Whatever thread reads a body: a shard's, or one of the pool while the journal is replayed.
    static DECOMPRESSOR: RefCell<Decompressor<'static>> = RefCell::default();
}

/// The body of a frame, always `size` octets: what a damaged frame does not tell is blank, as a
/// damaged body has what the disk makes of it. Its checksum is the caller's to compare.
pub fn unpack(frame: &[u8], size: usize) -> Vec<u8> {
    let mut body = vec![b' '; size];
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if let Err(error) = decompressor.decompress_to_buffer(frame, body.as_mut_slice()) {
            tracing::debug!(%error, "a packed body is damaged");
        }
    });
    body
}

/// The part of a body that `range` is, cut at its end.
pub fn unpack_part(frame: &[u8], size: usize, range: Range<u64>) -> Vec<u8> {
    let mut body = unpack(frame, size);
    let start = range.start.min(size as u64) as usize;
    body.truncate(range.end.clamp(start as u64, size as u64) as usize);
    body.drain(..start);
    body
}
