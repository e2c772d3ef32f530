//! Trees that are not what they should be: nothing in them stops the store, and nobody's mail is
//! got at through them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use futures_lite::future::zip;

use super::{account, letter, life, message, names, soon, target};
use crate::base::{ShardId, Uid, UidValidity};
use crate::runtime::{Disk, Pool, SimDisk, block_on, trace_id, unix_now};
use crate::store::journal::Class;
use crate::store::{
    Access, AdoptError, AdoptReport, AdoptRequest, Delivered, Op, Store, StoreConfig, StoreError,
};

const TREE: &str = "/vmail/ana";
const PLACE: &str = "/data/mail/1/1";

async fn put(disk: &Disk, path: &str, bytes: &[u8]) {
    let path = PathBuf::from(format!("{TREE}/{path}"));
    let dir = path.parent().expect("a directory").to_path_buf();
    disk.create_dir_all(&dir).await.expect("a directory");
    disk.write_new(&path, bytes.to_vec())
        .await
        .expect("written");
}

async fn adopt(store: &Store, from: &Path) -> Result<AdoptReport, AdoptError> {
    let request = AdoptRequest {
        verify: true,
        ..AdoptRequest::new(from.to_path_buf())
    };
    store
        .remote()
        .adopt(account(1), &request, &mut |_| {})
        .await
}

async fn uids(store: &Store, name: &str) -> Vec<u32> {
    let ana = store.remote().account(account(1)).await.expect("opens");
    let id = ana.find(name).expect(name);
    let view = ana.select(id, Access::ReadOnly).await.expect("selects");
    view.uids().iter().map(|uid| uid.0).collect()
}

async fn deliver(store: &Store, n: u64, mailbox: &str) -> Result<Delivered, StoreError> {
    let remote = store.remote();
    let letter = message(&remote, &letter(n)).await;
    let to = vec![target(1, mailbox)];
    remote
        .deliver(letter, to, unix_now(), trace_id(), soon())
        .await
}

/// Files moved from `new` to `cur` while they were compared, and were said to differ.
#[test]
fn what_settles_meanwhile_does_not_differ() {
    for seed in 0..8 {
        let sim = SimDisk::new(seed);
        life(&sim, async move |store: Store| {
            let disk = store.remote().shard().disk.clone();
            for n in 0..40 {
                let path = format!("new/{n}.a");
                put(&disk, &path, letter(n).as_bytes()).await;
            }
            disk.syncfs().await.expect("synced");
            let report = adopt(&store, Path::new(TREE)).await.expect("adopts");
            let differing: Vec<_> = report.folders.iter().map(|f| f.differing).collect();
            assert_eq!(differing, [Some(0)], "seed {seed}");
        });
    }
}

/// A directory where an index goes, a file where `tmp` goes, a folder without mail where one with
/// mail comes to lie: settling could not go on over any of them, for no account of its partition.
#[test]
fn what_stands_in_the_way_goes_aside() {
    let sim = SimDisk::new(81);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        put(&disk, "cur/1.a:2,S", letter(1).as_bytes()).await;
        put(&disk, "cur/2.dir:2,S/x", b"").await;
        put(&disk, "palomar.log.0/x", b"").await;
        put(&disk, "palomar.cache/x", b"").await;
        put(&disk, "palomar.index.0", b"old").await;
        put(&disk, ".Foo/cur/1.b:2,S", letter(2).as_bytes()).await;
        put(&disk, ".Foo/tmp", b"no directory").await;
        put(&disk, ".Foo/maildirfolder/x", b"").await;
        put(&disk, ".Archive/x", b"").await;
        // Found under another name than it gets.
        put(&disk, ".R&D/cur/1.c:2,S", letter(3).as_bytes()).await;
        put(&disk, ".R&-D/x", b"").await;
        disk.syncfs().await.expect("synced");
        let report = adopt(&store, Path::new(TREE)).await.expect("adopts");
        let mut aside = report.aside.clone();
        aside.sort_unstable();
        let want = [
            ".Archive",
            ".Foo/maildirfolder",
            ".Foo/tmp",
            ".R&-D",
            "cur/2.dir:2,S",
            "palomar.cache",
            "palomar.log.0",
        ];
        assert_eq!(aside, want);
        assert!(
            report.folders.iter().all(|f| f.differing == Some(0)),
            "{report:?}"
        );
        for (n, mailbox) in [(4, "INBOX"), (5, "Foo"), (6, "R&D"), (7, "Archive")] {
            deliver(&store, n, mailbox).await.expect("delivers");
        }
        // All of it can be settled.
        store.drain(soon()).await.expect("drains");
        let kept = names(&disk, &Path::new(PLACE).join("palomar.aside")).await;
        assert_eq!(
            kept,
            [
                ".Archive",
                ".Foo",
                ".R&-D",
                "cur",
                "palomar.cache",
                "palomar.log.0"
            ]
        );
    });
    life(&sim, async |store: Store| {
        assert_eq!(uids(&store, "INBOX").await, [1, 2]);
        assert_eq!(uids(&store, "R&D").await, [1, 2]);
        assert_eq!(uids(&store, "Archive").await, [1]);
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn where_mail_may_be_behind_it_a_tree_is_refused() {
    let sim = SimDisk::new(82);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        put(&disk, "cur/1.a:2,S", letter(1).as_bytes()).await;
        put(&disk, ".Foo/maildirfolder", b"").await;
        put(&disk, ".Foo/cur", b"no directory").await;
        let refused = adopt(&store, Path::new(TREE)).await;
        assert!(
            matches!(refused, Err(AdoptError::NotPlain(_))),
            "{refused:?}"
        );
        // Before anything was changed.
        assert_eq!(uids(&store, "INBOX").await, [0; 0]);
        store.drain(soon()).await.expect("drains");
    });
}

