//! Mbox files as archive folders, on the simulated disk.

use std::path::{Path, PathBuf};

use super::{ROOT, account, config, letter, message, soon, target};
use crate::base::{ShardId, Uid, UnixMs};
use crate::runtime::{Disk, SimDisk, Step, block_on, trace_id, unix_now};
use crate::store::{
    Access, Account, Delivered, FlagChange, FlagMode, Flags, NewMessage, Store, StoreError, View,
};

const DIR: &str = "/srv/ana@example.org";

fn mbox(letters: impl Iterator<Item = u64>) -> String {
    let one = |n: u64| {
        format!(
            "From ben@x Mon Jan  5 10:11:{:02} 2026\nStatus: RO\nSubject: {n}\n\n>From here\n\
             letter {n}\n\n",
            n % 60
        )
    };
    letters.map(one).collect()
}

/// What a client sees of letter `n`, before line ends are made CRLF.
fn seen(n: u64) -> String {
    format!("Status: RO\nSubject: {n}\n\nFrom here\nletter {n}\n")
}

async fn put(disk: &Disk, name: &str, bytes: &[u8], at: i64) {
    let path = PathBuf::from(format!("{DIR}/{name}"));
    let dir = path.parent().expect("a directory").to_path_buf();
    disk.create_dir_all(&dir).await.expect("a directory");
    let steps = vec![
        Step::Append {
            path: path.clone(),
            at: 0,
            bytes: bytes.to_vec(),
        },
        Step::Truncate {
            path: path.clone(),
            len: bytes.len() as u64,
        },
        Step::SetTimes {
            path,
            at: UnixMs(at * 1000),
        },
        Step::SyncDir { path: dir },
    ];
    for done in disk.batch(steps).await {
        done.expect("written");
    }
    disk.syncfs().await.expect("synced");
}

/// One life of a store with archives.
fn life<F>(sim: &SimDisk, body: impl FnOnce(Store, Account, Disk) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    life_with(sim, 4 << 30, body);
}

/// The same, with so much room for unpacked copies.
fn life_with<F>(
    sim: &SimDisk,
    cache_bytes_max: u64,
    body: impl FnOnce(Store, Account, Disk) -> F + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let disk = Disk::sim(sim.clone());
    block_on(async move {
        let mut cfg = config(1);
        cfg.archives = Some(PathBuf::from("/srv/%u"));
        cfg.archive_cache_bytes_max = cache_bytes_max;
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        let store = store.expect("opens");
        let ana = store.remote().account(account(1)).await.expect("opens");
        body(store, ana, disk).await;
    })
    .expect("the executor runs");
}

