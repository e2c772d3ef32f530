//! Reports for web servers, which are posted again until they are taken: RFC 8460 5.5 asks for a
//! day of that.

use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::base::{Deadline, PartitionId, UnixMs};
use crate::runtime::{now, unix_now};
use crate::store::{Remote, StoreError, ValueChange};

const NAMESPACE: &str = "tls-report-post";
/// Reports that wait.
const POSTS_MAX: usize = 1000;
const PUT_SPAN: Duration = Duration::from_secs(20);
const POST_FOR_MS: i64 = 24 * 3_600_000;

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    pub uri: String,
    pub domain: String,
    until: UnixMs,
    /// In base 64.
    gzipped: String,
}

impl Post {
    #[must_use]
    pub fn new(uri: String, domain: String, gzipped: &[u8]) -> Self {
        Post {
            uri,
            domain,
            until: UnixMs(unix_now().0.saturating_add(POST_FOR_MS)),
            gzipped: BASE64.encode(gzipped),
        }
    }

    #[must_use]
    pub fn gzipped(&self) -> Vec<u8> {
        BASE64.decode(self.gzipped.as_bytes()).unwrap_or_default()
    }

    #[must_use]
    pub fn is_over(&self, now: UnixMs) -> bool {
        now >= self.until
    }
}

/// All that wait on this shard, by their keys.
#[must_use]
pub fn posts(remote: &Remote) -> Vec<(PartitionId, Vec<u8>, Post)> {
    let values = remote.queue_values(NAMESPACE).into_iter();
    let read = |(partition, key, value): (PartitionId, Vec<u8>, std::sync::Arc<[u8]>)| {
        Some((partition, key, serde_json::from_slice(&value).ok()?))
    };
    values.filter_map(read).collect()
}

/// Keeps one under `key`, which is the same for the same report. False: there are too many.
pub async fn put(
    remote: &Remote,
    partition: PartitionId,
    key: &str,
    post: &Post,
) -> Result<bool, StoreError> {
    if remote.queue_values(NAMESPACE).len() >= POSTS_MAX {
        return Ok(false);
    }
    let value = serde_json::to_vec(post).expect("plain values");
    set(remote, partition, key.as_bytes(), Some(value)).await?;
    Ok(true)
}

/// It was taken, or is given up.
pub async fn remove(remote: &Remote, partition: PartitionId, key: &[u8]) -> Result<(), StoreError> {
    set(remote, partition, key, None).await
}

async fn set(
    remote: &Remote,
    partition: PartitionId,
    key: &[u8],
    value: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    let change = ValueChange {
        account: None,
        namespace: NAMESPACE.to_owned(),
        key: key.to_vec(),
        value,
    };
    let until = Deadline::after(now(), PUT_SPAN);
    remote.set_values(partition, vec![change], until).await
}
