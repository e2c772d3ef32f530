//! Trees of other programs, adopted: everything they knew is kept, wherever power goes.

use std::path::{Path, PathBuf};

use super::{ROOT, account, letter, life, message, names, soon, target};
use crate::base::{Uid, UidValidity, UnixMs};
use crate::runtime::{Disk, SimDisk, Step, block_on, deadline, trace_id, unix_now};
use crate::store::{
    Access, Account, AdoptError, AdoptReport, AdoptRequest, Flags, SpecialUse, Store, StoreError,
};

const TREE: &str = "/vmail/ana";

async fn write(disk: &Disk, path: &str, bytes: &[u8], at: Option<i64>) {
    let to = PathBuf::from(path);
    let dir = to.parent().expect("a directory").to_path_buf();
    let steps = vec![
        Step::CreateDirAll { path: dir },
        Step::Replace {
            tmp: to.with_extension("writing"),
            to,
            bytes: bytes.to_vec(),
            rest: None,
            pack: None,
            modified: at.map(|s| UnixMs(s * 1000)),
        },
    ];
    for done in disk.batch(steps).await {
        done.expect("written");
    }
}

/// What Dovecot left, with some of what others leave.
async fn tree(disk: &Disk) {
    let put = async |path: &str, text: &str, at| {
        write(disk, &format!("{TREE}/{path}"), text.as_bytes(), at).await;
    };
    put(
        "dovecot-uidlist",
        "3 V77 N12 G0123\n3 :1.a,S=9,W=9\n5 Pold :2.b\n7 P :gone\n9 :4.d\n11 :5.e\n",
        None,
    )
    .await;
    put("dovecot-keywords", "0 Red\n2 $Label1\n", None).await;
    put("subscriptions", "V\t2\n\nWork\tv1\\2e2\nINBOX\n", None).await;
    put("cur/1.a,S=9,W=9:2,RSac", &letter(1), Some(1_000)).await;
    put("cur/2.b:2,FS,odd", &letter(2), Some(2_000)).await;
    put("cur/4.d", &letter(4), Some(4_000)).await;
    put("cur/5.e:2,", &letter(5).replace('\r', ""), Some(5_000)).await;
    // Twice the same stem, and one that is not listed.
    put("cur/5.e:2,S", &letter(6), Some(6_000)).await;
    put("cur/0.unlisted:2,P", &letter(7), Some(7_000)).await;
    put("new/9.new", &letter(9), Some(9_000)).await;
    for dir in [".Work.v1\\2e2", ".Deleted Items", ".R&D"] {
        put(&format!("{dir}/maildirfolder"), "", None).await;
        put(&format!("{dir}/cur/1.x:2,S"), &letter(10), Some(10_000)).await;
    }
    put(
        ".Work.v1\\2e2/dovecot-uidlist",
        "1 4000000000 8\n6 1.x\n",
        None,
    )
    .await;
    put(".dovecot.sieve", "keep;", None).await;
    put("tmp/left", "over", None).await;
    disk.syncfs().await.expect("synced");
}

fn request() -> AdoptRequest {
    AdoptRequest {
        verify: true,
        ..AdoptRequest::new(PathBuf::from(TREE))
    }
}

async fn adopt(store: &Store, request: &AdoptRequest) -> Result<AdoptReport, AdoptError> {
    store.remote().adopt(account(1), request, &mut |_| {}).await
}

/// UID, flags, keywords, date, first line behind the header, UIDL.
type Seen = (u32, u8, String, i64, String, Option<String>);

async fn seen(store: &Store, name: &str) -> Vec<Seen> {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let id = ana.find(name).expect(name);
    let view = ana.select(id, Access::ReadOnly).await.expect("selects");
    let uidls = view.former_uidls();
    let mut all = Vec::new();
    for &uid in view.uids() {
        let row = view.row(uid).expect("a row");
        let body = view.body(uid).await.expect("a body");
        let text = body.read(0..body.len()).await.expect("reads");
        let text = String::from_utf8(text).expect("text");
        let bare = text.matches('\n').count() - text.matches("\r\n").count();
        assert_eq!(row.size as usize, text.len() + bare);
        let keywords: Vec<&str> = row.keywords.iter().map(|k| &**k).collect();
        all.push((
            uid.0,
            row.flags.0,
            keywords.join(" "),
            row.internal_date.seconds(),
            text.lines().last().unwrap_or_default().to_owned(),
            uidls.get(&uid).map(|uidl| uidl.to_string()),
        ));
    }
    all
}

