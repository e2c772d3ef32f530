//! SELECT, CREATE, RENAME, STATUS...: commands on a mailbox as a whole.

use std::borrow::Cow;

use super::Body;
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::fault::Fault;
use crate::wire::imap::mailbox_name::{self, Coding, NameError};

/// A mailbox name or LIST pattern as it came. How to read it depends on what the session has
/// enabled, which the parser does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxArg<'a>(pub(super) Cow<'a, [u8]>);

impl MailboxArg<'_> {
    /// The name in UTF-8, with INBOX in upper case.
    pub fn name(&self, coding: Coding) -> Result<Cow<'_, str>, NameError> {
        mailbox_name::read(&self.0, coding).map(mailbox_name::canonical)
    }

    /// The name in UTF-8 as it came: a LIST reference or pattern, in which INBOX is no name.
    pub fn pattern(&self, coding: Coding) -> Result<Cow<'_, str>, NameError> {
        mailbox_name::read(&self.0, coding)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// SELECT and EXAMINE (RFC 9051 6.3.2, 6.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select<'a> {
    pub mailbox: MailboxArg<'a>,
    /// RFC 7162 3.1.8.
    pub condstore: bool,
}

/// CREATE (RFC 9051 6.3.4), with what the mailbox is for (RFC 6154 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create<'a> {
    pub mailbox: MailboxArg<'a>,
    /// Each use once, in the order of [`SpecialUse`].
    pub uses: Vec<SpecialUse>,
}

/// What a mailbox is for (RFC 6154 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    const NAMES: [(&str, SpecialUse); 7] = [
        ("\\All", SpecialUse::All),
        ("\\Archive", SpecialUse::Archive),
        ("\\Drafts", SpecialUse::Drafts),
        ("\\Flagged", SpecialUse::Flagged),
        ("\\Junk", SpecialUse::Junk),
        ("\\Sent", SpecialUse::Sent),
        ("\\Trash", SpecialUse::Trash),
    ];

    /// The mailbox attribute, with its backslash.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// The use of an attribute such as `\Sent`, in any case.
    #[must_use]
    pub fn from_attribute(text: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, special)| *special)
    }
}

/// One thing STATUS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    Messages,
    /// RFC 3501 6.3.10.
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    /// RFC 7162 3.1.7.
    HighestModSeq,
    /// RFC 8474 4.3.
    MailboxId,
    /// RFC 9208 4.1.4.
    DeletedStorage,
}

/// A set of [`StatusItem`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusItems(u16);

impl StatusItems {
    const NAMES: [(&str, StatusItem); 10] = [
        ("MESSAGES", StatusItem::Messages),
        ("RECENT", StatusItem::Recent),
        ("UIDNEXT", StatusItem::UidNext),
        ("UIDVALIDITY", StatusItem::UidValidity),
        ("UNSEEN", StatusItem::Unseen),
        ("DELETED", StatusItem::Deleted),
        ("SIZE", StatusItem::Size),
        ("HIGHESTMODSEQ", StatusItem::HighestModSeq),
        ("MAILBOXID", StatusItem::MailboxId),
        ("DELETED-STORAGE", StatusItem::DeletedStorage),
    ];

    #[must_use]
    pub fn contains(self, item: StatusItem) -> bool {
        self.0 & (1 << item as u16) != 0
    }

    /// The items with their names, to write the response in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = (&'static str, StatusItem)> {
        Self::NAMES
            .into_iter()
            .filter(move |(_, item)| self.contains(*item))
    }
}

/// A space, then a name. Deviates from RFC 9051 9, mailbox: `%` and `*` may stand in it without
/// quotes, as a client may send a name that it took from a quoted one (imaplib2, so offlineimap).
pub(super) fn mailbox<'a>(c: &mut Cursor<'a>) -> Result<MailboxArg<'a>, Fault> {
    c.space()?;
    c.list_mailbox().map(MailboxArg)
}

pub(super) fn select<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    read_select(c).map(Body::Select)
}

pub(super) fn examine<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    read_select(c).map(Body::Examine)
}

fn read_select<'a>(c: &mut Cursor<'a>) -> Result<Select<'a>, Fault> {
    let mailbox = mailbox(c)?;
    let mut condstore = false;
    // select-params (RFC 4466 2.1).
    if c.rest().starts_with(b" (") {
        c.space()?;
        c.list(|c| match c.atom()? {
            word if word.eq_ignore_ascii_case("CONDSTORE") => {
                condstore = true;
                Ok(())
            }
            _ => Err(Fault::BadSelectOption),
        })?;
    }
    Ok(Select { mailbox, condstore })
}

pub(super) fn create<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let mailbox = mailbox(c)?;
    let mut uses = Vec::new();
    if c.eat_word(b" (") {
        // create-param (RFC 4466 2.2): USE (\Sent ...) (RFC 6154 3).
        if !c.eat_word(b"USE ") {
            return Err(Fault::BadCreateOption);
        }
        c.list(|c| {
            uses.push(special_use(c)?);
            Ok(())
        })?;
        c.close()?;
        uses.sort_unstable();
        uses.dedup();
    }
    Ok(Body::Create(Create { mailbox, uses }))
}

fn special_use(c: &mut Cursor<'_>) -> Result<SpecialUse, Fault> {
    let start = c.at();
    c.eat(b'\\');
    let word = c.atom().map(|_| c.since(start));
    word.ok()
        .and_then(|word| std::str::from_utf8(word).ok())
        .and_then(SpecialUse::from_attribute)
        .ok_or(Fault::BadCreateOption)
}

pub(super) fn delete<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    mailbox(c).map(Body::Delete)
}

pub(super) fn rename<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let from = mailbox(c)?;
    let to = mailbox(c)?;
    Ok(Body::Rename { from, to })
}

pub(super) fn subscribe<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    mailbox(c).map(Body::Subscribe)
}

pub(super) fn unsubscribe<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    mailbox(c).map(Body::Unsubscribe)
}

pub(super) fn status<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let mailbox = mailbox(c)?;
    c.space()?;
    let items = status_items(c)?;
    Ok(Body::Status { mailbox, items })
}

/// `"(" status-att *(SP status-att) ")"`, here and in LIST RETURN (STATUS (...)) (RFC 5819 2).
pub(super) fn status_items(c: &mut Cursor<'_>) -> Result<StatusItems, Fault> {
    let mut items = StatusItems::default();
    let count = c.list(|c| {
        let word = c.atom()?;
        let known = StatusItems::NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let (_, item) = known.ok_or(Fault::BadStatusItem)?;
        items.0 |= 1 << *item as u16;
        Ok(())
    })?;
    match count {
        0 => Err(Fault::BadStatusItem),
        _ => Ok(items),
    }
}
