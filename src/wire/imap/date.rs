//! `date` and `date-time` (RFC 9051 9), and days since 1970 for SEARCH.

use super::cursor::Cursor;
use super::fault::Fault;
use crate::base::UnixMs;

/// A calendar day without a zone, as days since 1970-01-01. What SEARCH compares
/// (RFC 9051 6.4.4: "disregarding time and timezone").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

/// A point in time and the zone it was written in, in minutes east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    pub at: UnixMs,
    pub zone_minutes: i16,
}

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const DAY_SECONDS: i64 = 86_400;
const ZONE_MINUTES_MAX: i16 = 24 * 60 - 1;

impl Day {
    /// The day of `at` in a zone `zone_minutes` east of UTC.
    #[must_use]
    pub fn of(at: UnixMs, zone_minutes: i16) -> Self {
        let local = at.seconds().saturating_add(i64::from(zone_minutes) * 60);
        Day(i32::try_from(local.div_euclid(DAY_SECONDS)).unwrap_or(i32::MAX))
    }

    /// The day of a proleptic Gregorian date, or `None` where there is none.
    #[must_use]
    pub fn from_civil(year: i32, month: u32, day: u32) -> Option<Self> {
        if !(0..=9999).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        if day == 0 || day > month_days(year, month) {
            return None;
        }
        // Years begin in March here, so that the leap day is the last of its year.
        let shifted = if month <= 2 { year - 1 } else { year };
        let era = shifted.div_euclid(400);
        let year_of_era = shifted.rem_euclid(400);
        let month_from_march = (month as i32 + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day as i32 - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Some(Day(era * 146_097 + day_of_era - 719_468))
    }

    /// Year, month and day of the month.
    #[must_use]
    pub fn civil(self) -> (i32, u32, u32) {
        let days = i64::from(self.0) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year as i32, month as u32, day as u32)
    }
}

/// `date`: `1-Feb-1994`, with or without quotes.
pub(super) fn date(c: &mut Cursor<'_>) -> Result<Day, Fault> {
    let quoted = c.eat(b'"');
    let day = day_month_year(c, false).ok_or(Fault::BadDate)?;
    match quoted && !c.eat(b'"') {
        true => Err(Fault::BadDate),
        false => Ok(day),
    }
}

/// `date-time`: `"01-Feb-1994 12:00:00 +0100"`, a one-digit day behind a space.
pub(super) fn date_time(c: &mut Cursor<'_>) -> Result<DateTime, Fault> {
    read_date_time(c).ok_or(Fault::BadDateTime)
}

fn read_date_time(c: &mut Cursor<'_>) -> Option<DateTime> {
    need(c.eat(b'"'))?;
    let day = day_month_year(c, true)?;
    need(c.eat(b' '))?;
    let hour = digits(c, 2, 2)?;
    need(c.eat(b':'))?;
    let minute = digits(c, 2, 2)?;
    need(c.eat(b':'))?;
    let second = digits(c, 2, 2)?;
    // 60 is a leap second (RFC 5322 3.3), counted as the first of the next minute.
    need(hour < 24 && minute < 60 && second <= 60 && c.eat(b' '))?;
    let west = match c.peek()? {
        b'+' => false,
        b'-' => true,
        _ => return None,
    };
    c.eat(if west { b'-' } else { b'+' });
    let (zone_hours, zone_rest) = (digits(c, 2, 2)?, digits(c, 2, 2)?);
    let zone = i16::try_from(zone_hours * 60 + zone_rest).ok()?;
    need(zone_rest < 60 && zone <= ZONE_MINUTES_MAX && c.eat(b'"'))?;
    let zone_minutes = if west { -zone } else { zone };
    let time = i64::from(hour * 3600 + minute * 60 + second) - i64::from(zone_minutes) * 60;
    Some(DateTime {
        at: UnixMs::from_seconds(i64::from(day.0) * DAY_SECONDS + time),
        zone_minutes,
    })
}

fn day_month_year(c: &mut Cursor<'_>, padded: bool) -> Option<Day> {
    // date-day-fixed is SP DIGIT or 2DIGIT; clients also send the bare digit.
    if padded {
        c.eat(b' ');
    }
    let day = digits(c, 1, 2)?;
    need(c.eat(b'-'))?;
    let month = MONTHS.chunks(3).position(|name| c.eat_word(name))? as u32 + 1;
    need(c.eat(b'-'))?;
    let year = digits(c, 4, 4)?;
    Day::from_civil(i32::try_from(year).ok()?, month, day)
}

fn digits(c: &mut Cursor<'_>, min: usize, max: usize) -> Option<u32> {
    let start = c.at();
    let mut n = 0;
    while c.at() - start < max {
        let Some(digit @ b'0'..=b'9') = c.peek() else {
            break;
        };
        n = n * 10 + u32::from(digit - b'0');
        c.eat(digit);
    }
    need(c.at() - start >= min)?;
    Some(n)
}

fn need(condition: bool) -> Option<()> {
    condition.then_some(())
}

fn month_days(year: i32, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Writes `date-time` with its quotes, as INTERNALDATE has it (RFC 9051 9).
pub fn write_date_time(out: &mut Vec<u8>, time: DateTime) {
    // Outside the years 0000 to 9999 the grammar has no form; such times are clamped.
    let first = i64::from(-719_528) * DAY_SECONDS;
    let last = i64::from(2_932_896) * DAY_SECONDS + DAY_SECONDS - 1;
    let zone = time.zone_minutes.clamp(-ZONE_MINUTES_MAX, ZONE_MINUTES_MAX);
    let local = time.at.seconds().saturating_add(i64::from(zone) * 60);
    let local = local.clamp(first, last);
    let (year, month, day) = Day(local.div_euclid(DAY_SECONDS) as i32).civil();
    let seconds = local.rem_euclid(DAY_SECONDS) as u32;
    let month = (month as usize - 1) * 3;
    out.push(b'"');
    two(out, day);
    out.push(b'-');
    out.extend_from_slice(&MONTHS[month..month + 3]);
    out.push(b'-');
    two(out, year as u32 / 100);
    two(out, year as u32 % 100);
    for (mark, n) in [
        (b' ', seconds / 3600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        out.push(mark);
        two(out, n);
    }
    out.extend_from_slice(if zone < 0 { b" -" } else { b" +" });
    let zone = u32::from(zone.unsigned_abs());
    two(out, zone / 60);
    two(out, zone % 60);
    out.push(b'"');
}

fn two(out: &mut Vec<u8>, n: u32) {
    out.extend([b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]);
}
