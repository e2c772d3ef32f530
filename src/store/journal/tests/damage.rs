//! What is no torn tail refuses to start, says where, and can be repaired.

use super::*;

const RECORDS: u64 = 16;

/// A journal of three slots, closed by a seal.
async fn made(cfg: &JournalConfig) -> SimDisk {
    let sim = SimDisk::new(9);
    let disk = Disk::sim(sim.clone());
    let (journal, _) = begin(cfg, &disk, 0).await;
    for pseq in 1..=RECORDS {
        put(&journal, record(1, Epoch(1), pseq, 9_000))
            .await
            .expect("commits");
    }
    journal.drain(until()).await.expect("is quiet");
    sim.power_cut(1)
}

/// Flips one bit.
async fn flip(disk: &Disk, path: &str, at: u64) {
    let how = Open {
        read: true,
        write: true,
        ..Open::default()
    };
    let file = disk.open(Path::new(path), how).await.expect("opens");
    let mut octet = file.read_at(1, at).await.expect("reads");
    octet[0] ^= 0x10;
    file.write_at(octet, at).await.expect("writes");
    file.fdatasync().await.expect("syncs");
}

fn file(slot: u64) -> String {
    format!("{ROOT}/journal/0/slot-{}", slot - 1)
}

#[derive(Clone, Copy)]
enum Want {
    /// All records but the last so many.
    Found(u64),
    Refused(&'static str),
}

#[track_caller]
fn check(damage: impl AsyncFn(&Disk) + 'static, want: Want) {
    block_on(async move {
        let cfg = config(1);
        let disk = Disk::sim(made(&cfg).await);
        damage(&disk).await;
        verified(&disk, want).await;
        match (recover(&cfg, &disk).await, want) {
            (Ok(recovered), Want::Found(missing)) => {
                let found = read_back(&disk, &recovered, 1).await;
                assert!(found.into_iter().eq(1..=RECORDS - missing));
            }
            (Err(error), Want::Refused(text)) => {
                let said = error.to_string();
                assert!(said.contains(text), "{said}");
                let again = recover(&cfg, &disk).await.map(drop);
                assert_eq!(again, Err(error), "a second start says the same");
            }
            (Ok(recovered), Want::Refused(text)) => {
                panic!("recovered {:?} instead of: {text}", recovered.report);
            }
            (Err(error), Want::Found(_)) => panic!("{error}"),
        }
    })
    .expect("an executor");
}

/// `palomar journal verify` says beforehand what a start will say.
async fn verified(disk: &Disk, want: Want) {
    let mut counter = Counter::default();
    let look = Look {
        root: PathBuf::from(ROOT),
        stream: None,
    };
    let found = inspect(&look, disk, &mut counter).await;
    match want {
        Want::Found(missing) => {
            let found = found.expect("can be read");
            assert_eq!(found.faults, []);
            assert_eq!(found.live_records, RECORDS - missing);
            assert_eq!(counter.live, RECORDS - missing);
            assert_eq!(counter.expected, counter.read);
        }
        Want::Refused(text) => {
            let faults: Vec<String> = match found {
                Ok(found) => found.faults.iter().map(ToString::to_string).collect(),
                Err(error) => vec![error.to_string()],
            };
            let told = faults.iter().any(|fault| fault.contains(text));
            assert!(told, "{text} in {faults:?}");
        }
    }
}

#[derive(Default)]
struct Counter {
    expected: u64,
    read: u64,
    live: u64,
}

impl Onlooker for Counter {
    fn begin(&mut self, bytes: u64) {
        self.expected = bytes;
    }

    fn read(&mut self, bytes: u64) {
        self.read += bytes;
    }

