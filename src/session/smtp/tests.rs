//! The machine alone: a client's bytes in, replies and messages out, whatever the cuts.

use proptest::prelude::*;

use super::counters::Role;
use super::machine::{Act, Event, Holds, Machine, StartTls, Terms, too_many_errors};
use crate::base::UnixMs;
use crate::config::AuthMode;
use crate::wire::smtp::{LineMode, Reply};

/// Stands in for everything behind the machine: takes mail for `u...`, and the password `right`.
struct Fake {
    machine: Machine,
    replies: Vec<u8>,
    content: Vec<u8>,
    messages: Vec<String>,
    recipients: usize,
    is_closed: bool,
}

fn terms(role: Role) -> Terms {
    Terms {
        local_domain: None,
        role,
        hostname: "mx.test".to_owned(),
        message_bytes_max: 1_000,
        line_mode: LineMode::Strict,
        auth: if role == Role::Submission {
            AuthMode::Required
        } else {
            AuthMode::Off
        },
        clear_log_in: true,
        start_tls: StartTls::Offered,
        holds: None,
    }
}

impl Fake {
    fn new(terms: Terms) -> Self {
        Fake {
            machine: Machine::new(terms, false),
            replies: Vec::new(),
            content: Vec::new(),
            messages: Vec::new(),
            recipients: 0,
            is_closed: false,
        }
    }

    fn say(&mut self, reply: &Reply) {
        reply.encode(&mut self.replies);
    }

    /// Feeds `input` in pieces of `size`.
    fn feed(&mut self, input: &[u8], size: usize) {
        let mut unread = Vec::new();
        for piece in input.chunks(size.max(1)) {
            unread.extend_from_slice(piece);
            while !self.is_closed {
                let mut content = Vec::new();
                let (used, event) = self.machine.read(&unread, &mut content);
                unread.drain(..used);
                self.content.append(&mut content);
                if event == Event::Wait {
                    break;
                }
                if event == Event::Do(Act::StartTls) {
                    unread.clear();
                }
                self.act(event);
                if self.machine.is_between_messages() {
                    self.content.clear();
                    self.recipients = 0;
                }
                if self.machine.has_erred_enough() && !self.is_closed {
                    self.say(&too_many_errors());
                    self.is_closed = true;
                }
            }
        }
    }

    fn act(&mut self, event: Event) {
        let ok = Reply::new(250, "2.0.0", "OK");
        match event {
            Event::Wait | Event::Onward => {}
            Event::Say(reply) => self.say(&reply),
            Event::Bye(reply) => {
                self.say(&reply);
                self.is_closed = true;
            }
            Event::Do(Act::Mail(mail)) => {
                self.machine.mail_done(true, mail.smtputf8);
                self.say(&ok);
            }
            Event::Do(Act::Rcpt(rcpt)) => {
                let is_known = rcpt.path.to_string().starts_with("<u");
                self.machine.rcpt_done(is_known);
                self.recipients += usize::from(is_known);
                match is_known {
                    true => self.say(&ok),
                    false => self.say(&Reply::new(550, "5.1.1", "Unknown")),
                }
            }
            Event::Do(Act::Data) => self.say(&Reply::plain(354, "Go")),
            Event::Do(Act::Chunk { .. }) => {}
            Event::Do(Act::StartTls) => {
                self.say(&Reply::new(220, "2.0.0", "Go"));
                self.machine.secured();
            }
            Event::Do(Act::LogIn(credentials)) => {
                let is_in = credentials.password.expose() == b"right";
                self.machine.log_in_done(is_in);
                match is_in {
                    true => self.say(&Reply::new(235, "2.7.0", "OK")),
                    false => self.say(&Reply::new(535, "5.7.8", "No")),
                }
            }
            Event::DataEnd(summary) => {
                let refused = summary.fault.map(|fault| fault.reply());
                self.end(refused);
            }
            Event::ChunkEnd { last: false, .. } => self.say(&ok),
            Event::ChunkEnd { last: true, .. } => self.end(None),
        }
    }

