//! Settling that fails half-way, in folders that are not as they should be, and of many folders.

use std::time::Duration;

use super::walk::{deliver, open, text};
use super::{account, config, life_as, recover, run};
use crate::runtime::{Disk, DiskOp, SimDisk};
use crate::store::{Account, Packing, Store, StoreConfig, StoreError};

const ENOSPC: i32 = 28;
const EMLINK: i32 = 31;

/// Settling only when the test says so.
fn by_hand(packing: Packing) -> StoreConfig {
    StoreConfig {
        packing,
        settle_after: Duration::from_secs(3600),
        ..config(1)
    }
}

fn long(bytes: usize) -> String {
    let head = "From: a@example.org\r\nSubject: long\r\n\r\n";
    head.to_owned() + &"A line that comes again.\r\n".repeat(bytes / 26)
}

async fn ana(store: &Store) -> Account {
    store.remote().account(account(1)).await.expect("opens")
}

/// The compressing of a large message found no room, and half of it got the name all the same: a
/// copy in the same batch was linked to that, and kept it.
#[test]
fn half_a_file_gets_no_name() {
    for packing in [Packing::Plain, Packing::Zstd] {
        for nth in 1..=5 {
            let sim = SimDisk::new(nth);
            let failing = sim.clone();
            let want = format!("Delivered-To: 1\r\n{}", long(1_500_000));
            let told = want.clone();
            life_as(&sim, by_hand(packing), move |store, _| async move {
                let uid = deliver(&store, 1, "INBOX", &long(1_500_000)).await;
                let of = ana(&store).await;
                let archive = of.find("Archive").expect("is there");
                let inbox = open(&of, "INBOX").await;
                inbox.copy(&[uid], archive).await.expect("copies");
                failing.fail(DiskOp::Write, "/tmp/", nth, ENOSPC);
                let first = store.settle_all().await;
                assert!(matches!(first, Ok(()) | Err(StoreError::Full)), "{first:?}");
                failing.restart();
                store.checkpoint().await.expect("there is room");
                assert_eq!(store.stats().unsettled, 0);
                for name in ["INBOX", "Archive"] {
                    let view = open(&of, name).await;
                    assert_eq!(text(&view, view.uids()[0]).await, told, "{name} {nth}");
                }
            });
            let cut = sim.power_cut(nth);
            life_as(&cut, config(1), move |store, _| async move {
                for name in ["INBOX", "Archive"] {
                    let view = open(&ana(&store).await, name).await;
                    assert_eq!(text(&view, view.uids()[0]).await, want, "{name} {nth}");
                }
            });
        }
    }
}

/// The same where the file system gives no further name to a file, and a copy gets its own.
#[test]
fn half_a_copy_gets_no_name() {
    let sim = SimDisk::new(1);
    let failing = sim.clone();
    life_as(&sim, by_hand(Packing::Plain), move |store, _| async move {
        let uid = deliver(&store, 1, "INBOX", &long(100)).await;
        store.settle_all().await.expect("settles");
        let of = ana(&store).await;
        let archive = of.find("Archive").expect("is there");
        let inbox = open(&of, "INBOX").await;
        inbox.copy(&[uid], archive).await.expect("copies");
        inbox.copy(&[uid], archive).await.expect("copies");
        failing.fail(DiskOp::Link, "/cur/", 1, EMLINK);
        failing.fail(DiskOp::Write, "/tmp/", 1, ENOSPC);
        assert_eq!(store.settle_all().await, Err(StoreError::Full));
        store.settle_all().await.expect("there is room");
        let archive = open(&of, "Archive").await;
        for &uid in archive.uids() {
            let want = format!("Delivered-To: 1\r\n{}", long(100));
            assert_eq!(text(&archive, uid).await, want);
        }
    });
}

/// The first start found no room for its `format` file, named it all the same, and was the last.
#[test]
fn a_format_file_without_room_does_not_end_all_starts() {
    for op in [DiskOp::Write, DiskOp::Truncate, DiskOp::Fsync] {
        let sim = SimDisk::new(1);
        run(async move {
            let disk = Disk::sim(sim.clone());
            sim.fail(op, "/format.new", 1, ENOSPC);
            let first = Store::recover_all(config(1), &disk).await;
            first.map(drop).expect_err("there is no room");
            let cut = Disk::sim(sim.power_cut(1));
            assert_eq!(recover(&disk, 1).await.partitions, 4);
            assert_eq!(recover(&cut, 1).await.partitions, 4);
        });
    }
}
