//! A plan in its making: what is asked, in which order, and what is made of the answers.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::ask::{self, HostTls};
use super::dane::Tlsa;
use super::demand::{Case, Demand, LeftOut};
use super::held::Held;
use super::hop::{Hop, Manner};
use super::lately::Lately;
use super::mx::{self, Candidate, Random};
use super::no_route::NoRoute;
use super::order::{self, HostAddresses};
use super::report::{self, Day, PolicyKey, Session, Tally};
use super::settings::Settings;
use super::site::{Site, Target};
use super::sts::{Keeper, Kept};
use super::{Plan, Way};
use crate::base::Deadline;
use crate::config::{HopTls, HostPort};
use crate::dns::{Kind, Outcome, Resolver, Security};
use crate::runtime;
use crate::wire::address::{Domain, domain_key};

/// Names that are looked up for a plan, in the hope that
/// [`HOSTS_MAX`](super::HOSTS_MAX) of them are there.
pub const HOSTS_ASKED_MAX: usize = 10;

/// What plans are made with, on one shard.
pub struct Planner {
    pub settings: Arc<Settings>,
    pub resolver: Resolver,
    pub policies: Keeper,
    pub random: RefCell<Random>,
    pub lately: RefCell<Lately>,
    pub held: RefCell<Held<Found>>,
    pub tally: RefCell<Tally>,
}

/// A host with all that is known of it, before its addresses are put in order.
struct Host {
    name: String,
    preference: u16,
    found: ask::Addresses,
}

/// A way, before its hosts and addresses are put in the order of the moment.
#[derive(Debug)]
pub struct Found {
    way: Way,
    notes: Vec<String>,
    manner: Manner,
    hosts: Vec<FoundHost>,
    /// Seconds for which the DNS allows it.
    ttl: u32,
}

#[derive(Debug)]
struct FoundHost {
    name: String,
    preference: u16,
    demand: Rc<Demand>,
    addresses: Vec<IpAddr>,
}

/// Who is asked for, and how sure it is.
struct Destination<'d> {
    /// For MTA-STS; `None` for a host of the site's and for an address.
    domain: Option<&'d str>,
    /// What a certificate may name beside the host (RFC 7672 3.2.2).
    names: Vec<String>,
    /// The hosts are named by the site, or by a signed zone.
    is_authentic: bool,
    /// Seconds for which what was found so far may be used.
    ttl: u32,
    until: Deadline,
}

impl Planner {
    /// See [`Router::plan`](super::Router::plan).
    pub async fn plan(&self, destination: &str, until: Deadline) -> Result<Plan, NoRoute> {
        let held = self.held.borrow().get(destination, runtime::now());
        if let Some(found) = held {
            return Ok(self.in_order(&found));
        }
        let found = Rc::new(self.find(destination, false, until).await?);
        let mut held = self.held.borrow_mut();
        held.put(destination, found.clone(), found.ttl, runtime::now());
        Ok(self.in_order(&found))
    }

    /// See [`Router::plan_waived`](super::Router::plan_waived). Nothing of it is kept.
    pub async fn plan_waived(&self, destination: &str, until: Deadline) -> Result<Plan, NoRoute> {
        let found = self.find(destination, true, until).await?;
        Ok(self.in_order(&found))
    }

    async fn find(
        &self,
        destination: &str,
        is_waived: bool,
        until: Deadline,
    ) -> Result<Found, NoRoute> {
        if let Ok(hop) = destination.parse::<HostPort>() {
            return self.find_hop(&hop, until).await;
        }
        let bad = || NoRoute::BadDomain(destination.to_owned());
        let domain = match Domain::parse(destination).map_err(|_| bad())? {
            Domain::Name(name) => domain_key(&name).ok_or_else(bad)?,
            Domain::Address(_) => destination.to_ascii_lowercase(),
            Domain::Tagged(_) => return Err(bad()),
        };
        let site = self.settings.site(&domain);
        match site.and_then(|site| site.target.as_ref().map(|target| (site, target))) {
            Some((site, target)) => self.find_site(site, target, site.way(), until).await,
            None => {
                let tls = site.and_then(|site| site.tls);
                let tls = tls.or(is_waived.then_some(HopTls::Opportunistic));
                self.find_public(&domain, tls, until).await
            }
        }
    }

    /// To a host and port that a person named; as the site says, where it names the same.
    async fn find_hop(&self, hop: &HostPort, until: Deadline) -> Result<Found, NoRoute> {
        let plain = Site::to(hop);
        let site = self.settings.site_at(hop).unwrap_or(&plain);
        let target = Target::from(hop);
        self.find_site(site, &target, Way::Hop, until).await
    }

