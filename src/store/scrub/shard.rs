//! What belongs to the shard and to no account: its journal, and the catalogues of its partitions.
//!
//! All that they say is in memory, and applied. So damage in either costs nothing as long as the
//! process lives: a checkpoint writes the catalogues anew and makes the journal superfluous.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::account::Pace;
use super::{Finding, FindingKind};
use crate::base::{Crc32c, Deadline, PSeq, crc32c_append};
use crate::observe::{event, log_event};
use crate::runtime::{DiskErrorKind, now};
use crate::store::catalogue;
use crate::store::journal::Rot;
use crate::store::mailbox::disk_error;
use crate::store::owned::count;
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{StoreError, checkpoint, queue};

/// Read at once of a catalogue.
const PIECE_BYTES: u64 = 256 << 10;
/// Longest wait for a checkpoint that is under way.
const CHECKPOINT_WAIT: std::time::Duration = std::time::Duration::from_secs(300);

/// Looks at both, and mends what is damaged.
pub(super) async fn scrub(shard: &Rc<Shard>, pace: &Pace) -> Result<(), StoreError> {
    let mut rotten = journal(shard, pace).await;
    let mut catalogues = Vec::new();
    for partition in shard.owned.all() {
        if shard.gate.is_closed() || shard.is_poisoned() {
            return Err(StoreError::Late);
        }
        let mut damaged = damaged(shard, &partition, pace).await?;
        let logs = damaged_logs(shard, &partition, pace).await?;
        if !logs.is_empty() {
            partition.state.borrow_mut().accepted.log.note_damaged();
            damaged.extend(logs);
        }
        if damaged.is_empty() {
            continue;
        }
        catalogues.extend(damaged.iter().cloned());
        let noted = catalogue::isolate(&shard.disk, &shard.layout, partition.id, damaged);
        shard.owned.note_catalogue(noted.await);
        partition.dirty.set(true);
    }
    if rotten.is_empty() && catalogues.is_empty() {
        return Ok(());
    }
    let mended = mend(shard, &rotten).await;
    if mended.is_err() && shard.is_poisoned() {
        return Err(StoreError::Poisoned);
    }
    let next = match &mended {
        Ok(()) => "a checkpoint has made it superfluous, nothing is lost; look at the disk",
        Err(_) => {
            "NOT mended: a restart may be refused. Do not stop the server; make room on the disk \
             and run this again, or take a backup of the mail now"
        }
    };
    let is_mended = mended.is_ok();
    for rot in rotten.drain(..) {
        let kind = match is_mended {
            true => FindingKind::JournalMended,
            false => FindingKind::JournalDamaged,
        };
        let (stream, slot, at, bytes) = (rot.stream, rot.slot, rot.offset, rot.bytes);
        let detail = format!("stream {stream}, slot {slot}, {bytes} octets from {at} on; {next}");
        shard.scrubs.add(Finding::of_shard(kind, detail));
    }
    for file in catalogues {
        let kind = match is_mended {
            true => FindingKind::CatalogueMended,
            false => FindingKind::CatalogueDamaged,
        };
        let detail = format!("{}; {next}", shard.layout.relative(&file).display());
        shard.scrubs.add(Finding::of_shard(kind, detail));
    }
    Ok(())
}

async fn journal(shard: &Rc<Shard>, pace: &Pace) -> Vec<Rot> {
    let took = async |bytes: u64| {
        shard.scrubs.status.borrow_mut().journal_bytes += bytes;
        pace.took(shard, bytes).await;
    };
    let rotten = shard.journal.verify(took).await;
    for rot in &rotten {
        count(&shard.owned.counters.journal_damaged);
        log_event!(
            ERROR,
            event::JOURNAL_DAMAGED,
            stream = rot.stream,
            slot = rot.slot,
            offset = rot.offset,
            bytes = rot.bytes
        );
        shard.journal.keep_rot(&shard.disk, rot).await;
    }
    rotten
}

