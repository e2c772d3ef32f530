//! Bits that flip and files that go while nobody looks, by seed: every session works, every UID is
//! kept, and all that is not itself damaged is served as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Random;
use super::{ROOT, account, letter, life, message, soon, target};
use crate::base::Uid;
use crate::runtime::{Disk, SimDisk, Step, trace_id, unix_now};
use crate::store::{
    Access, Account, FlagChange, FlagMode, Flags, NewMessage, RepairOrder, ScrubOrder, Store,
    StoreError, View,
};

/// One message as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    text: String,
    flags: u8,
    keywords: BTreeSet<String>,
    date: i64,
    digest: Vec<u8>,
}

/// Mailbox names to UIDVALIDITY and messages.
pub(super) type Truth = BTreeMap<String, (u32, BTreeMap<u32, Mail>)>;

pub(super) async fn deliver(store: &Store, owners: &[u64], mailbox: &str, n: u64) {
    let remote = store.remote();
    let body = message(&remote, &letter(n)).await;
    let targets = owners.iter().map(|&to| target(to, mailbox)).collect();
    let placed = remote.deliver(body, targets, unix_now(), trace_id(), soon());
    placed.await.expect("delivered");
}

async fn open(account: &Account, name: &str) -> View {
    let id = account.find(name).expect("is there");
    account
        .select(id, Access::ReadWrite)
        .await
        .expect("selects")
}

async fn text(view: &View, uid: Uid) -> Result<String, StoreError> {
    let body = view.body(uid).await?;
    let bytes = body.read(0..body.len()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn change(flags: Flags, keyword: &str) -> FlagChange {
    FlagChange {
        mode: FlagMode::Add,
        flags,
        keywords: vec![keyword.to_owned()],
    }
}

/// Deliveries, appends, copies, moves, flags and expunges, with checkpoints between them.
pub(super) async fn fill(store: &Store, seed: u64) {
    let mut random = Random(seed);
    let ana = store.remote().account(account(1)).await.expect("opens");
    ana.create("Projects/2026", None).await.expect("creates");
    let folders = ["INBOX", "Projects/2026", "Archive"];
    for n in 0..40 {
        let folder = folders[random.below(3) as usize];
        match random.below(9) {
            0..=2 => deliver(store, &[1], folder, n).await,
            // Both in one partition: the file is shared, and their own lines stand apart.
            3 => deliver(store, &[1, 5], folder, n).await,
            4 => {
                let body = message(&store.remote(), &letter(n)).await;
                let new = NewMessage {
                    message: body,
                    flags: Flags::SEEN,
                    keywords: vec!["Sent".into()],
                    internal_date: Some(crate::base::UnixMs(1_600_000_000_000 + n as i64 * 1000)),
                    trace: None,
                };
                let id = ana.find(folder).expect("is there");
                ana.append(id, vec![new]).await.expect("appends");
            }
            5 | 6 => {
                let view = open(&ana, folder).await;
                let all = view.uids().to_vec();
                let some: Vec<Uid> = all.into_iter().filter(|_| random.below(3) == 0).collect();
                let flags = [Flags::SEEN, Flags::FLAGGED, Flags::ANSWERED];
                let flags = flags[random.below(3) as usize];
                let keyword = format!("K{}", random.below(4));
                let change = change(flags, &keyword);
                view.store(&some, &change, None).await.expect("stores");
            }
            7 => {
                let view = open(&ana, folder).await;
                let to = ana
                    .find(folders[random.below(3) as usize])
                    .expect("is there");
                let some: Vec<Uid> = view.uids().iter().take(2).copied().collect();
                match random.below(2) {
                    0 => view.copy(&some, to).await.expect("copies"),
                    _ => view.move_to(&some, to).await.expect("moves"),
                };
            }
            _ => {
                let view = open(&ana, folder).await;
                let some: Vec<Uid> = view.uids().iter().take(1).copied().collect();
                view.expunge(&some).await.expect("expunges");
            }
        }
        match random.below(12) {
            0 => store.checkpoint().await.expect("a checkpoint"),
            1 => store.rewrite_index(1, folder).await.expect("rewrites"),
            _ => {}
        }
    }
}

pub(super) async fn truth(store: &Store) -> Truth {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let mut all = Truth::new();
    for info in ana.mailboxes() {
        let view = open(&ana, &info.name).await;
        let mut mails = BTreeMap::new();
        for &uid in view.uids() {
            let row = view.row(uid).expect("a row");
            let mail = Mail {
                text: text(&view, uid).await.expect("reads"),
                flags: row.flags.0,
                keywords: row.keywords.iter().map(|k| k.to_string()).collect(),
                date: row.internal_date.0,
                digest: view.digest(uid).await.expect("a digest").to_vec(),
            };
            mails.insert(uid.0, mail);
        }
        let status = view.status().expect("a status");
        assert_eq!(status.messages as usize, mails.len());
        all.insert(info.name, (status.uidvalidity.0, mails));
    }
    all
}

/// Everything below a directory.
async fn files_below(disk: &Disk, dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir).await.unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => dirs.push(path),
                false => all.push(path),
            }
        }
    }
    all.sort();
    all
}

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Flip,
    Sector,
    Cut,
    Gone,
}

