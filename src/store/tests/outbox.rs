//! Messages for owners on several shards arrive once each, over power cuts and restarts.

use std::path::Path;
use std::time::Duration;

use super::{ROOT, Random, account, config, letter, names, run, soon, target, try_message};
use crate::base::ShardId;
use crate::runtime::{Disk, SimDisk, sleep, trace_id, unix_now};
use crate::store::{Access, Delivered, Store};

const OWNERS: [u64; 3] = [1, 2, 3];

/// Opens two shards on one executor.
async fn open_two(disk: &Disk) -> Option<[Store; 2]> {
    let recovered = Store::recover_all(config(2), disk).await.ok()?;
    let one = Store::open(ShardId(0), &recovered, disk.clone())
        .await
        .ok()?;
    let two = Store::open(ShardId(1), &recovered, disk.clone())
        .await
        .ok()?;
    Some([one, two])
}

async fn bodies_of(stores: &[Store; 2], owner: u64) -> Vec<String> {
    let who = account(owner);
    let home = &stores[usize::from(who.partition.owner(2).0)];
    let account = home.remote().account(who).await.expect("opens");
    let inbox = account.find("INBOX").expect("INBOX");
    let view = account
        .select(inbox, Access::ReadOnly)
        .await
        .expect("selects");
    let mut all = Vec::new();
    for &uid in view.uids() {
        let body = view.body(uid).await.expect("a body");
        let bytes = body.read(0..body.len()).await.expect("reads");
        let text = String::from_utf8(bytes).expect("text");
        all.push(text.split_once("\r\n").expect("a prefix").1.to_owned());
    }
    all
}

fn check(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut sim = SimDisk::new(seed);
    let acknowledged = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    for life in 0..3u64 {
        let (disk, stop) = (Disk::sim(sim.clone()), 150 + random.below(400));
        let (sim_now, known) = (sim.clone(), acknowledged.clone());
        run(async move {
            let Some(stores) = open_two(&disk).await else {
                return;
            };
            sim_now.stop_after(stop);
            for n in 0..12u64 {
                let remote = stores[(n % 2) as usize].remote();
                let mut text = letter(life * 100 + n);
                // Some lie in the spool, as they came or to be shared.
                let lines = match n {
                    5 => 16_000,
                    n if n % 3 == 1 => 2_500,
                    _ => 0,
                };
                text.push_str(&"0123456789abcdef\r\n".repeat(lines));
                let Ok(message) = try_message(&remote, &text).await else {
                    return;
                };
                let targets = OWNERS.map(|owner| target(owner, "INBOX")).into();
                let (now, id) = (unix_now(), trace_id());
                match remote.deliver(message, targets, now, id, soon()).await {
                    Ok(outcome) => assert_eq!(outcome, Delivered::Queued),
                    Err(_) => return,
                }
                known.borrow_mut().push(text);
                if n % 4 == 3 && stores[0].checkpoint().await.is_err() {
                    return;
                }
            }
        });
        sim = sim.power_cut(random.below(u64::MAX));
    }
    let disk = Disk::sim(sim);
    run(async move {
        let stores = open_two(&disk).await.expect("recovers");
        while stores.iter().any(|s| s.stats().outbox > 0) {
            sleep(Duration::from_millis(2)).await;
        }
        for owner in OWNERS {
            let there = bodies_of(&stores, owner).await;
            for text in acknowledged.borrow().iter() {
                let times = there.iter().filter(|t| *t == text).count();
                assert_eq!(times, 1, "for {owner}: {text:.60}");
            }
            let mut once = there.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), there.len(), "doubled for {owner}");
        }
        for store in &stores {
            store.checkpoint().await.expect("a checkpoint");
        }
        let left = names(&disk, &Path::new(ROOT).join("spool")).await;
        assert_eq!(left, [""; 0]);
    });
}

#[test]
fn every_owner_gets_it_once() {
    for seed in 0..8 {
        check(seed);
    }
}

/// A body for owners in several partitions is written once before it is their files.
#[test]
fn a_large_body_for_many_owners_is_not_journaled_for_each() {
    let disk = Disk::sim(SimDisk::new(3));
    run(async move {
        let stores = open_two(&disk).await.expect("opens");
        let text = letter(1) + &"0123456789abcdef\r\n".repeat(4_000);
        let before: u64 = stores.iter().map(|s| s.stats().journal.bytes).sum();
        let remote = stores[0].remote();
        let message = try_message(&remote, &text).await.expect("fits");
        let targets = OWNERS.map(|owner| target(owner, "INBOX")).into();
        let delivered = remote.deliver(message, targets, unix_now(), trace_id(), soon());
        assert_eq!(delivered.await.expect("is durable"), Delivered::Queued);
        for owner in OWNERS {
            while bodies_of(&stores, owner).await.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(bodies_of(&stores, owner).await, std::slice::from_ref(&text));
        }
        let after: u64 = stores.iter().map(|s| s.stats().journal.bytes).sum();
        assert!(after - before < text.len() as u64, "{before} {after}");
        for store in &stores {
            store.checkpoint().await.expect("a checkpoint");
        }
        let spool = Path::new(ROOT).join("spool");
        assert_eq!(names(&disk, &spool).await, Vec::<String>::new());
    });
}
