//! What was removed comes back: octet by octet, once, after any crash, for as long as it is kept.

use std::collections::BTreeMap;
use std::path::Path;

use super::Random;
use super::{ROOT, account, config, letter, life, names, recover, soon, target, try_message};
use crate::base::{ShardId, Uid, UnixMs};
use crate::runtime::{Disk, SimDisk, block_on, jump_clock, simulate, sleep, trace_id, unix_now};
use crate::store::history::Day;
use crate::store::{
    Access, Account, FlagChange, FlagMode, Flags, NewMessage, RestoreReport, RestoreRequest,
    RestoreState, Store, StoreError, View,
};

const ANA: u64 = 1;

fn ask(messages_max: u64) -> RestoreRequest {
    RestoreRequest {
        messages_max,
        ..RestoreRequest::default()
    }
}

async fn restore(store: &Store, request: RestoreRequest) -> RestoreReport {
    let done = store.remote().restore(account(ANA), request, soon()).await;
    done.expect("is told")
}

async fn deliver(store: &Store, mailbox: &str, text: &str) -> Result<(), StoreError> {
    let remote = store.remote();
    let message = try_message(&remote, text).await?;
    let to = vec![target(ANA, mailbox)];
    let placed = remote.deliver(message, to, unix_now(), trace_id(), soon());
    placed.await.map(drop)
}

async fn ana(store: &Store) -> Account {
    store.remote().account(account(ANA)).await.expect("opens")
}

async fn open(store: &Store, name: &str) -> View {
    let ana = ana(store).await;
    let id = ana.find(name).expect("the mailbox is there");
    ana.select(id, Access::ReadWrite).await.expect("selects")
}

/// Everything in a mailbox, by its text.
async fn texts(store: &Store, name: &str) -> Vec<String> {
    let view = open(store, name).await;
    let mut all = Vec::new();
    for &uid in view.uids() {
        let body = view.body(uid).await.expect("a body");
        let bytes = body.read(0..body.len()).await.expect("reads");
        all.push(String::from_utf8(bytes).expect("text"));
    }
    all.sort();
    all
}

fn told(n: u64) -> String {
    format!("Delivered-To: {ANA}\r\n{}", letter(n))
}

fn states(report: &RestoreReport) -> Vec<(&str, u32, RestoreState)> {
    report
        .rows
        .iter()
        .map(|r| (r.folder.as_str(), r.uid.0, r.state))
        .collect()
}

/// Two instants that the clock tells apart.
async fn a_moment() -> UnixMs {
    sleep(std::time::Duration::from_millis(3)).await;
    let now = unix_now();
    sleep(std::time::Duration::from_millis(3)).await;
    now
}

#[test]
fn an_expunged_message_comes_back_as_it_was() {
    use RestoreState::{Removed, Restored};
    let sim = SimDisk::new(1);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        for n in 1..=3 {
            deliver(&store, "INBOX", &letter(n))
                .await
                .expect("delivers");
        }
        let view = open(&store, "INBOX").await;
        let change = FlagChange {
            mode: FlagMode::Add,
            flags: Flags::SEEN.union(Flags::DELETED),
            keywords: vec!["Work".into()],
        };
        view.store(&[Uid(2)], &change, None).await.expect("stores");
        let before = view.row(Uid(2)).expect("a row");
        view.expunge(&[Uid(2)]).await.expect("expunges");
        store.checkpoint().await.expect("a checkpoint");
        let today = Day::of(unix_now());
        let kept = format!("{ROOT}/removed/{today}/1/1/M1");
        assert_eq!(names(&disk, Path::new(&kept)).await.len(), 1);
        let cur = format!("{ROOT}/mail/1/1/cur");
        assert_eq!(names(&disk, Path::new(&cur)).await.len(), 2);

        let report = restore(&store, ask(0)).await;
        assert_eq!(states(&report), [("INBOX", 2, Removed)]);
        assert_eq!((report.messages, report.restored), (1, 0));
        assert_eq!(texts(&store, "INBOX").await, [told(1), told(3)]);

        let report = restore(&store, ask(10)).await;
        assert_eq!(states(&report), [("INBOX", 2, Restored)]);
        assert_eq!((report.messages, report.restored), (0, 1));
        let view = open(&store, "INBOX").await;
        assert_eq!(view.uids(), [Uid(1), Uid(3), Uid(4)]);
        let after = view.row(Uid(4)).expect("a row");
        assert_eq!(after.flags, Flags::SEEN);
        assert_eq!(after.keywords, before.keywords);
        assert_eq!(after.internal_date, before.internal_date);
        assert_eq!(after.email_id, before.email_id);
        assert_eq!(
            (after.size, after.prefix_bytes),
            (before.size, before.prefix_bytes)
        );
        let all = [told(1), told(2), told(3)];
        assert_eq!(texts(&store, "INBOX").await, all);
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(texts(&store, "INBOX").await, all);

        let report = restore(&store, ask(10)).await;
        assert_eq!((report.rows, report.restored), (Vec::new(), 0));
    });
    life(&sim, |store| async move {
        assert_eq!(restore(&store, ask(10)).await.restored, 0);
        let all = [told(1), told(2), told(3)];
        assert_eq!(texts(&store, "INBOX").await, all);
    });
}

