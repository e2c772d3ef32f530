//! A message on its way out: line ends made CRLF, dots doubled (RFC 5321 4.5.2).
//!
//! Whatever a message holds, no line in it ends otherwise than with CRLF once it is written here:
//! a bare CR or LF that one server lets pass and the next takes for a line end is how a message
//! inside a message is smuggled (RFC 5321 2.3.8 forbids to send either).

use memchr::memchr2;

/// How content travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// After DATA.
    Dotted,
    /// In BDAT, as text.
    Lines,
    /// In BDAT, as BINARYMIME: octets.
    Octets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    LineEnd,
    /// A CR that was not written yet: what follows says what it is.
    Cr,
    Other,
}

/// Writes one message's content, cut anywhere into chunks.
#[derive(Clone, Copy, Debug)]
pub struct ContentWriter {
    form: Form,
    last: Last,
}

impl ContentWriter {
    /// For DATA.
    #[must_use]
    pub fn dotted() -> Self {
        Self::new(Form::Dotted)
    }

    /// For BDAT with text in it.
    #[must_use]
    pub fn lines() -> Self {
        Self::new(Form::Lines)
    }

    /// For BDAT with BODY=BINARYMIME (RFC 3030 3).
    #[must_use]
    pub fn octets() -> Self {
        Self::new(Form::Octets)
    }

    fn new(form: Form) -> Self {
        ContentWriter {
            form,
            last: Last::LineEnd,
        }
    }

    /// Appends `chunk`.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.form == Form::Octets {
            return out.extend_from_slice(chunk);
        }
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            if self.last == Last::Cr {
                out.extend_from_slice(b"\r\n");
                self.last = Last::LineEnd;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            if self.last == Last::LineEnd && first == b'.' && self.form == Form::Dotted {
                out.push(b'.');
            }
            let Some(at) = memchr2(b'\r', b'\n', rest) else {
                out.extend_from_slice(rest);
                self.last = Last::Other;
                return;
            };
            let after = &rest[at..];
            if after.starts_with(b"\r\n") {
                out.extend_from_slice(&rest[..at + 2]);
                self.last = Last::LineEnd;
                rest = &after[2..];
                continue;
            }
            out.extend_from_slice(&rest[..at]);
            self.last = Last::Cr;
            // A bare LF is as good as the CR before it and itself.
            rest = if after[0] == b'\r' {
                &after[1..]
            } else {
                after
            };
        }
    }

    /// Appends what ends the content: a line end, where the last line has none, and for DATA the
    /// dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.form != Form::Octets && self.last != Last::LineEnd {
            out.extend_from_slice(b"\r\n");
        }
        if self.form == Form::Dotted {
            out.extend_from_slice(b".\r\n");
        }
    }
}
