//! EXPUNGE and UID EXPUNGE (RFC 9051 6.4.3, 6.4.9).

use super::super::answer::Answer;
use super::super::numbering::resolve;
use super::super::serve::Known;
use super::Done;
use crate::base::Uid;
use crate::store::{Access, Flags, StoreError, View};
use crate::wire::imap::SequenceSet;

pub async fn expunge(known: &mut Known, set: Option<SequenceSet<'_>>) -> Done {
    let (_, selected) = known.parts();
    if selected.view.access() == Access::ReadOnly {
        return Err(StoreError::ReadOnly.into());
    }
    let uids = selected.view.uids();
    let marked = match set.map(|set| resolve(set, true, uids, &selected.saved)) {
        None => deleted_in(&selected.view, uids),
        Some(Ok(named)) => deleted_in(&selected.view, &named),
        Some(Err(_)) => Vec::new(),
    };
    if !marked.is_empty() {
        selected.view.expunge(&marked).await?;
    }
    // The EXPUNGE responses come with what else changed, at the end.
    Ok(Answer::ok("EXPUNGE done"))
}

/// Which of `uids` are marked `\Deleted`.
#[must_use]
pub fn deleted_in(view: &View, uids: &[Uid]) -> Vec<Uid> {
    let mut marked = Vec::new();
    view.scan(uids, &mut |row| {
        if row.flags.contains(Flags::DELETED) {
            marked.push(row.uid);
        }
    });
    marked
}
