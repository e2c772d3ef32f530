//! What programs note about a message in its own header, in an mbox file.

use std::borrow::Cow;

use super::FromLine;
use crate::base::UnixMs;
use crate::wire::dates::parse_date;
use crate::wire::imap::is_keyword;
use crate::wire::mime::{Fields, find, unfold};

/// Keywords of one message beyond this are left out.
const KEYWORDS_MAX: usize = 100;
/// No zone is further from UTC.
const ZONE_MS_MAX: i64 = 15 * 3_600_000;
const QUARTER_MS: i64 = 900_000;
const DELAY_MS_MAX: i64 = 120_000;

/// Flags, keywords and arrival of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub seen: bool,
    pub answered: bool,
    pub flagged: bool,
    pub deleted: bool,
    pub draft: bool,
    pub keywords: Vec<String>,
    /// Words that IMAP cannot have as keywords, and what was more than [`KEYWORDS_MAX`].
    pub left_out: u32,
    /// When it arrived; `None` where nothing says it.
    pub arrived: Option<UnixMs>,
    /// Mozilla's programs have removed it; it is there until they compact the file.
    pub removed: bool,
}

/// Reads the header at the begin of a message. `from`: its From line.
#[must_use]
pub fn marks(head: &[u8], from: &FromLine) -> Marks {
    let mut marks = Marks::default();
    let (mut received, mut sent) = (None, None);
    for field in Fields::new(head) {
        if field.is(b"Status") {
            marks.seen |= field.value.contains(&b'R');
        } else if field.is(b"X-Status") {
            marks.x_status(field.value);
        } else if field.is(b"X-Mozilla-Status") {
            marks.mozilla(field.value);
        } else if field.is(b"X-Keywords") || field.is(b"X-Mozilla-Keys") {
            marks.words(&unfold(field.value));
        } else if field.is(b"Received") && received.is_none() {
            // RFC 5321 4.4: the newest stands first, its date behind the last semicolon.
            let date = field.value.rsplit(|b| *b == b';').next();
            received = date.and_then(parse_date).map(|date| date.at);
        } else if field.is(b"Date") && sent.is_none() {
            sent = parse_date(field.value).map(|date| date.at);
        }
    }
    marks.arrived = Some(arrival(from, received.or(sent)));
    marks
}

/// A From line has a clock without a zone. Where the message has a time that is, but for two
/// minutes, whole quarters of an hour away, that is the zone.
fn arrival(from: &FromLine, other: Option<UnixMs>) -> UnixMs {
    let Some(other) = other.filter(|_| !from.zoned) else {
        return from.date;
    };
    let apart = from.date.0 - other.0;
    let zone = (apart + QUARTER_MS / 2).div_euclid(QUARTER_MS) * QUARTER_MS;
    match zone.abs() <= ZONE_MS_MAX && (apart - zone).abs() <= DELAY_MS_MAX {
        true => UnixMs(from.date.0 - zone),
        false => from.date,
    }
}

impl Marks {
    fn x_status(&mut self, value: &[u8]) {
        self.answered |= value.contains(&b'A');
        self.flagged |= value.contains(&b'F');
        self.deleted |= value.contains(&b'D');
        self.draft |= value.contains(&b'T');
    }

    /// Bits of nsMsgMessageFlags.
    fn mozilla(&mut self, value: &[u8]) {
        let text = std::str::from_utf8(value.trim_ascii());
        let Some(bits) = text
            .ok()
            .and_then(|text| u32::from_str_radix(text, 16).ok())
        else {
            return;
        };
        self.seen |= bits & 0x0001 != 0;
        self.answered |= bits & 0x0002 != 0;
        self.flagged |= bits & 0x0004 != 0;
        self.removed |= bits & 0x0008 != 0;
        if bits & 0x1000 != 0 {
            self.word("$Forwarded");
        }
    }

    fn words(&mut self, value: &[u8]) {
        let text: Cow<'_, str> = String::from_utf8_lossy(value);
        for word in text.split([' ', ',', '\t']) {
            self.word(word);
        }
    }

    fn word(&mut self, word: &str) {
        let known = self.keywords.iter().any(|k| k.eq_ignore_ascii_case(word));
        match is_keyword(word) && self.keywords.len() < KEYWORDS_MAX {
            _ if known || word.is_empty() => {}
            true => self.keywords.push(word.to_owned()),
            false => self.left_out += 1,
        }
    }
}

/// The message that UW IMAP keeps at the begin of a file for its own data, and no user sees.
#[must_use]
pub fn is_internal(head: &[u8]) -> bool {
    let subject = find(head, b"Subject").unwrap_or_default();
    let is_data = memchr::memmem::find(subject, b"FOLDER INTERNAL DATA").is_some();
    is_data && (find(head, b"X-IMAP").is_some() || find(head, b"X-IMAPbase").is_some())
}
