//! How far a start is, for who waits for it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::Report;
use crate::runtime::now;

/// What a start does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reads the journal: octets of its slots.
    Reading,
    /// Applies the records and writes the files: changes of mailboxes.
    Settling,
    /// Waits for the disk: nothing to count.
    Syncing,
    /// Told once, at the end.
    Done,
}

/// Shown to who watches a start: stage, how much of it is done, how much there is.
pub type Watcher = dyn Fn(Stage, u64, u64) + Send + Sync;

/// Who watches; by default the log alone.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Watcher>>);

impl Progress {
    #[must_use]
    pub fn shown_to(watcher: Arc<Watcher>) -> Self {
        Progress(Some(watcher))
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "watched"
        } else {
            "in the log"
        })
    }
}

/// Between lines in the log.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Teller {
    progress: Progress,
    began: Instant,
    line: Cell<Instant>,
    /// Since when the stage is what it is.
    stage: Cell<(Stage, Instant)>,
}

impl Teller {
    pub fn new(progress: Progress) -> Self {
        let began = now();
        Teller {
            progress,
            began,
            line: Cell::new(began),
            stage: Cell::new((Stage::Reading, began)),
        }
    }

    pub fn tell(&self, stage: Stage, done: u64, all: u64) {
        if self.stage.get().0 != stage {
            self.stage.set((stage, now()));
        }
        if let Some(watcher) = &self.progress.0 {
            watcher(stage, done, all);
        } else if now().duration_since(self.line.get()) >= LINE_EVERY {
            self.line.set(now());
            tracing::info!(?stage, done, all, "starting");
        }
    }

    /// The end of a start that had something to replay.
    pub fn done(&self, report: &Report) {
        if let Some(watcher) = &self.progress.0 {
            watcher(Stage::Done, 1, 1);
        }
        if report.records == 0 {
            return;
        }
        let ms = |since: Instant| now().duration_since(since).as_millis() as u64;
        let (all_ms, last_ms) = (ms(self.began), ms(self.stage.get().1));
        let (records, bytes) = (report.records, report.bytes);
        let mb_per_s = bytes / 1000 / all_ms.max(1);
        tracing::info!(
            records,
            bytes,
            ms = all_ms,
            sync_ms = last_ms,
            mb_per_s,
            "journal replayed"
        );
    }
}
