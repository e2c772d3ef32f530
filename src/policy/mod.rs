//! Policy: the rules by which senders and receivers of the world judge one another.
//!
//! Pure: records and messages come in as bytes, time and keys as arguments, and out come header
//! fields, addresses, parsed records and judgements. What a rule has to ask of the DNS its caller
//! asks.
//!
//! - [`dkim`]: signing, and the records of keys (RFC 6376, RFC 8463).
//! - [`srs`], [`verp`]: sender addresses that bring bounces back to who can use them.
//! - [`spf`], [`dmarc`], [`mta_sts`], [`tls_rpt`]: records read, so that a site's own can be
//!   checked.
//!
//! Runs on: any thread; an RSA signature of 2048 bits costs half a millisecond. Deliberately
//! absent: judging mail that comes in, and where keys are kept (directory).

pub mod dkim;
pub mod dmarc;
pub mod mta_sts;
pub mod spf;
pub mod srs;
mod tags;
pub mod tls_rpt;
pub mod verp;

pub use tags::NotTags;
