//! Start-up: one shard recovers for all, before any serves (`docs/decisions/0001`).
//!
//! Journals are read, every partition replays what its catalogue does not have, all of it is
//! settled and made durable by a checkpoint, and only then do the old slots become free. So
//! nothing is served that a second power cut could take back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16};

use hashbrown::HashSet;

use super::bodies::{Bodies, From as BodiesFrom};
use super::catalogue::{self, Catalogue, CatalogueRepair, Found};
use super::checkpoint::{self, Fault};
use super::doom::{self, Doomed};
use super::history::Day;
use super::journal::{self, JournalError};
use super::maildir::{Layout, Settler};
use super::owned::Owned;
use super::partition::Partition;
use super::progress::{Stage, Teller};
use super::queue::{self, Entries};
use super::remote::{REQUESTS_MAX, Request};
use super::replay::Replay;
use super::room::Common;
use super::{StoreConfig, StoreError};
use crate::base::{AccountId, Epoch, MailboxId, PSeq, PartitionId};
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskOp, Inbox, Mesh, Step};

/// What every shard needs to open its part. Clones are handles to the same.
#[derive(Clone)]
pub struct Recovered {
    pub epoch: Epoch,
    /// User partitions of this data directory, whatever the configuration says now.
    pub partitions: u16,
    pub report: journal::Report,
    /// Catalogues that were damaged, and what became of them.
    pub catalogues: Vec<CatalogueRepair>,
    pub(super) cfg: StoreConfig,
    pub(super) present: Vec<PartitionId>,
    pub(super) mesh: Mesh<Request>,
    pub(super) inboxes: Arc<[flume::Receiver<Inbox<Request>>]>,
    pub(super) checkpointing: Arc<AtomicBool>,
    /// One shard unpacks an archive file at a time.
    pub(super) unpacking: Arc<AtomicBool>,
    pub(super) sync_failed: Arc<AtomicBool>,
    /// Entries of queues as they were read, for the shards that open them: once.
    pub(super) entries: Arc<BTreeMap<PartitionId, flume::Receiver<Handed>>>,
    /// What is doomed still.
    pub(super) left: Arc<BTreeMap<PartitionId, Vec<(PSeq, Doomed)>>>,
    /// Mailboxes in which the start found files without a UID.
    pub(super) orphans: Arc<[(AccountId, MailboxId)]>,
    /// Spool files and graves that could not be removed.
    pub(super) leftovers: Arc<[PathBuf]>,
    /// Shards that ended with a checkpoint of all they had.
    pub(super) ended: Arc<AtomicU16>,
    pub(super) room: Arc<Common>,
    /// Held until the last shard is gone.
    _lock: Option<Arc<OwnedFd>>,
}

/// The entries of a queue, and those of them that an owner here does not have yet.
pub(super) type Handed = (Entries, BTreeSet<PSeq>);

/// Why the store does not start. None goes away by trying again, `Disk` apart.
#[derive(Debug)]
pub enum StartError {
    /// Another process has the data directory.
    InUse {
        lock: PathBuf,
        by: String,
    },
    /// Not a `format` file.
    Format {
        path: PathBuf,
    },
    /// A newer Palomar has written here.
    Newer {
        path: PathBuf,
        found: u32,
    },
    Journal(JournalError),
    Disk(DiskError),
    /// No copy of the catalogue has the right checksum and form.
    Catalogue {
        path: PathBuf,
    },
    /// The journal does not go on where the catalogue ends.
    Gap {
        partition: PartitionId,
        applied: PSeq,
        found: PSeq,
    },
    /// A folder, or a file, cannot be settled.
    Stuck {
        partition: PartitionId,
        error: DiskError,
    },
    Store(StoreError),
    /// No room for what a start has to write, and nothing that can be given up for it.
    Full {
        root: PathBuf,
        free: u64,
    },
    /// The shard was opened before.
    Opened,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::InUse { lock, by } => {
                write!(
                    f,
                    "{} is held by process {by}; stop it first",
                    lock.display()
                )
            }
            StartError::Format { path } => {
                write!(
                    f,
                    "{} does not say what palomar made this; restore it from a backup",
                    path.display()
                )
            }
            StartError::Newer { path, found } => {
                write!(
                    f,
                    "{} says format {found}, this palomar knows up to {FORMAT}; start the newer \
                     palomar that wrote it",
                    path.display()
                )
            }
            StartError::Journal(error) => write!(f, "{error}"),
            StartError::Disk(error) => write!(f, "{error}"),
            StartError::Catalogue { path } => {
                write!(
                    f,
                    "{} is damaged, and so is its other copy; restore one of them from a backup of \
                     the same time as the journal",
                    path.display()
                )
            }
            StartError::Gap {
                partition,
                applied,
                found,
            } => write!(
                f,
                "partition {partition}: the journal goes on at {found}, the catalogue ends at \
                 {applied}; restore journal and catalogue from the same backup"
            ),
            StartError::Stuck { partition, error } => write!(
                f,
                "partition {partition} cannot be settled: {error}; give that path and what is in \
                 it to the user that palomar runs as, or move it away, and start again"
            ),
            StartError::Store(why) => write!(f, "store: {why:?}"),
            StartError::Full { root, free } => write!(
                f,
                "the file system of {} is full ({free} bytes are free), and the start has to write \
                 files of what its journal holds: free room there, or enlarge it, and start again; \
                 nothing that was acknowledged is lost (docs/howto/full-disk.md)",
                root.display()
            ),
            StartError::Opened => f.write_str("this shard of the store is open already"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// Whether only room was missing.
    pub(super) fn is_full(&self) -> bool {
        match self {
            StartError::Disk(error) | StartError::Journal(JournalError::Disk(error)) => {
                error.kind == DiskErrorKind::Full
            }
            StartError::Store(why) => *why == StoreError::Full,
            _ => false,
        }
    }
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        StartError::Journal(error)
    }
}

