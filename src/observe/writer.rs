//! The one thread that writes the log.
//!
//! It takes lines from a bounded channel and writes what has gathered in one go. A write that fails
//! is counted and tried again every second with what is pending; when that is full too, lines are
//! dropped and counted. Nothing here is waited for, except by [`Guard::finish`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::counters;
use super::layer::LogError;
use super::rotate::{self, CURRENT};
use super::{event, log_event};
use crate::base::ByteSize;

/// Where lines go.
#[derive(Clone, Debug)]
pub enum LogTarget {
    /// Logfmt on standard error.
    Terminal,
    /// JSON in files.
    File(LogFile),
    /// Both.
    Both(LogFile),
}

/// The log's files.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Holds `palomar.log` and what was rotated.
    pub directory: PathBuf,
    /// A file as large as this is put aside; at midnight UTC it is too.
    pub file_bytes_max: ByteSize,
    /// Days that files are kept after they were put aside.
    pub keep_days: u32,
}

/// Ends the log in good order.
#[must_use]
#[derive(Debug)]
pub struct Guard(SyncSender<Item>);

pub(super) enum Item {
    Line(Line),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// A line in the forms that the target wants.
pub(super) struct Line {
    pub terminal: Option<String>,
    pub file: Option<String>,
}

/// Lines that may wait for the writer.
const LINES_MAX: usize = 8_192;
/// Lines that one write takes together.
const BATCH_LINES_MAX: usize = 512;
/// Bytes kept for a disk that refuses them.
const PENDING_BYTES_MAX: usize = 4 << 20;
const RETRY: Duration = Duration::from_secs(1);
/// How late after midnight an idle log may be put aside.
const IDLE: Duration = Duration::from_secs(60);

impl Guard {
    pub(super) fn new(lines: SyncSender<Item>) -> Self {
        Guard(lines)
    }

    /// Waits until every line so far is written, at most `span`; false if time ran out. The log
    /// goes on: lines after this may still be written.
    pub fn finish(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        let (done, wait) = mpsc::sync_channel(1);
        let mut item = Item::Flush(done);
        loop {
            match self.0.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < until => {
                    item = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return false,
            }
        }
        wait.recv_timeout(until.saturating_duration_since(Instant::now()))
            .is_ok()
    }
}

pub(super) fn start(target: LogTarget) -> Result<SyncSender<Item>, LogError> {
    let mut sink = match target {
        LogTarget::Terminal => None,
        LogTarget::File(file) | LogTarget::Both(file) => {
            let place = file.directory.clone();
            Some(FileSink::open(file).map_err(|error| LogError::File(place, error))?)
        }
    };
    let (sender, lines) = mpsc::sync_channel(LINES_MAX);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || run(&lines, sink.as_mut()))
        .map_err(LogError::Thread)?;
    Ok(sender)
}

