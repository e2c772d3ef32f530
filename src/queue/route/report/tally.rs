//! Counting. Bounded: a day has so many policies, a domain so many of them, and a policy so many ways
//! to fail. What changed is told, for whoever keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base::UnixMs;
use crate::queue::route::demand::Applied;
use crate::queue::route::sts::Kept;

/// Days that are kept until somebody takes them.
const DAYS_MAX: usize = 3;
/// Policies of one day; sessions of more are not counted.
const POLICIES_MAX: usize = 8192;
/// Of them, those of one domain: who has a new one for each connection means no good.
const POLICIES_OF_DOMAIN_MAX: usize = 16;
/// Failures of one policy that are told one by one; more are in the sum alone.
const FAILURES_MAX: usize = 64;
const DAY_SECONDS: i64 = 24 * 3600;

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(i64);

/// A policy that sessions were judged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyKind {
    Tlsa,
    Sts,
    NoPolicy,
}

/// What TLS came to in one connection.
pub type Session = Result<(), Failure>;

/// One way to fail, between two addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub ours: Option<IpAddr>,
    pub mx: Option<String>,
    pub theirs: Option<IpAddr>,
    /// For people.
    pub words: String,
}

/// RFC 8460 4.3, result-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub successes: u64,
    pub failures: u64,
    #[serde(with = "pairs")]
    pub details: BTreeMap<Failure, u64>,
}

/// A policy of one day, and what was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTally {
    pub policy: PolicyKey,
    pub counts: Counts,
}

/// All that was counted and nobody has taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    days: BTreeMap<Day, BTreeMap<PolicyKey, Counts>>,
    /// Domains of days whose counts changed since somebody asked.
    changed: BTreeSet<(Day, String)>,
}

/// Tallies by day, each day's in the order of their domains.
pub type Days = Vec<(Day, Vec<PolicyTally>)>;

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

    #[must_use]
    pub const fn next(self) -> Self {
        Day(self.0 + 1)
    }

    #[must_use]
    pub const fn before(self) -> Self {
        Day(self.0 - 1)
    }

    /// So many days after 1970-01-01.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
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

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_second(self.begin().seconds()).unwrap_or_default();
        write!(f, "{}", time.strftime("%Y-%m-%d"))
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
        let mut counts = Counts::default();
        counts.count(session);
        self.add(day, vec![PolicyTally { policy, counts }]);
    }

    /// Adds what was counted elsewhere, or before.
    pub fn add(&mut self, day: Day, tallies: Vec<PolicyTally>) {
        for PolicyTally { policy, counts } in tallies {
            let policies = self.days.entry(day).or_default();
            let has_room = || {
                let of_domain = range_of(policies, &policy.domain).count();
                policies.len() < POLICIES_MAX && of_domain < POLICIES_OF_DOMAIN_MAX
            };
            if policies.contains_key(&policy) || has_room() {
                self.changed.insert((day, policy.domain.clone()));
                policies.entry(policy).or_default().merge(counts);
            }
        }
        while self.days.len() > DAYS_MAX
            && let Some((day, lost)) = self.days.pop_first()
        {
            let domains = lost.into_keys().map(|policy| (day, policy.domain));
            self.changed.extend(domains);
        }
    }

    /// Takes away what was told a domain.
    pub fn subtract(&mut self, day: Day, tallies: &[PolicyTally]) {
        let Some(policies) = self.days.get_mut(&day) else {
            return;
        };
        for told in tallies {
            let Some(counts) = policies.get_mut(&told.policy) else {
                continue;
            };
            counts.subtract(&told.counts);
            if counts.is_nothing() {
                policies.remove(&told.policy);
            }
            self.changed.insert((day, told.policy.domain.clone()));
        }
        if policies.is_empty() {
            self.days.remove(&day);
        }
    }

    /// What was counted on the days before `end`.
    #[must_use]
    pub fn before(&self, end: Day) -> Days {
        let tallies = |policies: &BTreeMap<PolicyKey, Counts>| {
            let each = policies.iter();
            each.map(|(policy, counts)| PolicyTally::of(policy, counts))
                .collect()
        };
        let days = self.days.range(..end);
        days.map(|(day, policies)| (*day, tallies(policies)))
            .collect()
    }

    /// What was counted of one domain.
    #[must_use]
    pub fn of(&self, day: Day, domain: &str) -> Vec<PolicyTally> {
        let Some(policies) = self.days.get(&day) else {
            return Vec::new();
        };
        let each = range_of(policies, domain);
        each.map(|(policy, counts)| PolicyTally::of(policy, counts))
            .collect()
    }

    /// Takes the list of what changed.
    #[must_use]
    pub fn take_changed(&mut self) -> BTreeSet<(Day, String)> {
        std::mem::take(&mut self.changed)
    }

    /// It is on record as it is. Of a day that is too old nothing is to be on record any more.
    pub fn note_kept(&mut self, day: Day, domain: &str) {
        if !self.of(day, domain).is_empty() {
            self.changed.remove(&(day, domain.to_owned()));
        }
    }

    /// Puts back what could not be kept.
    pub fn still_changed(&mut self, day: Day, domain: String) {
        self.changed.insert((day, domain));
    }
}

