//! A message on its way in, and reading one back.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::StoreError;
use super::archive::{ArchiveBody, Cursor};
use super::body::{Source, Unsettled};
use super::mailbox::{Mailbox, NameId, disk_error};
use super::maildir::{file_name, find_file};
use super::packed::{Stored, Unreadable};
use super::partition::Partition;
use super::repair;
use super::shard::Shard;
use super::spool::{SpoolFile, Spools};
use crate::base::{Crc32c, Uid, crc32c_append};
use crate::runtime::DiskErrorKind;
use crate::wire::mime::{Limits, Walker};

/// An immutable message: the one object that crosses shards on the data path.
#[derive(Debug)]
pub struct Message {
    pub body: Body,
    /// `wire::mime::Digest::encode` of it, computed in the same pass that took it in.
    pub digest: Arc<[u8]>,
    /// Octets as stored.
    pub size: u64,
    pub crc32c: Crc32c,
    pub blake3: [u8; 32],
}

/// Where the bytes of a message that is on its way in lie.
#[derive(Debug)]
pub enum Body {
    /// Up to [`crate::base::INLINE_BODY_BYTES_MAX`]: travels in the journal record.
    Inline(Vec<u8>),
    /// Larger: a spool file, itself and its directory fsynced before the record is written.
    Spool(PathBuf),
    /// Read back from the journal without its bytes: the record's `BodyPlace` says where they are.
    InJournal,
}

/// A digest stands in the journal record beside the body: it must leave room for both.
pub(super) const STRUCTURE_BYTES_MAX: usize = 256 << 10;
/// What is gathered before it is written to a spool file.
const SPOOL_PIECE_BYTES: usize = 256 << 10;

/// What a digest may hold, whenever it is made.
pub(super) fn walk_limits() -> Limits {
    Limits {
        structure_bytes_max: STRUCTURE_BYTES_MAX,
        ..Limits::default()
    }
}

/// Takes a body in: counts, hashes and walks its MIME structure in one pass. Dropped without
/// `finish`, it leaves nothing behind.
pub struct Incoming {
    spools: Spools,
    /// Beyond it the body goes to a spool file.
    inline_bytes_max: usize,
    bytes: Vec<u8>,
    /// What of the shard's memory budget this holds.
    held: usize,
    spool: Option<SpoolFile>,
    size: u64,
    crc: Crc32c,
    hasher: Box<blake3::Hasher>,
    walker: Box<Walker>,
}

impl Incoming {
    pub(super) fn new(spools: Spools, inline_bytes_max: usize) -> Self {
        Incoming {
            spools,
            inline_bytes_max,
            bytes: Vec::new(),
            held: 0,
            spool: None,
            size: 0,
            crc: Crc32c(0),
            hasher: Box::default(),
            walker: Box::new(Walker::new(walk_limits())),
        }
    }

    /// Adds bytes. Waits only when a spool file has to be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        self.crc = crc32c_append(self.crc, bytes);
        self.hasher.update(bytes);
        self.walker.feed(bytes);
        self.bytes.extend_from_slice(bytes);
        if self.spool.is_none() {
            let fits =
                self.bytes.len() <= self.inline_bytes_max && self.spools.take_memory(bytes.len());
            if fits {
                self.held += bytes.len();
                return Ok(());
            }
            self.spool = Some(self.spools.create().await?);
        }
        if self.bytes.len() >= SPOOL_PIECE_BYTES {
            self.write_out().await?;
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), StoreError> {
        let piece = std::mem::take(&mut self.bytes);
        self.spools.give_memory(std::mem::take(&mut self.held));
        match &mut self.spool {
            Some(spool) if !piece.is_empty() => spool.write(piece).await,
            _ => Ok(()),
        }
    }

    /// Octets so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the body. A spooled one is durable when this returns.
    pub async fn finish(mut self) -> Result<Arc<Message>, StoreError> {
        let body = if self.spool.is_some() {
            self.write_out().await?;
            match self.spool.take() {
                Some(spool) => Body::Spool(spool.finish().await?),
                None => Body::Inline(Vec::new()),
            }
        } else {
            Body::Inline(std::mem::take(&mut self.bytes))
        };
        let walker = std::mem::replace(&mut *self.walker, Walker::new(Limits::default()));
        let mut digest = Vec::new();
        walker.finish().encode(&mut digest);
        let message = Arc::new(Message {
            body,
            digest: Arc::from(digest),
            size: self.size,
            crc32c: self.crc,
            blake3: *self.hasher.finalize().as_bytes(),
        });
        self.spools.watch(&message);
        Ok(message)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.spools.give_memory(self.held);
    }
}

