//! Sleeping and giving up. A timer is an entry in the shard's ordered map, made at the first
//! pending poll and removed on drop: a deadline that is never reached costs no CPU.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::now;
use crate::base::Deadline;

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// Waits `span`.
pub async fn sleep(span: Duration) {
    let mut alarm = Alarm::at(Deadline::after(now(), span));
    std::future::poll_fn(|cx| alarm.poll(cx)).await;
}

/// Waits about `span`, half a second more or less: for what is looked at again and again in the
/// background. All such waits end together, on whole seconds of one clock, so that an idle shard is
/// woken once for all of them.
pub async fn rest(span: Duration) {
    // A simulated clock has no beginning that all runs share.
    #[cfg(test)]
    if super::sim::now().is_some() {
        return sleep(span).await;
    }
    let beginning = *BEGINNING.get_or_init(Instant::now);
    sleep(to_whole(beginning.elapsed(), span)).await;
}

/// From `since` to the whole second next to `span` later.
pub(super) fn to_whole(since: Duration, span: Duration) -> Duration {
    let seconds = (since + span + Duration::from_millis(500)).as_secs();
    let until = Duration::from_secs(seconds).saturating_sub(since);
    if until.is_zero() { span } else { until }
}

/// The future's value if it is there by `until`. The future is polled in the calling task and
/// dropped when the returned future is; a value that is ready is given even past the deadline.
pub fn deadline<T>(
    until: Deadline,
    fut: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Elapsed>> {
    Bounded {
        alarm: Alarm::at(until),
        fut,
    }
}

/// Written by hand: as an `async fn` it would hold `fut` twice.
struct Bounded<F> {
    alarm: Alarm,
    fut: F,
}

impl<F: Future> Future for Bounded<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: structural pinning of `fut`: it is never moved out of the pinned `self`.
        // `alarm` is `Unpin`, and `Bounded` has neither a `Drop` nor an `Unpin` of its own.
        let (alarm, fut) = unsafe {
            let this = self.get_unchecked_mut();
            (&mut this.alarm, Pin::new_unchecked(&mut this.fut))
        };
        match fut.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => alarm.poll(cx).map(|()| Err(Elapsed)),
        }
    }
}

/// As [`deadline`], and calls `note` with the time that has passed each time another `every` of it
/// has.
pub(super) fn deadline_noting<T>(
    until: Deadline,
    every: Duration,
    note: impl FnMut(Duration) + Unpin,
    fut: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Elapsed>> {
    let began = Instant::now();
    Noting {
        alarm: Alarm::at(until.min(Deadline::after(began, every))),
        until,
        began,
        every,
        note,
        fut,
    }
}

struct Noting<N, F> {
    alarm: Alarm,
    until: Deadline,
    began: Instant,
    every: Duration,
    note: N,
    fut: F,
}

impl<N: FnMut(Duration) + Unpin, F: Future> Future for Noting<N, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: structural pinning of `fut`, as in `Bounded`; all else is `Unpin`.
        let this = unsafe { self.get_unchecked_mut() };
        let fut = unsafe { Pin::new_unchecked(&mut this.fut) };
        if let Poll::Ready(value) = fut.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        while this.alarm.poll(cx).is_ready() {
            let now = Instant::now();
            if now >= this.until.0 {
                return Poll::Ready(Err(Elapsed));
            }
            (this.note)(now - this.began);
            this.alarm = Alarm::at(this.until.min(Deadline::after(now, this.every)));
        }
        Poll::Pending
    }
}

/// Registers with the shard once, not on each poll of the task it stands in.
struct Alarm {
    until: Instant,
    set: Option<(glommio::timer::Timer, Waker)>,
    #[cfg(test)]
    simulated: Option<super::sim::SimTimer>,
}

impl Alarm {
    fn at(until: Deadline) -> Self {
        Alarm {
            until: until.0,
            set: None,
            #[cfg(test)]
            simulated: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if now >= self.until {
            self.set = None;
            return Poll::Ready(());
        }
        #[cfg(test)]
        {
            self.simulated = super::sim::SimTimer::set(self.until, cx.waker());
            if self.simulated.is_some() {
                return Poll::Pending;
            }
        }
        if let Some((_, waker)) = &self.set
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        let mut timer = glommio::timer::Timer::new(self.until - now);
        let poll = Pin::new(&mut timer).poll(cx).map(drop);
        self.set = poll.is_pending().then(|| (timer, cx.waker().clone()));
        poll
    }
}

/// Where whole seconds are counted from.
static BEGINNING: OnceLock<Instant> = OnceLock::new();