#[test]
fn a_deleted_folder_comes_back_with_all_that_it_had() {
    let sim = SimDisk::new(2);
    life(&sim, |store| async move {
        for n in 1..=4 {
            deliver(&store, "Work/2026", &letter(n))
                .await
                .expect("delivers");
        }
        store.checkpoint().await.expect("a checkpoint");
        deliver(&store, "Work/2026", &letter(5))
            .await
            .expect("delivers");
        let view = open(&store, "Work/2026").await;
        view.expunge(&[Uid(1)]).await.expect("expunges");
        let ana = ana(&store).await;
        ana.create("Empty", None).await.expect("creates");
        for name in ["Work/2026", "Work", "Empty"] {
            ana.delete(name).await.expect("deletes");
        }
    });
    life(&sim, |store| async move {
        let report = restore(&store, ask(0)).await;
        assert_eq!(report.folders, ["Empty", "Work", "Work/2026"]);
        assert_eq!(report.messages, 5);
        let report = restore(&store, ask(2)).await;
        assert_eq!((report.restored, report.messages), (2, 3));
        let report = restore(&store, ask(100)).await;
        assert_eq!((report.restored, report.messages), (3, 0));
        let all: Vec<String> = (1..=5).map(told).collect();
        assert_eq!(texts(&store, "Work/2026").await, all);
        let folders = ana(&store).await.mailboxes();
        for name in ["Work", "Work/2026", "Empty"] {
            let there = folders.iter().find(|m| m.name == name);
            assert!(there.is_some_and(|m| m.subscribed), "{name}");
        }
        let report = restore(&store, ask(100)).await;
        assert_eq!((report.rows.len(), report.folders.len()), (0, 0));
    });
}

#[test]
fn a_mailbox_as_it_was_at_a_moment() {
    use RestoreState::{Removed, There};
    life(&SimDisk::new(3), |store| async move {
        for n in 1..=3 {
            deliver(&store, "INBOX", &letter(n))
                .await
                .expect("delivers");
        }
        let three = a_moment().await;
        let view = open(&store, "INBOX").await;
        let trash = ana(&store).await.find("Trash").expect("Trash");
        view.move_to(&[Uid(1)], trash).await.expect("moves");
        let two = a_moment().await;
        view.expunge(&[Uid(2)]).await.expect("expunges");
        deliver(&store, "INBOX", &letter(4))
            .await
            .expect("delivers");
        let bin = open(&store, "Trash").await;
        let at = |at: UnixMs, folder: &str| RestoreRequest {
            at: Some(at),
            folder: Some(folder.into()),
            ..RestoreRequest::default()
        };
        let report = restore(&store, at(three, "inbox")).await;
        let want = [
            ("INBOX", 3, There),
            ("INBOX", 1, Removed),
            ("INBOX", 2, Removed),
        ];
        assert_eq!(states(&report), want, "the first is in Trash now");
        let report = restore(&store, at(two, "INBOX")).await;
        assert_eq!(
            states(&report),
            [("INBOX", 3, There), ("INBOX", 2, Removed)]
        );
        assert_eq!(states(&restore(&store, at(three, "Trash")).await), []);
        bin.expunge(&[Uid(1)]).await.expect("expunges");
        // Thrown away after it was moved: it goes back to where it was kept.
        let report = restore(&store, ask(10)).await;
        assert_eq!(report.restored, 2);
        let all: Vec<String> = (1..=4).map(told).collect();
        assert_eq!(texts(&store, "INBOX").await, all);
        let twice = RestoreRequest {
            duplicates: true,
            ..ask(10)
        };
        assert_eq!(restore(&store, twice.clone()).await.restored, 1);
        assert_eq!(texts(&store, "Trash").await, [told(1)]);
        assert_eq!(restore(&store, twice).await.restored, 0);
    });
}

