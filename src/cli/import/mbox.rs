//! Mbox files, plain or compressed, and directories of them.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indicatif::ProgressBar;

use super::files::{self, DEPTH_MAX, Kind, Packing, entries, is_dir_link};
use super::send::{Origin, Sender};
use super::{From, Job, Source, below, file_error};
use crate::cli::error::CliError;
use crate::wire::mbox::{
    Dialect, JUDGED_BYTES, LOOK_BYTES, Splitter, Step, Unquote, WINDOW_BYTES_MIN, from_line, judge,
};

/// Read at once.
const READ_BYTES: usize = 256 << 10;
/// A compressed file is unpacked again from its begin for lengths that point back; beyond, lengths
/// are not believed.
const RESTARTS_MAX: u32 = 8;
/// What says that a compressed file is an mbox file.
const FIRST_BYTES: usize = 4 << 10;

pub(super) fn plan(from: From) -> Result<(From, Vec<Job>), CliError> {
    let mut jobs = Vec::new();
    let above = from.folder.clone().unwrap_or_default();
    for path in &from.paths {
        let before = jobs.len();
        let mut skipped = Vec::new();
        // What is named may be a link; what is found may not.
        let real = fs::canonicalize(path).map_err(file_error(path))?;
        if real.is_dir() {
            walk(&real, &above, DEPTH_MAX, &mut jobs, &mut skipped)?;
        } else if is_mbox(&real)? {
            let folder = match from.folder.clone() {
                Some(folder) => folder,
                None => of_file(path, &from.user),
            };
            jobs.push(job(folder, real));
        }
        if let Some(first) = jobs.get_mut(before) {
            first.skipped = skipped;
        }
        if jobs.len() == before {
            return Err(CliError::NothingToImport {
                path: path.clone(),
                what: "an mbox file (its first line begins with From and a blank)",
            });
        }
    }
    Ok((from, jobs))
}

fn job(folder: String, path: PathBuf) -> Job {
    Job {
        folder,
        subscribed: true,
        source: Source::Mbox(path),
        skipped: Vec::new(),
    }
}

/// A file named after its user, as in `/var/mail`, is the inbox.
fn of_file(path: &Path, user: &str) -> String {
    let name = name_of(path);
    let local = user.split('@').next().unwrap_or_default();
    match name == local || name == user {
        true => "INBOX".to_owned(),
        false => below("", &name),
    }
}

/// The file's name without what says how it is stored.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut name = name.as_ref();
    for ending in [".gz", ".zst", ".zstd", ".mbox", ".mbx"] {
        let short = name.len().checked_sub(ending.len()).filter(|at| *at > 0);
        if let Some((stem, _)) = short.and_then(|at| name.split_at_checked(at))
            && name[stem.len()..].eq_ignore_ascii_case(ending)
        {
            name = stem;
        }
    }
    name.to_owned()
}

/// Thunderbird keeps what is below the folder X in the directory X.sbd; others in one called X.
fn walk(
    dir: &Path,
    above: &str,
    depth: usize,
    jobs: &mut Vec<Job>,
    skipped: &mut Vec<String>,
) -> Result<(), CliError> {
    for (path, kind) in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Indexes, locks, and what programs hide.
        let hidden = name.starts_with('.') || name.ends_with(".msf") || name.ends_with(".lock");
        if hidden {
            continue;
        }
        match kind {
            Kind::Dir if depth > 0 => {
                let level = name.strip_suffix(".sbd").unwrap_or(&name);
                walk(&path, &below(above, level), depth - 1, jobs, skipped)?;
            }
            Kind::Dir => skipped.push(format!("{}: too deep", path.display())),
            Kind::File if is_mbox(&path)? => jobs.push(job(below(above, &name_of(&path)), path)),
            Kind::Other if path.is_file() || is_dir_link(&path) => {
                skipped.push(super::not_followed(&path));
            }
            Kind::File | Kind::Other => {}
        }
    }
    Ok(())
}