/// Everything that the tree knew, and each message once.
async fn check_adopted(store: &Store) {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let row = |uid, flags: &[Flags], keywords: &str, date, n, uidl: Option<&str>| -> Seen {
        let flags = flags.iter().fold(0, |all, f| all | f.0);
        let text = format!("Body of letter {n}.");
        (
            uid,
            flags,
            keywords.to_owned(),
            date,
            text,
            uidl.map(str::to_owned),
        )
    };
    let (seen_flag, answered) = (Flags::SEEN, Flags::ANSWERED);
    assert_eq!(
        seen(store, "INBOX").await,
        [
            row(
                3,
                &[answered, seen_flag],
                "Red $Label1",
                1_000,
                1,
                Some("000000030000004d")
            ),
            row(5, &[Flags::FLAGGED, seen_flag], "", 2_000, 2, Some("old")),
            row(9, &[], "", 4_000, 4, Some("000000090000004d")),
            row(11, &[], "", 5_000, 5, Some("0000000b0000004d")),
            row(12, &[], "$Forwarded", 7_000, 7, None),
            row(13, &[seen_flag], "", 6_000, 6, None),
            row(14, &[], "", 9_000, 9, None),
        ]
    );
    let status = |name: &str| ana.status(ana.find(name).expect(name)).expect("a status");
    let inbox = status("INBOX");
    assert_eq!(
        (inbox.uidvalidity, inbox.uidnext),
        (UidValidity(77), Uid(15))
    );
    assert_eq!(inbox.recent, 1);
    let work = status("Work/v1.2");
    assert_eq!(
        (work.uidvalidity, work.uidnext),
        (UidValidity(4_000_000_000), Uid(8))
    );
    let one = |uid| row(uid, &[seen_flag], "", 10_000, 10, None);
    assert_eq!(seen(store, "Work/v1.2").await, [one(6)]);
    assert_eq!(seen(store, "R&D").await, [one(1)]);
    let mailboxes = ana.mailboxes();
    let use_of = |name: &str| {
        let found = mailboxes.iter().find(|m| m.name == name);
        found.map(|m| (m.special_use, m.subscribed))
    };
    assert_eq!(
        use_of("Deleted Items"),
        Some((Some(SpecialUse::Trash), false))
    );
    assert_eq!(use_of("Trash"), None);
    assert_eq!(use_of("Sent"), Some((Some(SpecialUse::Sent), true)));
    assert_eq!(use_of("Work/v1.2"), Some((None, true)));
    assert_eq!(ana.quota().messages, 10);
}

