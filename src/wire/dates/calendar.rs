//! Days and civil dates (Howard Hinnant's `days_from_civil`), and a point in time with its zone.

use crate::base::UnixMs;

/// A point in time as someone wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// When.
    pub at: UnixMs,
    /// Offset of the writer's clock, minutes east of UTC.
    pub zone_minutes: i16,
}

pub(super) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl DateTime {
    /// The day on the writer's calendar, as days since 1970-01-01.
    #[must_use]
    pub fn local_day(&self) -> i32 {
        let day = self.local_seconds().div_euclid(86_400);
        day.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }

    fn local_seconds(&self) -> i64 {
        self.at
            .seconds()
            .saturating_add(i64::from(self.zone_minutes) * 60)
    }

    /// Year, month, day, hour, minute, second on the writer's clock. Times outside the years 0 to
    /// 9999 are moved to their edge, since no mail format can write them.
    pub(super) fn civil(&self) -> [i64; 6] {
        const FIRST: i64 = -62_167_219_200;
        const LAST: i64 = 253_402_300_799;
        let seconds = self.local_seconds().clamp(FIRST, LAST);
        let (day, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let [year, month, day] = civil_from_days(day);
        [year, month, day, time / 3600, time / 60 % 60, time % 60]
    }
}

/// Days since 1970-01-01 of a date; `None` where there is no such date.
#[must_use]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i32> {
    if !(0..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn civil_from_days(days: i64) -> [i64; 3] {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    [year, month, day_of_year - (153 * shifted + 2) / 5 + 1]
}

/// Puts a date, a time and a zone together. A leap second counts as the second after it.
pub(super) fn date_time(
    [year, month, day]: [i64; 3],
    [hour, minute, second]: [i64; 3],
    zone_minutes: i16,
) -> Option<DateTime> {
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let days = i64::from(days_from_civil(year, month, day)?);
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    let at = UnixMs::from_seconds(local - i64::from(zone_minutes) * 60);
    Some(DateTime { at, zone_minutes })
}

/// The number of a month by the first three letters of its name.
pub(super) fn month(name: &[u8]) -> Option<i64> {
    let head = name.get(..3)?;
    let at = MONTHS
        .iter()
        .position(|m| m.as_bytes().eq_ignore_ascii_case(head))?;
    Some(at as i64 + 1)
}

/// All digits, at most nine.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
}

/// `+hhmm` or `-hhmm` as minutes.
pub(super) fn numeric_zone(zone: &[u8]) -> Option<i16> {
    let (sign, digits) = match zone {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let value = if digits.len() == 4 {
        number(digits)?
    } else {
        return None;
    };
    let (hours, minutes) = (value / 100, value % 100);
    (minutes < 60).then_some((sign * (hours * 60 + minutes)) as i16)
}
