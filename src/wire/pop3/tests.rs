//! POP3 commands and bodies.

use proptest::prelude::*;

use super::*;
use crate::wire::sasl::Secret;

#[track_caller]
fn check(line: &[u8], want: Result<Command<'_>, Fault>) {
    // Debug hides arguments, so a difference is told by the line.
    assert!(parse(line) == want, "{:?}", line.escape_ascii().to_string());
}

#[test]
fn commands() {
    let auth = |mechanism, initial| Ok(Command::Auth { mechanism, initial });
    check(
        b"USER ana@example.org",
        Ok(Command::User("ana@example.org")),
    );
    check(
        b"pass two words ",
        Ok(Command::Pass(Secret::new(b"two words ".to_vec()))),
    );
    check(b"PASS", Err(Fault::MissingArgument));
    check(b"AUTH", auth(None, None));
    check(b"AUTH PLAIN", auth(Some("PLAIN"), None));
    check(b"AUTH PLAIN =", auth(Some("PLAIN"), Some(b"=")));
    check(b"AUTH PLAIN a b", Err(Fault::ExtraArgument));
    check(b"CAPA", Ok(Command::Capa));
    check(b"STLS", Ok(Command::Stls));
    check(b"UTF8", Ok(Command::Utf8));
    check(b"STAT ", Ok(Command::Stat));
    check(b"STAT 1", Err(Fault::ExtraArgument));
    check(b"list", Ok(Command::List(None)));
    check(b"LIST 7", Ok(Command::List(Some(7))));
    check(b"UIDL 4294967295", Ok(Command::Uidl(Some(u32::MAX))));
    check(b"UIDL 4294967296", Err(Fault::BadNumber));
    check(b"RETR 1", Ok(Command::Retr(1)));
    check(b"RETR 0", Err(Fault::BadNumber));
    check(b"RETR -1", Err(Fault::BadNumber));
    check(b"RETR", Err(Fault::MissingArgument));
    check(
        b"TOP 1 0",
        Ok(Command::Top {
            message: 1,
            lines: 0,
        }),
    );
    check(b"TOP 1", Err(Fault::MissingArgument));
    check(b"DELE 3", Ok(Command::Dele(3)));
    check(b"NOOP", Ok(Command::Noop));
    check(b"RSET", Ok(Command::Rset));
    check(b"Quit", Ok(Command::Quit));
    check(
        b"APOP ana c4c9334bac560ecc979e58001b3e22fb",
        Err(Fault::UnknownCommand),
    );
    check(b"", Err(Fault::UnknownCommand));
}

fn stuff(message: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stuffer = DotStuffer::default();
    for chunk in message.chunks(chunk) {
        stuffer.push(chunk, &mut out);
    }
    stuffer.finish(&mut out);
    out
}

#[track_caller]
fn check_stuffed(message: &[u8], want: &[u8]) {
    for size in 1..=message.len().max(1) {
        assert_eq!(
            stuff(message, size).escape_ascii().to_string(),
            want.escape_ascii().to_string(),
            "chunks of {size}"
        );
    }
}

#[test]
fn bodies_are_dot_stuffed() {
    check_stuffed(b"", b".\r\n");
    check_stuffed(b"a\r\n", b"a\r\n.\r\n");
    check_stuffed(b"a", b"a\r\n.\r\n");
    check_stuffed(b"a\r", b"a\r\n.\r\n");
    check_stuffed(b".\r\n..\r\na.b\r\n", b"..\r\n...\r\na.b\r\n.\r\n");
    check_stuffed(b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n");
    check_stuffed(b"a\r.b\r\n", b"a\r.b\r\n.\r\n");
}

#[track_caller]
fn check_top(message: &[u8], lines: u32, want: &[u8]) {
    for size in 1..=message.len() {
        let mut cutter = TopCutter::new(lines);
        let mut got = Vec::new();
        for chunk in message.chunks(size) {
            got.extend_from_slice(&chunk[..cutter.take(chunk)]);
        }
        assert_eq!(got, want, "{lines} lines in chunks of {size}");
    }
}

#[test]
fn top_takes_the_header_and_so_many_lines() {
    let message = b"A: 1\r\nB: 2\r\n\r\none\r\n\r\nthree\r\n";
    check_top(message, 0, b"A: 1\r\nB: 2\r\n\r\n");
    check_top(message, 1, b"A: 1\r\nB: 2\r\n\r\none\r\n");
    check_top(message, 2, b"A: 1\r\nB: 2\r\n\r\none\r\n\r\n");
    check_top(message, 9, message);
    check_top(b"A: 1\n\nbody\nmore\n", 1, b"A: 1\n\nbody\n");
    check_top(b"\r\nbody\r\n", 0, b"\r\n");
    check_top(b"no end", 0, b"no end");
}

proptest! {
    #[test]
    fn nothing_panics(line: Vec<u8>) {
        let _ = parse(&line);
    }

    /// What a client undoes is the message, with CRLF as its line ends.
    #[test]
    fn unstuffing_gives_the_message(text in "[.a\r\n]{0,40}", chunk in 1usize..9) {
        let stuffed = String::from_utf8(stuff(text.as_bytes(), chunk)).unwrap();
        let body = stuffed.strip_suffix(".\r\n").unwrap();
        let ended_early = ["\r\n", body].concat().contains("\r\n.\r\n");
        prop_assert!(!ended_early);
        let lines = body.split_inclusive("\r\n");
        let plain: String = lines.map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
        let mut want = text.replace("\r\n", "\n").replace('\n', "\r\n");
        if !want.is_empty() && !want.ends_with("\r\n") {
            want = want.strip_suffix('\r').unwrap_or(&want).to_owned() + "\r\n";
        }
        prop_assert_eq!(plain, want);
    }
}
