//! Power cuts at any moment of random workloads.

use super::*;

/// What the outside world knows of one stream's partitions.
#[derive(Clone, Default)]
struct Ledger {
    /// pseq of the last append, by partition.
    appended: BTreeMap<u16, u64>,
    /// pseq of the last acknowledgement, by partition: a partition's records are acknowledged in
    /// order.
    acknowledged: BTreeMap<u16, u64>,
    /// Covered by a checkpoint: need not come back.
    settled: BTreeMap<u16, u64>,
}

impl Ledger {
    /// Everything acknowledged and not settled is there, in order, once; nothing is invented.
    async fn check(self, disk: &Disk, recovered: &Recovered) {
        for partition in recovered.partitions.keys() {
            assert!(
                self.appended.contains_key(&partition.0),
                "{partition} is invented"
            );
        }
        for (&partition, &appended) in &self.appended {
            let found = read_back(disk, recovered, partition).await;
            let settled = self.settled.get(&partition).copied().unwrap_or(0);
            let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or(0);
            let last = found.last().copied().unwrap_or(settled);
            assert!(
                last <= appended,
                "partition {partition}: {last} was never appended"
            );
            assert!(
                last >= acknowledged,
                "partition {partition}: {acknowledged} was acknowledged, {last} is the last found"
            );
            let first = found.first().copied().unwrap_or(last + 1);
            assert!(
                first <= settled + 1,
                "partition {partition}: {first} after {settled}"
            );
            assert!(found.iter().copied().eq(first..first + found.len() as u64));
        }
    }

    /// The checkpoint of a start: all that was found is in files now, what was not is forgotten.
    fn settle(&mut self, recovered: &Recovered) {
        for (partition, records) in &recovered.partitions {
            let last = records.last().map_or(0, |(record, _)| record.pseq.0);
            let settled = self.settled.entry(partition.0).or_default();
            *settled = last.max(*settled);
        }
        self.appended.clone_from(&self.settled);
        self.acknowledged.clone_from(&self.settled);
    }
}

/// Several appenders and now and then a checkpoint, until the disk stops.
async fn work(
    random: &mut Random,
    cfg: &JournalConfig,
    disk: &Disk,
    epoch: Epoch,
    ledger: &Rc<RefCell<Ledger>>,
) -> u64 {
    let mut streams = Vec::new();
    for stream in 0..cfg.streams {
        let sink = Rc::new(Sink::default());
        match Journal::create(cfg, disk.clone(), stream, sink.clone()).await {
            Ok(journal) => streams.push((journal, sink)),
            Err(_) => return 0,
        }
    }
    let running = Rc::new(Cell::new(0));
    for appender in 0..3 + random.below(5) {
        let mut random = Random(random.next());
        let ledger = ledger.clone();
        let stream = (appender % u64::from(cfg.streams)) as u16;
        let (journal, sink) = streams[usize::from(stream)].clone();
        let running = running.clone();
        running.set(running.get() + 1);
        spawn("appender", async move {
            for _ in 0..10 + random.below(20) {
                // A partition has one stream, as it has one owner.
                let partition = stream + 8 * random.below(3) as u16;
                if append(&mut random, &journal, &sink, partition, epoch, &ledger)
                    .await
                    .is_err()
                {
                    break;
                }
            }
            running.set(running.get() - 1);
        });
    }
    while running.get() > 0 {
        yield_now().await;
    }
    for (journal, _) in &streams {
        if random.below(4) == 0 {
            let _ = journal.drain(until()).await;
        }
    }
    let recycled = streams
        .iter()
        .map(|(journal, _)| journal.stats().slots_recycled);
    recycled.sum()
}

async fn append(
    random: &mut Random,
    journal: &Journal,
    sink: &Sink,
    partition: u16,
    epoch: Epoch,
    ledger: &RefCell<Ledger>,
) -> Result<(), StoreError> {
    let mut size = random.below(900) as usize;
    if random.below(6) == 0 {
        size += random.below(12_000) as usize;
    }
    let pseq = ledger
        .borrow()
        .appended
        .get(&partition)
        .map_or(1, |last| last + 1);
    let ticket = match journal.append(record(partition, epoch, pseq, size), Class::NewMail) {
        // The ring is full: only a checkpoint helps.
        Err(StoreError::Full) => {
            checkpoint(journal, sink, ledger);
            yield_now().await;
            return Ok(());
        }
        ticket => ticket?,
    };
    ledger.borrow_mut().appended.insert(partition, pseq);
    journal.committed(ticket).await?;
    let mut book = ledger.borrow_mut();
    let acknowledged = book.acknowledged.entry(partition).or_default();
    *acknowledged = pseq.max(*acknowledged);
    drop(book);
    if random.below(12) == 0 {
        checkpoint(journal, sink, ledger);
    }
    Ok(())
}

/// As if all that was applied had reached its files: durable at once on this imagined disk.
fn checkpoint(journal: &Journal, sink: &Sink, ledger: &RefCell<Ledger>) {
    let mut book = ledger.borrow_mut();
    for committed in sink.applied.borrow_mut().drain(..) {
        let settled = book
            .settled
            .entry(committed.record.partition.0)
            .or_default();
        assert_eq!(
            *settled + 1,
            committed.record.pseq.0,
            "applied out of order"
        );
        *settled += 1;
    }
    drop(book);
    journal.release_below(journal.position());
}

