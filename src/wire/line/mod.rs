//! Line: where one command line ends and the next begins, for SMTP, POP3, ManageSieve and the
//! single lines inside IMAP's IDLE and AUTHENTICATE.
//!
//! A line is found first and judged second: whatever is wrong inside it, the caller learns how
//! many bytes to drop to stand at the start of the next line.

#[cfg(test)]
mod tests;

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// CRLF and nothing else, as SMTP must have it (RFC 5321 2.3.8): a second idea of where a
    /// line ends is how mail is smuggled past a relay.
    Crlf,
    /// A bare LF ends a line too. deviates: RFC 9051 2.2 and RFC 1939 3 want CRLF, but people
    /// type at these protocols, and no relay stands behind them that could be fooled.
    CrlfOrLf,
}

/// A line in a buffer: its text is `buffer[..text]`, and the next line begins at `used`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub text: usize,
    pub used: usize,
}

/// What a whole line holds that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// A CR without an LF behind it (RFC 5321 2.3.8).
    BareCr,
    /// An LF without a CR before it (RFC 5321 2.3.8).
    BareLf,
    /// A NUL (RFC 5321 4.5.2).
    Nul,
}

/// Why there is no usable line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// No end within the cap. Hand the buffer to a [`Skip`], which finds the next line.
    TooLong,
    /// The line is whole but holds a stray octet, the first of them at `at`. Dropping `used`
    /// bytes stands at the next line.
    Stray {
        stray: Stray,
        at: usize,
        used: usize,
    },
}

/// The first line of `buffer`, or `None` where its end has not come yet.
///
/// `bytes_max` counts the line's text and its ending (RFC 5321 4.5.3.1.4 counts so).
pub fn next_line(
    buffer: &[u8],
    bytes_max: usize,
    ending: Ending,
) -> Result<Option<Line>, LineError> {
    let window = &buffer[..buffer.len().min(bytes_max)];
    let Some(line) = find_end(window, ending) else {
        return if buffer.len() >= bytes_max {
            Err(LineError::TooLong)
        } else {
            Ok(None)
        };
    };
    match first_stray(&buffer[..line.text]) {
        Some((stray, at)) => Err(LineError::Stray {
            stray,
            at,
            used: line.used,
        }),
        None => Ok(Some(line)),
    }
}

/// Drops the rest of a line that was too long, in pieces as they come.
#[derive(Clone, Copy, Debug)]
pub struct Skip {
    ending: Ending,
    after_cr: bool,
}

impl Skip {
    /// Skips up to and with the next `ending`.
    #[must_use]
    pub fn new(ending: Ending) -> Self {
        Skip {
            ending,
            after_cr: false,
        }
    }

    /// How many bytes of `chunk` to drop, and whether the line ended there. Until it has, all of
    /// every chunk goes.
    pub fn drop_from(&mut self, chunk: &[u8]) -> (usize, bool) {
        for lf in memchr::memchr_iter(b'\n', chunk) {
            let cr = match lf {
                0 => self.after_cr,
                _ => chunk[lf - 1] == b'\r',
            };
            if cr || self.ending == Ending::CrlfOrLf {
                self.after_cr = false;
                return (lf + 1, true);
            }
        }
        if let Some(last) = chunk.last() {
            self.after_cr = *last == b'\r';
        }
        (chunk.len(), false)
    }
}

fn find_end(window: &[u8], ending: Ending) -> Option<Line> {
    memchr::memchr_iter(b'\n', window).find_map(|lf| {
        let cr = lf > 0 && window[lf - 1] == b'\r';
        (cr || ending == Ending::CrlfOrLf).then_some(Line {
            text: lf - usize::from(cr),
            used: lf + 1,
        })
    })
}

fn first_stray(text: &[u8]) -> Option<(Stray, usize)> {
    let at = memchr::memchr3(b'\r', b'\n', 0, text)?;
    let stray = match text[at] {
        b'\r' => Stray::BareCr,
        b'\n' => Stray::BareLf,
        _ => Stray::Nul,
    };
    Some((stray, at))
}