fn run(lines: &Receiver<Item>, mut sink: Option<&mut FileSink>) {
    let mut terminal = String::new();
    let mut flushes = Vec::new();
    loop {
        let waits = sink.as_ref().is_some_and(|sink| !sink.pending.is_empty());
        let first = match lines.recv_timeout(if waits { RETRY } else { IDLE }) {
            Ok(item) => Some(item),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for item in first
            .into_iter()
            .chain(lines.try_iter().take(BATCH_LINES_MAX))
        {
            match item {
                Item::Flush(done) => flushes.push(done),
                Item::Line(line) => {
                    terminal.push_str(line.terminal.as_deref().unwrap_or_default());
                    if let (Some(sink), Some(text)) = (&mut sink, &line.file) {
                        sink.push(text);
                    }
                }
            }
        }
        if !terminal.is_empty() && io::stderr().write_all(terminal.as_bytes()).is_err() {
            counters::LOG_WRITE_ERRORS.increment();
        }
        terminal.clear();
        let written = sink.as_mut().is_none_or(|sink| sink.write(Instant::now()));
        if written {
            for done in flushes.drain(..) {
                // Who stopped waiting need not know.
                let _: Result<(), _> = done.try_send(());
            }
        }
    }
}

/// The current file, what is not yet in it, and its turn to be put aside.
struct FileSink {
    place: LogFile,
    file: Option<File>,
    bytes: u64,
    /// The UTC day of what is in the file.
    day: i64,
    pending: Vec<u8>,
    /// False after a write that took a part of a line.
    at_line_start: bool,
    retry_at: Option<Instant>,
    sweep: Option<JoinHandle<()>>,
}

impl FileSink {
    fn open(place: LogFile) -> io::Result<Self> {
        std::fs::create_dir_all(&place.directory)?;
        let mut sink = FileSink {
            place,
            file: None,
            bytes: 0,
            day: rotate::today(),
            pending: Vec::new(),
            at_line_start: true,
            retry_at: None,
            sweep: None,
        };
        sink.reopen()?;
        // A stop may have cut the last line: the next one must not continue it.
        let path = sink.place.directory.join(CURRENT);
        if sink.bytes > 0 && !rotate::ends_with_newline(&path)? {
            sink.pending.push(b'\n');
        }
        sink.start_sweep();
        Ok(sink)
    }

    fn push(&mut self, line: &str) {
        match self.pending.len() + line.len() <= PENDING_BYTES_MAX {
            true => self.pending.extend_from_slice(line.as_bytes()),
            false => counters::LOG_DROPPED.increment(),
        }
    }

    /// Writes what is pending, if it is time; true if nothing is pending any more.
    fn write(&mut self, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.retry_at = None;
        if self.try_write().is_err() {
            // The log can not tell: the counter does.
            counters::LOG_WRITE_ERRORS.increment();
            self.file = None;
            self.retry_at = Some(now + RETRY);
            return false;
        }
        true
    }

    fn try_write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let mut done = 0;
        let mut result = Ok(());
        while result.is_ok() && (done < self.pending.len() || self.is_stale()) {
            result = self
                .rotate_if_due()
                .and_then(|()| self.write_some(&mut done));
        }
        self.pending.drain(..done);
        result
    }

    /// One write: of whole lines, up to the size where the next file begins.
    fn write_some(&mut self, done: &mut usize) -> io::Result<()> {
        let rest = &self.pending[*done..];
        let room = self.place.file_bytes_max.0.saturating_sub(self.bytes);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let fits = match rest.len() <= room {
            true => rest.len(),
            false => memchr::memrchr(b'\n', &rest[..room])
                .or_else(|| memchr::memchr(b'\n', rest))
                .map_or(rest.len(), |newline| newline + 1),
        };
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if fits == 0 {
            return Ok(());
        }
        let n = match file.write(&rest[..fits]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            other => other?,
        };
        self.at_line_start = rest[n - 1] == b'\n';
        self.bytes += n as u64;
        *done += n;
        Ok(())
    }

    /// True if the file holds only lines of a day that is over.
    fn is_stale(&self) -> bool {
        self.at_line_start && self.bytes > 0 && self.day != rotate::today()
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let full = self.bytes > 0 && self.bytes >= self.place.file_bytes_max.0;
        if !self.at_line_start || !(full || self.is_stale()) {
            return Ok(());
        }
        let name = rotate::put_aside(&self.place.directory)?;
        self.reopen()?;
        log_event!(INFO, event::LOG_ROTATED, file = %name.display());
        self.start_sweep();
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let path = self.place.directory.join(CURRENT);
        // Addresses of people: not for everybody to read.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        let facts = file.metadata()?;
        self.bytes = facts.len();
        self.day = match (self.bytes, facts.modified()) {
            (1.., Ok(time)) => rotate::day_of(time),
            _ => rotate::today(),
        };
        self.file = Some(file);
        Ok(())
    }

    /// Compresses and deletes on a thread of its own; one at a time. What a skipped or failed sweep
    /// leaves the next one finds.
    fn start_sweep(&mut self) {
        if self
            .sweep
            .as_ref()
            .is_some_and(|sweep| !sweep.is_finished())
        {
            return;
        }
        let (directory, keep_days) = (self.place.directory.clone(), self.place.keep_days);
        let sweep = std::thread::Builder::new()
            .name("log-sweep".to_owned())
            .spawn(move || {
                counters::LOG_SWEEP_ERRORS.add(rotate::sweep(&directory, keep_days));
            });
        match sweep {
            Ok(sweep) => self.sweep = Some(sweep),
            Err(_) => counters::LOG_SWEEP_ERRORS.increment(),
        }
    }
}