#[test]
fn what_another_program_knew_is_kept() {
    let sim = SimDisk::new(1);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        tree(&disk).await;
        let dry = AdoptRequest {
            dry_run: true,
            ..request()
        };
        let told = adopt(&store, &dry).await.expect("looks");
        let report = adopt(&store, &request()).await.expect("adopts");
        let counts = |report: &AdoptReport| {
            let one = |f: &crate::store::FolderReport| {
                (
                    f.mailbox.clone(),
                    f.messages,
                    f.numbered,
                    f.renamed,
                    f.missing,
                )
            };
            report.folders.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(counts(&told), counts(&report));
        assert_eq!(counts(&report)[0], ("INBOX".to_owned(), 7, 3, 3, 1));
        assert!(
            report.folders.iter().all(|f| f.differing == Some(0)),
            "{report:?}"
        );
        assert!(!report.copied && !report.resumed && report.unreadable.is_empty());
        check_adopted(&store).await;
        store.checkpoint().await.expect("a checkpoint");
        store.settle_all().await.expect("settles");
        let place = Path::new(ROOT).join("mail/1/1");
        let cur = names(&disk, &place.join("cur")).await;
        assert!(cur.contains(&"9.new:2,".to_owned()), "{cur:?}");
        // What the other program would read on the way back.
        let list = disk
            .read(&place.join("dovecot-uidlist"))
            .await
            .expect("written");
        let list = String::from_utf8(list).expect("text");
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "3 V77 N15 G0123",
                "3 P000000030000004d :1.a,S=9,W=9",
                "5 Pold :2.b"
            ]
        );
        assert_eq!(lines[7], "14 P0000004d0000000e :9.new");
        let subscribed = disk
            .read(&place.join("subscriptions"))
            .await
            .expect("written");
        let subscribed = String::from_utf8(subscribed).expect("text");
        assert!(subscribed.starts_with("V\t2\n\n") && subscribed.contains("\nWork\tv1\\2e2\n"));
        let root = names(&disk, &place).await;
        assert!(!root.contains(&".dovecot.sieve".to_owned()));
        let aside = names(&disk, &place.join("palomar.aside")).await;
        assert_eq!(aside, [".dovecot.sieve"]);
        assert_eq!(report.aside, [".dovecot.sieve"]);
        assert_eq!(told.aside, report.aside);
        assert!(
            !root.iter().any(|n| n.starts_with("palomar.adopt")),
            "{root:?}"
        );
        assert_eq!(names(&disk, Path::new("/vmail")).await, [""; 0]);
        // Again, it is not empty any more.
        tree(&disk).await;
        let again = adopt(&store, &request()).await;
        assert!(
            matches!(again, Err(AdoptError::NotEmpty { messages: 10 })),
            "{again:?}"
        );
        store.drain(soon()).await.expect("drains");
    });
    // The next start reads it from the index, and what comes then goes on.
    life(&sim, async |store: Store| {
        check_adopted(&store).await;
        let remote = store.remote();
        let letter = message(&remote, &letter(99)).await;
        let to = vec![target(1, "INBOX")];
        let placed = remote.deliver(letter, to, unix_now(), trace_id(), soon());
        placed.await.expect("delivers");
        assert_eq!(
            seen(&store, "INBOX").await.last().map(|row| row.0),
            Some(15)
        );
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn an_account_with_values_and_empty_folders_keeps_the_values() {
    let sim = SimDisk::new(2);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        tree(&disk).await;
        let ana = store.remote().account(account(1)).await.expect("opens");
        let value = ("sieve".to_owned(), b"a".to_vec(), Some(b"keep;".to_vec()));
        ana.set_values(vec![value]).await.expect("set");
        ana.subscribe("Elsewhere", true).await.expect("subscribes");
        let copy = AdoptRequest {
            copy: true,
            ..request()
        };
        let report = adopt(&store, &copy).await.expect("adopts");
        assert!(report.copied);
        assert!(
            report.folders.iter().all(|f| f.differing == Some(0)),
            "{report:?}"
        );
        check_adopted(&store).await;
        assert_eq!(ana.value("sieve", b"a").as_deref(), Some(&b"keep;"[..]));
        assert!(ana.subscriptions().contains(&"Elsewhere".to_owned()));
        assert!(
            disk.exists(Path::new("/vmail/ana/cur/4.d"))
                .await
                .expect("looked")
        );
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn what_cannot_be_adopted_is_left_alone() {
    let sim = SimDisk::new(3);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        let try_one = async |dir: &str| {
            let request = AdoptRequest::new(PathBuf::from(dir));
            adopt(&store, &request).await.expect_err(dir)
        };
        write(&disk, "/vmail/fs/cur/1", b"x", None).await;
        write(&disk, "/vmail/fs/Sent/cur/1", b"x", None).await;
        write(&disk, "/vmail/none/a", b"x", None).await;
        assert!(matches!(
            try_one("/vmail/fs").await,
            AdoptError::FsLayout(_)
        ));
        assert!(matches!(
            try_one("/vmail/none").await,
            AdoptError::NotAMaildir(_)
        ));
        assert!(matches!(try_one("/nowhere").await, AdoptError::NoTree(_)));
        assert!(matches!(try_one("/data/mail").await, AdoptError::Inside(_)));
        let place = format!("{ROOT}/mail/1/1/cur/1");
        write(&disk, &place, b"x", None).await;
        tree(&disk).await;
        assert!(matches!(try_one(TREE).await, AdoptError::PlaceTaken(_)));
        store.drain(soon()).await.expect("drains");
    });
}

/// Power goes after any number of operations, several times on the way; then nobody gets at the
/// account until the same command has ended it, and everything is there once.
fn cut(seed: u64, stop: u64, copy: bool) -> bool {
    let request = AdoptRequest {
        copy,
        verify: false,
        ..request()
    };
    let mut sim = SimDisk::new(seed);
    life(&sim, async |store: Store| {
        tree(&store.remote().shard().disk.clone()).await;
        let _ = store.remote().account(account(1)).await.expect("opens");
        store.drain(soon()).await.expect("drains");
    });
    for round in 0..50 {
        let (sim_now, request) = (sim.clone(), request.clone());
        let (tell, told) = flume::bounded(1);
        life(&sim, async move |store: Store| {
            sim_now.stop_after(if round < 3 { stop } else { 100_000 });
            let done = adopt(&store, &request).await;
            let is_done = match &done {
                Ok(_) => true,
                // The record that ends it was perhaps the last thing to be made durable.
                Err(AdoptError::NoTree(_) | AdoptError::NotEmpty { .. }) => true,
                Err(_) => false,
            };
            let _ = tell.send(is_done);
        });
        let is_done = told.recv().expect("told");
        sim = sim.power_off(seed * 1_000 + round);
        if is_done {
            life(&sim, async |store: Store| check_adopted(&store).await);
            sim.discard();
            return round > 0;
        }
        life(&sim, async |store: Store| {
            // Before it began, or while it is under way: never half of it.
            match store.remote().account(account(1)).await {
                Err(StoreError::Busy) => {}
                Ok(ana) if ana.quota().messages == 0 => {}
                Ok(_) => check_adopted(&store).await,
                Err(why) => panic!("{why:?}"),
            }
        });
    }
    panic!("seed {seed}: not adopted in fifty rounds");
}

#[test]
fn power_goes_anywhere_on_the_way() {
    let mut cuts = 0;
    for seed in 0..40 {
        cuts += u32::from(cut(seed, 5 + seed * 7, seed % 3 == 0));
    }
    assert!(cuts > 10, "only {cuts} were cut off");
}

const INBOX: &str = "/data/mail/1/1";

/// What is in INBOX: last lines, in the order of UIDs.
async fn inbox(store: &Store) -> Vec<String> {
    seen(store, "INBOX")
        .await
        .into_iter()
        .map(|row| row.4)
        .collect()
}

/// Files without a row, and how many of them were taken in.
async fn rescan(ana: &Account) -> (u64, u64) {
    let all = ana.rescan(None).await.expect("rescans");
    all.iter()
        .fold((0, 0), |sum, one| (sum.0 + one.files, sum.1 + one.taken_in))
}

fn body(n: u64) -> String {
    format!("Body of letter {n}.")
}

#[test]
fn what_others_drop_arrives() {
    let sim = SimDisk::new(4);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        let ana = store.remote().account(account(1)).await.expect("opens");
        store.settle_all().await.expect("settles");
        let drop_in = async |path: &str, n| {
            write(
                &disk,
                &format!("{INBOX}/{path}"),
                letter(n).as_bytes(),
                Some(n as i64),
            )
            .await;
        };
        // Two letters are above the quota: nothing is refused, and the owner is told.
        let limit = crate::store::Quota {
            bytes: None,
            messages: Some(2),
        };
        let remote = store.remote();
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(limit)));
        drop_in("new/1.other", 1).await;
        // Opening is enough.
        assert_eq!(inbox(&store).await, [body(1)]);
        let status = ana
            .status(ana.find("INBOX").expect("is there"))
            .expect("a status");
        assert_eq!(
            (status.recent, status.uidnext, ana.quota().messages),
            (1, Uid(2), 1)
        );
        store.settle_all().await.expect("settles");
        assert_eq!(
            names(&disk, Path::new(INBOX).join("new").as_path()).await,
            [""; 0]
        );
        // The same name again is another message, and costs nothing that is there.
        drop_in("new/1.other", 2).await;
        drop_in("cur/3.copied:2,FS", 3).await;
        assert_eq!(rescan(&ana).await, (2, 2));
        assert_eq!(rescan(&ana).await, (0, 0));
        assert_eq!(inbox(&store).await, [body(1), body(3), body(2)]);
        let due = futures_lite::future::poll_once(remote.quota_due()).await;
        assert_eq!(
            due.map(|due| (due.percent, due.usage.messages)),
            Some((100, 3))
        );
        assert_eq!(
            seen(&store, "INBOX").await[1].1,
            Flags::FLAGGED.0 | Flags::SEEN.0
        );
        // What is expunged stays so, whether its file is there still or not.
        let id = ana.find("INBOX").expect("is there");
        let mut view = ana.select(id, Access::ReadWrite).await.expect("selects");
        view.refresh(true);
        let uids = view.uids().to_vec();
        let delete = crate::store::FlagChange {
            mode: crate::store::FlagMode::Add,
            flags: Flags::DELETED,
            keywords: Vec::new(),
        };
        view.store(&uids[..2], &delete, None).await.expect("stores");
        view.expunge(&uids[..2]).await.expect("expunges");
        assert_eq!(rescan(&ana).await, (0, 0));
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(rescan(&ana).await, (0, 0));
        assert_eq!(inbox(&store).await, [body(2)]);
        store.drain(soon()).await.expect("drains");
    });
}

