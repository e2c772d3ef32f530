//! Where the content of a letter comes from, piece by piece.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::base::{Crc32c, crc32c_append};
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, Open};
use crate::store::{Body, Message};

/// What is in memory of a content at once.
pub const PIECE_BYTES: usize = 32 << 10;

/// A content that is read once, from its beginning.
pub trait Content {
    /// Puts the next piece into `piece`, which is empty, and stays so at the end. The end is given
    /// only where all is as it was taken in: the hop is then told that it has everything.
    fn read(&mut self, piece: &mut Vec<u8>) -> impl Future<Output = Result<(), ContentFault>>;
}

/// Why a content cannot be sent. Never the hop's fault, and never a reason to give the mail up.
#[derive(Clone, Debug, PartialEq)]
pub enum ContentFault {
    /// The disk does not give it.
    Disk(DiskError),
    /// It lies where this reader does not reach.
    Elsewhere,
    /// It is not as long as it was.
    Size { bytes: u64 },
    /// It is not what it was.
    Sum,
    /// The server ends.
    Stopping,
}

impl ContentFault {
    /// It will not be what was taken in at any other time either.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            ContentFault::Size { .. } | ContentFault::Sum => true,
            // EIO: a sector that cannot be read.
            ContentFault::Disk(error) => {
                matches!(error.kind, DiskErrorKind::NotFound | DiskErrorKind::Io(5))
            }
            ContentFault::Elsewhere | ContentFault::Stopping => false,
        }
    }
}

/// A message of the store: from memory, or from its spool file.
pub struct MessageContent {
    message: Arc<Message>,
    source: Source,
    at: u64,
    sum: Crc32c,
}

enum Source {
    /// In the message itself.
    Memory,
    /// A file of a piece.
    Read(Vec<u8>),
    File(DiskFile),
}

impl MessageContent {
    /// Opens the spool file, where there is one; or reads it, where that is one trip to the disk
    /// and not two.
    pub async fn open(disk: &Disk, message: Arc<Message>) -> Result<Self, ContentFault> {
        let source = match &message.body {
            Body::Inline(_) => Source::Memory,
            Body::Spool(path) if message.size <= PIECE_BYTES as u64 => {
                let read = disk.read_at_most(path, PIECE_BYTES as u64).await;
                Source::Read(read.map_err(ContentFault::Disk)?)
            }
            Body::Spool(path) => {
                let how = Open {
                    read: true,
                    ..Open::default()
                };
                Source::File(disk.open(path, how).await.map_err(ContentFault::Disk)?)
            }
            Body::InJournal => return Err(ContentFault::Elsewhere),
        };
        Ok(MessageContent {
            message,
            source,
            at: 0,
            sum: Crc32c(0),
        })
    }

    /// Octets of all of it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.message.size
    }

    fn check_end(&self) -> Result<(), ContentFault> {
        if self.at != self.message.size {
            return Err(ContentFault::Size { bytes: self.at });
        }
        match self.sum == self.message.crc32c {
            true => Ok(()),
            false => Err(ContentFault::Sum),
        }
    }
}

impl Content for MessageContent {
    async fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), ContentFault> {
        let left = self.message.size.saturating_sub(self.at);
        let bytes = left.min(PIECE_BYTES as u64) as usize;
        let mut take = |all: &[u8]| {
            let from = all.len().min(self.at as usize);
            piece.extend_from_slice(&all[from..all.len().min(from + bytes)]);
        };
        match (&self.source, &self.message.body) {
            (Source::File(file), _) if bytes > 0 => {
                let read = file.read_at(bytes, self.at).await;
                *piece = read.map_err(ContentFault::Disk)?;
            }
            (Source::Read(all), _) | (Source::Memory, Body::Inline(all)) => take(all),
            _ => {}
        }
        self.at += piece.len() as u64;
        self.sum = crc32c_append(self.sum, piece);
        match piece.is_empty() {
            true => self.check_end(),
            false => Ok(()),
        }
    }
}

/// A text of our own making.
impl Content for &[u8] {
    async fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), ContentFault> {
        let (head, rest) = self.split_at(self.len().min(PIECE_BYTES));
        piece.extend_from_slice(head);
        *self = rest;
        Ok(())
    }
}

impl fmt::Display for ContentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentFault::Disk(error) => error.fmt(f),
            ContentFault::Elsewhere => f.write_str("it is not where it was looked for"),
            ContentFault::Size { bytes } => write!(f, "only {bytes} octets of it are there"),
            ContentFault::Sum => f.write_str("its checksum is not what it was"),
            ContentFault::Stopping => f.write_str("the server ends"),
        }
    }
}
