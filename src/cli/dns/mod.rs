//! `palomar dns`: what the resolver that mail is sent with finds, and what the world should find of
//! our domains. Same servers, time-outs, aliases and signatures as when mail is sent.

mod check;
mod lookup;
mod spf;

use clap::Subcommand;

use super::Site;
use super::error::CliError;

#[derive(Debug, Subcommand)]
pub enum Dns {
    /// Look a name up, and tell whether DNSSEC vouches for the answer
    Lookup(lookup::Lookup),
    /// Look for what receivers look for: MX, addresses, SPF, DKIM, DMARC and more, and say what to
    /// put into the zone
    Check(check::Check),
}

impl Dns {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        match self {
            Dns::Lookup(lookup) => lookup.run(site),
            Dns::Check(check) => check.run(site),
        }
    }
}
