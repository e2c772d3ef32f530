//! LIST and LSUB: RFC 9051 6.3.9 with the options of RFC 5258, RFC 5819 and RFC 6154.

use super::Body;
use super::mailbox::{MailboxArg, StatusItems, mailbox, status_items};
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::fault::Fault;

/// LIST in any of its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// `None` for a LIST without options and with one pattern, for which `""` as pattern asks
    /// for the hierarchy delimiter (RFC 9051 6.3.9).
    pub selection: Option<ListSelection>,
    pub reference: MailboxArg<'a>,
    pub patterns: Patterns<'a>,
    pub returns: ListReturn,
}

/// Which mailboxes an extended LIST shows (RFC 9051 6.3.9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelection {
    pub subscribed: bool,
    pub remote: bool,
    pub recursive_match: bool,
    pub special_use: bool,
}

/// What LIST says of each (RFC 9051 6.3.9.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListReturn {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    /// RFC 5819 2.
    pub status: Option<StatusItems>,
}

/// The checked patterns of a LIST, one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patterns<'a>(&'a [u8]);

impl<'a> Patterns<'a> {
    pub fn iter(self) -> impl Iterator<Item = MailboxArg<'a>> {
        let mut c = Cursor::new(self.0);
        c.eat(b'(');
        std::iter::from_fn(move || {
            c.eat(b' ');
            c.list_mailbox().ok().map(MailboxArg)
        })
    }
}

pub(super) fn list<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let mut selection = None;
    if c.rest().starts_with(b" (") {
        c.space()?;
        selection = Some(selection_options(c)?);
    }
    let reference = mailbox(c)?;
    c.space()?;
    let start = c.at();
    if c.peek() == Some(b'(') {
        selection.get_or_insert_default();
        let count = c.list(|c| c.list_mailbox().map(drop))?;
        if count == 0 {
            return Err(Fault::MissingArgument);
        }
    } else {
        c.list_mailbox()?;
    }
    let patterns = Patterns(c.since(start));
    let mut returns = ListReturn::default();
    if c.eat_word(b" RETURN ") {
        selection.get_or_insert_default();
        returns = return_options(c)?;
    }
    Ok(Body::List(List {
        selection,
        reference,
        patterns,
        returns,
    }))
}

pub(super) fn lsub<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let reference = mailbox(c)?;
    c.space()?;
    let pattern = c.list_mailbox().map(MailboxArg)?;
    Ok(Body::Lsub { reference, pattern })
}

fn selection_options(c: &mut Cursor<'_>) -> Result<ListSelection, Fault> {
    let mut selection = ListSelection::default();
    c.list(|c| {
        match c.atom().map_err(|_| Fault::BadListOption)? {
            word if word.eq_ignore_ascii_case("SUBSCRIBED") => selection.subscribed = true,
            word if word.eq_ignore_ascii_case("REMOTE") => selection.remote = true,
            word if word.eq_ignore_ascii_case("RECURSIVEMATCH") => {
                selection.recursive_match = true;
            }
            word if word.eq_ignore_ascii_case("SPECIAL-USE") => selection.special_use = true,
            _ => return Err(Fault::BadListOption),
        }
        Ok(())
    })?;
    // RECURSIVEMATCH goes with an option that selects, not alone or with REMOTE
    // (RFC 9051 6.3.9.1).
    match selection.recursive_match && !selection.subscribed && !selection.special_use {
        true => Err(Fault::BadListOption),
        false => Ok(selection),
    }
}

fn return_options(c: &mut Cursor<'_>) -> Result<ListReturn, Fault> {
    let mut returns = ListReturn::default();
    c.list(|c| {
        match c.atom().map_err(|_| Fault::BadListOption)? {
            word if word.eq_ignore_ascii_case("SUBSCRIBED") => returns.subscribed = true,
            word if word.eq_ignore_ascii_case("CHILDREN") => returns.children = true,
            word if word.eq_ignore_ascii_case("SPECIAL-USE") => returns.special_use = true,
            word if word.eq_ignore_ascii_case("STATUS") => {
                c.space()?;
                returns.status = Some(status_items(c)?);
            }
            _ => return Err(Fault::BadListOption),
        }
        Ok(())
    })?;
    Ok(returns)
}
