//! Message files that are shared between owners, and files that are compressed.

use std::path::{Path, PathBuf};

use super::walk::{deliver, open, text};
use super::{ROOT, account, config, life_as, message, names, soon, target};
use crate::runtime::{Disk, DiskOp, SimDisk, trace_id, unix_now};
use crate::store::{Account, Delivered, Packing, Store, StoreConfig};

fn packing(pack_old: bool) -> StoreConfig {
    StoreConfig {
        packing: Packing::Zstd,
        pack_old,
        ..config(1)
    }
}

async fn ana(store: &Store) -> Account {
    store.remote().account(account(1)).await.expect("opens")
}

/// The one message file in INBOX of an account, and its length.
async fn file_of(disk: &Disk, account: u64) -> (PathBuf, u64) {
    let cur = Path::new(ROOT).join(format!("mail/{}/{account}/cur", account % 4));
    let all = names(disk, &cur).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let file = cur.join(&all[0]);
    let len = disk.file_len(&file).await.expect("is there");
    (file, len)
}

fn long(lines: usize) -> String {
    let head = "From: a@example.org\r\nSubject: long\r\n\r\n";
    head.to_owned() + &"A line that comes again.\r\n".repeat(lines)
}

#[test]
fn owners_of_one_partition_share_a_file_and_have_their_own_prefix() {
    let sim = SimDisk::new(61);
    // Long enough for the spool, too.
    let body = long(20_000);
    let (first, second) = (body.clone(), body);
    life_as(&sim, config(1), |store, disk| async move {
        let remote = store.remote();
        let letter = message(&remote, &first).await;
        let targets = vec![target(1, "INBOX"), target(5, "INBOX")];
        let placed = remote
            .deliver(letter, targets, unix_now(), trace_id(), soon())
            .await;
        let Delivered::Placed(uids) = placed.expect("delivered") else {
            panic!("one partition needs no queue");
        };
        for settled in [false, true] {
            for n in [1, 5] {
                let of = remote.account(account(n)).await.expect("opens");
                let view = open(&of, "INBOX").await;
                let want = format!("Delivered-To: {n}\r\n{first}");
                assert_eq!(view.row(uids[0]).expect("a row").size, want.len() as u64);
                assert_eq!(text(&view, uids[0]).await, want, "settled: {settled}");
            }
            store.settle_all().await.expect("settles");
        }
        for n in [1, 5] {
            assert_eq!(file_of(&disk, n).await.1, first.len() as u64);
        }
        store.checkpoint().await.expect("a checkpoint");
        // The one whose file it was first leaves; the other's stays.
        let view = open(&ana(&store).await, "INBOX").await;
        view.expunge(&uids).await.expect("expunges");
        store.checkpoint().await.expect("a checkpoint");
        assert!(
            names(&disk, &Path::new(ROOT).join("mail/1/1/cur"))
                .await
                .is_empty()
        );
    });
    let sim = sim.power_cut(1);
    life_as(&sim, config(1), |store, _| async move {
        let of = store.remote().account(account(5)).await.expect("opens");
        let view = open(&of, "INBOX").await;
        let id = of.find("Archive").expect("is there");
        let copied = view.copy(view.uids(), id).await.expect("copies");
        store.settle_all().await.expect("settles");
        let archive = open(&of, "Archive").await;
        let want = format!("Delivered-To: 5\r\n{second}");
        assert_eq!(text(&archive, copied.to[0]).await, want);
    });
}

#[test]
fn files_are_compressed_and_read_as_they_were() {
    for lines in [10, 1_000, 80_000] {
        let sim = SimDisk::new(62);
        let (first, second) = (long(lines), long(lines));
        life_as(&sim, packing(false), move |store, disk| async move {
            let uid = deliver(&store, 1, "INBOX", &first).await;
            store.settle_all().await.expect("settles");
            let view = open(&ana(&store).await, "INBOX").await;
            let want = format!("Delivered-To: 1\r\n{first}");
            let (_, len) = file_of(&disk, 1).await;
            let is_packed = len < want.len() as u64 / 4;
            assert_eq!(is_packed, lines > 100, "{len} of {}", want.len());
            assert_eq!(text(&view, uid).await, want);
            let body = view.body(uid).await.expect("a body");
            let part = body.read(20..60).await.expect("reads");
            assert_eq!(part, want.as_bytes()[20..60]);
            store.checkpoint().await.expect("a checkpoint");
            let tmp = names(&disk, &Path::new(ROOT).join("mail/1/1/tmp")).await;
            assert!(tmp.is_empty(), "{tmp:?}");
        });
        let sim = sim.power_cut(1);
        life_as(&sim, config(1), move |store, _| async move {
            let view = open(&ana(&store).await, "INBOX").await;
            let want = format!("Delivered-To: 1\r\n{second}");
            assert_eq!(text(&view, view.uids()[0]).await, want);
        });
    }
}

#[test]
fn plain_files_are_compressed_later() {
    let sim = SimDisk::new(63);
    life_as(&sim, config(1), |store, disk| async move {
        deliver(&store, 1, "INBOX", &long(2_000)).await;
        store.checkpoint().await.expect("a checkpoint");
        assert!(file_of(&disk, 1).await.1 > 50_000);
    });
    life_as(&sim, packing(true), |store, disk| async move {
        store.repack().await.expect("goes through");
        let (_, len) = file_of(&disk, 1).await;
        assert!(len < 5_000, "{len}");
        assert_eq!(store.stats().packed, 1);
        store.repack().await.expect("finds nothing to do");
        assert_eq!(store.stats().packed, 1);
    });
    let sim = sim.power_cut(1);
    life_as(&sim, config(1), |store, disk| async move {
        let view = open(&ana(&store).await, "INBOX").await;
        let uid = view.uids()[0];
        assert_eq!(
            text(&view, uid).await,
            format!("Delivered-To: 1\r\n{}", long(2_000))
        );
        // A file that is neither the message nor a compressed one is not handed out.
        let (file, len) = file_of(&disk, 1).await;
        disk.truncate(&file, len - 1).await.expect("cuts it");
        let body = view.body(uid).await.expect("a row");
        assert!(body.read(0..100).await.is_err());
    });
}

#[test]
fn a_copy_beyond_the_last_name_that_a_file_can_have_gets_a_file_of_its_own() {
    let sim = SimDisk::new(64);
    let inner = sim.clone();
    life_as(&sim, config(1), |store, disk| async move {
        let uid = deliver(&store, 1, "INBOX", &long(10)).await;
        store.settle_all().await.expect("settles");
        let of = ana(&store).await;
        let view = open(&of, "INBOX").await;
        let id = of.find("Archive").expect("is there");
        let errno = rustix::io::Errno::MLINK.raw_os_error();
        inner.fail(DiskOp::Link, "/cur/", 1, errno);
        let copied = view.copy(&[uid], id).await.expect("copies");
        store.settle_all().await.expect("is not held up");
        assert_eq!(store.stats().unsettled, 0);
        let archive = open(&of, "Archive").await;
        let want = format!("Delivered-To: 1\r\n{}", long(10));
        assert_eq!(text(&archive, copied.to[0]).await, want);
        let cur = Path::new(ROOT).join("mail/1/1/.Archive/cur");
        assert_eq!(names(&disk, &cur).await.len(), 1);
        // And on from here.
        view.copy(&[uid], id).await.expect("copies");
        store.settle_all().await.expect("settles");
        assert_eq!(names(&disk, &cur).await.len(), 2);
    });
}