impl From<DiskError> for StartError {
    fn from(error: DiskError) -> Self {
        StartError::Disk(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        StartError::Store(error)
    }
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(why) => StartError::Store(why),
            Fault::Sync(error) => StartError::Disk(error),
        }
    }
}

/// Keeps a second process out of a data directory while the answer lives. Blocks: for the start,
/// and for commands on a stopped server.
pub fn lock(root: &Path) -> Result<OwnedFd, StartError> {
    use std::io::Write;
    let path = root.join("lock");
    let trouble =
        |cause: std::io::Error| StartError::Disk(DiskError::new(DiskOp::Open, &path, &cause));
    std::fs::create_dir_all(root).map_err(trouble)?;
    let mut options = std::fs::OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened.map_err(trouble)?;
    let how = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    if rustix::fs::flock(&file, how).is_err() {
        let by = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .trim()
            .to_owned();
        return Err(StartError::InUse { lock: path, by });
    }
    let told = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    match told {
        // The lock is held all the same; whoever meets it is not told by whom.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
        told => told.map_err(trouble)?,
    }
    Ok(file.into())
}

/// What this Palomar writes; it reads all before (`docs/STORE.md`, "Versions").
const FORMAT: u32 = 4;

/// The `format` file: made once, it says how many partitions there are, and raised by the first
/// start of a Palomar that writes something newer, so that an older one refuses from then on.
async fn format(cfg: &StoreConfig, disk: &Disk) -> Result<u16, StartError> {
    let path = cfg.data_dir.join("format");
    let (version, partitions) = match disk.read(&path).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut lines = text.lines();
            let version = lines.next().and_then(|line| line.strip_prefix("palomar "));
            let version: Option<u32> = version.and_then(|n| n.parse().ok());
            let partitions = lines.next().and_then(|l| l.strip_prefix("partitions "));
            let partitions = partitions.and_then(|n| n.parse().ok());
            match (version, partitions.filter(|n| *n > 0)) {
                (Some(found), _) if found > FORMAT => {
                    return Err(StartError::Newer { path, found });
                }
                (Some(version @ 1..), Some(partitions)) => (version, partitions),
                _ => return Err(StartError::Format { path }),
            }
        }
        Err(error) if error.kind == DiskErrorKind::NotFound => (0, cfg.partitions),
        Err(error) => return Err(error.into()),
    };
    if version < FORMAT {
        write_format(disk, &path, partitions).await?;
    }
    Ok(partitions)
}

async fn write_format(disk: &Disk, path: &Path, partitions: u16) -> Result<(), StartError> {
    let text = format!("palomar {FORMAT}\npartitions {partitions}\n");
    let new = path.with_extension("new");
    let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let len = text.len() as u64;
    let steps = vec![
        Step::Append {
            path: new.clone(),
            at: 0,
            bytes: text.into_bytes(),
        },
        Step::Truncate {
            path: new.clone(),
            len,
        },
        Step::SyncFile { path: new.clone() },
        Step::Rename {
            from: new,
            to: path.to_path_buf(),
        },
        Step::SyncDir { path: dir },
    ];
    for done in disk.batch(vec![Step::Group(steps)]).await {
        done?;
    }
    Ok(())
}

