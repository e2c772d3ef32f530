//! Bounded posts between shards, with owned data, and the answer to one.
//!
//! The order of one task's posts to one shard is the order in which they are taken. A post that
//! finds the inbox full waits for room until its deadline; then its message comes back.

use std::fmt;
use std::sync::Arc;

use super::{deadline, yield_if_needed};
use crate::base::{Deadline, ShardId};

/// Posts to every shard. Clones post to the same inboxes.
pub struct Mesh<M: Send> {
    doors: Arc<[flume::Sender<Post<M>>]>,
}

/// What one shard was posted. Only one task takes from it.
pub struct Inbox<M: Send> {
    shard: ShardId,
    posts: flume::Receiver<Post<M>>,
}

enum Post<M> {
    Now(M),
    /// Its poster waits for room, and may take the message back until it has been taken from here.
    Waited(flume::Receiver<M>),
}

/// The message back, and why.
pub struct Refused<M> {
    pub message: M,
    pub why: Refusal,
}

/// Why a post was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The inbox is full; again later may work.
    Full,
    /// The target shard has stopped taking.
    Closed,
    /// The inbox stayed full until the deadline.
    Late,
}

impl<M: Send> Clone for Mesh<M> {
    fn clone(&self) -> Self {
        Mesh {
            doors: self.doors.clone(),
        }
    }
}

impl<M: Send + 'static> Mesh<M> {
    /// Inboxes for `shards` shards, each with room for `depth` messages; inbox `i` belongs to
    /// shard `i`.
    #[must_use]
    pub fn new(shards: u16, depth: usize) -> (Self, Vec<Inbox<M>>) {
        assert!(depth > 0, "an inbox without room takes nothing");
        let pair = |shard| {
            let (door, posts) = flume::bounded(depth);
            let shard = ShardId(shard);
            (door, Inbox { shard, posts })
        };
        let (doors, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(pair).unzip();
        let doors = doors.into();
        (Mesh { doors }, inboxes)
    }

    /// How many shards can be posted to.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("made from a u16")
    }

    /// Posts if there is room now. From any thread.
    pub fn try_post(&self, to: ShardId, message: M) -> Result<(), Refused<M>> {
        let (post, why) = match self.door(to).try_send(Post::Now(message)) {
            Ok(()) => return Ok(()),
            Err(flume::TrySendError::Full(post)) => (post, Refusal::Full),
            Err(flume::TrySendError::Disconnected(post)) => (post, Refusal::Closed),
        };
        match post.take() {
            Some(message) => Err(Refused { message, why }),
            None => Ok(()),
        }
    }

    /// Posts, waiting for room until the deadline. Dropping the wait drops the message, unless it
    /// has found room already.
    pub async fn post(&self, to: ShardId, message: M, until: Deadline) -> Result<(), Refused<M>> {
        let message = match self.try_post(to, message) {
            Err(refused) if refused.why == Refusal::Full => refused.message,
            outcome => return outcome,
        };
        // flume drops the message with a wait that is given up. So it waits beside the queue, and
        // what stands in the queue is only the right to take it.
        let (put, held) = flume::bounded(1);
        let _ = put.send(message);
        let mine = Post::Waited(held.clone());
        let why = match deadline(until, self.door(to).send_async(mine)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(flume::SendError(_))) => Refusal::Closed,
            Err(_) => Refusal::Late,
        };
        // Nothing left to take back means that the target took it at the last moment.
        match Post::Waited(held).take() {
            Some(message) => Err(Refused { message, why }),
            None => Ok(()),
        }
    }

    fn door(&self, to: ShardId) -> &flume::Sender<Post<M>> {
        &self.doors[usize::from(to.0)]
    }
}

impl<M> Post<M> {
    /// `None` where the other end has it.
    fn take(self) -> Option<M> {
        match self {
            Post::Now(message) => Some(message),
            Post::Waited(held) => held.try_recv().ok(),
        }
    }
}

impl<M: Send> Inbox<M> {
    /// The shard whose posts these are.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The next message; `None` when no mesh is left that could post. Nothing is lost when the
    /// wait is dropped.
    pub async fn next(&mut self) -> Option<M> {
        yield_if_needed().await;
        loop {
            let post = self.posts.recv_async().await.ok()?;
            if let Some(message) = post.take() {
                return Some(message);
            }
        }
    }
}

/// One answer across shards: the reply goes with the request, the answer stays with the asker.
#[must_use]
pub fn reply<T: Send>() -> (Reply<T>, Answer<T>) {
    let (sender, receiver) = flume::bounded(1);
    (Reply(sender), Answer(receiver))
}

/// The owner's end.
pub struct Reply<T>(flume::Sender<T>);

/// The asker's end.
pub struct Answer<T>(flume::Receiver<T>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Not by the deadline. What was asked for may still happen.
    Late,
    /// The owner dropped the request without an answer.
    Gone,
}

impl<T: Send> Reply<T> {
    /// Gives the answer; one that nobody waits for any more is dropped.
    pub fn send(self, value: T) {
        let _ = self.0.try_send(value);
    }

    /// True once the asker has given up, so that the work can be left.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.is_disconnected()
    }
}

impl<T: Send> Answer<T> {
    pub async fn wait(self, until: Deadline) -> Result<T, NoAnswer> {
        match deadline(until, self.0.recv_async()).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(flume::RecvError::Disconnected)) => Err(NoAnswer::Gone),
            Err(_) => Err(NoAnswer::Late),
        }
    }
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({:?})", self.why)
    }
}
