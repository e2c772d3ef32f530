//! How many connections an address has, over all shards, without a lock.
//!
//! A fixed table of words. A word is a fingerprint of the address and a count; 0 is a free word. An
//! address may stand in any of a few words behind its hash. Entering adds one to the word that has
//! its fingerprint, or claims a free one; leaving takes one from the word that was entered, and the
//! last to leave frees it. Every step is one compare-and-swap of one word.
//!
//! What may go wrong, and why that is right: two shards that see an address for the first time at
//! once may claim two words for it, which lets that address have up to twice its limit until one of
//! the words empties. Two addresses with the same 47-bit fingerprint share a count. Where all words
//! of a place are taken the connection is let in uncounted: the limit of the listener still holds.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::networks::counted_as;

const COUNT_BITS: u32 = 16;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Words that an address may stand in.
const PROBES: usize = 16;
/// Half a megabyte, for 20,000 connections of as many addresses at a load of a third.
const WORDS: usize = 1 << 16;

/// The table. Clones share it.
#[derive(Clone)]
pub struct AddressCounts {
    words: Arc<[AtomicU64]>,
    /// Seeded for this process, so that nobody can choose addresses that collide.
    hasher: RandomState,
}

/// A connection's place in the table; dropping it leaves. Moves with the connection.
pub struct AddressPass {
    words: Arc<[AtomicU64]>,
    at: Option<usize>,
}

impl Default for AddressCounts {
    fn default() -> Self {
        Self::with_words(WORDS)
    }
}

impl AddressCounts {
    fn with_words(words: usize) -> Self {
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        AddressCounts {
            words,
            hasher: RandomState::new(),
        }
    }

    /// Counts a connection of `address` (IPv6 by /64); `None` where it has `connections_max`.
    #[must_use]
    pub fn enter(&self, address: IpAddr, connections_max: u16) -> Option<AddressPass> {
        let hash = self.hasher.hash_one(counted_as(address));
        // Never 0, which is a free word; independent of the place, which the low bits choose.
        let fingerprint = (hash | 1 << 63) & !COUNT_MASK;
        let place = |probe| (hash as usize % self.words.len() + probe) % self.words.len();
        let pass = |at| {
            Some(AddressPass {
                words: self.words.clone(),
                at,
            })
        };
        loop {
            let mut free = None;
            let mut found = None;
            for at in (0..PROBES).map(place) {
                let word = self.words[at].load(Ordering::Relaxed);
                if word & !COUNT_MASK == fingerprint {
                    found = Some((at, word));
                    break;
                }
                if word == 0 && free.is_none() {
                    free = Some((at, word));
                }
            }
            let Some((at, word)) = found.or(free) else {
                return pass(None);
            };
            if word & COUNT_MASK >= u64::from(connections_max.min(u16::MAX - 1)) {
                return None;
            }
            let next = (fingerprint | word) + 1;
            let swapped =
                self.words[at].compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                return pass(Some(at));
            }
        }
    }
}

impl Drop for AddressPass {
    fn drop(&mut self) {
        let Some(at) = self.at else { return };
        let leave = |word: u64| {
            assert!(word & COUNT_MASK > 0, "left more often than entered");
            Some(if word & COUNT_MASK == 1 { 0 } else { word - 1 })
        };
        let _ = self.words[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn an_address_has_its_limit_and_no_other_suffers() {
        let counts = AddressCounts::default();
        let mut passes: Vec<_> = (0..3).map(|_| counts.enter(address(1), 3)).collect();
        assert!(passes.iter().all(Option::is_some));
        assert!(counts.enter(address(1), 3).is_none());
        assert!(counts.enter(address(2), 3).is_some());
        assert!(
            counts
                .enter("::ffff:0.0.0.1".parse().expect("an address"), 3)
                .is_none()
        );
        passes.pop();
        assert!(counts.enter(address(1), 3).is_some());
        assert!(counts.enter(address(3), 0).is_none());
    }

    #[test]
    fn a_full_table_counts_no_more_and_empties() {
        let counts = AddressCounts::with_words(32);
        let passes: Vec<_> = (0..500).map(|n| counts.enter(address(n), 1)).collect();
        assert!(passes.iter().filter(|pass| pass.is_some()).count() >= 468);
        drop(passes);
        assert!(
            counts
                .words
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn threads_agree_on_the_limit() {
        let counts = AddressCounts::default();
        // Claimed beforehand, so that all threads meet on one word.
        let first = counts.enter(address(7), 100);
        let held: usize = std::thread::scope(|scope| {
            let enter = || {
                let passes: Vec<_> = (0..1000)
                    .filter_map(|_| counts.enter(address(7), 100))
                    .collect();
                for _ in 0..1000 {
                    drop(counts.enter(address(8), 100));
                }
                passes
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
            let passes: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect();
            passes.iter().map(Vec::len).sum()
        });
        assert_eq!(held, 99);
        drop(first);
        assert!(
            counts
                .words
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
    }
}
