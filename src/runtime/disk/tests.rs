//! Both disks do the same; the simulated one loses power, by many seeds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::runtime::{block_on, deadline};

const NOSPC: i32 = 28;
const EIO: i32 = 5;

const READ_WRITE: Open = Open {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: false,
};

/// The same calls on the machine's file system and on a simulated one.
#[track_caller]
fn on_both<Fut: Future<Output = ()> + 'static>(body: impl Fn(Disk, PathBuf) -> Fut) {
    let dir = tempfile::tempdir().unwrap();
    let real = Disk::real(Pool::start(2, 64))
        .with_root(dir.path())
        .unwrap();
    block_on(body(real, dir.path().into())).unwrap();
    block_on(body(Disk::sim(SimDisk::new(7)), PathBuf::from("/"))).unwrap();
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, DiskError>) -> DiskErrorKind {
    outcome.unwrap_err().kind
}

#[test]
fn files_read_back_what_was_written() {
    on_both(|disk, root| async move {
        let path = root.join("file");
        let missing = Open {
            create: false,
            ..READ_WRITE
        };
        assert_eq!(
            kind(disk.open(&path, missing).await.map(drop)),
            DiskErrorKind::NotFound
        );
        let file = disk.open(&path, READ_WRITE).await.unwrap();
        assert!(file.is_empty().await.unwrap());
        let buf = file.write_at(b"hello".to_vec(), 3).await.unwrap();
        assert_eq!(buf, b"hello", "the buffer comes back");
        let buf = file.clone().write_at(vec![7; 300_000], 1000).await.unwrap();
        assert_eq!(buf.len(), 300_000);
        file.fdatasync().await.unwrap();
        file.sync_all().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 301_000);
        assert_eq!(file.read_at(6, 2).await.unwrap(), b"\0hello");
        assert_eq!(
            file.read_at(100, 300_990).await.unwrap(),
            [7; 10],
            "short at the end"
        );
        assert!(file.read_at(1, 400_000).await.unwrap().is_empty());
        file.close().await.unwrap();
        disk.truncate(&path, 8).await.unwrap();
        assert_eq!(disk.read(&path).await.unwrap(), b"\0\0\0hello");
        let again = Open {
            create_new: true,
            ..READ_WRITE
        };
        assert_eq!(
            kind(disk.open(&path, again).await.map(drop)),
            DiskErrorKind::Exists
        );
        let read_only = Open {
            read: true,
            ..Open::default()
        };
        let file = disk.open(&path, read_only).await.unwrap();
        assert_eq!(kind(file.write_at(vec![1], 0).await), DiskErrorKind::Io(9));
        let empty = Open {
            truncate: true,
            ..READ_WRITE
        };
        disk.open(&path, empty).await.unwrap();
        assert_eq!(disk.file_len(&path).await.unwrap(), 0);
    });
}

#[test]
fn names_come_and_go() {
    on_both(|disk, root| async move {
        let deep = root.join("a/b/c");
        disk.create_dir_all(&deep).await.unwrap();
        disk.create_dir_all(&deep).await.unwrap();
        let (one, two) = (deep.join("one"), deep.join("two"));
        disk.write_new(&one, b"1".to_vec()).await.unwrap();
        assert_eq!(
            kind(disk.write_new(&one, vec![]).await),
            DiskErrorKind::Exists
        );
        disk.link(&one, &two).await.unwrap();
        assert_eq!(kind(disk.link(&one, &two).await), DiskErrorKind::Exists);
        disk.unlink(&one).await.unwrap();
        assert_eq!(kind(disk.unlink(&one).await), DiskErrorKind::NotFound);
        assert_eq!(disk.read(&two).await.unwrap(), b"1");
        disk.write_new(&one, b"22".to_vec()).await.unwrap();
        disk.rename(&one, &two).await.unwrap();
        assert!(!disk.exists(&one).await.unwrap());
        disk.set_times(&two, UnixMs(1_234_567)).await.unwrap();
        assert_eq!(disk.modified(&two).await.unwrap(), UnixMs(1_234_567));
        disk.create_dir_all(&deep.join("dir")).await.unwrap();
        let names = disk.list(&deep).await.unwrap();
        assert!(names[0].is_dir && names[0].name == "dir");
        assert_eq!((names[1].name.to_str(), names[1].len), (Some("two"), 2));
        assert_eq!(names.len(), 2);
        disk.sync_dir(&deep).await.unwrap();
        disk.syncfs().await.unwrap();
        assert!(disk.free_bytes().await.unwrap() > 0);
        disk.remove_dir_all(&root.join("a")).await.unwrap();
        assert_eq!(kind(disk.list(&deep).await), DiskErrorKind::NotFound);
        assert_eq!(
            kind(disk.write_new(&one, vec![]).await),
            DiskErrorKind::NotFound
        );
    });
}

