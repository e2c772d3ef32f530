//! What fails besides room and syncs (`failures`): each fault has the outcome that `docs/STORE.md`
//! ("A full or failing disk") names, and what was acknowledged is there afterwards.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::failures::texts;
use super::{ROOT, account, config, letter, life, message, names, run, soon, target, try_message};
use crate::base::Uid;
use crate::runtime::{Disk, DiskErrorKind, DiskOp, SimDisk, Step, trace_id, unix_now};
use crate::store::{
    Access, FlagChange, FlagMode, Flags, StartError, Store, StoreError, View, lock,
};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const EROFS: i32 = 30;

async fn deliver(store: &Store, n: u64) -> Result<(), StoreError> {
    let remote = store.remote();
    let body = try_message(&remote, &letter(n)).await?;
    let to = vec![target(1, "INBOX")];
    let sent = remote.deliver(body, to, unix_now(), trace_id(), soon());
    sent.await.map(drop)
}

/// Letters 1 to 3, in files.
async fn three(store: &Store) {
    for n in 1..=3 {
        deliver(store, n).await.expect("delivers");
    }
    store.checkpoint().await.expect("a checkpoint");
}

async fn select(store: &Store) -> Result<View, StoreError> {
    let ana = store.remote().account(account(1)).await?;
    let id = ana.find("INBOX").expect("INBOX");
    ana.select(id, Access::ReadWrite).await
}

async fn read(view: &View, uid: u32) -> Result<String, StoreError> {
    let body = view.body(Uid(uid)).await?;
    let bytes = body.read(0..body.len()).await?;
    Ok(String::from_utf8(bytes).expect("text"))
}

fn seen() -> FlagChange {
    FlagChange {
        mode: FlagMode::Add,
        flags: Flags::SEEN,
        keywords: Vec::new(),
    }
}

fn is_damaged<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Damaged { .. }))
}

/// The next start has these letters.
fn next_start(sim: &SimDisk, count: u64) {
    life(&sim.power_cut(7), move |store| async move {
        let want: Vec<String> = (1..=count).map(letter).collect();
        assert_eq!(texts(&store, 1, "INBOX").await, want);
        store.checkpoint().await.expect("a checkpoint");
    });
}

#[test]
fn a_read_that_fails_harms_what_is_read_alone() {
    let sim = SimDisk::new(1);
    let disk = sim.clone();
    life(&sim, |store| async move {
        three(&store).await;
    });
    life(&sim, move |store| async move {
        for again in 0..8 {
            disk.fail(DiskOp::Read, "/palomar.log.", 1 + again, EIO);
        }
        let view = select(&store).await.expect("the index is made anew");
        assert_eq!(store.stats().indexes_rebuilt, 1);
        disk.fail(DiskOp::Read, "/cur/", 1, EIO);
        assert!(is_damaged(&read(&view, 2).await));
        assert!(read(&view, 1).await.expect("reads").ends_with(&letter(1)));
        assert!(read(&view, 2).await.expect("reads").ends_with(&letter(2)));
        disk.fail(DiskOp::Read, "/palomar.cache", 1, EIO);
        assert!(view.digest(Uid(1)).await.is_ok(), "made anew");
        deliver(&store, 4).await.expect("delivers");
        assert!(!store.is_poisoned());
    });
    next_start(&sim, 4);
}

#[test]
fn a_read_only_file_system_is_read_and_takes_nothing() {
    let sim = SimDisk::new(2);
    let disk = sim.clone();
    life(&sim, move |store| async move {
        three(&store).await;
        let view = select(&store).await.expect("selects");
        disk.set_read_only(true);
        assert!(read(&view, 3).await.expect("reads").ends_with(&letter(3)));
        assert!(store.checkpoint().await.is_err(), "is put off");
        assert_eq!(deliver(&store, 4).await, Err(StoreError::Poisoned));
        assert_eq!(view.expunge(&[Uid(1)]).await, Err(StoreError::Poisoned));
        assert!(read(&view, 3).await.expect("reads").ends_with(&letter(3)));
        assert!(store.is_poisoned());
    });
    let disk = Disk::sim(sim.clone());
    let refused = run(async move { Store::recover_all(config(1), &disk).await.map(drop) });
    let Err(StartError::Disk(error)) = refused else {
        panic!("starts on a disk that it cannot write: {refused:?}");
    };
    assert_eq!(error.kind, DiskErrorKind::Io(EROFS));
    assert!(error.to_string().contains(ROOT), "{error}");
    sim.set_read_only(false);
    next_start(&sim, 3);
}

