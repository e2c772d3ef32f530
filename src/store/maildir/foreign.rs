//! Names that other programs gave: folders as Dovecot and others write them, files whose names are
//! not quite Maildir's, lists of subscriptions and of keyword letters.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::names::{is_good, parse};
use crate::base::MAILBOX_NAME_BYTES_MAX;
use crate::store::mailbox::KEYWORD_LETTERS_MAX;
use crate::wire::imap::{decode_utf7, is_keyword};

/// Longer file names leave no room for letters.
const STEM_BYTES_MAX: usize = 200;
/// What is left of a longer one.
const STEM_BYTES_KEPT: usize = 100;

/// How folders of a tree are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Naming {
    /// Before two hex digits (`mailbox_list_storage_escape_char`, listescape).
    pub escape: char,
}

impl Naming {
    /// The mailbox of a folder, `.Work.v1\2e2` is `Work/v1.2`; always one that can be.
    pub fn mailbox(&self, folder: &OsStr) -> String {
        let text = folder.to_string_lossy();
        let levels = text.strip_prefix('.').unwrap_or(&text).split('.');
        self.of_levels(levels)
    }

    /// As [`mailbox`](Self::mailbox), the levels apart.
    pub fn of_levels<'l>(&self, levels: impl Iterator<Item = &'l str>) -> String {
        let levels: Vec<String> = levels
            .map(|level| self.level(level))
            .filter(|level| !level.is_empty())
            .collect();
        let mut name = levels.join("/");
        if name.is_empty() {
            name.push('_');
        }
        let mut len = name.len().min(MAILBOX_NAME_BYTES_MAX);
        while !is_good(&name) && len > 0 {
            len = name.floor_char_boundary(len - 1);
            name.truncate(len);
            name.truncate(name.trim_end_matches('/').len());
        }
        name
    }

    fn level(&self, level: &str) -> String {
        let plain = |c: char| match c {
            c if c.is_control() || c == '/' => '_',
            c => c,
        };
        self.read(level).chars().map(plain).collect()
    }

    fn read(&self, level: &str) -> String {
        // Modified UTF-7 is ASCII: whoever has more wrote UTF-8 (Dovecot's `UTF-8` in
        // mail_location), at this level. What has not its form either is what it looks like.
        let decoded = match level.is_ascii() {
            true => decode_utf7(level.as_bytes()).unwrap_or(level.into()),
            false => level.into(),
        };
        self.unescaped(&decoded)
    }

    /// What the other program calls the mailbox of a folder, also where we cannot.
    pub fn as_named(&self, folder: &OsStr) -> String {
        let text = folder.to_string_lossy();
        let levels = text.strip_prefix('.').unwrap_or(&text).split('.');
        let levels: Vec<String> = levels.map(|level| self.read(level)).collect();
        levels.join("/")
    }

    fn unescaped(&self, level: &str) -> String {
        let mut out = String::with_capacity(level.len());
        let mut rest = level;
        while let Some(at) = rest.find(self.escape) {
            let after = &rest[at + self.escape.len_utf8()..];
            let code = after
                .get(..2)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            out.push_str(&rest[..at]);
            match code.filter(|code| code.is_ascii_graphic()) {
                Some(code) => {
                    out.push(char::from(code));
                    rest = &after[2..];
                }
                None => {
                    out.push(self.escape);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Subscribed mailboxes: Dovecot's version 2, with TAB between levels, or a name a line with
    /// whatever separates levels, perhaps below `INBOX`. `mailboxes` are those that there are.
    pub fn subscriptions(&self, bytes: &[u8], mailboxes: &[String]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let is_two = text.starts_with("V\t2");
        if is_two {
            lines.next();
        }
        let named = lines.filter(|line| !line.is_empty());
        let mut names: Vec<String> = named
            .map(|line| match is_two {
                true => self.subscribed(line.split('\t').map(untabbed).collect(), mailboxes),
                false => {
                    let by = |separator| line.split(separator).map(str::to_owned).collect();
                    let dots = self.subscribed(by('.'), mailboxes);
                    let slashes = self.subscribed(by('/'), mailboxes);
                    match mailboxes.contains(&slashes) {
                        true => slashes,
                        false => dots,
                    }
                }
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn subscribed(&self, levels: Vec<String>, mailboxes: &[String]) -> String {
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        let name = self.of_levels(levels.iter().copied());
        let is_below = levels.len() > 1 && levels[0].eq_ignore_ascii_case("INBOX");
        if levels.len() == 1 && levels[0].eq_ignore_ascii_case("INBOX") {
            return "INBOX".to_owned();
        }
        // The namespace's prefix, where no folder is called so.
        match is_below && !mailboxes.contains(&name) {
            true => self.of_levels(levels[1..].iter().copied()),
            false => name,
        }
    }
}

/// Dovecot's escapes within a field: `\001` before `1` (itself), `t`, `n`, `r`.
fn untabbed(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\u{1}' => match chars.next() {
                Some('1') | None => '\u{1}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
            },
            c => c,
        });
    }
    out
}

/// What `dovecot-keywords` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeywordLetters {
    /// Keywords by their letters, `a` first.
    pub names: Vec<Option<String>>,
    /// Letters whose names no keyword can have, with these.
    pub odd: Vec<(char, String)>,
}

impl KeywordLetters {
    /// Reads lines of a number and a name: `0 $Forwarded` is `a`. The numbers beyond the letters
    /// are Dovecot's to know.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut all = KeywordLetters {
            names: vec![None; KEYWORD_LETTERS_MAX],
            odd: Vec::new(),
        };
        for line in String::from_utf8_lossy(bytes).lines() {
            let Some((number, name)) = line.split_once(' ') else {
                continue;
            };
            let letter: Option<u8> = number.parse().ok();
            match letter.filter(|n| usize::from(*n) < KEYWORD_LETTERS_MAX) {
                None => {}
                Some(n) if is_keyword(name) => all.names[usize::from(n)] = Some(name.to_owned()),
                Some(n) => all.odd.push((char::from(b'a' + n), name.to_owned())),
            }
        }
        all
    }

    /// The names that no keyword can have.
    pub fn odd_names(&self) -> Vec<String> {
        self.odd.iter().map(|(_, name)| name.clone()).collect()
    }
}

