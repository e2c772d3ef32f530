//! `palomar dkim rotate`: one step of putting the next pair in the place of the present one. Each
//! run does what can be done now, so that a timer may run it.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{activate, keys, keys_of, told, zone_lines};
use crate::base::{Span, UnixMs};
use crate::cli::conversation::Conversation;
use crate::cli::error::CliError;
use crate::cli::print::{out, out_json};
use crate::config::Config;
use crate::directory::{DkimCommand, DkimKey, KeyState};
use crate::policy::dkim::Algorithm;
use crate::runtime;

#[derive(Debug, Args)]
pub struct Rotate {
    domain: String,
    /// Begin only where an active key is as old as this (90d); for a timer
    #[arg(long, value_name = "SPAN", value_parser = super::span)]
    older_than: Option<Span>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rotate {
    pub fn run(self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        let all = keys_of(config, line, &self.domain)?;
        let new = all.iter().any(|key| key.state == KeyState::New);
        if new {
            let keys = activate(config, line, &self.domain, &[], false)?;
            return match self.json {
                true => out_json(&json!({ "step": "activated", "keys": keys })),
                false => told(&keys),
            };
        }
        if !self.is_due(&all, runtime::unix_now()) {
            return match self.json {
                true => out_json(&json!({ "step": "young", "keys": all })),
                false => out("nothing to do: the active keys are young\n"),
            };
        }
        let make = DkimCommand::Make {
            domain: self.domain.clone(),
            algorithms: vec![Algorithm::Rsa, Algorithm::Ed25519],
            selector: None,
            rsa_bits: rsa_bits(&all),
        };
        let made = keys(config, line, make)?;
        match self.json {
            true => out_json(&json!({ "step": "made", "keys": made })),
            false => out(&format!(
                "; paste into the zone, then run again: palomar dkim rotate {}\n{}",
                self.domain,
                zone_lines(&made)
            )),
        }
    }

    /// Without active keys, or with one that is old enough.
    fn is_due(&self, all: &[DkimKey], now: UnixMs) -> bool {
        let Some(span) = self.older_than else {
            return true;
        };
        let mut active = all
            .iter()
            .filter(|key| key.state == KeyState::Active)
            .peekable();
        active.peek().is_none() || active.any(|key| age(key, now) >= span.0)
    }
}

fn age(key: &DkimKey, now: UnixMs) -> Duration {
    let since = key.activated.unwrap_or(key.created);
    let ms = now.0.saturating_sub(since.0);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The next one is as large as the present one.
fn rsa_bits(all: &[DkimKey]) -> u32 {
    let active = |key: &&DkimKey| key.state == KeyState::Active && key.algorithm == Algorithm::Rsa;
    all.iter()
        .filter(active)
        .map(|key| key.bits)
        .max()
        .unwrap_or(2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(state: KeyState, activated_days: i64) -> DkimKey {
        DkimKey {
            domain: "a.example".into(),
            selector: "s".into(),
            algorithm: Algorithm::Rsa,
            bits: 3072,
            state,
            created: UnixMs(0),
            activated: Some(UnixMs(activated_days * 86_400_000)),
            retired: None,
            public: String::new(),
        }
    }

    #[test]
    fn a_rotation_begins_when_a_key_is_old() {
        #[track_caller]
        fn check(older_than: Option<&str>, keys: &[DkimKey], want: bool) {
            let rotate = Rotate {
                domain: "a.example".into(),
                older_than: older_than.map(|span| span.parse().unwrap()),
                json: false,
            };
            assert_eq!(rotate.is_due(keys, UnixMs(100 * 86_400_000)), want);
        }
        check(None, &[key(KeyState::Active, 99)], true);
        check(Some("90d"), &[key(KeyState::Active, 99)], false);
        check(
            Some("90d"),
            &[key(KeyState::Active, 99), key(KeyState::Active, 10)],
            true,
        );
        check(
            Some("90d"),
            &[key(KeyState::Retired, 1), key(KeyState::Active, 99)],
            false,
        );
        check(Some("90d"), &[], true);
        // A clock that went back is no reason.
        check(Some("90d"), &[key(KeyState::Active, 200)], false);
        assert_eq!(rsa_bits(&[key(KeyState::Active, 1)]), 3072);
        assert_eq!(rsa_bits(&[key(KeyState::Retired, 1)]), 2048);
    }
}
