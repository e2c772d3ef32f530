//! `palomar quota`: how full mailboxes are, and how full they may become.

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::error::CliError;
use super::mailbox::{address, read};
use super::print::{counted, facts, out, out_json, out_table};
use super::{Site, admin};
use crate::base::ByteSize;
use crate::config::Config;
use crate::directory::{Command, Limit, LimitOf, UserChange};
use crate::web::{AdminRequest, QuotaRow, Recounted};

#[derive(Debug, Subcommand)]
pub enum Quota {
    /// List how full every mailbox is, the fullest first
    List {
        /// Only those that are so full or fuller, in percent
        #[arg(long, value_name = "PERCENT", default_value_t = 0)]
        over: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one user's limits, where they come from, and the folders by size
    Show {
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set limits of one or many users; they are in effect at once, also for who is logged in
    Set(Set),
    /// Count all messages anew and correct the totals
    Recount {
        /// Everybody where none are named
        users: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct Set {
    #[arg(required = true)]
    users: Vec<String>,
    /// A size such as 2GB, unlimited, or class for that of the class
    #[arg(long, value_name = "SIZE", value_parser = super::user::limit)]
    bytes: Option<Limit>,
    /// A number, unlimited, or class for that of the class
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    messages: Option<Limit>,
}

fn number(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" | "none" => Ok(Limit::Unlimited),
        "class" => Ok(Limit::OfClass),
        text => {
            let number = text.parse::<u64>().map(Limit::Of);
            number.map_err(|_| "write a number, unlimited or class".to_owned())
        }
    }
}

impl Quota {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        match self {
            Quota::List { over, json } => {
                let mut rows = rows(&config, None)?;
                rows.retain(|row| row.percent >= over);
                rows.sort_by(|a, b| (b.percent, &a.address).cmp(&(a.percent, &b.address)));
                if json {
                    return out_json(&rows);
                }
                let header = ["USER", "CLASS", "USED", "OF", "MESSAGES", "OF", "FULL"];
                out_table(&header, rows.iter().map(line).collect())
            }
            Quota::Show { user, json } => {
                let rows = rows(&config, Some(&user))?;
                if json {
                    return out_json(&rows.first());
                }
                rows.iter().try_for_each(|row| out(&page(row)))
            }
            Quota::Set(set) => set.run(&config),
            Quota::Recount { users, json } => recount(&config, users, json),
        }
    }
}

fn rows(config: &Config, user: Option<&str>) -> Result<Vec<QuotaRow>, CliError> {
    let user = user.map(|user| address(config, user));
    let value = admin::ask(config, AdminRequest::Quotas { user })?;
    read(config, value)
}

fn line(row: &QuotaRow) -> Vec<String> {
    let none = || "-".to_owned();
    let is_limited = row.bytes_max.is_some() || row.messages_max.is_some();
    vec![
        row.address.clone(),
        row.class.clone(),
        ByteSize(row.bytes).rounded(),
        row.bytes_max
            .map_or_else(none, |max| ByteSize(max).rounded()),
        row.messages.to_string(),
        row.messages_max.map_or_else(none, |max| max.to_string()),
        if is_limited {
            format!("{} %", row.percent)
        } else {
            none()
        },
    ]
}

pub(super) fn page(row: &QuotaRow) -> String {
    let of = |limit: Option<String>, from: Option<LimitOf>| {
        let limit = limit.unwrap_or_else(|| "no limit".to_owned());
        match from {
            Some(LimitOf::User) => format!("{limit}, set for this user"),
            Some(LimitOf::Class) => format!("{limit}, that of class {}", row.class),
            Some(LimitOf::Site) => format!("{limit}, that of the site"),
            None => limit,
        }
    };
    let bytes = row.bytes_max.map(|max| ByteSize(max).rounded());
    let messages = row.messages_max.map(|max| max.to_string());
    let mut text = facts(&[
        ("user", row.address.clone()),
        ("class", row.class.clone()),
        (
            "used",
            format!(
                "{} ({} bytes), {}",
                ByteSize(row.bytes).rounded(),
                row.bytes,
                counted(row.messages, "message")
            ),
        ),
        ("bytes", of(bytes, row.bytes_max_of)),
        ("messages", of(messages, row.messages_max_of)),
        ("full", format!("{} %", row.percent)),
    ]);
    for folder in &row.folders {
        let size = ByteSize(folder.bytes).rounded();
        let name = super::print::shown(&folder.name);
        text.push_str(&format!("  {size:>10} {:>8}  {name}\n", folder.messages));
    }
    text
}

impl Set {
    fn run(self, config: &Config) -> Result<(), CliError> {
        if self.bytes.is_none() && self.messages.is_none() {
            let text = "nothing to set; give --bytes, --messages or both";
            return Err(CliError::Usage(text));
        }
        let change = UserChange {
            quota: self.bytes,
            quota_messages: self.messages,
            ..UserChange::default()
        };
        let command = |user: &String| Command::UserSet {
            address: super::user::full_address(config, user),
            change: change.clone(),
        };
        let commands: Vec<Command> = self.users.iter().map(command).collect();
        let (answers, trouble) = admin::directory_all(config, commands, |_| {});
        out(&format!(
            "set the limits of {}\n",
            counted(answers.len() as u64, "user")
        ))?;
        trouble.map_or(Ok(()), Err)
    }
}

fn recount(config: &Config, users: Vec<String>, json: bool) -> Result<(), CliError> {
    let request = |user: Option<String>| AdminRequest::Recount { user };
    let requests: Vec<AdminRequest> = match users.is_empty() {
        false => users
            .iter()
            .map(|user| request(Some(address(config, user))))
            .collect(),
        // One by one, so that each answer comes soon and there is progress to show.
        true if admin::is_running(config) => rows(config, None)?
            .into_iter()
            .map(|row| request(Some(row.address)))
            .collect(),
        true => vec![request(None)],
    };
    let bar = bar(requests.len() as u64);
    let progress = bar.clone();
    let answers = admin::ask_all(config, requests, move |_| progress.inc(1));
    bar.finish_and_clear();
    let mut all: Vec<Recounted> = Vec::new();
    for answer in answers? {
        all.extend(read::<Vec<Recounted>>(config, answer)?);
    }
    if json {
        return out_json(&all);
    }
    let wrong: Vec<&Recounted> = all.iter().filter(|one| one.count.is_corrected()).collect();
    for one in &wrong {
        let count = &one.count;
        out(&format!(
            "{}: {} bytes in {} messages, not {} in {}\n",
            super::print::shown(&one.address),
            count.bytes,
            count.messages,
            count.bytes_before,
            count.messages_before
        ))?;
    }
    out(&format!(
        "counted the mail of {}; {} corrected\n",
        counted(all.len() as u64, "user"),
        wrong.len()
    ))
}

fn bar(steps: u64) -> ProgressBar {
    if steps < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
    let bar = ProgressBar::new(steps);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
