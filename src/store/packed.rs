//! Message files as they lie on the disk: plain, or compressed where the site wants that.
//!
//! A file that is as long as its message is the message. Any other is compressed, by us (zstd) or
//! by the Dovecot whose tree was adopted (zstd, gzip), which its first octets say; what is neither
//! is damaged. So no name and no index row changes when a file is compressed later.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;

use super::StoreError;
use super::mailbox::disk_error;
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, Step};

/// Whether a file's first octets are those of a compressed one.
pub(super) fn is_packed(head: &[u8]) -> bool {
    head.starts_with(&ZSTD) || head.starts_with(&GZIP)
}

/// How message files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    #[default]
    Plain,
    Zstd,
}

/// Zstandard's own default: about as fast as the disk.
const LEVEL: i32 = 3;
/// Below this a file takes one block anyway.
const PACKED_BYTES_MIN: usize = 4096;
/// A longer message is unpacked into a file and not into memory.
const MEMORY_BYTES_MAX: u64 = 1 << 20;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A frame that decoders skip (RFC 8878 3.1.2), without content.
const SKIPPED: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

impl Packing {
    /// How a message that is in memory becomes its file's content; `None`: as it is.
    pub(super) fn of_bytes(self) -> Option<fn(Vec<u8>) -> Vec<u8>> {
        match self {
            Packing::Plain => None,
            Packing::Zstd => Some(pack_bytes),
        }
    }
}

/// Compresses a message where it gets shorter.
fn pack_bytes(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < PACKED_BYTES_MIN {
        return bytes;
    }
    match zstd::bulk::compress(&bytes, LEVEL) {
        Ok(packed) if packed.len() < bytes.len() => packed,
        // It stays as it is: that is never wrong.
        Ok(_) | Err(_) => bytes,
    }
}

/// Compresses a file of any length. The outcome never has the length that it had before.
pub(super) fn pack(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut counted = Counted { to, bytes: 0 };
    let mut encoder = zstd::Encoder::new(&mut counted, LEVEL)?;
    encoder.include_checksum(true)?;
    let read = io::copy(from, &mut encoder)?;
    encoder.finish()?;
    if counted.bytes == read {
        counted.write_all(&SKIPPED)?;
    }
    Ok(())
}

struct Counted<'w> {
    to: &'w mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The opposite of [`pack`], and of what Dovecot writes; `EBADMSG` where it is neither.
pub(super) fn unpack(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    unpack_either(from, to).map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        None => Errno::BADMSG.into(),
    })
}

fn unpack_either(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic)?;
    let whole = magic.chain(from);
    if magic == ZSTD {
        io::copy(&mut zstd::Decoder::new(whole)?, to)?;
    } else if magic.starts_with(&GZIP) {
        io::copy(&mut flate2::read::MultiGzDecoder::new(whole), to)?;
    } else {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// A message file that is open; clones are the same.
#[derive(Clone)]
pub(super) enum Stored {
    File(DiskFile),
    Memory(Rc<[u8]>),
}

/// Why a message file cannot be read.
pub(super) enum Unreadable {
    Disk(DiskError),
    /// It is not the message, compressed or not.
    Damaged,
}

impl From<DiskError> for Unreadable {
    fn from(error: DiskError) -> Self {
        Unreadable::Disk(error)
    }
}

impl Stored {
    /// Opens the file of a message of `len` octets. A long one that is compressed is unpacked to
    /// the path that `scratch` answers, which no name leads to afterwards.
    pub async fn open(
        disk: &Disk,
        path: &Path,
        len: u64,
        scratch: impl FnOnce() -> PathBuf,
    ) -> Result<Stored, Unreadable> {
        let (file, found) = disk.open_sized(path).await?;
        if found == len {
            return Ok(Stored::File(file));
        }
        if len > MEMORY_BYTES_MAX {
            return Self::unpack_file(disk, path, len, scratch()).await;
        }
        // Ours is shorter; a small one of Dovecot's may be longer by its frame.
        let packed_max = len + PACKED_BYTES_MIN as u64;
        if found > packed_max {
            return Err(Unreadable::Damaged);
        }
        let packed = file.read_at(found as usize, 0).await?;
        let unpacked = disk.compute(move || unpack_at_most(&packed, len)).await?;
        match unpacked {
            Ok(bytes) if bytes.len() as u64 == len => Ok(Stored::Memory(bytes.into())),
            _ => Err(Unreadable::Damaged),
        }
    }

    async fn unpack_file(
        disk: &Disk,
        path: &Path,
        len: u64,
        scratch: PathBuf,
    ) -> Result<Stored, Unreadable> {
        let convert = Step::Convert {
            from: path.to_path_buf(),
            to: scratch.clone(),
            how: unpack,
        };
        let converted = disk.batch(vec![convert]).await.remove(0);
        let opened = disk.open_sized(&scratch).await;
        // The file lives as long as its handle.
        let _ = disk.unlink(&scratch).await;
        if let Err(error) = converted {
            let damaged = DiskErrorKind::from_errno(Errno::BADMSG.raw_os_error());
            return Err(match error.kind == damaged {
                true => Unreadable::Damaged,
                false => Unreadable::Disk(error),
            });
        }
        match opened? {
            (file, found) if found == len => Ok(Stored::File(file)),
            _ => Err(Unreadable::Damaged),
        }
    }

    /// The octets of `range` of the message.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        match self {
            Stored::File(file) => {
                let len = range.end.saturating_sub(range.start) as usize;
                let read = file.read_at(len, range.start).await;
                read.map_err(|error| disk_error(&error))
            }
            Stored::Memory(bytes) => {
                let len = bytes.len() as u64;
                let (start, end) = (range.start.min(len), range.end.min(len));
                Ok(bytes[start as usize..end as usize].to_vec())
            }
        }
    }
}

fn unpack_at_most(packed: &[u8], len: u64) -> io::Result<Vec<u8>> {
    let mut out = Limited {
        bytes: Vec::with_capacity(len as usize),
        max: len as usize,
    };
    unpack(&mut &packed[..], &mut out)?;
    Ok(out.bytes)
}

/// Ends the unpacking of what says that it is one message and is many times that.
struct Limited {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let check = |bytes: &[u8]| {
            let mut packed = Vec::new();
            pack(&mut &bytes[..], &mut packed).expect("packs");
            assert_ne!(packed.len(), bytes.len());
            let back = unpack_at_most(&packed, bytes.len() as u64).expect("unpacks");
            assert_eq!(back, bytes);
        };
        check(b"");
        check(&b"Received: from a\r\n".repeat(1000));
        // Some length of noise is the length of its frame; so all of them are tried.
        let noise: Vec<u8> = (0..64u32).map(|n| (n * n * 37) as u8).collect();
        (0..noise.len()).for_each(|len| check(&noise[..len]));
    }

    #[test]
    fn a_bomb_ends_at_the_length_of_the_message() {
        let mut packed = Vec::new();
        pack(&mut &vec![0; 1 << 20][..], &mut packed).expect("packs");
        let refused = unpack_at_most(&packed, 1000).map_err(|e| e.raw_os_error());
        assert_eq!(refused, Err(Some(Errno::BADMSG.raw_os_error())));
    }

    #[test]
    fn gzip_is_read_too() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(b"From: a\r\n\r\nx\r\n").expect("writes");
        let packed = encoder.finish().expect("ends");
        let back = unpack_at_most(&packed, 14).expect("unpacks");
        assert_eq!(back, b"From: a\r\n\r\nx\r\n");
    }
}
