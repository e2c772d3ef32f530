//! The directory tree of a simulated disk: names as they are, names as they are durable, and the
//! changes between the two in the order in which they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};

use rustix::io::Errno;

use super::{Inode, Random};

#[derive(Clone)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    pending: Vec<Change>,
    next: Inode,
}

/// Directories by inode; a file is an inode without an entry here.
type Tree = BTreeMap<Inode, BTreeMap<OsString, Inode>>;

/// What one call did, as names set to an inode or to nothing. Kept or lost as one.
type Change = Vec<Entry>;

#[derive(Clone)]
struct Entry {
    dir: Inode,
    name: OsString,
    inode: Option<Inode>,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = Tree::from([(ROOT, BTreeMap::new())]);
        Names {
            now: root.clone(),
            durable: root,
            pending: Vec::new(),
            next: ROOT + 1,
        }
    }

    pub(super) fn find(&self, path: &Path) -> Result<Inode, Errno> {
        let mut inode = ROOT;
        for name in components(path) {
            let dir = self.now.get(&inode).ok_or(Errno::NOTDIR)?;
            inode = *dir.get(name).ok_or(Errno::NOENT)?;
        }
        Ok(inode)
    }

    pub(super) fn create(&mut self, path: &Path) -> Result<Inode, Errno> {
        let (dir, name) = self.place(path)?;
        let inode = self.number();
        self.change(vec![Entry::set(dir, name, inode)]);
        Ok(inode)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> Result<(), Errno> {
        let mut dir = ROOT;
        for name in components(path) {
            let entries = self.now.get(&dir).ok_or(Errno::NOTDIR)?;
            dir = match entries.get(name) {
                Some(&inode) => inode,
                None => {
                    let inode = self.number();
                    self.now.insert(inode, BTreeMap::new());
                    // Empty and without a name: durable or not makes no difference.
                    self.durable.insert(inode, BTreeMap::new());
                    self.change(vec![Entry::set(dir, name.into(), inode)]);
                    inode
                }
            };
        }
        match self.now.contains_key(&dir) {
            true => Ok(()),
            false => Err(Errno::EXIST),
        }
    }

    pub(super) fn link(&mut self, inode: Inode, to: &Path) -> Result<(), Errno> {
        let (dir, name) = self.place(to)?;
        if self.now[&dir].contains_key(&name) {
            return Err(Errno::EXIST);
        }
        if self.now.contains_key(&inode) {
            return Err(Errno::PERM);
        }
        self.change(vec![Entry::set(dir, name, inode)]);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> Result<(), Errno> {
        let (dir, name) = self.place(path)?;
        self.change(vec![Entry::clear(dir, name)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (old_dir, old_name) = self.place(from)?;
        let (new_dir, new_name) = self.place(to)?;
        let inode = self.find(from)?;
        let target = self.now[&new_dir].get(&new_name).copied();
        if target == Some(inode) {
            return Ok(());
        }
        if is_above(from, to) {
            return Err(Errno::INVAL);
        }
        if is_above(to, from) {
            return Err(Errno::NOTEMPTY);
        }
        let is_dir = self.now.contains_key(&inode);
        match target.map(|target| self.now.get(&target)) {
            None => {}
            Some(None) if is_dir => return Err(Errno::NOTDIR),
            Some(None) => {}
            Some(Some(_)) if !is_dir => return Err(Errno::ISDIR),
            Some(Some(entries)) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            Some(Some(_)) => {}
        }
        self.change(vec![
            Entry::clear(old_dir, old_name),
            Entry::set(new_dir, new_name, inode),
        ]);
        Ok(())
    }

    /// Each name is a change of its own: a cut in the middle leaves part of the tree.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> Result<(), Errno> {
        let top = self.find(path)?;
        let (dir, name) = self.place(path)?;
        let mut open = vec![top];
        if !self.now.contains_key(&top) {
            return Err(Errno::NOTDIR);
        }
        while let Some(inode) = open.pop() {
            let Some(entries) = self.now.get(&inode).cloned() else {
                continue;
            };
            for (name, child) in entries {
                open.push(child);
                self.change(vec![Entry::clear(inode, name)]);
            }
        }
        self.change(vec![Entry::clear(dir, name)]);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<(OsString, Inode)>, Errno> {
        let dir = self.find(path)?;
        let entries = self.now.get(&dir).ok_or(Errno::NOTDIR)?;
        Ok(entries.iter().map(|(n, i)| (n.clone(), *i)).collect())
    }

    /// Makes durable what was changed in this directory, and only that.
    pub(super) fn sync_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let dir = self.find(path)?;
        if !self.now.contains_key(&dir) {
            return Err(Errno::NOTDIR);
        }
        for at in 0..self.pending.len() {
            let is_here = |entry: &Entry| entry.dir == dir;
            // A directory is never seen under two names.
            let whole = self.pending[at].iter().any(is_here) && self.moves_dir(&self.pending[at]);
            let change = std::mem::take(&mut self.pending[at]);
            let (synced, rest): (Vec<_>, Vec<_>) = change
                .into_iter()
                .partition(|entry| whole || is_here(entry));
            for entry in &synced {
                entry.apply(&mut self.durable);
                // What was there before under this name is overtaken.
                for earlier in &mut self.pending[..at] {
                    earlier.retain(|e| (e.dir, &e.name) != (entry.dir, &entry.name));
                }
            }
            self.pending[at] = rest;
        }
        self.pending.retain(|change| !change.is_empty());
        Ok(())
    }

    fn moves_dir(&self, change: &Change) -> bool {
        let mut made = change.iter().filter_map(|entry| entry.inode);
        made.any(|inode| self.now.contains_key(&inode))
    }

    pub(super) fn sync_all(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change
                .iter()
                .for_each(|entry| entry.apply(&mut self.durable));
        }
    }

    pub(super) fn after_power_cut(&self, random: &mut Random) -> Names {
        let mut tree = self.durable.clone();
        // As for sectors: one cut in eight loses all, one keeps all.
        let mood = random.below(8);
        for change in &self.pending {
            let coin = random.coin();
            if mood == 1 || (mood > 1 && coin) {
                change.iter().for_each(|entry| entry.apply(&mut tree));
            }
        }
        let reached = reachable(&tree);
        tree.retain(|dir, _| reached.contains(dir));
        Names {
            now: tree.clone(),
            durable: tree,
            pending: Vec::new(),
            next: self.next,
        }
    }

    /// Every inode that has a name.
    pub(super) fn files(&self) -> BTreeSet<Inode> {
        reachable(&self.now)
    }

    fn place(&self, path: &Path) -> Result<(Inode, OsString), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("/")))?;
        match self.now.contains_key(&dir) {
            true => Ok((dir, name.into())),
            false => Err(Errno::NOTDIR),
        }
    }

    fn change(&mut self, change: Change) {
        change.iter().for_each(|entry| entry.apply(&mut self.now));
        self.pending.push(change);
    }

    fn number(&mut self) -> Inode {
        self.next += 1;
        self.next
    }
}

