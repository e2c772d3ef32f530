//! The lines that we put before a message.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::origin::Origin;
use crate::base::{TraceId, UnixMs};
use crate::wire::address::Path;
use crate::wire::dates::{DateTime, format_date};

/// Longest client name that is shown; the rest of it is a stranger's text.
const CLIENT_NAME_CHARS_MAX: usize = 255;

/// The Received field of a message that came at `at` (RFC 5321 4.4). `only` is its recipient, if
/// there is one alone: more than one would tell them of each other.
pub fn received(
    origin: &Origin,
    message: TraceId,
    is_utf8: bool,
    only: Option<&Path>,
    at: UnixMs,
) -> String {
    let name = client_name(&origin.client_name, is_utf8);
    let mut out = match (origin.peer.address(), &origin.local) {
        (_, Some(user)) => {
            let login = client_name(&user.login, is_utf8);
            format!(
                "Received: from {name} (local user {login}, uid {})\r\n",
                user.uid
            )
        }
        (Some(address), None) => format!("Received: from {name} ({})\r\n", literal(address)),
        (None, None) => format!("Received: from {name} (local socket)\r\n"),
    };
    if let Some(tls) = &origin.tls {
        let _ = write!(
            out,
            "\t(using {} with cipher {})\r\n",
            tls.version, tls.cipher
        );
    }
    let _ = write!(
        out,
        "\tby {} (Palomar, session {}) with {}\r\n\tid {message}",
        origin.hostname,
        origin.session,
        origin.protocol(is_utf8)
    );
    if let Some(path) = only.filter(|path| is_utf8 || path.is_ascii()) {
        let _ = write!(out, "\r\n\tfor {path}");
    }
    let date = format_date(DateTime {
        at,
        zone_minutes: 0,
    });
    let _ = write!(out, ";\r\n\t{date}\r\n");
    out
}

/// The lines of one copy alone (RFC 5321 4.4 for Return-Path).
pub fn prefix(from: &Path, delivered_to: &str) -> Vec<u8> {
    format!("Return-Path: {from}\r\nDelivered-To: {delivered_to}\r\n").into_bytes()
}

/// RFC 5321 4.1.3.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// What may stand in a domain or address literal; anything else could pass for another clause.
fn client_name(name: &str, is_utf8: bool) -> String {
    let fits = |c: char| {
        c.is_ascii_alphanumeric()
            || "-._:[]".contains(c)
            || (is_utf8 && !c.is_ascii() && c.is_alphanumeric())
    };
    name.chars()
        .take(CLIENT_NAME_CHARS_MAX)
        .map(|c| if fits(c) { c } else { '?' })
        .collect()
}
