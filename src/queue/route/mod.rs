//! Route: from the domain of a recipient to the hops that its mail is offered to, in order, each
//! with what it is asked of TLS; or why there is none. `docs/QUEUE.md`, "Where to".
//!
//! ```text
//!  destination ─► site ──────────────────────► one host ─┐
//!               └► MX, own hosts cut off (mx) ─► hosts ──┴► addresses (order) ─► Plan
//!                              ask: everything that waits for the DNS
//! ```
//! What is asked is apart from what is made of it: `site`, `mx` and `order` are pure.
//!
//! Runs on the shard of the destination. Of what a plan was made of nothing is kept but which
//! addresses failed lately: the resolver has a cache of its own.
//!
//! Invariants:
//! - A plan has at least one hop, and at most [`HOSTS_MAX`] hosts and [`HOPS_MAX`] addresses.
//! - An address that a stranger's DNS gives is public, unless the site wants it otherwise.

mod ask;
mod hop;
mod lately;
mod mx;
mod no_route;
mod order;
mod settings;
mod site;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::Deadline;
use crate::dns::{Kind, Outcome, Resolver};
use crate::runtime;
use crate::wire::address::{Domain, domain_key};

pub use hop::{Hop, Ours};
pub use no_route::NoRoute;
pub use settings::{Settings, SettingsError};

use hop::Manner;
use lately::Lately;
use mx::{Candidate, Random};
use order::HostAddresses;
use site::{Site, Target};

/// Hosts of one plan.
pub const HOSTS_MAX: usize = 5;
/// Addresses of one plan.
pub const HOPS_MAX: usize = 10;
/// Names that are looked up for a plan, in the hope that [`HOSTS_MAX`] of them are there.
const HOSTS_ASKED_MAX: usize = 10;

/// Finds the way. Clones are handles to the same router, which stays on its shard.
#[derive(Clone)]
pub struct Router {
    inner: Rc<Inner>,
}

struct Inner {
    settings: Arc<Settings>,
    resolver: Resolver,
    random: RefCell<Random>,
    lately: RefCell<Lately>,
}

/// Where mail for a destination is offered, the first first.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least one.
    pub hops: Vec<Hop>,
    pub way: Way,
    /// What was found on the way and what of it is left out, for people.
    pub notes: Vec<String>,
}

/// What sends mail there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// `[[route]]` with this domain.
    Route(String),
    Smarthost,
    /// The MX records of the domain.
    Mx,
    /// The domain has no MX and is a host itself (RFC 5321 5.1).
    Implicit,
    /// The recipient has an address in brackets.
    Literal,
}

/// A host with all that is known of it, before its addresses are put in order.
struct Host {
    name: String,
    preference: u16,
    found: ask::Addresses,
}

impl Router {
    /// `seed`: from which equal hosts are shuffled.
    #[must_use]
    pub fn new(settings: Arc<Settings>, resolver: Resolver, seed: u64) -> Self {
        Router {
            inner: Rc::new(Inner {
                settings,
                resolver,
                random: RefCell::new(Random::new(seed)),
                lately: RefCell::default(),
            }),
        }
    }

    /// The way to `destination`: a domain, or an address literal in its brackets.
    pub async fn plan(&self, destination: &str, until: Deadline) -> Result<Plan, NoRoute> {
        let planned = runtime::deadline(until, self.inner.plan(destination)).await;
        planned.unwrap_or(Err(NoRoute::Late))
    }

    /// A connection to this address could be used.
    pub fn worked(&self, address: IpAddr) {
        self.inner.lately.borrow_mut().worked(address);
    }

    /// A connection to this address could not be made, or not be used.
    pub fn failed(&self, address: IpAddr) {
        let now = runtime::now();
        self.inner.lately.borrow_mut().failed(address, now);
    }
}

impl Inner {
    async fn plan(&self, destination: &str) -> Result<Plan, NoRoute> {
        let bad = || NoRoute::BadDomain(destination.to_owned());
        let domain = match Domain::parse(destination).map_err(|_| bad())? {
            Domain::Name(name) => domain_key(&name).ok_or_else(bad)?,
            Domain::Address(_) => destination.to_ascii_lowercase(),
            Domain::Tagged(_) => return Err(bad()),
        };
        let site = self.settings.site(&domain);
        match site.and_then(|site| site.target.as_ref().map(|target| (site, target))) {
            Some((site, target)) => self.plan_site(site, target).await,
            None => self.plan_public(&domain, site).await,
        }
    }

    /// To a host that this site names.
    async fn plan_site(&self, site: &Site, target: &Target) -> Result<Plan, NoRoute> {
        let found = match target.address {
            Some(address) => ask::Addresses::known(address),
            None => ask::addresses(&self.resolver, &target.host).await,
        };
        if found.addresses.is_empty() {
            let error = found.error;
            let host = target.host.clone();
            return Err(NoRoute::SiteHost { host, error });
        }
        let host = Host {
            name: target.host.clone(),
            preference: 0,
            found,
        };
        let hops = self.hops(vec![host], &site.manner(target));
        Ok(Plan {
            hops,
            way: site.way(),
            notes: Vec::new(),
        })
    }

