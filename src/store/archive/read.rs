//! The body of a message that lies in an archive file.

use std::ops::Range;

use super::{Packed, Source, cache, source_of};
use crate::base::{AccountId, MailboxId, UnixMs};
use crate::runtime::{DiskErrorKind, DiskFile};
use crate::store::StoreError;
use crate::store::mailbox::disk_error;
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::wire::mbox::Unquote;

/// Read at once while quoting is taken out.
const PIECE_BYTES: u64 = 64 << 10;

/// An open archive file, and where in it the message is.
pub(in crate::store) struct ArchiveBody {
    file: DiskFile,
    at: u64,
    len: u64,
    quoted: bool,
}

/// How far a quoted message was read.
#[derive(Default)]
pub(in crate::store) struct Cursor {
    /// Octets read of the file, and what is already unquoted of them and not given out.
    raw: u64,
    ready: Vec<u8>,
    /// Offset in the message of the first octet of `ready`.
    at: u64,
    unquote: Unquote,
}

/// The file of a source, unpacked where it is packed, and its length.
pub(super) async fn open(shard: &Shard, source: &Source) -> Result<(DiskFile, u64), StoreError> {
    let gone = |error: crate::runtime::DiskError| match error.kind {
        // Not there now: perhaps its file system is not mounted.
        DiskErrorKind::NotFound => StoreError::Busy,
        _ => disk_error(&error),
    };
    let disk = shard.disk.foreign();
    match source.packed {
        Packed::Plain => disk.open_sized(&source.path).await.map_err(gone),
        Packed::Compressed => {
            let len = disk.file_len(&source.path).await.map_err(gone)?;
            let modified: UnixMs = disk.modified(&source.path).await.map_err(gone)?;
            cache::open(shard, source, len, modified).await
        }
    }
}

impl ArchiveBody {
    /// Opens the file of a message of `size` octets at `at`, `len` octets as it lies there.
    pub async fn open(
        shard: &Shard,
        partition: &Partition,
        account: AccountId,
        mailbox: MailboxId,
        place: (u64, u64),
        size: u64,
    ) -> Result<Option<ArchiveBody>, StoreError> {
        let source = {
            let state = partition.state.borrow();
            let of_account = state.accounts.get(&account);
            of_account.and_then(|a| source_of(a, mailbox))
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let (file, file_len) = open(shard, &source).await?;
        let (at, len) = place;
        // Cut off since it was read: the next look finds out.
        if at.saturating_add(len) > file_len {
            return Ok(None);
        }
        Ok(Some(ArchiveBody {
            file,
            at,
            len,
            quoted: size != len,
        }))
    }

    /// The octets of `range` of the message.
    pub async fn read(
        &self,
        range: Range<u64>,
        cursor: &mut Cursor,
    ) -> Result<Vec<u8>, StoreError> {
        if !self.quoted {
            let wanted = range.end.saturating_sub(range.start) as usize;
            let read = self.file.read_at(wanted, self.at + range.start).await;
            return read.map_err(|error| disk_error(&error));
        }
        if cursor.at > range.start {
            *cursor = Cursor::default();
        }
        while cursor.at + (cursor.ready.len() as u64) < range.end && cursor.raw < self.len {
            self.go_on(cursor).await?;
            let ready_end = cursor.at + cursor.ready.len() as u64;
            let skipped = range.start.min(ready_end).saturating_sub(cursor.at);
            cursor.ready.drain(..skipped as usize);
            cursor.at += skipped;
        }
        let from = range
            .start
            .saturating_sub(cursor.at)
            .min(cursor.ready.len() as u64) as usize;
        let until = range
            .end
            .saturating_sub(cursor.at)
            .min(cursor.ready.len() as u64) as usize;
        let bytes = cursor.ready[from..until.max(from)].to_vec();
        cursor.ready.drain(..until);
        cursor.at += until as u64;
        Ok(bytes)
    }

    async fn go_on(&self, cursor: &mut Cursor) -> Result<(), StoreError> {
        let wanted = PIECE_BYTES.min(self.len - cursor.raw);
        let piece = self
            .file
            .read_at(wanted as usize, self.at + cursor.raw)
            .await;
        let piece = piece.map_err(|error| disk_error(&error))?;
        cursor.raw += piece.len() as u64;
        cursor.unquote.feed(&piece, &mut cursor.ready);
        if cursor.raw == self.len || piece.is_empty() {
            cursor.raw = self.len;
            cursor.unquote.finish(&mut cursor.ready);
        }
        crate::runtime::yield_if_needed().await;
        Ok(())
    }
}
