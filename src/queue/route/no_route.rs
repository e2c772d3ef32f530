//! Why mail cannot go anywhere, for now or for good.

use std::fmt;

use super::demand::LeftOut;
use crate::dns::{DnsError, Kind};
use crate::wire::smtp::Enhanced;

/// Why there is no way. Each variant is for good or for now: [`NoRoute::is_final`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No name and no address that mail could go to.
    BadDomain(String),
    /// The domain does not exist.
    NoDomain,
    /// RFC 7505: the domain says that it takes no mail.
    NullMx,
    /// Neither the domain nor the hosts that it names have an address.
    NoAddress,
    /// The only addresses are loopback, private or otherwise not of the public network.
    NotPublic,
    /// The domain names us, where its mail is not delivered: it would come back.
    Loop,
    /// The DNS gave no answer.
    Dns {
        name: String,
        kind: Kind,
        error: DnsError,
    },
    /// The host that the site's own configuration names is not to be found.
    SiteHost {
        host: String,
        error: Option<DnsError>,
    },
    /// The domain has hosts, and none to which mail may go as things are.
    LeftOut { host: String, why: LeftOut },
    /// The message wants verified TLS all the way, and nothing proves who takes this domain's mail
    /// (RFC 8689).
    RequireTls,
    /// All this took too long.
    Late,
}

impl NoRoute {
    pub(super) fn dns(name: &str, kind: Kind, error: DnsError) -> Self {
        NoRoute::Dns {
            name: name.to_owned(),
            kind,
            error,
        }
    }

    /// True if it is no use to try again: the message failed. Else it is deferred.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            NoRoute::BadDomain(_)
            | NoRoute::NoDomain
            | NoRoute::NullMx
            | NoRoute::NoAddress
            | NoRoute::NotPublic
            | NoRoute::Loop
            | NoRoute::RequireTls => true,
            NoRoute::Dns { error, .. } => !error.is_temporary(),
            // A slip of the operator's is no reason to send everybody's mail back.
            NoRoute::SiteHost { .. } | NoRoute::LeftOut { .. } | NoRoute::Late => false,
        }
    }

    /// The status for who is told (RFC 3463).
    #[must_use]
    pub fn enhanced(&self) -> Enhanced {
        let (subject, detail) = match self {
            // Bad destination system address.
            NoRoute::BadDomain(_) | NoRoute::NoDomain => (1, 2),
            // RFC 7505 4.2.
            NoRoute::NullMx => (1, 10),
            // Unable to route.
            NoRoute::NoAddress | NoRoute::NotPublic => (4, 4),
            NoRoute::Dns { error, .. } if !error.is_temporary() => (4, 4),
            // Routing loop detected.
            NoRoute::Loop => (4, 6),
            // Directory server failure.
            NoRoute::Dns { .. } | NoRoute::Late => (4, 3),
            NoRoute::LeftOut { why, .. } => match why {
                // Cryptographic failure, as for a certificate that is not good.
                LeftOut::NotNamed => (7, 5),
                LeftOut::Tlsa(_) => (4, 3),
            },
            // RFC 8689 7: REQUIRETLS support required.
            NoRoute::RequireTls => (7, 30),
            // System incorrectly configured.
            NoRoute::SiteHost { .. } => (3, 5),
        };
        Enhanced {
            class: if self.is_final() { 5 } else { 4 },
            subject,
            detail,
        }
    }
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRoute::BadDomain(text) => write!(f, "{text} is no domain that mail could go to"),
            NoRoute::NoDomain => f.write_str("the domain does not exist"),
            NoRoute::NullMx => f.write_str("the domain says that it takes no mail (null MX)"),
            NoRoute::NoAddress => f.write_str("no host takes mail for the domain"),
            NoRoute::NotPublic => {
                f.write_str("the domain names no host that can be reached from here")
            }
            NoRoute::Loop => {
                f.write_str("the domain names this host, which does not deliver its mail: a loop")
            }
            NoRoute::Dns { name, kind, error } => {
                write!(f, "looking up {} of {name}: {error}", kind.name())
            }
            NoRoute::SiteHost { host, error } => {
                write!(f, "{host}, which this site sends the mail through, ")?;
                match error {
                    Some(error) => write!(f, "could not be looked up: {error}"),
                    None => f.write_str("has no address"),
                }
            }
            NoRoute::LeftOut { host, why } => write!(f, "no host may have it: {host}: {why}"),
            NoRoute::RequireTls => f.write_str(
                "the sender asked for verified TLS all the way, and nothing proves which hosts \
                 take mail for the domain",
            ),
            NoRoute::Late => f.write_str("finding the way took too long"),
        }
    }
}
