//! LOGIN, AUTHENTICATE, ENABLE, ID: who the client is and what it can do.

use std::borrow::Cow;
use std::fmt;

use super::{Body, argument};
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::fault::Fault;
use crate::wire::sasl::Secret;

/// LOGIN (RFC 9051 6.2.3).
#[derive(Debug, PartialEq, Eq)]
pub struct Login<'a> {
    pub user: Cow<'a, str>,
    pub password: Secret,
}

/// AUTHENTICATE (RFC 9051 6.2.2), to be handed to `wire::sasl`.
#[derive(PartialEq, Eq)]
pub struct Authenticate<'a> {
    pub mechanism: &'a str,
    /// In base64, `=` for empty (RFC 4959 3). It holds a password, so it is not printed.
    pub initial: Option<&'a [u8]>,
}

impl fmt::Debug for Authenticate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate")
            .field("mechanism", &self.mechanism)
            .field("initial", &self.initial.map(|_| "(hidden)"))
            .finish()
    }
}

/// What ENABLE asks for among what is known here; unknown words are passed over
/// (RFC 9051 6.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub imap4rev2: bool,
    /// RFC 6855 3.
    pub utf8_accept: bool,
    /// RFC 7162 3.1.
    pub condstore: bool,
    /// RFC 7162 3.2.
    pub qresync: bool,
}

/// The fields of ID (RFC 2971 3.1), checked, none for `NIL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdFields<'a>(&'a [u8]);

/// RFC 2971 3.3: at most 30 pairs, names to 30 octets, values to 1024.
const ID_FIELDS_MAX: usize = 30;
const ID_NAME_BYTES_MAX: usize = 30;
const ID_VALUE_BYTES_MAX: usize = 1024;

/// A name and its value, if it has one.
type IdField<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

impl<'a> IdFields<'a> {
    pub fn iter(self) -> impl Iterator<Item = IdField<'a>> {
        let mut c = Cursor::new(self.0);
        std::iter::from_fn(move || {
            c.eat(b' ');
            id_field(&mut c).ok()
        })
    }
}

pub(super) fn login<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let user = c.text()?;
    let password = Secret::new(argument(c)?.into_owned());
    Ok(Body::Login(Login { user, password }))
}

pub(super) fn authenticate<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    let mechanism = c.atom()?;
    let mut initial = None;
    if c.eat(b' ') && c.peek().is_some() {
        // Whether it is base64 is for `wire::sasl` to say; here it is one word.
        let start = c.at();
        while let Some(b) = c.peek().filter(|b| b.is_ascii_graphic()) {
            c.eat(b);
        }
        initial = Some(c.since(start));
    }
    Ok(Body::Authenticate(Authenticate { mechanism, initial }))
}

pub(super) fn enable<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    let mut asked = Capabilities::default();
    c.space()?;
    loop {
        match c.atom()? {
            word if word.eq_ignore_ascii_case("IMAP4rev2") => asked.imap4rev2 = true,
            word if word.eq_ignore_ascii_case("UTF8=ACCEPT") => asked.utf8_accept = true,
            word if word.eq_ignore_ascii_case("CONDSTORE") => asked.condstore = true,
            word if word.eq_ignore_ascii_case("QRESYNC") => asked.qresync = true,
            _ => {}
        }
        if !c.eat(b' ') || c.peek().is_none() {
            return Ok(Body::Enable(asked));
        }
    }
}

pub(super) fn id<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    c.space()?;
    if c.eat_word(b"NIL") {
        return Ok(Body::Id(IdFields(b"")));
    }
    let start = c.at();
    let count = c.list(|c| {
        let (name, value) = id_field(c)?;
        let value_bytes = value.map_or(0, |value| value.len());
        match name.len() > ID_NAME_BYTES_MAX || value_bytes > ID_VALUE_BYTES_MAX {
            true => Err(Fault::TooManyIdFields),
            false => Ok(()),
        }
    })?;
    let list = c.since(start);
    match count > ID_FIELDS_MAX {
        true => Err(Fault::TooManyIdFields),
        false => Ok(Body::Id(IdFields(&list[1..list.len() - 1]))),
    }
}

fn id_field<'a>(c: &mut Cursor<'a>) -> Result<IdField<'a>, Fault> {
    let name = c.string()?;
    c.space()?;
    Ok((name, c.nstring()?))
}
