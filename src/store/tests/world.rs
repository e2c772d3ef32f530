//! Whole worlds by seed: accounts, sessions, shards, checkpoints and crashes in any order, against
//! what the outside world knows. The disk, the clock and the order of tasks are drawn from the
//! seed, so `PALOMAR_SEED=n cargo test --lib store::tests::world::one` plays it again.
//!
//! What was acknowledged is there, once, with its UID, flags and content, in the store and in the
//! Maildir files; what was not is there as a whole or not at all; what somebody has seen stays
//! true: UIDs, UIDVALIDITY, modseqs, checksums ([`look::Chronicle`]). In a share of the seeds the
//! disk is full for a while or fails ([`weather`]): who is refused is told so, and nothing is lost.

mod look;
mod model;
mod post;
mod scratch;
mod shared;
mod solo;
mod weather;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::future::or;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::{Random, account, config, letter, try_message};
use crate::base::{Deadline, ShardId, UnixMs};
use crate::runtime::{Disk, SimDisk, jump_clock, now, simulate, sleep, spawn, unix_now};
use crate::store::{Message, Remote, Store, StoreConfig, StoreError};
use post::{Post, Postman};
use scratch::check_scratch;
use shared::{Ledger, SESSIONS, Session};
use solo::{Solo, Vital};
use weather::{Weather, is_of_disk};

/// One life of the process, as the clients see it.
#[derive(Clone)]
struct Life {
    stores: Rc<Vec<Store>>,
    /// The disk will fail everything at some moment.
    is_stopping: bool,
    /// It fails now and then.
    is_rough: bool,
    /// Bytes that some letters have on top.
    more: u64,
}

/// Numbers for letters, never given twice.
#[derive(Clone, Default)]
struct Numbers(Rc<Cell<u64>>);

impl Numbers {
    fn text(&self, random: &mut Random, life: &Life) -> String {
        self.0.set(self.0.get() + 1);
        let mut text = letter(self.0.get());
        if random.below(12) == 0 {
            // Some are long enough to be packed, to about half.
            for line in 0..random.below(life.more) / 18 {
                let digits = (self.0.get() << 16 | line).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                text.push_str(&format!("{digits:016x}\r\n"));
            }
        }
        text
    }
}

impl Life {
    fn home(&self, number: u64) -> &Store {
        let owner = account(number).partition.owner(self.stores.len() as u16);
        &self.stores[usize::from(owner.0)]
    }

    fn any(&self, random: &mut Random) -> &Store {
        &self.stores[random.below(self.stores.len() as u64) as usize]
    }