/// `V4294967295` left its partition no higher UIDVALIDITY for any later mailbox; `N4294967295`
/// refused mail to everybody whose copy was in the same record.
#[test]
fn nonsense_in_a_list_gives_way() {
    let sim = SimDisk::new(83);
    life(&sim, async |store: Store| {
        let disk = store.remote().shard().disk.clone();
        put(&disk, "cur/1.a:2,S", letter(1).as_bytes()).await;
        put(&disk, "cur/2.b:2,S", letter(2).as_bytes()).await;
        put(
            &disk,
            "dovecot-uidlist",
            b"3 V4294967295 N9\n7 :2.b\n8 :1.a\n",
        )
        .await;
        put(&disk, ".Foo/cur/1.a:2,S", letter(3).as_bytes()).await;
        put(&disk, ".Foo/dovecot-uidlist", b"3 V7 N4294967295\n7 :1.a\n").await;
        disk.syncfs().await.expect("synced");
        adopt(&store, Path::new(TREE)).await.expect("adopts");
        assert_eq!(uids(&store, "INBOX").await, [1, 2]);
        deliver(&store, 4, "Foo").await.expect("delivers");
        assert_eq!(uids(&store, "Foo").await, [1, 2]);
        let ana = store.remote().account(account(1)).await.expect("opens");
        let mut seen = Vec::new();
        for name in ["New", "Newer"] {
            let id = ana.create(name, None).await.expect("creates");
            seen.push(ana.status(id).expect("a status").uidvalidity);
        }
        assert!(
            seen[0] < seen[1] && seen[1] < UidValidity(0xf000_0000),
            "{seen:?}"
        );
        store.drain(soon()).await.expect("drains");
    });
}

/// Found an account before it was being adopted, and came to its turn after that.
#[test]
fn nobody_makes_folders_while_a_tree_comes() {
    let sim = SimDisk::new(84);
    life(&sim, async |store: Store| {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let plan = (
            "palomar.adopt".to_owned(),
            b"plan".to_vec(),
            Some(b"x".to_vec()),
        );
        ana.set_values(vec![plan]).await.expect("set");
        let made = ana.create("New", None).await;
        assert!(matches!(made, Err(StoreError::Busy)), "{made:?}");
        let placed = deliver(&store, 1, "INBOX").await;
        assert!(matches!(placed, Err(StoreError::Busy)), "{placed:?}");
        store.drain(soon()).await.expect("drains");
    });
}

/// The account was found, and its folder; then its turn was waited for.
#[test]
fn mail_that_waits_while_a_tree_comes_is_put_off() {
    let sim = SimDisk::new(86);
    life(&sim, async |store: Store| {
        deliver(&store, 1, "INBOX").await.expect("delivers");
        let shard = store.remote().shard().clone();
        let partition = shard.partition(account(1).partition).expect("ours");
        let id = account(1).account;
        let bar = shard.bar(&partition, id).await.expect("held");
        let begins = async {
            crate::runtime::sleep(std::time::Duration::from_millis(50)).await;
            let plan = Op::ValueSet {
                account: Some(id),
                namespace: "palomar.adopt".to_owned(),
                key: b"plan".to_vec(),
                value: Some(b"x".to_vec()),
            };
            let ticket = shard.submit(&partition, vec![plan], Vec::new(), Class::Change);
            let committed = shard.commit(ticket.expect("submits")).await;
            committed.expect("commits");
            drop(bar);
        };
        let (placed, ()) = zip(deliver(&store, 2, "INBOX"), begins).await;
        assert!(matches!(placed, Err(StoreError::Busy)), "{placed:?}");
        store.drain(soon()).await.expect("drains");
    });
}

