//! The record that announces a policy, and the policy itself (RFC 8461 3). Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::policy::mta_sts;
use crate::wire::address::domain_key;

/// RFC 8461 3.2: about a year.
const MAX_AGE_SECONDS_MAX: u32 = 31_557_600;
/// Patterns that are kept; what is behind them could not be reached anyway.
const PATTERNS_MAX: usize = 256;

/// What a domain asks of who sends mail to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    pub mx: Vec<Pattern>,
    /// Seconds.
    pub max_age: u32,
}

/// What is to be done about a host that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is given to it.
    Enforce,
    /// Mail goes all the same, and the domain is told.
    Testing,
    /// There is no policy any more.
    None,
}

/// A host's name, or `*.` and a name for those with one label more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyFault {
    NotUtf8,
    /// `version: STSv1` is missing.
    Version,
    Mode,
    MaxAge,
    /// There are no hosts, or one is no name.
    Mx,
    /// A line without a colon.
    Line,
}

/// The id in the TXT records of `_mta-sts`; `None` where the domain announces no policy (RFC 8461
/// 3.1): no record of this version, or several, or one that cannot be read.
#[must_use]
pub fn announced_id<'t>(texts: impl Iterator<Item = &'t str>) -> Option<String> {
    let mut ours = texts.filter(|text| mta_sts::is_record(text));
    let (record, None) = (ours.next()?, ours.next()) else {
        return None;
    };
    mta_sts::parse(record).ok()
}

