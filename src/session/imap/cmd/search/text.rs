//! Slow looks: what only the message itself can answer. Bodies are decoded piece by piece.

use std::ops::Range;

use super::super::fetch::{Extent, Pieces, extent};
use super::plan::Slow;
use crate::base::HEADER_BYTES_MAX;
use crate::runtime::yield_if_needed;
use crate::store::{BodyReader, StoreError};
use crate::wire::mime::{
    DigestView, Fields, Needle, PartKind, PartView, SectionKind, TextDecoder, decode_words,
};

/// A message that is looked at.
pub struct Subject<'a> {
    pub digest: DigestView<'a>,
    pub reader: BodyReader,
    /// Octets of this copy's own header lines.
    pub prefix: u64,
}

impl Subject<'_> {
    pub async fn look(&self, slow: &Slow) -> Result<bool, StoreError> {
        match slow {
            Slow::Header(key) => Ok(key.holds(&self.header().await?)),
            Slow::Body(needle) => self.body_has(needle).await,
            Slow::Text(needle) => {
                Ok(header_has(&self.header().await?, needle) || self.body_has(needle).await?)
            }
        }
    }

    async fn header(&self) -> Result<Vec<u8>, StoreError> {
        let found = extent(&self.digest, self.prefix, &[], SectionKind::Header);
        let Some(Extent { stored, .. }) = found else {
            return Ok(Vec::new());
        };
        self.bytes(stored).await
    }

    async fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let bytes_max = HEADER_BYTES_MAX as u64 + self.prefix;
        Pieces::new(&self.reader, range).whole(bytes_max).await
    }

    /// Text parts, and the headers of messages within the message.
    async fn body_has(&self, needle: &Needle) -> Result<bool, StoreError> {
        let mut within = false;
        for part in self.digest.parts() {
            if std::mem::replace(&mut within, part.kind == PartKind::Message) {
                let header = self.bytes(self.shifted(part.header())).await?;
                if header_has(&header, needle) {
                    return Ok(true);
                }
            }
            let is_text = part.is_text && part.kind == PartKind::Leaf;
            if is_text && self.part_has(&part, needle).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn part_has(&self, part: &PartView<'_>, needle: &Needle) -> Result<bool, StoreError> {
        let mut pieces = Pieces::new(&self.reader, self.shifted(part.body()));
        let mut decoder = TextDecoder::new(part.encoding, part.charset);
        let mut search = needle.search();
        while let Some(piece) = pieces.next().await? {
            decoder.feed(&piece, &mut |text| search.feed(text));
            if search.found() {
                return Ok(true);
            }
            yield_if_needed().await;
        }
        decoder.finish(&mut |text| search.feed(text));
        Ok(search.found())
    }

    fn shifted(&self, range: Range<u64>) -> Range<u64> {
        range.start + self.prefix..range.end + self.prefix
    }
}

/// Every field as it reads, name included (RFC 9051 6.4.4, TEXT).
fn header_has(block: &[u8], needle: &Needle) -> bool {
    Fields::new(block).any(|field| {
        let name = String::from_utf8_lossy(field.name);
        needle.is_in(&format!("{name}: {}", decode_words(field.value)))
    })
}