/// A message that was moved since was `there`, and not in the folder that was asked for; and a
/// folder that was renamed since was not known by its name of then.
#[test]
fn a_folder_as_it_was_has_what_was_moved_and_its_name_of_then() {
    use RestoreState::{Removed, There};
    life(&SimDisk::new(12), |store| async move {
        for n in 1..=3 {
            deliver(&store, "Old/deep", &letter(n))
                .await
                .expect("delivers");
        }
        let then = a_moment().await;
        let account = ana(&store).await;
        let archive = account.find("Archive").expect("Archive");
        let view = open(&store, "Old/deep").await;
        view.move_to(&[Uid(1)], archive).await.expect("moves");
        account.rename("Old", "New").await.expect("renames");
        let between = a_moment().await;
        account.rename("New", "Newer").await.expect("renames");
        let of = |folder: &str, at: Option<UnixMs>, messages_max| RestoreRequest {
            at,
            folder: Some(folder.into()),
            ..ask(messages_max)
        };
        let deep = "Newer/deep";
        let want = [(deep, 2, There), (deep, 3, There), (deep, 1, Removed)];
        for name in ["Old", "Old/deep", "Newer"] {
            let report = restore(&store, of(name, Some(then), 0)).await;
            assert_eq!(states(&report), want, "{name}");
            assert!(!report.is_unknown, "{name}");
        }
        assert!(!restore(&store, of("New", None, 0)).await.is_unknown);
        assert!(restore(&store, of("Newest", None, 0)).await.is_unknown);
        let report = restore(&store, of("New", Some(between), 0)).await;
        assert_eq!(states(&report), want[..2]);
        // Without a folder, what is elsewhere is left alone.
        let anywhere = RestoreRequest {
            at: Some(then),
            ..ask(10)
        };
        assert_eq!(restore(&store, anywhere).await.restored, 0);
        let all: Vec<String> = (1..=3).map(told).collect();
        for restored in [1, 0] {
            let report = restore(&store, of("Old", Some(then), 10)).await;
            assert_eq!(report.restored, restored);
            assert_eq!(texts(&store, deep).await, all);
        }
        assert_eq!(texts(&store, "Archive").await, [told(1)]);
    });
}

