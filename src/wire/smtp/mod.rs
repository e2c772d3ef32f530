//! SMTP and LMTP on the wire: command lines, replies, and the two ways a message travels.
//!
//! [`Command::parse`] takes a line without its CRLF (the line discipline of commands is the line
//! reader's); every refusal is a [`SyntaxError`] that knows its reply. [`DotReader`] takes DATA,
//! [`BdatReader`] counts BDAT. Neither ever loses its place: a message that is refused is still
//! read to its true end, so that its rest is not taken for commands.

mod bdat;
mod command;
mod dot;
mod error;
mod params;
mod reply;

#[cfg(test)]
mod tests;

pub use bdat::BdatReader;
pub use command::Command;
pub use dot::{DataFault, DataSummary, DotReader, DotStuffer, LineMode};
pub use error::SyntaxError;
pub use params::{BodyKind, DsnReturn, MailFrom, Notify, OriginalRecipient, RcptTo, xtext_decode};
pub use reply::Reply;
