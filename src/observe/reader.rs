//! Finds log lines again, in the current and the old files. Blocks: for the command line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use super::rotate::{self, CURRENT};
use crate::base::UnixMs;

/// What is looked for; everything that is given must match.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A log-in name or address: who did it, sent it or received it.
    pub user: Option<String>,
    pub session: Option<String>,
    pub message: Option<String>,
    /// Not before.
    pub since: Option<UnixMs>,
    /// Not after.
    pub until: Option<UnixMs>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As it stands in the file, without newline.
    pub line: String,
    pub time: UnixMs,
    fields: Map<String, Value>,
}

/// Reads on as lines are written.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    query: Query,
    file: Option<File>,
    /// What came of a line that has no newline yet.
    partial: Vec<u8>,
}

/// Fields that name a user. The last two are paths (RFC 5321 4.1.2): addresses in angle brackets.
const USER_FIELDS: [&str; 7] = [
    "user",
    "account",
    "login",
    "sender",
    "recipient",
    "from",
    "rcpt",
];

/// Longer lines are not ours.
const LINE_BYTES_MAX: u64 = 256 << 10;

impl Entry {
    fn parse(line: &[u8]) -> Option<Entry> {
        let line = std::str::from_utf8(line).ok()?;
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
            return None;
        };
        let time: jiff::Timestamp = fields.get("ts")?.as_str()?.parse().ok()?;
        Some(Entry {
            line: line.to_owned(),
            time: UnixMs(time.as_millisecond()),
            fields,
        })
    }

    /// A field as text; numbers as they are written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        match self.fields.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The fields by name, `ts`, `level` and `event` among them.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }
}

impl Query {
    /// The entry in `line`, if it matches. Looks at bytes first: most lines are somebody else's.
    fn take(&self, line: &[u8]) -> Option<Entry> {
        let ids = [&self.session, &self.message];
        let here = |id: &String| memchr::memmem::find(line, id.as_bytes()).is_some();
        if !ids.into_iter().flatten().all(here) {
            return None;
        }
        let entry = Entry::parse(line)?;
        let is = |field: &str, want: &Option<String>| {
            want.as_ref()
                .is_none_or(|want| entry.get(field).as_ref() == Some(want))
        };
        let by_user = self.user.as_ref().is_none_or(|user| {
            USER_FIELDS.iter().any(|field| {
                let value = entry.fields.get(*field).and_then(Value::as_str);
                let value = value.map(|value| value.trim_matches(['<', '>']));
                value.is_some_and(|value| value.to_lowercase() == user.to_lowercase())
            })
        });
        let in_time = self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until);
        let found =
            by_user && in_time && is("session", &self.session) && is("message", &self.message);
        found.then_some(entry)
    }
}

/// The last `most` lines that match, newest first. A file that can not be read to its end counts
/// as far as it can be; the first such error comes along.
pub fn newest_first(
    directory: &Path,
    query: &Query,
    most: usize,
) -> (Vec<Entry>, Option<io::Error>) {
    let mut found = Vec::new();
    let mut trouble = None;
    // Opened before the others are listed: if it is put aside meanwhile, nothing is missed, and
    // the inode keeps it from being read twice.
    let current = File::open(directory.join(CURRENT));
    let inode = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
    let current_inode = current
        .as_ref()
        .ok()
        .and_then(|file| file.metadata().ok().map(inode));
    let asides = rotate::list_beside_sweep(directory).unwrap_or_else(|error| {
        trouble = Some(error);
        Vec::new()
    });
    let asides = asides.iter().rev().filter(|aside| {
        let last = aside.until.as_millisecond();
        let in_time = query.since.is_none_or(|since| UnixMs(last) >= since);
        let same = || std::fs::metadata(&aside.path).ok().map(inode) == current_inode;
        in_time && !(current_inode.is_some() && same())
    });
    let current = current.map(|file| (file, false));
    let sources = std::iter::once(current).chain(asides.map(rotate::open));
    for source in sources {
        if found.len() >= most {
            break;
        }
        let mut matching = VecDeque::new();
        let room = most - found.len();
        let read = source.and_then(|(file, compressed)| {
            let plain = BufReader::new(file);
            match compressed {
                true => scan(&mut BufReader::new(MultiGzDecoder::new(plain)), |line| {
                    keep_last(&mut matching, query.take(line), room);
                }),
                false => scan(&mut { plain }, |line| {
                    keep_last(&mut matching, query.take(line), room);
                }),
            }
        });
        found.extend(matching.into_iter().rev());
        if let Err(error) = read
            && error.kind() != io::ErrorKind::NotFound
        {
            trouble.get_or_insert(error);
        }
    }
    (found, trouble)
}

fn keep_last(kept: &mut VecDeque<Entry>, entry: Option<Entry>, most: usize) {
    if let Some(entry) = entry {
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back(entry);
    }
}

/// Gives every whole line of bearable length to `each`.
fn scan(reader: &mut impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    let mut whole = true;
    loop {
        line.clear();
        let n = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        let ends = line.last() == Some(&b'\n');
        if ends && whole {
            each(&line[..n - 1]);
        }
        whole = ends;
        if n == 0 {
            return Ok(());
        }
    }
}

impl Follower {
    /// Begins at the present end of the log.
    pub fn open(directory: &Path, query: Query) -> io::Result<Self> {
        let mut follower = Follower {
            directory: directory.to_owned(),
            query,
            file: None,
            partial: Vec::new(),
        };
        match File::open(directory.join(CURRENT)) {
            Ok(mut file) => {
                io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
                follower.file = Some(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(follower)
    }

    /// What matches among the lines written since the last call, oldest first. Does not wait: call
    /// it every quarter of a second. It follows the log into the next file, but not past two that
    /// began since the last call.
    pub fn poll(&mut self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let next = match File::open(self.directory.join(CURRENT)) {
            Ok(next) => next,
            // Between rename and creation there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        let inode = |file: &File| file.metadata().map(|facts| (facts.dev(), facts.ino()));
        // The old file is read after the new one exists: nothing is written to it any more.
        self.read_on(&mut found)?;
        let moved = match &self.file {
            Some(file) => inode(file)? != inode(&next)?,
            None => true,
        };
        if moved {
            self.file = Some(next);
            self.partial.clear();
            self.read_on(&mut found)?;
        }
        Ok(found)
    }

    fn read_on(&mut self, found: &mut Vec<Entry>) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut chunk = vec![0; 64 << 10];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            self.partial.extend_from_slice(&chunk[..n]);
            let mut begin = 0;
            for newline in memchr::memchr_iter(b'\n', &self.partial) {
                found.extend(self.query.take(&self.partial[begin..newline]));
                begin = newline + 1;
            }
            self.partial.drain(..begin);
            if self.partial.len() as u64 > LINE_BYTES_MAX {
                self.partial.clear();
            }
        }
    }
}
