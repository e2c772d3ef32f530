//! What is asked for, what comes back, and why nothing does.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hickory_proto::rr::RecordType;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    A,
    Aaaa,
    Cname,
    Mx,
    Ptr,
    Soa,
    Srv,
    Tlsa,
    Txt,
}

/// The data of one record. Names are A-labels in lower case without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rdata {
    Address(IpAddr),
    /// An empty `host` is a null MX (RFC 7505 3): this domain takes no mail.
    Mx {
        preference: u16,
        host: String,
    },
    /// What CNAME and PTR point to.
    Name(String),
    Soa {
        primary: String,
        serial: u32,
        minimum: u32,
    },
    Srv {
        port: u16,
        target: String,
    },
    /// The strings of one TXT record, joined.
    Text(String),
    /// RFC 6698 2.1, with the numbers as they travel.
    Tlsa {
        usage: u8,
        selector: u8,
        matching: u8,
        data: Vec<u8>,
    },
}

/// Whether there are records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Records,
    /// The name exists, with no record of this kind.
    NoData,
    /// NXDOMAIN: the name does not exist.
    NoName,
}

/// What DNSSEC says of an answer (RFC 4035 4.3). What is bogus is no answer but
/// [`DnsError::Bogus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Nothing can be said: validation is off, no trust anchor covers the name, or the server
    /// does not speak DNSSEC. Never take it for proof of anything.
    Indeterminate,
    /// Proven to come from a zone that is not signed.
    Insecure,
    /// Every record on the way, or their absence, is signed, up to a trust anchor.
    Secure,
}

/// What is known of a name. Records are sorted; there are none where the outcome says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    pub records: Vec<Rdata>,
    /// The name at the end of the aliases; the name that was asked for where there were none.
    pub name: String,
    /// How many CNAMEs were followed.
    pub aliases: usize,
    /// Seconds for which this may be used; 0: once.
    pub ttl: u32,
    /// The weakest of all that was used.
    pub security: Security,
    /// Who gave the last of it; it may have been kept since.
    pub server: SocketAddr,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// The name is none (too long, empty label).
    BadName,
    /// CNAMEs lead back to this name.
    Loop(String),
    /// More CNAMEs in a row than are followed.
    Chain,
    /// DNSSEC: signed, and not by whom it should be. The text is for people.
    Bogus(String),
    /// Every server that answered could not find out (SERVFAIL).
    ServFail,
    /// Every server that answered does not answer for this name or to us.
    Refused,
    /// Every server that answered sent what is no DNS message, or no answer to the question.
    Malformed,
    /// Nobody answered in time.
    Timeout,
    /// No server could be reached.
    Unreachable(io::ErrorKind),
    /// Too many questions are under way.
    Busy,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::A,
        Kind::Aaaa,
        Kind::Cname,
        Kind::Mx,
        Kind::Ptr,
        Kind::Soa,
        Kind::Srv,
        Kind::Tlsa,
        Kind::Txt,
    ];

    /// As in a zone file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Cname => "CNAME",
            Kind::Mx => "MX",
            Kind::Ptr => "PTR",
            Kind::Soa => "SOA",
            Kind::Srv => "SRV",
            Kind::Tlsa => "TLSA",
            Kind::Txt => "TXT",
        }
    }

    pub(super) fn record_type(self) -> RecordType {
        match self {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Cname => RecordType::CNAME,
            Kind::Mx => RecordType::MX,
            Kind::Ptr => RecordType::PTR,
            Kind::Soa => RecordType::SOA,
            Kind::Srv => RecordType::SRV,
            Kind::Tlsa => RecordType::TLSA,
            Kind::Txt => RecordType::TXT,
        }
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |kind: &&Kind| kind.name().eq_ignore_ascii_case(text);
        let kind = Kind::ALL.iter().find(named);
        kind.copied()
            .ok_or("write one of A, AAAA, CNAME, MX, PTR, SOA, SRV, TLSA, TXT")
    }
}

impl DnsError {
    /// Whether asking again later may bring an answer.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(
            self,
            DnsError::BadName | DnsError::Loop(_) | DnsError::Chain
        )
    }

    /// One word, for scripts.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DnsError::BadName => "bad_name",
            DnsError::Loop(_) => "loop",
            DnsError::Chain => "chain",
            DnsError::Bogus(_) => "bogus",
            DnsError::ServFail => "servfail",
            DnsError::Refused => "refused",
            DnsError::Malformed => "malformed",
            DnsError::Timeout => "timeout",
            DnsError::Unreachable(_) => "unreachable",
            DnsError::Busy => "busy",
        }
    }

    /// What of two failures tells more: an answer of some kind over none.
    pub(super) fn or_worse(self, other: DnsError) -> DnsError {
        let weight = |error: &DnsError| match error {
            DnsError::Unreachable(_) => 0,
            DnsError::Timeout => 1,
            DnsError::Malformed => 2,
            DnsError::Refused => 3,
            _ => 4,
        };
        if weight(&other) > weight(&self) {
            other
        } else {
            self
        }
    }
}

impl Outcome {
    /// One word, for scripts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Records => "records",
            Outcome::NoData => "nodata",
            Outcome::NoName => "nxdomain",
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Security::Secure => "secure",
            Security::Insecure => "insecure",
            Security::Indeterminate => "indeterminate",
        })
    }
}

/// As in a zone file (RFC 1035 5.1).
impl fmt::Display for Rdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rdata::Address(ip) => ip.fmt(f),
            Rdata::Mx { preference, host } => write!(f, "{preference} {host}."),
            Rdata::Name(name) => write!(f, "{name}."),
            Rdata::Soa {
                primary,
                serial,
                minimum,
            } => write!(f, "{primary}. serial {serial} minimum {minimum}"),
            Rdata::Srv { port, target } => write!(f, "{port} {target}."),
            Rdata::Text(text) => write!(f, "{text:?}"),
            Rdata::Tlsa {
                usage,
                selector,
                matching,
                data,
            } => {
                write!(f, "{usage} {selector} {matching} ")?;
                data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::BadName => f.write_str("not a domain name"),
            DnsError::Loop(name) => write!(f, "CNAMEs lead in a circle to {name}"),
            DnsError::Chain => f.write_str("too many CNAMEs in a row"),
            DnsError::Bogus(why) => write!(f, "bogus: DNSSEC does not hold: {why}"),
            DnsError::ServFail => f.write_str("the servers could not find out (SERVFAIL)"),
            DnsError::Refused => f.write_str("the servers do not answer for it (REFUSED)"),
            DnsError::Malformed => f.write_str("the servers sent no proper answer"),
            DnsError::Timeout => f.write_str("no server answered in time"),
            DnsError::Unreachable(kind) => write!(f, "no server could be reached: {kind}"),
            DnsError::Busy => f.write_str("too many questions are under way"),
        }
    }
}

impl std::error::Error for DnsError {}