/// A file that we named ourselves once, from a backup perhaps: its name says a UID.
#[test]
fn a_rescan_takes_in_what_lies_in_cur() {
    let sim = SimDisk::new(5);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        let ana = store.remote().account(account(1)).await.expect("opens");
        let remote = store.remote();
        let placed = message(&remote, &letter(1)).await;
        let to = vec![target(1, "INBOX")];
        let placed = remote.deliver(placed, to, unix_now(), trace_id(), soon());
        placed.await.expect("delivers");
        store.settle_all().await.expect("settles");
        let cur = Path::new(INBOX).join("cur");
        let own = names(&disk, &cur).await.remove(0);
        let path = |dir: &Path| dir.join(&own).display().to_string();
        let work = Path::new(INBOX).join(".Sent/cur");
        write(&disk, &path(&work), letter(2).as_bytes(), None).await;
        // Of what is asked for alone.
        let found = async |folder| {
            let all = ana.rescan(folder).await?;
            let found = all.into_iter().filter(|one| one.files > 0);
            let found = found.map(|one| (one.name, one.files, one.taken_in));
            Ok::<_, StoreError>(found.collect::<Vec<_>>())
        };
        assert_eq!(found(Some("inbox")).await, Ok(vec![]));
        assert_eq!(found(Some("None")).await, Err(StoreError::NoMailbox));
        assert_eq!(found(None).await, Ok(vec![("Sent".to_owned(), 1, 1)]));
        assert_eq!(found(None).await, Ok(vec![]));
        assert_eq!(seen(&store, "Sent").await[0].4, body(2));
        assert!(!names(&disk, &work).await.contains(&own));
        store.drain(soon()).await.expect("drains");
    });
}

