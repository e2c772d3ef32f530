//! Mbox files against tables, round trips, and any bytes at all.

mod corpus;

use proptest::prelude::*;

use super::*;
use crate::base::UnixMs;

/// A message as it was found: its octets unquoted, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub date: UnixMs,
    pub text: Vec<u8>,
    pub at: u64,
    pub len: u64,
}

/// Reads a whole file through windows that grow by `stride` octets.
pub(super) fn read(file: &[u8], dialect: Dialect, stride: usize) -> Result<Vec<Found>, u64> {
    let mut splitter = Splitter::new(dialect, 0);
    let (mut start, mut end) = (0, stride.min(file.len()));
    let mut all: Vec<Found> = Vec::new();
    let (mut date, mut text, mut unquote) = (UnixMs(0), Vec::new(), Unquote::default());
    loop {
        let last = end == file.len();
        let (used, step) = splitter.step(&file[start..end], last);
        let mut grows = false;
        match step {
            Step::Begin(line) => date = line.date,
            Step::Piece(piece) if dialect.quoted => unquote.feed(piece, &mut text),
            Step::Piece(piece) => text.extend_from_slice(piece),
            Step::End { at, len } => {
                unquote.finish(&mut text);
                let text = std::mem::take(&mut text);
                all.push(Found {
                    date,
                    text,
                    at,
                    len,
                });
            }
            Step::Look(at) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let rest = file.get(from..);
                splitter.looked(at, rest.map(|rest| &rest[..rest.len().min(LOOK_BYTES)]));
            }
            Step::More => {
                assert!(used > 0 || !last, "asked to grow beyond the end");
                grows = used == 0;
            }
            Step::NoMbox => return Err(splitter.at()),
            Step::Done => return Ok(all),
        }
        start += used;
        assert_eq!(start as u64, splitter.at());
        end = match grows {
            true => (end + stride).min(file.len()),
            false => end.max((start + stride).min(file.len())),
        };
    }
}

/// The messages of a file, however its windows are cut.
#[track_caller]
fn check(file: &str, want_dialect: Dialect, want: &[&str]) {
    let dialect = judge(file.as_bytes(), true);
    assert_eq!(dialect, want_dialect, "{file:?}");
    for stride in [1, 7, 64, 1 << 20] {
        let found = read(file.as_bytes(), dialect, stride).expect("an mbox file");
        let texts: Vec<String> = found
            .iter()
            .map(|f| String::from_utf8_lossy(&f.text).into_owned())
            .collect();
        assert_eq!(texts, want, "stride {stride}");
        for f in &found {
            let raw = &file.as_bytes()[f.at as usize..(f.at + f.len) as usize];
            let mut out = Vec::new();
            let mut unquote = Unquote::default();
            unquote.feed(raw, &mut out);
            unquote.finish(&mut out);
            let same = if dialect.quoted { &out[..] } else { raw };
            assert_eq!(same, f.text, "the span is the message");
        }
    }
}

const F: &str = "From ana@example.org Mon Jan  5 10:11:12 2026\n";
const CL: Dialect = Dialect {
    lengths: true,
    quoted: true,
};
const CL2: Dialect = Dialect {
    lengths: true,
    quoted: false,
};

#[test]
fn messages_end_before_from_lines() {
    let check = |file: String, want: &[&str]| check(&file, Dialect::RD, want);
    check(String::new(), &[]);
    check(
        format!("{F}A: 1\n\nx\n\n{F}B: 2\n\ny\n\n"),
        &["A: 1\n\nx\n", "B: 2\n\ny\n"],
    );
    // Blank lines of the message's own stay.
    check(
        format!("{F}A: 1\n\nx\n\n\n\n{F}B: 2\n\ny\n"),
        &["A: 1\n\nx\n\n\n", "B: 2\n\ny\n"],
    );
    // No blank line between: the header field behind it says that it is one.
    check(
        format!("{F}A: 1\n\nx\n{F}B: 2\n\ny"),
        &["A: 1\n\nx\n", "B: 2\n\ny"],
    );
    // No date, or no blank line and no header field: text.
    check(
        format!("{F}A: 1\n\nx\n\nFrom here on\n{F}we go\n"),
        &[&format!("A: 1\n\nx\n\nFrom here on\n{F}we go\n")],
    );
    check(
        format!("\n\n{F}A: 1\r\n\r\nx\r\n\r\n{F}B: 2\r\n\r\ny\r\n"),
        &["A: 1\r\n\r\nx\r\n", "B: 2\r\n\r\ny\r\n"],
    );
    // Nothing but From lines.
    check(format!("{F}\n\n{F}\n{F}A: 1\n"), &["\n", "\n", "A: 1\n"]);
}

