//! Letters that go through, in every manner of speaking.

use super::dialogue::{check, check_all};
use super::{letter, login, terms};
use crate::queue::client::{Protocol, Security, Terms};

#[test]
fn a_server_that_offers_nothing() {
    check(
        terms(),
        letter("<a@a.test>", &["<b@b.test>", "<c@b.test>"]),
        "S: 220 mx ESMTP
        C: EHLO me.test
        S: 250 mx
        C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: RCPT TO:<c@b.test>
        S: 251 forwarded
        C: DATA
        S: 354 go
        C: Hi
        C: .
        S: 250 2.0.0 queued
        * report delivered 250, delivered 250
        * ready",
    );
}

#[test]
fn a_server_that_knows_no_ehlo() {
    check(
        terms(),
        letter("<> RET=FULL", &["<b@b.test> NOTIFY=NEVER"]),
        "S: 220-mx
        S: 220 old
        C: EHLO me.test
        S: 500 what?
        C: HELO me.test
        S: 250 mx
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report delivered 250",
    );
}

#[test]
fn all_in_one_group() {
    check(
        terms(),
        letter(
            "<a@a.test> BODY=8BITMIME RET=HDRS ENVID=x",
            &[
                "<b@b.test> NOTIFY=FAILURE ORCPT=rfc822;b@b.test",
                "<c@b.test>",
            ],
        ),
        "S: 220 mx
        C: EHLO me.test
        S: 250-mx
        S: 250-PIPELINING
        S: 250-SIZE 1000
        S: 250-8BITMIME
        S: 250 DSN
        C: MAIL FROM:<a@a.test> SIZE=4 BODY=8BITMIME RET=HDRS ENVID=x
        C: RCPT TO:<b@b.test> NOTIFY=FAILURE ORCPT=rfc822;b@b.test
        C: RCPT TO:<c@b.test>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report delivered 250, delivered 250
        * ready",
    );
}

#[test]
fn chunks() {
    let play = |terms, content: &[&str], transcript: &str| {
        let hello = "S: 220 mx
            C: EHLO me.test
            S: 250-mx
            S: 250-PIPELINING
            S: 250 CHUNKING
            C: MAIL FROM:<a@a.test>
            C: RCPT TO:<b@b.test>
            S: 250 ok
            S: 250 ok";
        let letter = letter("<a@a.test>", &["<b@b.test>"]);
        check_all(
            terms,
            vec![letter],
            content,
            &format!("{hello}\n{transcript}"),
        );
    };
    play(
        terms(),
        &[".Hi\r\n"],
        "C: BDAT 5 LAST
        C: .Hi
        S: 250 ok
        * report delivered 250",
    );
    // Two chunks ahead of their answers, the last one known to be the last.
    play(
        terms(),
        &["one\n", "two", " and a half\r\n", "four"],
        "C: BDAT 5
        C: one
        C: BDAT 3
        S: 250 ok
        C: twoBDAT 13
        C:  and a half
        S: 250 ok
        C: BDAT 6 LAST
        C: four
        S: 250 ok
        S: 250 ok
        * report delivered 250",
    );
    play(
        terms(),
        &[],
        "C: BDAT 0 LAST\nS: 250 ok\n* report delivered 250",
    );
    let dots = Terms {
        is_chunking_used: false,
        ..terms()
    };
    check_all(
        dots,
        vec![letter("<a@a.test>", &["<b@b.test>"])],
        &["."],
        "S: 220 mx
        C: EHLO me.test
        S: 250-mx
        S: 250 CHUNKING
        C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: DATA
        S: 354 go
        C: ..
        C: .
        S: 250 ok
        * report delivered 250",
    );
}

#[test]
fn binary_goes_as_it_is() {
    check_all(
        Terms {
            is_chunking_used: false,
            ..terms()
        },
        vec![letter("<a@a.test> BODY=BINARYMIME", &["<b@b.test>"])],
        &[".x\r\n"],
        "S: 220 mx
        C: EHLO me.test
        S: 250-mx
        S: 250-BINARYMIME
        S: 250 CHUNKING
        C: MAIL FROM:<a@a.test> BODY=BINARYMIME
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: BDAT 4 LAST
        C: .x
        S: 250 ok
        * report delivered 250",
    );
}

#[test]
fn lmtp_answers_for_each() {
    check(
        Terms {
            protocol: Protocol::Lmtp,
            ..terms()
        },
        letter("<a@a.test>", &["<b@b.test>", "<c@b.test>", "<d@b.test>"]),
        "S: 220 lmtp
        C: LHLO me.test
        S: 250-lmtp
        S: 250 PIPELINING
        C: MAIL FROM:<a@a.test>
        C: RCPT TO:<b@b.test>
        C: RCPT TO:<c@b.test>
        C: RCPT TO:<d@b.test>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 who?
        S: 250 ok
        S: 354 go
        C: Hi
        C: .
        S: 250 2.1.5 <b> saved
        S: 452 4.2.2 <d> over quota
        * report delivered 250, failed 550 RCPT TO, deferred 452 end of data
        * ready",
    );
}

