//! Framing: any chunking gives the same commands.

use proptest::prelude::*;

use crate::wire::imap::{FrameLimits, Framer, LiteralPurpose, Next, literal_purpose};

pub const LIMITS: FrameLimits = FrameLimits {
    line_bytes_max: 100,
    literal_bytes_max: 20,
};

/// What a session does with a connection's bytes: keeps small literals, streams messages, refuses
/// the rest, and writes down what happened.
#[derive(Default)]
pub struct Reader {
    unread: Vec<u8>,
    streaming: u64,
    streamed: Vec<u8>,
    pub events: Vec<String>,
    pub commands: Vec<Vec<u8>>,
}

impl Reader {
    pub fn feed(&mut self, framer: &mut Framer, chunk: &[u8]) {
        self.unread.extend_from_slice(chunk);
        loop {
            if self.streaming > 0 {
                let bytes = self.unread.len().min(self.streaming as usize);
                self.streamed.extend(self.unread.drain(..bytes));
                self.streaming -= bytes as u64;
                if self.streaming > 0 {
                    return;
                }
                let message = std::mem::take(&mut self.streamed);
                self.note("message", &message);
            }
            match framer.next(&self.unread) {
                Next::Need => return,
                Next::Command { bytes } => {
                    let command: Vec<u8> = self.unread.drain(..bytes).collect();
                    self.note("command", &command);
                    self.commands.push(command);
                }
                Next::Literal(literal) => {
                    let prefix = self.unread[..literal.prefix].to_vec();
                    let size = literal.bytes;
                    if literal_purpose(&prefix) == LiteralPurpose::Message && size < 1000 {
                        self.note("append", &prefix);
                        framer.stream();
                        self.unread.drain(..literal.prefix);
                        self.streaming = size;
                    } else if literal.fits {
                        if literal.sync {
                            self.note("continue", b"");
                        }
                        framer.take();
                    } else {
                        let coming = framer.reject();
                        self.events.push(format!("reject {size}, {coming} come"));
                    }
                }
                Next::TooLong => self.note("too long", b""),
                Next::Skip(bytes) => drop(self.unread.drain(..bytes)),
            }
        }
    }

    fn note(&mut self, what: &str, bytes: &[u8]) {
        self.events
            .push(format!("{what} {}", bytes.escape_ascii()).trim().to_owned());
    }
}

fn events(input: &[u8], chunk: usize) -> Vec<String> {
    let mut framer = Framer::new(LIMITS);
    let mut reader = Reader::default();
    for chunk in input.chunks(chunk.max(1)) {
        reader.feed(&mut framer, chunk);
    }
    reader.events
}

#[track_caller]
fn check(input: &str, want: &[&str]) {
    for size in 1..=input.len() {
        assert_eq!(events(input.as_bytes(), size), want, "chunks of {size}");
    }
}

#[test]
fn commands_end_where_lines_and_literals_do() {
    check(
        "a NOOP\r\nb NOOP\n",
        &["command a NOOP\\r\\n", "command b NOOP\\n"],
    );
    check("\r\n", &["command \\r\\n"]);
    check(
        "a LOGIN {3}\r\na\r\n {2+}\r\npw\r\nb NOOP\r\n",
        &[
            "continue",
            "command a LOGIN {3}\\r\\na\\r\\n {2+}\\r\\npw\\r\\n",
            "command b NOOP\\r\\n",
        ],
    );
    check(
        "a X {0}\r\n\r\n",
        &["continue", "command a X {0}\\r\\n\\r\\n"],
    );
    // What only looks like an announcement is grammar's affair.
    for line in [
        "a X {}",
        "a X {+}",
        "a X {1-}",
        "a X {1+} ",
        "a X 3}",
        "a X {111111111111111111111}",
    ] {
        check(&format!("{line}\r\n"), &[&format!("command {line}\\r\\n")]);
    }
}

