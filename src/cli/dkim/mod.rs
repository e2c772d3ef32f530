//! `palomar dkim`: the keys that domains sign with, from their making to their end.
//!
//! The private halves stay in the server's data; nothing here prints them. Whether the DNS shows a
//! key is asked from here, with the resolver that `palomar dns lookup` asks with.

mod import;
mod published;
mod rotate;
mod trial;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Site;
use super::conversation::Conversation;
use super::error::{CliError, Unanswered};
use super::print::{out, out_json, out_table, when};
use crate::base::{Span, UnitError};
use crate::config::Config;
use crate::directory::{Answer, Command, DkimCommand, DkimKey, KeyState};
use crate::policy::dkim::Algorithm;
use published::look;
pub(super) use published::{Seen, seen};

#[derive(Debug, Subcommand)]
pub enum Dkim {
    /// Make a key of each algorithm; they sign once they are published and activated
    Make(Make),
    /// Take over the private key that another server signs with, and its name
    Import(Import),
    /// List the keys of a domain, or all
    List {
        domain: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the records to paste into the zone
    Show {
        domain: String,
        selector: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have keys sign, once the DNS shows them; others of the same algorithm retire
    Activate {
        domain: String,
        /// [default: all that are new]
        #[arg(value_name = "SELECTOR")]
        selectors: Vec<String>,
        /// Though the DNS does not show them: what they sign nobody can verify
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a key sign no more; its record stays in the zone for a week
    Retire { domain: String, selector: String },
    /// Put the next pair in the place of the present one: run it until it says that it is done
    Rotate(rotate::Rotate),
    /// Forget a key for good
    Remove {
        domain: String,
        selector: String,
        /// Though it signs, or mail that it signed may still be on its way
        #[arg(long)]
        force: bool,
    },
    /// Sign a message file with the active keys, and print the header fields
    Test(Test),
}

#[derive(Debug, Args)]
pub struct Make {
    domain: String,
    /// Only this one, which every verifier knows
    #[arg(long)]
    rsa: bool,
    /// Only this one, which is small and new (RFC 8463)
    #[arg(long, conflicts_with = "rsa")]
    ed25519: bool,
    /// The key's name, for --rsa or --ed25519 [default: from algorithm and day, as r20260301]
    #[arg(long)]
    selector: Option<String>,
    /// The size of an RSA key: 2048, 3072 or 4096
    #[arg(long, default_value_t = 2048)]
    bits: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    domain: String,
    /// In PEM or DER, without a password
    file: PathBuf,
    /// The name under which its record stands in the zone
    #[arg(long)]
    selector: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// A message as it would leave; LF ends lines as well as CRLF
    file: PathBuf,
    /// How long the signature counts (7d) [default: as long as its key]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    lifetime: Option<Span>,
    /// Print the whole signed message
    #[arg(long)]
    whole: bool,
}

impl Dkim {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let line = Conversation::open(&config)?;
        let outcome = self.carry_out(&config, &line);
        line.conclude(outcome)
    }

    fn carry_out(self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        match self {
            Dkim::Make(make) => make.run(config, line),
            Dkim::Import(import) => import.run(config, line),
            Dkim::List { domain, json } => {
                let keys = keys(config, line, DkimCommand::List { domain })?;
                if json { out_json(&keys) } else { table(&keys) }
            }
            Dkim::Show {
                domain,
                selector,
                json,
            } => show(config, line, &domain, selector.as_deref(), json),
            Dkim::Activate {
                domain,
                selectors,
                force,
                json,
            } => {
                let keys = activate(config, line, &domain, &selectors, force)?;
                if json { out_json(&keys) } else { told(&keys) }
            }
            Dkim::Retire { domain, selector } => told(&keys(
                config,
                line,
                DkimCommand::Retire { domain, selector },
            )?),
            Dkim::Rotate(rotate) => rotate.run(config, line),
            Dkim::Remove {
                domain,
                selector,
                force,
            } => {
                let remove = DkimCommand::Remove {
                    domain,
                    selector,
                    force,
                };
                let removed = keys(config, line, remove)?;
                let told = |key: &DkimKey| {
                    let name = key.record().map(|record| record.name).unwrap_or_default();
                    format!("removed {}; take {name} out of the zone\n", key.selector)
                };
                out(&removed.iter().map(told).collect::<String>())
            }
            Dkim::Test(test) => test.run(config, line),
        }
    }
}

impl Make {
    fn run(self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        let algorithms = match (self.rsa, self.ed25519) {
            (true, _) => vec![Algorithm::Rsa],
            (_, true) => vec![Algorithm::Ed25519],
            _ => vec![Algorithm::Rsa, Algorithm::Ed25519],
        };
        let json = self.json;
        let make = DkimCommand::Make {
            domain: self.domain,
            algorithms,
            selector: self.selector,
            rsa_bits: self.bits,
        };
        let made = keys(config, line, make)?;
        if json {
            out_json(&made)
        } else {
            out(&to_publish(&made))
        }
    }
}

/// One command whose answer is keys.
fn keys(
    config: &Config,
    line: &Conversation,
    command: DkimCommand,
) -> Result<Vec<DkimKey>, CliError> {
    match line.directory(Command::Dkim(command))? {
        Answer::DkimKeys { keys } => Ok(keys),
        _ => Err(CliError::unanswered(
            config.admin_socket(),
            Unanswered::NotAnAnswer,
        )),
    }
}

/// All keys of a domain.
pub(super) fn keys_of(
    config: &Config,
    line: &Conversation,
    domain: &str,
) -> Result<Vec<DkimKey>, CliError> {
    let domain = Some(domain.to_owned());
    keys(config, line, DkimCommand::List { domain })
}

/// Activates once each key is seen in the DNS, or by `force`.
fn activate(
    config: &Config,
    line: &Conversation,
    domain: &str,
    selectors: &[String],
    force: bool,
) -> Result<Vec<DkimKey>, CliError> {
    let named = |key: &DkimKey| match selectors {
        [] => key.state == KeyState::New,
        some => some
            .iter()
            .any(|one| one.eq_ignore_ascii_case(&key.selector)),
    };
    let mut chosen = keys_of(config, line, domain)?;
    chosen.retain(named);
    if !force {
        for (key, seen) in chosen.iter().zip(look(config, &chosen)?) {
            if seen != Seen::Shown {
                let name = key.record().map(|record| record.name).unwrap_or_default();
                return Err(CliError::NotPublished { name, seen });
            }
        }
    }
    // Those that were looked for and no others; where there are none the directory says why.
    let selectors = match selectors {
        [] => chosen.iter().map(|key| key.selector.clone()).collect(),
        some => some.to_vec(),
    };
    let domain = domain.to_owned();
    keys(config, line, DkimCommand::Activate { domain, selectors })
}

fn show(
    config: &Config,
    line: &Conversation,
    domain: &str,
    selector: Option<&str>,
    json: bool,
) -> Result<(), CliError> {
    let mut shown = keys_of(config, line, domain)?;
    shown.retain(|key| selector.is_none_or(|one| one.eq_ignore_ascii_case(&key.selector)));
    if shown.is_empty() {
        return Err(CliError::Absent(format!(
            "{domain} has no such key; palomar dkim make {domain} makes a pair"
        )));
    }
    if json {
        let record = |key: &DkimKey| {
            let record = key.record()?;
            Some(serde_json::json!({
                "selector": key.selector, "name": record.name, "text": record.text,
                "line": record.zone_line(),
            }))
        };
        return out_json(&shown.iter().filter_map(record).collect::<Vec<_>>());
    }
    out(&zone_lines(&shown))
}

fn zone_lines(keys: &[DkimKey]) -> String {
    let lines = keys.iter().filter_map(DkimKey::record);
    lines.map(|record| record.zone_line() + "\n").collect()
}

/// What was made, as a piece of a zone file that says what comes next.
fn to_publish(made: &[DkimKey]) -> String {
    let domain = made.first().map_or("", |key| key.domain.as_str());
    format!(
        "; paste into the zone, then: palomar dkim activate {domain}\n{}",
        zone_lines(made)
    )
}

fn told(keys: &[DkimKey]) -> Result<(), CliError> {
    let line = |key: &DkimKey| {
        let what = match key.state {
            KeyState::New => "is new",
            KeyState::Active => "signs",
            KeyState::Retired => "signs no more; leave its record in the zone for 7 days",
        };
        format!(
            "{} of {} ({}) {what}\n",
            key.selector, key.domain, key.algorithm
        )
    };
    out(&keys.iter().map(line).collect::<String>())
}

/// `90d`, `12h`.
fn span(text: &str) -> Result<Span, String> {
    text.parse().map_err(|error: UnitError| error.to_string())
}

fn table(keys: &[DkimKey]) -> Result<(), CliError> {
    let rows = keys.iter().map(|key| {
        let since = match key.state {
            KeyState::New => Some(key.created),
            KeyState::Active => key.activated,
            KeyState::Retired => key.retired,
        };
        vec![
            key.domain.clone(),
            key.selector.clone(),
            key.algorithm.to_string(),
            key.bits.to_string(),
            key.state.to_string(),
            since.map(when).unwrap_or_default(),
        ]
    });
    out_table(
        &["DOMAIN", "SELECTOR", "ALGORITHM", "BITS", "STATE", "SINCE"],
        rows.collect(),
    )
}
