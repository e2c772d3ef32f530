//! Starting shards, and spawning on them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::RuntimeError;
use super::error::io_error;
use crate::base::ShardId;

/// How many shards, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: u16,
    /// Shard `i` is pinned to `cores[i % len]`; empty: not pinned. More shards than cores work.
    pub cores: Vec<usize>,
}

/// The running shards.
#[must_use = "dropping the handles leaves the shards running unobserved"]
#[derive(Debug)]
pub struct Shards {
    threads: Vec<(ShardId, thread::JoinHandle<Result<(), RuntimeError>>)>,
}

/// Starts one pinned executor a shard and runs `body` on each. Either all shards run or none: the
/// first that cannot be made stops the rest before any `body` begins.
pub fn start<F, Fut>(plan: &Plan, body: F) -> Result<Shards, RuntimeError>
where
    F: Fn(ShardId) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    if !(1..=SHARDS_MAX).contains(&plan.shards) {
        return Err(RuntimeError::ShardCount(plan.shards));
    }
    let (made, outcomes) = flume::bounded(usize::from(plan.shards));
    let (go, wait_for_go) = flume::bounded::<()>(usize::from(plan.shards));
    let mut threads = Vec::with_capacity(usize::from(plan.shards));
    for shard in (0..plan.shards).map(ShardId) {
        let core = match plan.cores.len() {
            0 => None,
            len => Some(plan.cores[usize::from(shard.0) % len]),
        };
        let (body, made, wait_for_go) = (body.clone(), made.clone(), wait_for_go.clone());
        let thread = thread::Builder::new()
            .name(format!("shard-{shard}"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let executor = match make_executor(shard, core) {
                    Ok(executor) => executor,
                    Err(error) => {
                        let _ = made.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = made.send(Ok(()));
                match wait_for_go.recv() {
                    Ok(()) => run(&executor, shard, body),
                    Err(flume::RecvError::Disconnected) => Ok(()),
                }
            })
            .map_err(|cause| RuntimeError::NoThread { shard, cause })?;
        threads.push((shard, thread));
    }
    for _ in &threads {
        outcomes
            .recv()
            .expect("each thread reports before it ends")?;
    }
    for _ in &threads {
        let _ = go.send(());
    }
    Ok(Shards { threads })
}

impl Shards {
    /// Waits until every body has ended. The first shard that panicked is the error.
    pub fn join(self) -> Result<(), RuntimeError> {
        let mut outcome = Ok(());
        for (shard, thread) in self.threads {
            let ended = thread
                .join()
                .unwrap_or(Err(RuntimeError::Panicked { shard }));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// One shard, number 0, on this thread until the future ends. For the command line on a stopped
/// server and for tests. Tasks still running are dropped.
pub fn block_on<T>(fut: impl Future<Output = T> + 'static) -> Result<T, RuntimeError> {
    let shard = ShardId(0);
    let executor = make_executor(shard, None)?;
    Ok(executor.run(async move {
        spawn("pulse", pulse());
        fut.await
    }))
}

/// The shard this thread runs; 0 on any other thread.
#[must_use]
pub fn shard() -> ShardId {
    CURRENT.get()
}

/// Runs a task on this shard, detached; it begins after the caller has yielded. A panic in it is
/// caught, counted and logged with `name`.
pub fn spawn(name: &'static str, fut: impl Future<Output = ()> + 'static) {
    #[cfg(test)]
    let Err(fut) = super::sim::spawn(fut) else {
        return;
    };
    // glommio's plain spawn polls the task at once, within whatever borrows the caller holds, and
    // a chain of tasks that spawn the next would grow the stack. Into a named queue it is put off.
    let queue = glommio::executor().current_task_queue();
    let task = glommio::spawn_local_into(Guarded { name, fut }, queue);
    // A dropped or cancelled glommio task leaks: always detach.
    drop(task.expect("the current queue exists").detach());
}

/// Panics caught in tasks and on the pool since the process began.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Lets every other ready task of this shard run, and its sockets be polled.
pub async fn yield_now() {
    #[cfg(test)]
    if super::sim::draw(1).is_some() {
        return super::sim::pass().await;
    }
    // Behind those that are ready, and then out of the queue, which is run until it is empty: what
    // waits for a timer goes on after the next look at timers and sockets.
    futures_lite::future::yield_now().await;
    glommio::timer::Timer::new(MOMENT).await;
}

/// Yields if this shard has run tasks for longer than a slice. Long loops call this.
pub async fn yield_if_needed() {
    if is_slice_over() {
        yield_now().await;
    }
}

/// Whether a task that could go on for ever should yield now.
pub(super) fn is_slice_over() -> bool {
    #[cfg(test)]
    if let Some(drawn) = super::sim::draw(4) {
        return drawn == 0;
    }
    SLICE_BEGAN.with(ran_for) >= SLICE
}

/// How long this round of the executor has gone on since it was first asked about here.
fn ran_for(begun: &Cell<Option<(u64, Instant)>>) -> Duration {
    // Counted since the last such question: any at all is a new round.
    if glommio::executor().executor_stats().scheduler_runs() > 0 {
        ROUND.set(ROUND.get() + 1);
    }
    match begun.get() {
        Some((round, began)) if round == ROUND.get() => began.elapsed(),
        _ => {
            begun.set(Some((ROUND.get(), Instant::now())));
            Duration::ZERO
        }
    }
}

/// Whether the executor should look at timers and sockets before it runs another task. See
/// [`PREEMPT`].
fn is_round_over() -> bool {
    if !PUT_OFF.with_borrow(Vec::is_empty) {
        return true;
    }
    let polls = POLLS.get().wrapping_add(1);
    POLLS.set(polls);
    polls.is_multiple_of(POLLS_A_LOOK) && ROUND_BEGAN.with(ran_for) >= ROUND_SPAN
}

/// Wakes the waker in the next round. A task that is put off leaves the ready queue, and once that
/// is empty the round ends.
fn put_off(waker: Waker) {
    let is_first = PUT_OFF.with_borrow_mut(|waiting| {
        waiting.push(waker);
        waiting.len() == 1
    });
    if is_first {
        // Not by way of our own spawn: this one must not be put off itself.
        let next_round = async {
            glommio::timer::Timer::new(MOMENT).await;
            let waiting = PUT_OFF.take();
            waiting.into_iter().for_each(Waker::wake);
        };
        drop(glommio::spawn_local(next_round).detach());
    }
}

/// Wakes the waker after the other ready tasks have run and the sockets were looked at.
pub(super) fn wake_later(waker: Waker) {
    spawn("yield", async {
        yield_now().await;
        waker.wake();
    });
}

/// Wakes the executor now and then. See [`PREEMPT`].
async fn pulse() {
    loop {
        super::rest(PULSE).await;
    }
}

pub(super) fn count_panic(name: &'static str, payload: &(dyn Any + Send)) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let text = payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    tracing::error!(
        task = name,
        shard = shard().0,
        panic = text,
        "task panicked"
    );
}

fn make_executor(shard: ShardId, core: Option<usize>) -> Result<LocalExecutor, RuntimeError> {
    CURRENT.set(shard);
    if let Some(core) = core {
        pin(core).map_err(|cause| RuntimeError::NoCore { shard, core, cause })?;
    }
    let make = || {
        // Pinned above and not by glommio, so that the two failures can be told apart.
        LocalExecutorBuilder::new(Placement::Unbound)
            .name("palomar")
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .make()
    };
    match catch_unwind(make) {
        Ok(Ok(executor)) => Ok(executor),
        Ok(Err(error)) => Err(RuntimeError::no_ring(shard, io_error(error))),
        // Registering buffers half-way past the limit panics inside glommio.
        Err(_) => Err(RuntimeError::no_ring(
            shard,
            std::io::ErrorKind::OutOfMemory.into(),
        )),
    }
}

fn pin(core: usize) -> std::io::Result<()> {
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(rustix::io::Errno::INVAL.into());
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn run<F, Fut>(executor: &LocalExecutor, shard: ShardId, body: F) -> Result<(), RuntimeError>
where
    F: Fn(ShardId) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    catch_unwind(AssertUnwindSafe(|| {
        executor.run(async {
            spawn("pulse", pulse());
            body(shard).await;
        })
    }))
    .map_err(|payload| {
        count_panic("shard", &*payload);
        RuntimeError::Panicked { shard }
    })
}

/// A task's future behind a catch, written by hand because an `async` block around it would hold
/// the future twice, and an idle session's future is what its memory is.
struct Guarded<F> {
    name: &'static str,
    fut: F,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if is_round_over() {
            put_off(cx.waker().clone());
            return Poll::Pending;
        }
        let name = self.name;
        // SAFETY: structural pinning of `fut`: it is never moved out of the pinned `self`, and
        // `Guarded` has neither a `Drop` nor an `Unpin` of its own.
        let fut = unsafe { self.map_unchecked_mut(|guarded| &mut guarded.fut) };
        match catch_unwind(AssertUnwindSafe(|| fut.poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                count_panic(name, &*payload);
                Poll::Ready(())
            }
        }
    }
}

/// A future and what is dropped right after it, also when it panicked. By hand for the same reason.
pub(super) struct Holding<G, F> {
    // Field order is drop order: what the task owns goes first.
    fut: F,
    _held: G,
}

impl<G, F> Holding<G, F> {
    pub(super) fn new(held: G, fut: F) -> Self {
        Holding { fut, _held: held }
    }
}

impl<G, F: Future<Output = ()>> Future for Holding<G, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: structural pinning of `fut`, as in `Guarded`.
        unsafe { self.map_unchecked_mut(|holding| &mut holding.fut) }.poll(cx)
    }
}

