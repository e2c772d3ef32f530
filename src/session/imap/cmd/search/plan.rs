//! The keys of a SEARCH made ready to be asked of many messages. Pure.
//!
//! Asking costs as little as it can: a key answers from the row, or else from the digest, or else
//! asks for a slow look at the message ([`Slow`]), whose outcome is then among the facts.

use super::super::super::numbering::{NoSuchNumber, resolve};
use crate::base::{ModSeq, Uid, UnixMs};
use crate::store::{Flags, ScanRow};
use crate::wire::imap::{Day, Flag, SearchKey, SequenceSet};
use crate::wire::mime::{DigestView, Fields, Needle, decode_words, is_hot};

/// Sets of messages in one SEARCH.
const SETS_MAX: usize = 64;

/// A SEARCH.
#[derive(Debug)]
pub struct Plan {
    root: Node,
    /// What only the message itself can answer; [`Node::Slow`] is an index into it.
    pub slow: Vec<Slow>,
    /// Rows must come with their keywords.
    pub keywords: bool,
    /// The index row in full is needed (EMAILID).
    pub email_id: bool,
    /// MODSEQ was asked about: the answer tells one (RFC 7162 3.1.5).
    pub modseq: bool,
    /// Sets of messages so far.
    sets: usize,
}

#[derive(Debug)]
enum Node {
    All,
    And(Vec<Node>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    /// Ascending.
    Among(Vec<Uid>),
    Flag(Flags),
    Recent,
    Keyword(String),
    Day(Column, Order, Day),
    Sent(Order, Day),
    /// Internal date at or after this, or before.
    Since(UnixMs),
    Until(UnixMs),
    Larger(u64),
    Smaller(u64),
    ModSeq(ModSeq),
    EmailId(String),
    Header(Box<HeaderKey>),
    Slow(usize),
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Internal,
    Saved,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Before,
    On,
    Since,
}

impl Order {
    fn holds(self, day: i32, than: Day) -> bool {
        match self {
            Order::Before => day < than.0,
            Order::On => day == than.0,
            Order::Since => day >= than.0,
        }
    }
}

/// A header field and a text in it; without a text the field only has to be there.
#[derive(Debug)]
pub struct HeaderKey {
    field: Vec<u8>,
    needle: Option<Needle>,
}

impl HeaderKey {
    /// Looks through a header block.
    #[must_use]
    pub fn holds(&self, block: &[u8]) -> bool {
        Fields::new(block)
            .filter(|field| field.is(&self.field))
            .any(|field| {
                self.needle
                    .as_ref()
                    .is_none_or(|needle| needle.is_in(&decode_words(field.value)))
            })
    }
}

/// A look at the message itself.
#[derive(Debug)]
pub enum Slow {
    /// A field that the digest does not keep.
    Header(HeaderKey),
    Body(Needle),
    /// Header and body.
    Text(Needle),
}

/// What is known of a message so far.
pub struct Facts<'a> {
    pub row: &'a ScanRow,
    pub recent: bool,
    pub keywords: &'a [std::sync::Arc<str>],
    pub email_id: Option<&'a str>,
    pub digest: Option<&'a DigestView<'a>>,
    /// Outcomes of [`Plan::slow`].
    pub slow: &'a [Option<bool>],
}

/// What a message has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
    /// It takes the digest.
    Digest,
    /// It takes this slow look.
    Slow(usize),
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Verdict::Yes } else { Verdict::No }
    }
}

/// What keys refer to beyond the message.
pub struct Context<'a> {
    pub uids: &'a [Uid],
    pub saved: &'a [Uid],
    pub now: UnixMs,
}

impl Plan {
    pub fn new(key: SearchKey<'_>, context: &Context<'_>) -> Result<Self, NoSuchNumber> {
        let mut plan = Plan {
            root: Node::All,
            slow: Vec::new(),
            keywords: false,
            email_id: false,
            modseq: false,
            sets: 0,
        };
        plan.root = plan.node(key, context)?;
        Ok(plan)
    }

