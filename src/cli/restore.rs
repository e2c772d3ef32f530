//! `palomar restore`: brings back removed mail. Only ever adds, and shows first what it would do.
//!
//! It shows where a message was, when it came and went, and its size. Nothing of its headers: who
//! writes to whom is not the operator's to read, and what to restore is told by time and folder.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::from_value;

use super::error::{CliError, Unanswered};
use super::print::{counted, out, out_json, out_table, when};
use super::{Site, admin, log, user};
use crate::base::ByteSize;
use crate::config::Config;
use crate::store::{RestoreReport, RestoreRequest, RestoreRow, RestoreState};
use crate::web::AdminRequest;

/// Messages of one request to a running server.
const PART: u64 = 1_000;

#[derive(Debug, Args)]
pub struct Restore {
    /// The address, or a bare name in the first domain
    user: String,
    /// Only what was there at this moment: a time or a day (UTC where it names no zone),
    /// or how long ago (`2h`, `3d`). Flags are not those of that moment, but the last ones
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Only from this folder and those below it, by its name now or an earlier one. With --at the
    /// mailbox as it was: shows what is there still, too, and brings back what was moved elsewhere
    #[arg(long)]
    folder: Option<String>,
    /// Also messages that the user has in some folder
    #[arg(long)]
    duplicates: bool,
    /// Do it, and not only show it
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    done: bool,
    #[serde(flatten)]
    report: RestoreReport,
}

impl Restore {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let at = self.at.as_deref().map(|text| {
            let time = log::since(text, Timestamp::now());
            time.ok_or_else(|| CliError::NotATime(text.to_owned()))
        });
        let request = RestoreRequest {
            at: at.transpose()?,
            folder: self.folder.clone(),
            duplicates: self.duplicates,
            messages_max: 0,
        };
        let report = match self.yes {
            true => self.restore(&config, request)?,
            false => self.ask(&config, request)?,
        };
        if let (true, Some(folder)) = (report.is_unknown, &self.folder) {
            return Err(CliError::NoFolder {
                user: self.user.clone(),
                folder: folder.clone(),
            });
        }
        if self.json {
            let done = self.yes;
            return out_json(&Outcome { done, report });
        }
        self.print(&report)
    }

    fn ask(&self, config: &Config, request: RestoreRequest) -> Result<RestoreReport, CliError> {
        let user = match self.user.starts_with('#') {
            true => self.user.clone(),
            false => user::full_address(config, &self.user),
        };
        let value = admin::ask(config, AdminRequest::Restore { user, request })?;
        from_value(value)
            .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))
    }

    /// A running server does it in parts, so that none of them takes long.
    fn restore(&self, config: &Config, request: RestoreRequest) -> Result<RestoreReport, CliError> {
        let running = admin::is_running(config);
        let request = RestoreRequest {
            messages_max: if running { PART } else { u64::MAX },
            ..request
        };
        let mut whole = self.ask(config, request.clone())?;
        let mut more = running && whole.restored > 0;
        while more && whole.messages > 0 {
            let part = self.ask(config, request.clone())?;
            more = part.restored > 0;
            whole.go_on(part);
        }
        Ok(whole)
    }

    fn print(&self, report: &RestoreReport) -> Result<(), CliError> {
        let as_it_was = self.at.is_some() && self.folder.is_some();
        let shown = |row: &&RestoreRow| {
            as_it_was || !matches!(row.state, RestoreState::There | RestoreState::Duplicate)
        };
        let rows: Vec<_> = report.rows.iter().filter(shown).map(cells).collect();
        if !rows.is_empty() {
            let header = ["FOLDER", "UID", "STATE", "REMOVED", "RECEIVED", "SIZE"];
            out_table(&header, rows)?;
        }
        out(&self.told(report))
    }

    fn told(&self, report: &RestoreReport) -> String {
        let mut text = String::new();
        let mut say = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &report.rows {
            *states.entry(state(row.state)).or_default() += 1;
        }
        let of = |state: RestoreState| states.get(self::state(state)).copied().unwrap_or(0);
        if !report.folders.is_empty() {
            let made = if self.yes {
                "made again"
            } else {
                "to be made again"
            };
            say(format!("folders {made}: {}", report.folders.join(", ")));
        }
        let there = of(RestoreState::There) + of(RestoreState::Duplicate);
        if there > 0 {
            let messages = counted(there, "message");
            say(format!(
                "{messages} left alone: the user has them, or gets them in another folder \
                 (--duplicates restores them too)"
            ));
        }
        let gone = of(RestoreState::Gone) + of(RestoreState::Damaged);
        if gone > 0 {
            say(format!(
                "{} cannot be restored: kept no more, or not as it was",
                counted(gone, "message")
            ));
        }
        if self.at.is_some() && (report.messages > 0 || report.restored > 0) {
            say(
                "flags and keywords are those that the messages had last; what they were at that \
                 moment is not kept"
                    .to_owned(),
            );
        }
        if report.damaged > 0 {
            say(format!(
                "{} of the history cannot be read; what they tell of is not shown",
                counted(report.damaged, "part")
            ));
        }
        if report.left_out > 0 {
            say(format!(
                "{} not listed",
                counted(report.left_out, "more message")
            ));
        }
        let above: Vec<String> = [
            (report.over_quota > 0).then(|| ByteSize(report.over_quota).to_string()),
            (report.over_quota_messages > 0)
                .then(|| counted(report.over_quota_messages, "message")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !above.is_empty() {
            say(format!(
                "the mailbox {} {} above its quota: no new mail comes in until that ends",
                if self.yes { "is" } else { "would be" },
                above.join(" and ")
            ));
        }
        if self.yes {
            say(format!("{} restored", counted(report.restored, "message")));
            if report.messages > 0 {
                let left = counted(report.messages, "message");
                say(format!("{left} still to be restored; run it again"));
            }
        } else if report.messages > 0 || !report.folders.is_empty() {
            say(format!(
                "{} ({}) can be restored; nothing was changed; --yes does it",
                counted(report.messages, "message"),
                ByteSize(report.bytes)
            ));
        } else {
            say("nothing to restore".to_owned());
        }
        text
    }
}

fn cells(row: &RestoreRow) -> Vec<String> {
    vec![
        row.folder.clone(),
        row.uid.to_string(),
        state(row.state).to_owned(),
        row.removed.map_or("-".to_owned(), when),
        when(row.received),
        row.size.to_string(),
    ]
}

fn state(of: RestoreState) -> &'static str {
    match of {
        RestoreState::Removed => "removed",
        RestoreState::Restored => "restored",
        RestoreState::There => "there",
        RestoreState::Duplicate => "duplicate",
        RestoreState::Gone => "gone",
        RestoreState::Damaged => "damaged",
    }
}
