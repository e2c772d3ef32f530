//! Threads for what blocks: file metadata, password hashes, SQLite. Ours and not glommio's, whose
//! one thread takes its shard with it when a closure panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::shard::count_panic;
use super::{Answer, NoAnswer, Reply, deadline, reply};
use crate::base::Deadline;

/// A handle; clones feed the same threads, which end when the last handle is gone.
#[derive(Clone)]
pub struct Pool {
    jobs: flume::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Why the pool gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full; the closure did not and will not run.
    Full,
    /// No result by the deadline. A closure that had not begun never will; one that had goes on.
    Late,
    /// The closure panicked; the thread lives on.
    Panicked,
}

impl Pool {
    /// `threads` threads behind a queue of `depth` jobs.
    ///
    /// # Panics
    /// If the system gives no thread at all: this is called once, at start.
    #[must_use]
    pub fn start(threads: usize, depth: usize) -> Pool {
        let (jobs, queue) = flume::bounded::<Job>(depth.max(1));
        let mut started = 0;
        for n in 0..threads.max(1) {
            let queue = queue.clone();
            let thread = thread::Builder::new()
                .name(format!("pool-{n}"))
                .spawn(move || queue.iter().for_each(|job| job()));
            match thread {
                Ok(_detached) => started += 1,
                Err(error) => tracing::error!(%error, "pool thread not started"),
            }
        }
        assert!(started > 0, "the system gave no thread for the pool");
        Pool { jobs }
    }

    /// Runs `f` on one of the threads; a full queue refuses at once.
    pub async fn run<T: Send + 'static>(
        &self,
        until: Deadline,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (job, answer) = job(f);
        self.jobs.try_send(job).map_err(|_| PoolError::Full)?;
        outcome(answer, until).await
    }

    /// Like [`run`](Pool::run), but waits for room in the queue: for what must not be refused.
    pub async fn run_queued<T: Send + 'static>(
        &self,
        until: Deadline,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (job, answer) = job(f);
        match deadline(until, self.jobs.send_async(job)).await {
            Ok(Ok(())) => outcome(answer, until).await,
            Ok(Err(_)) => Err(PoolError::Full),
            Err(_) => Err(PoolError::Late),
        }
    }
}

fn job<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> (Job, Answer<std::thread::Result<T>>) {
    let (reply, answer) = reply();
    let job = move || run_unless_abandoned(f, reply);
    (Box::new(job), answer)
}

fn run_unless_abandoned<T: Send>(f: impl FnOnce() -> T, reply: Reply<thread::Result<T>>) {
    if reply.is_abandoned() {
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(f));
    if let Err(payload) = &outcome {
        count_panic("pool", &**payload);
    }
    reply.send(outcome);
}

async fn outcome<T: Send>(
    answer: Answer<thread::Result<T>>,
    until: Deadline,
) -> Result<T, PoolError> {
    match answer.wait(until).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(NoAnswer::Gone) => Err(PoolError::Panicked),
        Err(NoAnswer::Late) => Err(PoolError::Late),
    }
}
