//! The walk over a message: one pass, chunks cut anywhere.
//!
//! The walker keeps a stack of open entities. In a header it collects the block; in a body it only
//! looks at lines that begin with `--` while some multipart is open, and skips to the next such
//! line with a substring search. A delimiter line closes what is open below its multipart; the line
//! end before it belongs to the delimiter (RFC 2046 5.1.1), so parts end before that.
//!
//! A delimiter matches as a prefix of the line, the longest boundary first, then the innermost: so
//! boundaries that are prefixes of one another nest in either order.

use memchr::{memchr, memmem};

use super::digest::{Digest, Part, PartKind, is_hot};
use super::header::{Fields, find};
use super::structure::{Described, WalkedPart, describe, nested_envelope, render};
use crate::base;
use crate::wire::dates::parse_date;

/// Bounds of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Header bytes of one entity; what comes after counts as body.
    pub header_bytes_max: usize,
    /// Nesting; what lies deeper is a leaf.
    pub depth_max: usize,
    /// Parts; what comes after belongs to the last open multipart and to none of its parts.
    pub parts_max: usize,
    /// Bytes of structure text kept over all parts; later parts are described without detail.
    pub structure_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_bytes_max: base::HEADER_BYTES_MAX,
            depth_max: base::MIME_DEPTH_MAX,
            parts_max: 10_000,
            structure_bytes_max: 4 << 20,
        }
    }
}

/// A place in the message and what was counted up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    at: u64,
    lf: u64,
    bare_lf: u64,
}

impl Mark {
    fn later(self, other: Mark) -> Mark {
        if other.at > self.at { other } else { self }
    }

    fn earlier(self, other: Mark) -> Mark {
        if other.at < self.at { other } else { self }
    }
}

#[derive(Debug)]
struct Open {
    /// Index into `parts`.
    part: usize,
    header_start: Mark,
    /// `None` while the header is being read.
    body_start: Option<Mark>,
    /// Set in a multipart until its closing delimiter.
    boundary: Option<Vec<u8>>,
    /// Header fields without a Content-Type mean message/rfc822.
    in_digest: bool,
    /// Parts of this multipart are such.
    is_digest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// In the header of the innermost entity.
    Header,
    /// In a body, at the first byte of a line (or inside one whose first bytes are in `head`).
    LineStart,
    /// In a body, inside a line that is no delimiter.
    InLine,
    /// Behind a delimiter, up to its line end; then in a header if a part was begun.
    AfterDelimiter { part_begins: bool },
}

/// Walks one message. See the module's text.
#[derive(Debug)]
pub struct Walker {
    limits: Limits,
    delimiter: memmem::Finder<'static>,
    mode: Mode,
    here: Mark,
    /// The last two bytes consumed, the newest second.
    tail: [u8; 2],
    /// The header being read, and where its current line begins.
    header: Vec<u8>,
    header_line: usize,
    /// First bytes of a body line that could be a delimiter and was cut by a chunk's end.
    head: Vec<u8>,
    open: Vec<Open>,
    /// Longest open boundary; 0 when there is none.
    boundary_bytes: usize,
    parts: Vec<WalkedPart>,
    structure_bytes: usize,
    digest: Digest,
}

