//! The one clock. Pure rooms take its values as arguments.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::{TraceId, UnixMs};

static TRACES: AtomicU32 = AtomicU32::new(0);

/// The monotonic clock, for deadlines and measuring.
#[must_use]
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = super::sim::now() {
        return now;
    }
    Instant::now()
}

/// The wall clock, for what is stored, logged or shown.
#[must_use]
pub fn unix_now() -> UnixMs {
    #[cfg(test)]
    if let Some(now) = super::sim::unix_now() {
        return now;
    }
    let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    UnixMs(ms)
}

/// A new id for a session or message. The shard's number stands in the high 8 bits of the unique
/// part, a counter of the whole process below it, so two ids differ even where two executors
/// carry the same number.
#[must_use]
pub fn trace_id() -> TraceId {
    let shard = u32::from(super::shard().0 & 0xff) << 24;
    let count = TRACES.fetch_add(1, Ordering::Relaxed);
    // The same seed gives the same ids.
    #[cfg(test)]
    let count = super::sim::serial().map_or(count, |serial| serial as u32);
    let count = count & 0x00ff_ffff;
    TraceId::new(unix_now(), shard | count)
}
