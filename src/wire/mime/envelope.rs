//! ENVELOPE as wire text (RFC 9051 7.5.2).

use super::header::{Field, Fields, unfold};
use super::wire_text::{put_nstring, put_string};
use crate::wire::address::{ListEntry, parse_address_list};

#[derive(Default)]
struct Found<'a> {
    date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    lists: [Vec<ListEntry>; 6],
}

const LISTS: [&[u8]; 6] = [b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc"];
const FROM: usize = 0;
const SENDER: usize = 1;
const REPLY_TO: usize = 2;

/// Writes the ENVELOPE of a header block, parentheses included.
pub fn envelope(block: &[u8], out: &mut Vec<u8>) {
    let mut found = Found::default();
    for field in Fields::new(block) {
        found.take(&field);
    }
    out.push(b'(');
    put_nstring(found.date.map(unfold).as_deref(), out);
    out.push(b' ');
    put_nstring(found.subject.map(unfold).as_deref(), out);
    for (at, list) in found.lists.iter().enumerate() {
        out.push(b' ');
        // RFC 9051 7.5.2: an absent or empty Sender or Reply-To is shown as From.
        let as_from = matches!(at, SENDER | REPLY_TO) && list.is_empty();
        put_list(if as_from { &found.lists[FROM] } else { list }, out);
    }
    out.push(b' ');
    put_nstring(found.in_reply_to.map(unfold).as_deref(), out);
    out.push(b' ');
    put_nstring(found.message_id.map(unfold).as_deref(), out);
    out.push(b')');
}

impl<'a> Found<'a> {
    /// Of a single field that comes twice the first counts; address lists add up.
    fn take(&mut self, field: &Field<'a>) {
        if let Some(at) = LISTS.iter().position(|name| field.is(name)) {
            self.lists[at].extend(parse_address_list(field.value));
            return;
        }
        let single = [
            (&b"Date"[..], &mut self.date),
            (b"Subject", &mut self.subject),
            (b"In-Reply-To", &mut self.in_reply_to),
            (b"Message-ID", &mut self.message_id),
        ];
        for (name, slot) in single {
            if field.is(name) {
                slot.get_or_insert(field.value);
            }
        }
    }
}

fn put_list(list: &[ListEntry], out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for entry in list {
        match entry {
            ListEntry::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                put_string(name, out);
                out.extend_from_slice(b" NIL)");
            }
            ListEntry::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
            ListEntry::Mailbox {
                name,
                route,
                local,
                domain,
            } => {
                out.push(b'(');
                put_nstring(name.as_deref(), out);
                out.push(b' ');
                put_nstring(route.as_deref(), out);
                out.push(b' ');
                put_string(local, out);
                out.push(b' ');
                // NIL as the host would announce a group (RFC 9051 7.5.2).
                put_string(domain.as_deref().unwrap_or_default(), out);
                out.push(b')');
            }
        }
    }
    out.push(b')');
}
