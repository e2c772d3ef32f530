//! `palomar queue`: mail that waits to leave.

mod cat;
mod reroute;
mod shape;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::value::from_value;

use super::error::{CliError, Unanswered};
use super::print::{facts, out, out_json, out_table, when};
use super::{Site, admin};
use crate::base::{ByteSize, UnixMs};
use crate::config::Config;
use crate::queue::{Answer, Ask, Change, Changed, EntryRow, Filter, Listed, RecipientRow};
use crate::web::AdminRequest;

/// Rows of a list that nobody wanted longer.
const LIMIT: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Messages that wait, the oldest first
    List {
        #[command(flatten)]
        filter: Filtering,
        /// Only those in this state
        #[arg(long, value_parser = ["waiting", "held"])]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = LIMIT)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One message with all its recipients, and what was said about each
    Show {
        /// The id of `250 queued as ID`
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One message, octet for octet as it would leave
    Cat(cat::Cat),
    /// What waits for each domain, what it said last, and its limits
    Destinations {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What TLS on the way to other domains came to, as far as none of them was told
    Reports {
        /// Tell those that want reports now, of today as far as it has gone
        #[arg(long)]
        now: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try what waits at once, also where a destination is left alone since it did not answer
    Retry(Choice),
    /// Leave messages alone until they are released
    Hold(Choice),
    /// Let go what is held
    Release(Choice),
    /// Take messages out for good; their senders are not told
    Remove(Choice),
    /// Send messages elsewhere, at once: not to the hosts of their recipients' domains
    Reroute(reroute::Reroute),
    /// Limits for one destination, from now on and after a restart, too
    Shape(shape::Shape),
}

#[derive(Debug, Default, Args)]
pub struct Filtering {
    /// Part of the sender's address
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// Part of the recipient's address
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// The domain it goes to
    #[arg(long, value_name = "DOMAIN")]
    destination: Option<String>,
}

#[derive(Debug, Args)]
pub struct Choice {
    /// Ids of messages
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filtering,
    /// Every message
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Filtering {
    fn filter(self, ids: Vec<String>, state: Option<String>) -> Filter {
        let Filtering {
            from,
            to,
            destination,
        } = self;
        Filter {
            ids,
            from,
            to,
            destination,
            state,
        }
    }
}

impl Queue {
    /// What other mail servers' `mailq` asks for.
    pub fn everything() -> Queue {
        Queue::List {
            filter: Filtering::default(),
            state: None,
            limit: LIMIT,
            json: false,
        }
    }

    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        match self {
            Queue::List {
                filter,
                state,
                limit,
                json,
            } => list(&config, filter.filter(Vec::new(), state), limit, json),
            Queue::Show { id, json } => show(&config, id, json),
            Queue::Destinations { json } => destinations(&config, json),
            Queue::Reports { now, json } => reports(&config, now, json),
            Queue::Retry(choice) => change(&config, choice, Change::Retry),
            Queue::Hold(choice) => change(&config, choice, Change::Hold),
            Queue::Release(choice) => change(&config, choice, Change::Release),
            Queue::Remove(choice) => change(&config, choice, Change::Remove),
            Queue::Cat(cat) => cat.run(&config),
            Queue::Reroute(reroute) => reroute.run(&config),
            Queue::Shape(shape) => shape.run(&config),
        }
    }
}

fn ask(config: &Config, ask: Ask) -> Result<Answer, CliError> {
    let value = admin::ask(config, AdminRequest::Queue(ask))?;
    from_value(value)
        .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))
}

fn not_an_answer(config: &Config) -> CliError {
    CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer)
}

fn listed(config: &Config, filter: Filter, entries_max: usize) -> Result<Listed, CliError> {
    let asked = Ask::List {
        filter,
        entries_max,
    };
    match ask(config, asked)? {
        Answer::List(mut listed) => {
            listed.entries.truncate(entries_max);
            Ok(listed)
        }
        _ => Err(not_an_answer(config)),
    }
}

fn list(config: &Config, filter: Filter, limit: usize, json: bool) -> Result<(), CliError> {
    let listed = listed(config, filter, limit)?;
    if json {
        return out_json(&listed.entries);
    }
    if listed.total == 0 {
        return out("nothing waits\n");
    }
    let rows = listed.entries.iter().map(entry_cells).collect();
    let header = [
        "ID",
        "CAME",
        "SIZE",
        "FROM",
        "TO",
        "STATE",
        "DUE",
        "LAST ANSWER",
    ];
    out_table(&header, rows)?;
    match listed.total - listed.entries.len() {
        0 => Ok(()),
        more => out(&format!("and {more} more; --limit shows them\n")),
    }
}

fn entry_cells(entry: &EntryRow) -> Vec<String> {
    let open: Vec<&RecipientRow> = entry
        .recipients
        .iter()
        .filter(|r| r.state == "waiting" || r.state == "held")
        .collect();
    let to = match open.as_slice() {
        [] => String::new(),
        [one] => one.to.clone(),
        [one, rest @ ..] => format!("{} and {} more", one.to, rest.len()),
    };
    let states: BTreeSet<&str> = open.iter().map(|r| r.state.as_str()).collect();
    let said = open.iter().max_by_key(|r| r.tried);
    vec![
        entry.id.clone(),
        when(entry.came),
        ByteSize(entry.size).to_string(),
        entry.from.clone(),
        to,
        states.into_iter().collect::<Vec<_>>().join(", "),
        open.iter()
            .filter_map(|r| r.due)
            .min()
            .map(when)
            .unwrap_or_default(),
        said.and_then(|r| r.reply.clone()).unwrap_or_default(),
    ]
}

