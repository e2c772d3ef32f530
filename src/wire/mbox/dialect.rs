//! Which habit a file follows, judged from its head.

use memchr::memmem;

use super::from_line::from_line;
use super::split::{boundary, content_length, ends_here, header_end};

/// How much of a file [`judge`] wants to see.
pub const JUDGED_BYTES: usize = 4 << 20;

/// What to believe of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// `Content-Length` says where a message ends, where that fits (mboxcl, mboxcl2).
    pub lengths: bool,
    /// Lines of messages are quoted (all but mboxcl2).
    pub quoted: bool,
}

impl Dialect {
    /// Quoted lines and nothing else: mboxo, mboxrd. They cannot be told apart, and differ only
    /// where a line of a message began with `>From ` before it was quoted.
    pub const RD: Dialect = Dialect {
        lengths: false,
        quoted: true,
    };

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.lengths, self.quoted) {
            (false, true) => "mboxrd",
            (true, true) => "mboxcl",
            (_, false) => "mboxcl2",
        }
    }
}

/// Judges from the first octets of a file; `whole` where that is all of it.
///
/// Lengths are believed where nearly all that can be checked fit: each then ends at the file's end
/// or right before a From line. Quoting is disbelieved only where a message of a fitting length
/// has an unquoted `From ` inside: its writer does not quote.
#[must_use]
pub fn judge(head: &[u8], whole: bool) -> Dialect {
    let (mut fit, mut misfit, mut unquoted) = (0u32, 0u32, false);
    let mut at = blank_lines(head);
    while let Some(line) = head.get(at..).and_then(from_line) {
        let begin = at + line.len;
        let body = &head[begin..];
        let sized = header_end(body).zip(content_length(body));
        let end =
            sized.and_then(|(header, length)| header.checked_add(usize::try_from(length).ok()?));
        match end {
            Some(end) if end > body.len() && !whole => break,
            Some(end) if body.get(end..).is_some_and(ends_here) => {
                fit += 1;
                unquoted |= memmem::find(&body[..end], b"\nFrom ").is_some();
                at = begin + end + blank_lines(&body[end..]);
                continue;
            }
            Some(_) => misfit += 1,
            None => {}
        }
        let Some(next) = boundary(body, whole) else {
            break;
        };
        at = begin + next;
    }
    let lengths = fit > 0 && misfit * 10 <= fit;
    Dialect {
        lengths,
        quoted: !(lengths && unquoted),
    }
}

fn blank_lines(bytes: &[u8]) -> usize {
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    blank.count()
}
