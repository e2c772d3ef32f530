//! The pure parts of the room: what is put before a message, what its header loses and gets.

use proptest::prelude::*;

use super::head::{Additions, HOPS_MAX, Head};
use super::{Origin, Way, trace};
use crate::base::{TraceId, UnixMs};
use crate::net::{Peer, TlsFacts};
use crate::wire::address::{Path, parse_path};

const AT: UnixMs = UnixMs(1_790_000_000_000);

fn additions() -> Additions {
    Additions {
        message: TraceId::new(AT, 7),
        hostname: "mail.example.org".to_owned(),
        at: AT,
    }
}

/// Runs `input` through a header filter, in pieces of `size`.
fn filtered(submitted: bool, input: &[u8], size: usize) -> (Vec<u8>, Head) {
    let mut head = Head::new(submitted.then(additions));
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        head.feed(piece, &mut out);
    }
    head.finish(&mut out);
    (out, head)
}

/// `+` stands for the lines that are added.
#[track_caller]
fn check(submitted: bool, input: &str, want: &str) {
    let id = TraceId::new(AT, 7);
    let added =
        format!("Date: Mon, 21 Sep 2026 14:13:20 +0000\r\nMessage-ID: <{id}@mail.example.org>\r\n");
    let want = want.replace('+', &added);
    for size in [1, 2, 3, 7, 1000] {
        let (out, _) = filtered(submitted, input.as_bytes(), size);
        assert_eq!(String::from_utf8_lossy(&out), want, "{input:?} by {size}");
    }
}

#[test]
fn a_header_loses_what_is_not_its() {
    check(false, "Subject: a\r\n\r\nb\r\n", "Subject: a\r\n\r\nb\r\n");
    check(
        false,
        "Return-Path: <x@y>\r\n z\r\nA: b\r\n\r\n",
        "A: b\r\n\r\n",
    );
    check(false, "return-path : <x@y>\r\n\r\n", "\r\n");
    check(
        false,
        "A: b\r\n\r\nReturn-Path: c\r\n",
        "A: b\r\n\r\nReturn-Path: c\r\n",
    );
    check(false, "Bcc: a@b\r\n\r\n", "Bcc: a@b\r\n\r\n");
    check(false, "From a@b Mon: 1\r\nA: b\r\n\r\n", "A: b\r\n\r\n");
    // A line ends at LF for whoever reads the message later.
    check(false, "A: b\nReturn-Path: c\n\nd\n", "A: b\n\nd\n");
    check(false, "no header at all\r\n", "no header at all\r\n");
    check(false, "a b: c\r\n\r\nd", "a b: c\r\n\r\nd");
    check(false, "", "");
    check(false, "\rA: b\r\n\r", "\rA: b\r\n\r");
}

#[test]
fn a_submitted_header_gets_what_it_lacks() {
    check(true, "A: b\r\n\r\nc\r\n", "A: b\r\n+\r\nc\r\n");
    check(true, "A: b\r\n", "A: b\r\n+");
    check(true, "A: b", "A: b\r\n+");
    check(true, "", "+");
    check(true, "\r\nbody\r\n", "+\r\nbody\r\n");
    check(true, "bcc: x@y,\r\n\tz@y\r\nA: b\r\n\r\n", "A: b\r\n+\r\n");
    check(true, "Resent-Bcc: x@y\r\n\r\n", "+\r\n");
    check(
        true,
        "just text\r\nDate: no\r\n",
        "+\r\njust text\r\nDate: no\r\n",
    );
    check(true, "just text", "+\r\njust text");
    check(
        true,
        "message-id: <1@2>\r\nDATE: x\r\n\r\n",
        "message-id: <1@2>\r\nDATE: x\r\n\r\n",
    );
    check(true, "Bcc: a\r\nhidden\r\n\r\n", "hidden\r\n+\r\n");
}

#[test]
fn loops_are_seen() {
    let hops = "Received: by x\r\n".repeat(HOPS_MAX as usize);
    assert!(filtered(false, hops.as_bytes(), 5).1.is_looping());
    let fewer = &hops[..hops.len() - 1 - "Received: by x\r\n".len()];
    assert!(!filtered(false, fewer.as_bytes(), 5).1.is_looping());
    let body = format!("A: b\r\n\r\n{hops}");
    assert!(!filtered(false, body.as_bytes(), 5).1.is_looping());
    let long = "x".repeat(10_000);
    let text = format!("Delivered-To: a@b\r\nX: y\r\nDELIVERED-TO:\r\n c@d\r\nDelivered-To:{long}");
    let (out, head) = filtered(false, text.as_bytes(), 4);
    assert_eq!(out, text.as_bytes());
    let seen: Vec<&str> = head.delivered_to().collect();
    assert_eq!(&seen[..2], ["a@b", "c@d"]);
    assert!(seen[2].len() < 1_000);
}

