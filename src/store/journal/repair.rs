//! The way out of a refusal: cutting a chain off where it is damaged.
//!
//! What is cut is copied to `aside/` first. Interrupted, it can be run again: the newest slot goes
//! first, so what is left is refused as before until all is done.

use std::path::{Path, PathBuf};

use super::batch::{self, Kind};
use super::slot::{self, Found};
use super::{BLOCK, JournalConfig, JournalError, epoch};
use crate::base::Epoch;
use crate::runtime::{Disk, DiskError, Open};

const COPY_BYTES: usize = 1 << 20;

/// What a cut takes from one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub slot: u64,
    pub path: PathBuf,
    /// Where it begins; 0 is the whole slot.
    pub from: u64,
    /// Of those that can still be read.
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
}

/// Cuts stream `stream` off at `offset` of slot `slot`; what was acknowledged after that place is
/// lost. On a stopped server, with the numbers that [`JournalError`] names.
pub async fn cut(
    cfg: &JournalConfig,
    disk: &Disk,
    stream: u16,
    slot: u64,
    offset: u64,
) -> Result<(), JournalError> {
    for (found, from) in plan(cfg, disk, stream, slot, offset).await? {
        copy_aside(disk, &cfg.root, &found).await?;
        let to = match from {
            0 => BLOCK as u64,
            _ => found.header.slot_bytes,
        };
        zero(disk, &found, from, to).await?;
    }
    Ok(())
}

/// What [`cut`] with the same numbers would take away. Changes nothing.
pub async fn losses(
    cfg: &JournalConfig,
    disk: &Disk,
    stream: u16,
    slot: u64,
    offset: u64,
) -> Result<Vec<Loss>, JournalError> {
    let mut all = Vec::new();
    for (found, from) in plan(cfg, disk, stream, slot, offset).await? {
        all.push(loss(disk, found, from).await?);
    }
    all.reverse();
    Ok(all)
}

async fn loss(disk: &Disk, found: Found, from: u64) -> Result<Loss, DiskError> {
    let file = disk.open(&found.path, READ_WRITE).await?;
    let mut loss = Loss {
        slot: found.header.slot,
        from,
        batches: 0,
        records: 0,
        bytes: 0,
        path: found.path,
    };
    let mut at = from.max(BLOCK as u64);
    while at < found.header.slot_bytes {
        let head = file.read_at(batch::HEADER_BYTES, at).await?;
        let claimed = batch::Header::claimed(&head, found.header.generation, at);
        let valid = match claimed {
            Some(header) => {
                let bytes = file.read_at(header.length as usize, at).await?;
                batch::check(&bytes, header)
            }
            None => None,
        };
        let Some(valid) = valid else {
            at += BLOCK as u64;
            continue;
        };
        if valid.header.kind == Kind::Records {
            loss.batches += 1;
            loss.records += u64::from(valid.header.records);
            loss.bytes += u64::from(valid.header.length);
        }
        at += batch::padded(valid.header.length as usize) as u64;
    }
    Ok(loss)
}

/// The slots to cut and from where, in the order in which that is done: newest first.
async fn plan(
    cfg: &JournalConfig,
    disk: &Disk,
    stream: u16,
    slot: u64,
    offset: u64,
) -> Result<Vec<(Found, u64)>, JournalError> {
    let root = &cfg.root;
    let retired = epoch::read(disk, root)
        .await?
        .map_or(Epoch(0), |epochs| epochs.retired);
    let mut live = slot::scan(disk, root, stream).await?;
    live.retain(|found| found.header.epoch > retired);
    let kept = |found: &Found| {
        let at = found.header.slot;
        at < slot || (at == slot && offset >= BLOCK as u64)
    };
    let (mut before, later): (Vec<Found>, Vec<Found>) = live.into_iter().partition(kept);
    let mut plan: Vec<(Found, u64)> = later.into_iter().rev().map(|found| (found, 0)).collect();
    if let Some(last) = before.pop() {
        let from = if last.header.slot == slot {
            Some(offset.next_multiple_of(BLOCK as u64))
        } else {
            end_batch(disk, &last).await?
        };
        plan.extend(from.map(|from| (last, from)));
    }
    match plan.is_empty() {
        true => Err(JournalError::NothingToCut { stream, slot }),
        false => Ok(plan),
    }
}

/// The batch that promises a next slot.
async fn end_batch(disk: &Disk, found: &Found) -> Result<Option<u64>, DiskError> {
    let file = disk.open(&found.path, READ_WRITE).await?;
    let mut at = BLOCK as u64;
    while at < found.header.slot_bytes {
        let head = file.read_at(batch::HEADER_BYTES, at).await?;
        match batch::Header::claimed(&head, found.header.generation, at) {
            Some(header) if header.kind == Kind::End => return Ok(Some(at)),
            Some(header) => at += batch::padded(header.length as usize) as u64,
            None => at += BLOCK as u64,
        }
    }
    Ok(None)
}

async fn copy_aside(disk: &Disk, root: &Path, found: &Found) -> Result<(), DiskError> {
    let aside = slot::aside_dir(root);
    let header = &found.header;
    let to = aside.join(format!("{:012}-{}.cut", header.slot, header.stream));
    disk.create_dir_all(&aside).await?;
    let from = disk.open(&found.path, READ_WRITE).await?;
    // A former run that was interrupted may have cut already: its copy has more than is here now.
    if disk.exists(&to).await? {
        return Ok(());
    }
    let part = to.with_extension("part");
    let create = Open {
        create: true,
        truncate: true,
        ..READ_WRITE
    };
    let copy = disk.open(&part, create).await?;
    let mut at = 0;
    loop {
        let bytes = from.read_at(COPY_BYTES, at).await?;
        if bytes.is_empty() {
            break;
        }
        at += copy.write_at(bytes, at).await?.len() as u64;
    }
    copy.sync_all().await?;
    disk.rename(&part, &to).await?;
    disk.sync_dir(&aside).await
}

async fn zero(disk: &Disk, found: &Found, from: u64, to: u64) -> Result<(), DiskError> {
    let file = disk.open(&found.path, READ_WRITE).await?;
    let mut at = from;
    while at < to {
        let zeros = vec![0; COPY_BYTES.min((to - at) as usize)];
        at += file.write_at(zeros, at).await?.len() as u64;
    }
    file.fdatasync().await
}

const READ_WRITE: Open = Open {
    read: true,
    write: true,
    create: false,
    create_new: false,
    truncate: false,
};
