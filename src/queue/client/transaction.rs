//! One letter: which commands are still to be written, which answers are awaited, and what each
//! answer means for whom.
//!
//! With PIPELINING commands are written ahead of their answers, up to a window, so that neither
//! side ever waits with full buffers for the other (RFC 2920 3.1). DATA ends such a group. Its 354
//! may come although nobody was accepted; then the content is a single dot, whose answer is of no
//! interest (RFC 2920 3.1). BDAT waits for the recipients, since its content would follow at once.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::Letter;
use super::fit::{Fitted, Need, fit_recipient};
use super::outcome::{Cause, Fate, Report};
use super::times::Phase;
use super::trouble::Trouble;
use crate::wire::smtp::{BodyKind, ContentWriter, MailFrom, Offer, PeerReply};

/// Commands without an answer beyond which none is written.
const WINDOW_BYTES: usize = 4 << 10;
/// Chunks without an answer beyond which none is written.
const CHUNKS_AHEAD_MAX: usize = 2;
/// What of a reply is kept with a recipient.
const REPLY_BYTES_MAX: usize = 1 << 10;

/// How the hop is talked to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub is_pipelined: bool,
    pub is_chunked: bool,
    pub is_lmtp: bool,
    /// A transaction was left open: RSET comes first.
    pub is_dirty: bool,
    /// Recipients of one transaction.
    pub recipients_max: usize,
}

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Reset,
    Mail,
    /// Position in `order`.
    Rcpt(usize),
    Data,
    Content,
    Nothing,
}

/// What an answer is awaited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reset,
    Mail,
    /// Index of the recipient.
    Rcpt(usize),
    Data,
    Chunk,
    /// The whole content; in LMTP for this recipient alone.
    End(Option<usize>),
    /// The dot of a content that nobody gets.
    EmptyEnd,
}

#[derive(Debug)]
struct Awaited {
    asked: Asked,
    bytes: usize,
}

/// What has to happen for the transaction to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An answer to this.
    Waits(Phase),
    /// A piece of content.
    WantsContent,
    Over,
}

#[derive(Debug)]
pub(super) struct Transaction {
    letter: Rc<Letter>,
    offer: Rc<Offer>,
    manner: Manner,
    mail: MailFrom,
    is_dsn_passed: bool,
    /// `None` while a recipient has none.
    fates: Vec<Option<Fate>>,
    /// The recipients that take part.
    order: Vec<usize>,
    next: Next,
    awaited: VecDeque<Awaited>,
    awaited_bytes: usize,
    /// How many of them can be answered: the others were not sent yet.
    answerable: usize,
    accepted: Vec<usize>,
    /// MAIL was accepted, and nothing has ended what it began.
    is_open: bool,
    writer: ContentWriter,
    /// The last chunk: held back until it is known whether it is the last of all.
    chunk: Vec<u8>,
    /// All of the content was written.
    is_sent: bool,
    /// The hop has answered something.
    is_heard: bool,
}

impl Transaction {
    /// A letter that the hop can take, or the report that it cannot.
    pub fn new(
        letter: Rc<Letter>,
        offer: Rc<Offer>,
        fitted: Result<Fitted, Need>,
        mut manner: Manner,
    ) -> Result<Self, Report> {
        let count = letter.recipients.len();
        let Fitted {
            mail,
            is_dsn_passed,
        } = fitted.map_err(|need| Report {
            fates: vec![Fate::Unfit(need); count],
            trouble: None,
            is_dsn_passed: false,
            is_stale: false,
        })?;
        let is_binary = mail.body == BodyKind::Binary;
        manner.is_chunked |= is_binary;
        let writer = match (manner.is_chunked, is_binary) {
            (false, _) => ContentWriter::dotted(),
            (true, false) => ContentWriter::lines(),
            (true, true) => ContentWriter::octets(),
        };
        let beyond = |at| (at >= manner.recipients_max).then_some(Fate::Next);
        Ok(Transaction {
            fates: (0..count).map(beyond).collect(),
            order: (0..count.min(manner.recipients_max)).collect(),
            next: if manner.is_dirty {
                Next::Reset
            } else {
                Next::Mail
            },
            awaited: VecDeque::new(),
            awaited_bytes: 0,
            answerable: 0,
            accepted: Vec::new(),
            is_open: false,
            chunk: Vec::new(),
            is_sent: false,
            is_heard: false,
            letter,
            offer,
            manner,
            mail,
            is_dsn_passed,
            writer,
        })
    }

