//! One message's way through the store, step by step.

use std::path::Path;

use super::{ROOT, account, letter, life, message, names, soon, target};
use crate::base::{ModSeq, Uid};
use crate::runtime::{Disk, SimDisk, trace_id, unix_now};
use crate::store::history::Day;
use crate::store::{
    Access, Account, Delivered, FlagChange, FlagMode, Flags, NewMessage, SpecialUse, Store,
    StoreError, View,
};

pub(super) async fn deliver(store: &Store, to: u64, mailbox: &str, text: &str) -> Uid {
    let remote = store.remote();
    let body = message(&remote, text).await;
    let targets = vec![target(to, mailbox)];
    let placed = remote
        .deliver(body, targets, unix_now(), trace_id(), soon())
        .await;
    match placed.expect("delivered") {
        Delivered::Placed(uids) => uids[0],
        Delivered::Queued => panic!("one owner needs no queue"),
    }
}

pub(super) async fn open(account: &Account, name: &str) -> View {
    let id = account.find(name).expect("the mailbox is there");
    account
        .select(id, Access::ReadWrite)
        .await
        .expect("selects")
}

pub(super) async fn text(view: &View, uid: Uid) -> String {
    let body = view.body(uid).await.expect("a body");
    let bytes = body.read(0..body.len()).await.expect("reads");
    String::from_utf8(bytes).expect("text")
}

fn add(flags: Flags, keywords: &[&str]) -> FlagChange {
    let keywords = keywords.iter().map(|k| (*k).to_owned()).collect();
    FlagChange {
        mode: FlagMode::Add,
        flags,
        keywords,
    }
}

#[test]
fn first_touch_makes_the_default_folders() {
    life(&SimDisk::new(1), |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let all = ana.mailboxes();
        let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
        );
        assert!(all.iter().all(|m| m.subscribed));
        assert_eq!(all[3].special_use, Some(SpecialUse::Junk));
        ana.delete("Sent").await.expect("deletes");
        ana.create("Sent Items", None).await.expect("creates");
        let sent = ana.mailboxes().into_iter().find(|m| m.name == "Sent Items");
        assert_eq!(sent.expect("is there").special_use, Some(SpecialUse::Sent));
    });
}

#[test]
fn a_letter_comes_in_and_is_read_before_and_after_settling() {
    let sim = SimDisk::new(2);
    life(&sim, |store| async move {
        let uid = deliver(&store, 1, "INBOX", &letter(1)).await;
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "inbox").await;
        assert_eq!(view.uids(), [uid]);
        assert_eq!(view.recent(), 1);
        let want = format!("Delivered-To: 1\r\n{}", letter(1));
        assert_eq!(text(&view, uid).await, want);
        store.settle_all().await.expect("settles");
        assert_eq!(text(&view, uid).await, want);
        let digest = view.digest(uid).await.expect("a digest");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(text(&view, uid).await, want);
        assert_eq!(view.digest(uid).await.expect("a digest"), digest);
        let row = view.row(uid).expect("a row");
        assert_eq!((row.size, row.prefix_bytes), (want.len() as u64, 17));
    });
    // After a restart all of it comes from files.
    life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        assert_eq!(view.uids(), [Uid(1)]);
        assert!(text(&view, Uid(1)).await.ends_with("Body of letter 1.\r\n"));
        assert!(view.digest(Uid(1)).await.is_ok());
    });
}

