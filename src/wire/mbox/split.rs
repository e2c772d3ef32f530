//! Where messages begin and end.
//!
//! The caller keeps a window of the file and asks [`Splitter::step`] again and again, each time
//! dropping what was used. A message ends before a From line that follows a blank line, or that a
//! header field follows, or where its length says so and that fits: to know it the splitter asks
//! for a look at the octets there. The blank line before a From line is the file's, not the
//! message's.

use memchr::{memchr, memmem};

use super::Dialect;
use super::from_line::{FromLine, from_line};
use crate::wire::mime;

/// A window shorter than this is asked to grow, except at the end of the file.
pub const WINDOW_BYTES_MIN: usize = 64 << 10;
/// What a look must show, unless the file ends before.
pub const LOOK_BYTES: usize = 1_100;

/// The blank line before a From line, and the begin of that line.
const HELD_BYTES: usize = b"\r\n\r\nFrom ".len();
/// From where on a window is too short to judge a From line and the line behind it.
const LINES_BYTES: usize = 1_200;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'w> {
    /// A message begins: what its From line says.
    Begin(FromLine),
    /// Octets of the message, as they stand in the file.
    Piece(&'w [u8]),
    /// The message ended: where in the file its octets are.
    End { at: u64, len: u64 },
    /// Show what is at this offset: [`Splitter::looked`], and step again.
    Look(u64),
    /// The window must grow, or be the last.
    More,
    /// Here must stand a From line, and does not: no mbox file, or it was changed meanwhile.
    NoMbox,
    /// The end of the file.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Between,
    /// A From line was read, and the length of the header is not judged.
    Head,
    /// Ends where a From line does; the last octet before the window.
    Searching {
        last: u8,
    },
    /// Ends at this offset.
    Sized {
        end: u64,
    },
}

/// Splits one file.
#[derive(Clone, Debug)]
pub struct Splitter {
    dialect: Dialect,
    phase: Phase,
    /// Offset of the window's first octet.
    at: u64,
    /// Where the message began.
    begin: u64,
    look: Option<(u64, bool)>,
}

impl Splitter {
    /// From the begin of a file, or (`at`) from a From line within it.
    #[must_use]
    pub fn new(dialect: Dialect, at: u64) -> Self {
        Splitter {
            dialect,
            phase: Phase::Between,
            at,
            begin: at,
            look: None,
        }
    }

    /// Offset of the window's first octet.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What a [`Step::Look`] asked for: the octets there, at most [`LOOK_BYTES`] of them; `None`
    /// where the file ends before.
    pub fn looked(&mut self, at: u64, octets: Option<&[u8]>) {
        self.look = Some((at, octets.is_some_and(ends_here)));
    }

