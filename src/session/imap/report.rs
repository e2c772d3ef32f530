//! What changed in the selected mailbox, as untagged responses (RFC 9051 7.4, 7.5).

use super::machine::Enabled;
use super::numbering::number_of;
use crate::base::{ModSeq, Uid};
use crate::store::{Changes, Flags, Row, View};
use crate::wire::imap::{Flag, flag_list, number};

const SYSTEM: [(Flags, Flag<'static>); 5] = [
    (Flags::ANSWERED, Flag::Answered),
    (Flags::FLAGGED, Flag::Flagged),
    (Flags::DELETED, Flag::Deleted),
    (Flags::SEEN, Flag::Seen),
    (Flags::DRAFT, Flag::Draft),
];

/// How flags are told to this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub enabled: Enabled,
    /// FETCH responses carry the UID.
    pub with_uid: bool,
}

impl Manner {
    /// RFC 9051 7.5.2: rev2 has the UID in every unsolicited FETCH; rev1 where UIDs are spoken.
    #[must_use]
    pub fn new(enabled: Enabled, by_uid: bool) -> Self {
        Manner {
            enabled,
            with_uid: by_uid || enabled.imap4rev2,
        }
    }
}

/// `(\Seen $Forwarded)`. `recent` is for rev1 only (RFC 9051 Appendix E).
pub fn write_flags<K: AsRef<str>>(out: &mut Vec<u8>, flags: Flags, recent: bool, keywords: &[K]) {
    let system = SYSTEM
        .iter()
        .filter(|(bit, _)| flags.contains(*bit))
        .map(|(_, flag)| *flag);
    let recent = recent.then_some(Flag::Recent);
    let keywords = keywords.iter().map(|word| Flag::Keyword(word.as_ref()));
    flag_list(out, system.chain(recent).chain(keywords));
}

/// `* n WORD`.
pub fn write_count(out: &mut Vec<u8>, n: u32, word: &str) {
    out.extend_from_slice(b"* ");
    number(out, n.into());
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `* FLAGS (...)`: what is set or may be set here.
pub fn write_flags_response<K: AsRef<str>>(out: &mut Vec<u8>, keywords: &[K]) {
    out.extend_from_slice(b"* FLAGS ");
    let all = SYSTEM
        .iter()
        .fold(Flags::NONE, |all, (bit, _)| all.union(*bit));
    write_flags(out, all, false, keywords);
    out.extend_from_slice(b"\r\n");
}

/// ` MODSEQ (n)` (RFC 7162 3.1.4.2).
pub fn write_modseq(out: &mut Vec<u8>, modseq: ModSeq) {
    out.extend_from_slice(b"MODSEQ (");
    number(out, modseq.0);
    out.push(b')');
}

/// An unsolicited FETCH of a message's flags.
pub fn write_flags_fetch(out: &mut Vec<u8>, seq: u32, row: &Row, recent: bool, manner: Manner) {
    out.extend_from_slice(b"* ");
    number(out, seq.into());
    out.extend_from_slice(b" FETCH (");
    if manner.with_uid {
        out.extend_from_slice(b"UID ");
        number(out, row.uid.0.into());
        out.push(b' ');
    }
    if manner.enabled.condstore {
        write_modseq(out, row.modseq);
        out.push(b' ');
    }
    out.extend_from_slice(b"FLAGS ");
    write_flags(
        out,
        row.flags,
        recent && !manner.enabled.imap4rev2,
        &row.keywords,
    );
    out.extend_from_slice(b")\r\n");
}

/// Flags that the client has been told, or wanted no word of: up to this modseq, ascending by UID.
#[derive(Debug, Default)]
pub struct Told(Vec<(Uid, ModSeq)>);

impl Told {
    /// Each stands as of its modseq.
    pub fn add(&mut self, told: impl Iterator<Item = (Uid, ModSeq)>) {
        self.0.extend(told);
        self.0.sort_unstable();
    }

    #[must_use]
    pub fn covers(&self, uid: Uid, modseq: ModSeq) -> bool {
        let after = self.0.partition_point(|(told, _)| *told <= uid);
        self.0[..after]
            .last()
            .is_some_and(|last| last.0 == uid && modseq <= last.1)
    }
}

/// Writes what `refresh` brought, in its order: expunges, counts, flags.
pub fn write_changes(
    out: &mut Vec<u8>,
    view: &View,
    changes: &Changes,
    told: &Told,
    manner: Manner,
) {
    for seq in &changes.expunged {
        write_count(out, *seq, "EXPUNGE");
    }
    if let Some(exists) = changes.exists {
        write_count(out, exists, "EXISTS");
    }
    if let Some(recent) = changes.recent.filter(|_| !manner.enabled.imap4rev2) {
        write_count(out, recent, "RECENT");
    }
    if changes.keywords_new {
        write_flags_response(out, &view.keywords());
    }
    for uid in &changes.flags {
        let Some(row) = view.row(*uid).filter(|row| !told.covers(*uid, row.modseq)) else {
            continue;
        };
        let Some(seq) = number_of(view.uids(), *uid) else {
            continue;
        };
        write_flags_fetch(out, seq, &row, view.is_recent(*uid), manner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixMs;

    fn row(flags: Flags, keywords: &[&str]) -> Row {
        Row {
            uid: Uid(7),
            flags,
            keywords: keywords.iter().map(|word| (*word).into()).collect(),
            modseq: ModSeq(99),
            internal_date: UnixMs(0),
            saved: UnixMs(0),
            size: 1,
            prefix_bytes: 0,
            email_id: [0; 16],
        }
    }

    #[track_caller]
    fn check(row: &Row, manner: Manner, want: &str) {
        let mut out = Vec::new();
        write_flags_fetch(&mut out, 3, row, true, manner);
        assert_eq!(String::from_utf8_lossy(&out), format!("{want}\r\n"));
    }

    #[test]
    fn flags_are_told_in_the_session_manner() {
        let rev1 = Enabled::default();
        let rev2 = Enabled {
            imap4rev2: true,
            condstore: true,
        };
        let seen = row(Flags::SEEN.union(Flags::DRAFT), &["$Junk"]);
        check(
            &seen,
            Manner::new(rev1, false),
            "* 3 FETCH (FLAGS (\\Seen \\Draft \\Recent $Junk))",
        );
        check(
            &row(Flags::NONE, &[]),
            Manner::new(rev1, true),
            "* 3 FETCH (UID 7 FLAGS (\\Recent))",
        );
        let want = "* 3 FETCH (UID 7 MODSEQ (99) FLAGS (\\Seen \\Draft $Junk))";
        check(&seen, Manner::new(rev2, false), want);
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut told = Told::default();
        told.add([Uid(4), Uid(9)].into_iter().map(|uid| (uid, ModSeq(10))));
        told.add([(Uid(4), ModSeq(12))].into_iter());
        assert!(told.covers(Uid(4), ModSeq(12)) && told.covers(Uid(9), ModSeq(10)));
        assert!(!told.covers(Uid(9), ModSeq(11)) && !told.covers(Uid(5), ModSeq(1)));
    }
}
