//! Every place where a hop can say no, leave, or talk nonsense, and what it means for whom.

use super::dialogue::{Play, check, check_all};
use super::{letter, login, terms};
use crate::queue::client::{Letter, Protocol, Security, Terms};

const HELLO: &str = "S: 220 mx\nC: EHLO me.test\nS: 250 mx\n";
const PIPELINED: &str = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 PIPELINING\n";
const GROUP: &str = "C: MAIL FROM:<a@a.test>\nC: RCPT TO:<b@b.test>\nC: RCPT TO:<c@b.test>
    C: DATA\n";

fn two() -> Letter {
    letter("<a@a.test>", &["<b@b.test>", "<c@b.test>"])
}

#[test]
fn while_it_is_opened() {
    let refused = |transcript: &str, want: &str| {
        let terms = Terms {
            login: login(),
            is_clear_login_allowed: true,
            ..terms()
        };
        check_all(
            terms,
            vec![],
            &[],
            &format!("{transcript}\n* broken {want}"),
        );
    };
    refused(
        "S: 554 go away",
        "the host refused in its greeting: 554 go away",
    );
    refused("S: 421 busy", "the host refused in its greeting: 421 busy");
    refused(
        "S: 250 hm",
        "an answer out of place in its greeting: 250 hm",
    );
    refused(
        "S: HTTP/1.1 200 OK",
        "no SMTP in its greeting: a line without a reply code",
    );
    refused(
        "S: 220 mx\nS: 250 early",
        "an answer out of place in its greeting: 220 mx",
    );
    let hello = "S: 220 mx\nC: EHLO me.test\n";
    refused(
        &format!("{hello}S: 450 later"),
        "the host refused in EHLO: 450 later",
    );
    refused(
        &format!("{hello}S: 421 bye"),
        "the host left in EHLO: 421 bye",
    );
    refused(
        &format!("{hello}S: 550 no\nC: HELO me.test\nS: 550 no"),
        "the host refused in EHLO: 550 no",
    );
    refused(
        &format!("{hello}S: 250 mx"),
        "the host offers no way to log in",
    );
    let auth = format!("{hello}S: 250-mx\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFuYQBzZWNyZXQ=\n");
    refused(
        &format!("{auth}S: 535 5.7.8 wrong"),
        "the host refused in AUTH: 535 5.7.8 wrong",
    );
    // A question too many is cancelled, and the password not said twice.
    refused(
        &format!("{auth}S: 334\nC: *\nS: 501 cancelled"),
        "the host refused in AUTH: 501 cancelled",
    );
}

#[test]
fn without_the_security_that_is_asked_for() {
    let broken = |security, login, transcript: &str, want: &str| {
        let terms = Terms {
            security,
            login,
            ..terms()
        };
        check_all(
            terms,
            vec![],
            &[],
            &format!("{transcript}\n* broken {want}"),
        );
    };
    broken(
        Security::Encrypted,
        None,
        HELLO,
        "TLS is required: it does not offer STARTTLS",
    );
    broken(
        Security::Verified,
        None,
        "S: 220 mx\nC: EHLO me.test\nS: 502 no\nC: HELO me.test\nS: 250 mx",
        "TLS is required: it does not offer STARTTLS",
    );
    let tls = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\n";
    broken(
        Security::Verified,
        None,
        &format!("{tls}S: 220 go\n* tls stranger"),
        "the host is not verified: this machine trusts no certificate authority",
    );
    // Whoever sits between may say what it likes before TLS, and not for within it.
    broken(
        Security::Opportunistic,
        None,
        &format!("{tls}S: 220 go\nS: 250 evil"),
        "an answer out of place in STARTTLS: 220 go",
    );
    broken(
        Security::Opportunistic,
        login(),
        "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 AUTH PLAIN",
        "the host offers no way to log in",
    );
}