/// A folder was filled by COPY from INBOX and deleted: it came back empty, for INBOX has the same.
#[test]
fn a_deleted_folder_of_copies_is_not_empty() {
    life(&SimDisk::new(8), |store| async move {
        for n in 1..=3 {
            deliver(&store, "INBOX", &letter(n))
                .await
                .expect("delivers");
        }
        let account = ana(&store).await;
        a_moment().await;
        for name in ["Proj", "Proj/a", "Proj/b", "Project"] {
            let id = account.create(name, None).await.expect("creates");
            let view = open(&store, "INBOX").await;
            view.copy(view.uids(), id).await.expect("copies");
        }
        a_moment().await;
        // What was thrown out of a folder singly is in INBOX still.
        let view = open(&store, "Proj/b").await;
        view.expunge(&[Uid(1)]).await.expect("expunges");
        a_moment().await;
        for name in ["Proj/a", "Proj/b", "Proj", "Project"] {
            account.delete(name).await.expect("deletes");
        }
        let of = |folder: &str, messages_max| RestoreRequest {
            folder: Some(folder.into()),
            ..ask(messages_max)
        };
        let typo = restore(&store, of("Prj", 0)).await;
        assert!(typo.is_unknown && typo.messages == 0);
        let told = restore(&store, of("Proj", 0)).await;
        assert!(!told.is_unknown);
        assert_eq!(told.folders, ["Proj", "Proj/a", "Proj/b"]);
        // In parts, as a running server does it.
        assert_eq!(restore(&store, of("Proj", 2)).await.restored, 2);
        assert_eq!(restore(&store, of("Proj", 100)).await.restored, 6);
        let all = texts(&store, "INBOX").await;
        assert_eq!(texts(&store, "Proj").await, all);
        assert_eq!(texts(&store, "Proj/a").await, all);
        assert_eq!(texts(&store, "Proj/b").await, all[1..]);
        assert_eq!(restore(&store, of("Proj", 100)).await.restored, 0);
        // Made again because nothing else is asked for.
        assert_eq!(restore(&store, ask(1)).await.folders, ["Project"]);
        assert_eq!(restore(&store, ask(100)).await.restored, 2);
        assert_eq!(texts(&store, "Project").await, all);
        assert_eq!(restore(&store, ask(100)).await.restored, 0);
    });
}

/// Of five equal messages one came back, and none while another was left.
#[test]
fn equal_messages_come_back_all() {
    life(&SimDisk::new(9), |store| async move {
        for _ in 0..6 {
            deliver(&store, "INBOX", &letter(1))
                .await
                .expect("delivers");
        }
        let view = open(&store, "INBOX").await;
        a_moment().await;
        view.expunge(&view.uids()[..5]).await.expect("expunges");
        a_moment().await;
        assert_eq!(restore(&store, ask(2)).await.restored, 2);
        assert_eq!(restore(&store, ask(100)).await.restored, 3);
        assert_eq!(texts(&store, "INBOX").await.len(), 6);
        assert_eq!(restore(&store, ask(100)).await.restored, 0);
        a_moment().await;
        // Thrown away, and the bin emptied: as many, and where they were.
        let account = ana(&store).await;
        let trash = account.find("Trash").expect("Trash");
        let view = open(&store, "INBOX").await;
        a_moment().await;
        view.move_to(view.uids(), trash).await.expect("moves");
        a_moment().await;
        let bin = open(&store, "Trash").await;
        bin.expunge(bin.uids()).await.expect("expunges");
        assert_eq!(restore(&store, ask(100)).await.restored, 6);
        assert_eq!(texts(&store, "INBOX").await.len(), 6);
        assert_eq!(restore(&store, ask(100)).await.restored, 0);
    });
}

#[test]
fn a_large_and_a_shared_body_come_back() {
    life(&SimDisk::new(4), |store| async move {
        let remote = store.remote();
        let large = format!("{}{}", letter(1), "0123456789abcdef\r\n".repeat(30_000));
        deliver(&store, "INBOX", &large).await.expect("delivers");
        // One file for two owners of a partition, each with a prefix of its own.
        let message = try_message(&remote, &letter(2)).await.expect("taken in");
        let to = vec![target(ANA, "INBOX"), target(ANA + 4, "INBOX")];
        let placed = remote.deliver(message, to, unix_now(), trace_id(), soon());
        placed.await.expect("delivers");
        let bare = "Subject: bare\n\nline\nline\n";
        let new = NewMessage {
            message: try_message(&remote, bare).await.expect("taken in"),
            flags: Flags::NONE,
            keywords: Vec::new(),
            internal_date: Some(UnixMs(1_000_000)),
            trace: None,
        };
        let ana = ana(&store).await;
        let inbox = ana.find("INBOX").expect("INBOX");
        ana.append(inbox, vec![new]).await.expect("appends");
        store.checkpoint().await.expect("a checkpoint");
        let before = texts(&store, "INBOX").await;
        let view = open(&store, "INBOX").await;
        let sizes: Vec<u64> = view
            .uids()
            .iter()
            .map(|&u| view.row(u).expect("a row").size)
            .collect();
        view.expunge(view.uids()).await.expect("expunges");
        assert_eq!(restore(&store, ask(10)).await.restored, 3);
        assert_eq!(texts(&store, "INBOX").await, before);
        let view = open(&store, "INBOX").await;
        let after: Vec<u64> = view
            .uids()
            .iter()
            .map(|&u| view.row(u).expect("a row").size)
            .collect();
        assert_eq!(sizes, after);
    });
}

