//! Each account in its turn, and daily what is the shard's own, as long as the server runs.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::{account, scrub, scrub_shard};
use crate::base::UnixMs;
use crate::observe::{event, log_event};
use crate::runtime::{now, sleep, unix_now};
use crate::store::scrub::ScrubOrder;
use crate::store::shard::Shard;
use crate::store::{Account, AccountRef};

/// Before the first look, and between looks whose turn it is.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The journal and the catalogues are small, and what is wrong with them is mended while all that
/// they say is in memory.
const SHARD_EVERY: Duration = Duration::from_secs(86_400);

/// Where an account's last scrub is noted: milliseconds since 1970, as text.
const NAMESPACE: &str = "scrub";
const KEY: &[u8] = b"last";

/// Runs until the store drains.
pub(in crate::store) async fn run(shard: Rc<Shard>) {
    let Some(every) = shard.cfg.scrub_every else {
        return;
    };
    let mut looked = now();
    while !shard.gate.is_closed() {
        or(sleep(LOOK_EVERY), shard.gate.closing()).await;
        if now().duration_since(looked) >= every.min(SHARD_EVERY) && !shard.gate.is_closed() {
            looked = now();
            own(&shard).await;
        }
        for of in account::all(&shard) {
            if shard.gate.is_closed() || shard.is_poisoned() {
                return;
            }
            if is_due(&shard, of, every) {
                one(&shard, of).await;
            }
        }
    }
}

/// The shard's journal and catalogues.
async fn own(shard: &Rc<Shard>) {
    if scrub_shard(shard, shard.cfg.scrub_bytes_per_second)
        .await
        .is_err()
    {
        return;
    }
    let findings = shard.scrubs.status.borrow().findings_total;
    if findings > 0 {
        log_event!(WARN, event::SCRUB_ENDED, shard = %shard.id, findings);
    }
}

fn is_due(shard: &Shard, of: AccountRef, every: Duration) -> bool {
    let partition = shard.owned.partition(of.partition);
    let state = partition.state.borrow();
    let Some(account) = state.accounts.get(&of.account) else {
        return false;
    };
    let last = account.values.get(&(NAMESPACE.to_owned(), KEY.to_vec()));
    let last = last.and_then(|v| std::str::from_utf8(v).ok()?.parse::<i64>().ok());
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    // A clock that was ahead once puts nothing off for ever.
    let since = |last: i64| unix_now().0.saturating_sub(last);
    last.is_none_or(|last| since(last) >= every || since(last) < 0)
}

async fn one(shard: &Rc<Shard>, of: AccountRef) {
    let order = ScrubOrder {
        account: Some(of.account),
        rate: shard.cfg.scrub_bytes_per_second,
    };
    // One that an administrator asked for is under way, or the shard drains: later.
    if scrub(shard, order).await.is_err() {
        return;
    }
    let findings = shard.scrubs.status.borrow().findings_total;
    if findings > 0 {
        log_event!(WARN, event::SCRUB_ENDED, account = %of.account, findings);
    }
    let Ok(partition) = shard.partition(of.partition) else {
        return;
    };
    let account = Account::new(shard.clone(), partition, of);
    let UnixMs(now) = unix_now();
    let value = (
        NAMESPACE.to_owned(),
        KEY.to_vec(),
        Some(now.to_string().into_bytes()),
    );
    if let Err(why) = account.set_values(vec![value]).await {
        tracing::warn!(?why, account = %of.account, "end of a scrub not noted");
    }
}
