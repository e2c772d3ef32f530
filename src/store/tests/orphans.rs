//! Files whose UIDs are lost with their index: none is forgotten before it is a message again.

use std::path::Path;
use std::time::Duration;

use super::walk::{deliver, open, text};
use super::{ROOT, account, life, names};
use crate::runtime::{Disk, SimDisk, sleep};
use crate::store::{Access, Store};

const LETTER: &str = "Subject: the same\r\n\r\nTwice.\r\n";

async fn inbox(store: &Store) -> usize {
    let ana = store.remote().account(account(1)).await.expect("opens");
    open(&ana, "INBOX").await.uids().len()
}

/// Two identical messages, under names of version 1, and no index.
async fn lose_uids(disk: &Disk) {
    let folder = Path::new(ROOT).join("mail/1/1");
    let cur = folder.join("cur");
    for name in names(disk, &cur).await {
        let (head, tail) = name.split_once('U').expect("a UID");
        let (_, tail) = tail.split_once('.').expect("more");
        let digits = head.rsplit('N').next().expect("a number").len();
        assert!(digits > 0);
        let old = format!("{head}.{tail}");
        let renamed = disk.rename(&cur.join(&name), &cur.join(old)).await;
        renamed.expect("renames");
    }
    for name in names(disk, &folder).await {
        if name.starts_with("palomar.index") || name.starts_with("palomar.log") {
            disk.unlink(&folder.join(name)).await.expect("removes");
        }
    }
}

async fn taken(store: &Store, all: u64) {
    for _ in 0..4_000 {
        if store.stats().orphans_taken == all {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{} of {all} are taken in", store.stats().orphans_taken);
}

fn two_letters() -> SimDisk {
    let sim = SimDisk::new(1);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        for _ in 0..2 {
            deliver(&store, 1, "INBOX", LETTER).await;
        }
        store.checkpoint().await.expect("a checkpoint");
        lose_uids(&disk).await;
    });
    sim
}

/// Both were saved in one second: they got one name, and two rows.
#[test]
fn two_of_the_same_are_two() {
    let sim = two_letters();
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        assert_eq!(inbox(&store).await, 0);
        taken(&store, 2).await;
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        assert_eq!(view.uids().len(), 2);
        for &uid in view.uids() {
            assert!(text(&view, uid).await.ends_with(LETTER));
        }
        let cur = Path::new(ROOT).join("mail/1/1/cur");
        assert_eq!(names(&disk, &cur).await.len(), 2);
    });
}

/// The index was rebuilt while the start replayed, and nobody heard of the files without a UID.
#[test]
fn what_a_start_finds_is_taken_in() {
    let sim = SimDisk::new(2);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        for _ in 0..2 {
            deliver(&store, 1, "INBOX", LETTER).await;
        }
        store.checkpoint().await.expect("a checkpoint");
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadWrite).await.expect("selects");
        let uid = view.uids()[0];
        let archive = ana.find("Archive").expect("is there");
        view.copy(&[uid], archive).await.expect("copies");
        drop(view);
        lose_uids(&disk).await;
    });
    life(&sim, |store| async move {
        taken(&store, 2).await;
        assert_eq!(inbox(&store).await, 2);
    });
}

/// The process ended between the rebuilding of the index and the taking in.
#[test]
fn what_waits_over_a_restart_is_taken_in() {
    let sim = two_letters();
    let failing = sim.clone();
    life(&sim, move |store| async move {
        // Nothing is taken in while the disk does not read the messages' directory a second time.
        for nth in 2..40 {
            failing.fail(crate::runtime::DiskOp::List, "/mail/1/1/cur", nth, 5);
        }
        assert_eq!(inbox(&store).await, 0);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(store.stats().orphans_taken, 0);
        failing.restart();
        store.checkpoint().await.expect("a checkpoint");
    });
    life(&sim, |store| async move {
        taken(&store, 2).await;
        assert_eq!(inbox(&store).await, 2);
        store.checkpoint().await.expect("a checkpoint");
    });
    life(&sim, |store| async move {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(store.stats().orphans_taken, 0);
        assert_eq!(inbox(&store).await, 2);
    });
}

/// A generation that began while a catalogue was on its way doomed the files that this one named.
#[test]
fn an_index_begun_anew_in_a_checkpoint_does_not_break_it() {
    for seed in 0..20 {
        let sim = SimDisk::new(seed);
        life(&sim, move |store| async move {
            deliver(&store, 1, "INBOX", LETTER).await;
            store.checkpoint().await.expect("a checkpoint");
            let ana = store.remote().account(account(1)).await.expect("opens");
            ana.subscribe("INBOX", true).await.expect("subscribes");
            let checkpoint = async {
                store.checkpoint().await.expect("a checkpoint");
            };
            let rewrite = async {
                sleep(Duration::from_millis(seed)).await;
                store.rewrite_index(1, "INBOX").await.expect("rewrites");
            };
            futures_lite::future::zip(checkpoint, rewrite).await;
        });
        life(&sim.power_cut(seed), move |store| async move {
            assert_eq!(inbox(&store).await, 1);
            assert_eq!(store.stats().indexes_damaged, 0, "seed {seed}");
        });
    }
}
