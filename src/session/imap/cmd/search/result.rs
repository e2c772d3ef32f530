//! The answer of a SEARCH: SEARCH, or ESEARCH (RFC 9051 7.3.4). Pure.

use crate::base::ModSeq;
use crate::wire::imap::{Coding, SearchReturn, number, sequence_set, string};

/// What was found, as numbers of the kind that the command speaks: ascending.
#[derive(Debug)]
pub struct Found {
    pub numbers: Vec<u32>,
    /// The highest among them, where MODSEQ was asked about.
    pub modseq: Option<ModSeq>,
}

/// `* SEARCH 2 3` (RFC 3501 7.2.5).
pub fn write_search(out: &mut Vec<u8>, found: &Found) {
    out.extend_from_slice(b"* SEARCH");
    for n in &found.numbers {
        out.push(b' ');
        number(out, (*n).into());
    }
    if let Some(modseq) = found.modseq {
        out.extend_from_slice(b" (MODSEQ ");
        number(out, modseq.0);
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// `* ESEARCH (TAG "a") UID MIN 2 COUNT 9 ALL 2,7:9`. Of no message there is no MIN, MAX or ALL.
pub fn write_esearch(
    out: &mut Vec<u8>,
    tag: &str,
    by_uid: bool,
    returns: SearchReturn,
    found: &Found,
) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(out, tag.as_bytes(), Coding::Ascii);
    out.push(b')');
    if by_uid {
        out.extend_from_slice(b" UID");
    }
    let mut pair = |word: &str, n: u64| {
        out.extend_from_slice(word.as_bytes());
        number(out, n);
    };
    if let Some(first) = found.numbers.first().filter(|_| returns.min) {
        pair(" MIN ", (*first).into());
    }
    if let Some(last) = found.numbers.last().filter(|_| returns.max) {
        pair(" MAX ", (*last).into());
    }
    if returns.count {
        pair(" COUNT ", found.numbers.len() as u64);
    }
    if let Some(modseq) = found.modseq {
        pair(" MODSEQ ", modseq.0);
    }
    if returns.all && !found.numbers.is_empty() {
        out.extend_from_slice(b" ALL ");
        sequence_set(out, found.numbers.iter().copied());
    }
    out.extend_from_slice(b"\r\n");
}

/// What of the found is kept for `$`: the MIN and MAX alone where only they were asked for
/// (RFC 5182 2.4).
#[must_use]
pub fn to_save<T: Copy + PartialEq>(returns: SearchReturn, found: &[T]) -> Vec<T> {
    if returns.all || returns.count || !(returns.min || returns.max) {
        return found.to_vec();
    }
    let first = found.first().filter(|_| returns.min);
    let last = found
        .last()
        .filter(|last| returns.max && first != Some(*last));
    first.into_iter().chain(last).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(returns: SearchReturn, numbers: &[u32], want: &str) {
        let found = Found {
            numbers: numbers.to_vec(),
            modseq: None,
        };
        let mut out = Vec::new();
        write_esearch(&mut out, "a\"1", true, returns, &found);
        let want = format!("* ESEARCH (TAG \"a\\\"1\") UID{want}\r\n");
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn esearch() {
        let all = SearchReturn {
            all: true,
            ..SearchReturn::default()
        };
        let each = SearchReturn {
            min: true,
            max: true,
            count: true,
            ..all
        };
        check(each, &[2, 3, 4, 9], " MIN 2 MAX 9 COUNT 4 ALL 2:4,9");
        check(each, &[], " COUNT 0");
        check(all, &[7], " ALL 7");
        check(
            SearchReturn {
                save: true,
                ..SearchReturn::default()
            },
            &[7],
            "",
        );
    }

    #[test]
    fn search() {
        let mut out = Vec::new();
        write_search(
            &mut out,
            &Found {
                numbers: vec![2, 5],
                modseq: Some(ModSeq(9)),
            },
        );
        write_search(
            &mut out,
            &Found {
                numbers: Vec::new(),
                modseq: None,
            },
        );
        assert_eq!(
            String::from_utf8_lossy(&out),
            "* SEARCH 2 5 (MODSEQ 9)\r\n* SEARCH\r\n"
        );
    }

    #[test]
    fn what_is_saved() {
        let save = SearchReturn {
            save: true,
            ..SearchReturn::default()
        };
        let min = SearchReturn { min: true, ..save };
        let both = SearchReturn { max: true, ..min };
        assert_eq!(to_save(save, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(to_save(min, &[1, 2, 3]), [1]);
        assert_eq!(to_save(both, &[1, 2, 3]), [1, 3]);
        assert_eq!(to_save(both, &[1]), [1]);
        assert_eq!(
            to_save(
                SearchReturn {
                    count: true,
                    ..both
                },
                &[1, 2, 3]
            ),
            [1, 2, 3]
        );
    }
}
