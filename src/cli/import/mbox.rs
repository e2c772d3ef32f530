//! Mbox files, plain or compressed, and directories of them.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indicatif::ProgressBar;

use super::files::{DEPTH_MAX, entries};
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
        if fs::metadata(path).map_err(file_error(path))?.is_dir() {
            walk(path, &above, DEPTH_MAX, &mut jobs)?;
        } else if is_mbox(path)? {
            let folder = match from.folder.clone() {
                Some(folder) => folder,
                None => of_file(path, &from.user),
            };
            jobs.push(job(folder, path.clone()));
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
fn walk(dir: &Path, above: &str, depth: usize, jobs: &mut Vec<Job>) -> Result<(), CliError> {
    for (path, is_dir) in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Indexes, locks, and what programs hide.
        let hidden = name.starts_with('.') || name.ends_with(".msf") || name.ends_with(".lock");
        if hidden {
            continue;
        }
        if is_dir && depth > 0 {
            let level = name.strip_suffix(".sbd").unwrap_or(&name);
            walk(&path, &below(above, level), depth - 1, jobs)?;
        } else if !is_dir && is_mbox(&path)? {
            jobs.push(job(below(above, &name_of(&path)), path));
        }
    }
    Ok(())
}

/// Whether it begins as an mbox file does. An empty one is a folder without messages.
fn is_mbox(path: &Path) -> Result<bool, CliError> {
    let mut first = Vec::new();
    let read = Packing::of(path).and_then(|packing| packing.open(path, None));
    let read = read.and_then(|from| from.take(FIRST_BYTES as u64).read_to_end(&mut first));
    match read {
        Ok(_) => {}
        // Named like one, and it is none.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(file_error(path)(error)),
    }
    let blank = first.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    let blank = blank.count();
    Ok(first.is_empty() || from_line(&first[blank..]).is_some())
}

/// How a file is packed, by its first octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &Path) -> io::Result<Packing> {
        let mut magic = [0; 4];
        let read = File::open(path)?.read_at(&mut magic, 0)?;
        Ok(match magic[..read] {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::Plain,
        })
    }

    fn open(self, path: &Path, count: Option<Rc<Cell<u64>>>) -> io::Result<Box<dyn Read>> {
        let file = Counted {
            file: File::open(path)?,
            count: count.unwrap_or_default(),
        };
        Ok(match self {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }
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
    /// Of a compressed file: a second reader, ahead of the first, and where it is.
    scout: Option<(Box<dyn Read>, u64)>,
    restarts: u32,
}

impl Input {
    fn open(path: &Path) -> io::Result<Input> {
        let packing = Packing::of(path)?;
        let count = Rc::new(Cell::new(0));
        Ok(Input {
            path: path.to_owned(),
            packing,
            from: packing.open(path, Some(count.clone()))?,
            count,
            held: Vec::new(),
            used: 0,
            last: false,
            scout: None,
            restarts: 0,
        })
    }

    /// Reads until `wanted` octets are in the window, or the end of the file.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        self.held.drain(..self.used);
        self.used = 0;
        while self.held.len() < wanted && !self.last {
            let at = self.held.len();
            self.held.resize(at + READ_BYTES, 0);
            let read = match self.from.read(&mut self.held[at..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.held.truncate(at);
                    continue;
                }
                other => other?,
            };
            self.held.truncate(at + read);
            self.last = read == 0;
        }
        Ok(())
    }

    /// What is at an offset of the file; `None` where it ends before.
    fn look(&mut self, at: u64) -> io::Result<Option<Vec<u8>>> {
        if self.packing == Packing::Plain {
            let file = File::open(&self.path)?;
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
            self.scout = Some((self.packing.open(&self.path, None)?, 0));
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
    let mut input = Input::open(path).map_err(file_error(path))?;
    bar.set_length(fs::metadata(path).map_err(file_error(path))?.len());
    input.fill(JUDGED_BYTES).map_err(file_error(path))?;
    let dialect = judge(&input.held, input.last);
    sender.source(format!("{} ({})", path.display(), dialect.name()));
    match split(&mut input, dialect, sender, bar) {
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
    input: &mut Input,
    dialect: Dialect,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), Stop> {
    let mut splitter = Splitter::new(dialect, 0);
    let mut unquote = Unquote::default();
    let mut text = Vec::new();
    loop {
        let (used, step) = splitter.step(&input.held[input.used..], input.last);
        let grow = used == 0;
        match step {
            Step::Begin(from) => sender.begin(Origin::Mbox(from)),
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
    walk(root, "", DEPTH_MAX, &mut jobs).expect("a readable tree");
    jobs.into_iter().map(|job| job.folder).collect()
}
