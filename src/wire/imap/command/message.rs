//! STORE, COPY, MOVE, EXPUNGE: commands that change messages.

use super::Body;
use super::mailbox::mailbox;
use crate::base::ModSeq;
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::fault::Fault;
use crate::wire::imap::flag::{Flags, flags_with_or_without_parens};
use crate::wire::imap::sequence_set::{SequenceSet, sequence_set};

/// STORE (RFC 9051 6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    pub uid: bool,
    pub set: SequenceSet<'a>,
    pub mode: StoreMode,
    /// No FETCH responses are wanted.
    pub silent: bool,
    pub flags: Flags<'a>,
    /// `(UNCHANGEDSINCE n)` (RFC 7162 3.1.3).
    pub unchanged_since: Option<ModSeq>,
}

/// What STORE does with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// FLAGS: these and no others, apart from \Recent.
    Replace,
    /// +FLAGS
    Add,
    /// -FLAGS
    Remove,
}

pub(super) fn store<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let set = sequence_set(c)?;
    let mut unchanged_since = None;
    if c.eat_word(b" (") {
        // store-modifier (RFC 4466 2.5).
        if !c.eat_word(b"UNCHANGEDSINCE ") {
            return Err(Fault::BadStoreItem);
        }
        unchanged_since = Some(ModSeq(c.number64()?));
        c.close()?;
    }
    c.space()?;
    let mode = match c.peek() {
        Some(b'+') => StoreMode::Add,
        Some(b'-') => StoreMode::Remove,
        _ => StoreMode::Replace,
    };
    if mode != StoreMode::Replace {
        c.eat(if mode == StoreMode::Add { b'+' } else { b'-' });
    }
    if !c.eat_word(b"FLAGS") {
        return Err(Fault::BadStoreItem);
    }
    let silent = c.eat_word(b".SILENT");
    c.space().map_err(|_| Fault::BadStoreItem)?;
    let flags = flags_with_or_without_parens(c)?;
    Ok(Body::Store(Store {
        uid,
        set,
        mode,
        silent,
        flags,
        unchanged_since,
    }))
}

pub(super) fn copy<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let set = sequence_set(c)?;
    let mailbox = mailbox(c)?;
    Ok(Body::Copy { uid, set, mailbox })
}

/// RFC 6851 3.
pub(super) fn r#move<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let set = sequence_set(c)?;
    let mailbox = mailbox(c)?;
    Ok(Body::Move { uid, set, mailbox })
}

pub(super) fn expunge<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    if !uid {
        return Ok(Body::Expunge(None));
    }
    c.space()?;
    sequence_set(c).map(|set| Body::Expunge(Some(set)))
}
