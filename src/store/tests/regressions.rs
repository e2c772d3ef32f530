//! Bugs that seeds of [`world`](super::world) and reviews have found, each told once more in the
//! fewest steps that show it.

use std::path::Path;
use std::sync::atomic::Ordering;

use futures_lite::future::{self, or};

use super::failures::texts;
use super::{
    ROOT, account, config, letter, life, message, names, recover, run, soon, target, try_message,
};
use crate::base::{Deadline, ShardId, Uid};
use crate::runtime::{Disk, DiskOp, SimDisk, jump_clock, now, sleep, trace_id, unix_now};
use crate::store::{
    Access, Account, Delivered, FlagChange, FlagMode, Flags, NewMessage, Remote, Store, StoreError,
    View,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EMLINK: i32 = 31;

async fn deliver(remote: &Remote, owners: &[u64], text: &str) -> Result<Delivered, StoreError> {
    let body = message(remote, text).await;
    let targets = owners.iter().map(|owner| target(*owner, "INBOX")).collect();
    remote
        .deliver(body, targets, unix_now(), trace_id(), soon())
        .await
}

async fn inbox(store: &Store, owner: u64) -> (Account, View) {
    let ana = store.remote().account(account(owner)).await.expect("opens");
    let id = ana.find("INBOX").expect("INBOX");
    let view = ana.select(id, Access::ReadWrite).await.expect("selects");
    (ana, view)
}

fn seen() -> FlagChange {
    FlagChange {
        mode: FlagMode::Add,
        flags: Flags::SEEN,
        keywords: vec!["Work".to_owned()],
    }
}

/// One session's EXPUNGE (or MOVE) was on its way to the disk when another's for the same message
/// was answered: the power went, and the message was back.
#[test]
fn removed_by_another_is_told_when_it_is_durable() {
    for seed in 0..12 {
        let sim = SimDisk::new(seed);
        let disk = sim.clone();
        let cut = run(async move {
            let disk_now = Disk::sim(disk.clone());
            let recovered = recover(&disk_now, 1).await;
            let store = Store::open(ShardId(0), &recovered, disk_now)
                .await
                .expect("opens");
            deliver(&store.remote(), &[1], &letter(1))
                .await
                .expect("delivers");
            let (ana, one) = inbox(&store, 1).await;
            let (_, two) = inbox(&store, 1).await;
            let first = async {
                one.expunge(&[Uid(1)]).await.expect("expunges");
                future::pending().await
            };
            let second = async {
                match seed % 2 {
                    0 => assert_eq!(two.expunge(&[Uid(1)]).await, Ok(Vec::new())),
                    _ => {
                        let trash = ana.find("Trash").expect("Trash");
                        let moved = two.move_to(&[Uid(1)], trash).await.expect("moves");
                        assert_eq!(moved.from, []);
                    }
                }
            };
            or(first, second).await;
            disk.power_cut(seed)
        });
        life(&cut, |store| async move {
            assert_eq!(texts(&store, 1, "INBOX").await, [""; 0]);
        });
    }
}

/// The folder of a purged account was buried when the process was killed: replay looked for its
/// index where it was no more, and the store did not start.
#[test]
fn a_start_after_a_purge_finds_what_is_buried() {
    let sim = SimDisk::new(1);
    life(&sim, |store| async move {
        deliver(&store.remote(), &[1], &letter(1))
            .await
            .expect("delivers");
        let (_, view) = inbox(&store, 1).await;
        view.store(&[Uid(1)], &seen(), None).await.expect("stores");
        store.checkpoint().await.expect("a checkpoint");
        view.expunge(&[Uid(1)]).await.expect("expunges");
        store
            .remote()
            .purge(account(1), soon())
            .await
            .expect("purges");
        store.settle_all().await.expect("settles");
    });
    life(&sim, |store| async move {
        let back = store.remote().account(account(1)).await;
        assert_eq!(back.map(drop), Err(StoreError::MailboxGone));
    });
}

/// A hand-over from an outbox, a last log-in and a session that was still open made the account
/// anew after its purge.
#[test]
fn what_comes_late_does_not_bring_a_purged_account_back() {
    let sim = SimDisk::new(2);
    life(&sim, |store| async move {
        let remote = store.remote();
        let (ana, _) = inbox(&store, 2).await;
        let sent = deliver(&remote, &[1, 2], &letter(1)).await;
        assert_eq!(sent, Ok(Delivered::Queued));
        remote.purge(account(2), soon()).await.expect("purges");
        let gone = Err(StoreError::MailboxGone);
        assert_eq!(ana.create("Again", None).await.map(drop), gone);
        assert_eq!(ana.subscribe("INBOX", true).await, gone);
        let value = crate::store::ValueChange {
            account: Some(ana.id()),
            namespace: "last-login".to_owned(),
            key: b"imap".to_vec(),
            value: Some(b"now".to_vec()),
        };
        let partition = account(2).partition;
        remote
            .set_values(partition, vec![value], soon())
            .await
            .expect("is dropped");
        assert_eq!(ana.value("last-login", b"imap"), None);
        while store.stats().outbox > 0 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(texts(&store, 1, "INBOX").await.len(), 1);
        assert_eq!(remote.account(account(2)).await.map(drop), gone);
        remote
            .purge(account(2), soon())
            .await
            .expect("is purged already");
    });
}

/// UIDVALIDITY follows the clock: set to after 2106, or before 1970, it used them up.
#[test]
fn a_clock_set_to_nonsense_does_not_use_up_uidvalidities() {
    const YEARS: i64 = 365 * 24 * 3_600_000;
    life(&SimDisk::new(3), |store| async move {
        let (ana, _) = inbox(&store, 1).await;
        let mut last = 0;
        for (n, years) in [120, -240, 120, 75, -75].into_iter().enumerate() {
            jump_clock(years * YEARS);
            let made = ana.create(&format!("f{n}"), None).await.expect("creates");
            let uidvalidity = ana.status(made).expect("status").uidvalidity.0;
            assert!(uidvalidity > last, "{uidvalidity} after {last}");
            assert!(uidvalidity < u32::MAX - 100_000_000);
            last = uidvalidity;
        }
    });
}

/// A power cut in the middle of renaming leaves a file under two names, or under the wrong one:
/// a later start renamed one to the other, which does nothing, and both stayed.
#[test]
fn a_file_under_two_names_is_one_after_the_next_start() {
    let cur = format!("{ROOT}/mail/1/1/cur");
    for case in 0..3 {
        let sim = SimDisk::new(4);
        let (disk, dir) = (Disk::sim(sim.clone()), cur.clone());
        life(&sim, move |store| async move {
            deliver(&store.remote(), &[1], &letter(1))
                .await
                .expect("delivers");
            store.checkpoint().await.expect("a checkpoint");
            let dir = Path::new(&dir);
            let before = names(&disk, dir).await.remove(0);
            let (_, view) = inbox(&store, 1).await;
            view.store(&[Uid(1)], &seen(), None).await.expect("stores");
            store.settle_all().await.expect("settles");
            let after = names(&disk, dir).await.remove(0);
            if case < 2 {
                disk.link(&dir.join(after), &dir.join(before))
                    .await
                    .expect("links");
            }
            if case == 1 {
                view.expunge(&[Uid(1)]).await.expect("expunges");
            }
            if case == 2 {
                // The change was taken back, and the renaming with it was lost.
                let change = FlagChange {
                    mode: FlagMode::Replace,
                    flags: Flags::NONE,
                    keywords: Vec::new(),
                };
                view.store(&[Uid(1)], &change, None).await.expect("stores");
            }
        });
        let (disk, dir) = (Disk::sim(sim.clone()), cur.clone());
        life(&sim, move |_| async move {
            let left = names(&disk, Path::new(&dir)).await;
            let letters: Vec<&str> = left.iter().filter_map(|n| n.split(":2,").nth(1)).collect();
            let want: &[&str] = [&["Sa"][..], &[], &[""]][case];
            assert_eq!(letters, want, "case {case}");
        });
    }
}

/// A sync of the journal failed, the process was started again and read from memory what the disk
/// did not have; then the power went, and files were left of a record that never was.
#[test]
fn what_only_memory_has_of_the_journal_is_not_replayed() {
    for seed in 0..12 {
        let sim = SimDisk::new(seed);
        let failing = sim.clone();
        life(&sim, move |store| async move {
            deliver(&store.remote(), &[1], &letter(1))
                .await
                .expect("delivers");
            // The next slot is made meanwhile; its syncs are not meant.
            sleep(std::time::Duration::from_secs(20)).await;
            failing.fail(DiskOp::Fdatasync, "/slot-", 1, EIO);
            let second = deliver(&store.remote(), &[1], &letter(2)).await;
            assert_eq!(second, Err(StoreError::Poisoned));
        });
        sim.restart();
        let cut = sim.clone();
        let cut = run(async move {
            let disk = Disk::sim(cut.clone());
            cut.halt_after(40 + seed * 20);
            or(async { recover(&disk, 1).await }.map_drop(), cut.halted()).await;
            cut.power_cut(seed)
        });
        let disk = Disk::sim(cut.clone());
        life(&cut, |store| async move {
            let there = texts(&store, 1, "INBOX").await.len();
            store.checkpoint().await.expect("a checkpoint");
            let cur = format!("{ROOT}/mail/1/1/cur");
            assert_eq!(names(&disk, Path::new(&cur)).await.len(), there);
        });
    }
}

/// Waits for its end without what it answers.
trait MapDrop: Future + Sized {
    async fn map_drop(self) {
        drop(self.await);
    }
}

impl<F: Future> MapDrop for F {}

/// Thirty-two messages that nobody could place kept every worker of the outbox.
#[test]
fn what_cannot_be_placed_does_not_keep_others_waiting() {
    let sim = SimDisk::new(5);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        let remote = store.remote();
        (1..=4_000).for_each(|nth| failing.fail(DiskOp::Link, "/spool/", nth, EIO));
        for n in 0..60 {
            // Each owner of a spooled body gets a link of its own: that fails.
            let mut incoming = remote.incoming_to_spool();
            incoming
                .write(letter(n).as_bytes())
                .await
                .expect("is taken");
            let body = incoming.finish().await.expect("is taken");
            let to = vec![target(1, "INBOX"), target(2, "INBOX")];
            let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
            assert_eq!(sent.await, Ok(Delivered::Queued));
        }
        let sent = deliver(&remote, &[1, 2], &letter(100)).await;
        assert_eq!(sent, Ok(Delivered::Queued));
        let begun = now();
        for owner in [1, 2] {
            while texts(&store, owner, "INBOX").await != [letter(100)] {
                sleep(std::time::Duration::from_millis(20)).await;
                assert!(
                    now() - begun < std::time::Duration::from_secs(30),
                    "kept waiting"
                );
            }
        }
        failing.restart();
        while store.stats().outbox > 0 {
            sleep(std::time::Duration::from_secs(1)).await;
        }
        for owner in [1, 2] {
            assert_eq!(texts(&store, owner, "INBOX").await.len(), 61);
        }
    });
}

