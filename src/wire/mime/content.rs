//! The Content-* fields (RFC 2045, 2183, 3282), read leniently and kept as sent.

use super::header::unfold;

/// How a body is encoded for transfer (RFC 2045 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// 7bit, 8bit or binary: the body is the content.
    #[default]
    Identity = 0,
    /// RFC 2045 6.8.
    Base64 = 1,
    /// RFC 2045 6.7.
    QuotedPrintable = 2,
    /// A name we do not know; BINARY answers UNKNOWN-CTE.
    Unknown = 3,
}

impl Encoding {
    /// The encoding that a Content-Transfer-Encoding value names.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        let is = |want: &str| name.eq_ignore_ascii_case(want.as_bytes());
        if name.is_empty() || is("7bit") || is("8bit") || is("binary") {
            Encoding::Identity
        } else if is("base64") {
            Encoding::Base64
        } else if is("quoted-printable") {
            Encoding::QuotedPrintable
        } else {
            Encoding::Unknown
        }
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Encoding::Identity,
            1 => Encoding::Base64,
            2 => Encoding::QuotedPrintable,
            _ => Encoding::Unknown,
        }
    }
}

/// A name and a value: continuations joined, the charset and percent encoding of RFC 2231 as sent.
pub type Param = (Vec<u8>, Vec<u8>);

/// A parsed Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `text` of `text/plain`, as sent.
    pub kind: Vec<u8>,
    /// `plain` of `text/plain`, as sent.
    pub subtype: Vec<u8>,
    /// Parameters in order.
    pub params: Vec<Param>,
}

impl MediaType {
    /// The default of RFC 2045 5.2 without its charset parameter.
    #[must_use]
    pub fn text_plain() -> Self {
        MediaType {
            kind: b"text".into(),
            subtype: b"plain".into(),
            params: Vec::new(),
        }
    }

    /// True for this type and subtype, in any case.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let named = |p: &&Param| p.0.eq_ignore_ascii_case(name.as_bytes());
        self.params.iter().find(named).map(|(_, value)| &value[..])
    }
}

/// Reads a Content-Type value; `None` where it is not `type/subtype`, for which RFC 2045 5.2 puts
/// text/plain.
#[must_use]
pub fn parse_media_type(value: &[u8]) -> Option<MediaType> {
    let value = unfold(value);
    let mut scan = Scanner::new(&value);
    let kind = scan.token()?;
    scan.skip_space();
    scan.eat(b'/').then_some(())?;
    let subtype = scan.token()?;
    let params = scan.params();
    Some(MediaType {
        kind: kind.to_vec(),
        subtype: subtype.to_vec(),
        params,
    })
}

/// Reads a Content-Disposition value (RFC 2183): the type and its parameters.
pub(super) fn parse_disposition(value: &[u8]) -> Option<(Vec<u8>, Vec<Param>)> {
    let value = unfold(value);
    let mut scan = Scanner::new(&value);
    let kind = scan.token()?.to_vec();
    Some((kind, scan.params()))
}

/// Reads a Content-Language value (RFC 3282): the tags.
pub(super) fn parse_languages(value: &[u8]) -> Vec<Vec<u8>> {
    let value = unfold(value);
    let mut scan = Scanner::new(&value);
    let mut tags = Vec::new();
    while let Some(tag) = scan.token() {
        tags.push(tag.to_vec());
        scan.skip_space();
        if !scan.eat(b',') {
            break;
        }
    }
    tags
}

