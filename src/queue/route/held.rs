//! Ways that were just found: for the next message to the same destination, which may follow at once.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// No way is held for longer, whatever the DNS allows: what an operator or a domain changes counts
/// soon.
const HELD_SPAN_MAX: Duration = Duration::from_secs(10);
const HELD_MAX: usize = 1024;

/// Ways by destination, for as long as the DNS allows and no longer than seconds.
#[derive(Debug)]
pub struct Held<T> {
    ways: HashMap<String, (Instant, Rc<T>)>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Held {
            ways: HashMap::new(),
        }
    }
}

impl<T> Held<T> {
    #[must_use]
    pub fn get(&self, destination: &str, now: Instant) -> Option<Rc<T>> {
        let (until, way) = self.ways.get(destination)?;
        (now < *until).then(|| way.clone())
    }

    /// `ttl`: seconds for which the DNS allows it; 0: this once.
    pub fn put(&mut self, destination: &str, way: Rc<T>, ttl: u32, now: Instant) {
        if ttl == 0 {
            return;
        }
        if self.ways.len() >= HELD_MAX {
            self.ways.retain(|_, (until, _)| now < *until);
        }
        if self.ways.len() < HELD_MAX {
            let span = HELD_SPAN_MAX.min(Duration::from_secs(ttl.into()));
            self.ways.insert(destination.to_owned(), (now + span, way));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_held_for_a_while_and_in_bounds() {
        let mut held = Held::default();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        for (name, ttl) in [("never", 0), ("short", 3), ("long", 3600)] {
            held.put(name, Rc::new(ttl), ttl, now);
        }
        let is_held = |held: &Held<u32>, name, at| held.get(name, at).is_some();
        assert!(!is_held(&held, "never", now));
        assert!(is_held(&held, "short", after(2)) && !is_held(&held, "short", after(3)));
        assert!(is_held(&held, "long", after(9)) && !is_held(&held, "long", after(10)));
        for n in 0..5000 {
            held.put(&n.to_string(), Rc::new(n), 60, now);
        }
        assert_eq!(held.ways.len(), HELD_MAX);
        held.put("new", Rc::new(7), 60, after(20));
        assert_eq!(held.ways.len(), 1);
    }
}
