//! Command lines as a client writes them (RFC 5321 4.1.1, RFC 3461 4, RFC 6533 3).
//!
//! What is set is written: whoever calls has left out what the server does not offer. No value,
//! wherever it came from, can end its line.

use std::fmt::Write as _;

use super::params::{BodyKind, DsnReturn, MailFrom, Notify, OriginalRecipient, RcptTo};

/// Longest value of ORCPT with its kind (RFC 3461 4.2).
const ORIGINAL_BYTES_MAX: usize = 500;

/// A value that no command line can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritable;

impl MailFrom {
    /// Appends the MAIL line; nothing, where it cannot be written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let mut line = format!("MAIL FROM:{}", self.path);
        if let Some(size) = self.size {
            // Writing to a string cannot fail.
            let _ = write!(line, " SIZE={size}");
        }
        line.push_str(match self.body {
            BodyKind::SevenBit => "",
            BodyKind::EightBit => " BODY=8BITMIME",
            BodyKind::Binary => " BODY=BINARYMIME",
        });
        if self.smtputf8 {
            line.push_str(" SMTPUTF8");
        }
        if self.require_tls {
            line.push_str(" REQUIRETLS");
        }
        line.push_str(match self.ret {
            None => "",
            Some(DsnReturn::Full) => " RET=FULL",
            Some(DsnReturn::Headers) => " RET=HDRS",
        });
        if let Some(id) = &self.envelope_id {
            line.push_str(" ENVID=");
            xtext_encode(id, &mut line);
        }
        match self.auth.as_deref() {
            None => {}
            // RFC 4954 5: nobody is known to have sent it.
            Some("") => line.push_str(" AUTH=<>"),
            Some(name) => {
                line.push_str(" AUTH=");
                xtext_encode(name, &mut line);
            }
        }
        end_line(line, out)
    }
}

impl RcptTo {
    /// Appends the RCPT line; nothing, where it cannot be written. `is_utf8`: the message is sent
    /// with SMTPUTF8.
    pub fn encode(&self, is_utf8: bool, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let mut line = format!("RCPT TO:{}", self.path);
        if let Some(notify) = self.notify {
            line.push_str(" NOTIFY=");
            notify.encode(&mut line);
        }
        if let Some(original) = &self.original {
            original.encode(is_utf8, &mut line);
        }
        end_line(line, out)
    }
}

impl Notify {
    fn encode(self, line: &mut String) {
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let set: Vec<_> = words.iter().filter(|(is_set, _)| *is_set).collect();
        if set.is_empty() {
            line.push_str("NEVER");
        }
        for (at, (_, word)) in set.into_iter().enumerate() {
            line.push_str(if at == 0 { "" } else { "," });
            line.push_str(word);
        }
    }
}

impl OriginalRecipient {
    /// A value that is too long is left out: it is of use, and not needed.
    fn encode(&self, is_utf8: bool, line: &mut String) {
        let mut value = format!("{};", self.kind);
        match &self.kind[..] {
            "utf-8" => utf8_address_encode(&self.address, is_utf8, &mut value),
            _ => xtext_encode(&self.address, &mut value),
        }
        if value.len() <= ORIGINAL_BYTES_MAX {
            line.push_str(" ORCPT=");
            line.push_str(&value);
        }
    }
}

/// Appends `text` as xtext (RFC 3461 4), which is ASCII whatever the text is.
pub fn xtext_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' | ..=32 | 127.. => _ = write!(out, "+{byte:02X}"),
            _ => out.push(char::from(byte)),
        }
    }
}

/// RFC 6533 3: utf-8-addr-unitext within SMTPUTF8, utf-8-addr-xtext without.
fn utf8_address_encode(address: &str, is_utf8: bool, out: &mut String) {
    for c in address.chars() {
        let is_plain = match c {
            '\\' | '+' | '=' => false,
            c if c.is_ascii() => c.is_ascii_graphic(),
            c => is_utf8 && !c.is_control(),
        };
        if is_plain {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
        }
    }
}

fn end_line(line: String, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if line.chars().any(char::is_control) {
        return Err(Unwritable);
    }
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}
