//! `palomar settle`: writes every message file that is due.

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::print::{out, out_json};
use super::{Site, admin};
use crate::web::AdminRequest;

#[derive(Debug, Args)]
pub struct Settle {
    /// Every mailbox of every account, which is what happens without it too
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Settle {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        admin::ask(&config, AdminRequest::Settle)?;
        if self.json {
            return out_json(&json!({ "settled": true }));
        }
        out(
            "settled: what was accepted before now is in the Maildir files, their names have the \
             flags, and all of it is on the disk\n",
        )
    }
}