/// All of an outbox's copies for one partition come in one record: an account that is held kept
/// the message from all.
#[test]
fn who_is_held_keeps_mail_from_nobody_else() {
    let sim = SimDisk::new(87);
    life(&sim, async |store: Store| {
        let remote = store.remote();
        let ana = remote.account(account(1)).await.expect("opens");
        let plan = |value: Option<&[u8]>| {
            let value = value.map(<[u8]>::to_vec);
            vec![("palomar.adopt".to_owned(), b"plan".to_vec(), value)]
        };
        ana.set_values(plan(Some(b"x"))).await.expect("set");
        let letter = message(&remote, &letter(1)).await;
        let to = vec![target(1, "INBOX"), target(5, "INBOX"), target(2, "INBOX")];
        let queued = remote
            .deliver(letter, to, unix_now(), trace_id(), soon())
            .await;
        assert!(matches!(queued, Ok(Delivered::Queued)), "{queued:?}");
        let ben = remote.account(account(5)).await.expect("opens");
        while ben.quota().messages == 0 {
            crate::runtime::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(ana.quota().messages, 0);
        ana.set_values(plan(None)).await.expect("set");
        while ana.quota().messages == 0 {
            crate::runtime::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!((ana.quota().messages, ben.quota().messages), (1, 1));
        store.drain(soon()).await.expect("drains");
    });
}

/// `mail/1` was made for the tree, which was then moved into it; the name of the one was not
/// durable when that of the other went.
#[test]
fn the_directory_that_a_tree_comes_into_is_durable_first() {
    for stop in 0..120 {
        let sim = SimDisk::new(85 + stop);
        let (cut, of_run) = (sim.clone(), sim.clone());
        life(&sim, async move |store: Store| {
            let disk = store.remote().shard().disk.clone();
            put(&disk, "cur/1.a:2,S", letter(1).as_bytes()).await;
            disk.syncfs().await.expect("synced");
            of_run.stop_after(stop);
            let _ = adopt(&store, Path::new(TREE)).await;
        });
        for seed in 0..8 {
            let after = Disk::sim(cut.power_cut(seed));
            let (tell, told) = flume::bounded(1);
            block_on(async move {
                let mut is_there = false;
                for dir in [TREE, PLACE] {
                    for sub in ["cur", "new"] {
                        let listed = names(&after, &Path::new(dir).join(sub)).await;
                        is_there |= listed.iter().any(|name| name.starts_with("1.a"));
                    }
                }
                let _ = tell.send(is_there);
            })
            .expect("runs");
            assert!(
                told.recv().expect("told"),
                "stop {stop} seed {seed}: the mail is gone"
            );
        }
        cut.discard();
    }
}

/// A store on the machine's own disk: links are nothing that a simulated one has.
fn on_real(body: impl AsyncFnOnce(Store, PathBuf) + 'static) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("a path");
    block_on(async move {
        let data = root.join("data");
        std::fs::create_dir(&data).expect("a directory");
        let mut cfg = StoreConfig::new(data.clone(), 1);
        cfg.partitions = 4;
        cfg.journal.slot_bytes = 5 << 20;
        let disk = Disk::real(Pool::start(2, 64))
            .with_root(&data)
            .expect("a disk");
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk).await;
        body(store.expect("opens"), root).await;
    })
    .expect("the executor runs");
}

fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    std::fs::write(path, bytes).expect("written");
}

