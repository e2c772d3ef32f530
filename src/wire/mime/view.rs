//! A stored digest, read in place.

use std::ops::Range;

use super::content::Encoding;
use super::digest::{
    MAGIC, PartKind, PartRange, TAG_BODY, TAG_DATE, TAG_ENVELOPE, TAG_HOT, TAG_PARTS, TAG_SIZES,
    TAG_STRUCTURE, TEXT_FLAG, VERSION,
};
use super::header::find;
use crate::base::UnixMs;
use crate::wire::dates::DateTime;

/// Why bytes are no digest. The store answers each of them by walking the message again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// Not the magic byte of a digest.
    NotADigest,
    /// Written by a newer program.
    Version(u8),
    /// Ends inside a field.
    Truncated,
    /// The field with this tag contradicts itself or is missing.
    Malformed(u8),
}

/// What of a part is meant (RFC 9051 6.4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// `BODY[]`, `BODY[1.2]`.
    All,
    /// `BODY[HEADER]`, `BODY[2.HEADER]`: a message's header with its blank line.
    Header,
    /// `BODY[TEXT]`, `BODY[2.TEXT]`: a message without its header.
    Text,
    /// `BODY[1.2.MIME]`: a part's own header.
    Mime,
}

/// Borrowed access to an encoded [`super::Digest`]. [`DigestView::parse`] checks everything once,
/// so that no access can fail later.
#[derive(Clone, Copy, Debug)]
pub struct DigestView<'a> {
    bytes: u64,
    crlf_bytes: u64,
    date: Option<DateTime>,
    part_count: u64,
    parts: &'a [u8],
    envelope: &'a [u8],
    structure: &'a [u8],
    body: &'a [u8],
    hot: &'a [u8],
}

/// One part, as the part table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartView<'a> {
    /// Leaf, multipart or message.
    pub kind: PartKind,
    /// True for text/*.
    pub is_text: bool,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// As sent; empty where none was given.
    pub charset: &'a [u8],
    range: PartRange,
}

impl PartView<'_> {
    /// The part's header, blank line included, as offsets into the stored message.
    #[must_use]
    pub fn header(&self) -> Range<u64> {
        self.range.header_start..self.range.header_start + self.range.header_len
    }

    /// The part's body.
    #[must_use]
    pub fn body(&self) -> Range<u64> {
        let start = self.range.header_start + self.range.header_len;
        start..start + self.range.body_len
    }
}

impl<'a> DigestView<'a> {
    /// Reads and checks an encoded digest.
    pub fn parse(encoded: &'a [u8]) -> Result<Self, DigestError> {
        let mut rest = encoded;
        if take_byte(&mut rest) != Some(MAGIC) {
            return Err(DigestError::NotADigest);
        }
        match take_byte(&mut rest).ok_or(DigestError::Truncated)? {
            VERSION => {}
            version => return Err(DigestError::Version(version)),
        }
        let mut fields: [Option<&[u8]>; 8] = [None; 8];
        while let Some(tag) = take_byte(&mut rest) {
            let field = take_counted(&mut rest).ok_or(DigestError::Truncated)?;
            if let Some(slot) = fields.get_mut(usize::from(tag)) {
                *slot = Some(field);
            }
        }
        let need = |tag: u8| fields[usize::from(tag)].ok_or(DigestError::Malformed(tag));
        let mut sizes = need(TAG_SIZES)?;
        let bytes = take_varint(&mut sizes).ok_or(DigestError::Malformed(TAG_SIZES))?;
        let crlf_bytes = take_varint(&mut sizes).ok_or(DigestError::Malformed(TAG_SIZES))?;
        let date = match fields[usize::from(TAG_DATE)] {
            None => None,
            Some(field) => Some(read_date(field).ok_or(DigestError::Malformed(TAG_DATE))?),
        };
        let mut parts = need(TAG_PARTS)?;
        let malformed = DigestError::Malformed(TAG_PARTS);
        let part_count = take_varint(&mut parts).ok_or(malformed)?;
        let view = DigestView {
            bytes,
            crlf_bytes,
            date,
            part_count,
            parts,
            envelope: need(TAG_ENVELOPE)?,
            structure: need(TAG_STRUCTURE)?,
            body: need(TAG_BODY)?,
            hot: need(TAG_HOT)?,
        };
        view.check_parts().then_some(view).ok_or(malformed)
    }

    fn check_parts(&self) -> bool {
        let mut rest = self.parts;
        for at in 0..self.part_count {
            let Some(part) = take_part(&mut rest) else {
                return false;
            };
            let range = &part.range;
            let end = range
                .header_start
                .checked_add(range.header_len)
                .and_then(|body| body.checked_add(range.body_len));
            let bare_fits =
                range.header_bare_lf <= range.header_len && range.body_bare_lf <= range.body_len;
            let subtree_fits =
                range.subtree >= 1 && u64::from(range.subtree) <= self.part_count - at;
            if end.is_none_or(|end| end > self.bytes) || !bare_fits || !subtree_fits {
                return false;
            }
        }
        rest.is_empty() && self.part_count >= 1
    }

