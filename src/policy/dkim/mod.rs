//! DKIM: what this site vouches for, signed so that anybody can check it (RFC 6376).
//!
//! The body is hashed in one pass over chunks of any size ([`BodyHash`]), as it comes in; the
//! header is signed from its octets when the message is about to leave ([`Signer`]). Both are
//! canonicalised `relaxed`, so that white space may change on the way. A domain signs with RSA and
//! Ed25519 side by side (RFC 8463 2): who cannot check the one checks the other.
//!
//! Which fields are signed, and which must not be added afterwards, is a table: `fields`.
//! [`KeyRecord`] is what the zone must say of a key, to print and to compare.

mod body;
mod fields;
mod key;
mod record;
mod sign;
#[cfg(test)]
mod tests;

pub use body::{BodyDigest, BodyHash};
pub use fields::from_domain;
pub use key::{Algorithm, BadKey, SigningKey, is_selector};
pub use record::{KeyFault, KeyRecord};
pub use sign::{Signer, Signers, Times};
