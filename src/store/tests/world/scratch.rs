//! What was only on its way to be something else is gone: after a start, and after a clean end.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::base::PartitionId;
use crate::runtime::Disk;
use crate::store::body::Source;
use crate::store::catalogue::{Found, load};
use crate::store::maildir::Layout;
use crate::store::queue;
use crate::store::spool::name_for;
use crate::store::tests::{ROOT, names};

/// Every file below a directory.
async fn files(disk: &Disk, root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in disk.list(&dir).await.unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// Catalogues, and the bodies that they name.
async fn named(disk: &Disk) -> BTreeSet<PathBuf> {
    let root = PathBuf::from(ROOT);
    let layout = Layout { root };
    let mut named = BTreeSet::new();
    for number in names(disk, &layout.root.join("partitions")).await {
        let id = PartitionId(number.parse().expect("a partition"));
        let path = layout.catalogue(id);
        let Ok(Found::Whole(found)) = load(disk, &layout, id).await else {
            panic!("no whole catalogue");
        };
        named.insert(path);
        let log = found.state.accepted.log.named();
        if log.is_there() {
            named.extend(queue::places(&layout, id, log.generation));
        }
        for (_, accepted) in found.state.accepted.after(&layout, Bound::Unbounded) {
            if let Source::Spool(path) | Source::File(path) = &accepted.source {
                named.insert(path.clone());
                // Its owners have not come for theirs; the next start removes them.
                let owners = accepted.targets.iter().flatten();
                let names = owners.map(|to| name_for(path, to.account.partition));
                named.extend(names);
            }
        }
    }
    named
}

/// `settled`: lists for other programs were just written, and nothing is left of that either. Else
/// one that a crash has cut off waits under its one name for the next that is written.
pub(super) async fn check_scratch(disk: &Disk, settled: bool) {
    let named = named(disk).await;
    let is_scratch = |path: &PathBuf| {
        let below = path.strip_prefix(ROOT).expect("below the data directory");
        let mut parts = below.iter().map(|part| part.to_string_lossy());
        let top = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_list = ["dovecot-uidlist.new", "subscriptions.new"].contains(&&*name);
        let kind = path.extension().unwrap_or_default();
        let is_tmp = path.iter().any(|part| part == "tmp");
        let is_grave = top == "removed" && second.starts_with('P');
        let is_log = top == "catalogues" && name.contains(".queue.");
        let waits = is_log || ["spool", "partitions", "queue"].contains(&&*top);
        let is_kept = top == "removed" && !is_grave;
        if is_kept || (is_list && !settled) {
            return false;
        }
        is_tmp || kind == "new" || kind == "tmp" || is_grave || (waits && !named.contains(path))
    };
    let mut left = files(disk, Path::new(ROOT)).await;
    left.retain(is_scratch);
    assert!(left.is_empty(), "left over: {left:?}");
}
