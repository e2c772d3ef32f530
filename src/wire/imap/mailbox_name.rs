//! Mailbox names: modified UTF-7 (RFC 3501 5.1.3), INBOX in any case, and LIST wildcards.

use std::borrow::Cow;

use crate::base::MAILBOX_NAME_BYTES_MAX;

/// What names and quoted strings hold beyond ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// IMAP4rev1: names in modified UTF-7, quoted strings without 8-bit octets.
    Ascii,
    /// After ENABLE IMAP4rev2 or UTF8=ACCEPT: UTF-8 in both (RFC 9051 5.1, RFC 6855 3).
    Utf8,
}

/// Why a mailbox name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not the one form that modified UTF-7 allows for a name, or 8-bit octets where it rules.
    BadUtf7,
    NotUtf8,
    /// A control character (RFC 9051 5.1 lets a server refuse them).
    Control,
    /// Over [`MAILBOX_NAME_BYTES_MAX`].
    TooLong,
}

/// Reads a name as it came in a command.
pub(super) fn read(bytes: &[u8], coding: Coding) -> Result<Cow<'_, str>, NameError> {
    let name = match coding {
        Coding::Ascii => decode_utf7(bytes)?,
        Coding::Utf8 => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| NameError::NotUtf8)?,
    };
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    match name.len() > MAILBOX_NAME_BYTES_MAX {
        true => Err(NameError::TooLong),
        false => Ok(name),
    }
}

/// INBOX in any case is the one name INBOX (RFC 9051 5.1).
#[must_use]
pub fn canonical(name: Cow<'_, str>) -> Cow<'_, str> {
    match name.eq_ignore_ascii_case("INBOX") {
        true => Cow::Borrowed("INBOX"),
        false => name,
    }
}

/// Modified UTF-7 to UTF-8. Only the canonical form passes, so that a mailbox has one name.
pub fn decode_utf7(bytes: &[u8]) -> Result<Cow<'_, str>, NameError> {
    let printable = |b: &u8| matches!(b, 0x20..=0x7e);
    if !bytes.iter().all(printable) {
        return Err(match bytes.is_ascii() {
            true => NameError::Control,
            false => NameError::BadUtf7,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::BadUtf7)?;
    if !text.contains('&') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_run = false;
    while let Some((plain, shifted)) = rest.split_once('&') {
        let (code, after) = shifted.split_once('-').ok_or(NameError::BadUtf7)?;
        out.push_str(plain);
        match code {
            "" => out.push('&'),
            // Two runs side by side could be one: a "superfluous shift" (RFC 3501 5.1.3).
            _ if plain.is_empty() && after_run => return Err(NameError::BadUtf7),
            code => decode_shifted(code, &mut out)?,
        }
        after_run = !code.is_empty();
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// UTF-8 to modified UTF-7.
#[must_use]
pub fn encode_utf7(name: &str) -> Cow<'_, str> {
    let plain = |c: char| matches!(c, ' '..='~') && c != '&';
    if name.chars().all(plain) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if first == '&' {
            out.push_str("&-");
            rest = &rest[1..];
            continue;
        }
        let is_plain = plain(first);
        let run = rest.find(|c| plain(c) != is_plain || c == '&');
        let (run, after) = rest.split_at(run.unwrap_or(rest.len()));
        match is_plain {
            true => out.push_str(run),
            false => encode_shifted(run, &mut out),
        }
        rest = after;
    }
    Cow::Owned(out)
}

/// BASE64 of RFC 2045 with `,` for `/` (RFC 3501 5.1.3).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn decode_shifted(code: &str, out: &mut String) -> Result<(), NameError> {
    let mut units = Vec::with_capacity(code.len() * 6 / 16);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in code.bytes() {
        let value = BASE64.iter().position(|known| *known == b);
        bits = bits << 6 | value.ok_or(NameError::BadUtf7)? as u32;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    // What is left is padding: less than a digit, and zero.
    if held >= 6 || bits != 0 {
        return Err(NameError::BadUtf7);
    }
    for c in char::decode_utf16(units) {
        let c = c.map_err(|_| NameError::BadUtf7)?;
        // "MUST NOT be used to represent any printing US-ASCII character" (RFC 3501 5.1.3).
        if matches!(c, ' '..='~') {
            return Err(NameError::BadUtf7);
        }
        out.push(c);
    }
    Ok(())
}

fn encode_shifted(run: &str, out: &mut String) {
    out.push('&');
    let (mut bits, mut held) = (0u32, 0u32);
    for unit in run.encode_utf16() {
        bits = bits << 16 | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(char::from(BASE64[(bits >> held) as usize & 63]));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(char::from(BASE64[(bits << (6 - held)) as usize & 63]));
    }
    out.push('-');
}

/// A LIST pattern: `*` matches anything, `%` anything but the separator (RFC 9051 6.3.9).
///
/// Matching keeps the set of pattern positions that are possible so far, so it takes at most
/// pattern times name steps, whatever the client wrote.
#[derive(Clone, Debug)]
pub struct Wildcard {
    pattern: Vec<u8>,
    separator: u8,
    /// `possible[n]`: the first `n` bytes of the pattern match what was read of the name.
    possible: Vec<bool>,
}

impl Wildcard {
    /// A pattern in UTF-8, with the reference already put before it.
    #[must_use]
    pub fn new(pattern: &str, separator: u8) -> Self {
        let mut pattern = pattern.as_bytes().to_vec();
        pattern.dedup_by(|a, b| a == b && matches!(*a, b'*' | b'%'));
        let possible = vec![false; pattern.len() + 1];
        Wildcard {
            pattern,
            separator,
            possible,
        }
    }

    /// Whether `name`, in UTF-8, matches. INBOX matches in any case.
    pub fn matches(&mut self, name: &str) -> bool {
        let fold = name == "INBOX";
        self.possible.fill(false);
        self.possible[0] = true;
        self.pass_wildcards();
        let end = self.pattern.len();
        for b in name.bytes() {
            self.possible[end] = false;
            for n in (0..end).rev() {
                let here = self.possible[n];
                let (steps, stays) = match self.pattern[n] {
                    b'*' => (false, true),
                    b'%' => (false, b != self.separator),
                    p => (p == b || fold && p.eq_ignore_ascii_case(&b), false),
                };
                // Position n + 1 holds its new value already, from the round before.
                self.possible[n + 1] |= here && steps;
                self.possible[n] = here && stays;
            }
            self.pass_wildcards();
        }
        self.possible[end]
    }

    /// A wildcard may match nothing.
    fn pass_wildcards(&mut self) {
        for n in 0..self.pattern.len() {
            if matches!(self.pattern[n], b'*' | b'%') {
                self.possible[n + 1] |= self.possible[n];
            }
        }
    }
}
