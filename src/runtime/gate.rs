//! A gate counts what is inside and can be closed: the way a listener, a partition or a shard
//! waits for its tasks before it goes.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use super::local::Notify;
use super::{deadline, spawn};
use crate::base::Deadline;

/// Clones are handles to the same gate. Stays on its shard.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    inside: Cell<usize>,
    closed: Cell<bool>,
    changed: Notify,
}

/// Proof of being inside; leaving is dropping it.
#[must_use = "dropping the pass leaves the gate"]
pub struct Pass {
    shared: Rc<Shared>,
}

impl Gate {
    /// An open gate with nobody inside.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `None` once the gate is closed.
    pub fn enter(&self) -> Option<Pass> {
        if self.shared.closed.get() {
            return None;
        }
        self.shared.inside.set(self.shared.inside.get() + 1);
        Some(Pass {
            shared: self.shared.clone(),
        })
    }

    /// Lets nobody in any more and waits until all have left, or tells how many are still inside
    /// at the deadline. May be called again.
    pub async fn close(&self, until: Deadline) -> Result<(), usize> {
        self.shared.closed.set(true);
        self.shared.changed.notify_all();
        let empty = async {
            while self.inside() > 0 {
                self.shared.changed.notified().await;
            }
        };
        deadline(until, empty).await.map_err(|_| self.inside())
    }

    /// Waits until somebody closes the gate. What is inside ends itself on this.
    pub async fn closing(&self) {
        while !self.is_closed() {
            self.shared.changed.notified().await;
        }
    }

    /// True once `close` was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }

    /// How many passes are out.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.shared.inside.get()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inside = self.shared.inside.get() - 1;
        self.shared.inside.set(inside);
        if inside == 0 && self.shared.closed.get() {
            self.shared.changed.notify_all();
        }
    }
}

/// [`spawn`] behind a gate: false, and `fut` is dropped, once it is closed.
pub fn spawn_in(gate: &Gate, name: &'static str, fut: impl Future<Output = ()> + 'static) -> bool {
    let Some(pass) = gate.enter() else {
        return false;
    };
    spawn(name, super::shard::Holding::new(pass, fut));
    true
}
