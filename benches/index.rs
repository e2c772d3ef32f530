//! The index of a large mailbox: opening a view of 100,000 rows that are loaded, scanning 10,000
//! of them, and taking 4 KB letters for a mailbox that nobody has open. The disk is simulated in
//! memory, so that the figures are the processor's.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use palomar::base::{AccountId, Deadline, PartitionId, ShardId, Uid};
use palomar::runtime::{Disk, SimDisk, block_on, now, trace_id, unix_now};
use palomar::store::{Access, Account, AccountRef, Flags, Quota, Store, StoreConfig, Target};

const ROWS: usize = 100_000;
const SCANNED: usize = 10_000;
/// Copies in one command.
const COPIES: usize = 10_000;
const LETTER_BYTES: usize = 4096;
/// Letters between looks at the journal.
const LETTERS: u64 = 500;

const ANA: AccountRef = AccountRef {
    account: AccountId(1),
    partition: PartitionId(1),
    quota: Quota::NONE,
};

/// One shard that settles only when it is told.
async fn open() -> Store {
    let mut cfg = StoreConfig::new(PathBuf::from("/data"), 1);
    cfg.lock = false;
    cfg.partitions = 4;
    cfg.journal.slot_bytes = 16 << 20;
    cfg.journal.slots_max = 12;
    cfg.settle_after = Duration::from_secs(3600);
    cfg.checkpoint_every = Duration::from_secs(3600);
    let disk = Disk::sim(SimDisk::new(1));
    let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
    let store = Store::open(ShardId(0), &recovered, disk).await;
    store.expect("opens")
}

async fn deliver(store: &Store, letter: &[u8]) {
    let remote = store.remote();
    let mut incoming = remote.incoming();
    incoming.write(letter).await.expect("is taken in");
    let message = incoming.finish().await.expect("is taken in");
    let target = Target {
        account: ANA,
        mailbox: "INBOX".to_owned(),
        flags: Flags::NONE,
        prefix: b"Return-Path: <a@example.org>\r\n".to_vec(),
    };
    let until = Deadline::after(now(), Duration::from_secs(60));
    let placed = remote.deliver(message, vec![target], unix_now(), trace_id(), until);
    placed.await.expect("is delivered");
}

fn letter() -> Vec<u8> {
    let head = "From: a@example.org\r\nTo: ana@example.org\r\nSubject: a letter\r\n\r\n";
    let mut letter = head.as_bytes().to_vec();
    while letter.len() < LETTER_BYTES {
        letter.extend_from_slice(b"The quick brown fox jumps over the lazy dog.\r\n");
    }
    letter
}

/// An INBOX of [`ROWS`] rows, most of them copies.
async fn fill(store: &Store) -> Account {
    let letter = letter();
    for _ in 0..100 {
        deliver(store, &letter).await;
    }
    let ana = store.remote().account(ANA).await.expect("opens");
    let inbox = ana.find("INBOX").expect("INBOX");
    loop {
        let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
        let rows = view.uids().len();
        if rows >= ROWS {
            return ana;
        }
        let some = &view.uids()[..rows.min(COPIES).min(ROWS - rows)];
        view.copy(some, inbox).await.expect("copies");
    }
}

async fn views(criterion: &mut Criterion) {
    let store = open().await;
    let ana = fill(&store).await;
    let inbox = ana.find("INBOX").expect("INBOX");
    criterion.bench_function("index/select 100000 rows, warm", |b| {
        // The index is loaded: nothing waits.
        b.iter(|| {
            let view = ana.select(inbox, Access::ReadOnly);
            let view = futures_lite::future::block_on(view).expect("selects");
            black_box(view.uids().len())
        });
    });
    let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
    let some: Vec<Uid> = view.uids()[ROWS / 2..ROWS / 2 + SCANNED].to_vec();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(SCANNED as u64));
    group.bench_function("scan 10000 rows", |b| {
        b.iter(|| {
            let mut bytes = 0;
            view.scan(black_box(&some), &mut |row| bytes += row.size);
            black_box(bytes)
        });
    });
    group.finish();
}

/// Nobody has the mailbox open: the counts and the pending log are all that is touched.
async fn deliveries(count: u64) -> Duration {
    let store = open().await;
    let letter = letter();
    let mut span = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let now = left.min(LETTERS);
        let start = Instant::now();
        for _ in 0..now {
            deliver(&store, &letter).await;
        }
        span += start.elapsed();
        left -= now;
        if store.stats().journal_fill_permille > 300 {
            store.checkpoint().await.expect("a checkpoint");
        }
    }
    span
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("index/deliver to a closed mailbox", |b| {
        b.iter_custom(|count| block_on(deliveries(count)).expect("an executor"));
    });
    block_on(async move {
        views(&mut criterion).await;
        criterion.final_summary();
    })
    .expect("an executor");
}
