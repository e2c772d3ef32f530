//! The whole store on the simulated disk. Each life of a process is one executor.

mod adopt;
mod archive;
mod caches;
mod catalogue;
mod damage;
mod entries;
mod failures;
mod faults;
mod files;
mod formats;
mod grown;
mod history;
mod import;
mod large;
mod leaving;
mod leave;
mod orphans;
mod outbox;
mod packed;
mod quota;
mod regressions;
mod room;
mod samples;
mod settling;
mod shared;
mod size;
mod takers;
mod trees;
mod walk;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{AccountRef, Message, QueueBounds, Recovered, Remote, Store, StoreConfig, Target};
use crate::base::{AccountId, Deadline, PartitionId, ShardId, UnixMs};
use crate::runtime::{Disk, SimDisk, block_on, now, simulate};

pub(super) const ROOT: &str = "/data";

pub(super) fn config(shards: u16) -> StoreConfig {
    let mut cfg = StoreConfig::new(PathBuf::from(ROOT), shards);
    cfg.partitions = 4;
    cfg.lock = false;
    // A queue of some entries is long, and its log is soon worn.
    cfg.queue_bounds = QueueBounds {
        inline_bytes_max: 1_000,
        dead_bytes_min: 2_000,
    };
    cfg.journal.slot_bytes = 5 << 20;
    cfg.journal.slots_max = 6;
    cfg.settle_after = Duration::from_millis(1);
    cfg.checkpoint_every = Duration::from_secs(3600);
    cfg
}

/// SplitMix64: the seed printed by a failure replays it.
#[derive(Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let len = from.len() as u64;
        (len > 0).then(|| from[self.below(len) as usize].clone())
    }
}

/// One life on one shard.
pub(super) fn life<F>(sim: &SimDisk, body: impl FnOnce(Store) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let disk = Disk::sim(sim.clone());
    run(async move {
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk)
            .await
            .expect("opens");
        body(store).await;
    });
}

/// One life with a configuration of its own, at real time.
pub(super) fn life_as<F>(
    sim: &SimDisk,
    cfg: StoreConfig,
    body: impl FnOnce(Store, Disk) -> F + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let disk = Disk::sim(sim.clone());
    block_on(async move {
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        body(store.expect("opens"), disk).await;
    })
    .expect("the executor runs");
}

/// On a simulated shard: time costs nothing, and all is dropped at the end.
pub(super) fn run<T: 'static>(fut: impl Future<Output = T> + 'static) -> T {
    simulate(1, UnixMs(1_790_000_000_000), fut)
}

pub(super) async fn recover(disk: &Disk, shards: u16) -> Recovered {
    Store::recover_all(config(shards), disk)
        .await
        .expect("recovers")
}

pub(super) fn account(n: u64) -> AccountRef {
    let partition = PartitionId((n % 4) as u16);
    AccountRef {
        account: AccountId(n),
        partition,
        quota: crate::store::Quota::NONE,
    }
}

pub(super) fn soon() -> Deadline {
    Deadline::after(now(), Duration::from_secs(20))
}

pub(super) async fn message(remote: &Remote, text: &str) -> Arc<Message> {
    try_message(remote, text).await.expect("taken in")
}

pub(super) async fn try_message(
    remote: &Remote,
    text: &str,
) -> Result<Arc<Message>, super::StoreError> {
    let mut incoming = remote.incoming();
    for piece in text.as_bytes().chunks(100_000) {
        incoming.write(piece).await?;
    }
    incoming.finish().await
}

pub(super) fn target(n: u64, mailbox: &str) -> Target {
    Target {
        account: account(n),
        mailbox: mailbox.to_owned(),
        flags: super::Flags::NONE,
        prefix: format!("Delivered-To: {n}\r\n").into_bytes(),
    }
}

pub(super) fn letter(n: u64) -> String {
    format!("From: a@example.org\r\nSubject: letter {n}\r\n\r\nBody of letter {n}.\r\n")
}

/// Names in a directory of the simulated disk.
pub(super) async fn names(disk: &Disk, dir: &Path) -> Vec<String> {
    let entries = disk.list(dir).await.unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|e| e.name.into_string().ok())
        .collect()
}