#[test]
fn a_batch_answers_each_step() {
    on_both(|disk, root| async move {
        let (tmp, new) = (root.join("tmp"), root.join("new"));
        let outcomes = disk
            .batch(vec![
                Step::WriteNew {
                    path: tmp.clone(),
                    bytes: b"mail".to_vec(),
                },
                Step::Rename {
                    from: tmp.clone(),
                    to: new.clone(),
                },
                Step::Unlink { path: tmp.clone() },
                Step::Append {
                    path: new.clone(),
                    at: 4,
                    bytes: b"dir".to_vec(),
                },
                Step::SyncFile { path: new.clone() },
                Step::SyncDir { path: root.clone() },
            ])
            .await;
        let bytes = |n| Ok(Done { bytes_written: n });
        let late = DiskErrorKind::NotFound;
        let missing = Err(DiskError {
            op: DiskOp::Unlink,
            path: tmp,
            kind: late,
        });
        assert_eq!(
            outcomes,
            [bytes(4), bytes(0), missing, bytes(3), bytes(0), bytes(0)]
        );
        assert_eq!(disk.read(&new).await.unwrap(), b"maildir");
    });
}

#[test]
fn a_group_ends_at_its_first_error() {
    on_both(|disk, root| async move {
        let [one, two, three] = ["one", "two", "three"].map(|name| root.join(name));
        let new = |path: &Path| Step::WriteNew {
            path: path.into(),
            bytes: b"mail".to_vec(),
        };
        let rename = |from: &Path, to: &Path| Step::Rename {
            from: from.into(),
            to: to.into(),
        };
        let outcomes = disk
            .batch(vec![
                Step::Group(vec![new(&one), new(&one), rename(&one, &two)]),
                Step::Group(vec![new(&three), rename(&three, &two)]),
                Step::Group(Vec::new()),
            ])
            .await;
        let exists = Err(DiskError {
            op: DiskOp::Open,
            path: one.clone(),
            kind: DiskErrorKind::Exists,
        });
        let bytes = |n| Ok(Done { bytes_written: n });
        assert_eq!(outcomes, [exists, bytes(4), bytes(0)]);
        assert!(disk.exists(&one).await.unwrap());
        assert!(!disk.exists(&three).await.unwrap());
    });
}

#[test]
fn a_disk_that_does_not_answer_is_late() {
    block_on(async {
        let pool = Pool::start(1, 1);
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let holder = pool.clone();
        crate::runtime::spawn("holder", async move {
            let until = Deadline::after(now(), Duration::from_secs(20));
            let _ = holder.run(until, move || hold.recv()).await;
        });
        crate::runtime::yield_now().await;
        let disk = Disk::real(pool).with_deadline(Duration::from_millis(5));
        let path = Path::new("/nowhere/at/all");
        assert_eq!(kind(disk.read(path).await), DiskErrorKind::Late);
        let steps = vec![Step::Unlink { path: path.into() }; 2];
        for outcome in disk.batch(steps).await {
            assert_eq!(kind(outcome), DiskErrorKind::Late);
        }
        drop(release);
        let disk = disk.with_deadline(Duration::from_secs(20));
        assert_eq!(kind(disk.read(path).await), DiskErrorKind::NotFound);
        assert_eq!(kind(disk.syncfs().await), DiskErrorKind::Io(9), "no root");
    })
    .unwrap();
}

