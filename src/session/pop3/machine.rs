//! What may be said when (RFC 1939 3): authorization, transaction, update. No IO.

use super::maildrop::{Entry, Maildrop};
use crate::wire::line::{Ending, LineError, Skip, next_line};
use crate::wire::pop3::{Command, parse};
use crate::wire::sasl::{Credentials, Exchange, Failure, Mechanism, Secret, Step};

/// Longest line: RFC 2449 4 has 255 for commands, a SASL answer may be longer (RFC 5034 4).
pub const LINE_BYTES_MAX: usize = 12_288;
/// Wrong commands after which a session ends.
const FAULTS_MAX: u32 = 20;
/// A failed log-in weighs as much as so many of them.
const LOGIN_FAULTS: u32 = 4;

/// What the listener says for this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// STLS is to be had.
    pub has_tls: bool,
    /// A log-in is allowed without TLS.
    pub clear_log_in: bool,
}

enum State {
    Authorization {
        user: Option<String>,
    },
    /// An AUTH exchange is under way.
    Exchange(Exchange),
    Transaction(Maildrop),
}

/// What is to happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// All is read; more input is needed. Replies are to be sent now.
    Wait,
    /// Read again.
    Onward,
    /// One reply, whole, line ends included.
    Say(String),
    /// The last word.
    Bye(String),
    Do(Act),
}

/// What needs more than a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Answered by [`Machine::secured`] or the end of the session.
    Stls,
    /// Answered by [`Machine::opened`] or [`Machine::log_in_failed`].
    LogIn(Credentials),
    /// LIST and UIDL of all: as long as the mailbox.
    List,
    Uidl,
    Retr(Entry),
    Top(Entry, u32),
    /// QUIT after a log-in: remove what is marked, then end.
    Update,
}

/// One session's state.
pub struct Machine {
    terms: Terms,
    is_secure: bool,
    state: State,
    skip: Option<Skip>,
    faults: u32,
}

impl Machine {
    #[must_use]
    pub fn new(terms: Terms, is_secure: bool) -> Self {
        let state = State::Authorization { user: None };
        Machine {
            terms,
            is_secure,
            state,
            skip: None,
            faults: 0,
        }
    }

    /// True from log-in on.
    #[must_use]
    pub fn is_in(&self) -> bool {
        matches!(self.state, State::Transaction(_))
    }

    /// The messages, from log-in on.
    #[must_use]
    pub fn maildrop(&self) -> Option<&Maildrop> {
        match &self.state {
            State::Transaction(maildrop) => Some(maildrop),
            State::Authorization { .. } | State::Exchange(_) => None,
        }
    }

    /// Looks at what is unread: how much of it is done with, and what is to happen.
    pub fn read(&mut self, input: &[u8]) -> (usize, Event) {
        if let Some(skip) = &mut self.skip {
            let (used, ended) = skip.drop_from(input);
            if !ended {
                return (used, Event::Wait);
            }
            self.skip = None;
            return (used, self.fault("line too long"));
        }
        match next_line(input, LINE_BYTES_MAX, Ending::CrlfOrLf) {
            Ok(None) => (0, Event::Wait),
            Ok(Some(line)) => (line.used, self.line(&input[..line.text])),
            Err(LineError::TooLong) => {
                self.skip = Some(Skip::new(Ending::CrlfOrLf));
                self.end_exchange();
                (0, Event::Onward)
            }
            Err(LineError::Stray { used, .. }) => {
                self.end_exchange();
                (used, self.fault("a line holds a bare CR or a NUL"))
            }
        }
    }

    fn end_exchange(&mut self) {
        if let State::Exchange(_) = self.state {
            self.state = State::Authorization { user: None };
        }
    }

    fn line(&mut self, line: &[u8]) -> Event {
        if let State::Exchange(_) = self.state {
            let before = State::Authorization { user: None };
            if let State::Exchange(exchange) = std::mem::replace(&mut self.state, before) {
                return self.step(exchange.answer(line));
            }
        }
        match parse(line) {
            Ok(Command::Capa) => Event::Say(self.capabilities()),
            Ok(Command::Utf8) => self.fault("UTF8 is not offered"),
            Ok(command) if self.is_in() => self.in_transaction(command),
            Ok(command) => self.in_authorization(command),
            Err(fault) => self.fault(&fault.to_string()),
        }
    }

    /// RFC 2449 5 and 6: the list, as it is true at this moment.
    fn capabilities(&self) -> String {
        let mut out = String::from("+OK\r\nTOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\n");
        out += "AUTH-RESP-CODE\r\nEXPIRE NEVER\r\n";
        if !self.is_in() {
            if self.may_log_in() {
                out += "USER\r\nSASL PLAIN\r\n";
            }
            if self.terms.has_tls && !self.is_secure {
                out += "STLS\r\n";
            }
        }
        out + "IMPLEMENTATION Palomar\r\n.\r\n"
    }

    fn may_log_in(&self) -> bool {
        self.is_secure || self.terms.clear_log_in
    }

