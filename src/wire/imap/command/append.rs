//! APPEND (RFC 9051 6.3.12), read in pieces, since its messages are streamed and not kept.
//!
//! ```text
//! a APPEND box (\Seen) {310}      framer: Literal; literal_purpose: Message; parse: Append
//! ...310 octets...                streamed
//!  (\Draft) {99}                  framer: Literal; append_rest: Another (RFC 3502)
//! ...99 octets...
//!                                 framer: Command; append_rest: End
//! ```

use super::Body;
use super::mailbox::{MailboxArg, mailbox};
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::date::{DateTime, date_time};
use crate::wire::imap::fault::Fault;
use crate::wire::imap::flag::{Flags, flag_list};
use crate::wire::imap::frame::{announced, without_line_end};

/// APPEND up to the announcement of its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    pub mailbox: MailboxArg<'a>,
    pub first: AppendPart<'a>,
}

/// What is said of one message before its octets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendPart<'a> {
    pub flags: Flags<'a>,
    pub date: Option<DateTime>,
    /// `UTF8 (~{n}`: a `)` stands behind the octets (RFC 6855 4).
    pub utf8: bool,
    pub bytes: u64,
}

/// What stands behind a message's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendRest<'a> {
    End,
    /// Another message for the same mailbox (RFC 3502 6.3.11).
    Another(AppendPart<'a>),
}

/// What a literal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralPurpose {
    /// An argument: to be kept in memory with the command.
    Argument,
    /// The message of an APPEND: to be streamed.
    Message,
}

/// What the literal at the end of `prefix` (see [`super::super::Literal`]) is for. A prefix that
/// makes no sense behind the mailbox name is a `Message` too: [`super::parse`] then says why.
#[must_use]
pub fn literal_purpose(prefix: &[u8]) -> LiteralPurpose {
    let mut c = Cursor::new(without_line_end(prefix));
    let append = c.tag().is_ok() && c.eat_word(b" APPEND") && mailbox(&mut c).is_ok();
    match append && c.peek().is_some() {
        true => LiteralPurpose::Message,
        false => LiteralPurpose::Argument,
    }
}

/// Reads what the framer found behind the octets of a message: `utf8` as that message had it.
pub fn append_rest(bytes: &[u8], utf8: bool) -> Result<AppendRest<'_>, Fault> {
    let mut c = Cursor::new(without_line_end(bytes));
    if utf8 {
        c.close()?;
    }
    match c.rest().iter().all(|b| *b == b' ') {
        true => Ok(AppendRest::End),
        false => part(&mut c).map(AppendRest::Another),
    }
}

pub(super) fn append<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let mailbox = mailbox(c)?;
    let first = part(c)?;
    Ok(Body::Append(Append { mailbox, first }))
}

/// `[SP flag-list] [SP date-time] SP literal`, up to the end of the announcement.
fn part<'a>(c: &mut Cursor<'a>) -> Result<AppendPart<'a>, Fault> {
    c.space()?;
    let mut flags = Flags::NONE;
    if c.peek() == Some(b'(') {
        flags = flag_list(c)?;
        c.space()?;
    }
    let mut date = None;
    if c.peek() == Some(b'"') {
        date = Some(date_time(c)?);
        c.space()?;
    }
    let utf8 = c.eat_word(b"UTF8 (");
    let literal = announced(c.rest()).ok_or(Fault::NoMessageLiteral)?;
    let binary = c.eat(b'~');
    // RFC 6855 4: inside UTF8 (...) stands a literal8. Outside, one is a BINARY APPEND
    // (RFC 3516 4.4).
    if !c.eat(b'{') || (utf8 && !binary) {
        return Err(Fault::NoMessageLiteral);
    }
    c.number64()?;
    c.eat(b'+');
    c.eat(b'}');
    match c.rest() {
        b"" => Ok(AppendPart {
            flags,
            date,
            utf8,
            bytes: literal.bytes,
        }),
        _ => Err(Fault::NoMessageLiteral),
    }
}
