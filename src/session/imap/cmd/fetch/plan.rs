//! The items of a FETCH, made ready once for all messages. Pure.

use crate::wire::imap::{
    FetchItem, FetchItems, HeaderNames, PartPath, Partial, Section, SectionText,
};
use crate::wire::mime::{SectionKind, is_hot};

/// What a FETCH needs of each message.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    pub items: Vec<Item<'a>>,
    pub digest: bool,
    pub reader: bool,
    pub email_id: bool,
    pub flags: bool,
    pub sets_seen: bool,
    /// Text of the message is told, not only of its header.
    pub reads_text: bool,
    pub modseq: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Flags,
    Uid,
    InternalDate,
    SaveDate,
    Size,
    ModSeq,
    EmailId,
    ThreadId,
    Envelope,
    Structure,
    StructureBasic,
    Section(SectionWanted),
    Binary(BinaryWanted<'a>),
}

/// BODY[...] and the RFC822 items.
#[derive(Debug, PartialEq, Eq)]
pub struct SectionWanted {
    /// The name it is answered under.
    pub name: Vec<u8>,
    pub path: Vec<u32>,
    pub text: Text,
    pub partial: Option<Partial>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Text {
    Whole(SectionKind),
    Fields {
        names: Vec<Vec<u8>>,
        not: bool,
        /// The digest has the lines: no message is read.
        hot: bool,
    },
}

/// BINARY[...] and BINARY.SIZE[...].
#[derive(Debug, PartialEq, Eq)]
pub struct BinaryWanted<'a> {
    pub name: Vec<u8>,
    pub part: PartPath<'a>,
    pub path: Vec<u32>,
    pub partial: Option<Partial>,
    pub size_only: bool,
}

impl<'a> Plan<'a> {
    /// `by_uid`: UID is told whether asked for or not (RFC 9051 6.4.9). `with_modseq`: so is
    /// MODSEQ (RFC 7162 3.1.4.1), and with FLAGS where `condstore` is on.
    #[must_use]
    pub fn new(items: FetchItems<'a>, by_uid: bool, with_modseq: bool, condstore: bool) -> Self {
        let mut plan = Plan::default();
        for item in items.iter() {
            plan.sets_seen |= item.sets_seen();
            plan.add(item);
        }
        if by_uid && !plan.items.contains(&Item::Uid) {
            plan.items.insert(0, Item::Uid);
        }
        plan.flags = plan.items.contains(&Item::Flags);
        plan.modseq = plan.items.contains(&Item::ModSeq);
        if (with_modseq || condstore && plan.flags) && !plan.modseq {
            plan.items.push(Item::ModSeq);
            plan.modseq |= with_modseq;
        }
        plan
    }

    fn add(&mut self, item: FetchItem<'a>) {
        let item = match item {
            FetchItem::Flags => Item::Flags,
            FetchItem::Uid => Item::Uid,
            FetchItem::InternalDate => Item::InternalDate,
            FetchItem::SaveDate => Item::SaveDate,
            FetchItem::Size => Item::Size,
            FetchItem::ModSeq => Item::ModSeq,
            FetchItem::ThreadId => Item::ThreadId,
            FetchItem::EmailId => {
                self.email_id = true;
                Item::EmailId
            }
            FetchItem::Envelope => self.structure(Item::Envelope),
            FetchItem::BodyStructure => self.structure(Item::Structure),
            FetchItem::BodyStructureBasic => self.structure(Item::StructureBasic),
            FetchItem::Rfc822 => self.whole(item, SectionKind::All),
            FetchItem::Rfc822Header => self.whole(item, SectionKind::Header),
            FetchItem::Rfc822Text => self.whole(item, SectionKind::Text),
            FetchItem::Body {
                section, partial, ..
            } => self.section(item, section, partial),
            FetchItem::Binary { part, partial, .. } => self.binary(item, part, partial, false),
            FetchItem::BinarySize(part) => self.binary(item, part, None, true),
        };
        // An item asked for twice is told once.
        if !self.items.contains(&item) {
            self.items.push(item);
        }
    }

