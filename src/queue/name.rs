//! What destinations are called: by recipients, and by people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::HostPort;
use crate::wire::address::{Domain, Mailbox, Path, domain_key};

/// Where mail for an address goes: its domain as A-labels, or its literal as it is.
#[must_use]
pub fn destination_of(address: &Mailbox) -> String {
    match &address.domain {
        Domain::Name(name) => domain_key(name).unwrap_or_else(|| name.to_ascii_lowercase()),
        literal => literal.to_string().to_ascii_lowercase(),
    }
}

/// The same of a recipient.
pub(super) fn destination_of_path(path: &Path) -> Option<String> {
    match path {
        Path::Mailbox(mailbox) => Some(destination_of(mailbox)),
        _ => None,
    }
}

/// A destination that a person named: a domain, an address in brackets, or a host with its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DestinationName(String);

/// What is none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotADestination(String);

impl DestinationName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DestinationName {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(hop) = text.parse::<HostPort>() {
            return Ok(DestinationName(hop.to_string()));
        }
        let name = match Domain::parse(text) {
            Ok(Domain::Name(name)) => domain_key(&name),
            Ok(literal @ Domain::Address(_)) => Some(literal.to_string().to_ascii_lowercase()),
            Ok(Domain::Tagged(_)) | Err(_) => None,
        };
        let name = name.ok_or_else(|| NotADestination(text.to_owned()))?;
        Ok(DestinationName(name))
    }
}

impl TryFrom<String> for DestinationName {
    type Error = NotADestination;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DestinationName> for String {
    fn from(name: DestinationName) -> String {
        name.0
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotADestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no domain, and no host with a port", self.0)
    }
}

impl std::error::Error for NotADestination {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, want: Option<&str>| {
            let got = text.parse::<DestinationName>().ok();
            assert_eq!(got.as_ref().map(DestinationName::as_str), want, "{text}");
        };
        check("Example.NET", Some("example.net"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("Relay.Example.net:587", Some("relay.example.net:587"));
        check("192.0.2.1:25", Some("192.0.2.1:25"));
        check("[2001:db8::1]:25", Some("[2001:db8::1]:25"));
        check("[192.0.2.1]", Some("[192.0.2.1]"));
        check("[IPv6:2001:db8::25]", Some("[ipv6:2001:db8::25]"));
        check("", None);
        check("two words", None);
        check("relay.example.net:", None);
        check("ana@example.net", None);
    }
}
