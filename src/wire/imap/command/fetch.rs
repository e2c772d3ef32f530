//! FETCH (RFC 9051 6.4.5): a checked list of items, read again by an iterator.

use std::borrow::Cow;

use super::Body;
use crate::base::ModSeq;
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::encode;
use crate::wire::imap::fault::Fault;
use crate::wire::imap::mailbox_name::Coding;
use crate::wire::imap::sequence_set::{SequenceSet, sequence_set};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    pub uid: bool,
    pub set: SequenceSet<'a>,
    pub items: FetchItems<'a>,
    /// `(CHANGEDSINCE n)` (RFC 7162 3.1.4.1).
    pub changed_since: Option<ModSeq>,
}

/// The items of a FETCH, one at least, macros resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchItems<'a> {
    /// ALL, FAST or FULL.
    Macro(&'static [FetchItem<'static>]),
    /// The checked list, without its parentheses.
    List(&'a [u8]),
}

/// One thing to fetch of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchItem<'a> {
    Flags,
    Uid,
    InternalDate,
    Envelope,
    BodyStructure,
    /// BODY without a section: BODYSTRUCTURE without extension data.
    BodyStructureBasic,
    /// RFC822.SIZE.
    Size,
    /// RFC822, RFC822.HEADER, RFC822.TEXT (RFC 3501 6.4.5): answered under these names, with the
    /// octets of BODY[], BODY.PEEK[HEADER], BODY[TEXT].
    Rfc822,
    Rfc822Header,
    Rfc822Text,
    /// BODY[section]<partial>; `peek` does not set \Seen.
    Body {
        peek: bool,
        section: Section<'a>,
        partial: Option<Partial>,
    },
    /// BINARY[part]<partial> (RFC 3516 4.2).
    Binary {
        peek: bool,
        part: PartPath<'a>,
        partial: Option<Partial>,
    },
    /// BINARY.SIZE[part].
    BinarySize(PartPath<'a>),
    /// RFC 7162 3.1.4.2.
    ModSeq,
    /// RFC 8514 4.
    SaveDate,
    /// RFC 8474 5.3.
    EmailId,
    ThreadId,
}

/// `<first.bytes>`: octets from `first` on, at most `bytes` of them (RFC 9051 6.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    pub first: u32,
    pub bytes: u32,
}

/// What stands in the brackets of BODY[...].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    pub part: PartPath<'a>,
    pub text: SectionText<'a>,
}

/// Which text of the part (RFC 9051 6.4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionText<'a> {
    /// All of the message, or the contents of the part.
    All,
    Header,
    HeaderFields(HeaderNames<'a>),
    HeaderFieldsNot(HeaderNames<'a>),
    Text,
    /// The MIME header of a part.
    Mime,
}

/// Part numbers such as `1.2`, outermost first; empty for the message itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartPath<'a>(&'a [u8]);

/// The checked names of HEADER.FIELDS, one at least, as they stand between the parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderNames<'a>(&'a [u8]);

/// FAST is the first three, ALL the first four, FULL all (RFC 9051 6.4.5).
const MACRO: &[FetchItem<'static>] = &[
    FetchItem::Flags,
    FetchItem::InternalDate,
    FetchItem::Size,
    FetchItem::Envelope,
    FetchItem::BodyStructureBasic,
];

/// Names that are an item by themselves, in upper case.
const SIMPLE: &[(&str, FetchItem<'static>)] = &[
    ("FLAGS", FetchItem::Flags),
    ("UID", FetchItem::Uid),
    ("RFC822.SIZE", FetchItem::Size),
    ("INTERNALDATE", FetchItem::InternalDate),
    ("ENVELOPE", FetchItem::Envelope),
    ("BODYSTRUCTURE", FetchItem::BodyStructure),
    ("BODY", FetchItem::BodyStructureBasic),
    ("MODSEQ", FetchItem::ModSeq),
    ("RFC822", FetchItem::Rfc822),
    ("RFC822.HEADER", FetchItem::Rfc822Header),
    ("RFC822.TEXT", FetchItem::Rfc822Text),
    ("SAVEDATE", FetchItem::SaveDate),
    ("EMAILID", FetchItem::EmailId),
    ("THREADID", FetchItem::ThreadId),
];

impl<'a> FetchItems<'a> {
    /// The items in the client's order.
    pub fn iter(self) -> impl Iterator<Item = FetchItem<'a>> {
        let (mut expanded, list) = match self {
            FetchItems::Macro(items) => (items.iter(), &b""[..]),
            FetchItems::List(list) => ([].iter(), list),
        };
        let mut c = Cursor::new(list);
        std::iter::from_fn(move || {
            if let Some(item) = expanded.next() {
                return Some(*item);
            }
            c.eat(b' ');
            item(&mut c).ok()
        })
    }
}

impl FetchItem<'_> {
    /// Whether fetching it sets \Seen (RFC 9051 6.4.5; RFC 3501 6.4.5 for RFC822).
    #[must_use]
    pub fn sets_seen(self) -> bool {
        matches!(
            self,
            FetchItem::Body { peek: false, .. }
                | FetchItem::Binary { peek: false, .. }
                | FetchItem::Rfc822
                | FetchItem::Rfc822Text
        )
    }

    /// Appends the name under which the item is answered: `BODY[1.MIME]<0>`, not `BODY.PEEK`
    /// (RFC 9051 7.5.2).
    pub fn write_name(self, out: &mut Vec<u8>) {
        let partial = match self {
            FetchItem::Body {
                section, partial, ..
            } => {
                out.extend_from_slice(b"BODY[");
                section.write(out);
                partial
            }
            FetchItem::Binary { part, partial, .. } => {
                out.extend_from_slice(b"BINARY[");
                out.extend_from_slice(part.0);
                partial
            }
            FetchItem::BinarySize(part) => {
                out.extend_from_slice(b"BINARY.SIZE[");
                out.extend_from_slice(part.0);
                None
            }
            simple => {
                let name = SIMPLE.iter().find(|(_, item)| *item == simple);
                out.extend_from_slice(name.map_or("", |(name, _)| name).as_bytes());
                return;
            }
        };
        out.push(b']');
        if let Some(partial) = partial {
            out.push(b'<');
            encode::number(out, u64::from(partial.first));
            out.push(b'>');
        }
    }
}

