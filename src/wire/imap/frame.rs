//! Where an IMAP command ends: lines and literals, and nothing of the grammar.
//!
//! A command is a line, or lines joined by literals. A line that ends in `{n}`, `{n+}`, `~{n}` or
//! `~{n+}` announces a literal of n octets (RFC 9051 4.3, RFC 7888, RFC 3516 4.4), whatever else
//! stands in it; the parser later reads literals by the same rule ([`announced`]). So both agree
//! on every boundary, and a command that makes no sense costs one `BAD` and not the connection.
//!
//! The caller keeps the unread bytes from the start of the command on, and asks [`Framer::next`].

/// Caps of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// All lines of a command together, without the literals between them.
    pub line_bytes_max: usize,
    /// All literals of a command together that are kept in memory with it.
    pub literal_bytes_max: u64,
}

/// What stands next in the unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet: read more.
    Need,
    /// A whole command (or, after [`Framer::stream`], the rest of one) in the first `bytes`
    /// bytes, line end included. The caller drops them before it asks again.
    Command { bytes: usize },
    /// A literal is announced. The caller must answer with [`Framer::take`], [`Framer::stream`]
    /// or [`Framer::reject`] before it asks again.
    Literal(Literal),
    /// The lines of the command are over the cap. The start of the command, with its tag, is
    /// still in the buffer; from the next call on its bytes come as [`Next::Skip`].
    TooLong,
    /// Drop this many bytes and ask again: they belong to a command that was refused.
    Skip(usize),
}

/// A literal announced at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The command so far, with the announcement and its line end, is the first `prefix` bytes.
    pub prefix: usize,
    pub bytes: u64,
    /// The client waits for `+` before it sends (RFC 9051 4.3).
    pub sync: bool,
    /// `~{n}`: may hold NUL (RFC 3516 4.4).
    pub binary: bool,
    /// Within [`FrameLimits::literal_bytes_max`], with the literals before it.
    pub fits: bool,
}

/// Finds the ends of commands. Small and without heap, for the sake of idle connections.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    limits: FrameLimits,
    state: State,
    /// Start of the line being looked at; everything before it is earlier lines and literals.
    line: usize,
    /// No LF stands before this point that is not part of a literal or looked at.
    scanned: usize,
    literal_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Lines,
    Decide(Literal),
    /// Drop `ahead` bytes, then, if the command goes on after them, to its last line end.
    Skip {
        ahead: u64,
        then_line: bool,
    },
}

/// The digits of `u64::MAX`. A longer announcement is no announcement.
const SIZE_DIGITS_MAX: usize = 20;
/// Longest announcement with its line end, rounded up: what a skip keeps to see it whole.
const ANNOUNCEMENT_BYTES_MAX: usize = 32;
const _: () = assert!(ANNOUNCEMENT_BYTES_MAX >= SIZE_DIGITS_MAX + "~{+}\r\n".len());