#[test]
fn nothing_is_kept_where_it_is_off_or_purged_or_over() {
    let sim = SimDisk::new(5);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        let today = Day::of(unix_now());
        let day = format!("{ROOT}/removed/{today}");
        let removed = Path::new(&day);
        let round = async |n| {
            deliver(&store, "Old", &letter(n)).await.expect("delivers");
            deliver(&store, "INBOX", &letter(n + 1))
                .await
                .expect("delivers");
            let view = open(&store, "INBOX").await;
            view.expunge(view.uids()).await.expect("expunges");
            ana(&store).await.delete("Old").await.expect("deletes");
            store.checkpoint().await.expect("a checkpoint");
        };
        round(1).await;
        store.prune(Day(today.0 + 14)).await;
        assert_eq!(restore(&store, ask(0)).await.messages, 2);
        store.prune(Day(today.0 + 15)).await;
        assert!(!disk.exists(removed).await.expect("looks"));
        let history = format!("{ROOT}/history/1");
        assert_eq!(names(&disk, Path::new(&history)).await.len(), 0);
        assert_eq!(restore(&store, ask(0)).await.rows, []);
        round(3).await;
        assert_eq!(restore(&store, ask(0)).await.messages, 2);
        let purged = store.remote().purge(account(ANA), soon()).await;
        purged.expect("purges");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(names(&disk, &removed.join("1")).await.len(), 0);
        assert_eq!(restore(&store, ask(0)).await.messages, 0);
        store.checkpoint().await.expect("a checkpoint");
        let history = disk
            .read(&Path::new(&history).join(today.to_string()))
            .await;
        let history = history.expect("is there");
        let told = history.windows(8).any(|octets| octets == b"PALHIS01");
        assert!(!told && !history.is_empty());
    });
    let sim = SimDisk::new(6);
    let disk = Disk::sim(sim.clone());
    block_on(async move {
        let mut cfg = config(1);
        cfg.undelete_days = 0;
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        let store = store.expect("opens");
        deliver(&store, "Old", &letter(1)).await.expect("delivers");
        deliver(&store, "INBOX", &letter(2))
            .await
            .expect("delivers");
        let view = open(&store, "INBOX").await;
        view.expunge(view.uids()).await.expect("expunges");
        ana(&store).await.delete("Old").await.expect("deletes");
        store.checkpoint().await.expect("a checkpoint");
        let today = Day::of(unix_now());
        let left = format!("{ROOT}/removed/{today}/1/1");
        assert_eq!(names(&disk, Path::new(&left)).await.len(), 0);
        assert_eq!(restore(&store, ask(0)).await.rows, []);
    })
    .expect("an executor");
}

/// A full disk: what is kept goes, and deleting frees room.
#[test]
fn the_oldest_day_goes_when_the_disk_is_full() {
    let sim = SimDisk::new(7);
    let inner = sim.clone();
    life(&sim, |store| async move {
        let filler = "0123456789abcdef\r\n".repeat(10_000);
        for n in 1..=10 {
            let text = format!("{}{filler}", letter(n));
            deliver(&store, "INBOX", &text).await.expect("delivers");
        }
        store.checkpoint().await.expect("a checkpoint");
        let view = open(&store, "INBOX").await;
        view.expunge(&view.uids()[1..]).await.expect("expunges");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(restore(&store, ask(0)).await.messages, 9);
        let disk = Disk::sim(inner.clone());
        inner.set_capacity(1 << 40);
        let free = disk.free_bytes().await.expect("is told");
        inner.set_capacity((1 << 40) - free + 1000);
        for n in 20..=24 {
            let text = format!("{}{filler}", letter(n));
            deliver(&store, "INBOX", &text)
                .await
                .expect("the journal has room");
        }
        let until = soon();
        while store.stats().unsettled > 0 {
            assert!(crate::runtime::now() < until.0, "it is settled in the end");
            sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(store.stats().history_days_early, 1);
        assert_eq!(texts(&store, "INBOX").await.len(), 6);
        let report = restore(&store, ask(0)).await;
        assert_eq!(report.messages, 0);
    });
}

/// A life some days after the first: what was moved is known by its times.
fn life_on_day<F>(sim: &SimDisk, day: u64, body: impl FnOnce(Store) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let disk = Disk::sim(sim.clone());
    let at = UnixMs(1_790_000_000_000 + day as i64 * 86_400_000);
    simulate(1, at, async move {
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk).await;
        body(store.expect("opens")).await;
    });
}

