//! `palomar user import`: many accounts from a file, in batches, each row taken or refused by
//! itself.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::admin;
use super::error::{CliError, Left};
use super::print::{counted, out, out_json, shown};
use crate::config::Config;
use crate::directory::{Answer, Command, IMPORT_ROWS_MAX, ImportRow, Imports, parse_import};

/// A file larger than this is no list of users.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What became of a file.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub added: u64,
    pub refused: Vec<Row>,
}

/// A row that was not taken, by the parser or by the directory.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub line: u64,
    pub address: String,
    pub why: String,
}

pub fn run(config: &Config, file: &Path, json: bool) -> Result<(), CliError> {
    let bytes = read(file).map_err(|error| CliError::File {
        path: file.to_owned(),
        error,
    })?;
    let domain = config.domains.first().map_or("", |domain| domain.as_str());
    let imports = parse_import(&bytes, domain);
    let bar = ProgressBar::new(imports.rows.len() as u64);
    let style = "{wide_bar} {pos}/{len} users, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let (batches, mut outcome) = batches(imports);
    let step = bar.clone();
    let (answers, trouble) = admin::directory_all(config, batches, move |command| {
        if let Command::UserImport { rows } = command {
            step.inc(rows.len() as u64);
        }
    });
    for answer in answers {
        outcome.absorb(answer);
    }
    bar.finish_and_clear();
    // Also after a failure half-way: what is in, is in.
    if json {
        out_json(&outcome)?;
    } else {
        out(&outcome.to_text())?;
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    match outcome.refused.len() {
        0 => Ok(()),
        rows => Err(CliError::Left(Left::Rows, rows)),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX + 1;
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
        _ => fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?,
    };
    match read as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other("larger than 256 MiB: split it")),
        false => Ok(bytes),
    }
}

/// The commands to send, and what is refused before any is sent.
pub(super) fn batches(imports: Imports) -> (Vec<Command>, Outcome) {
    let batch = |rows: &[ImportRow]| Command::UserImport {
        rows: rows.to_vec(),
    };
    let batches = imports.rows.chunks(IMPORT_ROWS_MAX).map(batch).collect();
    let refused = imports.errors.iter().map(unread).collect();
    (batches, Outcome { added: 0, refused })
}

/// A line that the parser could not take; its text begins with the line's number.
fn unread(error: &crate::directory::ImportError) -> Row {
    let why = error.to_string();
    let prefix = format!("line {}: ", error.line);
    let why = why.strip_prefix(&prefix).unwrap_or(&why).to_owned();
    Row {
        line: error.line,
        address: String::new(),
        why,
    }
}

impl Outcome {
    pub(super) fn absorb(&mut self, answer: Answer) {
        let Answer::Imported { added, refused } = answer else {
            return;
        };
        self.added += added;
        self.refused.extend(refused.into_iter().map(|row| Row {
            line: row.line,
            address: row.address,
            why: row.why.to_string(),
        }));
        self.refused.sort_by_key(|row| row.line);
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for row in &self.refused {
            let address = match row.address.as_str() {
                "" => String::new(),
                address => format!("{address}: "),
            };
            text.push_str(&shown(&format!("line {}: {address}{}", row.line, row.why)));
            text.push('\n');
        }
        let refused = self.refused.len();
        text.push_str(&format!(
            "{} added, {refused} refused\n",
            counted(self.added, "account")
        ));
        text
    }
}