#[test]
fn bulk_says_so_itself() {
    for (text, want) in [
        ("Precedence: bulk\r\n\r\n", true),
        ("Subject: x\r\nPRECEDENCE:\r\n List\r\nA: b\r\n\r\n", true),
        ("Precedence: junk", true),
        ("Precedence: first-class\r\n\r\n", false),
        ("Precedence: bulky\r\n\r\n", false),
        ("Subject: bulk\r\n\r\nPrecedence: bulk\r\n", false),
        ("Precedence: bulk\r\nPrecedence: urgent\r\n\r\n", false),
    ] {
        let (out, head) = filtered(false, text.as_bytes(), 3);
        assert_eq!(head.is_bulk(), want, "{text}");
        assert_eq!(out, text.as_bytes());
    }
}

proptest! {
    #[test]
    fn a_header_does_not_depend_on_cuts(
        input in "(Bcc|Date|Received|X|From |Return-Path|[ \t:\r\n]|\r\n){0,40}",
        size in 1usize..9,
        submitted: bool,
    ) {
        let whole = filtered(submitted, input.as_bytes(), input.len().max(1)).0;
        let cut = filtered(submitted, input.as_bytes(), size).0;
        prop_assert_eq!(whole, cut);
    }
}

fn origin() -> Origin {
    Origin {
        session: TraceId::new(AT, 1),
        way: Way::Esmtp,
        is_submission: false,
        peer: Peer::Direct {
            remote: "192.0.2.1:999".parse().expect("an address"),
            local: "192.0.2.2:25".parse().expect("an address"),
        },
        hostname: "mail.example.org".to_owned(),
        client_name: "client.test".to_owned(),
        tls: None,
        account: None,
        local: None,
    }
}

fn path(text: &str) -> Path {
    parse_path(text.as_bytes()).expect("a path").0
}

#[test]
fn received_tells_what_rfc_5321_wants() {
    let (session, message) = (TraceId::new(AT, 1), TraceId::new(AT, 2));
    let to = path("<b@example.org>");
    let plain = trace::received(&origin(), message, false, Some(&to), AT);
    let want = format!(
        "Received: from client.test ([192.0.2.1])\r\n\
         \tby mail.example.org (Palomar, session {session}) with ESMTP\r\n\
         \tid {message}\r\n\tfor <b@example.org>;\r\n\tMon, 21 Sep 2026 14:13:20 +0000\r\n"
    );
    assert_eq!(plain, want);
    let secure = Origin {
        peer: Peer::Direct {
            remote: "[2001:db8::1]:999".parse().expect("an address"),
            local: "[2001:db8::2]:25".parse().expect("an address"),
        },
        client_name: "evil (x)\r\nBcc: é".to_owned(),
        tls: Some(TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            server_name: None,
            resumed: false,
        }),
        ..origin()
    };
    let text = trace::received(&secure, message, true, None, AT);
    assert!(
        text.starts_with(
            "Received: from evil??x???Bcc:?é ([IPv6:2001:db8::1])\r\n\
             \t(using TLSv1.3 with cipher TLS13_AES_128_GCM_SHA256)\r\n\tby "
        ),
        "{text}"
    );
    assert!(
        text.contains(" with UTF8SMTPS\r\n") && !text.contains("for <"),
        "{text}"
    );
}

#[test]
fn the_protocol_has_its_registered_name() {
    let with = |way, utf8, tls: bool| {
        let facts = || TlsFacts {
            version: "-",
            cipher: "-",
            server_name: None,
            resumed: false,
        };
        Origin {
            way,
            tls: tls.then(facts),
            ..origin()
        }
        .protocol(utf8)
    };
    assert_eq!(with(Way::Smtp, false, false), "SMTP");
    assert_eq!(with(Way::Esmtp, false, true), "ESMTPS");
    assert_eq!(with(Way::Lmtp, true, false), "UTF8LMTP");
    assert_eq!(with(Way::Lmtp, false, true), "LMTPS");
}
