//! Reading digests from an account's files.

use super::ENTRY_BYTES_MAX;
use crate::base::AccountId;
use crate::runtime::{Disk, Open};
use crate::store::StoreError;
use crate::store::mailbox::{CacheRef, disk_error};
use crate::store::maildir::Layout;
use crate::store::partition::Partition;

/// Read together: what lies between costs less than another trip.
const NEAR_BYTES: u64 = 4096;

/// Where a digest is, and of how many octets of body.
#[derive(Clone, Copy)]
pub(in crate::store) struct Wanted {
    /// Its place in the caller's list.
    pub n: usize,
    pub cache: CacheRef,
    pub bytes: u64,
}

/// Reads digests, in the order of their places. What is not whole is left out.
pub(in crate::store) async fn read(
    disk: &Disk,
    layout: &Layout,
    partition: &Partition,
    account: AccountId,
    wanted: &mut [Wanted],
    mut each: impl FnMut(usize, &[u8]),
) -> Result<(), StoreError> {
    let begin_of = |wanted: &Wanted| {
        let state = partition.state.borrow();
        let of_account = state.accounts.get(&account);
        of_account.map_or(0, |a| a.cache.begin_of(wanted.cache.at))
    };
    wanted.sort_by_key(|wanted| wanted.cache.at);
    let none = wanted.partition_point(|wanted| wanted.cache.at == 0 && wanted.cache.len == 0);
    let mut rest = &wanted[none..];
    while let Some(first) = rest.first() {
        let begin = begin_of(first);
        let of_file = rest.partition_point(|other| begin_of(other) <= begin);
        let here;
        (here, rest) = rest.split_at(of_file);
        let path = layout.cache(partition.id, account, begin);
        one_file(disk, &path, begin, here, &mut each).await?;
    }
    Ok(())
}

async fn one_file(
    disk: &Disk,
    path: &std::path::Path,
    begin: u64,
    wanted: &[Wanted],
    each: &mut impl FnMut(usize, &[u8]),
) -> Result<(), StoreError> {
    let how = Open {
        read: true,
        ..Open::default()
    };
    let file = match disk.open(path, how).await {
        Ok(file) => file,
        Err(error) => {
            return match disk_error(&error) {
                StoreError::Damaged { .. } => Ok(()),
                why => Err(why),
            };
        }
    };
    for run in wanted.chunk_by(near) {
        let (from, last) = (run[0].cache.at, run[run.len() - 1].cache);
        let len = (last.at + u64::from(last.len)).saturating_sub(from);
        let too_long = |w: &Wanted| w.cache.len as usize > ENTRY_BYTES_MAX;
        // One before the file's begin is of another time: it is nowhere.
        let Some(at) = from
            .checked_sub(begin)
            .filter(|_| !run.iter().any(too_long))
        else {
            continue;
        };
        let Ok(bytes) = file.read_at(len as usize, at).await else {
            continue;
        };
        for wanted in run {
            let start = (wanted.cache.at - from) as usize;
            let entry = bytes.get(start..start + wanted.cache.len as usize);
            if let Some(digest) = entry.and_then(|entry| super::digest(entry, wanted.bytes)) {
                each(wanted.n, digest);
            }
        }
    }
    Ok(())
}

fn near(one: &Wanted, two: &Wanted) -> bool {
    let end = one.cache.at + u64::from(one.cache.len);
    two.cache.at.saturating_sub(end) < NEAR_BYTES
}
