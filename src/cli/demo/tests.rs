//! The demo without a server: its letters, ports and counting.

use jiff::{Timestamp, tz::TimeZone};

use super::client::{literal_length, stuffed};
use super::home::{Home, Ports};
use super::letters::{self, Way};
use super::plug::{Tally, number_in, tally};
use super::welcome;
use crate::config::Protocol;

#[test]
fn letters_are_well_formed_and_as_many_as_promised() {
    let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let letters = letters::all(&now);
    assert!(letters.len() >= 12);
    let kept = |name| {
        letters
            .iter()
            .filter(|letter| kept_in(letter.way, name))
            .count()
    };
    assert_eq!((kept("Sent"), kept("Archive")), (2, 1));
    for letter in &letters {
        let raw = &letter.raw;
        assert!(
            !raw.replace("\r\n", "").contains(['\r', '\n']),
            "bare newline: {raw}"
        );
        assert!(
            raw.lines().all(|line| line.len() <= 998),
            "long line: {raw}"
        );
        let (head, _) = raw.split_once("\r\n\r\n").expect("a blank line");
        assert!(head.is_ascii(), "{head}");
        assert_eq!(letter.to.is_empty(), matches!(letter.way, Way::Kept { .. }));
        let parsed = mail_parser::MessageParser::new()
            .parse(raw.as_bytes())
            .expect("parses");
        assert!(parsed.subject().is_some() && parsed.message_id().is_some());
    }
}

fn kept_in(way: Way, name: &str) -> bool {
    matches!(way, Way::Kept { mailbox, .. } if mailbox == name)
}

#[test]
fn long_names_become_several_encoded_words() {
    let text = "日本語".repeat(20);
    let encoded = letters::encoded(&text);
    assert!(encoded.lines().count() > 1 && encoded.lines().all(|line| line.len() <= 76));
    assert_eq!(letters::encoded("plain"), "plain");
}

#[test]
fn dots_are_doubled_and_the_end_is_marked() {
    assert_eq!(stuffed(b"a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
    assert_eq!(literal_length("* 1 FETCH (BODY[] {12}"), Some(12));
    assert_eq!(literal_length("* 1 EXISTS"), None);
}

#[test]
fn a_tally_finds_the_missing_and_the_doubled() {
    let acknowledged = vec![(0, 1), (1, 2), (0, 3)];
    // 9 was never acknowledged: it may be there, once.
    let found = vec![vec![1, 9], vec![2, 2]];
    let want = Tally {
        acknowledged: 3,
        present: 2,
        doubled: 1,
    };
    assert_eq!(tally(&acknowledged, &found), want);
    assert_eq!(
        number_in(b"Message-ID: <41.plug@outside.test>\r\n\r\n"),
        Some(41)
    );
}

#[test]
fn passwords_are_made_once_and_the_configuration_loads() {
    let folder = tempfile::tempdir().unwrap();
    let first = Home::open(folder.path(), Ports::DEMO).unwrap();
    let second = Home::open(folder.path(), Ports::from_base(20_000)).unwrap();
    assert_eq!(first.memory, second.memory);
    let config = second.config().unwrap();
    assert_eq!(config.listeners()[0].address.port(), 20_000);
    assert!(config.auth.allow_plaintext);

    let text = welcome::text(&first);
    let user = &first.memory.users[0];
    let line = format!("user {} password {}", user.address, user.password);
    for wanted in ["IMAPS 127.0.0.1:2993", "SUBMISSIONS 127.0.0.1:2465", &line] {
        assert!(
            text.lines().any(|line| line == wanted),
            "{wanted} in\n{text}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&welcome::json(&first)).unwrap();
    assert_eq!(json["listeners"]["imaps"], "127.0.0.1:2993");
    assert_eq!(first.ports.of(Protocol::Metrics), 2925);
}
