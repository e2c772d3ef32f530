//! Several that take in files without a row, at once: repair's orphan pass, the operator's repair
//! and rescan, sessions, and the watch for mail of other programs. By many seeds, half of which
//! lose power on the way: nothing is lost, nothing comes twice, nothing expunged comes back.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::{Random, account, letter, message, names, recover, target};
use crate::base::{Deadline, ShardId, UnixMs};
use crate::runtime::{
    Disk, Gate, SimDisk, Step, now, simulate, sleep, spawn_in, trace_id, unix_now,
};
use crate::store::{
    Access, Account, FlagChange, FlagMode, Flags, RepairOrder, Store, StoreError, View,
};

const INBOX: &str = "/data/mail/1/1";
const SEEDS: u64 = 80;

/// What must be in INBOX, by the numbers of letters, and what may be.
#[derive(Default)]
struct Truth {
    there: BTreeSet<u64>,
    perhaps: BTreeSet<u64>,
    /// Those that the user was about to remove, perhaps while they were still being dropped in.
    removing: BTreeSet<u64>,
}

impl Truth {
    fn begin(&mut self, n: u64) {
        self.there.remove(&n);
        self.perhaps.insert(n);
    }

    fn end(&mut self, n: u64, is_there: bool) {
        self.perhaps.remove(&n);
        if is_there {
            self.there.insert(n);
        }
    }
}

#[derive(Clone)]
struct World {
    store: Store,
    ana: Account,
    truth: Rc<RefCell<Truth>>,
}

async fn rest(random: &mut Random, ms: u64) {
    sleep(Duration::from_millis(random.below(ms))).await;
}

/// Another program, which knows how to write a Maildir.
async fn drop_in(world: World, mut random: Random) {
    let disk = world.store.remote().shard().disk.clone();
    for n in 100..140 {
        let both = random.below(5) == 0;
        let stem = match random.below(3) {
            // As from a backup: we named it once.
            0 => format!("1790000000.P1Q{}N0U{}.palomar", 90_000 + n, n - 90),
            1 => format!("{n}.other,S={}", letter(n).len()),
            _ => format!("{n}.other"),
        };
        let in_cur = random.below(2) == 0;
        put(&world, &disk, n, in_cur, &stem).await;
        if both {
            put(&world, &disk, n + 1_000, !in_cur, &stem).await;
        }
        rest(&mut random, 1_500).await;
    }
}

async fn put(world: &World, disk: &Disk, n: u64, in_cur: bool, stem: &str) {
    let tmp = PathBuf::from(format!("{INBOX}/tmp/{n}"));
    let (dir, name) = match in_cur {
        true => (format!("{INBOX}/cur"), format!("{stem}:2,S")),
        false => (format!("{INBOX}/new"), stem.to_owned()),
    };
    let to = Path::new(&dir).join(name);
    world.truth.borrow_mut().begin(n);
    let steps = vec![
        Step::Replace {
            tmp: tmp.with_extension("part"),
            to: tmp.clone(),
            bytes: letter(n).into_bytes(),
            rest: None,
            pack: None,
            modified: None,
        },
        Step::SyncFile { path: tmp.clone() },
        Step::Rename { from: tmp, to },
    ];
    let done = disk.batch(steps).await.iter().all(Result::is_ok);
    if done && disk.syncfs().await.is_ok() && !world.truth.borrow().removing.contains(&n) {
        world.truth.borrow_mut().end(n, true);
    }
}

/// A postman, and a user who removes some of what there is.
async fn use_mail(world: World, mut random: Random) {
    let remote = world.store.remote();
    for n in 1..=20 {
        world.truth.borrow_mut().begin(n);
        let placed = message(&remote, &letter(n)).await;
        let to = vec![target(1, "INBOX")];
        let until = Deadline::after(now(), Duration::from_secs(20));
        let placed = remote.deliver(placed, to, unix_now(), trace_id(), until);
        if placed.await.is_ok() {
            world.truth.borrow_mut().end(n, true);
        }
        rest(&mut random, 1_500).await;
        let _ = remove_one(&world, &mut random).await;
        match random.below(4) {
            0 => drop(world.store.checkpoint().await),
            1 => drop(world.store.settle_all().await),
            _ => {}
        }
    }
}

async fn remove_one(world: &World, random: &mut Random) -> Result<(), StoreError> {
    let id = world.ana.find("INBOX").ok_or(StoreError::NoMailbox)?;
    let mut view = world.ana.select(id, Access::ReadWrite).await?;
    view.refresh(true);
    let Some(uid) = random.pick(view.uids()) else {
        return Ok(());
    };
    let n = number(&view, uid).await?;
    let delete = FlagChange {
        mode: FlagMode::Add,
        flags: Flags::DELETED,
        keywords: Vec::new(),
    };
    view.store(&[uid], &delete, None).await?;
    world.truth.borrow_mut().removing.insert(n);
    world.truth.borrow_mut().begin(n);
    let removed = view.expunge(&[uid]).await?;
    world.truth.borrow_mut().end(n, removed.is_empty());
    Ok(())
}