/// Makes the data directory ready to be served. However busy others keep the disk: a start has
/// nothing better to do than to wait.
pub(super) async fn recover_all(
    cfg: StoreConfig,
    disk: &Disk,
    lock: Option<Arc<OwnedFd>>,
) -> Result<Recovered, StartError> {
    let disk = &disk.patient();
    let layout = Layout {
        root: cfg.data_dir.clone(),
    };
    let root = &layout.root;
    let dir = |name: &str| Step::CreateDirAll {
        path: root.join(name),
    };
    let mut steps: Vec<Step> = [
        "mail",
        "partitions",
        "catalogues",
        "spool",
        "removed",
        "history",
        "queue",
    ]
    .map(dir)
    .into();
    steps.push(Step::SyncDir { path: root.clone() });
    for done in disk.batch(steps).await {
        done?;
    }
    let partitions = format(&cfg, disk).await?;
    let teller = Teller::new(cfg.progress.clone());
    let reading = |done, all| teller.tell(Stage::Reading, done, all);
    let mut past = journal::recover_telling(&cfg.journal, disk, &reading).await?;
    for torn in &past.report.torn {
        tracing::warn!(
            ?torn,
            "torn journal tail cut off; nobody was answered for it"
        );
    }
    let owned = Owned::new(layout.clone());
    owned.epoch.set(past.epoch);
    owned.keep_days.set(cfg.undelete_days);
    // A start waits for no room.
    owned.keeps_no_more.set(true);
    owned.packing.set(cfg.packing);
    owned.queue_bounds.set(cfg.queue_bounds);
    let bodies = Bodies {
        disk: disk.clone(),
        from: BodiesFrom::Recovered(past.files.clone()),
    };
    let settler = Settler {
        disk,
        owned: &owned,
        bodies: &bodies,
    };
    let mut present = list_partitions(disk, root).await?;
    let records = std::mem::take(&mut past.partitions);
    let known: HashSet<PartitionId> = present.iter().copied().collect();
    present.extend(records.keys().filter(|id| !known.contains(*id)));
    let replay = Replay::new(&settler, &teller);
    let mut cuts = replay.all(&present, records).await?;
    let catalogues = replay.mended();
    teller.tell(Stage::Syncing, 0, 1);
    let stuck = checkpoint::commit(&settler, &mut cuts).await?;
    drop(cuts);
    refuse_stuck(&owned, &stuck)?;
    journal::retire(&cfg.journal, disk, &past).await?;
    let mut left = Vec::new();
    for partition in owned.all() {
        doom::doom(disk, &owned, &partition, PSeq(u64::MAX)).await;
        let still = partition.state.borrow().doomed.iter().cloned().collect();
        left.push((partition.id, still));
    }
    let leftovers = clear_leftovers(disk, &layout, &owned).await?;
    let entries = hand_over(&owned);
    teller.done(&past.report);
    let (mesh, inboxes) = Mesh::new(cfg.shards, REQUESTS_MAX);
    let inboxes = inboxes.into_iter().map(|inbox| {
        let (give, take) = flume::bounded(1);
        let _ = give.try_send(inbox);
        take
    });
    Ok(Recovered {
        epoch: past.epoch,
        partitions,
        report: past.report,
        catalogues,
        present,
        mesh,
        inboxes: inboxes.collect(),
        checkpointing: Arc::default(),
        unpacking: Arc::default(),
        sync_failed: Arc::default(),
        ended: Arc::default(),
        room: Common::new(cfg.shards),
        entries: Arc::new(entries),
        left: Arc::new(left.into_iter().collect()),
        orphans: owned.orphans.all().into(),
        leftovers: leftovers.into(),
        _lock: lock,
        cfg,
    })
}

/// What was read of long queues need not be read again by the shards that they belong to.
fn hand_over(owned: &Owned) -> BTreeMap<PartitionId, flume::Receiver<Handed>> {
    let one = |partition: Rc<Partition>| {
        let mut state = partition.state.borrow_mut();
        let is_durable = state.accepted.log.named().is_there() && state.unfiled.is_empty();
        let (give, take) = flume::bounded(1);
        if is_durable {
            let owed = std::mem::take(&mut state.owed);
            let _ = give.try_send((std::mem::take(&mut state.accepted), owed));
        }
        is_durable.then_some((partition.id, take))
    };
    owned.all().into_iter().filter_map(one).collect()
}

/// What cannot be settled is in the journal alone, which is about to let go of it.
fn refuse_stuck(owned: &Owned, stuck: &[PartitionId]) -> Result<(), StartError> {
    for &partition in stuck {
        if let Some(error) = owned.partition(partition).stuck.borrow_mut().take() {
            return Err(StartError::Stuck { partition, error });
        }
    }
    Ok(())
}

