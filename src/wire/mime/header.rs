//! Fields of a header block, and the lines that FETCH asks for.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// One logical header line, folds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name without the colon; empty where the line is no header field.
    pub name: &'a [u8],
    /// What follows the colon, still folded, without the final line end.
    pub value: &'a [u8],
    /// All bytes, the final line end included.
    pub line: &'a [u8],
}

impl Field<'_> {
    /// True when this field has that name, in any case.
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Walks the fields of a header block; ends at the blank line or at the end of the bytes.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `block`.
    #[must_use]
    pub fn new(block: &'a [u8]) -> Self {
        Fields { rest: block }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || is_blank(self.rest) {
            return None;
        }
        let mut end = line_end(self.rest, 0);
        // RFC 5322 2.2.3: a line that begins with white space continues the one before.
        while matches!(self.rest.get(end), Some(b' ' | b'\t')) {
            end = line_end(self.rest, end);
        }
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(split_field(line))
    }
}

fn is_blank(rest: &[u8]) -> bool {
    rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at + 1)
}

fn split_field(line: &[u8]) -> Field<'_> {
    let none = Field {
        name: b"",
        value: trim_line_end(line),
        line,
    };
    let Some(colon) = memchr2(b':', b'\n', line) else {
        return none;
    };
    // RFC 5322 4.5: white space before the colon is obsolete, but is seen.
    let name = line[..colon].trim_ascii_end();
    let printable = name.iter().all(|b| (33..=126).contains(b));
    if line[colon] == b'\n' || name.is_empty() || !printable {
        return none;
    }
    Field {
        name,
        value: trim_line_end(&line[colon + 1..]),
        line,
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The value of the first field called `name`, still folded.
#[must_use]
pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Fields::new(block)
        .find(|field| field.is(name))
        .map(|field| field.value)
}

/// The value without folds and without white space at its ends (RFC 5322 2.2.3: only the line ends
/// go, the white space after them stays).
#[must_use]
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned(
        value
            .iter()
            .copied()
            .filter(|b| !matches!(b, b'\r' | b'\n'))
            .collect(),
    )
}

/// Writes the fields of `block` that are among `names` (with `not`: that are not), in the order of
/// the message and with their folds, and the blank line (RFC 9051 6.4.5.1, HEADER.FIELDS and
/// HEADER.FIELDS.NOT). Line ends are written as CRLF.
pub fn header_fields(block: &[u8], names: &[&[u8]], not: bool, out: &mut Vec<u8>) {
    for field in Fields::new(block) {
        if names.iter().any(|name| field.is(name)) != not {
            put_crlf_lines(field.line, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn put_crlf_lines(lines: &[u8], out: &mut Vec<u8>) {
    let mut rest = lines;
    while !rest.is_empty() {
        let end = line_end(rest, 0);
        let line = rest[..end].strip_suffix(b"\n").unwrap_or(&rest[..end]);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
        rest = &rest[end..];
    }
}
