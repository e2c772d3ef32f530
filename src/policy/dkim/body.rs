//! The hash of a body, canonicalised `relaxed` while it streams by (RFC 6376 3.4.4).

use aws_lc_rs::digest::{Context, SHA256};

const READY_BYTES: usize = 512;

/// Takes a body in chunks, cut anywhere, lines ending in CRLF. A CR or LF alone is an octet like
/// any other.
#[derive(Clone)]
pub struct BodyHash {
    sha256: Context,
    /// Canonical octets on their way to the hash, which likes them in pieces.
    ready: [u8; READY_BYTES],
    ready_bytes: usize,
    /// Line ends held back: those at the very end do not count.
    line_ends: u64,
    /// White space held back: at the end of a line it does not count.
    space: bool,
    /// The last octet was a CR, which may begin a line end.
    cr: bool,
    bytes: u64,
}

/// The finished hash of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest(pub [u8; 32]);

impl Default for BodyHash {
    fn default() -> Self {
        BodyHash {
            sha256: Context::new(&SHA256),
            ready: [0; READY_BYTES],
            ready_bytes: 0,
            line_ends: 0,
            space: false,
            cr: false,
            bytes: 0,
        }
    }
}

impl BodyHash {
    /// Takes the next octets.
    pub fn update(&mut self, chunk: &[u8]) {
        for &octet in chunk {
            if std::mem::take(&mut self.cr) {
                if octet == b'\n' {
                    self.end_line();
                    continue;
                }
                self.put(b'\r');
            }
            match octet {
                b'\r' => self.cr = true,
                b' ' | b'\t' => self.space = true,
                octet => self.put(octet),
            }
        }
    }

    /// The hash of all that came.
    #[must_use]
    pub fn finish(mut self) -> BodyDigest {
        if self.cr {
            self.put(b'\r');
        }
        // A last line without an end gets one; a body without a line stays empty.
        if self.bytes > 0 {
            self.line_ends = 1;
            self.write_line_ends();
        }
        self.sha256.update(&self.ready[..self.ready_bytes]);
        let digest = self.sha256.finish();
        BodyDigest(digest.as_ref().try_into().expect("SHA-256 has 32 octets"))
    }

    fn end_line(&mut self) {
        self.space = false;
        self.line_ends += 1;
    }

    /// An octet that counts: what was held back before it counts too.
    fn put(&mut self, octet: u8) {
        self.write_line_ends();
        if std::mem::take(&mut self.space) {
            self.push(b' ');
        }
        self.push(octet);
    }

    fn write_line_ends(&mut self) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.push(b'\r');
            self.push(b'\n');
        }
    }

    fn push(&mut self, octet: u8) {
        if self.ready_bytes == READY_BYTES {
            self.sha256.update(&self.ready);
            self.ready_bytes = 0;
        }
        self.ready[self.ready_bytes] = octet;
        self.ready_bytes += 1;
        self.bytes += 1;
    }
}
