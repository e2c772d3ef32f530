//! Delivery: one message's way in, the same for SMTP, LMTP and submission.
//!
//! [`Intake`] begins a [`Transaction`] at MAIL; it takes recipients, then becomes a [`Body`], which
//! streams the content to the store and places it. What is refused is a fact of [`error`]; what a
//! client is told about it is the session's affair.
//!
//! Invariants:
//! - A message counts as accepted only after the store made it durable.
//! - One copy for each account and message, however many addresses lead there.
//! - Content that is refused is still taken to its end, so that a session never loses its place.
//! - Memory is bounded by one field name and the lines that loops show themselves by; the content
//!   goes to the store as it comes.
//!
//! Runs on: every shard. Deliberately absent: the dialogue (session), where a mailbox lies (store),
//! how mail to other domains gets there (queue).

mod body;
mod counters;
mod error;
mod head;
mod local;
mod origin;
mod seal;
mod trace;
mod transaction;
mod warning;
mod ways;

#[cfg(test)]
mod tests;

pub use body::{Body, Placed};
pub use counters::METRICS;
pub use error::{MailRefusal, MessageRefusal, RecipientRefusal};
pub use local::LocalUser;
pub use origin::{Origin, Way};
pub use transaction::{Bounds, Intake, Transaction};
pub use warning::{warn_of_quotas, watch_limits};
pub use ways::ways;
