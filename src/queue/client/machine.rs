//! What may be said when. No IO and no clock.
//!
//! [`Machine::step`] is shown what is unread, answers how much of it is done with and what is to
//! happen, and appends what is to be sent. Whatever goes wrong outside is told to
//! [`Machine::end`], which knows what it means for the letter under way.

use std::rc::Rc;

use super::fit::fit;
use super::outcome::Report;
use super::times::Phase;
use super::transaction::{Manner, Stage, Transaction};
use super::trouble::{NoTls, Trouble};
use super::{Letter, Protocol, Security, Terms};
use crate::net::TlsPeer;
use crate::wire::sasl::Response;
use crate::wire::smtp::{Offer, PeerReply, ReplyParser};

/// What is to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// Send what is there to be sent, and read the answer to this.
    Wait(Phase),
    /// Send, then do the handshake; answered by [`Machine::secured`].
    StartTls,
    /// A letter may be begun.
    Ready,
    /// Send, then answer with [`Machine::content`] or [`Machine::content_end`].
    Content,
    /// The letter has its report.
    Done(Report),
    /// The connection is over, and no letter was under way.
    Broken(Trouble),
}

#[derive(Debug)]
enum State {
    /// TLS comes before anything.
    TlsFirst,
    Greeting,
    /// EHLO, or LHLO.
    Hello,
    /// HELO, after EHLO was refused.
    PlainHello,
    StartTls,
    /// After [`Event::StartTls`].
    Handshake,
    LogIn(Response),
    Ready,
    Letter(Box<Transaction>),
    Over,
}

/// One connection's state.
pub(super) struct Machine {
    terms: Rc<Terms>,
    state: State,
    parser: ReplyParser,
    offer: Rc<Offer>,
    is_secure: bool,
    is_verified: bool,
    /// Why STARTTLS came to nothing although it was tried.
    tls_refused: Option<PeerReply>,
    /// The last letter left a transaction open.
    is_dirty: bool,
    letters: u64,
    /// Replies that were read, for who keeps the time.
    replies: u64,
}

impl Machine {
    #[must_use]
    pub fn new(terms: Rc<Terms>) -> Self {
        Machine {
            state: match terms.is_tls_from_start {
                true => State::TlsFirst,
                false => State::Greeting,
            },
            terms,
            parser: ReplyParser::default(),
            offer: Rc::default(),
            is_secure: false,
            is_verified: false,
            tls_refused: None,
            is_dirty: false,
            letters: 0,
            replies: 0,
        }
    }

    /// What the hop offers, after its last EHLO.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    #[must_use]
    pub fn tls_refused(&self) -> Option<&PeerReply> {
        self.tls_refused.as_ref()
    }

