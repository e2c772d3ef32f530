//! Messages from elsewhere, asked for from another shard than the owner's.

use std::cell::RefCell;
use std::rc::Rc;

use super::{account, config, letter, message, run};
use crate::base::{ShardId, Uid, UnixMs};
use crate::runtime::{Disk, SimDisk, block_on, now};
use crate::store::{Flags, NewMessage, Store, StoreError};

async fn stores(disk: &Disk) -> Vec<Store> {
    let recovered = Store::recover_all(config(2), disk).await.expect("recovers");
    let mut all = Vec::new();
    for shard in 0..2 {
        let store = Store::open(ShardId(shard), &recovered, disk.clone()).await;
        all.push(store.expect("opens"));
    }
    all
}

async fn new(store: &Store, text: &str) -> NewMessage {
    NewMessage {
        message: message(&store.remote(), text).await,
        flags: Flags::SEEN,
        keywords: vec!["Work".to_owned()],
        internal_date: Some(UnixMs(1_000)),
        trace: None,
    }
}

#[test]
fn batches_come_in_over_shards() {
    let disk = Disk::sim(SimDisk::new(31));
    block_on(async move {
        let all = stores(&disk).await;
        let remote = all[0].remote();
        // Partitions 0 and 1 have different owners.
        for owner in [4, 1] {
            let to = account(owner);
            let none = remote.rows(to, "Old/Mail".to_owned(), Uid(0)).await;
            assert_eq!(none.expect("answers"), []);
            let large = format!("{}{}", letter(2), "x".repeat(300_000));
            let batch = vec![new(&all[0], &letter(1)).await, new(&all[0], &large).await];
            let appended = remote.append(to, "Old/Mail".to_owned(), batch).await;
            assert_eq!(appended.expect("appended").uids, [Uid(1), Uid(2)]);
            let rows = remote
                .rows(to, "Old/Mail".to_owned(), Uid(0))
                .await
                .expect("rows");
            assert_eq!(rows.len(), 2);
            assert_eq!(&*rows[1].keywords[0], "Work");
            assert_eq!(
                (rows[1].flags, rows[1].internal_date),
                (Flags::SEEN, UnixMs(1_000))
            );
            assert_eq!(
                rows[0].email_id,
                blake3::hash(letter(1).as_bytes()).as_bytes()[..16]
            );
            let last = remote
                .rows(to, "Old/Mail".to_owned(), Uid(1))
                .await
                .expect("rows");
            assert_eq!(last, rows[1..]);
            // RFC 9051 5.1: LIST's wildcards may be in names.
            for name in ["Empty", "50% off", "a*b"] {
                let made = remote.make_mailbox(to, name.to_owned(), true).await;
                assert_eq!(made, Ok(()), "{name}");
            }
            let bad = remote.make_mailbox(to, "a\n".to_owned(), true).await;
            assert_eq!(bad, Err(StoreError::BadName));
        }
    })
    .expect("the executor runs");
}

/// The owner's disk hangs with the batch in its journal: whoever asked learns after a while that
/// nobody knows, and finds all of it there or nothing. What was asked for after that is not done.
#[test]
fn a_batch_with_an_unknown_outcome_is_in_once_or_not_at_all() {
    let mut late = 0;
    for seed in 0..40 {
        let sim = SimDisk::new(seed);
        let disk = Disk::sim(sim.clone());
        let outcome = Rc::new(RefCell::new(None));
        let (told, hang) = (outcome.clone(), sim.clone());
        run(async move {
            let all = stores(&disk).await;
            let remote = all[0].remote();
            let to = account(1);
            let made = remote.make_mailbox(to, "Old".to_owned(), false).await;
            made.expect("made");
            let batch = vec![
                new(&all[0], &letter(1)).await,
                new(&all[0], &letter(2)).await,
            ];
            let began = now();
            hang.halt_after(seed / 2);
            let appended = remote.append(to, "Old".to_owned(), batch).await;
            if appended.as_ref().is_err_and(|why| *why == StoreError::Late) {
                assert!(now().duration_since(began) >= std::time::Duration::from_secs(30));
            }
            *told.borrow_mut() = Some(appended.map(|a| a.uids.len()));
        });
        let outcome = outcome.take().expect("an outcome");
        // Another process goes on with the page cache, or the power went.
        let sim = match seed % 2 {
            0 => {
                sim.restart();
                sim
            }
            _ => sim.power_off(seed),
        };
        let disk = Disk::sim(sim.clone());
        let there = run(async move {
            let all = stores(&disk).await;
            let remote = all[0].remote();
            let rows = remote.rows(account(1), "Old".to_owned(), Uid(0)).await;
            let there = rows.expect("rows").len();
            // The next run of the import looks first, and brings what is missing.
            if there == 0 {
                let batch = vec![
                    new(&all[0], &letter(1)).await,
                    new(&all[0], &letter(2)).await,
                ];
                let appended = remote.append(account(1), "Old".to_owned(), batch).await;
                appended.expect("appended");
            }
            let rows = remote.rows(account(1), "Old".to_owned(), Uid(0)).await;
            assert_eq!(rows.expect("rows").len(), 2, "seed {seed}");
            there
        });
        match outcome {
            Ok(_) => assert_eq!(there, 2, "seed {seed}: it was acknowledged"),
            Err(StoreError::Late) => {
                assert!(there == 0 || there == 2, "seed {seed}: {there} of 2");
                late += 1;
            }
            Err(why) => panic!("seed {seed}: {why:?}"),
        }
        sim.discard();
    }
    assert!(late > 5, "only {late} were late");
}
