//! What is in a tree besides mail and lists: seen before anything is changed, since settling cannot
//! go on over a file where a directory belongs, or in a directory that is not ours to write to.
//!
//! Links, devices and the like are never followed or opened. What stands in the way of our own
//! names is put aside and told; what mail or its numbers may lie behind is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::AdoptError;
use super::place::{COPIED, all};
use super::plan::{Plan, list};
use crate::runtime::{DirEntry, Disk, Step};
use crate::store::maildir::folder;

/// Below an account's root: what stood in the way.
const ASIDE: &str = "palomar.aside";

/// Whose files they have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// They stay: they must be ours, and on one file system.
    Ours,
    /// Any that can be read.
    Readable,
}

/// Looks through the tree at `root`; answers what has to go aside, below the root. Directories
/// have the names that they came with, or already ours.
pub(super) async fn in_the_way(
    disk: &Disk,
    plan: &Plan,
    root: &Path,
    want: Want,
) -> Result<Vec<PathBuf>, AdoptError> {
    let mut look = Look {
        disk,
        root,
        want,
        aside: Vec::new(),
    };
    let top = list(disk, root).await?;
    let is_there = |name: &OsStr| top.iter().any(|e| e.name == name);
    let is_folder = |name: &OsStr| {
        let of_plan = |f: &super::plan::Folder| {
            let ours = folder(&f.mailbox);
            f.dir == name || (ours.as_bytes() == name.as_bytes() && !is_there(&f.dir))
        };
        plan.folders.iter().any(of_plan)
    };
    look.folder(PathBuf::new(), &top).await?;
    for entry in &top {
        if !entry.name.as_bytes().starts_with(b".") {
            continue;
        }
        let below = PathBuf::from(&entry.name);
        match entry.is_dir && is_folder(&entry.name) {
            true => {
                look.may_use(entry, &below)?;
                let entries = list(disk, &root.join(&below)).await?;
                look.folder(below, &entries).await?;
            }
            false => look.aside.push(below),
        }
    }
    Ok(look.aside)
}

struct Look<'l> {
    disk: &'l Disk,
    root: &'l Path,
    want: Want,
    aside: Vec<PathBuf>,
}

impl Look<'_> {
    /// What is in one folder, but for the folders in it.
    async fn folder(&mut self, below: PathBuf, entries: &[DirEntry]) -> Result<(), AdoptError> {
        for entry in entries {
            let path = below.join(&entry.name);
            let name = entry.name.to_string_lossy();
            match &*name {
                "cur" | "new" if !entry.is_dir => {
                    return Err(AdoptError::NotPlain(self.root.join(path)));
                }
                "cur" | "new" | "tmp" if entry.is_dir => {
                    self.may_use(entry, &path)?;
                    self.files(&path).await?;
                }
                "dovecot-uidlist" | "dovecot-keywords" | "subscriptions" if !entry.is_file => {
                    return Err(AdoptError::NotPlain(self.root.join(path)));
                }
                // Of the root: it has its turn.
                name if name.starts_with('.') => {}
                ASIDE if entry.is_dir => {}
                name if is_own(name) && entry.is_dir => self.aside.push(path),
                "tmp" => self.aside.push(path),
                _ if entry.is_file => self.may_use(entry, &path)?,
                _ if !entry.is_dir => self.aside.push(path),
                _ => {}
            }
        }
        Ok(())
    }

    /// Message files, and what is none.
    async fn files(&mut self, below: &Path) -> Result<(), AdoptError> {
        for entry in list(self.disk, &self.root.join(below)).await? {
            let path = below.join(&entry.name);
            match entry.is_file {
                true => self.may_use(&entry, &path)?,
                false => self.aside.push(path),
            }
        }
        Ok(())
    }

    fn may_use(&self, entry: &DirEntry, below: &Path) -> Result<(), AdoptError> {
        let path = || self.root.join(below);
        match self.want {
            Want::Ours if entry.is_mount => Err(AdoptError::OtherDisk(path())),
            Want::Ours if !entry.is_ours => Err(AdoptError::NotOurs(path())),
            _ => Ok(()),
        }
    }
}

/// Names that we write to in a folder.
pub(super) fn is_own(name: &str) -> bool {
    let lists = [
        "maildirfolder",
        "dovecot-uidlist.new",
        "dovecot-keywords.new",
    ];
    name.starts_with("palomar.") || lists.contains(&name) || name == "subscriptions.new"
}

/// Puts aside what is in the way in the account's place, and takes away what an earlier Palomar
/// left there.
pub(super) async fn clear_the_way(
    disk: &Disk,
    plan: &Plan,
    place: &Path,
) -> Result<Vec<PathBuf>, AdoptError> {
    let aside = in_the_way(disk, plan, place, Want::Readable).await?;
    let mut steps = Vec::new();
    for below in &aside {
        let to = free(disk, place.join(ASIDE).join(below)).await?;
        let parent = to.parent().map(Path::to_path_buf).unwrap_or_default();
        steps.push(Step::CreateDirAll { path: parent });
        steps.push(Step::Rename {
            from: place.join(below),
            to,
        });
    }
    all(disk, steps).await?;
    Ok(aside)
}

/// The path, or one beside it that nothing has from an earlier time.
async fn free(disk: &Disk, wanted: PathBuf) -> Result<PathBuf, AdoptError> {
    let mut path = wanted.clone();
    let mut n = 2u32;
    while disk.exists(&path).await? {
        let mut other = wanted.as_os_str().to_owned();
        other.push(format!(".{n}"));
        path = PathBuf::from(other);
        n += 1;
    }
    Ok(path)
}

/// What an earlier Palomar left in a folder.
pub(super) async fn clear_own(disk: &Disk, path: &Path) -> Result<(), AdoptError> {
    let mut steps = Vec::new();
    for entry in list(disk, path).await? {
        let name = entry.name.to_string_lossy();
        if name.starts_with("palomar.") && name != COPIED && !entry.is_dir {
            let path = path.join(&entry.name);
            steps.push(Step::Unlink { path });
        }
    }
    all(disk, steps).await
}