/// Whether it begins as an mbox file does. An empty one is a folder without messages.
fn is_mbox(path: &Path) -> Result<bool, CliError> {
    let mut first = Vec::new();
    let read = open(path, None).map(|(_, from)| from);
    let read = read.and_then(|from| from.take(FIRST_BYTES as u64).read_to_end(&mut first));
    match read {
        Ok(_) => {}
        // Cut off: what can be read of it is taken, and the report says that it is not all.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        // Compressed, damaged, and not known to be one.
        Err(error) if is_damage(&error) && first.is_empty() => return Ok(false),
        Err(error) if is_damage(&error) => {}
        Err(error) => return Err(file_error(path)(error)),
    }
    let blank = first.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    let blank = blank.count();
    Ok(first.is_empty() || from_line(&first[blank..]).is_some())
}

/// What a decoder says of octets that it cannot have made.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput};
    matches!(error.kind(), InvalidData | InvalidInput)
}

/// How a file is packed, and what is in it.
fn open(path: &Path, count: Option<Rc<Cell<u64>>>) -> io::Result<(Packing, Box<dyn Read>)> {
    let file = files::open(path)?;
    let packing = Packing::of(&file)?;
    let count = count.unwrap_or_default();
    let content = packing.open(Box::new(Counted { file, count }))?;
    Ok((packing, content))
}

/// Counts what was read of a file, for the progress.
struct Counted {
    file: File,
    count: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// A window on an mbox file that moves on.
struct Input {
    path: PathBuf,
    packing: Packing,
    from: Box<dyn Read>,
    count: Rc<Cell<u64>>,
    held: Vec<u8>,
    used: usize,
    last: bool,
    /// Why nothing comes behind what is held, though it is not the end.
    broken: Option<io::Error>,
    /// Of a compressed file: a second reader, ahead of the first, and where it is.
    scout: Option<(Box<dyn Read>, u64)>,
    restarts: u32,
}

impl Input {
    fn open(path: &Path) -> io::Result<Input> {
        let count = Rc::new(Cell::new(0));
        let (packing, from) = open(path, Some(count.clone()))?;
        Ok(Input {
            path: path.to_owned(),
            packing,
            from,
            count,
            held: Vec::new(),
            used: 0,
            last: false,
            broken: None,
            scout: None,
            restarts: 0,
        })
    }

    /// Reads until `wanted` octets are in the window, or the end of the file. Where reading fails,
    /// what came before is held, and the next call says why there is no more.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        self.held.drain(..self.used);
        self.used = 0;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while self.held.len() < wanted && !self.last && self.broken.is_none() {
            let at = self.held.len();
            self.held.resize(at + READ_BYTES, 0);
            let read = match self.from.read(&mut self.held[at..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.held.truncate(at);
                    continue;
                }
                Err(error) => {
                    self.held.truncate(at);
                    self.broken = Some(error);
                    continue;
                }
                Ok(read) => read,
            };
            self.held.truncate(at + read);
            self.last = read == 0;
        }
        Ok(())
    }

    /// What is at an offset of the file; `None` where it ends before.
    fn look(&mut self, at: u64) -> io::Result<Option<Vec<u8>>> {
        if self.packing == Packing::Plain {
            let file = files::open(&self.path)?;
            if file.metadata()?.len() < at {
                return Ok(None);
            }
            let mut octets = vec![0; LOOK_BYTES];
            let read = file.read_at(&mut octets, at)?;
            octets.truncate(read);
            return Ok(Some(octets));
        }
        let back = self.scout.as_ref().is_none_or(|(_, there)| *there > at);
        if back {
            if self.restarts == RESTARTS_MAX {
                return Ok(None);
            }
            self.restarts += 1;
            self.scout = Some((open(&self.path, None)?.1, 0));
        }
        let Some((scout, there)) = &mut self.scout else {
            return Ok(None);
        };
        let ahead = at - *there;
        let skipped = io::copy(&mut scout.take(ahead), &mut io::sink())?;
        *there += skipped;
        if skipped < ahead {
            return Ok(None);
        }
        let mut octets = Vec::new();
        *there += scout.take(LOOK_BYTES as u64).read_to_end(&mut octets)? as u64;
        Ok(Some(octets))
    }
}

