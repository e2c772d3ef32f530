//! What says where mail for other hosts goes: for which domains, and to whom.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::value::Domain;

/// The domains that a route is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteDomain {
    /// `*`: all that have no route of their own.
    #[default]
    All,
    /// `.example.org`: all below it, but not itself.
    Below(Domain),
    /// `example.org`: this one alone.
    One(Domain),
}

/// The host that mail is given to, where there is one: `host:port`, or an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop(pub Option<HostPort>);

/// A port of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: Host,
    pub port: u16,
}

/// A host by its name or its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(Domain),
    Address(IpAddr),
}

impl RouteDomain {
    /// How well this fits `domain` (A-labels, lower case, or a literal in brackets); `None`: not at
    /// all. Of several the largest counts.
    #[must_use]
    pub fn fits(&self, domain: &str) -> Option<usize> {
        match self {
            RouteDomain::All => Some(0),
            RouteDomain::Below(parent) => {
                let above = domain.strip_suffix(parent.as_str())?;
                let is_below = above.len() > 1 && above.ends_with('.');
                is_below.then_some(parent.as_str().len())
            }
            RouteDomain::One(one) => (one.as_str() == domain).then_some(usize::MAX),
        }
    }
}

impl HostPort {
    /// True if it is surely this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            // RFC 6761 6.3.
            Host::Name(name) => name.as_str() == "localhost",
            Host::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

impl FromStr for RouteDomain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('.') {
            _ if text == "*" => Ok(RouteDomain::All),
            Some(parent) => parent.parse().map(RouteDomain::Below),
            None => text.parse().map(RouteDomain::One),
        }
    }
}

impl FromStr for NextHop {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(NextHop(None)),
            text => text.parse().map(Some).map(NextHop),
        }
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        let port: u16 = port.ok_or("has no port")?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (bracketed, host.parse::<IpAddr>()) {
            (Some(v6), _) => {
                let v6: Ipv6Addr = v6.parse().map_err(|_| "has no IPv6 address in brackets")?;
                Host::Address(v6.into())
            }
            (None, Ok(IpAddr::V6(_))) => return Err("has an IPv6 address without brackets"),
            (None, Ok(v4)) => Host::Address(v4),
            (None, Err(_)) => Host::Name(host.parse().map_err(|_| "has no host name")?),
        };
        Ok(HostPort { host, port })
    }
}

impl fmt::Display for RouteDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteDomain::All => f.write_str("*"),
            RouteDomain::Below(parent) => write!(f, ".{parent}"),
            RouteDomain::One(one) => one.fmt(f),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |hop| hop.fmt(f))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => name.fmt(f),
            Host::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_read_and_write() {
        let check = |text: &str, want: &str| {
            let got = match text.parse::<NextHop>() {
                Ok(hop) => hop.to_string(),
                Err(why) => why.to_owned(),
            };
            assert_eq!(got, want, "{text}");
        };
        check("", "");
        check("Mail.Example.org:25", "mail.example.org:25");
        check("192.0.2.1:587", "192.0.2.1:587");
        check("[2001:db8::1]:25", "[2001:db8::1]:25");
        check("2001:db8::1:25", "has an IPv6 address without brackets");
        check("[192.0.2.1]:25", "has no IPv6 address in brackets");
        check("mail.example.org", "has no port");
        check("mail.example.org:0", "has no port");
        check("mail.example.org:+25", "has no port");
        check("mail.example.org:smtp", "has no port");
        check("mail example:25", "has no host name");
        check(":25", "has no host name");
    }

    #[test]
    fn the_nearest_route_counts() {
        let check = |pattern: &str, domain: &str, want: Option<usize>| {
            let pattern: RouteDomain = pattern.parse().expect(pattern);
            assert_eq!(pattern.fits(domain), want, "{pattern} {domain}");
        };
        check("example.org", "example.org", Some(usize::MAX));
        check("example.org", "a.example.org", None);
        check(".example.org", "a.b.example.org", Some(11));
        check(".example.org", "example.org", None);
        check(".example.org", "notexample.org", None);
        check("*", "[192.0.2.1]", Some(0));
        check("Bücher.example", "xn--bcher-kva.example", Some(usize::MAX));
    }
}
