//! IMAP strings, and bodies with CRLF line ends.

use std::io::Write;

use memchr::memchr;

/// Writes `bytes` as an IMAP string: quoted where RFC 9051 4.3 allows it in every revision
/// (7-bit, no line end), else as a literal. NUL may stand in neither and becomes `?`.
pub fn put_string(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes
        .iter()
        .all(|b| matches!(b, 1..=9 | 11 | 12 | 14..=127))
    {
        out.push(b'"');
        for &b in bytes {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(b);
        }
        out.push(b'"');
        return;
    }
    write!(out, "{{{}}}\r\n", bytes.len()).expect("a Vec takes all");
    out.extend(bytes.iter().map(|&b| if b == 0 { b'?' } else { b }));
}

/// Writes an IMAP nstring.
pub fn put_nstring(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => put_string(bytes, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes a stored body for the wire: bare LF becomes CRLF, all else stays. Chunks may be cut
/// anywhere.
#[derive(Clone, Debug, Default)]
pub struct CrlfWriter {
    after_cr: bool,
}

impl CrlfWriter {
    /// Appends `chunk` to `out`.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(at) = memchr(b'\n', rest) {
            out.extend_from_slice(&rest[..at]);
            let cr_before = if at == 0 {
                self.after_cr
            } else {
                rest[at - 1] == b'\r'
            };
            out.extend_from_slice(if cr_before { b"\n" } else { b"\r\n" });
            rest = &rest[at + 1..];
            self.after_cr = false;
        }
        out.extend_from_slice(rest);
        if let Some(&last) = rest.last() {
            self.after_cr = last == b'\r';
        }
    }
}