/// On the machine's disk, where the kernel tells of it; nobody looks.
#[test]
fn what_others_drop_arrives_while_a_session_idles() {
    let root = tempfile::tempdir().expect("a directory");
    let data = root.path().to_path_buf();
    let outcome = block_on(async move {
        let store = Store::open_single(&data).await.expect("opens");
        let ana = store.remote().account(account(1)).await.expect("opens");
        store.settle_all().await.expect("settles");
        let id = ana.find("INBOX").expect("is there");
        let mut view = ana.select(id, Access::ReadOnly).await.expect("selects");
        let tree = data.join("mail/1/1");
        for n in 1..=3 {
            let name = format!("{n}.other");
            let (tmp, new) = (tree.join("tmp").join(&name), tree.join("new").join(&name));
            std::fs::write(&tmp, letter(n)).expect("written");
            std::fs::rename(&tmp, &new).expect("moved");
            while view.uids().len() < n as usize {
                deadline(soon(), view.changed()).await.expect("noticed");
                view.refresh(true);
            }
        }
        store.drain(soon()).await.expect("drains");
    });
    outcome.expect("the executor runs");
}

#[test]
fn what_others_drop_arrives_once_wherever_power_goes() {
    for seed in 0..30u64 {
        let mut sim = SimDisk::new(seed);
        life(&sim, async |store: Store| {
            let disk = store.remote().shard().disk.clone();
            let _ = store.remote().account(account(1)).await.expect("opens");
            store.settle_all().await.expect("settles");
            for n in 1..=5 {
                let sub = if n % 2 == 0 { "cur" } else { "new" };
                let path = format!("{INBOX}/{sub}/{n}.other");
                write(&disk, &path, letter(n).as_bytes(), Some(n as i64)).await;
            }
            store.drain(soon()).await.expect("drains");
        });
        for round in 0..4 {
            let sim_now = sim.clone();
            life(&sim, async move |store: Store| {
                let ana = store.remote().account(account(1)).await.expect("opens");
                let is_last = round == 3;
                if !is_last {
                    sim_now.stop_after(2 + seed * 2 + round * 3);
                }
                let taken = ana.rescan(None).await;
                assert!(!is_last || taken.is_ok(), "{taken:?}");
                if is_last {
                    let mut all = inbox(&store).await;
                    all.sort_unstable();
                    assert_eq!(all, (1..=5).map(body).collect::<Vec<_>>(), "seed {seed}");
                }
            });
            sim = sim.power_off(seed * 10 + round);
        }
        sim.discard();
    }
}