/// What the seeds met together: a suite that stops meeting these proves nothing.
#[derive(Default)]
struct Met {
    torn: Cell<usize>,
    recycled: Cell<u64>,
    recovered: Cell<u64>,
}

/// One disk through several lives, each ended by the disk's stop at a random operation.
async fn lives(seed: u64, met: &Met) {
    let mut random = Random(seed);
    let mut sim = SimDisk::new(random.next());
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    for _ in 0..2 + random.below(2) {
        // The number of shards is another one at each start.
        let cfg = config(1 + random.below(3) as u16);
        let disk = Disk::sim(sim.clone());
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        let known = ledger.borrow().clone();
        known.check(&disk, &recovered).await;
        met.torn.set(met.torn.get() + recovered.report.torn.len());
        met.recovered
            .set(met.recovered.get() + recovered.report.records);
        // A second cut and recovery before anything else finds the same.
        let again = Disk::sim(sim.power_cut(random.next()));
        let twice = recover(&cfg, &again).await.expect("recovers twice");
        assert_eq!(twice.epoch.0, recovered.epoch.0 + 1);
        assert_eq!(twice.report, recovered.report);
        let known = ledger.borrow().clone();
        known.check(&again, &twice).await;
        if random.below(4) > 0 {
            ledger.borrow_mut().settle(&recovered);
            retire(&cfg, &disk, &recovered).await.expect("retires");
            sim.stop_after(20 + random.below(400));
            let work = work(&mut random, &cfg, &disk, recovered.epoch, &ledger);
            met.recycled.set(met.recycled.get() + work.await);
        }
        sim = sim.power_cut(random.next());
    }
    let disk = Disk::sim(sim);
    let recovered = recover(&config(2), &disk).await.expect("recovers");
    let known = ledger.borrow().clone();
    known.check(&disk, &recovered).await;
}

#[test]
fn nothing_acknowledged_is_lost_nothing_is_invented() {
    let met = Rc::new(Met::default());
    let sum = met.clone();
    seeds(1000, async move |seed| lives(seed, &sum).await);
    if one_seed().is_none() {
        let met = (met.torn.get(), met.recycled.get(), met.recovered.get());
        assert!(met.0 > 40 && met.1 > 1000 && met.2 > 5000, "{met:?}");
    }
}

/// A failing write or sync poisons: what was acknowledged stays, nothing is acknowledged after.
async fn failing(seed: u64) {
    let mut random = Random(seed);
    let sim = SimDisk::new(random.next());
    let disk = Disk::sim(sim.clone());
    let cfg = config(1);
    let (journal, sink) = begin(&cfg, &disk, 0).await;
    let op = [DiskOp::Write, DiskOp::Fdatasync][random.below(2) as usize];
    let errno = [EIO, ENOSPC][random.below(2) as usize];
    sim.fail(op, "slot-0", 1 + random.below(6), errno);
    let mut acknowledged = 0;
    let mut failed = false;
    for pseq in 1..=12 {
        match put(&journal, record(3, Epoch(1), pseq, 700)).await {
            Ok(()) if !failed => acknowledged = pseq,
            Ok(()) => panic!("record {pseq} was acknowledged after a failure"),
            Err(error) => {
                assert_eq!(error, StoreError::Poisoned);
                failed = true;
            }
        }
    }
    assert!(failed && journal.poisoned());
    journal.when_poisoned().await;
    assert_eq!(journal.drain(until()).await, Err(StoreError::Poisoned));
    assert_eq!(journal.poison_reason().map(|error| error.op), Some(op));
    assert_eq!(sink.applied.borrow().len() as u64, acknowledged);
    for disk in [disk, Disk::sim(sim.power_cut(random.next()))] {
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        let found = read_back(&disk, &recovered, 3).await;
        assert!(found.iter().copied().eq(1..=found.len() as u64));
        assert!(found.len() as u64 >= acknowledged && found.len() as u64 <= acknowledged + 1);
    }
}

#[test]
fn a_failed_write_or_sync_poisons() {
    seeds(300, failing);
}

/// The name of a slot file is as durable as what is in it.
async fn first_slots(seed: u64) {
    let sim = SimDisk::new(seed);
    let disk = Disk::sim(sim.clone());
    let cfg = config(1);
    let (journal, _) = begin(&cfg, &disk, 0).await;
    for pseq in 1..=12 {
        put(&journal, record(3, Epoch(1), pseq, 12_000))
            .await
            .expect("commits");
    }
    let after = Disk::sim(sim.power_cut(seed));
    let recovered = recover(&cfg, &after).await.expect("recovers");
    let found = read_back(&after, &recovered, 3).await;
    assert!(found.into_iter().eq(1..=12));
    assert!(recovered.report.torn.is_empty());
}

#[test]
fn a_cut_after_an_acknowledgement_loses_nothing() {
    seeds(100, first_slots);
}