    fn node(&mut self, key: SearchKey<'_>, context: &Context<'_>) -> Result<Node, NoSuchNumber> {
        Ok(match key {
            SearchKey::All | SearchKey::SaveDateSupported => Node::All,
            SearchKey::And(keys) => {
                let nodes = keys.into_iter().map(|key| self.node(key, context));
                Node::And(nodes.collect::<Result<_, _>>()?)
            }
            SearchKey::Or(keys) => {
                let [a, b] = *keys;
                Node::Or(Box::new([self.node(a, context)?, self.node(b, context)?]))
            }
            SearchKey::Not(key) => Node::Not(Box::new(self.node(*key, context)?)),
            SearchKey::Sequence(set) => self.among(set, false, context)?,
            SearchKey::Uid(set) => self.among(set, true, context)?,
            SearchKey::Flag(flag) => self.flag(flag),
            SearchKey::Before(day) => Node::Day(Column::Internal, Order::Before, day),
            SearchKey::On(day) => Node::Day(Column::Internal, Order::On, day),
            SearchKey::Since(day) => Node::Day(Column::Internal, Order::Since, day),
            SearchKey::SavedBefore(day) => Node::Day(Column::Saved, Order::Before, day),
            SearchKey::SavedOn(day) => Node::Day(Column::Saved, Order::On, day),
            SearchKey::SavedSince(day) => Node::Day(Column::Saved, Order::Since, day),
            SearchKey::SentBefore(day) => Node::Sent(Order::Before, day),
            SearchKey::SentOn(day) => Node::Sent(Order::On, day),
            SearchKey::SentSince(day) => Node::Sent(Order::Since, day),
            SearchKey::Younger(seconds) => Node::Since(ago(context.now, seconds)),
            SearchKey::Older(seconds) => Node::Until(ago(context.now, seconds)),
            SearchKey::Larger(bytes) => Node::Larger(bytes),
            SearchKey::Smaller(bytes) => Node::Smaller(bytes),
            SearchKey::Header { field, text } => self.header(&field, &text),
            SearchKey::Body(text) if text.is_empty() => Node::All,
            SearchKey::Text(text) if text.is_empty() => Node::All,
            SearchKey::Body(text) => self.slow(Slow::Body(Needle::new(&text))),
            SearchKey::Text(text) => self.slow(Slow::Text(Needle::new(&text))),
            SearchKey::ModSeq(modseq) => {
                self.modseq = true;
                Node::ModSeq(modseq)
            }
            SearchKey::EmailId(id) => {
                self.email_id = true;
                Node::EmailId(id.to_owned())
            }
            // No threads are kept (RFC 8474 5.2), so none has this name.
            SearchKey::ThreadId(_) => Node::Not(Box::new(Node::All)),
        })
    }

    /// A set is held as its UIDs: a line full of `1:*` must not take a mailbox each.
    fn among(
        &mut self,
        set: SequenceSet<'_>,
        by_uid: bool,
        context: &Context<'_>,
    ) -> Result<Node, NoSuchNumber> {
        self.sets += 1;
        if self.sets > SETS_MAX {
            return Err(NoSuchNumber);
        }
        let found = resolve(set, by_uid, context.uids, context.saved)?;
        Ok(Node::Among(found))
    }

    fn flag(&mut self, flag: Flag<'_>) -> Node {
        Node::Flag(match flag {
            Flag::Seen => Flags::SEEN,
            Flag::Answered => Flags::ANSWERED,
            Flag::Flagged => Flags::FLAGGED,
            Flag::Deleted => Flags::DELETED,
            Flag::Draft => Flags::DRAFT,
            Flag::Recent => return Node::Recent,
            Flag::Keyword(word) => {
                self.keywords = true;
                return Node::Keyword(word.to_owned());
            }
            Flag::Extension(_) => return Node::Not(Box::new(Node::All)),
        })
    }

    fn header(&mut self, field: &str, text: &str) -> Node {
        let needle = (!text.is_empty()).then(|| Needle::new(text));
        let key = HeaderKey {
            field: field.as_bytes().to_vec(),
            needle,
        };
        // Delivered-To may stand in the lines of this copy alone, which no digest knows.
        match is_hot(field.as_bytes()) && !field.eq_ignore_ascii_case("Delivered-To") {
            true => Node::Header(Box::new(key)),
            false => self.slow(Slow::Header(key)),
        }
    }

    fn slow(&mut self, slow: Slow) -> Node {
        self.slow.push(slow);
        Node::Slow(self.slow.len() - 1)
    }

    /// Asks the message, as far as the facts go.
    #[must_use]
    pub fn ask(&self, facts: &Facts<'_>) -> Verdict {
        ask(&self.root, facts)
    }
}

fn ago(now: UnixMs, seconds: u32) -> UnixMs {
    UnixMs(now.0 - i64::from(seconds) * 1000)
}

fn ask(node: &Node, facts: &Facts<'_>) -> Verdict {
    let row = facts.row;
    match node {
        Node::All => Verdict::Yes,
        Node::And(nodes) => all(nodes, facts, Verdict::No),
        Node::Or(nodes) => all(nodes.as_slice(), facts, Verdict::Yes),
        Node::Not(node) => match ask(node, facts) {
            Verdict::Yes => Verdict::No,
            Verdict::No => Verdict::Yes,
            open => open,
        },
        Node::Among(uids) => uids.binary_search(&row.uid).is_ok().into(),
        Node::Flag(flag) => row.flags.contains(*flag).into(),
        Node::Recent => facts.recent.into(),
        Node::Keyword(word) => facts
            .keywords
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word))
            .into(),
        Node::Day(column, order, day) => {
            let at = match column {
                Column::Internal => row.internal_date,
                Column::Saved => row.saved,
            };
            order.holds(Day::of(at, 0).0, *day).into()
        }
        Node::Since(at) => (row.internal_date >= *at).into(),
        Node::Until(at) => (row.internal_date < *at).into(),
        Node::Larger(bytes) => (row.size > *bytes).into(),
        Node::Smaller(bytes) => (row.size < *bytes).into(),
        Node::ModSeq(modseq) => (row.modseq >= *modseq).into(),
        Node::EmailId(id) => (facts.email_id == Some(id)).into(),
        Node::Sent(order, day) => facts.digest.map_or(Verdict::Digest, |digest| {
            digest
                .sent_day()
                .is_some_and(|sent| order.holds(sent, *day))
                .into()
        }),
        Node::Header(key) => facts.digest.map_or(Verdict::Digest, |digest| {
            key.holds(digest.hot_headers()).into()
        }),
        Node::Slow(n) => match facts.slow.get(*n) {
            Some(Some(holds)) => (*holds).into(),
            _ => Verdict::Slow(*n),
        },
    }
}

