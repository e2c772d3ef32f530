//! SMTP and LMTP on the wire: command lines, replies, and the two ways a message travels, for the
//! server and for the client.
//!
//! [`Command::parse`] takes a line without its CRLF (the line discipline of commands is the line
//! reader's); every refusal is a [`SyntaxError`] that knows its reply. [`DotReader`] takes DATA,
//! [`BdatReader`] counts BDAT. Neither ever loses its place: a message that is refused is still
//! read to its true end, so that its rest is not taken for commands.
//!
//! For the client [`ReplyParser`] reads [`PeerReply`]s, [`Offer`] what EHLO brought; [`MailFrom`]
//! and [`RcptTo`] write themselves, and [`ContentWriter`] the message.

mod bdat;
mod command;
mod content;
mod dot;
mod error;
mod offer;
mod params;
mod peer;
mod reply;
#[cfg(test)]
mod tests;
mod write;

pub use bdat::BdatReader;
pub use command::Command;
pub use content::ContentWriter;
pub use dot::{DataFault, DataSummary, DotReader, LineMode};
pub use error::SyntaxError;
pub use offer::Offer;
pub use params::{
    BodyKind, DsnReturn, Hold, MailFrom, Notify, OriginalRecipient, RcptTo, xtext_decode,
};
pub use peer::{Enhanced, PEER_LINE_BYTES_MAX, PeerReply, ReplyFault, ReplyParser};
pub use reply::Reply;
pub use write::{Unwritable, xtext_encode};
