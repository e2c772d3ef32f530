//! The two kinds of load: senders, which deliver to everybody, and owners, each of which changes
//! a mailbox of its own. Both write into the ledger before they act and after they hear.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::imap;
use crate::ledger::{Entry, Inbox, Letter, Mailbox, Pending};
use crate::server::{DOMAIN, PASSWORD};
use crate::smtp::{self, Dialect};

/// A small generator (splitmix64), so that runs repeat by seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// A message with its letter's name; now and then one that is too large for the journal.
#[must_use]
pub fn compose(letter: &Letter, dice: &mut Dice) -> Vec<u8> {
    let bytes = match dice.below(100) {
        0 => 400_000,
        1..=9 => 40_000,
        _ => 200 + dice.below(6_000),
    };
    let mut text = format!(
        "From: Load <load@{DOMAIN}>\r\nTo: everybody@{DOMAIN}\r\nX-Ledger: {letter}\r\n\
         Subject: letter {letter}\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <{letter}@{DOMAIN}>\r\n\r\n"
    );
    while (text.len() as u64) < bytes {
        text.push_str("The quick brown fox jumps over the lazy dog and back again.\r\n");
    }
    text.into_bytes()
}

#[must_use]
pub fn user(n: usize) -> String {
    format!("user{n}@{DOMAIN}")
}

/// Delivers until `stop`; each message to one to three users.
pub fn send(
    to: SocketAddr,
    dialect: Dialect,
    inboxes: &[Arc<Mutex<Inbox>>],
    name: &str,
    mut dice: Dice,
    stop: &AtomicBool,
) {
    let mut sent = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = smtp::Client::connect(to, dialect) else {
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            sent += 1;
            let letter = format!("{name}-{sent}");
            let first = dice.below(inboxes.len() as u64) as usize;
            let copies = (1 + dice.below(3)) as usize;
            let targets: Vec<usize> = (0..copies.min(inboxes.len()))
                .map(|n| (first + n) % inboxes.len())
                .collect();
            let recipients: Vec<String> = targets.iter().map(|n| user(*n)).collect();
            let body = compose(&letter, &mut dice);
            for n in &targets {
                locked(&inboxes[*n]).sending(&letter);
            }
            if client
                .send(&format!("load@{DOMAIN}"), &recipients, &body)
                .is_err()
            {
                break;
            }
            for n in &targets {
                locked(&inboxes[*n]).acknowledged(&letter);
            }
        }
    }
}

/// Appends, flags and expunges in one mailbox until `stop`.
pub fn own(
    to: SocketAddr,
    user: &str,
    folder: &str,
    mailbox: &Mutex<Mailbox>,
    name: &str,
    mut dice: Dice,
    stop: &AtomicBool,
) {
    let Ok(mut client) = imap::Client::login(to, user, PASSWORD) else {
        return;
    };
    if client.command(&format!("SELECT {folder}")).is_err() {
        return;
    }
    let mut made = 0u64;
    while !stop.load(Ordering::Relaxed) {
        made += 1;
        let letter = format!("{name}-{made}");
        if change(&mut client, folder, mailbox, letter, &mut dice).is_err() {
            return;
        }
    }
}

fn change(
    client: &mut imap::Client,
    folder: &str,
    mailbox: &Mutex<Mailbox>,
    letter: Letter,
    dice: &mut Dice,
) -> io::Result<()> {
    let uids: Vec<u32> = locked(mailbox).entries.keys().copied().collect();
    let any = |dice: &mut Dice| uids[dice.below(uids.len() as u64) as usize];
    let kind = if uids.len() < 5 { 0 } else { dice.below(4) };
    match kind {
        0 => {
            let entry = Entry {
                letter: letter.clone(),
                flags: vec!["\\Seen".to_owned()],
            };
            locked(mailbox).pending = Some(Pending::Append(entry));
            let body = compose(&letter, dice);
            let done = client.command_with(&format!("APPEND {folder} (\\Seen)"), &body)?;
            let uid = done
                .text
                .strip_prefix("[APPENDUID ")
                .and_then(|rest| rest.split([' ', ']']).nth(1)?.parse().ok())
                .ok_or_else(|| io::Error::other("APPEND without APPENDUID"))?;
            locked(mailbox).confirmed(Some(uid));
        }
        1 | 2 => {
            let uid = any(dice);
            let mut flags: Vec<String> = ["\\Flagged", "\\Answered", "$Ledger", "\\Draft"]
                .iter()
                .filter(|_| dice.below(2) == 0)
                .map(|flag| (*flag).to_owned())
                .collect();
            flags.sort();
            let command = format!("UID STORE {uid} FLAGS.SILENT ({})", flags.join(" "));
            locked(mailbox).pending = Some(Pending::Flags { uid, flags });
            client.command(&command)?;
            locked(mailbox).confirmed(None);
        }
        _ => {
            let uid = any(dice);
            let mut flags = locked(mailbox).entries[&uid].flags.clone();
            flags.push("\\Deleted".to_owned());
            flags.sort();
            locked(mailbox).pending = Some(Pending::Flags { uid, flags });
            client.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
            locked(mailbox).confirmed(None);
            locked(mailbox).pending = Some(Pending::Expunge { uid });
            client.command(&format!("UID EXPUNGE {uid}"))?;
            locked(mailbox).confirmed(None);
        }
    }
    Ok(())
}

/// UID, letter and flags of all messages of a mailbox, and its UIDVALIDITY.
pub fn inspect(
    client: &mut imap::Client,
    folder: &str,
) -> io::Result<(u64, BTreeMap<u32, Entry>, usize)> {
    let selected = client.command(&format!("EXAMINE {folder}"))?;
    let number = |name: &str| {
        selected
            .untagged
            .iter()
            .find_map(|line| imap::number_after(&line.text, name))
    };
    let uidvalidity = number("[UIDVALIDITY ").ok_or_else(|| io::Error::other("no UIDVALIDITY"))?;
    let exists = selected
        .untagged
        .iter()
        .find_map(|line| {
            line.text
                .strip_prefix("* ")?
                .strip_suffix(" EXISTS")?
                .parse()
                .ok()
        })
        .unwrap_or(0usize);
    let mut found = BTreeMap::new();
    if exists > 0 {
        let fetch = "UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-Ledger)])";
        for row in client.command(fetch)?.untagged {
            let Some(uid) = imap::number_after(&row.text, "UID ") else {
                continue;
            };
            let header = row
                .literals
                .first()
                .map(|bytes| String::from_utf8_lossy(bytes));
            let letter = header
                .as_deref()
                .and_then(|text| text.trim().strip_prefix("X-Ledger: "))
                .unwrap_or("without a name")
                .to_owned();
            let flags = imap::flags_of(&row.text).unwrap_or_default();
            found.insert(u32::try_from(uid).unwrap_or(0), Entry { letter, flags });
        }
    }
    Ok((uidvalidity, found, exists))
}

/// A ledger is only ever locked for one line; a worker that panicked has failed the run anyway.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