/// AND where `decisive` is No, OR where it is Yes: one such settles it, however dear the others.
fn all(nodes: &[Node], facts: &Facts<'_>, decisive: Verdict) -> Verdict {
    let mut open: Option<Verdict> = None;
    for node in nodes {
        let verdict = ask(node, facts);
        if verdict == decisive {
            return decisive;
        }
        // The digest is cheaper than any slow look.
        match (verdict, open) {
            (Verdict::Digest, _) => open = Some(verdict),
            (Verdict::Slow(_), None) => open = Some(verdict),
            _ => {}
        }
    }
    open.unwrap_or((decisive == Verdict::No).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::{Body, parse};
    use crate::wire::mime::{Limits, Walker};

    const MESSAGE: &str = "From: =?utf-8?q?Ana_Mar=C3=ADa?= <ana@example.org>\r\n\
        Subject: Caf\u{e9} ma\u{f1}ana\r\nDate: Wed, 01 Jul 2026 23:30:00 -0500\r\n\r\nbody\r\n";

    #[track_caller]
    fn check(keys: &str, want: Verdict) {
        let text = format!("a SEARCH {keys}\r\n");
        let Ok(Body::Search(search)) = parse(text.as_bytes()).map(|c| c.body) else {
            panic!("{keys}");
        };
        let uids = [5, 7, 9].map(Uid);
        let context = Context {
            uids: &uids,
            saved: &[Uid(7)],
            now: UnixMs(1_783_000_000_000),
        };
        let plan = Plan::new(search.keys.tree(), &context).expect(keys);
        let mut walker = Walker::new(Limits::default());
        walker.feed(MESSAGE.as_bytes());
        let mut encoded = Vec::new();
        walker.finish().encode(&mut encoded);
        let digest = DigestView::parse(&encoded).expect("a digest");
        let row = ScanRow {
            uid: Uid(7),
            flags: Flags::SEEN.union(Flags::FLAGGED),
            has_keywords: true,
            modseq: ModSeq(50),
            internal_date: UnixMs(1_782_950_400_000),
            saved: UnixMs(1_782_950_400_000),
            size: 1000,
        };
        let facts = Facts {
            row: &row,
            recent: false,
            keywords: &["$Work".into()],
            email_id: None,
            digest: Some(&digest),
            slow: &[],
        };
        assert_eq!(plan.ask(&facts), want, "{keys}");
    }

    #[test]
    fn keys() {
        use Verdict::{No, Slow, Yes};
        for keys in [
            "ALL",
            "SEEN",
            "FLAGGED NOT DELETED",
            "2",
            "1:*",
            "$",
            "UID 6:8",
            "KEYWORD $work",
            "OLD",
            "UNKEYWORD x",
            "LARGER 999",
            "SMALLER 1001",
            "MODSEQ 50",
            "ON 2-Jul-2026",
            "BEFORE 3-Jul-2026",
            "SINCE 2-Jul-2026",
            "SENTON 1-Jul-2026",
            "SENTSINCE 1-Jul-2026",
            "YOUNGER 60000",
            "OR DELETED SEEN",
            "FROM ana",
            "FROM \"ANA mar\u{ed}a\"",
            "SUBJECT \"caf\u{c9}\"",
            "HEADER Subject \"\"",
            "OR SEEN BODY x",
            "NOT (DELETED BODY x)",
            "SAVEDON 2-Jul-2026",
            "SAVEDATESUPPORTED",
        ] {
            check(keys, Yes);
        }
        for keys in [
            "UNSEEN",
            "DELETED",
            "1",
            "UID 8",
            "KEYWORD other",
            "NEW",
            "RECENT",
            "LARGER 1000",
            "SMALLER 1000",
            "MODSEQ 51",
            "SENTBEFORE 1-Jul-2026",
            "OLDER 60000",
            "FROM eva",
            "TO ana",
            "HEADER Cc \"\"",
            "DELETED BODY x",
            "THREADID T1",
            "EMAILID M1",
        ] {
            check(keys, No);
        }
        check("BODY x", Slow(0));
        check("SEEN TEXT x FROM ana", Slow(0));
        check("HEADER X-Spam yes", Slow(0));
        check("NOT TEXT x", Slow(0));
    }
}
