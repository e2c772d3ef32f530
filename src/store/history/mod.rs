//! History: what was removed, and what was there before, for as long as the operator wants.
//!
//! `apply` of an expunge or of a deleted folder notes the rows that go; a checkpoint writes them
//! to the day's history file of the partition and gives each file a second name below `removed/`
//! before it is made durable, so nothing is ever without a name (`docs/STORE.md`, "History").
//! [`restore`] brings back what was removed, or what was there at a moment; [`prune`] forgets days.
//!
//! Runs on: the owner of the partition.
//! Deliberately absent: who may ask (server), and a reader of the journal: a replay notes the same
//! rows again, and writes them to the same place.

mod choose;
mod entry;
mod file;
mod marks;
mod prune;
mod read;
mod renames;
mod restore;
mod span;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::StoreError;
use super::bytes::{Malformed, Reader, Writer};
use super::doom::Doomed;
use super::maildir::{Layout, Settler};
use super::partition::Partition;
use crate::base::{AccountId, MailboxId, PartitionId, UnixMs};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step};

pub(super) use entry::{Head, Rows};
#[cfg(test)]
pub(super) use file::{entries_of, frame};
#[cfg(test)]
pub(super) use prune::prune;
pub(super) use prune::{free, kept_days, run};
pub(super) use renames::note as note_rename;
pub(super) use restore::restore;
pub use restore::{RestoreReport, RestoreRequest, RestoreRow, RestoreState};

/// What is gathered before it is compressed.
const CHUNK_BYTES: usize = 64 << 10;
const DAY_MS: i64 = 86_400_000;
/// 9999-12-31.
const LAST_DAY: u32 = 2_932_896;

/// A day of UTC, counted from 1970. The first one stands for a time that is not known: nothing of
/// it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub u32);

impl Day {
    pub const UNKNOWN: Day = Day(0);

    pub fn of(at: UnixMs) -> Day {
        let day = u32::try_from(at.0.max(0) / DAY_MS).unwrap_or(LAST_DAY);
        Day(day.min(LAST_DAY))
    }

    pub fn minus(self, days: u32) -> Day {
        Day(self.0.saturating_sub(days))
    }
}

/// As directories and files are called: `2026-11-22`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::from(self.0) * DAY_MS / 1000;
        let time = jiff::Timestamp::from_second(seconds).map_err(|_| fmt::Error)?;
        write!(f, "{}", time.strftime("%Y-%m-%d"))
    }
}

impl FromStr for Day {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Day, Malformed> {
        let date: jiff::civil::Date = text.parse().map_err(|_| Malformed)?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC);
        let seconds = midnight.map_err(|_| Malformed)?.timestamp().as_second();
        let day = Day::of(UnixMs::from_seconds(seconds));
        if day.to_string() == text {
            Ok(day)
        } else {
            Err(Malformed)
        }
    }
}

/// Where the messages go that were expunged from a mailbox on a day.
pub(super) fn kept_dir(
    layout: &Layout,
    day: Day,
    partition: PartitionId,
    account: AccountId,
    mailbox: MailboxId,
) -> PathBuf {
    kept_account(layout, day, partition, account).join(format!("M{mailbox}"))
}

/// All that is kept of an account from a day.
pub(super) fn kept_account(
    layout: &Layout,
    day: Day,
    partition: PartitionId,
    account: AccountId,
) -> PathBuf {
    kept_partition(layout, day, partition).join(account.to_string())
}

fn kept_partition(layout: &Layout, day: Day, partition: PartitionId) -> PathBuf {
    let root = &layout.root;
    root.join(format!("removed/{day}/{}", partition.0))
}

pub(super) fn day_file(layout: &Layout, partition: PartitionId, day: Day) -> PathBuf {
    let root = &layout.root;
    root.join(format!("history/{}/{day}", partition.0))
}

/// What a partition has noted: the ends of its day files, and what is not in them yet.
#[derive(Default)]
pub(super) struct History {
    /// The catalogue names these: what stands beyond is of a life that did not come to its
    /// checkpoint, and is overwritten.
    ends: BTreeMap<Day, u64>,
    open: BTreeMap<Day, Vec<u8>>,
    /// Full chunks that are not compressed yet.
    full: VecDeque<(Day, Arc<Vec<u8>>)>,
    waiting: VecDeque<(Day, u64, Arc<[u8]>)>,
}

impl History {
    /// Notes encoded entries of a day.
    pub fn push(&mut self, day: Day, entries: &[u8]) {
        let open = self.open.entry(day).or_default();
        open.extend_from_slice(entries);
        if open.len() >= CHUNK_BYTES {
            self.close(day);
        }
    }

    fn close(&mut self, day: Day) {
        let chunk = self.open.remove(&day).unwrap_or_default();
        if !chunk.is_empty() {
            self.full.push_back((day, Arc::new(chunk)));
        }
    }

    /// Gives a chunk its place in the file.
    fn place(&mut self, day: Day, frame: Vec<u8>) {
        let end = self.ends.entry(day).or_default();
        let at = *end;
        *end += frame.len() as u64;
        self.waiting.push_back((day, at, Arc::from(frame)));
    }

