//! The journal on a simulated disk that loses power, by seed.
//!
//! The checker keeps its own ledger: what was appended, in which order, and what was acknowledged.
//! It knows nothing of slots and batches. `PALOMAR_SEED=<n>` runs one seed alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::{AccountId, Deadline, Epoch, MailboxId, PSeq, PartitionId, UidValidity, crc32c};
use crate::runtime::{Disk, DiskOp, Open, Pool, SimDisk, block_on, now, spawn, yield_now};
use crate::store::{Body, Message, Op, StoreError};

mod damage;
mod power;
mod readers;
mod ring;

const ROOT: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Slots so small that a few records wrap the ring around.
fn config(streams: u16) -> JournalConfig {
    JournalConfig {
        slot_bytes: 64 << 10,
        slots_max: 4,
        reader_slots_max: 1,
        batch_bytes_max: 16 << 10,
        seal_after: Duration::from_secs(60),
        ..JournalConfig::new(PathBuf::from(ROOT), streams)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Runs `check` for each seed, or for the one that the environment names.
#[track_caller]
fn seeds(count: u64, check: impl AsyncFn(u64) + 'static) {
    let seeds = one_seed().map_or(0..count, |seed| seed..seed + 1);
    block_on(async move {
        for seed in seeds {
            let told = Told(seed);
            check(seed).await;
            std::mem::forget(told);
        }
    })
    .expect("an executor");
}

fn one_seed() -> Option<u64> {
    let seed = std::env::var("PALOMAR_SEED").ok()?;
    Some(seed.parse().expect("a seed is a number"))
}

/// Names the seed when a check panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("failed: PALOMAR_SEED={}", self.0);
    }
}

/// What apply saw, in order.
#[derive(Default)]
struct Sink {
    applied: RefCell<Vec<Committed>>,
    panics: Cell<bool>,
}

impl Apply for Sink {
    fn apply(&self, batch: &[Committed]) {
        assert!(!self.panics.get(), "a sink that panics, as the test wants");
        self.applied.borrow_mut().extend_from_slice(batch);
    }
}

/// A record whose content follows from its place: `bytes` of body, and one op.
fn record(partition: u16, epoch: Epoch, pseq: u64, bytes: usize) -> Record {
    let mut random = Random(pseq << 16 | u64::from(partition));
    // A body of an odd length can be packed, to about half.
    let mask = match bytes % 2 {
        0 => u64::MAX,
        _ => 0x0f0f_0f0f_0f0f_0f0f,
    };
    let octets = |_| (random.next() & mask).to_le_bytes();
    let mut body: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(octets).collect();
    body.truncate(bytes);
    let message = Message {
        digest: Arc::from(&b"digest"[..]),
        size: body.len() as u64,
        crc32c: crc32c(&body),
        blake3: [partition as u8; 32],
        body: Body::Inline(body),
    };
    Record {
        partition: PartitionId(partition),
        epoch,
        pseq: PSeq(pseq),
        ops: vec![Op::MailboxCreated {
            account: AccountId(u64::from(partition)),
            mailbox: MailboxId(pseq),
            name: format!("box {pseq}"),
            uidvalidity: UidValidity(7),
            special_use: None,
        }],
        bodies: vec![Arc::new(message)],
    }
}

/// A start up to serving: recover, and the checkpoint is the ledger's affair.
async fn begin(cfg: &JournalConfig, disk: &Disk, stream: u16) -> (Journal, Rc<Sink>) {
    let recovered = recover(cfg, disk).await.expect("recovers");
    retire(cfg, disk, &recovered).await.expect("retires");
    open(cfg, disk, stream).await
}

async fn open(cfg: &JournalConfig, disk: &Disk, stream: u16) -> (Journal, Rc<Sink>) {
    let sink = Rc::new(Sink::default());
    let journal = Journal::create(cfg, disk.clone(), stream, sink.clone()).await;
    (journal.expect("creates"), sink)
}

/// Appends and waits.
async fn put(journal: &Journal, record: Record) -> Result<(), StoreError> {
    put_as(Class::Completion, journal, record).await
}

async fn put_as(class: Class, journal: &Journal, record: Record) -> Result<(), StoreError> {
    let ticket = journal.append(record, class)?;
    journal.committed(ticket).await
}

/// pseqs of a partition, with the bodies checked against their CRCs.
async fn read_back(disk: &Disk, recovered: &Recovered, partition: u16) -> Vec<u64> {
    let mut pseqs = Vec::new();
    let records = recovered.partitions.get(&PartitionId(partition));
    for (record, places) in records.into_iter().flatten() {
        for (message, place) in record.bodies.iter().zip(places) {
            let BodyPlace::InJournal(at) = place else {
                panic!("an inline body is at {place:?}");
            };
            let body = recovered.files.read(disk, *at, 0..message.size).await;
            assert_eq!(crc32c(&body.expect("reads")), message.crc32c);
        }
        pseqs.push(record.pseq.0);
    }
    pseqs
}

fn until() -> Deadline {
    Deadline::after(now(), Duration::from_secs(20))
}

#[test]
fn what_crosses_shards_is_send() {
    fn send<T: Send>() {}
    send::<Recovered>();
    send::<Location>();
    send::<JournalConfig>();
}
