//! A disk that fills up, and what comes back when mail is removed: nobody raises the capacity.

use std::path::Path;
use std::time::Duration;

use super::failures::texts;
use super::{ROOT, account, config, letter, names, run, soon, target, try_message};
use crate::base::{ShardId, Uid};
use crate::runtime::{Disk, Open, SimDisk, Step, now, sleep, trace_id, unix_now};
use crate::store::{Access, StartError, Store, StoreConfig, StoreError, View, room};

const MIB: u64 = 1 << 20;
const FLOOR: u64 = 4 * MIB;
/// Beside what the first start takes.
const ROOM: u64 = 40 * MIB;
const LETTER_BYTES: usize = 100_000;
/// Removed mail gives its room back within this.
const BACK_WITHIN: Duration = Duration::from_secs(10);

fn keeping(days: u32) -> StoreConfig {
    let mut cfg = config(1);
    cfg.free_bytes_min = FLOOR;
    cfg.journal.free_bytes_min = FLOOR;
    cfg.undelete_days = days;
    cfg.checkpoint_every = Duration::from_secs(10);
    cfg
}

async fn open(disk: &Disk, cfg: StoreConfig) -> Result<Store, StartError> {
    let recovered = Store::recover_all(cfg, disk).await?;
    Store::open(ShardId(0), &recovered, disk.clone()).await
}

async fn used(sim: &SimDisk) -> u64 {
    sim.set_capacity(1 << 40);
    (1 << 40) - Disk::sim(sim.clone()).free_bytes().await.expect("is told")
}

fn text(n: u64, bytes: usize) -> String {
    letter(n) + &"0123456789abcdef\r\n".repeat(bytes / 18)
}

async fn deliver(store: &Store, n: u64, bytes: usize) -> Result<(), StoreError> {
    let remote = store.remote();
    let message = try_message(&remote, &text(n, bytes)).await?;
    let to = vec![target(1, "INBOX")];
    let placed = remote.deliver(message, to, unix_now(), trace_id(), soon());
    placed.await.map(drop)
}

