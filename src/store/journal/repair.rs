//! The way out of a refusal: cutting a chain off where it is damaged.
//!
//! What is cut is copied to `aside/` first. Interrupted, it can be run again: the newest slot goes
//! first, so what is left is refused as before until all is done.

use std::path::Path;

use super::batch::{self, Kind};
use super::slot::{self, Found};
use super::{BLOCK, JournalConfig, JournalError, epoch};
use crate::base::Epoch;
use crate::runtime::{Disk, DiskError, Open};

const COPY_BYTES: usize = 1 << 20;

/// Cuts stream `stream` off at `offset` of slot `slot`; what was acknowledged after that place is
/// lost. On a stopped server, with the numbers that [`JournalError`] names.
pub async fn cut(
    cfg: &JournalConfig,
    disk: &Disk,
    stream: u16,
    slot: u64,
    offset: u64,
) -> Result<(), JournalError> {
    let root = &cfg.root;
    let retired = epoch::read(disk, root)
        .await?
        .map_or(Epoch(0), |epochs| epochs.retired);
    let mut live = slot::scan(disk, root, stream).await?;
    live.retain(|found| found.header.epoch > retired);
    let cut_whole = offset < BLOCK as u64;
    let last_kept = live
        .iter()
        .rfind(|found| found.header.slot < slot || (found.header.slot == slot && !cut_whole));
    let later = live
        .iter()
        .filter(|found| found.header.slot > slot || (found.header.slot == slot && cut_whole));
    let mut changed = false;
    for found in later.rev() {
        copy_aside(disk, root, found).await?;
        zero(disk, found, 0, BLOCK as u64).await?;
        changed = true;
    }
    if let Some(found) = last_kept {
        let from = if found.header.slot == slot {
            Some(offset.next_multiple_of(BLOCK as u64))
        } else {
            end_batch(disk, found).await?
        };
        if let Some(from) = from {
            copy_aside(disk, root, found).await?;
            zero(disk, found, from, found.header.slot_bytes).await?;
            changed = true;
        }
    }
    if changed {
        Ok(())
    } else {
        Err(JournalError::NothingToCut { stream, slot })
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