impl Section<'_> {
    /// Appends what stands between the brackets, names as the client spelt them.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.part.0);
        let (word, names): (&[u8], _) = match self.text {
            SectionText::All => return,
            SectionText::Header => (b"HEADER", None),
            SectionText::HeaderFields(names) => (b"HEADER.FIELDS", Some(names)),
            SectionText::HeaderFieldsNot(names) => (b"HEADER.FIELDS.NOT", Some(names)),
            SectionText::Text => (b"TEXT", None),
            SectionText::Mime => (b"MIME", None),
        };
        if !self.part.is_empty() {
            out.push(b'.');
        }
        out.extend_from_slice(word);
        if let Some(names) = names {
            for (n, name) in names.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b" (" } else { b" " });
                encode::astring(out, &name, Coding::Ascii);
            }
            out.push(b')');
        }
    }
}

impl<'a> PartPath<'a> {
    /// The path of a text such as `1.2`.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        let mut c = Cursor::new(text.as_bytes());
        let path = part_path(&mut c)?;
        match c.rest() {
            b"" => Ok(path),
            _ => Err(Fault::BadSection),
        }
    }

    pub fn numbers(self) -> impl Iterator<Item = u32> + 'a {
        let mut c = Cursor::new(self.0);
        std::iter::from_fn(move || {
            let number = c.nz_number().ok();
            c.eat(b'.');
            number
        })
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> HeaderNames<'a> {
    pub fn iter(self) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let mut c = Cursor::new(self.0);
        std::iter::from_fn(move || {
            c.eat(b' ');
            c.astring().ok()
        })
    }

    /// Whether a header field is named; case does not matter (RFC 9051 6.4.5.1).
    #[must_use]
    pub fn contains(self, field: &[u8]) -> bool {
        self.iter().any(|name| name.eq_ignore_ascii_case(field))
    }
}

pub(super) fn fetch<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let set = sequence_set(c)?;
    c.space()?;
    let items = items(c)?;
    let mut changed_since = None;
    if c.eat_word(b" (") {
        // fetch-modifier (RFC 4466 2.4).
        if !c.eat_word(b"CHANGEDSINCE ") {
            return Err(Fault::BadFetchItem);
        }
        changed_since = Some(ModSeq(c.number64()?));
        c.close()?;
    }
    Ok(Body::Fetch(Fetch {
        uid,
        set,
        items,
        changed_since,
    }))
}

fn items<'a>(c: &mut Cursor<'a>) -> Result<FetchItems<'a>, Fault> {
    let start = c.at();
    if c.peek() == Some(b'(') {
        let count = c.list(|c| item(c).map(drop))?;
        let list = c.since(start);
        return match count {
            0 => Err(Fault::BadFetchItem),
            _ => Ok(FetchItems::List(&list[1..list.len() - 1])),
        };
    }
    for (name, count) in [("ALL", 4), ("FAST", 3), ("FULL", 5)] {
        let mut ahead = *c;
        if ahead.eat_word(name.as_bytes()) && ahead.peek().is_none_or(|b| b == b' ') {
            *c = ahead;
            return Ok(FetchItems::Macro(&MACRO[..count]));
        }
    }
    item(c)?;
    Ok(FetchItems::List(c.since(start)))
}

