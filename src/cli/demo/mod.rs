//! `palomar demo`: the whole server with embedded defaults, two users and some mail, on high
//! loopback ports. `--pull-the-plug` shows that a crash loses nothing.
//!
//! `home` is the folder and what is remembered in it; `letters` is the mail, `seed` puts it in
//! through the server's own doors with `client`, `welcome` tells how to connect, `plug` is the
//! crash. Everything is on 127.0.0.1, where log-in without TLS is allowed for trying by hand.

mod client;
mod error;
mod home;
mod letters;
mod plug;
mod seed;
#[cfg(test)]
mod tests;
mod welcome;

use std::path::PathBuf;
use std::sync::mpsc;

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};

use super::Site;
use super::error::CliError;
use super::print::out;
use crate::server;
pub use error::DemoError;
use home::{Home, Ports};

const FOLDER: &str = "palomar-demo";
const PLUG_FOLDER: &str = "palomar-plug";

#[derive(Debug, Args)]
pub struct Demo {
    /// Where everything is kept [default: palomar-demo, or palomar-plug with --pull-the-plug]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Use nine ports from this one on, instead of 2525, 2587, 2465, 2143, 2993, 2110, 2995, 2424
    /// and 2925
    #[arg(long, value_name = "BASE", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    ports: Option<u16>,
    /// Print how to connect as one line of JSON
    #[arg(long)]
    json: bool,
    /// Load a server of its own, kill -9 it, start it again, and count what it acknowledged
    #[arg(long, conflicts_with = "json")]
    pull_the_plug: bool,
    /// How long to go on pulling
    #[arg(long, default_value_t = 15, requires = "pull_the_plug")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

impl Demo {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        if site.given.is_some() {
            return Err(CliError::Usage(
                "the demo brings its own configuration; leave out --config, or use palomar serve",
            ));
        }
        if self.pull_the_plug {
            let folder = self.data.unwrap_or_else(|| PathBuf::from(PLUG_FOLDER));
            let ports = self.ports.map_or(Ports::PLUG, Ports::from_base);
            return plug::run(&folder, ports, self.seconds);
        }
        let folder = self.data.unwrap_or_else(|| PathBuf::from(FOLDER));
        let ports = self.ports.map_or(Ports::DEMO, Ports::from_base);
        let home = Home::open(&folder, ports)?;
        let (config, path) = (home.config()?, home.config_path());
        let (failed, failure) = mpsc::sync_channel(1);
        server::serve(config, Some(path), false, move |_| {
            let welcomed = seed::sow(home).and_then(|home| {
                out(&match self.json {
                    true => welcome::json(&home),
                    false => welcome::text(&home),
                })
            });
            if let Err(error) = welcomed {
                let _ = failed.send(error);
                // As Ctrl-C would: the server drains.
                let _ = kill_process(getpid(), Signal::TERM);
            }
        })?;
        // Without a demo there is nothing to try: a failure to prepare it is one of the command.
        failure.try_recv().map_or(Ok(()), Err)
    }
}
