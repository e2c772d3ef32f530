//! Bodies decoded for BINARY and SEARCH: transfer encoding, then charset, in a stream.

use encoding_rs::{CoderResult, Decoder, Encoding as Charset, UTF_8};

use super::content::Encoding;

/// Undoes a transfer encoding. Chunks may be cut anywhere; broken input is decoded as far as it
/// makes sense (RFC 2045 6.7 and 6.8 leave it to the reader).
#[derive(Clone, Debug)]
pub struct TransferDecoder {
    encoding: Encoding,
    /// Base64: bits collected, newest lowest, and how many characters they came from.
    bits: u32,
    chars: u32,
    /// Quoted-printable: what follows a `=`, or blanks that may end the line.
    held: Vec<u8>,
}

/// More blanks than this in a row are content, wherever they stand.
const BLANKS_MAX: usize = 1_000;

impl TransferDecoder {
    /// A decoder for one body. An unknown encoding is passed through.
    #[must_use]
    pub fn new(encoding: Encoding) -> Self {
        TransferDecoder {
            encoding,
            bits: 0,
            chars: 0,
            held: Vec::new(),
        }
    }

    /// Appends what `chunk` decodes to.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Identity | Encoding::Unknown => out.extend_from_slice(chunk),
            Encoding::Base64 => self.feed_base64(chunk, out),
            Encoding::QuotedPrintable => self.feed_quoted(chunk, out),
        }
    }

    /// Appends what is left at the end of the body.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Base64 => self.end_quantum(out),
            Encoding::QuotedPrintable if self.held.first() == Some(&b'=') => {
                // A soft line break may end the body.
                let soft = self.held[1..]
                    .iter()
                    .all(|b| matches!(b, b' ' | b'\t' | b'\r'));
                out.extend_from_slice(if soft { b"" } else { &self.held });
            }
            _ => {}
        }
        self.held.clear();
    }

    fn feed_base64(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.reserve(chunk.len() / 4 * 3 + 3);
        for &byte in chunk {
            match BASE64[usize::from(byte)] {
                NOT_BASE64 if byte == b'=' => self.end_quantum(out),
                NOT_BASE64 => {}
                value => {
                    self.bits = self.bits << 6 | u32::from(value);
                    self.chars += 1;
                    if self.chars == 4 {
                        out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                        (self.bits, self.chars) = (0, 0);
                    }
                }
            }
        }
    }

    /// Padding or the end: two characters hold one byte, three hold two.
    fn end_quantum(&mut self, out: &mut Vec<u8>) {
        match self.chars {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => {}
        }
        (self.bits, self.chars) = (0, 0);
    }

    fn feed_quoted(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for &byte in chunk {
            if self.held.first() == Some(&b'=') {
                self.after_equals(byte, out);
                continue;
            }
            match byte {
                b'=' => {
                    out.append(&mut self.held);
                    self.held.push(b'=');
                }
                b' ' | b'\t' | b'\r' if self.held.len() < BLANKS_MAX => self.held.push(byte),
                b'\n' => {
                    // RFC 2045 6.7 rule 3: blanks at a line's end were added on the way.
                    let cr = self.held.last() == Some(&b'\r');
                    self.held.clear();
                    out.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
                }
                _ => {
                    out.append(&mut self.held);
                    out.push(byte);
                }
            }
        }
    }

    fn after_equals(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (&self.held[1..], byte) {
            (_, b'\n') => self.held.clear(),
            ([], b) if hex(b).is_some() => self.held.push(b),
            ([high], low) if hex(*high).is_some() && hex(low).is_some() => {
                out.extend(hex(*high).zip(hex(low)).map(|(high, low)| high << 4 | low));
                self.held.clear();
            }
            (held, b' ' | b'\t' | b'\r')
                if held.len() < BLANKS_MAX && held.first().is_none_or(|&b| hex(b).is_none()) =>
            {
                self.held.push(byte);
            }
            // Not an escape: it stands for itself, and the byte begins anew.
            _ => {
                out.append(&mut self.held);
                self.feed_quoted(&[byte], out);
            }
        }
    }
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

const NOT_BASE64: u8 = 0xff;

const BASE64: [u8; 256] = {
    let mut table = [NOT_BASE64; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut at = 0;
    while at < 64 {
        table[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    table
};

/// Decodes a text body to UTF-8 in a stream. Never fails: what is no text of its charset becomes
/// U+FFFD.
pub struct TextDecoder {
    transfer: TransferDecoder,
    charset: Decoder,
    bytes: Vec<u8>,
    text: String,
}

/// Text handed out at once.
const TEXT_BYTES_MAX: usize = 16 << 10;

impl TextDecoder {
    /// A decoder for a body of this encoding and charset. No, ASCII or unknown charset counts as
    /// UTF-8, of which ASCII is a part.
    #[must_use]
    pub fn new(encoding: Encoding, charset: &[u8]) -> Self {
        let ascii = charset.is_empty() || charset.eq_ignore_ascii_case(b"us-ascii");
        let known = if ascii {
            None
        } else {
            Charset::for_label(charset)
        };
        TextDecoder {
            transfer: TransferDecoder::new(encoding),
            charset: known.unwrap_or(UTF_8).new_decoder_without_bom_handling(),
            bytes: Vec::new(),
            text: String::with_capacity(TEXT_BYTES_MAX),
        }
    }

    /// Decodes `chunk`; `sink` gets the text piece by piece.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(&str)) {
        for chunk in chunk.chunks(TEXT_BYTES_MAX) {
            self.transfer.feed(chunk, &mut self.bytes);
            self.drain(false, sink);
        }
    }

    /// Ends the body.
    pub fn finish(mut self, sink: &mut impl FnMut(&str)) {
        self.transfer.finish(&mut self.bytes);
        self.drain(true, sink);
    }

    fn drain(&mut self, last: bool, sink: &mut impl FnMut(&str)) {
        let mut rest = &self.bytes[..];
        loop {
            self.text.clear();
            let (result, read, _) = self.charset.decode_to_string(rest, &mut self.text, last);
            rest = &rest[read..];
            if !self.text.is_empty() {
                sink(&self.text);
            }
            if result == CoderResult::InputEmpty {
                break;
            }
        }
        self.bytes.clear();
    }
}
