//! What was seen lately, within bounds: right passwords, wrong passwords, good addresses.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// A set whose members leave after `life`, or earlier, oldest first, where there would be more
/// than `max`.
pub struct Recent<K> {
    members: HashMap<K, Instant>,
    order: VecDeque<(Instant, K)>,
    life: Duration,
    max: usize,
}

impl<K: Hash + Eq + Copy> Recent<K> {
    pub fn new(life: Duration, max: usize) -> Self {
        Recent {
            members: HashMap::new(),
            order: VecDeque::new(),
            life,
            max,
        }
    }

    pub fn insert(&mut self, key: K, now: Instant) {
        while let Some((since, oldest)) = self.order.front().copied() {
            if self.order.len() < self.max && now.saturating_duration_since(since) < self.life {
                break;
            }
            self.order.pop_front();
            // A later insert of the same key has its own place in the order.
            if self.members.get(&oldest) == Some(&since) {
                self.members.remove(&oldest);
            }
        }
        self.members.insert(key, now);
        self.order.push_back((now, key));
    }

    pub fn has(&self, key: &K, now: Instant) -> bool {
        self.members
            .get(key)
            .is_some_and(|since| now.saturating_duration_since(*since) < self.life)
    }
}

/// Stands for a log-in name, a password and the stored hash together: another password, or
/// another hash after a change, is another key, so no answer outlives what it was about.
pub type Key = [u8; 32];

/// Makes [`Key`]s that mean nothing outside this process.
pub struct Keys {
    secret: [u8; 32],
}

impl Keys {
    pub fn new() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the kernel gives random bytes");
        Keys { secret }
    }

    pub fn key(&self, login: &str, password: &str, hash: &str) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for part in [login, password, hash] {
            // Lengths first, so that no two triples run together.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// A short stand-in for a log-in name.
    pub fn user(&self, login: &str) -> u64 {
        let hash = blake3::keyed_hash(&self.secret, login.as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_leave_by_age_and_by_number() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut recent = Recent::new(Duration::from_secs(10), 3);
        recent.insert(1, at(0));
        recent.insert(2, at(1));
        assert!(recent.has(&1, at(9)) && !recent.has(&1, at(10)));
        recent.insert(1, at(5));
        recent.insert(3, at(6));
        assert!(recent.has(&1, at(14)), "the later insert counts");
        recent.insert(4, at(7));
        assert!(!recent.has(&2, at(7)), "the oldest goes first");
        assert!(recent.order.len() <= 3 && recent.members.len() <= 3);
    }

    #[test]
    fn a_changed_hash_is_another_key() {
        let keys = Keys::new();
        let key = keys.key("ana@example.org", "secret", "$6$old");
        assert_eq!(key, keys.key("ana@example.org", "secret", "$6$old"));
        assert_ne!(key, keys.key("ana@example.org", "secret", "$6$new"));
        assert_ne!(key, keys.key("ana@example.or", "gsecret", "$6$old"));
        assert_ne!(key, Keys::new().key("ana@example.org", "secret", "$6$old"));
    }
}
