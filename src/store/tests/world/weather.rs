//! What a disk does to a process that lives on: it is full for a while, or reads, writes and syncs
//! fail. A share of the seeds has such days.

use std::time::{Duration, Instant};

use super::Random;
use crate::runtime::{DiskOp, SimDisk, now, sleep};
use crate::store::journal::JournalError;
use crate::store::{StartError, StoreError};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
/// One seed in so many.
const ROUGH: u64 = 3;

pub(super) struct Weather {
    random: Random,
    pub is_rough: bool,
}

#[derive(Clone, Copy)]
enum Storm {
    /// The disk is full, or its directories cannot grow.
    Full,
    Reads,
    Writes,
    /// Of spool files and directories: whoever waits is told.
    Syncs,
    /// Of the journal and of checkpoints: the process has to end.
    Poison,
}

const STORMS: [Storm; 8] = [
    Storm::Full,
    Storm::Full,
    Storm::Full,
    Storm::Reads,
    Storm::Reads,
    Storm::Writes,
    Storm::Syncs,
    Storm::Poison,
];

const READS: [DiskOp; 4] = [DiskOp::Read, DiskOp::List, DiskOp::Stat, DiskOp::Open];
/// Where reads fail.
const READ_FROM: [&str; 10] = [
    "",
    "/mail/",
    "/cur/",
    "/palomar.index",
    "/palomar.log",
    "/palomar.cache",
    "/spool/",
    "/slot-",
    "/partitions/",
    "/queue/",
];
const WRITES: [DiskOp; 7] = [
    DiskOp::Write,
    DiskOp::CreateDir,
    DiskOp::Rename,
    DiskOp::Link,
    DiskOp::Unlink,
    DiskOp::RemoveDir,
    DiskOp::Truncate,
];
/// Where writes fail. The journal's own poison it.
const WRITE_TO: [&str; 8] = [
    "/mail/",
    "/spool/",
    "/partitions/",
    "/queue/",
    "/catalogues/",
    "/removed/",
    "/history/",
    "/palomar.",
];
/// Longest rest and longest storm.
const REST_MS: u64 = 50;
const STORM_MS: u64 = 2_500;
/// An index is read again for a while before it is made anew, which does lose something.
const READS_CLEAR: Duration = Duration::from_secs(5);

impl Weather {
    pub fn new(seed: u64) -> Weather {
        let mut random = Random(seed ^ 0xd15c << 20);
        Weather {
            is_rough: random.below(ROUGH) == 0,
            random,
        }
    }

    /// True so often, in a rough seed.
    pub fn is_met(&mut self, times: u64, of: u64) -> bool {
        self.is_rough && self.random.below(of) < times
    }

    /// One storm after the other, for ever.
    pub async fn storms(&mut self, sim: &SimDisk) {
        let mut clear_until = None;
        loop {
            sleep(Duration::from_millis(self.random.below(REST_MS))).await;
            self.storm(sim, &mut clear_until).await;
        }
    }

    /// One storm, at once.
    pub async fn one(&mut self, sim: &SimDisk) {
        self.storm(sim, &mut None).await;
    }

    async fn storm(&mut self, sim: &SimDisk, reads_clear_until: &mut Option<Instant>) {
        let mut storm = self.random.pick(&STORMS).expect("one of them");
        if matches!(storm, Storm::Reads) && reads_clear_until.is_some_and(|until| now() < until) {
            storm = Storm::Full;
        }
        self.begin(storm, sim);
        let is_long = self.random.below(4) == 0;
        let most = if is_long { STORM_MS } else { STORM_MS / 20 };
        sleep(Duration::from_millis(1 + self.random.below(most))).await;
        sim.calm();
        if matches!(storm, Storm::Reads) {
            *reads_clear_until = Some(now() + READS_CLEAR);
        }
    }

    fn begin(&mut self, storm: Storm, sim: &SimDisk) {
        let random = &mut self.random;
        let often = if random.below(2) == 0 { 1000 } else { 200 };
        let permille = 1 + random.below(often);
        match storm {
            Storm::Full => {
                sim.leave_room(random.below(2) * random.below(20_000));
                if random.below(2) == 0 {
                    for op in [DiskOp::CreateDir, DiskOp::Link, DiskOp::Rename] {
                        sim.trouble(op, "", permille, ENOSPC);
                    }
                }
            }
            Storm::Reads => {
                let path = random.pick(&READ_FROM).expect("one of them");
                for op in READS {
                    sim.trouble(op, path, permille, EIO);
                }
            }
            Storm::Writes => {
                let path = random.pick(&WRITE_TO).expect("one of them");
                for op in WRITES {
                    sim.trouble(op, path, permille, EIO);
                }
            }
            Storm::Syncs => {
                sim.trouble(DiskOp::Fsync, "/spool/", permille, EIO);
                sim.trouble(DiskOp::SyncDir, "", permille, EIO);
            }
            Storm::Poison => {
                let (op, path) = match random.below(3) {
                    0 => (DiskOp::SyncFs, ""),
                    1 => (DiskOp::Fdatasync, "/slot-"),
                    _ => (DiskOp::Write, "/slot-"),
                };
                sim.trouble(op, path, permille, EIO);
            }
        }
    }
}

/// What a start says of a failing disk. Anything else would send somebody to repair, or to cut off,
/// what is whole.
pub(super) fn is_of_disk(why: &StartError) -> bool {
    matches!(
        why,
        StartError::Disk(_)
            | StartError::Full { .. }
            | StartError::Stuck { .. }
            | StartError::Catalogue { .. }
            | StartError::Journal(JournalError::Disk(_))
            | StartError::Store(
                StoreError::Full
                    | StoreError::Late
                    | StoreError::Busy
                    | StoreError::Poisoned
                    | StoreError::Damaged { .. }
            )
    )
}
