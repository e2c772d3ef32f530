//! Plays a transcript against the machine.
//!
//! Lines with `S:` are the hop's, those with `C:` what the machine must have sent by then, to the
//! letter. `*` lines are events: `* tls` a handshake with a verified host, `* tls stranger` with
//! another, `* closed` the end of the connection, `* report` what became of a letter, `* broken`
//! why there is no connection, `* ready` and `* done` whether another letter may follow.

use std::collections::VecDeque;
use std::rc::Rc;

use super::super::machine::{Event, Machine};
use super::super::{Letter, Phase, Terms, Trouble};
use super::told;
use crate::net::{Distrust, TlsFacts, TlsPeer};

pub(super) struct Play {
    machine: Machine,
    letters: VecDeque<Letter>,
    /// The content of each letter, in pieces.
    content: Vec<Vec<u8>>,
    pieces: VecDeque<Vec<u8>>,
    input: Vec<u8>,
    sent: Vec<u8>,
    phase: Phase,
    /// What was told and not asked about by the transcript yet.
    events: VecDeque<String>,
    is_over: bool,
}

impl Play {
    pub fn new(terms: Terms, letters: Vec<Letter>, content: &[&str]) -> Play {
        let content: Vec<_> = content
            .iter()
            .map(|piece| piece.as_bytes().to_vec())
            .collect();
        Play {
            machine: Machine::new(Rc::new(terms)),
            letters: letters.into(),
            content,
            pieces: VecDeque::new(),
            input: Vec::new(),
            sent: Vec::new(),
            phase: Phase::Idle,
            events: VecDeque::new(),
            is_over: false,
        }
    }

    /// Goes on until the machine waits.
    fn go(&mut self) {
        while !self.is_over {
            let mut out = Vec::new();
            let (used, event) = self.machine.step(&self.input, &mut out);
            self.sent.append(&mut out);
            self.input.drain(..used);
            match event {
                Event::Wait(phase) => {
                    self.phase = phase;
                    return;
                }
                Event::StartTls => return,
                Event::Content => {
                    let mut out = Vec::new();
                    match self.pieces.pop_front() {
                        Some(piece) => self.machine.content(&piece, &mut out),
                        None => self.machine.content_end(&mut out),
                    }
                    self.sent.append(&mut out);
                }
                Event::Ready => {
                    if !self.begin() {
                        return;
                    }
                }
                event => self.note(event),
            }
        }
    }

    fn begin(&mut self) -> bool {
        if self.letters.is_empty() || !self.machine.may_begin() {
            return false;
        }
        let letter = self.letters.pop_front().expect("there is one");
        self.pieces = self.content.clone().into();
        if let Some(report) = self.machine.begin(Rc::new(letter)) {
            self.events.push_back(format!("report {}", told(&report)));
        }
        true
    }

    fn note(&mut self, event: Event) {
        let (text, is_over) = match event {
            Event::Done(report) => {
                let text = format!("report {}", told(&report));
                (text, !self.machine.may_begin())
            }
            Event::Broken(trouble) => (format!("broken {trouble}"), true),
            other => panic!("{other:?}"),
        };
        self.events.push_back(text);
        self.is_over |= is_over;
    }

    fn event(&mut self, what: &str) -> Result<(), String> {
        match what {
            "closed" => {
                let event = self.machine.end(Trouble::Closed { phase: self.phase });
                self.note(event);
            }
            "tls" | "tls stranger" => {
                let facts = TlsFacts {
                    version: "TLSv1.3",
                    cipher: "-",
                    server_name: None,
                    resumed: false,
                };
                let verified = match what {
                    "tls" => Ok(()),
                    _ => Err(Distrust::NoAuthorities),
                };
                let peer = TlsPeer {
                    facts,
                    chain: Vec::new(),
                    verified,
                };
                let mut out = Vec::new();
                if let Err(event) = self.machine.secured(&peer, &mut out) {
                    self.note(event);
                }
                self.sent.append(&mut out);
                self.go();
            }
            "ready" | "done" if self.machine.may_begin() == (what == "ready") => {}
            "ready" | "done" => return Err(format!("not {what}")),
            want => match self.events.pop_front() {
                Some(got) if got == want => {}
                got => return Err(format!("got {got:?}")),
            },
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (who, text) = line.split_at_checked(2).ok_or("a short line")?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        match who {
            "S:" => Ok(()),
            "C:" => {
                let want = format!("{text}\r\n");
                match self.sent.strip_prefix(want.as_bytes()) {
                    Some(rest) => {
                        self.sent = rest.to_vec();
                        Ok(())
                    }
                    None => Err(format!("sent {}", self.sent.escape_ascii())),
                }
            }
            "* " => self.event(text.trim_start()),
            _ => Err("a line of nobody".to_owned()),
        }
    }

    /// Plays `transcript`; at its end nothing may be left on either side.
    #[track_caller]
    pub fn play(&mut self, transcript: &str) {
        self.go();
        let lines = transcript.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            if let Some(text) = line.strip_prefix("S:") {
                self.input.extend_from_slice(text.trim_start().as_bytes());
                self.input.extend_from_slice(b"\r\n");
                // What the hop sends at once comes at once.
                if !lines.peek().is_some_and(|next| next.starts_with("S:")) {
                    self.go();
                }
            }
            if let Err(why) = self.line(line) {
                panic!("at `{line}`: {why}\nin\n{transcript}");
            }
        }
        let sent = self.sent.escape_ascii().to_string();
        assert_eq!(
            (&sent[..], &self.events),
            ("", &VecDeque::new()),
            "{transcript}"
        );
    }
}

/// One letter with the content `Hi`, from the greeting on.
#[track_caller]
pub(super) fn check(terms: Terms, letter: Letter, transcript: &str) {
    check_all(terms, vec![letter], &["Hi\r\n"], transcript);
}

#[track_caller]
pub(super) fn check_all(terms: Terms, letters: Vec<Letter>, content: &[&str], transcript: &str) {
    Play::new(terms, letters, content).play(transcript);
}