    /// In memory, or in a spool file.
    async fn message(
        &self,
        random: &mut Random,
        remote: &Remote,
        text: &str,
    ) -> Result<Arc<Message>, StoreError> {
        if random.below(8) > 0 {
            return try_message(remote, text).await;
        }
        let mut incoming = remote.incoming_to_spool();
        incoming.write(text.as_bytes()).await?;
        incoming.finish().await
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At this operation of the disk, between two others: nobody is told anything.
    Halted(u64),
    /// From this operation on all fail, and the process finds out.
    Stopped(u64),
    /// Before it serves.
    Early(u64),
    /// As it should.
    Drained,
}

/// What lives on: the disk, the clients, the time.
struct World {
    seed: u64,
    random: Random,
    sim: SimDisk,
    clock: Cell<UnixMs>,
    solos: Vec<RefCell<Solo>>,
    ledger: Rc<RefCell<Ledger>>,
    sessions: Vec<RefCell<Session>>,
    postman: RefCell<Postman>,
    post: Rc<RefCell<Post>>,
    shards: u16,
    weather: RefCell<Weather>,
}

fn small(shards: u16) -> StoreConfig {
    let mut cfg = config(shards);
    cfg.journal.batch_bytes_max = 64 << 10;
    cfg.journal.slot_bytes = 128 << 10;
    cfg.journal.slots_max = 5;
    cfg.checkpoint_every = Duration::from_secs(2);
    cfg
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed ^ 0x5eed);
        let numbers = Numbers::default();
        let post = Rc::<RefCell<Post>>::default();
        let solo = |number, mortal, exact| {
            let mut solo = Solo::new(number, seed, numbers.clone(), post.clone());
            (solo.mortal, solo.exact) = (mortal, exact);
            RefCell::new(solo)
        };
        let ledger = Rc::new(RefCell::new(Ledger::new(3, post.clone())));
        let session = |n: usize| Session {
            n,
            random: Random(seed ^ 0xaaaa ^ (n as u64) << 40),
            numbers: numbers.clone(),
            ledger: ledger.clone(),
        };
        World {
            seed,
            sim: SimDisk::new(seed),
            clock: Cell::new(UnixMs(1_790_000_000_000)),
            solos: vec![
                solo(1, false, false),
                solo(2, true, false),
                solo(5, true, true),
            ],
            sessions: (0..SESSIONS).map(session).map(RefCell::new).collect(),
            postman: RefCell::new(Postman {
                random: Random(seed ^ 0xbbbb),
                owners: vec![1, 2, 3],
                numbers: numbers.clone(),
                post: post.clone(),
            }),
            ledger,
            post,
            shards: 1 + random.below(2) as u16,
            weather: RefCell::new(Weather::new(seed)),
            random,
        }
    }

    fn end(&mut self) -> End {
        let ops = 20 + self.random.below(900);
        if self.weather.get_mut().is_met(1, 2) {
            return End::Drained;
        }
        match self.random.below(8) {
            0..=2 => End::Halted(ops),
            3 | 4 => End::Stopped(ops),
            5 | 6 => End::Early(ops / 4),
            _ => End::Drained,
        }
    }

    /// Power goes, or the process alone.
    fn crash(&mut self) {
        self.sim.calm();
        if self.random.below(4) == 0 {
            self.sim.restart();
        } else {
            self.sim = self.sim.power_cut(self.random.below(u64::MAX));
        }
        let gap = self.random.below(3_600_000) as i64;
        self.clock.set(UnixMs(self.clock.get().0 + gap));
    }
}

/// Opens every shard on this one. On a disk that is well, the start clears up first.
async fn open(
    disk: &Disk,
    shards: u16,
    is_well: bool,
) -> Result<Vec<Store>, crate::store::StartError> {
    let recovered = Store::recover_all(small(shards), disk).await?;
    if is_well {
        check_scratch(disk, false).await;
    }
    let mut stores = Vec::new();
    for shard in 0..shards {
        stores.push(Store::open(ShardId(shard), &recovered, disk.clone()).await?);
    }
    Ok(stores)
}

// One task at a time has a client.
#[allow(clippy::await_holding_refcell_ref)]
async fn live(world: Rc<RefCell<World>>, end: End, last: bool) {
    let world = world.borrow();
    let disk = Disk::sim(world.sim.clone());
    if let End::Early(ops) = end {
        match ops % 2 {
            0 => world.sim.stop_after(ops),
            _ => world.sim.halt_after(ops),
        }
    }
    let is_stormy = !last && world.weather.borrow_mut().is_met(1, 4);
    let storm = async {
        if is_stormy {
            world.weather.borrow_mut().one(&world.sim).await;
        }
        std::future::pending().await
    };
    let halted = async {
        world.sim.halted().await;
        None
    };
    let is_well = !is_stormy && !matches!(end, End::Early(_));
    let opened = async { Some(open(&disk, world.shards, is_well).await) };
    let opened = or(or(opened, storm), halted);
    let stores = match (opened.await, end) {
        (_, End::Early(_)) => return,
        (Some(Ok(stores)), _) => stores,
        (Some(Err(why)), _) if is_stormy && is_of_disk(&why) => return,
        // A start that nothing stops must not be refused.
        (Some(Err(why)), _) => panic!("does not start: {why}"),
        (None, _) => panic!("nothing halts it"),
    };
    world.sim.calm();
    let life = Life {
        stores: Rc::new(stores),
        is_stopping: matches!(end, End::Stopped(_)),
        is_rough: world.weather.borrow().is_rough,
        more: 4_000,
    };
    check_all(&world, &life).await;
    if last {
        return finish(&world, &life, &disk).await;
    }
    match end {
        End::Halted(ops) => world.sim.halt_after(ops),
        End::Stopped(ops) => world.sim.stop_after(ops),
        End::Early(_) | End::Drained => {}
    }
    or(world.sim.halted(), work(&world, &life)).await;
    world.sim.calm();
    if life.stores.iter().any(Store::is_poisoned) {
        assert!(life.is_stopping || life.is_rough, "nothing has failed");
        return;
    }
    if end == End::Drained {
        if life.is_rough {
            go_on(&world, &life).await;
        }
        let until = Deadline::after(now(), Duration::from_secs(600));
        for store in life.stores.iter() {
            store.drain(until).await.expect("drains");
        }
        check_scratch(&disk, false).await;
    }
}

