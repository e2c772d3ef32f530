//! Notices to a sender: what became of a message, for a person and for a program (RFC 3464). Pure.
//!
//! A notice is a `multipart/report` (RFC 6522): plain words, then the facts, then the message or
//! its header. The words name who refused and what can be done about it.

mod advice;
mod words;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use crate::base::{TraceId, UnixMs};
use crate::wire::dates::{DateTime, format_date};
use crate::wire::plain::paragraph;
use crate::wire::smtp::{DsnReturn, OriginalRecipient};
use advice::Advice;
use words::{Words, words};

/// Larger messages come back as their header alone, whatever RET says (RFC 3461 6.2 allows it).
pub const RETURNED_BYTES_MAX: usize = 200 << 10;
/// Recipients that the words name one by one; the facts have all of them.
const NAMED_MAX: usize = 50;
/// Octets of a reply that are repeated.
const REPLY_BYTES_MAX: usize = 2_000;
/// RFC 5322 2.1.1: lines of a header should be no longer.
const LINE_CHARS: usize = 78;
/// Nobody's word is longer, and a line has room for it.
const WORD_CHARS_MAX: usize = 200;

/// What is told of a recipient (RFC 3464 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    /// Given to a host that tells nothing further.
    Relayed,
}

/// One recipient of a notice.
#[derive(Clone, Debug)]
pub struct Told<'m> {
    pub recipient: &'m str,
    pub original: Option<&'m OriginalRecipient>,
    pub action: Action,
    /// RFC 3463: `5.1.1`.
    pub status: &'m str,
    /// The host that answered.
    pub host: Option<&'m str>,
    /// What it said, with its code: `550 5.1.1 No such user`.
    pub reply: Option<&'m str>,
    pub tried: Option<UnixMs>,
    pub retried_until: Option<UnixMs>,
}

/// Everything that a notice is made of.
#[derive(Clone, Debug)]
pub struct Notice<'m> {
    pub id: TraceId,
    pub hostname: &'m str,
    /// Of the postmaster who signs.
    pub domain: &'m str,
    pub sender: &'m str,
    pub language: Option<&'m str>,
    pub now: UnixMs,
    pub arrived: UnixMs,
    pub envelope_id: Option<&'m str>,
    pub ret: Option<DsnReturn>,
    pub told: &'m [Told<'m>],
    /// The header of the message, or all of it.
    pub header: &'m [u8],
    pub whole: Option<&'m [u8]>,
}

