//! Sizes and spans as an operator writes them: `100MB`, `2s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. `KB`, `MB`, `GB`, `TB` are powers of 1000, `KiB` and so on of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A length of time with millisecond resolution: `250ms`, `2s`, `15m`, `24h`, `365d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is no size or span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// No whole number at the start.
    NoNumber,
    /// The unit is missing or unknown.
    NoUnit,
    /// The value does not fit.
    TooLarge,
}

impl ByteSize {
    /// For people: three digits at most before the unit, one after the point.
    #[must_use]
    pub fn rounded(self) -> String {
        let mut units = ["B", "KB", "MB", "GB", "TB"].into_iter();
        let (mut unit, mut tenths) = (units.next().unwrap_or_default(), u128::from(self.0) * 10);
        for next in units {
            if tenths < 9_995 {
                break;
            }
            (unit, tenths) = (next, (tenths + 500) / 1_000);
        }
        match tenths % 10 {
            0 => format!("{} {unit}", tenths / 10),
            tenth => format!("{}.{tenth} {unit}", tenths / 10),
        }
    }
}

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const SPANS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = match &text[..digits] {
        "" => return Err(UnitError::NoNumber),
        digits => digits.parse().map_err(|_| UnitError::TooLarge)?,
    };
    let unit = text[digits..].trim_start();
    if unit.is_empty() && number == 0 {
        return Ok(0);
    }
    let (_, factor) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or(UnitError::NoUnit)?;
    number.checked_mul(*factor).ok_or(UnitError::TooLarge)
}

fn largest_exact(value: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    let (name, factor) = units
        .iter()
        .filter(|(_, factor)| value.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| {
            if value == 0 {
                u64::MAX - factor
            } else {
                *factor
            }
        })
        .expect("the smallest unit divides everything");
    (value / factor, name)
}

impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES).map(ByteSize)
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SPANS).map(|ms| Span(Duration::from_millis(ms)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = largest_exact(self.0, &SIZES);
        write!(f, "{n}{unit}")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (n, unit) = largest_exact(ms, &SPANS);
        write!(f, "{n}{unit}")
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnitError::NoNumber => "it must start with a whole number",
            UnitError::NoUnit => "it needs a unit",
            UnitError::TooLarge => "it is too large",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_size(text: &str, want: Result<u64, UnitError>) {
        assert_eq!(text.parse::<ByteSize>().map(|s| s.0), want, "{text}");
    }

    #[test]
    fn sizes_read_and_print() {
        check_size("100MB", Ok(100_000_000));
        check_size("4 KiB", Ok(4096));
        check_size("0", Ok(0));
        check_size("100", Err(UnitError::NoUnit));
        check_size("MB", Err(UnitError::NoNumber));
        check_size("99999999999999TB", Err(UnitError::TooLarge));
        assert_eq!(ByteSize(100_000_000).to_string(), "100MB");
        assert_eq!(ByteSize(1 << 30).to_string(), "1GiB");
        assert_eq!(ByteSize(0).to_string(), "0B");
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        let check = |bytes, want| assert_eq!(ByteSize(bytes).rounded(), want);
        check(0, "0 B");
        check(999, "999 B");
        check(1_000, "1 KB");
        check(1_540, "1.5 KB");
        check(999_950, "1 MB");
        check(2_000_000_000, "2 GB");
        check(10_737_418_240, "10.7 GB");
        check(u64::MAX, "18446744.1 TB");
    }

    #[test]
    fn spans_read_and_print() {
        assert_eq!("2s".parse(), Ok(Span(Duration::from_secs(2))));
        assert_eq!(Span(Duration::from_secs(86_400)).to_string(), "1d");
        assert_eq!(Span(Duration::from_millis(1_500)).to_string(), "1500ms");
        assert_eq!("2 weeks".parse::<Span>(), Err(UnitError::NoUnit));
    }
}