/// The disk is well again, and nobody has to do anything for the store to be, too.
#[allow(clippy::await_holding_refcell_ref)]
async fn go_on(world: &World, life: &Life) {
    let until = now() + HEALED_WITHIN;
    for store in life.stores.iter() {
        while let Err(why) = store.checkpoint().await {
            assert!(
                now() < until,
                "no checkpoint on a disk that is well: {why:?}"
            );
            sleep(Duration::from_secs(1)).await;
        }
    }
    check_all(world, life).await;
}

/// Longest time to what works again after the disk does.
const HEALED_WITHIN: Duration = Duration::from_secs(120);

/// What clients do in a life, all at once.
#[allow(clippy::await_holding_refcell_ref)]
async fn work(world: &World, life: &Life) {
    let mut random = world.random.clone();
    let commands = 4 + random.below(14);
    let mut clients: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for solo in &world.solos {
        clients.push(Box::pin(async move {
            solo.borrow_mut().work(life, commands).await
        }));
    }
    for session in &world.sessions {
        clients.push(Box::pin(async move {
            session.borrow_mut().work(life, commands).await
        }));
    }
    let postman = &world.postman;
    clients.push(Box::pin(async move {
        postman.borrow_mut().work(life, commands / 3).await
    }));
    if random.below(3) == 0 {
        spawn("clock", jumps(random.clone()));
    }
    let mut weather = world.weather.borrow_mut();
    match weather.is_rough {
        true => or(all(clients, random), weather.storms(&world.sim)).await,
        false => all(clients, random).await,
    }
}

