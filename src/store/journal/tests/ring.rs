//! Batches, groups, wrap-around, back-pressure.

use super::*;

#[test]
fn records_that_wait_together_share_a_sync() {
    block_on(async {
        let sim = SimDisk::new(1);
        let disk = Disk::sim(sim.clone());
        let (journal, sink) = begin(&config(1), &disk, 0).await;
        let before = journal.stats();
        let tickets: Vec<_> = (1..=40)
            .map(|pseq| journal.append(record(1, Epoch(1), pseq, 100), Class::NewMail))
            .collect::<Result<_, _>>()
            .expect("room for all");
        assert_eq!(sink.applied.borrow().len(), 0, "applied before durable");
        for ticket in tickets.into_iter().rev() {
            journal.committed(ticket).await.expect("commits");
        }
        let stats = journal.stats();
        assert_eq!((stats.records, before.records), (40, 0));
        assert!(stats.batches <= 2, "{stats:?}");
        let applied = sink.applied.take();
        assert!(applied.iter().map(|c| c.record.pseq.0).eq(1..=40));
        for committed in applied.iter() {
            let BodyPlace::InJournal(at) = committed.bodies[0] else {
                panic!("an inline body is at {:?}", committed.bodies[0]);
            };
            let body = journal.read(at, 0..u64::MAX).await.expect("reads");
            assert_eq!(crc32c(&body), committed.record.bodies[0].crc32c);
            let part = journal.read(at, 10..20).await.expect("reads");
            assert_eq!(part, body[10..20]);
        }
    })
    .expect("an executor");
}

/// Many times the ring's size goes through it, and no old content comes back.
async fn around(seed: u64) {
    let mut random = Random(seed);
    let sim = SimDisk::new(seed);
    let disk = Disk::sim(sim.clone());
    let cfg = config(1);
    let (journal, sink) = begin(&cfg, &disk, 0).await;
    let mut settled = 0;
    let total = 60 + random.below(30);
    let mut first_place = None;
    for pseq in 1..=total {
        let size = random.below(12_000) as usize;
        while let Err(error) =
            put_as(Class::NewMail, &journal, record(1, Epoch(1), pseq, size)).await
        {
            assert_eq!(error, StoreError::Full);
            settled = pseq - 1;
            journal.release_below(journal.position());
        }
        first_place.get_or_insert(sink.applied.borrow()[0].bodies[0].clone());
    }
    let stats = journal.stats();
    assert!(stats.slots <= 4 && stats.slots_recycled > 2, "{stats:?}");
    let Some(BodyPlace::InJournal(at)) = first_place else {
        panic!("the first body is at {first_place:?}");
    };
    assert_eq!(journal.read(at, 0..1).await, Err(StoreError::Expunged));
    let after = Disk::sim(sim.power_cut(seed));
    let recovered = recover(&cfg, &after).await.expect("recovers");
    let found = read_back(&after, &recovered, 1).await;
    let first = *found.first().expect("some are live");
    assert!(first <= settled + 1 && found.into_iter().eq(first..=total));
}

#[test]
fn the_ring_wraps_around() {
    seeds(60, around);
}

#[test]
fn the_fuller_the_ring_the_fewer_are_taken() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let (journal, _) = begin(&config(1), &disk, 0).await;
        let mut pseq = 0;
        for class in [Class::NewMail, Class::Change, Class::Completion] {
            let refused = loop {
                match journal.append(record(1, Epoch(1), pseq + 1, 900), class) {
                    Ok(ticket) => journal.committed(ticket).await.expect("commits"),
                    Err(refused) => break refused,
                }
                pseq += 1;
            };
            assert_eq!(refused, StoreError::Full);
            let full = journal.fill_permille();
            let least = match class {
                Class::NewMail => 850,
                Class::Change => 950,
                Class::Completion => 1000,
            };
            assert!((least..least + 20).contains(&full), "{class:?} at {full}");
            if class == Class::Change {
                break;
            }
        }
        journal.release_below(journal.position());
        assert!(journal.fill_permille() < 500);
        put(&journal, record(1, Epoch(1), pseq + 1, 900))
            .await
            .expect("room again");
    })
    .expect("an executor");
}

#[test]
fn a_record_too_large_leaves_no_trace() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let (journal, sink) = begin(&config(1), &disk, 0).await;
        let large = journal.append(record(1, Epoch(1), 1, 17_000), Class::NewMail);
        assert_eq!(large.err(), Some(StoreError::NotAllowed));
        put(&journal, record(1, Epoch(1), 1, 15_000))
            .await
            .expect("commits");
        assert_eq!(sink.applied.borrow().len(), 1);
    })
    .expect("an executor");
}

