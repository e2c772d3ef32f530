//! A disk in memory that loses what was not synced, by seed.
//!
//! What a machine does on power loss, taken at its worst:
//! - Every 512-byte sector written since its file's last sync is kept, dropped or torn, on its own.
//! - Every name made, moved or removed since its directory's last sync is there or not. A rename
//!   is one change (file systems journal it so) until one of its two directories is synced; then
//!   the other half stands alone, but for a directory, which is never under two names. A synced
//!   file whose name was not synced is gone.
//! - A changed length is the old or the new one.
//! - A failed fdatasync forgets what it had to write: some of it is on the disk, the rest is read
//!   back until power goes, and a later success does not mean it (as on Linux). A failed syncfs
//!   does so to every file, and each handle that was open then, or the next one that is opened, is
//!   told once by its own next sync.
//!
//! Deterministic: the same seed and the same calls give the same disk. Stays on one shard.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;

use super::step::APPEND;
use super::{DirEntry, DiskError, DiskErrorKind, DiskOp, Done, FilePart, Open, Step};
use crate::base::UnixMs;
use crate::runtime::local::Notify;

mod names;
mod sectors;

use names::Names;
use sectors::Sectors;

/// A handle; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

/// What was done so far, failed attempts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    pub writes: u64,
    pub fdatasyncs: u64,
    pub dir_syncs: u64,
    pub syncfs: u64,
    /// All of the above and everything else.
    pub ops: u64,
}

/// Numbers a file or directory, whatever its names.
type Inode = u64;

struct State {
    random: Random,
    names: Names,
    files: BTreeMap<Inode, Sectors>,
    failures: Vec<Failure>,
    troubles: Vec<Trouble>,
    counters: SimCounters,
    ops_max: Option<u64>,
    /// After so many operations the disk answers nothing more.
    halt_at: Option<u64>,
    halted: Notify,
    read_only: bool,
    /// No limit where it is not set.
    capacity_bytes: Option<u64>,
}

struct Failure {
    op: DiskOp,
    path: String,
    /// Counts down; fails at 1 and is gone.
    nth: u64,
    errno: i32,
}

/// What fails now and then, until the disk is calm again.
struct Trouble {
    op: DiskOp,
    path: &'static str,
    /// So many of a thousand operations fail.
    permille: u64,
    errno: i32,
}