/// One owner that could not be served kept the others of the same message waiting.
#[test]
fn an_owner_that_fails_does_not_keep_the_next_waiting() {
    let sim = SimDisk::new(6);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        let remote = store.remote();
        for owner in [1, 2] {
            deliver(&remote, &[owner], &letter(owner))
                .await
                .expect("delivers");
        }
        let mut incoming = remote.incoming_to_spool();
        incoming
            .write(letter(3).as_bytes())
            .await
            .expect("is taken");
        let body = incoming.finish().await.expect("is taken");
        // The name that is made for the first owner when the message is taken, and the one that
        // is made at the first attempt for want of it, and no other.
        failing.fail(DiskOp::Link, "/spool/", 1, EIO);
        failing.fail(DiskOp::Link, "/spool/", 3, EIO);
        let to = vec![target(1, "INBOX"), target(2, "INBOX")];
        let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
        assert_eq!(sent.await, Ok(Delivered::Queued));
        while texts(&store, 2, "INBOX").await.len() < 2 {
            assert_eq!(texts(&store, 1, "INBOX").await.len(), 1);
            sleep(std::time::Duration::from_millis(1)).await;
        }
        while texts(&store, 1, "INBOX").await.len() < 2 {
            sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

/// A shard whose checkpoint hung kept every other shard's waiting for ever.
#[test]
fn a_checkpoint_does_not_wait_for_another_shard_for_ever() {
    let sim = SimDisk::new(7);
    run(async move {
        let disk = Disk::sim(sim);
        let recovered = Store::recover_all(config(1), &disk)
            .await
            .expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk)
            .await
            .expect("opens");
        deliver(&store.remote(), &[1], &letter(1))
            .await
            .expect("delivers");
        recovered.checkpointing.store(true, Ordering::Release);
        assert_eq!(store.checkpoint().await, Err(StoreError::Late));
        recovered.checkpointing.store(false, Ordering::Release);
        store.checkpoint().await.expect("a checkpoint");
    });
}

/// A delivery that was given up before it had a record left its spool file until the next start.
#[test]
fn a_delivery_given_up_leaves_no_spool_file() {
    let sim = SimDisk::new(8);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        let remote = store.remote();
        let body = try_message(&remote, &"0123456789abcdef\r\n".repeat(20_000)).await;
        let body = body.expect("is taken");
        let past = Deadline(now());
        let sent = remote.deliver(body, vec![target(1, "INBOX")], unix_now(), trace_id(), past);
        assert_eq!(sent.await, Err(StoreError::Late));
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(names(&disk, &Path::new(ROOT).join("spool")).await, [""; 0]);
    });
}