/// `cur/1.x:2,S` that led to the catalogue became a message; `.Sent` that led to another account's
/// mail had its index overwritten; a FIFO took a thread of the pool for ever.
#[test]
fn links_and_devices_are_not_followed() {
    on_real(async |store: Store, root: PathBuf| {
        let tree = root.join("tree");
        write(tree.join("cur/1.a:2,S"), letter(1).as_bytes());
        write(root.join("secret"), b"secret");
        write(root.join("other/cur/1.o:2,S"), letter(9).as_bytes());
        symlink(root.join("secret"), tree.join("cur/2.link:2,S")).expect("a link");
        symlink(root.join("other"), tree.join(".Sent")).expect("a link");
        symlink(root.join("secret"), tree.join("dovecot-keywords.new")).expect("a link");
        let fifo = std::process::Command::new("mkfifo")
            .arg(tree.join("cur/3.fifo"))
            .status();
        assert!(fifo.expect("runs").success());
        // Through a link, which is not what comes to lie in the data directory.
        symlink(&tree, root.join("link")).expect("a link");
        let dry = AdoptRequest {
            dry_run: true,
            ..AdoptRequest::new(root.join("link"))
        };
        let told = store
            .remote()
            .adopt(account(1), &dry, &mut |_| {})
            .await
            .expect("looks");
        let mut named = told.aside.clone();
        named.sort_unstable();
        assert_eq!(
            named,
            [
                ".Sent",
                "cur/2.link:2,S",
                "cur/3.fifo",
                "dovecot-keywords.new"
            ]
        );
        let report = adopt(&store, &root.join("link")).await.expect("adopts");
        assert_eq!(report.aside, told.aside);
        assert_eq!(report.folders.len(), 1);
        assert_eq!(uids(&store, "INBOX").await, [1]);
        deliver(&store, 4, "Sent").await.expect("delivers");
        let place = root.join("data/mail/1/1");
        let is_link = std::fs::symlink_metadata(&place)
            .expect("there")
            .is_symlink();
        assert!(!is_link && !tree.exists());
        store.drain(soon()).await.expect("drains");
        let others = std::fs::read_dir(root.join("other"))
            .expect("there")
            .count();
        assert_eq!(others, 1, "nothing of ours in another's folder");
        assert_eq!(
            std::fs::read(root.join("secret")).expect("there"),
            b"secret"
        );
    });
}

#[test]
fn a_list_or_cur_that_is_a_link_is_refused() {
    on_real(async |store: Store, root: PathBuf| {
        let tree = root.join("tree");
        write(root.join("list"), b"3 V7 N9\n");
        write(tree.join("cur/1.a:2,S"), letter(1).as_bytes());
        let refused = async |what: &str, want: &Path| {
            let found = adopt(&store, &tree).await;
            match found {
                Err(AdoptError::NotPlain(path)) => assert_eq!(path, want, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        };
        symlink(root.join("list"), tree.join("dovecot-uidlist")).expect("a link");
        refused("list", &tree.join("dovecot-uidlist")).await;
        std::fs::remove_file(tree.join("dovecot-uidlist")).expect("removed");
        std::fs::create_dir(tree.join(".Foo")).expect("a directory");
        symlink(root.join("data/journal"), tree.join(".Foo/cur")).expect("a link");
        refused("cur", &tree.join(".Foo/cur")).await;
        store.drain(soon()).await.expect("drains");
    });
}

/// As above, where an administrator shows users what lies in directories that they write to.
#[test]
fn archives_are_no_way_to_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("a path");
    block_on(async move {
        let data = root.join("data");
        std::fs::create_dir(&data).expect("a directory");
        let mut cfg = StoreConfig::new(data.clone(), 1);
        cfg.partitions = 4;
        cfg.journal.slot_bytes = 5 << 20;
        symlink("mbox", root.join("srv")).expect("a link");
        cfg.archives = Some(root.join("srv/%u"));
        let disk = Disk::real(Pool::start(2, 64))
            .with_root(&data)
            .expect("a disk");
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk)
            .await
            .expect("opens");
        let mbox = |n| format!("From a@b Mon Jan  5 10:11:12 2026\nSubject: {n}\n\nx\n\n");
        let ana = root.join("mbox/ana@example.org");
        write(ana.join("sub/own"), mbox(1).as_bytes());
        write(root.join("mbox/ben@example.org/own"), mbox(2).as_bytes());
        symlink("../ben@example.org/own", ana.join("others")).expect("a link");
        symlink("../ben@example.org", ana.join("all")).expect("a link");
        let fifo = std::process::Command::new("mkfifo")
            .arg(ana.join("fifo"))
            .status();
        assert!(fifo.expect("runs").success());
        let of_ana = store.remote().account(account(1)).await.expect("opens");
        of_ana.look_for_archives("ana@example.org").await;
        let shown: Vec<String> = of_ana.mailboxes().into_iter().map(|m| m.name).collect();
        let shown: Vec<&String> = shown.iter().filter(|n| n.starts_with("Archives")).collect();
        assert_eq!(shown, ["Archives/sub/own"]);
        let id = of_ana.find("Archives/sub/own").expect("there");
        let mut view = of_ana.select(id, Access::ReadOnly).await.expect("selects");
        while view.uids().is_empty() {
            crate::runtime::sleep(std::time::Duration::from_millis(5)).await;
            view.refresh(true);
        }
        // What is a directory when it is looked at may be a link when it is read.
        std::fs::rename(ana.join("sub"), ana.join("was")).expect("renamed");
        symlink("../ben@example.org", ana.join("sub")).expect("a link");
        let body = view.body(Uid(1)).await.expect("a body");
        assert!(body.read(0..5).await.is_err(), "another's mail");
        store.drain(soon()).await.expect("drains");
    })
    .expect("the executor runs");
}
