//! MIME: what a message is made of, found in one streaming pass.
//!
//! [`Walker`] takes a message in chunks cut anywhere and ends in a [`Digest`]: ENVELOPE,
//! BODYSTRUCTURE and BODY as IMAP wire text, byte ranges of every part, the header lines that
//! listings ask for, sizes and the sent date. The store keeps the digest per message and reads it
//! back through [`DigestView`] without allocating.
//!
//! Invariants: no input panics; memory is bounded by the largest header, the nesting depth and the
//! part count of [`Limits`], never by the message; cutting the input differently gives the same
//! digest; the range of a part lies inside the range of its parent.
//!
//! Ranges are offsets into the message as stored. A stored message may hold bare LF line ends
//! (an adopted Maildir); sizes in wire text count each of them as CRLF, because that is how the
//! message is served ([`CrlfWriter`]).
//!
//! Deliberately absent: decoded file names. RFC 2231 values are joined from their pieces, and else
//! left as sent, which is what IMAP wants.
//!
//! deviates: Dovecot, which golden data was taken from, cuts boundaries above 80 bytes and has an
//! empty type for a Content-Type without subtype; here boundaries compare whole and RFC 2045 5.2
//! makes such a part text/plain.

mod content;
mod decode;
mod digest;
mod envelope;
mod header;
mod search;
mod structure;
mod view;
mod walker;
mod wire_text;
mod words;

#[cfg(test)]
mod tests;

pub use content::{Encoding, MediaType, parse_media_type};
pub use decode::{TextDecoder, TransferDecoder};
pub use digest::{Digest, HOT_HEADERS, PartKind, is_hot};
pub use envelope::envelope;
pub use header::{Field, Fields, find, header_fields, unfold};
pub use search::{Needle, Search};
pub use view::{DigestError, DigestView, PartView, SectionKind};
pub use walker::{Limits, Walker};
pub use wire_text::{CrlfWriter, put_nstring, put_string};
pub use words::decode_words;
