//! palomar-load: drives a mail server from outside and holds it to what it acknowledged.
//!
//! `roundtrip` sends by SMTP or LMTP over many sessions and waits until IMAP shows every message.
//! `crash` starts a server, loads it, kills it with SIGKILL at random moments, starts it again,
//! and compares what stands there with a ledger of what was acknowledged.
//!
//! It imports nothing of the server: its own idea of the truth is `ledger.rs`.

mod crash;
mod imap;
mod ledger;
mod roundtrip;
mod server;
mod smtp;
mod worker;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "palomar-load", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send messages and wait until each is visible by IMAP; prints rates and percentiles.
    Roundtrip(roundtrip::Options),
    /// Kill a server again and again under load; fails when an acknowledged change is missing.
    Crash(crash::Options),
}

fn main() -> std::process::ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Roundtrip(options) => roundtrip::run(&options),
        Command::Crash(options) => crash::run(&options),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("palomar-load: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
