//! SPF: which hosts a domain lets send its mail (RFC 7208 4.6, 5). Records are read here; what
//! their terms ask of the DNS their caller asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Terms that ask the DNS, in one evaluation (RFC 7208 4.6.4).
pub const LOOKUPS_MAX: usize = 10;

const TERMS_MAX: usize = 128;

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub directives: Vec<Directive>,
    /// Whose record counts where none of these matches.
    pub redirect: Option<String>,
}

/// A mechanism, and what it means where it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    pub qualifier: Qualifier,
    pub mechanism: Mechanism,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// Domains are as written; `None` is the domain whose record it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    All,
    Include(String),
    Address(Host),
    Mx(Host),
    Ip(Network),
    /// `ptr`, `exists`, or a name with macros: they depend on the message.
    Other,
}

/// A name, and how many bits of its addresses count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub domain: Option<String>,
    pub bits4: u8,
    pub bits6: u8,
}

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub bits: u8,
}

/// A text that receivers answer with permerror (RFC 7208 2.6.7), and its first bad term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfFault(pub String);

/// True for a text that means to be such a record (RFC 7208 4.5).
#[must_use]
pub fn is_record(text: &str) -> bool {
    let head = text.get(..6).unwrap_or("");
    head.eq_ignore_ascii_case("v=spf1") && matches!(text.as_bytes().get(6), None | Some(b' '))
}

/// Reads a record.
pub fn parse(text: &str) -> Result<Record, SpfFault> {
    let mut terms = text.split(' ').filter(|term| !term.is_empty());
    if !terms
        .next()
        .is_some_and(|v| v.eq_ignore_ascii_case("v=spf1"))
    {
        return Err(SpfFault(text.to_owned()));
    }
    let mut record = Record {
        directives: Vec::new(),
        redirect: None,
    };
    for (number, term) in terms.enumerate() {
        let fault = || SpfFault(term.to_owned());
        if number == TERMS_MAX {
            return Err(fault());
        }
        match modifier(term) {
            Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                if value.is_empty() || record.redirect.is_some() {
                    return Err(fault());
                }
                record.redirect = Some(value.to_owned());
            }
            // RFC 7208 6: unknown ones are passed over.
            Some(_) => {}
            None => record.directives.push(directive(term).ok_or_else(fault)?),
        }
    }
    Ok(record)
}

/// `name=value`, where the name comes before any `:` or `/`.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(named);
    is_name.then_some((name, value))
}

fn directive(term: &str) -> Option<Directive> {
    let (qualifier, rest) = match term.as_bytes().first()? {
        b'+' => (Qualifier::Pass, &term[1..]),
        b'-' => (Qualifier::Fail, &term[1..]),
        b'~' => (Qualifier::SoftFail, &term[1..]),
        b'?' => (Qualifier::Neutral, &term[1..]),
        _ => (Qualifier::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, argument) = rest.split_at(end);
    let of = argument.strip_prefix(':');
    let mechanism = match name.to_ascii_lowercase().as_str() {
        "all" if argument.is_empty() => Mechanism::All,
        "include" => match of.filter(|domain| !domain.is_empty())? {
            domain if domain.contains('%') => Mechanism::Other,
            domain => Mechanism::Include(domain.to_owned()),
        },
        "a" | "mx" => {
            let host = host(argument)?;
            if host
                .domain
                .as_ref()
                .is_some_and(|domain| domain.contains('%'))
            {
                Mechanism::Other
            } else if name.eq_ignore_ascii_case("a") {
                Mechanism::Address(host)
            } else {
                Mechanism::Mx(host)
            }
        }
        "ip4" => Mechanism::Ip(network(
            of?,
            |a| a.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            32,
        )?),
        "ip6" => Mechanism::Ip(network(
            of?,
            |a| a.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            128,
        )?),
        "ptr" if argument.is_empty() || of.is_some_and(|of| !of.is_empty()) => Mechanism::Other,
        "exists" if of.is_some_and(|of| !of.is_empty()) => Mechanism::Other,
        _ => return None,
    };
    Some(Directive {
        qualifier,
        mechanism,
    })
}

/// `[:domain][/bits][//bits]` (RFC 7208 5.3).
fn host(argument: &str) -> Option<Host> {
    let (name, bits) = match argument.find('/') {
        Some(at) => argument.split_at(at),
        None => (argument, ""),
    };
    let domain = match name {
        "" => None,
        name => Some(
            name.strip_prefix(':')
                .filter(|name| !name.is_empty())?
                .to_owned(),
        ),
    };
    let (four, six) = match bits.split_once("//") {
        Some((four, six)) => (four, Some(six)),
        None => (bits, None),
    };
    let bits4 = match four {
        "" => 32,
        four => prefix(four.strip_prefix('/')?, 32)?,
    };
    let bits6 = six.map_or(Some(128), |six| prefix(six, 128))?;
    Some(Host {
        domain,
        bits4,
        bits6,
    })
}

fn network(text: &str, parse: impl Fn(&str) -> Option<IpAddr>, max: u8) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, prefix(bits, max)?),
        None => (text, max),
    };
    Some(Network {
        address: parse(address)?,
        bits,
    })
}

