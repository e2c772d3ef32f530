//! BODYSTRUCTURE and BODY as wire text (RFC 9051 7.5.2).
//!
//! What a part's header says is rendered when the header ends ([`describe`]); sizes and nesting are
//! known at the end of the message, when [`render`] puts the pieces together.

use std::io::Write;

use super::content::{
    Encoding, MediaType, Param, first_token, parse_disposition, parse_languages, parse_media_type,
};
use super::digest::{PartKind, PartRange};
use super::envelope::envelope;
use super::header::{Fields, unfold};
use super::wire_text::{put_nstring, put_string};

/// Boundaries are compared up to this length; RFC 2046 5.1.1 allows 70.
const BOUNDARY_BYTES_MAX: usize = 1_000;

/// What a part's header says, as far as it is wanted later.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    pub kind: PartKind,
    pub is_text: bool,
    pub encoding: Encoding,
    /// Empty where none was given.
    pub charset: Vec<u8>,
    pub boundary: Option<Vec<u8>>,
    pub is_digest: bool,
    /// Leaf and message: `"text" "plain" (..) id desc "7bit"`. Multipart: `"mixed"`.
    head: Vec<u8>,
    /// Multipart: its parameters.
    params: Vec<u8>,
    /// Extension data after md5 (leaf) or parameters (multipart), with a leading blank.
    extension: Vec<u8>,
}

impl Described {
    /// Bytes kept until the message ends.
    pub fn kept_bytes(&self) -> usize {
        self.head.len() + self.params.len() + self.extension.len() + self.charset.len()
    }
}

#[derive(Default)]
struct ContentFields<'a> {
    media: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    md5: Option<&'a [u8]>,
    language: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
}

impl<'a> ContentFields<'a> {
    fn of(block: &'a [u8]) -> Self {
        let mut found = ContentFields::default();
        for field in Fields::new(block) {
            if field.name.len() < 9 || !field.name[..8].eq_ignore_ascii_case(b"Content-") {
                continue;
            }
            let slot = match field.name[8..].to_ascii_lowercase().as_slice() {
                b"type" => &mut found.media,
                b"transfer-encoding" => &mut found.encoding,
                b"id" => &mut found.id,
                b"description" => &mut found.description,
                b"disposition" => &mut found.disposition,
                b"md5" => &mut found.md5,
                b"language" => &mut found.language,
                b"location" => &mut found.location,
                _ => continue,
            };
            slot.get_or_insert(field.value);
        }
        found
    }
}

/// Reads a part's header block. `in_digest`: the default type is message/rfc822 (RFC 2046 5.1.5).
/// Without `nesting` a multipart or message is a leaf of type application/octet-stream.
pub(super) fn describe(block: &[u8], in_digest: bool, nesting: bool) -> Described {
    let fields = ContentFields::of(block);
    let mut media = match fields.media {
        None if in_digest => MediaType {
            kind: b"message".into(),
            subtype: b"rfc822".into(),
            params: Vec::new(),
        },
        None => MediaType::text_plain(),
        Some(value) => parse_media_type(value).unwrap_or_else(MediaType::text_plain),
    };
    let mut kind = if media.kind.eq_ignore_ascii_case(b"multipart") {
        PartKind::Multipart
    } else if media.is("message", "rfc822") || media.is("message", "global") {
        // RFC 9051 9, media-message.
        PartKind::Message
    } else {
        PartKind::Leaf
    };
    if kind != PartKind::Leaf && !nesting {
        kind = PartKind::Leaf;
        media = MediaType {
            kind: b"application".into(),
            subtype: b"octet-stream".into(),
            params: Vec::new(),
        };
    }
    describe_as(kind, media, &fields)
}