    /// The next step, and how many octets of the window are used with it. `last`: the window
    /// reaches the end of the file.
    pub fn step<'w>(&mut self, window: &'w [u8], last: bool) -> (usize, Step<'w>) {
        let (used, step) = match self.phase {
            Phase::Between => self.between(window, last),
            Phase::Head => self.head(window, last),
            Phase::Searching { last: before } => self.search(window, last, before),
            Phase::Sized { end } => self.sized(window, last, end),
        };
        self.at += used as u64;
        (used, step)
    }

    fn between<'w>(&mut self, window: &'w [u8], last: bool) -> (usize, Step<'w>) {
        let blank = window.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
        let blank = blank.count();
        if blank > 0 {
            return (blank, Step::More);
        }
        if window.len() < LINES_BYTES && !last {
            return (0, Step::More);
        }
        if window.is_empty() {
            return (0, Step::Done);
        }
        let Some(line) = from_line(window) else {
            return (0, Step::NoMbox);
        };
        self.begin = self.at + line.len as u64;
        self.phase = match self.dialect.lengths {
            true => Phase::Head,
            false => Phase::Searching { last: b'\n' },
        };
        (line.len, Step::Begin(line))
    }

    fn head<'w>(&mut self, window: &'w [u8], last: bool) -> (usize, Step<'w>) {
        if let Some((end, fits)) = self.look.take() {
            self.phase = match fits {
                true => Phase::Sized { end },
                false => Phase::Searching { last: b'\n' },
            };
            return self.step_again(window, last);
        }
        let header = header_end(window);
        if header.is_none() && window.len() < WINDOW_BYTES_MIN && !last {
            return (0, Step::More);
        }
        let length = header.zip(content_length(window));
        let end = length
            .and_then(|(header, length)| self.at.checked_add(header as u64)?.checked_add(length));
        match end {
            Some(end) => (0, Step::Look(end)),
            None => {
                self.phase = Phase::Searching { last: b'\n' };
                self.step_again(window, last)
            }
        }
    }

    fn step_again<'w>(&mut self, window: &'w [u8], last: bool) -> (usize, Step<'w>) {
        match self.phase {
            Phase::Sized { end } => self.sized(window, last, end),
            _ => self.search(window, last, b'\n'),
        }
    }

    fn sized<'w>(&mut self, window: &'w [u8], last: bool, end: u64) -> (usize, Step<'w>) {
        if self.at >= end {
            return (0, self.end(end));
        }
        let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let piece = &window[..window.len().min(left)];
        match (piece.is_empty(), last) {
            // The file is shorter than it was when it was looked at.
            (true, true) => (0, self.end(self.at)),
            (true, false) => (0, Step::More),
            (false, _) => (piece.len(), Step::Piece(piece)),
        }
    }

    fn search<'w>(&mut self, window: &'w [u8], last: bool, before: u8) -> (usize, Step<'w>) {
        let first = self.at == self.begin;
        match next_boundary(window, last, before, first) {
            Found::At(0) => {
                let end = self.at;
                (0, self.end(end))
            }
            Found::At(end) | Found::None(end) if end > 0 => {
                self.phase = Phase::Searching {
                    last: window[end - 1],
                };
                (end, Step::Piece(&window[..end]))
            }
            _ if !last => (0, Step::More),
            _ => {
                let end = self.at;
                (0, self.end(end))
            }
        }
    }

    fn end<'w>(&mut self, end: u64) -> Step<'w> {
        self.phase = Phase::Between;
        Step::End {
            at: self.begin,
            len: end - self.begin,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The message ends here: a From line follows, or a blank line and a From line.
    At(usize),
    /// All before this is the message's.
    None(usize),
}

/// Where the message ends within `window`. `before` is the octet before it; `first`: the window
/// begins where the message does.
fn next_boundary(window: &[u8], last: bool, before: u8, first: bool) -> Found {
    let mut from = 0;
    loop {
        let found = match from {
            0 if before == b'\n' && window.starts_with(b"From ") => Some(0),
            _ => memmem::find(&window[from.max(1) - 1..], b"\nFrom ").map(|at| at + from.max(1)),
        };
        let Some(at) = found else { break };
        let end = without_blank_line(&window[..at], before, first);
        if window.len() - at < LINES_BYTES && !last {
            return if end > 0 {
                Found::None(end)
            } else {
                Found::None(0)
            };
        }
        if is_boundary(&window[at..], end < at) {
            return Found::At(end);
        }
        from = at + 1;
    }
    if last {
        return Found::None(without_blank_line(window, before, first));
    }
    Found::None(window.len().saturating_sub(HELD_BYTES))
}

/// The first boundary in what follows a From line, as [`judge`](super::judge) walks it.
pub(super) fn boundary(body: &[u8], whole: bool) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memmem::find(&body[from..], b"\nFrom ").map(|at| from + at + 1) {
        let blank = body[..at].ends_with(b"\n\n") || body[..at].ends_with(b"\n\r\n");
        if (whole || body.len() - at >= LINES_BYTES) && is_boundary(&body[at..], blank) {
            return Some(at);
        }
        from = at;
    }
    None
}

/// Whether a From line that begins a message stands here. Without a blank line before it, it must
/// have a header field behind it.
fn is_boundary(bytes: &[u8], after_blank: bool) -> bool {
    let Some(line) = from_line(bytes) else {
        return false;
    };
    after_blank || is_field(&bytes[line.len..])
}

fn is_field(line: &[u8]) -> bool {
    let name = line
        .iter()
        .take(80)
        .take_while(|b| matches!(b, 33..=57 | 59..=126));
    let name = name.count();
    name > 0 && line.get(name) == Some(&b':')
}

/// The length of `text` without the blank line at its end.
fn without_blank_line(text: &[u8], before: u8, first: bool) -> usize {
    let Some(rest) = text.strip_suffix(b"\n") else {
        return text.len();
    };
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let blank = match rest.last() {
        Some(end) => *end == b'\n',
        None => before == b'\n' && !first,
    };
    if blank { rest.len() } else { text.len() }
}

/// Whether a message of a known length may end before these octets: at the end of the file, or
/// before a From line.
#[must_use]
pub fn ends_here(rest: &[u8]) -> bool {
    let blank = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    let rest = &rest[blank.count()..];
    rest.is_empty() || from_line(rest).is_some()
}

/// Octets of the header with the blank line behind it.
pub(super) fn header_end(message: &[u8]) -> Option<usize> {
    let message = &message[..message.len().min(WINDOW_BYTES_MIN)];
    let mut from = 0;
    while let Some(at) = memchr(b'\n', &message[from..]) {
        let next = from + at + 1;
        let rest = &message[next..];
        // No header goes on into the next message.
        if rest.starts_with(b"From ") {
            return None;
        }
        if rest.starts_with(b"\n") {
            return Some(next + 1);
        }
        if rest.starts_with(b"\r\n") {
            return Some(next + 2);
        }
        from = next;
    }
    None
}

/// What the header says of the length of what follows it.
pub(super) fn content_length(message: &[u8]) -> Option<u64> {
    let head = &message[..header_end(message)?];
    let value = mime::find(head, b"Content-Length")?.trim_ascii();
    let digits = !value.is_empty() && value.len() < 16 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| {
        let value = value.iter();
        value.fold(0, |n, d| n * 10 + u64::from(d - b'0'))
    })
}