#[test]
fn a_full_file_system_defers_new_mail_and_heals() {
    block_on(async {
        let sim = SimDisk::new(5);
        let disk = Disk::sim(sim.clone());
        let cfg = config(1);
        // The epoch, one slot, and a part of the next.
        sim.set_capacity(cfg.slot_bytes * 3 / 2);
        let (journal, _) = begin(&cfg, &disk, 0).await;
        let mut pseq = 1;
        while let Ok(ticket) = journal.append(record(1, Epoch(1), pseq, 900), Class::NewMail) {
            journal.committed(ticket).await.expect("commits");
            pseq += 1;
        }
        assert!(!journal.poisoned() && pseq > 1);
        sim.set_capacity(1 << 30);
        put(&journal, record(1, Epoch(1), pseq, 900))
            .await
            .expect("takes mail again");
    })
    .expect("an executor");
}

#[test]
fn an_idle_journal_is_sealed_once() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let mut cfg = config(1);
        cfg.seal_after = Duration::from_millis(1);
        let (journal, _) = begin(&cfg, &disk, 0).await;
        put(&journal, record(1, Epoch(1), 1, 900))
            .await
            .expect("commits");
        while journal.stats().seals == 0 {
            yield_now().await;
        }
        journal.drain(until()).await.expect("is quiet");
        assert_eq!(journal.stats().seals, 1);
    })
    .expect("an executor");
}

#[test]
fn a_panic_in_apply_poisons_instead_of_hanging() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let (journal, sink) = begin(&config(1), &disk, 0).await;
        sink.panics.set(true);
        let outcome = put(&journal, record(1, Epoch(1), 1, 900)).await;
        assert_eq!(outcome, Err(StoreError::Poisoned));
        assert!(journal.poisoned() && journal.poison_reason().is_none());
    })
    .expect("an executor");
}

#[test]
fn a_reader_keeps_its_slot() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let (journal, sink) = begin(&config(1), &disk, 0).await;
        put(&journal, record(1, Epoch(1), 1, 9_000))
            .await
            .expect("commits");
        let BodyPlace::InJournal(at) = sink.applied.borrow()[0].bodies[0] else {
            panic!("an inline body lies in the journal");
        };
        let want = sink.applied.borrow()[0].record.bodies[0].crc32c;
        let reading = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let (journal, reading) = (journal.clone(), reading.clone());
            reading.set(reading.get() + 1);
            spawn("reader", async move {
                // Late readers are told; nobody gets other bytes.
                match journal.read(at, 0..u64::MAX).await {
                    Ok(body) => assert_eq!(crc32c(&body), want),
                    Err(error) => assert_eq!(error, StoreError::Expunged),
                }
                reading.set(reading.get() - 1);
            });
        }
        for pseq in 2..=60 {
            put(&journal, record(1, Epoch(1), pseq, 9_000))
                .await
                .expect("commits");
            journal.release_below(journal.position());
        }
        assert_eq!(reading.get(), 0);
    })
    .expect("an executor");
}

#[test]
fn a_new_chain_needs_the_old_ones_retired() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(5));
        let cfg = config(1);
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        retire(&cfg, &disk, &recovered).await.expect("retires");
        recover(&cfg, &disk).await.expect("recovers");
        let sink = Rc::new(Sink::default());
        let refused = Journal::create(&cfg, disk, 0, sink).await.map(drop);
        assert_eq!(refused, Err(JournalError::NotRetired { epoch: Epoch(2) }));
    })
    .expect("an executor");
}

#[test]
fn the_machines_own_disk_does_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().join("not/yet/there");
    block_on(async move {
        let disk = Disk::real(Pool::start(1, 16));
        let mut cfg = config(2);
        for (epoch, total) in [(1, 9), (2, 4)] {
            cfg.root = root.clone();
            let recovered = recover(&cfg, &disk).await.expect("recovers");
            assert_eq!(recovered.epoch, Epoch(epoch));
            let found = read_back(&disk, &recovered, 1).await;
            assert!(found.into_iter().eq(1..=if epoch == 1 { 0 } else { 9 }));
            retire(&cfg, &disk, &recovered).await.expect("retires");
            let (journal, _) = open(&cfg, &disk, 0).await;
            for pseq in 1..=total {
                let record = record(1, Epoch(epoch), pseq, 9_000);
                put(&journal, record).await.expect("commits");
            }
            journal.drain(until()).await.expect("is quiet");
        }
    })
    .expect("an executor");
}