fn describe_as(kind: PartKind, mut media: MediaType, fields: &ContentFields<'_>) -> Described {
    let is_text = media.kind.eq_ignore_ascii_case(b"text");
    let charset = media.param("charset").unwrap_or_default().to_vec();
    if is_text && media.param("charset").is_none() {
        // RFC 2046 4.1.2: the default, spelled out as other servers do.
        media
            .params
            .insert(0, (b"charset".into(), b"us-ascii".into()));
    }
    let encoding_name = fields
        .encoding
        .and_then(first_token)
        .unwrap_or_else(|| b"7bit".into());
    let mut described = Described {
        kind,
        is_text,
        encoding: Encoding::from_name(&encoding_name),
        charset,
        ..Described::default()
    };
    let (head, extension) = (&mut described.head, &mut described.extension);
    if kind == PartKind::Multipart {
        put_string(&media.subtype, head);
        put_params(&media.params, &mut described.params);
        let boundary = media.param("boundary").filter(|b| !b.is_empty());
        described.boundary = boundary.map(|b| b[..b.len().min(BOUNDARY_BYTES_MAX)].to_vec());
        described.is_digest = media.subtype.eq_ignore_ascii_case(b"digest");
    } else {
        put_string(&media.kind, head);
        head.push(b' ');
        put_string(&media.subtype, head);
        head.push(b' ');
        put_params(&media.params, head);
        head.push(b' ');
        put_nstring(fields.id.map(unfold).as_deref(), head);
        head.push(b' ');
        put_nstring(fields.description.map(unfold).as_deref(), head);
        head.push(b' ');
        put_string(&encoding_name, head);
        extension.push(b' ');
        put_nstring(fields.md5.map(unfold).as_deref(), extension);
    }
    put_extension(fields, extension);
    described
}

fn put_extension(fields: &ContentFields<'_>, out: &mut Vec<u8>) {
    match fields.disposition.and_then(parse_disposition) {
        None => out.extend_from_slice(b" NIL"),
        Some((kind, params)) => {
            out.extend_from_slice(b" (");
            put_string(&kind, out);
            out.push(b' ');
            put_params(&params, out);
            out.push(b')');
        }
    }
    out.push(b' ');
    match &fields.language.map(parse_languages).unwrap_or_default()[..] {
        [] => out.extend_from_slice(b"NIL"),
        [one] => put_string(one, out),
        tags => {
            for (at, tag) in tags.iter().enumerate() {
                out.push(if at == 0 { b'(' } else { b' ' });
                put_string(tag, out);
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    put_nstring(fields.location.map(unfold).as_deref(), out);
}

fn put_params(params: &[Param], out: &mut Vec<u8>) {
    if params.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    for (at, (name, value)) in params.iter().enumerate() {
        out.push(if at == 0 { b'(' } else { b' ' });
        put_string(name, out);
        out.push(b' ');
        put_string(value, out);
    }
    out.push(b')');
}

/// One part as the walker leaves it.
#[derive(Clone, Debug, Default)]
pub(super) struct WalkedPart {
    pub described: Described,
    pub range: PartRange,
    /// Line feeds in the body.
    pub lines: u64,
    /// A nested message's own ENVELOPE.
    pub envelope: Vec<u8>,
}

/// The ENVELOPE that a nested message needs in its parent's structure.
pub(super) fn nested_envelope(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    envelope(block, &mut out);
    out
}

/// Writes part 0 of `parts` (in pre-order) and all below it. The depth of the call is the depth of
/// the tree, which the walker bounds.
pub(super) fn render(parts: &[WalkedPart], extended: bool, out: &mut Vec<u8>) {
    let part = &parts[0];
    let described = &part.described;
    out.push(b'(');
    if described.kind == PartKind::Multipart {
        let mut rest = &parts[1..part.range.subtree as usize];
        while let Some(child) = rest.first() {
            render(rest, extended, out);
            rest = &rest[child.range.subtree as usize..];
        }
        out.push(b' ');
        out.extend_from_slice(&described.head);
        if extended {
            out.push(b' ');
            out.extend_from_slice(&described.params);
        }
    } else {
        out.extend_from_slice(&described.head);
        let octets = part.range.body_len + part.range.body_bare_lf;
        write!(out, " {octets}").expect("a Vec takes all");
        if described.kind == PartKind::Message {
            out.push(b' ');
            out.extend_from_slice(&parts[1].envelope);
            out.push(b' ');
            render(&parts[1..], extended, out);
        }
        if described.kind == PartKind::Message || described.is_text {
            write!(out, " {}", part.lines).expect("a Vec takes all");
        }
    }
    if extended {
        out.extend_from_slice(&described.extension);
    }
    out.push(b')');
}