fn item<'a>(c: &mut Cursor<'a>) -> Result<FetchItem<'a>, Fault> {
    // `[` is an atom character, so an atom may run into the section: names are read by hand.
    let start = c.at();
    while let Some(b) = c.peek().filter(|b| b.is_ascii_alphanumeric() || *b == b'.') {
        c.eat(b);
    }
    let name = c.since(start);
    if !c.eat(b'[') {
        let known = SIMPLE
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        return known.map(|(_, item)| *item).ok_or(Fault::BadFetchItem);
    }
    let named = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if named(b"BODY") || named(b"BODY.PEEK") {
        let section = section(c)?;
        let partial = partial(c)?;
        return Ok(FetchItem::Body {
            peek: named(b"BODY.PEEK"),
            section,
            partial,
        });
    }
    if named(b"BINARY") || named(b"BINARY.PEEK") {
        let part = binary_part(c)?;
        let partial = partial(c)?;
        return Ok(FetchItem::Binary {
            peek: named(b"BINARY.PEEK"),
            part,
            partial,
        });
    }
    match named(b"BINARY.SIZE") {
        true => binary_part(c).map(FetchItem::BinarySize),
        false => Err(Fault::BadFetchItem),
    }
}

/// `section-binary` (RFC 3516 7), to and with the closing bracket.
fn binary_part<'a>(c: &mut Cursor<'a>) -> Result<PartPath<'a>, Fault> {
    let part = part_path(c)?;
    match c.eat(b']') {
        true => Ok(part),
        false => Err(Fault::BadSection),
    }
}

fn part_path<'a>(c: &mut Cursor<'a>) -> Result<PartPath<'a>, Fault> {
    let start = c.at();
    let mut end = c.since(start);
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        c.nz_number().map_err(|_| Fault::BadSection)?;
        end = c.since(start);
        // A dot belongs to the path only if a number stands behind it.
        if !c.eat(b'.') {
            break;
        }
    }
    Ok(PartPath(end))
}

/// `section-spec` (RFC 9051 9), to and with the closing bracket.
fn section<'a>(c: &mut Cursor<'a>) -> Result<Section<'a>, Fault> {
    let start = c.at();
    let part = part_path(c)?;
    let dotted = c.since(start).ends_with(b".");
    let word_start = c.at();
    while let Some(b) = c.peek().filter(|b| b.is_ascii_alphabetic() || *b == b'.') {
        c.eat(b);
    }
    let word = c.since(word_start);
    if word.is_empty() && !dotted {
        return end_of_section(c, part, SectionText::All);
    }
    // A number and a text have a dot between them, and only then.
    if dotted == part.is_empty() {
        return Err(Fault::BadSection);
    }
    let named = |known: &[u8]| word.eq_ignore_ascii_case(known);
    let text = if named(b"HEADER") {
        SectionText::Header
    } else if named(b"HEADER.FIELDS") {
        SectionText::HeaderFields(header_names(c)?)
    } else if named(b"HEADER.FIELDS.NOT") {
        SectionText::HeaderFieldsNot(header_names(c)?)
    } else if named(b"TEXT") {
        SectionText::Text
    } else if named(b"MIME") && dotted {
        // `section-text = section-msgtext / "MIME"`, and that only behind a part number.
        SectionText::Mime
    } else {
        return Err(Fault::BadSection);
    };
    end_of_section(c, part, text)
}

fn end_of_section<'a>(
    c: &mut Cursor<'a>,
    part: PartPath<'a>,
    text: SectionText<'a>,
) -> Result<Section<'a>, Fault> {
    match c.eat(b']') {
        true => Ok(Section { part, text }),
        false => Err(Fault::BadSection),
    }
}

fn header_names<'a>(c: &mut Cursor<'a>) -> Result<HeaderNames<'a>, Fault> {
    c.space()?;
    let start = c.at();
    let count = c.list(|c| c.astring().map(drop))?;
    let list = c.since(start);
    match count {
        0 => Err(Fault::BadSection),
        _ => Ok(HeaderNames(&list[1..list.len() - 1])),
    }
}

/// `"<" number "." nz-number ">"`, if it is there.
fn partial(c: &mut Cursor<'_>) -> Result<Option<Partial>, Fault> {
    if !c.eat(b'<') {
        return Ok(None);
    }
    let bad = |_| Fault::BadPartial;
    let first = c.number().map_err(bad)?;
    let dot = c.eat(b'.');
    let bytes = c.nz_number().map_err(bad)?;
    match dot && c.eat(b'>') {
        true => Ok(Some(Partial { first, bytes })),
        false => Err(Fault::BadPartial),
    }
}