pub(super) fn read(
    path: &Path,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    let opened = Input::open(path).and_then(|mut input| {
        bar.set_length(fs::symlink_metadata(path)?.len());
        input.fill(JUDGED_BYTES)?;
        Ok(input)
    });
    let mut input = match opened {
        Ok(input) => input,
        // The other files are read all the same.
        Err(error) => {
            sender.source(path.display().to_string());
            sender.unreadable(format!("{}: {error}", path.display()));
            return Ok(());
        }
    };
    let dialect = judge(&input.held, input.last);
    sender.source(format!("{} ({})", path.display(), dialect.name()));
    match split(path, &mut input, dialect, sender, bar) {
        Ok(()) => Ok(()),
        // What was read before is kept, and the report says that it is not all.
        Err(Stop::Unreadable(error)) => {
            sender.give_up(format!("{}: {error}", path.display()));
            Ok(())
        }
        Err(Stop::Other(why)) => Err(why),
    }
}

enum Stop {
    Unreadable(String),
    Other(CliError),
}

impl std::convert::From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Unreadable(error.to_string())
    }
}

fn split(
    path: &Path,
    input: &mut Input,
    dialect: Dialect,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), Stop> {
    let mut splitter = Splitter::new(dialect, 0);
    let mut unquote = Unquote::default();
    let mut text = Vec::new();
    let mut number = 0u64;
    loop {
        let (used, step) = splitter.step(&input.held[input.used..], input.last);
        let grow = used == 0;
        match step {
            Step::Begin(from) => {
                number += 1;
                let place = format!("{}, message {number}", path.display());
                sender.begin(Origin::Mbox(from), place);
            }
            Step::Piece(piece) if dialect.quoted => {
                text.clear();
                unquote.feed(piece, &mut text);
                sender.piece(&text).map_err(Stop::Other)?;
            }
            Step::Piece(piece) => sender.piece(piece).map_err(Stop::Other)?,
            Step::End { .. } => {
                text.clear();
                unquote.finish(&mut text);
                sender.piece(&text).map_err(Stop::Other)?;
                sender.end().map_err(Stop::Other)?;
                bar.set_position(input.count.get());
                bar.set_message(format!("{} read", sender.count()));
            }
            Step::Look(at) => {
                let octets = input.look(at)?;
                splitter.looked(at, octets.as_deref());
                continue;
            }
            Step::More if grow => {
                let wanted = (input.held.len() - input.used + 1).max(WINDOW_BYTES_MIN);
                input.fill(wanted)?;
                continue;
            }
            Step::More => {}
            Step::NoMbox => {
                let at = splitter.at();
                return Err(Stop::Unreadable(format!("no From line at octet {at}")));
            }
            Step::Done => return Ok(()),
        }
        input.used += used;
    }
}

#[cfg(test)]
pub(super) fn folders_of(root: &Path) -> Vec<String> {
    let mut jobs = Vec::new();
    walk(root, "", DEPTH_MAX, &mut jobs, &mut Vec::new()).expect("a readable tree");
    jobs.into_iter().map(|job| job.folder).collect()
}

/// What is held of a file before it ends or fails, and why it fails.
#[cfg(test)]
pub(super) fn held_of(path: &Path) -> (bool, usize, Option<io::ErrorKind>) {
    let is_one = is_mbox(path).expect("is judged");
    let mut input = Input::open(path).expect("opens");
    input.fill(JUDGED_BYTES).expect("what is there is held");
    let held = input.held.len();
    let next = input.fill(JUDGED_BYTES);
    (is_one, held, next.err().map(|error| error.kind()))
}
