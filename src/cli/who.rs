//! `palomar who`: every session on every shard.

use clap::Args;
use serde_json::value::from_value;

use super::error::{CliError, Unanswered};
use super::print::{out_json, out_table, when};
use super::{Site, admin};
use crate::session::Row;
use crate::web::AdminRequest;

#[derive(Debug, Args)]
pub struct Who {
    /// Only sessions of this user
    #[arg(long)]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Who {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let value = admin::ask_running(&config, &AdminRequest::Who)?;
        let rows: Vec<Row> = from_value(value)
            .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))?;
        let mut rows = rows;
        rows.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        if let Some(user) = &self.user {
            let user = super::user::full_address(&config, user);
            rows.retain(|row| row.user.eq_ignore_ascii_case(&user));
        }
        if self.json {
            return out_json(&rows);
        }
        let rows = rows.into_iter().map(|row| {
            let user = if row.user.is_empty() {
                "-".to_owned()
            } else {
                row.user
            };
            let tls = if row.tls.is_empty() {
                "none".to_owned()
            } else {
                row.tls
            };
            let shard = row.shard.to_string();
            vec![
                user,
                row.protocol,
                row.peer,
                tls,
                when(row.since),
                row.session,
                shard,
            ]
        });
        let header = [
            "USER", "PROTOCOL", "FROM", "TLS", "SINCE", "SESSION", "SHARD",
        ];
        out_table(&header, rows.collect())
    }
}
