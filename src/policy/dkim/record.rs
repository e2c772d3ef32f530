//! What the zone says of a key (RFC 6376 3.6.1).

use data_encoding::{BASE64, BASE64_NOPAD};

use super::key::Algorithm;
use crate::policy::tags::Tags;

/// Longest string of a TXT record (RFC 1035 3.3.14); longer data stands in several.
const STRING_BYTES_MAX: usize = 255;

/// A key's record: its name in the zone, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// `selector._domainkey.domain`, without the final dot.
    pub name: String,
    /// The text, in one piece.
    pub text: String,
    algorithm: Algorithm,
    public: Vec<u8>,
}

/// Why a record found in the DNS is not that of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// No list of tags, another version, or `p=` that is no base64.
    Unreadable,
    /// `p=` is empty (RFC 6376 3.6.1): the key is withdrawn.
    Revoked,
    /// `k=` or `h=` do not admit the algorithm.
    OtherAlgorithm,
    /// Another key stands there.
    OtherKey,
    /// `s=` leaves mail out.
    NotForMail,
    /// `t=y`: verifiers are told to take no notice of it.
    Testing,
}

impl KeyRecord {
    /// The record that `public` must have.
    #[must_use]
    pub fn new(domain: &str, selector: &str, algorithm: Algorithm, public: &[u8]) -> Self {
        let key = BASE64.encode(public);
        // RFC 8463 4: `k=ed25519` must be said; RFC 6376 3.6.1: `v=` comes first.
        let text = format!("v=DKIM1; k={}; p={key}", algorithm.key_type());
        KeyRecord {
            name: format!("{selector}._domainkey.{domain}"),
            text,
            algorithm,
            public: public.to_vec(),
        }
    }

    /// As it is pasted into a zone file (RFC 1035 5.1): strings of at most 255 octets, which the
    /// reader joins (RFC 6376 3.6.2.2).
    #[must_use]
    pub fn zone_line(&self) -> String {
        let name = format!("{}.", self.name);
        let strings: Vec<String> = self
            .text
            .as_bytes()
            .chunks(STRING_BYTES_MAX)
            .map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)))
            .collect();
        match strings.as_slice() {
            [one] => format!("{name} IN TXT {one}"),
            several => format!("{name} IN TXT ( {} )", several.join("\n    ")),
        }
    }

    /// Whether `found`, the joined strings of a TXT record, lets anybody verify this key.
    pub fn judge(&self, found: &str) -> Result<(), KeyFault> {
        let tags = Tags::parse(found).map_err(|_| KeyFault::Unreadable)?;
        // RFC 6376 3.6.1: where it stands it is the first, and this.
        if tags
            .get("v")
            .is_some_and(|v| v != "DKIM1" || tags.first().0 != "v")
        {
            return Err(KeyFault::Unreadable);
        }
        let key: String = tags
            .get("p")
            .ok_or(KeyFault::Unreadable)?
            .split_ascii_whitespace()
            .collect();
        if key.is_empty() {
            return Err(KeyFault::Revoked);
        }
        let algorithm = self.algorithm;
        let hashes = tags.get("h").unwrap_or("sha256");
        if tags.get("k").unwrap_or("rsa") != algorithm.key_type() || !names(hashes, "sha256") {
            return Err(KeyFault::OtherAlgorithm);
        }
        let key = BASE64_NOPAD.decode(key.trim_end_matches('=').as_bytes());
        let key = key.map_err(|_| KeyFault::Unreadable)?;
        if key != self.public {
            return Err(KeyFault::OtherKey);
        }
        let services = tags.get("s").unwrap_or("*");
        if !names(services, "*") && !names(services, "email") {
            return Err(KeyFault::NotForMail);
        }
        if tags.get("t").is_some_and(|flags| names(flags, "y")) {
            return Err(KeyFault::Testing);
        }
        Ok(())
    }
}

/// Whether a list with colons names `word`.
fn names(list: &str, word: &str) -> bool {
    list.split(':').any(|one| one.trim() == word)
}
