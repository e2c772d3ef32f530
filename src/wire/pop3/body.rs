//! The body of a multi-line reply, a chunk at a time (RFC 1939 3).

/// Writes a message as the body of a multi-line reply: a `.` before each line that begins with
/// one, every line ended by CRLF, and at the end the line `.`.
///
/// A bare LF becomes CRLF: a client that takes it for a line end must not find `.` alone behind
/// it.
#[derive(Clone, Copy, Debug)]
pub struct DotStuffer {
    last: Last,
}

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    LineEnd,
    Cr,
    Other,
}

impl Default for DotStuffer {
    fn default() -> Self {
        DotStuffer {
            last: Last::LineEnd,
        }
    }
}

impl DotStuffer {
    /// Appends `chunk`. Chunks may be cut anywhere.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            if self.last == Last::LineEnd && *first == b'.' {
                out.push(b'.');
            }
            let Some(lf) = memchr::memchr(b'\n', rest) else {
                out.extend_from_slice(rest);
                self.last = match rest.last() {
                    Some(b'\r') => Last::Cr,
                    _ => Last::Other,
                };
                return;
            };
            let (line, after) = rest.split_at(lf);
            out.extend_from_slice(line);
            let cr = match line.last() {
                Some(b) => *b == b'\r',
                None => self.last == Last::Cr,
            };
            out.extend_from_slice(if cr { b"\n" } else { b"\r\n" });
            self.last = Last::LineEnd;
            rest = &after[1..];
        }
    }

    /// Ends the last line, if the message did not, and the reply.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.last {
            Last::LineEnd => b".\r\n",
            Last::Cr => b"\n.\r\n",
            Last::Other => b"\r\n.\r\n",
        });
    }
}

/// Cuts a message for TOP: its header, the empty line, and so many lines of the body
/// (RFC 1939 7).
#[derive(Clone, Copy, Debug)]
pub struct TopCutter {
    body_lines_left: u32,
    in_header: bool,
    /// The line so far is empty, or a CR.
    line_empty: bool,
}

impl TopCutter {
    #[must_use]
    pub fn new(body_lines: u32) -> Self {
        TopCutter {
            body_lines_left: body_lines,
            in_header: true,
            line_empty: true,
        }
    }

    /// How many bytes of `chunk` belong to the answer. Once it is less than all of them, or
    /// [`TopCutter::is_done`], no further chunk is needed.
    pub fn take(&mut self, chunk: &[u8]) -> usize {
        let mut at = 0;
        while at < chunk.len() && !self.is_done() {
            let rest = &chunk[at..];
            let lf = memchr::memchr(b'\n', rest);
            let line = &rest[..lf.unwrap_or(rest.len())];
            self.line_empty &= matches!(line, b"" | b"\r");
            at += line.len();
            if lf.is_some() {
                at += 1;
                self.end_line();
            }
        }
        at
    }

    /// Whether all that was asked for has been taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.in_header && self.body_lines_left == 0
    }

    fn end_line(&mut self) {
        match self.in_header {
            true => self.in_header = !self.line_empty,
            false => self.body_lines_left -= 1,
        }
        self.line_empty = true;
    }
}