impl Walker {
    /// Begins a message.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let mut walker = Walker {
            limits,
            delimiter: memmem::Finder::new(b"\n--"),
            mode: Mode::Header,
            here: Mark::default(),
            tail: [0; 2],
            header: Vec::new(),
            header_line: 0,
            head: Vec::new(),
            open: Vec::new(),
            boundary_bytes: 0,
            parts: Vec::new(),
            structure_bytes: 0,
            digest: Digest::default(),
        };
        walker.open_part(false);
        walker
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = match self.mode {
                Mode::Header => self.feed_header(rest),
                Mode::LineStart => self.feed_line_start(rest),
                Mode::InLine => self.feed_in_line(rest),
                Mode::AfterDelimiter { .. } => self.feed_delimiter(rest),
            };
            rest = &rest[used..];
        }
    }

    /// Ends the message.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if self.mode == Mode::LineStart && !self.head.is_empty() {
            self.decide_head();
        }
        if self.mode == Mode::Header && self.header_line < self.header.len() {
            self.end_header_line();
        }
        if matches!(self.mode, Mode::AfterDelimiter { .. }) {
            self.end_delimiter_line();
        }
        self.close_down_to(0, self.here);
        let mut digest = self.digest;
        digest.bytes = self.here.at;
        digest.crlf_bytes = self.here.at + self.here.bare_lf;
        render(&self.parts, true, &mut digest.structure);
        render(&self.parts, false, &mut digest.body);
        digest.parts = self.parts.into_iter().map(part_of).collect();
        digest
    }

    /// Counts bytes as consumed.
    fn advance(&mut self, bytes: &[u8]) {
        let Some(&first) = bytes.first() else { return };
        let (mut lf, mut bare_lf) = count_line_ends(bytes);
        if first == b'\n' {
            lf += 1;
            bare_lf += u64::from(self.tail[1] != b'\r');
        }
        self.here.at += bytes.len() as u64;
        self.here.lf += lf;
        self.here.bare_lf += bare_lf;
        self.tail = match *bytes {
            [.., a, b] => [a, b],
            _ => [self.tail[1], first],
        };
    }

    /// The place before the line end that was just consumed.
    fn before_line_end(&self) -> Mark {
        let here = self.here;
        match self.tail {
            [b'\r', b'\n'] => Mark {
                at: here.at - 2,
                lf: here.lf - 1,
                ..here
            },
            [_, b'\n'] => Mark {
                at: here.at - 1,
                lf: here.lf - 1,
                bare_lf: here.bare_lf - 1,
            },
            _ => here,
        }
    }

    fn feed_header(&mut self, rest: &[u8]) -> usize {
        let line_end = memchr(b'\n', rest);
        let room = self.limits.header_bytes_max - self.header.len();
        let used = line_end.map_or(rest.len(), |at| at + 1);
        if used > room {
            self.overflow_header();
            return 0;
        }
        self.header.extend_from_slice(&rest[..used]);
        if line_end.is_some() {
            self.end_header_line();
        }
        used
    }

    /// The header is too long: it ends before its current line, with which the body begins.
    fn overflow_header(&mut self) {
        let line = self.header.split_off(self.header_line);
        self.end_header();
        if self.mode == Mode::Header {
            // That body is a message, so the line begins a header again, with a budget of its own.
            self.header = line;
        } else {
            self.feed(&line);
        }
    }

    /// The header holds a whole line more: a field line, the blank line, or a delimiter.
    fn end_header_line(&mut self) {
        let mut header = std::mem::take(&mut self.header);
        let line = &header[self.header_line..];
        let delimits = self.matching(line);
        if let Some((at, closes)) = delimits {
            // The header ended without a blank line.
            let line = header.split_off(self.header_line);
            self.header = header;
            self.delimit(at, closes);
            self.advance(&line);
            if line.ends_with(b"\n") {
                self.end_delimiter_line();
            }
            return;
        }
        let blank = line == b"\n" || line == b"\r\n";
        self.advance(line);
        self.header_line = header.len();
        self.header = header;
        if blank {
            self.end_header();
        }
    }

    fn feed_delimiter(&mut self, rest: &[u8]) -> usize {
        let end = memchr(b'\n', rest);
        let used = end.map_or(rest.len(), |at| at + 1);
        self.advance(&rest[..used]);
        if end.is_some() {
            self.end_delimiter_line();
        }
        used
    }

    /// What a delimiter begins, begins after its line.
    fn end_delimiter_line(&mut self) {
        if self.mode != (Mode::AfterDelimiter { part_begins: true }) {
            self.mode = Mode::LineStart;
            return;
        }
        self.mode = Mode::Header;
        let here = self.here;
        if let Some(open) = self.open.last_mut() {
            open.header_start = here;
        }
    }

    fn feed_line_start(&mut self, rest: &[u8]) -> usize {
        if self.boundary_bytes == 0 || (self.head.is_empty() && rest[0] != b'-') {
            self.mode = Mode::InLine;
            return 0;
        }
        // Two dashes before, two after, and the longest boundary decide a line.
        let wanted = self.boundary_bytes + 4 - self.head.len();
        let window = &rest[..rest.len().min(wanted)];
        let line_end = memchr(b'\n', window);
        let used = line_end.map_or(window.len(), |at| at);
        self.head.extend_from_slice(&window[..used]);
        if line_end.is_some() || window.len() == wanted {
            self.decide_head();
        }
        used
    }

    /// Decides whether the collected head of a line is a delimiter.
    fn decide_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        match self.matching(&head) {
            Some((at, closes)) => self.delimit(at, closes),
            None => self.mode = Mode::InLine,
        }
        self.advance(&head);
        self.head = head;
        self.head.clear();
    }

    fn feed_in_line(&mut self, rest: &[u8]) -> usize {
        if self.boundary_bytes == 0 {
            self.advance(rest);
            return rest.len();
        }
        // The line end that was cut off from its dashes by a chunk's end is found here too, since
        // a chunk that ends in LF leaves the walker at a line start.
        let used = match self.delimiter.find(rest) {
            Some(at) => at + 1,
            None if rest.ends_with(b"\n-") => rest.len() - 1,
            None => rest.len(),
        };
        self.advance(&rest[..used]);
        if rest[used - 1] == b'\n' {
            self.mode = Mode::LineStart;
        }
        used
    }

    /// The open multipart that a line delimits, and whether it closes it.
    fn matching(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?;
        let mut best: Option<(usize, usize)> = None;
        for (at, open) in self.open.iter().enumerate() {
            let Some(boundary) = &open.boundary else {
                continue;
            };
            if line.starts_with(boundary) && best.is_none_or(|(_, len)| boundary.len() >= len) {
                best = Some((at, boundary.len()));
            }
        }
        let (at, len) = best?;
        Some((at, line[len..].starts_with(b"--")))
    }

    /// A delimiter of `open[at]` begins here: closes what is below, opens a part unless it is the
    /// closing one.
    fn delimit(&mut self, at: usize, closes: bool) {
        let end = self.before_line_end();
        self.close_down_to(at + 1, end);
        if closes {
            self.open[at].boundary = None;
            self.measure_boundaries();
            self.mode = Mode::AfterDelimiter { part_begins: false };
        } else if self.parts.len() >= self.limits.parts_max {
            for open in &mut self.open {
                open.boundary = None;
            }
            self.measure_boundaries();
            self.mode = Mode::AfterDelimiter { part_begins: false };
        } else {
            self.open_part(self.open[at].is_digest);
            self.mode = Mode::AfterDelimiter { part_begins: true };
        }
    }

    fn open_part(&mut self, in_digest: bool) {
        self.open.push(Open {
            part: self.parts.len(),
            header_start: self.here,
            body_start: None,
            boundary: None,
            in_digest,
            is_digest: false,
        });
        self.parts.push(WalkedPart::default());
        self.header.clear();
        self.header_line = 0;
    }

    /// The header of the innermost entity ends here.
    fn end_header(&mut self) {
        self.mode = Mode::LineStart;
        let nesting =
            self.open.len() < self.limits.depth_max && self.parts.len() < self.limits.parts_max;
        let here = self.here;
        let Some(open) = self.open.last_mut() else {
            return;
        };
        open.body_start = Some(here);
        let part = open.part;
        let mut described = self.describe_header(nesting);
        let kind = described.kind;
        if let Some(open) = self.open.last_mut() {
            open.is_digest = described.is_digest;
            open.boundary = described.boundary.take();
        }
        self.parts[part].described = described;
        self.measure_boundaries();
        if kind == PartKind::Message {
            self.open_part(false);
            self.mode = Mode::Header;
        }
    }

    /// Reads the collected header of the innermost entity.
    fn describe_header(&mut self, nesting: bool) -> Described {
        let full = self.structure_bytes > self.limits.structure_bytes_max;
        let header = std::mem::take(&mut self.header);
        let block = if full { &[][..] } else { &header[..] };
        let in_digest = match &self.open[..] {
            [.., parent, open] => {
                if self.parts[parent.part].described.kind == PartKind::Message {
                    let envelope = nested_envelope(block);
                    self.structure_bytes += envelope.len();
                    self.parts[open.part].envelope = envelope;
                }
                open.in_digest
            }
            _ => {
                self.describe_message(&header);
                false
            }
        };
        let described = describe(block, in_digest && !full, nesting);
        self.structure_bytes += described.kept_bytes();
        self.header = header;
        described
    }

    /// What the digest keeps of the top header.
    fn describe_message(&mut self, header: &[u8]) {
        super::envelope(header, &mut self.digest.envelope);
        for field in Fields::new(header) {
            if is_hot(field.name) {
                self.digest.hot.extend_from_slice(field.line);
            }
        }
        self.digest.date = find(header, b"Date").and_then(parse_date);
    }

    fn measure_boundaries(&mut self) {
        let lengths = self
            .open
            .iter()
            .filter_map(|open| open.boundary.as_ref().map(Vec::len));
        self.boundary_bytes = lengths.max().unwrap_or(0);
    }

    /// Closes the open entities from index `from` on, which end at `end`.
    fn close_down_to(&mut self, from: usize, end: Mark) {
        if self.open.len() <= from {
            return;
        }
        self.end_unfinished_header(end);
        let mut limit = None;
        for at in from..self.open.len() {
            limit = Some(self.close_one(at, end, limit));
        }
        while self.open.len() > from {
            let Some(open) = self.open.pop() else { break };
            self.close_empty(open.part);
            let subtree = self.parts.len() - open.part;
            self.parts[open.part].range.subtree = subtree as u32;
        }
        self.measure_boundaries();
    }

    /// An entity that ends within its header has a header without blank line and an empty body.
    fn end_unfinished_header(&mut self, end: Mark) {
        let Some(open) = self.open.last_mut() else {
            return;
        };
        if open.body_start.is_some() {
            return;
        }
        open.body_start = Some(end.later(open.header_start));
        let part = open.part;
        let nesting = self.open.len() < self.limits.depth_max;
        let described = self.describe_header(nesting);
        self.parts[part].described = described;
    }

    /// Fixes the range of `open[at]`; `limit` is where its parent ends. Returns where it ends.
    fn close_one(&mut self, at: usize, end: Mark, limit: Option<Mark>) -> Mark {
        let open = &self.open[at];
        let clip = |mark: Mark| limit.map_or(mark, |limit| mark.earlier(limit));
        // A delimiter right after a blank line or another delimiter has no line end of its own
        // to take: the body is empty, not negative.
        let header_start = clip(open.header_start);
        let body_start = clip(open.body_start.unwrap_or(open.header_start)).later(header_start);
        let end = clip(end.later(body_start));
        let part = &mut self.parts[open.part];
        part.range.header_start = header_start.at;
        part.range.header_len = body_start.at - header_start.at;
        part.range.header_bare_lf = body_start.bare_lf - header_start.bare_lf;
        part.range.body_len = end.at - body_start.at;
        part.range.body_bare_lf = end.bare_lf - body_start.bare_lf;
        part.lines = end.lf - body_start.lf;
        end
    }

    /// RFC 2046 5.1.1 wants a part in every multipart, RFC 9051 9 wants one in body-type-mpart and
    /// body-type-msg: where the message has none, an empty text stands for it.
    fn close_empty(&mut self, part: usize) {
        let is_last = self.parts.len() == part + 1;
        let parent = &self.parts[part];
        if parent.described.kind == PartKind::Leaf || !is_last {
            return;
        }
        let mut range = parent.range;
        range.header_start += range.header_len + range.body_len;
        (range.header_len, range.header_bare_lf) = (0, 0);
        (range.body_len, range.body_bare_lf, range.subtree) = (0, 0, 1);
        let described = describe(b"", false, false);
        let envelope = nested_envelope(b"");
        self.parts.push(WalkedPart {
            described,
            range,
            lines: 0,
            envelope,
        });
    }
}

fn part_of(walked: WalkedPart) -> Part {
    Part {
        kind: walked.described.kind,
        is_text: walked.described.is_text,
        encoding: walked.described.encoding,
        charset: walked.described.charset,
        range: walked.range,
    }
}

/// Line feeds, and those without CR, from the second byte on.
fn count_line_ends(bytes: &[u8]) -> (u64, u64) {
    // Blocks short enough for byte counters, so that the loop runs in vector registers.
    const BLOCK: usize = 240;
    let (mut lf, mut bare_lf) = (0u64, 0u64);
    let before = &bytes[..bytes.len() - 1];
    for (before, block) in before.chunks(BLOCK).zip(bytes[1..].chunks(BLOCK)) {
        let (mut block_lf, mut block_bare) = (0u8, 0u8);
        for (&before, &byte) in before.iter().zip(block) {
            let is_lf = u8::from(byte == b'\n');
            block_lf += is_lf;
            block_bare += is_lf & u8::from(before != b'\r');
        }
        lf += u64::from(block_lf);
        bare_lf += u64::from(block_bare);
    }
    (lf, bare_lf)
}
