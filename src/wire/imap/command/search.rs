//! SEARCH (RFC 9051 6.4.4) around its keys: RETURN options and CHARSET.

use super::Body;
use super::search_key::{SearchKeys, search_keys};
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search<'a> {
    pub uid: bool,
    /// With RETURN the answer is ESEARCH; without, SEARCH, or under rev2 ESEARCH with ALL
    /// (RFC 9051 6.4.4).
    pub returns: Option<SearchReturn>,
    pub keys: SearchKeys<'a>,
}

/// What an extended SEARCH answers (RFC 4731 3.1). Never empty: `RETURN ()` is ALL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    /// Keep the result for `$` (RFC 5182 2.1).
    pub save: bool,
}

pub(super) fn search<'a>(c: &mut Cursor<'a>, uid: bool) -> Result<Body<'a>, Fault> {
    let mut returns = None;
    if c.eat_word(b" RETURN ") {
        returns = Some(return_options(c)?);
    }
    if c.eat_word(b" CHARSET ") {
        // US-ASCII is within UTF-8, and search texts are checked for being UTF-8.
        let charset = c.astring()?;
        let known = [&b"UTF-8"[..], b"US-ASCII"];
        if !known.iter().any(|name| name.eq_ignore_ascii_case(&charset)) {
            return Err(Fault::BadCharset);
        }
    }
    c.space()?;
    let keys = search_keys(c)?;
    Ok(Body::Search(Search { uid, returns, keys }))
}

fn return_options(c: &mut Cursor<'_>) -> Result<SearchReturn, Fault> {
    let mut returns = SearchReturn::default();
    let count = c.list(|c| {
        match c.atom().map_err(|_| Fault::BadSearchReturn)? {
            word if word.eq_ignore_ascii_case("MIN") => returns.min = true,
            word if word.eq_ignore_ascii_case("MAX") => returns.max = true,
            word if word.eq_ignore_ascii_case("ALL") => returns.all = true,
            word if word.eq_ignore_ascii_case("COUNT") => returns.count = true,
            word if word.eq_ignore_ascii_case("SAVE") => returns.save = true,
            _ => return Err(Fault::BadSearchReturn),
        }
        Ok(())
    })?;
    returns.all |= count == 0;
    Ok(returns)
}
