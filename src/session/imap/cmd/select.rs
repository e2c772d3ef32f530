//! SELECT, EXAMINE, CLOSE, UNSELECT (RFC 9051 6.3.2, 6.3.3, 6.4.1, 6.4.2).

use hashbrown::HashSet;

use super::super::answer::Answer;
use super::super::report::{write_count, write_flags, write_flags_response};
use super::super::serve::{Known, Selected};
use super::Done;
use super::expunge::deleted_in;
use super::list::write_selected;
use super::status::mailbox_id;
use crate::base::Uid;
use crate::store::{Access, Flags, StoreError, View};
use crate::wire::imap::{Flag, Select, flag_list};

pub async fn select(known: &mut Known, select: &Select<'_>, examine: bool) -> Done {
    // Whatever comes of it, the mailbox that was selected is not any more (RFC 9051 6.3.2).
    if known.selected.take().is_some() {
        known
            .client
            .out
            .extend_from_slice(b"* OK [CLOSED] the mailbox before is closed\r\n");
    }
    let name = select.mailbox.name(known.coding())?;
    let id = known.account.find(&name).ok_or(StoreError::NoMailbox)?;
    let access = if examine {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let view = known.account.select(id, access).await?;
    known.enabled.condstore |= select.condstore;
    write_facts(known, &view)?;
    if known.enabled.imap4rev2 {
        write_selected(known, &name);
    }
    let (code, text) = match view.access() {
        Access::ReadWrite => ("READ-WRITE", "SELECT done"),
        Access::ReadOnly if examine => ("READ-ONLY", "EXAMINE done"),
        Access::ReadOnly => ("READ-ONLY", "SELECT done, of an archive that is only read"),
    };
    known.selected = Some(Selected {
        view,
        name: name.into(),
        saved: Vec::new(),
        noted: HashSet::new(),
    });
    Ok(Answer::ok(text).with_code(code))
}

fn write_facts(known: &mut Known, view: &View) -> Result<(), StoreError> {
    let status = view.status()?;
    let rev2 = known.enabled.imap4rev2;
    let out = &mut known.client.out;
    let keywords = view.keywords();
    write_flags_response(out, &keywords);
    out.extend_from_slice(b"* OK [PERMANENTFLAGS ");
    match view.access() {
        Access::ReadOnly => write_flags::<&str>(out, Flags::NONE, false, &[]),
        Access::ReadWrite => {
            let system = [
                Flag::Answered,
                Flag::Flagged,
                Flag::Deleted,
                Flag::Seen,
                Flag::Draft,
            ];
            let keywords = keywords.iter().map(|word| Flag::Keyword(word));
            // `\*`: new keywords may be made.
            flag_list(
                out,
                system
                    .into_iter()
                    .chain(keywords)
                    .chain([Flag::Extension("*")]),
            );
        }
    }
    out.extend_from_slice(b"] flags that last\r\n");
    let exists = u32::try_from(view.uids().len()).unwrap_or(u32::MAX);
    write_count(out, exists, "EXISTS");
    if !rev2 {
        write_count(out, view.recent(), "RECENT");
        if let Some(seq) = first_unseen(view) {
            let line = format!("* OK [UNSEEN {seq}] the first unseen message\r\n");
            out.extend_from_slice(line.as_bytes());
        }
    }
    // A delivery between the opening and this line is not in the view yet: UIDNEXT may only be
    // above what the client will be told.
    let facts = format!(
        "* OK [UIDVALIDITY {}] UIDs are valid\r\n\
         * OK [UIDNEXT {}] the next UID\r\n\
         * OK [HIGHESTMODSEQ {}] the highest modseq\r\n\
         * OK [MAILBOXID ({})] its id\r\n",
        status.uidvalidity,
        status.uidnext,
        status.highest_modseq,
        mailbox_id(view.mailbox())
    );
    out.extend_from_slice(facts.as_bytes());
    Ok(())
}

/// Rows looked at at once for the first unseen message: it is near the end of most mailboxes, and
/// the count says whether to look at all.
const SLICE: usize = 4096;

fn first_unseen(view: &View) -> Option<u32> {
    if view.status().ok()?.unseen == 0 {
        return None;
    }
    let mut before = 0;
    for slice in view.uids().chunks(SLICE) {
        let mut first: Option<Uid> = None;
        view.scan(slice, &mut |row| {
            if first.is_none() && !row.flags.contains(Flags::SEEN) {
                first = Some(row.uid);
            }
        });
        if let Some(at) = first.and_then(|uid| slice.binary_search(&uid).ok()) {
            return u32::try_from(before + at + 1).ok();
        }
        before += slice.len();
    }
    None
}

/// CLOSE: removes what is marked, without a word of it (RFC 9051 6.4.1).
pub async fn close(known: &mut Known) -> Done {
    let Some(selected) = known.selected.take() else {
        return Ok(Answer::bad("select a mailbox first"));
    };
    if selected.view.access() == Access::ReadWrite {
        let marked = deleted_in(&selected.view, selected.view.uids());
        if !marked.is_empty() {
            selected.view.expunge(&marked).await?;
        }
    }
    Ok(Answer::ok("CLOSE done"))
}

pub fn unselect(known: &mut Known) -> Answer {
    known.selected = None;
    Answer::ok("UNSELECT done")
}
