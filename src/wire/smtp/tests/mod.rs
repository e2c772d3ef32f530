//! Commands against tables; DATA in any cuts; smuggling attempts.

mod client;
mod corpus;

use proptest::prelude::*;

use super::*;
use crate::base::UnixMs;
use crate::wire::address::AddressError;

#[track_caller]
fn check(line: &str, want: Result<Command<'_>, SyntaxError>) {
    assert_eq!(Command::parse(line.as_bytes()), want, "{line}");
}

#[track_caller]
fn mail(line: &str) -> MailFrom {
    match Command::parse(line.as_bytes()) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line}: {other:?}"),
    }
}

#[track_caller]
fn rcpt(line: &str) -> RcptTo {
    match Command::parse(line.as_bytes()) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn commands_are_read() {
    check("EHLO client.test", Ok(Command::Ehlo("client.test")));
    check("ehlo  DESKTOP_1 extra", Ok(Command::Ehlo("DESKTOP_1")));
    check("LHLO [192.0.2.1] ", Ok(Command::Lhlo("[192.0.2.1]")));
    check("HELO", Err(SyntaxError::NoClientName));
    check("DATA", Ok(Command::Data));
    check("data \t", Ok(Command::Data));
    check("DATA x", Err(SyntaxError::UnexpectedArgument));
    check(
        "BDAT 12",
        Ok(Command::Bdat {
            bytes: 12,
            last: false,
        }),
    );
    check(
        "bdat 0 last",
        Ok(Command::Bdat {
            bytes: 0,
            last: true,
        }),
    );
    check("BDAT", Err(SyntaxError::BadChunkSize));
    check("BDAT -1", Err(SyntaxError::BadChunkSize));
    check("BDAT 9999999999999999999", Err(SyntaxError::BadChunkSize));
    check("BDAT 1 LAST x", Err(SyntaxError::BadChunkSize));
    check("RSET", Ok(Command::Rset));
    check("NOOP anything", Ok(Command::Noop));
    check("QUIT", Ok(Command::Quit));
    check("VRFY ana", Ok(Command::Vrfy("ana")));
    check("EXPN", Err(SyntaxError::NoArgument));
    check("HELP", Ok(Command::Help));
    check("STARTTLS", Ok(Command::StartTls));
    check("STARTTLS now", Err(SyntaxError::UnexpectedArgument));
    check(
        "AUTH LOGIN",
        Ok(Command::Auth {
            mechanism: "LOGIN",
            initial: None,
        }),
    );
    check(
        "AUTH PLAIN AGEA",
        Ok(Command::Auth {
            mechanism: "PLAIN",
            initial: Some("AGEA"),
        }),
    );
    check("AUTH", Err(SyntaxError::BadAuth));
    check("AUTH PLAIN a b", Err(SyntaxError::BadAuth));
    check("", Err(SyntaxError::UnknownCommand));
    check("GET / HTTP/1.1", Err(SyntaxError::UnknownCommand));
    check("NOOP \0", Err(SyntaxError::BadCharacter));
    check("NOOP \r", Err(SyntaxError::BadCharacter));
}

#[test]
fn mail_and_its_parameters_are_read() {
    let all = mail(
        "MAIL FROM:<a@demo.test> SIZE=1000 body=8bitmime SMTPUTF8 AUTH=<> RET=HDRS \
         ENVID=x+2By REQUIRETLS",
    );
    assert_eq!(all.path.to_string(), "<a@demo.test>");
    assert_eq!(
        (all.size, all.body, all.smtputf8),
        (Some(1000), BodyKind::EightBit, true)
    );
    assert_eq!((all.ret, all.require_tls), (Some(DsnReturn::Headers), true));
    assert_eq!(all.envelope_id.as_deref(), Some("x+y"));
    assert_eq!(all.auth.as_deref(), Some(""));
    assert_eq!(mail("mail from: <>").path.to_string(), "<>");
    assert_eq!(
        mail("MAIL FROM:<> HOLDFOR=86400").hold,
        Some(Hold::For(86_400))
    );
    assert_eq!(
        mail("MAIL FROM:<> holduntil=2026-11-22T15:00:00+01:00").hold,
        Some(Hold::Until(UnixMs(1_795_356_000_000)))
    );
    for wrong in [
        "HOLDFOR=0",
        "HOLDFOR=1234567890",
        "HOLDFOR",
        "HOLDFOR=5 HOLDUNTIL=2026-11-22T15:00:00Z",
    ] {
        let name = if wrong.contains("UNTIL") {
            "HOLDUNTIL"
        } else {
            "HOLDFOR"
        };
        check(
            &format!("MAIL FROM:<> {wrong}"),
            Err(SyntaxError::BadParameter(name)),
        );
    }
    assert!(mail("MAIL FROM:<> XVERP").verp && mail("MAIL FROM:<> XVERP=+=").verp);
    check(
        "MAIL FROM:<> XVERP=-#",
        Err(SyntaxError::BadParameter("XVERP")),
    );
    check(
        "MAIL FROM:<> HOLDUNTIL=tomorrow",
        Err(SyntaxError::BadParameter("HOLDUNTIL")),
    );
    assert_eq!(
        mail("MAIL FROM:<> SIZE=99999999999999999999").size,
        Some(u64::MAX)
    );
    assert_eq!(
        mail("MAIL FROM:<é@demo.test> SMTPUTF8").path.to_string(),
        "<é@demo.test>"
    );
    check("MAIL", Err(SyntaxError::NoPath));
    check("MAIL TO:<a@b>", Err(SyntaxError::NoPath));
    check(
        "MAIL FROM:a@b",
        Err(SyntaxError::Path(AddressError::NoBrackets)),
    );
    check("MAIL FROM:<é@demo.test>", Err(SyntaxError::NeedsSmtpUtf8));
    check("MAIL FROM:<a@b> FOO=1", Err(SyntaxError::UnknownParameter));
    check(
        "MAIL FROM:<a@b> SIZE=1 size=2",
        Err(SyntaxError::UnknownParameter),
    );
    check("MAIL FROM:<a@b>SIZE=1", Err(SyntaxError::UnknownParameter));
    check(
        "MAIL FROM:<a@b> SIZE=",
        Err(SyntaxError::BadParameter("SIZE")),
    );
    check(
        "MAIL FROM:<a@b> BODY=9BIT",
        Err(SyntaxError::BadParameter("BODY")),
    );
    check(
        "MAIL FROM:<a@b> SMTPUTF8=1",
        Err(SyntaxError::BadParameter("SMTPUTF8")),
    );
    check(
        "MAIL FROM:<a@b> ENVID=+0D",
        Err(SyntaxError::BadParameter("ENVID")),
    );
    check(
        "MAIL FROM:<a@b> RET=ALL",
        Err(SyntaxError::BadParameter("RET")),
    );
}

#[test]
fn rcpt_and_its_parameters_are_read() {
    let all = rcpt("RCPT TO:<b@demo.test> NOTIFY=success,FAILURE ORCPT=rfc822;b+2Bc@demo.test");
    let notify = Notify {
        success: true,
        failure: true,
        delay: false,
    };
    assert_eq!(all.notify, Some(notify));
    let original = all.original.expect("given");
    assert_eq!(
        (&original.kind[..], &original.address[..]),
        ("rfc822", "b+c@demo.test")
    );
    assert_eq!(
        rcpt("RCPT TO:<postmaster>").path.to_string(),
        "<Postmaster>"
    );
    assert_eq!(
        rcpt("RCPT TO:<b@c> NOTIFY=NEVER").notify,
        Some(Notify::default())
    );
    check("RCPT TO:<>", Err(SyntaxError::NullRecipient));
    check(
        "RCPT TO:<b@c> NOTIFY=NEVER,DELAY",
        Err(SyntaxError::BadParameter("NOTIFY")),
    );
    check(
        "RCPT TO:<b@c> ORCPT=b@c",
        Err(SyntaxError::BadParameter("ORCPT")),
    );
    check("RCPT TO:<b@c> SIZE=1", Err(SyntaxError::UnknownParameter));
    check("RCPT FROM:<b@c>", Err(SyntaxError::NoPath));
}

#[test]
fn replies_are_written() {
    let mut out = Vec::new();
    SyntaxError::UnknownParameter.reply().encode(&mut out);
    Reply::plain(250, "host")
        .line("SIZE 1")
        .line("HELP\r\nevil")
        .encode(&mut out);
    Reply::new(250, "2.0.0", "a").line("b").encode(&mut out);
    let want = "555 5.5.4 Parameter not recognised or given twice\r\n\
                250-host\r\n250-SIZE 1\r\n250 HELP  evil\r\n250-2.0.0 a\r\n250 2.0.0 b\r\n";
    assert_eq!(String::from_utf8_lossy(&out), want);
    let long = "é".repeat(400);
    let mut out = Vec::new();
    Reply::plain(250, &long).encode(&mut out);
    assert!(out.len() < 512);
}

struct Read {
    content: Vec<u8>,
    taken: usize,
    end: Option<DataSummary>,
}

fn read(mode: LineMode, bytes_max: u64, input: &[u8], size: usize) -> Read {
    let mut reader = DotReader::new(mode, bytes_max);
    let (mut content, mut taken) = (Vec::new(), 0);
    for chunk in input.chunks(size.max(1)) {
        let used = reader.feed(chunk, &mut content);
        taken += used;
        if used < chunk.len() {
            break;
        }
    }
    Read {
        content,
        taken,
        end: reader.end(),
    }
}

/// Reads `input`, whole and in pieces, and wants its end where `|` stands.
#[track_caller]
fn check_data(mode: LineMode, input: &str, want: &str, fault: Option<DataFault>) {
    let end = input.find('|');
    let bytes = input.replace('|', "");
    for size in [usize::MAX, 1, 2, 3] {
        let got = read(mode, 1000, bytes.as_bytes(), size.min(bytes.len()));
        assert_eq!(got.end.map(|_| got.taken), end, "{input:?}");
        if let Some(summary) = got.end {
            assert_eq!(summary.fault, fault, "{input:?}");
        }
        if fault.is_none() {
            assert_eq!(String::from_utf8_lossy(&got.content), want, "{input:?}");
        }
    }
}

#[test]
fn data_ends_where_it_ends() {
    use DataFault::{BareCr, BareLf, Nul};
    use LineMode::{Normalise, Strict};
    check_data(Strict, ".\r\n|QUIT\r\n", "", None);
    check_data(Strict, "a\r\n.\r\n|", "a\r\n", None);
    check_data(
        Strict,
        "..\r\n..a\r\n.b\r\n.\r\n|",
        ".\r\n.a\r\nb\r\n",
        None,
    );
    check_data(Strict, "a\r\n.", "a\r\n", None);
    // Smuggling: none of these ends the message, each spoils it.
    check_data(Strict, "a\n.\nMAIL\r\n.\r\n|", "", Some(BareLf));
    check_data(Strict, "a\n.\r\nMAIL\r\n.\r\n|", "", Some(BareLf));
    check_data(Strict, "a\r\n.\nMAIL\r\n.\r\n|", "", Some(BareLf));
    check_data(Strict, "a\r.\rMAIL\r\n.\r\n|", "", Some(BareCr));
    check_data(Strict, "a\r\n.\rMAIL\r\n.\r\n|", "", Some(BareCr));
    check_data(Strict, "a\r.\r\nMAIL\r\n.\r\n|", "", Some(BareCr));
    check_data(Strict, "a\r\r\n.\r\n|", "", Some(BareCr));
    check_data(Strict, "a\r\n\r.\r\n.\r\n|", "", Some(BareCr));
    check_data(Strict, "a\0b\r\n.\r\n|", "", Some(Nul));
    check_data(Strict, ".\n.\r\n", "", None);
    check_data(Normalise, "a\nb\rc\0\r\n.\r\n|", "a\r\nb\r\nc\r\n", None);
    check_data(
        Normalise,
        "a\n.\nb\n..c\r\n.\r\n|",
        "a\r\n.\r\nb\r\n.c\r\n",
        None,
    );
    check_data(Normalise, "a\n.\r\nb\r\n.\r\n|", "a\r\n.\r\nb\r\n", None);
}

#[test]
fn data_is_counted_and_bounded() {
    let got = read(LineMode::Strict, 7, b"abc\r\nabcdef\r\n.\r\nQUIT", 100);
    let summary = got.end.expect("it ended");
    assert_eq!(
        (summary.bytes, summary.lines, summary.line_bytes_max),
        (13, 2, 6)
    );
    assert_eq!((summary.fault, got.taken), (Some(DataFault::TooLarge), 16));
    assert!(got.content.len() <= 7);
    let mut chunk = BdatReader::new(5);
    assert_eq!(chunk.feed(b"abc"), 0..3);
    assert_eq!((chunk.feed(b"deQUIT"), chunk.done()), (0..2, true));
}

proptest! {
    #[test]
    fn stuffing_is_undone(lines in prop::collection::vec("[.a ]{0,5}", 0..20), size in 1usize..9) {
        let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut stuffed = Vec::new();
        let mut stuffer = ContentWriter::dotted();
        for chunk in message.as_bytes().chunks(size) {
            stuffer.feed(chunk, &mut stuffed);
        }
        stuffer.finish(&mut stuffed);
        let end = stuffed.len();
        stuffed.extend_from_slice(b"QUIT\r\n");
        let got = read(LineMode::Strict, u64::MAX, &stuffed, size);
        prop_assert_eq!(got.end.map(|summary| summary.fault), Some(None));
        prop_assert_eq!((got.content, got.taken), (message.into_bytes(), end));
    }

    #[test]
    fn data_does_not_depend_on_cuts(input in "[.\r\n\0a]{0,60}", size in 1usize..9) {
        for mode in [LineMode::Strict, LineMode::Normalise] {
            let whole = read(mode, 20, input.as_bytes(), usize::MAX);
            let cut = read(mode, 20, input.as_bytes(), size);
            prop_assert_eq!((whole.taken, whole.end), (cut.taken, cut.end));
            if whole.end.is_some_and(|summary| summary.fault.is_none()) {
                prop_assert_eq!(whole.content, cut.content);
            }
            // The only end is CRLF . CRLF.
            let framed = format!("\r\n{input}");
            let at = framed.find("\r\n.\r\n").map(|at| at + 3);
            prop_assert_eq!(whole.end.map(|_| whole.taken), at);
        }
    }

    #[test]
    fn any_line_is_read(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        text in "(MAIL FROM:|RCPT TO:|AUTH |BDAT )[<>@a=+;é 0-9A-Z\".]{0,40}",
    ) {
        for line in [&bytes[..], text.as_bytes()] {
            if let Err(error) = Command::parse(line) {
                let mut out = Vec::new();
                error.reply().encode(&mut out);
                prop_assert!(out.starts_with(b"5"));
            }
        }
    }
}
