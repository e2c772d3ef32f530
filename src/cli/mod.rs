//! Cli: the command line, one file a subcommand.
//!
//! Each file has its arguments and its `run`. Whatever changes accounts goes through [`admin`]: to
//! the running server over its socket, or, where none runs, to the data directory itself. Results
//! go to standard output, as a table or with `--json` for scripts; errors and progress to standard
//! error, and an error says what to do next.
//!
//! Exit codes: 0 done; 1 refused or failed; 2 wrong arguments or configuration; 75 try again. Those
//! of `sendmail` are other mail servers' (sysexits.h).
//!
//! Everything here blocks, on the main thread. Deliberately absent: anything a server does; `serve`
//! and `demo` only call `server::serve`.

mod admin;
mod adopt;
mod alias;
mod check;
mod check_inbox;
mod config;
mod conversation;
mod demo;
mod dkim;
mod dns;
mod domain;
mod error;
mod explain;
mod import;
mod journal;
mod kick;
mod log;
mod mailbox;
mod password;
mod print;
mod queue;
mod quota;
mod repair;
mod scrub;
mod restore;
mod route;
mod sendmail;
mod serve;
mod settle;
#[cfg(test)]
mod tests;
mod user;
mod user_import;
mod who;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use error::CliError;

const DEFAULT_CONFIG: &str = "/etc/palomar/palomar.toml";

/// The whole mail service of an institution in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "palomar",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    /// The configuration [default: /etc/palomar/palomar.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    Serve(serve::Serve),
    /// Try everything: a server on high loopback ports with two users and some mail
    Demo(demo::Demo),
    /// Check configuration, host, ports, certificates and DNS before users do
    Check(check::Check),
    /// Accounts
    #[command(subcommand)]
    User(user::User),
    /// Domains whose mail is delivered here
    #[command(subcommand)]
    Domain(domain::Domain),
    /// Addresses that lead to other addresses
    #[command(subcommand)]
    Alias(alias::Alias),
    /// Take mail over from Maildirs, mbox files or single files, and compare it afterwards
    #[command(subcommand)]
    Import(import::Import),
    /// The keys that mail is signed with, so that others can see who sent it
    #[command(subcommand)]
    Dkim(dkim::Dkim),
    /// What the resolver that mail is sent with finds, and what it should find of our domains
    #[command(subcommand)]
    Dns(dns::Dns),
    /// Mail that waits to leave
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Send a message from a program of this host: what /usr/sbin/sendmail is a link to
    Sendmail(sendmail::Sendmail),
    /// Where mail for an address would go: hosts, addresses, what is asked of TLS, and why
    Route(route::Route),
    /// List who is connected
    Who(who::Who),
    /// End every session of a user
    Kick(kick::Kick),
    /// Search the log, or follow it
    Log(log::Log),
    /// The configuration as it is in effect
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tell all that is known of one message or session, by the id from its log lines, its Received
    /// line or its `250 queued as ID`
    Explain(explain::Explain),
    /// Make a Maildir++ tree, as Dovecot left it, the mail of an account: UIDs, flags and dates stay
    Adopt(adopt::Adopt),
    /// Write every message file that is due, so that any Maildir tool reads the present state
    Settle(settle::Settle),
    /// How full mailboxes are, and how full they may become
    #[command(subcommand)]
    Quota(quota::Quota),
    /// How full your own mailbox is: asks the server as your mail client does, from any machine
    CheckInbox(check_inbox::CheckInbox),
    /// What a user's mailboxes hold
    #[command(subcommand)]
    Mailbox(mailbox::Mailbox),
    /// Read and compare everything at rest: indexes, cached digests, messages
    Scrub(scrub::Scrub),
    /// Make index and cache of a user anew from what is left; shows first what it will do
    Repair(repair::Repair),
    /// Bring back removed messages and folders; shows first what it would do
    Restore(restore::Restore),
    /// Look at the journal, check it, or repair that of a stopped server that refuses to start
    #[command(subcommand)]
    Journal(journal::Journal),
}

/// Where the configuration is; loaded only by who needs it.
#[derive(Debug)]
struct Site {
    given: Option<PathBuf>,
}

impl Site {
    fn path(&self) -> &Path {
        self.given.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    fn config(&self) -> Result<Config, CliError> {
        Config::load(self.path()).map_err(CliError::Config)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(code) = sendmail::called() {
        return code;
    }
    let cli = Cli::parse();
    let site = Site { given: cli.config };
    if let Command::Sendmail(sendmail) = cli.command {
        return sendmail.run(&site);
    }
    match dispatch(cli.command, &site) {
        Ok(()) | Err(CliError::PipeClosed) => ExitCode::SUCCESS,
        Err(error) => {
            let text = error.render(io::stderr().is_terminal());
            // Where standard error is closed too there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(command: Command, site: &Site) -> Result<(), CliError> {
    match command {
        // It has exit codes of its own.
        Command::Sendmail(_) => Ok(()),
        Command::Serve(serve) => serve.run(site),
        Command::Demo(demo) => demo.run(site),
        Command::Check(check) => check.run(site),
        Command::User(user) => user.run(site),
        Command::Domain(domain) => domain.run(site),
        Command::Alias(alias) => alias.run(site),
        Command::Import(import) => import.run(site),
        Command::Dkim(dkim) => dkim.run(site),
        Command::Dns(dns) => dns.run(site),
        Command::Who(who) => who.run(site),
        Command::Kick(kick) => kick.run(site),
        Command::Log(log) => log.run(site),
        Command::Config(config) => config.run(site),
        Command::Explain(explain) => explain.run(site),
        Command::Adopt(adopt) => adopt.run(site),
        Command::Settle(settle) => settle.run(site),
        Command::Queue(queue) => queue.run(site),
        Command::Route(route) => route.run(site),
        Command::Quota(quota) => quota.run(site),
        Command::CheckInbox(check) => check.run(),
        Command::Mailbox(mailbox) => mailbox.run(site),
        Command::Scrub(scrub) => scrub.run(site),
        Command::Repair(repair) => repair.run(site),
        Command::Restore(restore) => restore.run(site),
        Command::Journal(journal) => journal.run(site),
    }
}
