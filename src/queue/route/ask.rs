//! What the DNS says of hosts: where they are, and what their zones ask of TLS.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::Poll;

use futures_lite::future::zip;

use super::dane::Tlsa;
use crate::dns::{Answer, DnsError, Kind, Outcome, Rdata, Resolver, Security};

/// Where a host is.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub addresses: Vec<IpAddr>,
    /// Why there may be more of them.
    pub error: Option<DnsError>,
    /// All of them come from signed zones.
    pub is_secure: bool,
    /// What the host is an alias of.
    pub alias_of: Option<String>,
    /// Seconds for which all this may be used.
    pub ttl: u32,
}

/// What the zone of a host asks of TLS.
#[derive(Clone, Debug)]
pub struct HostTls {
    /// What the host is called there (RFC 7672 2.2.3), where that is not as we know it.
    pub base: Option<String>,
    pub tlsa: Result<Tlsa, DnsError>,
    /// Seconds for which it may be used.
    pub ttl: u32,
}

/// Both kinds of addresses of `host`, asked for at the same time.
pub async fn addresses(resolver: &Resolver, host: &str) -> Addresses {
    // RFC 6761 6.3: never asked for.
    if host.eq_ignore_ascii_case("localhost") {
        let both = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Addresses::known(both);
    }
    let asked = zip(
        resolver.lookup(host, Kind::A),
        resolver.lookup(host, Kind::Aaaa),
    );
    let (v4, v6) = asked.await;
    let mut found = Addresses {
        is_secure: true,
        ..Addresses::known(Vec::new())
    };
    found.add(v4);
    found.add(v6);
    found
}

/// What the zone of the host `name` asks of TLS on this port. Nothing, where the addresses in
/// `found` are not from a signed zone (RFC 7672 2.2.2). `domains`: whose mail it takes.
pub async fn tls(
    resolver: &Resolver,
    name: &str,
    found: &Addresses,
    port: u16,
    domains: &[String],
) -> HostTls {
    let mut asked = HostTls::nothing();
    if !found.is_secure {
        return asked;
    }
    // RFC 7672 2.2.2: what the name stands for comes first, then the name.
    let bases = found.alias_of.as_deref().into_iter().chain([name]);
    for base in bases {
        let asked_for = format!("_{port}._tcp.{base}");
        let records = match resolver.lookup(&asked_for, Kind::Tlsa).await {
            Ok(answer) => {
                asked.ttl = asked.ttl.min(answer.ttl);
                match answer.security {
                    Security::Secure => answer.records,
                    Security::Insecure | Security::Indeterminate => continue,
                }
            }
            Err(error) => {
                asked.ttl = 0;
                asked.tlsa = Err(error);
                return asked;
            }
        };
        let names = domains.iter().cloned().chain([base.to_owned()]);
        let tlsa = Tlsa::read(&records, names.collect());
        if tlsa != Tlsa::Absent {
            asked.base = (base != name).then(|| base.to_owned());
            asked.tlsa = Ok(tlsa);
            return asked;
        }
    }
    asked
}

/// Waits for all of them at the same time; there are few.
pub async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

impl HostTls {
    #[must_use]
    pub fn nothing() -> Self {
        HostTls {
            base: None,
            tlsa: Ok(Tlsa::Absent),
            ttl: u32::MAX,
        }
    }
}

impl Addresses {
    /// Of a host that nobody need ask for.
    #[must_use]
    pub fn known(addresses: Vec<IpAddr>) -> Self {
        Addresses {
            addresses,
            error: None,
            is_secure: false,
            alias_of: None,
            ttl: u32::MAX,
        }
    }

    fn add(&mut self, answer: Result<Answer, DnsError>) {
        let answer = match answer {
            Err(error) => {
                self.error = Some(error);
                self.ttl = 0;
                return;
            }
            Ok(answer) => answer,
        };
        let address = |record: &Rdata| match record {
            Rdata::Address(address) => Some(address.to_canonical()),
            _ => None,
        };
        self.addresses
            .extend(answer.records.iter().filter_map(address));
        self.ttl = self.ttl.min(answer.ttl);
        self.is_secure &= answer.security == Security::Secure;
        if answer.aliases > 0 && answer.outcome == Outcome::Records {
            self.alias_of = Some(answer.name);
        }
    }
}
