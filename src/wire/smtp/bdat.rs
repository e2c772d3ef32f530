//! BDAT chunks (RFC 3030): counted bytes, no line discipline; a bare LF is data.

use std::ops::Range;

/// Takes the bytes of one chunk off a stream.
#[derive(Clone, Copy, Debug)]
pub struct BdatReader {
    left: u64,
}

impl BdatReader {
    /// A chunk of that many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        BdatReader { left: bytes }
    }

    /// The part of `input` (from its start) that belongs to the chunk.
    pub fn feed(&mut self, input: &[u8]) -> Range<usize> {
        let taken = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(input.len());
        self.left -= taken as u64;
        0..taken
    }

    /// True once the chunk is whole.
    #[must_use]
    pub fn done(&self) -> bool {
        self.left == 0
    }

    /// Bytes still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
}