/// A message file's name as another program left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Foreign {
    /// Before `:`, as the program has it in its lists.
    pub base: String,
    /// The same as we can keep it: nearly always equal.
    pub stem: String,
    pub letters: u32,
}

/// Takes a file name apart. What stands between `:2,` and a further `,` are letters.
pub(in crate::store) fn read_name(name: &OsStr) -> Foreign {
    let text = name.to_string_lossy();
    let (base, info) = text.split_once(':').unwrap_or((&text, ""));
    let flags = info.strip_prefix("2,").unwrap_or("");
    let flags = flags.split(',').next().unwrap_or("");
    let info = format!("x:2,{flags}");
    let (_, letters) = parse(&info);
    Foreign {
        base: base.to_owned(),
        stem: stem_of(base, name),
        letters,
    }
}

/// A stem that leaves room for letters, and goes into lists by lines.
fn stem_of(base: &str, name: &OsStr) -> String {
    let is_plain = |c: char| !c.is_control() && c != char::REPLACEMENT_CHARACTER;
    if !base.is_empty() && base.len() <= STEM_BYTES_MAX && base.chars().all(is_plain) {
        return base.to_owned();
    }
    // Different names stay different.
    let sum = blake3::hash(name.as_bytes()).to_hex();
    let kept = &base[..base.floor_char_boundary(STEM_BYTES_KEPT)];
    let kept: String = kept
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    format!("{kept}.{}", &sum[..16])
}

