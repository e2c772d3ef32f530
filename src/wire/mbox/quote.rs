//! Lines of a message that would look like the begin of the next one have a `>` put before them;
//! mboxrd puts one before quoted ones, too, so that nothing is lost.

use memchr::memchr;

const FROM: &[u8] = b"From ";

/// Takes one `>` off each line that is some `>` and `From `, in pieces cut anywhere.
#[derive(Clone, Debug, Default)]
pub struct Unquote {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the begin of a line, with so many `>` and so many octets of `From ` held back.
    #[default]
    Begin,
    Held {
        quotes: u64,
        matched: usize,
    },
    Inside,
}

impl Unquote {
    /// Unquotes the next piece onto `out`.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some(&byte) = piece.first() {
            match self.state {
                State::Inside => {
                    let end = memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
                    // Most lines begin with neither: runs of them are copied as one.
                    let mut run = end;
                    while run > 0 && piece[run - 1] == b'\n' && run < piece.len() {
                        if piece[run] == b'>' {
                            break;
                        }
                        run += memchr(b'\n', &piece[run..]).map_or(piece.len() - run, |at| at + 1);
                    }
                    out.extend_from_slice(&piece[..run]);
                    if piece[run - 1] == b'\n' {
                        self.state = State::Begin;
                    }
                    piece = &piece[run..];
                }
                State::Begin if byte == b'>' => {
                    self.state = State::Held {
                        quotes: 1,
                        matched: 0,
                    };
                    piece = &piece[1..];
                }
                State::Begin => self.state = State::Inside,
                State::Held { quotes, matched: 0 } if byte == b'>' => {
                    self.state = State::Held {
                        quotes: quotes + 1,
                        matched: 0,
                    };
                    piece = &piece[1..];
                }
                State::Held { quotes, matched } if byte == FROM[matched] => {
                    piece = &piece[1..];
                    self.state = State::Held {
                        quotes,
                        matched: matched + 1,
                    };
                    if matched + 1 == FROM.len() {
                        self.release(1, out);
                    }
                }
                State::Held { .. } => self.release(0, out),
            }
        }
    }

    /// What is still held back at the end of a message.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(0, out);
        self.state = State::Begin;
    }

    fn release(&mut self, dropped: u64, out: &mut Vec<u8>) {
        let State::Held { quotes, matched } = self.state else {
            return;
        };
        out.extend((dropped..quotes).map(|_| b'>'));
        out.extend_from_slice(&FROM[..matched]);
        self.state = State::Inside;
    }
}

/// A whole message as mboxrd has it, its last line ended; without the blank line behind it.
#[must_use]
pub fn quote(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|b| *b == b'\n') {
        let quotes = line.iter().take_while(|b| **b == b'>').count();
        if line[quotes..].starts_with(FROM) {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    if !message.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}
