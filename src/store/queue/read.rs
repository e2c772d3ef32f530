//! Reads a queue's log: one copy, and of the other one what is damaged in the first.

use std::path::{Path, PathBuf};

use super::entries::Entries;
use super::log::{
    ENTRY, ENTRY_HEAD_BYTES, FRAME_HEAD_BYTES, GONE, HEAD_BYTES, Log, Named, PADDING, head, places,
    seed,
};
use super::octets;
use crate::base::{Crc32c, PSeq, PartitionId, crc32c, crc32c_append};
use crate::runtime::{Disk, DiskError, DiskErrorKind, DiskFile, yield_if_needed};
use crate::store::StoreError;
use crate::store::bytes::{Malformed, Reader};
use crate::store::mailbox::disk_error;
use crate::store::maildir::Layout;

/// What is read in one step.
const PIECE_BYTES: u64 = 1 << 20;
/// No entry is so long: a length that says so is damaged.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a log says.
pub(in crate::store) enum Read {
    /// All of it, and the copies that are damaged.
    Whole(Entries, Vec<PathBuf>),
    /// Both copies are damaged at the same place.
    Lost(Vec<PathBuf>),
}

/// Reads as much of the log as a catalogue names.
pub(in crate::store) async fn read(
    disk: &Disk,
    layout: &Layout,
    id: PartitionId,
    named: Named,
) -> Result<Read, DiskError> {
    let places = places(layout, id, named.generation);
    // Where each frame is good, and the whole is not, the other copy is asked for all of it.
    for order in [[0, 1], [1, 0]] {
        let mut first = Copy::open(disk, &places[order[0]], named.end).await?;
        let mut second = Copy::open(disk, &places[order[1]], named.end).await?;
        let found = merged(layout, (id, named), &mut first, &mut second).await?;
        let Some(entries) = found else { continue };
        second.is_damaged |= order[0] == 1;
        let damaged = [first, second].into_iter().filter(|copy| copy.is_damaged);
        return Ok(Read::Whole(
            entries,
            damaged.map(|copy| copy.path).collect(),
        ));
    }
    Ok(Read::Lost(places.into()))
}

/// What both copies say together, if that is what was named.
async fn merged(
    layout: &Layout,
    (id, named): (PartitionId, Named),
    first: &mut Copy,
    second: &mut Copy,
) -> Result<Option<Entries>, DiskError> {
    let mut entries = Entries::default();
    entries.home = id;
    let head = head(id, named.generation);
    let mut crc = crc32c(&head);
    for copy in [&mut *first, &mut *second] {
        let begin = copy.octets(0, HEAD_BYTES).await?;
        copy.is_damaged |= begin != Some(&head[..]);
    }
    let seed = seed(id, named.generation);
    let mut framed_upto = PSeq(0);
    let mut at = HEAD_BYTES as u64;
    while at < named.end {
        let frame = match first.frame(at, seed).await? {
            Some(frame) => frame,
            None => {
                first.is_damaged = true;
                match second.frame(at, seed).await? {
                    Some(frame) => frame,
                    None => return Ok(None),
                }
            }
        };
        at += frame.len() as u64;
        crc = crc32c_append(crc, frame);
        let Ok(upto) = take(&mut entries, layout, &frame[FRAME_HEAD_BYTES..]) else {
            return Ok(None);
        };
        framed_upto = framed_upto.max(upto);
        yield_if_needed().await;
    }
    let is_named = crc == named.crc && entries.len() as u64 == u64::from(named.entries);
    let is_damaged = first.is_damaged || second.is_damaged;
    entries.log = Log::of(named, framed_upto, is_damaged);
    Ok(is_named.then_some(entries))
}

/// What one frame says; answers whom it is about.
fn take(entries: &mut Entries, layout: &Layout, payload: &[u8]) -> Result<PSeq, Malformed> {
    let mut r = Reader::new(payload);
    match r.u8()? {
        PADDING => Ok(PSeq(0)),
        ENTRY => {
            let pseq = PSeq(r.u64()?);
            let of = (entries.home, pseq);
            let accepted = octets::read(&mut r, octets::TODAY, layout, of)?;
            if !r.is_empty() {
                return Err(Malformed);
            }
            entries.put_octets(pseq, accepted, &payload[ENTRY_HEAD_BYTES..]);
            Ok(pseq)
        }
        GONE => {
            let pseq = PSeq(r.u64()?);
            entries.drop_one(pseq);
            Ok(pseq)
        }
        _ => Err(Malformed),
    }
}

/// One copy of a log, as it is read.
struct Copy {
    path: PathBuf,
    file: Option<DiskFile>,
    end: u64,
    /// A part of it, and where that begins.
    window: Vec<u8>,
    from: u64,
    is_damaged: bool,
}

impl Copy {
    /// It is damaged where there is none, or not enough of it.
    async fn open(disk: &Disk, path: &Path, end: u64) -> Result<Copy, DiskError> {
        let (file, is_damaged) = match disk.open_sized(path).await {
            Ok((file, len)) => (Some(file), len < end),
            Err(error) if error.kind == DiskErrorKind::NotFound => (None, true),
            Err(error) if is_damage(&error) => (None, true),
            Err(error) => return Err(error),
        };
        Ok(Copy {
            path: path.to_path_buf(),
            file,
            end,
            window: Vec::new(),
            from: 0,
            is_damaged,
        })
    }

    /// The frame that begins there, head and all, if it is whole.
    async fn frame(&mut self, at: u64, seed: Crc32c) -> Result<Option<&[u8]>, DiskError> {
        let Some(head) = self.octets(at, FRAME_HEAD_BYTES).await? else {
            return Ok(None);
        };
        let mut r = Reader::new(head);
        let (Ok(len), Ok(crc)) = (r.u32(), r.u32()) else {
            return Ok(None);
        };
        let whole = FRAME_HEAD_BYTES + len as usize;
        if len == 0 || whole > FRAME_BYTES_MAX || whole as u64 > self.end - at {
            return Ok(None);
        }
        let frame = self.octets(at, whole).await?;
        let is_good = |f: &&[u8]| crc32c_append(seed, &f[FRAME_HEAD_BYTES..]).0 == crc;
        Ok(frame.filter(is_good))
    }

    /// Octets of what is named; nothing where they are not there, or cannot be read.
    async fn octets(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>, DiskError> {
        if !self.has(at, len) {
            let ahead = PIECE_BYTES.max(len as u64).min(self.end.saturating_sub(at));
            self.fill(at, ahead as usize).await?;
        }
        if !self.has(at, len) {
            // One sector that cannot be read is not all of the piece.
            self.fill(at, len).await?;
        }
        if !self.has(at, len) {
            return Ok(None);
        }
        let begin = (at - self.from) as usize;
        Ok(Some(&self.window[begin..begin + len]))
    }

    fn has(&self, at: u64, len: usize) -> bool {
        at >= self.from && at + len as u64 <= self.from + self.window.len() as u64
    }

    async fn fill(&mut self, at: u64, len: usize) -> Result<(), DiskError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match file.read_at(len, at).await {
            Ok(octets) => (self.window, self.from) = (octets, at),
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_damage(error: &DiskError) -> bool {
    matches!(disk_error(error), StoreError::Damaged { .. })
}
