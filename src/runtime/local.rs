//! Waiting for one another on one shard. Nothing here is `Send`; a dropped waiter leaves no waker
//! behind.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{Elapsed, deadline};
use crate::base::Deadline;

/// Wakers in order of arrival. Each wait has a ticket, by which it leaves.
#[derive(Default)]
struct Waiters {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl Waiters {
    fn wait(&mut self, ticket: &mut Option<u64>, cx: &Context<'_>) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self.wakers.get_mut(&ticket) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                self.wakers.insert(ticket, cx.waker().clone());
            }
        }
    }

    fn leave(&mut self, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            self.wakers.remove(&ticket);
        }
    }
}

/// Tells everybody who waits that something has changed. Remembers nothing: look first, wait
/// after, look again. Clones are handles to the same thing.
#[derive(Clone, Default)]
pub struct Notify {
    shared: Rc<NotifyShared>,
}

#[derive(Default)]
struct NotifyShared {
    round: Cell<u64>,
    waiters: RefCell<Waiters>,
}

impl Notify {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every wait that began before this call.
    pub fn notify_all(&self) {
        self.shared.round.set(self.shared.round.get() + 1);
        // Taken out first: a waker may run foreign code.
        let wakers = std::mem::take(&mut self.shared.waiters.borrow_mut().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Ends at the next [`notify_all`](Notify::notify_all) after this call, polled or not.
    #[must_use]
    pub fn notified(&self) -> Notified {
        Notified {
            round: self.shared.round.get(),
            shared: self.shared.clone(),
            ticket: None,
        }
    }
}

/// See [`Notify::notified`].
pub struct Notified {
    shared: Rc<NotifyShared>,
    round: u64,
    ticket: Option<u64>,
}

impl Future for Notified {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.shared.round.get() != this.round {
            return Poll::Ready(());
        }
        this.shared.waiters.borrow_mut().wait(&mut this.ticket, cx);
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        self.shared.waiters.borrow_mut().leave(self.ticket);
    }
}

/// A number of units, given out first come first served. Clones are handles to the same units.
#[derive(Clone)]
pub struct Semaphore {
    shared: Rc<SemaphoreShared>,
}

struct SemaphoreShared {
    free: Cell<usize>,
    waiters: RefCell<Waiters>,
}

impl SemaphoreShared {
    fn give(&self, units: usize) {
        self.free.set(self.free.get() + units);
        self.wake_first();
    }

    /// Only the first may take; it wakes the next when it has.
    fn wake_first(&self) {
        let first = self.waiters.borrow().wakers.values().next().cloned();
        if let Some(first) = first {
            first.wake();
        }
    }
}

impl Semaphore {
    #[must_use]
    pub fn new(units: usize) -> Self {
        Semaphore {
            shared: Rc::new(SemaphoreShared {
                free: Cell::new(units),
                waiters: RefCell::default(),
            }),
        }
    }

    /// Units nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.free.get()
    }

    /// `units` if they are free now and nobody waits.
    #[must_use]
    pub fn try_acquire(&self, units: usize) -> Option<Permit> {
        let idle = self.shared.waiters.borrow().wakers.is_empty();
        (idle && self.free() >= units).then(|| self.take(units))
    }

    /// Waits for `units`, behind everybody who came before.
    pub async fn acquire(&self, units: usize, until: Deadline) -> Result<Permit, Elapsed> {
        deadline(
            until,
            Acquire {
                semaphore: self,
                units,
                ticket: None,
            },
        )
        .await
    }

    fn take(&self, units: usize) -> Permit {
        self.shared.free.set(self.shared.free.get() - units);
        Permit {
            shared: self.shared.clone(),
            units,
        }
    }
}

struct Acquire<'a> {
    semaphore: &'a Semaphore,
    units: usize,
    ticket: Option<u64>,
}

impl Future for Acquire<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        let shared = &this.semaphore.shared;
        let first = shared.waiters.borrow().wakers.keys().next().copied();
        let turn = first.is_none() || first == this.ticket;
        if turn && shared.free.get() >= this.units {
            shared.waiters.borrow_mut().leave(this.ticket.take());
            let permit = this.semaphore.take(this.units);
            shared.wake_first();
            return Poll::Ready(permit);
        }
        shared.waiters.borrow_mut().wait(&mut this.ticket, cx);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.semaphore
                .shared
                .waiters
                .borrow_mut()
                .leave(self.ticket);
            self.semaphore.shared.wake_first();
        }
    }
}

/// Units held; dropping it gives them back.
#[must_use = "dropping the permit gives the units back"]
pub struct Permit {
    shared: Rc<SemaphoreShared>,
    units: usize,
}

impl Permit {
    /// How many units this holds.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.give(self.units);
    }
}

/// One value, once, from one task to another of the same shard.
#[must_use]
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot::Empty(None)));
    (Sender { slot: slot.clone() }, Receiver { slot })
}

enum Slot<T> {
    Empty(Option<Waker>),
    Full(T),
    /// One end is gone, or the value was taken.
    Closed,
}

/// Gives the value; dropped without, the receiver gets `None`.
pub struct Sender<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Sender<T> {
    /// The value back if nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut slot = self.slot.borrow_mut();
        if matches!(*slot, Slot::Closed) {
            return Err(value);
        }
        let before = std::mem::replace(&mut *slot, Slot::Full(value));
        drop(slot);
        wake(before);
        Ok(())
    }

    /// True once the receiver is gone, so that the work can be left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.slot.borrow(), Slot::Closed)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.borrow_mut();
        if matches!(*slot, Slot::Empty(_)) {
            let before = std::mem::replace(&mut *slot, Slot::Closed);
            drop(slot);
            wake(before);
        }
    }
}

/// A future of the value: `None` if the sender went without giving it.
pub struct Receiver<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.slot.borrow_mut();
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Full(value) => Poll::Ready(Some(value)),
            Slot::Closed => Poll::Ready(None),
            Slot::Empty(_) => {
                *slot = Slot::Empty(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // The value, if there is one, is dropped after the borrow has ended.
        let _before = self.slot.replace(Slot::Closed);
    }
}

fn wake<T>(slot: Slot<T>) {
    if let Slot::Empty(Some(waker)) = slot {
        waker.wake();
    }
}
