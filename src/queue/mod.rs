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
//! - `command` is what a person sees and does; `cat` shows a message, `shapes` are limits that he
//!   sets for a destination.
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
mod cat;
mod census;
mod client;
mod command;
mod counters;
pub mod desk;
mod doubles;
mod home;
mod name;
pub mod notice;
mod own;
mod reason;
mod reports;
mod rows;
mod schedule;
mod service;
mod shapes;
mod source;
mod tell;
#[cfg(test)]
mod tests;
mod under_way;
mod policies;
pub mod route;

pub use cat::CatPiece;
pub use client::{
    Cause, Client, Content, ContentFault, Facts, Fate, Letter, MessageContent, Need, NoTls, Phase,
    Protocol, Report, Security, Terms, Times, TlsState, Trouble, Unopened,
};

pub use command::{
    Answer, Ask, Change, Changed, DestinationLimits, DestinationRow, EntryRow, Filter, Listed,
    RecipientRow, answer, join,
};
pub use counters::METRICS;
pub use home::recipient_here;
pub use name::{DestinationName, NotADestination, destination_of};
pub use reports::{ReportRow, Signer};
pub use route::{Router, Settings as RouteSettings, SettingsError as RouteError};
pub use schedule::Schedule;
pub use service::{Parts, Queue, Request, mesh};
pub use shapes::{Limited, Pause, Shaping};
pub use tell::{Arrival, Teller, Way, Ways};
pub use under_way::UnderWay;

/// A header line of mail that goes whatever its destination asks of TLS (RFC 8689 5), where the
/// queue is to heed it: before the message, in [`Outbound::head`](crate::store::Outbound::head).
const TLS_WAIVED: &[u8] = b"TLS-Required: No\r\n";
