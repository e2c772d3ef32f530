//! What changed lately, for sessions that look at the mailbox.
//!
//! A view remembers one number, the round at which it last looked. Most catch up from this ring;
//! one that stayed away too long compares the whole mailbox instead.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::base::Uid;
use crate::runtime::local::Notify;

/// Changes that are remembered while somebody looks.
const CHANGES_MAX: usize = 512;
/// UIDs that those changes name, together.
const CHANGED_UIDS_MAX: usize = 16_384;

pub(in crate::store) enum Change {
    Flags(Vec<Uid>),
    Expunged(Vec<Uid>),
    KeywordsNew,
    Added,
}

impl Change {
    fn weight(&self) -> usize {
        match self {
            Change::Flags(uids) | Change::Expunged(uids) => uids.len(),
            Change::KeywordsNew | Change::Added => 0,
        }
    }
}

#[derive(Default)]
pub(in crate::store) struct Feed {
    round: Cell<u64>,
    pub notify: Notify,
    ring: RefCell<Ring>,
}

#[derive(Default)]
struct Ring {
    changes: VecDeque<(u64, Change)>,
    uids: usize,
    /// Changes after this round are all in the ring.
    complete_after: u64,
}

impl Feed {
    pub fn round(&self) -> u64 {
        self.round.get()
    }

    /// Remembers a change (if somebody looks) and wakes who waits for one.
    pub fn tell(&self, change: Change, views: u32) {
        let round = self.round.get() + 1;
        self.round.set(round);
        let mut ring = self.ring.borrow_mut();
        if views == 0 {
            *ring = Ring {
                complete_after: round,
                ..Ring::default()
            };
        } else {
            ring.uids += change.weight();
            ring.changes.push_back((round, change));
            while ring.changes.len() > CHANGES_MAX || ring.uids > CHANGED_UIDS_MAX {
                let Some((dropped, change)) = ring.changes.pop_front() else {
                    break;
                };
                ring.uids -= change.weight();
                ring.complete_after = dropped;
            }
        }
        drop(ring);
        self.notify.notify_all();
    }

    /// Shows every change after round `seen`; false when some are forgotten.
    pub fn since(&self, seen: u64, mut each: impl FnMut(&Change)) -> bool {
        let ring = self.ring.borrow();
        if seen < ring.complete_after {
            return false;
        }
        let from = ring.changes.partition_point(|(round, _)| *round <= seen);
        ring.changes
            .range(from..)
            .for_each(|(_, change)| each(change));
        true
    }
}
