//! STATUS (RFC 9051 6.3.11), also for LIST RETURN (STATUS ...).

use super::super::answer::Answer;
use super::super::machine::Enabled;
use super::super::serve::Known;
use super::Done;
use crate::base::MailboxId;
use crate::store::{Status, StoreError};
use crate::wire::imap::{Coding, MailboxArg, StatusItem, StatusItems, mailbox, number};

pub async fn status(known: &mut Known, name: &MailboxArg<'_>, items: StatusItems) -> Done {
    let coding = known.coding();
    let name = name.name(coding)?;
    let no_mailbox = || Answer::no("NONEXISTENT", "there is no such mailbox");
    let id = known.account.find(&name).ok_or_else(no_mailbox)?;
    let status = known.account.status(id)?;
    let freed = freed(known, &status, items).await?;
    if items.contains(StatusItem::HighestModSeq) {
        // A CONDSTORE enabling command (RFC 7162 3.1).
        known.enabled.condstore = true;
    }
    write_status(
        &mut known.client.out,
        &name,
        &status,
        freed,
        items,
        coding,
        known.enabled,
    );
    Ok(Answer::ok("STATUS done"))
}

/// The octets that an EXPUNGE would free, where they are asked for (RFC 9208 4.1.4).
pub async fn freed(known: &Known, status: &Status, items: StatusItems) -> Result<u64, StoreError> {
    match items.contains(StatusItem::DeletedStorage) && status.deleted > 0 {
        true => known.account.deleted_bytes(status.id).await,
        false => Ok(0),
    }
}

/// `* STATUS name (...)`.
pub fn write_status(
    out: &mut Vec<u8>,
    name: &str,
    status: &Status,
    freed: u64,
    items: StatusItems,
    coding: Coding,
    enabled: Enabled,
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name, coding);
    out.extend_from_slice(b" (");
    let mut first = true;
    for (word, item) in items.iter() {
        // rev2 has no \Recent to count (RFC 9051 Appendix E); asked all the same, it is none.
        let value = match item {
            StatusItem::Messages => status.messages.into(),
            StatusItem::Recent if enabled.imap4rev2 => 0,
            StatusItem::Recent => status.recent.into(),
            StatusItem::UidNext => status.uidnext.0.into(),
            StatusItem::UidValidity => status.uidvalidity.0.into(),
            StatusItem::Unseen => status.unseen.into(),
            StatusItem::Deleted => status.deleted.into(),
            StatusItem::Size => status.size,
            StatusItem::DeletedStorage => freed,
            StatusItem::HighestModSeq => status.highest_modseq.0,
            StatusItem::MailboxId => 0,
        };
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
        match item {
            StatusItem::MailboxId => {
                out.extend_from_slice(format!("({})", mailbox_id(status.id)).as_bytes());
            }
            _ => number(out, value),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// RFC 8474 4: a mailbox's name for life.
#[must_use]
pub fn mailbox_id(id: MailboxId) -> String {
    format!("F{:x}", id.0)
}
