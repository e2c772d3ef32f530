//! Replies (RFC 5321 4.2).

/// A reply of one or more lines. The first is made by [`Reply::new`] or [`Reply::plain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<&'static str>,
    lines: Vec<String>,
}

/// Longest text of one line, so that code, separator, enhanced code and CRLF stay below the 512 of
/// RFC 5321 4.5.3.1.5.
const TEXT_BYTES_MAX: usize = 480;

impl Reply {
    /// A reply with an enhanced status code (RFC 2034), which then stands in every line.
    #[must_use]
    pub fn new(code: u16, enhanced: &'static str, text: &str) -> Self {
        debug_assert!((200..600).contains(&code), "{code}");
        Reply {
            code,
            enhanced: Some(enhanced),
            lines: vec![clean(text)],
        }
    }

    /// A reply without one: the greeting, EHLO's answer, 334 and 354 (RFC 2034 4).
    #[must_use]
    pub fn plain(code: u16, text: &str) -> Self {
        debug_assert!((200..600).contains(&code), "{code}");
        Reply {
            code,
            enhanced: None,
            lines: vec![clean(text)],
        }
    }

    /// Adds a line.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.lines.push(clean(text));
        self
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code.
    #[must_use]
    pub fn enhanced(&self) -> Option<&'static str> {
        self.enhanced
    }

    /// Appends the reply as sent: `250-` on all lines but the last (RFC 5321 4.2.1).
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (at, line) in self.lines.iter().enumerate() {
            let separator = if at + 1 == self.lines.len() {
                b' '
            } else {
                b'-'
            };
            out.extend_from_slice(self.code.to_string().as_bytes());
            out.push(separator);
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(enhanced.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Text from elsewhere must not end the line.
fn clean(text: &str) -> String {
    let mut text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut cut = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text.truncate(cut);
    text
}
