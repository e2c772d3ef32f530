//! Files that owners in several partitions of a shard share: where one of them has it.
//!
//! Known for a while and in this life alone. What is not found there is written once more: nothing
//! but room depends on it. A name is noted when its file is whole, and whoever links from it is
//! covered by the same sync of the file system, or a later one.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::store::body::Handed;

/// Files that are remembered; owners settle within moments of one another.
const FILES_MAX: usize = 1024;

#[derive(Default)]
pub(in crate::store) struct SharedFiles {
    all: RefCell<BTreeMap<Handed, PathBuf>>,
    /// The longest known first.
    order: RefCell<VecDeque<Handed>>,
}

impl SharedFiles {
    pub fn find(&self, of: Handed) -> Option<PathBuf> {
        self.all.borrow().get(&of).cloned()
    }

    /// The file of an owner is there, in the place of one that was known before.
    pub fn note(&self, of: Handed, file: &Path) {
        let mut all = self.all.borrow_mut();
        if all.insert(of, file.to_path_buf()).is_some() {
            return;
        }
        let mut order = self.order.borrow_mut();
        order.push_back(of);
        if order.len() > FILES_MAX
            && let Some(oldest) = order.pop_front()
        {
            all.remove(&oldest);
        }
    }
}
