//! Header and body hash of a message that leaves, for its signatures (RFC 6376). Works on what is
//! kept, in pieces cut anywhere; its line ends are those that it leaves with.

use memchr::memmem;

use crate::policy::dkim::{BodyDigest, BodyHash};
use crate::wire::smtp::ContentWriter;

/// A longer header is not signed.
const HEAD_BYTES_MAX: usize = 256 << 10;
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// What is to be signed, so far.
pub struct Seal {
    lines: ContentWriter,
    /// Scratch; empty between calls.
    piece: Vec<u8>,
    head: Vec<u8>,
    body: Option<BodyHash>,
    is_too_long: bool,
}

impl Default for Seal {
    fn default() -> Self {
        Seal {
            lines: ContentWriter::lines(),
            piece: Vec::new(),
            head: Vec::new(),
            body: None,
            is_too_long: false,
        }
    }
}

impl Seal {
    /// Takes a piece of the message.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut lines = std::mem::take(&mut self.piece);
        self.lines.feed(piece, &mut lines);
        self.take(&lines);
        lines.clear();
        self.piece = lines;
    }

    fn take(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body {
            return body.update(piece);
        }
        if self.is_too_long {
            return;
        }
        let from = self.head.len().saturating_sub(BLANK_LINE.len() - 1);
        self.head.extend_from_slice(piece);
        if let Some(at) = memmem::find(&self.head[from..], BLANK_LINE) {
            let end = from + at + 2;
            let mut body = BodyHash::default();
            body.update(&self.head[end + 2..]);
            self.head.truncate(end);
            self.body = Some(body);
        }
        self.is_too_long = self.head.len() > HEAD_BYTES_MAX;
    }

    /// Header and hash of the body; `None` where it is not to be signed.
    pub fn finish(mut self) -> Option<(Vec<u8>, BodyDigest)> {
        let mut end = Vec::new();
        self.lines.finish(&mut end);
        self.take(&end);
        let is_signed = !self.is_too_long;
        is_signed.then(|| (self.head, self.body.unwrap_or_default().finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<(&str, &str)>) {
        for size in [1, 3, 7, text.len()] {
            let mut seal = Seal::default();
            text.as_bytes().chunks(size).for_each(|c| seal.feed(c));
            let got = seal.finish();
            let want = want.map(|(head, body)| {
                let mut hash = BodyHash::default();
                hash.update(body.as_bytes());
                (head.as_bytes().to_vec(), hash.finish().0)
            });
            assert_eq!(got.map(|(h, d)| (h, d.0)), want, "{size}");
        }
    }

    #[test]
    fn the_blank_line_parts_them_wherever_pieces_end() {
        check(
            "From: a@b\r\nTo: c\r\n\r\nText\r\n\r\nmore\r\n",
            Some(("From: a@b\r\nTo: c\r\n", "Text\r\n\r\nmore\r\n")),
        );
        check("From: a@b\r\n\r\n", Some(("From: a@b\r\n", "")));
        check("From: a@b\r\n", Some(("From: a@b\r\n", "")));
        // As it leaves.
        check(
            "From: a@b\nTo: c\r\n\nText\rmore",
            Some(("From: a@b\r\nTo: c\r\n", "Text\r\nmore\r\n")),
        );
    }
}
