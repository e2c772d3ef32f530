//! Bodies that lie packed in the journal: read there, replayed from there, damaged there.

use std::path::Path;
use std::time::Duration;

use super::{ROOT, account, config, life, life_as, message, soon, target};
use crate::base::Uid;
use crate::runtime::{Disk, SimDisk, Step, trace_id, unix_now};
use crate::store::{Access, Store, StoreConfig, StoreError, View};

/// More than is kept in memory until they are files, of nearly the longest that are packed.
const LETTERS: u64 = 1_200;
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn text(n: u64) -> String {
    let mut text = format!("From: a@example.org\r\nSubject: letter {n}\r\n\r\n");
    for line in 0..600u64 {
        text += &format!(
            "{:016x} of {n}\r\n",
            (line + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        );
    }
    text
}

/// Nothing becomes a file before the end.
fn lazy() -> StoreConfig {
    let mut cfg = config(1);
    cfg.settle_after = Duration::from_secs(3600);
    cfg
}

async fn deliver(store: &Store) {
    let remote = store.remote();
    for n in 1..=LETTERS {
        let body = message(&remote, &text(n)).await;
        let to = vec![target(1, "INBOX")];
        let placed = remote.deliver(body, to, unix_now(), trace_id(), soon());
        placed.await.expect("delivered");
    }
}

async fn inbox(store: &Store) -> View {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let id = ana.find("INBOX").expect("is there");
    ana.select(id, Access::ReadOnly).await.expect("selects")
}

/// Letter `n` as it is read, whole and in parts.
async fn check(view: &View, n: u64) {
    let want = format!("Delivered-To: 1\r\n{}", text(n)).into_bytes();
    let body = view.body(Uid(n as u32)).await.expect("is there");
    assert_eq!(body.len(), want.len() as u64);
    for (start, end) in [(0, want.len()), (0, 10), (5, 40), (10_000, 10_001)] {
        let read = body.read(start as u64..end as u64).await.expect("reads");
        assert!(read == want[start..end], "letter {n}, {start} to {end}");
    }
    let beyond = body.read(body.len() - 1..u64::MAX).await.expect("reads");
    assert_eq!(beyond, b"\n");
}

/// Flips a bit in the middle of the frame that was written last, which is in the second slot.
async fn harm_last_frame(disk: &Disk) {
    let path = Path::new(ROOT).join("journal/0/slot-1");
    let slot = disk.read(&path).await.expect("reads");
    let frame = slot.windows(4).rposition(|octets| octets == ZSTD);
    let at = frame.expect("a body is packed") + 2_000;
    let bytes = vec![slot[at] ^ 0x40];
    let at = at as u64;
    let harm = vec![Step::Append { path, at, bytes }];
    for done in disk.batch(harm).await {
        done.expect("harmed");
    }
}

#[test]
fn what_memory_does_not_hold_is_read_from_its_frame() {
    let sim = SimDisk::new(31);
    life_as(&sim, lazy(), |store, disk| async move {
        deliver(&store).await;
        let view = inbox(&store).await;
        for n in [1, LETTERS - 1, LETTERS] {
            check(&view, n).await;
        }
        harm_last_frame(&disk).await;
        check(&view, LETTERS - 1).await;
        let body = view.body(Uid(LETTERS as u32)).await.expect("is there");
        let read = body.read(0..100).await;
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
        // It becomes a file of its length all the same, and is told of.
        store.drain(soon()).await.expect("drains");
        assert_eq!(store.stats().messages_damaged, 1);
        assert_eq!(store.stats().settle_failures, 0);
    });
    life(&sim, |store| async move {
        let view = inbox(&store).await;
        check(&view, LETTERS - 1).await;
        let body = view.body(Uid(LETTERS as u32)).await.expect("is there");
        let read = body.read(0..body.len()).await.expect("reads what there is");
        let want = format!("Delivered-To: 1\r\n{}", text(LETTERS));
        assert_eq!(read.len(), want.len());
        assert!(read != want.as_bytes());
    });
}

#[test]
fn frames_are_replayed() {
    let sim = SimDisk::new(32);
    life_as(
        &sim,
        lazy(),
        |store, _| async move { deliver(&store).await },
    );
    sim.restart();
    life(&sim, |store| async move {
        let view = inbox(&store).await;
        assert_eq!(view.uids().len() as u64, LETTERS);
        for n in (1..=LETTERS).step_by(7) {
            check(&view, n).await;
        }
    });
}
