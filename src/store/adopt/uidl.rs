//! What POP3 clients knew messages by, where the list of UIDs does not say it: computed as the
//! former server did (`pop3_uidl_format`).

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::base::{Uid, UidValidity};

/// A format of Dovecot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidlFormat {
    pieces: Vec<Piece>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number {
        of: Number,
        width: usize,
        has_zeros: bool,
        is_hex: bool,
    },
    /// The file's base name.
    File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Uid,
    UidValidity,
}

/// What a format may hold: `%u`, `%v` (each with width, leading zeros and `X` for hexadecimal),
/// `%f`, `%%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFormat;

impl Default for UidlFormat {
    /// Dovecot's own default.
    fn default() -> Self {
        DOVECOT_DEFAULT.parse().expect("a format")
    }
}

const DOVECOT_DEFAULT: &str = "%08Xu%08Xv";
/// Wider than any number of ours.
const WIDTH_MAX: usize = 20;

impl FromStr for UidlFormat {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                match pieces.last_mut() {
                    Some(Piece::Text(text)) => text.push(c),
                    _ => pieces.push(Piece::Text(c.to_string())),
                }
                continue;
            }
            let has_zeros = chars.next_if_eq(&'0').is_some();
            let mut width = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                width = width * 10 + digit as usize;
                chars.next();
                if width > WIDTH_MAX {
                    return Err(NotAFormat);
                }
            }
            let is_hex = chars.next_if_eq(&'X').is_some();
            let of = match chars.next() {
                Some('u') => Number::Uid,
                Some('v') => Number::UidValidity,
                Some('f') => {
                    pieces.push(Piece::File);
                    continue;
                }
                Some('%') => {
                    pieces.push(Piece::Text("%".to_owned()));
                    continue;
                }
                _ => return Err(NotAFormat),
            };
            pieces.push(Piece::Number {
                of,
                width,
                has_zeros,
                is_hex,
            });
        }
        let text = text.to_owned();
        match pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
            true => Ok(UidlFormat { pieces, text }),
            false => Err(NotAFormat),
        }
    }
}

impl fmt::Display for UidlFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl UidlFormat {
    pub(super) fn of(&self, uid: Uid, uidvalidity: UidValidity, base: &str) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            let Piece::Number {
                of,
                width,
                has_zeros,
                is_hex,
            } = piece
            else {
                match piece {
                    Piece::Text(text) => out.push_str(text),
                    _ => out.push_str(base),
                }
                continue;
            };
            let number = match of {
                Number::Uid => uid.0,
                Number::UidValidity => uidvalidity.0,
            };
            let width = *width;
            let _ = match (is_hex, has_zeros) {
                (true, true) => write!(out, "{number:0width$x}"),
                (true, false) => write!(out, "{number:width$x}"),
                (false, true) => write!(out, "{number:0width$}"),
                (false, false) => write!(out, "{number:width$}"),
            };
        }
        out
    }
}

/// Whether it can stand in an answer to UIDL (RFC 1939 7 wants up to 70; what clients were given
/// before is kept at any length).
pub(super) fn is_uidl(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_dovecot() {
        let check = |format: &str, want: &str| {
            let format: UidlFormat = format.parse().expect(format);
            assert_eq!(format.of(Uid(31), UidValidity(0x6b02_44a8), "1.h"), want);
        };
        check(DOVECOT_DEFAULT, "0000001f6b0244a8");
        check("%v.%u", "1795310760.31");
        check("%f", "1.h");
        check("UID%u-%v", "UID31-1795310760");
        check("%08Xv%08Xu", "6b0244a80000001f");
        check("%%%04u", "%0031");
    }

    #[test]
    fn what_is_no_format() {
        for text in ["", "abc", "%", "%m", "%99u", "%g"] {
            assert_eq!(text.parse::<UidlFormat>(), Err(NotAFormat), "{text}");
        }
    }
}