#[test]
fn quoted_lines_lose_one_mark() {
    check(
        &format!("{F}A: 1\n\n>From a\n>>From b\n> From c\n>Fromage\n>\n"),
        Dialect::RD,
        &["A: 1\n\nFrom a\n>From b\n> From c\n>Fromage\n>\n"],
    );
}

#[test]
fn lengths_are_believed_where_they_fit() {
    let inner = format!("x\n\n{F}X: 1\n\n>From y\n");
    let len = inner.len();
    let sized = format!("{F}A: 1\nContent-Length: {len}\n\n{inner}\n");
    let one = format!("A: 1\nContent-Length: {len}\n\n{inner}");
    check(&format!("{sized}{sized}"), CL2, &[&one, &one]);
    // Fits nothing, so it is another program's.
    let wrong = format!("{F}A: 1\nContent-Length: 3\n\nlonger\n\n{F}B: 2\n\ny\n");
    let texts = ["A: 1\nContent-Length: 3\n\nlonger\n", "B: 2\n\ny\n"];
    check(&wrong, Dialect::RD, &texts);
    // Beyond the end of the file.
    let beyond = format!("{F}A: 1\nContent-Length: 999999999999999\n\nx\n");
    check(
        &beyond,
        Dialect::RD,
        &["A: 1\nContent-Length: 999999999999999\n\nx\n"],
    );
    // Fits, and its lines are quoted all the same.
    let quoted = format!("{F}A: 1\nContent-Length: 8\n\n>From x\n\n{F}B: 2\n\ny\n");
    check(
        &quoted,
        CL,
        &["A: 1\nContent-Length: 8\n\nFrom x\n", "B: 2\n\ny\n"],
    );
    // In a file of such, one that does not fit ends where the next begins.
    let stray = format!("{F}C: 3\nContent-Length: 1\n\nzzz\n\n");
    let many = sized.repeat(12);
    let mut want = vec![one.as_str(); 24];
    want.insert(12, "C: 3\nContent-Length: 1\n\nzzz\n");
    check(&format!("{many}{stray}{many}"), CL2, &want);
}

#[test]
fn what_is_no_mbox_says_so() {
    for text in ["Subject: x\n\ny\n", "From here on\n\n", "\n\nx"] {
        assert!(read(text.as_bytes(), Dialect::RD, 100).is_err(), "{text}");
    }
}

#[test]
fn from_lines_say_when() {
    let check = |line: &str, want: Option<(i64, bool)>| {
        let got = from_line(line.as_bytes()).map(|l| (l.date.seconds(), l.zoned));
        assert_eq!(got, want, "{line}");
    };
    let at = 1_767_607_872;
    check(
        "From ana@example.org Mon Jan  5 10:11:12 2026\n",
        Some((at, false)),
    );
    check("From - Mon Jan  5 10:11:12 2026\r\n", Some((at, false)));
    check(
        "From \"a Mon b\"@x Mon Jan 05 10:11:12 2026",
        Some((at, false)),
    );
    check("From x  Mon Jan  5 10:11 2026\n", Some((at - 12, false)));
    check("From x Mon Jan  5 11:11:12 2026 +0100\n", Some((at, true)));
    check("From x Mon Jan  5 10:11:12 UTC 2026\n", Some((at, true)));
    check(
        "From x Mon, 5 Jan 2026 10:11:12 +0000 (UTC)\n",
        Some((at, true)),
    );
    check(
        "From x Mon Jan  5 10:11:12 2026 remote from there\n",
        Some((at, false)),
    );
    check("From x 10:11:12 2026\n", None);
    check("From here on Monday\n", None);
    check(">From x Mon Jan  5 10:11:12 2026\n", None);
}

