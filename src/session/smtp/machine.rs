//! What may be said when (RFC 5321 4.1.4), and where one thing ends and the next begins. No IO.
//!
//! [`Machine::read`] is shown what is unread and answers how much of it is done with and what is to
//! happen. What needs the store or the net comes as an [`Act`]; its outcome is told back before the
//! next read. Content is counted off here too, so no answer of anybody can move its end.

use super::counters::Role;
use crate::base::{SMTP_COMMAND_BYTES_MAX, UnixMs};
use crate::config::AuthMode;
use crate::wire::line::{Ending, LineError, Skip, next_line};
use crate::wire::sasl::{Credentials, Exchange, Failure, Mechanism, Step};
use crate::wire::smtp::{
    BdatReader, BodyKind, Command, DataSummary, DotReader, Hold, LineMode, MailFrom, RcptTo, Reply,
    SyntaxError,
};

/// Wrong or misplaced commands after which a session ends.
const FAULTS_MAX: u32 = 20;
/// A failed log-in weighs as much as so many of them.
const LOGIN_FAULTS: u32 = 4;
/// Content is read to its end although it is too large, but not for ever.
const DISCARD_FACTOR: u64 = 4;

/// Whether STARTTLS is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    Offered,
    /// This address failed before (see `net::HandshakeFailures`).
    Withheld,
    Absent,
}

/// What the listener says for this session.
#[derive(Clone, Debug)]
pub struct Terms {
    pub role: Role,
    pub hostname: String,
    pub message_bytes_max: u64,
    pub line_mode: LineMode,
    pub auth: AuthMode,
    /// A log-in is allowed without TLS.
    pub clear_log_in: bool,
    pub start_tls: StartTls,
    /// FUTURERELEASE; `None`: not offered.
    pub holds: Option<Holds>,
}

/// How long a message may be held (RFC 4865 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    pub seconds_max: u32,
    pub until_max: UnixMs,
}

/// What the client called itself, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// HELO: no extensions.
    Plain(String),
    /// EHLO or LHLO.
    Extended(String),
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ready,
    Envelope {
        recipients: usize,
        is_utf8: bool,
    },
    /// After the first BDAT.
    Chunks {
        bytes: u64,
    },
}

/// What the next bytes are.
enum Reading {
    Command,
    /// The rest of a line that is too long; then this is said.
    Skip(Skip, Reply),
    Auth(Exchange),
    Data {
        reader: DotReader,
        taken: u64,
    },
    Chunk {
        reader: BdatReader,
        bytes: u64,
        last: bool,
    },
    /// A chunk that nobody wants; then this is said (RFC 3030 2: it is consumed all the same).
    Unwanted(BdatReader, Reply),
    /// Nothing any more.
    Closed,
}

/// What is to happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// All is read; more input is needed. Replies are to be sent now.
    Wait,
    Say(Reply),
    /// The last word.
    Bye(Reply),
    Do(Act),
    /// Read again; content may have been appended.
    Onward,
    /// The content of DATA is whole.
    DataEnd(DataSummary),
    /// A chunk of BDAT is whole, and with `last` the message.
    ChunkEnd {
        bytes: u64,
        last: bool,
    },
}

/// What needs more than a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Answered by [`Machine::mail_done`].
    Mail(MailFrom),
    /// Answered by [`Machine::rcpt_done`].
    Rcpt(RcptTo),
    /// Content follows, after 354.
    Data,
    /// Content follows at once; the first of the message begins it.
    Chunk { first: bool },
    /// Answered by [`Machine::secured`] or the end of the session.
    StartTls,
    /// Answered by [`Machine::log_in_done`].
    LogIn(Credentials),
}

/// One session's state.
pub struct Machine {
    terms: Terms,
    is_secure: bool,
    is_logged_in: bool,
    hello: Option<Hello>,
    stage: Stage,
    reading: Reading,
    faults: u32,
}

impl Machine {
    #[must_use]
    pub fn new(terms: Terms, is_secure: bool) -> Self {
        Machine {
            terms,
            is_secure,
            is_logged_in: false,
            hello: None,
            stage: Stage::Ready,
            reading: Reading::Command,
            faults: 0,
        }
    }

