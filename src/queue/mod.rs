//! Queue: mail that leaves. `docs/QUEUE.md` is its design; what is here of it so far is pure, or
//! talks to one hop.
//!
//! - [`desk`] says which message is tried next, and [`notice`] what its sender is told.
//! - [`Client`] is one connection to one hop: it is opened (greeting, EHLO, TLS, log-in) and then
//!   offered one [`Letter`] after the other, for each of which it tells what became of every
//!   recipient. It runs on the shard of the destination and holds nothing durable: what it did not
//!   report did not happen, but for the one answer that cannot be known ([`Fate::Unsure`]).
//! - [`route`] says where a destination's mail goes: its hops, and what each is asked of TLS.
//! - The content comes from a [`Content`], piece by piece, and is checked against what was taken in
//!   before the hop is told that it is whole.
//!
//! Deliberately absent, since they come later: entries and schedule.

mod attempt;
mod client;
mod command;
mod counters;
pub mod desk;
pub mod notice;
mod rows;
mod schedule;
mod service;
mod tell;
pub mod route;

pub use client::{
    Cause, Client, Content, ContentFault, Facts, Fate, Letter, MessageContent, Need, NoTls, Phase,
    Protocol, Report, Security, Terms, Times, TlsState, Trouble, Unopened,
};

pub use command::{
    Answer, Ask, Change, Changed, DestinationRow, EntryRow, Filter, Listed, RecipientRow, answer,
    join,
};
pub use counters::METRICS;
pub use route::{Router, Settings as RouteSettings, SettingsError as RouteError};
pub use schedule::Schedule;
pub use service::{Parts, Queue, Request, mesh};
pub use tell::{Way, Ways};

use crate::wire::address::{Domain, Mailbox, domain_key};

/// Where mail for an address goes: its domain as A-labels, or its literal as it is.
#[must_use]
pub fn destination_of(address: &Mailbox) -> String {
    match &address.domain {
        Domain::Name(name) => domain_key(name).unwrap_or_else(|| name.to_ascii_lowercase()),
        literal => literal.to_string().to_ascii_lowercase(),
    }
}
