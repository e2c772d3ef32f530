//! Web: HTTP on a shard. Metrics and health for machines, the admin socket for the command line.
//!
//! hyper speaks HTTP; [`http`] lends it a stream of ours. Runs on shard 0: these are small answers
//! for few askers. What an admin request does is not known here: the server room hands in a
//! handler, so this room never sees a session.
//!
//! Deliberately absent: webmail and pages for people.

mod admin;
mod http;
pub mod import;
mod inspect;
mod metrics;

pub use admin::{AdminError, AdminHandler, AdminReply, AdminRequest, serve_admin};
pub use inspect::{
    MailboxRow, MessageRow, PIECE_BYTES_MAX, Piece, Question, QuotaRow, Recounted, Settled,
    SettledApart,
};
pub use metrics::{Health, Readiness, serve_metrics};
