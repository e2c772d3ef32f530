//! Settling that fails half-way, in folders that are not as they should be, and of many folders.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::walk::{deliver, open, text};
use super::{ROOT, account, config, life_as, message, names, recover, run, soon, target};
use crate::base::MailboxId;
use crate::runtime::{Disk, DiskOp, SimDisk, sleep, trace_id, unix_now};
use crate::store::{Account, Delivered, Packing, Store, StoreConfig, StoreError};

const ENOSPC: i32 = 28;
const EACCES: i32 = 13;
const EMLINK: i32 = 31;

/// Settling only when the test says so.
pub(super) fn by_hand(packing: Packing) -> StoreConfig {
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
                assert!(matches!(first, Ok(_) | Err(StoreError::Full)), "{first:?}");
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

/// What stands where a folder of account 1 is to be made, or moved to.
#[derive(Clone, Copy, Debug)]
enum InTheWay {
    File,
    /// A file called `cur` in a folder that another program has made.
    CurIsAFile,
    MarkerIsADirectory,
    FullDirectory,
    /// A folder of ours, copied by hand: its marker says another mailbox.
    Copy,
}

impl InTheWay {
    async fn put(self, disk: &Disk, at: &Path, id: MailboxId) {
        let root = at.parent().expect("an account");
        disk.create_dir_all(root).await.expect("makes");
        let made = match self {
            InTheWay::File => disk.write_new(at, b"mine".to_vec()).await,
            InTheWay::CurIsAFile => {
                disk.create_dir_all(at).await.expect("makes");
                disk.write_new(&at.join("cur"), b"mine".to_vec()).await
            }
            InTheWay::MarkerIsADirectory => {
                let marker = format!("palomar.mailbox-{id}");
                disk.create_dir_all(&at.join(marker)).await
            }
            InTheWay::FullDirectory => disk.create_dir_all(&at.join("cur/mine")).await,
            InTheWay::Copy => {
                disk.create_dir_all(at).await.expect("makes");
                disk.write_new(&at.join("palomar.mailbox-1"), Vec::new())
                    .await
            }
        };
        made.expect("is put in the way");
    }
}

/// A file, or another program's folder, in the place of one of ours kept the whole shard from
/// settling, and the next start from starting.
#[test]
fn what_is_in_the_way_is_put_aside() {
    use InTheWay::*;
    let cases = [
        (File, true),
        (CurIsAFile, true),
        (MarkerIsADirectory, true),
        (File, false),
        (FullDirectory, false),
        (Copy, false),
    ];
    for (case, make) in cases {
        for restart in [false, true] {
            println!("{case:?}, make: {make}, restart: {restart}");
            let sim = SimDisk::new(1);
            let check = async |store: &Store| {
                let new = open(&ana(store).await, "New").await;
                let want = format!("Delivered-To: 1\r\n{}", long(100));
                assert_eq!(text(&new, new.uids()[0]).await, want);
            };
            life_as(
                &sim,
                by_hand(Packing::Plain),
                move |store, disk| async move {
                    let of = ana(&store).await;
                    let way = Path::new(ROOT).join("mail/1/1/.New");
                    if make {
                        let id = of.create("New", None).await.expect("creates");
                        case.put(&disk, &way, id).await;
                        deliver(&store, 1, "New", &long(100)).await;
                    } else {
                        let id = of.create("Old", None).await.expect("creates");
                        deliver(&store, 1, "Old", &long(100)).await;
                        store.checkpoint().await.expect("a checkpoint");
                        case.put(&disk, &way, id).await;
                        of.rename("Old", "New").await.expect("renames");
                    }
                    deliver(&store, 2, "INBOX", &long(100)).await;
                    if !restart {
                        store.settle_all().await.expect("settles");
                        assert_eq!(store.stats().unsettled, 0);
                        store.checkpoint().await.expect("a checkpoint");
                        check(&store).await;
                    }
                },
            );
            life_as(&sim, config(1), move |store, disk| async move {
                check(&store).await;
                let root = names(&disk, &Path::new(ROOT).join("mail/1/1")).await;
                let folder = names(&disk, &Path::new(ROOT).join("mail/1/1/.New")).await;
                let mut all = root.iter().chain(&folder);
                assert!(all.any(|n| n.starts_with("palomar-aside-")), "{root:?}");
            });
        }
    }
}

/// A tree that cannot be changed kept everybody's mail of the shard waiting.
#[test]
fn a_tree_that_cannot_be_settled_keeps_its_own_partition_waiting() {
    let sim = SimDisk::new(1);
    let failing = sim.clone();
    life_as(
        &sim,
        by_hand(Packing::Plain),
        move |store, disk| async move {
            for owner in [1, 2] {
                deliver(&store, owner, "INBOX", &long(100)).await;
            }
            store.checkpoint().await.expect("a checkpoint");
            ana(&store)
                .await
                .create("New", None)
                .await
                .expect("creates");
            deliver(&store, 2, "INBOX", &long(200)).await;
            let deny = || failing.fail(DiskOp::Rename, "/mail/1/1/", 1, EACCES);
            let refuse = || {
                failing.fail(DiskOp::CreateDir, "/mail/1/1/.New/cur", 1, EACCES);
                failing.fail(DiskOp::List, "/mail/1/1/.New", 1, EACCES);
                deny();
            };
            for _ in 0..2 {
                refuse();
                let settled = store.settle_all().await;
                assert!(
                    matches!(settled, Err(StoreError::Damaged { .. })),
                    "{settled:?}"
                );
                assert_eq!(store.stats().stuck, 1);
            }
            // The other's is settled, and what it has in the journal covered.
            let cur = Path::new(ROOT).join("mail/2/2/cur");
            assert_eq!(names(&disk, &cur).await.len(), 2);
            let before = store.stats().checkpoints;
            refuse();
            let checkpoint = store.checkpoint().await;
            assert!(matches!(checkpoint, Err(StoreError::Damaged { .. })));
            assert_eq!(store.stats().checkpoints, before + 1);
            failing.restart();
            store.checkpoint().await.expect("nothing is in the way");
            let stats = store.stats();
            assert_eq!((stats.stuck, stats.unsettled), (0, 0));
        },
    );
}

/// A large tree was renamed with three directory syncs for each folder.
#[test]
fn folders_are_renamed_together() {
    const FOLDERS: u64 = 300;
    for delete in [false, true] {
        let sim = SimDisk::new(1);
        let counting = sim.clone();
        life_as(
            &sim,
            by_hand(Packing::Plain),
            move |store, disk| async move {
                let of = ana(&store).await;
                for n in 0..FOLDERS {
                    of.create(&format!("Old/{n}"), None).await.expect("creates");
                }
                deliver(&store, 1, "Old/7", &long(100)).await;
                store.checkpoint().await.expect("a checkpoint");
                if delete {
                    for n in 0..FOLDERS {
                        of.delete(&format!("Old/{n}")).await.expect("deletes");
                    }
                } else {
                    of.rename("Old", "New").await.expect("renames");
                }
                let before = counting.counters().dir_syncs;
                store.settle_all().await.expect("settles");
                let syncs = counting.counters().dir_syncs - before;
                assert!(syncs < FOLDERS + 20, "{syncs} of {FOLDERS} folders");
                let dirs = names(&disk, &Path::new(ROOT).join("mail/1/1")).await;
                assert!(!dirs.iter().any(|name| name.starts_with(".Old.")));
                if !delete {
                    let view = open(&of, "New/7").await;
                    let want = format!("Delivered-To: 1\r\n{}", long(100));
                    assert_eq!(text(&view, view.uids()[0]).await, want);
                }
            },
        );
        for seed in 0..6 {
            let cut = sim.power_cut(seed);
            life_as(&cut, config(1), move |store, _| async move {
                let of = ana(&store).await;
                assert_eq!(of.find("New/7").is_some(), !delete);
                if !delete {
                    let view = open(&of, "New/7").await;
                    let want = format!("Delivered-To: 1\r\n{}", long(100));
                    assert_eq!(text(&view, view.uids()[0]).await, want);
                }
                assert_eq!(store.stats().files_missing, 0);
            });
        }
    }
}

/// Names that are another folder's old ones, renamed in one go and cut off at every place.
#[test]
fn folders_that_follow_each_other_are_found_again() {
    for seed in 0..30 {
        let sim = SimDisk::new(seed);
        let halting = sim.clone();
        life_as(&sim, by_hand(Packing::Plain), move |store, _| async move {
            let of = ana(&store).await;
            for name in ["A", "B", "C"] {
                of.create(name, None).await.expect("creates");
                deliver(&store, 1, name, &format!("Subject: {name}\r\n\r\n")).await;
            }
            store.checkpoint().await.expect("a checkpoint");
            for (from, to) in [("A", "T"), ("B", "A"), ("C", "B"), ("T", "C")] {
                of.rename(from, to).await.expect("renames");
            }
            halting.stop_after(seed);
            let _ = store.settle_all().await;
        });
        let cut = sim.power_cut(seed);
        life_as(&cut, config(1), move |store, _| async move {
            let of = ana(&store).await;
            for (name, was) in [("A", "B"), ("B", "C"), ("C", "A")] {
                let view = open(&of, name).await;
                let text = text(&view, view.uids()[0]).await;
                assert!(text.contains(&format!("Subject: {was}")), "{seed} {name}");
            }
        });
    }
}

/// A tree that cannot be changed: the start says which, and comes through once it can.
#[test]
fn a_start_says_what_is_in_its_way() {
    let sim = SimDisk::new(1);
    life_as(&sim, by_hand(Packing::Plain), |store, _| async move {
        ana(&store)
            .await
            .create("New", None)
            .await
            .expect("creates");
        deliver(&store, 1, "INBOX", &long(100)).await;
    });
    run(async move {
        let disk = Disk::sim(sim.clone());
        sim.fail(DiskOp::CreateDir, "/mail/1/1/cur", 1, EACCES);
        sim.fail(DiskOp::List, "/mail/1/1", 1, EACCES);
        let refused = Store::recover_all(config(1), &disk).await;
        let why = refused.map(drop).expect_err("is refused").to_string();
        assert!(
            why.contains("/data/mail/1/1") && why.contains("move it away"),
            "{why}"
        );
        sim.restart();
        recover(&disk, 1).await;
    });
}

/// What the last step of a start could not settle was let go by the journal all the same, which
/// alone had it.
#[test]
fn a_start_that_cannot_settle_all_keeps_the_journal() {
    let sim = SimDisk::new(1);
    let cut = Rc::new(RefCell::new(None));
    let (of_life, to) = (sim.clone(), cut.clone());
    life_as(&sim, by_hand(Packing::Plain), move |store, _| async move {
        let remote = store.remote();
        let body = message(&remote, &long(100)).await;
        let owners = vec![target(1, "INBOX"), target(2, "INBOX")];
        let queued = remote.deliver(body, owners, unix_now(), trace_id(), soon());
        assert_eq!(queued.await, Ok(Delivered::Queued));
        // Nobody has it yet.
        to.replace(Some(of_life.power_cut(1)));
    });
    let sim = cut.take().expect("was cut");
    let refused = sim.clone();
    run(async move {
        let disk = Disk::sim(refused.clone());
        for _ in 0..2 {
            refused.fail(DiskOp::Write, "/queue-", 1, EACCES);
            let outcome = Store::recover_all(config(1), &disk).await;
            let why = outcome.map(drop).expect_err("is refused").to_string();
            assert!(
                why.contains("/queue-") && why.contains("move it away"),
                "{why}"
            );
        }
        refused.restart();
    });
    for sim in [sim.power_cut(1), sim] {
        life_as(&sim, config(1), |store, _| async move {
            for owner in [1, 2] {
                let of = store.remote().account(account(owner)).await;
                let of = of.expect("opens");
                while of.quota().messages == 0 {
                    sleep(Duration::from_millis(5)).await;
                }
                let inbox = open(&of, "INBOX").await;
                let want = format!("Delivered-To: {owner}\r\n{}", long(100));
                assert_eq!(text(&inbox, inbox.uids()[0]).await, want);
            }
        });
    }
}
