//! Encoded words in header values (RFC 2047), as UTF-8.

use encoding_rs::{Encoding as Charset, UTF_8, WINDOWS_1252};

use super::content::Encoding;
use super::decode::{TransferDecoder, hex};
use super::header::unfold;

/// Decodes a header value: folds go, encoded words become their text, white space between two of
/// them goes (RFC 2047 6.2), and a character cut between two words of one charset is made whole.
/// Raw 8-bit text counts as UTF-8, or as windows-1252 where it is not.
#[must_use]
pub fn decode_words(value: &[u8]) -> String {
    let value = unfold(value);
    let mut out = String::with_capacity(value.len());
    let mut pending = Pending {
        charset: UTF_8,
        bytes: Vec::new(),
    };
    let mut rest = &value[..];
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        let Some((word, used)) = encoded_word(&rest[at..]) else {
            pending.flush(&mut out);
            push_raw(&rest[..at + 2], &mut out);
            rest = &rest[at + 2..];
            continue;
        };
        let blank = rest[..at].iter().all(u8::is_ascii_whitespace);
        if pending.bytes.is_empty() || !blank {
            pending.flush(&mut out);
            push_raw(&rest[..at], &mut out);
        }
        pending.push(word, &mut out);
        rest = &rest[at + used..];
    }
    pending.flush(&mut out);
    push_raw(rest, &mut out);
    out
}

struct Word {
    charset: &'static Charset,
    bytes: Vec<u8>,
}

/// Decoded bytes that wait for the next word of the same charset.
struct Pending {
    charset: &'static Charset,
    bytes: Vec<u8>,
}

impl Pending {
    fn push(&mut self, word: Word, out: &mut String) {
        if word.charset != self.charset {
            self.flush(out);
            self.charset = word.charset;
        }
        self.bytes.extend_from_slice(&word.bytes);
    }

    fn flush(&mut self, out: &mut String) {
        out.push_str(&self.charset.decode_without_bom_handling(&self.bytes).0);
        self.bytes.clear();
    }
}

fn push_raw(bytes: &[u8], out: &mut String) {
    match str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.push_str(&WINDOWS_1252.decode_without_bom_handling(bytes).0),
    }
}

/// Longest encoded word looked for; RFC 2047 2 allows 75. It keeps a header made of word beginnings
/// from being scanned once for each of them.
const WORD_BYTES_MAX: usize = 4_096;

/// `=?charset?encoding?text?=` at the start of `bytes`, and its length.
fn encoded_word(bytes: &[u8]) -> Option<(Word, usize)> {
    let bytes = &bytes[..bytes.len().min(WORD_BYTES_MAX)];
    let mut fields = bytes[2..].splitn(3, |&b| b == b'?');
    let charset = fields.next()?;
    let encoding = fields.next()?;
    let text_and_rest = fields.next()?;
    let end = memchr::memmem::find(text_and_rest, b"?=")?;
    let text = &text_and_rest[..end];
    if text.iter().any(|b| matches!(b, b'\r' | b'\n')) || charset.is_empty() {
        return None;
    }
    // RFC 2231 5: a language may follow the charset.
    let charset = charset.split(|&b| b == b'*').next()?;
    let charset = Charset::for_label(charset)?;
    let decoded = match encoding {
        b"B" | b"b" => decode_base64(text),
        b"Q" | b"q" => decode_q(text),
        _ => return None,
    };
    let used = bytes.len() - text_and_rest.len() + end + 2;
    Some((
        Word {
            charset,
            bytes: decoded,
        },
        used,
    ))
}

fn decode_base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = TransferDecoder::new(Encoding::Base64);
    decoder.feed(text, &mut out);
    decoder.finish(&mut out);
    out
}

/// RFC 2047 4.2.
fn decode_q(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'_', _) => out.push(b' '),
            (b'=', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.extend(hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low));
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    out
}
