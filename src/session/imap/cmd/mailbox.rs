//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051 6.3.4 to 6.3.8).

use super::super::answer::Answer;
use super::super::serve::{Known, Selected};
use super::Done;
use super::status::mailbox_id;
use crate::store;
use crate::wire::imap::{Create, MailboxArg, SpecialUse};

const SEPARATOR: char = '/';

pub async fn create(known: &mut Known, create: &Create<'_>) -> Done {
    let name = create.mailbox.name(known.coding())?;
    // A separator at the end only says that there will be inferiors (RFC 9051 6.3.4).
    let name = name.strip_suffix(SEPARATOR).unwrap_or(&name);
    let wanted = special_use(known, &create.uses)?;
    let id = known.account.create(name, wanted).await?;
    Ok(Answer::ok("CREATE done").with_code(format!("MAILBOXID ({})", mailbox_id(id))))
}

/// What the new mailbox is for: one use, which no other mailbox has yet (RFC 6154 3).
fn special_use(known: &Known, uses: &[SpecialUse]) -> Result<Option<store::SpecialUse>, Answer> {
    let no = |why: &'static str| Answer::no("USEATTR", why);
    let wanted = match uses {
        [] => return Ok(None),
        [SpecialUse::Archive] => store::SpecialUse::Archive,
        [SpecialUse::Drafts] => store::SpecialUse::Drafts,
        [SpecialUse::Junk] => store::SpecialUse::Junk,
        [SpecialUse::Sent] => store::SpecialUse::Sent,
        [SpecialUse::Trash] => store::SpecialUse::Trash,
        [SpecialUse::All | SpecialUse::Flagged] => {
            return Err(no("a mailbox can not be created for this use"));
        }
        _ => return Err(no("a mailbox has one use")),
    };
    let taken = known
        .account
        .mailboxes()
        .iter()
        .any(|other| other.special_use == Some(wanted));
    match taken {
        true => Err(no("another mailbox has this use")),
        false => Ok(Some(wanted)),
    }
}

pub async fn delete(known: &mut Known, name: &MailboxArg<'_>) -> Done {
    let name = name.name(known.coding())?;
    let Some(mailbox) = known.account.find(&name) else {
        let below = format!("{name}{SEPARATOR}");
        let has_inferiors = known
            .account
            .mailboxes()
            .iter()
            .any(|other| other.name.starts_with(&below));
        // RFC 9051 6.3.5: a name that is only a level of others cannot be deleted.
        return Err(match has_inferiors {
            true => Answer::no("HASCHILDREN", "there are mailboxes below it").into(),
            false => Answer::no("NONEXISTENT", "there is no such mailbox").into(),
        });
    };
    known.account.delete(&name).await?;
    // Deleting the selected mailbox leaves it.
    let is_selected = |selected: &mut Selected| selected.view.mailbox() == mailbox;
    if known.selected.take_if(is_selected).is_some() {
        known
            .client
            .out
            .extend_from_slice(b"* OK [CLOSED] the selected mailbox is gone\r\n");
    }
    Ok(Answer::ok("DELETE done"))
}

pub async fn rename(known: &mut Known, from: &MailboxArg<'_>, to: &MailboxArg<'_>) -> Done {
    let from = from.name(known.coding())?;
    let to = to.name(known.coding())?;
    let to = to.strip_suffix(SEPARATOR).unwrap_or(&to);
    let below = to
        .strip_prefix(&*from)
        .is_some_and(|rest| rest.starts_with(SEPARATOR));
    if below {
        return Err(Answer::no("CANNOT", "a mailbox can not go below itself").into());
    }
    known.account.rename(&from, to).await?;
    Ok(Answer::ok("RENAME done"))
}

pub async fn subscribe(known: &mut Known, name: &MailboxArg<'_>, subscribed: bool) -> Done {
    let name = name.name(known.coding())?;
    // RFC 9051 6.3.7 lets a server see that the mailbox exists.
    if subscribed && known.account.find(&name).is_none() {
        return Err(Answer::no("NONEXISTENT", "there is no such mailbox").into());
    }
    known.account.subscribe(&name, subscribed).await?;
    Ok(Answer::ok(if subscribed {
        "SUBSCRIBE done"
    } else {
        "UNSUBSCRIBE done"
    }))
}
