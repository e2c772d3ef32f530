//! What the server says, appended to the caller's buffer without formatting machinery.

use super::cursor::is_astring_char;
use super::flag::Flag;
use super::mailbox_name::{Coding, encode_utf7};

/// Longer texts go as literals: some clients read lines into small buffers.
const QUOTED_BYTES_MAX: usize = 1_000;

/// A decimal number.
pub fn number(out: &mut Vec<u8>, mut n: u64) {
    // 20 digits hold u64::MAX.
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// `string`: quoted where the text allows it, else a literal (RFC 9051 4.3).
pub fn string(out: &mut Vec<u8>, text: &[u8], coding: Coding) {
    if !fits_quoted(text, coding) {
        return literal(out, text);
    }
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// `nstring`: `NIL` for what is not there.
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>, coding: Coding) {
    match text {
        Some(text) => string(out, text, coding),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `astring`: bare where every octet allows it.
pub fn astring(out: &mut Vec<u8>, text: &[u8], coding: Coding) {
    // A bare NIL is an astring too, but readers differ on it.
    let bare = !text.is_empty()
        && text.iter().all(|b| is_astring_char(*b))
        && !text.eq_ignore_ascii_case(b"NIL");
    match bare {
        true => out.extend_from_slice(text),
        false => string(out, text, coding),
    }
}

/// A mailbox name, given in UTF-8.
pub fn mailbox(out: &mut Vec<u8>, name: &str, coding: Coding) {
    match coding {
        Coding::Ascii => astring(out, encode_utf7(name).as_bytes(), coding),
        Coding::Utf8 => astring(out, name.as_bytes(), coding),
    }
}

/// An untagged LIST or LSUB response, whose name is `response` (RFC 9051 7.3.1). Extended data
/// such as CHILDINFO goes behind it, so the line end is the caller's.
pub fn list_response(
    out: &mut Vec<u8>,
    response: &str,
    attributes: &[&str],
    separator: Option<u8>,
    name: &str,
    coding: Coding,
) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(response.as_bytes());
    out.extend_from_slice(b" (");
    for (n, attribute) in attributes.iter().enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(attribute.as_bytes());
    }
    out.extend_from_slice(b") ");
    nstring(
        out,
        separator.as_ref().map(std::slice::from_ref),
        Coding::Ascii,
    );
    out.push(b' ');
    mailbox(out, name, coding);
}

/// `literal`. It must not hold NUL (RFC 9051 9, CHAR8): where a message does, its sender decides.
pub fn literal(out: &mut Vec<u8>, body: &[u8]) {
    literal_head(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// The announcement of a literal whose octets the caller sends.
pub fn literal_head(out: &mut Vec<u8>, bytes: u64) {
    out.push(b'{');
    number(out, bytes);
    out.extend_from_slice(b"}\r\n");
}

/// The same for a literal8, which may hold NUL (RFC 3516 4.3).
pub fn literal8_head(out: &mut Vec<u8>, bytes: u64) {
    out.push(b'~');
    literal_head(out, bytes);
}

/// `flag-list`: in parentheses.
pub fn flag_list<'a>(out: &mut Vec<u8>, flags: impl IntoIterator<Item = Flag<'a>>) {
    out.push(b'(');
    for (n, flag) in flags.into_iter().enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        flag.write(out);
    }
    out.push(b')');
}

/// `sequence-set` of rising numbers, runs as `low:high`. Writes nothing for no numbers, which
/// have no form (RFC 9051 9).
pub fn sequence_set(out: &mut Vec<u8>, rising: impl IntoIterator<Item = u32>) {
    let mut numbers = rising.into_iter().peekable();
    let mut comma = false;
    while let Some(low) = numbers.next() {
        let mut high = low;
        while let Some(next) = numbers.next_if(|next| high.checked_add(1) == Some(*next)) {
            high = next;
        }
        if comma {
            out.push(b',');
        }
        comma = true;
        number(out, u64::from(low));
        if high > low {
            out.push(b':');
            number(out, u64::from(high));
        }
    }
}

fn fits_quoted(text: &[u8], coding: Coding) -> bool {
    if text.len() > QUOTED_BYTES_MAX || memchr::memchr3(b'\r', b'\n', 0, text).is_some() {
        return false;
    }
    match coding {
        Coding::Ascii => text.is_ascii(),
        Coding::Utf8 => std::str::from_utf8(text).is_ok(),
    }
}