/// The folder was moved, and its path noted a little later: who opened it in between was told
/// that it is damaged.
#[test]
fn a_mailbox_is_opened_while_its_folder_is_renamed() {
    for seed in 0..20 {
        life(&SimDisk::new(seed), |store| async move {
            let (ana, _) = inbox(&store, 1).await;
            ana.create("One", None).await.expect("creates");
            let mut to = target(1, "One");
            to.prefix.clear();
            let body = message(&store.remote(), &letter(1)).await;
            let remote = store.remote();
            let sent = remote.deliver(body, vec![to], unix_now(), trace_id(), soon());
            sent.await.expect("delivers");
            store.checkpoint().await.expect("a checkpoint");
            ana.rename("One", "Two").await.expect("renames");
            let settling = async {
                store.settle_all().await.expect("settles");
            };
            let reading = async {
                let two = ana.find("Two").expect("is there");
                let view = ana.select(two, Access::ReadOnly).await.expect("selects");
                let body = view.body(Uid(1)).await.expect("a body");
                body.read(0..body.len()).await.expect("reads");
            };
            future::zip(settling, reading).await;
        });
    }
}

/// Making the file `format` found no room for its content; it got its name all the same, and no
/// start went by it any more.
#[test]
fn a_first_start_on_a_full_disk_can_be_done_again() {
    for op in [DiskOp::Write, DiskOp::Truncate, DiskOp::Fsync] {
        let sim = SimDisk::new(9);
        sim.fail(op, "/format", 1, ENOSPC);
        let disk = Disk::sim(sim.clone());
        let refused = run(async move { Store::recover_all(config(1), &disk).await.map(drop) });
        assert!(refused.is_err(), "{op}");
        life(&sim, |store| async move {
            deliver(&store.remote(), &[1], &letter(1))
                .await
                .expect("delivers");
        });
    }
}