/// Reads a stored message, wherever it lies now (memory, journal, spool, file). Offsets count
/// from the first octet of the message as the client sees it (prefix included).
pub struct BodyReader {
    shard: Rc<Shard>,
    partition: Rc<Partition>,
    mailbox: Rc<Mailbox>,
    uid: Uid,
    name: NameId,
    stem: String,
    letters: u32,
    /// A prefix that does not stand in the file.
    apart: Box<[u8]>,
    len: u64,
    /// Open once it is a file, so that an expunge does not end the reading.
    file: RefCell<Option<Stored>>,
    /// Where it is in the mailbox's archive file, if it is there.
    archive: Option<(u64, u64)>,
    archived: RefCell<Option<(Rc<ArchiveBody>, Cursor)>>,
}

impl BodyReader {
    pub(super) fn new(
        shard: Rc<Shard>,
        partition: Rc<Partition>,
        mailbox: Rc<Mailbox>,
        uid: Uid,
    ) -> Result<Self, StoreError> {
        let (name, stem, letters, apart, len, archive) = {
            let index = mailbox.index.borrow();
            let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
            let at = index.position(uid).ok_or(StoreError::Expunged)?;
            let cold = index.cold(at);
            let apart = index
                .extra(at)
                .map(|e| e.prefix.clone())
                .unwrap_or_default();
            let len = index.stored_size(at);
            let archive = index.extra(at).and_then(|e| e.archive);
            (cold.name, index.stem(at), cold.letters, apart, len, archive)
        };
        let file = RefCell::new(None);
        Ok(BodyReader {
            shard,
            partition,
            mailbox,
            uid,
            name,
            stem,
            letters,
            apart,
            len,
            file,
            archive,
            archived: RefCell::new(None),
        })
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of `range`; cut at the end of the message. Callers keep ranges <= 256 KiB or so.
    /// Empty only beyond the end. Who meets damage here has told of it.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let range = range.start.min(self.len)..range.end.min(self.len);
        let is_asked = !range.is_empty();
        match self.read_all(range).await {
            Ok(bytes) if bytes.is_empty() && is_asked => Err(self.damaged("it ends too soon")),
            // Told of already where more is known.
            Err(StoreError::Damaged { .. }) => Err(self.damaged("the disk does not read it")),
            outcome => outcome,
        }
    }