    fn record(&mut self, seen: &Seen<'_>) {
        self.live += u64::from(seen.live);
    }
}

/// Beside a server: what it writes and recycles meanwhile is no fault, and covered records are
/// told apart.
#[test]
fn a_journal_in_use_is_read() {
    block_on(async {
        let cfg = config(1);
        let disk = Disk::sim(SimDisk::new(3));
        let (journal, _) = begin(&cfg, &disk, 0).await;
        let look = Look {
            root: PathBuf::from(ROOT),
            stream: Some(0),
        };
        for pseq in 1..=60 {
            let ticket = journal.append(record(1, Epoch(1), pseq, 9_000), Class::Completion);
            let ticket = ticket.expect("is taken");
            let mut counter = Counter::default();
            let look = inspect(&look, &disk, &mut counter);
            let (done, found) = futures_lite::future::zip(journal.committed(ticket), look).await;
            done.expect("commits");
            let found = found.expect("can be read");
            assert_eq!(found.faults, [], "at {pseq}");
            // A checkpoint covers what is there, and slots come around again.
            journal.release_below(journal.position());
        }
        journal.drain(until()).await.expect("is quiet");
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        retire(&cfg, &disk, &recovered).await.expect("retires");
        let mut counter = Counter::default();
        let found = inspect(&look, &disk, &mut counter)
            .await
            .expect("can be read");
        assert_eq!((found.live_slots, counter.live), (0, 0));
        assert!(found.records > 0, "covered, and still there to look at");
    })
    .expect("an executor");
}

#[test]
fn a_whole_journal_recovers() {
    check(async |_: &Disk| {}, Want::Found(0));
}

#[test]
fn damage_with_a_later_valid_batch_refuses() {
    for (offset, at) in [(4096, 4096), (4096, 9_000), (16_384, 17_000)] {
        check(
            async move |disk: &Disk| flip(disk, &file(1), at).await,
            Want::Refused(match offset {
                4096 => "stream 0, slot 1 (/data/journal/0/slot-0), offset 4096: no valid batch",
                _ => "palomar journal cut --stream 0 --slot 1 --offset 16384",
            }),
        );
    }
}

#[test]
fn a_damaged_end_batch_refuses() {
    // Four batches of 12 KiB, then the end batch.
    check(
        async |disk: &Disk| flip(disk, &file(1), 4096 + 4 * 12_288 + 30).await,
        Want::Refused("--stream 0 --slot 1 --offset 53248"),
    );
}

#[test]
fn padding_and_what_was_never_written_do_not_matter() {
    check(
        async |disk: &Disk| flip(disk, &file(1), 4096 + 12_200).await,
        Want::Found(0),
    );
    check(
        async |disk: &Disk| flip(disk, &file(1), 65_000).await,
        Want::Found(0),
    );
}

#[test]
fn one_copy_of_a_header_is_enough() {
    for at in [3, 20, 2048 + 20] {
        check(
            async move |disk: &Disk| flip(disk, &file(2), at).await,
            Want::Found(0),
        );
    }
}

#[test]
fn a_slot_without_header_refuses() {
    for slot in 1..=4 {
        check(
            async move |disk: &Disk| {
                flip(disk, &file(slot), 20).await;
                flip(disk, &file(slot), 2048 + 20).await;
            },
            Want::Refused(match slot {
                1 => "slot 1 is missing",
                2 => "slot 2 is missing",
                3 => "slot 3 is missing",
                _ => "slot 4 is missing",
            }),
        );
    }
}

#[test]
fn a_missing_slot_file_refuses() {
    check(
        async |disk: &Disk| disk.unlink(Path::new(&file(2))).await.expect("unlinks"),
        Want::Refused("palomar journal cut --stream 0 --slot 2 --offset 0"),
    );
}

#[test]
fn a_slot_that_stands_twice_refuses() {
    check(
        async |disk: &Disk| {
            let bytes = disk.read(Path::new(&file(1))).await.expect("reads");
            let copy = format!("{ROOT}/journal/0/slot-77");
            disk.write_new(Path::new(&copy), bytes)
                .await
                .expect("writes");
        },
        Want::Refused("slot 1 is in two files"),
    );
}

#[test]
fn a_damaged_or_lost_epoch_refuses() {
    check(
        async |disk: &Disk| flip(disk, "/data/epoch", 3).await,
        Want::Refused("/data/epoch is damaged or missing"),
    );
    check(
        async |disk: &Disk| {
            disk.unlink(Path::new("/data/epoch"))
                .await
                .expect("unlinks")
        },
        Want::Refused("/data/epoch is damaged or missing"),
    );
}

/// Each refusal's own command lets the node start again, with what stands before the damage.
#[test]
fn the_named_repair_works_and_keeps_a_copy() {
    for (slot, offset, kept) in [(1, 16_384, 1), (2, 4096, 4), (2, 0, 4), (3, 28_672, 10)] {
        block_on(async move {
            let cfg = config(1);
            let disk = Disk::sim(made(&cfg).await);
            if offset == 0 {
                disk.unlink(Path::new(&file(slot))).await.expect("unlinks");
            } else {
                flip(&disk, &file(slot), offset + 30).await;
            }
            let refused = recover(&cfg, &disk).await.expect_err("damaged").to_string();
            let command = format!("--slot {slot} --offset {offset}`");
            assert!(refused.contains(&command), "{refused}");
            let all = losses(&cfg, &disk, 0, slot, offset).await.expect("tells");
            let lost: u64 = all.iter().map(|loss| loss.records).sum();
            // All behind the cut, but for what is damaged or in the slot that is not there.
            let readable = match (slot, offset) {
                (2, 0) => RECORDS - kept - 4,
                _ => RECORDS - kept - 1,
            };
            assert_eq!(lost, readable, "{all:?}");
            cut(&cfg, &disk, 0, slot, offset).await.expect("cuts");
            let recovered = recover(&cfg, &disk).await.expect("starts again");
            assert!(
                read_back(&disk, &recovered, 1)
                    .await
                    .into_iter()
                    .eq(1..=kept)
            );
            let aside = disk
                .list(Path::new("/data/journal/aside"))
                .await
                .expect("lists");
            assert!(!aside.is_empty());
        })
        .expect("an executor");
    }
}

#[test]
fn a_torn_tail_is_kept_aside() {
    block_on(async {
        let cfg = config(1);
        let sim = SimDisk::new(3);
        let disk = Disk::sim(sim.clone());
        let (journal, _) = begin(&cfg, &disk, 0).await;
        put(&journal, record(1, Epoch(1), 1, 500))
            .await
            .expect("commits");
        put(&journal, record(1, Epoch(1), 2, 500))
            .await
            .expect("commits");
        flip(&disk, &file(1), 2 * 4096 + 200).await;
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        assert!(read_back(&disk, &recovered, 1).await.into_iter().eq(1..=1));
        let torn = &recovered.report.torn;
        assert_eq!((torn.len(), torn[0].slot, torn[0].offset), (1, 1, 8192));
        let aside = disk
            .list(Path::new("/data/journal/aside"))
            .await
            .expect("lists");
        assert_eq!((aside.len(), aside[0].len), (1, torn[0].bytes));
    })
    .expect("an executor");
}

#[test]
fn a_gap_in_a_partition_refuses() {
    block_on(async {
        let cfg = config(1);
        let disk = Disk::sim(SimDisk::new(3));
        let (journal, _) = begin(&cfg, &disk, 0).await;
        put(&journal, record(1, Epoch(1), 1, 500))
            .await
            .expect("commits");
        put(&journal, record(1, Epoch(1), 3, 500))
            .await
            .expect("commits");
        let refused = recover(&cfg, &disk).await.map(drop);
        let gap = JournalError::PSeqGap {
            partition: PartitionId(1),
            after: PSeq(1),
            found: PSeq(3),
        };
        assert_eq!(refused, Err(gap));
    })
    .expect("an executor");
}
