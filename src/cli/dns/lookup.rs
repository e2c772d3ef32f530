//! `palomar dns lookup`: asks as the server asks when it sends mail: the same servers, time-outs,
//! aliases and signatures.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Site;
use crate::cli::error::CliError;
use crate::cli::print::{out, out_json, out_table};
use crate::dns::{Answer, DnsError, Kind, Outcome, Rdata, Resolver, Settings};
use crate::runtime;

#[derive(Debug, Args)]
pub struct Lookup {
    /// A domain name, in any script, or an address
    name: String,
    /// A, AAAA, CNAME, MX, PTR, SOA, SRV, TLSA or TXT [default: A and AAAA; PTR for an address]
    #[arg(value_name = "TYPE")]
    kind: Option<Kind>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One question and what became of it.
struct Row {
    kind: Kind,
    outcome: Result<Answer, DnsError>,
    took: Duration,
}

impl Lookup {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let settings = Settings::load(&config).map_err(CliError::Resolver)?;
        let (name, kinds) = (self.name.clone(), self.kinds());
        let rows = runtime::block_on(async move {
            let resolver = Resolver::new(&settings, Arc::default());
            let mut rows = Vec::new();
            for kind in kinds {
                let began = runtime::now();
                let outcome = match (name.parse::<IpAddr>(), kind) {
                    (Ok(address), Kind::Ptr) => resolver.reverse(address).await,
                    _ => resolver.lookup(&name, kind).await,
                };
                let took = runtime::now().saturating_duration_since(began);
                rows.push(Row {
                    kind,
                    outcome,
                    took,
                });
            }
            rows
        });
        let rows = rows.map_err(CliError::Runtime)?;
        match self.json {
            true => out_json(&rows.iter().map(Row::json).collect::<Vec<_>>())?,
            false => print(&rows)?,
        }
        self.conclude(rows)
    }

    fn kinds(&self) -> Vec<Kind> {
        match self.kind {
            Some(kind) => vec![kind],
            None if self.name.parse::<IpAddr>().is_ok() => vec![Kind::Ptr],
            None => vec![Kind::A, Kind::Aaaa],
        }
    }

    /// Well where there is any record.
    fn conclude(self, rows: Vec<Row>) -> Result<(), CliError> {
        let found = |row: &Row| {
            let outcome = row.outcome.as_ref();
            outcome.is_ok_and(|answer| answer.outcome == Outcome::Records)
        };
        if rows.iter().any(found) {
            return Ok(());
        }
        let mut missing = "no such record";
        for row in rows {
            match row.outcome {
                Err(error) => {
                    let name = self.name;
                    return Err(CliError::Dns { name, error });
                }
                Ok(answer) if answer.outcome == Outcome::NoName => missing = "no such name",
                Ok(_) => {}
            }
        }
        Err(CliError::Absent(format!("{}: {missing}", self.name)))
    }
}

impl Row {
    fn ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    fn json(&self) -> serde_json::Value {
        match &self.outcome {
            Ok(answer) => json!({
                "type": self.kind.name(),
                "outcome": answer.outcome.word(),
                "name": answer.name,
                "aliases": answer.aliases,
                "records": answer.records.iter().map(Rdata::to_string).collect::<Vec<_>>(),
                "ttl": answer.ttl,
                "security": answer.security.to_string(),
                "server": answer.server.to_string(),
                "ms": self.ms(),
            }),
            Err(error) => json!({
                "type": self.kind.name(),
                "outcome": error.word(),
                "error": error.to_string(),
                "ms": self.ms(),
            }),
        }
    }
}

fn print(rows: &[Row]) -> Result<(), CliError> {
    let mut lines = Vec::new();
    let mut notes = String::new();
    for row in rows {
        let answer = match &row.outcome {
            Ok(answer) => answer,
            Err(error) => {
                notes += &format!("{}: {error}, after {} ms\n", row.kind.name(), row.ms());
                continue;
            }
        };
        for record in &answer.records {
            lines.push(vec![
                answer.name.clone(),
                answer.ttl.to_string(),
                row.kind.name().to_owned(),
                record.to_string(),
            ]);
        }
        let found = match answer.outcome {
            Outcome::Records => "found",
            Outcome::NoData => "no such record",
            Outcome::NoName => "no such name",
        };
        notes += &format!(
            "{}: {found}, {}, from {} in {} ms\n",
            row.kind.name(),
            answer.security,
            answer.server,
            row.ms()
        );
    }
    if !lines.is_empty() {
        out_table(&["NAME", "TTL", "TYPE", "DATA"], lines)?;
    }
    out(&notes)
}
