//! What a message file is, found in one pass on the pool: sizes, hash, MIME digest.

use std::io::{self, Read};
use std::path::Path;

use crate::store::maildir::said_size;
use crate::store::message::STRUCTURE_BYTES_MAX;
use crate::wire::mime::{Limits, Walker};

/// One file.
pub(super) struct Weighed {
    /// Octets of the message, decompressed.
    pub stored: u64,
    /// The same with every line end CRLF.
    pub size: u64,
    pub blake3: [u8; 32],
    pub digest: Vec<u8>,
}

const PIECE_BYTES: usize = 64 << 10;
/// What a file may have, or may come to: a larger one is damaged or a trap.
const FILE_BYTES_MAX: u64 = 1 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

struct Scale {
    stored: u64,
    hasher: blake3::Hasher,
    walker: Walker,
}

impl Scale {
    fn new() -> Self {
        let limits = Limits {
            structure_bytes_max: STRUCTURE_BYTES_MAX,
            ..Limits::default()
        };
        Scale {
            stored: 0,
            hasher: blake3::Hasher::new(),
            walker: Walker::new(limits),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.stored += bytes.len() as u64;
        self.hasher.update(bytes);
        self.walker.feed(bytes);
    }

    fn feed_all(&mut self, from: &mut dyn Read, max: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => self.feed(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.stored > max {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }

    fn weighed(self) -> Weighed {
        let found = self.walker.finish();
        let mut digest = Vec::new();
        found.encode(&mut digest);
        Weighed {
            stored: self.stored,
            size: found.crlf_bytes(),
            blake3: *self.hasher.finalize().as_bytes(),
            digest,
        }
    }
}

/// Gives on what is read, and weighs it as it is.
struct Tee<'t> {
    from: &'t mut dyn Read,
    raw: &'t mut Scale,
}

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.raw.feed(&into[..n]);
        match self.raw.stored > FILE_BYTES_MAX {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(n),
        }
    }
}

/// Reads a message file, a piece at a time. One that is compressed (Dovecot's mail_compress, zlib) is taken for what
/// is in it, unless its name says that its length as it is is the message's.
pub(super) fn weigh(path: &Path, file: &mut dyn Read) -> io::Result<Weighed> {
    let mut head = Vec::new();
    file.take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let mut raw = Scale::new();
    if !head.starts_with(&GZIP) && !head.starts_with(&ZSTD) {
        raw.feed(&head);
        raw.feed_all(file, FILE_BYTES_MAX)?;
        return Ok(raw.weighed());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let base = name.split(':').next().unwrap_or_default();
    let is_gzip = head.starts_with(&GZIP);
    let mut unpacked = Scale::new();
    let mut whole = head.as_slice().chain(file);
    let mut tee = Tee {
        from: &mut whole,
        raw: &mut raw,
    };
    let outcome = unpack(is_gzip, &mut tee, &mut unpacked);
    // What did not unpack is weighed as it is, to its end.
    io::copy(&mut tee, &mut io::sink())?;
    let is_packed = said_size(base) != Some(raw.stored) && outcome.is_ok();
    // A file as long as its message is read as it is (`store::packed`).
    match is_packed && unpacked.stored != raw.stored {
        true => Ok(unpacked.weighed()),
        false => Ok(raw.weighed()),
    }
}

fn unpack(is_gzip: bool, from: &mut Tee<'_>, scale: &mut Scale) -> io::Result<()> {
    match is_gzip {
        true => scale.feed_all(&mut flate2::read::MultiGzDecoder::new(from), FILE_BYTES_MAX),
        false => scale.feed_all(&mut zstd::Decoder::new(from)?, FILE_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const LETTER: &[u8] = b"Subject: x\n\nbody\n";

    fn check(name: &str, bytes: &[u8], want: &[u8]) {
        let found = weigh(Path::new(name), &mut &bytes[..]).expect("read");
        let bare = want.iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(found.stored, want.len() as u64, "{name}");
        assert_eq!(found.blake3, *blake3::hash(want).as_bytes(), "{name}");
        if want == LETTER {
            assert_eq!(found.size, found.stored + bare);
        }
    }

    #[test]
    fn plain_and_compressed() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(LETTER).expect("packed");
        let gzip = gzip.finish().expect("packed");
        let zstd = zstd::encode_all(LETTER, 3).expect("packed");
        check("cur/1.h,S=17:2,S", LETTER, LETTER);
        check("cur/1.h", b"", b"");
        for packed in [&gzip, &zstd] {
            check("cur/1.h,S=17:2,S", packed, LETTER);
            check("cur/1.h:2,S", packed, LETTER);
            let said = format!("cur/1.h,S={}:2,", packed.len());
            check(&said, packed, packed);
            // With something behind it, and cut off: it is what it is.
            let more = [&packed[..], b"no more of it"].concat();
            check("cur/1.h,S=17:2,", &more, &more);
            let cut = &packed[..packed.len() - 2];
            check("cur/1.h,S=17:2,", cut, cut);
        }
    }
}
