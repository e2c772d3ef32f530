//! `palomar config`: the configuration as it is in effect.

use clap::Subcommand;

use super::Site;
use super::error::CliError;
use super::print::out;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its value; the output loads as the same configuration
    Show {
        /// Only keys that differ from their default
        #[arg(long)]
        changed: bool,
    },
    /// Tell what a key means, its range, its default and its value here
    Explain {
        /// As in limits.recipients_max
        key: String,
    },
    /// Print a commented file with every key at its default
    Sample,
}

impl ConfigCommand {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        match self {
            ConfigCommand::Show { changed: true } => out(&site.config()?.to_changed_table()),
            ConfigCommand::Show { changed: false } => out(&site.config()?.to_table()),
            ConfigCommand::Sample => out(&Config::sample()),
            ConfigCommand::Explain { key } => {
                // What a key means is worth knowing before there is a file that loads.
                let config = match site.config() {
                    Err(_) if site.given.is_none() => {
                        Config::parse(&Config::sample(), "sample").map_err(CliError::Config)?
                    }
                    other => other?,
                };
                match config.explain(&key) {
                    Some(text) => out(&text),
                    None => Err(CliError::NoSuchKey(key)),
                }
            }
        }
    }
}
