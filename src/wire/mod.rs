//! Wire: pure bytes to values and back, for every protocol and format that Palomar speaks.
//!
//! No IO, no clock, no async: `now` and time zones come in as arguments. Boundaries first (line,
//! literal, size cap), grammar second, so that a bad command never desynchronises a connection.
//! Nothing here panics on any bytes, and everything a peer can make grow has a cap.

pub mod address;
pub mod dates;
pub mod imap;
pub mod line;
pub mod mbox;
pub mod mime;
pub mod plain;
pub mod pop3;
pub mod sasl;
pub mod smtp;