    /// Everything noted has its place: before the catalogue is encoded.
    pub fn seal(&mut self) {
        let days: Vec<Day> = self.open.keys().copied().collect();
        days.into_iter().for_each(|day| self.close(day));
        while let Some((day, chunk)) = self.full.pop_front() {
            self.place(day, file::frame(&chunk));
        }
    }

    /// Something is noted that no file has.
    pub fn is_pending(&self) -> bool {
        !self.open.is_empty() || !self.full.is_empty() || !self.waiting.is_empty()
    }

    pub fn days(&self) -> Vec<(Day, u64)> {
        self.ends.iter().map(|(day, end)| (*day, *end)).collect()
    }

    pub fn has(&self, day: Day) -> bool {
        self.ends.contains_key(&day)
    }

    pub fn forget(&mut self, day: Day) -> bool {
        self.open.remove(&day);
        self.full.retain(|(of, _)| *of != day);
        self.waiting.retain(|(of, ..)| *of != day);
        self.ends.remove(&day).is_some()
    }

    pub fn encode(&self, w: &mut Writer) {
        w.count(self.ends.len());
        for (day, end) in &self.ends {
            w.u32(day.0);
            w.u64(*end);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<History, Malformed> {
        let ends = (0..r.count(12)?)
            .map(|_| Ok((Day(r.u32()?.min(LAST_DAY)), r.u64()?)))
            .collect::<Result<_, _>>()?;
        Ok(History {
            ends,
            ..History::default()
        })
    }
}

/// Compresses full chunks, off the shard. What it does not come to, the next checkpoint does.
pub(super) async fn compress(disk: &Disk, partition: &Partition) {
    loop {
        let first = partition.state.borrow().history.full.front().cloned();
        let Some((day, chunk)) = first else { return };
        let bytes = chunk.clone();
        let Ok(frame) = disk.compute(move || file::frame(&bytes)).await else {
            return;
        };
        let history = &mut partition.state.borrow_mut().history;
        let is_first = |(_, first): &(Day, Arc<Vec<u8>>)| Arc::ptr_eq(first, &chunk);
        // Unless a checkpoint was faster.
        if history.full.front().is_some_and(is_first) {
            history.full.pop_front();
            history.place(day, frame);
        }
    }
}

/// Writes what waits to the day files. `Full` while something kept can still make room; what then
/// cannot be written is given up, and counted: removing mail must not end because its history has
/// no room.
pub(super) async fn flush(settler: &Settler<'_>, partition: &Partition) -> Result<(), StoreError> {
    let waiting: Vec<_> = {
        let state = partition.state.borrow();
        state.history.waiting.iter().cloned().collect()
    };
    if waiting.is_empty() {
        return Ok(());
    }
    if let Err(error) = write(settler, partition, &waiting).await {
        if error.kind == DiskErrorKind::Full && !settler.owned.keeps_no_more.get() {
            return Err(StoreError::Full);
        }
        let lost = &settler.owned.counters.history_lost;
        lost.set(lost.get() + waiting.len() as u64);
        tracing::warn!(%error, "history not written; what it tells of cannot be restored");
    }
    let done: Vec<(Day, u64)> = waiting.iter().map(|(day, at, _)| (*day, *at)).collect();
    let mut state = partition.state.borrow_mut();
    let all = &mut state.history.waiting;
    all.retain(|(day, at, _)| !done.contains(&(*day, *at)));
    Ok(())
}

/// Takes an account out of the day files: a frame that tells of it is written anew without it, and
/// doomed. Until the next checkpoint both are there, which readers bear.
pub(super) async fn erase(
    disk: &Disk,
    layout: &Layout,
    partition: &Partition,
    account: AccountId,
) -> Result<(), StoreError> {
    let days = partition.state.borrow().history.days();
    for (day, end) in days {
        let path = day_file(layout, partition.id, day);
        let mut frames = Vec::new();
        read::walk(disk, &path, end, |at, mut entries| {
            let all = entries.len();
            entries.retain(|entry| entry.head().account != account);
            if entries.len() < all {
                frames.push((at, entries));
            }
        })
        .await?;
        let mut state = partition.state.borrow_mut();
        let applied = state.applied;
        for (at, entries) in frames {
            let mut w = Writer::default();
            entries.iter().for_each(|entry| entry.encode(&mut w));
            if !entries.is_empty() {
                state.history.push(day, &w.out);
            }
            let bytes = at.end - at.start;
            let at = at.start;
            let frame = Doomed::Frame { day, at, bytes };
            state.doomed.push_back((applied, frame));
        }
    }
    Ok(())
}

async fn write(
    settler: &Settler<'_>,
    partition: &Partition,
    waiting: &[(Day, u64, Arc<[u8]>)],
) -> Result<(), DiskError> {
    let layout = &settler.owned.layout;
    let path = layout.root.join(format!("history/{}", partition.id.0));
    let mut steps = vec![Step::CreateDirAll { path }];
    for (day, at, frame) in waiting {
        steps.push(Step::Append {
            path: day_file(layout, partition.id, *day),
            at: *at,
            bytes: frame.to_vec(),
        });
    }
    settler
        .disk
        .batch(steps)
        .await
        .into_iter()
        .try_for_each(|done| done.map(drop))
}
