//! Disks that are full, and disks that lie: what was acknowledged is read all the while, nothing
//! more is acknowledged after a failed sync, and the next start has it all, by seed.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::{ROOT, Random, account, config, letter, names, run, soon, target, try_message};
use crate::base::{ShardId, Uid};
use crate::runtime::{Disk, DiskOp, SimDisk, sleep, spawn, trace_id, unix_now};
use crate::store::{
    Access, Delivered, FlagChange, FlagMode, Flags, Packing, Store, StoreConfig, StoreError,
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const SEEDS: u64 = 6;
const ACCOUNTS: [u64; 2] = [1, 2];

/// What was acknowledged: account, mailbox, text without the prefix.
type Ledger = Vec<(u64, &'static str, String)>;

/// One store and what the outside world knows of it.
struct World {
    store: Store,
    random: Random,
    known: Ledger,
    /// Sent, but not acknowledged: there once, or not at all.
    doubt: Ledger,
    counter: u64,
}

/// How a story ends: the disk as the next start finds it.
struct End {
    sim: SimDisk,
    random: Random,
    known: Ledger,
    doubt: Ledger,
}

async fn open(disk: &Disk, cfg: StoreConfig) -> Store {
    let recovered = Store::recover_all(cfg, disk).await.expect("recovers");
    let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
    store.expect("opens")
}

pub(super) async fn texts(store: &Store, owner: u64, mailbox: &str) -> Vec<String> {
    let ana = store.remote().account(account(owner)).await.expect("opens");
    let id = ana.find(mailbox).expect("is there");
    let view = ana.select(id, Access::ReadOnly).await.expect("selects");
    let mut all = Vec::new();
    for &uid in view.uids() {
        let body = view.body(uid).await.expect("a body");
        let bytes = body.read(0..body.len()).await.expect("reads");
        let text = String::from_utf8(bytes).expect("text");
        all.push(text.split_once("\r\n").expect("a prefix").1.to_owned());
    }
    all
}

/// Everything in the ledger is there once, and nothing else but what is in doubt.
async fn check_all(store: &Store, known: &Ledger, doubt: &Ledger) {
    for owner in ACCOUNTS {
        for mailbox in ["INBOX", "Trash"] {
            let mut there = texts(store, owner, mailbox).await;
            let mine = |(to, name, _): &&(u64, &str, String)| *to == owner && *name == mailbox;
            for (.., text) in known.iter().filter(mine) {
                let at = there.iter().position(|t| t == text);
                let at = at.unwrap_or_else(|| panic!("{owner} {mailbox}: no {text:.60}"));
                there.swap_remove(at);
            }
            for (.., text) in doubt.iter().filter(mine) {
                there
                    .iter()
                    .position(|t| t == text)
                    .map(|at| there.swap_remove(at));
            }
            assert_eq!(there, [""; 0], "{owner} {mailbox}: more than was sent");
        }
    }
}

impl World {
    async fn new(disk: &Disk, cfg: StoreConfig, seed: u64) -> World {
        let mut world = World {
            store: open(disk, cfg).await,
            random: Random(seed),
            known: Vec::new(),
            doubt: Vec::new(),
            counter: 0,
        };
        for owner in ACCOUNTS {
            world.deliver(owner, 0).await.expect("delivers");
        }
        for _ in 0..world.random.below(6) {
            world.any().await.expect("is taken");
        }
        if world.random.below(2) == 0 {
            world.store.checkpoint().await.expect("a checkpoint");
        }
        world
    }

    /// A letter with `bytes` more than it says.
    async fn deliver(&mut self, owner: u64, bytes: usize) -> Result<(), StoreError> {
        self.counter += 1;
        let mut text = letter(self.counter);
        text.push_str(&"0123456789abcdef\r\n".repeat(bytes / 18));
        let remote = self.store.remote();
        let message = try_message(&remote, &text).await?;
        let to = vec![target(owner, "INBOX")];
        let placed = remote.deliver(message, to, unix_now(), trace_id(), soon());
        let entry = (owner, "INBOX", text);
        match placed.await {
            Ok(Delivered::Placed(_)) => self.known.push(entry),
            Ok(Delivered::Queued) => panic!("one owner needs no queue"),
            Err(why) => {
                self.doubt.push(entry);
                return Err(why);
            }
        }
        Ok(())
    }

    async fn copy(&mut self, owner: u64) -> Result<(), StoreError> {
        let ana = self.store.remote().account(account(owner)).await?;
        let [inbox, trash] = ["INBOX", "Trash"].map(|name| ana.find(name).expect("is there"));
        let view = ana.select(inbox, Access::ReadWrite).await?;
        let uid = *view.uids().last().expect("a letter");
        let all = texts(&self.store, owner, "INBOX").await;
        let entry = (owner, "Trash", all.last().expect("a letter").clone());
        match view.copy(&[uid], trash).await {
            Ok(_) => self.known.push(entry),
            Err(why) => {
                self.doubt.push(entry);
                return Err(why);
            }
        }
        Ok(())
    }

    async fn flag(&self, owner: u64) -> Result<(), StoreError> {
        let ana = self.store.remote().account(account(owner)).await?;
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadWrite).await?;
        let change = FlagChange {
            mode: FlagMode::Add,
            flags: Flags::SEEN,
            keywords: vec![format!("K{}", self.counter)],
        };
        view.store(&[Uid(1)], &change, None).await.map(drop)
    }

    /// Some change that needs no room but in the journal.
    async fn any(&mut self) -> Result<(), StoreError> {
        let owner = ACCOUNTS[self.random.below(2) as usize];
        match self.random.below(4) {
            0 => self.copy(owner).await,
            1 => self.flag(owner).await,
            _ => self.deliver(owner, 0).await,
        }
    }

    /// Power goes.
    fn cut(mut self, sim: &SimDisk) -> End {
        let sim = sim.power_cut(self.random.below(u64::MAX));
        self.end(sim)
    }

    fn end(self, sim: SimDisk) -> End {
        let World {
            random,
            known,
            doubt,
            ..
        } = self;
        End {
            sim,
            random,
            known,
            doubt,
        }
    }

    /// A letter, a copy of it, and more.
    async fn some(&mut self) {
        for owner in ACCOUNTS {
            self.deliver(owner, 0).await.expect("is taken");
            self.copy(owner).await.expect("is taken");
        }
        for _ in 0..self.random.below(8) {
            self.any().await.expect("is taken");
        }
    }
}

/// The next two starts have all of it.
async fn next_starts(end: End) {
    let End {
        mut sim,
        mut random,
        known,
        doubt,
    } = end;
    for _ in 0..2 {
        let store = open(&Disk::sim(sim.clone()), config(1)).await;
        check_all(&store, &known, &doubt).await;
        store.checkpoint().await.expect("a checkpoint");
        check_all(&store, &known, &doubt).await;
        let stats = store.stats();
        assert_eq!((stats.misfits, stats.files_missing), (0, 0));
        sim = sim.power_cut(random.below(u64::MAX));
    }
}

/// Plays the story and, in a process of its own each, the starts that follow.
fn seeds(count: u64, story: impl AsyncFn(u64) -> End + Clone + 'static) {
    for seed in 0..count {
        println!("seed {seed}");
        let story = story.clone();
        let end = run(async move { story(seed).await });
        run(next_starts(end));
    }
}

/// No room at all: the journal has its slots and goes on, the rest waits.
#[test]
fn a_full_disk_defers_settling_checkpoints_and_large_bodies() {
    seeds(SEEDS, async |seed| {
        let sim = SimDisk::new(seed);
        let mut world = World::new(&Disk::sim(sim.clone()), config(1), seed).await;
        sim.set_capacity(0);
        world.some().await;
        for _ in 0..2 {
            assert_eq!(world.store.settle_all().await, Err(StoreError::Full));
            assert_eq!(world.store.checkpoint().await, Err(StoreError::Full));
            assert_eq!(world.deliver(1, 300_000).await, Err(StoreError::Full));
            check_all(&world.store, &world.known, &world.doubt).await;
            world.some().await;
        }
        assert!(!world.store.is_poisoned());
        // What was written of the refused ones takes no room for long.
        sleep(Duration::from_secs(3)).await;
        let disk = Disk::sim(sim.clone());
        let spool = names(&disk, &Path::new(ROOT).join("spool")).await;
        assert_eq!(spool, [""; 0]);
        if world.random.below(2) == 0 {
            return world.cut(&sim);
        }
        sim.set_capacity(u64::MAX);
        world.some().await;
        world.deliver(2, 300_000).await.expect("there is room");
        world.store.settle_all().await.expect("there is room");
        check_all(&world.store, &world.known, &world.doubt).await;
        world.store.checkpoint().await.expect("there is room");
        check_all(&world.store, &world.known, &world.doubt).await;
        world.cut(&sim)
    });
}

/// A full disk is emptied by deleting, where nothing is kept: nobody else has to make room.
#[test]
fn deleting_makes_room_on_a_full_disk() {
    let sim = SimDisk::new(1);
    let disk = Disk::sim(sim.clone());
    run(async move {
        let mut cfg = config(1);
        cfg.undelete_days = 0;
        let mut world = World::new(&disk, cfg, 1).await;
        for _ in 0..4 {
            world.deliver(1, 400_000).await.expect("there is room");
        }
        world.store.checkpoint().await.expect("a checkpoint");
        sim.leave_room(16_000);
        assert_eq!(world.deliver(1, 400_000).await, Err(StoreError::Full));
        let ana = world.store.remote().account(account(1)).await;
        let ana = ana.expect("opens");
        let inbox = ana.find("INBOX").expect("INBOX");
        let view = ana.select(inbox, Access::ReadWrite).await.expect("selects");
        view.expunge(view.uids()).await.expect("is taken");
        world.store.checkpoint().await.expect("a checkpoint");
        // The disk gives room back when it has synced that.
        world.flag(2).await.expect("changes are taken");
        world.store.checkpoint().await.expect("a checkpoint");
        world.deliver(1, 400_000).await.expect("there is room");
    });
}

/// A few writes that find no room, or fail, at each place and at a random moment.
#[test]
fn one_write_without_room_is_done_again() {
    for (place, errno) in [
        ("/tmp/", ENOSPC),
        ("/tmp/", EIO),
        ("/palomar.log", ENOSPC),
        ("/palomar.log", EIO),
        ("/palomar.cache", ENOSPC),
        ("/palomar.cache", EIO),
        ("/catalogue.new", ENOSPC),
        ("/catalogue.new", EIO),
        ("/spool/", ENOSPC),
        ("/spool/", EIO),
    ] {
        seeds(SEEDS / 2, async move |seed| {
            let sim = SimDisk::new(seed);
            let mut world = World::new(&Disk::sim(sim.clone()), config(1), seed).await;
            let nth = 1 + world.random.below(3);
            for again in 0..3 {
                sim.fail(DiskOp::Write, place, nth + again, errno);
            }
            let mut refused = 0;
            for _ in 0..6 {
                world.some().await;
                let large = world.deliver(1, 300_000).await;
                let settled = world.store.settle_all().await.map(drop);
                let checkpoint = world.store.checkpoint().await;
                for outcome in [large, settled, checkpoint] {
                    refused += u32::from(outcome.is_err());
                    let is_right = match outcome {
                        Ok(()) => true,
                        Err(StoreError::Full) => errno == ENOSPC,
                        Err(StoreError::Damaged { .. }) => errno == EIO,
                        _ => false,
                    };
                    assert!(is_right, "{place}: {outcome:?}");
                }
                check_all(&world.store, &world.known, &world.doubt).await;
            }
            // The background may have met the failure and healed it.
            let put_off = world.store.stats().settle_failures;
            assert!(u64::from(refused) + put_off > 0, "{place}: nothing failed");
            assert!(
                refused <= 6,
                "{place}: {refused} refused for three failures"
            );
            world.store.checkpoint().await.expect("there is room");
            world.cut(&sim)
        });
    }
}

/// No room for another slot: new mail is refused before the last slot is full, changes are taken a
/// while longer, and nobody waits for room.
#[test]
fn a_journal_that_cannot_grow_refuses_and_recovers() {
    let late = Rc::new(Cell::new(0));
    let count = late.clone();
    seeds(6, async move |seed| {
        let sim = SimDisk::new(seed);
        let mut cfg = config(1);
        cfg.journal.batch_bytes_max = 512 << 10;
        cfg.journal.slot_bytes = 1 << 20;
        cfg.journal.packing = Packing::Plain;
        let mut world = World::new(&Disk::sim(sim.clone()), cfg, seed).await;
        sim.set_capacity(0);
        let mut outcome = Ok(());
        for _ in 0..200 {
            outcome = world.deliver(1, 30_000).await;
            if outcome.is_err() {
                break;
            }
        }
        if outcome == Err(StoreError::Late) {
            // It was admitted before the journal had found that there is no room for a slot.
            count.set(count.get() + 1);
            return world.cut(&sim);
        }
        assert_eq!(outcome, Err(StoreError::Full));
        world.flag(1).await.expect("changes are taken");
        assert_eq!(world.copy(2).await, Err(StoreError::Full));
        check_all(&world.store, &world.known, &world.doubt).await;
        sim.set_capacity(u64::MAX);
        for _ in 0..100 {
            outcome = world.deliver(1, 200_000).await;
            if outcome.is_ok() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(outcome, Ok(()));
        world.cut(&sim)
    });
    assert!(late.get() < 2, "{} of 6 waited for room", late.get());
}

#[derive(Clone, Copy)]
enum Fails {
    /// The disk does not take a write to the journal, or does not make it durable.
    Journal(DiskOp, i32),
    /// The checkpoint's first or second sync.
    Checkpoint(u64),
}

/// The process goes on until it is told; then it ends without another acknowledgement.
async fn poison(fails: Fails, seed: u64) -> End {
    let sim = SimDisk::new(seed);
    let disk = Disk::sim(sim.clone());
    let mut world = World::new(&disk, config(1), seed).await;
    world.some().await;
    let told = Rc::new(Cell::new(false));
    let (store, tell) = (world.store.clone(), told.clone());
    spawn("watch", async move {
        store.poisoned().await;
        tell.set(true);
    });
    match fails {
        Fails::Journal(op, errno) => {
            // Until the next slot is made: making it may fail without harm.
            while world.store.stats().journal.slots < 2 {
                sleep(Duration::from_millis(1)).await;
            }
            sim.fail(op, "/journal/0/slot-", 1, errno);
            assert_eq!(world.deliver(1, 0).await, Err(StoreError::Poisoned));
        }
        Fails::Checkpoint(nth) => {
            sim.fail(DiskOp::SyncFs, "/", nth, EIO);
            assert_eq!(world.store.checkpoint().await, Err(StoreError::Poisoned));
        }
    }
    assert!(world.store.is_poisoned());
    for owner in ACCOUNTS {
        assert_eq!(world.deliver(owner, 0).await, Err(StoreError::Poisoned));
        assert_eq!(world.copy(owner).await, Err(StoreError::Poisoned));
        assert_eq!(world.flag(owner).await, Err(StoreError::Poisoned));
    }
    assert_eq!(world.store.checkpoint().await, Err(StoreError::Poisoned));
    check_all(&world.store, &world.known, &Vec::new()).await;
    while !told.get() {
        sleep(Duration::from_millis(1)).await;
    }
    // The machine goes on, or its power goes too.
    match world.random.below(2) {
        0 => world.end(sim),
        _ => world.cut(&sim),
    }
}

#[test]
fn a_failed_sync_ends_all_acknowledging() {
    for fails in [
        Fails::Journal(DiskOp::Fdatasync, EIO),
        Fails::Journal(DiskOp::Write, EIO),
        // Slots are written in full when they are made: a disk that has no room for what it has is
        // no disk to trust.
        Fails::Journal(DiskOp::Write, ENOSPC),
        Fails::Checkpoint(1),
        Fails::Checkpoint(2),
    ] {
        seeds(SEEDS, async move |seed| poison(fails, seed).await);
    }
}

/// A sync fails once and the next succeeds without what was dropped: another shard's checkpoint,
/// waiting for its turn, must not believe it.
#[test]
fn a_failed_sync_ends_the_checkpoints_of_every_shard() {
    seeds(2, async |seed| {
        let sim = SimDisk::new(seed);
        let disk = Disk::sim(sim.clone());
        let recovered = Store::recover_all(config(2), &disk)
            .await
            .expect("recovers");
        let mut stores = Vec::new();
        for shard in [ShardId(0), ShardId(1)] {
            let store = Store::open(shard, &recovered, disk.clone()).await;
            stores.push(store.expect("opens"));
        }
        let mut known = Vec::new();
        for n in 1..=20 {
            let owner = ACCOUNTS[n as usize % 2];
            let remote = stores[0].remote();
            let message = try_message(&remote, &letter(n)).await.expect("taken in");
            let to = vec![target(owner, "INBOX")];
            let placed = remote.deliver(message, to, unix_now(), trace_id(), soon());
            placed.await.expect("delivers");
            known.push((owner, "INBOX", letter(n)));
        }
        for store in &stores {
            store.settle_all().await.expect("settles");
        }
        sim.fail(DiskOp::SyncFs, "/", 1, EIO);
        for store in &stores {
            assert_eq!(store.checkpoint().await, Err(StoreError::Poisoned));
        }
        End {
            sim: sim.power_cut(seed),
            random: Random(seed),
            known,
            doubt: Vec::new(),
        }
    });
}

/// A start finds less room than it needs, again and again: each ends with an error, and the one
/// that has room has everything.
#[test]
fn a_start_without_room_is_done_again() {
    seeds(SEEDS, async |seed| {
        let sim = SimDisk::new(seed);
        let mut world = World::new(&Disk::sim(sim.clone()), config(1), seed).await;
        world.some().await;
        world.deliver(1, 300_000).await.expect("is taken");
        let mut end = world.cut(&sim);
        let mut refused = 0;
        for room in 0..200u64 {
            let disk = Disk::sim(end.sim.clone());
            end.sim.set_capacity(u64::MAX);
            let used = u64::MAX - disk.free_bytes().await.expect("is told");
            end.sim.set_capacity(used + room * 4_000);
            match Store::recover_all(config(1), &disk).await {
                Ok(_) => break,
                Err(why) => {
                    let text = why.to_string();
                    assert!(
                        text.contains("no space left") || text.contains("is full"),
                        "{why}"
                    );
                }
            }
            refused += 1;
            if end.random.below(2) == 0 {
                end.sim = end.sim.power_cut(end.random.below(u64::MAX));
            }
        }
        assert!((1..200).contains(&refused), "{refused}");
        end.sim.set_capacity(u64::MAX);
        end
    });
}
