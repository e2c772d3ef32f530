//! Runtime: shards and what they are made of. The only room that names glommio; no glommio type
//! leaves it.
//!
//! A **shard** is one single-threaded executor on its own thread, pinned to a core ([`start`]).
//! Tasks live and die on the shard that spawned them and need not be `Send`. Between shards go
//! bounded posts with owned data ([`Mesh`], [`reply`]); within a shard the [`local`] primitives.
//! What blocks runs on our own threads ([`Pool`]); files go through [`Disk`], sockets through
//! [`Stream`].
//!
//! Invariants:
//! - A panic in a spawned task is caught, counted ([`panics`]) and logged; the shard lives on.
//! - Every queue is bounded and every wait for another shard, a thread or a disk has a deadline.
//! - Time-outs are polled within the task that waits, so cancelling a wait leaves nothing behind.
//!
//! Deliberately absent: signals (the main thread's affair), locks, and a way to cancel a task from
//! outside: a task ends itself when its [`Gate`] closes or [`Stop`] is raised.

mod clock;
mod disk;
mod error;
mod gate;
pub mod local;
mod mesh;
mod pool;
mod shard;
#[cfg(test)]
mod sim;
mod stop;
mod tcp;
#[cfg(test)]
mod tests;
mod timer;
mod udp;

pub use clock::{now, trace_id, unix_now};
pub use disk::{
    Convert, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskOp, Done, FilePart, Notice,
    Notices, Open, SimCounters, SimDisk, Step, WatchId,
};
pub use error::RuntimeError;
pub use gate::{Gate, Pass, spawn_in};
pub use mesh::{Answer, Inbox, Mesh, NoAnswer, Refusal, Refused, Reply, reply};
pub use pool::{Pool, PoolError};
pub use shard::{Plan, Shards, block_on, panics, shard, spawn, start, yield_if_needed, yield_now};
#[cfg(test)]
pub(crate) use sim::{jump_clock, simulate};
pub use stop::Stop;
pub use tcp::{Listener, Peer, Stream};
pub use timer::{Elapsed, deadline, rest, sleep};
pub use udp::Udp;
