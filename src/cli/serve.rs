//! `palomar serve`: the server, until it is told to stop.

use std::io::IsTerminal as _;

use clap::Args;

use super::Site;
use super::error::CliError;
use crate::server;

#[derive(Debug, Args)]
pub struct Serve {}

impl Serve {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        // Read again at SIGHUP, wherever the process stands then.
        let path = std::path::absolute(site.path()).ok();
        let terminal = std::io::stderr().is_terminal();
        server::serve(config, path, terminal, |_| {}).map_err(CliError::Server)
    }
}
