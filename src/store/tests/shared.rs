//! One body for owners in several partitions is one file: what it takes, and what may go wrong.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::zip;

use super::failures::texts;
use super::settling::by_hand;
use super::{ROOT, account, config, letter, message, names, run, soon, target};
use crate::base::ShardId;
use crate::runtime::{Disk, DiskOp, SimDisk, sleep, trace_id, unix_now};
use crate::store::{Access, Delivered, Packing, Store, StoreConfig};

/// Each in a partition of its own.
const OWNERS: [u64; 3] = [1, 2, 3];

/// One life with a configuration of its own, at simulated time.
fn life<F>(sim: &SimDisk, cfg: StoreConfig, body: impl FnOnce(Store, Disk) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let disk = Disk::sim(sim.clone());
    run(async move {
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        body(store.expect("opens"), disk).await;
    });
}

/// As short as what stands in the journal, or so long that it lies in the spool.
fn texts_of_both_kinds() -> [String; 2] {
    [letter(1), letter(2) + &"0123456789abcdef\r\n".repeat(8_000)]
}

/// Delivers to all owners, and waits until each has it.
async fn deliver(store: &Store, text: &str) {
    let remote = store.remote();
    let body = message(&remote, text).await;
    let to = OWNERS.map(|owner| target(owner, "INBOX")).into();
    let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
    assert_eq!(sent.await, Ok(Delivered::Queued));
    while store.stats().outbox > 0 {
        sleep(Duration::from_millis(2)).await;
    }
}

async fn expunge_first(store: &Store, owner: u64) {
    let of = store.remote().account(account(owner)).await.expect("opens");
    let inbox = of.find("INBOX").expect("is there");
    let view = of.select(inbox, Access::ReadWrite).await.expect("selects");
    let uid = view.uids()[0];
    view.expunge(&[uid]).await.expect("expunges");
}

#[test]
fn it_takes_the_room_of_one_and_counts_for_each() {
    for packing in [Packing::Plain, Packing::Zstd] {
        let sim = SimDisk::new(1);
        sim.set_capacity(1 << 30);
        life(&sim, by_hand(packing), move |store, disk| async move {
            deliver(&store, &letter(1)).await;
            store.checkpoint().await.expect("a checkpoint");
            // Noise, which no packing makes shorter.
            let line = |n: u64| {
                let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                format!("{noise:x}{:x}\r\n", noise.wrapping_mul(noise))
            };
            for head in [
                letter(3),
                letter(2) + &(0..8_000).map(line).collect::<String>(),
            ] {
                let text = head + &(0..400).map(line).collect::<String>();
                let before = disk.free_bytes().await.expect("says");
                deliver(&store, &text).await;
                store.checkpoint().await.expect("a checkpoint");
                // Here files without a name go with the next sync.
                disk.syncfs().await.expect("syncs");
                let taken = before - disk.free_bytes().await.expect("says");
                // Rows, digests and catalogues beside it.
                let most = text.len() as u64 + 8_000;
                assert!(taken < most, "{packing:?}: {taken} for {}", text.len());
                for owner in OWNERS {
                    assert_eq!(texts(&store, owner, "INBOX").await.last(), Some(&text));
                }
            }
            for owner in OWNERS {
                let of = store.remote().account(account(owner)).await.expect("opens");
                let prefix = format!("Delivered-To: {owner}\r\n").len();
                let all = texts(&store, owner, "INBOX").await;
                let bytes: usize = all.iter().map(|text| text.len() + prefix).sum();
                assert_eq!(of.quota().bytes, bytes as u64);
            }
            let spool = Path::new(ROOT).join("spool");
            assert_eq!(names(&disk, &spool).await, [""; 0]);
        });
    }
}

/// It was one for each owner, and one more.
#[test]
fn the_names_of_all_owners_are_synced_together() {
    let sim = SimDisk::new(4);
    let counting = sim.clone();
    life(&sim, by_hand(Packing::Plain), move |store, _| async move {
        let [_, long] = texts_of_both_kinds();
        deliver(&store, &letter(1)).await;
        let before = counting.counters().dir_syncs;
        deliver(&store, &long).await;
        assert_eq!(counting.counters().dir_syncs - before, 1);
    });
}

