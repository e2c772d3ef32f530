//! Folders: made, renamed and put out of sight, whatever another program has left in their places.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hashbrown::HashSet;

use super::settle::{Settler, Task};
use super::{Layout, marked, marker};
use crate::base::{AccountId, MailboxId, PSeq};
use crate::runtime::{DiskError, DiskErrorKind, Step, unix_now};
use crate::store::StoreError;
use crate::store::mailbox::Mailbox;
use crate::store::owned::count;
use crate::store::partition::Partition;

/// Folders that are moved together.
const RUN_MAX: usize = 256;
/// Of the name that something had before it was put aside.
const ASIDE_NAME_BYTES_MAX: usize = 180;

/// A folder on its way to another place.
struct Moving {
    mailbox: Rc<Mailbox>,
    from: PathBuf,
    to: PathBuf,
}

impl Settler<'_> {
    pub(super) async fn make(&self, mailbox: &Mailbox) -> Result<(), StoreError> {
        let path = mailbox.path();
        let is_inbox = mailbox.meta.borrow().name == "INBOX";
        let dirs = ["cur", "new", "tmp"].map(|name| path.join(name));
        let mut files = vec![path.join(marker(mailbox.id))];
        if !is_inbox {
            // Tells other programs that this is a folder and not a Maildir of its own.
            files.push(path.join("maildirfolder"));
        }
        let mut steps = Vec::new();
        steps.extend(dirs.iter().map(|path| Step::CreateDirAll {
            path: path.to_path_buf(),
        }));
        steps.extend(files.iter().map(|path| Step::Append {
            path: path.to_path_buf(),
            at: 0,
            bytes: Vec::new(),
        }));
        let error = self
            .disk
            .batch(steps.clone())
            .await
            .into_iter()
            .find_map(Result::err);
        if let Some(error) = error {
            if !is_obstacle(&error) {
                return Err(self.fault(&error));
            }
            self.clear_way(&path, is_inbox, &dirs, &files).await?;
            self.steps(steps).await?;
        }
        mailbox.made.set(true);
        Ok(())
    }

    /// Puts aside what keeps a folder from being made.
    async fn clear_way(
        &self,
        folder: &Path,
        is_inbox: bool,
        dirs: &[PathBuf],
        files: &[PathBuf],
    ) -> Result<(), StoreError> {
        match self.disk.names(folder).await {
            Ok(_) => {}
            // The other folders are in it.
            Err(error) if is_inbox && is_denied(&error) => return Err(self.fault(&error)),
            Err(error) if error.kind == DiskErrorKind::NotFound => {
                self.put_aside_unless_made(folder).await?;
            }
            Err(_) => return self.put_aside(folder).await,
        }
        for dir in dirs {
            self.put_aside_unless_made(dir).await?;
        }
        for file in files {
            if self.disk.names(file).await.is_ok() {
                self.put_aside(file).await?;
            }
        }
        Ok(())
    }

    async fn put_aside_unless_made(&self, dir: &Path) -> Result<(), StoreError> {
        match self.disk.create_dir_all(dir).await {
            Ok(()) => Ok(()),
            Err(error) if is_obstacle(&error) && !is_denied(&error) => self.put_aside(dir).await,
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Gives what is not ours another name beside it, under which no program takes it for a folder.
    async fn put_aside(&self, path: &Path) -> Result<(), StoreError> {
        let parent = parent(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut name = name.trim_start_matches('.').to_owned();
        name.truncate(name.floor_char_boundary(ASIDE_NAME_BYTES_MAX));
        let secs = unix_now().seconds();
        for n in 0.. {
            let to = parent.join(format!("palomar-aside-{secs}-{n}-{name}"));
            let taken = self.disk.exists(&to).await.map_err(|e| self.fault(&e))?;
            if taken {
                continue;
            }
            let moved = self.disk.rename(path, &to).await;
            moved.map_err(|e| self.fault(&e))?;
            tracing::warn!(
                from = %path.display(),
                to = %to.display(),
                "what stood where a folder goes was put aside: look at it, and remove it"
            );
            break;
        }
        Ok(())
    }

    /// Gives the folders at the front of the queue their new places, as many of one account as are
    /// not in each other's way. A folder goes with its marker, by which a replay finds it under the
    /// name that is durable next; new names are durable before anything takes the old ones.
    pub(super) async fn move_some(
        &self,
        partition: &Partition,
        upto: PSeq,
    ) -> Result<(), StoreError> {
        let (tasks, mut run) = self.run_of_moves(partition, upto);
        if partition.recovering.get().is_some() {
            let again = moved_again(partition, tasks);
            let mut left = Vec::with_capacity(run.len());
            for moving in run {
                let once_more = again.contains(&moving.mailbox.id) && moving.from != moving.to;
                // An earlier life may have come so far that another folder has the name by now.
                if once_more && self.exists(&moving.to).await? {
                    continue;
                }
                left.push(moving);
            }
            run = left;
        }
        // Whoever looks for the files meanwhile would find them nowhere.
        let mut turns = Vec::with_capacity(run.len());
        for moving in &run {
            turns.push(moving.mailbox.files_turn().await?);
        }
        self.prepare(&run).await?;
        let rename = |moving: &Moving| Step::Rename {
            from: moving.from.clone(),
            to: moving.to.clone(),
        };
        let others: Vec<&Moving> = run.iter().filter(|m| m.from != m.to).collect();
        let outcomes = self.disk.batch(others.iter().map(|m| rename(m)).collect());
        let mut failed = None;
        for (moving, outcome) in others.iter().zip(outcomes.await) {
            let settled = match outcome {
                Ok(_) => Ok(()),
                Err(error) => self.move_one(partition, moving, error).await,
            };
            match settled {
                Ok(()) => moving
                    .mailbox
                    .folder
                    .path
                    .borrow_mut()
                    .clone_from(&moving.to),
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        drop(turns);
        // Also where nothing was renamed now: an earlier attempt may not have come to its syncs.
        self.sync_parents(&run).await?;
        if let Some(why) = failed {
            return Err(why);
        }
        partition.tasks.borrow_mut().drain(..tasks);
        let folders = &self.owned.counters.folders_settled;
        folders.set(folders.get() + tasks as u64);
        Ok(())
    }

    /// How many tasks at the front can be done together, and what they move.
    fn run_of_moves(&self, partition: &Partition, upto: PSeq) -> (usize, Vec<Moving>) {
        let layout = &self.owned.layout;
        let mut run: Vec<Moving> = Vec::new();
        // Places that are left, or taken.
        let mut places: HashSet<PathBuf> = HashSet::new();
        let mut seen: HashSet<MailboxId> = HashSet::new();
        for (pseq, task) in partition.tasks.borrow().iter().take(RUN_MAX) {
            let (mailbox, to) = match task {
                Task::Move(mailbox, name) => {
                    let to = layout.folder(mailbox.partition, mailbox.account, name);
                    (mailbox, to)
                }
                Task::Bury(mailbox, day) => {
                    let (of, id) = (mailbox.account, mailbox.id);
                    let grave = Layout::buried_folder(mailbox.partition, of, id, *day);
                    (mailbox, layout.root.join(grave))
                }
                _ => break,
            };
            let from = mailbox.path();
            let other_account = run
                .first()
                .is_some_and(|first| first.mailbox.account != mailbox.account);
            let collides = places.contains(&from) || places.contains(&to);
            if *pseq > upto || other_account || collides || !seen.insert(mailbox.id) {
                break;
            }
            places.insert(from.clone());
            places.insert(to.clone());
            let mailbox = mailbox.clone();
            run.push(Moving { mailbox, from, to });
        }
        (run.len(), run)
    }

    /// Makes the ways to the new places, and the markers of what goes there, durable.
    async fn prepare(&self, run: &[Moving]) -> Result<(), StoreError> {
        let ways: BTreeSet<PathBuf> = run.iter().map(|m| parent(&m.to)).collect();
        let removed = self.owned.layout.root.join("removed");
        let (mut steps, mut above) = (Vec::new(), BTreeSet::new());
        for way in ways {
            let dirs = way.ancestors().skip(1);
            let dirs = dirs.take_while(|dir| dir.starts_with(&removed));
            above.extend(dirs.map(Path::to_path_buf));
            steps.push(Step::CreateDirAll { path: way });
        }
        // The innermost first: a name is no use before what is above it, and harms nobody.
        let sync = |path| Step::SyncDir { path };
        steps.extend(above.into_iter().rev().map(sync));
        for outcome in self.disk.batch(steps).await {
            outcome.map_err(|e| match e.kind {
                // A day is being given up.
                DiskErrorKind::NotFound => StoreError::Busy,
                _ => self.fault(&e),
            })?;
        }
        let from = run.iter().filter(|m| m.from != m.to);
        let markers = from.map(|m| Step::SyncDir {
            path: m.from.clone(),
        });
        for outcome in self.disk.batch(markers.collect()).await {
            match outcome {
                // What is not a directory is told when it is renamed.
                Err(e) if e.kind != DiskErrorKind::NotFound && !is_obstacle(&e) => {
                    return Err(self.fault(&e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn sync_parents(&self, run: &[Moving]) -> Result<(), StoreError> {
        let to: BTreeSet<PathBuf> = run.iter().map(|m| parent(&m.to)).collect();
        let mut from: BTreeSet<PathBuf> = run.iter().map(|m| parent(&m.from)).collect();
        from.retain(|path| !to.contains(path));
        let sync = |path| Step::SyncDir { path };
        let steps = to.into_iter().map(sync).chain(from.into_iter().map(sync));
        self.steps(steps.collect()).await
    }

    /// A folder that could not be renamed at once.
    async fn move_one(
        &self,
        partition: &Partition,
        moving: &Moving,
        error: DiskError,
    ) -> Result<(), StoreError> {
        if error.kind == DiskErrorKind::NotFound {
            // Done before: its sync may have failed, or its marker may be gone.
            if self.exists(&moving.to).await? {
                return Ok(());
            }
            if self.exists(&moving.from).await? {
                // The way there went: another shard gave up the day that it is in.
                return Err(StoreError::Busy);
            }
            count(&self.owned.counters.files_missing);
            return Ok(());
        }
        let account = moving.mailbox.account;
        if !is_obstacle(&error) || !self.is_foreign(partition, account, &moving.to).await? {
            return Err(self.fault(&error));
        }
        self.put_aside(&moving.to).await?;
        let renamed = self.disk.rename(&moving.from, &moving.to).await;
        renamed.map_err(|e| self.fault(&e))
    }

    /// Whether what stands there is no mailbox's own folder: another program's, or a copy of one.
    async fn is_foreign(
        &self,
        partition: &Partition,
        account: AccountId,
        path: &Path,
    ) -> Result<bool, StoreError> {
        let names = match self.disk.names(path).await {
            Ok(names) => names,
            Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(false),
            Err(_) => return Ok(true),
        };
        let ids = names.iter().filter_map(|name| marked(name.to_str()?));
        let lies_here = |id: MailboxId| partition.mailbox(account, id).map(|m| m.path() == path);
        Ok(!ids.into_iter().any(|id| lies_here(id).unwrap_or(false)))
    }

    async fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.disk.exists(path).await.map_err(|e| self.fault(&e))
    }

    pub(super) async fn bury_account(
        &self,
        partition: &Partition,
        account: AccountId,
        pseq: PSeq,
    ) -> Result<(), StoreError> {
        let layout = &self.owned.layout;
        let from = layout.account(partition.id, account);
        let grave = Layout::buried_account(partition.id, account, pseq);
        let to = layout.root.join(grave);
        if self.exists(&to).await? && partition.recovering.get().is_some() {
            // What replay made anew of it goes at once.
            return match self.disk.remove_dir_all(&from).await {
                Err(e) if e.kind != DiskErrorKind::NotFound => Err(self.fault(&e)),
                _ => Ok(()),
            };
        }
        match self.disk.sync_dir(&from).await {
            Err(e) if e.kind != DiskErrorKind::NotFound => return Err(self.fault(&e)),
            _ => {}
        }
        match self.disk.rename(&from, &to).await {
            Err(e) if e.kind != DiskErrorKind::NotFound => return Err(self.fault(&e)),
            Err(_) if !self.exists(&to).await? => {
                count(&self.owned.counters.files_missing);
                return Ok(());
            }
            _ => {}
        }
        let sync = |path| Step::SyncDir { path };
        self.steps([parent(&to), parent(&from)].map(sync).into())
            .await
    }
}

/// Folders among the first `tasks` in the queue that a later one moves, or buries, once more.
fn moved_again(partition: &Partition, tasks: usize) -> HashSet<MailboxId> {
    let queue = partition.tasks.borrow();
    let mut later: HashSet<MailboxId> = HashSet::new();
    let mut purged: HashSet<AccountId> = HashSet::new();
    for (_, task) in queue.iter().skip(tasks) {
        match task {
            Task::Move(mailbox, _) | Task::Bury(mailbox, _) => drop(later.insert(mailbox.id)),
            Task::BuryAccount(account) => drop(purged.insert(*account)),
            Task::Make(_) | Task::Place { .. } | Task::Take { .. } => {}
        }
    }
    let run = queue.iter().take(tasks).filter_map(|(_, task)| match task {
        Task::Move(mailbox, _) => Some(mailbox),
        _ => None,
    });
    let again = run.filter(|m| later.contains(&m.id) || purged.contains(&m.account));
    again.map(|mailbox| mailbox.id).collect()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Something that is not as we make it stands in the way: trying again does not help.
fn is_obstacle(error: &DiskError) -> bool {
    use rustix::io::Errno;
    const ALL: [Errno; 4] = [Errno::NOTDIR, Errno::ISDIR, Errno::NOTEMPTY, Errno::LOOP];
    match error.kind {
        DiskErrorKind::Exists => true,
        DiskErrorKind::Io(errno) => {
            is_denied(error) || ALL.iter().any(|e| e.raw_os_error() == errno)
        }
        _ => false,
    }
}

fn is_denied(error: &DiskError) -> bool {
    use rustix::io::Errno;
    let denied = [Errno::ACCESS, Errno::PERM].map(|e| DiskErrorKind::Io(e.raw_os_error()));
    denied.contains(&error.kind)
}
