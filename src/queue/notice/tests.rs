//! Notices are read back by mail-parser, which is not ours, and line by line.

use super::*;
use mail_parser::{MessageParser, MimeHeaders};

const HEADER: &[u8] = b"From: ana@example.org\r\nSubject: Tides\r\n\r\n";
const WHOLE: &[u8] = b"From: ana@example.org\r\nSubject: Tides\r\n\r\nLow at nine.\r\n";

fn told<'m>(recipient: &'m str, action: Action, status: &'m str) -> Told<'m> {
    Told {
        recipient,
        original: None,
        action,
        status,
        host: Some("mx.example.net"),
        reply: Some("550-5.1.1 No such user,\n550 5.1.1 says mx"),
        tried: Some(UnixMs(60_000)),
        retried_until: Some(UnixMs(120_000)),
    }
}

fn notice<'m>(told: &'m [Told<'m>]) -> Notice<'m> {
    Notice {
        id: TraceId::new(UnixMs(0), 7),
        hostname: "mail.example.org",
        domain: "example.org",
        sender: "ana@example.org",
        language: None,
        now: UnixMs(60_000),
        arrived: UnixMs(0),
        envelope_id: None,
        ret: None,
        told,
        header: HEADER,
        whole: Some(WHOLE),
    }
}

fn text(notice: &Notice) -> String {
    String::from_utf8(notice.compose()).expect("UTF-8")
}

#[track_caller]
fn check_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|is| is == *line), "{line:?} in\n{text}");
    }
}

#[test]
fn a_failure_names_who_refused_and_what_to_do() {
    let told = [told("bo@example.net", Action::Failed, "5.1.1")];
    let text = text(&notice(&told));
    check_lines(
        &text,
        &[
            "From: Postmaster <postmaster@example.org>",
            "To: <ana@example.org>",
            "Subject: Your message was not delivered",
            "Auto-Submitted: auto-replied",
            "  <bo@example.net>",
            "The mail server mx.example.net did not take it. It said:",
            "    550-5.1.1 No such user,",
            "There is no such address. Look for a spelling mistake, or ask the person",
            "Reporting-MTA: dns; mail.example.org",
            "Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "Final-Recipient: rfc822; bo@example.net",
            "Action: failed",
            "Status: 5.1.1",
            "Remote-MTA: dns; mx.example.net",
            "Diagnostic-Code: smtp; 550-5.1.1 No such user,",
            "    550 5.1.1 says mx",
            "Last-Attempt-Date: Thu, 01 Jan 1970 00:01:00 +0000",
            "Content-Type: message/rfc822",
            "Low at nine.",
        ],
    );
    assert!(!text.contains("Will-Retry-Until"), "{text}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

#[test]
fn what_we_found_ourselves_no_host_said() {
    let ours = Told {
        reply: Some("the message is larger than the 2000 octets that it takes"),
        ..told("bo@example.net", Action::Failed, "5.3.4")
    };
    let told = [ours];
    let text = text(&notice(&told));
    check_lines(
        &text,
        &[
            "Remote-MTA: dns; mx.example.net",
            "Diagnostic-Code: x-palomar; the message is larger than the 2000 octets that it",
            " takes",
        ],
    );
    assert!(!text.contains("It said:"), "{text}");
}

#[test]
fn another_reader_finds_three_parts() {
    let told = [told("bo@example.net", Action::Failed, "5.1.1")];
    let bytes = notice(&told).compose();
    let message = MessageParser::default().parse(&bytes).expect("a message");
    let kind = message.content_type().expect("a type");
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    let kinds: Vec<String> = message.parts[1..]
        .iter()
        .filter_map(|part| part.content_type())
        .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()))
        .collect();
    assert_eq!(
        kinds,
        ["text/plain", "message/delivery-status", "message/rfc822"]
    );
}

#[test]
fn ret_and_size_decide_what_comes_back() {
    let told = [told("bo@example.net", Action::Failed, "5.1.1")];
    let large = vec![b'x'; RETURNED_BYTES_MAX + 1];
    let header_only = |notice: &Notice| {
        let text = text(notice);
        text.contains("Content-Type: text/rfc822-headers") && !text.contains("Low at nine.")
    };
    let mut notice = notice(&told);
    assert!(!header_only(&notice));
    notice.ret = Some(DsnReturn::Headers);
    assert!(header_only(&notice));
    notice.ret = Some(DsnReturn::Full);
    notice.whole = Some(&large);
    assert!(header_only(&notice));
    // A delay returns the header, whatever RET says.
    let late = [self::told("bo@example.net", Action::Delayed, "4.4.1")];
    notice.whole = Some(WHOLE);
    notice.told = &late;
    assert!(header_only(&notice));
}