#[test]
fn one_command_at_a_time() {
    let no = |transcript: &str| check(terms(), two(), &format!("{HELLO}{transcript}"));
    no("C: MAIL FROM:<a@a.test>
        S: 550 5.7.1 no
        * report failed 550 MAIL FROM, failed 550 MAIL FROM
        * ready");
    no("C: MAIL FROM:<a@a.test>
        S: 451 later
        * report deferred 451 MAIL FROM, deferred 451 MAIL FROM
        * ready");
    no("C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 550 who?
        C: RCPT TO:<c@b.test>
        S: 450 greylisted
        * report failed 550 RCPT TO, deferred 450 RCPT TO
        * ready");
    no("C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 550 who?
        C: RCPT TO:<c@b.test>
        S: 250 ok
        C: DATA
        S: 451 later
        * report failed 550 RCPT TO, deferred 451 DATA
        * ready");
    no("C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: RCPT TO:<c@b.test>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Hi
        C: .
        S: 554 spam
        * report failed 554 end of data, failed 554 end of data
        * ready");
}

#[test]
fn in_a_group() {
    let no = |transcript: &str| {
        check(terms(), two(), &format!("{PIPELINED}{GROUP}{transcript}"));
    };
    no("S: 550 no
        S: 503 MAIL first
        S: 503 MAIL first
        S: 503 MAIL first
        * report failed 550 MAIL FROM, failed 550 MAIL FROM
        * ready");
    // RFC 2920 3.1: 354 for nobody.
    no("S: 250 ok
        S: 550 no
        S: 450 no
        S: 354 go
        C: .
        S: 554 nobody
        * report failed 550 RCPT TO, deferred 450 RCPT TO
        * ready");
    no("S: 550 no
        S: 250 hm
        S: 250 hm
        S: 354 go
        C: .
        S: 250 sent to nobody
        * report failed 550 MAIL FROM, failed 550 MAIL FROM
        * ready");
    no("S: 250 ok
        S: 550 no
        S: 250 ok
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report failed 550 RCPT TO, delivered 250
        * ready");
    no("S: 250 ok
        S: 250 ok
        S: 421 4.3.2 going down
        * report deferred trouble, deferred trouble; the host left in RCPT TO: 421 4.3.2 going down
        * done");
    no("S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 what?
        * report deferred trouble, deferred trouble; an answer out of place in DATA: 250 what?");
}

#[test]
fn a_transaction_left_open_is_reset() {
    let letters = || vec![two(), letter("<c@a.test>", &["<b@b.test>"])];
    let first = "S: 250 ok
        S: 550 no
        S: 550 no
        S: 503 nobody
        * report failed 550 RCPT TO, failed 550 RCPT TO
        C: RSET
        C: MAIL FROM:<c@a.test>
        C: RCPT TO:<b@b.test>
        C: DATA\n";
    let second = "S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report delivered 250
        * ready";
    let content = &["Hi\r\n"];
    let transcript = format!("{PIPELINED}{GROUP}{first}{second}");
    check_all(terms(), letters(), content, &transcript);
    let refused = "S: 500 what?
        * report deferred trouble; the host refused in RSET: 500 what?
        * done";
    let transcript = format!("{PIPELINED}{GROUP}{first}{refused}");
    check_all(terms(), letters(), content, &transcript);
}

/// RFC 5321 4.5.3.1.10.
#[test]
fn too_many_recipients() {
    let told = |second: &str, want: &str| {
        let transcript = format!(
            "{PIPELINED}{GROUP}S: 250 ok
            S: 250 ok
            S: {second}
            S: 354 go
            C: Hi
            C: .
            S: 250 ok
            * report delivered 250, {want}"
        );
        check(terms(), two(), &transcript);
    };
    told("452 too many", "next");
    told("452 4.5.3 too many", "next");
    told("552 5.5.3 too many", "next");
    told("452 4.2.2 mailbox full", "deferred 452 RCPT TO");
    told("452 4.3.1 disk full", "deferred 452 RCPT TO");
    told("552 mailbox full", "failed 552 RCPT TO");
    // The first one is not one too many.
    let transcript = format!(
        "{PIPELINED}{GROUP}S: 250 ok
        S: 452 no
        S: 452 no
        S: 503 nobody
        * report deferred 452 RCPT TO, deferred 452 RCPT TO"
    );
    check(terms(), two(), &transcript);
    let limits = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 LIMITS RCPTMAX=1\n";
    let transcript = format!(
        "{limits}C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        * report delivered 250, next"
    );
    check(terms(), two(), &transcript);
}

#[test]
fn what_the_hop_lacks() {
    let offers = |mail: &str, rcpts: &[&str], offer: &str, transcript: &str| {
        let hello = format!("S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 {offer}\n");
        check(
            terms(),
            letter(mail, rcpts),
            &format!("{hello}{transcript}"),
        );
    };
    let one = &["<b@b.test>"][..];
    offers("<a@a.test>", one, "SIZE 3", "* report unfit 5.3.4\n* ready");
    offers(
        "<a@a.test> BODY=8BITMIME",
        one,
        "HELP",
        "* report unfit 5.6.3",
    );
    offers(
        "<a@a.test> BODY=BINARYMIME",
        one,
        "CHUNKING",
        "* report unfit 5.6.3",
    );
    offers("<a@a.test> SMTPUTF8", one, "HELP", "* report unfit 5.6.7");
    offers("<é@a.test>", one, "HELP", "* report unfit 5.6.7");
    offers(
        "<a@a.test> REQUIRETLS",
        one,
        "REQUIRETLS",
        "* report unfit 5.7.30",
    );
    let goes = |from: &str, to: &str| {
        format!("C: MAIL FROM:{from}\nS: 250 ok\nC: RCPT TO:{to}\nS: 550 no\n")
    };
    // One recipient's letters are its own affair, and a domain has A-labels.
    let mixed = &["<é@b.test>", "<b@é.test>"];
    let transcript = format!(
        "{}* report unfit 5.6.7, failed 550 RCPT TO",
        goes("<a@xn--9ca.test>", "<b@xn--9ca.test>")
    );
    offers("<a@é.test>", mixed, "HELP", &transcript);
    let transcript = format!(
        "{}* report failed 550 RCPT TO",
        goes("<a@a.test> SMTPUTF8", "<é@é.test>")
    );
    offers("<a@a.test>", &["<é@é.test>"], "SMTPUTF8", &transcript);
    let transcript = format!("{}* report failed 550 RCPT TO", goes("<a@a.test>", one[0]));
    let forced = Letter {
        is_eight_bit_forced: true,
        ..letter("<a@a.test> BODY=8BITMIME", one)
    };
    check(terms(), forced, &format!("{HELLO}{transcript}"));
}

#[test]
fn verified_tls_is_required_all_the_way() {
    let play = |tls: &str, transcript: &str| {
        let hello = format!(
            "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go
            * {tls}\nC: EHLO me.test\nS: 250-mx\nS: 250 REQUIRETLS\n{transcript}"
        );
        check(
            terms(),
            letter("<a@a.test> REQUIRETLS", &["<b@b.test>"]),
            &hello,
        );
    };
    play("tls stranger", "* report unfit 5.7.30");
    play(
        "tls",
        "C: MAIL FROM:<a@a.test> REQUIRETLS\nS: 550 no\n* report failed 550 MAIL FROM",
    );
}

/// Cuts a whole dialogue after each turn of ours.
#[test]
fn lost_in_each_state() {
    let turns = [
        ("S: 220 mx\n", "C: EHLO me.test\n", "* broken", "EHLO"),
        (
            "S: 250 mx\n",
            "C: MAIL FROM:<a@a.test>\n",
            "deferred trouble",
            "MAIL FROM",
        ),
        (
            "S: 250 ok\n",
            "C: RCPT TO:<b@b.test>\n",
            "deferred trouble",
            "RCPT TO",
        ),
        ("S: 250 ok\n", "C: DATA\n", "deferred trouble", "DATA"),
        ("S: 354 go\n", "C: Hi\nC: .\n", "unsure", "end of data"),
    ];
    let closed = |phase: &str| format!("the host closed the connection in {phase}");
    let letter = || letter("<a@a.test>", &["<b@b.test>"]);
    let broken = format!("* closed\n* broken {}", closed("its greeting"));
    check(terms(), letter(), &broken);
    let mut transcript = String::new();
    for (said, sent, fate, phase) in turns {
        transcript.push_str(said);
        transcript.push_str(sent);
        let report = match fate {
            "* broken" => format!("* broken {}", closed(phase)),
            fate => format!("* report {fate}; {}", closed(phase)),
        };
        check(
            terms(),
            letter(),
            &format!("{transcript}* closed\n{report}\n* done"),
        );
        // The same place, with a word of it.
        let left = format!("the host left in {phase}: 421 bye");
        let report = match fate {
            "* broken" => format!("* broken {left}"),
            "unsure" => format!("* report deferred 421 end of data; {left}"),
            fate => format!("* report {fate}; {left}"),
        };
        check(
            terms(),
            letter(),
            &format!("{transcript}S: 421 bye\n{report}\n* done"),
        );
    }
}

#[test]
fn lost_within_the_answers_of_lmtp() {
    let lmtp = || Terms {
        protocol: Protocol::Lmtp,
        ..terms()
    };
    let group = PIPELINED.replace("EHLO", "LHLO") + GROUP;
    let play = |transcript: &str| check(lmtp(), two(), &format!("{group}{transcript}"));
    let accepted = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: Hi\nC: .\n";
    play(&format!(
        "{accepted}S: 250 saved\n* closed
        * report delivered 250, unsure; the host closed the connection in end of data"
    ));
    play(&format!(
        "{accepted}S: 250 saved\nS: 421 bye
        * report delivered 250, deferred 421 end of data; the host left in end of data: 421 bye"
    ));
    play(
        "S: 250 ok\nS: 550 no\nS: 550 no\nS: 354 go
        * report failed 550 RCPT TO, failed 550 RCPT TO; an answer out of place in DATA: 354 go",
    );
}

#[test]
fn content_that_is_refused_on_its_way() {
    let chunked = "S: 220 mx\nC: EHLO me.test\nS: 250-mx\nS: 250 CHUNKING\n";
    let letter = || vec![letter("<a@a.test>", &["<b@b.test>"])];
    let transcript = format!(
        "{chunked}C: MAIL FROM:<a@a.test>
        S: 250 ok
        C: RCPT TO:<b@b.test>
        S: 250 ok
        C: BDAT 5
        C: one
        S: 552 too large
        * report failed 552 the message content
        * ready"
    );
    check_all(
        terms(),
        letter(),
        &["one\r\n", "two\r\n", "three\r\n"],
        &transcript,
    );
}

/// An answer that nobody asked for would be taken for that to the next command, and the one behind
/// it for the message's.
#[test]
fn answers_out_of_turn() {
    let ahead = "C: MAIL FROM:<a@a.test>\nS: 250 ok\nS: 250 early\nC: RCPT TO:<b@b.test>
        * report deferred trouble, deferred trouble; an answer out of place in RCPT TO: 250 early
        * done";
    check(terms(), two(), &format!("{HELLO}{ahead}"));
    let behind = "S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: Hi
        C: .
        S: 250 ok
        S: 250 again
        * report delivered 250, delivered 250
        * done";
    check(terms(), two(), &format!("{PIPELINED}{GROUP}{behind}"));
}

#[test]
fn a_kept_connection_that_was_dead() {
    let letters = vec![letter("<>", &["<b@b.test>"]), letter("<>", &["<b@b.test>"])];
    let mut play = Play::new(terms(), letters, &["Hi\r\n"]);
    let first = "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<b@b.test>\nS: 250 ok\nC: DATA\nS: 354 go
        C: Hi\nC: .\nS: 250 ok\n* report delivered 250\n";
    let second = "C: MAIL FROM:<>\n* closed
        * report deferred trouble; the host closed the connection in MAIL FROM; stale";
    play.play(&format!("{HELLO}{first}{second}"));
}
