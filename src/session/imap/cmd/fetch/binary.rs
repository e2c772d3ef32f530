//! BINARY[...] and BINARY.SIZE[...] (RFC 3516 4.2, 4.3): parts with their transfer encoding undone.
//! The size goes first, so a part is decoded twice and never held.

use std::ops::Range;

use super::super::super::answer::Answer;
use super::super::super::client::Client;
use super::super::Cut;
use super::body::{Pieces, window};
use super::plan::BinaryWanted;
use super::section::{extent, prefix_bytes};
use super::{Source, Trouble, broken};
use crate::runtime::yield_if_needed;
use crate::store::{BodyReader, StoreError};
use crate::wire::imap::{literal_head, literal8_head, number};
use crate::wire::mime::{CrlfWriter, DigestView, Encoding, SectionKind, TransferDecoder};

/// A part and how it is encoded.
struct Part<'a> {
    reader: &'a BodyReader,
    range: Range<u64>,
    encoding: Encoding,
}

/// What the decoded part is like.
#[derive(Default)]
struct Measure {
    bytes: u64,
    has_nul: bool,
}

pub async fn write(
    client: &mut Client,
    source: &Source<'_>,
    wanted: &BinaryWanted<'_>,
    trouble: &mut Trouble,
) -> Result<(), Cut> {
    client.out.extend_from_slice(&wanted.name);
    client.out.push(b' ');
    let nothing: &[u8] = if wanted.size_only { b"0" } else { b"NIL" };
    let part = source
        .digest
        .as_ref()
        .and_then(|digest| find(source, digest, &wanted.path));
    let Some(part) = part else {
        client.out.extend_from_slice(nothing);
        return Ok(());
    };
    if part.encoding == Encoding::Unknown {
        let why = "the encoding of this part is not known";
        trouble.answer = Some(Answer::no("UNKNOWN-CTE", why));
        client.out.extend_from_slice(nothing);
        return Ok(());
    }
    let measure = match measure(&part).await {
        Ok(measure) => measure,
        Err(error) => {
            trouble.unreadable = Some(error);
            return Ok(());
        }
    };
    if wanted.size_only {
        number(&mut client.out, measure.bytes);
        return Ok(());
    }
    let window = window(wanted.partial, measure.bytes);
    match measure.has_nul {
        true => literal8_head(&mut client.out, window.end - window.start),
        false => literal_head(&mut client.out, window.end - window.start),
    }
    send(client, &part, window).await
}

fn find<'a>(source: &'a Source<'_>, digest: &DigestView<'_>, path: &[u32]) -> Option<Part<'a>> {
    let extent = extent(digest, prefix_bytes(source), path, SectionKind::All)?;
    let encoding = match path {
        // The message itself has no encoding: its parts do.
        [] => Encoding::Identity,
        path => digest.part(path)?.encoding,
    };
    Some(Part {
        reader: source.reader.as_ref()?,
        range: extent.stored,
        encoding,
    })
}

async fn measure(part: &Part<'_>) -> Result<Measure, StoreError> {
    let mut measure = Measure::default();
    let mut decoded = Decoded::new(part);
    while let Some(bytes) = decoded.next().await? {
        measure.bytes += bytes.len() as u64;
        measure.has_nul |= memchr::memchr(0, bytes).is_some();
        yield_if_needed().await;
    }
    Ok(measure)
}

async fn send(client: &mut Client, part: &Part<'_>, window: Range<u64>) -> Result<(), Cut> {
    let mut decoded = Decoded::new(part);
    let (mut at, mut left) = (0, window.end - window.start);
    while left > 0 {
        let bytes = decoded
            .next()
            .await
            .map_err(|_| broken())?
            .ok_or_else(broken)?;
        let skip = window.start.saturating_sub(at).min(bytes.len() as u64);
        at += bytes.len() as u64;
        let bytes = &bytes[skip as usize..];
        let taken = left.min(bytes.len() as u64);
        left -= taken;
        client.out.extend_from_slice(&bytes[..taken as usize]);
        client.flush_batch().await?;
        yield_if_needed().await;
    }
    Ok(())
}

/// A part, decoded piece by piece.
struct Decoded<'a> {
    pieces: Pieces<'a>,
    decoder: TransferDecoder,
    /// Text that is not encoded has CRLF line ends on the wire.
    lines: Option<CrlfWriter>,
    bytes: Vec<u8>,
    ended: bool,
}

impl<'a> Decoded<'a> {
    fn new(part: &Part<'a>) -> Self {
        Decoded {
            pieces: Pieces::new(part.reader, part.range.clone()),
            decoder: TransferDecoder::new(part.encoding),
            lines: (part.encoding == Encoding::Identity).then(CrlfWriter::default),
            bytes: Vec::new(),
            ended: false,
        }
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, StoreError> {
        self.bytes.clear();
        if self.ended {
            return Ok(None);
        }
        match (self.pieces.next().await?, &mut self.lines) {
            (Some(piece), Some(lines)) => lines.feed(&piece, &mut self.bytes),
            (Some(piece), None) => self.decoder.feed(&piece, &mut self.bytes),
            (None, _) => {
                self.ended = true;
                self.decoder.finish(&mut self.bytes);
            }
        }
        Ok(Some(&self.bytes))
    }
}
