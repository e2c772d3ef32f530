//! `palomar alias`: addresses that lead to other addresses.

use clap::Subcommand;

use super::domain::done;
use super::error::{CliError, Unanswered};
use super::print::{out_json, out_table};
use super::{Site, admin};
use crate::directory::{Answer, Command};

#[derive(Debug, Subcommand)]
pub enum Alias {
    /// Lead mail for FROM to every TO; targets are added to those that are there
    Add {
        /// An address, or @DOMAIN for all that nothing else names
        from: String,
        #[arg(required = true)]
        to: Vec<String>,
    },
    /// List all aliases
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take targets out, or the whole alias where none are given
    Remove { from: String, to: Vec<String> },
}

impl Alias {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        match self {
            Alias::Add { from, to } => {
                let what = format!("mail for {from} goes to {}", to.join(", "));
                done(
                    admin::directory(&config, Command::AliasAdd { from, to })?,
                    &what,
                )
            }
            Alias::List { json } => match admin::directory(&config, Command::AliasList)? {
                Answer::Aliases { aliases } if json => out_json(&aliases),
                Answer::Aliases { aliases } => {
                    let rows = aliases
                        .into_iter()
                        .map(|alias| vec![alias.from, alias.to.join(" ")]);
                    out_table(&["FROM", "TO"], rows.collect())
                }
                _ => Err(CliError::unanswered(
                    config.admin_socket(),
                    Unanswered::NotAnAnswer,
                )),
            },
            Alias::Remove { from, to } => {
                let what = match to.as_slice() {
                    [] => format!("removed {from}"),
                    some => format!("{from} goes no more to {}", some.join(", ")),
                };
                done(
                    admin::directory(&config, Command::AliasRemove { from, to })?,
                    &what,
                )
            }
        }
    }
}
