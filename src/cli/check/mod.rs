//! `palomar check`: what would go wrong, before users find out. Configuration, host, ports,
//! certificates, and the DNS lines to paste, each ticked or crossed by a real look-up.
//!
//! A finding is good, a warning, or bad: only bad ones make the command fail. It changes nothing
//! but a small file in the data directory, which it removes again.

mod dns;
mod host;
mod ports;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use clap::Args;
use serde::Serialize;

pub(super) use dns::{own_addresses, reverse_name};

use super::error::{CliError, Left};
use super::print::{out, out_json, shown};
use super::{Site, admin};
use crate::config::Config;

#[derive(Debug, Args)]
pub struct Check {
    /// Leave out DNS
    #[arg(long)]
    no_dns: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub area: &'static str,
    pub mark: Mark,
    pub what: String,
    /// What to do; empty where there is nothing to do.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Good,
    Warning,
    Bad,
}

impl Finding {
    pub fn good(area: &'static str, what: impl Into<String>) -> Self {
        Finding {
            area,
            mark: Mark::Good,
            what: what.into(),
            remedy: String::new(),
        }
    }

    pub fn warning(area: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            area,
            mark: Mark::Warning,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub fn bad(area: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            area,
            mark: Mark::Bad,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl Check {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        // A file that does not load ends here, with its lines and exit code 2.
        let config = site.config()?;
        let running = admin::is_running(&config);
        let mut findings = vec![Finding::good(
            "config",
            format!("{}", site.path().display()),
        )];
        findings.extend(postmaster(&config));
        findings.extend(host::look(&config));
        findings.extend(ports::look(&config, running));
        findings.extend(tls::look(&config));
        let records = match self.no_dns {
            true => Vec::new(),
            false => dns::look(&config, &domains(&config, running))?,
        };
        if self.json {
            let value = serde_json::json!({ "findings": findings, "dns": records });
            out_json(&value)?;
        } else {
            out(&to_text(&findings, io::stdout().is_terminal()))?;
            if !records.is_empty() {
                out(&dns::to_text(&records, io::stdout().is_terminal()))?;
            }
        }
        match findings
            .iter()
            .filter(|finding| finding.mark == Mark::Bad)
            .count()
        {
            0 => Ok(()),
            bad => Err(CliError::Left(Left::Checks, bad)),
        }
    }
}

/// RFC 5321 4.5.1: somebody reads postmaster@.
fn postmaster(config: &Config) -> Vec<Finding> {
    vec![match &config.postmaster {
        Some(address) => Finding::good("postmaster", format!("{address} reads postmaster@")),
        None => Finding::warning(
            "postmaster",
            "nobody reads postmaster@ and abuse@",
            "set `postmaster` to the address of a person",
        ),
    }]
}

/// Those of the configuration, and of a running server those added by command.
fn domains(config: &Config, running: bool) -> Vec<String> {
    use crate::directory::{Answer, Command};
    let mut domains: Vec<String> = config.domains.iter().map(ToString::to_string).collect();
    if running
        && let Ok(Answer::Domains { domains: listed }) =
            admin::directory(config, Command::DomainList)
    {
        for domain in listed {
            if !domains.contains(&domain.name) {
                domains.push(domain.name);
            }
        }
    }
    domains
}

fn to_text(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = sign(finding.mark, colour);
        let _ = writeln!(text, "{mark} {:<12} {}", finding.area, shown(&finding.what));
        if !finding.remedy.is_empty() {
            let _ = writeln!(text, "  {:<12} -> {}", "", shown(&finding.remedy));
        }
    }
    text
}

/// A tick, an exclamation mark or a cross.
pub(super) fn sign(mark: Mark, colour: bool) -> &'static str {
    match (mark, colour) {
        (Mark::Good, true) => "\x1b[32m✓\x1b[0m",
        (Mark::Warning, true) => "\x1b[33m!\x1b[0m",
        (Mark::Bad, true) => "\x1b[31m✗\x1b[0m",
        (Mark::Good, false) => "✓",
        (Mark::Warning, false) => "!",
        (Mark::Bad, false) => "✗",
    }
}