/// The policies of one domain: they are next to each other.
fn range_of<'p>(
    policies: &'p BTreeMap<PolicyKey, Counts>,
    domain: &'p str,
) -> impl Iterator<Item = (&'p PolicyKey, &'p Counts)> {
    let first = PolicyKey {
        kind: PolicyKind::Tlsa,
        ..PolicyKey::none(domain)
    };
    let each = policies.range(first..);
    each.take_while(move |(policy, _)| policy.domain == domain)
}

impl PolicyTally {
    fn of(policy: &PolicyKey, counts: &Counts) -> Self {
        PolicyTally {
            policy: policy.clone(),
            counts: counts.clone(),
        }
    }
}

/// A map as a list of pairs: its keys are no text.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Failure;

    pub fn serialize<S: Serializer>(
        details: &BTreeMap<Failure, u64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(details)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<BTreeMap<Failure, u64>, D::Error> {
        let pairs = Vec::<(Failure, u64)>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

impl Counts {
    fn count(&mut self, session: Session) {
        match session {
            Ok(()) => self.successes += 1,
            Err(failure) => {
                self.failures += 1;
                self.detail(failure, 1);
            }
        }
    }

    fn detail(&mut self, failure: Failure, count: u64) {
        if self.details.len() < FAILURES_MAX || self.details.contains_key(&failure) {
            *self.details.entry(failure).or_default() += count;
        }
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: Counts) {
        self.successes += other.successes;
        self.failures += other.failures;
        for (failure, count) in other.details {
            self.detail(failure, count);
        }
    }

    fn subtract(&mut self, other: &Counts) {
        self.successes = self.successes.saturating_sub(other.successes);
        self.failures = self.failures.saturating_sub(other.failures);
        for (failure, count) in &other.details {
            if let Some(left) = self.details.get_mut(failure) {
                *left = left.saturating_sub(*count);
            }
        }
        self.details.retain(|_, count| *count > 0);
    }

    fn is_nothing(&self) -> bool {
        *self == Counts::default()
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
        let over = tally.before(Day(3));
        let counts = &over[0].1[0].counts;
        assert_eq!((counts.successes, counts.failures), (3, 200));
        assert_eq!(counts.details.len(), FAILURES_MAX);
        assert!(counts.details.values().any(|count| *count == 100));
        assert_eq!((over.len(), over[1].1.len()), (2, POLICIES_MAX));
        for day in 0..10 {
            tally.count(Day(day), key.clone(), Ok(()));
        }
        assert_eq!(tally.before(Day(9)).len(), DAYS_MAX - 1);
        assert_eq!(tally.before(Day(10)).len(), DAYS_MAX);
        for n in 0..100 {
            let strings = vec![n.to_string()];
            let policy = PolicyKey {
                strings,
                ..key.clone()
            };
            tally.count(Day(9), policy, Ok(()));
        }
        assert_eq!(tally.of(Day(9), "a.test").len(), POLICIES_OF_DOMAIN_MAX);
    }

    #[test]
    fn what_was_told_goes_and_what_came_meanwhile_stays() {
        let mut tally = Tally::default();
        let (a, b) = (PolicyKey::none("a.test"), PolicyKey::none("b.test"));
        for key in [&a, &b] {
            tally.count(Day(1), key.clone(), Ok(()));
            tally.count(Day(1), key.clone(), failure("one"));
        }
        let names = |changed: BTreeSet<(Day, String)>| {
            let each = changed.into_iter();
            each.map(|(day, domain)| format!("{} {domain}", day.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(tally.take_changed()), ["1 a.test", "1 b.test"]);
        let told = tally.of(Day(1), "a.test");
        let bytes = serde_json::to_vec(&told).expect("plain values");
        let told: Vec<PolicyTally> = serde_json::from_slice(&bytes).expect("the same");
        tally.count(Day(1), a.clone(), failure("one"));
        tally.subtract(Day(1), &told);
        assert_eq!(names(tally.take_changed()), ["1 a.test"]);
        let left = tally.of(Day(1), "a.test");
        let counts = &left[0].counts;
        assert_eq!((counts.successes, counts.failures, left.len()), (0, 1, 1));
        assert_eq!(counts.details.values().copied().collect::<Vec<_>>(), [1]);
        tally.subtract(Day(1), &left);
        tally.subtract(Day(1), &tally.of(Day(1), "b.test"));
        assert!(tally.before(Day(2)).is_empty());
    }
}
