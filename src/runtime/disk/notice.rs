//! Notices of files that come into directories, from the kernel (inotify): what other programs
//! drop is seen without looking for it.
//!
//! One thread a [`Notices`] waits for the kernel, since glommio has no way to; it costs nothing
//! while nothing comes. Notices are hints: there may be none on a network file system, where
//! watches run out, or on a simulated disk, so whoever relies on them looks now and then, too.

use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::{Disk, DiskError, DiskOp, Kind, Real, lost};

/// Notices that wait to be read.
const WAITING_MAX: usize = 1_024;
/// Read from the kernel at once.
const EVENT_BYTES: usize = 16 << 10;
/// A second name counts as well as a rename: Maildir allows both. What moves or removes the
/// directory ends the watch.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A name came into the directory.
    Arrived(WatchId),
    /// The directory was moved or removed, and is watched no more.
    Ended(WatchId),
    /// More came than could be told.
    Missed,
}

/// The watched directories of one shard. None is watched any more when this is dropped.
pub struct Notices {
    real: Real,
    inotify: Arc<OwnedFd>,
    told: flume::Receiver<Notice>,
    pub(super) missed: Arc<AtomicBool>,
    /// The thread ends when this is closed.
    _open: PipeWriter,
}

impl Disk {
    /// `None` on a simulated disk, and where the system gives no more of them.
    #[must_use]
    pub fn notices(&self) -> Option<Notices> {
        let Kind::Real(real) = &self.kind else {
            return None;
        };
        let started = Notices::start(real.clone());
        let failed = |error: &io::Error| {
            tracing::warn!(%error, "no inotify: mail of other programs is looked for instead");
        };
        started.inspect_err(failed).ok()
    }

    /// Whether there is anything in each of the directories, in one trip to the pool.
    pub async fn filled_all(&self, dirs: Vec<PathBuf>) -> Vec<Result<bool, DiskError>> {
        match &self.kind {
            Kind::Real(real) => {
                let late = |path: &PathBuf| DiskError::late(DiskOp::List, path);
                let late: Vec<_> = dirs.iter().map(late).collect();
                let one = |path: &PathBuf| {
                    let first = std::fs::read_dir(path).map(|mut entries| entries.next());
                    let filled = first.and_then(|first| Ok(first.transpose()?.is_some()));
                    filled.map_err(|cause| DiskError::new(DiskOp::List, path, &cause))
                };
                let work = move || dirs.iter().map(one).collect();
                let filled = real.pool.run_queued(real.deadline(), work).await;
                filled.unwrap_or_else(|why| late.into_iter().map(|e| Err(lost(e, why))).collect())
            }
            Kind::Sim(sim) => {
                sim.delay().await;
                let one = |path: &PathBuf| sim.list(path).map(|entries| !entries.is_empty());
                dirs.iter().map(one).collect()
            }
        }
    }
}

impl Notices {
    fn start(real: Real) -> io::Result<Notices> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let (closed, open) = io::pipe()?;
        let (tell, told) = flume::bounded(WAITING_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let (events, overflow) = (inotify.clone(), missed.clone());
        thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || read(&events, &closed, &tell, &overflow))?;
        Ok(Notices {
            real,
            inotify,
            told,
            missed,
            _open: open,
        })
    }

    /// Ends some watches and begins others, in one trip to the pool; `None` for a directory that
    /// cannot be watched.
    pub async fn change(&self, end: Vec<WatchId>, begin: Vec<PathBuf>) -> Vec<Option<WatchId>> {
        let count = begin.len();
        let inotify = self.inotify.clone();
        let work = move || {
            for WatchId(id) in end {
                // One that ended by itself is not there any more.
                let _ = inotify::remove_watch(&inotify, id);
            }
            let watch = |path: &PathBuf| inotify::add_watch(&inotify, path.as_path(), WATCHED);
            begin
                .iter()
                .map(|path| watch(path).ok().map(WatchId))
                .collect()
        };
        let watched = self.real.pool.run_queued(self.real.deadline(), work).await;
        watched.unwrap_or_else(|_| vec![None; count])
    }

    /// The next notice; `None`: there will be no more. Losing the wait loses no notice.
    pub async fn next(&self) -> Option<Notice> {
        let notice = self.told.recv_async().await.ok()?;
        Some(self.or_missed(notice))
    }

    /// Another one, where it is there already.
    pub fn try_next(&self) -> Option<Notice> {
        let notice = self.told.try_recv().ok()?;
        Some(self.or_missed(notice))
    }

    fn or_missed(&self, notice: Notice) -> Notice {
        match self.missed.swap(false, Ordering::AcqRel) {
            true => Notice::Missed,
            false => notice,
        }
    }
}

fn read(events: &OwnedFd, closed: &PipeReader, tell: &flume::Sender<Notice>, missed: &AtomicBool) {
    let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    loop {
        let mut fds = [
            PollFd::new(events, PollFlags::IN),
            PollFd::new(closed, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        let mut last = None;
        loop {
            let notice = match reader.next() {
                Ok(event) => notice_of(event.wd(), event.events()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(_) => return,
            };
            if last == Some(notice) {
                continue;
            }
            last = Some(notice);
            if let Err(flume::TrySendError::Full(_)) = tell.try_send(notice) {
                missed.store(true, Ordering::Release);
            }
        }
    }
}

fn notice_of(id: i32, events: ReadFlags) -> Notice {
    let ended = ReadFlags::IGNORED | ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF;
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        Notice::Missed
    } else if events.intersects(ended) {
        Notice::Ended(WatchId(id))
    } else {
        Notice::Arrived(WatchId(id))
    }
}
