//! COPY and MOVE (RFC 9051 6.4.7, 6.4.8), within the account.

use super::super::answer::Answer;
use super::super::numbering::resolve;
use super::super::serve::Known;
use super::{Cut, Done};
use crate::base::{MailboxId, Uid};
use crate::store::{Access, Copied, StoreError};
use crate::wire::imap::{MailboxArg, SequenceSet, sequence_set};

pub async fn copy(
    known: &mut Known,
    by_uid: bool,
    set: SequenceSet<'_>,
    to: &MailboxArg<'_>,
) -> Done {
    let (uids, to) = prepare(known, by_uid, set, to)?;
    if uids.is_empty() {
        return Ok(Answer::ok("COPY of nothing done"));
    }
    let (_, selected) = known.parts();
    let copied = selected.view.copy(&uids, to).await.map_err(try_create)?;
    let answer = Answer::ok("COPY done");
    Ok(match copy_uid(&copied) {
        Some(code) => answer.with_code(code),
        None => answer,
    })
}

pub async fn r#move(
    known: &mut Known,
    by_uid: bool,
    set: SequenceSet<'_>,
    to: &MailboxArg<'_>,
) -> Done {
    if known.parts().1.view.access() == Access::ReadOnly {
        return Err(StoreError::ReadOnly.into());
    }
    let (uids, to) = prepare(known, by_uid, set, to)?;
    if uids.is_empty() {
        return Ok(Answer::ok("MOVE of nothing done"));
    }
    let (client, selected) = known.parts();
    let moved = selected.view.move_to(&uids, to).await.map_err(try_create)?;
    // RFC 6851 4.3: COPYUID comes untagged, before the EXPUNGE responses that follow.
    if let Some(code) = copy_uid(&moved) {
        client
            .out
            .extend_from_slice(format!("* OK [{code}] moved\r\n").as_bytes());
    }
    Ok(Answer::ok("MOVE done"))
}

fn prepare(
    known: &mut Known,
    by_uid: bool,
    set: SequenceSet<'_>,
    to: &MailboxArg<'_>,
) -> Result<(Vec<Uid>, MailboxId), Cut> {
    let name = to.name(known.coding())?;
    let to = known
        .account
        .find(&name)
        .ok_or_else(|| try_create(StoreError::NoMailbox))?;
    let (_, selected) = known.parts();
    let uids = resolve(set, by_uid, selected.view.uids(), &selected.saved)
        .map_err(|_| Answer::bad("there is no message of this number"))?;
    Ok((uids, to))
}

/// RFC 9051 7.1: the client may create the target and try again.
pub fn try_create(error: StoreError) -> Answer {
    match error {
        StoreError::NoMailbox => Answer::no("TRYCREATE", "there is no such mailbox"),
        error => error.into(),
    }
}

/// `COPYUID validity from to`; nothing where nothing was copied (RFC 9051 7.1).
fn copy_uid(copied: &Copied) -> Option<String> {
    if copied.from.is_empty() {
        return None;
    }
    let mut code = format!("COPYUID {} ", copied.uidvalidity).into_bytes();
    sequence_set(&mut code, copied.from.iter().map(|uid| uid.0));
    code.push(b' ');
    sequence_set(&mut code, copied.to.iter().map(|uid| uid.0));
    String::from_utf8(code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UidValidity;

    #[test]
    fn copyuid_pairs_sets() {
        let uids = |list: &[u32]| list.iter().copied().map(Uid).collect::<Vec<_>>();
        let copied = Copied {
            uidvalidity: UidValidity(38505),
            from: uids(&[304, 319, 320]),
            to: uids(&[3956, 3957, 3958]),
        };
        assert_eq!(
            copy_uid(&copied).as_deref(),
            Some("COPYUID 38505 304,319:320 3956:3958")
        );
        let none = Copied {
            from: Vec::new(),
            to: Vec::new(),
            ..copied
        };
        assert_eq!(copy_uid(&none), None);
    }
}
