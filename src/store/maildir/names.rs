//! Names on disk: Maildir++ folders as Dovecot writes them, file names with sizes and letters.

use std::borrow::Cow;

use crate::base::{MAILBOX_NAME_BYTES_MAX, PSeq, PartitionId, Uid, UnixMs};
use crate::store::Flags;
use crate::store::mailbox::{Cold, Extra, Index, KEYWORD_LETTERS_MAX, NameId};

/// Longest folder name a file system takes.
const FOLDER_BYTES_MAX: usize = 255;

/// INBOX is one name in any case (RFC 9051 5.1), also as the first level of a longer one; the
/// rest of a name is taken as it is.
pub(in crate::store) fn canonical(name: &str) -> Cow<'_, str> {
    let (first, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    if first != "INBOX" && first.eq_ignore_ascii_case("INBOX") {
        return Cow::Owned(format!("INBOX{rest}"));
    }
    Cow::Borrowed(name)
}

/// Whether a mailbox may be called this: levels by `/`, none empty, nothing that the disk would
/// misread. LIST's wildcards are characters like others (RFC 9051 5.1).
pub(in crate::store) fn is_good(name: &str) -> bool {
    name.len() <= MAILBOX_NAME_BYTES_MAX
        && !name.chars().any(char::is_control)
        && name.split('/').all(|level| !level.is_empty())
        && folder(name).len() <= FOLDER_BYTES_MAX
}

/// The folder of a mailbox below the account's Maildir++ root: `a/b.c` is `.a.b\2ec` (Dovecot's
/// listescape), in modified UTF-7. INBOX is the root itself, so its folder is empty.
pub(in crate::store) fn folder(name: &str) -> String {
    if name == "INBOX" {
        return String::new();
    }
    let mut out = String::with_capacity(name.len() + 2);
    for level in name.split('/') {
        out.push('.');
        let mut escaped = String::with_capacity(level.len());
        for (at, c) in level.chars().enumerate() {
            match c {
                '.' => escaped.push_str("\\2e"),
                '\\' => escaped.push_str("\\5c"),
                '~' if at == 0 => escaped.push_str("\\7e"),
                c => escaped.push(c),
            }
        }
        modified_utf7(&escaped, &mut out);
    }
    out
}

/// RFC 3501 5.1.3.
fn modified_utf7(text: &str, out: &mut String) {
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, out: &mut String| {
        if wide.is_empty() {
            return;
        }
        out.push('&');
        let base64 = data_encoding::BASE64_NOPAD.encode(wide);
        out.extend(base64.chars().map(|c| if c == '/' { ',' } else { c }));
        out.push('-');
        wide.clear();
    };
    for c in text.chars() {
        match c {
            ' '..='~' => {
                flush(&mut wide, out);
                out.push(c);
                if c == '&' {
                    out.push('-');
                }
            }
            c => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    wide.extend_from_slice(&unit.to_be_bytes());
                }
            }
        }
    }
    flush(&mut wide, out);
}

/// The base name of a placement's file, its identity: everything before `:2,`. A file that another
/// program made keeps its name.
pub(in crate::store) fn stem(
    uid: Uid,
    cold: &Cold,
    extra: Option<&Extra>,
    saved: UnixMs,
    size: u64,
) -> String {
    if let Some(stem) = extra.and_then(|e| e.stem.as_deref()) {
        return stem.to_owned();
    }
    let apart = extra.map_or(0, |e| e.prefix.len() as u64);
    let size = size.saturating_sub(apart);
    let in_file = u64::from(cold.prefix_bytes).saturating_sub(apart);
    let own = OwnName {
        saved_secs: saved.seconds(),
        id: cold.name,
        uid: cold.uid_in_name.then_some(uid),
        prefix_bytes: in_file as u32,
        stored: size.saturating_sub(u64::from(cold.bare_newlines)),
        size,
    };
    own.stem()
}

/// What the name of a file of our own says. It is enough to make a row of when the index is lost:
/// flags are letters, and the time of the file is the internal date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct OwnName {
    pub saved_secs: i64,
    pub id: NameId,
    /// Not in names that version 1 gave.
    pub uid: Option<Uid>,
    /// Octets of the prefix in the file; not in names of version 1.
    pub prefix_bytes: u32,
    /// Octets of the file.
    pub stored: u64,
    /// The same with CRLF line ends. Both without a prefix that stands apart.
    pub size: u64,
}