impl Entry {
    fn set(dir: Inode, name: OsString, inode: Inode) -> Self {
        let inode = Some(inode);
        Entry { dir, name, inode }
    }

    fn clear(dir: Inode, name: OsString) -> Self {
        let inode = None;
        Entry { dir, name, inode }
    }

    fn apply(&self, tree: &mut Tree) {
        let Some(dir) = tree.get_mut(&self.dir) else {
            return;
        };
        match self.inode {
            Some(inode) => dir.insert(self.name.clone(), inode),
            None => dir.remove(&self.name),
        };
    }
}

fn reachable(tree: &Tree) -> BTreeSet<Inode> {
    let mut reached = BTreeSet::from([ROOT]);
    let mut open = vec![ROOT];
    while let Some(inode) = open.pop() {
        for &child in tree.get(&inode).into_iter().flat_map(BTreeMap::values) {
            if reached.insert(child) {
                open.push(child);
            }
        }
    }
    reached
}

fn is_above(upper: &Path, lower: &Path) -> bool {
    let (upper, lower): (Vec<_>, Vec<_>) =
        (components(upper).collect(), components(lower).collect());
    upper.len() < lower.len() && lower.starts_with(&upper)
}

/// `/a/b` and `a/b` are the same: the working directory is the root.
fn components(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

const ROOT: Inode = 1;
