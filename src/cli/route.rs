//! `palomar route`: where mail for an address would go, without sending any.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::print::{out, out_json};
use super::{Site, admin};
use crate::base::Deadline;
use crate::config::Config;
use crate::directory::{Answer, Command};
use crate::dns;
use crate::queue::route::{Plan, Router, Settings, Unkept};
use crate::queue::{RouteError, destination_of};
use crate::runtime;
use crate::server::{self, ServerError};
use crate::web::AdminError;
use crate::wire::address::Mailbox;

/// As long as an attempt waits for it.
const PLAN_SPAN: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Route {
    /// An address, or the domain of one
    to: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Route {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let destination = match Mailbox::parse(&self.to) {
            Ok(address) => destination_of(&address),
            Err(_) => self.to.to_lowercase(),
        };
        let is_here = |domain: &str| domain == destination;
        // Before there is a store the configuration has all of them.
        let known = match admin::directory(&config, Command::DomainList) {
            Ok(Answer::Domains { domains }) => domains,
            _ => Vec::new(),
        };
        let configured = config.domains.iter().map(|d| d.as_str());
        if configured
            .chain(known.iter().map(|d| &*d.name))
            .any(is_here)
        {
            return match self.json {
                true => out_json(&json!({ "destination": destination, "is_here": true })),
                false => out(&format!("{destination} is delivered here\n")),
            };
        }
        let planned = plan(&config, &destination)?;
        let plan = planned.map_err(|why| {
            CliError::Refused(AdminError {
                message: format!("{destination}: {} {why}", why.enhanced()),
                temporary: !why.is_final(),
            })
        })?;
        match self.json {
            true => out_json(&json!({
                "destination": destination,
                "is_here": false,
                "way": plan.way.to_string(),
                "hops": plan.hops.iter().map(|hop| json!({
                    "host": hop.host,
                    "address": hop.address.to_string(),
                    "how": hop.to_string(),
                })).collect::<Vec<_>>(),
                "notes": plan.notes,
            })),
            false => out(&plan
                .lines()
                .map(|line| format!("{line}\n"))
                .collect::<String>()),
        }
    }
}

type Planned = Result<Plan, crate::queue::route::NoRoute>;

/// Asks the DNS as the server does; policies are fetched anew.
fn plan(config: &Config, destination: &str) -> Result<Planned, CliError> {
    let dns = dns::Settings::load(config).map_err(CliError::Resolver)?;
    let routes = |why: RouteError| CliError::Server(ServerError::from(why));
    let settings = Settings::load(config, &server::own_addresses()).map_err(routes)?;
    let tls = server::outgoing_tls().map_err(CliError::Server)?;
    let destination = destination.to_owned();
    let planned = runtime::block_on(async move {
        let resolver = dns::Resolver::new(&dns, Arc::default());
        let seed = runtime::unix_now().0 as u64;
        let router = Router::new(Arc::new(settings), resolver, tls, Rc::new(Unkept), seed);
        let until = Deadline::after(runtime::now(), PLAN_SPAN);
        router.plan(&destination, until).await
    });
    planned.map_err(CliError::Runtime)
}