/// Polls them all until all are done, in an order that is drawn.
async fn all(
    mut futures: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + '_>>>,
    mut random: Random,
) {
    std::future::poll_fn(move |cx| {
        let from = random.below(futures.len().max(1) as u64) as usize;
        if !futures.is_empty() {
            futures.rotate_left(from);
        }
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

/// The machine's clock is set, forwards and backwards.
async fn jumps(mut random: Random) {
    loop {
        sleep(Duration::from_millis(random.below(2_000))).await;
        let hours = match random.below(16) {
            0 => 24 * 365 * 30,
            1 => 24 * 365 * 120,
            _ => 1 + random.below(100),
        };
        let by = (hours * 3_600_000) as i64;
        jump_clock(if random.below(2) == 0 { by } else { -by });
    }
}

#[allow(clippy::await_holding_refcell_ref)]
async fn check_all(world: &World, life: &Life) {
    for solo in &world.solos {
        solo.borrow_mut().check(life).await;
    }
    world.ledger.borrow_mut().check(life).await;
    for store in life.stores.iter() {
        let stats = store.stats();
        assert_eq!((stats.misfits, stats.files_missing), (0, 0));
    }
}

/// The last life: everything arrives and lies where it should.
#[allow(clippy::await_holding_refcell_ref)]
async fn finish(world: &World, life: &Life, disk: &Disk) {
    while life.stores.iter().any(|s| s.stats().outbox > 0) {
        sleep(Duration::from_millis(20)).await;
    }
    check_all(world, life).await;
    let is_purged = |solo: &Solo| solo.life == Vital::Purged;
    let purged = world.solos.iter().map(RefCell::borrow);
    let purged: Vec<u64> = purged.filter(|s| is_purged(s)).map(|s| s.number).collect();
    world.post.borrow_mut().settle(&purged);
    // What one checkpoint dooms the next may have to remove.
    for _ in 0..2 {
        for store in life.stores.iter() {
            store.settle_all().await.expect("settles");
            store.checkpoint().await.expect("a checkpoint");
        }
    }
    // One of the background may have begun: what it writes is not left over.
    let checkpointing = &life.stores[0].shard().checkpointing;
    while checkpointing.swap(true, Ordering::AcqRel) {
        sleep(Duration::from_millis(1)).await;
    }
    check_scratch(disk, true).await;
    checkpointing.store(false, Ordering::Release);
    for solo in &world.solos {
        solo.borrow_mut().check_files(life, disk).await;
    }
    world.ledger.borrow_mut().check_files(life, disk).await;
    for store in life.stores.iter() {
        let stats = store.stats();
        assert_eq!(
            (stats.misfits, stats.files_missing, stats.unsettled),
            (0, 0, 0)
        );
    }
}

/// Several lives on one disk. Answers a number that stands for all that happened.
#[allow(clippy::await_holding_refcell_ref)]
fn play(seed: u64) -> u64 {
    let world = Rc::new(RefCell::new(World::new(seed)));
    let lives = 2 + world.borrow_mut().random.below(3);
    let mut trace = 0u64;
    for life in 0..=lives {
        let (end, at, seed) = {
            let mut world = world.borrow_mut();
            let end = match life == lives {
                true => End::Drained,
                false => world.end(),
            };
            (end, world.clock.get(), world.seed ^ life << 50)
        };
        let playing = world.clone();
        let clock = simulate(seed, at, async move {
            live(playing, end, life == lives).await;
            unix_now()
        });
        let mut world = world.borrow_mut();
        world.clock.set(clock);
        trace = trace
            .wrapping_mul(31)
            .wrapping_add(world.sim.counters().ops);
        world.crash();
    }
    trace
}

/// Says how to see it again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let n = self.0;
            eprintln!("PALOMAR_SEED={n} cargo test --lib store::tests::world::one");
        }
    }
}

/// Prints what is logged.
struct Says;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Says {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = String::new();
        let mut note = |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!(" {field}={value:?}"));
        };
        event.record(&mut note);
        eprintln!("{}{line}", event.metadata().level());
    }
}

fn check(seed: u64) -> u64 {
    let _says = Seed(seed);
    play(seed)
}

#[test]
fn one() {
    let seed = std::env::var("PALOMAR_SEED")
        .ok()
        .and_then(|n| n.parse().ok());
    // A seed that is played again says what the store has to say of it.
    let log = tracing_subscriber::registry().with(Says);
    let _log = seed.map(|_| tracing::subscriber::set_default(log));
    let first = check(seed.unwrap_or(1));
    assert_eq!(
        first,
        check(seed.unwrap_or(1)),
        "the same seed gives the same run"
    );
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_half_there() {
    let set = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let (first, count) = (
        set("PALOMAR_FIRST").unwrap_or(0),
        set("PALOMAR_SEEDS").unwrap_or(SEEDS),
    );
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if std::panic::catch_unwind(|| check(seed)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(
        failed.into_inner(),
        0,
        "seeds that failed; each says above how to see it again"
    );
}

const SEEDS: u64 = 2_000;
/// Then it is enough to look at.
const FAILURES_MAX: u64 = 20;