/// Which letter a message is.
async fn number(view: &View, uid: crate::base::Uid) -> Result<u64, StoreError> {
    let body = view.body(uid).await?;
    let text = String::from_utf8(body.read(0..body.len()).await?).expect("text");
    let last = text.lines().last().unwrap_or_default();
    let n = last.strip_prefix("Body of letter ").expect("a letter");
    Ok(n.trim_end_matches('.').parse().expect("a number"))
}

/// What rebuilds do when they find files without a row, and what an operator does.
async fn take_in(world: World, mut random: Random) {
    let shard = world.store.remote().shard().clone();
    let inbox = world.ana.find("INBOX").expect("is there");
    let order = RepairOrder {
        folder: None,
        apply: true,
        drop_missing: false,
    };
    for _ in 0..40 {
        // Each may be refused, since another is at it.
        match random.below(4) {
            0 => drop(world.ana.rescan(None).await),
            1 => drop(world.store.repair(account(1), &order).await),
            _ => shard.owned.orphans.add(world.ana.id(), inbox),
        }
        rest(&mut random, 1_500).await;
    }
}

/// Everything is taken in, and there once.
async fn check(world: &World, seed: u64) {
    let mut quiet = false;
    for _ in 0..20 {
        let found = world.ana.rescan(None).await;
        quiet = found.is_ok_and(|all| all.iter().all(|one| one.files == 0));
        if quiet {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(quiet, "seed {seed}: files are left");
    world.store.settle_all().await.expect("settles");
    world.store.checkpoint().await.expect("a checkpoint");
    let order = RepairOrder {
        folder: None,
        apply: false,
        drop_missing: false,
    };
    for one in world.store.repair(account(1), &order).await.expect("looks") {
        let left = (one.files_without_row.is_empty(), one.missing.is_empty());
        assert_eq!(left, (true, true), "seed {seed}: {one:?}");
    }
    let id = world.ana.find("INBOX").expect("is there");
    let view = world.ana.select(id, Access::ReadOnly).await;
    let view = view.expect("selects");
    let mut found = BTreeSet::new();
    for &uid in view.uids() {
        let n = number(&view, uid).await.expect("reads");
        assert!(found.insert(n), "seed {seed}: letter {n} came twice");
    }
    let disk = world.store.remote().shard().disk.clone();
    let files = names(&disk, &Path::new(INBOX).join("cur")).await.len();
    assert_eq!(files, found.len(), "seed {seed}: files");
    let truth = world.truth.borrow();
    let lost: Vec<&u64> = truth.there.difference(&found).collect();
    assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
    let odd = |n: &&u64| !truth.there.contains(*n) && !truth.perhaps.contains(*n);
    let odd: Vec<&u64> = found.iter().filter(odd).collect();
    assert!(odd.is_empty(), "seed {seed}: came back {odd:?}");
}

fn life<Fut: Future<Output = ()> + 'static>(
    seed: u64,
    sim: &SimDisk,
    truth: &Rc<RefCell<Truth>>,
    body: impl FnOnce(World) -> Fut + 'static,
) {
    let (disk, truth) = (Disk::sim(sim.clone()), truth.clone());
    simulate(seed, UnixMs(1_790_000_000_000), async move {
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk).await;
        let store = store.expect("opens");
        let ana = store.remote().account(account(1)).await.expect("opens");
        body(World { store, ana, truth }).await;
    });
}

#[test]
fn whoever_takes_files_in_takes_each_once() {
    for seed in 0..SEEDS {
        let truth = Rc::default();
        let sim = SimDisk::new(seed);
        let mut random = Random(seed);
        let stop = (seed % 2 == 1).then(|| 100 + random.below(4_000));
        let now_sim = sim.clone();
        life(seed, &sim, &truth, async move |world| {
            world.store.settle_all().await.expect("settles");
            if let Some(operations) = stop {
                now_sim.stop_after(operations);
            }
            let gate = Gate::new();
            let mut draw = || Random(random.below(u64::MAX));
            spawn_in(&gate, "drops", drop_in(world.clone(), draw()));
            spawn_in(&gate, "uses", use_mail(world.clone(), draw()));
            spawn_in(&gate, "takes", take_in(world.clone(), draw()));
            spawn_in(&gate, "takes", take_in(world.clone(), draw()));
            let until = Deadline::after(now(), Duration::from_secs(7_200));
            assert_eq!(gate.close(until).await, Ok(()), "seed {seed}");
            if stop.is_none() {
                check(&world, seed).await;
            }
        });
        let sim = sim.power_off(seed);
        life(seed, &sim, &truth, async move |world| {
            check(&world, seed).await;
        });
        sim.discard();
    }
}
