//! Palomar: the whole mail service of an institution in one binary.
//!
//! The rooms below stand in order: a room uses only rooms above it, as `docs/ARCHITECTURE.md`
//! lists and `tests/tidy.rs` checks. Each room's `mod.rs` is its door sign.

pub mod base;
pub mod observe;
pub mod config;
pub mod wire;
pub mod policy;
pub mod runtime;
pub mod net;
pub mod dns;
pub mod store;
pub mod directory;
pub mod delivery;
pub mod session;
pub mod web;
pub mod server;
pub mod cli;