    fn end(&mut self, refused: Option<Reply>) {
        let each = if self.machine.terms().role == Role::Lmtp {
            self.recipients
        } else {
            1
        };
        let content = std::mem::take(&mut self.content);
        if refused.is_none() {
            self.messages
                .push(String::from_utf8_lossy(&content).into_owned());
        }
        let reply = refused.unwrap_or(Reply::new(250, "2.0.0", "queued"));
        (0..each).for_each(|_| self.say(&reply));
    }

    /// The codes of the replies, in order.
    fn codes(&self) -> String {
        let text = String::from_utf8_lossy(&self.replies);
        let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
        let codes: Vec<&str> = text.lines().filter(last).map(|line| &line[..3]).collect();
        codes.join(" ")
    }
}

/// Sends `input` whole and in pieces; wants these reply codes and these messages.
#[track_caller]
fn check_with(terms: &Terms, input: &str, codes: &str, messages: &[&str]) {
    for size in [usize::MAX, 1, 2, 3, 50] {
        let mut fake = Fake::new(terms.clone());
        fake.feed(input.as_bytes(), size.min(input.len()));
        assert_eq!(fake.codes(), codes, "{input:?} by {size}");
        assert_eq!(fake.messages, messages, "{input:?} by {size}");
    }
}

#[track_caller]
fn check(role: Role, input: &str, codes: &str, messages: &[&str]) {
    check_with(&terms(role), input, codes, messages);
}

/// After EHLO, MAIL and a good RCPT.
const BEGUN: &str = "EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<u@x>\r\n";

#[test]
fn commands_have_an_order() {
    let smtp = Role::Smtp;
    check(smtp, "EHLO c\r\nQUIT\r\nNOOP\r\n", "250 221", &[]);
    check(
        smtp,
        "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@x>\r\n",
        "250 250 250",
        &[],
    );
    check(smtp, "MAIL FROM:<a@x>\r\nNOOP\r\n", "503 250", &[]);
    check(
        smtp,
        "EHLO c\r\nRCPT TO:<u@x>\r\nDATA\r\n",
        "250 503 503",
        &[],
    );
    check(
        smtp,
        "EHLO c\r\nMAIL FROM:<a@x>\r\nMAIL FROM:<b@x>\r\n",
        "250 250 503",
        &[],
    );
    check(
        smtp,
        "EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<x@x>\r\nDATA\r\n",
        "250 250 550 554",
        &[],
    );
    check(
        smtp,
        "EHLO c\r\nMAIL FROM:<a@x>\r\nRSET\r\nRCPT TO:<u@x>\r\n",
        "250 250 250 503",
        &[],
    );
    check(
        smtp,
        &format!("{BEGUN}EHLO c\r\nDATA\r\n"),
        "250 250 250 250 503",
        &[],
    );
    check(
        smtp,
        "LHLO c\r\nVRFY u\r\nEXPN u\r\nHELP\r\nFOO\r\n",
        "500 252 502 214 500",
        &[],
    );
    check(
        smtp,
        "EHLO c\r\nMAIL FROM:<a@x> BODY=BINARYMIME\r\n",
        "250 555",
        &[],
    );
    check(
        smtp,
        "EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<ü@x>\r\n",
        "250 250 553",
        &[],
    );
    let utf8 = "EHLO c\r\nMAIL FROM:<a@x> SMTPUTF8\r\nRCPT TO:<uü@x>\r\n";
    check(smtp, utf8, "250 250 250", &[]);
    check(
        Role::Lmtp,
        "EHLO c\r\nHELO c\r\nLHLO c\r\nDATA\r\n",
        "500 500 250 503",
        &[],
    );
    let nobody = "LHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<x@x>\r\nDATA\r\n";
    check(Role::Lmtp, nobody, "250 250 550 503", &[]);
}

