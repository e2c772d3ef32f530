//! Mailbox names and wildcards.

use std::borrow::Cow;

use proptest::prelude::*;

use crate::wire::imap::{NameError, Wildcard, canonical, decode_utf7, encode_utf7};

#[track_caller]
fn check(utf7: &str, utf8: &str) {
    assert_eq!(decode_utf7(utf7.as_bytes()).as_deref(), Ok(utf8), "{utf7}");
    assert_eq!(encode_utf7(utf8), utf7, "{utf8}");
}

#[test]
fn utf7_there_and_back() {
    check("INBOX", "INBOX");
    check("", "");
    check("Q&-A", "Q&A");
    check("&-&-", "&&");
    check("Entw&APw-rfe", "Entwürfe");
    // RFC 3501 5.1.3.
    check("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語");
    check("&2D3eAA-", "😀");
    check("&AOk-&-&AOk-", "é&é");
}

#[test]
fn utf7_has_one_form() {
    for bad in [
        "&",
        "&AOk",
        "a&b",
        "&AO-",
        "&AOl-",
        "&AOkA-",
        "&AGE-",
        "&/////-",
        "&2D0-",
        "&U,BTFw-&ZeVnLIqe-",
        "&A Ok-",
    ] {
        assert_eq!(
            decode_utf7(bad.as_bytes()),
            Err(NameError::BadUtf7),
            "{bad}"
        );
    }
    assert_eq!(decode_utf7("é".as_bytes()), Err(NameError::BadUtf7));
    assert_eq!(decode_utf7(b"a\tb"), Err(NameError::Control));
}

#[test]
fn inbox_is_known_in_any_case() {
    assert_eq!(canonical(Cow::Borrowed("inBox")), "INBOX");
    assert_eq!(canonical(Cow::Borrowed("inBox/sub")), "inBox/sub");
}

#[track_caller]
fn check_match(pattern: &str, name: &str, want: bool) {
    let got = Wildcard::new(pattern, b'/').matches(name);
    assert_eq!(got, want, "{pattern} on {name}");
    assert_eq!(
        got,
        naive(pattern.as_bytes(), name.as_bytes(), name == "INBOX"),
        "the model"
    );
}

#[test]
fn wildcards() {
    check_match("*", "a/b/c", true);
    check_match("%", "a", true);
    check_match("%", "a/b", false);
    check_match("%/%", "a/b", true);
    check_match("%/%", "a/b/c", false);
    check_match("a*c", "a/b/c", true);
    check_match("*%b", "a/ab", true);
    check_match("a%*", "a/b", true);
    check_match("", "", true);
    check_match("", "a", false);
    check_match("*", "", true);
    check_match("inbox", "INBOX", true);
    check_match("in%", "INBOX", true);
    check_match("sent", "Sent", false);
    check_match("Entw%", "Entwürfe", true);
}

#[test]
fn wildcards_take_no_exponential_time() {
    let pattern = "*a%".repeat(300);
    let name = "a/".repeat(500);
    assert!(!Wildcard::new(&format!("{pattern}b"), b'/').matches(&name));
}

/// Says the same by trying everything; exponential, for short inputs only.
fn naive(pattern: &[u8], name: &[u8], fold: bool) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'*', rest)), None) | (Some((b'%', rest)), None) => naive(rest, name, fold),
        (Some((p @ (b'*' | b'%'), rest)), Some((b, after))) => {
            naive(rest, name, fold) || (*p == b'*' || *b != b'/') && naive(pattern, after, fold)
        }
        (Some((p, rest)), Some((b, after))) => {
            (p == b || fold && p.eq_ignore_ascii_case(b)) && naive(rest, after, fold)
        }
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn wildcards_match_the_model(pattern in "[ab/*%]{0,10}", name in "[ab/]{0,10}") {
        let got = Wildcard::new(&pattern, b'/').matches(&name);
        prop_assert_eq!(got, naive(pattern.as_bytes(), name.as_bytes(), false));
    }

    #[test]
    fn every_name_comes_back(name in "[ -~äé台😀\u{1}]{0,20}") {
        let coded = encode_utf7(&name);
        prop_assert!(coded.bytes().all(|b| matches!(b, b' '..=b'~')));
        let back = decode_utf7(coded.as_bytes()).unwrap();
        prop_assert_eq!(&*back, &*name);
    }

    /// A text that decodes is the one that encoding gives.
    #[test]
    fn only_one_form_decodes(text in "[&a-d,+AOk-]{0,16}") {
        if let Ok(name) = decode_utf7(text.as_bytes()) {
            let again = encode_utf7(&name);
            prop_assert_eq!(&*again, &*text);
        }
    }

    #[test]
    fn nothing_panics(bytes: Vec<u8>) {
        let _ = decode_utf7(&bytes);
    }
}
