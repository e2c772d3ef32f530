//! The client's half: replies, offers, command lines, content.

use proptest::prelude::*;

use super::{mail, rcpt, read};
use crate::wire::address::{Domain, Mailbox, Path};
use crate::wire::smtp::{
    ContentWriter, Enhanced, LineMode, MailFrom, Notify, Offer, OriginalRecipient, PeerReply,
    RcptTo, ReplyFault, ReplyParser, Unwritable,
};

fn reply(text: &str) -> PeerReply {
    let text = text.replace('|', "\r\n");
    match ReplyParser::default().read(text.as_bytes()) {
        (used, Ok(Some(reply))) if used == text.len() => reply,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn check_reply(text: &str, want: &str, enhanced: Option<&str>) {
    let reply = reply(text);
    assert_eq!(reply.to_string(), want, "{text:?}");
    let told = reply.enhanced().map(|code| code.to_string());
    assert_eq!(told.as_deref(), enhanced, "{text:?}");
}

#[test]
fn replies_are_read() {
    check_reply("250 OK|", "250 OK", None);
    check_reply("250|", "250", None);
    check_reply("250 \n", "250", None);
    check_reply("250-a|250-b|250 c|", "250 a b c", None);
    check_reply(
        "550 5.1.1 <a@b>: who?|",
        "550 5.1.1 <a@b>: who?",
        Some("5.1.1"),
    );
    check_reply("550 5.1.1|", "550 5.1.1", Some("5.1.1"));
    check_reply(
        "452-4.5.3 Too|452 4.5.3 many|",
        "452 4.5.3 Too 4.5.3 many",
        Some("4.5.3"),
    );
    // A class that is not the reply's says nothing.
    check_reply("450 5.1.1 x|", "450 5.1.1 x", None);
    check_reply("250 2.1.5.1 x|", "250 2.1.5.1 x", None);
    check_reply("250 2.0001.5 x|", "250 2.0001.5 x", None);
    check_reply("250 a\rb\0c\r\r\n", "250 a b c", None);
    assert_eq!(Enhanced::parse("3.1.1"), None);
    assert_eq!(Enhanced::parse("2.1"), None);
    assert_eq!(Enhanced::parse("2..1"), None);
}

#[track_caller]
fn check_fault(text: &[u8], want: ReplyFault) {
    let (_, read) = ReplyParser::default().read(text);
    assert_eq!(read, Err(want), "{}", text.escape_ascii());
}

#[test]
fn replies_are_bounded() {
    check_fault(b"250-a\r\n550 b\r\n", ReplyFault::CodesDiffer);
    check_fault(b"25\r\n", ReplyFault::NoCode);
    check_fault(b"\r\n", ReplyFault::NoCode);
    check_fault(b"250_x\r\n", ReplyFault::NoCode);
    check_fault(b"150 x\r\n", ReplyFault::NoCode);
    check_fault(b"650 x\r\n", ReplyFault::NoCode);
    check_fault(&[b'2'; 5000], ReplyFault::LineTooLong);
    check_fault("250-x\r\n".repeat(300).as_bytes(), ReplyFault::TooLong);
    let long = format!("250-{}\r\n", "x".repeat(4000));
    check_fault(long.repeat(10).as_bytes(), ReplyFault::TooLong);
    let kept = reply(&format!("250-{0}|250-é{0}|250 c|", "x".repeat(100))).shortened(101);
    assert_eq!(kept.lines().map(str::len).collect::<Vec<_>>(), [100]);
}

#[test]
fn offers_are_read() {
    let offer = Offer::read(&reply(
        "250-mx.example Hello|250-pipelining|250-SIZE 1000|250-8BITMIME|250-BINARYMIME|\
         250-CHUNKING|250-SMTPUTF8|250-DSN|250-STARTTLS|250-ENHANCEDSTATUSCODES|250-REQUIRETLS|\
         250-AUTH plain LOGIN|250-AUTH=LOGIN XOAUTH2|250-LIMITS RCPTMAX=20 MAILMAX=5 NEW=1|\
         250-FUTURERELEASE 604800 2027-01-01T00:00:00Z|250-DELIVERBY 240|250-MT-PRIORITY MIXER|\
         250 X-UNKNOWN|",
    ));
    let want = Offer {
        server: "mx.example".to_owned(),
        pipelining: true,
        size: true,
        message_bytes_max: Some(1000),
        eight_bit: true,
        binary: true,
        chunking: true,
        smtputf8: true,
        dsn: true,
        enhanced_codes: true,
        start_tls: true,
        require_tls: true,
        auth: ["PLAIN", "LOGIN", "XOAUTH2"].map(str::to_owned).to_vec(),
        recipients_max: Some(20),
        messages_max: Some(5),
        hold_seconds_max: Some(604_800),
        deliver_by_seconds_min: Some(240),
        priorities: true,
    };
    assert_eq!(offer, want);
    let offer = Offer::read(&reply(
        "250-x|250-SIZE 0|250-DELIVERBY|250-LIMITS RCPTMAX=0 MAILMAX=x|250 HELP|",
    ));
    assert!(offer.size && offer.message_bytes_max.is_none());
    assert_eq!(offer.deliver_by_seconds_min, Some(0));
    assert_eq!((offer.recipients_max, offer.messages_max), (None, None));
    // The first line is a greeting, whatever it says.
    assert!(!Offer::read(&reply("250 PIPELINING|")).pipelining);
    assert!(!Offer::plain(&reply("250-x|250 PIPELINING|")).pipelining);
}

/// Writes it as it was read.
#[track_caller]
fn check_line(line: &str, want: &str) {
    let mut out = Vec::new();
    match line.get(..4) {
        Some("MAIL") => mail(line).encode(&mut out),
        _ => rcpt(line).encode(false, &mut out),
    }
    .expect("written");
    let out = String::from_utf8(out).expect("text");
    assert_eq!(out, format!("{want}\r\n"), "{line}");
}

#[test]
fn command_lines_are_written() {
    check_line("MAIL FROM:<>", "MAIL FROM:<>");
    let all = "MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME REQUIRETLS RET=HDRS ENVID=x+2By+3D AUTH=<>";
    check_line(all, all);
    check_line("MAIL FROM:<a@b> BODY=7BIT", "MAIL FROM:<a@b>");
    check_line("MAIL FROM:<a@b> AUTH=a+40b", "MAIL FROM:<a@b> AUTH=a@b");
    let binary = "MAIL FROM:<\"a b\"@c> BODY=BINARYMIME RET=FULL";
    check_line(binary, binary);
    let rcpt = "RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bc@b";
    check_line(rcpt, rcpt);
    check_line("RCPT TO:<a@b> NOTIFY=NEVER", "RCPT TO:<a@b> NOTIFY=NEVER");
    check_line(
        "RCPT TO:<a@b> ORCPT=utf-8;é\\x{2B}\\x{5C}@b",
        "RCPT TO:<a@b> ORCPT=utf-8;\\x{E9}\\x{2B}\\x{5C}@b",
    );
    check_line(
        "RCPT TO:<a@b> ORCPT=rfc822;é@b",
        "RCPT TO:<a@b> ORCPT=rfc822;+C3+A9@b",
    );
    let mut out = Vec::new();
    super::rcpt("RCPT TO:<a@b> ORCPT=utf-8;\\x{E9}@b")
        .encode(true, &mut out)
        .expect("written");
    assert_eq!(out, "RCPT TO:<a@b> ORCPT=utf-8;é@b\r\n".as_bytes());
}

#[test]
fn no_value_ends_its_line() {
    let evil = Path::Mailbox(Mailbox {
        local: "a\r\nDATA".to_owned(),
        domain: Domain::Name("b".to_owned()),
    });
    let mut out = b"before".to_vec();
    let written = RcptTo {
        path: evil.clone(),
        notify: None,
        original: None,
    };
    assert_eq!(written.encode(true, &mut out), Err(Unwritable));
    let written = MailFrom {
        path: evil,
        ..mail("MAIL FROM:<>")
    };
    assert_eq!(written.encode(&mut out), Err(Unwritable));
    assert_eq!(out, b"before");
    let written = MailFrom {
        envelope_id: Some("a\r\nb".to_owned()),
        ..mail("MAIL FROM:<>")
    };
    written.encode(&mut out).expect("written");
    assert_eq!(out, b"beforeMAIL FROM:<> ENVID=a+0D+0Ab\r\n");
}

fn write(mut writer: ContentWriter, content: &[u8], size: usize) -> String {
    let mut out = Vec::new();
    for chunk in content.chunks(size) {
        writer.feed(chunk, &mut out);
    }
    writer.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[track_caller]
fn check_content(content: &str, want: &str) {
    for size in 1..=content.len().max(1) {
        let dotted = write(ContentWriter::dotted(), content.as_bytes(), size);
        assert_eq!(dotted, want, "{content:?} in pieces of {size}");
        let octets = write(ContentWriter::octets(), content.as_bytes(), size);
        assert_eq!(octets, content);
    }
}

#[test]
fn content_is_written() {
    check_content("", ".\r\n");
    check_content("a", "a\r\n.\r\n");
    check_content("a\r\n", "a\r\n.\r\n");
    check_content(".", "..\r\n.\r\n");
    check_content(".\r\n..\r\n.a.\r\n", "..\r\n...\r\n..a.\r\n.\r\n");
    // Nothing that another server may take for a line end is left as it was.
    check_content("a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n");
    check_content("a\r.\rb\r", "a\r\n..\r\nb\r\n.\r\n");
    check_content("a\r\r\n.\n\r.", "a\r\n\r\n..\r\n\r\n..\r\n.\r\n");
    check_content("\n\r\n\n", "\r\n\r\n\r\n.\r\n");
    let lines = write(ContentWriter::lines(), b".a\n.\r\nb", 2);
    assert_eq!(lines, ".a\r\n.\r\nb\r\n");
}

proptest! {
    /// A strict server reads what a lenient one would have made of it, and in the same step.
    #[test]
    fn content_ends_only_at_its_end(content in "[.\r\na]{0,40}", size in 1usize..7) {
        let sent = write(ContentWriter::dotted(), content.as_bytes(), size);
        let got = read(LineMode::Strict, u64::MAX, sent.as_bytes(), size);
        prop_assert_eq!(got.taken, sent.len());
        prop_assert_eq!(got.end.and_then(|end| end.fault), None);
        prop_assert_eq!(
            String::from_utf8(got.content).unwrap(),
            write(ContentWriter::lines(), content.as_bytes(), 40)
        );
    }

    #[test]
    fn parameters_survive_a_hop(
        local in "[ -~é]{1,20}",
        id in "[ -~é]{0,15}",
        address in "[!-~é+=\\\\]{1,30}",
        utf8 in any::<bool>(),
        bits in 0u8..8,
    ) {
        let path = Path::Mailbox(Mailbox { local, domain: Domain::Name("example.org".to_owned()) });
        let sent = MailFrom {
            path: path.clone(),
            smtputf8: true,
            envelope_id: Some(id),
            ..mail("MAIL FROM:<>")
        };
        let line = |out: &[u8]| String::from_utf8(out[..out.len() - 2].to_vec()).unwrap();
        let mut out = Vec::new();
        sent.encode(&mut out).unwrap();
        prop_assert_eq!(mail(&line(&out)), sent);
        for kind in ["rfc822", "utf-8"] {
            let sent = RcptTo {
                path: path.clone(),
                notify: Some(Notify {
                    success: bits & 1 > 0,
                    failure: bits & 2 > 0,
                    delay: bits & 4 > 0,
                }),
                original: Some(OriginalRecipient {
                    kind: kind.to_owned(),
                    address: address.clone(),
                }),
            };
            let mut out = Vec::new();
            sent.encode(utf8, &mut out).unwrap();
            prop_assert_eq!(rcpt(&line(&out)), sent);
        }
    }

    #[test]
    fn any_octets_are_a_reply_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (used, read) = ReplyParser::default().read(&bytes);
        prop_assert!(used <= bytes.len());
        if let Ok(Some(reply)) = read {
            let _ = Offer::read(&reply);
            prop_assert!(!reply.to_string().contains(['\r', '\n', '\0']));
        }
    }
}