#[test]
fn ehlo_offers_what_there_is() {
    let offered = |terms: Terms, before: &str| {
        let mut fake = Fake::new(terms);
        fake.feed(before.as_bytes(), usize::MAX);
        fake.replies.clear();
        fake.feed(b"EHLO c\r\n", usize::MAX);
        String::from_utf8(fake.replies).expect("ASCII")
    };
    let all = "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
               250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-DSN\r\n250 HELP\r\n";
    assert_eq!(offered(terms(Role::Smtp), ""), all);
    let secure = offered(terms(Role::Submission), "STARTTLS\r\n");
    assert!(secure.contains("250-AUTH PLAIN LOGIN\r\n") && !secure.contains("STARTTLS"));
    let clear = Terms {
        clear_log_in: false,
        ..terms(Role::Submission)
    };
    assert!(!offered(clear, "").contains("AUTH"));
    let withheld = Terms {
        start_tls: StartTls::Withheld,
        ..terms(Role::Smtp)
    };
    assert!(!offered(withheld, "").contains("STARTTLS"));
    let holds = "250-FUTURERELEASE 86400 2026-11-22T14:00:00Z\r\n";
    assert!(offered(holding(Role::Submission), "").contains(holds));
}

/// A day, up to the second that the tests are from.
fn holding(role: Role) -> Terms {
    Terms {
        holds: Some(Holds {
            seconds_max: 86_400,
            until_max: UnixMs(1_795_356_000_000),
        }),
        ..terms(role)
    }
}

#[test]
fn messages_are_held_within_what_is_offered() {
    let check = |terms: &Terms, hold: &str, want: &str| {
        let held = format!("EHLO c\r\nMAIL FROM:<a@x> {hold}\r\n");
        check_with(terms, &held, want, &[]);
    };
    let holding = holding(Role::Smtp);
    check(&holding, "HOLDFOR=86400", "250 250");
    check(&holding, "HOLDFOR=86401", "250 501");
    check(&holding, "HOLDUNTIL=2026-11-22T14:00:00Z", "250 250");
    check(&holding, "HOLDUNTIL=2026-11-22T15:00:00.1+01:00", "250 501");
    check(&terms(Role::Smtp), "HOLDFOR=1", "250 555");
}

#[test]
fn content_is_read_to_its_end() {
    let smtp = Role::Smtp;
    let one = format!("{BEGUN}DATA\r\nA: b\r\n\r\n..c\r\n.\r\nQUIT\r\n");
    check(
        smtp,
        &one,
        "250 250 250 354 250 221",
        &["A: b\r\n\r\n.c\r\n"],
    );
    let two = "RCPT TO:<u@x>\r\nRCPT TO:<x@x>\r\nRCPT TO:<u2@x>\r\n";
    let lmtp = format!("LHLO c\r\nMAIL FROM:<a@x>\r\n{two}DATA\r\nx\r\n.\r\nNOOP\r\n");
    check(
        Role::Lmtp,
        &lmtp,
        "250 250 250 550 250 354 250 250 250",
        &["x\r\n"],
    );
    let bad = format!("{BEGUN}DATA\r\nx\n.\nMAIL FROM:<b@x>\r\n.\r\nNOOP\r\n");
    check(smtp, &bad, "250 250 250 354 550 250", &[]);
    let nul = format!("{BEGUN}DATA\r\nx\0\r\n.\r\nNOOP\r\n");
    check(smtp, &nul, "250 250 250 354 550 250", &[]);
    let large = format!("{BEGUN}DATA\r\n{}\r\n.\r\nNOOP\r\n", "x".repeat(2_000));
    check(smtp, &large, "250 250 250 354 552 250", &[]);
    let endless = format!("{BEGUN}DATA\r\n{}\r\n", "x\r\n".repeat(2_000));
    check(smtp, &endless, "250 250 250 354 552", &[]);
    let normalising = Terms {
        line_mode: LineMode::Normalise,
        ..terms(smtp)
    };
    let printer = format!("{BEGUN}DATA\r\na\nb\r\n.\r\nQUIT\r\n");
    check_with(
        &normalising,
        &printer,
        "250 250 250 354 250 221",
        &["a\r\nb\r\n"],
    );
}