impl Policy {
    /// Reads the file (RFC 8461 3.2). Lines may end in LF alone; unknown fields are passed over; of
    /// fields that may stand once the first counts.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyFault> {
        let text = str::from_utf8(bytes).map_err(|_| PolicyFault::NotUtf8)?;
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut mx = Vec::new();
        for line in text
            .lines()
            .map(str::trim_ascii)
            .filter(|line| !line.is_empty())
        {
            let (name, value) = line.split_once(':').ok_or(PolicyFault::Line)?;
            let value = value.trim_ascii();
            match name.trim_ascii() {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" if mx.len() < PATTERNS_MAX => mx.push(Pattern::parse(value)?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyFault::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyFault::Mode),
        };
        let age = max_age.filter(|age| age.len() <= 10 && age.bytes().all(|b| b.is_ascii_digit()));
        let age: u64 = age
            .and_then(|age| age.parse().ok())
            .ok_or(PolicyFault::MaxAge)?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyFault::Mx);
        }
        let max_age = u32::try_from(age)
            .unwrap_or(u32::MAX)
            .min(MAX_AGE_SECONDS_MAX);
        Ok(Policy { mode, mx, max_age })
    }

    /// Whether it names `host` (A-labels, lower case).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| pattern.fits(host))
    }

    /// The hosts that it names.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.mx.iter().map(|pattern| pattern.0.as_str())
    }

    /// The lines of the policy, as TLS reports show them (RFC 8460 4.4).
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let head = ["version: STSv1".to_owned(), format!("mode: {}", self.mode)];
        let mx = self.mx.iter().map(|pattern| format!("mx: {}", pattern.0));
        let age = [format!("max_age: {}", self.max_age)];
        head.into_iter().chain(mx).chain(age)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PolicyFault> {
        let (star, name) = match text.strip_prefix("*.") {
            Some(name) => ("*.", name),
            None => ("", text),
        };
        let name = domain_key(name.trim_end_matches('.')).ok_or(PolicyFault::Mx)?;
        Ok(Pattern(format!("{star}{name}")))
    }

    /// RFC 8461 4.1: the wildcard stands for one whole label.
    fn fits(&self, host: &str) -> bool {
        match self.0.strip_prefix("*.") {
            Some(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => self.0 == host,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        })
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyFault::NotUtf8 => "it is no text",
            PolicyFault::Version => "it has no version STSv1",
            PolicyFault::Mode => "it has no mode that is known",
            PolicyFault::MaxAge => "it has no max_age",
            PolicyFault::Mx => "it has no mx, or one that is no host name",
            PolicyFault::Line => "it has a line without a colon",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn announcements() {
        let check = |texts: &[&str], want: Option<&str>| {
            let got = announced_id(texts.iter().copied());
            assert_eq!(got.as_deref(), want, "{texts:?}");
        };
        check(&["v=STSv1; id=20160831085700Z;"], Some("20160831085700Z"));
        check(&["v=STSv1;id=1"], Some("1"));
        check(&["v=STSv1 ; x=y; id=a1 ; z=;"], Some("a1"));
        check(&["v=spf1 -all", "v=STSv1; id=1;"], Some("1"));
        check(&["v=STSv1; id=1;", "v=STSv1; id=1;"], None);
        check(&["v=STSv1; id=;"], None);
        check(&["v=STSv1; id=a-b;"], None);
        check(&["v=STSv1; id=123456789012345678901234567890123;"], None);
        check(&["v=STSv1"], None);
        check(&["v=STSv2; id=1;"], None);
        check(&["id=1; v=STSv1;"], None);
        check(&[], None);
    }

    const GOOD: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                        mx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn policies() {
        let check = |text: &str, want: &str| {
            let got = match Policy::parse(text.as_bytes()) {
                Ok(policy) => policy.lines().collect::<Vec<_>>().join(" "),
                Err(fault) => fault.to_string(),
            };
            assert_eq!(got, want, "{text:?}");
        };
        let good = "version: STSv1 mode: enforce mx: mail.example.com mx: *.example.net \
                    max_age: 604800";
        check(GOOD, good);
        check(&GOOD.replace('\r', ""), good);
        check(&GOOD.replace(": ", ":"), good);
        check(
            &format!("new: thing\r\n{GOOD}mode: none\r\nmax_age: 1\r\n"),
            good,
        );
        check(GOOD.trim_end(), good);
        check(
            "version: STSv1\nmode: none\nmax_age: 99999999999",
            "it has no max_age",
        );
        check(
            "version: STSv1\nmode: none\nmax_age: 9999999999",
            "version: STSv1 mode: none max_age: 31557600",
        );
        check(
            "version: STSv1\nmode: testing\nmx: *.Bücher.example\nmax_age: 0",
            "version: STSv1 mode: testing mx: *.xn--bcher-kva.example max_age: 0",
        );
        check(
            "version: STSv1\nmode: testing\nmax_age: 5",
            "it has no mx, or one that is no host name",
        );
        check("", "it has no version STSv1");
        check(&GOOD.replace("STSv1", "STSv2"), "it has no version STSv1");
        check(
            &GOOD.replace("enforce", "strict"),
            "it has no mode that is known",
        );
        check(&GOOD.replace("604800", "-1"), "it has no max_age");
        check(
            &GOOD.replace("mail.example.com", "mail example"),
            "it has no mx, or one that is no host name",
        );
        check("<html>", "it has a line without a colon");
        assert_eq!(Policy::parse(b"\xff"), Err(PolicyFault::NotUtf8));
    }

    #[test]
    fn patterns() {
        let policy = Policy::parse(GOOD.as_bytes()).expect("a policy");
        for (host, want) in [
            ("mail.example.com", true),
            ("mx.example.net", true),
            ("a.mx.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("example.com", false),
            ("amail.example.com", false),
        ] {
            assert_eq!(policy.names(host), want, "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Policy::parse(&bytes);
        }

        #[test]
        fn a_policy_survives_being_kept(text in "(version: STSv1\n|mode: (none|testing|enforce)\n|mx: [*a-z.]{1,9}\n|max_age: [0-9]{1,9}\n){0,9}") {
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                let lines: Vec<String> = policy.lines().collect();
                prop_assert_eq!(Policy::parse(lines.join("\n").as_bytes()), Ok(policy));
            }
        }
    }
}
