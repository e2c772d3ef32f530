//! Bringing a tree to an account's place: moved where that is one step, else copied; then the
//! folders get the names that we have for them. Every step can be done again.

use std::path::{Path, PathBuf};

use super::AdoptError;
use super::check::{clear_own, clear_the_way, is_own};
use super::folder::{KEYWORDS, Lists, UIDLIST};
use super::plan::{Plan, list};
use crate::runtime::{Disk, DiskErrorKind, Open, Step};
use crate::store::maildir::folder;

/// Rename between two file systems.
const EXDEV: i32 = 18;
/// A folder of a copy that is whole, and durable.
pub(super) const COPIED: &str = "palomar.copied";
/// Larger files are copied piece by piece.
const PIECE_BYTES: u64 = 1 << 20;

/// Does the step, and those after it only if it was done.
pub(super) async fn all(disk: &Disk, steps: Vec<Step>) -> Result<(), AdoptError> {
    for done in disk.batch(steps).await {
        done?;
    }
    Ok(())
}

/// Whether a tree at `from` can be moved and its files renamed by us.
pub(super) async fn may_move(disk: &Disk, from: &Path) -> Result<(), AdoptError> {
    for dir in [Some(from), from.parent()].into_iter().flatten() {
        let probe = dir.join(format!("palomar.probe-{}", std::process::id()));
        // Of a run that was cut off.
        let _ = disk.unlink(&probe).await;
        let bytes = Vec::new();
        // A run that was cut off here may have had the same process number.
        let _ = disk.unlink(&probe).await;
        disk.write_new(&probe, bytes).await?;
        disk.unlink(&probe).await?;
    }
    Ok(())
}

/// Brings the tree to `place`, durably but for a last sync. True where it was copied.
pub(super) async fn bring(
    disk: &Disk,
    plan: &Plan,
    place: &Path,
    synced: &impl AsyncFn() -> Result<(), AdoptError>,
) -> Result<bool, AdoptError> {
    let parent = parent(place);
    disk.create_dir_all(&parent).await?;
    // Directories that were made for it: what goes into them must not lose its way.
    for dir in [&parent, &self::parent(&parent)] {
        disk.sync_dir(&self::parent(dir)).await?;
    }
    if !plan.copy {
        match disk.rename(&plan.from, place).await {
            Ok(()) => {
                // The new name before the old one's end: never neither.
                disk.sync_dir(&parent).await?;
                disk.sync_dir(&self::parent(&plan.from)).await?;
                return Ok(false);
            }
            Err(error) if error.kind == DiskErrorKind::Io(EXDEV) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut staging = place.as_os_str().to_owned();
    staging.push(".adopting");
    let staging = PathBuf::from(staging);
    copy_tree(disk, plan, &staging, synced).await?;
    disk.rename(&staging, place).await?;
    disk.sync_dir(&parent).await?;
    Ok(true)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

async fn copy_tree(
    disk: &Disk,
    plan: &Plan,
    to: &Path,
    synced: &impl AsyncFn() -> Result<(), AdoptError>,
) -> Result<(), AdoptError> {
    let is_folder = |name: &std::ffi::OsStr| plan.folders.iter().any(|f| f.dir == name);
    let foreign = disk.foreign();
    let tmp = to.join("palomar.copying");
    for folder in &plan.folders {
        let (from, to) = (folder.below(&plan.from), folder.below(to));
        if disk.exists(&to.join(COPIED)).await? {
            continue;
        }
        let mut dirs = vec![(from, to.clone())];
        let mut at_top = folder.dir.is_empty();
        while let Some((from, to)) = dirs.pop() {
            disk.create_dir_all(&to).await?;
            for entry in list(&foreign, &from).await? {
                let is_ours = is_own(&entry.name.to_string_lossy());
                let (from, to) = (from.join(&entry.name), to.join(&entry.name));
                match entry.is_dir {
                    true if at_top && is_folder(&entry.name) => {}
                    true if !is_ours => dirs.push((from, to)),
                    false if entry.is_file && !is_ours => {
                        copy_file((&foreign, &from), disk, &to, &tmp, entry.len).await?;
                    }
                    // Links and the like were told of; an earlier mark of ours says nothing.
                    _ => {}
                }
            }
            at_top = false;
        }
        synced().await?;
        let mark = Step::Append {
            path: to.join(COPIED),
            at: 0,
            bytes: Vec::new(),
        };
        all(disk, vec![mark]).await?;
    }
    synced().await
}

/// With its time. What is gone is no message.
async fn copy_file(
    (foreign, from): (&Disk, &Path),
    disk: &Disk,
    to: &Path,
    tmp: &Path,
    len: u64,
) -> Result<(), AdoptError> {
    let modified = match foreign.modified(from).await {
        Ok(modified) => modified,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if len <= PIECE_BYTES {
        let step = Step::Replace {
            tmp: tmp.to_path_buf(),
            to: to.to_path_buf(),
            bytes: foreign.read_at_most(from, PIECE_BYTES).await?,
            rest: None,
            pack: None,
            modified: Some(modified),
        };
        return all(disk, vec![step]).await;
    }
    let how = Open {
        read: true,
        ..Open::default()
    };
    let file = foreign.open(from, how).await?;
    let mut at = 0;
    loop {
        let bytes = file.read_at(PIECE_BYTES as usize, at).await?;
        if bytes.is_empty() {
            break;
        }
        let read = bytes.len() as u64;
        let path = to.to_path_buf();
        all(disk, vec![Step::Append { path, at, bytes }]).await?;
        at += read;
    }
    let path = to.to_path_buf();
    all(
        disk,
        vec![
            Step::Truncate {
                path: path.clone(),
                len: at,
            },
            Step::SetTimes { path, at: modified },
        ],
    )
    .await
}

/// Puts aside what is in our way, gives the folders our names, takes away what an earlier Palomar
/// left in them, and copies the other program's lists. Only as long as no record names the
/// folders. Answers what was put aside.
pub(super) async fn prepare(
    disk: &Disk,
    plan: &Plan,
    place: &Path,
) -> Result<Vec<PathBuf>, AdoptError> {
    let aside = clear_the_way(disk, plan, place).await?;
    for planned in &plan.folders {
        let path = place.join(folder(&planned.mailbox));
        let old = planned.below(place);
        // Not there: it was renamed before.
        if !planned.dir.is_empty() && old != path && disk.exists(&old).await? {
            disk.rename(&old, &path).await?;
        }
        clear_own(disk, &path).await?;
        let (lists_from, lists_at) = match &plan.control {
            Some(control) => (disk.foreign(), planned.below(control)),
            None => (disk.clone(), path.clone()),
        };
        let (uids, keywords) = Lists::original(&lists_from, &lists_at).await?;
        let list = |(name, bytes): (&str, Vec<u8>)| Step::Replace {
            tmp: path.join(format!("{name}.new")),
            to: path.join(name),
            bytes,
            rest: None,
            pack: None,
            modified: None,
        };
        let lists = [(UIDLIST, uids), (KEYWORDS, keywords)].map(list);
        all(disk, lists.into()).await?;
    }
    Ok(aside)
}

/// Removes what was only needed on the way.
pub(super) async fn clear(disk: &Disk, plan: &Plan, place: &Path) -> Result<(), AdoptError> {
    for planned in &plan.folders {
        let path = place.join(folder(&planned.mailbox));
        let gone = [UIDLIST, KEYWORDS, COPIED].map(|name| Step::Unlink {
            path: path.join(name),
        });
        for done in disk.batch(gone.into()).await {
            match done {
                Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}