#[test]
fn chunks_are_counted() {
    let smtp = Role::Smtp;
    let two = format!("{BEGUN}BDAT 3\r\na\nbBDAT 7 LAST\r\n\r\n.\r\ncdNOOP\r\n");
    check(smtp, &two, "250 250 250 250 250 250", &["a\nb\r\n.\r\ncd"]);
    let empty = format!("{BEGUN}BDAT 2\r\nabBDAT 0 LAST\r\nNOOP\r\n");
    check(smtp, &empty, "250 250 250 250 250 250", &["ab"]);
    let nobody = "EHLO c\r\nMAIL FROM:<a@x>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n";
    check(smtp, nobody, "250 250 554 250", &[]);
    check(
        smtp,
        "EHLO c\r\nBDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\nNOOP\r\n",
        "250 503 503 250",
        &[],
    );
    let mixed =
        format!("{BEGUN}BDAT 1\r\naDATA\r\nRCPT TO:<u@x>\r\nRSET\r\nBDAT 1 LAST\r\nbNOOP\r\n");
    check(smtp, &mixed, "250 250 250 250 503 503 250 503 250", &[]);
    let (large, x) = ("BDAT 600\r\n", "x".repeat(600));
    let over = format!("{BEGUN}{large}{x}{large}{x}BDAT 1 LAST\r\naNOOP\r\n");
    check(smtp, &over, "250 250 250 250 552 503 250", &[]);
    check(
        smtp,
        &format!("{BEGUN}BDAT 99999\r\nNOOP\r\n"),
        "250 250 250 552",
        &[],
    );
    check(
        smtp,
        &format!("{BEGUN}BDAT x\r\nNOOP\r\n"),
        "250 250 250 501",
        &[],
    );
    let lmtp = "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@x>\r\nRCPT TO:<u2@x>\r\nBDAT 1 LAST\r\na";
    check(Role::Lmtp, lmtp, "250 250 250 250 250 250", &["a"]);
}

#[test]
fn a_log_in_comes_first_where_it_must() {
    let submission = Role::Submission;
    check(
        submission,
        "EHLO pc_1\r\nMAIL FROM:<a@x>\r\n",
        "250 530",
        &[],
    );
    // \0u\0right, and in two steps; LOGIN with the name at once, as Outlook does, and without.
    let (plain, name, password) = ("AHUAcmlnaHQ=", "dQ==", "cmlnaHQ=");
    let ways = [
        (format!("AUTH PLAIN {plain}\r\n"), "235"),
        (format!("AUTH plain\r\n{plain}\r\n"), "334 235"),
        (format!("AUTH LOGIN {name}\r\n{password}\r\n"), "334 235"),
        (
            format!("AUTH LOGIN\r\n{name}\r\n{password}\r\n"),
            "334 334 235",
        ),
    ];
    for (way, codes) in ways {
        let dialog = format!("EHLO pc\r\n{way}AUTH PLAIN {plain}\r\nMAIL FROM:<a@x>\r\n");
        check(submission, &dialog, &format!("250 {codes} 503 250"), &[]);
    }
    let wrong = "EHLO c\r\nAUTH PLAIN AHUAd3Jvbmc=\r\nMAIL FROM:<a@x>\r\n";
    check(submission, wrong, "250 535 530", &[]);
    check(
        submission,
        "EHLO c\r\nAUTH PLAIN\r\n*\r\nNOOP\r\n",
        "250 334 501 250",
        &[],
    );
    check(
        submission,
        "EHLO c\r\nAUTH PLAIN !\r\nAUTH X\r\nNOOP\r\n",
        "250 501 504 250",
        &[],
    );
    check(
        submission,
        "HELO c\r\nAUTH PLAIN\r\nNOOP\r\n",
        "250 503 250",
        &[],
    );
    check(Role::Smtp, "EHLO c\r\nAUTH PLAIN\r\n", "250 502", &[]);
    let clear = Terms {
        clear_log_in: false,
        ..terms(submission)
    };
    check_with(
        &clear,
        "EHLO c\r\nAUTH PLAIN\r\nMAIL FROM:<a@x>\r\n",
        "250 538 530",
        &[],
    );
    let tries = "AUTH PLAIN AHUAd3Jvbmc=\r\n".repeat(9);
    check(
        submission,
        &format!("EHLO c\r\n{tries}"),
        "250 535 535 535 535 535 421",
        &[],
    );
}

#[test]
fn nothing_survives_start_tls() {
    let mut fake = Fake::new(terms(Role::Smtp));
    fake.feed(
        format!("{BEGUN}STARTTLS\r\nDATA\r\nNOOP\r\n").as_bytes(),
        usize::MAX,
    );
    assert_eq!(fake.codes(), "250 250 250 220");
    fake.feed(
        b"MAIL FROM:<a@x>\r\nEHLO c\r\nDATA\r\nSTARTTLS\r\n",
        usize::MAX,
    );
    assert_eq!(fake.codes(), "250 250 250 220 503 250 503 503");
    let absent = Terms {
        start_tls: StartTls::Absent,
        ..terms(Role::Smtp)
    };
    check_with(&absent, "STARTTLS\r\nNOOP\r\n", "502 250", &[]);
}

