//! One event as one line: JSON for the file, logfmt for a terminal.
//!
//! Values are escaped so that none can end the line, add a field or move a terminal's cursor, and
//! cut at [`VALUE_BYTES_MAX`]. Fields that could hold content are left out, whoever names them.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

use super::counters::LineLevel;

/// Longer values are cut; `...` shows it.
pub(super) const VALUE_BYTES_MAX: usize = 1_000;

/// O1: nothing of the content, and no secret, is ever logged.
const DENIED: [&str; 8] = [
    "subject",
    "body",
    "content",
    "text",
    "password",
    "secret",
    "token",
    "credentials",
];

/// An event taken apart.
pub(super) struct Fields {
    level: &'static str,
    pub counted: LineLevel,
    /// UTC, with milliseconds.
    ts: String,
    fields: Vec<(&'static str, Shown)>,
}

enum Shown {
    Text(String),
    /// A number or truth value, as is in both forms.
    Bare(String),
}

impl Fields {
    pub fn of(event: &tracing::Event<'_>, now: jiff::Timestamp) -> Self {
        let (level, counted) = match *event.metadata().level() {
            tracing::Level::ERROR => ("error", LineLevel::Error),
            tracing::Level::WARN => ("warn", LineLevel::Warn),
            tracing::Level::INFO => ("info", LineLevel::Info),
            tracing::Level::DEBUG => ("debug", LineLevel::Debug),
            tracing::Level::TRACE => ("trace", LineLevel::Trace),
        };
        let mut fields = Fields {
            level,
            counted,
            ts: format!("{now:.3}"),
            fields: Vec::with_capacity(8),
        };
        event.record(&mut fields);
        fields
    }

    /// `{"ts":"...","level":"info","event":"..."}` and a newline.
    pub fn json(&self) -> String {
        let mut out = String::with_capacity(256);
        let _ = write!(out, "{{\"ts\":\"{}\",\"level\":\"{}\"", self.ts, self.level);
        for (name, value) in &self.fields {
            let _ = write!(out, ",\"{name}\":");
            match value {
                Shown::Bare(value) => out.push_str(value),
                Shown::Text(value) => quote(value, &mut out),
            }
        }
        out.push_str("}\n");
        out
    }

    /// `ts=... level=info event=...` and a newline.
    pub fn logfmt(&self) -> String {
        let mut out = String::with_capacity(256);
        let _ = write!(out, "ts={} level={}", self.ts, self.level);
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}=");
            match value {
                Shown::Text(value) if value.is_empty() || value.contains(needs_quotes) => {
                    quote(value, &mut out);
                }
                Shown::Text(value) | Shown::Bare(value) => out.push_str(value),
            }
        }
        out.push('\n');
        out
    }

    fn push(&mut self, field: &Field, value: Shown) {
        if !DENIED.contains(&field.name()) {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded::default();
        let _ = text.write_str(value);
        self.push(field, Shown::Text(text.0));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        let _ = write!(text, "{value:?}");
        self.push(field, Shown::Text(text.0));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Shown::Bare(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Shown::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Shown::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.push(field, Shown::Bare(value.to_string())),
            false => self.push(field, Shown::Text(value.to_string())),
        }
    }
}

/// Takes the first `VALUE_BYTES_MAX` bytes, then refuses, which ends formatting early.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = VALUE_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push_str("...");
        Err(fmt::Error)
    }
}

/// Ends a line, moves a cursor or turns the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn needs_quotes(c: char) -> bool {
    is_harmful(c) || matches!(c, '"' | '=' | '\\') || c.is_whitespace()
}

/// A JSON string (RFC 8259 7), which also is a quoted logfmt value.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Every harmful character is in the basic plane: one \u is enough.
            c if is_harmful(c) => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