/// A trace id has 8 bits for the shard.
const SHARDS_MAX: u16 = 256;
/// Registered buffers count against the limit on locked memory, and we use none of them.
const IO_MEMORY_BYTES: usize = 64 << 10;
const RING_DEPTH: usize = 128;
/// Long enough to be in the future when it is first looked at.
const MOMENT: Duration = Duration::from_micros(20);
/// How long tasks run before `yield_if_needed` yields.
const SLICE: Duration = Duration::from_millis(5);
/// How long tasks run, none of which ends the round, until timers and sockets are looked at.
const ROUND_SPAN: Duration = Duration::from_millis(100);
/// Tasks that are run between looks at the clock.
const POLLS_A_LOOK: u32 = 16;
/// After how long glommio leaves the ready tasks alone by itself: never.
///
/// glommio 0.9 arms this timer and then asks whether it has expired, before it runs a task. Where
/// the thread lost its core in between, for longer than this, it takes the ready tasks for done and
/// sleeps over them until another event comes. A tenth of a second without a core is rare, a day is
/// not to be had; so rounds are ended by us ([`is_round_over`]), as slices are.
const PREEMPT: Duration = Duration::from_secs(24 * 3600);
/// And should glommio sleep over a task for a reason that we have not found, then for so long.
const PULSE: Duration = Duration::from_secs(5);
/// Only touched pages cost memory; a debug build's deepest MIME walk wants more than 2 MiB.
const STACK_BYTES: usize = 8 << 20;

static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CURRENT: Cell<ShardId> = const { Cell::new(ShardId(0)) };
    /// Rounds of the executor: each ends with a look at timers and sockets.
    static ROUND: Cell<u64> = const { Cell::new(0) };
    /// The round in which the slice question was asked last, and when it was first asked in it.
    static SLICE_BEGAN: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
    /// The same of the question whether the round is over.
    static ROUND_BEGAN: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
    static POLLS: Cell<u32> = const { Cell::new(0) };
    /// Tasks that go on in the next round.
    static PUT_OFF: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}