#[test]
fn a_file_that_vanished_is_told_counted_and_passed_over() {
    let sim = SimDisk::new(3);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        three(&store).await;
        let view = select(&store).await.expect("selects");
        let cur = Path::new(ROOT).join("mail/1/1/cur");
        let file = names(&disk, &cur)
            .await
            .into_iter()
            .find(|n| n.contains("Q3N"));
        disk.unlink(&cur.join(file.expect("a file")))
            .await
            .expect("unlinks");
        let mut damaged = 0;
        for uid in 1..=3 {
            damaged += u32::from(is_damaged(&read(&view, uid).await));
        }
        assert_eq!(damaged, 1);
        assert!(store.stats().files_missing > 0);
        let all = [Uid(1), Uid(2), Uid(3)];
        view.store(&all, &seen(), None).await.expect("stores");
        store.settle_all().await.expect("settles");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(view.uids().len(), 3, "nothing is expunged for it");
        deliver(&store, 4).await.expect("delivers");
    });
    life(&sim.power_cut(1), |store| async move {
        let view = select(&store).await.expect("selects");
        assert_eq!(view.uids().len(), 4);
        view.expunge(&[Uid(1), Uid(2), Uid(3)])
            .await
            .expect("can be removed");
        store.checkpoint().await.expect("a checkpoint");
    });
}

#[test]
fn too_many_open_files_is_busy_and_passes() {
    let sim = SimDisk::new(4);
    let disk = sim.clone();
    life(&sim, |store| async move {
        three(&store).await;
    });
    life(&sim, move |store| async move {
        let view = select(&store).await.expect("selects");
        disk.fail(DiskOp::Open, "/cur/", 1, EMFILE);
        assert_eq!(read(&view, 1).await, Err(StoreError::Busy));
        assert!(read(&view, 1).await.expect("reads").ends_with(&letter(1)));
        disk.fail(DiskOp::Open, "/spool/", 1, EMFILE);
        let large = "0123456789abcdef\r\n".repeat(20_000);
        let refused = try_message(&store.remote(), &large).await;
        assert_eq!(refused.map(drop), Err(StoreError::Busy));
        message(&store.remote(), &large).await;
        for n in 1..=3 {
            disk.fail(DiskOp::Open, "/tmp/", n, EMFILE);
        }
        deliver(&store, 4).await.expect("the journal is open");
        let mut put_off = 0;
        while store.checkpoint().await.is_err() {
            put_off += 1;
            assert!(put_off < 10);
        }
        assert!(!store.is_poisoned());
    });
    next_start(&sim, 4);
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_by_name() {
    let mut catalogue = b"PALCAT99, whatever else it says".to_vec();
    let crc = crate::base::crc32c(&catalogue).0.to_le_bytes();
    catalogue.extend_from_slice(&crc);
    for (file, bytes) in [
        ("format", b"palomar 99\npartitions 4\n".to_vec()),
        ("partitions/1/catalogue", catalogue),
    ] {
        let sim = SimDisk::new(5);
        life(&sim, |store| async move {
            three(&store).await;
        });
        let disk = Disk::sim(sim);
        let path = Path::new(ROOT).join(file);
        let refused = run(async move {
            disk.unlink(&path).await.expect("unlinks");
            disk.write_new(&path, bytes).await.expect("writes");
            Store::recover_all(config(1), &disk).await.map(drop)
        });
        let why = refused.expect_err("is refused").to_string();
        assert!(why.contains(file), "{why}");
    }
}

/// Each in a process of its own, as it is in life.
#[test]
fn a_second_process_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("lock");
    let held = lock(home.path()).expect("is free");
    let mut second = Command::new("flock");
    let outcome = second
        .arg("-n")
        .arg(&path)
        .arg("true")
        .status()
        .expect("flock runs");
    assert!(!outcome.success());
    drop(held);

    let mut other = Command::new("flock");
    other.arg(&path).args(["sh", "-c", "echo held; read end"]);
    let other = other.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = other.spawn().expect("flock runs");
    let mut said = String::new();
    let out = other.stdout.take().expect("a pipe");
    BufReader::new(out)
        .read_line(&mut said)
        .expect("it says so");
    let refused = lock(home.path()).map(drop);
    assert!(
        matches!(refused, Err(StartError::InUse { .. })),
        "{refused:?}"
    );
    drop(other.stdin.take());
    other.wait().expect("it ends");
    lock(home.path()).expect("is free again");
}

