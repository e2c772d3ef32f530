//! Whether an SPF record lets an address send (RFC 7208 4.6, 5), for our own domains: terms that
//! depend on a message match nothing.

use std::net::IpAddr;

use crate::dns::{DnsError, Kind, Rdata, Resolver};
use crate::policy::spf::{self, Host, LOOKUPS_MAX, Mechanism, Qualifier, Record};

/// Hosts of one MX that are looked at (RFC 7208 4.6.4).
const MX_HOSTS_MAX: usize = 10;

/// What receivers will say.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Is(Qualifier),
    /// The record cannot be evaluated (permerror), and why.
    Broken(String),
}

/// One evaluation.
pub struct Evaluation<'r> {
    resolver: &'r Resolver,
    lookups: usize,
}

enum Stop {
    Broken(String),
    Dns(DnsError),
}

impl From<DnsError> for Stop {
    fn from(error: DnsError) -> Self {
        Stop::Dns(error)
    }
}

impl<'r> Evaluation<'r> {
    pub fn new(resolver: &'r Resolver) -> Self {
        Evaluation {
            resolver,
            lookups: 0,
        }
    }

    /// What `record` of `domain` says of `ip`.
    pub async fn run(
        mut self,
        domain: &str,
        record: &Record,
        ip: IpAddr,
    ) -> Result<Verdict, DnsError> {
        match self.evaluate(domain.to_owned(), record.clone(), ip).await {
            Ok(qualifier) => Ok(Verdict::Is(qualifier)),
            Err(Stop::Broken(why)) => Ok(Verdict::Broken(why)),
            Err(Stop::Dns(error)) => Err(error),
        }
    }

    /// Redirections go round here; includes nest, each having cost a look-up.
    async fn evaluate(
        &mut self,
        domain: String,
        record: Record,
        ip: IpAddr,
    ) -> Result<Qualifier, Stop> {
        let (mut domain, mut record) = (domain, record);
        loop {
            for directive in &record.directives {
                if self.matches(&domain, &directive.mechanism, ip).await? {
                    return Ok(directive.qualifier);
                }
            }
            let Some(next) = record.redirect.take() else {
                return Ok(Qualifier::Neutral);
            };
            // RFC 7208 6.1: the other domain's record counts as if it were this one's.
            record = self.fetch(&next).await?;
            domain = next;
        }
    }

    async fn matches(
        &mut self,
        domain: &str,
        mechanism: &Mechanism,
        ip: IpAddr,
    ) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip(network) => Ok(network.contains(ip)),
            Mechanism::Include(other) => {
                let record = self.fetch(other).await?;
                let inner = Box::pin(self.evaluate(other.clone(), record, ip));
                Ok(inner.await? == Qualifier::Pass)
            }
            Mechanism::Address(host) => {
                self.count()?;
                let name = host.domain.as_deref().unwrap_or(domain);
                self.address_matches(name, host, ip).await
            }
            Mechanism::Mx(host) => {
                self.count()?;
                let name = host.domain.as_deref().unwrap_or(domain);
                let answer = self.resolver.lookup(name, Kind::Mx).await?;
                for record in answer.records.iter().take(MX_HOSTS_MAX) {
                    let Rdata::Mx { host: name, .. } = record else {
                        continue;
                    };
                    if !name.is_empty() && self.address_matches(name, host, ip).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Mechanism::Other => self.count().map(|()| false),
        }
    }

    async fn address_matches(&self, name: &str, host: &Host, ip: IpAddr) -> Result<bool, Stop> {
        let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
        let answer = self.resolver.lookup(name, kind).await?;
        let found = |data: &Rdata| matches!(data, Rdata::Address(at) if host.matches(*at, ip));
        Ok(answer.records.iter().any(found))
    }

    async fn fetch(&mut self, domain: &str) -> Result<Record, Stop> {
        self.count()?;
        let answer = self.resolver.lookup(domain, Kind::Txt).await?;
        let texts = answer.records.iter().filter_map(|data| match data {
            Rdata::Text(text) if spf::is_record(text) => Some(text),
            _ => None,
        });
        match texts.collect::<Vec<_>>().as_slice() {
            [one] => spf::parse(one).map_err(|fault| {
                Stop::Broken(format!(
                    "`{}` in the record of {domain} is no term",
                    fault.0
                ))
            }),
            [] => Err(Stop::Broken(format!("{domain} has no SPF record"))),
            _ => Err(Stop::Broken(format!("{domain} has several SPF records"))),
        }
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        match self.lookups > LOOKUPS_MAX {
            true => Err(Stop::Broken(format!(
                "more than {LOOKUPS_MAX} terms ask the DNS"
            ))),
            false => Ok(()),
        }
    }
}
