//! The keys of SEARCH (RFC 9051 6.4.4): checked without heap when the command is read, made a
//! tree when the search runs.
//!
//! One reader does both. It hands each key to a [`Build`], which either counts for nothing
//! ([`Check`]) or makes the tree ([`Tree`]); so what was checked is what is built.

use std::borrow::Cow;

use crate::base::ModSeq;
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::date::{Day, date};
use crate::wire::imap::fault::Fault;
use crate::wire::imap::flag::Flag;
use crate::wire::imap::sequence_set::{SequenceSet, begins_sequence_set, sequence_set};

/// Deepest nesting of NOT, OR and parentheses. Some clients chain an OR per message that they
/// ask for.
pub const SEARCH_DEPTH_MAX: usize = 200;

/// The checked keys of a SEARCH, all of which must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchKeys<'a>(&'a [u8]);

/// A condition on a message. Texts are matched without case, as substrings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey<'a> {
    All,
    /// All of these, two at least.
    And(Vec<SearchKey<'a>>),
    Or(Box<[SearchKey<'a>; 2]>),
    Not(Box<SearchKey<'a>>),
    /// Message sequence numbers.
    Sequence(SequenceSet<'a>),
    Uid(SequenceSet<'a>),
    /// ANSWERED, DELETED, KEYWORD... The UN- forms are a `Not` around it. NEW is `And` of
    /// `Recent` and not `Seen`, OLD is not `Recent` (RFC 3501 6.4.4).
    Flag(Flag<'a>),
    /// The internal date, before, on, or on and after a day.
    Before(Day),
    On(Day),
    Since(Day),
    /// The Date header field.
    SentBefore(Day),
    SentOn(Day),
    SentSince(Day),
    /// RFC 8514 4.
    SavedBefore(Day),
    SavedOn(Day),
    SavedSince(Day),
    SaveDateSupported,
    /// Internal date within so many seconds of now, or not (RFC 5032 2).
    Younger(u32),
    Older(u32),
    Larger(u64),
    Smaller(u64),
    /// A header field; an empty text matches where the field is there at all. BCC, CC, FROM,
    /// SUBJECT and TO read as this too (they name the envelope's fields, which are these).
    Header {
        field: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    Body(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// RFC 7162 3.1.5; the entry name, if given, is passed over, as modseqs are per message here.
    ModSeq(ModSeq),
    /// RFC 8474 6.
    EmailId(&'a str),
    ThreadId(&'a str),
}

impl<'a> SearchKeys<'a> {
    /// The keys as one tree, to be built once a search and not once a message. Keys that were
    /// checked always make one; if a bug prevents it, the tree matches nothing.
    #[must_use]
    pub fn tree(self) -> SearchKey<'a> {
        let mut c = Cursor::new(self.0);
        let list = list::<Tree>(&mut c, 0);
        list.map_or(SearchKey::Not(Box::new(SearchKey::All)), Tree::and)
    }

    /// The text of the keys as it stood in the command.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

pub(super) fn search_keys<'a>(c: &mut Cursor<'a>) -> Result<SearchKeys<'a>, Fault> {
    let start = c.at();
    list::<Check>(c, 0)?;
    Ok(SearchKeys(c.since(start)))
}

/// What becomes of the keys that are read.
trait Build<'a> {
    type Key;
    type List: Default;
    fn leaf(key: SearchKey<'a>) -> Self::Key;
    fn not(key: Self::Key) -> Self::Key;
    fn or(a: Self::Key, b: Self::Key) -> Self::Key;
    fn push(list: &mut Self::List, key: Self::Key);
    fn and(list: Self::List) -> Self::Key;
}

/// Keeps nothing.
struct Check;

impl<'a> Build<'a> for Check {
    type Key = ();
    type List = ();
    fn leaf(_: SearchKey<'a>) {}
    fn not((): ()) {}
    fn or((): (), (): ()) {}
    fn push((): &mut (), (): ()) {}
    fn and((): ()) {}
}

/// Makes the tree.
struct Tree;

impl<'a> Build<'a> for Tree {
    type Key = SearchKey<'a>;
    type List = Vec<SearchKey<'a>>;

    fn leaf(key: SearchKey<'a>) -> SearchKey<'a> {
        key
    }

    fn not(key: SearchKey<'a>) -> SearchKey<'a> {
        match key {
            SearchKey::Not(inner) => *inner,
            key => SearchKey::Not(Box::new(key)),
        }
    }

    fn or(a: SearchKey<'a>, b: SearchKey<'a>) -> SearchKey<'a> {
        SearchKey::Or(Box::new([a, b]))
    }

    fn push(list: &mut Vec<SearchKey<'a>>, key: SearchKey<'a>) {
        list.push(key);
    }

    fn and(mut list: Vec<SearchKey<'a>>) -> SearchKey<'a> {
        match list.len() {
            1 => list.remove(0),
            _ => SearchKey::And(list),
        }
    }
}

/// `search-key *(SP search-key)`, up to the end or a closing parenthesis.
fn list<'a, B: Build<'a>>(c: &mut Cursor<'a>, depth: usize) -> Result<B::List, Fault> {
    let mut list = B::List::default();
    loop {
        let key = key::<B>(c, depth)?;
        B::push(&mut list, key);
        // A space with nothing behind it is the end of the command.
        let mut ahead = *c;
        if !ahead.eat(b' ') || ahead.peek().is_none_or(|b| b == b' ') {
            return Ok(list);
        }
        *c = ahead;
    }
}

fn key<'a, B: Build<'a>>(c: &mut Cursor<'a>, depth: usize) -> Result<B::Key, Fault> {
    if depth >= SEARCH_DEPTH_MAX {
        return Err(Fault::SearchTooDeep);
    }
    if c.eat(b'(') {
        let list = list::<B>(c, depth + 1)?;
        c.close()?;
        return Ok(B::and(list));
    }
    if begins_sequence_set(c) {
        return sequence_set(c).map(SearchKey::Sequence).map(B::leaf);
    }
    let word = c.atom().map_err(|fault| match fault {
        Fault::MissingArgument => fault,
        _ => Fault::BadSearchKey,
    })?;
    if word.eq_ignore_ascii_case("NOT") {
        c.space()?;
        return key::<B>(c, depth + 1).map(B::not);
    }
    if word.eq_ignore_ascii_case("OR") {
        c.space()?;
        let a = key::<B>(c, depth + 1)?;
        c.space()?;
        let b = key::<B>(c, depth + 1)?;
        return Ok(B::or(a, b));
    }
    if word.eq_ignore_ascii_case("NEW") {
        let mut both = B::List::default();
        B::push(&mut both, B::leaf(SearchKey::Flag(Flag::Recent)));
        B::push(&mut both, B::not(B::leaf(SearchKey::Flag(Flag::Seen))));
        return Ok(B::and(both));
    }
    if let Some((_, flag, set)) = FLAGS.iter().find(|f| f.0.eq_ignore_ascii_case(word)) {
        let leaf = B::leaf(SearchKey::Flag(*flag));
        return Ok(if *set { leaf } else { B::not(leaf) });
    }
    let unkeyword = word.eq_ignore_ascii_case("UNKEYWORD");
    if unkeyword || word.eq_ignore_ascii_case("KEYWORD") {
        let leaf = B::leaf(SearchKey::Flag(Flag::Keyword(atom(c)?)));
        return Ok(if unkeyword { B::not(leaf) } else { leaf });
    }
    let (_, read) = LEAVES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .ok_or(Fault::BadSearchKey)?;
    read(c).map(B::leaf)
}

/// Keys on a system flag, and whether it must be set.
const FLAGS: &[(&str, Flag<'static>, bool)] = &[
    ("ANSWERED", Flag::Answered, true),
    ("DELETED", Flag::Deleted, true),
    ("DRAFT", Flag::Draft, true),
    ("FLAGGED", Flag::Flagged, true),
    ("RECENT", Flag::Recent, true),
    ("SEEN", Flag::Seen, true),
    ("OLD", Flag::Recent, false),
    ("UNANSWERED", Flag::Answered, false),
    ("UNDELETED", Flag::Deleted, false),
    ("UNDRAFT", Flag::Draft, false),
    ("UNFLAGGED", Flag::Flagged, false),
    ("UNSEEN", Flag::Seen, false),
];

/// Reads the arguments of a key, from the space behind its name.
type ReadLeaf = for<'a> fn(&mut Cursor<'a>) -> Result<SearchKey<'a>, Fault>;

const LEAVES: &[(&str, ReadLeaf)] = &[
    ("ALL", |_| Ok(SearchKey::All)),
    ("UID", |c| {
        c.space()?;
        sequence_set(c).map(SearchKey::Uid)
    }),
    ("HEADER", |c| {
        let field = text(c)?;
        let text = text(c)?;
        Ok(SearchKey::Header { field, text })
    }),
    ("BCC", |c| field(c, "Bcc")),
    ("CC", |c| field(c, "Cc")),
    ("FROM", |c| field(c, "From")),
    ("SUBJECT", |c| field(c, "Subject")),
    ("TO", |c| field(c, "To")),
    ("BODY", |c| text(c).map(SearchKey::Body)),
    ("TEXT", |c| text(c).map(SearchKey::Text)),
    ("BEFORE", |c| day(c).map(SearchKey::Before)),
    ("ON", |c| day(c).map(SearchKey::On)),
    ("SINCE", |c| day(c).map(SearchKey::Since)),
    ("SENTBEFORE", |c| day(c).map(SearchKey::SentBefore)),
    ("SENTON", |c| day(c).map(SearchKey::SentOn)),
    ("SENTSINCE", |c| day(c).map(SearchKey::SentSince)),
    ("SAVEDBEFORE", |c| day(c).map(SearchKey::SavedBefore)),
    ("SAVEDON", |c| day(c).map(SearchKey::SavedOn)),
    ("SAVEDSINCE", |c| day(c).map(SearchKey::SavedSince)),
    ("SAVEDATESUPPORTED", |_| Ok(SearchKey::SaveDateSupported)),
    ("YOUNGER", |c| interval(c).map(SearchKey::Younger)),
    ("OLDER", |c| interval(c).map(SearchKey::Older)),
    ("LARGER", |c| number(c).map(SearchKey::Larger)),
    ("SMALLER", |c| number(c).map(SearchKey::Smaller)),
    ("MODSEQ", mod_seq),
    ("EMAILID", |c| atom(c).map(SearchKey::EmailId)),
    ("THREADID", |c| atom(c).map(SearchKey::ThreadId)),
];

fn field<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<SearchKey<'a>, Fault> {
    Ok(SearchKey::Header {
        field: Cow::Borrowed(field),
        text: text(c)?,
    })
}

fn text<'a>(c: &mut Cursor<'a>) -> Result<Cow<'a, str>, Fault> {
    c.space()?;
    c.text()
}

fn atom<'a>(c: &mut Cursor<'a>) -> Result<&'a str, Fault> {
    c.space()?;
    c.atom()
}

fn day(c: &mut Cursor<'_>) -> Result<Day, Fault> {
    c.space()?;
    date(c)
}

fn number(c: &mut Cursor<'_>) -> Result<u64, Fault> {
    c.space()?;
    c.number64()
}

fn interval(c: &mut Cursor<'_>) -> Result<u32, Fault> {
    c.space()?;
    c.nz_number()
}

/// `"MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer` (RFC 7162 7).
fn mod_seq<'a>(c: &mut Cursor<'a>) -> Result<SearchKey<'a>, Fault> {
    c.space()?;
    if c.peek() == Some(b'"') {
        c.quoted()?;
        atom(c)?;
        c.space()?;
    }
    c.number64().map(|n| SearchKey::ModSeq(ModSeq(n)))
}
