//! `palomar log`: searches the JSON log, current and old files, and follows it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use clap::Args;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::Value;

use super::Site;
use super::error::CliError;
use super::print::{out, shown};
use crate::base::{Span, UnixMs};
use crate::observe::reader::{Entry, Follower, Query, newest_first};

/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// `2026-03-01`
const DAY_BYTES: usize = 10;

#[derive(Debug, Args)]
pub struct Log {
    /// Lines of this user: who did it, sent it or received it
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// Lines of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Lines of this message
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// Not older: 15m, 2h, 3d ago, or 2026-03-01, or 2026-03-01T09:00:00, in UTC
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most as many lines, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    lines: usize,
    /// Go on with new lines as they are written, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Print the lines as they are in the file: JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Log {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let since = self.since.as_deref().map(|text| {
            since(text, Timestamp::now()).ok_or_else(|| CliError::NotATime(text.to_owned()))
        });
        let query = Query {
            user: self
                .user
                .as_deref()
                .map(|user| super::user::full_address(&config, user)),
            session: self.session,
            message: self.message,
            since: since.transpose()?,
            until: None,
        };
        let directory = config.log_directory();
        let failed = |error| CliError::File {
            path: directory.clone(),
            error,
        };
        // Opened first, so that no line falls between reading back and following.
        let follower = match self.follow {
            true => Some(Follower::open(&directory, query.clone()).map_err(failed)?),
            false => None,
        };
        let (mut entries, trouble) = newest_first(&directory, &query, self.lines);
        entries.reverse();
        let line = |entry: &Entry| match self.json {
            true => format!("{}\n", entry.line),
            false => logfmt(entry),
        };
        out(&entries.iter().map(line).collect::<String>())?;
        if let Some(mut follower) = follower {
            let mut shown: HashSet<String> = entries.into_iter().map(|entry| entry.line).collect();
            loop {
                let mut new = follower.poll().map_err(failed)?;
                new.retain(|entry| !shown.contains(&entry.line));
                shown.clear();
                out(&new.iter().map(line).collect::<String>())?;
                thread::sleep(FOLLOW_EVERY);
            }
        }
        match trouble {
            Some(error) => Err(failed(error)),
            None => Ok(()),
        }
    }
}

/// How long ago, a day, or an instant: UTC where it names no zone.
pub(super) fn since(text: &str, now: Timestamp) -> Option<UnixMs> {
    if let Ok(Span(ago)) = text.parse::<Span>() {
        let ago = i64::try_from(ago.as_millis()).ok()?;
        return Some(UnixMs(now.as_millisecond().checked_sub(ago)?));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(UnixMs(time.as_millisecond()));
    }
    // The parser of dates takes a whole time and drops its clock: a day is ten octets and no more.
    let time = match text.len() {
        DAY_BYTES => text.parse::<civil::Date>().ok()?.into(),
        _ => text.parse::<civil::DateTime>().ok()?,
    };
    // A zone in brackets is dropped as well.
    if text.contains('[') {
        return None;
    }
    let time = time.to_zoned(TimeZone::UTC).ok()?;
    Some(UnixMs(time.timestamp().as_millisecond()))
}

/// `2026-03-01T09:00:00.123Z info  login.succeeded user=ana@example.org ...`
pub(super) fn logfmt(entry: &Entry) -> String {
    let field = |name: &str| entry.get(name).unwrap_or_default();
    let mut line = format!("{} {:<5} {}", field("ts"), field("level"), field("event"));
    for (name, value) in entry.fields() {
        if matches!(name, "ts" | "level" | "event") {
            continue;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match text.is_empty() || text.contains([' ', '"', '=']) {
            true => write!(line, " {name}={:?}", shown(&text)),
            false => write!(line, " {name}={}", shown(&text)),
        }
        .expect("a String takes all");
    }
    line.push('\n');
    line
}
