//! The line before each message: `From ana@example.org Mon Jan  5 10:11:12 2026`.

use memchr::{memchr, memmem};

use crate::base::UnixMs;
use crate::wire::dates::parse_date;

/// Longer lines are text.
const LINE_BYTES_MAX: usize = 1_000;
const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// What such a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromLine {
    /// The writer's clock, mostly without its zone: then read as if it were UTC.
    pub date: UnixMs,
    /// The line says its zone.
    pub zoned: bool,
    /// Octets, with the line end.
    pub len: usize,
}

/// The From line that `bytes` begin with. `None` also where its end is not there: callers look
/// only when they have at least 1,000 octets, or the end of the file.
#[must_use]
pub fn from_line(bytes: &[u8]) -> Option<FromLine> {
    if !bytes.starts_with(b"From ") {
        return None;
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let (text, len) = match memchr(b'\n', window) {
        Some(end) => (&window[..end], end + 1),
        None if window.len() < LINE_BYTES_MAX => (window, window.len()),
        None => return None,
    };
    // UUCP's tail.
    let text = match memmem::find(text, b" remote from ") {
        Some(at) => &text[..at],
        None => text,
    };
    // The sender may hold blanks: the date is what begins with a day's name.
    let days = memchr::memchr_iter(b' ', text).map(|blank| blank + 1);
    for at in days {
        let rest = text[at..].trim_ascii();
        if !DAYS.iter().any(|day| rest.starts_with(day)) {
            continue;
        }
        if let Some(date) = parse_date(rest) {
            let zoned = date.zone_minutes != 0 || has_zone(rest);
            return Some(FromLine {
                date: date.at,
                zoned,
                len,
            });
        }
    }
    None
}

fn has_zone(date: &[u8]) -> bool {
    let words = date.split(|b| *b == b' ').skip(1);
    words.filter(|w| !w.is_empty()).any(|w| {
        matches!(w, b"UTC" | b"GMT" | b"UT" | b"Z") || matches!(w, [b'+' | b'-', b'0'..=b'9', ..])
    })
}