    /// To a host that this site names.
    async fn find_site(
        &self,
        site: &Site,
        target: &Target,
        way: Way,
        until: Deadline,
    ) -> Result<Found, NoRoute> {
        let found = match target.address {
            Some(address) => ask::Addresses::known(vec![address]),
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
        let destination = Destination {
            domain: None,
            names: Vec::new(),
            is_authentic: true,
            ttl: u32::MAX,
            until,
        };
        let manner = site.manner(target);
        self.with_demands(way, vec![host], manner, destination, Vec::new())
            .await
    }

    /// To who the domain says takes its mail.
    async fn find_public(
        &self,
        domain: &str,
        tls: Option<HopTls>,
        until: Deadline,
    ) -> Result<Found, NoRoute> {
        let mut notes = Vec::new();
        let mut destination = Destination {
            domain: Some(domain),
            names: vec![domain.to_owned()],
            is_authentic: false,
            ttl: u32::MAX,
            until,
        };
        let (way, hosts) = match literal(domain) {
            Some(address) => {
                destination.domain = None;
                (Way::Literal, vec![literal_host(address)])
            }
            None => {
                self.public_hosts(&mut destination, domain, &mut notes)
                    .await?
            }
        };
        let hosts = self.without_own(hosts, &mut notes)?;
        let hosts = self.with_public_addresses(hosts, &mut notes)?;
        let manner = Manner {
            is_told: destination.domain.is_some(),
            ..Manner::public(self.settings.mx_port, tls)
        };
        self.with_demands(way, hosts, manner, destination, notes)
            .await
    }

    /// The hosts that take mail for `domain`, those of lowest preference first, with their
    /// addresses. Hosts without any are among them.
    async fn public_hosts(
        &self,
        destination: &mut Destination<'_>,
        domain: &str,
        notes: &mut Vec<String>,
    ) -> Result<(Way, Vec<Host>), NoRoute> {
        let asked = self.resolver.lookup(domain, Kind::Mx).await;
        let answer = asked.map_err(|error| NoRoute::dns(domain, Kind::Mx, error))?;
        destination.is_authentic = answer.security == Security::Secure;
        destination.ttl = answer.ttl;
        if answer.aliases > 0 {
            destination.names.push(answer.name.clone());
        }
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
        Ok(hosts)
    }

    /// What each host is asked of TLS. Those that are left out by it go.
    async fn with_demands(
        &self,
        way: Way,
        hosts: Vec<Host>,
        manner: Manner,
        destination: Destination<'_>,
        mut notes: Vec<String>,
    ) -> Result<Found, NoRoute> {
        let asks_zones = manner.heeds_dane() && destination.is_authentic;
        let zones = ask::all(hosts.iter().map(async |host| match asks_zones {
            true => {
                let (port, names) = (manner.port, &destination.names);
                ask::tls(&self.resolver, &host.name, &host.found, port, names).await
            }
            false => HostTls::nothing(),
        }))
        .await;
        let sts = self.policy(&manner, &destination, &zones, &mut notes).await;
        let (mut kept, mut ttl, mut left_out) = (Vec::new(), destination.ttl, None);
        for (host, zone) in hosts.into_iter().zip(zones) {
            ttl = ttl.min(host.found.ttl).min(zone.ttl);
            let case = Case {
                host: &host.name,
                site: manner.tls,
                tlsa: &zone.tlsa,
                sts: sts.as_ref(),
                is_authentic: destination.is_authentic,
            };
            match case.decide() {
                Ok(demand) => kept.push(FoundHost {
                    name: zone.base.unwrap_or(host.name),
                    preference: host.preference,
                    demand: Rc::new(demand),
                    addresses: host.found.addresses,
                }),
                Err(why) => {
                    notes.push(format!("{}: {why}", host.name));
                    self.count_left_out(&destination, sts.as_ref(), &host.name, &why);
                    left_out = Some((host.name, why));
                }
            }
        }
        match left_out {
            Some((host, why)) if kept.is_empty() => Err(NoRoute::LeftOut { host, why }),
            _ => Ok(Found {
                way,
                notes,
                manner,
                hosts: kept,
                ttl,
            }),
        }
    }

    /// The MTA-STS policy of the destination, where it has one and it could count.
    async fn policy(
        &self,
        manner: &Manner,
        destination: &Destination<'_>,
        zones: &[HostTls],
        notes: &mut Vec<String>,
    ) -> Option<Rc<Kept>> {
        let domain = destination.domain?;
        let is_heeded = matches!(manner.tls, None | Some(HopTls::Verified));
        let is_dane = |zone: &HostTls| matches!(zone.tlsa, Ok(Tlsa::Usable(_)));
        if !is_heeded || zones.iter().all(is_dane) {
            return None;
        }
        let found = self.policies.find(domain, destination.until).await;
        if let Some(fault) = &found.fault {
            notes.push(fault.to_string());
            let (policy, session) = report::policy_fault(domain, found.policy.as_ref(), fault);
            self.count(policy, session);
        }
        found.policy
    }

    /// The plan of the moment: equal hosts, and the addresses of each, are shuffled every time.
    fn in_order(&self, found: &Found) -> Plan {
        let lately = self.lately.borrow();
        let mut random = self.random.borrow_mut();
        let mut hosts: Vec<&FoundHost> = found.hosts.iter().collect();
        random.shuffle(&mut hosts);
        hosts.sort_by_key(|host| host.preference);
        let each = hosts.into_iter().map(|host| {
            let mut addresses = host.addresses.clone();
            random.shuffle(&mut addresses);
            HostAddresses { host, addresses }
        });
        let now = runtime::now();
        let first = lately.family();
        let ordered = order::order(each.collect(), first, |ip| lately.is_failed(ip, now));
        let hop = |(host, address): (&FoundHost, IpAddr)| {
            let (name, demand) = (host.name.clone(), host.demand.clone());
            Hop::new(name, address, demand, &found.manner, &self.settings)
        };
        Plan {
            hops: ordered.into_iter().map(hop).collect(),
            way: found.way.clone(),
            notes: found.notes.clone(),
        }
    }

    fn count_left_out(
        &self,
        destination: &Destination<'_>,
        sts: Option<&Rc<Kept>>,
        host: &str,
        why: &LeftOut,
    ) {
        let counted = destination
            .domain
            .and_then(|domain| report::left_out(domain, sts, host, why));
        if let Some((policy, session)) = counted {
            self.count(policy, session);
        }
    }

    /// Counts what TLS came to.
    pub fn count(&self, policy: PolicyKey, session: Session) {
        if !self.settings.is_tls_reported {
            return;
        }
        let today = Day::of(runtime::unix_now());
        self.tally.borrow_mut().count(today, policy, session);
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
        found: ask::Addresses::known(vec![address]),
    }
}
