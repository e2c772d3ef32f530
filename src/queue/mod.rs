//! Queue: mail that leaves. `docs/QUEUE.md` is its design.
//!
//! ```text
//!  store::queue ─► rows ─► source ══offer══► desk ─► bench ─► attempt ─► route ─► client
//!       ▲                    ║ ◄═══════════ outcome ════════════╝
//!       └── schedule, tell ◄─╝
//! ```
//! - `source` and `bench` are the two sides of [`Queue`]: the shard that has an entry, and the shard
//!   that its destination belongs to. `rows` say what waits there, the [`desk`] whose turn it is here.
//! - `attempt` offers a message to the hops that [`route`] finds, by [`Client`]: one connection, which
//!   is opened (greeting, EHLO, TLS, log-in) and carries one [`Letter`] after the other.
//! - `home` brings what was held to owners here.
//! - `schedule` says what an outcome means, `tell` and [`notice`] tell the sender.
//! - `command` is what a person sees and does.
//!
//! Invariants:
//! - What lasts is in the store, and on the shard that took the message in. What is here may be lost at
//!   any time: then it is tried again.
//! - A recipient is tried by one at a time: its row is out until the outcome is on record.
//! - A content is checked against what was taken in before a hop is told that it is whole.
//!
//! Runs on: every shard. Deliberately absent: who is known here (directory), what may be sent
//! (delivery, session).

mod attempt;
mod bench;
mod client;
mod command;
mod counters;
pub mod desk;
mod home;
pub mod notice;
mod rows;
mod schedule;
mod service;
mod source;
mod tell;
mod under_way;
mod policies;
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
pub use home::recipient_here;
pub use route::{Router, Settings as RouteSettings, SettingsError as RouteError};
pub use schedule::Schedule;
pub use service::{Parts, Queue, Request, mesh};
pub use tell::{Way, Ways};
pub use under_way::UnderWay;

use crate::wire::address::{Domain, Mailbox, domain_key};

/// Where mail for an address goes: its domain as A-labels, or its literal as it is.
#[must_use]
pub fn destination_of(address: &Mailbox) -> String {
    match &address.domain {
        Domain::Name(name) => domain_key(name).unwrap_or_else(|| name.to_ascii_lowercase()),
        literal => literal.to_string().to_ascii_lowercase(),
    }
}
