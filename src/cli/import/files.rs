//! One message a file.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::send::{Origin, Sender};
use super::{From, Job, Source, file_error};
use crate::base::UnixMs;
use crate::cli::error::CliError;
use crate::web::import::Head;
use crate::wire::dates::parse_date;
use crate::wire::mime;

const PIECE_BYTES: usize = 128 << 10;
const HEAD_BYTES: usize = 64 << 10;
/// Directories below one another.
pub(super) const DEPTH_MAX: usize = 32;

pub(super) fn plan(from: From) -> Result<(From, Vec<Job>), CliError> {
    let mut files = Vec::new();
    for path in &from.paths {
        match fs::metadata(path).map_err(file_error(path))?.is_dir() {
            true => gather(path, DEPTH_MAX, &mut files)?,
            false => files.push(path.clone()),
        }
    }
    let folder = from.folder.clone().unwrap_or_else(|| "INBOX".to_owned());
    let job = Job {
        folder,
        subscribed: true,
        source: Source::Files(files),
    };
    Ok((from, vec![job]))
}

/// Every `.eml` file below a directory, by name.
fn gather(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    for (path, is_dir) in entries(dir)? {
        let is_message = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("eml"));
        match is_dir {
            true if depth > 0 => gather(&path, depth - 1, files)?,
            false if is_message => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// What is in a directory, by name. Links to directories are not followed.
pub(super) fn entries(dir: &Path) -> Result<Vec<(PathBuf, bool)>, CliError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(file_error(dir))? {
        let entry = entry.map_err(file_error(dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(file_error(&path))?;
        if kind.is_dir() || kind.is_file() || path.is_file() {
            all.push((path, kind.is_dir()));
        }
    }
    all.sort();
    Ok(all)
}

pub(super) fn read(
    paths: &[PathBuf],
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    bar.set_length(paths.len() as u64);
    for path in paths {
        sender.source(path.display().to_string());
        one(path, sender, |head, modified| Head {
            flags: 0,
            keywords: Vec::new(),
            date: arrived(head).unwrap_or(modified),
        })?;
        bar.inc(1);
        bar.set_message(format!("{} read", sender.count()));
    }
    Ok(())
}

/// When a message came, as its header says it: where it was received last, else its date.
fn arrived(head: &[u8]) -> Option<UnixMs> {
    let received = mime::find(head, b"Received").and_then(|value| {
        // RFC 5321 4.4: the date stands behind the last semicolon.
        parse_date(value.rsplit(|b| *b == b';').next()?)
    });
    let date = received.or_else(|| parse_date(mime::find(head, b"Date")?))?;
    Some(UnixMs::from_seconds(date.at.seconds()))
}

/// Sends the message in a file. One that cannot be read is told in the report.
pub(super) fn one(
    path: &Path,
    sender: &mut Sender<'_>,
    head: impl FnOnce(&[u8], UnixMs) -> Head,
) -> Result<(), CliError> {
    let opened = File::open(path).and_then(|file| {
        let modified = file.metadata()?.mtime();
        Ok((file, UnixMs::from_seconds(modified)))
    });
    let unreadable = |error: std::io::Error| format!("{}: {error}", path.display());
    let (mut file, modified) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            sender.unreadable(unreadable(error));
            return Ok(());
        }
    };
    let mut piece = vec![0; PIECE_BYTES];
    let mut head = Some(head);
    loop {
        let read = match file.read(&mut piece) {
            Ok(read) => read,
            Err(error) => {
                sender.give_up(unreadable(error));
                return Ok(());
            }
        };
        if let Some(head) = head.take() {
            let text = &piece[..read.min(HEAD_BYTES)];
            sender.begin(Origin::Known(head(text, modified)));
        }
        if read == 0 {
            return sender.end();
        }
        sender.piece(&piece[..read])?;
    }
}