/// Random steps among a few names, so that they collide; what both disks answer must be the same.
#[test]
fn the_simulated_disk_answers_as_the_real_one() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_path_buf();
        block_on(async move {
            let real = Disk::real(Pool::start(1, 8));
            let sim = Disk::sim(SimDisk::new(seed));
            let mut random = seed;
            for n in 0..200 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(n);
                let [on_real, on_sim] = [root.as_path(), Path::new("/")].map(|r| step(random, r));
                let on_real = real.batch(vec![on_real.clone()]).await.remove(0);
                let said = sim.batch(vec![on_sim.clone()]).await.remove(0);
                let plain = |outcome: Result<Done, DiskError>| outcome.map_err(|e| (e.op, e.kind));
                assert_eq!(
                    plain(on_real),
                    plain(said),
                    "seed {seed}, step {n}: {on_sim:?}"
                );
            }
            for dir in ["", "a", "b", "a/x"] {
                let on_real = real.list(&root.join(dir)).await.map_err(|e| e.kind);
                let on_sim = sim
                    .list(&Path::new("/").join(dir))
                    .await
                    .map_err(|e| e.kind);
                // What a real directory's length is, is its file system's affair.
                let plain = |mut entries: Vec<DirEntry>| {
                    for entry in &mut entries {
                        entry.modified = UnixMs(0);
                        entry.len = if entry.is_dir { 0 } else { entry.len };
                    }
                    entries
                };
                assert_eq!(on_real.map(plain), on_sim.map(plain), "seed {seed}, {dir}");
            }
        })
        .unwrap();
    }
}

fn step(random: u64, root: &Path) -> Step {
    const NAMES: [&str; 7] = ["a", "b", "a/x", "a/y", "b/x", "b/z", "a/x/deep"];
    let path = |shift: u32| root.join(NAMES[(random >> shift) as usize % NAMES.len()]);
    let bytes = vec![7; (random >> 50) as usize % 2000];
    match (random >> 33) % 10 {
        0 | 1 => Step::CreateDirAll { path: path(40) },
        2 | 3 => Step::WriteNew {
            path: path(40),
            bytes,
        },
        4 => Step::Append {
            path: path(40),
            at: 100,
            bytes,
        },
        5 => Step::Rename {
            from: path(40),
            to: path(44),
        },
        6 => Step::Link {
            from: path(40),
            to: path(44),
        },
        7 => Step::Unlink { path: path(40) },
        8 => Step::Truncate {
            path: path(40),
            len: 300,
        },
        _ => Step::SyncDir { path: path(40) },
    }
}

// ---- power cuts

/// What is found at `path` after a cut, over many seeds; `None` where the name is gone.
async fn outcomes(sim: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let mut found = BTreeSet::new();
    for seed in 0..200 {
        let after = Disk::sim(sim.power_cut(seed));
        found.insert(after.read(Path::new(path)).await.ok());
    }
    found
}

fn on_sim<Fut: Future<Output = ()> + 'static>(body: impl FnOnce(SimDisk, Disk) -> Fut) {
    let sim = SimDisk::new(42);
    let disk = Disk::sim(sim.clone());
    block_on(body(sim, disk)).unwrap();
}

#[test]
fn what_is_synced_stays() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/f"), READ_WRITE).await.unwrap();
        file.write_at(vec![1; 2000], 0).await.unwrap();
        file.fdatasync().await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        assert_eq!(outcomes(&sim, "/f").await, [Some(vec![1; 2000])].into());
        let counters = sim.counters();
        assert_eq!(
            (counters.writes, counters.fdatasyncs, counters.dir_syncs),
            (1, 1, 1)
        );
    });
}

#[test]
fn a_new_name_without_its_directorys_sync_may_go_with_its_synced_content() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/f"), READ_WRITE).await.unwrap();
        file.write_at(vec![1; 10], 0).await.unwrap();
        file.fdatasync().await.unwrap();
        assert_eq!(outcomes(&sim, "/f").await, [None, Some(vec![1; 10])].into());
        disk.syncfs().await.unwrap();
        assert_eq!(outcomes(&sim, "/f").await, [Some(vec![1; 10])].into());
    });
}

#[test]
fn sectors_without_a_sync_are_old_new_or_torn() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/f"), READ_WRITE).await.unwrap();
        file.write_at(vec![1; 1024], 0).await.unwrap();
        disk.syncfs().await.unwrap();
        file.write_at(vec![2; 1024], 0).await.unwrap();
        let found = outcomes(&sim, "/f").await;
        let has = |bytes: Vec<u8>| assert!(found.contains(&Some(bytes)));
        has(vec![1; 1024]);
        has(vec![2; 1024]);
        has([vec![1; 512], vec![2; 512]].concat());
        has([vec![2; 512], vec![1; 512]].concat());
        let torn = |bytes: &Vec<u8>| bytes[..512].contains(&1) && bytes[..512].contains(&2);
        assert!(found.iter().flatten().any(torn));
    });
}

