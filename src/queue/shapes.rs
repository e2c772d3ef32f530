//! Limits that a person sets for one destination while the server runs: kept with the values of the
//! site, so that they are there after a restart, too, and whatever the number of shards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::desk::{Shape, Stop};
use super::name::DestinationName;
use crate::base::{Deadline, PartitionId, UnixMs};
use crate::runtime::{self, unix_now};
use crate::store::{Remote, StoreError, ValueChange};

const NAMESPACE: &str = "queue-shape";
/// Destinations with limits of their own.
pub const SHAPES_MAX: usize = 4_096;
const PUT_SPAN: Duration = Duration::from_secs(4);
/// Longer pauses have no end.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// What is different for a destination; what is not said is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// At a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u16>,
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// Nothing is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Until a person says otherwise.
    Open,
    Until(UnixMs),
}

/// What a person wants of it. What is not said stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shaping {
    Set(Limited),
    /// Ends a pause; other limits stay.
    Resume,
    Clear,
}

impl Limited {
    /// Says nothing, at this time.
    #[must_use]
    pub fn is_plain(&self, now: UnixMs) -> bool {
        self.connections.is_none() && self.per_minute.is_none() && !self.is_paused(now)
    }

    #[must_use]
    pub fn is_paused(&self, now: UnixMs) -> bool {
        match self.pause {
            None => false,
            Some(Pause::Open) => true,
            Some(Pause::Until(until)) => until > now,
        }
    }

    /// For the desk, where all have `usual`. None: nothing that is different.
    pub(super) fn shape(&self, usual: Shape) -> Option<Shape> {
        let is_shaped = self.connections.is_some() || self.per_minute.is_some();
        let gap = self.per_minute.map(|n| MINUTE / n.max(1));
        is_shaped.then(|| Shape {
            connections_max: self.connections.unwrap_or(usual.connections_max).max(1),
            gap: gap.unwrap_or(usual.gap),
        })
    }

    /// The wall clock's time on that of the desk.
    pub(super) fn stop(&self, now: UnixMs, at: Instant) -> Option<Stop> {
        match self.pause? {
            Pause::Open => Some(Stop::Open),
            Pause::Until(until) => {
                let ms = u64::try_from(until.0.saturating_sub(now.0)).ok()?;
                let wait = Duration::from_millis(ms);
                Some(match wait > PAUSE_MAX {
                    true => Stop::Open,
                    false => Stop::Until(at + wait),
                })
            }
        }
    }

    fn after(self, shaping: &Shaping) -> Self {
        match shaping {
            Shaping::Clear => Limited::default(),
            Shaping::Resume => Limited {
                pause: None,
                ..self
            },
            Shaping::Set(new) => Limited {
                connections: new.connections.or(self.connections),
                per_minute: new.per_minute.or(self.per_minute),
                pause: new.pause.or(self.pause),
            },
        }
    }
}

/// All that there are. Nothing, but on the shard that has the values of the site.
pub(super) fn all(remote: &Remote) -> BTreeMap<String, Limited> {
    let (mut all, now) = (BTreeMap::new(), unix_now());
    remote.site_values(&mut |namespace, key, value| {
        if namespace != NAMESPACE {
            return;
        }
        let read = serde_json::from_slice::<Limited>(value).ok();
        let name = str::from_utf8(key).ok().map(str::to_owned);
        match name.zip(read) {
            Some((name, limited)) if !limited.is_plain(now) => drop(all.insert(name, limited)),
            Some(_) => {}
            None => tracing::error!(?key, "limits of a destination cannot be read"),
        }
    });
    all
}

/// What came of a wish.
pub(super) enum Shaped {
    /// On record.
    Now(Limited),
    /// There are limits for too many already.
    TooMany,
}

/// Puts it on record. `None` where another shard has the values of the site.
pub(super) async fn shape(
    remote: &Remote,
    destination: &DestinationName,
    shaping: &Shaping,
) -> Result<Option<Shaped>, StoreError> {
    if !remote.is_mine(PartitionId::SYSTEM) {
        return Ok(None);
    }
    let mut all = all(remote);
    let known = all.remove(destination.as_str());
    if known.is_none() && all.len() >= SHAPES_MAX {
        return Ok(Some(Shaped::TooMany));
    }
    let limited = known.unwrap_or_default().after(shaping);
    let value = match limited.is_plain(unix_now()) {
        true => None,
        false => serde_json::to_vec(&limited).ok(),
    };
    let change = ValueChange {
        account: None,
        namespace: NAMESPACE.to_owned(),
        key: destination.as_str().as_bytes().to_vec(),
        value,
    };
    let until = Deadline::after(runtime::now(), PUT_SPAN);
    let put = remote.set_values(PartitionId::SYSTEM, vec![change], until);
    put.await?;
    Ok(Some(Shaped::Now(limited)))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn wishes_add_up() {
        let set = |connections, per_minute, pause| {
            Shaping::Set(Limited {
                connections,
                per_minute,
                pause,
            })
        };
        let check = |wishes: &[Shaping], want: Limited| {
            let got = wishes.iter().fold(Limited::default(), Limited::after);
            assert_eq!(got, want, "{wishes:?}");
        };
        let open = Some(Pause::Open);
        let limited = |connections, per_minute, pause| Limited {
            connections,
            per_minute,
            pause,
        };
        let two = set(Some(2), None, None);
        check(slice::from_ref(&two), limited(Some(2), None, None));
        check(
            &[two.clone(), set(None, Some(30), open)],
            limited(Some(2), Some(30), open),
        );
        check(
            &[two.clone(), set(None, None, open), Shaping::Resume],
            limited(Some(2), None, None),
        );
        check(&[two, Shaping::Clear], Limited::default());
    }

    #[test]
    fn a_pause_ends_by_the_wall_clock() {
        let at = Instant::now();
        let check = |pause, want: Option<Stop>, is_plain: bool| {
            let limited = Limited {
                pause,
                ..Limited::default()
            };
            assert_eq!(limited.stop(UnixMs(1_000), at), want, "{pause:?}");
            assert_eq!(limited.is_plain(UnixMs(1_000)), is_plain, "{pause:?}");
        };
        check(None, None, true);
        check(Some(Pause::Open), Some(Stop::Open), false);
        let until = Stop::Until(at + Duration::from_secs(1));
        check(Some(Pause::Until(UnixMs(2_000))), Some(until), false);
        check(Some(Pause::Until(UnixMs(999))), None, true);
        check(
            Some(Pause::Until(UnixMs(i64::MAX))),
            Some(Stop::Open),
            false,
        );
    }
}