fn show(config: &Config, id: String, json: bool) -> Result<(), CliError> {
    let filter = Filter {
        ids: vec![id.clone()],
        ..Filter::default()
    };
    let listed = listed(config, filter, 1)?;
    let Some(entry) = listed.entries.first() else {
        return Err(CliError::NotQueued(id));
    };
    if json {
        return out_json(entry);
    }
    out(&facts(&[
        ("message", entry.id.clone()),
        ("from", entry.from.clone()),
        ("envelope id", entry.envelope_id.clone().unwrap_or_default()),
        ("class", entry.class.clone()),
        ("size", ByteSize(entry.size).to_string()),
        ("came", when(entry.came)),
        ("given up", when(entry.expires)),
    ]))?;
    let time = |at: Option<UnixMs>| at.map(when).unwrap_or_default();
    let cells = |r: &RecipientRow| {
        vec![
            r.to.clone(),
            r.destination.clone(),
            r.state.clone(),
            time(r.due),
            r.tries.to_string(),
            time(r.tried),
            r.host.clone().unwrap_or_default(),
            r.reply.clone().unwrap_or_default(),
        ]
    };
    let header = [
        "TO",
        "DESTINATION",
        "STATE",
        "DUE",
        "TRIES",
        "TRIED",
        "HOST",
        "ANSWER",
    ];
    out_table(&header, entry.recipients.iter().map(cells).collect())
}

fn destinations(config: &Config, json: bool) -> Result<(), CliError> {
    let Answer::Destinations(mut rows) = ask(config, Ask::Destinations)? else {
        return Err(not_an_answer(config));
    };
    rows.sort_by_key(|row| (u64::MAX - row.waiting - row.held, row.oldest));
    if json {
        return out_json(&rows);
    }
    if rows.is_empty() {
        return out("nothing waits\n");
    }
    let cells = rows.into_iter().map(|row| {
        vec![
            row.destination,
            row.waiting.to_string(),
            row.held.to_string(),
            row.oldest.map(when).unwrap_or_default(),
            row.next.map(when).unwrap_or_default(),
            row.limits.as_ref().map(shape::words).unwrap_or_default(),
            row.reply.unwrap_or_default(),
        ]
    });
    let header = [
        "DESTINATION",
        "WAITING",
        "HELD",
        "OLDEST",
        "NEXT TRY",
        "LIMITS",
        "LAST ANSWER",
    ];
    out_table(&header, cells.collect())
}

fn reports(config: &Config, now: bool, json: bool) -> Result<(), CliError> {
    let value = match now {
        true => admin::ask_running(config, &AdminRequest::Queue(Ask::SendReports))?,
        false => admin::ask(config, AdminRequest::Queue(Ask::Reports))?,
    };
    let Ok(Answer::Reports(rows)) = from_value(value) else {
        return Err(not_an_answer(config));
    };
    if json {
        return out_json(&rows);
    }
    if rows.is_empty() {
        return out("nothing was counted that nobody was told\n");
    }
    let domains: BTreeSet<&str> = rows.iter().map(|row| row.domain.as_str()).collect();
    let domains = domains.len();
    let cells = rows.iter().map(|row| {
        vec![
            row.day.clone(),
            row.domain.clone(),
            row.policy.clone(),
            row.successes.to_string(),
            row.failures.to_string(),
            row.why.clone().unwrap_or_default(),
        ]
    });
    let header = ["DAY", "DOMAIN", "POLICY", "GOOD", "FAILED", "WHY"];
    out_table(&header, cells.collect())?;
    match now {
        true => out(&format!(
            "those of {domains} domains that want reports are told: report.sent in the log\n"
        )),
        false => Ok(()),
    }
}

fn change(config: &Config, choice: Choice, change: Change) -> Result<(), CliError> {
    let filter = choice.filter.filter(choice.ids, None);
    if filter.is_open() && !choice.all {
        return Err(CliError::Usage(
            "say which messages: ids, --from, --to, --destination, or --all",
        ));
    }
    carry_out(config, filter, change, choice.json)
}

fn carry_out(config: &Config, filter: Filter, change: Change, json: bool) -> Result<(), CliError> {
    let asked = Ask::Change {
        filter,
        change: change.clone(),
    };
    let Answer::Changed(changed) = ask(config, asked)? else {
        return Err(not_an_answer(config));
    };
    if json {
        return out_json(&changed);
    }
    out(&format!("{}\n", told(&changed, &change)))
}

fn told(changed: &Changed, change: &Change) -> String {
    let Changed {
        messages,
        recipients,
        ..
    } = changed;
    let what = match change {
        Change::Retry => "due now",
        Change::Hold => "held",
        Change::Release => "released",
        Change::Remove => "removed",
        Change::Reroute(_) => "rerouted",
    };
    match messages {
        0 => format!("nothing that could be {what}"),
        _ => format!("{what}: messages {messages}, recipients {recipients}"),
    }
}
