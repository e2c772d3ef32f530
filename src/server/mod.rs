//! Server: builds the rooms and wires them. The only room that knows all of them.
//!
//! - [`serve`] runs a server until it is told to stop: ports, privileges, recovery, shards, signals,
//!   drain. One function a stage, in the order of `start.rs`.
//! - [`offline`] carries out one administrator's request on a stopped server, through the same
//!   handler as the admin socket.
//!
//! What crosses shards here is [`control`]: questions of the admin socket to every shard.
//! SIGTERM and SIGINT drain, SIGHUP reloads certificates and the keys that can be reloaded.
//!
//! Deliberately absent: anything a protocol or a store decides.

mod admin;
mod build;
mod control;
mod counters;
mod error;
mod inspect;
mod local;
mod mend;
mod offline;
mod progress;
mod reload;
mod restore;
mod shard;
mod start;

pub use build::{outgoing_tls, own_addresses};
pub use error::ServerError;
pub use offline::{OfflineJob, offline, offline_all, offline_jobs, with_store};
pub use start::{Started, serve};
