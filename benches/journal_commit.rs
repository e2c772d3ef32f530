//! Group commit on the disk under the target directory: 4 KB records by 1, 20 and 100 appenders
//! that each wait for their own record. Prints fdatasyncs a record beside criterion's figures.

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
use palomar::store::{Body, BodyRef, Flags, Message, Op, Record};

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

fn message(bytes: usize) -> Arc<Message> {
    let body: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    Arc::new(Message {
        digest: Arc::from(vec![1; 300]),
        size: body.len() as u64,
        crc32c: crc32c(&body),
        blake3: *blake3::hash(&body).as_bytes(),
        body: Body::Inline(body),
    })
}

/// Records in one iteration.
const RECORDS: u64 = 2_000;
/// Records before the clock starts: the ring has its files by then, and recycles them.
const WARM_RECORDS: u64 = 12_000;

/// What the shard's thread has used of the processor.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec as u32)
}

/// `records` records by `appenders` tasks; how long they took, on the clock and on the processor,
/// and what the journal did.
async fn run(appenders: u64, records: u64) -> (Duration, Duration, Stats) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let disk = Disk::real(Pool::start(2, 64));
    let cfg = JournalConfig {
        slot_bytes: 16 << 20,
        slots_max: 8,
        reader_slots_max: 1,
        ..JournalConfig::new(PathBuf::from(dir.path()), 1)
    };
    let recovered = recover(&cfg, &disk).await.expect("recovers");
    retire(&cfg, &disk, &recovered).await.expect("retires");
    let journal = Journal::create(&cfg, disk, 0, Rc::new(Discard))
        .await
        .expect("creates");
    let message = message(4096);
    append(100, 0..WARM_RECORDS, &journal, &message).await;
    let (before, start, cpu_start) = (journal.stats(), Instant::now(), cpu());
    append(
        appenders,
        WARM_RECORDS..WARM_RECORDS + records,
        &journal,
        &message,
    )
    .await;
    let (span, cpu, mut stats) = (start.elapsed(), cpu() - cpu_start, journal.stats());
    stats.records -= before.records;
    stats.fdatasyncs -= before.fdatasyncs;
    stats.bytes -= before.bytes;
    (span, cpu, stats)
}

async fn append(appenders: u64, pseqs: Range<u64>, journal: &Journal, message: &Arc<Message>) {
    let next = Rc::new(Cell::new(pseqs.start));
    let running = Rc::new(Cell::new(appenders));
    let ended = Notify::new();
    for _ in 0..appenders {
        let (journal, message) = (journal.clone(), message.clone());
        let (next, running, ended) = (next.clone(), running.clone(), ended.clone());
        spawn("appender", async move {
            while next.get() < pseqs.end {
                next.set(next.get() + 1);
                let record = delivery(next.get(), &message);
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
    let mut group = c.benchmark_group("journal_commit");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(RECORDS));
    for appenders in [1, 20, 100] {
        let last = Rc::new(Cell::new((Duration::ZERO, Stats::default())));
        group.bench_function(format!("{appenders} appenders"), |b| {
            b.iter_custom(|iterations| {
                let (span, cpu, stats) =
                    block_on(run(appenders, iterations * RECORDS)).expect("an executor");
                last.set((cpu, stats));
                span
            });
        });
        let (cpu, stats) = last.get();
        let records = stats.records.max(1) as f64;
        println!(
            "journal_commit/{appenders} appenders: {:.3} fdatasyncs a record, {:.1} us CPU of the \
             shard a record, {:.1} KB a batch",
            stats.fdatasyncs as f64 / records,
            cpu.as_secs_f64() * 1e6 / records,
            stats.bytes as f64 / stats.fdatasyncs.max(1) as f64 / 1000.0
        );
    }
    group.finish();
}

criterion_group!(benches, journal_commit);
criterion_main!(benches);