/// The first token of a value, as Content-Transfer-Encoding has it.
pub(super) fn first_token(value: &[u8]) -> Option<Vec<u8>> {
    let value = unfold(value);
    Scanner::new(&value).token().map(<[u8]>::to_vec)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Scanner { bytes, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, want: u8) -> bool {
        let found = self.peek() == Some(want);
        self.at += usize::from(found);
        found
    }

    /// White space and comments (RFC 5322 3.2.2).
    fn skip_space(&mut self) {
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            match b {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => self.at += 1,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if depth > 0 => {}
                _ => return,
            }
            self.at += 1;
        }
        self.at = self.bytes.len();
    }

    /// A token of RFC 2045 5.1; bytes above 127 are let through.
    fn token(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let from = self.at;
        while self.peek().is_some_and(is_token) {
            self.at += 1;
        }
        (self.at > from).then(|| &self.bytes[from..self.at])
    }

    fn params(&mut self) -> Vec<Param> {
        let mut params = Vec::new();
        loop {
            self.skip_to_semicolon();
            if !self.eat(b';') {
                return join_continuations(params);
            }
            let Some(name) = self.token() else { continue };
            self.skip_space();
            if self.eat(b'=') {
                self.skip_space();
                let value = self.value();
                params.push((name.to_vec(), value));
            }
        }
    }

    fn skip_to_semicolon(&mut self) {
        loop {
            self.skip_space();
            match self.peek() {
                None | Some(b';') => return,
                Some(b'"') => drop(self.quoted()),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A quoted string, or all words up to the semicolon: names with blanks are often sent bare.
    fn value(&mut self) -> Vec<u8> {
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        let mut value = Vec::new();
        loop {
            let from = self.at;
            while self
                .peek()
                .is_some_and(|b| !matches!(b, b';' | b' ' | b'\t' | b'"'))
            {
                self.at += 1;
            }
            value.extend_from_slice(&self.bytes[from..self.at]);
            self.skip_space();
            match self.peek() {
                None | Some(b';' | b'"') => return value,
                // Stray bytes at which no word begins cannot stop the walk: one byte is always
                // taken, since neither blank, quote nor semicolon is left here.
                Some(_) => value.push(b' '),
            }
        }
    }

    fn quoted(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut value = Vec::new();
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'"' => break,
                b'\\' => {
                    if let Some(escaped) = self.peek() {
                        value.push(escaped);
                        self.at += 1;
                    }
                }
                _ => value.push(b),
            }
        }
        value
    }
}

/// One `name*2*=value` of a value in pieces (RFC 2231 3).
struct Piece {
    name: Vec<u8>,
    number: u32,
    encoded: bool,
    value: Vec<u8>,
}

impl Piece {
    fn of((name, value): &Param) -> Option<Self> {
        let (encoded, name) = match name.strip_suffix(b"*") {
            Some(name) => (true, name),
            None => (false, &name[..]),
        };
        let star = name.iter().rposition(|&b| b == b'*').filter(|&at| at > 0)?;
        let digits = &name[star + 1..];
        let canonical = digits == b"0" || (!digits.starts_with(b"0") && digits.len() <= 4);
        if digits.is_empty() || !canonical || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
        let name = name[..star].to_ascii_lowercase();
        Some(Piece {
            name,
            number,
            encoded,
            value: value.clone(),
        })
    }
}

/// Joins values that came in pieces, as RFC 2231 6 asks of IMAP servers; `name*` is the name where
/// the first piece was encoded. Joined values stand last.
fn join_continuations(params: Vec<Param>) -> Vec<Param> {
    let mut pieces = Vec::new();
    let mut joined = Vec::with_capacity(params.len());
    for param in params {
        match Piece::of(&param) {
            Some(piece) => pieces.push(piece),
            None => joined.push(param),
        }
    }
    pieces.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
    for pieces in pieces.chunk_by(|a, b| a.name == b.name) {
        let mut name = pieces[0].name.clone();
        let encoded = pieces[0].encoded;
        if encoded {
            name.push(b'*');
        }
        let mut value = Vec::new();
        // What comes after a gap cannot belong to the value.
        for (_, piece) in (0..)
            .zip(pieces)
            .take_while(|(at, piece)| piece.number == *at)
        {
            for &byte in &piece.value {
                match byte {
                    // A bare piece in an encoded value must not be decoded with it.
                    b'%' if encoded && !piece.encoded => value.extend_from_slice(b"%25"),
                    _ => value.push(byte),
                }
            }
        }
        joined.push((name, value));
    }
    joined
}

fn is_token(b: u8) -> bool {
    // RFC 2045 5.1, tspecials.
    b > 32 && b != 127 && !b"()<>@,;:\\\"/[]?=".contains(&b)
}