impl Framer {
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Framer {
            limits,
            state: State::Lines,
            line: 0,
            scanned: 0,
            literal_bytes: 0,
        }
    }

    /// Takes other caps, say after log-in.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// What stands next in `unread`, which begins where the last `Command` or `Skip` ended and
    /// has otherwise only grown since the last call.
    pub fn next(&mut self, unread: &[u8]) -> Next {
        match self.state {
            State::Lines => self.next_line(unread),
            State::Decide(literal) => Next::Literal(literal),
            State::Skip { ahead, then_line } => self.skip(unread, ahead, then_line),
        }
    }

    /// The announced literal stays in the buffer as part of the command. If it is `sync`, the
    /// caller says `+` first.
    ///
    /// # Panics
    /// Where no literal awaits a decision, or it does not fit: only a bug in the caller does that.
    pub fn take(&mut self) {
        let literal = self.decide();
        assert!(literal.fits, "a literal over the cap was taken into memory");
        let bytes = usize::try_from(literal.bytes).expect("the cap fits a usize");
        self.literal_bytes += literal.bytes;
        self.line = literal.prefix + bytes;
        self.scanned = self.line;
        self.state = State::Lines;
    }

    /// The caller drops `prefix` bytes of the buffer, takes the literal's bytes as a stream, and
    /// then asks for the rest of the command, which is framed as if it stood alone.
    ///
    /// # Panics
    /// Where no literal awaits a decision.
    pub fn stream(&mut self) {
        self.decide();
        *self = Framer::new(self.limits);
    }

    /// The command is refused. Returns how many bytes of literal the client will send all the
    /// same: 0 after a synchronising literal, since the tagged `NO` or `BAD` tells it not to
    /// (RFC 9051 4.3); a caller may rather close than read through a huge one (RFC 7888 4).
    ///
    /// # Panics
    /// Where no literal awaits a decision.
    pub fn reject(&mut self) -> u64 {
        let literal = self.decide();
        let coming = if literal.sync { 0 } else { literal.bytes };
        self.skip_from(literal.prefix, coming, !literal.sync);
        coming
    }

    fn decide(&self) -> Literal {
        match self.state {
            State::Decide(literal) => literal,
            _ => panic!("no literal awaits a decision"),
        }
    }

    fn skip_from(&mut self, prefix: usize, coming: u64, then_line: bool) {
        *self = Framer::new(self.limits);
        self.state = State::Skip {
            ahead: coming.saturating_add(prefix as u64),
            then_line,
        };
    }

    fn next_line(&mut self, unread: &[u8]) -> Next {
        let found = memchr::memchr(b'\n', unread.get(self.scanned..).unwrap_or_default());
        // A literal that was taken may lie ahead of what has come.
        let end = match found {
            Some(lf) => self.scanned + lf + 1,
            None => unread.len().max(self.line),
        };
        let taken = usize::try_from(self.literal_bytes).unwrap_or(usize::MAX);
        if end - taken > self.limits.line_bytes_max {
            self.skip_from(self.line, 0, true);
            return Next::TooLong;
        }
        if found.is_none() {
            self.scanned = end;
            return Next::Need;
        }
        match announced(&unread[self.line..end]) {
            None => {
                *self = Framer::new(self.limits);
                Next::Command { bytes: end }
            }
            Some(Announced {
                bytes,
                sync,
                binary,
            }) => {
                let total = self.literal_bytes.saturating_add(bytes);
                let fits = total <= self.limits.literal_bytes_max && usize::try_from(total).is_ok();
                let literal = Literal {
                    prefix: end,
                    bytes,
                    sync,
                    binary,
                    fits,
                };
                self.state = State::Decide(literal);
                Next::Literal(literal)
            }
        }
    }

    fn skip(&mut self, unread: &[u8], ahead: u64, then_line: bool) -> Next {
        if ahead > 0 {
            if unread.is_empty() {
                return Next::Need;
            }
            let bytes = unread
                .len()
                .min(usize::try_from(ahead).unwrap_or(usize::MAX));
            self.state = State::Skip {
                ahead: ahead - bytes as u64,
                then_line,
            };
            return Next::Skip(bytes);
        }
        if !then_line {
            self.state = State::Lines;
            return self.next_line(unread);
        }
        let Some(lf) = memchr::memchr(b'\n', unread) else {
            // The tail stays, so that an announcement cut in two is seen whole.
            return match unread.len().saturating_sub(ANNOUNCEMENT_BYTES_MAX) {
                0 => Next::Need,
                bytes => Next::Skip(bytes),
            };
        };
        self.state = match announced(&unread[..=lf]) {
            Some(more) if !more.sync => State::Skip {
                ahead: more.bytes,
                then_line: true,
            },
            // The client saw the tagged reply and sends nothing after its announcement.
            _ => State::Lines,
        };
        Next::Skip(lf + 1)
    }
}

/// A literal's announcement, `["~"] "{" number64 ["+"] "}"` (RFC 9051 9, RFC 7888 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub bytes: u64,
    pub sync: bool,
    pub binary: bool,
}

/// The announcement at the end of `line`, whose line end may be there or not.
pub(super) fn announced(line: &[u8]) -> Option<Announced> {
    let line = without_line_end(line).strip_suffix(b"}")?;
    let (line, sync) = match line.strip_suffix(b"+") {
        Some(line) => (line, false),
        None => (line, true),
    };
    let digits = line.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > SIZE_DIGITS_MAX {
        return None;
    }
    let (before, digits) = line.split_at(line.len() - digits);
    let before = before.strip_suffix(b"{")?;
    let bytes = digits.iter().fold(0u64, |n, digit| {
        n.saturating_mul(10)
            .saturating_add(u64::from(*digit - b'0'))
    });
    Some(Announced {
        bytes,
        sync,
        binary: before.last() == Some(&b'~'),
    })
}

/// `line` without one CRLF or LF at its end.
pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}
