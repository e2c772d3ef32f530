//! The tracing layer: filters, formats, hands the line to the writer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::counters;
use super::line::Fields;
use super::process;
use super::writer::{self, Guard, Item, Line, LogTarget};

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The directory can not be made or the file not opened.
    File(PathBuf, io::Error),
    /// The writer thread did not start.
    Thread(io::Error),
    /// The process has a log already.
    Twice,
}

/// Sends every event of ours at the level or above to the writer.
pub struct LogLayer {
    lines: SyncSender<Item>,
    to_terminal: bool,
    to_file: bool,
}

/// 1 is error, 5 is trace.
static LEVEL: AtomicU8 = AtomicU8::new(3);

/// Sets the least important level that is written, for the whole process, from now on.
pub fn set_level(level: Level) {
    LEVEL.store(rank(&level), Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn rank(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl LogLayer {
    /// Opens the target and starts its writer.
    pub fn start(target: LogTarget) -> Result<(LogLayer, Guard), LogError> {
        process::note_start();
        super::register(&counters::METRICS);
        let (to_terminal, to_file) = match &target {
            LogTarget::Terminal => (true, false),
            LogTarget::File(_) => (false, true),
            LogTarget::Both(_) => (true, true),
        };
        let lines = writer::start(target)?;
        let layer = LogLayer {
            lines: lines.clone(),
            to_terminal,
            to_file,
        };
        Ok((layer, Guard::new(lines)))
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    /// Only ours: a library's events may hold content.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        rank(metadata.level()) <= LEVEL.load(Relaxed) && metadata.target().starts_with("palomar")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Relaxed) {
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let fields = Fields::of(event, jiff::Timestamp::now());
        let line = Line {
            terminal: self.to_terminal.then(|| fields.logfmt()),
            file: self.to_file.then(|| fields.json()),
        };
        match self.lines.try_send(Item::Line(line)) {
            Ok(()) => counters::LOG_LINES.increment(fields.counted),
            Err(_) => counters::LOG_DROPPED.increment(),
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::File(path, error) => write!(
                f,
                "the log can not be opened in {}: {error}; see that the server's user may write \
                 there",
                path.display()
            ),
            LogError::Thread(error) => write!(f, "the log's thread did not start: {error}"),
            LogError::Twice => f.write_str("the log is set up already"),
        }
    }
}

impl std::error::Error for LogError {}
