//! Attempts under way, on all shards together: what comes of them is for the shards of their
//! entries to put on record, which must not end before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(UnderWay);

impl UnderWay {
    pub(super) fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Counted(self.clone())
    }

    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let UnderWay(count) = &self.0;
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_count_the_same() {
        let here = UnderWay::default();
        let there = here.clone();
        let (one, other) = (here.begin(), there.begin());
        drop(one);
        assert!(here.is_any() && there.is_any());
        drop(other);
        assert!(!here.is_any() && !there.is_any());
    }
}
