//! What was seen of addresses lately: which failed, and which family works here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::order::Family;

/// How long a failure is remembered.
const FAILED_SPAN: Duration = Duration::from_secs(600);
/// Failures that are remembered; the oldest go first.
const FAILED_MAX: usize = 4096;

/// A bounded memory.
#[derive(Debug)]
pub struct Lately {
    /// When, and the how manyth of all failures it was.
    failed: HashMap<IpAddr, (Instant, u64)>,
    /// Every failure in `failed`, and some that were renewed or taken back since.
    order: VecDeque<(IpAddr, u64)>,
    count: u64,
    family: Family,
}

impl Default for Lately {
    fn default() -> Self {
        Lately {
            failed: HashMap::new(),
            order: VecDeque::new(),
            count: 0,
            family: Family::V6,
        }
    }
}

impl Lately {
    pub fn worked(&mut self, address: IpAddr) {
        self.family = Family::of(address);
        self.failed.remove(&address);
    }

    pub fn failed(&mut self, address: IpAddr, now: Instant) {
        self.count += 1;
        self.failed.insert(address, (now, self.count));
        self.order.push_back((address, self.count));
        while self.order.len() > FAILED_MAX {
            self.forget_oldest();
        }
    }

    /// True if the address failed within the last minutes.
    #[must_use]
    pub fn is_failed(&self, address: IpAddr, now: Instant) -> bool {
        let span = |at: Instant| now.saturating_duration_since(at);
        let failed = self.failed.get(&address);
        failed.is_some_and(|(at, _)| span(*at) < FAILED_SPAN)
    }

    /// The family that worked last.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    fn forget_oldest(&mut self) {
        if let Some((address, count)) = self.order.pop_front()
            && self
                .failed
                .get(&address)
                .is_some_and(|(_, last)| *last == count)
        {
            self.failed.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_remembered_for_a_while_and_in_bounds() {
        let mut lately = Lately::default();
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        let now = Instant::now();
        let later = now + FAILED_SPAN;
        lately.failed(ip(1), now);
        assert!(lately.is_failed(ip(1), now) && !lately.is_failed(ip(1), later));
        lately.worked(ip(1));
        assert!(!lately.is_failed(ip(1), now));
        assert_eq!(lately.family(), Family::V4);
        for n in 0..10_000 {
            lately.failed(ip(7), now);
            lately.failed(ip(100 + n), now);
        }
        assert!(lately.is_failed(ip(7), now) && lately.is_failed(ip(10_099), now));
        assert!(!lately.is_failed(ip(100), now));
        assert!(lately.failed.len() <= FAILED_MAX && lately.order.len() <= FAILED_MAX);
    }
}