#[test]
fn bad_lines_cost_no_step() {
    let smtp = Role::Smtp;
    check(smtp, "EHLO c\nRSET\nNOOP\n", "", &[]);
    check(smtp, "EHLO c\nRSET\r\nNOOP\r\n", "500 250", &[]);
    check(smtp, "NO\0OP\r\nNOOP \r \r\nNOOP\r\n", "500 500 250", &[]);
    let long = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(70_000));
    check(smtp, &long, "500 250", &[]);
    let many = "FOO\r\n".repeat(30);
    let codes = format!("{}421", "500 ".repeat(19));
    check(smtp, &many, &codes, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes, the machine answers a QUIT behind the end of whatever it is in.
    #[test]
    fn any_bytes_leave_the_machine_in_step(
        parts in prop::collection::vec(prop_oneof![
            Just("EHLO c\r\n".to_owned()),
            Just(BEGUN.to_owned()),
            Just("DATA\r\n".to_owned()),
            Just("\r\n.\r\n".to_owned()),
            Just("BDAT 5\r\n".to_owned()),
            Just("BDAT 3 LAST\r\n".to_owned()),
            Just("AUTH PLAIN\r\n".to_owned()),
            Just("RSET\r\n".to_owned()),
            "[.\r\n\0a-c]{0,12}",
        ], 0..25),
        size in 1usize..40,
        lmtp: bool,
    ) {
        let role = if lmtp { Role::Lmtp } else { Role::Submission };
        let input = parts.concat();
        let mut whole = Fake::new(terms(role));
        whole.feed(input.as_bytes(), usize::MAX);
        let mut cut = Fake::new(terms(role));
        cut.feed(input.as_bytes(), size);
        prop_assert_eq!(&whole.replies, &cut.replies);
        prop_assert_eq!(&whole.messages, &cut.messages);
        // A chunk that is owed, the end of content, of a line, of an exchange; then QUIT.
        cut.feed(b"12345\r\n.\r\n\r\n*\r\nQUIT\r\n", size);
        let codes = cut.codes();
        // Or the session had ended before, by too many faults or what nobody can resume from.
        let is_end = ["221", "421", "501", "552"].iter().any(|code| codes.ends_with(code));
        prop_assert!(cut.is_closed && is_end, "{}", codes);
    }

    /// One DATA with one true end is one message, whatever looks like an end inside.
    #[test]
    fn nothing_is_smuggled(
        inside in prop::collection::vec(prop_oneof![
            Just("\n.\n"), Just("\n.\r\n"), Just("\r\n.\n"), Just("\r.\r"), Just("\r\n.\r"),
            Just("\r\n\0.\r\n"), Just("\r\n.\0\r\n"), Just("\r\n. \r\n"), Just("\r\n..\r\n"),
            Just("MAIL FROM:<e@x>\r\nRCPT TO:<u@x>\r\nDATA\r\nevil\r\n"),
        ], 0..12),
        size in 1usize..30,
        normalises: bool,
    ) {
        let inside = inside.concat();
        let framed = format!("\r\n{inside}\r\n.\r\n");
        prop_assume!(framed.find("\r\n.\r\n") == Some(framed.len() - 5));
        let mode = if normalises { LineMode::Normalise } else { LineMode::Strict };
        let mut fake = Fake::new(Terms { line_mode: mode, ..terms(Role::Smtp) });
        let input = format!("{BEGUN}DATA\r\n{inside}\r\n.\r\nQUIT\r\n");
        fake.feed(input.as_bytes(), size);
        prop_assert!(fake.messages.len() <= 1);
        let codes = fake.codes();
        prop_assert!(
            codes.starts_with("250 250 250 354 ") && codes.ends_with(" 221")
                && codes.len() == "250 250 250 354 250 221".len(),
            "{}", codes
        );
    }
}
