//! The header of a message on its way in: what goes, what is added, what shows a loop.
//!
//! Works in pieces cut anywhere and holds no more than one field name. A line ends at LF, as it
//! does for everybody who later reads the message; the first blank line ends the header.

use memchr::{memchr, memchr2};

use crate::base::{TraceId, UnixMs};
use crate::wire::dates::{DateTime, format_date};

/// Longer names are nobody's we look for.
const NAME_BYTES_MAX: usize = 128;
/// An address in Delivered-To.
const VALUE_BYTES_MAX: usize = 512;
/// Received or Delivered-To lines beyond which a message is in a loop (RFC 5321 6.3 asks for at
/// least 100).
pub const HOPS_MAX: u32 = 100;

/// What a submitted message gets where it has none (RFC 6409 8.2 and 8.3).
#[derive(Clone, Debug)]
pub struct Additions {
    pub message: TraceId,
    pub hostname: String,
    pub at: UnixMs,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    /// Passes, and its value is kept to look at.
    Note(Noted),
}

/// Fields whose values are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    DeliveredTo,
    Precedence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    /// After a CR at the start of a line.
    Cr,
    /// In `name`.
    Name,
    Value(Fate),
    /// In the body.
    Over,
}

/// The header of one message, as it passes.
#[derive(Debug)]
pub struct Head {
    additions: Option<Additions>,
    state: State,
    name: Vec<u8>,
    /// Of the field that a fold would continue; none before the first line.
    last: Option<Fate>,
    received: u32,
    delivered_to: Vec<Vec<u8>>,
    precedence: Vec<u8>,
    has_message_id: bool,
    has_date: bool,
}

impl Head {
    /// With `additions` the message is a user's: Bcc goes, and what is missing is added.
    #[must_use]
    pub fn new(additions: Option<Additions>) -> Self {
        Head {
            additions,
            state: State::LineStart,
            name: Vec::new(),
            last: None,
            received: 0,
            delivered_to: Vec::new(),
            precedence: Vec::new(),
            has_message_id: false,
            has_date: false,
        }
    }

    /// True once the body has begun: it passes as it is.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// True when the lines of one kind are more than any way has stations.
    #[must_use]
    pub fn is_looping(&self) -> bool {
        self.received >= HOPS_MAX || self.delivered_to.len() as u32 >= HOPS_MAX
    }

    /// Values of the Delivered-To fields that the message came with.
    pub fn delivered_to(&self) -> impl Iterator<Item = &str> {
        self.delivered_to
            .iter()
            .filter_map(|value| std::str::from_utf8(value).ok())
            .map(str::trim)
    }

    /// True where its sender says that nobody waits for it.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        let value = self.precedence.trim_ascii();
        [&b"bulk"[..], b"list", b"junk"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
    }