    /// ENVELOPE, parentheses included.
    #[must_use]
    pub fn envelope(&self) -> &'a [u8] {
        self.envelope
    }

    /// BODYSTRUCTURE, parentheses included.
    #[must_use]
    pub fn bodystructure(&self) -> &'a [u8] {
        self.structure
    }

    /// BODY without extension data, parentheses included.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Size as stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Size with every line end as CRLF: RFC822.SIZE. Equal to [`Self::bytes`] when the stored
    /// bytes can be sent as they are.
    #[must_use]
    pub fn crlf_bytes(&self) -> u64 {
        self.crlf_bytes
    }

    /// The Date header as a point in time.
    #[must_use]
    pub fn date(&self) -> Option<UnixMs> {
        self.date.map(|date| date.at)
    }

    /// The day in the Date header, its own zone disregarded, as days since 1970: what SENTBEFORE,
    /// SENTON and SENTSINCE compare (RFC 9051 6.4.4).
    #[must_use]
    pub fn sent_day(&self) -> Option<i32> {
        self.date.map(|date| date.local_day())
    }

    /// The hot header lines as one header block, for [`super::header_fields`] when every wanted
    /// name [`super::is_hot`].
    #[must_use]
    pub fn hot_headers(&self) -> &'a [u8] {
        self.hot
    }

    /// The value of the first such hot header field, still folded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        find(self.hot, name.as_bytes())
    }

    /// All parts in pre-order; the first is the message itself.
    pub fn parts(&self) -> impl Iterator<Item = PartView<'a>> + use<'a> {
        let mut rest = self.parts;
        std::iter::from_fn(move || take_part(&mut rest))
    }

    /// Where a section lies in the stored message; `None` where the message has no such section.
    #[must_use]
    pub fn section(&self, path: &[u32], kind: SectionKind) -> Option<Range<u64>> {
        self.locate(path, kind).map(|(range, _)| range)
    }

    /// The size of a section on the wire, with every line end as CRLF.
    #[must_use]
    pub fn section_crlf_bytes(&self, path: &[u32], kind: SectionKind) -> Option<u64> {
        self.locate(path, kind)
            .map(|(range, bare_lf)| (range.end - range.start).saturating_add(bare_lf))
    }

    /// The part with this number.
    #[must_use]
    pub fn part(&self, path: &[u32]) -> Option<PartView<'a>> {
        self.resolve(path).map(|(part, _)| part)
    }

    fn locate(&self, path: &[u32], kind: SectionKind) -> Option<(Range<u64>, u64)> {
        let header = |part: PartView<'_>| (part.header(), part.range.header_bare_lf);
        let body = |part: PartView<'_>| (part.body(), part.range.body_bare_lf);
        if path.is_empty() {
            let root = self.parts().next()?;
            return match kind {
                SectionKind::All => {
                    Some((0..self.bytes, self.crlf_bytes.saturating_sub(self.bytes)))
                }
                SectionKind::Header => Some(header(root)),
                SectionKind::Text => Some(body(root)),
                SectionKind::Mime => None,
            };
        }
        let (part, mut below) = self.resolve(path)?;
        match kind {
            SectionKind::All => Some(body(part)),
            SectionKind::Mime => Some(header(part)),
            // RFC 9051 6.4.5.1: HEADER and TEXT with a number are for message/rfc822 only.
            _ if part.kind != PartKind::Message => None,
            SectionKind::Header => take_part(&mut below).map(header),
            SectionKind::Text => take_part(&mut below).map(body),
        }
    }

    /// Follows part numbers. Returns the part and the table after it, where what it holds begins.
    fn resolve(&self, path: &[u32]) -> Option<(PartView<'a>, &'a [u8])> {
        let mut rest = self.parts;
        let mut part = take_part(&mut rest)?;
        let mut in_message = true;
        for &number in path {
            if !in_message {
                match part.kind {
                    PartKind::Leaf => return None,
                    PartKind::Multipart => {}
                    PartKind::Message => part = take_part(&mut rest)?,
                }
            }
            in_message = false;
            // RFC 9051 6.4.5.1: a message that is no multipart has its body as part 1.
            if part.kind != PartKind::Multipart {
                if number != 1 {
                    return None;
                }
                continue;
            }
            let mut left = part.range.subtree.checked_sub(1)?;
            for _ in 1..number {
                let sibling = skip_subtree(&mut rest)?;
                left = left.checked_sub(sibling)?;
            }
            if number == 0 || left == 0 {
                return None;
            }
            part = take_part(&mut rest)?;
        }
        Some((part, rest))
    }
}

fn skip_subtree(rest: &mut &[u8]) -> Option<u32> {
    let subtree = take_part(rest)?.range.subtree;
    for _ in 1..subtree {
        take_part(rest)?;
    }
    Some(subtree)
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<PartView<'a>> {
    let flags = take_byte(rest)?;
    let kind = match flags & 3 {
        0 => PartKind::Leaf,
        1 => PartKind::Multipart,
        2 => PartKind::Message,
        _ => return None,
    };
    let charset = take_counted(rest)?;
    let range = PartRange {
        subtree: take_varint(rest)?.try_into().ok()?,
        header_start: take_varint(rest)?,
        header_len: take_varint(rest)?,
        header_bare_lf: take_varint(rest)?,
        body_len: take_varint(rest)?,
        body_bare_lf: take_varint(rest)?,
    };
    let encoding = Encoding::from_byte((flags >> 2) & 3);
    Some(PartView {
        kind,
        is_text: flags & TEXT_FLAG != 0,
        encoding,
        charset,
        range,
    })
}

fn read_date(mut field: &[u8]) -> Option<DateTime> {
    let at = UnixMs(unzigzag(take_varint(&mut field)?));
    let zone_minutes = unzigzag(take_varint(&mut field)?).try_into().ok()?;
    Some(DateTime { at, zone_minutes })
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (&first, tail) = rest.split_first()?;
    *rest = tail;
    Some(first)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (field, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(field)
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