    /// RFC 5321 4.2: the first reply. "ESMTP" is what some clients look for.
    #[must_use]
    pub fn greeting(&self) -> Reply {
        let protocol = if self.is_lmtp() { "LMTP" } else { "ESMTP" };
        Reply::plain(220, &format!("{} {protocol} Palomar", self.terms.hostname))
    }

    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// True between messages: whatever belonged to one is to be dropped.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.stage == Stage::Ready && !self.is_in_content()
    }

    /// True while bytes are a message's: the session does not end here if it can help it.
    #[must_use]
    pub fn is_in_content(&self) -> bool {
        matches!(self.reading, Reading::Data { .. } | Reading::Chunk { .. })
    }

    /// True where nothing but a log-in gets any further.
    #[must_use]
    pub fn needs_log_in(&self) -> bool {
        self.terms.auth == AuthMode::Required && !self.is_logged_in
    }

    fn is_lmtp(&self) -> bool {
        self.terms.role == Role::Lmtp
    }

    /// Looks at what is unread: how much of it is done with, and what is to happen. Content is
    /// appended to `content`.
    pub fn read(&mut self, input: &[u8], content: &mut Vec<u8>) -> (usize, Event) {
        match &mut self.reading {
            Reading::Command | Reading::Auth(_) => self.read_line(input),
            Reading::Skip(skip, _) => {
                let (used, ended) = skip.drop_from(input);
                (
                    used,
                    if ended {
                        self.after_refused()
                    } else {
                        Event::Wait
                    },
                )
            }
            Reading::Data { reader, taken } => {
                let used = reader.feed(input, content);
                *taken = taken.saturating_add(used as u64);
                let bytes_max = self.terms.message_bytes_max;
                let (end, is_endless) = (reader.end(), exceeds(*taken, bytes_max));
                let event = match end {
                    Some(summary) => {
                        self.forget_message();
                        Event::DataEnd(summary)
                    }
                    None if is_endless => self.bye(too_large()),
                    None if used == 0 => Event::Wait,
                    None => Event::Onward,
                };
                (used, event)
            }
            Reading::Chunk {
                reader,
                bytes,
                last,
            } => {
                let range = reader.feed(input);
                content.extend_from_slice(&input[range.clone()]);
                let (bytes, last) = (*bytes, *last);
                let event = match () {
                    () if reader.done() => {
                        self.reading = Reading::Command;
                        if last {
                            self.forget_message();
                        }
                        Event::ChunkEnd { bytes, last }
                    }
                    () if range.is_empty() => Event::Wait,
                    () => Event::Onward,
                };
                (range.end, event)
            }
            Reading::Unwanted(reader, _) => {
                let range = reader.feed(input);
                (
                    range.end,
                    if reader.done() {
                        self.after_refused()
                    } else {
                        Event::Wait
                    },
                )
            }
            Reading::Closed => (input.len(), Event::Wait),
        }
    }

    fn after_refused(&mut self) -> Event {
        match std::mem::replace(&mut self.reading, Reading::Command) {
            Reading::Skip(_, reply) => self.fault(reply),
            // A client that sends chunks ahead makes one mistake, not one with each of them.
            Reading::Unwanted(_, reply) => Event::Say(reply),
            other => {
                self.reading = other;
                Event::Wait
            }
        }
    }

    fn read_line(&mut self, input: &[u8]) -> (usize, Event) {
        match next_line(input, SMTP_COMMAND_BYTES_MAX, Ending::Crlf) {
            Ok(None) => (0, Event::Wait),
            Ok(Some(line)) => {
                let text = &input[..line.text];
                let event = match std::mem::replace(&mut self.reading, Reading::Command) {
                    Reading::Auth(exchange) => self.auth_step(exchange.answer(text)),
                    _ => self.command(text),
                };
                (line.used, event)
            }
            Err(LineError::TooLong) => {
                let reply = match self.reading {
                    // RFC 4954 4.
                    Reading::Auth(_) => Reply::new(500, "5.5.6", "Authentication line too long"),
                    _ => Reply::new(500, "5.5.2", "Line too long"),
                };
                self.reading = Reading::Skip(Skip::new(Ending::Crlf), reply);
                (0, Event::Onward)
            }
            Err(LineError::Stray { used, .. }) => {
                self.reading = Reading::Command;
                let reply = Reply::new(500, "5.5.2", "Lines end with CRLF and hold no NUL");
                (used, self.fault(reply))
            }
        }
    }

    fn command(&mut self, line: &[u8]) -> Event {
        let command = match Command::parse(line) {
            Ok(command) => command,
            // What follows may be a chunk or a command: nobody can tell.
            Err(error @ SyntaxError::BadChunkSize) => return self.bye(error.reply()),
            Err(error) => return self.fault(error.reply()),
        };
        let in_chunks = matches!(self.stage, Stage::Chunks { .. });
        match command {
            Command::Ehlo(name) if !self.is_lmtp() => self.extended_hello(name),
            Command::Lhlo(name) if self.is_lmtp() => self.extended_hello(name),
            Command::Helo(name) if !self.is_lmtp() => {
                self.forget_message();
                self.hello = Some(Hello::Plain(name.to_owned()));
                Event::Say(Reply::plain(250, &self.terms.hostname))
            }
            // RFC 2033 4.1: each protocol has its own.
            Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) => {
                let own = if self.is_lmtp() { "LHLO" } else { "EHLO" };
                self.fault(Reply::new(500, "5.5.1", &format!("Use {own} here")))
            }
            Command::Mail(_) | Command::Rcpt(_) | Command::Data if in_chunks => {
                // RFC 3030 2: nothing but BDAT goes on with it.
                self.fault(Reply::new(503, "5.5.1", "Send BDAT or RSET"))
            }
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
            Command::Bdat { bytes, last } => self.bdat(bytes, last),
            Command::Rset => {
                self.forget_message();
                Event::Say(Reply::new(250, "2.0.0", "OK"))
            }
            Command::Noop => Event::Say(Reply::new(250, "2.0.0", "OK")),
            Command::Quit => {
                let reply = Reply::new(221, "2.0.0", &format!("{} bye", self.terms.hostname));
                self.bye(reply)
            }
            // RFC 5321 3.5.3 and 7.3: who is here is told to nobody.
            Command::Vrfy(_) => {
                Event::Say(Reply::new(252, "2.0.0", "Send the mail and you will see"))
            }
            Command::Expn(_) => self.fault(Reply::new(502, "5.5.1", "There is no EXPN")),
            Command::Help => Event::Say(
                Reply::new(
                    214,
                    "2.0.0",
                    "This is Palomar. Its commands are those of RFC 5321",
                )
                .line("To reach a person here, write to postmaster"),
            ),
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial),
        }
    }

    fn extended_hello(&mut self, name: &str) -> Event {
        // RFC 5321 4.1.4: EHLO also is a RSET.
        self.forget_message();
        self.hello = Some(Hello::Extended(name.to_owned()));
        let size = format!("SIZE {}", self.terms.message_bytes_max);
        let mut reply = Reply::plain(250, &self.terms.hostname)
            .line("PIPELINING")
            .line(&size)
            .line("8BITMIME")
            .line("SMTPUTF8");
        if self.terms.start_tls == StartTls::Offered && !self.is_secure {
            reply = reply.line("STARTTLS");
        }
        if self.may_log_in() && !self.is_logged_in {
            let names = Mechanism::ALL.map(Mechanism::name).join(" ");
            reply = reply.line(&format!("AUTH {names}"));
        }
        if self.is_secure {
            reply = reply.line("REQUIRETLS");
        }
        if self.terms.role == Role::Submission {
            reply = reply.line("XVERP");
        }
        if let Some(holds) = &self.terms.holds {
            let (seconds, until) = (holds.seconds_max, date_time(holds.until_max));
            reply = reply.line(&format!("FUTURERELEASE {seconds} {until}"));
        }
        Event::Say(
            reply
                .line("ENHANCEDSTATUSCODES")
                .line("CHUNKING")
                .line("DSN")
                .line("HELP"),
        )
    }

    fn may_log_in(&self) -> bool {
        self.terms.auth != AuthMode::Off && (self.is_secure || self.terms.clear_log_in)
    }

    fn mail(&mut self, mail: MailFrom) -> Event {
        if self.hello.is_none() {
            return self.fault(hello_first(self.is_lmtp()));
        }
        if self.stage != Stage::Ready {
            return self.fault(Reply::new(503, "5.5.1", "One message at a time"));
        }
        if self.needs_log_in() {
            // RFC 3207 4, RFC 4954 6.
            let text = match self.may_log_in() {
                true => "Authentication required",
                false => "Must issue a STARTTLS command first",
            };
            return self.fault(Reply::new(530, "5.7.0", text));
        }
        if mail.body == BodyKind::Binary {
            return self.fault(Reply::new(555, "5.5.4", "BINARYMIME is not offered"));
        }
        // RFC 8689 4.1: it comes over TLS, or not at all.
        if mail.require_tls && !self.is_secure {
            return self.fault(Reply::new(555, "5.5.4", "REQUIRETLS is not offered"));
        }
        if mail.verp && self.terms.role != Role::Submission {
            return self.fault(Reply::new(555, "5.5.4", "XVERP is not offered"));
        }
        // RFC 4865 4.1: longer than was offered is a wrong parameter.
        let is_too_long = mail.hold.map(|hold| match (hold, self.terms.holds) {
            (_, None) => None,
            (Hold::For(seconds), Some(holds)) => Some(seconds > holds.seconds_max),
            (Hold::Until(at), Some(holds)) => Some(at > holds.until_max),
        });
        match is_too_long {
            Some(None) => self.fault(Reply::new(555, "5.5.4", "FUTURERELEASE is not offered")),
            Some(Some(true)) => self.fault(Reply::new(
                501,
                "5.5.4",
                "That is longer than a message is held",
            )),
            _ => Event::Do(Act::Mail(mail)),
        }
    }

    /// MAIL was answered. `is_utf8`: with SMTPUTF8.
    pub fn mail_done(&mut self, is_accepted: bool, is_utf8: bool) {
        if is_accepted {
            self.stage = Stage::Envelope {
                recipients: 0,
                is_utf8,
            };
        }
    }

    fn rcpt(&mut self, rcpt: RcptTo) -> Event {
        let Stage::Envelope { is_utf8, .. } = self.stage else {
            return self.fault(mail_first());
        };
        if !is_utf8 && !rcpt.path.is_ascii() {
            return self.fault(SyntaxError::NeedsSmtpUtf8.reply());
        }
        Event::Do(Act::Rcpt(rcpt))
    }

    /// RCPT was answered.
    pub fn rcpt_done(&mut self, is_accepted: bool) {
        if let Stage::Envelope { recipients, .. } = &mut self.stage {
            *recipients += usize::from(is_accepted);
        }
    }

    fn data(&mut self) -> Event {
        match self.stage {
            Stage::Envelope { recipients: 0, .. } => Event::Say(no_recipients(self.is_lmtp())),
            Stage::Envelope { .. } => {
                let Terms {
                    line_mode,
                    message_bytes_max,
                    ..
                } = self.terms;
                let reader = DotReader::new(line_mode, message_bytes_max);
                self.reading = Reading::Data { reader, taken: 0 };
                Event::Do(Act::Data)
            }
            Stage::Ready | Stage::Chunks { .. } => self.fault(mail_first()),
        }
    }

    fn bdat(&mut self, bytes: u64, last: bool) -> Event {
        let bytes_max = self.terms.message_bytes_max;
        if exceeds(bytes, bytes_max) {
            return self.bye(too_large());
        }
        let reader = BdatReader::new(bytes);
        let before = match self.stage {
            Stage::Ready => return self.unwanted(reader, mail_first()),
            Stage::Envelope { recipients: 0, .. } => {
                return self.unwanted(reader, no_recipients(self.is_lmtp()));
            }
            Stage::Envelope { .. } => None,
            Stage::Chunks { bytes } => Some(bytes),
        };
        let total = before.unwrap_or(0).saturating_add(bytes);
        if total > bytes_max {
            self.forget_message();
            return self.unwanted(reader, too_large());
        }
        self.stage = Stage::Chunks { bytes: total };
        self.reading = Reading::Chunk {
            reader,
            bytes,
            last,
        };
        Event::Do(Act::Chunk {
            first: before.is_none(),
        })
    }

    fn unwanted(&mut self, reader: BdatReader, reply: Reply) -> Event {
        let is_done = reader.done();
        self.reading = Reading::Unwanted(reader, reply);
        if is_done {
            self.after_refused()
        } else {
            Event::Onward
        }
    }

    fn start_tls(&mut self) -> Event {
        match (self.is_secure, self.terms.start_tls) {
            (true, _) => self.fault(Reply::new(503, "5.5.1", "TLS is on already")),
            (false, StartTls::Offered) => Event::Do(Act::StartTls),
            (false, StartTls::Withheld) => {
                self.fault(Reply::new(454, "4.7.0", "TLS failed before; go on without"))
            }
            (false, StartTls::Absent) => self.fault(Reply::new(502, "5.5.1", "There is no TLS")),
        }
    }

    /// The handshake succeeded: whatever was said before it is forgotten (RFC 3207 4.2).
    pub fn secured(&mut self) {
        self.is_secure = true;
        self.is_logged_in = false;
        self.hello = None;
        self.stage = Stage::Ready;
        self.reading = Reading::Command;
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Event {
        let reply = if self.terms.auth == AuthMode::Off {
            Reply::new(502, "5.5.1", "There is no AUTH here")
        } else if self.is_logged_in || self.stage != Stage::Ready {
            // RFC 4954 4: once, and not during a message.
            Reply::new(503, "5.5.1", "Not now")
        } else if !matches!(self.hello, Some(Hello::Extended(_))) {
            hello_first(self.is_lmtp())
        } else if !self.may_log_in() {
            Reply::new(
                538,
                "5.7.11",
                "Encryption is required to log in: STARTTLS first",
            )
        } else {
            return self.auth_step(Mechanism::start(mechanism, initial.map(str::as_bytes)));
        };
        self.fault(reply)
    }

    fn auth_step(&mut self, step: Step) -> Event {
        match step {
            Step::Challenge { text, next } => {
                self.reading = Reading::Auth(next);
                Event::Say(Reply::plain(334, text))
            }
            Step::Done(credentials) => Event::Do(Act::LogIn(credentials)),
            Step::Fail(failure) => self.fault(match failure {
                Failure::UnknownMechanism => Reply::new(504, "5.5.4", "Mechanism not offered"),
                Failure::Cancelled => Reply::new(501, "5.7.0", "Cancelled"),
                Failure::BadBase64 => Reply::new(501, "5.5.2", "This is not base64"),
                Failure::Malformed => Reply::new(501, "5.5.2", "This is no log-in"),
            }),
        }
    }

    /// The log-in was answered.
    pub fn log_in_done(&mut self, is_in: bool) {
        self.is_logged_in |= is_in;
        if !is_in {
            self.faults += LOGIN_FAULTS;
        }
    }

    /// True when a session has made so many mistakes that it is to end.
    #[must_use]
    pub fn has_erred_enough(&self) -> bool {
        self.faults >= FAULTS_MAX
    }

    fn forget_message(&mut self) {
        self.stage = Stage::Ready;
        self.reading = Reading::Command;
    }

    fn fault(&mut self, reply: Reply) -> Event {
        self.faults += 1;
        if self.has_erred_enough() {
            self.bye(too_many_errors())
        } else {
            Event::Say(reply)
        }
    }

    fn bye(&mut self, reply: Reply) -> Event {
        self.reading = Reading::Closed;
        self.stage = Stage::Ready;
        Event::Bye(reply)
    }
}

/// More than anybody needs to see of a message that is refused anyway.
fn exceeds(bytes: u64, bytes_max: u64) -> bool {
    bytes > bytes_max.saturating_mul(DISCARD_FACTOR)
}

pub fn too_many_errors() -> Reply {
    Reply::new(421, "4.7.0", "Too many errors")
}

fn too_large() -> Reply {
    Reply::new(552, "5.3.4", "Message is too large")
}

/// RFC 3339, in UTC and whole seconds.
fn date_time(at: UnixMs) -> String {
    let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn hello_first(is_lmtp: bool) -> Reply {
    Reply::new(
        503,
        "5.5.1",
        if is_lmtp {
            "Send LHLO first"
        } else {
            "Send EHLO first"
        },
    )
}

fn mail_first() -> Reply {
    Reply::new(503, "5.5.1", "Send MAIL first")
}

/// RFC 2033 4.2 wants 503 of LMTP; RFC 2920 3.1 has 554 in mind.
fn no_recipients(is_lmtp: bool) -> Reply {
    Reply::new(
        if is_lmtp { 503 } else { 554 },
        "5.5.1",
        "No valid recipients",
    )
}