/// A directory was moved and its sync failed: the next attempt found it gone, said that it is
/// missing, and never synced it.
#[test]
fn a_folder_whose_move_was_not_synced_is_synced_again() {
    let sim = SimDisk::new(10);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        let (ana, _) = inbox(&store, 1).await;
        ana.create("One", None).await.expect("creates");
        store.checkpoint().await.expect("a checkpoint");
        failing.fail(DiskOp::SyncDir, "/mail/1/1", 2, EIO);
        ana.rename("One", "Two").await.expect("renames");
        while store.stats().settle_failures == 0 {
            sleep(std::time::Duration::from_millis(1)).await;
        }
        let syncs = failing.counters().dir_syncs;
        store.settle_all().await.expect("settles");
        assert!(failing.counters().dir_syncs > syncs);
        assert_eq!(store.stats().files_missing, 0);
    });
}

/// On a full disk the folder that had just been deleted went at once; the start after a power cut
/// copied from it once more what had been copied before, found nothing, and lost the copy. Or it
/// did not start at all.
#[test]
fn room_is_not_made_of_what_a_start_still_needs() {
    for seed in 0..8 {
        let sim = SimDisk::new(seed);
        let full = sim.clone();
        life(&sim, move |store| async move {
            let (ana, _) = inbox(&store, 1).await;
            ana.create("One", None).await.expect("creates");
            let remote = store.remote();
            let mut to = target(1, "One");
            to.prefix.clear();
            let body = message(&remote, &letter(1)).await;
            let sent = remote.deliver(body, vec![to], unix_now(), trace_id(), soon());
            sent.await.expect("delivers");
            store.checkpoint().await.expect("a checkpoint");
            let one = ana.find("One").expect("is there");
            let view = ana.select(one, Access::ReadWrite).await.expect("selects");
            let trash = ana.find("Trash").expect("Trash");
            view.copy(&[Uid(1)], trash).await.expect("copies");
            ana.delete("One").await.expect("deletes");
            store.settle_all().await.expect("settles");
            full.leave_room(0);
            deliver(&remote, &[1], &letter(2)).await.expect("delivers");
            sleep(std::time::Duration::from_secs(10)).await;
            assert!(store.stats().settle_failures > 1);
        });
        life(&sim.power_cut(seed), |store| async move {
            let (ana, _) = inbox(&store, 1).await;
            let trash = ana.find("Trash").expect("Trash");
            let view = ana.select(trash, Access::ReadOnly).await.expect("selects");
            let body = view.body(Uid(1)).await.expect("a body");
            let text = body.read(0..body.len()).await.expect("reads");
            assert_eq!(text, letter(1).into_bytes());
            assert_eq!(store.stats().misfits, 0);
        });
    }
}