    /// Takes a piece of the message; appends to `out` what is left of it.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() {
            rest = &rest[self.step(rest, out)..];
        }
    }

    /// The message ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Over => return,
            State::LineStart => {}
            State::Cr => out.push(b'\r'),
            State::Name => {
                self.no_field(out);
                if self.is_over() {
                    return;
                }
            }
            State::Value(_) => {}
        }
        if self.state != State::LineStart && self.additions.is_some() {
            out.extend_from_slice(b"\r\n");
        }
        self.add(out);
        self.state = State::Over;
    }

    /// One transition; returns how many bytes it used, which may be none.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        match self.state {
            State::LineStart => self.line_start(rest[0], out),
            State::Cr if rest[0] == b'\n' => {
                self.add(out);
                out.extend_from_slice(b"\r\n");
                self.state = State::Over;
                1
            }
            State::Cr => {
                self.name = vec![b'\r'];
                self.state = State::Name;
                0
            }
            State::Name => self.in_name(rest, out),
            State::Value(fate) => self.in_value(fate, rest, out),
            State::Over => {
                out.extend_from_slice(rest);
                rest.len()
            }
        }
    }

    fn line_start(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        match (byte, self.last) {
            // RFC 5322 2.2.3: a fold continues the field before it.
            (b' ' | b'\t', Some(fate)) => {
                self.state = State::Value(fate);
                0
            }
            (b'\r', _) => {
                self.state = State::Cr;
                1
            }
            (b'\n', _) => {
                self.add(out);
                self.state = State::Over;
                0
            }
            _ => {
                self.name.clear();
                self.state = State::Name;
                0
            }
        }
    }

    fn in_name(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let room = NAME_BYTES_MAX - self.name.len();
        let window = &rest[..rest.len().min(room)];
        let end = memchr2(b':', b'\n', window);
        self.name
            .extend_from_slice(&window[..end.unwrap_or(window.len())]);
        match end {
            Some(at) if window[at] == b':' => {
                self.field(out);
                at + usize::from(self.state != State::Over)
            }
            Some(at) => {
                self.no_field(out);
                at
            }
            None => {
                if window.len() == room {
                    self.no_field(out);
                }
                window.len()
            }
        }
    }

    /// A line that begins as a field does.
    fn field(&mut self, out: &mut Vec<u8>) {
        // RFC 5322 4.5: white space before the colon is obsolete, but is seen.
        let name = self.name.trim_ascii_end();
        if name.is_empty() || !name.iter().all(|b| (33..=126).contains(b)) {
            self.no_field(out);
            if let State::Value(Fate::Pass | Fate::Note(_)) = self.state {
                out.push(b':');
            }
            return;
        }
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let mut fate = Fate::Pass;
        if is(b"Return-Path") {
            // RFC 5321 4.4: only who delivers finally writes it.
            fate = Fate::Drop;
        } else if is(b"Received") {
            self.received = self.received.saturating_add(1);
        } else if is(b"Delivered-To") && (self.delivered_to.len() as u32) < HOPS_MAX {
            self.delivered_to.push(Vec::new());
            fate = Fate::Note(Noted::DeliveredTo);
        } else if is(b"Precedence") {
            self.precedence.clear();
            fate = Fate::Note(Noted::Precedence);
        } else if self.additions.is_some() {
            match () {
                // RFC 5322 3.6.3: nobody but the sender is to see it.
                () if is(b"Bcc") || is(b"Resent-Bcc") => fate = Fate::Drop,
                () if is(b"Message-ID") => self.has_message_id = true,
                () if is(b"Date") => self.has_date = true,
                () => {}
            }
        }
        if fate != Fate::Drop {
            out.extend_from_slice(&self.name);
            out.push(b':');
        }
        self.set(fate);
    }

    /// A line that is no field, its beginning in `name`.
    fn no_field(&mut self, out: &mut Vec<u8>) {
        let is_first = self.last.is_none();
        if is_first && (self.name.starts_with(b"From ") || self.name.starts_with(b">From ")) {
            // The separator of an mbox is no part of the message.
            return self.set(Fate::Drop);
        }
        if is_first && self.additions.is_some() {
            // A text without any header: what is added must not become its end.
            self.add(out);
            out.extend_from_slice(b"\r\n");
            self.state = State::Over;
        } else {
            self.set(Fate::Pass);
        }
        out.append(&mut self.name);
    }

    fn set(&mut self, fate: Fate) {
        self.last = Some(fate);
        self.state = State::Value(fate);
    }

    fn in_value(&mut self, fate: Fate, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        if rest[end - 1] == b'\n' {
            self.state = State::LineStart;
        }
        if fate != Fate::Drop {
            out.extend_from_slice(&rest[..end]);
        }
        let value = match fate {
            Fate::Note(Noted::DeliveredTo) => self.delivered_to.last_mut(),
            Fate::Note(Noted::Precedence) => Some(&mut self.precedence),
            Fate::Pass | Fate::Drop => None,
        };
        if let Some(value) = value {
            let room = VALUE_BYTES_MAX.saturating_sub(value.len());
            value.extend_from_slice(&rest[..end.min(room)]);
        }
        end
    }

    fn add(&mut self, out: &mut Vec<u8>) {
        let Some(Additions {
            message,
            hostname,
            at,
        }) = self.additions.take()
        else {
            return;
        };
        if !self.has_date {
            let date = format_date(DateTime {
                at,
                zone_minutes: 0,
            });
            out.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
        }
        if !self.has_message_id {
            out.extend_from_slice(format!("Message-ID: <{message}@{hostname}>\r\n").as_bytes());
        }
    }
}
