//! Which header fields a signature covers, and their `relaxed` form (RFC 6376 3.4.2, 5.4).

use crate::wire::address::{ListEntry, domain_key, parse_address_list};
use crate::wire::mime::{Fields, find};

/// Instances of one field that are signed, from the last up. More of one kind is no mail.
const INSTANCES_MAX: usize = 16;

/// How a field is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    /// Every one that is there and one more, which is not: none can be put in (RFC 6376 8.15).
    Sealed,
    /// As sealed where there is one. Where there is none somebody on the way may add it.
    SealedIfThere,
    /// What is there.
    AsIs,
}

/// In the order of `h=`. Of RFC 6376 5.4.1's list all are here. What a reader takes for who wrote,
/// to whom, about what, and how the body is to be read is sealed: a second one, or a first one
/// where there was none, would be shown as if it were signed. Date, Message-ID, Sender and the
/// thread are often completed by the next host, and List fields by a list: only what we wrote is
/// sealed. RFC 8058 4 wants List-Unsubscribe-Post covered. Resent blocks grow at the top. Fields of
/// the way (Received, Return-Path) and comments of ours are left out (RFC 6376 5.4).
const COVERED: [(&str, Cover); 29] = [
    ("From", Cover::Sealed),
    ("Reply-To", Cover::Sealed),
    ("Subject", Cover::Sealed),
    ("To", Cover::Sealed),
    ("Cc", Cover::Sealed),
    ("MIME-Version", Cover::Sealed),
    ("Content-Type", Cover::Sealed),
    ("Content-Transfer-Encoding", Cover::Sealed),
    ("Date", Cover::SealedIfThere),
    ("Message-ID", Cover::SealedIfThere),
    ("Sender", Cover::SealedIfThere),
    ("In-Reply-To", Cover::SealedIfThere),
    ("References", Cover::SealedIfThere),
    ("List-Id", Cover::SealedIfThere),
    ("List-Post", Cover::SealedIfThere),
    ("List-Help", Cover::SealedIfThere),
    ("List-Owner", Cover::SealedIfThere),
    ("List-Archive", Cover::SealedIfThere),
    ("List-Subscribe", Cover::SealedIfThere),
    ("List-Unsubscribe", Cover::SealedIfThere),
    ("List-Unsubscribe-Post", Cover::SealedIfThere),
    ("Content-ID", Cover::AsIs),
    ("Content-Description", Cover::AsIs),
    ("Content-Disposition", Cover::AsIs),
    ("Content-Language", Cover::AsIs),
    ("Resent-From", Cover::AsIs),
    ("Resent-Date", Cover::AsIs),
    ("Resent-To", Cover::AsIs),
    ("Resent-Cc", Cover::AsIs),
];

/// What of a header is signed.
pub(super) struct Covered {
    /// The value of `h=`, name by name.
    pub names: Vec<&'static str>,
    /// The fields in their canonical form, in the order of `names`.
    pub canonical: Vec<u8>,
}

/// Chooses from `head`, the octets of a header with or without its blank line. `None` without a
/// From (RFC 6376 5.4 demands it).
pub(super) fn covered(head: &[u8]) -> Option<Covered> {
    let mut found: [Vec<&[u8]>; COVERED.len()] = [const { Vec::new() }; COVERED.len()];
    for field in Fields::new(head) {
        let place = COVERED
            .iter()
            .position(|(name, _)| field.is(name.as_bytes()));
        if let Some(place) = place {
            found[place].push(field.value);
        }
    }
    if found[0].is_empty() {
        return None;
    }
    let mut covered = Covered {
        names: Vec::with_capacity(32),
        canonical: Vec::with_capacity(head.len()),
    };
    for ((name, cover), values) in COVERED.iter().zip(&found) {
        // RFC 6376 5.4.2: several of one name are taken from the last one up.
        for value in values.iter().rev().take(INSTANCES_MAX) {
            covered.names.push(name);
            relax(name.as_bytes(), value, &mut covered.canonical);
            covered.canonical.extend_from_slice(b"\r\n");
        }
        let seals = match cover {
            Cover::Sealed => true,
            Cover::SealedIfThere => !values.is_empty(),
            Cover::AsIs => false,
        };
        if seals && values.len() < INSTANCES_MAX {
            covered.names.push(name);
        }
    }
    Some(covered)
}

/// The domain that a message is from, as keys are looked for by: that of the first address in From,
/// in lower-case A-labels.
#[must_use]
pub fn from_domain(head: &[u8]) -> Option<String> {
    let entries = parse_address_list(find(head, b"From")?);
    let domain = entries.into_iter().find_map(|entry| match entry {
        ListEntry::Mailbox { domain, .. } => domain,
        ListEntry::GroupStart(_) | ListEntry::GroupEnd => None,
    })?;
    domain_key(std::str::from_utf8(&domain).ok()?)
}

/// One field in `relaxed` form, without a line end (RFC 6376 3.4.2).
pub(super) fn relax(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let begin = out.len();
    let mut space = false;
    for &octet in value {
        match octet {
            b' ' | b'\t' => space = true,
            // A fold: the white space behind it stays.
            b'\r' | b'\n' => {}
            octet => {
                if std::mem::take(&mut space) && out.len() > begin {
                    out.push(b' ');
                }
                out.push(octet);
            }
        }
    }
}
