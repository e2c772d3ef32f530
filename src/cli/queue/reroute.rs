//! `palomar queue reroute`: what waits goes another way.

use std::str::FromStr;

use clap::Args;

use super::carry_out;
use crate::cli::error::CliError;
use crate::config::Config;
use crate::queue::{Change, DestinationName, Filter, NotADestination};

#[derive(Debug, Args)]
pub struct Reroute {
    /// Ids of messages
    ids: Vec<String>,
    /// Where to: HOST:PORT, a domain (its MX, or its [[route]]), or `smarthost`
    #[arg(
        long,
        value_name = "DESTINATION",
        required_unless_present = "back",
        conflicts_with = "back"
    )]
    to: Option<Goal>,
    /// Back to the domains of the recipients
    #[arg(long)]
    back: bool,
    /// Only what goes there now
    #[arg(long, value_name = "DESTINATION")]
    destination: Option<String>,
    /// Part of the sender's address
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// Part of the recipient's address
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
    /// Every message
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where a person wants mail to go.
#[derive(Clone, Debug)]
enum Goal {
    Smarthost,
    Named(DestinationName),
}

impl FromStr for Goal {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "smarthost" => Ok(Goal::Smarthost),
            text => text.parse().map(Goal::Named),
        }
    }
}

impl Reroute {
    pub fn run(self, config: &Config) -> Result<(), CliError> {
        let to = self.to.map(|goal| named(config, goal)).transpose()?;
        let filter = Filter {
            ids: self.ids,
            from: self.from,
            to: self.recipient,
            destination: self.destination,
            state: None,
        };
        if filter.is_open() && !self.all {
            return Err(CliError::Usage(
                "say which messages: ids, --destination, --from, --recipient, or --all",
            ));
        }
        carry_out(config, filter, Change::Reroute(to), self.json)
    }
}

fn named(config: &Config, goal: Goal) -> Result<DestinationName, CliError> {
    let name = match goal {
        Goal::Named(name) => name,
        Goal::Smarthost => {
            let smarthost = config.smtp.relay.smarthost.0.as_ref();
            let name = smarthost.and_then(|hop| hop.to_string().parse().ok());
            return name.ok_or(CliError::Usage(
                "there is no smarthost: `smtp.relay.smarthost` is not set",
            ));
        }
    };
    match config.domains.iter().any(|d| d.as_str() == name.as_str()) {
        true => Err(CliError::Usage(
            "that domain is delivered here: nothing can be sent to it by its MX; name a host and \
             its port",
        )),
        false => Ok(name),
    }
}