#[test]
fn a_sync_does_not_cover_what_is_written_after_it_began() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/f"), READ_WRITE).await.unwrap();
        file.write_at(vec![0; 1024], 0).await.unwrap();
        disk.syncfs().await.unwrap();
        let mut lost = false;
        for n in 1..20 {
            file.write_at(vec![n; 512], 0).await.unwrap();
            let sync = file.fdatasync();
            let write = file.write_at(vec![n; 512], 512);
            let (synced, _) = futures_lite::future::zip(sync, write).await;
            synced.unwrap();
            for found in outcomes(&sim, "/f").await {
                let found = found.unwrap();
                assert_eq!(found[..512], [n; 512], "written before the sync began");
                lost |= found[512..] != [n; 512];
            }
            file.fdatasync().await.unwrap();
        }
        assert!(lost, "never was one lost that came after");
    });
}

#[test]
fn a_length_is_the_old_or_the_new() {
    on_sim(|sim, disk| async move {
        let path = Path::new("/f");
        disk.write_new(path, vec![1; 600]).await.unwrap();
        disk.syncfs().await.unwrap();
        disk.truncate(path, 0).await.unwrap();
        let file = disk.open(path, READ_WRITE).await.unwrap();
        file.write_at(vec![2; 100], 0).await.unwrap();
        let lengths = |found: BTreeSet<Option<Vec<u8>>>| -> BTreeSet<usize> {
            found
                .into_iter()
                .flatten()
                .map(|bytes| bytes.len())
                .collect()
        };
        assert_eq!(lengths(outcomes(&sim, "/f").await), [100, 600].into());
        file.fdatasync().await.unwrap();
        assert_eq!(outcomes(&sim, "/f").await, [Some(vec![2; 100])].into());
    });
}

#[test]
fn a_rename_is_whole_until_one_of_its_directories_is_synced() {
    on_sim(|sim, disk| async move {
        let (tmp, new) = (Path::new("/tmp"), Path::new("/new"));
        for dir in [tmp, new] {
            disk.create_dir_all(dir).await.unwrap();
        }
        disk.write_new(&tmp.join("m"), b"m".to_vec()).await.unwrap();
        disk.syncfs().await.unwrap();
        disk.rename(&tmp.join("m"), &new.join("m")).await.unwrap();
        let both = |after: SimDisk| async move {
            let disk = Disk::sim(after);
            let old = disk.exists(Path::new("/tmp/m")).await.unwrap();
            (old, disk.exists(Path::new("/new/m")).await.unwrap())
        };
        let mut found = BTreeSet::new();
        for seed in 0..50 {
            found.insert(both(sim.power_cut(seed)).await);
        }
        assert_eq!(found, [(true, false), (false, true)].into());
        disk.sync_dir(new).await.unwrap();
        let mut found = BTreeSet::new();
        for seed in 0..50 {
            found.insert(both(sim.power_cut(seed)).await);
        }
        assert_eq!(found, [(true, true), (false, true)].into());
    });
}

#[test]
fn a_removed_name_may_come_back_until_its_directory_is_synced() {
    on_sim(|sim, disk| async move {
        disk.create_dir_all(Path::new("/d/e")).await.unwrap();
        disk.write_new(Path::new("/d/e/f"), b"f".to_vec())
            .await
            .unwrap();
        disk.syncfs().await.unwrap();
        disk.unlink(Path::new("/d/e/f")).await.unwrap();
        assert_eq!(
            outcomes(&sim, "/d/e/f").await,
            [None, Some(b"f".to_vec())].into()
        );
        disk.sync_dir(Path::new("/d/e")).await.unwrap();
        assert_eq!(outcomes(&sim, "/d/e/f").await, [None].into());
    });
}

// ---- failures

#[test]
fn a_failed_fdatasync_forgets_and_the_next_one_lies() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/f"), READ_WRITE).await.unwrap();
        file.write_at(vec![1; 4096], 0).await.unwrap();
        disk.syncfs().await.unwrap();
        sim.fail(DiskOp::Fdatasync, "f", 1, EIO);
        file.write_at(vec![2; 4096], 0).await.unwrap();
        assert_eq!(kind(file.fdatasync().await), DiskErrorKind::Io(EIO));
        assert_eq!(file.read_at(1, 0).await.unwrap(), [2], "still read back");
        file.fdatasync().await.unwrap();
        let found = outcomes(&sim, "/f").await;
        assert_eq!(found.len(), 1, "nothing is left to chance after a sync");
        assert_ne!(
            found,
            [Some(vec![2; 4096])].into(),
            "but it is not what was written"
        );
    });
}

