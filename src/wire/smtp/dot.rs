//! DATA: dot un-stuffing with strict line discipline (RFC 5321 4.5.2 and 2.3.8).
//!
//! Only CRLF `.` CRLF ends a message. A bare LF or CR never ends a line here, so `LF . LF`,
//! `LF . CRLF`, `CR . CR` and their kin are content, and content for which the message is refused
//! (SMTP smuggling lives on servers that disagree about this). The reader goes on to the true end,
//! so that the session stays in step.
//!
//! In [`LineMode::Normalise`], for printers and scanners that an operator trusts, bare LF and bare
//! CR become CRLF and NUL goes; the end is found by the same strict rule.

use memchr::memchr3;

use super::reply::Reply;

/// What happens to line ends that are no CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineMode {
    /// The message is refused.
    Strict,
    /// They become CRLF.
    Normalise,
}

/// Why a message that came whole is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFault {
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// A NUL (RFC 5321 2.3.8 by way of RFC 5322 4).
    Nul,
    /// More bytes than allowed.
    TooLarge,
}

impl DataFault {
    /// What the client is told after its end of data.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            DataFault::BareCr => Reply::new(550, "5.6.0", "Message has a CR without LF"),
            DataFault::BareLf => Reply::new(550, "5.6.0", "Message has an LF without CR"),
            DataFault::Nul => Reply::new(550, "5.6.0", "Message has a NUL character"),
            DataFault::TooLarge => Reply::new(552, "5.3.4", "Message is too large"),
        }
    }
}

/// What is known of a message at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataSummary {
    /// Content bytes without stuffing and terminator, those beyond the limit included.
    pub bytes: u64,
    /// Line ends.
    pub lines: u64,
    /// Longest line, its CRLF not counted.
    pub line_bytes_max: u64,
    /// The first reason to refuse it.
    pub fault: Option<DataFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// After CRLF.
    LineStart,
    /// After CRLF and a dot, which is not content.
    Dot,
    /// After CRLF, a dot and a CR.
    DotCr,
    InLine,
    /// After a CR in a line.
    Cr,
    /// After a line end that was made a CRLF; a dot here ends nothing.
    SoftStart,
    SoftDot,
    End,
}

/// Reads the content of one DATA command from a stream.
#[derive(Clone, Debug)]
pub struct DotReader {
    mode: LineMode,
    bytes_max: u64,
    state: State,
    line_bytes: u64,
    summary: DataSummary,
}

impl DotReader {
    /// Begins after the CRLF of the DATA line, which counts as a line's end.
    #[must_use]
    pub fn new(mode: LineMode, bytes_max: u64) -> Self {
        let summary = DataSummary::default();
        DotReader {
            mode,
            bytes_max,
            state: State::LineStart,
            line_bytes: 0,
            summary,
        }
    }

    /// Takes bytes off the stream up to the end of the message, appends content to `out` and
    /// returns how many were taken. Once there is a fault, nothing is appended any more. What lies
    /// behind the end is left in `input`.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < input.len() && self.state != State::End {
            at += self.step(&input[at..], out);
        }
        at
    }

    /// The summary, once the end of data was read.
    #[must_use]
    pub fn end(&self) -> Option<DataSummary> {
        (self.state == State::End).then_some(self.summary)
    }

    /// The fault so far; the message is still to be read to its end.
    #[must_use]
    pub fn fault(&self) -> Option<DataFault> {
        self.summary.fault
    }

    /// One transition; `rest` is not empty. Returns the bytes it used, which may be none where
    /// only the state changes.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let (state, used) = match (self.state, rest[0]) {
            (State::LineStart, b'.') => (State::Dot, 1),
            // RFC 5321 4.5.2: a dot with anything after it was stuffed.
            (State::Dot, b'\r') => (State::DotCr, 1),
            (State::DotCr, b'\n') => (State::End, 1),
            (State::DotCr, _) => (State::Cr, 0),
            (State::Cr, b'\n') => {
                self.end_line(out);
                (State::LineStart, 1)
            }
            (State::Cr, _) => (self.broken_line_end(DataFault::BareCr, out), 0),
            (State::SoftStart, b'.') => (State::SoftDot, 1),
            (State::SoftDot, b'.') => {
                self.content(b".", out);
                (State::InLine, 1)
            }
            (State::SoftDot, _) => {
                self.content(b".", out);
                (State::InLine, 0)
            }
            (State::InLine, _) => self.in_line(rest, out),
            (State::LineStart | State::Dot | State::SoftStart, _) => (State::InLine, 0),
            (State::End, _) => (State::End, rest.len()),
        };
        self.state = state;
        used
    }

    fn in_line(&mut self, rest: &[u8], out: &mut Vec<u8>) -> (State, usize) {
        let Some(at) = memchr3(b'\r', b'\n', 0, rest) else {
            self.content(rest, out);
            return (State::InLine, rest.len());
        };
        self.content(&rest[..at], out);
        let state = match rest[at] {
            b'\r' => State::Cr,
            b'\n' => self.broken_line_end(DataFault::BareLf, out),
            _ => {
                if self.mode == LineMode::Strict {
                    self.refuse(DataFault::Nul);
                }
                State::InLine
            }
        };
        (state, at + 1)
    }

    fn broken_line_end(&mut self, fault: DataFault, out: &mut Vec<u8>) -> State {
        match self.mode {
            LineMode::Strict => {
                self.refuse(fault);
                State::InLine
            }
            LineMode::Normalise => {
                self.end_line(out);
                State::SoftStart
            }
        }
    }

    fn content(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.line_bytes += bytes.len() as u64;
        self.append(bytes, out);
    }

    fn append(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.summary.bytes += bytes.len() as u64;
        if self.summary.bytes > self.bytes_max {
            self.refuse(DataFault::TooLarge);
        }
        if self.summary.fault.is_none() {
            out.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.append(b"\r\n", out);
        self.summary.line_bytes_max = self.summary.line_bytes_max.max(self.line_bytes);
        self.line_bytes = 0;
        self.summary.lines += 1;
    }

    fn refuse(&mut self, fault: DataFault) {
        self.summary.fault.get_or_insert(fault);
    }
}