/// Looks, and waits until `name` has as many messages.
async fn look(ana: &Account, name: &str, messages: usize) -> View {
    ana.forget_look();
    ana.look_for_archives("ana@example.org").await;
    loop {
        let id = ana.find(name).expect("the mailbox is there");
        let mut view = ana.select(id, Access::ReadWrite).await.expect("selects");
        view.refresh(true);
        if view.uids().len() == messages {
            return view;
        }
        crate::runtime::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn text(view: &View, uid: u32) -> String {
    let body = view.body(Uid(uid)).await.expect("a body");
    let mut all = Vec::new();
    // In pieces, and once from the begin again.
    for from in (0..body.len()).step_by(7) {
        all.extend(body.read(from..from + 7).await.expect("reads"));
    }
    assert_eq!(body.read(0..body.len()).await.expect("reads"), all);
    String::from_utf8(all).expect("text")
}

#[test]
fn an_archive_is_read_and_not_written() {
    life(&SimDisk::new(41), |store, ana, disk| async move {
        put(&disk, "2025/lists.mbox", mbox(1..4).as_bytes(), 1_000).await;
        put(&disk, "notes.txt", b"no mbox file", 1_000).await;
        let view = look(&ana, "Archives/2025/lists", 3).await;
        let names: Vec<String> = ana.mailboxes().into_iter().map(|m| m.name).collect();
        let archives: Vec<&String> = names.iter().filter(|n| n.starts_with("Archives")).collect();
        assert_eq!(archives, ["Archives/2025/lists"]);
        assert!(ana.subscriptions().contains(&names[names.len() - 1]) || names.len() > 6);
        assert_eq!(view.access(), Access::ReadOnly);
        assert_eq!(view.recent(), 0);
        for n in 1..4 {
            assert_eq!(text(&view, n).await, seen(n.into()));
        }
        let row = view.row(Uid(2)).expect("a row");
        assert_eq!(
            (row.flags, row.internal_date.seconds()),
            (Flags::SEEN, 1_767_607_862)
        );
        assert_eq!(row.size, seen(2).len() as u64 + 5);
        assert_eq!((ana.quota().bytes, ana.quota().messages), (0, 0));
        // Nothing changes it.
        let change = FlagChange {
            mode: FlagMode::Add,
            flags: Flags::FLAGGED,
            keywords: Vec::new(),
        };
        let no = StoreError::ReadOnly;
        assert_eq!(view.store(&[Uid(1)], &change, None).await, Err(no.clone()));
        assert_eq!(view.expunge(&[Uid(1)]).await, Err(no.clone()));
        let (archive, inbox) = (view.mailbox(), ana.find("INBOX").expect("there"));
        assert_eq!(view.move_to(&[Uid(1)], inbox).await, Err(no.clone()));
        assert_eq!(view.copy(&[Uid(1)], archive).await, Err(no.clone()));
        assert_eq!(ana.delete("Archives/2025/lists").await, Err(no.clone()));
        assert_eq!(
            ana.rename("Archives/2025/lists", "x").await,
            Err(no.clone())
        );
        let new = NewMessage {
            message: message(&store.remote(), &letter(1)).await,
            flags: Flags::NONE,
            keywords: Vec::new(),
            internal_date: None,
            trace: None,
        };
        assert_eq!(ana.append(archive, vec![new]).await, Err(no));
        // Mail for it goes to the inbox.
        let body = message(&store.remote(), &letter(2)).await;
        let to = vec![target(1, "Archives/2025/lists")];
        let soon = super::soon();
        let placed = store
            .remote()
            .deliver(body, to, unix_now(), trace_id(), soon)
            .await;
        assert!(matches!(placed, Ok(Delivered::Placed(_))));
        assert_eq!(ana.status(inbox).expect("there").messages, 1);
        // A copy is a message like any other.
        let copied = view.copy(&[Uid(3), Uid(1)], inbox).await.expect("copied");
        assert_eq!(
            (copied.from, copied.to),
            (vec![Uid(3), Uid(1)], vec![Uid(2), Uid(3)])
        );
        let inbox = ana.select(inbox, Access::ReadWrite).await.expect("selects");
        assert_eq!(text(&inbox, 2).await, seen(3));
        store.settle_all().await.expect("settles");
        assert_eq!(text(&inbox, 3).await, seen(1));
        assert_eq!(ana.quota().messages, 3);
    });
}

/// CREATE, RENAME and import made folders among the archives, where the next file of that name was
/// not shown any more.
#[test]
fn among_archives_nobody_makes_folders() {
    let sim = SimDisk::new(44);
    super::life(&sim, |store| async move {
        let ana = store.remote().account(account(1)).await.expect("opens");
        ana.create("Archives/own", None).await.expect("made");
        store.drain(soon()).await.expect("drains");
    });
    life(&sim, |store, ana, disk| async move {
        let remote = store.remote();
        for file in ["50%.mbox", "plain", "own", "plain.gz", "odd\n.mbox"] {
            put(&disk, file, mbox(1..3).as_bytes(), 1_000).await;
        }
        put(&disk, "notes.txt", b"no mbox file", 1_000).await;
        look(&ana, "Archives/50%", 2).await;
        look(&ana, "Archives/plain", 2).await;
        let told = remote.shard().archives.told();
        let want = ["notes.txt", "odd\n.mbox", "own", "plain.gz"];
        assert_eq!(
            told,
            want.map(|file| PathBuf::from(format!("{DIR}/{file}")))
        );
        for name in ["Archives/new", "Archives/plain/below"] {
            let refused = Err(StoreError::ArchivesOnly);
            assert_eq!(ana.create(name, None).await.map(drop), refused, "{name}");
            for from in ["Trash", "INBOX", "Archives/own"] {
                assert_eq!(ana.rename(from, name).await, refused, "{from} {name}");
            }
            let made = remote.make_mailbox(account(1), name.to_owned(), true).await;
            assert_eq!(made, refused, "{name}");
        }
        // What others are called like is theirs, and what was there before goes on.
        ana.create("Archives2/x", None).await.expect("made");
        let own = ana.create("Archives/own", None).await;
        assert_eq!(own, Err(StoreError::MailboxExists));
        for name in ["Archives/own", "Archives/none"] {
            let placed = message(&remote, &letter(1)).await;
            let to = vec![target(1, name)];
            let delivered = remote.deliver(placed, to, unix_now(), trace_id(), soon());
            delivered.await.expect("placed");
        }
        for name in ["Archives/own", "INBOX"] {
            let status = ana.status(ana.find(name).expect("is there"));
            assert_eq!(status.expect("a status").messages, 1, "{name}");
        }
        ana.rename("Archives/own", "own").await.expect("moved");
    });
}

#[test]
fn uids_stay_when_a_file_grows_and_over_restarts_and_crashes() {
    let sim = SimDisk::new(42);
    life(&sim, |store, ana, disk| async move {
        put(&disk, "old", mbox(1..1_200).as_bytes(), 1_000).await;
        look(&ana, "Archives/old", 1_199).await;
        put(&disk, "old", mbox(1..1_202).as_bytes(), 2_000).await;
        let view = look(&ana, "Archives/old", 1_201).await;
        assert_eq!(text(&view, 1_200).await, seen(1_200));
        store.checkpoint().await.expect("a checkpoint");
        put(&disk, "old", mbox(1..1_203).as_bytes(), 3_000).await;
        look(&ana, "Archives/old", 1_202).await;
    });
    // Without a drain: the last row is in the journal alone.
    life(&sim, |_, ana, _| async move {
        let id = ana.find("Archives/old").expect("there");
        let before = ana.status(id).expect("there");
        assert_eq!(
            (before.messages, before.uidnext, before.recent),
            (1_202, Uid(1_203), 0)
        );
        assert_eq!(ana.quota().bytes, 0);
        let view = look(&ana, "Archives/old", 1_202).await;
        assert_eq!((view.mailbox(), view.access()), (id, Access::ReadOnly));
        for n in [1, 600, 1_202] {
            assert_eq!(text(&view, n).await, seen(n.into()));
        }
    });
}

#[test]
fn another_file_is_another_mailbox() {
    life(&SimDisk::new(43), |_, ana, disk| async move {
        let check = async |file: String, at: i64, messages: usize, same: bool| {
            let name = "Archives/x";
            let before = ana.find(name).map(|id| ana.status(id).expect("there"));
            put(&disk, "x", file.as_bytes(), at).await;
            ana.forget_look();
            ana.look_for_archives("ana@example.org").await;
            ana.looked().await;
            let view = look(&ana, name, messages).await;
            let status = view.status().expect("there");
            if let Some(before) = before {
                assert_eq!(before.id == status.id, same, "at {at}");
                assert_eq!(before.uidvalidity == status.uidvalidity, same);
            }
            assert!(ana.subscriptions().iter().any(|s| s == name));
        };
        check(mbox(1..9), 1, 8, true).await;
        check(mbox(1..10), 2, 9, true).await;
        // Shorter, then other letters of the same length, then the same again with text behind.
        check(mbox(1..5), 3, 4, false).await;
        check(mbox(5..9), 4, 4, false).await;
        check(mbox(5..9) + "and more\n", 5, 4, false).await;
        assert_eq!(ana.quota().messages, 0);
    });
}

#[test]
fn compressed_files_are_read_from_an_unpacked_copy() {
    life(&SimDisk::new(44), |_, ana, disk| async move {
        let packed = zstd::bulk::compress(mbox(1..50).as_bytes(), 3).expect("packs");
        put(&disk, "big.mbox.zst", &packed, 1_000).await;
        let view = look(&ana, "Archives/big", 49).await;
        assert_eq!(text(&view, 17).await, seen(17));
        let cache = Path::new(ROOT).join("cache/archives");
        let copies = super::names(&disk, &cache).await;
        assert_eq!(copies.len(), 1, "{copies:?}");
        // The copy may go at any time.
        disk.unlink(&cache.join(&copies[0])).await.expect("removed");
        assert_eq!(text(&view, 18).await, seen(18));
    });
}

#[test]
fn a_file_that_is_gone_leaves_its_mailbox() {
    life(&SimDisk::new(45), |_, ana, disk| async move {
        put(&disk, "x", mbox(1..3).as_bytes(), 1_000).await;
        let view = look(&ana, "Archives/x", 2).await;
        let path = Path::new(DIR).join("x");
        disk.unlink(&path).await.expect("removed");
        let body = view.body(Uid(1)).await.expect("a body");
        assert_eq!(body.read(0..5).await, Err(StoreError::Busy));
        // Back again, as after a mount.
        put(&disk, "x", mbox(1..3).as_bytes(), 1_000).await;
        assert_eq!(text(&view, 1).await, seen(1));
        disk.unlink(&path).await.expect("removed");
        assert_eq!(ana.delete("Archives/x").await, Ok(()));
        assert_eq!(ana.find("Archives/x"), None);
    });
}

/// `palomar quota recount` counted what an administrator shows as what the user keeps.
#[test]
fn what_is_shown_is_not_counted_anew_either() {
    life(&SimDisk::new(46), |store, ana, disk| async move {
        put(&disk, "x", mbox(1..4).as_bytes(), 1_000).await;
        look(&ana, "Archives/x", 3).await;
        let remote = store.remote();
        let letter = message(&remote, &letter(1)).await;
        let placed = remote.deliver(
            letter,
            vec![target(1, "INBOX")],
            unix_now(),
            trace_id(),
            soon(),
        );
        placed.await.expect("delivers");
        let count = ana.recount().await.expect("counts");
        assert!(!count.is_corrected(), "{count:?}");
        assert_eq!((count.messages, ana.quota().messages), (1, 1));
        let home = remote
            .shard()
            .partition(account(1).partition)
            .expect("ours");
        let sizes = home.folder_sizes(account(1).account);
        assert!(
            sizes.iter().all(|f| !f.name.starts_with("Archives")),
            "{sizes:?}"
        );
    });
}

/// What an index that is made anew lacks is in the file: it was never read again, since the value
/// said that it had been.
#[test]
fn rows_that_an_index_lost_come_again() {
    let sim = SimDisk::new(47);
    life(&sim, |store, ana, disk| async move {
        put(&disk, "x", mbox(1..9).as_bytes(), 1_000).await;
        look(&ana, "Archives/x", 8).await;
        let remote = store.remote();
        let own = message(&remote, &letter(1)).await;
        let to = vec![target(1, "INBOX")];
        let placed = remote.deliver(own, to, unix_now(), trace_id(), soon());
        placed.await.expect("delivers");
        store.drain(soon()).await.expect("drains");
        let folder = Path::new(ROOT).join("mail/1/1/.Archives.x");
        for name in super::names(&disk, &folder).await {
            if name.starts_with("palomar.index") || name.starts_with("palomar.log") {
                disk.unlink(&folder.join(name)).await.expect("removed");
            }
        }
        disk.syncfs().await.expect("synced");
    });
    life(&sim, |_, ana, _| async move {
        let before = ana.quota();
        let id = ana.find("Archives/x").expect("there");
        let view = ana.select(id, Access::ReadOnly).await.expect("selects");
        assert_eq!(view.uids().len(), 0);
        drop(view);
        // Another mailbox has the name soon.
        while ana.find("Archives/x") == Some(id) {
            crate::runtime::sleep(std::time::Duration::from_millis(1)).await;
        }
        let view = look(&ana, "Archives/x", 8).await;
        assert_eq!(text(&view, 8).await, seen(8));
        assert_eq!(ana.quota(), before);
    });
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("packs");
    packed.finish().expect("packs")
}

#[test]
fn what_is_there_of_a_cut_file_is_shown() {
    life(&SimDisk::new(48), |store, ana, disk| async move {
        let packed = gzip(&mbox(1..5_000));
        put(&disk, "cut.gz", &packed[..packed.len() * 2 / 3], 1_000).await;
        put(&disk, "none.gz", &packed[..10], 1_000).await;
        ana.look_for_archives("ana@example.org").await;
        ana.looked().await;
        let id = ana.find("Archives/cut").expect("there");
        let view = ana.select(id, Access::ReadOnly).await.expect("selects");
        assert!(
            (1_000..4_999).contains(&view.uids().len()),
            "{}",
            view.uids().len()
        );
        assert_eq!(text(&view, 17).await, seen(17));
        assert_eq!(store.stats().archives_cut, 1);
    });
}

#[test]
fn copies_have_the_room_that_they_are_given() {
    let text_of = mbox(1..2_000);
    let max = text_of.len() as u64 * 3 / 2;
    life_with(&SimDisk::new(49), max, move |_, ana, disk| async move {
        let cache = Path::new(ROOT).join("cache/archives");
        disk.create_dir_all(&cache).await.expect("a directory");
        // Of a process that was killed.
        disk.write_new(&cache.join("x.0.tmp"), vec![0; 9])
            .await
            .expect("written");
        put(&disk, "a.gz", &gzip(&text_of), 1_000).await;
        look(&ana, "Archives/a", 1_999).await;
        put(&disk, "b.gz", &gzip(&text_of), 1_000).await;
        let view = look(&ana, "Archives/b", 1_999).await;
        let listed = disk.list(&cache).await.expect("there");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].len, text_of.len() as u64);
        // What can never fit leaves nothing behind.
        put(&disk, "c.gz", &gzip(&(text_of.clone() + &text_of)), 1_000).await;
        ana.forget_look();
        ana.look_for_archives("ana@example.org").await;
        ana.looked().await;
        let id = ana.find("Archives/c").expect("there");
        assert_eq!(ana.status(id).expect("a status").messages, 0);
        let left = disk.list(&cache).await.expect("there");
        assert!(left.iter().map(|e| e.len).sum::<u64>() <= max, "{left:?}");
        assert_eq!(text(&view, 3).await, seen(3));
    });
}

/// A copy that was renamed before it was on the disk was taken for the file ever after.
#[test]
fn a_copy_is_whole_or_not_there() {
    let sim = SimDisk::new(50);
    let cut = sim.clone();
    let text_of = mbox(1..2_000);
    let whole = text_of.clone();
    life(&sim, |_, ana, disk| async move {
        put(&disk, "a.gz", &gzip(&text_of), 1_000).await;
        look(&ana, "Archives/a", 1_999).await;
        let cache = Path::new(ROOT).join("cache/archives");
        for seed in 0..20 {
            let after = Disk::sim(cut.power_cut(seed));
            for name in super::names(&after, &cache).await {
                if !name.ends_with(".tmp") {
                    let copy = after.read(&cache.join(name)).await.expect("reads");
                    assert_eq!(copy, whole.as_bytes(), "seed {seed}");
                }
            }
        }
    });
}
