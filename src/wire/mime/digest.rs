//! What a store keeps of a message, and its bytes.
//!
//! Form: magic byte, version byte, then fields of `tag`, length (varint), bytes. A reader skips
//! tags it does not know, so a field may be added without a new version. Varints are LEB128.
//!
//! | tag | field |
//! |---|---|
//! | 1 | sizes: varint bytes, varint bytes with CRLF line ends |
//! | 2 | date: varint zigzag milliseconds, varint zigzag zone minutes; absent: no valid Date |
//! | 3 | parts in pre-order: varint count, then each part |
//! | 4 | ENVELOPE |
//! | 5 | BODYSTRUCTURE |
//! | 6 | BODY |
//! | 7 | hot header lines as sent, in message order |
//!
//! A part: a byte (bits 0-1 kind, 2-3 encoding, 6 text), charset (varint length, bytes), then
//! varints: parts in its subtree with itself, header start, header length, bare LFs in the header,
//! body length, bare LFs in the body.

use super::content::Encoding;
use crate::wire::dates::DateTime;

pub(super) const MAGIC: u8 = 0xD6;
pub(super) const VERSION: u8 = 1;
pub(super) const TAG_SIZES: u8 = 1;
pub(super) const TAG_DATE: u8 = 2;
pub(super) const TAG_PARTS: u8 = 3;
pub(super) const TAG_ENVELOPE: u8 = 4;
pub(super) const TAG_STRUCTURE: u8 = 5;
pub(super) const TAG_BODY: u8 = 6;
pub(super) const TAG_HOT: u8 = 7;

/// Set in a part's first byte for text types.
pub(super) const TEXT_FLAG: u8 = 0x40;

/// The header fields whose lines a digest keeps.
pub const HOT_HEADERS: [&str; 18] = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Reply-To",
    "Sender",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Content-Type",
    "List-Id",
    "Priority",
    "X-Priority",
    "Importance",
    "Newsgroups",
    "Delivered-To",
];

/// True when a digest answers for this header field without the message.
#[must_use]
pub fn is_hot(name: &[u8]) -> bool {
    HOT_HEADERS
        .iter()
        .any(|hot| name.eq_ignore_ascii_case(hot.as_bytes()))
}

/// What a part is to the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PartKind {
    /// Has no parts of its own.
    #[default]
    Leaf = 0,
    /// multipart/*: its parts follow.
    Multipart = 1,
    /// message/rfc822 or message/global: the message in it follows as one part.
    Message = 2,
}

/// Where a part lies. The body follows the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PartRange {
    /// This part and all below it.
    pub subtree: u32,
    pub header_start: u64,
    /// With the blank line.
    pub header_len: u64,
    pub header_bare_lf: u64,
    pub body_len: u64,
    pub body_bare_lf: u64,
}

/// One part of a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub kind: PartKind,
    pub is_text: bool,
    pub encoding: Encoding,
    pub charset: Vec<u8>,
    pub range: PartRange,
}

/// Everything about a message that is computed once, at delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub(super) bytes: u64,
    pub(super) crlf_bytes: u64,
    pub(super) date: Option<DateTime>,
    pub(super) parts: Vec<Part>,
    pub(super) envelope: Vec<u8>,
    pub(super) structure: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) hot: Vec<u8>,
}

impl Digest {
    /// Size as stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Size with every line end as CRLF: RFC822.SIZE.
    #[must_use]
    pub fn crlf_bytes(&self) -> u64 {
        self.crlf_bytes
    }

    /// The Date header.
    #[must_use]
    pub fn date(&self) -> Option<DateTime> {
        self.date
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut field = Vec::new();
        out.extend_from_slice(&[MAGIC, VERSION]);
        put_varint(self.bytes, &mut field);
        put_varint(self.crlf_bytes, &mut field);
        put_field(TAG_SIZES, &field, out);
        if let Some(date) = self.date {
            field.clear();
            put_varint(zigzag(date.at.0), &mut field);
            put_varint(zigzag(date.zone_minutes.into()), &mut field);
            put_field(TAG_DATE, &field, out);
        }
        field.clear();
        put_varint(self.parts.len() as u64, &mut field);
        for part in &self.parts {
            part.encode(&mut field);
        }
        put_field(TAG_PARTS, &field, out);
        put_field(TAG_ENVELOPE, &self.envelope, out);
        put_field(TAG_STRUCTURE, &self.structure, out);
        put_field(TAG_BODY, &self.body, out);
        put_field(TAG_HOT, &self.hot, out);
    }
}

impl Part {
    fn encode(&self, out: &mut Vec<u8>) {
        let text = if self.is_text { TEXT_FLAG } else { 0 };
        out.push(text | ((self.encoding as u8) << 2) | self.kind as u8);
        put_varint(self.charset.len() as u64, out);
        out.extend_from_slice(&self.charset);
        let range = &self.range;
        for value in [
            range.subtree.into(),
            range.header_start,
            range.header_len,
            range.header_bare_lf,
            range.body_len,
            range.body_bare_lf,
        ] {
            put_varint(value, out);
        }
    }
}

fn put_field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