    /// To who the domain says takes its mail.
    async fn plan_public(&self, domain: &str, site: Option<&Site>) -> Result<Plan, NoRoute> {
        let mut notes = Vec::new();
        let (way, hosts) = match literal(domain) {
            Some(address) => (Way::Literal, vec![literal_host(address)]),
            None => self.public_hosts(domain, &mut notes).await?,
        };
        let hosts = self.without_own(hosts, &mut notes)?;
        let hosts = self.with_public_addresses(hosts, &mut notes)?;
        let tls = site.and_then(|site| site.tls);
        let hops = self.hops(hosts, &Manner::public(self.settings.mx_port, tls));
        Ok(Plan { hops, way, notes })
    }

    /// The hosts that take mail for `domain`, those of lowest preference first, with their
    /// addresses. Hosts without any are among them.
    async fn public_hosts(
        &self,
        domain: &str,
        notes: &mut Vec<String>,
    ) -> Result<(Way, Vec<Host>), NoRoute> {
        let asked = self.resolver.lookup(domain, Kind::Mx).await;
        let answer = asked.map_err(|error| NoRoute::dns(domain, Kind::Mx, error))?;
        let (way, candidates) = match answer.outcome {
            Outcome::NoName => return Err(NoRoute::NoDomain),
            // RFC 5321 5.1: the domain itself, as if it had an MX of preference 0.
            Outcome::NoData => (Way::Implicit, vec![Candidate::implicit(domain)]),
            Outcome::Records => {
                let random = &mut self.random.borrow_mut();
                (Way::Mx, mx::order(&answer.records, random, notes)?)
            }
        };
        let own = |host: &str| self.settings.is_own_name(host);
        let candidates = mx::before_own(candidates, |c| own(&c.host), notes)?;
        let candidates = candidates.into_iter().take(HOSTS_ASKED_MAX);
        let ask = async |candidate: Candidate| Host {
            found: ask::addresses(&self.resolver, &candidate.host).await,
            name: candidate.host,
            preference: candidate.preference,
        };
        let hosts = ask::all(candidates.map(ask)).await;
        Ok((way, hosts))
    }

    /// RFC 5321 5.1: from ourselves on, by address too, nobody is asked: the mail would come back.
    fn without_own(&self, hosts: Vec<Host>, notes: &mut Vec<String>) -> Result<Vec<Host>, NoRoute> {
        let is_own = |host: &Host| {
            let mut addresses = host.found.addresses.iter();
            addresses.any(|address| self.settings.is_own_address(*address))
        };
        mx::before_own(hosts, is_own, notes)
    }

    /// The hosts that there is an address of, without those addresses that are not to be tried; or
    /// why there is none.
    fn with_public_addresses(
        &self,
        mut hosts: Vec<Host>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Host>, NoRoute> {
        let mut withheld = false;
        for host in &mut hosts {
            host.found.addresses.retain(|address| {
                let is_tried = self.settings.may_try(*address);
                if !is_tried {
                    notes.push(format!("{} {address}: not a public address", host.name));
                    withheld = true;
                }
                is_tried
            });
            if let Some(error) = &host.found.error {
                notes.push(format!("{}: {error}", host.name));
            }
        }
        if hosts.iter().all(|host| host.found.addresses.is_empty()) {
            // One who could not be found now may be there later.
            let failed = hosts.iter_mut().find_map(|host| {
                let error = host.found.error.take().filter(|e| e.is_temporary())?;
                Some(NoRoute::dns(&host.name, Kind::A, error))
            });
            return Err(match failed {
                Some(failed) => failed,
                None if withheld => NoRoute::NotPublic,
                None => NoRoute::NoAddress,
            });
        }
        hosts.retain(|host| !host.found.addresses.is_empty());
        hosts.truncate(HOSTS_MAX);
        Ok(hosts)
    }

    fn hops(&self, hosts: Vec<Host>, manner: &Manner) -> Vec<Hop> {
        let lately = self.lately.borrow_mut();
        let mut random = self.random.borrow_mut();
        let mut shuffled = |mut addresses: Vec<IpAddr>| {
            random.shuffle(&mut addresses);
            addresses
        };
        let each = hosts.into_iter().map(|host| HostAddresses {
            addresses: shuffled(host.found.addresses),
            name: host.name,
        });
        let now = runtime::now();
        let first = lately.family();
        let ordered = order::order(each.collect(), first, |ip| lately.is_failed(ip, now));
        let hop = |(host, address)| Hop::new(host, address, manner, &self.settings);
        ordered.into_iter().map(hop).collect()
    }
}

impl mx::Ranked for Host {
    fn preference(&self) -> u16 {
        self.preference
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    match Domain::parse(domain) {
        Ok(Domain::Address(address)) => Some(address.to_canonical()),
        _ => None,
    }
}

fn literal_host(address: IpAddr) -> Host {
    Host {
        name: address.to_string(),
        preference: 0,
        found: ask::Addresses::known(address),
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Route(domain) => write!(f, "the site's route for {domain}"),
            Way::Smarthost => f.write_str("the site's smarthost"),
            Way::Mx => f.write_str("the MX of the domain"),
            Way::Implicit => f.write_str("the domain itself, which has no MX"),
            Way::Literal => f.write_str("the address of the recipient"),
        }
    }
}
