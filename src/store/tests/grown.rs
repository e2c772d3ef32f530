//! Files that were taken in before whoever wrote them had come to the end. Written straight into
//! `new`, with a rest in between, they were unreadable for good, though they were whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{account, letter, names, recover, soon};
use crate::base::{ShardId, Uid, UnixMs};
use crate::runtime::{Disk, SimDisk, Step, simulate, sleep, unix_now};
use crate::store::{
    Access, Account, FlagChange, FlagMode, Flags, MailboxRepair, RepairOrder, Store, StoreError,
};

const INBOX: &str = "/data/mail/1/1";
const BEGIN: UnixMs = UnixMs(1_790_000_000_000);

fn life<Fut: Future<Output = ()> + 'static>(
    sim: &SimDisk,
    body: impl FnOnce(Store, Disk) -> Fut + 'static,
) {
    let disk = Disk::sim(sim.clone());
    simulate(1, BEGIN, async move {
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        body(store.expect("opens"), disk).await;
    });
}

async fn write(disk: &Disk, path: &Path, bytes: &[u8], modified: UnixMs) {
    let step = Step::Replace {
        tmp: path.with_extension("writing"),
        to: path.to_owned(),
        bytes: bytes.to_vec(),
        rest: None,
        pack: None,
        modified: Some(modified),
    };
    let done = disk.batch(vec![step]).await.remove(0);
    done.expect("written");
}

/// What INBOX has: UIDs, flags, and the message or that it cannot be read.
async fn inbox(ana: &Account) -> Vec<(u32, u8, Result<String, ()>)> {
    let id = ana.find("INBOX").expect("is there");
    let view = ana.select(id, Access::ReadOnly).await.expect("selects");
    let mut all = Vec::new();
    for &uid in view.uids() {
        let read = async {
            let body = view.body(uid).await?;
            body.read(0..body.len()).await
        };
        let text = match read.await {
            Ok(text) => Ok(String::from_utf8(text).expect("text")),
            Err(StoreError::Damaged { .. }) => Err(()),
            Err(why) => panic!("{why:?}"),
        };
        all.push((uid.0, view.row(uid).expect("a row").flags.0, text));
    }
    all
}

async fn repair(store: &Store, apply: bool) -> MailboxRepair {
    let order = RepairOrder {
        folder: Some("INBOX".to_owned()),
        apply,
        drop_missing: false,
    };
    let told = store.repair(account(1), &order).await;
    told.expect("is looked at").remove(0)
}

/// The one file in `cur`.
async fn file(disk: &Disk) -> PathBuf {
    let cur = Path::new(INBOX).join("cur");
    let found = names(disk, &cur).await;
    assert_eq!(found.len(), 1, "{found:?}");
    cur.join(&found[0])
}

/// A letter of which `len` octets were there when it was taken in, seen since.
async fn half_taken(store: &Store, disk: &Disk, len: usize) -> (Account, PathBuf) {
    let ana = store.remote().account(account(1)).await.expect("opens");
    store.settle_all().await.expect("settles");
    let new = Path::new(INBOX).join("new/1.slow");
    write(disk, &new, &letter(1).as_bytes()[..len], UnixMs(5_000)).await;
    assert_eq!(inbox(&ana).await.len(), 1);
    let id = ana.find("INBOX").expect("is there");
    let view = ana.select(id, Access::ReadWrite).await.expect("selects");
    let seen = FlagChange {
        mode: FlagMode::Add,
        flags: Flags::SEEN,
        keywords: vec!["Work".to_owned()],
    };
    view.store(&[Uid(1)], &seen, None).await.expect("stores");
    drop(view);
    store.settle_all().await.expect("settles");
    store.checkpoint().await.expect("a checkpoint");
    let path = file(disk).await;
    (ana, path)
}

