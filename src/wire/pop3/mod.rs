//! POP3 on the wire (RFC 1939, RFC 2449 CAPA, RFC 2595 STLS, RFC 5034 AUTH, RFC 6856 UTF8):
//! command lines in, multi-line bodies out.
//!
//! APOP is deliberately absent: it needs passwords that the server can read back.

mod body;
mod command;
#[cfg(test)]
mod tests;

pub use body::{DotStuffer, TopCutter};
pub use command::{Command, Fault, parse};
