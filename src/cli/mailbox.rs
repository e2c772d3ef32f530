//! `palomar mailbox`: what a user's mailboxes hold, on a running server or a stopped one.

use clap::Subcommand;
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{CliError, Left, Unanswered};
use super::print::{facts, out, out_bytes, out_json, out_table, when};
use super::{Site, admin};
use crate::base::{ByteSize, UnixMs};
use crate::config::Config;
use crate::store::Rescanned;
use crate::web::{AdminRequest, MailboxRow, MessageRow, Piece, Question};

#[derive(Debug, Subcommand)]
pub enum Mailbox {
    /// List a user's folders
    List {
        /// An address, or '#ID' of an account that was removed without --purge
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show counts and numbers of all folders, or of one
    Status {
        user: String,
        folder: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take in message files that another program left in `cur` or `new`, and that no message has
    Rescan {
        user: String,
        /// Only this folder
        #[arg(long, value_name = "FOLDER")]
        folder: Option<String>,
        /// Print JSON, all folders that were looked at
        #[arg(long)]
        json: bool,
    },
    /// Show one message: what the index knows of it, its header, or all of it
    Fetch {
        user: String,
        folder: String,
        uid: u32,
        /// Print its header
        #[arg(long, conflicts_with = "raw")]
        headers: bool,
        /// Print the message, octet for octet as IMAP gives it
        #[arg(long)]
        raw: bool,
        /// Print JSON; the header as text, the message in base 64
        #[arg(long)]
        json: bool,
    },
}

impl Mailbox {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        match self {
            Mailbox::List { user, json } => {
                let rows = mailboxes(&config, &user)?;
                if json {
                    return out_json(&rows);
                }
                let header = ["FOLDER", "USE", "SUBSCRIBED", "MESSAGES", "UNSEEN", "SIZE"];
                out_table(&header, rows.iter().map(listed).collect())
            }
            Mailbox::Status { user, folder, json } => {
                let rows = mailboxes(&config, &user)?;
                match folder {
                    Some(folder) => status_of_one(&user, &folder, rows, json),
                    None if json => out_json(&rows),
                    None => {
                        let header = [
                            "FOLDER",
                            "MESSAGES",
                            "UNSEEN",
                            "DELETED",
                            "SIZE",
                            "UIDNEXT",
                            "UIDVALIDITY",
                            "MODSEQ",
                        ];
                        out_table(&header, rows.iter().map(counted).collect())
                    }
                }
            }
            Mailbox::Rescan { user, folder, json } => rescan(&config, &user, folder, json),
            Mailbox::Fetch {
                user,
                folder,
                uid,
                headers,
                raw,
                json,
            } => {
                let of = Message {
                    config: &config,
                    user: address(&config, &user),
                    folder,
                    uid,
                };
                of.fetch(headers, raw, json)
            }
        }
    }
}

/// A removed account is named by its id.
pub(super) fn address(config: &Config, user: &str) -> String {
    match user.starts_with('#') {
        true => user.to_owned(),
        false => super::user::full_address(config, user),
    }
}

fn mailboxes(config: &Config, user: &str) -> Result<Vec<MailboxRow>, CliError> {
    let request = AdminRequest::Inspect {
        user: address(config, user),
        question: Question::Mailboxes,
    };
    read(config, admin::ask(config, request)?)
}

fn rescan(config: &Config, user: &str, folder: Option<String>, json: bool) -> Result<(), CliError> {
    let request = AdminRequest::Inspect {
        user: address(config, user),
        question: Question::Rescan { folder },
    };
    let rows: Vec<Rescanned> = read(config, admin::ask(config, request)?)?;
    let found: Vec<&Rescanned> = rows
        .iter()
        .filter(|row| row.files + row.grown > 0)
        .collect();
    if json {
        out_json(&rows)?;
    } else if found.is_empty() {
        let folders = super::print::counted(rows.len() as u64, "folder");
        out(&format!(
            "{folders} looked at: every file has its message\n"
        ))?;
    } else {
        let row = |row: &&Rescanned| {
            let counts = [row.files, row.taken_in, row.grown].map(|n| n.to_string());
            [vec![row.name.clone()], counts.to_vec()].concat()
        };
        out_table(
            &["FOLDER", "FILES", "TAKEN IN", "GROWN"],
            found.iter().map(row).collect(),
        )?;
    }
    match found
        .iter()
        .map(|row| (row.files - row.taken_in) as usize)
        .sum()
    {
        0 => Ok(()),
        left => Err(CliError::Left(Left::Files, left)),
    }
}

/// An answer as what it should be.
pub(super) fn read<T: DeserializeOwned>(config: &Config, value: Value) -> Result<T, CliError> {
    serde_json::from_value(value)
        .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))
}

fn listed(row: &MailboxRow) -> Vec<String> {
    vec![
        row.name.clone(),
        row.special_use.clone().unwrap_or_default(),
        if row.subscribed { "yes" } else { "no" }.to_owned(),
        row.messages.to_string(),
        row.unseen.to_string(),
        ByteSize(row.bytes).rounded(),
    ]
}

