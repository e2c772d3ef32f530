//! What size does: memory of indexes, and starts after much was done.

use std::path::Path;

use super::*;
use crate::base::Uid;
use crate::runtime::{DiskOp, trace_id, unix_now, yield_now};
use crate::store::queue::Writing;
use crate::store::{Access, FlagChange, FlagMode, Flags};
use crate::store::{catalogue, checkpoint};

async fn deliver(store: &Store, to: Target, n: u64) {
    let remote = store.remote();
    let body = message(&remote, &letter(n)).await;
    let placed = remote.deliver(body, vec![to], unix_now(), trace_id(), soon());
    placed.await.expect("is placed");
}

#[test]
fn indexes_that_nobody_has_open_go_when_memory_is_short() {
    let cfg = StoreConfig {
        index_memory_bytes_max: 2_000,
        ..config(1)
    };
    life_as(&SimDisk::new(31), cfg, |store, _| async move {
        let mut open = None;
        for n in 0..20 {
            deliver(&store, target(n, "INBOX"), n).await;
            let ana = store.remote().account(account(n)).await.expect("opens");
            let inbox = ana.find("INBOX").expect("INBOX");
            let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
            assert_eq!(view.uids(), [Uid(1)]);
            open = Some(view);
        }
        let until = soon();
        while store.stats().index_bytes > 2_000 || store.stats().indexes > 2 {
            assert!(now() < until.0, "{:?}", store.stats());
            yield_now().await;
        }
        // The one that is open is still there, and the others are read again.
        let last = open.expect("a view");
        assert!(last.row(Uid(1)).is_some());
        let ana = store.remote().account(account(3)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
        assert!(view.row(Uid(1)).is_some());
    });
}

/// Nothing of a mailbox is read for a start, for STATUS or for a delivery: each costs the same at
/// ten messages and at a million.
#[test]
fn a_closed_mailbox_is_not_read() {
    let sim = SimDisk::new(32);
    life(&sim, |store| async move {
        for n in 0..20 {
            deliver(&store, target(n % 4, "INBOX"), n).await;
        }
        store.drain(soon()).await.expect("drains");
    });
    for what in ["palomar.index.", "palomar.log.", "palomar.cache"] {
        sim.trouble(DiskOp::Read, what, 1_000, 5);
        sim.trouble(DiskOp::Open, what, 1_000, 5);
    }
    life(&sim, |store| async move {
        for n in 0..4 {
            let status = |messages| {
                let store = store.clone();
                async move {
                    let ana = store.remote().account(account(n)).await.expect("opens");
                    let inbox = ana.find("INBOX").expect("INBOX");
                    let status = ana.status(inbox).expect("is known");
                    assert_eq!(status.messages, messages);
                    assert!(status.size > 0 && status.uidnext == Uid(messages + 1));
                    (ana, inbox)
                }
            };
            status(5).await;
            deliver(&store, target(n, "INBOX"), 20 + n).await;
            let (ana, inbox) = status(6).await;
            assert_eq!(store.stats().indexes_damaged, n);
            // Who reads it meets the trouble, and has it made anew.
            let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
            assert_eq!(view.uids().len(), 6);
            assert_eq!(store.stats().indexes_damaged, n + 1);
        }
    });
}

#[test]
fn an_index_leaves_memory_while_its_sessions_are_silent() {
    let cfg = StoreConfig {
        index_memory_bytes_max: 0,
        ..config(1)
    };
    life_as(&SimDisk::new(33), cfg, |store, _| async move {
        deliver(&store, target(1, "INBOX"), 1).await;
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let mut silent = ana.select(inbox, Access::ReadWrite).await.expect("selects");
        let other = ana.select(inbox, Access::ReadOnly).await.expect("selects");
        let there = || store.stats().indexes;
        let until = soon();
        silent.rest();
        store.settle_all().await.expect("settles");
        while there() > 1 {
            assert!(now() < until.0, "{:?}", store.stats());
            yield_now().await;
        }
        assert!(other.row(Uid(1)).is_some(), "the other is awake");
        other.rest();
        while there() > 0 {
            assert!(now() < until.0, "{:?}", store.stats());
            yield_now().await;
        }
        deliver(&store, target(1, "INBOX"), 2).await;
        silent.changed().await;
        silent.wake().await.expect("is read again");
        let changes = silent.refresh(true);
        assert_eq!((changes.exists, silent.uids().len()), (Some(2), 2));
        assert!(silent.row(Uid(1)).is_some() && silent.row(Uid(2)).is_some());
        drop((silent, other));
        while there() > 0 {
            assert!(now() < until.0, "{:?}", store.stats());
            yield_now().await;
        }
    });
}

/// Flags were set after a checkpoint had renamed files and before it took its cut. The next life
/// has no record of them, and left the files with their old letters for ever.
#[test]
fn letters_that_a_checkpoint_missed_are_written_by_the_next_life() {
    let sim = SimDisk::new(32);
    life_as(&sim, config(1), |store, _| async move {
        deliver(&store, target(1, "INBOX"), 1).await;
        store.checkpoint().await.expect("a checkpoint");
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadWrite).await.expect("selects");
        let change = FlagChange {
            mode: FlagMode::Add,
            flags: Flags::SEEN,
            keywords: Vec::new(),
        };
        let stored = view.store(&[Uid(1)], &change, None).await;
        stored.expect("is stored");
        // The rest of a checkpoint whose renames came before that.
        let shard = store.shard();
        let mut cuts = Vec::new();
        for partition in shard.owned.all() {
            cuts.push(catalogue::cut(&partition, Writing::default()).await);
        }
        let made = checkpoint::commit(&shard.settler(), &mut cuts).await;
        assert!(made.is_ok());
    });
    let cur = Path::new(ROOT).join("mail/1/1/cur");
    life_as(&sim.power_cut(5), config(1), |store, disk| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadOnly).await.expect("selects");
        let row = view.row(Uid(1)).expect("is there");
        assert!(row.flags.contains(Flags::SEEN));
        store.checkpoint().await.expect("a checkpoint");
        let files = names(&disk, &cur).await;
        assert!(files[0].ends_with(":2,S"), "{files:?}");
    });
}
