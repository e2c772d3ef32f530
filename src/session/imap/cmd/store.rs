//! STORE (RFC 9051 6.4.6).

use super::super::answer::Answer;
use super::super::numbering::{number_of, resolve};
use super::super::report::{Manner, Told, write_flags_fetch};
use super::super::serve::Known;
use super::Done;
use crate::base::Uid;
use crate::runtime::yield_if_needed;
use crate::store::{Access, FlagChange, FlagMode, Flags, StoreError, Stored};
use crate::wire::imap::{self, Flag, KEYWORD_BYTES_MAX, StoreMode, sequence_set};

/// Keywords in one command, and the length of one.
const KEYWORDS_MAX: usize = 100;

/// What to do with flags that clients cannot set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unsettable {
    Refuse,
    /// APPEND: clients copy back what they fetched.
    PassOver,
}

pub async fn store(known: &mut Known, store: imap::Store<'_>, told: &mut Told) -> Done {
    let (flags, keywords) = read_flags(store.flags, Unsettable::Refuse)?;
    let mode = match store.mode {
        StoreMode::Replace => FlagMode::Replace,
        StoreMode::Add => FlagMode::Add,
        StoreMode::Remove => FlagMode::Remove,
    };
    // A CONDSTORE enabling command (RFC 7162 3.1).
    known.enabled.condstore |= store.unchanged_since.is_some();
    let manner = Manner::new(known.enabled, store.uid);
    // What others changed is told now: afterwards it could not be told from what is stored here,
    // of which .SILENT wants no word (RFC 9051 6.4.6).
    known.tell_changes(false, store.uid, told)?;
    let (client, selected) = known.parts();
    if selected.view.access() == Access::ReadOnly {
        return Err(StoreError::ReadOnly.into());
    }
    let uids = resolve(store.set, store.uid, selected.view.uids(), &selected.saved)
        .map_err(|_| Answer::bad("there is no message of this number"))?;
    if uids.is_empty() {
        return Ok(Answer::ok("STORE of nothing done"));
    }
    let change = FlagChange {
        mode,
        flags,
        keywords,
    };
    let stored = selected
        .view
        .store(&uids, &change, store.unchanged_since)
        .await?;
    told.add(stored.told());
    // RFC 7162 3.1.3: MODSEQ is told even where the flags are not asked for.
    // And a command that was done in part says of what.
    if !store.silent || manner.enabled.condstore || stored.failed.is_some() {
        for (n, uid) in stored.uids.iter().enumerate() {
            if n % 256 == 255 {
                client.flush_batch().await?;
                yield_if_needed().await;
            }
            let row = selected.view.row(*uid);
            let Some((row, seq)) = row.zip(number_of(selected.view.uids(), *uid)) else {
                continue;
            };
            write_flags_fetch(
                &mut client.out,
                seq,
                &row,
                selected.view.is_recent(*uid),
                manner,
            );
        }
    }
    if let Some(why) = stored.failed {
        return Err(why.into());
    }
    Ok(outcome(&stored, selected.view.uids(), store.uid))
}

fn outcome(stored: &Stored, view: &[Uid], by_uid: bool) -> Answer {
    if !stored.modified.is_empty() {
        let mut code = b"MODIFIED ".to_vec();
        let number = |uid: &Uid| {
            if by_uid {
                Some(uid.0)
            } else {
                number_of(view, *uid)
            }
        };
        sequence_set(&mut code, stored.modified.iter().filter_map(number));
        let code = String::from_utf8_lossy(&code).into_owned();
        return Answer::ok("STORE done where nothing had changed").with_code(code);
    }
    // RFC 2180 4.2.1: numbers that are still told but gone. UIDs that are gone are no error.
    if !by_uid && !stored.missing.is_empty() {
        return Answer::no("EXPUNGEISSUED", "some of the messages are gone");
    }
    Answer::ok("STORE done")
}

/// System flags as bits, keywords as they were spelled, each once.
pub fn read_flags(
    flags: imap::Flags<'_>,
    unsettable: Unsettable,
) -> Result<(Flags, Vec<String>), Answer> {
    let mut system = Flags::NONE;
    let mut keywords: Vec<String> = Vec::new();
    for flag in flags.iter() {
        let bit = match flag {
            Flag::Seen => Flags::SEEN,
            Flag::Answered => Flags::ANSWERED,
            Flag::Flagged => Flags::FLAGGED,
            Flag::Deleted => Flags::DELETED,
            Flag::Draft => Flags::DRAFT,
            Flag::Recent | Flag::Extension(_) if unsettable == Unsettable::PassOver => continue,
            Flag::Recent => return Err(Answer::no("CANNOT", "only the server sets \\Recent")),
            Flag::Extension(_) => return Err(Answer::bad("there is no such system flag")),
            Flag::Keyword(word) => {
                if !keywords
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(word))
                {
                    keywords.push(word.to_owned());
                }
                if keywords.len() > KEYWORDS_MAX || word.len() > KEYWORD_BYTES_MAX {
                    return Err(Answer::no("LIMIT", "too many keywords, or too long ones"));
                }
                continue;
            }
        };
        system = system.union(bit);
    }
    Ok((system, keywords))
}
