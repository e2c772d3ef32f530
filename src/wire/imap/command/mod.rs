//! A command as a value: borrowed from the bytes the framer delimited, without heap for the
//! commands that come often (FETCH, STORE, SEARCH, COPY).
//!
//! Lists are checked once, here, and kept as pieces of the command with an iterator that reads
//! them again. [`COMMANDS`] says which file reads what.

mod access;
mod append;
mod fetch;
mod list;
mod mailbox;
mod message;
mod quota;
mod search;
mod search_key;

use std::borrow::Cow;

use super::cursor::Cursor;
use super::fault::Fault;
use super::frame::without_line_end;
use super::sequence_set::SequenceSet;

pub use access::{Authenticate, Capabilities, IdFields, Login};
pub use append::{Append, AppendPart, AppendRest, LiteralPurpose, append_rest, literal_purpose};
pub use fetch::{
    Fetch, FetchItem, FetchItems, HeaderNames, PartPath, Partial, Section, SectionText,
};
pub use list::{List, ListReturn, ListSelection, Patterns};
pub use mailbox::{Create, MailboxArg, Select, SpecialUse, StatusItem, StatusItems};
pub use message::{Store, StoreMode};
pub use quota::QuotaRoot;
pub use search::{Search, SearchReturn};
pub use search_key::{SEARCH_DEPTH_MAX, SearchKey, SearchKeys};

/// A command with its tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Command<'a> {
    pub tag: &'a str,
    pub body: Body<'a>,
}