/// Partitions that have a catalogue, or a copy of one.
async fn list_partitions(disk: &Disk, root: &Path) -> Result<Vec<PartitionId>, StartError> {
    let mut all = BTreeSet::new();
    for dir in ["partitions", "catalogues"] {
        let entries = disk.list(&root.join(dir)).await?;
        let number = |e: crate::runtime::DirEntry| e.name.to_str()?.parse().ok().map(PartitionId);
        all.extend(entries.into_iter().filter_map(number));
    }
    Ok(all.into_iter().collect())
}

/// The partition as the start left it.
pub(super) async fn load_partition(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
    handed: Option<Handed>,
) -> Result<Rc<Partition>, StartError> {
    let found = match handed {
        Some(_) => catalogue::load_alone(disk, layout, id).await?,
        None => catalogue::load(disk, layout, id).await?,
    };
    match (found, handed) {
        (Found::Whole(mut found), Some((entries, owed))) => {
            (found.state.accepted, found.state.owed) = (entries, owed);
            Ok(Partition::new(id, found.state))
        }
        (Found::Whole(found), None) => Ok(Partition::new(id, found.state)),
        (Found::Nothing, _) => Ok(Partition::new(id, Catalogue::default())),
        (Found::Lost(files), _) => {
            let path = files.into_iter().next().unwrap_or_default();
            Err(StartError::Catalogue { path })
        }
    }
}

/// Logs of queues that no catalogue names: a checkpoint was cut off, or what it left to remove.
async fn stray_logs(
    disk: &Disk,
    layout: &Layout,
    owned: &Owned,
) -> Result<Vec<PathBuf>, StartError> {
    let mut stray = Vec::new();
    for dir in ["queue", "catalogues"] {
        let dir = layout.root.join(dir);
        for entry in disk.list(&dir).await? {
            let Some((id, generation)) = entry.name.to_str().and_then(queue::placed) else {
                continue;
            };
            let of = owned.partitions.borrow().get(&id).cloned();
            let is_stray = of.is_some_and(|partition| {
                let named = partition.state.borrow().accepted.log.named();
                !named.is_there() || named.generation != generation
            });
            stray.extend(is_stray.then(|| dir.join(&entry.name)));
        }
    }
    Ok(stray)
}

/// Removes spool files and graves that nothing names any more, and half catalogues. Answers which of
/// the first two are still there.
async fn clear_leftovers(
    disk: &Disk,
    layout: &Layout,
    owned: &Owned,
) -> Result<Vec<PathBuf>, StartError> {
    let mut named = HashSet::new();
    for partition in owned.all() {
        named.extend(partition.state.borrow().accepted.spool_files(layout));
    }
    let spool = layout.spool();
    let files = disk.list(&spool).await?.into_iter();
    let files = files.map(|entry| spool.join(entry.name));
    let files: Vec<PathBuf> = files.filter(|path| !named.contains(path)).collect();
    let removed = layout.root.join("removed");
    let is_day = |name: &OsStr| name.to_str().is_some_and(|n| n.parse::<Day>().is_ok());
    let graves = disk.list(&removed).await?.into_iter();
    // What is kept stays; its days end by themselves.
    let graves = graves.filter(|entry| !is_day(&entry.name));
    let graves: Vec<PathBuf> = graves.map(|entry| removed.join(entry.name)).collect();
    let unlink = |path: &PathBuf| Step::Unlink { path: path.clone() };
    let remove = |path: &PathBuf| Step::RemoveDirAll { path: path.clone() };
    let steps = files.iter().map(unlink).chain(graves.iter().map(remove));
    let mut steps: Vec<Step> = steps.collect();
    // Begun by a checkpoint that was cut off; the next one may have nothing to say of a partition.
    for partition in owned.all() {
        let begun = catalogue::places(layout, partition.id).map(|place| Step::Unlink {
            path: place.with_extension("new"),
        });
        steps.extend(begun);
    }
    let logs = stray_logs(disk, layout, owned).await?;
    steps.extend(logs.into_iter().map(|path| Step::Unlink { path }));
    let mut paths = files.into_iter().chain(graves);
    let mut left = Vec::new();
    for done in disk.batch(steps).await {
        let path = paths.next();
        if let Err(error) = done
            && error.kind != DiskErrorKind::NotFound
        {
            tracing::warn!(%error, "left-over not removed");
            // The name that an owner has of a message on its way: it may come for it.
            left.extend(path.filter(|path| !named.contains(&path.with_extension(""))));
        }
    }
    Ok(left)
}