impl OwnName {
    /// `<saved secs>.P<partition>Q<pseq>N<op>U<uid>H<prefix>.palomar,S=<stored>,W=<size>`.
    pub fn stem(&self) -> String {
        let mut out = format!(
            "{}.P{}Q{}N{}",
            self.saved_secs, self.id.partition.0, self.id.pseq, self.id.ordinal
        );
        if let Some(uid) = self.uid {
            out.push_str(&format!("U{uid}"));
            if self.prefix_bytes > 0 {
                out.push_str(&format!("H{}", self.prefix_bytes));
            }
        }
        out.push_str(&format!(".palomar,S={},W={}", self.stored, self.size));
        out
    }

    /// `None` where another program gave the name.
    pub fn parse(stem: &str) -> Option<OwnName> {
        let (secs, rest) = stem.split_once(".P")?;
        let (ids, sizes) = rest.split_once(".palomar,S=")?;
        let (partition, rest) = ids.split_once('Q')?;
        let (pseq, rest) = rest.split_once('N')?;
        let (ordinal, uid) = match rest.split_once('U') {
            Some((ordinal, uid)) => (ordinal, Some(uid)),
            None => (rest, None),
        };
        let (uid, prefix) = match uid.map(|uid| uid.split_once('H').unwrap_or((uid, "0"))) {
            Some((uid, prefix)) => (Some(Uid(uid.parse().ok()?)), prefix.parse().ok()?),
            None => (None, 0),
        };
        let (stored, size) = sizes.split_once(",W=")?;
        let own = OwnName {
            saved_secs: secs.parse().ok()?,
            id: NameId {
                partition: PartitionId(partition.parse().ok()?),
                pseq: PSeq(pseq.parse().ok()?),
                ordinal: ordinal.parse().ok()?,
            },
            uid,
            prefix_bytes: prefix,
            stored: stored.parse().ok()?,
            size: size.parse().ok()?,
        };
        // What reads alike but is written otherwise is not ours.
        (own.stem() == stem).then_some(own)
    }

    /// The name that version 1 gave to the same file.
    pub fn of_version_1(stem: &str) -> Option<String> {
        let own = OwnName::parse(stem).filter(|own| own.uid.is_some())?;
        Some(OwnName { uid: None, ..own }.stem())
    }
}

/// Upper-case letters, in the order of their bits; the keyword letters `a` to `z` follow.
const LETTERS: [(u8, char); 6] = [(16, 'D'), (4, 'F'), (0, 'P'), (2, 'R'), (1, 'S'), (8, 'T')];
const PASSED: u32 = 1 << 2;
/// Maildir has a letter of its own for what IMAP calls so (RFC 5788).
const FORWARDED: &str = "$Forwarded";

/// The letters that system flags ask for.
pub(in crate::store) fn flag_letters(flags: Flags) -> u32 {
    LETTERS
        .iter()
        .enumerate()
        .filter(|(_, (flag, _))| *flag != 0 && flags.0 & flag != 0)
        .fold(0, |all, (bit, _)| all | 1 << bit)
}

/// The system flags that letters stand for.
pub(in crate::store) fn flags_of(letters: u32) -> Flags {
    let set = LETTERS.iter().enumerate();
    let set = set.filter(|(bit, _)| letters & 1 << bit != 0);
    Flags(set.fold(0, |all, (_, (flag, _))| all | flag))
}

/// Numbers of the keywords that letters stand for.
pub(in crate::store) fn keyword_letters(letters: u32) -> impl Iterator<Item = usize> {
    (0..KEYWORD_LETTERS_MAX).filter(move |n| letters & 1 << (LETTERS.len() + n) != 0)
}

/// The keywords that letters stand for, `names` being what each of `a` to `z` stands for.
pub(in crate::store) fn letter_keywords(letters: u32, names: &[Option<String>]) -> Vec<String> {
    let mut keywords: Vec<String> = keyword_letters(letters)
        .filter_map(|n| names.get(n).cloned().flatten())
        .collect();
    let is_forwarded = |k: &String| k.eq_ignore_ascii_case(FORWARDED);
    if letters & PASSED != 0 && !keywords.iter().any(is_forwarded) {
        keywords.push(FORWARDED.to_owned());
    }
    keywords
}

/// The letters that a row's flags and keywords ask for.
pub(in crate::store) fn row_letters(index: &Index, at: usize) -> u32 {
    let ids = index.keyword_ids(at).iter().map(|&id| id as usize);
    let names = index.keyword_names();
    let mut words = ids.clone().map(|id| &names[id]);
    let is_forwarded = words.any(|name| name.eq_ignore_ascii_case(FORWARDED));
    letters_of(index.flags(at), ids, is_forwarded)
}

