//! A server's replies, as a client reads them (RFC 5321 4.2).
//!
//! A line may end in a bare LF and hold a bare CR or NUL, which become blanks. deviates: RFC 5321
//! 2.3.8; some servers do it, and behind a client stands no relay that could be fooled. A code that
//! changes between the lines of one reply is a fault: nobody can tell where such a reply ends.

use std::fmt;

use crate::wire::line::{Ending, LineError, next_line};

/// Longest line with its end. RFC 5321 4.5.3.1.5 has 512; addresses of web pages made it more.
pub const PEER_LINE_BYTES_MAX: usize = 4096;
/// Longest reply, all lines together: no EHLO of any server comes near it.
const REPLY_BYTES_MAX: usize = 32 << 10;
const REPLY_LINES_MAX: usize = 256;

/// A reply that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReply {
    code: u16,
    enhanced: Option<Enhanced>,
    /// What stood behind code and separator; at least one line.
    lines: Vec<String>,
}

/// An enhanced status code (RFC 3463 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

/// Why what a server sent is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFault {
    /// A line does not begin with a code between 200 and 599 and a separator.
    NoCode,
    /// The code changed within one reply.
    CodesDiffer,
    /// A line has no end.
    LineTooLong,
    /// The reply has no end.
    TooLong,
}

/// Reads replies off a stream.
#[derive(Clone, Debug, Default)]
pub struct ReplyParser {
    code: u16,
    lines: Vec<String>,
    bytes: usize,
}

impl ReplyParser {
    /// Looks at `input`: how much of it is done with, and the reply, if it is whole. After a fault
    /// the stream cannot be read any further.
    pub fn read(&mut self, input: &[u8]) -> (usize, Result<Option<PeerReply>, ReplyFault>) {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let (text, used) = match next_line(rest, PEER_LINE_BYTES_MAX, Ending::CrlfOrLf) {
                Ok(None) => return (at, Ok(None)),
                Ok(Some(line)) => (&rest[..line.text], line.used),
                Err(LineError::Stray { used, .. }) => (rest[..used].trim_ascii_end(), used),
                Err(LineError::TooLong) => return (at, Err(ReplyFault::LineTooLong)),
            };
            at += used;
            match self.line(text, used) {
                Ok(false) => {}
                Ok(true) => return (at, Ok(Some(self.take()))),
                Err(fault) => return (at, Err(fault)),
            }
        }
    }

    /// Takes in a line; true if it was the reply's last.
    fn line(&mut self, line: &[u8], bytes: usize) -> Result<bool, ReplyFault> {
        let (code, rest) = line.split_at_checked(3).ok_or(ReplyFault::NoCode)?;
        let is_code = (b'2'..=b'5').contains(&code[0]) && code.iter().all(u8::is_ascii_digit);
        // RFC 5321 4.2: a line may be its code alone.
        let (is_last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyFault::NoCode),
        };
        if !is_code {
            return Err(ReplyFault::NoCode);
        }
        let code = code.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'));
        if !self.lines.is_empty() && code != self.code {
            return Err(ReplyFault::CodesDiffer);
        }
        self.bytes += bytes;
        if self.bytes > REPLY_BYTES_MAX || self.lines.len() >= REPLY_LINES_MAX {
            return Err(ReplyFault::TooLong);
        }
        self.code = code;
        self.lines.push(clean(text));
        Ok(is_last)
    }

    fn take(&mut self) -> PeerReply {
        let ReplyParser { code, lines, .. } = std::mem::take(self);
        PeerReply::new(code, lines)
    }
}

/// Text that stands in logs and notices: no control characters, and UTF-8.
fn clean(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim_end().chars().map(plain).collect()
}

impl PeerReply {
    fn new(code: u16, lines: Vec<String>) -> Self {
        let enhanced = lines.first().and_then(|line| {
            let word = line.split(' ').next().unwrap_or_default();
            // RFC 2034 4: its class is that of the reply.
            Enhanced::parse(word).filter(|enhanced| u16::from(enhanced.class) == code / 100)
        });
        PeerReply {
            code,
            enhanced,
            lines,
        }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The first of them: 2 done, 3 go on, 4 not now, 5 never.
    #[must_use]
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    #[must_use]
    pub fn enhanced(&self) -> Option<Enhanced> {
        self.enhanced
    }

    /// The lines without code and separator, enhanced codes left in place.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The same with at most `bytes_max` of text, for replies that are kept.
    #[must_use]
    pub fn shortened(mut self, bytes_max: usize) -> Self {
        let mut left = bytes_max;
        for line in &mut self.lines {
            if line.len() > left {
                line.truncate(line.floor_char_boundary(left));
                left = 0;
            }
            line.shrink_to_fit();
            left -= left.min(line.len());
        }
        while self.lines.len() > 1 && self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        self.lines.shrink_to_fit();
        self
    }
}

impl fmt::Display for PeerReply {
    /// On one line: the code, then the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        let mut lines = self.lines().filter(|line| !line.is_empty());
        lines.try_for_each(|line| write!(f, " {line}"))
    }
}

impl Enhanced {
    /// Reads `class.subject.detail`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = |digits_max| {
            let part = parts.next()?;
            let fits = part.len() <= digits_max && part.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| part.parse::<u16>().ok())?
        };
        let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
        let is_class = matches!(class, 2 | 4 | 5) && parts.next().is_none();
        is_class.then_some(Enhanced {
            class: class as u8,
            subject,
            detail,
        })
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyFault::NoCode => "a line without a reply code",
            ReplyFault::CodesDiffer => "a reply whose lines have different codes",
            ReplyFault::LineTooLong => "a reply line without an end",
            ReplyFault::TooLong => "a reply without an end",
        })
    }
}