fn prefix(text: &str, max: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = digits.then(|| text.parse().ok())??;
    (bits <= max).then_some(bits)
}

impl Network {
    /// Whether `ip` lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.bits);
                let head = |ip: Ipv4Addr| u32::from(ip).checked_shr(shift).unwrap_or(0);
                head(a) == head(b)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.bits);
                let head = |ip: Ipv6Addr| u128::from(ip).checked_shr(shift).unwrap_or(0);
                head(a) == head(b)
            }
            _ => false,
        }
    }
}

impl Host {
    /// Whether `ip` counts as `found`, an address of the host.
    #[must_use]
    pub fn matches(&self, found: IpAddr, ip: IpAddr) -> bool {
        let bits = if found.is_ipv4() {
            self.bits4
        } else {
            self.bits6
        };
        Network {
            address: found,
            bits,
        }
        .contains(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(domain: Option<&str>, bits4: u8, bits6: u8) -> Host {
        let domain = domain.map(str::to_owned);
        Host {
            domain,
            bits4,
            bits6,
        }
    }

    fn ip(address: &str, bits: u8) -> Mechanism {
        let address = address.parse().unwrap();
        Mechanism::Ip(Network { address, bits })
    }

    #[test]
    fn terms_are_read() {
        #[track_caller]
        fn check(term: &str, want: Option<Mechanism>) {
            let got = parse(&format!("v=spf1 {term}"));
            let got = got
                .ok()
                .map(|record| record.directives[0].mechanism.clone());
            assert_eq!(got, want, "{term}");
        }
        check("-all", Some(Mechanism::All));
        check("all:x", None);
        check(
            "include:a.example",
            Some(Mechanism::Include("a.example".into())),
        );
        check("include", None);
        check("include:%{d}.example", Some(Mechanism::Other));
        check("a", Some(Mechanism::Address(host(None, 32, 128))));
        check(
            "A:b.example/24//64",
            Some(Mechanism::Address(host(Some("b.example"), 24, 64))),
        );
        check("mx//64", Some(Mechanism::Mx(host(None, 32, 64))));
        check("mx/33", None);
        check("mx:", None);
        check("ip4:192.0.2.0/24", Some(ip("192.0.2.0", 24)));
        check("ip4:192.0.2", None);
        check("ip6:2001:db8::/32", Some(ip("2001:db8::", 32)));
        check("ip6:192.0.2.1", None);
        check("ptr", Some(Mechanism::Other));
        check("exists:%{i}.x.example", Some(Mechanism::Other));
        check("ipv4:192.0.2.1", None);
    }

    #[test]
    fn records_are_read() {
        let record = parse("v=spf1  ?mx ~all exp=x.example redirect=y.example").unwrap();
        let qualifiers: Vec<Qualifier> = record.directives.iter().map(|d| d.qualifier).collect();
        assert_eq!(qualifiers, [Qualifier::Neutral, Qualifier::SoftFail]);
        assert_eq!(record.redirect.as_deref(), Some("y.example"));
        assert_eq!(
            parse("v=spf1 a redirect=x redirect=y").unwrap_err().0,
            "redirect=y"
        );
        assert_eq!(parse("v=spf1 mx; -all").unwrap_err().0, "mx;");
        assert!(is_record("v=spf1") && is_record("V=SPF1 a") && !is_record("v=spf10 a"));
        assert!(!is_record("v=spf1é"));
    }

    #[test]
    fn networks_hold_addresses() {
        #[track_caller]
        fn check(network: &str, bits: u8, address: &str, want: bool) {
            let network = Network {
                address: network.parse().unwrap(),
                bits,
            };
            assert_eq!(
                network.contains(address.parse().unwrap()),
                want,
                "{address}"
            );
        }
        check("192.0.2.0", 24, "192.0.2.200", true);
        check("192.0.2.0", 25, "192.0.2.200", false);
        check("192.0.2.1", 0, "10.0.0.1", true);
        check("2001:db8::1", 128, "2001:db8::1", true);
        check("2001:db8::1", 0, "::", true);
        check("2001:db8::", 32, "192.0.2.1", false);
    }
}