    /// How many replies were read.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// True if another letter may be begun.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        let theirs = self.offer.messages_max.unwrap_or(u64::MAX);
        matches!(self.state, State::Ready) && self.letters < theirs.min(self.terms.letters_max)
    }

    /// Looks at what is unread. All that was written to `out` before has been sent by now; more may
    /// be added.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Event) {
        if let State::Letter(transaction) = &mut self.state {
            transaction.all_is_sent();
        }
        let mut used = 0;
        loop {
            let (phase, wants_content) = match self.advance(out) {
                Ok(phase) => (phase, false),
                // What came unasked may say that it is in vain.
                Err(Event::Content) if used < input.len() => (Phase::Content, true),
                Err(event) => {
                    // Answers that nobody asked for would be taken for those to the next letter.
                    if used < input.len() && matches!(event, Event::Done(_)) {
                        self.state = State::Over;
                    }
                    return (used, event);
                }
            };
            let (read, reply) = self.parser.read(&input[used..]);
            used += read;
            let event = match reply {
                Ok(None) if wants_content => Some(Event::Content),
                Ok(None) => Some(Event::Wait(phase)),
                Ok(Some(reply)) => {
                    self.replies += 1;
                    self.take(phase, reply, &input[used..], out)
                }
                Err(fault) => Some(self.end(Trouble::BadReply { phase, fault })),
            };
            if let Some(event) = event {
                return (used, event);
            }
        }
    }

    /// Goes as far as is possible without an answer: to the answer that is awaited, or to an event.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Phase, Event> {
        match &mut self.state {
            State::TlsFirst => {
                self.state = State::Handshake;
                Err(Event::StartTls)
            }
            State::Greeting => Ok(Phase::Greeting),
            State::Hello | State::PlainHello => Ok(Phase::Hello),
            State::StartTls => Ok(Phase::StartTls),
            State::Handshake => Err(Event::StartTls),
            State::LogIn(_) => Ok(Phase::LogIn),
            State::Ready => Err(Event::Ready),
            State::Letter(transaction) => match transaction.advance(out) {
                Stage::Waits(phase) => Ok(phase),
                Stage::WantsContent => Err(Event::Content),
                Stage::Over => Err(self.letter_done(None, State::Ready)),
            },
            State::Over => Err(Event::Broken(Trouble::Closed { phase: Phase::Idle })),
        }
    }

    fn letter_done(&mut self, trouble: Option<Trouble>, next: State) -> Event {
        match std::mem::replace(&mut self.state, next) {
            State::Letter(transaction) => {
                self.is_dirty = transaction.is_left_open();
                Event::Done(transaction.report(trouble, self.letters > 1))
            }
            _ => Event::Broken(trouble.unwrap_or(Trouble::Closed { phase: Phase::Idle })),
        }
    }

    /// The connection is over, for this reason.
    pub fn end(&mut self, trouble: Trouble) -> Event {
        self.letter_done(Some(trouble), State::Over)
    }

    /// What a reply brings about; `None` to go on.
    fn take(
        &mut self,
        phase: Phase,
        reply: PeerReply,
        rest: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Event> {
        if let State::Letter(transaction) = &mut self.state {
            let taken = transaction.take(reply, out);
            return taken.err().map(|trouble| self.end(trouble));
        }
        if !rest.is_empty() {
            // The answer to what was not asked yet (RFC 3207 6, CVE-2011-0411 reversed).
            return Some(self.end(Trouble::Unexpected { phase, reply }));
        }
        let taken = match self.state {
            State::Greeting if reply.code() == 220 => self.hello(out),
            State::Hello if reply.class() == 2 => {
                self.offer = Rc::new(Offer::read(&reply));
                self.secure_or_log_in(out)
            }
            // RFC 5321 3.2: an old server. LMTP has nothing older.
            State::Hello if reply.class() == 5 && self.terms.protocol == Protocol::Smtp => {
                self.plain_hello(out)
            }
            State::PlainHello if reply.class() == 2 => {
                self.offer = Rc::new(Offer::plain(&reply));
                self.secure_or_log_in(out)
            }
            State::StartTls if reply.code() != 421 => self.start_tls(reply, out),
            State::LogIn(_) if reply.code() == 235 => {
                self.state = State::Ready;
                Ok(())
            }
            State::LogIn(response) if reply.code() == 334 => {
                self.answer(response, out);
                Ok(())
            }
            _ if reply.code() == 421 && phase != Phase::Greeting => {
                Err(Trouble::Closing { phase, reply })
            }
            _ if reply.class() >= 4 => Err(Trouble::Refused { phase, reply }),
            _ => Err(Trouble::Unexpected { phase, reply }),
        };
        taken.err().map(|trouble| self.end(trouble))
    }

    fn hello(&mut self, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let verb = match self.terms.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        write(out, &[verb, &self.terms.own_name]);
        self.state = State::Hello;
        Ok(())
    }

    fn plain_hello(&mut self, out: &mut Vec<u8>) -> Result<(), Trouble> {
        write(out, &["HELO", &self.terms.own_name]);
        self.state = State::PlainHello;
        Ok(())
    }

    /// After EHLO.
    fn secure_or_log_in(&mut self, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let is_tried = self.is_secure || self.tls_refused.is_some();
        match self.terms.security {
            Security::Never => {}
            _ if is_tried => {}
            _ if self.offer.start_tls => {
                write(out, &["STARTTLS"]);
                self.state = State::StartTls;
                return Ok(());
            }
            Security::Opportunistic => {}
            Security::Encrypted | Security::Verified => {
                return Err(Trouble::NoTls(NoTls::NotOffered));
            }
        }
        self.log_in(out)
    }

    /// The answer to STARTTLS.
    fn start_tls(&mut self, reply: PeerReply, out: &mut Vec<u8>) -> Result<(), Trouble> {
        if reply.code() == 220 {
            self.state = State::Handshake;
            return Ok(());
        }
        if self.terms.security != Security::Opportunistic {
            return Err(Trouble::NoTls(NoTls::Refused(reply)));
        }
        self.tls_refused = Some(reply);
        self.log_in(out)
    }

    /// The handshake was done. What the hop said before counts no more (RFC 3207 4.2).
    pub fn secured(&mut self, peer: &TlsPeer, out: &mut Vec<u8>) -> Result<(), Event> {
        self.is_secure = true;
        self.is_verified = peer.verified.is_ok();
        if let (Security::Verified, Err(distrust)) = (self.terms.security, &peer.verified) {
            return Err(self.end(Trouble::Distrusted(distrust.clone())));
        }
        self.offer = Rc::default();
        if self.terms.is_tls_from_start {
            self.state = State::Greeting;
            return Ok(());
        }
        self.hello(out).map_err(|trouble| self.end(trouble))
    }

    /// Somebody else judged whether the host is verified; without TLS nobody can.
    pub fn judged(&mut self, is_verified: bool) {
        self.is_verified = self.is_secure && is_verified;
    }

    fn log_in(&mut self, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let Some(login) = &self.terms.login else {
            self.state = State::Ready;
            return Ok(());
        };
        if !self.is_secure && !self.terms.is_clear_login_allowed {
            return Err(Trouble::NoLogIn);
        }
        let (mechanism, response) = Response::choose(&self.offer.auth).ok_or(Trouble::NoLogIn)?;
        let name = mechanism.name();
        // RFC 4954 4: PLAIN saves a round trip, LOGIN never had an initial response.
        match response {
            Response::Plain => {
                let (line, next) = response.line(login).ok_or(Trouble::NoLogIn)?;
                write(out, &["AUTH", name, &line]);
                self.state = State::LogIn(next);
            }
            response => {
                write(out, &["AUTH", name]);
                self.state = State::LogIn(response);
            }
        }
        Ok(())
    }

    /// The answer to a 334.
    fn answer(&mut self, response: Response, out: &mut Vec<u8>) {
        let login = self.terms.login.as_ref();
        match login.and_then(|login| response.line(login)) {
            Some((line, next)) => {
                write(out, &[&line]);
                self.state = State::LogIn(next);
            }
            // RFC 4954 4: cancelled. The refusal that follows is the end.
            None => write(out, &["*"]),
        }
    }

    /// Begins a letter, where [`Machine::may_begin`]. A report comes at once where the hop cannot
    /// take it.
    pub fn begin(&mut self, letter: Rc<Letter>) -> Option<Report> {
        assert!(self.may_begin(), "a letter out of turn");
        let offer = self.offer.clone();
        let theirs = offer.recipients_max.unwrap_or(u64::MAX);
        let manner = Manner {
            is_pipelined: offer.pipelining,
            is_chunked: offer.chunking && self.terms.is_chunking_used,
            is_lmtp: self.terms.protocol == Protocol::Lmtp,
            is_dirty: self.is_dirty,
            recipients_max: usize::try_from(theirs)
                .unwrap_or(usize::MAX)
                .min(self.terms.recipients_max),
        };
        let fitted = fit(&letter, &offer, self.is_verified);
        match Transaction::new(letter, offer, fitted, manner) {
            Ok(transaction) => {
                self.letters += 1;
                self.state = State::Letter(Box::new(transaction));
                None
            }
            Err(report) => Some(report),
        }
    }

    /// A piece of content, after [`Event::Content`].
    pub fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if let State::Letter(transaction) = &mut self.state {
            transaction.content(piece, out);
        }
    }

    /// The end of the content, after [`Event::Content`].
    pub fn content_end(&mut self, out: &mut Vec<u8>) {
        if let State::Letter(transaction) = &mut self.state {
            transaction.content_end(out);
        }
    }

    /// Says good-bye, where there is somebody who listens.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Ready) {
            write(out, &["QUIT"]);
        }
        self.state = State::Over;
    }
}

fn write(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(words.join(" ").as_bytes());
    out.extend_from_slice(b"\r\n");
}
