//! One message a file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use rustix::fs::OFlags;

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
/// What a compressed message may come to: a larger one is damaged or a trap.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// What a name in a directory stands for, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Dir,
    File,
    /// A link, a pipe, a device: never read. Whoever writes a mailbox might lead its reader, who may
    /// be root, to what is not theirs.
    Other,
}

pub(super) fn plan(from: From) -> Result<(From, Vec<Job>), CliError> {
    let mut files = Vec::new();
    for path in &from.paths {
        // What is named may be a link; what is found may not.
        let path = fs::canonicalize(path).map_err(file_error(path))?;
        match path.is_dir() {
            true => gather(&path, DEPTH_MAX, &mut files)?,
            false => files.push(path),
        }
    }
    let folder = from.folder.clone().unwrap_or_else(|| "INBOX".to_owned());
    let job = Job {
        folder,
        subscribed: true,
        source: Source::Files(files),
        skipped: Vec::new(),
    };
    Ok((from, vec![job]))
}

/// Every `.eml` file below a directory, by name.
fn gather(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    for (path, kind) in entries(dir)? {
        let is_message = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("eml"));
        match kind {
            Kind::Dir if depth > 0 => gather(&path, depth - 1, files)?,
            Kind::File | Kind::Other if is_message => files.push(path),
            // What is not read is told.
            Kind::Dir => files.push(path),
            Kind::Other if is_dir_link(&path) => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// What is in a directory, by name.
pub(super) fn entries(dir: &Path) -> Result<Vec<(PathBuf, Kind)>, CliError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(file_error(dir))? {
        let entry = entry.map_err(file_error(dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(file_error(&path))?;
        let kind = match (kind.is_dir(), kind.is_file()) {
            (true, _) => Kind::Dir,
            (_, true) => Kind::File,
            _ => Kind::Other,
        };
        all.push((path, kind));
    }
    all.sort();
    Ok(all)
}

/// A link that leads to a directory, whose mail is therefore left out.
pub(super) fn is_dir_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|of| of.is_symlink()) && path.is_dir()
}

/// How a file is packed, by its first octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub fn of(file: &File) -> io::Result<Packing> {
        let mut magic = [0; 4];
        let read = file.read_at(&mut magic, 0)?;
        Ok(match magic[..read] {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::Plain,
        })
    }

    /// What is in a file that is packed so.
    pub fn open(self, file: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Packing::Plain => file,
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }
}

/// Opens a regular file, and nothing else: no link, no pipe that would be waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut how = fs::OpenOptions::new();
    how.read(true).custom_flags(flags.bits().cast_signed());
    let file = how.open(path).map_err(|error| {
        match fs::symlink_metadata(path).is_ok_and(|of| of.is_symlink()) {
            true => io::Error::other("a symbolic link, which is not followed"),
            false => error,
        }
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// The message in a file that may be compressed (Dovecot's mail_compress, zlib), by the rule that an
/// adopted file is read by: `,S=` says the length of the message, and a file of that length is one.
pub(super) fn unpacked(mut file: File, said: Option<u64>) -> io::Result<Box<dyn Read>> {
    let packing = Packing::of(&file)?;
    let len = file.metadata()?.len();
    if packing == Packing::Plain || said == Some(len) {
        return Ok(Box::new(file));
    }
    let content = packing.open(Box::new(file.try_clone()?));
    let unpacked = content
        .and_then(|content| io::copy(&mut content.take(UNPACKED_BYTES_MAX + 1), &mut io::sink()));
    file.rewind()?;
    match unpacked {
        Ok(octets) if octets != len && octets <= UNPACKED_BYTES_MAX => packing.open(Box::new(file)),
        Ok(octets) if octets <= UNPACKED_BYTES_MAX => Ok(Box::new(file)),
        Ok(_) => Err(io::Error::other("it unpacks to more than 1 GiB")),
        // Its name says that the message is longer than what can be had of it.
        Err(error) if said.is_some() => Err(error),
        Err(_) => Ok(Box::new(file)),
    }
}

pub(super) fn read(
    paths: &[PathBuf],
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    bar.set_length(paths.len() as u64);
    for path in paths {
        sender.source(path.display().to_string());
        one(path, sender, Form::Plain, |head, modified| Head {
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

/// How the files of a source are to be read.
pub(super) enum Form {
    Plain,
    /// Maybe compressed, and what its name says of its length.
    Packed(Option<u64>),
}

/// Sends the message in a file. One that cannot be read is told in the report.
pub(super) fn one(
    path: &Path,
    sender: &mut Sender<'_>,
    form: Form,
    head: impl FnOnce(&[u8], UnixMs) -> Head,
) -> Result<(), CliError> {
    let opened = open(path).and_then(|file| {
        let modified = file.metadata()?.mtime();
        let content: Box<dyn Read> = match form {
            Form::Plain => Box::new(file),
            Form::Packed(said) => unpacked(file, said)?,
        };
        Ok((content, UnixMs::from_seconds(modified)))
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
            sender.begin(
                Origin::Known(head(text, modified)),
                path.display().to_string(),
            );
        }
        if read == 0 {
            return sender.end();
        }
        sender.piece(&piece[..read])?;
    }
}
