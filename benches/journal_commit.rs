//! Group commit on the disk under the target directory: 4 KB records by 1, 20 and 100 appenders
//! that each wait for their own record, and records of 4, 10 and 50 KB of prose, plain and packed.
//! Prints fdatasyncs, processor time and octets a record beside criterion's figures.

use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use palomar::base::{AccountId, Epoch, MailboxId, ModSeq, PSeq, PartitionId, Uid, UnixMs, crc32c};
use palomar::runtime::local::Notify;
use palomar::runtime::{Disk, Pool, block_on, spawn};
use palomar::store::journal::{
    Apply, Class, Committed, Journal, JournalConfig, Stats, recover, retire,
};
use palomar::store::{Body, BodyRef, Flags, Message, Op, Packing, Record};

struct Discard;

impl Apply for Discard {
    fn apply(&self, _batch: &[Committed]) {}
}

fn delivery(pseq: u64, message: &Arc<Message>) -> Record {
    Record {
        partition: PartitionId(1),
        epoch: Epoch(1),
        pseq: PSeq(pseq),
        ops: vec![Op::Placed {
            account: AccountId(7),
            mailbox: MailboxId(1),
            uid: Uid(pseq as u32),
            modseq: ModSeq(pseq),
            flags: Flags::NONE,
            keywords: Vec::new(),
            internal_date: UnixMs(1_700_000_000_000),
            saved: UnixMs(1_700_000_000_000),
            body: BodyRef::New(0),
            prefix: b"Return-Path: <a@example.org>\r\n".to_vec(),
            apart: false,
            origin: None,
            trace: None,
        }],
        bodies: vec![message.clone()],
    }
}

/// What letters are cut from.
const PROSE: [&[u8]; 3] = [
    include_bytes!("../docs/STORE.md"),
    include_bytes!("../docs/JOURNAL.md"),
    include_bytes!("../docs/CONFIG.md"),
];
/// Messages that are sent in turn, so that no compressor has seen the one at hand just before.
const MESSAGES: usize = 64;

fn messages(bytes: usize) -> Vec<Arc<Message>> {
    let prose = PROSE.concat();
    let begin = |n: usize| n * (prose.len() - bytes) / MESSAGES;
    (0..MESSAGES)
        .map(|n| message(&prose[begin(n)..begin(n) + bytes]))
        .collect()
}

fn message(body: &[u8]) -> Arc<Message> {
    let body = body.to_vec();
    Arc::new(Message {
        digest: Arc::from(vec![1; 300]),
        size: body.len() as u64,
        crc32c: crc32c(&body),
        blake3: *blake3::hash(&body).as_bytes(),
        body: Body::Inline(body),
    })
}

/// Octets of bodies in one iteration.
const BODIES_BYTES: usize = 8 << 20;
/// And before the clock starts: the ring has its files by then, and recycles them.
const WARM_BYTES: usize = 96 << 20;

/// What one figure is of.
#[derive(Clone, Copy)]
struct Load {
    appenders: u64,
    body_bytes: usize,
    packing: Packing,
}

impl Load {
    fn records(&self) -> u64 {
        (BODIES_BYTES / self.body_bytes) as u64
    }
}

/// What the shard's thread has used of the processor.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec as u32)
}

/// So many records; how long they took, on the clock and on the processor, and what the journal
/// did.
async fn run(load: Load, records: u64) -> (Duration, Duration, Stats) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let disk = Disk::real(Pool::start(2, 64));
    let cfg = JournalConfig {
        slot_bytes: 16 << 20,
        slots_max: 8,
        reader_slots_max: 1,
        packing: load.packing,
        ..JournalConfig::new(PathBuf::from(dir.path()), 1)
    };
    let recovered = recover(&cfg, &disk).await.expect("recovers");
    retire(&cfg, &disk, &recovered).await.expect("retires");
    let journal = Journal::create(&cfg, disk, 0, Rc::new(Discard))
        .await
        .expect("creates");
    let messages = messages(load.body_bytes);
    let warm = (WARM_BYTES / load.body_bytes) as u64;
    append(100, 0..warm, &journal, &messages).await;
    let (before, start, cpu_start) = (journal.stats(), Instant::now(), cpu());
    append(load.appenders, warm..warm + records, &journal, &messages).await;
    let (span, cpu, mut stats) = (start.elapsed(), cpu() - cpu_start, journal.stats());
    stats.records -= before.records;
    stats.fdatasyncs -= before.fdatasyncs;
    stats.bytes -= before.bytes;
    (span, cpu, stats)
}

async fn append(appenders: u64, pseqs: Range<u64>, journal: &Journal, messages: &[Arc<Message>]) {
    let next = Rc::new(Cell::new(pseqs.start));
    let running = Rc::new(Cell::new(appenders));
    let ended = Notify::new();
    for _ in 0..appenders {
        let (journal, messages) = (journal.clone(), messages.to_vec());
        let (next, running, ended) = (next.clone(), running.clone(), ended.clone());
        spawn("appender", async move {
            while next.get() < pseqs.end {
                next.set(next.get() + 1);
                let message = &messages[next.get() as usize % MESSAGES];
                let record = delivery(next.get(), message);
                let ticket = journal.append(record, Class::Completion).expect("room");
                journal.committed(ticket).await.expect("commits");
                if journal.fill_permille() > 300 {
                    journal.release_below(journal.position());
                }
            }
            running.set(running.get() - 1);
            ended.notify_all();
        });
    }
    while running.get() > 0 {
        ended.notified().await;
    }
}

fn journal_commit(c: &mut Criterion) {
    let load = |appenders, body_bytes, packing| Load {
        appenders,
        body_bytes,
        packing,
    };
    for appenders in [1, 20, 100] {
        let name = format!("{appenders} appenders");
        measure(c, &name, load(appenders, 4096, Packing::Plain));
    }
    for body_bytes in [4096, 10_240, 51_200] {
        for packing in [Packing::Plain, Packing::Zstd] {
            let name = format!("{body_bytes} octets, {packing:?}");
            measure(c, &name, load(20, body_bytes, packing));
        }
    }
}

fn measure(c: &mut Criterion, name: &str, load: Load) {
    let mut group = c.benchmark_group("journal_commit");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(load.records()));
    let last = Rc::new(Cell::new((Duration::ZERO, Stats::default())));
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let (span, cpu, stats) =
                block_on(run(load, iterations * load.records())).expect("an executor");
            last.set((cpu, stats));
            span
        });
    });
    let (cpu, stats) = last.get();
    let records = stats.records.max(1) as f64;
    println!(
        "journal_commit/{name}: {:.3} fdatasyncs a record, {:.1} us CPU of the shard a record, \
         {:.1} KB a batch, {:.1} KB a record",
        stats.fdatasyncs as f64 / records,
        cpu.as_secs_f64() * 1e6 / records,
        stats.bytes as f64 / stats.fdatasyncs.max(1) as f64 / 1000.0,
        stats.bytes as f64 / records / 1000.0
    );
    group.finish();
}

criterion_group!(benches, journal_commit);
criterion_main!(benches);