impl Notice<'_> {
    /// The notice as a message with CRLF line ends.
    #[must_use]
    pub fn compose(&self) -> Vec<u8> {
        assert!(!self.told.is_empty(), "a notice about nobody");
        let words = words(self.language);
        let boundary = format!("{}.report", self.id);
        let mut text = String::new();
        self.put_head(&mut text, words, &boundary);
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\nContent-Language: {}\r\n\r\n",
            words.language
        );
        self.put_words(&mut text, words);
        let kind = match self.is_utf8() {
            // RFC 6533 3 and 4.
            true => "message/global-delivery-status",
            false => "message/delivery-status",
        };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n");
        self.put_facts(&mut text);
        let mut out = text.into_bytes();
        self.put_original(&mut out, &boundary);
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    fn is_utf8(&self) -> bool {
        let is_ascii = |told: &Told| {
            let original = told.original.is_none_or(|o| o.address.is_ascii());
            original && told.recipient.is_ascii()
        };
        !self.sender.is_ascii() || !self.told.iter().all(is_ascii)
    }

    /// The worst of what is told: what the subject says.
    fn action(&self) -> Action {
        let worst = |told: &&Told| match told.action {
            Action::Failed => 0,
            Action::Delayed => 1,
            Action::Delivered | Action::Relayed => 2,
        };
        self.told
            .iter()
            .min_by_key(worst)
            .expect("not empty")
            .action
    }

    fn put_head(&self, out: &mut String, words: &Words, boundary: &str) {
        let (subject, automatic) = match self.action() {
            Action::Failed => (words.subject_failed, "auto-replied"),
            Action::Delayed => (words.subject_delayed, "auto-replied"),
            Action::Delivered | Action::Relayed => (words.subject_delivered, "auto-replied"),
        };
        let _ = write!(
            out,
            "From: Postmaster <postmaster@{domain}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\
             Date: {date}\r\nMessage-ID: <{id}.notice@{domain}>\r\n\
             Auto-Submitted: {automatic}\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n\r\n",
            domain = self.domain,
            to = one_line(self.sender, 320),
            date = date(self.now),
            id = self.id,
        );
    }

    fn put_words(&self, out: &mut String, words: &Words) {
        let intro = match self.action() {
            Action::Failed => words.failed,
            Action::Delayed => words.delayed,
            Action::Delivered | Action::Relayed => words.delivered,
        };
        paragraph(out, &intro.replace("{}", self.hostname));
        for told in self.told.iter().take(NAMED_MAX) {
            let _ = write!(out, "\r\n  <{}>\r\n", one_line(told.recipient, 320));
            self.put_told(out, words, told);
        }
        if let Some(more) = self
            .told
            .len()
            .checked_sub(NAMED_MAX)
            .filter(|more| *more > 0)
        {
            let _ = write!(out, "\r\n  + {more}\r\n");
        }
    }

    fn put_told(&self, out: &mut String, words: &Words, told: &Told) {
        match told.action {
            Action::Delivered => return paragraph(out, words.is_delivered),
            Action::Relayed => return paragraph(out, words.is_relayed),
            Action::Failed | Action::Delayed => {}
        }
        match (told.host, told.reply) {
            (Some(host), Some(reply)) if is_said(reply) => {
                paragraph(out, &words.who_said.replace("{}", &one_line(host, 255)));
                for line in reply.lines().take(10) {
                    let _ = write!(out, "    {}\r\n", one_line(line, 500));
                }
            }
            (_, Some(reason)) => paragraph(out, &one_line(reason, 500)),
            _ => {}
        }
        let advice = Advice::of(told.status);
        paragraph(out, words.advice(advice));
        if let Some(until) = told
            .retried_until
            .filter(|_| told.action == Action::Delayed)
        {
            paragraph(out, &words.until.replace("{}", &date(until)));
        }
    }

    /// RFC 3464 2.2 and 2.3.
    fn put_facts(&self, out: &mut String) {
        let dns = |host: &str| format!("dns; {}", one_line(host, 255));
        let _ = write!(out, "Reporting-MTA: {}\r\n", dns(self.hostname));
        if let Some(id) = self.envelope_id {
            let _ = write!(out, "Original-Envelope-Id: {}\r\n", one_line(id, 100));
        }
        let _ = write!(out, "Arrival-Date: {}\r\n", date(self.arrived));
        for told in self.told {
            out.push_str("\r\n");
            if let Some(original) = told.original {
                let (kind, address) = (&original.kind, one_line(&original.address, 500));
                let _ = write!(out, "Original-Recipient: {kind}; {address}\r\n");
            }
            let recipient = one_line(told.recipient, 320);
            let kind = if recipient.is_ascii() {
                "rfc822"
            } else {
                "utf-8"
            };
            let action = match told.action {
                Action::Failed => "failed",
                Action::Delayed => "delayed",
                Action::Delivered => "delivered",
                Action::Relayed => "relayed",
            };
            let _ = write!(
                out,
                "Final-Recipient: {kind}; {recipient}\r\nAction: {action}\r\nStatus: {}\r\n",
                told.status
            );
            if let Some(host) = told.host {
                let _ = write!(out, "Remote-MTA: {}\r\n", dns(host));
            }
            if let (Some(reply), Some(_)) = (told.reply, told.host) {
                // RFC 3464 2.3.6: what the host did not say is ours to name.
                let kind = if is_said(reply) { "smtp" } else { "x-palomar" };
                let name = format!("Diagnostic-Code: {kind}; ");
                put_folded(out, &name, reply, self.is_utf8());
            }
            if let Some(at) = told.tried {
                let _ = write!(out, "Last-Attempt-Date: {}\r\n", date(at));
            }
            if let Some(at) = told
                .retried_until
                .filter(|_| told.action == Action::Delayed)
            {
                let _ = write!(out, "Will-Retry-Until: {}\r\n", date(at));
            }
        }
    }

    /// The message, where it failed and RET does not say otherwise (RFC 3461 4.3 and 6.2).
    fn put_original(&self, out: &mut Vec<u8>, boundary: &str) {
        let has_failed = self.action() == Action::Failed;
        let wanted = has_failed && self.ret != Some(DsnReturn::Headers);
        let whole = self
            .whole
            .filter(|whole| wanted && whole.len() <= RETURNED_BYTES_MAX);
        let is_ascii = whole.unwrap_or(self.header).is_ascii();
        let kind = match (whole.is_some(), self.header.is_ascii()) {
            (true, true) => "message/rfc822",
            (true, false) => "message/global",
            (false, true) => "text/rfc822-headers",
            (false, false) => "message/global-headers",
        };
        let encoding = if is_ascii { "7bit" } else { "8bit" };
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(whole.unwrap_or(self.header));
    }
}

fn date(at: UnixMs) -> String {
    format_date(DateTime {
        at,
        zone_minutes: 0,
    })
}

/// What others wrote, on one line and no longer than a line may be.
fn one_line(text: &str, chars_max: usize) -> String {
    let harmless = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    harmless.take(chars_max).collect()
}

/// Whether a host said it: else it is what we found ourselves, in our own words.
fn is_said(reply: &str) -> bool {
    let code = reply.bytes().take_while(u8::is_ascii_digit).count();
    code == 3
}

/// A reply of several lines is one field, folded where it was and where a line gets long (RFC 3464
/// 2.1.1). What is not ASCII has no place in a message/delivery-status (RFC 3464 2.1); in its global
/// kin it has (RFC 6533 3).
fn put_folded(out: &mut String, name: &str, reply: &str, is_utf8: bool) {
    out.push_str(name);
    let mut left = REPLY_BYTES_MAX;
    let mut column = name.len();
    for (n, line) in reply.lines().enumerate() {
        let line = one_line(line, 500);
        for (m, word) in line.split_ascii_whitespace().enumerate() {
            let fits = |c: &char| is_utf8 || c.is_ascii();
            let plain = word.chars().take(WORD_CHARS_MAX);
            let word: String = plain.map(|c| if fits(&c) { c } else { '?' }).collect();
            if word.len() > left {
                break;
            }
            left -= word.len();
            let between = match (n, m) {
                (0, 0) => "",
                (_, 0) => "\r\n    ",
                _ if column + word.len() >= LINE_CHARS => "\r\n ",
                _ => " ",
            };
            column = match between.strip_prefix("\r\n") {
                Some(indent) => indent.len(),
                None => column + between.len(),
            };
            column += word.len();
            out.push_str(between);
            out.push_str(&word);
        }
    }
    out.push_str("\r\n");
}
