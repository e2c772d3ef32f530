//! `palomar domain`: the domains whose mail is delivered here.

use clap::Subcommand;

use super::error::{CliError, Unanswered};
use super::print::{out, out_json, out_table};
use super::{Site, admin};
use crate::directory::{Answer, Command};

#[derive(Debug, Subcommand)]
pub enum Domain {
    /// Take mail for a domain; print the DNS lines with `palomar check` afterwards
    Add {
        name: String,
        /// Every address of the new domain is the same address of this one
        #[arg(long, value_name = "DOMAIN")]
        alias_of: Option<String>,
    },
    /// List all domains
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take no more mail for a domain that nobody has an address in
    Remove { name: String },
}

impl Domain {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        match self {
            Domain::Add { name, alias_of } => {
                let command = Command::DomainAdd {
                    name: name.clone(),
                    alias_of,
                };
                done(
                    admin::directory(&config, command)?,
                    &format!("added {name}"),
                )
            }
            Domain::List { json } => match admin::directory(&config, Command::DomainList)? {
                Answer::Domains { domains } if json => out_json(&domains),
                Answer::Domains { domains } => {
                    let rows = domains.into_iter().map(|domain| {
                        let from = if domain.in_config {
                            "configuration"
                        } else {
                            "command"
                        };
                        vec![
                            domain.name,
                            domain.alias_of.unwrap_or_default(),
                            from.to_owned(),
                        ]
                    });
                    out_table(&["DOMAIN", "ALIAS OF", "ADDED BY"], rows.collect())
                }
                _ => Err(CliError::unanswered(
                    config.admin_socket(),
                    Unanswered::NotAnAnswer,
                )),
            },
            Domain::Remove { name } => {
                let command = Command::DomainRemove { name: name.clone() };
                done(
                    admin::directory(&config, command)?,
                    &format!("removed {name}"),
                )
            }
        }
    }
}

/// What was done, and what the directory has to say about it.
pub(super) fn done(answer: Answer, what: &str) -> Result<(), CliError> {
    let mut text = format!("{what}\n");
    if let Answer::Done { notes } = answer {
        for note in notes {
            text.push_str(&format!("note: {}\n", super::print::shown(&note)));
        }
    }
    out(&text)
}
