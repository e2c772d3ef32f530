//! Attempts under way, on all shards together: what comes of them is for the shards of their
//! entries to put on record, which must not end before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    attempts: Arc<AtomicUsize>,
    /// Of those, letters that were sent whole: what the host answers is not on record yet, and who
    /// does not wait for it sends them twice.
    unanswered: Arc<AtomicUsize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl UnderWay {
    pub(super) fn begin(&self) -> Counted {
        Counted::new(&self.attempts)
    }

    /// A letter was sent whole.
    pub(super) fn sent(&self) -> Counted {
        Counted::new(&self.unanswered)
    }

    pub(super) fn is_any(&self) -> bool {
        self.attempts.load(Ordering::Acquire) > 0
    }

    /// A stop now would have a letter sent twice.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) > 0
    }
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
        assert!(here.is_any() && there.is_any() && !there.is_unanswered());
        let sent = there.sent();
        assert!(here.is_unanswered());
        drop((other, sent));
        assert!(!here.is_any() && !there.is_any() && !here.is_unanswered());
    }
}