#[test]
fn a_file_that_is_being_written_is_left_for_the_next_look() {
    life(&SimDisk::new(1), async |store, disk| {
        let ana = store.remote().account(account(1)).await.expect("opens");
        store.settle_all().await.expect("settles");
        let new = Path::new(INBOX).join("new/1.slow");
        let text = letter(1);
        write(&disk, &new, &text.as_bytes()[..13], unix_now()).await;
        assert_eq!(inbox(&ana).await, []);
        sleep(Duration::from_secs(2)).await;
        write(&disk, &new, text.as_bytes(), unix_now()).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(inbox(&ana).await, []);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(inbox(&ana).await, [(1, 0, Ok(text))]);
        // Asked for, it is waited for; and a clock that is behind hides nothing.
        write(&disk, &new, letter(2).as_bytes(), unix_now()).await;
        let ahead = UnixMs(unix_now().0 + 86_400_000);
        write(
            &disk,
            &new.with_file_name("2.late"),
            letter(3).as_bytes(),
            ahead,
        )
        .await;
        let told = ana.rescan(Some("INBOX")).await.expect("rescans").remove(0);
        assert_eq!((told.files, told.taken_in, told.grown), (2, 2, 0));
        assert_eq!(inbox(&ana).await.len(), 3);
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn a_file_that_grew_is_a_new_message() {
    for by_repair in [true, false] {
        life(&SimDisk::new(2), async move |store, disk| {
            let text = letter(1);
            let (ana, path) = half_taken(&store, &disk, 13).await;
            write(&disk, &path, text.as_bytes(), UnixMs(9_000)).await;
            assert_eq!(inbox(&ana).await, [(1, Flags::SEEN.0, Err(()))]);
            let told = repair(&store, false).await;
            assert_eq!((told.grown, told.renewed), (vec![1], 0));
            match by_repair {
                true => assert_eq!(repair(&store, true).await.renewed, 1),
                false => {
                    let told = ana.rescan(None).await.expect("rescans");
                    assert_eq!(told.iter().map(|one| one.grown).sum::<u64>(), 1);
                }
            }
            let want = [(2, Flags::SEEN.0, Ok(text.clone()))];
            assert_eq!(inbox(&ana).await, want);
            let id = ana.find("INBOX").expect("is there");
            let view = ana.select(id, Access::ReadOnly).await.expect("selects");
            let row = view.row(Uid(2)).expect("a row");
            assert_eq!(row.internal_date, UnixMs(5_000));
            let keywords: Vec<&str> = row.keywords.iter().map(|k| &**k).collect();
            assert_eq!(keywords, ["Work"]);
            drop(view);
            store.settle_all().await.expect("settles");
            store.checkpoint().await.expect("a checkpoint");
            file(&disk).await;
            let told = repair(&store, true).await;
            assert_eq!(
                (told.grown, told.missing, told.taken_in),
                (vec![], vec![], 0)
            );
            assert_eq!(inbox(&ana).await, want);
            assert_eq!(ana.quota().messages, 1);
            store.drain(soon()).await.expect("drains");
        });
    }
}

/// What was lost can come back from a backup, under the same UID.
#[test]
fn a_shorter_file_is_damaged() {
    life(&SimDisk::new(3), async |store, disk| {
        let text = letter(1);
        let (ana, path) = half_taken(&store, &disk, text.len()).await;
        let packed = zstd::encode_all(&[7; 9_000][..], 3).expect("packed");
        let packed = [&packed[..], &[0; 5_000]].concat();
        for bytes in [&b"Subject"[..], &packed] {
            write(&disk, &path, bytes, UnixMs(9_000)).await;
            assert_eq!(repair(&store, true).await.grown, [0; 0]);
            assert_eq!(ana.rescan(None).await.expect("rescans")[0].grown, 0);
            assert_eq!(inbox(&ana).await, [(1, Flags::SEEN.0, Err(()))]);
        }
        write(&disk, &path, text.as_bytes(), UnixMs(9_000)).await;
        assert_eq!(inbox(&ana).await, [(1, Flags::SEEN.0, Ok(text))]);
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn what_grew_is_there_once_wherever_power_goes() {
    for seed in 0..40u64 {
        let sim = SimDisk::new(seed);
        let now_sim = sim.clone();
        life(&sim, async move |store, disk| {
            let (ana, path) = half_taken(&store, &disk, 13).await;
            write(&disk, &path, letter(1).as_bytes(), UnixMs(9_000)).await;
            disk.syncfs().await.expect("synced");
            now_sim.stop_after(1 + seed);
            let _ = ana.rescan(None).await;
        });
        let sim = sim.power_off(seed);
        life(&sim, async move |store, disk| {
            let ana = store.remote().account(account(1)).await.expect("opens");
            for _ in 0..2 {
                ana.rescan(None).await.expect("rescans");
            }
            let order = RepairOrder {
                folder: None,
                apply: true,
                drop_missing: true,
            };
            let told = store.repair(account(1), &order).await;
            told.expect("is mended");
            let found = inbox(&ana).await;
            let texts: Vec<_> = found.into_iter().map(|one| one.2).collect();
            assert_eq!(texts, [Ok(letter(1))], "seed {seed}");
            store.settle_all().await.expect("settles");
            store.checkpoint().await.expect("a checkpoint");
            file(&disk).await;
            store.drain(soon()).await.expect("drains");
        });
        sim.discard();
    }
}