/// As above, by a client that comes back until it is too late.
async fn deliver_within(store: &Store, n: u64, span: Duration) -> Result<(), StoreError> {
    let from = now();
    loop {
        match deliver(store, n, LETTER_BYTES).await {
            Err(StoreError::Full) if now().duration_since(from) < span => {
                sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Takes letters until there is lastingly no room. Answers the next number.
async fn fill(store: &Store, from: u64) -> u64 {
    for n in from..from + 10_000 {
        match deliver_within(store, n, Duration::from_secs(15)).await {
            Ok(()) => {}
            Err(why) => {
                assert_eq!(why, StoreError::Full);
                return n;
            }
        }
    }
    panic!("the disk does not fill up");
}

async fn inbox(store: &Store) -> View {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let id = ana.find("INBOX").expect("INBOX");
    ana.select(id, Access::ReadWrite).await.expect("selects")
}

/// Every second message. Answers the texts that stay.
async fn expunge_half(store: &Store) -> Vec<String> {
    let view = inbox(store).await;
    let every_second: Vec<Uid> = view.uids().iter().copied().step_by(2).collect();
    view.expunge(&every_second)
        .await
        .expect("deleting is taken");
    texts(store, 1, "INBOX").await
}

fn is_well(store: &Store) {
    let stats = store.stats();
    assert!(!store.is_poisoned());
    assert_eq!((stats.misfits, stats.files_missing), (0, 0));
}

/// Filled by delivery, half of it deleted, again and again: there is always room to give room back.
#[test]
fn a_full_disk_takes_mail_again_once_half_is_deleted() {
    for days in [0, 14] {
        let sim = SimDisk::new(1);
        let disk = Disk::sim(sim.clone());
        let end = run(async move {
            let store = open(&disk, keeping(days)).await.expect("opens");
            deliver(&store, 0, 10).await.expect("delivers");
            sim.set_capacity(used(&sim).await + ROOM);
            // Until somebody has looked.
            sleep(Duration::from_secs(3)).await;
            let mut next = 1;
            for _ in 0..3 {
                next = fill(&store, next).await;
                let stats = store.stats();
                assert_eq!(
                    stats.unsettled, 0,
                    "there is room for what was taken {stats:?}"
                );
                assert_eq!(stats.settle_failures, 0);
                assert!(stats.mail_refused > 0 && stats.free_bytes > FLOOR / 2);
                let mut left = expunge_half(&store).await;
                let taken = deliver_within(&store, next, BACK_WITHIN).await;
                assert_eq!(taken, Ok(()), "days {days}: {:?}", store.stats());
                left.push(text(next, LETTER_BYTES));
                next += 1;
                assert_eq!(texts(&store, 1, "INBOX").await, left);
                is_well(&store);
            }
            let left = texts(&store, 1, "INBOX").await;
            (sim.power_cut(2), left)
        });
        next_start(end.0, end.1, days);
    }
}

fn next_start(sim: SimDisk, left: Vec<String>, days: u32) {
    run(async move {
        let disk = Disk::sim(sim);
        let store = open(&disk, keeping(days)).await.expect("starts");
        assert_eq!(texts(&store, 1, "INBOX").await, left);
        is_well(&store);
    });
}

/// Others take the last octet: the reserve lets a checkpoint through, and deleting gives the rest.
#[test]
fn a_disk_that_others_filled_lives_on_its_reserve() {
    for days in [0, 14] {
        let sim = SimDisk::new(3);
        let disk = Disk::sim(sim.clone());
        let end = run(async move {
            let store = open(&disk, keeping(days)).await.expect("opens");
            for n in 0..100 {
                deliver(&store, n, LETTER_BYTES).await.expect("delivers");
            }
            sleep(Duration::from_secs(30)).await;
            let root = Path::new(ROOT);
            assert!(names(&disk, root).await.contains(&"reserve".to_owned()));
            deliver(&store, 100, LETTER_BYTES).await.expect("delivers");
            sim.set_capacity(used(&sim).await);
            sleep(Duration::from_secs(20)).await;
            assert_eq!(deliver(&store, 101, 10).await, Err(StoreError::Full));
            assert_eq!(store.stats().unsettled, 0, "the reserve was enough");
            let mut left = expunge_half(&store).await;
            let taken = deliver_within(&store, 102, BACK_WITHIN).await;
            assert_eq!(taken, Ok(()), "days {days}: {:?}", store.stats());
            left.push(text(102, LETTER_BYTES));
            assert_eq!(texts(&store, 1, "INBOX").await, left);
            is_well(&store);
            (sim.power_cut(4), left)
        });
        next_start(end.0, end.1, days);
    }
}

/// The power goes on a disk without an octet left: the start gives up the reserve, serves, deletes,
/// and takes mail again.
#[test]
fn a_start_on_a_full_disk_serves_and_deletes() {
    let sim = SimDisk::new(5);
    let disk = Disk::sim(sim.clone());
    let (sim, before) = run(async move {
        let store = open(&disk, keeping(14)).await.expect("opens");
        for n in 0..100 {
            deliver(&store, n, LETTER_BYTES).await.expect("delivers");
        }
        sleep(Duration::from_secs(30)).await;
        for n in 100..105 {
            deliver(&store, n, LETTER_BYTES).await.expect("delivers");
        }
        let left = texts(&store, 1, "INBOX").await;
        (sim.power_cut(6), left)
    });
    let sim = run(async move {
        let disk = Disk::sim(sim.clone());
        sim.set_capacity(used(&sim).await);
        let store = open(&disk, keeping(14)).await.expect("starts");
        assert_eq!(texts(&store, 1, "INBOX").await, before);
        let mut left = expunge_half(&store).await;
        let taken = deliver_within(&store, 200, BACK_WITHIN).await;
        assert_eq!(taken, Ok(()), "{:?}", store.stats());
        left.push(text(200, LETTER_BYTES));
        assert_eq!(texts(&store, 1, "INBOX").await, left);
        is_well(&store);
        sim
    });
    drop(sim);
}

/// After a clean end there is nothing to replay, and a slot file can be spared: that is enough for a
/// start with not an octet left and no reserve.
#[test]
fn a_start_after_a_clean_end_needs_nothing() {
    let sim = SimDisk::new(15);
    let disk = Disk::sim(sim.clone());
    let (sim, before) = run(async move {
        let store = open(&disk, config(1)).await.expect("opens");
        for n in 0..150 {
            deliver(&store, n, LETTER_BYTES).await.expect("delivers");
        }
        sleep(Duration::from_secs(3)).await;
        let left = texts(&store, 1, "INBOX").await;
        store.drain(soon()).await.expect("drains");
        (sim, left)
    });
    run(async move {
        let disk = Disk::sim(sim.clone());
        sim.set_capacity(used(&sim).await);
        let store = open(&disk, keeping(0)).await.expect("starts");
        assert_eq!(texts(&store, 1, "INBOX").await, before);
        expunge_half(&store).await;
        let taken = deliver_within(&store, 200, BACK_WITHIN).await;
        assert_eq!(taken, Ok(()), "{:?}", store.stats());
        is_well(&store);
    });
}

/// Without a reserve and anything kept the start says what to do, and the next one has it all.
#[test]
fn a_start_without_any_room_says_so() {
    let sim = SimDisk::new(7);
    let disk = Disk::sim(sim.clone());
    let (sim, before) = run(async move {
        let store = open(&disk, config(1)).await.expect("opens");
        for n in 0..5 {
            deliver(&store, n, LETTER_BYTES).await.expect("delivers");
        }
        let left = texts(&store, 1, "INBOX").await;
        (sim.power_cut(8), left)
    });
    let sim = run(async move {
        let disk = Disk::sim(sim.clone());
        sim.set_capacity(used(&sim).await);
        let refused = open(&disk, keeping(0)).await.err().expect("is refused");
        let said = refused.to_string();
        assert!(matches!(refused, StartError::Full { .. }), "{said}");
        assert!(
            said.contains("free room there") && said.contains(ROOT),
            "{said}"
        );
        sim.set_capacity(u64::MAX);
        sim
    });
    next_start(sim, before, 0);
}

/// A body that would need the room of others is refused while it comes, and leaves nothing.
#[test]
fn a_large_body_leaves_the_floor_alone() {
    let sim = SimDisk::new(9);
    let disk = Disk::sim(sim.clone());
    run(async move {
        let store = open(&disk, keeping(0)).await.expect("opens");
        sleep(Duration::from_secs(3)).await;
        sim.set_capacity(used(&sim).await + 3 * FLOOR);
        sleep(Duration::from_secs(3)).await;
        let large = FLOOR as usize * 3 / 2;
        assert_eq!(deliver(&store, 1, large).await, Err(StoreError::Full));
        sleep(Duration::from_secs(3)).await;
        let spool = Path::new(ROOT).join("spool");
        assert_eq!(names(&disk, &spool).await, [""; 0]);
        deliver(&store, 2, FLOOR as usize / 2).await.expect("fits");
        is_well(&store);
    });
}

/// The journal has what the last checkpoint could not write.
#[test]
fn a_drain_on_a_full_disk_loses_nothing() {
    let sim = SimDisk::new(11);
    let disk = Disk::sim(sim.clone());
    let (sim, left) = run(async move {
        let store = open(&disk, config(1)).await.expect("opens");
        deliver(&store, 0, 10).await.expect("delivers");
        sim.set_capacity(0);
        for n in 1..5 {
            deliver(&store, n, LETTER_BYTES).await.expect("delivers");
        }
        let left = texts(&store, 1, "INBOX").await;
        assert_eq!(store.drain(soon()).await, Err(StoreError::Full));
        assert!(!store.is_poisoned());
        sim.set_capacity(u64::MAX);
        (sim, left)
    });
    next_start(sim, left, 0);
}

/// A clean end covers the journal: what rots in it afterwards is read by nobody.
#[test]
fn a_clean_end_retires_the_journal() {
    let sim = SimDisk::new(13);
    let disk = Disk::sim(sim.clone());
    let (sim, left) = run(async move {
        let store = open(&disk, config(1)).await.expect("opens");
        for n in 0..5 {
            deliver(&store, n, 1000).await.expect("delivers");
            // Batches of their own.
            sleep(Duration::from_secs(2)).await;
        }
        store.drain(soon()).await.expect("drains");
        assert_eq!(deliver(&store, 9, 10).await, Err(StoreError::Busy));
        (sim, texts(&store, 1, "INBOX").await)
    });
    let sim = run(async move {
        let disk = Disk::sim(sim.clone());
        let how = Open {
            read: true,
            write: true,
            ..Open::default()
        };
        let slot = Path::new(ROOT).join("journal/0/slot-0");
        let file = disk.open(&slot, how).await.expect("opens");
        let mut octet = file.read_at(1, 4096 + 200).await.expect("reads");
        octet[0] ^= 0x10;
        file.write_at(octet, 4096 + 200).await.expect("writes");
        sim
    });
    next_start(sim, left, 14);
}

/// A start without room took whole days, with folders that its replay was to copy from.
#[test]
fn a_start_gives_up_messages_and_no_folders() {
    let disk = Disk::sim(SimDisk::new(9));
    run(async move {
        let day = Path::new(ROOT).join("removed/2026-01-02");
        let (kept, grave) = (day.join("1/7/M3"), day.join("1/7/F4/cur"));
        for dir in [&kept, &grave] {
            disk.create_dir_all(dir).await.expect("is made");
            let step = Step::WriteNew {
                path: dir.join("a"),
                bytes: vec![1],
            };
            assert!(disk.batch(vec![step]).await[0].is_ok());
        }
        assert_eq!(room::forget(&disk, &day).await, Ok(true));
        assert!(!disk.exists(&kept).await.expect("looks"));
        assert!(disk.exists(&grave.join("a")).await.expect("looks"));
        assert_eq!(room::forget(&disk, &day).await, Ok(false));
    });
}
