//! The two copies of a catalogue on the disk, in directories apart.
//!
//! A checkpoint writes both, and is made only when both have their names for good; the journal keeps
//! what came after the older one until then. So each of them alone is a place to go on from, without
//! loss, and they differ only where a checkpoint was cut off.

use std::path::PathBuf;
use std::rc::Rc;

use super::{Catalogue, Cut, MAGIC};
use crate::base::{PartitionId, UnixMs, crc32c};
use crate::observe::{event, log_event};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step, unix_now};
use crate::store::mailbox::disk_error;
use crate::store::maildir::Layout;
use crate::store::startup::StartError;
use crate::store::{StoreError, queue, repair};

/// Copies of a catalogue, or of the log that it names, that were damaged: the other one was whole, and
/// both are written anew.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CatalogueRepair {
    pub at: UnixMs,
    pub partition: PartitionId,
    pub files: Vec<PathBuf>,
}

/// What the copies of a catalogue say.
pub(in crate::store) enum Found {
    /// The partition has none yet.
    Nothing,
    Whole(Box<Loaded>),
    /// None of them can be read.
    Lost(Vec<PathBuf>),
}

pub(in crate::store) struct Loaded {
    pub state: Catalogue,
    /// Both are there and say the same.
    pub is_sound: bool,
    /// Those that are damaged.
    pub damaged: Vec<PathBuf>,
}

/// One copy, as it was read.
enum One {
    Missing,
    Damaged,
    Whole(Box<Catalogue>, Rc<Vec<u8>>),
}

/// Where the copies are, the first one first.
pub(in crate::store) fn places(layout: &Layout, id: PartitionId) -> [PathBuf; 2] {
    let copies = layout.root.join("catalogues");
    [layout.catalogue(id), copies.join(id.0.to_string())]
}

fn new(path: &std::path::Path) -> PathBuf {
    path.with_extension("new")
}

/// Reads the catalogue, of two whole copies the later one, and the log that it names.
pub(in crate::store) async fn load(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
) -> Result<Found, StartError> {
    let mut found = load_alone(disk, layout, id).await?;
    let Found::Whole(loaded) = &mut found else {
        return Ok(found);
    };
    let named = loaded.state.accepted.log.named();
    if named.is_there() {
        match queue::read(disk, layout, id, named).await? {
            queue::Read::Lost(files) => return Ok(Found::Lost(files)),
            queue::Read::Whole(entries, damaged) => {
                loaded.is_sound &= damaged.is_empty();
                loaded.damaged.extend(damaged);
                loaded.state.accepted = entries;
                loaded.state.note_owed();
            }
        }
    }
    Ok(found)
}

/// As [`load`], without the log of a queue.
pub(in crate::store) async fn load_alone(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
) -> Result<Found, StartError> {
    let places = places(layout, id);
    let first = one(disk, layout, id, &places[0]).await?;
    let second = one(disk, layout, id, &places[1]).await?;
    let mut damaged = Vec::new();
    for (copy, path) in [&first, &second].into_iter().zip(&places) {
        let is_gone = match copy {
            One::Whole(..) => false,
            One::Damaged => true,
            // A checkpoint that was cut off may have left one of the two alone, and its successor
            // beside it; a directory of an earlier version has no second one.
            One::Missing if *path == places[1] => false,
            One::Missing => {
                matches!(second, One::Whole(..) | One::Damaged) && !disk.exists(&new(path)).await?
            }
        };
        if is_gone {
            damaged.push(path.clone());
        }
    }
    let (state, is_sound) = match (first, second) {
        (One::Whole(first, one), One::Whole(second, two)) => {
            let is_sound = one == two;
            match second.applied > first.applied {
                true => (second, is_sound),
                false => (first, is_sound),
            }
        }
        (One::Whole(state, _), _) | (_, One::Whole(state, _)) => (state, false),
        _ if damaged.is_empty() => return Ok(Found::Nothing),
        _ => return Ok(Found::Lost(damaged)),
    };
    Ok(Found::Whole(Box::new(Loaded {
        state: *state,
        is_sound,
        damaged,
    })))
}

async fn one(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
    path: &std::path::Path,
) -> Result<One, StartError> {
    let bytes = match disk.read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(One::Missing),
        Err(error) if matches!(disk_error(&error), StoreError::Damaged { .. }) => {
            return Ok(One::Damaged);
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(found) = later_version(&bytes) {
        let path = path.into();
        return Err(StartError::Newer { path, found });
    }
    Ok(match Catalogue::decode(&bytes, id, layout) {
        Ok(state) => One::Whole(Box::new(state), Rc::new(bytes)),
        Err(_) => One::Damaged,
    })
}

/// The version of a whole catalogue that is newer than this program.
fn later_version(bytes: &[u8]) -> Option<u32> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let digits = body.strip_prefix(&MAGIC[..6])?.get(..2)?;
    let version: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let ours: u32 = std::str::from_utf8(&MAGIC[6..]).ok()?.parse().ok()?;
    (version > ours && crc32c(body).0.to_le_bytes() == crc).then_some(version)
}

/// Keeps what is damaged for a person to look at, tells of it, and says what to remember.
pub(in crate::store) async fn isolate(
    disk: &Disk,
    layout: &Layout,
    partition: PartitionId,
    files: Vec<PathBuf>,
) -> CatalogueRepair {
    let places = places(layout, partition);
    let name = |file: &PathBuf| match places.iter().position(|place| place == file) {
        Some(0) => "catalogue",
        Some(_) => "catalogue-copy",
        None if file.starts_with(layout.root.join("queue")) => "queue",
        None => "queue-copy",
    };
    let aside = files
        .iter()
        .map(|file| (file.clone(), format!("P{partition}-{}", name(file))));
    repair::set_aside(disk, layout, aside.collect()).await;
    for file in &files {
        log_event!(ERROR, event::CATALOGUE_DAMAGED, %partition, file = %file.display());
    }
    CatalogueRepair {
        at: unix_now(),
        partition,
        files,
    }
}

/// Writes both under other names; answers what gives them their own after a sync.
pub(in crate::store) async fn write(
    disk: &Disk,
    layout: &Layout,
    cut: &Cut,
) -> Result<Vec<Step>, DiskError> {
    let places = places(layout, cut.partition.id);
    let dir = |path: &PathBuf| Step::CreateDirAll {
        path: path.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let mut steps: Vec<Step> = places.iter().map(dir).collect();
    let mut at = 0;
    for (n, bytes) in cut.pieces.iter().enumerate() {
        steps.extend(places.iter().map(|path| Step::Append {
            path: new(path),
            at,
            bytes: bytes.clone(),
        }));
        at += bytes.len() as u64;
        if n + 1 == cut.pieces.len() {
            steps.extend(places.iter().map(|path| Step::Truncate {
                path: new(path),
                len: at,
            }));
        }
        for outcome in disk.batch(std::mem::take(&mut steps)).await {
            outcome?;
        }
    }
    let rename = |to: PathBuf| Step::Rename { from: new(&to), to };
    Ok(places.into_iter().map(rename).collect())
}
