//! Policies of domains (MTA-STS) where they outlive the process: in the store, on the shard that
//! they are asked for on.

use std::time::Duration;

use super::route::{PolicyStore, Stored};
use crate::base::Deadline;
use crate::runtime::now;
use crate::store::Remote;

const NAMESPACE: &str = "mta-sts";
const PUT_SPAN: Duration = Duration::from_secs(20);

/// Values of this shard's queue partition.
pub(super) struct Policies(pub Remote);

impl PolicyStore for Policies {
    fn get<'s>(&'s self, domain: &'s str) -> Stored<'s, Option<Vec<u8>>> {
        let value = self.0.queue_value(NAMESPACE, domain.as_bytes());
        Box::pin(async move { value.map(|value| value.to_vec()) })
    }

    fn put<'s>(&'s self, domain: &'s str, value: Vec<u8>) -> Stored<'s, ()> {
        Box::pin(async move {
            let until = Deadline::after(now(), PUT_SPAN);
            let key = domain.as_bytes();
            let kept = self.0.set_queue_value(NAMESPACE, key, value, until).await;
            if let Err(why) = kept {
                tracing::warn!(?why, domain, "a TLS policy is not kept");
            }
        })
    }
}