/// Cut, lengthened and changed messages were `NO [CORRUPTION]` to who read them, and nobody else
/// was ever told: no counter, no line.
#[test]
fn a_damaged_message_is_counted_once_whoever_finds_it() {
    let sim = SimDisk::new(4);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move { three(&store).await });
    life(&sim, move |store| async move {
        let cur = Path::new(ROOT).join("mail/1/1/cur");
        let mut files = names(&disk, &cur).await;
        files.sort();
        let write = |n: usize, at: u64| Step::Append {
            path: cur.join(&files[n]),
            at,
            bytes: b"!".to_vec(),
        };
        let cut = Step::Truncate {
            path: cur.join(&files[0]),
            len: 20,
        };
        let end = disk.read(&cur.join(&files[1])).await.expect("reads").len();
        for done in disk
            .batch(vec![cut, write(1, end as u64), write(2, 30)])
            .await
        {
            done.expect("harmed");
        }
        let view = select(&store).await.expect("selects");
        let told = || store.stats().messages_damaged;
        for _ in 0..2 {
            assert!(is_damaged(&read(&view, 1).await));
            assert_eq!(told(), 1);
        }
        let all = crate::store::ScrubOrder {
            account: None,
            rate: 0,
        };
        for _ in 0..2 {
            store.scrub(all).await.expect("scrubs");
            assert_eq!(told(), 3);
        }
        let findings = store.scrub_status().findings;
        let named = |(finding, file): (&crate::store::Finding, &String)| {
            let stem = file.split(":2,").next().expect("a name");
            finding.detail.ends_with(&format!("mail/1/1/cur/{stem}"))
        };
        assert!(findings.iter().zip(&files).all(named), "{findings:?}");
        assert_eq!(findings.len(), 3);
        assert!(read(&view, 3).await.is_ok(), "the best there is");
        assert_eq!(store.stats().files_missing, 0);
    });
}

/// The table in `docs/STORE.md` names tests that exist.
#[test]
fn every_fault_in_the_table_has_its_test() {
    let text = include_str!("../../../docs/STORE.md");
    let from = text.find("## A full or failing disk").expect("the section");
    let sources = [
        ("catalogue", include_str!("catalogue.rs")),
        ("faults", include_str!("faults.rs")),
        ("failures", include_str!("failures.rs")),
        ("history", include_str!("history.rs")),
        ("large", include_str!("large.rs")),
        ("room", include_str!("room.rs")),
        ("regressions", include_str!("regressions.rs")),
        ("settling", include_str!("settling.rs")),
        ("world", include_str!("world.rs")),
    ];
    let rows = text[from..]
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    let mut count = 0;
    for row in rows {
        let test = row
            .trim_end_matches(" |")
            .rsplit("| ")
            .next()
            .expect("a cell");
        let test = test.trim_matches('`');
        let (room, name) = test
            .split_once("::")
            .expect("a test at the end of each row");
        let source = sources.iter().find(|(file, _)| *file == room);
        let (_, source) = source.unwrap_or_else(|| panic!("no tests {room}"));
        assert!(source.contains(&format!("fn {name}(")), "no test {test}");
        count += 1;
    }
    assert!(count > 10, "the table was not found");
}
