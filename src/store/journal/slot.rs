//! Slot files: names and headers.

use std::path::{Path, PathBuf};

use super::{BLOCK, JournalError};
use crate::base::{Crc32c, Epoch, crc32c};
use crate::runtime::{DirEntry, Disk, DiskError, DiskErrorKind, Open};

/// What a slot header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub stream: u16,
    pub epoch: Epoch,
    pub slot: u64,
    pub generation: u64,
    pub slot_bytes: u64,
    /// The oldest slot of the chain that a restart needs, when this header was written.
    pub oldest: u64,
}

/// A slot file as recovery finds it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub header: Header,
}

const MAGIC: [u8; 8] = *b"PALOSLOT";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 52;
const CRC_AT: usize = HEADER_BYTES - 4;
const SECOND_COPY: usize = BLOCK / 2;

impl Header {
    /// The first block of the slot: the header twice, so that one bad sector does not hide it.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let head = &mut block[..HEADER_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..10].copy_from_slice(&VERSION.to_le_bytes());
        head[10..12].copy_from_slice(&self.stream.to_le_bytes());
        head[12..16].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[16..24].copy_from_slice(&self.slot.to_le_bytes());
        head[24..32].copy_from_slice(&self.generation.to_le_bytes());
        head[32..40].copy_from_slice(&self.slot_bytes.to_le_bytes());
        head[40..CRC_AT].copy_from_slice(&self.oldest.to_le_bytes());
        let crc = crc32c(&head[..CRC_AT]);
        head[CRC_AT..].copy_from_slice(&crc.0.to_le_bytes());
        block.copy_within(..HEADER_BYTES, SECOND_COPY);
        block
    }

    /// `None` for a slot that is not in use: zeros, or a header that was cut off by a crash.
    pub fn decode(block: &[u8], path: &Path) -> Result<Option<Header>, JournalError> {
        for at in [0, SECOND_COPY] {
            let Some(head) = block.get(at..at + HEADER_BYTES) else {
                continue;
            };
            let crc = Crc32c(u32::from_le_bytes(array(head, CRC_AT)));
            if head[..8] != MAGIC || crc32c(&head[..CRC_AT]) != crc {
                continue;
            }
            let version = u16::from_le_bytes(array(head, 8));
            if version != VERSION {
                let path = path.into();
                return Err(JournalError::SlotVersion { path, version });
            }
            return Ok(Some(Header {
                stream: u16::from_le_bytes(array(head, 10)),
                epoch: Epoch(u32::from_le_bytes(array(head, 12))),
                slot: u64::from_le_bytes(array(head, 16)),
                generation: u64::from_le_bytes(array(head, 24)),
                slot_bytes: u64::from_le_bytes(array(head, 32)),
                oldest: u64::from_le_bytes(array(head, 40)),
            }));
        }
        Ok(None)
    }
}

/// `N` bytes at a position that the caller knows to be there.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

pub(super) fn journal_dir(root: &Path) -> PathBuf {
    root.join("journal")
}

pub(super) fn stream_dir(root: &Path, stream: u16) -> PathBuf {
    journal_dir(root).join(stream.to_string())
}

/// Torn tails and what a repair cut off.
pub(super) fn aside_dir(root: &Path) -> PathBuf {
    journal_dir(root).join("aside")
}

pub(super) fn file_name(number: u32) -> String {
    format!("slot-{number}")
}

/// The number of a slot file, `None` for anything else.
pub(super) fn file_number(entry: &DirEntry) -> Option<u32> {
    let digits = entry.name.to_str()?.strip_prefix("slot-")?;
    let number = digits.parse().ok()?;
    (!entry.is_dir && entry.name == *file_name(number)).then_some(number)
}

/// A directory's entries; none where there is no directory.
pub(super) async fn list(disk: &Disk, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
    match disk.list(dir).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// Numbers of the streams that have a directory, whatever the number of shards is now.
pub(super) async fn streams(disk: &Disk, root: &Path) -> Result<Vec<u16>, DiskError> {
    let mut streams: Vec<u16> = list(disk, &journal_dir(root))
        .await?
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| entry.name.to_str()?.parse().ok())
        .collect();
    streams.sort_unstable();
    Ok(streams)
}

/// The header of a slot file; `None` where it is not in use.
pub(super) async fn scan_one(disk: &Disk, path: &Path) -> Result<Option<Header>, JournalError> {
    let read = Open {
        read: true,
        ..Open::default()
    };
    let file = disk.open(path, read).await?;
    let block = file.read_at(BLOCK, 0).await?;
    file.close().await?;
    Header::decode(&block, path)
}

/// Every slot of a stream that has a valid header, by slot sequence.
pub(super) async fn scan(
    disk: &Disk,
    root: &Path,
    stream: u16,
) -> Result<Vec<Found>, JournalError> {
    let dir = stream_dir(root, stream);
    let mut found: Vec<Found> = Vec::new();
    for entry in list(disk, &dir).await? {
        if file_number(&entry).is_none() {
            continue;
        }
        let path = dir.join(&entry.name);
        match scan_one(disk, &path).await? {
            Some(header) if header.stream == stream => found.push(Found { path, header }),
            _ => {}
        }
    }
    found.sort_by_key(|slot| slot.header.slot);
    for pair in found.windows(2) {
        if pair[0].header.slot == pair[1].header.slot {
            return Err(JournalError::SlotTwice {
                stream,
                slot: pair[0].header.slot,
                paths: [pair[0].path.clone(), pair[1].path.clone()],
            });
        }
    }
    Ok(found)
}
