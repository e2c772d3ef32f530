//! Flags (RFC 9051 2.3.2) and parenthesised lists of them.

use super::cursor::Cursor;
use super::fault::Fault;

/// A flag. System flags are known in any case; a keyword keeps its spelling, and comparing
/// keywords without case (RFC 9051 2.3.2) is for whoever stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag<'a> {
    Seen,
    Answered,
    Flagged,
    Deleted,
    Draft,
    /// Only the server sets it (RFC 3501 2.3.2). It is read, because clients copy it back from
    /// what they fetched, and then left out of account.
    Recent,
    /// A word without `\`, such as `$Forwarded`.
    Keyword(&'a str),
    /// `\` and a word that no RFC known here gives a meaning. The word is without the `\`.
    Extension(&'a str),
}

const SYSTEM: [(&str, Flag<'static>); 6] = [
    ("Seen", Flag::Seen),
    ("Answered", Flag::Answered),
    ("Flagged", Flag::Flagged),
    ("Deleted", Flag::Deleted),
    ("Draft", Flag::Draft),
    ("Recent", Flag::Recent),
];

impl<'a> Flag<'a> {
    /// The flag of a text such as `\Seen` or `$Junk`.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        let mut c = Cursor::new(text.as_bytes());
        let flag = flag(&mut c)?;
        match c.rest() {
            b"" => Ok(flag),
            _ => Err(Fault::BadFlag),
        }
    }

    /// Appends the flag as the wire has it.
    pub fn write(self, out: &mut Vec<u8>) {
        let word = match self {
            Flag::Keyword(word) => return out.extend_from_slice(word.as_bytes()),
            Flag::Extension(word) => word,
            system => SYSTEM
                .iter()
                .find(|(_, flag)| *flag == system)
                .map_or("", |(name, _)| name),
        };
        out.push(b'\\');
        out.extend_from_slice(word.as_bytes());
    }
}

/// Longer keywords are none of ours.
pub const KEYWORD_BYTES_MAX: usize = 255;

/// Whether a word may be a keyword: an atom (RFC 9051 9, flag-keyword), which goes into replies as
/// it is.
#[must_use]
pub fn is_keyword(word: &str) -> bool {
    word.len() <= KEYWORD_BYTES_MAX && matches!(Flag::parse(word), Ok(Flag::Keyword(_)))
}

/// A checked list of flags in the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags<'a>(&'a [u8]);

impl<'a> Flags<'a> {
    /// No flags at all.
    pub const NONE: Flags<'static> = Flags(b"");

    /// The flags in the client's order; one may come twice.
    pub fn iter(self) -> impl Iterator<Item = Flag<'a>> {
        let mut c = Cursor::new(self.0);
        std::iter::from_fn(move || {
            c.eat(b' ');
            flag(&mut c).ok()
        })
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// `flag-list`: in parentheses, may be empty.
pub(super) fn flag_list<'a>(c: &mut Cursor<'a>) -> Result<Flags<'a>, Fault> {
    let start = c.at();
    c.list(|c| flag(c).map(drop))?;
    let list = c.since(start);
    Ok(Flags(&list[1..list.len() - 1]))
}

/// `flag-list / (flag *(SP flag))`, as STORE has it (RFC 9051 6.4.6).
pub(super) fn flags_with_or_without_parens<'a>(c: &mut Cursor<'a>) -> Result<Flags<'a>, Fault> {
    if c.peek() == Some(b'(') {
        return flag_list(c);
    }
    let start = c.at();
    flag(c)?;
    loop {
        let end = c.since(start);
        // A space with nothing behind it is the end of the command.
        if !c.eat(b' ') || c.peek().is_none_or(|b| b == b' ') {
            return Ok(Flags(end));
        }
        flag(c)?;
    }
}

fn flag<'a>(c: &mut Cursor<'a>) -> Result<Flag<'a>, Fault> {
    let system = c.eat(b'\\');
    let word = c.atom().map_err(|_| Fault::BadFlag)?;
    if !system {
        return Ok(Flag::Keyword(word));
    }
    let known = SYSTEM
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word));
    Ok(known.map_or(Flag::Extension(word), |(_, flag)| *flag))
}