#[test]
fn messages_are_streamed() {
    check(
        "a APPEND box (\\Seen) {5}\r\nhello\r\nb NOOP\r\n",
        &[
            "append a APPEND box (\\\\Seen) {5}\\r\\n",
            "message hello",
            "command \\r\\n",
            "command b NOOP\\r\\n",
        ],
    );
    check(
        "a APPEND {3+}\r\nbox {30+}\r\n123456789012345678901234567890 {1+}\r\nx\r\n",
        &[
            "append a APPEND {3+}\\r\\nbox {30+}\\r\\n",
            "message 123456789012345678901234567890",
            // The rest of a streamed command is no APPEND by itself: this reader keeps its literal.
            "command  {1+}\\r\\nx\\r\\n",
        ],
    );
    check(
        "a APPEND box {0+}\r\n\r\nb NOOP\r\n",
        &[
            "append a APPEND box {0+}\\r\\n",
            "command \\r\\n",
            "command b NOOP\\r\\n",
        ],
    );
}

#[test]
fn refused_commands_are_skipped_whole() {
    // Synchronising: the client sends nothing more of it.
    check(
        "a X {21}\r\nb NOOP\r\n",
        &["reject 21, 0 come", "command b NOOP\\r\\n"],
    );
    // Not synchronising: octets, the line behind them and its literals go.
    check(
        "a X {21+}\r\nc NOOP\r\nc NOOP\r\n12345 {4+}\r\n\r\n\r\n tail\r\nb NOOP\r\n",
        &["reject 21, 21 come", "command b NOOP\\r\\n"],
    );
    check(
        "a X {21+}\r\n123456789012345678901 {4}\r\nb NOOP\r\n",
        &["reject 21, 21 come", "command b NOOP\\r\\n"],
    );
    // Small ones add up.
    check(
        "a X {11+}\r\n12345678901 {10+}\r\n1234567890\r\nb NOOP\r\n",
        &["reject 10, 10 come", "command b NOOP\\r\\n"],
    );
    check(
        "a X ~{99999999999999999999}\r\nb NOOP\r\n",
        &[
            "reject 18446744073709551615, 0 come",
            "command b NOOP\\r\\n",
        ],
    );
}

#[test]
fn long_lines_are_skipped_whole() {
    let long = "x".repeat(101);
    check(
        &format!("{long}\r\nb NOOP\r\n"),
        &["too long", "command b NOOP\\r\\n"],
    );
    check(
        &format!("a {{3+}}\r\n\r\n\r {long} {{4+}}\r\nx\r\ny\r\nb NOOP\r\n"),
        &["too long", "command b NOOP\\r\\n"],
    );
    let most = "x".repeat(98);
    check(&format!("{most}\r\n"), &[&format!("command {most}\\r\\n")]);
    // Literals do not count as line.
    check(
        &format!("{{20+}}\r\n{}{}\r\n", "y".repeat(20), "x".repeat(91)),
        &[&format!(
            "command {{20+}}\\r\\n{}{}\\r\\n",
            "y".repeat(20),
            "x".repeat(91)
        )],
    );
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        pieces in proptest::collection::vec(piece(), 0..12),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let input = pieces.concat();
        let whole = events(&input, input.len());
        let mut framer = Framer::new(LIMITS);
        let mut reader = Reader::default();
        let mut rest = &input[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*cut));
            reader.feed(&mut framer, chunk);
            rest = after;
        }
        prop_assert_eq!(reader.events, whole);
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"a NOOP\r\n".to_vec()),
        Just(b"a APPEND box ".to_vec()),
        (0u32..40).prop_map(|n| format!("{{{n}}}\r\n").into_bytes()),
        (0u32..40).prop_map(|n| format!(" {{{n}+}}\r\n").into_bytes()),
        (0u32..40).prop_map(|n| format!("~{{{n}+}}\n").into_bytes()),
        (0usize..120).prop_map(|n| vec![b'x'; n]),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}