/// A copy that the file system gave no further name to got a file of its own: without room, half
/// of one, under its name, and the next attempt took it for whole.
#[test]
fn half_a_copy_gets_no_name() {
    let sim = SimDisk::new(11);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        deliver(&store.remote(), &[1], &letter(1))
            .await
            .expect("delivers");
        store.checkpoint().await.expect("a checkpoint");
        let (ana, view) = inbox(&store, 1).await;
        failing.fail(DiskOp::Link, "/cur/", 1, EMLINK);
        failing.fail(DiskOp::Write, "/tmp/", 1, ENOSPC);
        let trash = ana.find("Trash").expect("Trash");
        view.copy(&[Uid(1)], trash).await.expect("copies");
        while store.stats().settle_failures == 0 {
            sleep(std::time::Duration::from_millis(1)).await;
        }
        store.settle_all().await.expect("settles");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(texts(&store, 1, "Trash").await, [letter(1)]);
    });
}

/// A read that failed once made an index anew, from less than there was.
#[test]
fn an_index_is_read_again_before_it_is_made_anew() {
    let sim = SimDisk::new(12);
    let failing = sim.clone();
    life(&sim, |store| async move {
        deliver(&store.remote(), &[1], &letter(1))
            .await
            .expect("delivers");
        store.checkpoint().await.expect("a checkpoint");
    });
    life(&sim, move |store| async move {
        failing.fail(DiskOp::Read, "/palomar.log.", 1, EIO);
        inbox(&store, 1).await;
        assert_eq!(store.stats().indexes_damaged, 0);
    });
}

