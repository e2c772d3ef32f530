//! `palomar queue shape`: how much one destination gets at a time.

use std::str::FromStr;

use clap::Args;

use super::{ask, not_an_answer};
use crate::base::{Span, UnixMs};
use crate::cli::error::CliError;
use crate::cli::print::{out, out_json, when};
use crate::config::Config;
use crate::queue::{Answer, Ask, DestinationName, Limited, Pause, Shaping};
use crate::runtime::unix_now;

#[derive(Debug, Args)]
pub struct Shape {
    /// A domain, or a HOST:PORT that mail was rerouted to
    destination: DestinationName,
    /// At most so many connections at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Option<u16>,
    /// At most so many messages in a minute
    #[arg(long, value_name = "N/min")]
    rate: Option<Rate>,
    /// Try nothing for so long (30m, 2h), or, without a time, until --resume
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "")]
    pause: Option<PauseFor>,
    /// End a pause; other limits stay
    #[arg(long, conflicts_with_all = ["pause", "connections", "rate"])]
    resume: bool,
    /// No limits of its own any more
    #[arg(long, conflicts_with_all = ["pause", "connections", "rate", "resume"])]
    clear: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate(u32);

#[derive(Clone, Copy, Debug)]
struct PauseFor(Option<Span>);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.strip_suffix("/min").unwrap_or(text);
        let count = count.parse().ok().filter(|n| (1..=60_000).contains(n));
        count
            .map(Rate)
            .ok_or("not a number of 1 to 60000, as in 30/min")
    }
}

impl FromStr for PauseFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(PauseFor(None)),
            text => match text.parse() {
                Ok(span) => Ok(PauseFor(Some(span))),
                Err(why) => Err(format!("{why}")),
            },
        }
    }
}

impl Shape {
    pub fn run(self, config: &Config) -> Result<(), CliError> {
        let shaping = match (self.clear, self.resume) {
            (true, _) => Shaping::Clear,
            (_, true) => Shaping::Resume,
            _ => Shaping::Set(Limited {
                connections: self.connections,
                per_minute: self.rate.map(|rate| rate.0),
                pause: self.pause.map(pause),
            }),
        };
        if shaping == Shaping::Set(Limited::default()) {
            return Err(CliError::Usage(
                "say what: --connections, --rate, --pause, --resume or --clear; palomar queue \
                 destinations shows what is set",
            ));
        }
        let asked = Ask::Shape {
            destination: self.destination,
            shaping,
        };
        let shaped = match ask(config, asked)? {
            Answer::Shaped(Some(shaped)) => shaped,
            Answer::TooManyShapes(_) => {
                return Err(CliError::Usage(
                    "too many destinations have limits; --clear takes those of one away",
                ));
            }
            _ => return Err(not_an_answer(config)),
        };
        if self.json {
            return out_json(&shaped);
        }
        let words = match words(&shaped.limits) {
            words if words.is_empty() => "no limits of its own".to_owned(),
            words => words,
        };
        out(&format!("{}: {words}\n", shaped.destination))
    }
}

fn pause(pause: PauseFor) -> Pause {
    match pause.0 {
        None => Pause::Open,
        Some(span) => {
            let ms = i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
            Pause::Until(UnixMs(unix_now().0.saturating_add(ms)))
        }
    }
}

/// For a table.
pub fn words(limits: &Limited) -> String {
    let connections = limits.connections.map(|n| match n {
        1 => "1 connection".to_owned(),
        n => format!("{n} connections"),
    });
    let rate = limits.per_minute.map(|n| format!("{n}/min"));
    let pause = match limits.pause.filter(|_| limits.is_paused(unix_now())) {
        None => None,
        Some(Pause::Open) => Some("paused".to_owned()),
        Some(Pause::Until(until)) => Some(format!("paused until {}", when(until))),
    };
    let all: Vec<String> = [connections, rate, pause].into_iter().flatten().collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let check = |text: &str, want: Option<u32>| {
            let got = text.parse::<Rate>().ok();
            assert_eq!(got.map(|rate| rate.0), want, "{text}");
        };
        check("30/min", Some(30));
        check("30", Some(30));
        check("0", None);
        check("30/h", None);
        check("99999999999", None);
    }
}