#[test]
fn headers_say_flags_and_arrival() {
    let from = from_line(F.as_bytes()).expect("a From line");
    let of = |head: &str| marks(head.as_bytes(), &from);
    let got = of("Status: RO\nX-Status: AFT\nX-Keywords: $Junk Work,Work b{d\n\nStatus: x\n");
    assert!(got.seen && got.answered && got.flagged && got.draft && !got.deleted);
    assert_eq!(got.keywords, ["$Junk", "Work"]);
    assert_eq!(got.left_out, 1);
    let got = of("X-Mozilla-Status: 1005\nX-Mozilla-Keys: $label1  \n\n");
    assert!(got.seen && got.flagged && !got.answered && !got.removed);
    assert_eq!(got.keywords, ["$Forwarded", "$label1"]);
    assert!(of("X-Mozilla-Status: 0009\n\n").removed);
    let check = |head: &str, want: i64| {
        let arrived = of(head).arrived.map(|at| at.seconds() - 1_767_607_872);
        assert_eq!(arrived, Some(want), "{head}");
    };
    check("Status: O\n\n", 0);
    // The clock of Madrid, told by when it was received.
    check(
        "Received: by x;\n Mon, 5 Jan 2026 10:11:11 +0100\n\n",
        -3600,
    );
    check("Date: Mon, 5 Jan 2026 14:40:12 +0530\n\n", -3600);
    // Another day: nothing to learn.
    check("Date: Sun, 4 Jan 2026 10:11:12 +0100\n\n", 0);
    check("Date: Mon, 5 Jan 2026 10:04:00 +0000\n\n", 0);
}

#[test]
fn the_message_that_is_none() {
    let head = "From: Mail System Internal Data <MAILER-DAEMON@x>\nSubject: DON'T DELETE THIS \
                MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\n";
    assert!(is_internal(head.as_bytes()));
    assert!(!is_internal(b"Subject: FOLDER INTERNAL DATA\n\n"));
}

/// Lines that are as much trouble as can be.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("From ana@example.org Mon Jan  5 10:11:12 2026".to_owned()),
        Just(String::new()),
        Just("\r".to_owned()),
        ">{0,3}From .{0,4}",
        "A: [a-z]{0,3}",
        "[ -~\u{e9}]{0,20}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| (lines.join("\n") + "\n").into_bytes())
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec(message(), 1..6),
        stride in 1usize..300,
    ) {
        let mut file = Vec::new();
        for message in &messages {
            file.extend_from_slice(F.as_bytes());
            file.extend_from_slice(&quote(message));
            file.push(b'\n');
        }
        let found = read(&file, Dialect::RD, stride).expect("an mbox file");
        let texts: Vec<Vec<u8>> = found.into_iter().map(|f| f.text).collect();
        prop_assert_eq!(texts, messages);
    }

    #[test]
    fn any_cut_reads_the_same(
        parts in prop::collection::vec(prop_oneof![
            Just(F.as_bytes().to_vec()),
            Just(b"Content-Length: 30\n".to_vec()),
            Just(b"\n".to_vec()),
            message(),
            prop::collection::vec(any::<u8>(), 0..40),
        ], 0..12),
        stride in 1usize..100,
    ) {
        let file = parts.concat();
        for dialect in [judge(&file, true), Dialect::RD, CL, CL2] {
            prop_assert_eq!(read(&file, dialect, stride), read(&file, dialect, 1 << 20));
        }
        let _ = judge(&file, false);
    }

    #[test]
    fn unquoting_does_not_see_the_cuts(text in message(), cut in 1usize..20) {
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let (mut one, mut two) = (Unquote::default(), Unquote::default());
        one.feed(&quote(&text), &mut whole);
        one.finish(&mut whole);
        quote(&text).chunks(cut).for_each(|piece| two.feed(piece, &mut pieces));
        two.finish(&mut pieces);
        prop_assert_eq!(&whole, &text);
        prop_assert_eq!(pieces, text);
    }
}