/// A spool file that could not be removed, and a second name of one that could not be synced, were
/// forgotten, and stayed until the next start.
#[test]
fn a_spool_file_that_stays_is_tried_again() {
    let sim = SimDisk::new(13);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        let disk = Disk::sim(failing.clone());
        let spool = Path::new(ROOT).join("spool");
        let large = "0123456789abcdef\r\n".repeat(20_000);
        failing.fail(DiskOp::Fsync, "/spool/", 1, EIO);
        failing.fail(DiskOp::Unlink, "/spool/", 1, EIO);
        let refused = try_message(&store.remote(), &large).await;
        assert!(refused.is_err());
        for _ in 0..2 {
            sleep(std::time::Duration::from_secs(3)).await;
        }
        assert_eq!(names(&disk, &spool).await, [""; 0]);

        let remote = store.remote();
        let send = async |body| {
            let to = vec![target(1, "INBOX"), target(2, "INBOX")];
            let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
            sent.await
        };
        // The names of its owners.
        let body = message(&remote, &large).await;
        failing.fail(DiskOp::SyncDir, "/spool", 1, EIO);
        assert!(matches!(send(body).await, Err(StoreError::Damaged { .. })));
        for _ in 0..2 {
            sleep(std::time::Duration::from_secs(3)).await;
        }
        assert_eq!(names(&disk, &spool).await, [""; 0]);

        // And those made for want of them.
        let body = message(&remote, &large).await;
        (1..=2).for_each(|nth| failing.fail(DiskOp::Link, "/spool/", nth, EIO));
        failing.fail(DiskOp::SyncDir, "/spool", 2, EIO);
        assert_eq!(send(body).await, Ok(Delivered::Queued));
        while store.stats().outbox > 0 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
        for _ in 0..2 {
            store.checkpoint().await.expect("a checkpoint");
        }
        assert_eq!(names(&disk, &spool).await, [""; 0]);
    });
}

/// What a start could not remove stayed until the next one.
#[test]
fn what_a_start_cannot_remove_is_tried_again() {
    let sim = SimDisk::new(15);
    life(&sim, move |store| async move {
        let disk = store.remote().shard().disk.clone();
        let mut incoming = store.remote().incoming_to_spool();
        let text = letter(1);
        incoming.write(text.as_bytes()).await.expect("written");
        let message = incoming.finish().await.expect("finished");
        let grave = Path::new(ROOT).join("removed/P1A9Q1/cur");
        disk.create_dir_all(&grave).await.expect("a grave");
        // Held to the end.
        std::mem::forget(message);
    });
    sim.fail(DiskOp::Unlink, "/spool/", 1, EIO);
    sim.fail(DiskOp::RemoveDir, "/removed/", 1, EIO);
    life(&sim, move |store| async move {
        let disk = store.remote().shard().disk.clone();
        let there = async |dir| names(&disk, &Path::new(ROOT).join(dir)).await.len();
        assert_eq!(there("spool").await, 1);
        sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!((there("spool").await, there("removed").await), (0, 0));
    });
}

/// A file that was not under its name was found, and could not be renamed: nobody tried again.
#[test]
fn a_name_that_could_not_be_given_is_given_later() {
    let sim = SimDisk::new(14);
    let failing = sim.clone();
    life(&sim, move |store| async move {
        let disk = Disk::sim(failing.clone());
        let cur = Path::new(ROOT).join("mail/1/1/cur");
        deliver(&store.remote(), &[1], &letter(1))
            .await
            .expect("delivers");
        store.checkpoint().await.expect("a checkpoint");
        let (_, view) = inbox(&store, 1).await;
        let name = names(&disk, &cur).await.remove(0);
        let other = cur.join(format!("{name}F"));
        disk.rename(&cur.join(name), &other).await.expect("renames");
        view.store(&[Uid(1)], &seen(), None).await.expect("stores");
        failing.fail(DiskOp::Rename, "/cur/", 2, EIO);
        assert!(store.settle_all().await.is_err());
        store.settle_all().await.expect("settles");
        let name = names(&disk, &cur).await.remove(0);
        assert!(name.ends_with(":2,Sa"), "{name}");
    });
}

