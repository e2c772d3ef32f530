//! The stop notice: raised once, from any thread, seen by every shard.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use hashbrown::HashMap;

use super::local::Notify;
use super::spawn;

/// A latch. Clones are handles to the same one.
#[derive(Clone)]
pub struct Stop {
    shared: Arc<Shared>,
}

struct Shared {
    id: u64,
    /// There until the latch is raised; its going is what the shards see.
    unraised: ArcSwapOption<flume::Sender<()>>,
    notice: flume::Receiver<()>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    #[must_use]
    pub fn new() -> Self {
        let (sender, notice) = flume::bounded(1);
        Stop {
            shared: Arc::new(Shared {
                id: STOPS.fetch_add(1, Ordering::Relaxed),
                unraised: ArcSwapOption::from_pointee(sender),
                notice,
            }),
        }
    }

    /// Raises it. A second time changes nothing.
    pub fn raise(&self) {
        self.shared.unraised.store(None);
    }

    /// True once it was raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.shared.unraised.load().is_none()
    }

    /// Waits, on a shard, until it is raised. Any number of tasks may wait: one of them a shard
    /// listens across threads, the rest wait on that shard only.
    pub async fn raised(&self) {
        while !self.is_raised() {
            // Waits from here on, before the listener can have told that there is no need to.
            let (notified, listening) = HERE.with_borrow_mut(|here| {
                let listening = here.contains_key(&self.shared.id);
                let notify = here.entry(self.shared.id).or_default();
                (notify.notified(), listening)
            });
            if !listening {
                spawn("stop", listen(self.shared.clone()));
            }
            notified.await;
        }
    }
}

/// Ends with the latch, so it stands behind no gate.
async fn listen(shared: Arc<Shared>) {
    // Nothing is ever sent: this ends when the sender goes.
    let _ = shared.notice.recv_async().await;
    let notify = HERE.with_borrow_mut(|here| here.remove(&shared.id));
    notify.iter().for_each(Notify::notify_all);
}

static STOPS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What the tasks of this shard wait on, by latch.
    static HERE: RefCell<HashMap<u64, Notify>> = RefCell::new(HashMap::new());
}
