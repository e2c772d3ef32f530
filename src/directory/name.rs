//! Addresses as this room compares them: a mailbox and its key.

use std::fmt;

use crate::wire::address::{self, Mailbox};

/// Local parts that every domain has from the start (RFC 5321 4.5.1, RFC 2142 4).
pub const POSTMASTER: &str = "postmaster";
pub const ABUSE: &str = "abuse";

/// Between user and detail (RFC 5233).
const SEPARATOR: char = '+';

/// An address with a domain name, and the form in which two spellings of it are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    written: Mailbox,
    local: String,
    domain: String,
}

/// A text that is no address a mailbox could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnAddress;

impl Name {
    pub fn parse(text: &str) -> Result<Name, NotAnAddress> {
        let mailbox = Mailbox::parse(text.trim()).map_err(|_| NotAnAddress)?;
        Name::of(&mailbox).ok_or(NotAnAddress)
    }

    /// A local part, not quoted, in a domain.
    pub fn new(local: &str, domain: &str) -> Result<Name, NotAnAddress> {
        Name::parse(&key(local, domain))
    }

    /// `None` where the domain is a literal, or no name at all.
    pub fn of(mailbox: &Mailbox) -> Option<Name> {
        let key = mailbox.key()?;
        Some(Name {
            written: mailbox.clone(),
            local: key.local,
            domain: key.domain,
        })
    }

    pub fn mailbox(&self) -> &Mailbox {
        &self.written
    }

    /// Folded local part.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Lower-case A-labels.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The folded local part before the detail, and the detail as it was written.
    pub fn split_detail(&self) -> Option<(&str, &str)> {
        let (base, folded) = address::split_detail(&self.local, SEPARATOR);
        folded?;
        let (_, detail) = address::split_detail(&self.written.local, SEPARATOR);
        Some((base, detail?))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.written, f)
    }
}

/// A domain as we compare it, if it is a domain name.
pub fn domain_key(text: &str) -> Option<String> {
    address::domain_key(text.trim())
}

/// The key of an address; with an empty local part, of a domain's catch-all. A domain has no
/// `@`, so no two addresses share a key.
pub fn key(local: &str, domain: &str) -> String {
    format!("{local}@{domain}")
}