    fn in_authorization(&mut self, command: Command<'_>) -> Event {
        match command {
            Command::Quit => Event::Bye("+OK bye\r\n".to_owned()),
            Command::Stls if self.is_secure => self.fault("TLS is on already"),
            Command::Stls if !self.terms.has_tls => self.fault("there is no TLS here"),
            Command::Stls => Event::Do(Act::Stls),
            // Some clients ask for the list this way.
            Command::Auth {
                mechanism: None, ..
            } => Event::Say("+OK\r\nPLAIN\r\n.\r\n".to_owned()),
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.may_log_in() => {
                // RFC 2595 2.2.
                self.fault("log-in needs encryption: STLS first")
            }
            Command::User(name) => {
                // Whether there is such a user is told to nobody.
                self.state = State::Authorization {
                    user: Some(name.to_owned()),
                };
                Event::Say("+OK and now the password\r\n".to_owned())
            }
            Command::Pass(password) => self.pass(password),
            Command::Auth {
                mechanism: Some(mechanism),
                initial,
            } => {
                let step = Mechanism::start(mechanism, initial);
                self.step(step)
            }
            Command::Capa
            | Command::Utf8
            | Command::Stat
            | Command::List(_)
            | Command::Uidl(_)
            | Command::Retr(_)
            | Command::Top { .. }
            | Command::Dele(_)
            | Command::Noop
            | Command::Rset => self.fault("log in first"),
        }
    }

    fn pass(&mut self, password: Secret) -> Event {
        let State::Authorization { user } = &mut self.state else {
            return self.fault("not now");
        };
        match user.take() {
            Some(login) => Event::Do(Act::LogIn(Credentials {
                authzid: None,
                login,
                password,
            })),
            None => self.fault("USER comes first"),
        }
    }

    fn step(&mut self, step: Step) -> Event {
        match step {
            Step::Challenge { text, next } => {
                self.state = State::Exchange(next);
                Event::Say(format!("+ {text}\r\n"))
            }
            Step::Done(credentials) => Event::Do(Act::LogIn(credentials)),
            Step::Fail(failure) => self.fault(match failure {
                Failure::UnknownMechanism => "this mechanism is not offered",
                Failure::Cancelled => "cancelled",
                Failure::BadBase64 => "this is not base64",
                Failure::Malformed => "this is no log-in",
            }),
        }
    }

    fn in_transaction(&mut self, command: Command<'_>) -> Event {
        let State::Transaction(maildrop) = &mut self.state else {
            return self.fault("log in first");
        };
        let with = |number, then: &dyn Fn(Entry) -> Event| maildrop.get(number).map(then);
        let event = match command {
            Command::Stat => {
                let (count, size) = maildrop.stat();
                Some(Event::Say(format!("+OK {count} {size}\r\n")))
            }
            Command::List(None) => Some(Event::Do(Act::List)),
            Command::Uidl(None) => Some(Event::Do(Act::Uidl)),
            Command::List(Some(n)) => with(n, &|entry| {
                Event::Say(format!("+OK {n} {}\r\n", entry.size))
            }),
            Command::Uidl(Some(n)) => with(n, &|entry| {
                Event::Say(format!("+OK {n} {}\r\n", maildrop.unique_id(&entry)))
            }),
            Command::Retr(n) => with(n, &|entry| Event::Do(Act::Retr(entry))),
            Command::Top { message, lines } => {
                with(message, &|entry| Event::Do(Act::Top(entry, lines)))
            }
            Command::Dele(n) => maildrop
                .delete(n)
                .then(|| Event::Say(format!("+OK message {n} is marked\r\n"))),
            Command::Noop => Some(Event::Say("+OK\r\n".to_owned())),
            Command::Rset => {
                maildrop.reset();
                Some(Event::Say("+OK nothing is marked\r\n".to_owned()))
            }
            Command::Quit => Some(Event::Do(Act::Update)),
            Command::User(_)
            | Command::Pass(_)
            | Command::Auth { .. }
            | Command::Stls
            | Command::Capa
            | Command::Utf8 => return self.fault("you are logged in already"),
        };
        event.unwrap_or_else(|| Event::Say("-ERR no such message\r\n".to_owned()))
    }

    /// The handshake succeeded: what was said before it is forgotten (RFC 2595 4).
    pub fn secured(&mut self) {
        self.is_secure = true;
        self.state = State::Authorization { user: None };
        self.skip = None;
    }

    /// The log-in succeeded and the mailbox is open.
    pub fn opened(&mut self, maildrop: Maildrop) {
        self.state = State::Transaction(maildrop);
        self.faults = 0;
    }

    /// The log-in failed.
    pub fn log_in_failed(&mut self) {
        self.faults += LOGIN_FAULTS;
    }

    /// True when a session has made so many mistakes that it is to end.
    #[must_use]
    pub fn has_erred_enough(&self) -> bool {
        self.faults >= FAULTS_MAX
    }

    fn fault(&mut self, text: &str) -> Event {
        self.faults += 1;
        match self.has_erred_enough() {
            true => Event::Bye("-ERR too many errors\r\n".to_owned()),
            false => Event::Say(format!("-ERR {text}\r\n")),
        }
    }
}