/// Writes what is in memory where the next start reads it.
async fn mend(shard: &Rc<Shard>, rotten: &[Rot]) -> Result<(), StoreError> {
    let Some(last) = rotten.iter().map(|rot| rot.slot).max() else {
        return checkpoint::checkpoint(shard).await;
    };
    shard.journal.leave(last).await?;
    checkpoint::checkpoint(shard).await?;
    shard.journal.forget(last).await
}

/// The copies of a partition's catalogue that are damaged, or gone.
async fn damaged(
    shard: &Rc<Shard>,
    partition: &Partition,
    pace: &Pace,
) -> Result<Vec<PathBuf>, StoreError> {
    let mut all = Vec::new();
    for path in catalogue::places(&shard.layout, partition.id) {
        let is_whole = match is_whole(shard, &path, None, pace).await? {
            Some(is_whole) => is_whole,
            None => is_new(shard, partition, &path).await?,
        };
        if !is_whole {
            all.push(path);
        }
    }
    shard.scrubs.status.borrow_mut().catalogues_read += 1;
    Ok(all)
}

/// The copies of a queue's log that are damaged, or gone.
async fn damaged_logs(
    shard: &Rc<Shard>,
    partition: &Partition,
    pace: &Pace,
) -> Result<Vec<PathBuf>, StoreError> {
    let named = || partition.state.borrow().accepted.log.named();
    let looked_at = named();
    let mut all = Vec::new();
    if !looked_at.is_there() {
        return Ok(all);
    }
    for path in queue::places(&shard.layout, partition.id, looked_at.generation) {
        let whole = Some((looked_at.end, looked_at.crc));
        if is_whole(shard, &path, whole, pace).await? != Some(true) {
            all.push(path);
        }
    }
    // A checkpoint has written it anew meanwhile, and removed what was looked at.
    if named().generation != looked_at.generation {
        all.clear();
    }
    Ok(all)
}

/// Whether there is no catalogue because no checkpoint was made yet.
async fn is_new(shard: &Shard, partition: &Partition, path: &Path) -> Result<bool, StoreError> {
    let until = Deadline::after(now(), CHECKPOINT_WAIT);
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Late)?;
    let is_known = partition.dirty.get() || partition.state.borrow().applied == PSeq(0);
    let is_there = shard.disk.exists(path).await;
    Ok(is_known || is_there.map_err(|e| disk_error(&e))?)
}

/// Whether the checksum of a file is right, which stands at its end, or is `known` with the octets
/// that count; nothing where there is none.
async fn is_whole(
    shard: &Shard,
    path: &Path,
    known: Option<(u64, Crc32c)>,
    pace: &Pace,
) -> Result<Option<bool>, StoreError> {
    let failed = |error: &crate::runtime::DiskError| match disk_error(error) {
        StoreError::Damaged { .. } => Ok(Some(false)),
        why => Err(why),
    };
    let (file, len) = match shard.disk.open_sized(path).await {
        Ok(opened) => opened,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(error) => return failed(&error),
    };
    let body = match known {
        Some((end, _)) => Some(end).filter(|&end| end <= len),
        None => len.checked_sub(4),
    };
    let Some(body) = body else {
        return Ok(Some(false));
    };
    let (mut at, mut crc) = (0, Crc32c::default());
    while at < body {
        let wanted = PIECE_BYTES.min(body - at) as usize;
        let piece = match file.read_at(wanted, at).await {
            Ok(piece) if piece.len() == wanted => piece,
            Ok(_) => return Ok(Some(false)),
            Err(error) => return failed(&error),
        };
        crc = crc32c_append(crc, &piece);
        at += wanted as u64;
        pace.took(shard, wanted as u64).await;
    }
    if let Some((_, known)) = known {
        return Ok(Some(crc == known));
    }
    match file.read_at(4, body).await {
        Ok(sum) => Ok(Some(sum == crc.0.to_le_bytes())),
        Err(error) => failed(&error),
    }
}