#[test]
fn tls_and_log_in() {
    let logged_in = |login_lines: &str, offered: &str| {
        let transcript = format!(
            "S: 220 mx
            C: EHLO me.test
            S: 250-mx
            S: 250-AUTH PLAIN
            S: 250 STARTTLS
            C: STARTTLS
            S: 220 go
            * tls
            C: EHLO me.test
            S: 250-mx
            S: 250 AUTH {offered}
            {login_lines}
            S: 235 welcome
            * ready"
        );
        let terms = Terms {
            security: Security::Verified,
            login: login(),
            ..terms()
        };
        check_all(terms, vec![], &[], &transcript);
    };
    logged_in("C: AUTH PLAIN AGFuYQBzZWNyZXQ=", "LOGIN plain");
    logged_in(
        "C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: YW5h
        S: 334 UGFzc3dvcmQ6
        C: c2VjcmV0",
        "CRAM-MD5 LOGIN",
    );
}

/// What EHLO said in the clear counts for nothing after STARTTLS.
#[test]
fn offers_before_tls_are_forgotten() {
    check(
        terms(),
        letter("<a@a.test>", &["<b@b.test>"]),
        "S: 220 mx
        C: EHLO me.test
        S: 250-mx
        S: 250-PIPELINING
        S: 250-SIZE 1
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        * tls stranger
        C: EHLO me.test
        S: 250 mx
        C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report delivered 250",
    );
}

#[test]
fn tls_that_is_refused_is_done_without_where_it_may() {
    let transcript = "S: 220 mx
        C: EHLO me.test
        S: 250-mx
        S: 250 STARTTLS
        C: STARTTLS
        S: 454 not now";
    check_all(terms(), vec![], &[], &format!("{transcript}\n* ready"));
    let strict = Terms {
        security: Security::Encrypted,
        ..terms()
    };
    let broken = "* broken TLS is required: it answered STARTTLS with: 454 not now";
    check_all(strict, vec![], &[], &format!("{transcript}\n{broken}"));
    let never = Terms {
        security: Security::Never,
        ..terms()
    };
    let transcript = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 STARTTLS\n* ready";
    check_all(never, vec![], &[], transcript);
}

#[test]
fn tls_from_the_start() {
    let terms = Terms {
        security: Security::Verified,
        is_tls_from_start: true,
        ..terms()
    };
    let transcript = "* tls\nS: 220 mx\nC: EHLO me.test\nS: 250 mx\n* ready";
    check_all(terms, vec![], &[], transcript);
}

/// A connection carries letters until the hop or we have had enough.
#[test]
fn one_letter_after_the_other() {
    let letters = || ["<a@a.test>", "<>", "<c@a.test>"].map(|from| letter(from, &["<b@b.test>"]));
    let one = |from: &str| {
        format!(
            "C: MAIL FROM:{from}
            C: RCPT TO:<b@b.test>
            C: DATA
            S: 250 ok
            S: 250 ok
            S: 354 go
            C: Hi
            C: .
            S: 250 ok
            * report delivered 250\n"
        )
    };
    let hello = |limits: &str| {
        format!("S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250-{limits}\nS: 250 PIPELINING\n")
    };
    let two = format!("{}{}", one("<a@a.test>"), one("<>"));
    let content = &["Hi\r\n"];
    for (limits, letters_max) in [("LIMITS MAILMAX=2", 100), ("HELP", 2)] {
        let terms = Terms {
            letters_max,
            ..terms()
        };
        let transcript = format!("{}{two}* done", hello(limits));
        check_all(terms, letters().to_vec(), content, &transcript);
    }
    let all = format!("{}{two}{}* ready", hello("HELP"), one("<c@a.test>"));
    check_all(terms(), letters().to_vec(), content, &all);
}

/// Commands without an answer are bounded, however many there are to send.
#[test]
fn a_group_has_a_window() {
    let names: Vec<_> = (0..300)
        .map(|n| format!("<recipient-{n:04}@b.test>"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let terms = Terms {
        recipients_max: 250,
        ..terms()
    };
    // A line of RCPT has 33 octets; MAIL's 22.
    let ahead = (4096_usize - 22).div_ceil(33);
    let mut transcript = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 PIPELINING\n".to_owned();
    transcript.push_str("C: MAIL FROM:<a@a.test>\n");
    let line = |n: usize| format!("C: RCPT TO:{}\n", names[n]);
    (0..ahead).for_each(|n| transcript.push_str(&line(n)));
    transcript.push_str("S: 250 ok\n");
    // Each answer makes room for a line.
    for next in ahead..ahead + 250 {
        if next < 250 {
            transcript.push_str(&line(next));
        } else if next == 250 {
            transcript.push_str("C: DATA\n");
        }
        transcript.push_str("S: 250 ok\n");
    }
    transcript.push_str("S: 354 go\nC: Hi\nC: .\nS: 250 ok\n");
    let fates = [vec!["delivered 250"; 250], vec!["next"; 50]].concat();
    transcript.push_str(&format!("* report {}", fates.join(", ")));
    check(terms, letter("<a@a.test>", &names), &transcript);
}
