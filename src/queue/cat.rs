//! A message as it would leave, for a person to read: piece by piece, since it may be long.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::command::Filter;
use super::desk::EntryKey;
use crate::base::{PSeq, PartitionId};
use crate::store::{OutboundRecipient, QueueEntry, Remote, StoreError};
use crate::wire::smtp::MailFrom;

/// Octets of a body that travel in one answer.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// What of a message comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatPiece {
    /// Where it is: for the question that asks for more.
    pub partition: u16,
    pub pseq: u64,
    /// MAIL and RCPT, as a host that offers everything gets them.
    pub envelope: Vec<String>,
    /// What stands before the body in this copy, in base 64.
    pub head: String,
    /// Octets of the body, and the sum of all of them.
    pub total: u64,
    pub crc32c: u32,
    /// Octets of the body, in base 64.
    pub data: String,
}

/// The beginning of the copy that the recipients have who fit. None: no such entry here.
pub(super) async fn first(
    remote: &Remote,
    filter: &Filter,
) -> Result<Option<CatPiece>, StoreError> {
    let mut found = None;
    let mut see = |key: EntryKey, entry: QueueEntry<'_>| {
        if found.is_none() && filter.fits_entry(&entry) {
            found = copy(filter, &entry).map(|copy| (key, copy));
        }
    };
    remote.queue_entries(&mut see).await;
    let Some((key, (envelope, head))) = found else {
        return Ok(None);
    };
    let piece = next(remote, key.partition.0, key.pseq.0, 0).await?;
    Ok(piece.map(|piece| CatPiece {
        envelope,
        head: BASE64.encode(&head),
        ..piece
    }))
}

/// More of its body. None: it is not here, or not any more.
pub(super) async fn next(
    remote: &Remote,
    partition: u16,
    pseq: u64,
    from: u64,
) -> Result<Option<CatPiece>, StoreError> {
    let key = EntryKey {
        partition: PartitionId(partition),
        pseq: PSeq(pseq),
    };
    let Some(total) = remote.queue_entry(key, |entry| entry.size) else {
        return Ok(None);
    };
    let end = from.saturating_add(PIECE_BYTES_MAX).min(total);
    let (bytes, sum) = match remote.queue_piece(key, from.min(end)..end).await {
        Err(StoreError::Expunged) => return Ok(None),
        read => read?,
    };
    Ok(Some(CatPiece {
        partition,
        pseq,
        envelope: Vec::new(),
        head: String::new(),
        total,
        crc32c: sum.0,
        data: BASE64.encode(&bytes),
    }))
}

/// Envelope and head of the copy of the first who fits and has no end yet.
fn copy(filter: &Filter, entry: &QueueEntry<'_>) -> Option<(Vec<String>, Vec<u8>)> {
    let of = entry.outbound.recipients.iter();
    let open = of.filter(|r| !r.state.is_end() && filter.fits(r));
    let open: Vec<&OutboundRecipient> = open.collect();
    let redirect = open.first()?.redirect.as_deref();
    let (mail, head) = entry.copy(redirect);
    let mail = MailFrom {
        size: Some(entry.size + head.len() as u64),
        ..mail
    };
    let mut lines = Vec::new();
    // What cannot be written as a command is not offered to a host either.
    let _ = mail.encode(&mut lines);
    for recipient in open {
        if recipient.redirect.as_deref() == redirect {
            let _ = recipient.rcpt.encode(mail.smtputf8, &mut lines);
        }
    }
    let lines = String::from_utf8_lossy(&lines);
    Some((lines.lines().map(str::to_owned).collect(), head))
}
