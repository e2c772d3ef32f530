//! CAPABILITY, ID, ENABLE, NAMESPACE, LOGOUT: about the session, not about mail.

use super::super::answer::Answer;
use super::super::caps::{Moment, capabilities};
use super::super::client::End;
use super::super::serve::Known;
use super::{Cut, Done};
use crate::wire::imap::{Capabilities, IdFields};

/// Longest text kept of what a client says of itself.
const NAMED_CHARS_MAX: usize = 120;

pub fn capability(known: &mut Known) -> Answer {
    let line = format!("* CAPABILITY {}\r\n", capabilities(Moment::LoggedIn));
    known.client.out.extend_from_slice(line.as_bytes());
    Answer::ok("CAPABILITY done")
}

pub fn logout(known: &mut Known, tag: &str) -> Done {
    known.client.out.extend_from_slice(b"* BYE good-bye\r\n");
    Answer::ok("LOGOUT done").write(tag, &mut known.client.out);
    Err(Cut::End(End::Logout))
}

pub fn id(known: &mut Known, fields: IdFields<'_>) -> Answer {
    if let Some(text) = id_text(fields) {
        known.opened.named = Some(text);
        known.note_client();
    }
    write_id(&mut known.client.out);
    Answer::ok("ID done")
}

/// Name and version among the fields of an ID, for log lines (RFC 2971 3.3).
#[must_use]
pub fn id_text(fields: IdFields<'_>) -> Option<String> {
    let value = |wanted: &[u8]| {
        let found = fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(String::from_utf8_lossy(&found.1?).into_owned())
    };
    let name = value(b"name")?;
    let text = match value(b"version") {
        Some(version) => format!("{name} {version}"),
        None => name,
    };
    Some(
        text.chars()
            .filter(|c| !c.is_control())
            .take(NAMED_CHARS_MAX)
            .collect(),
    )
}

/// Without a version: it would help those who look for old ones.
pub fn write_id(out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ID (\"name\" \"Palomar\")\r\n");
}

/// Switches on what was asked for and is known (RFC 9051 6.3.1).
pub fn enable(known: &mut Known, asked: Capabilities) -> Answer {
    let out = &mut known.client.out;
    out.extend_from_slice(b"* ENABLED");
    if asked.imap4rev2 {
        known.enabled.imap4rev2 = true;
        out.extend_from_slice(b" IMAP4rev2");
    }
    out.extend_from_slice(b"\r\n");
    Answer::ok("ENABLE done")
}

/// One personal namespace (RFC 9051 6.3.10).
pub fn namespace(known: &mut Known) -> Answer {
    known
        .client
        .out
        .extend_from_slice(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    Answer::ok("NAMESPACE done")
}