fn counted(row: &MailboxRow) -> Vec<String> {
    vec![
        row.name.clone(),
        row.messages.to_string(),
        row.unseen.to_string(),
        row.deleted.to_string(),
        ByteSize(row.bytes).rounded(),
        row.uidnext.to_string(),
        row.uidvalidity.to_string(),
        row.highest_modseq.to_string(),
    ]
}

fn status_of_one(
    user: &str,
    folder: &str,
    rows: Vec<MailboxRow>,
    json: bool,
) -> Result<(), CliError> {
    let is_it = |row: &MailboxRow| {
        row.name == folder || (row.name == "INBOX" && folder.eq_ignore_ascii_case("INBOX"))
    };
    let Some(row) = rows.into_iter().find(is_it) else {
        return Err(CliError::NoFolder {
            user: user.to_owned(),
            folder: folder.to_owned(),
        });
    };
    if json {
        return out_json(&row);
    }
    out(&facts(&[
        ("folder", row.name),
        ("use", row.special_use.unwrap_or_default()),
        ("id", row.id.to_string()),
        (
            "subscribed",
            if row.subscribed { "yes" } else { "no" }.to_owned(),
        ),
        ("messages", row.messages.to_string()),
        ("unseen", row.unseen.to_string()),
        ("deleted", row.deleted.to_string()),
        (
            "size",
            format!("{} ({} bytes)", ByteSize(row.bytes).rounded(), row.bytes),
        ),
        ("uidnext", row.uidnext.to_string()),
        ("uidvalidity", row.uidvalidity.to_string()),
        ("modseq", row.highest_modseq.to_string()),
    ]))
}

struct Message<'a> {
    config: &'a Config,
    user: String,
    folder: String,
    uid: u32,
}

impl Message<'_> {
    fn fetch(&self, headers: bool, raw: bool, json: bool) -> Result<(), CliError> {
        if !headers && !raw {
            let row: MessageRow = self.ask(vec![self.row()])?;
            return if json {
                out_json(&row)
            } else {
                out(&page(row))
            };
        }
        // With JSON both come at once: a stopped server is opened for one list of requests.
        let mut requests = vec![self.body(headers, 0)];
        if json {
            requests.insert(0, self.row());
        }
        let mut answers = admin::ask_all(self.config, requests, |_| {})?;
        let first: Piece = read(self.config, answers.pop().unwrap_or_default())?;
        let bytes = self.rest(first, headers)?;
        let Some(row) = answers.pop() else {
            return out_bytes(&bytes);
        };
        let mut row: Value = read(self.config, row)?;
        match headers {
            true => row["headers"] = json!(String::from_utf8_lossy(&bytes)),
            false => row["message"] = json!(BASE64.encode(&bytes)),
        }
        out_json(&row)
    }

    /// What a running server gives in pieces.
    fn rest(&self, first: Piece, headers: bool) -> Result<Vec<u8>, CliError> {
        let total = first.total;
        let mut bytes = self.decoded(&first)?;
        while (bytes.len() as u64) < total {
            let piece: Piece = self.ask(vec![self.body(headers, bytes.len() as u64)])?;
            let more = self.decoded(&piece)?;
            if more.is_empty() || piece.total != total {
                return Err(self.not_an_answer());
            }
            bytes.extend(more);
        }
        Ok(bytes)
    }

    fn decoded(&self, piece: &Piece) -> Result<Vec<u8>, CliError> {
        let bytes = BASE64.decode(piece.data.as_bytes());
        bytes.map_err(|_| self.not_an_answer())
    }

    fn not_an_answer(&self) -> CliError {
        CliError::unanswered(self.config.admin_socket(), Unanswered::NotAnAnswer)
    }

    fn ask<T: DeserializeOwned>(&self, requests: Vec<AdminRequest>) -> Result<T, CliError> {
        let mut answers = admin::ask_all(self.config, requests, |_| {})?;
        read(self.config, answers.pop().unwrap_or_default())
    }

    fn row(&self) -> AdminRequest {
        self.request(Question::Message {
            folder: self.folder.clone(),
            uid: self.uid,
        })
    }

    fn body(&self, headers: bool, from: u64) -> AdminRequest {
        self.request(Question::Body {
            folder: self.folder.clone(),
            uid: self.uid,
            headers,
            from,
        })
    }

    fn request(&self, question: Question) -> AdminRequest {
        AdminRequest::Inspect {
            user: self.user.clone(),
            question,
        }
    }
}

fn page(row: MessageRow) -> String {
    facts(&[
        ("folder", row.folder),
        ("uid", row.uid.to_string()),
        ("flags", row.flags.join(" ")),
        ("modseq", row.modseq.to_string()),
        ("received", when(UnixMs(row.internal_date))),
        ("saved", when(UnixMs(row.saved))),
        ("size", format!("{} bytes", row.bytes)),
        ("email id", row.email_id),
    ])
}