/// What the client asks for. In a `uid: true` command the numbers are UIDs (RFC 9051 6.4.9).
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    // Any state, RFC 9051 6.1.
    Capability,
    Noop,
    Logout,
    /// RFC 2971.
    Id(IdFields<'a>),
    // Not authenticated, RFC 9051 6.2.
    StartTls,
    Authenticate(Authenticate<'a>),
    Login(Login<'a>),
    // Authenticated, RFC 9051 6.3.
    Enable(Capabilities),
    Select(Select<'a>),
    Examine(Select<'a>),
    Create(Create<'a>),
    Delete(MailboxArg<'a>),
    Rename {
        from: MailboxArg<'a>,
        to: MailboxArg<'a>,
    },
    Subscribe(MailboxArg<'a>),
    Unsubscribe(MailboxArg<'a>),
    List(List<'a>),
    /// RFC 3501 6.3.9.
    Lsub {
        reference: MailboxArg<'a>,
        pattern: MailboxArg<'a>,
    },
    Namespace,
    Status {
        mailbox: MailboxArg<'a>,
        items: StatusItems,
    },
    /// RFC 9208 4.1.2.
    GetQuota(QuotaRoot<'a>),
    /// RFC 9208 4.1.3.
    GetQuotaRoot(MailboxArg<'a>),
    /// Up to the announcement of its first message; see [`append_rest`] for what follows.
    Append(Append<'a>),
    Idle,
    // Selected, RFC 9051 6.4.
    /// RFC 3501 6.4.1.
    Check,
    Close,
    Unselect,
    /// With a set: UID EXPUNGE (RFC 9051 6.4.9).
    Expunge(Option<SequenceSet<'a>>),
    Search(Search<'a>),
    Fetch(Fetch<'a>),
    Store(Store<'a>),
    Copy {
        uid: bool,
        set: SequenceSet<'a>,
        mailbox: MailboxArg<'a>,
    },
    Move {
        uid: bool,
        set: SequenceSet<'a>,
        mailbox: MailboxArg<'a>,
    },
}

/// A command that was not understood, with its tag where it had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad<'a> {
    pub tag: Option<&'a str>,
    pub fault: Fault,
}

/// Reads what a [`super::Next::Command`] delimited, or the prefix of a [`super::Next::Literal`]
/// for which [`literal_purpose`] says that it announces a message.
pub fn parse(bytes: &[u8]) -> Result<Command<'_>, Bad<'_>> {
    let mut c = Cursor::new(without_line_end(bytes));
    let tag = c.tag().map_err(|fault| Bad { tag: None, fault })?;
    match body(&mut c) {
        Ok(body) => Ok(Command { tag, body }),
        Err(fault) => Err(Bad {
            tag: Some(tag),
            fault,
        }),
    }
}

/// The tag and the name of the command in `bytes`, for a log line or to answer a command that was
/// too long to read.
#[must_use]
pub fn tag_and_name(bytes: &[u8]) -> (Option<&str>, Option<&str>) {
    let mut c = Cursor::new(without_line_end(bytes));
    let tag = c.tag().ok().filter(|_| c.eat(b' '));
    (tag, tag.and_then(|_| c.atom().ok()))
}

/// The line that ends IDLE (RFC 9051 6.3.13). The framer delimits it like any command, as it does
/// the base64 lines of AUTHENTICATE.
#[must_use]
pub fn is_done(line: &[u8]) -> bool {
    without_line_end(line).eq_ignore_ascii_case(b"DONE")
}

/// Reads the arguments of a command, from the byte behind its name to its end.
type Read = for<'a> fn(&mut Cursor<'a>, bool) -> Result<Body<'a>, Fault>;

/// Whether `UID` may stand before the command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uid {
    Never,
    Allowed,
}

/// Names in upper case, the frequent ones first.
const COMMANDS: &[(&str, Uid, Read)] = &[
    ("FETCH", Uid::Allowed, fetch::fetch),
    ("STORE", Uid::Allowed, message::store),
    ("SEARCH", Uid::Allowed, search::search),
    ("COPY", Uid::Allowed, message::copy),
    ("MOVE", Uid::Allowed, message::r#move),
    ("EXPUNGE", Uid::Allowed, message::expunge),
    ("NOOP", Uid::Never, |_, _| Ok(Body::Noop)),
    ("IDLE", Uid::Never, |_, _| Ok(Body::Idle)),
    ("STATUS", Uid::Never, mailbox::status),
    ("SELECT", Uid::Never, mailbox::select),
    ("EXAMINE", Uid::Never, mailbox::examine),
    ("APPEND", Uid::Never, append::append),
    ("LIST", Uid::Never, list::list),
    ("LSUB", Uid::Never, list::lsub),
    ("CAPABILITY", Uid::Never, |_, _| Ok(Body::Capability)),
    ("LOGOUT", Uid::Never, |_, _| Ok(Body::Logout)),
    ("LOGIN", Uid::Never, access::login),
    ("AUTHENTICATE", Uid::Never, access::authenticate),
    ("STARTTLS", Uid::Never, |_, _| Ok(Body::StartTls)),
    ("ID", Uid::Never, access::id),
    ("ENABLE", Uid::Never, access::enable),
    ("NAMESPACE", Uid::Never, |_, _| Ok(Body::Namespace)),
    ("CREATE", Uid::Never, mailbox::create),
    ("DELETE", Uid::Never, mailbox::delete),
    ("RENAME", Uid::Never, mailbox::rename),
    ("SUBSCRIBE", Uid::Never, mailbox::subscribe),
    ("UNSUBSCRIBE", Uid::Never, mailbox::unsubscribe),
    ("GETQUOTAROOT", Uid::Never, quota::get_root),
    ("GETQUOTA", Uid::Never, quota::get),
    ("CHECK", Uid::Never, |_, _| Ok(Body::Check)),
    ("CLOSE", Uid::Never, |_, _| Ok(Body::Close)),
    ("UNSELECT", Uid::Never, |_, _| Ok(Body::Unselect)),
];

fn body<'a>(c: &mut Cursor<'a>) -> Result<Body<'a>, Fault> {
    let no_command = |_| Fault::NoCommand;
    c.space().map_err(no_command)?;
    let mut name = c.atom().map_err(no_command)?;
    let uid = name.eq_ignore_ascii_case("UID");
    if uid {
        c.space()?;
        name = c.atom()?;
    }
    let (_, _, read) = COMMANDS
        .iter()
        .find(|(known, allows, _)| {
            known.eq_ignore_ascii_case(name) && (!uid || *allows == Uid::Allowed)
        })
        .ok_or(Fault::UnknownCommand)?;
    let body = read(c, uid)?;
    c.end()?;
    Ok(body)
}

/// A space, then an astring.
fn argument<'a>(c: &mut Cursor<'a>) -> Result<Cow<'a, [u8]>, Fault> {
    c.space()?;
    c.astring()
}
