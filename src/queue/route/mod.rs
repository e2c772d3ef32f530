//! Route: from the domain of a recipient to the hops that its mail is offered to, in order, each
//! with what it is asked of TLS; or why there is none. `docs/QUEUE.md`, "Where to".
//!
//! ```text
//!  destination ─► site ──────────────────────► one host ─┐
//!               └► MX, own hosts cut off (mx) ─► hosts ──┴► TLS (demand) ─► addresses (order) ─► Plan
//!                              ask: everything that waits for the DNS; sts: for policies
//! ```
//! What is asked is apart from what is made of it: `site`, `mx`, `dane`, `demand` and `order` are
//! pure. [`report`] counts what TLS came to, for the domains that want to know (RFC 8460).
//!
//! Runs on the shard of the destination. Kept are which addresses failed lately, the policies of
//! domains, and for seconds what was just found: the resolver has a cache of its own.
//!
//! Invariants:
//! - A plan has at least one hop, and at most [`HOSTS_MAX`] hosts and [`HOPS_MAX`] addresses.
//! - An address that a stranger's DNS gives is public, unless the site wants it otherwise.
//! - A host whose zone or domain asks for proof is not in a plan without it.

mod ask;
mod dane;
mod demand;
mod held;
mod hop;
mod lately;
mod mx;
mod no_route;
mod order;
mod plan;
pub mod report;
mod settings;
mod site;
mod sts;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::Deadline;
use crate::dns::{DnsError, Kind, Rdata, Resolver};
use crate::net::OutgoingTls;
use crate::policy::tls_rpt;
use crate::queue::client::Facts;
use crate::runtime;

pub use dane::Misfit;
pub use demand::{Applied, LeftOut};
pub use hop::{Hop, Ours, Standing};
pub use no_route::NoRoute;
pub use report::SessionEnd;
pub use settings::{Settings, SettingsError};
pub use sts::{Kept, PolicyStore, Stored, Unkept};

use mx::Random;
use plan::Planner;
use report::{PostFault, Rua, Tally};
use sts::{Keeper, Web};

/// Hosts of one plan.
pub const HOSTS_MAX: usize = 5;
/// Addresses of one plan.
pub const HOPS_MAX: usize = 10;

/// Finds the way. Clones are handles to the same router, which stays on its shard.
#[derive(Clone)]
pub struct Router {
    planner: Rc<Planner>,
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
    /// A host with its port, which a person sent mail to.
    Hop,
}

impl Router {
    /// `tls` and `store`: to fetch policies with, and to keep them in. `seed`: from which equal
    /// hosts are shuffled.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        resolver: Resolver,
        tls: OutgoingTls,
        store: Rc<dyn PolicyStore>,
        seed: u64,
    ) -> Self {
        let web = Web::new(resolver.clone(), tls, settings.clone());
        Router {
            planner: Rc::new(Planner {
                settings,
                resolver,
                policies: Keeper::new(web, store),
                random: RefCell::new(Random::new(seed)),
                lately: RefCell::default(),
                held: RefCell::default(),
                tally: RefCell::default(),
            }),
        }
    }

    /// The way to `destination`: a domain, or an address literal in its brackets.
    pub async fn plan(&self, destination: &str, until: Deadline) -> Result<Plan, NoRoute> {
        let planned = runtime::deadline(until, self.planner.plan(destination, until)).await;
        planned.unwrap_or(Err(NoRoute::Late))
    }

    /// The same for mail that goes whatever the domain asks of TLS (RFC 8689 5).
    pub async fn plan_waived(&self, destination: &str, until: Deadline) -> Result<Plan, NoRoute> {
        let planning = self.planner.plan_waived(destination, until);
        let planned = runtime::deadline(until, planning).await;
        planned.unwrap_or(Err(NoRoute::Late))
    }

    /// A connection to this address could be used.
    pub fn worked(&self, address: IpAddr) {
        self.planner.lately.borrow_mut().worked(address);
    }

    /// A connection to this address could not be made, or not be used.
    pub fn failed(&self, address: IpAddr) {
        let now = runtime::now();
        self.planner.lately.borrow_mut().failed(address, now);
    }

    /// Counts what TLS came to in one connection to a hop of a plan for `destination`, for the
    /// reports of RFC 8460. Connections that ended before TLS was tried do not count.
    pub fn count(&self, destination: &str, hop: &Hop, facts: &Facts, end: SessionEnd<'_>) {
        if let Some((policy, session)) = report::session(destination, hop, facts, end) {
            self.planner.count(policy, session);
        }
    }

    /// What was counted, for whoever keeps it and reports on it.
    pub fn with_tally<T>(&self, see: impl FnOnce(&mut Tally) -> T) -> T {
        see(&mut self.planner.tally.borrow_mut())
    }

    /// Whom `domain` wants reports about it sent to (RFC 8460 3): nobody, where the list is empty.
    pub async fn report_destinations(&self, domain: &str) -> Result<Vec<Rua>, DnsError> {
        let name = tls_rpt::record_name(domain);
        let answer = self.planner.resolver.lookup(&name, Kind::Txt).await?;
        let texts = answer.records.iter().filter_map(|record| match record {
            Rdata::Text(text) => Some(text.as_str()),
            _ => None,
        });
        Ok(report::report_destinations(texts))
    }

    /// Gives a report, as it is packed, to a web server (RFC 8460 5.4).
    pub async fn post_report(&self, uri: &str, gzipped: &[u8]) -> Result<(), PostFault> {
        report::post(&self.planner.policies.web, uri, gzipped).await
    }
}

impl Plan {
    /// The way, its hops and what was left out, for people.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let hops = self.hops.iter().map(ToString::to_string);
        let way = [format!("by {}", self.way)];
        way.into_iter()
            .chain(hops)
            .chain(self.notes.iter().cloned())
    }

    /// The hops for a message with REQUIRETLS (RFC 8689).
    pub fn with_required_tls(&self) -> Result<Vec<Hop>, NoRoute> {
        let hops: Vec<Hop> = self
            .hops
            .iter()
            .filter_map(Hop::with_required_tls)
            .collect();
        match hops.is_empty() {
            true => Err(NoRoute::RequireTls),
            false => Ok(hops),
        }
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
            Way::Hop => f.write_str("the host and port that are named"),
        }
    }
}
