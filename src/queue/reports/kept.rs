//! What was counted, where it outlives the process: a value for each domain of a day, in the queue
//! partition of the shard that counted.

use std::time::Duration;

use crate::base::{Deadline, PartitionId};
use crate::queue::route::report::{Day, PolicyTally};
use crate::runtime::now;
use crate::store::{Remote, StoreError, ValueChange};

const NAMESPACE: &str = "tls-report";
/// Values of one record.
const CHANGES_MAX: usize = 64;
/// Octets of one, beyond which it is put off to the next; and the most that a value may have.
const CHANGES_BYTES_MAX: usize = 512 << 10;
const VALUE_BYTES_MAX: usize = 256 << 10;
const PUT_SPAN: Duration = Duration::from_secs(20);

/// The counts of one domain on one day.
#[derive(Debug)]
pub struct Kept {
    pub partition: PartitionId,
    pub day: Day,
    pub domain: String,
    pub tallies: Vec<PolicyTally>,
}

/// All that is kept on this shard. What is in a partition that was another shard's, when there were
/// more of them, is among it.
#[must_use]
pub fn kept(remote: &Remote) -> Vec<Kept> {
    let values = remote.queue_values(NAMESPACE).into_iter();
    let read = |(partition, key, value): (PartitionId, Vec<u8>, std::sync::Arc<[u8]>)| {
        let key = String::from_utf8(key).ok()?;
        let (day, domain) = key.split_once('/')?;
        Some(Kept {
            partition,
            day: Day::of_days(day.parse().ok()?),
            domain: domain.to_owned(),
            tallies: serde_json::from_slice(&value).ok()?,
        })
    };
    values.filter_map(read).collect()
}

/// Keeps the counts of domains on days in `partition`; none: nothing is kept of it any more.
/// Answers what could not be.
pub async fn keep(
    remote: &Remote,
    partition: PartitionId,
    counts: Vec<(Day, String, Vec<PolicyTally>)>,
) -> Vec<(Day, String)> {
    let mut failed = Vec::new();
    let mut batch = Batch::default();
    for (day, domain, tallies) in counts {
        let value = match tallies.is_empty() {
            true => None,
            false => Some(serde_json::to_vec(&tallies).expect("plain values")),
        };
        let bytes = value.as_ref().map_or(0, Vec::len);
        if bytes > VALUE_BYTES_MAX {
            tracing::warn!(domain, bytes, "TLS counts are too many to be kept");
            continue;
        }
        if batch.changes.len() >= CHANGES_MAX || batch.bytes + bytes > CHANGES_BYTES_MAX {
            failed.extend(std::mem::take(&mut batch).put(remote, partition).await);
        }
        batch.bytes += bytes;
        batch.changes.push(ValueChange {
            account: None,
            namespace: NAMESPACE.to_owned(),
            key: format!("{}/{domain}", day.number()).into_bytes(),
            value,
        });
        batch.names.push((day, domain));
    }
    failed.extend(batch.put(remote, partition).await);
    failed
}

/// Changes of one record.
#[derive(Default)]
struct Batch {
    names: Vec<(Day, String)>,
    changes: Vec<ValueChange>,
    bytes: usize,
}

impl Batch {
    async fn put(self, remote: &Remote, partition: PartitionId) -> Vec<(Day, String)> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        let until = Deadline::after(now(), PUT_SPAN);
        match remote.set_values(partition, self.changes, until).await {
            Ok(()) | Err(StoreError::Poisoned) => Vec::new(),
            Err(why) => {
                tracing::warn!(?why, "TLS counts are not kept yet");
                self.names
            }
        }
    }
}