pub(super) async fn harm(disk: &Disk, path: &Path, how: Harm, random: &mut Random) {
    let bytes = disk.read(path).await.expect("is there");
    let at = random.below(bytes.len().max(1) as u64);
    let write = |at: u64, bytes: Vec<u8>| Step::Append {
        path: path.into(),
        at,
        bytes,
    };
    let step = match how {
        _ if bytes.is_empty() => return,
        Harm::Flip => write(at, vec![bytes[at as usize] ^ 1 << random.below(8)]),
        Harm::Sector => {
            let from = at / 512 * 512;
            let len = (bytes.len() as u64 - from).min(512);
            write(from, vec![0; len as usize])
        }
        Harm::Cut => Step::Truncate {
            path: path.into(),
            len: at,
        },
        Harm::Gone => Step::Unlink { path: path.into() },
    };
    for done in disk.batch(vec![step]).await {
        done.expect("harmed");
    }
}

/// The part of the text that the file holds: what stood apart from it goes with the index.
fn body(text: &str) -> &str {
    text.strip_prefix("Delivered-To: 1\r\n").unwrap_or(text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Index,
    Cache,
    Message,
}

fn is_a(path: &Path, target: Target) -> bool {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    match target {
        Target::Index => name.starts_with("palomar.index.") || name.starts_with("palomar.log."),
        Target::Cache => name == "palomar.cache",
        Target::Message => path.parent().is_some_and(|dir| dir.ends_with("cur")),
    }
}

/// One story: mail comes and goes, the disk rots, and the next life serves all that is left.
fn story(seed: u64, target: Target) {
    let sim = SimDisk::new(seed);
    let disk = Disk::sim(sim.clone());
    let known = std::rc::Rc::new(std::cell::RefCell::new(Truth::new()));
    let keep = known.clone();
    life(&sim, move |store| async move {
        fill(&store, seed).await;
        if seed.is_multiple_of(2) {
            store.checkpoint().await.expect("a checkpoint");
        }
        *keep.borrow_mut() = truth(&store).await;
    });
    let known = known.take();
    life(&sim, |store| async move {
        store.checkpoint().await.expect("a checkpoint");
    });
    let rot = disk;
    let damaged = std::rc::Rc::new(std::cell::RefCell::new(BTreeSet::new()));
    let note = damaged.clone();
    crate::runtime::block_on(async move {
        let mut random = Random(seed ^ 0xdead);
        let root = PathBuf::from(format!("{ROOT}/mail/1/1"));
        let all = files_below(&rot, &root).await;
        let all: Vec<PathBuf> = all.into_iter().filter(|p| is_a(p, target)).collect();
        for _ in 0..1 + random.below(3) {
            let path = &all[random.below(all.len() as u64) as usize];
            let how = [Harm::Flip, Harm::Sector, Harm::Cut, Harm::Gone];
            let how = how[random.below(4) as usize];
            if rot.exists(path).await.expect("looks") {
                harm(&rot, path, how, &mut random).await;
                note.borrow_mut().insert(path.clone());
            }
        }
        rot.syncfs().await.expect("the damage lasts");
    })
    .expect("runs");
    let damaged = damaged.take();
    let mut sim = sim;
    for life_number in 0..2 {
        if seed.is_multiple_of(3) {
            // What was made anew and not made durable is made anew again.
            sim = sim.power_off(seed);
        }
        let (known, damaged) = (known.clone(), damaged.clone());
        life(&sim, move |store| async move {
            check(&store, &known, &damaged, seed, life_number).await;
        });
    }
    sim.discard();
}

pub(super) async fn check(
    store: &Store,
    known: &Truth,
    damaged: &BTreeSet<PathBuf>,
    seed: u64,
    life: u32,
) {
    let what = format!("seed {seed}, life {life}, damaged {damaged:?}");
    let ana = store.remote().account(account(1)).await.expect("opens");
    for (name, (validity, mails)) in known {
        let view = open(&ana, name).await;
        let status = view.status().expect("a status");
        assert_eq!(status.uidvalidity.0, *validity, "{what}");
        let uids: Vec<u32> = view.uids().iter().map(|uid| uid.0).collect();
        let want: Vec<u32> = mails.keys().copied().collect();
        assert_eq!(uids, want, "{what}: UIDs of {name}");
        assert_eq!(
            status.messages as usize,
            mails.len(),
            "{what}: count of {name}"
        );
        for (uid, mail) in mails {
            let uid = Uid(*uid);
            let row = view.row(uid).expect("a row");
            let keywords: BTreeSet<String> = row.keywords.iter().map(|k| k.to_string()).collect();
            assert_eq!(row.flags.0, mail.flags, "{what}: flags of {uid} in {name}");
            assert_eq!(
                keywords, mail.keywords,
                "{what}: keywords of {uid} in {name}"
            );
            match text(&view, uid).await {
                Ok(text) if !damaged.iter().any(|p| is_a(p, self::Target::Message)) => {
                    assert_eq!(body(&text), body(&mail.text), "{what}: {uid} in {name}");
                    assert_eq!(
                        row.internal_date.0, mail.date,
                        "{what}: date of {uid} in {name}"
                    );
                    let digest = view.digest(uid).await;
                    let digest = digest.unwrap_or_else(|why| panic!("{what}: {why:?}"));
                    assert_eq!(*digest, *mail.digest, "{what}: digest of {uid} in {name}");
                }
                Ok(_) => {}
                Err(StoreError::Damaged { .. }) => {
                    let is_message = |p: &PathBuf| is_a(p, self::Target::Message);
                    assert!(damaged.iter().any(is_message), "{what}: {uid} in {name}");
                }
                Err(why) => panic!("{what}: {uid} in {name}: {why:?}"),
            }
        }
    }
    // And it goes on.
    deliver(store, &[1], "INBOX", 99).await;
    let view = open(&ana, "INBOX").await;
    let last = *view.uids().last().expect("a letter");
    let known = known["INBOX"].1.keys().last().copied().unwrap_or(0);
    assert!(last.0 > known, "{what}");
    view.expunge(&[last]).await.expect("expunges");
    if !seed.is_multiple_of(3) {
        store.checkpoint().await.expect("a checkpoint");
    }
}

fn stories(target: Target, count: u64) {
    if let Ok(seed) = std::env::var("PALOMAR_SEED") {
        return story(seed.parse().expect("a number"), target);
    }
    (1..=count).for_each(|seed| story(seed, target));
}

/// A file that no row names becomes a new message, and a row without a file goes when it is told to.
#[test]
fn repair_takes_orphans_in_and_drops_what_is_gone() {
    let sim = SimDisk::new(1);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        for n in 1..=3 {
            deliver(&store, &[1], "INBOX", n).await;
        }
        store.settle_all().await.expect("settles");
        let cur = PathBuf::from(format!("{ROOT}/mail/1/1/cur"));
        let files = files_below(&disk, &cur).await;
        let copy = cur.join("1.M1P1.elsewhere:2,F");
        disk.link(&files[0], &copy).await.expect("links");
        let same_name = files[0].with_file_name("1.P1Q1N0U2.palomar,S=60,W=60:2,");
        disk.link(&files[0], &same_name).await.expect("links");
        disk.unlink(&files[2]).await.expect("unlinks");
        let mut order = RepairOrder {
            folder: Some("inbox".into()),
            apply: false,
            drop_missing: true,
        };
        let told = store.repair(account(1), &order).await.expect("tells");
        assert_eq!(told[0].files_without_row.len(), 2, "{told:?}");
        assert_eq!((told[0].missing.len(), told[0].dropped), (1, 0));
        order.apply = true;
        let done = store.repair(account(1), &order).await.expect("repairs");
        assert_eq!((done[0].taken_in, done[0].dropped), (2, 1));
        let ana = store.remote().account(account(1)).await.expect("opens");
        let view = open(&ana, "INBOX").await;
        assert_eq!(view.uids().len(), 4);
        assert!(view.uids().ends_with(&[Uid(4), Uid(5)]));
        let mut texts = Vec::new();
        for &uid in view.uids() {
            texts.push(text(&view, uid).await.expect("reads"));
        }
        assert_eq!((&texts[2], &texts[3]), (&texts[0], &texts[0]));
        let again = store.repair(account(1), &order).await.expect("repairs");
        assert_eq!((again[0].taken_in, again[0].missing.len()), (0, 0));
        let all = ScrubOrder {
            account: None,
            rate: 0,
        };
        store.scrub(all).await.expect("scrubs");
        assert_eq!(store.scrub_status().findings, []);
    });
}

#[test]
fn an_index_that_rots_is_made_anew_with_its_uids() {
    stories(Target::Index, 80);
}

#[test]
fn a_cache_that_rots_is_made_anew() {
    stories(Target::Cache, 30);
}

#[test]
fn a_message_that_rots_leaves_the_others_alone() {
    stories(Target::Message, 30);
}