    /// Writes what may be written.
    pub fn advance(&mut self, out: &mut Vec<u8>) -> Stage {
        loop {
            let is_idle = self.awaited.is_empty();
            let is_ahead = self.manner.is_pipelined && self.awaited_bytes < WINDOW_BYTES;
            let may_write = is_idle || is_ahead;
            match self.next {
                Next::Reset if may_write => {
                    self.ask(Asked::Reset, out, |out| out.extend_from_slice(b"RSET\r\n"));
                    self.next = Next::Mail;
                }
                Next::Mail if may_write => self.write_mail(out),
                Next::Rcpt(at) if may_write => self.write_rcpt(at, out),
                Next::Data if is_idle && self.accepted.is_empty() => self.next = Next::Nothing,
                Next::Data if is_idle && self.manner.is_chunked => self.next = Next::Content,
                Next::Data if may_write && !self.manner.is_chunked => {
                    self.ask(Asked::Data, out, |out| out.extend_from_slice(b"DATA\r\n"));
                    self.next = Next::Nothing;
                }
                Next::Content if is_idle => return Stage::WantsContent,
                Next::Content
                    if self.manner.is_pipelined && self.awaited.len() < CHUNKS_AHEAD_MAX =>
                {
                    return Stage::WantsContent;
                }
                _ => break,
            }
        }
        match self.awaited.front() {
            Some(_) => Stage::Waits(self.phase()),
            None => Stage::Over,
        }
    }

    /// What is awaited first.
    pub fn phase(&self) -> Phase {
        match self.awaited.front().map(|awaited| awaited.asked) {
            Some(Asked::Reset) => Phase::Reset,
            Some(Asked::Mail) => Phase::Mail,
            Some(Asked::Rcpt(_)) => Phase::Rcpt,
            Some(Asked::Data) => Phase::Data,
            Some(Asked::Chunk) => Phase::Content,
            Some(Asked::End(_) | Asked::EmptyEnd) => Phase::End,
            None if self.next == Next::Content => Phase::Content,
            None => Phase::Idle,
        }
    }

    fn ask(&mut self, asked: Asked, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let before = out.len();
        write(out);
        let bytes = match asked {
            // Content has a window of its own.
            Asked::Chunk | Asked::End(_) => 0,
            _ => out.len() - before,
        };
        self.awaited_bytes += bytes;
        self.awaited.push_back(Awaited { asked, bytes });
    }

    fn write_mail(&mut self, out: &mut Vec<u8>) {
        let mut line = Vec::new();
        if self.mail.encode(&mut line).is_err() {
            self.give_all(&Fate::Failed(Cause::Address));
            self.next = Next::Nothing;
            return;
        }
        self.ask(Asked::Mail, out, |out| out.extend_from_slice(&line));
        self.next = Next::Rcpt(0);
    }

    fn write_rcpt(&mut self, at: usize, out: &mut Vec<u8>) {
        let Some(&recipient) = self.order.get(at) else {
            self.next = Next::Data;
            return;
        };
        self.next = Next::Rcpt(at + 1);
        let is_utf8 = self.mail.smtputf8;
        let rcpt = &self.letter.recipients[recipient];
        let fitted = match fit_recipient(rcpt, &self.offer, is_utf8) {
            Ok(fitted) => fitted,
            Err(need) => return self.give(recipient, Fate::Unfit(need)),
        };
        let mut line = Vec::new();
        match fitted.encode(is_utf8, &mut line) {
            Ok(()) => self.ask(Asked::Rcpt(recipient), out, |out| {
                out.extend_from_slice(&line);
            }),
            Err(_) => self.give(recipient, Fate::Failed(Cause::Address)),
        }
    }

    /// What was written has left.
    pub fn all_is_sent(&mut self) {
        self.answerable = self.awaited.len();
    }