    async fn read_all(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let head = self.apart.len() as u64;
        let mut out = Vec::new();
        if range.start < head {
            let end = range.end.min(head);
            out.extend_from_slice(&self.apart[range.start as usize..end as usize]);
        }
        if range.end > head {
            let of_file = range.start.max(head) - head..range.end - head;
            let bytes = self.read_stored(of_file).await?;
            if out.is_empty() {
                return Ok(bytes);
            }
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }

    /// The bytes of `range` of what is, or becomes, the file.
    async fn read_stored(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        if let Some(place) = self.archive {
            return self.read_archived(place, range).await;
        }
        // Settling may move the body between the look and the read: then the file is there.
        let mut why = None;
        for _ in 0..2 {
            match self.read_unsettled(range.clone()).await {
                Some(Ok(bytes)) => return Ok(bytes),
                Some(Err(StoreError::Full)) => return Err(StoreError::Full),
                outcome => why = outcome.and_then(Result::err),
            }
            if let Some(bytes) = self.read_file(range.clone()).await? {
                return Ok(bytes);
            }
            // Or the folder is just being renamed.
            drop(self.mailbox.files_turn().await?);
        }
        Err(match why {
            _ if self.is_expunged() => StoreError::Expunged,
            Some(StoreError::Damaged { .. }) => self.damaged("it is damaged before it is a file"),
            Some(why) => why,
            None => self.missing(),
        })
    }

    async fn read_archived(
        &self,
        place: (u64, u64),
        range: Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
        // Two at once, which no session does, would each open the file.
        let open = self.archived.borrow_mut().take();
        let (body, mut cursor) = match open {
            Some(open) => open,
            None => {
                let (account, mailbox) = (self.mailbox.account, self.mailbox.id);
                let (shard, partition) = (&self.shard, &self.partition);
                let len = self.len - self.apart.len() as u64;
                let body =
                    ArchiveBody::open(shard, partition, account, mailbox, place, len).await?;
                let body = body.ok_or_else(|| self.missing())?;
                (Rc::new(body), Cursor::default())
            }
        };
        let read = body.read(range, &mut cursor).await;
        *self.archived.borrow_mut() = Some((body, cursor));
        read
    }

    fn is_expunged(&self) -> bool {
        let index = self.mailbox.index.borrow();
        index
            .as_ref()
            .is_none_or(|i| i.position(self.uid).is_none())
    }

    fn missing(&self) -> StoreError {
        if self.is_expunged() {
            return StoreError::Expunged;
        }
        repair::note_missing(&self.shard.owned, &self.mailbox, self.uid, &self.stem);
        self.damaged("its file is gone")
    }

    fn damaged(&self, why: &'static str) -> StoreError {
        repair::note_damaged(&self.shard.owned, &self.mailbox, self.uid, &self.stem, why);
        self.unreadable()
    }

    fn unreadable(&self) -> StoreError {
        let since = crate::runtime::unix_now();
        StoreError::Damaged {
            partition: self.partition.id,
            since,
        }
    }

    /// From where it lies before it is a file; `None` once it is one.
    async fn read_unsettled(&self, range: Range<u64>) -> Option<Result<Vec<u8>, StoreError>> {
        let mut key = (self.name.pseq, self.name.ordinal);
        let body = loop {
            let unsettled = self.partition.unsettled.borrow().get(&key).cloned();
            match unsettled? {
                Unsettled::Link {
                    name,
                    folder,
                    stem,
                    letters,
                } => {
                    let next = (name.pseq, name.ordinal);
                    if self.partition.unsettled.borrow().contains_key(&next) {
                        key = next;
                        continue;
                    }
                    let dir = folder.path.borrow().clone();
                    let found = self.open(&dir, &stem, letters).await;
                    return match found {
                        Ok(Some(file)) => Some(file.read(range).await),
                        Ok(None) => None,
                        Err(why) => Some(Err(why)),
                    };
                }
                Unsettled::Body {
                    source,
                    memory,
                    prefix,
                    crc32c,
                    ..
                } => break (source, memory, prefix, crc32c),
            }
        };
        let (source, memory, prefix, sum) = body;
        let head = prefix.len() as u64;
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        if range.start < head {
            let end = range.end.min(head) as usize;
            out.extend_from_slice(&prefix[range.start as usize..end]);
        }
        if range.end > head {
            let part = range.start.max(head) - head..range.end - head;
            let bodies = &self.shard.bodies;
            let read = match (&source, &memory) {
                // What comes from a slot is checked as a whole: it is small.
                (Source::Journal(at), None) => {
                    let size = u64::from(at.size);
                    let whole = bodies.whole(&source, None, size, sum).await;
                    whole.and_then(|(bytes, is_whole)| match is_whole {
                        true => {
                            let part = bytes.get(part.start as usize..part.end as usize);
                            Ok(part.unwrap_or_default().to_vec())
                        }
                        false => Err(self.unreadable()),
                    })
                }
                _ => bodies.read(&source, memory.as_ref(), part).await,
            };
            match read {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(why) => return Some(Err(why)),
            }
        }
        Some(Ok(out))
    }

    async fn read_file(&self, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let open = self.file.borrow().clone();
        let file = match open {
            Some(file) => file,
            None => {
                let dir = self.mailbox.path();
                let now = {
                    let index = self.mailbox.index.borrow();
                    let row = index
                        .as_ref()
                        .and_then(|i| Some(i.cold(i.position(self.uid)?).letters));
                    row.unwrap_or(self.letters)
                };
                let Some(file) = self.open(&dir, &self.stem, now).await? else {
                    return Ok(None);
                };
                *self.file.borrow_mut() = Some(file.clone());
                file
            }
        };
        file.read(range).await.map(Some)
    }

    async fn open(
        &self,
        folder: &Path,
        stem: &str,
        letters: u32,
    ) -> Result<Option<Stored>, StoreError> {
        let expected = folder.join("cur").join(file_name(stem, letters));
        if let Some(file) = self.open_at(&expected).await? {
            return Ok(Some(file));
        }
        match find_file(&self.shard.disk, folder, stem).await? {
            Some(found) => self.open_at(&found).await,
            None => Ok(None),
        }
    }

    async fn open_at(&self, path: &Path) -> Result<Option<Stored>, StoreError> {
        let len = self.len - self.apart.len() as u64;
        let scratch = || self.shard.spools.new_path();
        match Stored::open(&self.shard.disk, path, len, scratch).await {
            Ok(file) => Ok(Some(file)),
            Err(Unreadable::Disk(e)) if e.kind == DiskErrorKind::NotFound => Ok(None),
            Err(Unreadable::Disk(e)) => Err(disk_error(&e)),
            Err(Unreadable::Damaged) => Err(self.damaged("its file is not of its length")),
        }
    }
}
