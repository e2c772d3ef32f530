//! An entry as octets: the same in catalogues, in the queue's log, and in memory while it rests.

use std::path::Path;
use std::sync::Arc;

use crate::base::{AccountId, ByteSize, Crc32c, PSeq, PartitionId, TraceId, UnixMs};
use crate::store::body::{Accepted, Source};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::maildir::Layout;
use crate::store::{AccountRef, Flags, Outbound, Quota, Target, codec};

/// The first catalogues that know of mail that leaves.
const OUTBOUND_SINCE: u8 = 4;
/// What entries are encoded as today.
pub(super) const TODAY: u8 = 5;

/// Appends an entry, without its number.
pub(super) fn put(w: &mut Writer, accepted: &Accepted) {
    w.i64(accepted.saved.0);
    match accepted.trace {
        Some(trace) => w.str(&trace.to_string()),
        None => w.str(""),
    }
    w.u64(accepted.size);
    w.u32(accepted.crc32c.0);
    w.out.extend_from_slice(&accepted.blake3);
    w.bytes(&accepted.digest);
    // A body in the journal is in its own file by the time this is committed.
    match &accepted.source {
        Source::Spool(path) => w.str(file_name(path)),
        Source::Journal(_) | Source::File(_) => w.str(""),
    }
    w.count(accepted.targets.len());
    for target in &accepted.targets {
        w.u8(u8::from(target.is_some()));
        let Some(target) = target else { continue };
        w.u64(target.account.account.0);
        w.u16(target.account.partition.0);
        w.u64(target.account.quota.bytes.map_or(u64::MAX, |q| q.0));
        w.str(&target.mailbox);
        w.u8(target.flags.0);
        w.bytes(&target.prefix);
    }
    let mut outbound = Vec::new();
    if let Some(of) = &accepted.outbound {
        codec::put_outbound(of, &mut outbound);
    }
    w.bytes(&outbound);
}

fn file_name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

/// Reads what [`put`] made, or did in a catalogue of an earlier version.
pub(in crate::store) fn read(
    r: &mut Reader<'_>,
    version: u8,
    layout: &Layout,
    (partition, pseq): (PartitionId, PSeq),
) -> Result<Accepted, Malformed> {
    let saved = UnixMs(r.i64()?);
    let trace = match r.str()? {
        "" => None,
        text => Some(text.parse::<TraceId>().map_err(|_| Malformed)?),
    };
    Ok(Accepted {
        saved,
        trace,
        size: r.u64()?,
        crc32c: Crc32c(r.u32()?),
        blake3: r.array()?,
        digest: match r.bytes()? {
            [] => Arc::default(),
            digest => Arc::from(digest),
        },
        source: match r.str()? {
            "" => Source::File(layout.queue_file(partition, pseq)),
            name => Source::Spool(layout.spool().join(name)),
        },
        targets: (0..r.count(1)?)
            .map(|_| target(r))
            .collect::<Result<_, _>>()?,
        outbound: match version {
            ..OUTBOUND_SINCE => None,
            _ => outbound(r)?,
        },
        memory: None,
    })
}

fn target(r: &mut Reader<'_>) -> Result<Option<Target>, Malformed> {
    if r.u8()? == 0 {
        return Ok(None);
    }
    Ok(Some(Target {
        account: AccountRef {
            account: AccountId(r.u64()?),
            partition: PartitionId(r.u16()?),
            quota: Quota {
                bytes: Some(r.u64()?).filter(|&q| q != u64::MAX).map(ByteSize),
                messages: None,
            },
        },
        mailbox: r.str()?.to_owned(),
        flags: Flags(r.u8()?),
        prefix: r.bytes()?.to_vec(),
    }))
}

fn outbound(r: &mut Reader<'_>) -> Result<Option<Box<Outbound>>, Malformed> {
    match r.bytes()? {
        [] => Ok(None),
        bytes => {
            let outbound = codec::outbound(bytes).map_err(|_| Malformed)?;
            Ok(Some(Box::new(outbound)))
        }
    }
}

/// The spool file that an entry's octets name.
pub(super) fn spool_of(octets: &[u8]) -> Option<&str> {
    let mut r = Reader::new(octets);
    let _saved = r.i64().ok()?;
    let _trace = r.str().ok()?;
    let _size_and_sums = r.take(8 + 4 + 32).ok()?;
    let _digest = r.bytes().ok()?;
    r.str().ok().filter(|name| !name.is_empty())
}