    /// Takes in an answer. On trouble the connection is at its end, and [`Transaction::report`]
    /// says what that means.
    pub fn take(&mut self, reply: PeerReply, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let phase = self.phase();
        let is_answerable = self.answerable > 0;
        let asked = is_answerable.then(|| self.awaited.pop_front()).flatten();
        let Some(Awaited { asked, bytes }) = asked else {
            return Err(self.interrupted(phase, reply));
        };
        self.answerable -= 1;
        self.awaited_bytes -= bytes;
        if reply.code() == 421 {
            // An answer all the same: what was sent whole was not taken.
            if self.is_sent {
                let fate = verdict(phase, &shared(&reply)).expect("421 is a refusal");
                self.give_accepted(&fate);
            }
            return Err(Trouble::Closing { phase, reply });
        }
        self.is_heard = true;
        let is_good = reply.class() == 2;
        match asked {
            Asked::Reset if is_good => Ok(()),
            Asked::Mail if is_good => {
                self.is_open = true;
                Ok(())
            }
            Asked::Rcpt(recipient) if is_good => {
                // Without MAIL it is a mistake of the hop's.
                if self.is_open {
                    self.accepted.push(recipient);
                }
                Ok(())
            }
            Asked::Data if reply.class() == 3 => self.data_begins(phase, reply, out),
            Asked::Chunk if is_good => Ok(()),
            Asked::End(recipient) if is_good => {
                let fate = Fate::Delivered(shared(&reply));
                self.ended(recipient, &fate);
                Ok(())
            }
            // Nobody's: whatever it is, the transaction is over.
            Asked::EmptyEnd => {
                self.is_open = false;
                Ok(())
            }
            _ => self.refused(asked, phase, reply),
        }
    }

    fn refused(&mut self, asked: Asked, phase: Phase, reply: PeerReply) -> Result<(), Trouble> {
        let Some(fate) = verdict(phase, &shared(&reply)) else {
            return Err(Trouble::Unexpected { phase, reply });
        };
        match asked {
            Asked::Reset => return Err(Trouble::Refused { phase, reply }),
            Asked::Mail => {
                self.give_all(&fate);
                self.next = Next::Nothing;
            }
            Asked::Rcpt(recipient) => {
                let is_next = is_too_many(&reply) && !self.accepted.is_empty();
                self.give(recipient, if is_next { Fate::Next } else { fate });
            }
            Asked::Data => self.give_accepted(&fate),
            Asked::Chunk => {
                self.give_accepted(&fate);
                self.next = Next::Nothing;
                // RFC 2033 does not say how many answers a spoiled content gets.
                if self.manner.is_lmtp {
                    return Err(Trouble::Refused { phase, reply });
                }
            }
            Asked::End(recipient) => self.ended(recipient, &fate),
            Asked::EmptyEnd => {}
        }
        Ok(())
    }

    /// 354. Without anybody to get the content, it is empty.
    fn data_begins(
        &mut self,
        phase: Phase,
        reply: PeerReply,
        out: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        if !self.accepted.is_empty() {
            self.next = Next::Content;
            return Ok(());
        }
        if self.manner.is_lmtp {
            // RFC 2033 4.2 forbids it, and so does not say how the dot is answered.
            return Err(Trouble::Unexpected { phase, reply });
        }
        self.ask(Asked::EmptyEnd, out, |out| out.extend_from_slice(b".\r\n"));
        Ok(())
    }

    fn ended(&mut self, recipient: Option<usize>, fate: &Fate) {
        self.is_open = false;
        match recipient {
            Some(recipient) => self.give(recipient, fate.clone()),
            None => self.give_accepted(fate),
        }
    }

    /// An answer that nobody waits for. In the midst of content it is the hop's last word on it.
    fn interrupted(&mut self, phase: Phase, reply: PeerReply) -> Trouble {
        if phase == Phase::Content
            && let Some(fate) = verdict(phase, &shared(&reply))
        {
            self.give_accepted(&fate);
            return Trouble::Closing { phase, reply };
        }
        match reply.code() {
            421 => Trouble::Closing { phase, reply },
            _ => Trouble::Unexpected { phase, reply },
        }
    }

