//! Maildir (cr.yp.to/proto/maildir.html) and Maildir++ trees, with what Dovecot adds to them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::files::{self, DEPTH_MAX, Form, Kind, entries, is_dir_link};
use super::send::Sender;
use super::{From, Job, Source, below, file_error, not_followed};
use crate::cli::error::CliError;
use crate::store::Flags;
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

/// Keywords by their letters: `0 $Forwarded` is `a`.
fn keywords(maildir: &Path) -> Vec<(char, String)> {
    let text = list(&maildir.join("dovecot-keywords")).unwrap_or_default();
    let one = |line: &str| {
        let (number, name) = line.split_once(' ')?;
        let letter = b'a' + number.parse::<u8>().ok().filter(|n| *n < 26)?;
        Some((char::from(letter), name.trim().to_owned()))
    };
    text.lines().filter_map(one).collect()
}

pub(super) fn read(
    maildir: &Path,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    sender.source(maildir.display().to_string());
    let keywords = keywords(maildir);
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
        let (flags, keywords) = marks(&name, &keywords);
        let said = name.split(':').next().and_then(said_size);
        files::one(&path, sender, Form::Packed(said), |_, modified| Head {
            flags: flags.0,
            keywords,
            date: modified,
        })?;
        bar.set_message(format!("{} read", sender.count()));
    }
    Ok(())
}

/// What `,S=` says: octets of the message, uncompressed.
fn said_size(base: &str) -> Option<u64> {
    let said = base.split(',').find_map(|field| field.strip_prefix("S="))?;
    said.parse().ok()
}

/// Flags and keywords from the letters of a file's name.
fn marks(name: &str, known: &[(char, String)]) -> (Flags, Vec<String>) {
    let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
    let (mut flags, mut keywords) = (Flags::NONE, Vec::new());
    for letter in letters.chars() {
        flags = flags.union(match letter {
            'S' => Flags::SEEN,
            'R' => Flags::ANSWERED,
            'F' => Flags::FLAGGED,
            'T' => Flags::DELETED,
            'D' => Flags::DRAFT,
            _ => Flags::NONE,
        });
        let named = known.iter().find(|(of, _)| *of == letter);
        // RFC 5788: what IMAP calls what Maildir calls passed.
        let forwarded = (letter == 'P').then_some("$Forwarded");
        let keyword = named.map(|(_, name)| name.as_str()).or(forwarded);
        keywords.extend(keyword.map(str::to_owned));
    }
    keywords.sort_unstable();
    keywords.dedup();
    (flags, keywords)
}

/// For tests: what a file's name says.
#[cfg(test)]
pub(super) fn marks_of(name: &str, known: &[(char, String)]) -> (u8, Vec<String>) {
    let (flags, keywords) = marks(name, known);
    (flags.0, keywords)
}

#[cfg(test)]
pub(super) fn folders_of(root: &Path) -> (Vec<String>, Vec<String>) {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    walk(root, "", DEPTH_MAX, &mut found, &mut skipped).expect("a readable tree");
    (found.into_iter().map(|(name, _)| name).collect(), skipped)
}
