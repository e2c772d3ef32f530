//! IMAP dates (RFC 9051 9: date, date-time).

use super::calendar::{DateTime, MONTHS, date_time, days_from_civil, month, number, numeric_zone};

/// Reads `date-time` without its quotes: `17-Jul-1996 02:44:25 -0700`, the day with a blank or a
/// zero before it.
#[must_use]
pub fn parse_imap_date_time(text: &[u8]) -> Option<DateTime> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let mut words = text.split(|&b| b == b' ');
    let [year, month, day] = civil_date(words.next()?)?;
    let mut clock = words.next()?.split(|&b| b == b':');
    let mut two = || clock.next().filter(|d| d.len() == 2).and_then(number);
    let time = [two()?, two()?, two()?];
    let zone = numeric_zone(words.next()?)?;
    if clock.next().is_some() || words.next().is_some() {
        return None;
    }
    date_time([year, month, day], time, zone)
}

/// Reads `date` without its quotes, `1-Feb-1994`, as days since 1970-01-01.
#[must_use]
pub fn parse_imap_date(text: &[u8]) -> Option<i32> {
    let [year, month, day] = civil_date(text)?;
    days_from_civil(year, month, day)
}

fn civil_date(text: &[u8]) -> Option<[i64; 3]> {
    let mut fields = text.split(|&b| b == b'-');
    let day = number(fields.next().filter(|d| d.len() <= 2)?)?;
    let month = month(fields.next().filter(|m| m.len() == 3)?)?;
    let year = number(fields.next().filter(|y| y.len() == 4)?)?;
    fields.next().is_none().then_some([year, month, day])
}

/// Writes `date-time` without its quotes: always 26 characters.
#[must_use]
pub fn format_imap_date_time(date: DateTime) -> String {
    let [year, month, day, hour, minute, second] = date.civil();
    let month = MONTHS[(month - 1) as usize];
    let zone = super::rfc5322::zone(date.zone_minutes);
    format!("{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {zone}")
}
