//! Which UIDs were expunged, and when: what VANISHED (RFC 7162 3.2.10) answers from.

use crate::base::{ModSeq, Uid};
use crate::store::bytes::{Malformed, Reader, Writer};

/// Runs kept for one mailbox; the oldest are forgotten first.
const RUNS_MAX: usize = 16_384;

/// Expunged UIDs as runs, in the order in which they went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Vanished {
    /// All that vanished above this modseq is known.
    floor: ModSeq,
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Uid,
    last: Uid,
    modseq: ModSeq,
}

impl Vanished {
    /// UIDs, ascending, that went at `modseq`, which is above those before.
    pub fn add(&mut self, uids: impl Iterator<Item = Uid>, modseq: ModSeq) {
        for uid in uids {
            match self.runs.last_mut() {
                Some(run) if run.modseq == modseq && run.last.0.checked_add(1) == Some(uid.0) => {
                    run.last = uid;
                }
                _ => self.runs.push(Run {
                    first: uid,
                    last: uid,
                    modseq,
                }),
            }
        }
        if self.runs.len() > RUNS_MAX {
            // A quarter at once, so that this is rare; never half of what one record took.
            let n = self.runs.len() - RUNS_MAX * 3 / 4;
            let floor = self.runs[n - 1].modseq;
            self.forget_below(floor);
        }
    }

    /// Forgets what went up to `floor`.
    pub fn forget_below(&mut self, floor: ModSeq) {
        self.floor = self.floor.max(floor);
        let n = self.runs.partition_point(|run| run.modseq <= self.floor);
        self.runs.drain(..n);
    }

    /// Runs of UIDs that went after `modseq`, ascending and disjoint; `None` where not all of them
    /// are known any more, so that whatever is not there has to be told (RFC 7162 3.2.5.2).
    pub fn since(&self, modseq: ModSeq) -> Option<Vec<(Uid, Uid)>> {
        if modseq < self.floor {
            return None;
        }
        let from = self.runs.partition_point(|run| run.modseq <= modseq);
        let mut runs: Vec<(Uid, Uid)> = self.runs[from..]
            .iter()
            .map(|r| (r.first, r.last))
            .collect();
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let meets = run.1.0.checked_add(1) == Some(next.0.0);
            if meets {
                run.1 = next.1;
            }
            meets
        });
        Some(runs)
    }

    pub fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    pub fn encode(&self, w: &mut Writer) {
        w.u64(self.floor.0);
        w.count(self.runs.len());
        for run in &self.runs {
            w.u32(run.first.0);
            w.u32(run.last.0);
            w.u64(run.modseq.0);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Vanished, Malformed> {
        let floor = ModSeq(r.u64()?);
        let runs = (0..r.count(16)?)
            .map(|_| {
                Ok(Run {
                    first: Uid(r.u32()?),
                    last: Uid(r.u32()?),
                    modseq: ModSeq(r.u64()?),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Vanished { floor, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_went_since() {
        let mut vanished = Vanished::default();
        vanished.add([3, 4, 9].map(Uid).into_iter(), ModSeq(5));
        vanished.add([5, 1].map(Uid).into_iter(), ModSeq(6));
        let check = |since: u64, want: Option<&[(u32, u32)]>| {
            let want = want.map(|w| w.iter().map(|&(a, b)| (Uid(a), Uid(b))).collect());
            assert_eq!(vanished.since(ModSeq(since)), want, "{since}");
        };
        check(0, Some(&[(1, 1), (3, 5), (9, 9)]));
        check(5, Some(&[(1, 1), (5, 5)]));
        check(6, Some(&[]));
    }

    #[test]
    fn what_is_forgotten_is_said_to_be() {
        let mut vanished = Vanished::default();
        for n in 0..RUNS_MAX as u32 + 1 {
            vanished.add(std::iter::once(Uid(n * 2 + 1)), ModSeq(u64::from(n) + 1));
        }
        assert_eq!(vanished.since(ModSeq(0)), None);
        let known = vanished.since(ModSeq(10_000)).expect("known");
        assert_eq!(known.len(), RUNS_MAX + 1 - 10_000);
        let mut w = Writer::default();
        vanished.encode(&mut w);
        let again = Vanished::decode(&mut Reader::new(&w.out)).ok();
        assert_eq!(again, Some(vanished));
    }
}
