//! `dovecot-uidlist`: which file is which UID. Read when a tree is adopted, written when one is
//! left, so that UIDs outlive both moves.

use std::fmt::Write as _;

/// Numbers above this are nonsense: UIDVALIDITYs are times (of the year 2097), and nobody gives out
/// so many UIDs. Believed, the one would leave its partition no higher one for later mailboxes,
/// the other the mailbox no UID.
pub(in crate::store) const NUMBER_MAX: u32 = 0xf000_0000;

/// The file, versions 1 (also Courier's `courierimapuiddb`) and 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct UidList {
    pub uidvalidity: u32,
    pub uidnext: u32,
    /// Header fields that we only keep: the mailbox's GUID and what else a version has.
    pub kept: Vec<String>,
    /// By rising UID.
    pub entries: Vec<Entry>,
    /// Lines that say nothing.
    pub unread: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Entry {
    pub uid: u32,
    /// The UIDL that POP3 clients know; an empty one is the file's base name.
    pub uidl: Option<String>,
    /// The file's name before `:`; what stands behind may be stale.
    pub base: String,
}

impl UidList {
    /// Whether UIDVALIDITY and UIDs can be kept.
    fn is_sane(&self) -> bool {
        self.uidvalidity <= NUMBER_MAX && self.uidnext <= NUMBER_MAX
    }

    /// The list as it can be kept: nonsense gives way to UIDs of a new UIDVALIDITY, which is zero
    /// here, in the same order.
    pub fn sane(mut self) -> UidList {
        if self.is_sane() {
            return self;
        }
        for (uid, entry) in (1..).zip(&mut self.entries) {
            entry.uid = uid;
        }
        self.uidvalidity = 0;
        self.uidnext = self.entries.len() as u32 + 1;
        self
    }

    /// `None` where there is no header to trust. A broken line ends nothing: what it would have
    /// named gets a new UID.
    pub fn parse(bytes: &[u8]) -> Option<UidList> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let mut words = lines.next()?.split_ascii_whitespace();
        let version = words.next()?;
        let mut list = UidList::default();
        match version {
            "1" => {
                list.uidvalidity = words.next()?.parse().ok()?;
                list.uidnext = words.next()?.parse().ok()?;
            }
            "3" => {
                for word in words {
                    match word.split_at_checked(1) {
                        Some(("V", value)) => list.uidvalidity = value.parse().ok()?,
                        Some(("N", value)) => list.uidnext = value.parse().ok()?,
                        _ => list.kept.push(word.to_owned()),
                    }
                }
            }
            _ => return None,
        }
        if list.uidvalidity == 0 || list.uidnext == 0 {
            return None;
        }
        let mut last = 0;
        for line in lines.filter(|line| !line.is_empty()) {
            match entry(line, version == "3").filter(|e| e.uid > last && e.uid < u32::MAX) {
                Some(entry) => {
                    last = entry.uid;
                    list.entries.push(entry);
                }
                None => list.unread += 1,
            }
        }
        list.uidnext = list.uidnext.max(last.saturating_add(1));
        Some(list)
    }

    /// Version 3.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("3 V{} N{}", self.uidvalidity, self.uidnext);
        for field in &self.kept {
            let _ = write!(out, " {field}");
        }
        out.push('\n');
        for entry in &self.entries {
            let _ = write!(out, "{} ", entry.uid);
            if let Some(uidl) = &entry.uidl {
                let _ = write!(out, "P{uidl} ");
            }
            let _ = writeln!(out, ":{}", entry.base);
        }
        out.into_bytes()
    }
}

