//! `palomar explain`: everything the log knows of one message or session, as a story.
//!
//! First the facts, each from the line that has it, then the lines themselves in their order. The
//! log holds envelope data only, and so does this.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::Site;
use super::error::CliError;
use super::log::logfmt;
use super::print::{counted, out, out_json, shown, when};
use crate::base::{TraceId, UnixMs};
use crate::observe::event;
use crate::observe::reader::{Entry, Query, newest_first};

/// More lines than this make no story.
const LINES_MAX: usize = 10_000;

/// A session may have been open this long before it brought the message.
const SESSION_MS_MAX: i64 = 86_400_000;

#[derive(Debug, Args)]
pub struct Explain {
    /// As in `250 2.0.0 queued as ID`, in a Received line, or in session= and message= of the log
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found, oldest first.
pub(super) enum Found {
    /// Lines of a message, and of the session that brought it.
    Message(Vec<Entry>),
    Session(Vec<Entry>),
}

impl Explain {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let directory = config.log_directory();
        let search = |query: Query| {
            let (mut entries, trouble) = newest_first(&directory, &query, LINES_MAX);
            entries.reverse();
            match trouble {
                Some(error) if entries.is_empty() => Err(CliError::File {
                    path: directory.clone(),
                    error,
                }),
                _ => Ok(entries),
            }
        };
        let found = find(&self.id, search)?;
        match self.json {
            true => out_json(&found.to_json(&self.id)),
            false => out(&found.to_text(&self.id)),
        }
    }
}

/// Looks for `id` as a message, then as a session.
pub(super) fn find(
    id: &str,
    search: impl Fn(Query) -> Result<Vec<Entry>, CliError> + Copy,
) -> Result<Found, CliError> {
    // The id says when it was given: older files need not be opened.
    let given = id.parse::<TraceId>().ok().map(TraceId::time);
    let since = given.map(|given| UnixMs(given.0 - SESSION_MS_MAX));
    let message = Some(id.to_owned());
    let mut entries = search(Query {
        message,
        since,
        ..Query::default()
    })?;
    if entries.is_empty() {
        let session = Some(id.to_owned());
        let entries = search(Query {
            session,
            since,
            ..Query::default()
        })?;
        return match entries.is_empty() {
            true => Err(CliError::NothingKnown { id: id.to_owned() }),
            false => Ok(Found::Session(entries)),
        };
    }
    let brought_by = entries.iter().find_map(|entry| entry.get("session"));
    if let Some(session) = brought_by {
        let of_session = search(Query {
            session: Some(session),
            since,
            ..Query::default()
        })?;
        // What the session did for other messages is their story.
        entries.extend(
            of_session
                .into_iter()
                .filter(|entry| entry.get("message").is_none()),
        );
    }
    entries.extend(readings(&entries, since, search)?);
    entries.sort_by_key(|entry| entry.time);
    entries.dedup_by(|a, b| a.line == b.line);
    Ok(Found::Message(entries))
}

/// Who read it: those lines name the mailbox and the UID, not the message.
fn readings(
    entries: &[Entry],
    since: Option<UnixMs>,
    search: impl Fn(Query) -> Result<Vec<Entry>, CliError>,
) -> Result<Vec<Entry>, CliError> {
    let mut found = Vec::new();
    for placed in entries
        .iter()
        .filter(|entry| is(entry, event::MESSAGE_PLACED))
    {
        let user = placed.get("account");
        if user.is_none() {
            continue;
        }
        let of_account = search(Query {
            user,
            since,
            ..Query::default()
        })?;
        let same = |entry: &Entry| {
            let equal = |name: &str| entry.get(name) == placed.get(name);
            is(entry, event::MESSAGE_FETCHED_FIRST) && equal("mailbox") && equal("uid")
        };
        found.extend(of_account.into_iter().find(|entry| same(entry)));
    }
    Ok(found)
}

impl Found {
    pub(super) fn to_json(&self, id: &str) -> Value {
        let (kind, entries) = self.parts();
        let facts: serde_json::Map<String, Value> =
            self.facts(id)
                .into_iter()
                .fold(serde_json::Map::new(), |mut map, (name, fact)| {
                    let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        list.push(fact.into());
                    }
                    map
                });
        let lines: Vec<Value> = entries
            .iter()
            .map(|entry| {
                entry
                    .fields()
                    .map(|(k, v)| (k.to_owned(), v.clone()))
                    .collect()
            })
            .map(Value::Object)
            .collect();
        json!({ "id": id, "kind": kind, "facts": facts, "log": lines })
    }

    pub(super) fn to_text(&self, id: &str) -> String {
        let (kind, entries) = self.parts();
        let mut text = format!("{kind} {}\n", shown(id));
        let mut last = "";
        for (name, fact) in &self.facts(id) {
            let label = if *name == last { "" } else { name };
            let _ = writeln!(text, "  {label:<11} {}", shown(fact));
            last = name;
        }
        let _ = writeln!(text, "\nwhat the log says");
        for entry in entries {
            let _ = write!(text, "  {}", logfmt(entry));
        }
        text
    }

    fn parts(&self) -> (&'static str, &[Entry]) {
        match self {
            Found::Message(entries) => ("message", entries),
            Found::Session(entries) => ("session", entries),
        }
    }

    fn facts(&self, id: &str) -> Vec<(&'static str, String)> {
        match self {
            Found::Message(entries) => message_facts(entries, id),
            Found::Session(entries) => session_facts(entries),
        }
    }
}