#[test]
fn flags_expunge_copy_and_move_are_seen_by_other_sessions() {
    life(&SimDisk::new(3), |store| async move {
        for n in 1..=5 {
            deliver(&store, 1, "INBOX", &letter(n)).await;
        }
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        let mut other = open(&ana, "INBOX").await;
        assert_eq!((view.recent(), other.recent()), (5, 0));
        let change = add(Flags::SEEN, &["Work"]);
        let stored = view
            .store(&[Uid(2), Uid(9)], &change, None)
            .await
            .expect("stores");
        assert_eq!((stored.uids, stored.missing), (vec![Uid(2)], vec![Uid(9)]));
        assert!(other.is_dirty());
        let seen = other.refresh(false);
        assert_eq!((seen.flags, seen.keywords_new), (vec![Uid(2)], true));
        assert_eq!(&*other.row(Uid(2)).expect("a row").keywords[0], "Work");
        let stale = view
            .store(&[Uid(2)], &change, Some(ModSeq(1)))
            .await
            .expect("stores");
        assert_eq!(stale.modified, [Uid(2)]);

        let trash = ana.find("Trash").expect("Trash");
        let copied = view.copy(&[Uid(1), Uid(2)], trash).await.expect("copies");
        assert_eq!(
            (copied.from, copied.to),
            (vec![Uid(1), Uid(2)], vec![Uid(1), Uid(2)])
        );
        let moved = view.move_to(&[Uid(3)], trash).await.expect("moves");
        assert_eq!(moved.to, [Uid(3)]);
        view.expunge(&[Uid(1)]).await.expect("expunges");
        let kept = other.refresh(false);
        assert!(kept.expunged.is_empty() && other.uids().len() == 5);
        assert!(other.row(Uid(1)).is_none());
        let told = other.refresh(true);
        assert_eq!(told.expunged, [1, 2]);
        assert_eq!(told.expunged_uids, [Uid(1), Uid(3)]);
        assert_eq!(other.uids(), [Uid(2), Uid(4), Uid(5)]);

        let bin = open(&ana, "Trash").await;
        for _ in 0..3 {
            assert!(text(&bin, Uid(1)).await.ends_with("letter 1.\r\n"));
            assert!(text(&bin, Uid(3)).await.ends_with("letter 3.\r\n"));
            store.checkpoint().await.expect("a checkpoint");
        }
        let status = ana.status(trash).expect("status");
        assert_eq!((status.messages, status.unseen), (3, 2));
    });
}

#[test]
fn files_carry_letters_and_sizes_as_other_programs_know_them() {
    let sim = SimDisk::new(4);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        deliver(&store, 1, "INBOX", &letter(1)).await;
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        let change = add(Flags::SEEN.union(Flags::ANSWERED), &["Work"]);
        view.store(&[Uid(1)], &change, None).await.expect("stores");
        store.settle_all().await.expect("settles");
        let root = format!("{ROOT}/mail/1/1");
        let files = names(&disk, Path::new(&format!("{root}/cur"))).await;
        assert_eq!(files.len(), 1);
        assert!(files[0].ends_with(&format!(",S={0},W={0}:2,RSa", 17 + letter(1).len())));
        let keywords = disk
            .read(Path::new(&format!("{root}/dovecot-keywords")))
            .await;
        assert_eq!(keywords.expect("is there"), b"0 Work\n");
        assert!(text(&view, Uid(1)).await.ends_with("letter 1.\r\n"));
    });
}

#[test]
fn folders_are_renamed_and_deleted_with_their_files() {
    let sim = SimDisk::new(5);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        ana.create("Projects/2026/May", None)
            .await
            .expect("creates");
        deliver(&store, 1, "Projects/2026", &letter(7)).await;
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(
            ana.rename("Projects", "Projects/x").await,
            Err(StoreError::NotAllowed)
        );
        ana.rename("Projects", "Old.er").await.expect("renames");
        assert!(ana.find("Old.er/2026/May").is_some() && ana.find("Projects").is_none());
        let view = open(&ana, "Old.er/2026").await;
        assert!(text(&view, Uid(1)).await.ends_with("letter 7.\r\n"));
        store.settle_all().await.expect("settles");
        assert!(text(&view, Uid(1)).await.ends_with("letter 7.\r\n"));
        let folders = names(&disk, Path::new(&format!("{ROOT}/mail/1/1"))).await;
        assert!(
            folders.contains(&".Old\\2eer.2026".to_owned()),
            "{folders:?}"
        );
        ana.delete("Old.er/2026").await.expect("deletes");
        assert_eq!(view.status(), Err(StoreError::MailboxGone));
        assert_eq!(ana.delete("INBOX").await, Err(StoreError::NotAllowed));
        store.checkpoint().await.expect("a checkpoint");
        let grave = format!("{ROOT}/removed/{}/1/1", Day::of(unix_now()));
        let kept = names(&disk, Path::new(&grave)).await;
        assert!(kept.len() == 1 && kept[0].starts_with('F'), "{kept:?}");
        ana.rename("INBOX", "Everything")
            .await
            .expect("moves the messages");
        assert!(ana.find("INBOX").is_some() && ana.find("Everything").is_some());
    });
}

