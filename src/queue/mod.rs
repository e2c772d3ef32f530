//! The queue: mail that leaves (docs/QUEUE.md).
//!
//! [`desk`] says which message is tried next, [`notice`] what its sender is told. Runs on every shard; a destination has one shard.
//!
//! Deliberately absent: entries and their records (store).

pub mod desk;
pub mod notice;