/// An open file of a simulated disk. Lives on when its name goes.
pub(super) struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
    how: Open,
    /// Losses that this handle has been told of, or that others were told of before it was opened.
    told: Cell<u64>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Names::new(), BTreeMap::new())
    }

    fn with(seed: u64, names: Names, files: BTreeMap<Inode, Sectors>) -> Self {
        let state = State {
            random: Random(seed),
            names,
            files,
            failures: Vec::new(),
            troubles: Vec::new(),
            counters: SimCounters::default(),
            ops_max: None,
            halt_at: None,
            halted: Notify::new(),
            read_only: false,
            capacity_bytes: None,
        };
        SimDisk {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// The disk as the next boot finds it if power went now. This one goes on as if nothing had
    /// happened, so one moment can be cut with many seeds.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> SimDisk {
        let state = self.state.borrow();
        let mut random = Random(seed);
        let names = state.names.after_power_cut(&mut random);
        let mut files = BTreeMap::new();
        for inode in names.files() {
            if let Some(sectors) = state.files.get(&inode) {
                files.insert(inode, sectors.after_power_cut(&mut random));
            }
        }
        Self::with(random.next(), names, files)
    }

    /// As [`power_cut`](SimDisk::power_cut), where nobody looks at this one any more: tasks of its
    /// time that an executor leaks would keep all of it.
    #[must_use]
    pub fn power_off(&self, seed: u64) -> SimDisk {
        let next = self.power_cut(seed);
        self.discard();
        next
    }

    /// Gives back the memory of all files. What is done afterwards fails.
    pub fn discard(&self) {
        let mut state = self.state.borrow_mut();
        state.ops_max = Some(0);
        state.files.clear();
    }

    /// Lets the `nth` coming `op` (1 is the next) on a path that contains `path` fail. The
    /// failure happens once; call it again for more.
    pub fn fail(&self, op: DiskOp, path: &str, nth: u64, errno: i32) {
        assert!(nth > 0, "1 is the next operation");
        self.state.borrow_mut().failures.push(Failure {
            op,
            path: path.into(),
            nth,
            errno,
        });
    }

    /// From now on, of a thousand operations `op` on a path that contains `path`, `permille` fail,
    /// by seed.
    pub fn trouble(&self, op: DiskOp, path: &'static str, permille: u64, errno: i32) {
        self.state.borrow_mut().troubles.push(Trouble {
            op,
            path,
            permille,
            errno,
        });
    }

    /// There is room for `bytes` more than there is now.
    pub fn leave_room(&self, bytes: u64) {
        let mut state = self.state.borrow_mut();
        state.capacity_bytes = Some(state.used_bytes() + bytes);
    }

    /// Nothing fails now and then any more, and there is room.
    pub fn calm(&self) {
        let mut state = self.state.borrow_mut();
        state.troubles.clear();
        state.capacity_bytes = None;
    }

    /// After `ops` more operations every further one fails with EIO and does nothing: what is
    /// running then comes to its end, and [`power_cut`](SimDisk::power_cut) tells what is left.
    pub fn stop_after(&self, ops: u64) {
        let mut state = self.state.borrow_mut();
        state.ops_max = Some(state.counters.ops + ops);
    }

    /// After `ops` more operations no further one ends, as in a process that is killed: nothing
    /// is told to who waits, and [`halted`](SimDisk::halted) tells the test.
    pub fn halt_after(&self, ops: u64) {
        let mut state = self.state.borrow_mut();
        state.halt_at = Some(state.counters.ops + ops);
    }

    /// Returns once an operation waits for ever, see [`halt_after`](SimDisk::halt_after).
    pub async fn halted(&self) {
        let halted = self.state.borrow().halted.notified();
        halted.await;
    }

    /// Another process goes on with what this one left: its page cache included.
    pub fn restart(&self) {
        let mut state = self.state.borrow_mut();
        state.ops_max = None;
        state.halt_at = None;
        state.failures.clear();
    }

    /// As after a remount: what would change anything fails.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.borrow_mut().read_only = read_only;
    }

    /// The disk's size; more content than this is `Full`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.borrow_mut().capacity_bytes = Some(bytes);
    }

    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.state.borrow().counters
    }

    /// Ends after a few turns of the shard, by seed, so that operations overtake one another.
    pub(super) async fn delay(&self) {
        let turns = self.state.borrow_mut().random.below(4);
        for _ in 0..turns {
            futures_lite::future::yield_now().await;
        }
        // Where time is simulated, disks are slow now and then, and sometimes very.
        #[cfg(test)]
        match crate::runtime::sim::draw(256) {
            Some(0) => sleep_ms(self.draw(1500)).await,
            Some(drawn) if drawn < 32 => sleep_ms(self.draw(8)).await,
            _ => {}
        }
        self.halt().await;
    }

    async fn halt(&self) {
        let is_over = {
            let state = self.state.borrow();
            let is_over = state.halt_at.is_some_and(|at| state.counters.ops >= at);
            if is_over {
                state.halted.notify_all();
            }
            is_over
        };
        if is_over {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(test)]
    fn draw(&self, n: u64) -> u64 {
        self.state.borrow_mut().random.below(n)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.state.borrow().free_bytes()
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> Result<SimFile, DiskError> {
        let mut state = self.state.borrow_mut();
        state.begin(DiskOp::Open, path)?;
        let inode = state.open(path, how).map_err(at(DiskOp::Open, path))?;
        let file = state.sectors(inode);
        file.handles += 1;
        Ok(SimFile {
            told: Cell::new(file.losses_told()),
            disk: self.clone(),
            inode,
            path: path.into(),
            how,
        })
    }

    pub(super) fn apply(&self, step: &Step) -> Result<Done, DiskError> {
        if let Step::Group(steps) = step {
            return steps.iter().try_fold(Done::default(), |all, step| {
                self.apply(step).map(|done| all.and(done))
            });
        }
        let mut state = self.state.borrow_mut();
        if let Step::Replace {
            tmp,
            to,
            bytes,
            rest,
            pack,
            modified,
        } = step
        {
            let mut whole = bytes.clone();
            if let Some(rest) = rest {
                whole.extend(state.part(rest)?);
            }
            if let Some(pack) = pack {
                whole = pack(whole);
            }
            return state.replace(tmp, to, &whole, *modified);
        }
        if let Step::Convert { from, to, how } = step {
            return state.convert(from, to, *how).map(|(_, done)| done);
        }
        match step.as_write() {
            Some((path, offset, bytes, how)) => state.write_path(path, offset, bytes, how),
            None => state.change(step),
        }
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        let mut state = self.state.borrow_mut();
        state.begin(DiskOp::Read, path)?;
        let file = state.file(path).map_err(at(DiskOp::Read, path))?;
        Ok(file.read(0, usize::MAX))
    }

    pub(super) fn convert<T>(
        &self,
        from: &Path,
        to: &Path,
        how: impl FnOnce(&mut dyn io::Read, &mut dyn io::Write) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut state = self.state.borrow_mut();
        state.convert(from, to, how).map(|(made, _)| made)
    }

    pub(super) fn settle(&self, path: &Path) -> Result<(), DiskError> {
        let op = DiskOp::Fdatasync;
        let mut state = self.state.borrow_mut();
        let inode = state.names.find(path).map_err(at(op, path))?;
        let file = state.file(path).map_err(at(op, path))?;
        let (mark, told) = (file.mark(), Cell::new(file.losses_told()));
        state.sync_file(op, inode, (mark, &told), path)?;
        state.sectors(inode).forget_memory();
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut state = self.state.borrow_mut();
        state.begin(DiskOp::List, path)?;
        let entries = state.names.list(path).map_err(at(DiskOp::List, path))?;
        let entry = |(name, inode): (OsString, Inode)| {
            let file = state.files.get(&inode);
            DirEntry {
                name,
                is_dir: file.is_none(),
                is_file: file.is_some(),
                is_ours: true,
                is_mount: false,
                len: file.map_or(0, Sectors::len),
                modified: file.map_or(UnixMs(0), |file| file.modified),
            }
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    pub(super) fn stat(&self, path: &Path) -> Result<(u64, UnixMs), DiskError> {
        let mut state = self.state.borrow_mut();
        state.begin(DiskOp::Stat, path)?;
        let inode = state.names.find(path).map_err(at(DiskOp::Stat, path))?;
        let file = state.files.get(&inode);
        Ok(file.map_or((0, UnixMs(0)), |file| (file.len(), file.modified)))
    }

    pub(super) fn syncfs(&self) -> Result<(), DiskError> {
        self.state.borrow_mut().syncfs()
    }
}

impl SimFile {
    pub(super) async fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.disk.delay().await;
        let mut state = self.disk.state.borrow_mut();
        state.begin(DiskOp::Write, &self.path)?;
        let write = if self.how.write {
            state.write(self.inode, offset, bytes)
        } else {
            Err(Errno::BADF)
        };
        write.map_err(at(DiskOp::Write, &self.path))
    }

    pub(super) async fn read_at(&self, len: usize, offset: u64) -> Result<Vec<u8>, DiskError> {
        self.disk.delay().await;
        let mut state = self.disk.state.borrow_mut();
        state.begin(DiskOp::Read, &self.path)?;
        if !self.how.read {
            return Err(at(DiskOp::Read, &self.path)(Errno::BADF));
        }
        Ok(state.sectors(self.inode).read(offset, len))
    }

    /// Covers what was written before the call, and not what is written while it waits.
    pub(super) async fn sync(&self, op: DiskOp) -> Result<(), DiskError> {
        let mark = self.disk.state.borrow_mut().sectors(self.inode).mark();
        self.disk.delay().await;
        let mut state = self.disk.state.borrow_mut();
        state.sync_file(op, self.inode, (mark, &self.told), &self.path)
    }

    pub(super) fn len(&self) -> u64 {
        self.disk.state.borrow_mut().sectors(self.inode).len()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // Not there any more on a disk that was discarded.
        if let Some(file) = self.disk.state.borrow_mut().files.get_mut(&self.inode) {
            file.handles -= 1;
        }
    }
}

impl State {
    /// Counts an operation, and fails it where that was asked for.
    fn begin(&mut self, op: DiskOp, path: &Path) -> Result<(), DiskError> {
        self.counters.ops += 1;
        match op {
            DiskOp::Write => self.counters.writes += 1,
            DiskOp::Fdatasync => self.counters.fdatasyncs += 1,
            DiskOp::SyncDir => self.counters.dir_syncs += 1,
            DiskOp::SyncFs => self.counters.syncfs += 1,
            _ => {}
        }
        if self.ops_max.is_some_and(|max| self.counters.ops > max) {
            return Err(at(op, path)(Errno::IO));
        }
        if self.read_only && changes(op) {
            return Err(at(op, path)(Errno::ROFS));
        }
        let text = path.to_string_lossy();
        let mut failed = None;
        self.failures.retain_mut(|failure| {
            if failure.op != op || !text.contains(&failure.path) {
                return true;
            }
            failure.nth -= 1;
            if failure.nth == 0 {
                failed = Some(failure.errno);
            }
            failure.nth > 0
        });
        for trouble in &self.troubles {
            let is_met = trouble.op == op && text.contains(trouble.path);
            if is_met && self.random.below(1000) < trouble.permille {
                failed = failed.or(Some(trouble.errno));
            }
        }
        match failed {
            Some(errno) => {
                tracing::debug!(%op, path = %path.display(), errno, "made to fail");
                Err(DiskError {
                    op,
                    path: path.into(),
                    kind: DiskErrorKind::from_errno(errno),
                })
            }
            None => Ok(()),
        }
    }

    fn open(&mut self, path: &Path, how: Open) -> Result<Inode, Errno> {
        if !how.read && !how.write {
            return Err(Errno::INVAL);
        }
        let inode = match self.names.find(path) {
            Ok(_) if how.create_new => return Err(Errno::EXIST),
            Ok(inode) => inode,
            Err(Errno::NOENT) if how.write && (how.create || how.create_new) => {
                let inode = self.names.create(path)?;
                self.files.insert(inode, Sectors::default());
                inode
            }
            Err(errno) => return Err(errno),
        };
        let file = self.files.get_mut(&inode).ok_or(Errno::ISDIR)?;
        if how.truncate {
            file.set_len(0);
        }
        Ok(inode)
    }

    fn write_path(
        &mut self,
        path: &Path,
        offset: u64,
        bytes: &[u8],
        how: Open,
    ) -> Result<Done, DiskError> {
        self.begin(DiskOp::Open, path)?;
        let inode = self.open(path, how).map_err(at(DiskOp::Open, path))?;
        self.begin(DiskOp::Write, path)?;
        self.write(inode, offset, bytes)
            .map_err(at(DiskOp::Write, path))?;
        Ok(Done::wrote(bytes))
    }

    fn replace(
        &mut self,
        tmp: &Path,
        to: &Path,
        bytes: &[u8],
        modified: Option<UnixMs>,
    ) -> Result<Done, DiskError> {
        let done = self.write_path(tmp, 0, bytes, APPEND)?;
        let path = tmp.to_path_buf();
        let len = bytes.len() as u64;
        self.change(&Step::Truncate { path, len })?;
        if let Some(at) = modified {
            let path = tmp.to_path_buf();
            self.change(&Step::SetTimes { path, at })?;
        }
        let (from, to) = (tmp.to_path_buf(), to.to_path_buf());
        self.change(&Step::Rename { from, to })?;
        Ok(done)
    }

    fn convert<T>(
        &mut self,
        from: &Path,
        to: &Path,
        how: impl FnOnce(&mut dyn io::Read, &mut dyn io::Write) -> io::Result<T>,
    ) -> Result<(T, Done), DiskError> {
        self.begin(DiskOp::Read, from)?;
        let file = self.file(from).map_err(at(DiskOp::Read, from))?;
        let bytes = file.read(0, usize::MAX);
        let mut converted = Vec::new();
        let made = how(&mut bytes.as_slice(), &mut converted)
            .map_err(|cause| DiskError::new(DiskOp::Write, from, &cause))?;
        let done = self.write_path(to, 0, &converted, APPEND)?;
        let (path, len) = (to.to_path_buf(), converted.len() as u64);
        self.change(&Step::Truncate { path, len })?;
        Ok((made, done))
    }

    fn part(&mut self, part: &FilePart) -> Result<Vec<u8>, DiskError> {
        let path = &part.path;
        self.begin(DiskOp::Read, path)?;
        let file = self.file(path).map_err(at(DiskOp::Read, path))?;
        let bytes = file.read(part.at, part.len);
        match bytes.len() == part.len {
            true => Ok(match part.unpack {
                Some((unpack, len)) => unpack(&bytes, len),
                None => bytes,
            }),
            false => Err(at(DiskOp::Read, path)(Errno::IO)),
        }
    }

    /// A step other than a write.
    fn change(&mut self, step: &Step) -> Result<Done, DiskError> {
        let (op, path) = step.subject();
        if let Step::SyncFile { path } = step {
            let inode = self.names.find(path).map_err(at(op, path))?;
            let file = self.file(path).map_err(at(op, path))?;
            let (mark, told) = (file.mark(), Cell::new(file.losses_told()));
            return self
                .sync_file(op, inode, (mark, &told), path)
                .map(|()| Done::default());
        }
        self.begin(op, path)?;
        self.change_tree(step).map_err(at(op, path))?;
        Ok(Done::default())
    }

    fn change_tree(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Rename { from, to } => self.names.rename(from, to),
            Step::Link { from, to } => {
                let inode = self.names.find(from)?;
                self.names.link(inode, to)
            }
            Step::Unlink { path } => {
                self.file(path)?;
                self.names.unlink(path)
            }
            Step::CreateDirAll { path } => self.names.create_dir_all(path),
            Step::RemoveDirAll { path } => self.names.remove_dir_all(path),
            Step::Truncate { path, len } => {
                self.file(path)?.set_len(*len);
                Ok(())
            }
            Step::SetTimes { path, at } => {
                self.file(path)?.modified = *at;
                Ok(())
            }
            Step::SyncDir { path } => self.names.sync_dir(path),
            Step::SyncFile { .. }
            | Step::WriteNew { .. }
            | Step::Append { .. }
            | Step::Replace { .. }
            | Step::Convert { .. }
            | Step::Group(_) => unreachable!("done by the caller"),
        }
    }

    fn syncfs(&mut self) -> Result<(), DiskError> {
        if let Err(error) = self.begin(DiskOp::SyncFs, Path::new("/")) {
            let mut random = Random(self.random.next());
            let files = self.files.values_mut();
            files.for_each(|file| file.forget_dirty(&mut random));
            return Err(error);
        }
        self.names.sync_all();
        self.files
            .values_mut()
            .for_each(|file| file.sync(file.mark()));
        let named = self.names.files();
        self.files
            .retain(|inode, file| file.handles > 0 || named.contains(inode));
        Ok(())
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        let growth = end.saturating_sub(self.sectors(inode).len());
        if growth > 0 && self.capacity_bytes.is_some() && growth > self.free_bytes() {
            return Err(Errno::NOSPC);
        }
        self.sectors(inode).write(offset, bytes);
        Ok(())
    }

    fn sync_file(
        &mut self,
        op: DiskOp,
        inode: Inode,
        (mark, told): (u64, &Cell<u64>),
        path: &Path,
    ) -> Result<(), DiskError> {
        if let Err(error) = self.begin(op, path) {
            let mut random = Random(self.random.next());
            let file = self.sectors(inode);
            file.forget_dirty(&mut random);
            told.set(file.tell_losses());
            return Err(error);
        }
        let file = self.sectors(inode);
        file.sync(mark);
        match told.replace(file.tell_losses()) == told.get() {
            true => Ok(()),
            false => Err(at(op, path)(Errno::IO)),
        }
    }

    fn file(&mut self, path: &Path) -> Result<&mut Sectors, Errno> {
        let inode = self.names.find(path)?;
        self.files.get_mut(&inode).ok_or(Errno::ISDIR)
    }

    fn sectors(&mut self, inode: Inode) -> &mut Sectors {
        self.files.get_mut(&inode).expect("open files stay")
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(Sectors::len).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes
            .map_or(u64::MAX, |all| all.saturating_sub(self.used_bytes()))
    }
}

fn changes(op: DiskOp) -> bool {
    match op {
        DiskOp::Write
        | DiskOp::CreateDir
        | DiskOp::Rename
        | DiskOp::Link
        | DiskOp::Unlink
        | DiskOp::RemoveDir
        | DiskOp::Truncate
        | DiskOp::SetTimes => true,
        // Syncs of what is clean succeed.
        _ => false,
    }
}

#[cfg(test)]
async fn sleep_ms(ms: u64) {
    crate::runtime::sleep(std::time::Duration::from_millis(ms)).await;
}

fn at(op: DiskOp, path: &Path) -> impl Fn(Errno) -> DiskError {
    move |errno| DiskError {
        op,
        path: path.into(),
        kind: DiskErrorKind::from_errno(errno.raw_os_error()),
    }
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}
