//! Maildir (cr.yp.to/proto/maildir.html) and Maildir++ trees, with what Dovecot adds to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::files::{self, DEPTH_MAX, Form, Kind, entries, is_dir_link};
use super::send::Sender;
use super::{From, Job, Source, below, file_error, not_followed};
use crate::cli::error::CliError;
use crate::cli::print::counted;
use crate::store::{Flags, KeywordLetters};
use crate::web::import::Head;
use crate::wire::imap::decode_utf7;

/// A list of names or keywords is no longer.
const LIST_BYTES_MAX: u64 = 4 << 20;

pub(super) fn plan(from: From) -> Result<(From, Vec<Job>), CliError> {
    let mut jobs = Vec::new();
    for root in &from.paths {
        // What is named may be a link; what is found may not.
        let root = &fs::canonicalize(root).map_err(file_error(root))?;
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        walk(root, "", DEPTH_MAX, &mut found, &mut skipped)?;
        if found.is_empty() {
            return Err(CliError::NothingToImport {
                path: root.clone(),
                what: "a Maildir (a directory with cur, new and tmp)",
            });
        }
        let subscribed = subscriptions(root);
        for (name, path) in found {
            let folder = match (from.folder.as_deref(), name.as_str()) {
                (None, "") => "INBOX".to_owned(),
                (None, name) => name.to_owned(),
                (Some(above), "") => above.to_owned(),
                (Some(above), name) => format!("{above}/{name}"),
            };
            // Without a list all are shown.
            let is_in = |all: &BTreeSet<String>| name.is_empty() || all.contains(&folded(&name));
            let subscribed = subscribed.as_ref().is_none_or(is_in);
            jobs.push(Job {
                folder,
                subscribed,
                source: Source::Maildir(path),
                skipped: std::mem::take(&mut skipped),
            });
        }
    }
    Ok((from, jobs))
}

/// The Maildirs of a tree: `.A.B` is the folder A/B of Maildir++, and a directory below another
/// a folder of its name.
fn walk(
    dir: &Path,
    name: &str,
    depth: usize,
    found: &mut Vec<(String, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<(), CliError> {
    if is_maildir(dir) {
        found.push((name.to_owned(), dir.to_owned()));
    }
    for (path, kind) in entries(dir)? {
        let bare = path.file_name().unwrap_or_default();
        if ["cur", "new", "tmp"].iter().any(|own| bare == *own) {
            continue;
        }
        match kind {
            Kind::File => continue,
            Kind::Other if is_dir_link(&path) => {
                skipped.push(not_followed(&path));
                continue;
            }
            Kind::Other => continue,
            Kind::Dir => {}
        }
        let Some(file_name) = bare.to_str() else {
            skipped.push(format!("{}: its name is not UTF-8", path.display()));
            continue;
        };
        if depth == 0 {
            skipped.push(format!("{}: too deep", path.display()));
            continue;
        }
        let inner = match file_name.strip_prefix('.') {
            // Programs keep other things there, too.
            Some(_) if !is_maildir(&path) => continue,
            Some(levels) => {
                let levels = levels.split('.').filter(|level| !level.is_empty());
                levels.fold(name.to_owned(), |above, level| {
                    below(&above, &decoded(level))
                })
            }
            None => below(name, &decoded(file_name)),
        };
        if !inner.is_empty() {
            walk(&path, &inner, depth - 1, found, skipped)?;
        }
    }
    Ok(())
}

/// Also where `cur` is a link: that its mail is not read is told then.
fn is_maildir(dir: &Path) -> bool {
    let cur = fs::symlink_metadata(dir.join("cur"));
    cur.is_ok_and(|cur| cur.is_dir() || cur.is_symlink())
}

/// A level of a folder's name: modified UTF-7, and Dovecot's `\2e` for what the disk cannot have.
fn decoded(level: &str) -> String {
    let level = decode_utf7(level.as_bytes()).map_or_else(|_| level.to_owned(), |l| l.into_owned());
    let mut out = String::with_capacity(level.len());
    let mut rest = level.as_str();
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let code = escaped
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &escaped[2..];
            }
            None => {
                out.push('\\');
                rest = escaped;
            }
        }
    }
    out + rest
}

/// Subscribed folders, as [`folded`]; `None` where there is no list.
fn subscriptions(root: &Path) -> Option<BTreeSet<String>> {
    let text =
        list(&root.join("subscriptions")).or_else(|| list(&root.join("courierimapsubscribed")))?;
    let names = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("V\t"));
    Some(names.map(|name| folded(&decoded(name))).collect())
}