/// Flags changed while a checkpoint was made, after its first look at names and before its cut: the
/// file got its letters, and no index that was durable knew. After the next start the flags were
/// changed back, to what that index had: the file kept its letters.
#[test]
fn a_name_given_after_a_cut_follows_its_flags_back() {
    for seed in 0..24 {
        let sim = SimDisk::new(seed);
        life(&sim, move |store| async move {
            for owner in [1, 2] {
                let sent = deliver(&store.remote(), &[owner], &letter(1)).await;
                sent.expect("delivers");
            }
            store.checkpoint().await.expect("a checkpoint");
            let (_, view) = inbox(&store, 1).await;
            // What is renamed for this partition takes time, between the look and the cut.
            let (_, other) = inbox(&store, 2).await;
            other.store(&[Uid(1)], &seen(), None).await.expect("stores");
            let change = async {
                view.store(&[Uid(1)], &seen(), None).await.expect("stores");
            };
            let (made, ()) = future::zip(store.checkpoint(), change).await;
            made.expect("a checkpoint");
        });
        life(&sim, move |store| async move {
            let disk = store.remote().shard().disk.clone();
            let (_, view) = inbox(&store, 1).await;
            let back = FlagChange {
                mode: FlagMode::Remove,
                ..seen()
            };
            view.store(&[Uid(1)], &back, None).await.expect("stores");
            store.settle_all().await.expect("settles");
            let name = names(&disk, &Path::new(ROOT).join("mail/1/1/cur")).await;
            assert!(name[0].ends_with(":2,"), "{name:?} of {seed}");
        });
    }
}

/// Power went when the new name of a file was durable, and that the old one was gone was not: the
/// next start wrote it anew, its rename did nothing between two names of one file, and what was in
/// `tmp` stayed.
#[test]
fn a_file_under_both_names_leaves_nothing_in_tmp() {
    for seed in 0..8 {
        let sim = SimDisk::new(seed);
        life(&sim, async |store: Store| {
            inbox(&store, 1).await;
            store.checkpoint().await.expect("a checkpoint");
            for n in 0..4 {
                let sent = deliver(&store.remote(), &[1], &letter(n)).await;
                sent.expect("delivers");
            }
            store.settle_all().await.expect("settles");
            let disk = store.remote().shard().disk.clone();
            let cur = Path::new(ROOT).join("mail/1/1/cur");
            disk.sync_dir(&cur).await.expect("synced");
        });
        life(&sim.power_cut(seed), move |store| async move {
            let disk = store.remote().shard().disk.clone();
            let tmp = Path::new(ROOT).join("mail/1/1/tmp");
            assert_eq!(names(&disk, &tmp).await, [""; 0], "seed {seed}");
        });
    }
}

/// A keyword that a client named twice was summed twice, and the index, which has it once, was
/// said to be damaged at the next start.
#[test]
fn a_keyword_named_twice_is_summed_once() {
    let twice = || ["Work", "wORK", "Work"].map(str::to_owned).to_vec();
    let sim = SimDisk::new(15);
    life(&sim, move |store| async move {
        let remote = store.remote();
        deliver(&remote, &[1], &letter(1)).await.expect("delivers");
        let (ana, view) = inbox(&store, 1).await;
        let new = NewMessage {
            message: message(&remote, &letter(2)).await,
            flags: Flags::NONE,
            keywords: twice(),
            internal_date: None,
            trace: None,
        };
        let id = ana.find("INBOX").expect("INBOX");
        ana.append(id, vec![new]).await.expect("appends");
        for mode in [FlagMode::Add, FlagMode::Replace] {
            let change = FlagChange {
                mode,
                flags: Flags::NONE,
                keywords: twice(),
            };
            view.store(&[Uid(1)], &change, None).await.expect("stores");
            let (_, view) = inbox(&store, 1).await;
            for uid in [Uid(1), Uid(2)] {
                assert_eq!(view.row(uid).expect("a row").keywords.len(), 1);
            }
            let (kept, anew) = view.checksums();
            assert_eq!(kept, anew);
        }
    });
    life(&sim, |store| async move {
        inbox(&store, 1).await;
        assert_eq!(store.stats().indexes_damaged, 0);
    });
}