#[test]
fn a_delay_says_until_when_it_is_tried() {
    let told = [told("bo@example.net", Action::Delayed, "4.4.1")];
    check_lines(
        &text(&notice(&told)),
        &[
            "Subject: Your message is late, but still on its way",
            "Action: delayed",
            "Will-Retry-Until: Thu, 01 Jan 1970 00:02:00 +0000",
        ],
    );
}

#[test]
fn what_others_wrote_stays_in_its_line() {
    let mut one = told("bo@example.net", Action::Failed, "5.7.1");
    one.reply = Some("550 no\r\n\r\nStatus: 2.0.0\r\nBcc: x");
    one.host = Some("mx\r\nX: y");
    let original = OriginalRecipient {
        kind: "rfc822".into(),
        address: "b\r\nAction: delivered".into(),
    };
    one.original = Some(&original);
    let told = [one];
    let mut notice = notice(&told);
    notice.envelope_id = Some("a\nb");
    let text = text(&notice);
    check_lines(
        &text,
        &[
            "Original-Envelope-Id: a b",
            "Original-Recipient: rfc822; b  Action: delivered",
            "Remote-MTA: dns; mx  X: y",
            "    Status: 2.0.0",
        ],
    );
}

#[test]
fn other_alphabets_make_a_global_report() {
    let told = [told("böse@example.net", Action::Failed, "5.6.7")];
    check_lines(
        &text(&notice(&told)),
        &[
            "Content-Type: message/global-delivery-status",
            "Final-Recipient: utf-8; böse@example.net",
        ],
    );
}

#[test]
fn every_language_has_words_for_everything() {
    for words in &words::LANGUAGES {
        for subject in [
            words.subject_failed,
            words.subject_delayed,
            words.subject_delivered,
        ] {
            assert!(subject.is_ascii() && subject.len() < 60, "{subject}");
        }
        for intro in [
            words.failed,
            words.delayed,
            words.delivered,
            words.who_said,
            words.until,
        ] {
            assert_eq!(intro.matches("{}").count(), 1, "{intro}");
        }
        for advice in Advice::ALL {
            assert!(words.advice(advice).ends_with('.'), "{advice:?}");
        }
        let told = [told("bo@example.net", Action::Failed, "5.1.1")];
        let mut notice = notice(&told);
        notice.language = Some(words.language);
        let text = text(&notice);
        assert!(
            text.lines().all(|line| line.chars().count() <= 78),
            "{text}"
        );
    }
}

#[test]
fn statuses_have_advice() {
    for (status, advice) in [
        ("5.1.1", Advice::NoSuchUser),
        ("5.1.2", Advice::NoSuchDomain),
        ("5.1.10", Advice::TakesNoMail),
        ("4.2.2", Advice::Full),
        ("5.3.4", Advice::TooLarge),
        ("5.4.6", Advice::Loop),
        ("4.4.1", Advice::NotReached),
        ("5.7.1", Advice::Refused),
        ("5.7.30", Advice::NoTls),
        ("5.6.7", Advice::NoUtf8),
        ("5.0.0", Advice::Other),
        ("nonsense", Advice::Other),
    ] {
        assert_eq!(Advice::of(status), advice, "{status}");
    }
}

#[test]
fn facts_are_ascii_on_lines_that_fit() {
    let long = format!(
        "550 5.1.1 Usu\u{e1}rio \u{fffd} {} {}",
        "x".repeat(900),
        "word ".repeat(60)
    );
    let one = Told {
        reply: Some(&long),
        ..told("bo@example.net", Action::Failed, "5.1.1")
    };
    let told = [one];
    let text = text(&notice(&told));
    let facts = text.split("message/delivery-status").nth(1).expect("facts");
    let facts = facts.split("\r\n--").next().expect("their end");
    assert!(facts.is_ascii(), "{facts}");
    assert!(facts.lines().all(|line| line.len() <= 300), "{facts}");
    check_lines(facts, &["Diagnostic-Code: smtp; 550 5.1.1 Usu?rio ?"]);
}