/// The letters for system flags and the numbers of keywords.
pub(in crate::store) fn letters_of(
    flags: Flags,
    keywords: impl Iterator<Item = usize>,
    is_forwarded: bool,
) -> u32 {
    let few = keywords.filter(|n| *n < KEYWORD_LETTERS_MAX);
    let letters = few.fold(flag_letters(flags), |all, n| all | 1 << (LETTERS.len() + n));
    // Maildir has a letter of its own for what IMAP calls $Forwarded (RFC 5788).
    if is_forwarded {
        letters | PASSED
    } else {
        letters
    }
}

/// `stem:2,LETTERS`.
pub(in crate::store) fn file_name(stem: &str, letters: u32) -> String {
    let mut out = String::with_capacity(stem.len() + 8);
    out.push_str(stem);
    out.push_str(":2,");
    for (bit, (_, letter)) in LETTERS.iter().enumerate() {
        if letters & 1 << bit != 0 {
            out.push(*letter);
        }
    }
    for (n, letter) in ('a'..='z').enumerate() {
        if letters & 1 << (LETTERS.len() + n) != 0 {
            out.push(letter);
        }
    }
    out
}

/// Takes a file name apart; `None` for letters is a name without `:2,`.
pub(in crate::store) fn parse(file_name: &str) -> (&str, u32) {
    let Some((stem, tail)) = file_name.split_once(":2,") else {
        return (file_name, 0);
    };
    let letters = tail.chars().fold(0, |all, c| {
        let bit = match c {
            'a'..='z' => Some(LETTERS.len() + (c as usize - 'a' as usize)),
            c => LETTERS.iter().position(|(_, letter)| *letter == c),
        };
        bit.map_or(all, |bit| all | 1 << bit)
    });
    (stem, letters)
}

/// The record that placed the message, where the stem is one of ours.
pub(in crate::store) fn placed_by(stem: &str) -> Option<PSeq> {
    let (place, _) = stem.split_once('.')?.1.split_once(".palomar")?;
    let (pseq, _) = place.split_once('Q')?.1.split_once('N')?;
    pseq.parse().ok().map(PSeq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mailbox::CacheRef;

    #[test]
    fn folders_are_what_dovecot_writes() {
        let check = |name: &str, want: &str| assert_eq!(folder(name), want, "{name}");
        check("INBOX", "");
        check("Sent", ".Sent");
        check("a/b.c", ".a.b\\2ec");
        check("~x/y~", ".\\7ex.y~");
        check("Entwürfe & mehr", ".Entw&APw-rfe &- mehr");
        check("日本", ".&ZeVnLA-");
        check("C:\\x", ".C:\\5cx");
    }

    #[test]
    fn names_that_break_a_rule() {
        let check = |name: &str, want: bool| assert_eq!(is_good(name), want, "{name:?}");
        check("Projects/2026", true);
        check("", false);
        check("/a", false);
        check("a//b", false);
        check("a*/50%", true);
        check("a\u{1}", false);
        check(&"x".repeat(300), false);
    }

    #[test]
    fn file_names_hold_letters_in_order() {
        let cold = Cold {
            name: NameId {
                partition: PartitionId(3),
                pseq: PSeq(7),
                ordinal: 1,
            },
            cache: CacheRef { at: 0, len: 0 },
            prefix_bytes: 17,
            bare_newlines: 2,
            letters: 0,
            email_id: [0; 16],
            uid_in_name: true,
        };
        let stem = stem(Uid(9), &cold, None, UnixMs(1_700_000_000_999), 42);
        let letters = flag_letters(Flags(1 | 2 | 8)) | 1 << 6;
        let name = file_name(&stem, letters);
        assert_eq!(name, "1700000000.P3Q7N1U9H17.palomar,S=40,W=42:2,RSTa");
        assert_eq!(parse(&name), (stem.as_str(), letters));
        let own = OwnName::parse(&stem).expect("ours");
        assert_eq!((own.uid, own.prefix_bytes), (Some(Uid(9)), 17));
        let before = OwnName::of_version_1(&stem).expect("has a UID");
        assert_eq!(before, "1700000000.P3Q7N1.palomar,S=40,W=42");
        assert_eq!(OwnName::parse(&before).map(|own| own.uid), Some(None));
        for foreign in ["", "x", "1.P1Q01N0.palomar,S=1,W=1", "1.M2P3.host,S=1,W=1"] {
            assert_eq!(OwnName::parse(foreign), None, "{foreign}");
        }
        assert_eq!(placed_by(&stem), Some(PSeq(7)));
        assert_eq!(placed_by("1700000000.M1P2.other,S=1"), None);
    }
}
