//! Octets of a stored message on their way into a response.

use std::ops::Range;

use super::super::super::client::Client;
use super::super::Cut;
use super::broken;
use crate::runtime::yield_if_needed;
use crate::store::{BodyReader, StoreError};
use crate::wire::imap::{Partial, literal_head};
use crate::wire::mime::CrlfWriter;

/// Read at once.
const PIECE_BYTES: u64 = 64 << 10;
/// What stands for NUL, which no literal may hold (RFC 9051 9, CHAR8).
const NOT_NUL: u8 = 0x80;

/// Where a section lies in the message as stored, and how long it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub stored: Range<u64>,
    /// With every line end as CRLF.
    pub wire_bytes: u64,
}

/// `<first.bytes>` of something `bytes` long, as a range within it.
#[must_use]
pub fn window(partial: Option<Partial>, bytes: u64) -> Range<u64> {
    match partial {
        None => 0..bytes,
        Some(Partial {
            first,
            bytes: wanted,
        }) => {
            let first = u64::from(first).min(bytes);
            first..bytes.min(first + u64::from(wanted))
        }
    }
}

/// Appends bytes that are in memory, as a literal.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], partial: Option<Partial>) {
    let window = window(partial, bytes.len() as u64);
    if window.is_empty() {
        return out.extend_from_slice(b"\"\"");
    }
    literal_head(out, window.end - window.start);
    let from = out.len();
    out.extend_from_slice(&bytes[window.start as usize..window.end as usize]);
    without_nul(&mut out[from..]);
}

/// Sends a section as a literal, in pieces. An error before its first octet is given back, so that
/// the response can be taken back.
pub async fn stream(
    client: &mut Client,
    reader: &BodyReader,
    extent: &Extent,
    partial: Option<Partial>,
) -> Result<Result<(), StoreError>, Cut> {
    let window = window(partial, extent.wire_bytes);
    if window.is_empty() {
        client.out.extend_from_slice(b"\"\"");
        return Ok(Ok(()));
    }
    let is_crlf = extent.wire_bytes == extent.stored.end - extent.stored.start;
    let mut pieces = match is_crlf {
        true => {
            let start = extent.stored.start;
            Pieces::new(reader, start + window.start..start + window.end)
        }
        false => Pieces::new(reader, extent.stored.clone()),
    };
    let mut piece = match pieces.next().await {
        Ok(piece) => piece,
        Err(error) => return Ok(Err(error)),
    };
    literal_head(&mut client.out, window.end - window.start);
    let mut left = window.end - window.start;
    let mut skip = if is_crlf { 0 } else { window.start };
    let mut writer = CrlfWriter::default();
    let mut converted = Vec::new();
    while let Some(bytes) = piece {
        let bytes = match is_crlf {
            true => &bytes,
            false => {
                converted.clear();
                writer.feed(&bytes, &mut converted);
                &converted
            }
        };
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let bytes = &bytes[skipped as usize..];
        let taken = left.min(bytes.len() as u64);
        left -= taken;
        let from = client.out.len();
        client.out.extend_from_slice(&bytes[..taken as usize]);
        without_nul(&mut client.out[from..]);
        if left == 0 {
            return Ok(Ok(()));
        }
        client.flush_batch().await?;
        yield_if_needed().await;
        piece = pieces.next().await.map_err(|_| broken())?;
    }
    // Less than was announced: nothing can be said any more.
    Err(broken())
}

fn without_nul(bytes: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memchr(0, &bytes[from..]) {
        bytes[from + at] = NOT_NUL;
        from += at + 1;
    }
}

/// A range of a message, read piece by piece.
pub struct Pieces<'a> {
    reader: &'a BodyReader,
    left: Range<u64>,
}

impl<'a> Pieces<'a> {
    #[must_use]
    pub fn new(reader: &'a BodyReader, range: Range<u64>) -> Self {
        Pieces {
            reader,
            left: range,
        }
    }

    /// `None` at the end. A message that is shorter than its digest says is damaged.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let end = self.left.end.min(self.left.start + PIECE_BYTES);
        let bytes = self.reader.read(self.left.start..end).await?;
        if bytes.is_empty() {
            return Err(StoreError::Expunged);
        }
        self.left.start += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// All of it at once, for headers.
    pub async fn whole(mut self, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        self.left.end = self.left.end.min(self.left.start + bytes_max);
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(partial: Option<(u32, u32)>, want: &str) {
        let partial = partial.map(|(first, bytes)| Partial { first, bytes });
        let mut out = Vec::new();
        write_bytes(&mut out, b"01234\x006789", partial);
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn partials() {
        check(None, "{10}\r\n01234\u{fffd}6789");
        check(Some((0, 3)), "{3}\r\n012");
        check(Some((8, 100)), "{2}\r\n89");
        check(Some((10, 1)), "\"\"");
        check(Some((u32::MAX, u32::MAX)), "\"\"");
    }
}
