//! A shard whose time, and whose order of tasks, come from a seed. For tests alone.
//!
//! [`simulate`] runs a future, and what it spawns, on this thread without a ring. Which of the
//! ready tasks goes on is drawn; each step takes some microseconds, and when no task is ready,
//! time goes on to the next timer at once: an hour costs nothing. So the same seed gives the same
//! run, and a wait that nobody will end is a panic instead of a test that hangs.
//!
//! Sockets, the pool and other shards are not here: whoever touches them panics in glommio.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::base::UnixMs;

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

struct World {
    random: Cell<u64>,
    begun: Instant,
    passed: Cell<Duration>,
    /// The wall clock when the run began, and what it has jumped since.
    unix: Cell<i64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: RefCell<Vec<u64>>,
    woken: mpsc::Receiver<u64>,
    wake: mpsc::Sender<u64>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    last: Cell<u64>,
}

/// Runs `fut` and what it spawns until it ends; what is then left is dropped where it stands, as
/// when a process is killed. The wall clock begins at `at`.
pub fn simulate<T: 'static>(seed: u64, at: UnixMs, fut: impl Future<Output = T> + 'static) -> T {
    let world = Rc::new(World::new(seed, at));
    let here = Here::enter(world.clone());
    let outcome = Rc::new(RefCell::new(None));
    let result = outcome.clone();
    world.spawn(async move {
        let value = fut.await;
        *result.borrow_mut() = Some(value);
    });
    while outcome.borrow().is_none() {
        world.step();
    }
    drop(here);
    outcome.take().expect("the loop ends with an outcome")
}

/// Lets the wall clock jump: what an operator or a time server does to it.
pub fn jump_clock(ms: i64) {
    let world = world().expect("only a simulated clock jumps");
    world.unix.set(world.unix.get() + ms);
}

/// A number below `n`, drawn by the seed of the run.
pub(super) fn draw(n: u64) -> Option<u64> {
    world().map(|world| world.below(n))
}

pub(super) fn now() -> Option<Instant> {
    world().map(|world| world.now())
}

pub(super) fn unix_now() -> Option<UnixMs> {
    world().map(|world| {
        let passed = i64::try_from(world.passed.get().as_millis()).unwrap_or(i64::MAX);
        UnixMs(world.unix.get().saturating_add(passed))
    })
}

/// A number that no other call of this run gave.
pub(super) fn serial() -> Option<u64> {
    world().map(|world| world.number())
}

/// Takes the task, or gives it back where no simulation runs.
pub(super) fn spawn<F: Future<Output = ()> + 'static>(fut: F) -> Result<(), F> {
    match world() {
        Some(world) => {
            world.spawn(fut);
            Ok(())
        }
        None => Err(fut),
    }
}

/// Lets others run first.
pub(super) async fn pass() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A timer of the running simulation; gone when dropped.
pub(super) struct SimTimer {
    world: Rc<World>,
    key: (Instant, u64),
}

impl SimTimer {
    /// `None` where no simulation runs.
    pub(super) fn set(until: Instant, waker: &Waker) -> Option<SimTimer> {
        let world = world()?;
        let key = (until, world.number());
        world.timers.borrow_mut().insert(key, waker.clone());
        Some(SimTimer { world, key })
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.world.timers.borrow_mut().remove(&self.key);
    }
}

fn world() -> Option<Rc<World>> {
    WORLD.with_borrow(Clone::clone)
}

/// The world of this thread, until dropped.
struct Here(Rc<World>);

impl Here {
    fn enter(world: Rc<World>) -> Here {
        let before = WORLD.replace(Some(world.clone()));
        assert!(before.is_none(), "one simulation at a time on a thread");
        Here(world)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // Tasks may spawn, and look at the clock, as they go.
        loop {
            let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
        }
        WORLD.set(None);
    }
}

struct TaskWaker {
    task: u64,
    queued: AtomicBool,
    wake: mpsc::Sender<u64>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let _ = self.wake.send(self.task);
        }
    }
}

impl World {
    fn new(seed: u64, at: UnixMs) -> World {
        let (wake, woken) = mpsc::channel();
        World {
            random: Cell::new(seed),
            begun: Instant::now(),
            passed: Cell::new(Duration::ZERO),
            unix: Cell::new(at.0),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            woken,
            wake,
            timers: RefCell::default(),
            last: Cell::new(0),
        }
    }

    fn now(&self) -> Instant {
        self.begun + self.passed.get()
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    fn spawn(&self, fut: impl Future<Output = ()> + 'static) {
        let task = self.number();
        self.tasks.borrow_mut().insert(task, Box::pin(fut));
        self.ready.borrow_mut().push(task);
    }

    /// Lets one ready task go on, or time where there is none.
    fn step(&self) {
        self.passed.set(self.passed.get() + STEP);
        self.fire();
        self.ready.borrow_mut().extend(self.woken.try_iter());
        let ready = self.ready.borrow().len() as u64;
        if ready == 0 {
            let next = self.timers.borrow().keys().next().map(|(at, _)| *at);
            let next = next.expect("every task waits, and none for time: nobody will wake them");
            self.passed.set((next - self.begun).max(self.passed.get()));
            assert!(self.passed.get() < LONGEST, "no end in sight");
            return;
        }
        let at = self.below(ready) as usize;
        let task = self.ready.borrow_mut().swap_remove(at);
        self.poll(task);
    }

    fn fire(&self) {
        let now = self.now();
        let mut timers = self.timers.borrow_mut();
        let mut due = VecDeque::new();
        while let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) {
            due.push_back(first.remove());
        }
        drop(timers);
        due.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, task: u64) {
        // Ended meanwhile, or woken by itself while it ran.
        let Some(mut fut) = self.tasks.borrow_mut().remove(&task) else {
            return;
        };
        let queued = AtomicBool::new(false);
        let wake = self.wake.clone();
        let waker = Waker::from(Arc::new(TaskWaker { task, queued, wake }));
        if fut
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.tasks.borrow_mut().insert(task, fut);
        }
    }

    /// SplitMix64.
    fn below(&self, n: u64) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What a task takes from one wait to the next.
const STEP: Duration = Duration::from_micros(5);
/// Nothing that a test waits for takes longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