    fn structure(&mut self, item: Item<'a>) -> Item<'a> {
        self.digest = true;
        item
    }

    fn whole(&mut self, item: FetchItem<'_>, kind: SectionKind) -> Item<'a> {
        self.wanted(item, PartPath::default(), Text::Whole(kind), None)
    }

    fn section(
        &mut self,
        item: FetchItem<'_>,
        section: Section<'_>,
        partial: Option<Partial>,
    ) -> Item<'a> {
        let text = match section.text {
            SectionText::All => Text::Whole(SectionKind::All),
            SectionText::Header => Text::Whole(SectionKind::Header),
            SectionText::Text => Text::Whole(SectionKind::Text),
            SectionText::Mime => Text::Whole(SectionKind::Mime),
            SectionText::HeaderFields(names) => fields(names, false, section.part.is_empty()),
            SectionText::HeaderFieldsNot(names) => fields(names, true, false),
        };
        self.wanted(item, section.part, text, partial)
    }

    fn wanted(
        &mut self,
        item: FetchItem<'_>,
        part: PartPath<'_>,
        text: Text,
        partial: Option<Partial>,
    ) -> Item<'a> {
        self.digest = true;
        self.reader |= !matches!(text, Text::Fields { hot: true, .. });
        self.reads_text |= matches!(text, Text::Whole(SectionKind::All | SectionKind::Text));
        Item::Section(SectionWanted {
            name: name_of(item),
            path: part.numbers().collect(),
            text,
            partial,
        })
    }

    fn binary(
        &mut self,
        item: FetchItem<'_>,
        part: PartPath<'a>,
        partial: Option<Partial>,
        size_only: bool,
    ) -> Item<'a> {
        self.digest = true;
        self.reader = true;
        self.reads_text |= !size_only;
        let path = part.numbers().collect();
        Item::Binary(BinaryWanted {
            name: name_of(item),
            part,
            path,
            partial,
            size_only,
        })
    }

    /// How many messages are taken at once: bounded by what is held for each.
    #[must_use]
    pub fn batch_messages(&self) -> usize {
        match (self.reader, self.digest) {
            (true, _) => 16,
            (false, true) => 128,
            (false, false) => 1024,
        }
    }
}

fn fields(names: HeaderNames<'_>, not: bool, of_message: bool) -> Text {
    let names: Vec<Vec<u8>> = names.iter().map(std::borrow::Cow::into_owned).collect();
    // Delivered-To may stand in the lines of this copy alone, which the digest does not know.
    let known = |name: &Vec<u8>| is_hot(name) && !name.eq_ignore_ascii_case(b"Delivered-To");
    let hot = of_message && !not && names.iter().all(known);
    Text::Fields { names, not, hot }
}

fn name_of(item: FetchItem<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    item.write_name(&mut name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::{Body, parse};

    /// What is needed: digest, reader, seen; then the names of sections.
    #[track_caller]
    fn check(items: &str, needs: &str, count: usize) {
        let text = format!("a UID FETCH 1 {items}\r\n");
        let Ok(Body::Fetch(fetch)) = parse(text.as_bytes()).map(|c| c.body) else {
            panic!("{items}");
        };
        let plan = Plan::new(fetch.items, true, false, false);
        let got: String = [
            (plan.digest, 'd'),
            (plan.reader, 'r'),
            (plan.sets_seen, 's'),
        ]
        .iter()
        .filter_map(|(set, letter)| set.then_some(*letter))
        .collect();
        assert_eq!((got.as_str(), plan.items.len()), (needs, count), "{items}");
    }

    #[test]
    fn plans_read_no_more_than_they_must() {
        check("FLAGS", "", 2);
        check("(UID FLAGS UID)", "", 2);
        check("ALL", "d", 5);
        check("(BODY.PEEK[HEADER.FIELDS (From Subject)])", "d", 2);
        check("(BODY.PEEK[HEADER.FIELDS (From Delivered-To)])", "dr", 2);
        check("(BODY.PEEK[HEADER.FIELDS.NOT (From)])", "dr", 2);
        check("BODY[]", "drs", 2);
        check("BODY.PEEK[1.2]<0.100>", "dr", 2);
        check("RFC822.HEADER", "dr", 2);
        check("RFC822", "drs", 2);
        check("BINARY.SIZE[1]", "dr", 2);
    }
}
