//! The Date field (RFC 5322 3.3 and its obsolete forms 4.3), and asctime dates, which are seen.

use super::calendar::{DateTime, MONTHS, date_time, month, number, numeric_zone};

/// Reads a Date value. Comments and folds may stand anywhere; the day name is not checked.
#[must_use]
pub fn parse_date(value: &[u8]) -> Option<DateTime> {
    let mut tokens = Tokens { bytes: value };
    let mut token = tokens.next()?;
    if token[0].is_ascii_alphabetic() && month(token).is_none() {
        token = tokens.next()?;
    }
    if month(token).is_some() {
        return asctime(token, tokens);
    }
    // `6-Feb-98` is seen too; it comes as `6`, `-Feb`, `-98`.
    let day = number(token)?;
    let month = month(undash(tokens.next()?))?;
    let year = full_year(undash(tokens.next()?))?;
    let time = clock(tokens.next()?)?;
    let zone = tokens.next().map_or(Some(0), named_zone)?;
    date_time([year, month, day], time, zone)
}

/// `Sun Jan  6 15:04:05 2002`, with an optional zone before or after the year.
fn asctime(name: &[u8], mut tokens: Tokens<'_>) -> Option<DateTime> {
    let month = month(name)?;
    let day = number(tokens.next()?)?;
    let time = clock(tokens.next()?)?;
    let mut zone = 0;
    let mut token = tokens.next()?;
    if !token[0].is_ascii_digit() {
        zone = named_zone(token)?;
        token = tokens.next()?;
    }
    let year = full_year(token)?;
    if let Some(token) = tokens.next() {
        zone = named_zone(token)?;
    }
    date_time([year, month, day], time, zone)
}

/// RFC 5322 4.3: two digits from 00 to 49 are 2000 on, other short years are 1900 on.
fn full_year(digits: &[u8]) -> Option<i64> {
    let year = number(digits)?;
    Some(match digits.len() {
        2 if year < 50 => year + 2000,
        2 | 3 => year + 1900,
        4 => year,
        _ => return None,
    })
}

fn undash(token: &[u8]) -> &[u8] {
    token.strip_prefix(b"-").unwrap_or(token)
}

fn clock(token: &[u8]) -> Option<[i64; 3]> {
    let mut fields = token.split(|b| matches!(b, b':' | b'.'));
    let hour = number(fields.next()?)?;
    let minute = number(fields.next()?)?;
    let second = fields.next().map_or(Some(0), number)?;
    Some([hour, minute, second])
}

/// RFC 5322 4.3: named zones; a letter or an unknown name counts as -0000.
fn named_zone(token: &[u8]) -> Option<i16> {
    const ZONES: [(&[u8], i16); 8] = [
        (b"EDT", -4),
        (b"EST", -5),
        (b"CDT", -5),
        (b"CST", -6),
        (b"MDT", -6),
        (b"MST", -7),
        (b"PDT", -7),
        (b"PST", -8),
    ];
    if matches!(token[0], b'+' | b'-') {
        return numeric_zone(token);
    }
    let known = ZONES
        .iter()
        .find(|(name, _)| token.eq_ignore_ascii_case(name));
    Some(known.map_or(0, |(_, hours)| hours * 60))
}

/// Words between white space, commas and comments; a sign begins a word of its own.
struct Tokens<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut depth = 0usize;
        let mut at = 0;
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'\\' if depth > 0 => at += 1,
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                _ if depth > 0 => {}
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                _ => break,
            }
            at += 1;
        }
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let ends = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'(' | b'-' | b'+');
        let end = rest[1..]
            .iter()
            .position(ends)
            .map_or(rest.len(), |at| at + 1);
        let (token, rest) = rest.split_at(end);
        self.bytes = rest;
        Some(token)
    }
}

/// Writes a Date value: `Thu, 01 Jan 1970 00:00:00 +0000`.
#[must_use]
pub fn format_date(date: DateTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let [year, month, day, hour, minute, second] = date.civil();
    let name = DAYS[date.local_day().rem_euclid(7) as usize];
    let month = MONTHS[(month - 1) as usize];
    let zone = zone(date.zone_minutes);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} {zone}")
}

pub(super) fn zone(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs() % 6_000;
    format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
}
