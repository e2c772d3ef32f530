//! Commands on very many messages: several records, others in between, and what was done before a
//! failure is told.

use std::time::Duration;

use super::catalogue::longest;
use super::{account, life, message, recover};
use crate::base::{ModSeq, ShardId, Uid};
use crate::runtime::{Disk, DiskOp, SimDisk, block_on};
use crate::store::{Access, FlagChange, FlagMode, Flags, NewMessage, Store, StoreError, View};

/// A mailbox with so many messages.
async fn filled(store: &Store, count: usize) -> View {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let inbox = ana.find("INBOX").expect("is there");
    let body = message(&store.remote(), &super::letter(1)).await;
    let new = || NewMessage {
        message: body.clone(),
        flags: Flags::NONE,
        keywords: vec!["Work".into()],
        internal_date: None,
        trace: None,
    };
    let mut there = 0;
    while there < count {
        let some = (count - there).min(500);
        let outcome = ana.append(inbox, (0..some).map(|_| new()).collect()).await;
        there += outcome.expect("appends").uids.len();
    }
    let view = ana.select(inbox, Access::ReadWrite).await;
    view.expect("selects")
}

fn flag(keyword: &str) -> FlagChange {
    FlagChange {
        mode: FlagMode::Add,
        flags: Flags::FLAGGED,
        keywords: vec![keyword.to_owned()],
    }
}

/// The largest record of a command, about: octets that were written for it, by record.
fn bytes_of_a_record(store: &Store, before: crate::store::StoreStats) -> (u64, u64) {
    let now = store.stats().journal;
    let records = now.records - before.journal.records;
    (records, (now.bytes - before.journal.bytes) / records.max(1))
}

/// 20,000 messages by one STORE, and by one EXPUNGE. An optimised build has 10 ms of CPU for
/// what it does without a pause, this one ten times that.
#[test]
fn a_command_on_many_messages_lets_others_work() {
    const MESSAGES: usize = 20_000;
    let disk = Disk::sim(SimDisk::new(1));
    block_on(async move {
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk).await;
        let store = store.expect("opens");
        let view = filled(&store, MESSAGES).await;
        store.settle_all().await.expect("settles");
        let uids = view.uids().to_vec();
        for what in ["STORE", "EXPUNGE"] {
            let before = store.stats();
            let (uids, id) = (uids.clone(), view.mailbox());
            let ana = store.remote().account(account(1)).await.expect("opens");
            let work = async move {
                let view = ana.select(id, Access::ReadWrite).await.expect("selects");
                match what {
                    "STORE" => view.store(&uids, &flag("Done"), None).await.map(|s| s.uids),
                    _ => view.expunge(&uids).await,
                }
            };
            let (done, stretch) = longest(work).await;
            assert_eq!(done.expect("is done").len(), MESSAGES);
            let (records, bytes) = bytes_of_a_record(&store, before);
            println!("{what}: {records} records of {bytes} octets, at most {stretch:?}");
            assert!(records >= MESSAGES as u64 / 2_000, "{records} records");
            assert!(bytes <= 16 << 10, "{bytes} octets a record");
            assert!(stretch < Duration::from_millis(100), "{what}: {stretch:?}");
        }
    })
    .expect("runs");
}

/// Keywords weigh: a record with many of them has few messages.
#[test]
fn a_record_is_bounded_by_keywords_too() {
    let sim = SimDisk::new(2);
    life(&sim, |store| async move {
        let view = filled(&store, 300).await;
        let mut change = flag("Done");
        change.keywords = (0..400).map(|n| format!("{n:0200}")).collect();
        let before = store.stats();
        let stored = view.store(view.uids(), &change, None).await;
        assert_eq!(stored.expect("stores").uids.len(), 300);
        let (records, bytes) = bytes_of_a_record(&store, before);
        assert!(records >= 14 && bytes < 200 << 10, "{records}, {bytes}");
    });
}

/// RFC 9051 6.4.6, RFC 7162 3.1.3: what was done before a failure is told, with its modseqs, and is
/// still there in the next life.
#[test]
fn what_was_done_before_a_failure_is_told() {
    let sim = SimDisk::new(3);
    let ops = sim.clone();
    life(&sim, move |store| async move {
        let view = filled(&store, 4_500).await;
        store.settle_all().await.expect("settles");
        let uids = view.uids().to_vec();
        ops.fail(DiskOp::Fdatasync, "/journal/", 3, 5);
        let stored = view.store(&uids, &flag("Done"), None).await;
        let stored = stored.expect("two parts of it");
        assert_eq!(stored.failed, Some(StoreError::Poisoned));
        assert!(stored.uids == uids[..4_000], "{}", stored.uids.len());
        let told: Vec<(Uid, ModSeq)> = stored.told().collect();
        assert!(told[1_999].1 < told[2_000].1 && told[0].1 == told[1_999].1);
        for (uid, modseq) in told {
            let row = view.row(uid).expect("a row");
            assert_eq!(row.modseq, modseq);
        }
        let refused = view.store(&uids, &flag("More"), None).await;
        assert!(refused == Err(StoreError::Poisoned));
    });
    life(&sim.power_cut(3), |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("is there");
        let view = ana.select(inbox, Access::ReadWrite).await;
        let view = view.expect("selects");
        let mut flagged = Vec::new();
        view.scan(view.uids(), &mut |row| {
            flagged.extend(row.flags.contains(Flags::FLAGGED).then_some(row.uid));
        });
        // The third part was being written: all of it, or nothing.
        assert!([4_000, 4_500].contains(&flagged.len()), "{}", flagged.len());
        assert!(flagged == view.uids()[..flagged.len()]);
    });
}