/// Random removals, restores and checkpoints, cut off anywhere: whatever was delivered is there,
/// or can be restored, as it was.
#[test]
fn nothing_that_was_removed_is_lost_in_a_crash() {
    let seeds = match std::env::var("PALOMAR_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..40).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        println!("PALOMAR_SEED={seed}");
        let mut random = Random(seed);
        let mut sim = SimDisk::new(seed);
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        for round in 0..3 {
            let (inner, mut inside) = (sim.clone(), Random(random.below(u64::MAX)));
            let (send, receive) = std::sync::mpsc::channel();
            let before = known.clone();
            life_on_day(&sim, round, move |store| async move {
                let mut all = before;
                check(&store, &all).await;
                inner.stop_after(20 + inside.below(400));
                for n in 0..60 {
                    let n = seed * 10_000 + round * 100 + n;
                    if step(&store, &mut inside, n, &mut all).await.is_err() {
                        break;
                    }
                }
                send.send(all).expect("is received");
            });
            known = receive.recv().expect("a life's end");
            sim = sim.power_cut(random.below(u64::MAX));
        }
        life_on_day(&sim, 3, move |store| async move {
            check(&store, &known).await;
        });
    }
}

/// One random command; a letter that is acknowledged is known for certain.
async fn step(
    store: &Store,
    random: &mut Random,
    n: u64,
    known: &mut BTreeMap<String, bool>,
) -> Result<(), StoreError> {
    let folders = ["INBOX", "Work", "Trash"];
    let name = folders[random.below(3) as usize];
    let ana = store.remote().account(account(ANA)).await?;
    let view = match ana.find(name) {
        Some(id) => Some(ana.select(id, Access::ReadWrite).await?),
        None => None,
    };
    match random.below(12) {
        0..=4 => {
            known.insert(told(n), false);
            deliver(store, name, &letter(n)).await?;
            known.insert(told(n), true);
        }
        5 | 6 => {
            if let Some(view) = view {
                let uids: Vec<Uid> = view
                    .uids()
                    .iter()
                    .copied()
                    .filter(|_| random.below(2) == 0)
                    .collect();
                view.expunge(&uids).await?;
            }
        }
        7 => {
            let to = ana.find("Trash").expect("is there");
            if let Some(view) = view.filter(|_| name != "Trash") {
                let uids: Vec<Uid> = view
                    .uids()
                    .iter()
                    .copied()
                    .filter(|_| random.below(2) == 0)
                    .collect();
                view.move_to(&uids, to).await?;
            }
        }
        8 if name == "Work" && view.is_some() => ana.delete("Work").await?,
        8 if view.is_some() => {
            let change = FlagChange {
                mode: FlagMode::Add,
                flags: Flags::SEEN,
                keywords: vec![format!("K{n}")],
            };
            let view = view.expect("was looked at");
            view.store(view.uids(), &change, None).await?;
        }
        9 | 10 => store.checkpoint().await?,
        _ => {
            let some = ask(random.below(4));
            store.remote().restore(account(ANA), some, soon()).await?;
        }
    }
    Ok(())
}