#[test]
fn failures_hit_the_nth_operation_on_the_path() {
    on_sim(|sim, disk| async move {
        let file = disk.open(Path::new("/journal/x"), READ_WRITE).await;
        assert_eq!(kind(file.map(drop)), DiskErrorKind::NotFound);
        disk.create_dir_all(Path::new("/journal")).await.unwrap();
        let file = disk
            .open(Path::new("/journal/x"), READ_WRITE)
            .await
            .unwrap();
        sim.fail(DiskOp::Write, "journal", 2, NOSPC);
        file.write_at(vec![1], 0).await.unwrap();
        let failed = file.write_at(vec![1], 0).await;
        assert_eq!(
            failed.unwrap_err().to_string(),
            "write /journal/x: no space left"
        );
        file.write_at(vec![1], 0).await.unwrap();
        sim.fail(DiskOp::Open, "new", 1, NOSPC);
        let new = Path::new("/journal/new");
        assert_eq!(kind(disk.write_new(new, vec![]).await), DiskErrorKind::Full);
        assert!(!disk.exists(new).await.unwrap());
        sim.set_capacity(100);
        assert_eq!(
            kind(disk.write_new(new, vec![0; 200]).await),
            DiskErrorKind::Full
        );
        sim.stop_after(1);
        file.write_at(vec![2], 0).await.unwrap();
        assert_eq!(
            kind(file.write_at(vec![3], 0).await),
            DiskErrorKind::Io(EIO)
        );
        assert_eq!(kind(disk.syncfs().await), DiskErrorKind::Io(EIO));
    });
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = || {
        block_on(async {
            let sim = SimDisk::new(9);
            let disk = Disk::sim(sim.clone());
            for n in 0..20u8 {
                let path = PathBuf::from(format!("/{n}"));
                disk.write_new(&path, vec![n; 3000]).await.unwrap();
            }
            let after = Disk::sim(sim.power_cut(11));
            let mut all = Vec::new();
            for entry in after.list(Path::new("/")).await.unwrap() {
                let path = Path::new("/").join(&entry.name);
                all.push((entry, after.read(&path).await.unwrap()));
            }
            all
        })
        .unwrap()
    };
    let (first, second) = (run(), run());
    assert!(first == second && !first.is_empty() && first.len() < 20);
}

#[test]
fn removed_files_are_given_back_at_the_sync() {
    on_sim(|sim, disk| async move {
        sim.set_capacity(1000);
        let path = Path::new("/f");
        disk.write_new(path, vec![0; 900]).await.unwrap();
        let file = disk.open(path, READ_WRITE).await.unwrap();
        disk.unlink(path).await.unwrap();
        disk.syncfs().await.unwrap();
        assert_eq!(disk.free_bytes().await.unwrap(), 100, "still open");
        file.close().await.unwrap();
        disk.syncfs().await.unwrap();
        assert_eq!(disk.free_bytes().await.unwrap(), 1000);
    });
}