    /// Writes a piece of content; only after [`Stage::WantsContent`].
    pub fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        assert_eq!(self.next, Next::Content, "content that nobody wants");
        if !self.manner.is_chunked {
            return self.writer.feed(piece, out);
        }
        self.write_chunk(false, out);
        self.writer.feed(piece, &mut self.chunk);
    }

    /// Writes the end of the content.
    pub fn content_end(&mut self, out: &mut Vec<u8>) {
        assert_eq!(self.next, Next::Content, "content that nobody wants");
        if self.manner.is_chunked {
            self.writer.finish(&mut self.chunk);
            self.write_chunk(true, out);
        } else {
            self.writer.finish(out);
            self.await_end();
        }
        self.next = Next::Nothing;
        self.is_sent = true;
    }

    fn write_chunk(&mut self, is_last: bool, out: &mut Vec<u8>) {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() && !is_last {
            return;
        }
        let last = if is_last { " LAST" } else { "" };
        out.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(&chunk);
        match is_last {
            true => self.await_end(),
            false => self.ask(Asked::Chunk, out, |_| {}),
        }
    }

    /// RFC 2033 4.2: one answer for each recipient that was accepted, in their order.
    fn await_end(&mut self) {
        let each = |recipient| Awaited {
            asked: Asked::End(recipient),
            bytes: 0,
        };
        match self.manner.is_lmtp {
            true => {
                let recipients = self.accepted.iter().map(|recipient| each(Some(*recipient)));
                self.awaited.extend(recipients);
            }
            false => self.awaited.push_back(each(None)),
        }
    }

    /// A fate is given once: the first is the one that was said of the recipient itself.
    fn give(&mut self, recipient: usize, fate: Fate) {
        self.fates[recipient].get_or_insert(fate);
    }

    fn give_accepted(&mut self, fate: &Fate) {
        for recipient in &self.accepted {
            self.fates[*recipient].get_or_insert_with(|| fate.clone());
        }
    }

    fn give_all(&mut self, fate: &Fate) {
        for known in &mut self.fates {
            known.get_or_insert_with(|| fate.clone());
        }
    }

    /// True if the next transaction must begin with RSET.
    pub fn is_left_open(&self) -> bool {
        self.is_open
    }

    /// What became of everybody. `is_reused`: the connection has carried letters before.
    pub fn report(self, trouble: Option<Trouble>, is_reused: bool) -> Report {
        let is_unsure = |recipient| self.is_sent && self.accepted.contains(&recipient);
        let fates = self.fates.into_iter().enumerate();
        let fates = fates.map(|(recipient, fate)| match fate {
            Some(fate) => fate,
            None if is_unsure(recipient) => Fate::Unsure,
            None => Fate::Deferred(Cause::Trouble),
        });
        let is_loss = trouble.as_ref().is_some_and(Trouble::is_loss);
        Report {
            fates: fates.collect(),
            trouble,
            is_dsn_passed: self.is_dsn_passed,
            is_stale: is_loss && is_reused && !self.is_heard,
        }
    }
}

/// What a refusal means; `None` for what is none.
fn verdict(phase: Phase, reply: &Arc<PeerReply>) -> Option<Fate> {
    let cause = Cause::Reply {
        phase,
        reply: reply.clone(),
    };
    match reply.class() {
        4 => Some(Fate::Deferred(cause)),
        5 => Some(Fate::Failed(cause)),
        _ => None,
    }
}

/// RFC 5321 4.5.3.1.10: 452, or the 552 of RFC 821. Both also say that a mailbox or a disk is full,
/// which enhanced codes tell apart; without one, 452 is taken for "too many" and 552 is not.
fn is_too_many(reply: &PeerReply) -> bool {
    let status = reply.enhanced().map(|code| (code.subject, code.detail));
    match (reply.code(), status) {
        (452, None) => true,
        (452 | 552, Some(status)) => status == (5, 3),
        _ => false,
    }
}

fn shared(reply: &PeerReply) -> Arc<PeerReply> {
    Arc::new(reply.clone().shortened(REPLY_BYTES_MAX))
}
