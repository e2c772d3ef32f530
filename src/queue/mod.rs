//! The queue: mail that leaves (docs/QUEUE.md).
//!
//! [`desk`] says which message is tried next. Runs on every shard; a destination has one shard.
//!
//! Deliberately absent: entries and their records (store).

pub mod desk;