/// A life that ends without checkpoint leaves folders further than replay is.
#[test]
fn folders_made_and_moved_in_one_life_outlive_it() {
    let sim = SimDisk::new(9);
    life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        for (name, to) in [("One", "Two"), ("Two", "Three")] {
            ana.create("One", None).await.expect("creates");
            deliver(&store, 1, "One", &letter(7)).await;
            store.settle_all().await.expect("settles");
            if name == "Two" {
                ana.rename("Two", to).await.expect("renames");
                store.settle_all().await.expect("settles");
            }
            ana.rename("One", "Two").await.expect("renames");
            store.settle_all().await.expect("settles");
        }
        ana.create("Gone", None).await.expect("creates");
        store.settle_all().await.expect("settles");
        ana.delete("Gone").await.expect("deletes");
        store.settle_all().await.expect("settles");
    });
    life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        assert!(ana.find("One").is_none() && ana.find("Gone").is_none());
        for name in ["Two", "Three"] {
            let view = open(&ana, name).await;
            assert!(text(&view, Uid(1)).await.ends_with("letter 7.\r\n"));
        }
    });
}

#[test]
fn append_is_counted_against_the_quota() {
    life(&SimDisk::new(6), |store| async move {
        let remote = store.remote();
        let mut who = account(1);
        who.quota.bytes = Some(crate::base::ByteSize(500_000));
        let ana = remote.account(who).await.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let large = "x".repeat(300_000);
        let new = |message| NewMessage {
            message,
            flags: Flags::SEEN,
            keywords: vec!["Big".into()],
            internal_date: None,
            trace: None,
        };
        let body = message(&remote, &large).await;
        let appended = ana.append(inbox, vec![new(body)]).await.expect("appends");
        assert_eq!(appended.uids, [Uid(1)]);
        let body = message(&remote, &large).await;
        let refused = ana.append(inbox, vec![new(body)]).await;
        assert_eq!(
            refused,
            Err(StoreError::OverQuota {
                of: crate::store::Resource::Storage,
                used: 300_000,
                more: 300_000,
                limit: 500_000
            })
        );
        let view = open(&ana, "INBOX").await;
        assert_eq!(text(&view, Uid(1)).await, large);
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(text(&view, Uid(1)).await, large);
        assert_eq!(ana.quota().bytes, 300_000);
        let left = store.stats();
        assert_eq!(
            (left.unsettled, left.files_missing, left.misfits),
            (0, 0, 0)
        );
    });
}

#[test]
fn values_and_purge_outlive_a_restart() {
    let sim = SimDisk::new(7);
    life(&sim, |store| async move {
        let remote = store.remote();
        deliver(&store, 1, "INBOX", &letter(1)).await;
        let ana = remote.account(account(1)).await.expect("opens");
        let value = (
            "sieve".to_owned(),
            b"main".to_vec(),
            Some(b"keep;".to_vec()),
        );
        ana.set_values(vec![value]).await.expect("sets");
        deliver(&store, 2, "INBOX", &letter(2)).await;
        remote.purge(account(2), soon()).await.expect("purges");
    });
    life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        assert_eq!(ana.value("sieve", b"main").as_deref(), Some(&b"keep;"[..]));
        let bob = store.remote().account(account(2)).await;
        assert_eq!(bob.map(drop), Err(StoreError::MailboxGone));
    });
}
