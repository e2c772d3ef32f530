//! Reading the bytes of bodies, wherever they lie before they are files.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::body::Source;
use super::journal::{Journal, Location, SlotFiles};
use super::mailbox::disk_error;
use super::{Body, Message, StoreError};
use crate::base::{Crc32c, crc32c};
use crate::runtime::{Disk, FilePart, Open};

/// Reads bodies from the journal of this life, or of former ones while they are replayed.
pub(super) struct Bodies {
    pub disk: Disk,
    pub from: From,
}

pub(super) enum From {
    Journal(Journal),
    Recovered(SlotFiles),
}

impl Bodies {
    pub async fn size(
        &self,
        source: &Source,
        memory: Option<&Arc<Message>>,
    ) -> Result<u64, StoreError> {
        match (memory, source) {
            (Some(message), _) => Ok(message.size),
            (None, Source::Journal(at)) => Ok(u64::from(at.size)),
            (None, Source::Spool(path) | Source::File(path)) => {
                self.disk.file_len(path).await.map_err(|e| disk_error(&e))
            }
        }
    }

    pub async fn read(
        &self,
        source: &Source,
        memory: Option<&Arc<Message>>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(Body::Inline(bytes)) = memory.map(|m| &m.body) {
            let len = bytes.len();
            let start = (range.start as usize).min(len);
            let end = (range.end as usize).clamp(start, len);
            return Ok(bytes[start..end].to_vec());
        }
        match source {
            Source::Journal(at) => self.read_journal(*at, range).await,
            Source::Spool(path) | Source::File(path) => read_file(&self.disk, path, range).await,
        }
    }

    /// All of a body, and whether it is what was taken in. It is read twice before it is given up:
    /// bytes that are wrong are still the best there is.
    pub async fn whole(
        &self,
        source: &Source,
        memory: Option<&Arc<Message>>,
        size: u64,
        sum: Crc32c,
    ) -> Result<(Vec<u8>, bool), StoreError> {
        let bytes = self.read(source, memory, 0..size).await?;
        if memory.is_some() || crc32c(&bytes) == sum {
            return Ok((bytes, true));
        }
        let bytes = self.read(source, memory, 0..size).await?;
        let is_whole = crc32c(&bytes) == sum;
        Ok((bytes, is_whole))
    }

    /// Where the body lies while it is recovered, for who reads it on another thread.
    pub fn part(&self, source: &Source, memory: Option<&Arc<Message>>) -> Option<FilePart> {
        match (source, memory, &self.from) {
            (Source::Journal(at), None, From::Recovered(files)) => files.part(*at),
            _ => None,
        }
    }

    async fn read_journal(&self, at: Location, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        match &self.from {
            From::Journal(journal) => journal.read(at, range).await,
            From::Recovered(files) => files.read(&self.disk, at, range).await,
        }
    }
}

async fn read_file(disk: &Disk, path: &Path, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let how = Open {
        read: true,
        ..Open::default()
    };
    let file = disk.open(path, how).await.map_err(|e| disk_error(&e))?;
    let len = range.end.saturating_sub(range.start) as usize;
    file.read_at(len, range.start)
        .await
        .map_err(|e| disk_error(&e))
}
