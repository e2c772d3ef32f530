//! Sequence numbers and UIDs: sets to messages, and when numbers may shift. Pure.

use super::machine::Numbers;
use crate::base::Uid;
use crate::wire::imap::{SeqNumber, SequenceSet, tag_and_name};

/// A sequence number that no message has (RFC 9051 6.4: an error; a UID of that kind is not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchNumber;

/// The messages of the view that `set` names, ascending, each once. `uids` are the view's and
/// `saved` is what `$` stands for.
pub fn resolve(
    set: SequenceSet<'_>,
    by_uid: bool,
    uids: &[Uid],
    saved: &[Uid],
) -> Result<Vec<Uid>, NoSuchNumber> {
    if set.is_saved() {
        return Ok(saved
            .iter()
            .copied()
            .filter(|uid| uids.binary_search(uid).is_ok())
            .collect());
    }
    let ranges = match by_uid {
        true => uid_ranges(set, uids),
        false => number_ranges(set, uids.len())?,
    };
    let total = ranges.iter().map(|(low, high)| high - low).sum();
    let mut found = Vec::with_capacity(total);
    for (low, high) in ranges {
        found.extend_from_slice(&uids[low..high]);
    }
    Ok(found)
}

/// Half-open index ranges, ascending and apart.
fn uid_ranges(set: SequenceSet<'_>, uids: &[Uid]) -> Vec<(usize, usize)> {
    let Some(largest) = uids.last() else {
        return Vec::new();
    };
    let ranges = set.resolve(largest.0).map(|(low, high)| {
        let from = uids.partition_point(|uid| uid.0 < low);
        (
            from,
            from + uids[from..].partition_point(|uid| uid.0 <= high),
        )
    });
    joined(ranges.collect())
}

fn number_ranges(set: SequenceSet<'_>, exists: usize) -> Result<Vec<(usize, usize)>, NoSuchNumber> {
    if exists == 0 {
        // `1:*` of an empty mailbox is nothing; `*` names no message.
        let open = set
            .ranges()
            .all(|(a, b)| [a, b].contains(&SeqNumber::Largest));
        return if open {
            Ok(Vec::new())
        } else {
            Err(NoSuchNumber)
        };
    }
    let largest = u32::try_from(exists).unwrap_or(u32::MAX);
    let mut ranges = Vec::new();
    for (low, high) in set.resolve(largest) {
        if high > largest {
            return Err(NoSuchNumber);
        }
        ranges.push((low as usize - 1, high as usize));
    }
    Ok(joined(ranges))
}

fn joined(mut ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    ranges.retain(|(low, high)| low < high);
    ranges.sort_unstable();
    let mut out: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match out.last_mut() {
            Some(last) if low <= last.1 => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    out
}

/// The sequence number of a UID in the view.
#[must_use]
pub fn number_of(uids: &[Uid], uid: Uid) -> Option<u32> {
    let at = uids.binary_search(&uid).ok()?;
    u32::try_from(at + 1).ok()
}

/// Whether expunges may be told at the end of a command, where `pipelined` came behind it: a
/// command there that counts messages was written before its client could hear of them
/// (RFC 9051 5.5).
#[must_use]
pub fn may_tell_expunges(numbers: Numbers, pipelined: &[u8]) -> bool {
    match numbers {
        Numbers::Shift => true,
        Numbers::Stay => false,
        Numbers::MayShift => pipelined.is_empty() || !may_count(pipelined),
    }
}

/// Whether the command in `bytes`, of which the end may be missing, may hold sequence numbers.
fn may_count(bytes: &[u8]) -> bool {
    let line = memchr::memchr(b'\n', bytes).map(|end| &bytes[..=end]);
    let Some((_, Some(name))) = line.map(tag_and_name) else {
        return true;
    };
    ["FETCH", "STORE", "SEARCH", "COPY", "MOVE"]
        .iter()
        .any(|n| n.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::{Body, parse};

    /// A mailbox with UIDs 10, 20, 30, 40; `$` is 20 and 35.
    #[track_caller]
    fn check(set: &str, by_uid: bool, want: Result<&[u32], NoSuchNumber>) {
        let text = format!("a UID FETCH {set} FLAGS\r\n");
        let Ok(Body::Fetch(fetch)) = parse(text.as_bytes()).map(|c| c.body) else {
            panic!("{set}");
        };
        let uids = [10, 20, 30, 40].map(Uid);
        let got = resolve(fetch.set, by_uid, &uids, &[Uid(20), Uid(35)]);
        let got = got.map(|uids| uids.iter().map(|uid| uid.0).collect::<Vec<_>>());
        assert_eq!(got.as_deref().map_err(|e| *e), want, "{set}");
    }

    #[test]
    fn sets_resolve() {
        check("1", false, Ok(&[10]));
        check("2:*", false, Ok(&[20, 30, 40]));
        check("3,1,1:2,*", false, Ok(&[10, 20, 30, 40]));
        check("5", false, Err(NoSuchNumber));
        check("2:9", false, Err(NoSuchNumber));
        check("$", false, Ok(&[20]));
        check("10", true, Ok(&[10]));
        check("11:29", true, Ok(&[20]));
        check("50:*", true, Ok(&[40]));
        check("41:60,1:5", true, Ok(&[]));
        check("30,10:20,15:35", true, Ok(&[10, 20, 30]));
    }

    #[test]
    fn an_empty_mailbox() {
        for (set, want) in [("1:*", true), ("*", true), ("1", false)] {
            let text = format!("a FETCH {set} FLAGS\r\n");
            let Ok(Body::Fetch(fetch)) = parse(text.as_bytes()).map(|c| c.body) else {
                panic!("{set}");
            };
            assert_eq!(resolve(fetch.set, false, &[], &[]).is_ok(), want, "{set}");
        }
    }

    #[test]
    fn expunges_wait_for_pipelined_numbers() {
        let tell = |behind: &str| may_tell_expunges(Numbers::MayShift, behind.as_bytes());
        assert!(tell("") && tell("b NOOP\r\n") && tell("b UID FETCH 1 FLAGS\r\n"));
        assert!(!tell("b FETCH 1 FLAGS\r\n") && !tell("b FET") && !tell("b store 1 flags ()\r\n"));
        assert!(!may_tell_expunges(Numbers::Stay, b""));
        assert!(may_tell_expunges(Numbers::Shift, b"b FETCH 1 FLAGS\r\n"));
    }
}