/// Who waits for a sync that fails is told, and what others are told is there.
#[test]
fn a_failed_sync_is_told_to_all_who_waited_for_it() {
    for seed in 0..10 {
        let sim = SimDisk::new(seed);
        let failing = sim.clone();
        let sent = Rc::new(RefCell::new(Vec::new()));
        let taken = sent.clone();
        life(&sim, by_hand(Packing::Plain), move |store, _| async move {
            deliver(&store, &letter(9)).await;
            let nth = 1 + seed % 3;
            let before = failing.counters().dir_syncs;
            failing.fail(DiskOp::SyncDir, "/spool", nth, 5);
            let remote = store.remote();
            let send = async |n: u64| {
                let text = letter(n) + &"0123456789abcdef\r\n".repeat(8_000);
                let body = message(&remote, &text).await;
                let to = OWNERS.map(|owner| target(owner, "INBOX")).into();
                let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
                if sent.await.is_ok() {
                    taken.borrow_mut().push(text);
                }
            };
            zip(zip(send(1), send(2)), zip(send(3), send(4))).await;
            // They share syncs: there may have been none that failed.
            let synced = failing.counters().dir_syncs - before;
            assert!(taken.borrow().len() < 4 || synced < nth, "seed {seed}");
        });
        let sent = sent.take();
        life(
            &sim.power_cut(seed),
            config(1),
            move |store, _| async move {
                while store.stats().outbox > 0 {
                    sleep(Duration::from_millis(2)).await;
                }
                for owner in OWNERS {
                    let there = texts(&store, owner, "INBOX").await;
                    assert_eq!(there.len(), 1 + sent.len(), "seed {seed}");
                    assert!(sent.iter().all(|text| there.contains(text)), "seed {seed}");
                }
            },
        );
    }
}

/// A file system that gives no further name, at a link of each owner: it gets a file of its own.
#[test]
fn where_there_is_no_link_there_is_a_copy() {
    const ENOENT: i32 = 2;
    const EPERM: i32 = 1;
    const EXDEV: i32 = 18;
    const EMLINK: i32 = 31;
    for errno in [ENOENT, EPERM, EXDEV, EMLINK] {
        for place in ["/cur/", "/spool/"] {
            // Nothing in the spool is gone by itself.
            if errno == ENOENT && place == "/spool/" {
                continue;
            }
            for text in texts_of_both_kinds() {
                let sim = SimDisk::new(2);
                let failing = sim.clone();
                let told = text.clone();
                life(&sim, by_hand(Packing::Plain), move |store, _| async move {
                    (1..=6).for_each(|nth| failing.fail(DiskOp::Link, place, nth, errno));
                    deliver(&store, &text).await;
                    store.checkpoint().await.expect("a checkpoint");
                    assert_eq!(store.stats().files_missing, 0);
                });
                life(&sim.power_cut(1), config(1), move |store, _| async move {
                    for owner in OWNERS {
                        assert_eq!(texts(&store, owner, "INBOX").await, [told.as_str()]);
                    }
                });
            }
        }
    }
}

/// One of the owners has removed it before it was a file, or before the others had it.
#[test]
fn who_removes_it_takes_it_from_nobody() {
    for text in texts_of_both_kinds() {
        for settled in [false, true] {
            let sim = SimDisk::new(3);
            let told = text.clone();
            let text = text.clone();
            life(&sim, by_hand(Packing::Plain), move |store, _| async move {
                deliver(&store, &text).await;
                if settled {
                    store.settle_all().await.expect("settles");
                }
                expunge_first(&store, 1).await;
                // What is doomed goes with the second at the latest.
                for _ in 0..2 {
                    store.checkpoint().await.expect("a checkpoint");
                }
                assert_eq!(texts(&store, 1, "INBOX").await, [""; 0]);
                assert_eq!(texts(&store, 2, "INBOX").await, [text.as_str()]);
            });
            life(&sim.power_cut(1), config(1), move |store, _| async move {
                for owner in [2, 3] {
                    assert_eq!(texts(&store, owner, "INBOX").await, [told.as_str()]);
                }
                assert_eq!(store.stats().files_missing, 0);
            });
        }
    }
}

/// Power goes while names are given, while the checkpoint is made, and while that is replayed.
#[test]
fn power_goes_between_name_and_checkpoint() {
    for seed in 0..24 {
        for text in texts_of_both_kinds() {
            let sim = SimDisk::new(seed);
            let stopping = sim.clone();
            let told = text.clone();
            life(&sim, by_hand(Packing::Plain), move |store, _| async move {
                deliver(&store, &letter(9)).await;
                store.checkpoint().await.expect("a checkpoint");
                deliver(&store, &text).await;
                if seed % 3 == 0 {
                    store.settle_all().await.expect("settles");
                }
                stopping.stop_after(2 * seed);
                let _ = store.checkpoint().await;
            });
            let again = sim.power_cut(seed);
            let disk = Disk::sim(again.clone());
            again.stop_after(30 + 5 * seed);
            run(async move {
                let _ = Store::recover_all(config(1), &disk).await;
            });
            life(
                &again.power_cut(seed),
                config(1),
                move |store, disk| async move {
                    for owner in OWNERS {
                        let there = texts(&store, owner, "INBOX").await;
                        assert_eq!(there, [letter(9), told.clone()], "seed {seed}");
                    }
                    store.checkpoint().await.expect("a checkpoint");
                    let spool = Path::new(ROOT).join("spool");
                    assert_eq!(names(&disk, &spool).await, [""; 0]);
                },
            );
        }
    }
}
