//! How results look: tables, JSON, times, and text from strangers made harmless.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::error::CliError;
use crate::base::UnixMs;

/// Writes to standard output.
pub fn out(text: &str) -> Result<(), CliError> {
    out_bytes(text.as_bytes())
}

/// Octets as they are.
pub fn out_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::PipeClosed,
        _ => CliError::Output(error),
    })
}

/// One JSON value, indented.
pub fn out_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| CliError::Output(error.into()))?;
    out(&format!("{text}\n"))
}

/// Rows below a header: with lines on a terminal, plain columns elsewhere.
pub fn out_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
    out(&table(header, rows, io::stdout().is_terminal()))
}

pub fn table(header: &[&str], rows: Vec<Vec<String>>, terminal: bool) -> String {
    let mut table = Table::new();
    if terminal {
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_preset(presets::NOTHING);
    }
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| shown(cell)).collect::<Vec<_>>());
    }
    if !terminal {
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// One line a fact; those without a value are left out.
pub fn facts(facts: &[(&str, String)]) -> String {
    let lines = facts.iter().filter(|(_, fact)| !fact.is_empty());
    lines
        .map(|(name, fact)| format!("{name:<12} {}\n", shown(fact)))
        .collect()
}

/// UTC, to the second.
pub fn when(time: UnixMs) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{} ms", time.0),
    }
}

/// `text` without anything that moves a cursor or turns the direction of writing.
pub fn shown(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(
            c,
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
            let _ = write!(clean, "\\u{{{:x}}}", c as u32);
        } else {
            clean.push(c);
        }
    }
    clean
}

/// `1 message`, `2 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
