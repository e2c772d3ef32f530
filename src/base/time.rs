//! Time as a value. The clock that makes these lives in `runtime`.

use std::time::{Duration, Instant};

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds. What is stored and logged.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Whole seconds, rounded down.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time `seconds` after 1970.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        UnixMs(seconds.saturating_mul(1000))
    }
}

/// The instant at which a wait ends without a result. Carried, never recomputed, so that retries
/// inside one operation share one bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// `span` after `now`.
    #[must_use]
    pub fn after(now: Instant, span: Duration) -> Self {
        Deadline(now + span)
    }

    /// The earlier of two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }
}