/// A name whatever its separator, and whether INBOX stands before it.
fn folded(name: &str) -> String {
    let name = name.replace(['.', '\t'], "/").to_ascii_lowercase();
    name.strip_prefix("inbox/")
        .map_or(name.clone(), str::to_owned)
}

fn list(path: &Path) -> Option<String> {
    let mut file = files::open(path).ok()?;
    let mut bytes = Vec::new();
    let short = file.metadata().ok()?.len() <= LIST_BYTES_MAX;
    short.then(|| file.read_to_end(&mut bytes).ok()).flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn read(
    maildir: &Path,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    sender.source(maildir.display().to_string());
    let list = list(&maildir.join("dovecot-keywords")).unwrap_or_default();
    let keywords = KeywordLetters::of(list.as_bytes());
    let mut nameless: BTreeMap<char, u64> = BTreeMap::new();
    let mut all = Vec::new();
    for place in ["cur", "new"] {
        let dir = maildir.join(place);
        match fs::symlink_metadata(&dir) {
            Ok(of) if of.is_dir() => {
                all.extend(
                    entries(&dir)?
                        .into_iter()
                        .filter(|(_, kind)| *kind != Kind::Dir),
                );
            }
            Ok(_) => sender.unreadable(format!("{}: not a directory", dir.display())),
            Err(_) => {}
        }
    }
    // Names begin with the second of delivery: the order in which they came.
    all.sort_by_cached_key(|(path, _)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let digits = name.bytes().take_while(u8::is_ascii_digit).count();
        (
            name[..digits].parse::<u64>().unwrap_or(u64::MAX),
            name.into_owned(),
        )
    });
    bar.set_length(all.len() as u64);
    for (path, _) in all {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        bar.inc(1);
        if name.starts_with('.') {
            continue;
        }
        let marks = marks(&name, &keywords.names);
        for letter in marks.nameless {
            *nameless.entry(letter).or_default() += 1;
        }
        let said = name.split(':').next().and_then(said_size);
        files::one(&path, sender, Form::Packed(said), |_, modified| Head {
            flags: marks.flags.0,
            keywords: marks.keywords,
            date: modified,
        })?;
        bar.set_message(format!("{} read", sender.count()));
    }
    for (letter, count) in nameless {
        sender.left_out(without_name(letter, count, &keywords));
    }
    Ok(())
}

/// Why messages come without the keyword of a letter.
fn without_name(letter: char, count: u64, keywords: &KeywordLetters) -> String {
    let of = counted(count, "message");
    match keywords.odd.iter().find(|(odd, _)| *odd == letter) {
        Some((_, name)) => format!("{name:?} can be no keyword: left out of {of}"),
        None => format!("the letter {letter} has no name in dovecot-keywords: left out of {of}"),
    }
}

/// What `,S=` says: octets of the message, uncompressed.
fn said_size(base: &str) -> Option<u64> {
    let said = base.split(',').find_map(|field| field.strip_prefix("S="))?;
    said.parse().ok()
}

/// What the letters of a file's name say.
#[derive(Debug)]
pub(super) struct Marks {
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// Letters of keywords that have no name.
    pub nameless: Vec<char>,
}

/// `known`: keywords by their letters.
pub(super) fn marks(name: &str, known: &[Option<String>]) -> Marks {
    let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
    // What stands behind a further comma are no letters.
    let letters = letters.split(',').next().unwrap_or_default();
    let (mut flags, mut keywords, mut nameless) = (Flags::NONE, Vec::new(), Vec::new());
    for letter in letters.chars() {
        flags = flags.union(match letter {
            'S' => Flags::SEEN,
            'R' => Flags::ANSWERED,
            'F' => Flags::FLAGGED,
            'T' => Flags::DELETED,
            'D' => Flags::DRAFT,
            _ => Flags::NONE,
        });
        let place = u32::from(letter).wrapping_sub(u32::from('a')) as usize;
        match known.get(place) {
            Some(Some(name)) => keywords.push(name.clone()),
            Some(None) => nameless.push(letter),
            // RFC 5788: what IMAP calls what Maildir calls passed.
            None if letter == 'P' => keywords.push("$Forwarded".to_owned()),
            None => {}
        }
    }
    keywords.sort_unstable();
    keywords.dedup();
    nameless.sort_unstable();
    nameless.dedup();
    Marks {
        flags,
        keywords,
        nameless,
    }
}

#[cfg(test)]
pub(super) fn folders_of(root: &Path) -> (Vec<String>, Vec<String>) {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    walk(root, "", DEPTH_MAX, &mut found, &mut skipped).expect("a readable tree");
    (found.into_iter().map(|(name, _)| name).collect(), skipped)
}
