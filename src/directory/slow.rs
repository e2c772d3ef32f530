//! Failed log-ins make the next answer slower, for the user and for the address they come from.
//!
//! The session that asked sleeps the wait out; nobody else waits. A user is never blocked: a
//! stranger could lock him out. An address is blocked only after many different wrong passwords
//! and without one right one in a day, so a campus behind one address is slowed at most. Each
//! shard counts for itself. With a `unit` of zero nothing is slowed or blocked.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::verified::Recent;

/// Different wrong passwords after which an address without a recent success is blocked.
pub const BLOCK_AT: u32 = 50;
/// Failures are forgotten, and blocks end, this long after the last one.
pub const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// How long a right password speaks for its address.
const TRUST_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Waits grow up to this many units.
const UNITS_MAX: u32 = 16;
/// One unit for this many failures of an address: it may be shared.
const ADDRESS_FAILURES_PER_UNIT: u32 = 5;

const FAILURES_MAX: usize = 50_000;
const TRUSTED_MAX: usize = 50_000;

/// An address as it is counted: IPv6 by /64, mapped IPv4 as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net(Ipv6Addr);

impl From<IpAddr> for Net {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Net(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => Net((v6.to_bits() >> 64 << 64).into()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Net(Net),
    User(u64),
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// The counts of one shard.
pub struct Slow {
    failures: HashMap<Who, Failures>,
    trusted: Recent<Net>,
}

impl Slow {
    pub fn new() -> Self {
        Slow {
            failures: HashMap::new(),
            trusted: Recent::new(TRUST_FOR, TRUSTED_MAX),
        }
    }

    /// How long an address is still blocked.
    pub fn blocked(&self, net: Net, now: Instant, unit: Duration) -> Option<Duration> {
        if unit.is_zero() || self.trusted.has(&net, now) {
            return None;
        }
        let failures = self.failures.get(&Who::Net(net))?;
        let left = FORGET_AFTER.checked_sub(now.saturating_duration_since(failures.last))?;
        (failures.count >= BLOCK_AT && !left.is_zero()).then_some(left)
    }

    /// Counts one failure.
    pub fn failed(&mut self, net: Net, user: u64, now: Instant) {
        for who in [Who::Net(net), Who::User(user)] {
            self.make_room(now);
            let entry = self.failures.entry(who).or_insert(Failures {
                count: 0,
                last: now,
            });
            if is_old(entry, now) {
                entry.count = 0;
            }
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
        }
    }

    /// How long the answer to a failure has to wait.
    pub fn wait(&self, net: Net, user: u64, now: Instant, unit: Duration) -> Duration {
        let by_user = match self.count(Who::User(user), now) {
            0 => 0,
            count => 1u32.checked_shl(count - 1).unwrap_or(UNITS_MAX),
        };
        let by_net = self.count(Who::Net(net), now) / ADDRESS_FAILURES_PER_UNIT;
        unit * by_user.max(by_net).clamp(1, UNITS_MAX)
    }

    /// A right password: the user starts afresh, the address is trusted for a day.
    pub fn succeeded(&mut self, net: Net, user: u64, now: Instant) {
        self.failures.remove(&Who::User(user));
        self.trusted.insert(net, now);
    }

    fn count(&self, who: Who, now: Instant) -> u32 {
        match self.failures.get(&who) {
            Some(failures) if !is_old(failures, now) => failures.count,
            _ => 0,
        }
    }

    /// Keeps the table within bounds: the forgotten go first, then any eighth.
    fn make_room(&mut self, now: Instant) {
        if self.failures.len() < FAILURES_MAX {
            return;
        }
        self.failures.retain(|_, failures| !is_old(failures, now));
        if self.failures.len() > FAILURES_MAX * 7 / 8 {
            let mut nth = 0u32;
            self.failures.retain(|_, _| {
                nth = nth.wrapping_add(1);
                !nth.is_multiple_of(8)
            });
        }
    }
}

fn is_old(failures: &Failures, now: Instant) -> bool {
    now.saturating_duration_since(failures.last) >= FORGET_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Duration = Duration::from_secs(2);

    fn net(text: &str) -> Net {
        text.parse::<IpAddr>().expect("an address").into()
    }

    /// `fails` failures of one user from one address, then the wait in units.
    #[track_caller]
    fn check_user(fails: u32, units: u32) {
        let now = Instant::now();
        let mut slow = Slow::new();
        for n in 0..fails {
            // From ever other addresses, so that only the user counts.
            slow.failed(net(&format!("198.51.100.{n}")), 7, now);
        }
        let wait = slow.wait(net("192.0.2.1"), 7, now, UNIT);
        assert_eq!(wait, UNIT * units, "{fails} failures");
        assert_eq!(
            slow.wait(net("192.0.2.1"), 7, now + FORGET_AFTER, UNIT),
            UNIT
        );
    }

    #[test]
    fn a_user_is_slowed_more_and_more_and_never_blocked() {
        check_user(1, 1);
        check_user(2, 2);
        check_user(3, 4);
        check_user(5, 16);
        check_user(200, 16);
    }

    /// `fails` failures of different users from one address.
    #[track_caller]
    fn check_address(fails: u32, success: bool, units: u32, blocked: bool) {
        let now = Instant::now();
        let mut slow = Slow::new();
        let from = net("2001:db8:1:2::5");
        if success {
            slow.succeeded(net("2001:db8:1:2::6"), 99, now);
        }
        for n in 0..fails {
            slow.failed(from, 1000 + u64::from(n), now);
        }
        assert_eq!(
            slow.wait(from, 1, now, UNIT),
            UNIT * units,
            "{fails} failures"
        );
        assert_eq!(
            slow.blocked(from, now, UNIT).is_some(),
            blocked,
            "{fails} failures"
        );
        assert_eq!(slow.blocked(from, now, Duration::ZERO), None);
        assert_eq!(slow.blocked(from, now + FORGET_AFTER, UNIT), None);
        assert_eq!(slow.blocked(net("2001:db8:1:3::5"), now, UNIT), None);
    }

    #[test]
    fn an_address_is_blocked_only_without_a_recent_success() {
        check_address(1, false, 1, false);
        check_address(20, false, 4, false);
        check_address(50, false, 10, true);
        check_address(50, true, 10, false);
        check_address(5000, true, 16, false);
    }

    #[test]
    fn a_success_clears_the_user_and_mapped_addresses_are_plain_ones() {
        let now = Instant::now();
        let mut slow = Slow::new();
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
        (0..4).for_each(|_| slow.failed(net("192.0.2.1"), 7, now));
        slow.succeeded(net("192.0.2.1"), 7, now);
        assert_eq!(slow.wait(net("192.0.2.1"), 7, now, UNIT), UNIT);
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let mut slow = Slow::new();
        for n in 0..60_000u64 {
            slow.failed(net("192.0.2.1"), n, now);
        }
        assert!(slow.failures.len() <= FAILURES_MAX + 1);
    }
}
