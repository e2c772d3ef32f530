//! Session: one connection's dialogue, from greeting to good-bye.
//!
//! Each protocol is a room of its own: a pure machine that knows what may be said when, a `serve`
//! that reads, writes and waits, and one file a command or group of commands. What they share:
//!
//! - [`Door`]: what a protocol knows of the listener that a connection came in by.
//! - [`LoginDesk`]: the one way to prove who one is, with its delays and log lines.
//! - [`Arrivals`]: after log-in a connection moves once, to the shard that owns its account.
//! - [`Roster`]: who is connected to this shard, for `palomar who` and `kick`.
//! - [`secure`]: the TLS handshake, with its log lines.
//! - [`wait`]: the one wait of an idle session: input, time-out, kick, drain, news.
//!
//! Runs on every shard. A session never holds a buffer while it idles; a panic ends it alone.
//! Deliberately absent: where mail lies (store), where it may go (delivery).

mod arrival;
mod door;
pub mod imap;
mod login;
pub mod pop3;
mod roster;
mod secure;
pub mod smtp;
#[cfg(test)]
mod tests;
mod wait;

pub use arrival::{Arrival, Arrivals, Errand};
pub use door::Door;
pub use login::{Applicant, LoginDesk, LoginOutcome, LoginRefusal};
pub use roster::{Presence, Roster, Row};
pub use secure::{Begin, secure};
pub use wait::{Wake, wait};
