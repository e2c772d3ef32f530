//! Whether a day is over: the clock alone does not say so. It may be set to any time, by hand, by a
//! time server or by a flat battery, and what is removed for it does not come back.
//!
//! So days go only where every look at the clock for a whole day of uptime has found them over:
//! a *span* keeps the earliest day that any look has seen, and how long the process ran meanwhile,
//! by the clock that nobody sets. It goes on over restarts (`history/span-<shard>`).

use std::path::PathBuf;
use std::time::Duration;

use super::Day;
use crate::base::{ShardId, crc32c};
use crate::runtime::{Disk, DiskError, Step};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::maildir::Layout;

const MAGIC: &[u8; 8] = b"PALSPN01";
/// Uptime for which the clock has to stay with what it says.
const AGREED_AFTER: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// `None` before the first look.
    earliest: Option<Day>,
    uptime: Duration,
}

impl Span {
    /// Takes what the clock says now, after so much more uptime. Answers the day that all looks of
    /// a whole day agree has begun.
    pub fn look(&mut self, today: Day, uptime: Duration) -> Option<Day> {
        // Nobody looked before the first look: what passed until then proves nothing.
        let more = self.earliest.map_or(Duration::ZERO, |_| uptime);
        self.uptime = self.uptime.saturating_add(more);
        let earliest = self.earliest.map_or(today, |day| day.min(today));
        self.earliest = Some(earliest);
        (self.uptime >= AGREED_AFTER).then_some(earliest)
    }

    /// What all agreed on is done.
    pub fn begin_anew(&mut self, today: Day) {
        *self = Span {
            earliest: Some(today),
            uptime: Duration::ZERO,
        };
    }

    fn path(layout: &Layout, shard: ShardId) -> PathBuf {
        layout.root.join(format!("history/span-{}", shard.0))
    }

    /// What cannot be read proves nothing: a new span begins.
    pub async fn load(disk: &Disk, layout: &Layout, shard: ShardId) -> Span {
        let bytes = disk.read(&Self::path(layout, shard)).await;
        let span = bytes.ok().and_then(|bytes| Self::decode(&bytes).ok());
        span.unwrap_or_default()
    }

    /// In place and without a sync: a torn one proves nothing, and an old one less.
    pub async fn save(
        &self,
        disk: &Disk,
        layout: &Layout,
        shard: ShardId,
    ) -> Result<(), DiskError> {
        let Some(earliest) = self.earliest else {
            return Ok(());
        };
        let path = Self::path(layout, shard);
        let bytes = Self::encode(earliest, self.uptime);
        let write = Step::Append { path, at: 0, bytes };
        let done = disk.batch(vec![write]).await;
        done.into_iter().try_for_each(|done| done.map(drop))
    }

    fn encode(earliest: Day, uptime: Duration) -> Vec<u8> {
        let mut w = Writer::default();
        w.out.extend_from_slice(MAGIC);
        w.u32(earliest.0);
        w.u64(uptime.as_secs());
        let crc = crc32c(&w.out);
        w.u32(crc.0);
        w.out
    }

    fn decode(bytes: &[u8]) -> Result<Span, Malformed> {
        let mut r = Reader::new(bytes);
        let magic = r.take(8)?;
        let (earliest, uptime, crc) = (Day(r.u32()?), Duration::from_secs(r.u64()?), r.u32()?);
        let is_whole = bytes.get(..20).is_some_and(|said| crc32c(said).0 == crc);
        if magic != MAGIC || !is_whole {
            return Err(Malformed);
        }
        let earliest = Some(earliest);
        Ok(Span { earliest, uptime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Looks an hour apart; answers what each agreed on.
    fn looks(days: &[u32]) -> Vec<Option<u32>> {
        let mut span = Span::default();
        let look = |day: &u32| span.look(Day(*day), HOUR).map(|day| day.0);
        days.iter().map(look).collect()
    }

    #[test]
    fn a_day_of_uptime_agrees() {
        let mut days = vec![100; 20];
        days.extend([101; 5]);
        let agreed = looks(&days);
        assert!(agreed[..24].iter().all(Option::is_none));
        assert_eq!(agreed[24], Some(100));
    }

    #[test]
    fn a_clock_that_jumped_and_came_back_is_not_believed() {
        let mut days = vec![130; 23];
        days.extend([100; 2]);
        assert_eq!(looks(&days)[24], Some(100));
        let mut days = vec![100];
        days.extend([130; 24]);
        assert_eq!(looks(&days)[24], Some(100));
    }

    #[test]
    fn damage_proves_nothing() {
        let bytes = Span::encode(Day(100), HOUR);
        let whole = Span {
            earliest: Some(Day(100)),
            uptime: HOUR,
        };
        assert!(Span::decode(&bytes).is_ok_and(|span| span == whole));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Span::decode(&changed).is_err(), "octet {at}");
            assert!(Span::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