/// A tree that others write to had links to our own files in it, and a FIFO that took a thread of
/// the pool for ever.
#[test]
fn what_is_no_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let disk = Disk::real(Pool::start(1, 64));
    block_on(async move {
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "secret").unwrap();
        std::os::unix::fs::symlink(root.join("real/file"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("real", root.join("dir")).unwrap();
        std::os::unix::fs::symlink("gone/tree", root.join("away")).unwrap();
        std::fs::create_dir(root.join("gone")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(root.join("fifo"))
            .status();
        assert!(made.unwrap().success());
        let listed = disk.list(&root).await.unwrap();
        let kinds = |name: &str| {
            let entry = listed.iter().find(|e| e.name == name).unwrap();
            (entry.is_dir, entry.is_file)
        };
        assert_eq!(kinds("real"), (true, false));
        for name in ["link", "dir", "fifo"] {
            assert_eq!(kinds(name), (false, false), "{name}");
        }
        let refused = async |disk: &Disk, path: &str, errno| {
            let path = root.join(path);
            let read: fn(&Path, &mut dyn io::Read) -> io::Result<()> = |_, _| Ok(());
            let sync = Step::SyncFile { path: path.clone() };
            let outcomes = [
                disk.read(&path).await.map(drop),
                disk.open_sized(&path).await.map(drop),
                disk.open(&path, READ_WRITE).await.map(drop),
                disk.survey(vec![path.clone()], read)
                    .await
                    .remove(0)
                    .map(drop),
                disk.batch(vec![sync]).await.remove(0).map(drop),
            ];
            for outcome in outcomes {
                assert_eq!(
                    kind(outcome),
                    DiskErrorKind::Io(errno),
                    "{}",
                    path.display()
                );
            }
        };
        refused(&disk, "link", LOOP).await;
        refused(&disk, "fifo", INVAL).await;
        // The directories of a path are our own, but for who says that they are not.
        let path = root.join("dir/file");
        assert_eq!(disk.read(&path).await.unwrap(), b"secret");
        let foreign = disk.foreign();
        let read = foreign.read(&path).await;
        assert_eq!(kind(read), DiskErrorKind::Io(LOOP));
        let size = foreign.file_len(&path).await;
        assert_eq!(kind(size), DiskErrorKind::Io(LOOP));
        let list = foreign.list(&root.join("dir")).await;
        assert_eq!(kind(list), DiskErrorKind::Io(LOOP));
        assert_eq!(disk.canonical(&path).await.unwrap(), root.join("real/file"));
        // Of a link to what is gone: where it would be.
        let away = disk.canonical(&root.join("away")).await.unwrap();
        assert_eq!(away, root.join("gone/tree"));
        let long = foreign.read_at_most(&root.join("real/file"), 5).await;
        assert_eq!(kind(long), DiskErrorKind::Io(27));
    })
    .unwrap();
}

const LOOP: i32 = 40;
const INVAL: i32 = 22;

#[test]
fn what_comes_into_a_watched_directory_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_path_buf();
    block_on(async move {
        let disk = Disk::real(Pool::start(1, 16));
        let notices = disk.notices().expect("inotify");
        let dir = |name: &str| path.join(name);
        for name in ["a", "b", "out"] {
            std::fs::create_dir(dir(name)).unwrap();
        }
        let dirs = vec![dir("a"), dir("b"), dir("none")];
        let watched = notices.change(Vec::new(), dirs).await;
        let (Some(a), Some(b), None) = (watched[0], watched[1], watched[2]) else {
            panic!("{watched:?}");
        };
        let next = async || {
            let until = Deadline::after(now(), Duration::from_secs(20));
            deadline(until, notices.next()).await.expect("in time")
        };
        let filled = async |name: &str| disk.filled_all(vec![dir(name)]).await.remove(0);
        assert_eq!(filled("a").await, Ok(false));
        std::fs::write(dir("out").join("1"), "x").unwrap();
        std::fs::rename(dir("out").join("1"), dir("a").join("1")).unwrap();
        assert_eq!(next().await, Some(Notice::Arrived(a)));
        assert_eq!(filled("a").await, Ok(true));
        assert!(filled("none").await.is_err());
        // A second name; what leaves is not told.
        std::fs::hard_link(dir("a").join("1"), dir("b").join("1")).unwrap();
        assert_eq!(next().await, Some(Notice::Arrived(b)));
        std::fs::remove_file(dir("a").join("1")).unwrap();
        std::fs::rename(dir("a"), dir("moved")).unwrap();
        assert_eq!(next().await, Some(Notice::Ended(a)));
        assert_eq!(notices.change(vec![b], Vec::new()).await, []);
        assert_eq!(next().await, Some(Notice::Ended(b)));
        // More than can wait.
        let again = notices.change(Vec::new(), vec![dir("b"), dir("out")]).await;
        assert!(again.iter().all(Option::is_some));
        for n in 0..3_000 {
            let dir = dir(if n % 2 == 0 { "b" } else { "out" });
            std::fs::write(dir.join(n.to_string()), "").unwrap();
        }
        while !notices.missed.load(std::sync::atomic::Ordering::Acquire) {
            crate::runtime::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(next().await, Some(Notice::Missed));
        assert!(matches!(notices.try_next(), Some(Notice::Arrived(_))));
    })
    .unwrap();
}
