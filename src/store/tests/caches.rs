//! Caches of digests: they stay in proportion to the mail that there is, and no power cut while
//! they are given back gives a message another's digest, or loses one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::damage::{Truth, deliver, fill, truth};
use super::{ROOT, Random, account, life, names};
use crate::base::Uid;
use crate::runtime::{Disk, SimDisk};
use crate::store::{Access, Account, Store, View};

async fn open(ana: &Account, name: &str) -> View {
    let id = ana.find(name).expect("is there");
    ana.select(id, Access::ReadWrite).await.expect("selects")
}

/// Names and octets of the files with an account's digests.
async fn files(disk: &Disk) -> Vec<(String, u64)> {
    let root = Path::new(ROOT).join("mail/1/1");
    let mut all = Vec::new();
    for name in names(disk, &root).await {
        if name.starts_with("palomar.cache") {
            let len = disk.file_len(&root.join(&name)).await.expect("is there");
            all.push((name, len));
        }
    }
    all
}

fn octets(files: &[(String, u64)]) -> u64 {
    files.iter().map(|(_, len)| len).sum()
}

/// Every message has the digest that it always had, and none had to be made anew.
async fn check(store: &Store, known: &Truth, seed: u64) {
    assert_eq!(truth(store).await, *known, "seed {seed}");
    let stats = store.stats();
    assert_eq!(stats.digests_damaged, 0, "seed {seed}: of another message");
    assert_eq!(stats.messages_damaged, 0, "seed {seed}");
}

/// The file once grew with every message that ever came.
#[test]
fn a_cache_is_in_proportion_to_the_mail() {
    let sim = SimDisk::new(1);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        ana.create("Kept", None).await.expect("creates");
        let mut most = 0;
        for round in 0..30 {
            for n in 0..20 {
                deliver(&store, &[1], "INBOX", round * 100 + n).await;
            }
            let view = open(&ana, "INBOX").await;
            let all = view.uids().to_vec();
            let kept = ana.find("Kept").expect("is there");
            view.move_to(&all[..1], kept).await.expect("moves");
            view.copy(&all[1..2], kept).await.expect("copies");
            view.expunge(&all[1..]).await.expect("expunges");
            drop(view);
            if round % 10 == 4 {
                // What a deleted folder leaves is estimated, and then counted.
                ana.delete("Kept").await.expect("deletes");
                ana.create("Kept", None).await.expect("creates");
            }
            store.checkpoint().await.expect("a checkpoint");
            store.compact_caches(2 << 10).await.expect("gives back");
            store.checkpoint().await.expect("a checkpoint");
            most = most.max(octets(&files(&disk).await));
            let known = truth(&store).await;
            check(&store, &known, round).await;
        }
        let there = files(&disk).await;
        assert_eq!(there.len(), 1, "{there:?}");
        assert_ne!(there[0].0, "palomar.cache", "it was never given back");
        // A round brings some 6 KB of digests.
        assert!(most < 40 << 10, "{most} octets");
        store.compact_caches(0).await.expect("gives back");
        store.checkpoint().await.expect("a checkpoint");
        let partition = store.partition(account(1).partition);
        let state = partition.state.borrow();
        let cache = &state.accounts[&account(1).account].cache;
        assert!(cache.dead >= 0 && (cache.dead as u64) <= cache.used());
        assert_eq!(cache.second, None);
    });
    sim.discard();
}

/// Power goes at any moment between the first digest that moves and the end of the first file.
fn story(seed: u64) -> bool {
    let sim = SimDisk::new(seed);
    let known = Rc::new(RefCell::new(Truth::new()));
    let (keep, ops) = (known.clone(), sim.clone());
    let was_cut = Rc::new(RefCell::new(false));
    let cut = was_cut.clone();
    life(&sim, move |store| async move {
        fill(&store, seed).await;
        store.checkpoint().await.expect("a checkpoint");
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        let all = view.uids().to_vec();
        let some: Vec<Uid> = all.iter().copied().step_by(2).collect();
        view.expunge(&some).await.expect("expunges");
        drop(view);
        *keep.borrow_mut() = truth(&store).await;
        ops.stop_after(Random(seed).below(90));
        let mut failed = store.compact_caches(0).await.is_err();
        failed |= store.checkpoint().await.is_err();
        // The next one of the same life begins where the last one left two files.
        failed |= store.compact_caches(0).await.is_err();
        failed |= store.checkpoint().await.is_err();
        *cut.borrow_mut() = failed;
    });
    let mut sim = match seed % 3 {
        // The process alone ends: what was written is there.
        0 => {
            sim.restart();
            sim
        }
        _ => sim.power_off(seed),
    };
    let known = known.take();
    for life_number in 0..2 {
        let known = known.clone();
        let disk = Disk::sim(sim.clone());
        life(&sim, move |store| async move {
            check(&store, &known, seed).await;
            for n in 0..3 {
                deliver(&store, &[1], "Late", 1000 + n).await;
            }
            let with_more = truth(&store).await;
            store.compact_caches(0).await.expect("gives back");
            check(&store, &with_more, seed).await;
            store.checkpoint().await.expect("a checkpoint");
            check(&store, &with_more, seed).await;
            let ana = store.remote().account(account(1)).await.expect("opens");
            ana.delete("Late").await.expect("deletes");
            store.compact_caches(0).await.expect("gives back");
            store.checkpoint().await.expect("a checkpoint");
            let there = files(&disk).await;
            let left = there.len();
            assert_eq!(left, 1, "seed {seed}, life {life_number}: {there:?}");
        });
        sim = sim.power_off(seed ^ 7);
    }
    sim.discard();
    was_cut.take()
}

#[test]
fn a_cut_off_giving_back_loses_no_digest() {
    if let Ok(seed) = std::env::var("PALOMAR_SEED") {
        story(seed.parse().expect("a number"));
        return;
    }
    let cut = (1..=60).filter(|seed| story(*seed)).count();
    assert!(cut >= 20, "only {cut} were cut off");
}

/// Messages are copied while entries move: no row is left behind.
#[test]
fn copies_meanwhile_are_not_left_behind() {
    let sim = SimDisk::new(5);
    life(&sim, move |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        for folder in ["A", "Z"] {
            ana.create(folder, None).await.expect("creates");
        }
        for n in 0..60 {
            deliver(&store, &[1], ["A", "Z"][n as usize % 2], n).await;
        }
        let view = open(&ana, "Z").await;
        let all = view.uids().to_vec();
        let (gone, left) = all.split_at(20);
        view.expunge(gone).await.expect("expunges");
        let into = ana.find("A").expect("is there");
        let again = async {
            for &uid in left {
                crate::runtime::sleep(std::time::Duration::from_millis(10)).await;
                view.copy(&[uid], into).await.expect("copies");
            }
        };
        let (done, ()) = futures_lite::future::zip(store.compact_caches(0), again).await;
        done.expect("gives back");
        store.compact_caches(0).await.expect("gives back");
        store.checkpoint().await.expect("a checkpoint");
        drop(view);
        let known = truth(&store).await;
        check(&store, &known, 5).await;
    });
    sim.discard();
}