/// What `,S=` says, in a name of Dovecot's: octets of the message, uncompressed.
pub(in crate::store) fn said_size(base: &str) -> Option<u64> {
    let said = base.split(',').find_map(|field| field.strip_prefix("S="))?;
    said.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::maildir::{file_name, folder};

    const DOVECOT: Naming = Naming { escape: '\\' };

    #[test]
    fn folders_as_others_write_them() {
        let check = |naming: Naming, dir: &str, want: &str| {
            let name = naming.mailbox(OsStr::new(dir));
            assert_eq!(name, want, "{dir}");
            assert!(is_good(&name), "{name}");
            let canonical = folder(&name);
            assert_eq!(DOVECOT.mailbox(OsStr::new(&canonical)), name, "{canonical}");
        };
        check(DOVECOT, ".Sent", "Sent");
        check(DOVECOT, ".Work.v1\\2e2 plan", "Work/v1.2 plan");
        check(DOVECOT, ".R&-D.\\7ex", "R&D/~x");
        check(DOVECOT, ".Entw&APw-rfe", "Entwürfe");
        check(DOVECOT, ".R&D", "R&D");
        check(DOVECOT, ".a\\zz", "a\\zz");
        check(DOVECOT, ".a*b%c", "a*b%c");
        check(DOVECOT, ".50% off", "50% off");
        check(DOVECOT, "..x..y.", "x/y");
        check(DOVECOT, "...", "_");
        check(DOVECOT, ".a\\2fb", "a_b");
        // One that is UTF-8 does not make others so.
        check(DOVECOT, ".Entwürfe.R&-D", "Entwürfe/R&D");
        check(DOVECOT, ".Entwürfe & mehr", "Entwürfe & mehr");
    }

    #[test]
    fn a_name_that_is_too_long_is_cut() {
        for long in ["ü".repeat(300), "x".repeat(3000), "&".repeat(254)] {
            let name = DOVECOT.mailbox(OsStr::new(&format!(".{long}")));
            assert!(is_good(&name) && !name.is_empty(), "{name}");
        }
    }

    #[test]
    fn subscriptions_of_every_kind() {
        let there: Vec<String> = ["Work/v1.2 plan", "a/b", "INBOX/x", "INBOX"]
            .map(str::to_owned)
            .into();
        let check = |file: &str, want: &[&str]| {
            assert_eq!(
                DOVECOT.subscriptions(file.as_bytes(), &there),
                want,
                "{file}"
            );
        };
        check(
            "V\t2\n\nWork\tv1\\2e2 plan\nEntw&APw-rfe\nINBOX\n",
            &["Entwürfe", "INBOX", "Work/v1.2 plan"],
        );
        check("a.b\ninbox\n", &["INBOX", "a/b"]);
        check("a/b\nWork/v1\\2e2 plan\n", &["Work/v1.2 plan", "a/b"]);
        check("INBOX.a.b\nINBOX.x\nINBOX.y\n", &["INBOX/x", "a/b", "y"]);
        check("V\t2\n\nx\u{1}ty\n", &["x_y"]);
        check("", &[]);
    }

    #[test]
    fn keywords_by_letter() {
        let all = KeywordLetters::of(b"0 $Forwarded\n2 b\xc3\xa4\n3 Junk\n26 late\nx y\n4 a b\n");
        let set: Vec<_> = all
            .names
            .iter()
            .enumerate()
            .filter_map(|(n, name)| Some((n, name.as_deref()?)))
            .collect();
        assert_eq!(set, [(0, "$Forwarded"), (3, "Junk")]);
        let odd: Vec<_> = all.odd.iter().map(|(c, name)| (*c, &**name)).collect();
        assert_eq!(odd, [('c', "b\u{e4}"), ('e', "a b")]);
    }

    #[test]
    fn file_names_of_every_kind() {
        let check = |name: &[u8], base: &str, letters: &str, is_odd: bool| {
            let got = read_name(OsStr::from_bytes(name));
            assert_eq!(got.base, base);
            let canonical = file_name(&got.stem, got.letters);
            assert_eq!(canonical.split_once(":2,").map(|(_, l)| l), Some(letters));
            assert_eq!(canonical.as_bytes() != name, is_odd, "{name:?}");
            assert!(canonical.len() < 255);
            let again = read_name(OsStr::new(&canonical));
            assert_eq!(file_name(&again.stem, again.letters), canonical);
        };
        check(
            b"1.M2P3.h,S=4,W=5:2,RSab",
            "1.M2P3.h,S=4,W=5",
            "RSab",
            false,
        );
        check(b"1.M2P3.h", "1.M2P3.h", "", true);
        check(b"1.h:2,SF", "1.h", "FS", true);
        check(b"1.h:2,SXZ", "1.h", "S", true);
        check(b"1.h:2,S,other", "1.h", "S", true);
        check(b"1.h:1,S", "1.h", "", true);
        check(b":2,S", "", "S", true);
        check(b"1.\xff:2,", "1.\u{fffd}", "", true);
        check(b"1.a\nb:2,T", "1.a\nb", "T", true);
        check("x".repeat(240).as_bytes(), &"x".repeat(240), "", true);
    }

    #[test]
    fn sizes_in_names() {
        let check = |base: &str, want| assert_eq!(said_size(base), want, "{base}");
        check("1.h,S=24,W=28", Some(24));
        check("1.h,W=28", None);
        check("1.h,S=x", None);
    }
}
