//! Who cannot do TLS with us. rustls has no CBC, DHE or RSA key exchange; a server on port 25 that
//! needs one of them fails STARTTLS, and many such servers then never send in the clear. So an
//! address that failed twice is not offered STARTTLS for a day (RFC 7435 3: some protection where
//! possible, mail in any case).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::net::networks::counted_as;

/// Failures after which STARTTLS is withheld.
pub const FAILURES_MAX: u8 = 2;
/// How long it is withheld, and how long a single failure is remembered.
pub const WITHHELD_FOR: Duration = Duration::from_secs(24 * 3600);
/// Addresses that one shard remembers; beyond, the one that failed first is forgotten.
pub const ADDRESSES_MAX: usize = 4096;

/// The failed handshakes of one shard.
#[derive(Debug)]
pub struct HandshakeFailures {
    /// A ring in order of first failure; `next` is the oldest once it is full.
    ring: Vec<Entry>,
    next: usize,
    index: HashMap<IpAddr, usize>,
    capacity: usize,
    withheld: u64,
}

#[derive(Debug)]
struct Entry {
    address: Option<IpAddr>,
    failures: u8,
    last: Instant,
}

impl Default for HandshakeFailures {
    fn default() -> Self {
        Self::new(ADDRESSES_MAX)
    }
}

impl HandshakeFailures {
    /// Remembers at most `capacity` addresses.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a memory of no address");
        HandshakeFailures {
            ring: Vec::new(),
            next: 0,
            index: HashMap::new(),
            capacity,
            withheld: 0,
        }
    }

    /// The handshake with `address` failed at `now`.
    pub fn failed(&mut self, address: IpAddr, now: Instant) {
        let address = counted_as(address);
        if let Some(&at) = self.index.get(&address) {
            let entry = &mut self.ring[at];
            let forgotten = now.saturating_duration_since(entry.last) >= WITHHELD_FOR;
            entry.failures = if forgotten {
                1
            } else {
                entry.failures.saturating_add(1)
            };
            entry.last = now;
            return;
        }
        let entry = Entry {
            address: Some(address),
            failures: 1,
            last: now,
        };
        let at = if self.ring.len() < self.capacity {
            self.ring.push(entry);
            self.ring.len() - 1
        } else {
            let at = self.next;
            self.next = (at + 1) % self.capacity;
            if let Some(oldest) = self.ring[at].address {
                self.index.remove(&oldest);
            }
            self.ring[at] = entry;
            at
        };
        self.index.insert(address, at);
    }

    /// The handshake with `address` succeeded: what was remembered is forgotten.
    pub fn succeeded(&mut self, address: IpAddr) {
        if let Some(at) = self.index.remove(&counted_as(address)) {
            self.ring[at].address = None;
        }
    }

    /// Whether to offer STARTTLS to `address`; a refusal is counted.
    pub fn may_offer(&mut self, address: IpAddr, now: Instant) -> bool {
        let withhold = self.index.get(&counted_as(address)).is_some_and(|&at| {
            let entry = &self.ring[at];
            entry.failures >= FAILURES_MAX
                && now.saturating_duration_since(entry.last) < WITHHELD_FOR
        });
        self.withheld += u64::from(withhold);
        !withhold
    }

    /// How often STARTTLS was withheld.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.withheld
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn withheld_after_two_failures_for_a_day() {
        let mut failures = HandshakeFailures::new(8);
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let one = address(1);
        failures.failed(one, start);
        assert!(failures.may_offer(one, start));
        failures.failed(one, start + hour);
        assert!(!failures.may_offer(one, start + hour));
        assert!(!failures.may_offer(one, start + hour * 24));
        assert!(failures.may_offer(one, start + hour * 25));
        assert_eq!(failures.withheld(), 2);
        // A failure after the day counts as the first of a new pair.
        failures.failed(one, start + hour * 30);
        assert!(failures.may_offer(one, start + hour * 30));
        failures.failed(one, start + hour * 31);
        assert!(!failures.may_offer(one, start + hour * 31));
        failures.succeeded(one);
        assert!(failures.may_offer(one, start + hour * 31));
    }

    #[test]
    fn bounded_and_the_oldest_goes_first() {
        let mut failures = HandshakeFailures::new(4);
        let now = Instant::now();
        for n in 0..1000 {
            failures.failed(address(n), now);
            failures.failed(address(n), now);
            failures.succeeded(address(n / 2));
            assert!(failures.ring.len() <= 4 && failures.index.len() <= 4);
        }
        assert!(failures.may_offer(address(995), now));
        for n in 996..1000 {
            assert!(!failures.may_offer(address(n), now), "{n}");
        }
    }

    #[test]
    fn ipv6_counts_by_64() {
        let mut failures = HandshakeFailures::default();
        let now = Instant::now();
        failures.failed("2001:db8::1".parse().expect("an address"), now);
        failures.failed("2001:db8::2".parse().expect("an address"), now);
        assert!(!failures.may_offer("2001:db8::3".parse().expect("an address"), now));
    }
}