/// Restores everything and looks that all is there, once, and nothing else.
async fn check(store: &Store, known: &BTreeMap<String, bool>) {
    let report = restore(store, ask(10_000)).await;
    assert_eq!((report.damaged, report.messages), (0, 0), "{report:?}");
    let lost = report
        .rows
        .iter()
        .filter(|row| matches!(row.state, RestoreState::Gone | RestoreState::Damaged));
    assert_eq!(lost.count(), 0, "{report:?}");
    let mut there = Vec::new();
    for mailbox in ana(store).await.mailboxes() {
        there.extend(texts(store, &mailbox.name).await);
    }
    for (text, certain) in known {
        let copies = there.iter().filter(|t| *t == text).count();
        match certain {
            true => assert_eq!(copies, 1, "{text}"),
            false => assert!(copies <= 1, "{text}"),
        }
    }
    assert!(there.iter().all(|text| known.contains_key(text)));
    let stats = store.stats();
    assert_eq!((stats.misfits, stats.history_lost), (0, 0));
}

/// Mail was moved out of a folder, the folder deleted, and its grave removed, for age or for want
/// of room, before a checkpoint: the replay had nothing to copy from, and the mail was lost.
#[test]
fn a_grave_stays_until_a_checkpoint_covers_it() {
    for (days, full) in [(14, false), (14, true), (0, false), (0, true)] {
        let sim = SimDisk::new(7);
        let disk = Disk::sim(sim.clone());
        let cfg = crate::store::StoreConfig {
            undelete_days: days,
            ..config(1)
        };
        let next = cfg.clone();
        block_on(async move {
            let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
            let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
            let store = store.expect("opens");
            deliver(&store, "Old", &letter(1)).await.expect("delivers");
            store.checkpoint().await.expect("a checkpoint");
            let view = open(&store, "Old").await;
            let to = ana(&store).await.find("Archive").expect("is there");
            view.move_to(view.uids(), to).await.expect("moves");
            ana(&store).await.delete("Old").await.expect("deletes");
            store.settle_all().await.expect("settles");
            let today = Day::of(unix_now());
            match full {
                true => drop(crate::store::history::free(&disk, &store.shard().owned).await),
                false => store.prune(Day(today.0 + 100)).await,
            }
        })
        .expect("the executor runs");
        let disk = Disk::sim(sim);
        block_on(async move {
            let recovered = Store::recover_all(next, &disk).await.expect("recovers");
            let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
            let store = store.expect("opens");
            assert_eq!(texts(&store, "Archive").await, [told(1)], "{days} {full}");
            // And then it goes.
            store.checkpoint().await.expect("a checkpoint");
            store.prune(Day(Day::of(unix_now()).0 + 100)).await;
            let day = format!("{ROOT}/removed/{}", Day::of(unix_now()));
            assert!(!disk.exists(Path::new(&day)).await.expect("looks"));
        })
        .expect("the executor runs");
    }
}

/// The clock was set 30 days ahead for some hours: everything that was kept went.
#[test]
fn a_clock_that_jumps_prunes_nothing_before_a_day_has_agreed() {
    const HOUR: u64 = 3600;
    const DAYS_30: i64 = 30 * 86_400_000;
    let sim = SimDisk::new(30);
    // Several lives: a day of uptime need not be one.
    let hours = |hours: u64, ahead: bool, is_kept: bool| {
        life(&sim, move |store| async move {
            if ahead {
                jump_clock(DAYS_30);
            }
            sleep(std::time::Duration::from_secs(hours * HOUR)).await;
            let left = restore(&store, ask(0)).await.messages;
            assert_eq!(left == 1, is_kept, "after {hours} hours, ahead: {ahead}");
        });
    };
    life(&sim, |store| async move {
        deliver(&store, "INBOX", &letter(1))
            .await
            .expect("delivers");
        let view = open(&store, "INBOX").await;
        view.expunge(&[Uid(1)]).await.expect("expunges");
        store.checkpoint().await.expect("a checkpoint");
    });
    hours(15, true, true);
    hours(15, false, true);
    hours(15, true, true);
    // No look any more that said otherwise.
    hours(15, true, true);
    hours(22, true, false);
}