fn entry(line: &str, has_fields: bool) -> Option<Entry> {
    let (uid, mut rest) = line.split_once(' ')?;
    let uid = uid.parse().ok().filter(|uid| *uid > 0)?;
    let mut uidl = None;
    if has_fields {
        rest = rest.trim_start_matches(' ');
        while !rest.starts_with(':') {
            let (field, after) = rest.split_once(' ')?;
            if let Some(value) = field.strip_prefix('P') {
                uidl = Some(value.to_owned());
            }
            rest = after.trim_start_matches(' ');
        }
        rest = &rest[1..];
    }
    let base = rest.split(':').next().unwrap_or(rest);
    let is_good = !base.is_empty() && !base.contains('/');
    is_good.then(|| Entry {
        uid,
        uidl,
        base: base.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UID, UIDL, base name.
    type Line<'l> = (u32, Option<&'l str>, &'l str);

    /// UIDVALIDITY, UIDNEXT, entries, unread lines.
    #[track_caller]
    fn check(file: &str, want: Option<(u32, u32, &[Line<'_>], u32)>) {
        let got = UidList::parse(file.as_bytes());
        let got = got.map(|l| {
            let entry = |e: Entry| (e.uid, e.uidl, e.base);
            let entries: Vec<_> = l.entries.into_iter().map(entry).collect();
            (l.uidvalidity, l.uidnext, entries, l.unread)
        });
        let want = want.map(|(v, n, entries, unread)| {
            let entry = |e: &Line<'_>| (e.0, e.1.map(str::to_owned), e.2.into());
            (v, n, entries.iter().map(entry).collect(), unread)
        });
        assert_eq!(got, want, "{file}");
    }

    #[test]
    fn what_dovecot_and_courier_write() {
        check(
            "3 V1795310760 N3 G5022b03aa744026bac02000083ecc375\n1 :a.b,S=24,W=28\n\
             3 Pabc W28 Gff :c.d:2,S\n",
            Some((
                1_795_310_760,
                4,
                &[(1, None, "a.b,S=24,W=28"), (3, Some("abc"), "c.d")],
                0,
            )),
        );
        check("1 7 9\n4 file\n", Some((7, 9, &[(4, None, "file")], 0)));
        check(
            "3 V7 N9\n4 P :file\n",
            Some((7, 9, &[(4, Some(""), "file")], 0)),
        );
    }

    #[test]
    fn broken_lines_say_nothing() {
        check("", None);
        check("3 V0 N1\n", None);
        check("2 5 6\n", None);
        check("3 V5 Nx\n", None);
        check(
            "3 V5 N9\n2 :b\n1 :a\nx :c\n3\n4 :\n5 :d/e\n4294967295 :f\n6 :g\n",
            Some((5, 9, &[(2, None, "b"), (6, None, "g")], 6)),
        );
    }

    #[test]
    fn nonsense_is_not_kept() {
        let check = |file: &str, want: (u32, u32, &[u32])| {
            let list = UidList::parse(file.as_bytes()).expect(file).sane();
            let uids: Vec<u32> = list.entries.iter().map(|e| e.uid).collect();
            assert_eq!((list.uidvalidity, list.uidnext, &uids[..]), want, "{file}");
        };
        check("3 V7 N9\n2 :a\n5 Px :b\n", (7, 9, &[2, 5]));
        check("3 V4026531840 N9\n2 :a\n", (4_026_531_840, 9, &[2]));
        check("3 V4294967295 N9\n2 :a\n5 Px :b\n", (0, 3, &[1, 2]));
        check("3 V7 N4294967295\n2 :a\n", (0, 2, &[1]));
        check("3 V7 N9\n2 :a\n4294967294 :b\n", (0, 3, &[1, 2]));
    }

    #[test]
    fn what_is_written_is_read() {
        let list = UidList {
            uidvalidity: 7,
            uidnext: 12,
            kept: vec!["G00ff".into()],
            entries: vec![
                Entry {
                    uid: 3,
                    uidl: Some("x".into()),
                    base: "a,S=1".into(),
                },
                Entry {
                    uid: 11,
                    uidl: None,
                    base: "b".into(),
                },
            ],
            unread: 0,
        };
        assert_eq!(UidList::parse(&list.encode()), Some(list));
    }
}
