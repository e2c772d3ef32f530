//! What waits on this shard, counted now and then for the metrics.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::counters::{self, Class, State};
use super::desk::EntryKey;
use super::service::Shop;
use crate::base::UnixMs;
use crate::runtime;
use crate::store::{QueueEntry, RecipientState};

/// Scrapers come every fifteen seconds or so.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// A long queue is counted more seldom: counting takes one of so many parts of the time.
const PARTS: u32 = 100;

const STATES: [State; 2] = [State::Waiting, State::Held];
const CLASSES: [Class; 3] = [Class::Notice, Class::Normal, Class::Bulk];

/// All entries of the shard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Census {
    messages: [[u64; CLASSES.len()]; STATES.len()],
    /// When the oldest that waits came.
    oldest: Option<UnixMs>,
}

impl Census {
    /// A message with one recipient that waits is one that waits.
    fn add(&mut self, entry: &QueueEntry<'_>) {
        let has = |is: fn(&RecipientState) -> bool| {
            let mut recipients = entry.outbound.recipients.iter();
            recipients.any(|recipient| is(&recipient.state))
        };
        let class = Class::from(entry.class()) as usize;
        if has(|state| matches!(state, RecipientState::Waiting { .. })) {
            self.messages[State::Waiting as usize][class] += 1;
            let oldest = self.oldest.unwrap_or(entry.saved);
            self.oldest = Some(oldest.min(entry.saved));
        } else if has(|state| matches!(state, RecipientState::Held { .. })) {
            self.messages[State::Held as usize][class] += 1;
        }
    }

    fn publish(&self, now: UnixMs) {
        for state in STATES {
            for class in CLASSES {
                let count = self.messages[state as usize][class as usize];
                counters::MESSAGES.set((state, class), count);
            }
        }
        let age_ms = self.oldest.map_or(0, |oldest| now.0 - oldest.0);
        counters::OLDEST.set(age_ms.max(0).unsigned_abs() / 1000);
    }
}

/// Counts until the gate closes.
pub(super) async fn count_entries(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let began: Instant = runtime::now();
        let mut census = Census::default();
        let mut see = |_: EntryKey, entry: QueueEntry<'_>| census.add(&entry);
        shop.remote.queue_entries(&mut see).await;
        census.publish(runtime::unix_now());
        let took = runtime::now().saturating_duration_since(began);
        let pause = COUNT_EVERY.max(took * PARTS);
        or(runtime::rest(pause), shop.gate.closing()).await;
    }
}