fn message_facts(entries: &[Entry], id: &str) -> Vec<(&'static str, String)> {
    let ours = |entry: &&Entry| entry.get("message").as_deref() == Some(id);
    let of = |name: &'static str| entries.iter().filter(ours).filter(move |e| is(e, name));
    let mut facts = connection_facts(entries);
    let mut note = |name, fact: Option<String>| facts.extend(fact.map(|fact| (name, fact)));
    note(
        "sender",
        entries
            .iter()
            .filter(ours)
            .find_map(|e| path(e, &["sender", "from"])),
    );
    let recipient = |entry: &Entry| path(entry, &["recipient", "rcpt"]);
    for entry in of(event::RECIPIENT_ACCEPTED) {
        note("recipient", recipient(entry));
    }
    for entry in of(event::RECIPIENT_REFUSED) {
        note("refused", recipient(entry).map(|who| with_why(who, entry)));
    }
    note(
        "size",
        entries
            .iter()
            .filter(ours)
            .find_map(|e| Some(format!("{} bytes", size(e)?))),
    );
    for entry in of(event::MESSAGE_REFUSED) {
        note("refused", Some(with_why(time(entry), entry)));
    }
    for entry in of(event::MESSAGE_PLACED) {
        note("placed", Some(place(entry)));
    }
    for entry in of(event::MESSAGE_ACCEPTED) {
        note(
            "durable",
            Some(format!("{}, before the sender was told 250", time(entry))),
        );
    }
    if let Some(entry) = entries.iter().find(|e| is(e, event::MESSAGE_FETCHED_FIRST)) {
        note("first read", Some(reading(entry)));
    }
    for entry in of(event::MESSAGE_EXPUNGED) {
        note("expunged", Some(time(entry)));
    }
    facts
}

fn session_facts(entries: &[Entry]) -> Vec<(&'static str, String)> {
    let mut facts = connection_facts(entries);
    let messages: BTreeSet<String> = entries.iter().filter_map(|e| e.get("message")).collect();
    if let Some(closed) = entries.iter().find(|e| is(e, event::SESSION_CLOSED)) {
        facts.push(("closed", with_why(time(closed), closed)));
    }
    if !messages.is_empty() {
        facts.push(("brought", counted(messages.len() as u64, "message")));
        facts.extend(messages.into_iter().map(|id| ("message", id)));
    }
    facts
}

/// Who connected, from where, how.
fn connection_facts(entries: &[Entry]) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut note = |name, fact: Option<String>| facts.extend(fact.map(|fact| (name, fact)));
    let find = |name: &str| entries.iter().find(|entry| is(entry, name));
    let any = |name: &str| {
        entries
            .iter()
            .filter_map(|entry| entry.get(name))
            .find(|value| !value.is_empty())
    };
    note("protocol", any("proto"));
    note("session", any("session"));
    note("from", any("peer"));
    note("client", any("helo").or_else(|| any("client")));
    note("connected", find(event::SESSION_OPENED).map(time));
    match find(event::TLS_STARTED) {
        Some(tls) => {
            let facts = ["version", "cipher"].map(|name| tls.get(name).unwrap_or_default());
            note("TLS", Some(facts.join(" ").trim().to_owned()));
        }
        None => note(
            "TLS",
            any("tls").map(|tls| match tls.as_str() {
                "true" => "yes".to_owned(),
                "false" => "none: the connection was in the clear".to_owned(),
                _ => tls,
            }),
        ),
    }
    let logged_in = find(event::LOGIN_SUCCEEDED);
    note(
        "logged in",
        logged_in.and_then(|e| Some(format!("{} at {}", e.get("user")?, time(e)))),
    );
    facts
}

fn is(entry: &Entry, event: &str) -> bool {
    entry.get("event").as_deref() == Some(event)
}

fn time(entry: &Entry) -> String {
    entry.get("ts").unwrap_or_else(|| when(entry.time))
}

/// An address, without the brackets of a path (RFC 5321 4.1.2).
fn path(entry: &Entry, names: &[&str]) -> Option<String> {
    let path = names.iter().find_map(|name| entry.get(name))?;
    Some(match path.trim_matches(['<', '>']) {
        "" => "nobody: <>, as bounces have".to_owned(),
        address => address.to_owned(),
    })
}

fn size(entry: &Entry) -> Option<String> {
    ["bytes", "size"].iter().find_map(|name| entry.get(name))
}

fn with_why(what: String, entry: &Entry) -> String {
    match ["reason", "why", "reply"]
        .iter()
        .find_map(|name| entry.get(name))
    {
        Some(why) => format!("{what}: {why}"),
        None => what,
    }
}

fn place(entry: &Entry) -> String {
    let named = path(entry, &["recipient", "rcpt", "user"]);
    let account = || entry.get("account").map(|id| format!("account {id}"));
    let mut text = named.or_else(account).unwrap_or_default();
    if let Some(mailbox) = entry.get("mailbox") {
        let _ = write!(text, " in {mailbox}");
    }
    if let Some(uid) = entry.get("uid") {
        let _ = write!(text, " as UID {uid}");
    }
    let _ = write!(text, " at {}", time(entry));
    text
}

fn reading(entry: &Entry) -> String {
    let mut text = time(entry);
    for (word, name) in [
        ("by", "user"),
        ("over", "proto"),
        ("from", "peer"),
        ("session", "session"),
    ] {
        if let Some(value) = entry.get(name) {
            let _ = write!(text, " {word} {value}");
        }
    }
    text
}
