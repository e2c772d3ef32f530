//! Counting. Bounded: a day has so many policies, and a policy so many ways to fail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::UnixMs;
use crate::queue::route::demand::Applied;
use crate::queue::route::sts::Kept;

/// Days that are kept until somebody takes them.
const DAYS_MAX: usize = 3;
/// Policies of one day; sessions of more are not counted.
const POLICIES_MAX: usize = 8192;
/// Failures of one policy that are told one by one; more are in the sum alone.
const FAILURES_MAX: usize = 64;
const DAY_SECONDS: i64 = 24 * 3600;

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// A policy that sessions were judged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The domain that it is of: whom a report is for.
    pub domain: String,
    pub kind: PolicyKind,
    /// The policy as text.
    pub strings: Vec<String>,
    /// The hosts that it names.
    pub mx: Vec<String>,
}

/// RFC 8460 4.4, policy-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    Tlsa,
    Sts,
    NoPolicy,
}

/// What TLS came to in one connection.
pub type Session = Result<(), Failure>;

/// One way to fail, between two addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    pub kind: FailureKind,
    pub ours: Option<IpAddr>,
    pub mx: Option<String>,
    pub theirs: Option<IpAddr>,
    /// For people.
    pub words: String,
}

/// RFC 8460 4.3, result-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    StarttlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub successes: u64,
    pub failures: u64,
    pub details: BTreeMap<Failure, u64>,
}

/// A policy of one day, and what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTally {
    pub policy: PolicyKey,
    pub counts: Counts,
}

/// All that was counted and nobody has taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    days: BTreeMap<Day, BTreeMap<PolicyKey, Counts>>,
}

impl Day {
    /// So many days after 1970-01-01.
    #[must_use]
    pub const fn of_days(days: i64) -> Self {
        Day(days)
    }

    #[must_use]
    pub fn of(time: UnixMs) -> Self {
        Day(time.seconds().div_euclid(DAY_SECONDS))
    }

    /// Its first moment.
    #[must_use]
    pub fn begin(self) -> UnixMs {
        UnixMs::from_seconds(self.0 * DAY_SECONDS)
    }

    /// Its last second.
    #[must_use]
    pub fn end(self) -> UnixMs {
        UnixMs::from_seconds(self.0 * DAY_SECONDS + DAY_SECONDS - 1)
    }
}

impl PolicyKey {
    /// The policy that a connection to `host` for `domain` was judged by; `None` where it was the
    /// site's own, which is nobody else's affair.
    #[must_use]
    pub fn of(applied: &Applied, domain: &str, host: &str) -> Option<Self> {
        match applied {
            Applied::Site(_) => None,
            Applied::Nothing => Some(PolicyKey::none(domain)),
            Applied::Sts(kept) => Some(PolicyKey::sts(domain, kept)),
            // RFC 8460 1.1: of DANE the policy domain is the TLSA base domain.
            Applied::Dane(dane) => Some(PolicyKey {
                kind: PolicyKind::Tlsa,
                strings: dane.strings().collect(),
                ..PolicyKey::none(host)
            }),
            Applied::DaneUnusable => Some(PolicyKey {
                kind: PolicyKind::Tlsa,
                ..PolicyKey::none(host)
            }),
        }
    }

    #[must_use]
    pub fn none(domain: &str) -> Self {
        PolicyKey {
            domain: domain.to_owned(),
            kind: PolicyKind::NoPolicy,
            strings: Vec::new(),
            mx: Vec::new(),
        }
    }

    #[must_use]
    pub fn sts(domain: &str, kept: &Kept) -> Self {
        PolicyKey {
            domain: domain.to_owned(),
            kind: PolicyKind::Sts,
            strings: kept.policy.lines().collect(),
            mx: kept.policy.patterns().map(str::to_owned).collect(),
        }
    }
}

impl Tally {
    /// One connection.
    pub fn count(&mut self, day: Day, policy: PolicyKey, session: Session) {
        let policies = self.days.entry(day).or_default();
        if policies.len() < POLICIES_MAX || policies.contains_key(&policy) {
            policies.entry(policy).or_default().count(session);
        }
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
    }

    /// Takes out the days before `today`, each with its policies in the order of their domains.
    pub fn take_before(&mut self, today: Day) -> Vec<(Day, Vec<PolicyTally>)> {
        let rest = self.days.split_off(&today);
        let over = std::mem::replace(&mut self.days, rest);
        let tallies = |policies: BTreeMap<PolicyKey, Counts>| {
            let each = policies.into_iter();
            each.map(|(policy, counts)| PolicyTally { policy, counts })
                .collect()
        };
        over.into_iter()
            .map(|(day, policies)| (day, tallies(policies)))
            .collect()
    }
}

impl Counts {
    fn count(&mut self, session: Session) {
        match session {
            Ok(()) => self.successes += 1,
            Err(failure) => {
                self.failures += 1;
                if self.details.len() < FAILURES_MAX || self.details.contains_key(&failure) {
                    *self.details.entry(failure).or_default() += 1;
                }
            }
        }
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: Counts) {
        self.successes += other.successes;
        self.failures += other.failures;
        for (failure, count) in other.details {
            if self.details.len() < FAILURES_MAX || self.details.contains_key(&failure) {
                *self.details.entry(failure).or_default() += count;
            }
        }
    }
}

impl PolicyKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Tlsa => "tlsa",
            PolicyKind::Sts => "sts",
            PolicyKind::NoPolicy => "no-policy-found",
        }
    }
}

impl FailureKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::StarttlsNotSupported => "starttls-not-supported",
            FailureKind::CertificateHostMismatch => "certificate-host-mismatch",
            FailureKind::CertificateExpired => "certificate-expired",
            FailureKind::CertificateNotTrusted => "certificate-not-trusted",
            FailureKind::ValidationFailure => "validation-failure",
            FailureKind::TlsaInvalid => "tlsa-invalid",
            FailureKind::DnssecInvalid => "dnssec-invalid",
            FailureKind::StsPolicyFetchError => "sts-policy-fetch-error",
            FailureKind::StsPolicyInvalid => "sts-policy-invalid",
            FailureKind::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(words: &str) -> Session {
        Err(Failure {
            kind: FailureKind::ValidationFailure,
            ours: None,
            mx: None,
            theirs: None,
            words: words.to_owned(),
        })
    }

    #[test]
    fn counts_are_by_day_and_policy_and_bounded() {
        let mut tally = Tally::default();
        let key = PolicyKey::none("a.test");
        for _ in 0..3 {
            tally.count(Day(1), key.clone(), Ok(()));
        }
        for n in 0..100 {
            tally.count(Day(1), key.clone(), failure(&n.to_string()));
            tally.count(Day(1), key.clone(), failure("same"));
        }
        for n in 0..10_000 {
            tally.count(Day(2), PolicyKey::none(&n.to_string()), Ok(()));
        }
        let over = tally.take_before(Day(3));
        let counts = &over[0].1[0].counts;
        assert_eq!((counts.successes, counts.failures), (3, 200));
        assert_eq!(counts.details.len(), FAILURES_MAX);
        assert!(counts.details.values().any(|count| *count == 100));
        assert_eq!((over.len(), over[1].1.len()), (2, POLICIES_MAX));
        assert_eq!(tally, Tally::default());
        for day in 0..10 {
            tally.count(Day(day), key.clone(), Ok(()));
        }
        assert_eq!(tally.take_before(Day(9)).len(), DAYS_MAX - 1);
        assert_eq!(tally.take_before(Day(10)).len(), 1);
    }
}
