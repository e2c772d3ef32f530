//! Batches as bytes: filling one, and judging one.

use std::ops::Range;

use super::slot::array;
use super::{BLOCK, RECORD_BYTES_MAX};
use crate::base::{BATCH_BYTES_MAX, Crc32c, crc32c, crc32c_append};
use crate::store::codec::{self, FRAME_BYTES};

pub(super) const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"PBAT";
const VERSION: u16 = 1;

const _: () = assert!(RECORD_BYTES_MAX + HEADER_BYTES <= BATCH_BYTES_MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    /// Written when nothing else is: proves that the batch before it was durable.
    Seal,
    /// The chain goes on in the next slot sequence.
    End,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::Records => 1,
            Kind::Seal => 2,
            Kind::End => 3,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        [Kind::Records, Kind::Seal, Kind::End]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A batch header without its CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub generation: u64,
    pub sequence: u64,
    pub crc_before: Crc32c,
    pub length: u32,
    pub records: u32,
    pub kind: Kind,
    pub durable: u64,
    pub oldest: u64,
    pub offset: u32,
}

impl Header {
    fn put(&self, head: &mut [u8]) {
        head[..4].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&self.generation.to_le_bytes());
        head[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        head[24..28].copy_from_slice(&self.crc_before.0.to_le_bytes());
        head[28..32].copy_from_slice(&self.length.to_le_bytes());
        head[32..36].copy_from_slice(&self.records.to_le_bytes());
        head[36..38].copy_from_slice(&self.kind.number().to_le_bytes());
        head[38..40].copy_from_slice(&VERSION.to_le_bytes());
        head[40..48].copy_from_slice(&self.durable.to_le_bytes());
        head[48..56].copy_from_slice(&self.oldest.to_le_bytes());
        head[56..60].copy_from_slice(&self.offset.to_le_bytes());
        head[60..64].fill(0);
    }

    /// What the bytes claim, believed as far as it places them: magic, version, generation, offset
    /// and a possible length.
    pub fn claimed(head: &[u8], generation: u64, offset: u64) -> Option<Header> {
        let head = head.get(..HEADER_BYTES)?;
        if head[..4] != MAGIC || u64::from_le_bytes(array(head, 8)) != generation {
            return None;
        }
        let claimed = Header {
            generation,
            sequence: u64::from_le_bytes(array(head, 16)),
            crc_before: Crc32c(u32::from_le_bytes(array(head, 24))),
            length: u32::from_le_bytes(array(head, 28)),
            records: u32::from_le_bytes(array(head, 32)),
            kind: Kind::from_number(u16::from_le_bytes(array(head, 36)))?,
            durable: u64::from_le_bytes(array(head, 40)),
            oldest: u64::from_le_bytes(array(head, 48)),
            offset: u32::from_le_bytes(array(head, 56)),
        };
        let possible = (HEADER_BYTES..=BATCH_BYTES_MAX).contains(&(claimed.length as usize));
        let version = u16::from_le_bytes(array(head, 38));
        (possible && version == VERSION && u64::from(claimed.offset) == offset).then_some(claimed)
    }
}

/// The CRC that stands in a batch: it covers the record heads, whose CRCs cover the rest.
struct Sum(Crc32c);

impl Sum {
    fn begin(generation: u64, head: &[u8]) -> Self {
        let seed = crc32c(&generation.to_le_bytes());
        Sum(crc32c_append(seed, &head[8..HEADER_BYTES]))
    }

    fn add(&mut self, frame_head: &[u8]) {
        self.0 = crc32c_append(self.0, frame_head);
    }
}

/// Space for the header; records are appended after it.
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
}

/// Length on disk of a batch of `length` bytes.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

/// Writes the header over the space that [`begin`] left, pads, and answers the batch's CRC.
/// `header.length` and `header.records` are found here.
pub(super) fn finish(buffer: &mut Vec<u8>, mut header: Header) -> Crc32c {
    let length = buffer.len();
    header.length = u32::try_from(length).expect("batches are bounded");
    header.records = 0;
    let heads = || {
        let mut at = HEADER_BYTES;
        std::iter::from_fn({
            let buffer = &*buffer;
            move || {
                let head = buffer.get(at..at + FRAME_BYTES)?;
                at += FRAME_BYTES + u32::from_le_bytes(array(head, 0)) as usize;
                Some(head)
            }
        })
    };
    header.records = u32::try_from(heads().count()).expect("batches are bounded");
    let mut head = [0; HEADER_BYTES];
    header.put(&mut head);
    let mut sum = Sum::begin(header.generation, &head);
    heads().for_each(|frame_head| sum.add(frame_head));
    head[4..8].copy_from_slice(&sum.0.0.to_le_bytes());
    buffer[..HEADER_BYTES].copy_from_slice(&head);
    buffer.resize(padded(length), 0);
    sum.0
}

/// A batch whose every byte is as it was written.
pub(super) struct Valid {
    pub header: Header,
    pub crc: Crc32c,
    /// Where in the batch its frames are, CRCs checked.
    pub frames: Vec<Range<usize>>,
}

/// Judges the bytes of a batch whose header was [`Header::claimed`].
pub(super) fn check(bytes: &[u8], header: Header) -> Option<Valid> {
    let bytes = bytes.get(..header.length as usize)?;
    let mut sum = Sum::begin(header.generation, bytes);
    let mut frames = Vec::new();
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        let frame = codec::frame(&bytes[at..]).ok()?;
        sum.add(&frame[..FRAME_BYTES]);
        frames.push(at..at + frame.len());
        at += frame.len();
    }
    let crc = Crc32c(u32::from_le_bytes(array(bytes, 4)));
    (at == bytes.len() && sum.0 == crc).then_some(Valid {
        header,
        crc,
        frames,
    })
}
