//! The connection under a session: whole commands in, batched responses out.

use std::future::Future;
use std::time::Duration;

use super::super::{Door, Presence, Wake, wait};
use super::answer::Answer;
use crate::base::{COMMAND_BYTES_MAX, Deadline};
use crate::net::{Conn, NetError};
use crate::runtime::{self, Stop};
use crate::wire::imap::{
    FrameLimits, Framer, Literal, LiteralPurpose, Next, literal_purpose, tag_and_name,
};

/// Before log-in: a name and a password (RFC 7162 4 asks for lines of 8192).
const STRANGER: FrameLimits = FrameLimits {
    line_bytes_max: 8 << 10,
    literal_bytes_max: 4 << 10,
};
/// After it. Messages do not count: they are streamed.
const KNOWN: FrameLimits = FrameLimits {
    line_bytes_max: COMMAND_BYTES_MAX,
    literal_bytes_max: 256 << 10,
};
/// What may lie unread, beyond what one command may hold.
const READ_AHEAD_BYTES: usize = 48 << 10;
/// Responses are sent when they are this long, or when the command is done.
const BATCH_BYTES: usize = 32 << 10;
/// Whoever takes no response for so long is gone.
const WRITE_SPAN: Duration = Duration::from_secs(120);
/// A refused literal longer than this is not read through: the connection is closed instead
/// (RFC 7888 4).
const SKIP_BYTES_MAX: u64 = 1 << 20;
const GOODBYE_SPAN: Duration = Duration::from_secs(5);

/// Why a session ends.
#[derive(Debug)]
pub enum End {
    Logout,
    /// The peer closed.
    Gone,
    TimedOut,
    Kicked,
    Stopping,
    /// Too many commands that made no sense, or too many failed log-ins.
    Unwelcome(&'static str),
    /// Said, and the rest of what comes cannot be read.
    Refused(&'static str),
    /// The mailbox was deleted, or the server cannot go on with this session.
    Broken(&'static str),
    Net(NetError),
}

impl End {
    /// The last words, where any can still be heard.
    fn goodbye(&self) -> Option<&str> {
        match self {
            End::Logout | End::Gone | End::Net(_) => None,
            End::TimedOut => Some("too long silent"),
            End::Kicked => Some("an administrator ended this session"),
            End::Stopping => Some("[UNAVAILABLE] the server shuts down; come back soon"),
            End::Unwelcome(why) | End::Refused(why) | End::Broken(why) => Some(why),
        }
    }

    /// For the closing log line.
    pub fn reason(&self) -> String {
        match self {
            End::Logout => "logout".to_owned(),
            End::Gone => "closed by peer".to_owned(),
            End::TimedOut => "idle".to_owned(),
            End::Kicked => "kicked".to_owned(),
            End::Stopping => "drain".to_owned(),
            End::Unwelcome(why) | End::Refused(why) | End::Broken(why) => (*why).to_owned(),
            End::Net(error) => error.to_string(),
        }
    }
}

impl From<NetError> for End {
    fn from(error: NetError) -> Self {
        End::Net(error)
    }
}

/// What came.
#[derive(Debug)]
pub enum Input {
    /// A whole command, in [`Client::line`].
    Command,
    /// A command up to the message that it announces: APPEND.
    Message(Literal),
}

/// One client's connection.
pub struct Client {
    pub conn: Conn,
    pub door: Door,
    pub presence: Presence,
    stop: Stop,
    framer: Framer,
    limits: FrameLimits,
    /// The command being carried out. Wiped and dropped afterwards.
    pub line: Vec<u8>,
    /// Responses that wait to be sent.
    pub out: Vec<u8>,
    pub received: u64,
    pub sent: u64,
}

impl Client {
    #[must_use]
    pub fn new(conn: Conn, door: Door, presence: Presence, stop: Stop, is_known: bool) -> Self {
        let limits = if is_known { KNOWN } else { STRANGER };
        Client {
            conn,
            door,
            presence,
            stop,
            framer: Framer::new(limits),
            limits,
            line: Vec::new(),
            out: Vec::new(),
            received: 0,
            sent: 0,
        }
    }

    /// The client has logged in: longer commands are taken.
    pub fn becomes_known(&mut self) {
        self.limits = KNOWN;
        self.framer.set_limits(KNOWN);
    }

    /// Drops what came and was not carried out, for STARTTLS.
    pub fn forget_input(&mut self) {
        self.framer = Framer::new(self.limits);
    }

    fn unread_max(&self) -> usize {
        self.limits.line_bytes_max + self.limits.literal_bytes_max as usize + READ_AHEAD_BYTES
    }

    /// Waits for the next command. What is refused on the way is answered here.
    pub async fn next(&mut self, until: Deadline) -> Result<Input, End> {
        loop {
            match self.framer.next(self.conn.unread()) {
                Next::Need => self.wait_for_input(until).await?,
                Next::Command { bytes } => {
                    self.take_line(bytes);
                    return Ok(Input::Command);
                }
                Next::Literal(literal) => {
                    let prefix = &self.conn.unread()[..literal.prefix];
                    if literal_purpose(prefix) == LiteralPurpose::Message {
                        self.line.clear();
                        self.line.extend_from_slice(prefix);
                        return Ok(Input::Message(literal));
                    }
                    self.argument(literal).await?;
                }
                Next::TooLong => {
                    let tag = tag_and_name(self.conn.unread()).0.unwrap_or("*").to_owned();
                    let answer = Answer::bad("the command is too long").with_code("TOOBIG");
                    answer.write(&tag, &mut self.out);
                    self.flush().await?;
                }
                Next::Skip(bytes) => self.consume(bytes),
            }
        }
    }

    /// A literal that is an argument: kept with its command, or refused.
    async fn argument(&mut self, literal: Literal) -> Result<(), End> {
        if literal.fits {
            self.framer.take();
            if literal.sync {
                self.out.extend_from_slice(b"+ go on\r\n");
                self.flush().await?;
            }
            return Ok(());
        }
        let tag = tag_and_name(self.conn.unread()).0.unwrap_or("*").to_owned();
        let answer = Answer::bad("the literal is too large").with_code("TOOBIG");
        self.refuse_literal(&tag, &answer).await
    }

    /// Answers the command whose literal was announced, and passes over the literal.
    pub async fn refuse_literal(&mut self, tag: &str, answer: &Answer) -> Result<(), End> {
        answer.write(tag, &mut self.out);
        self.flush().await?;
        match self.framer.reject() {
            coming if coming > SKIP_BYTES_MAX => {
                Err(End::Refused("[TOOBIG] the literal is too large"))
            }
            _ => Ok(()),
        }
    }

    /// The announced literal is a message: asks for it where the client waits, and leaves its
    /// octets to [`Client::literal_chunk`].
    pub async fn accept_message(&mut self, literal: Literal) -> Result<(), End> {
        self.framer.stream();
        self.consume(literal.prefix);
        if literal.sync {
            self.out.extend_from_slice(b"+ go on\r\n");
            self.flush().await?;
        }
        Ok(())
    }

    /// Waits until octets of a streamed literal are there; they are the start of the unread.
    pub async fn literal_chunk(&mut self, left: u64, until: Deadline) -> Result<usize, End> {
        if self.conn.unread().is_empty() {
            self.wait_for_input(until).await?;
        }
        Ok(self
            .conn
            .unread()
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// What follows a streamed literal: as [`Client::next`], but `Message` for any literal.
    pub async fn next_after_literal(&mut self, until: Deadline) -> Result<Input, End> {
        loop {
            match self.framer.next(self.conn.unread()) {
                Next::Need => self.wait_for_input(until).await?,
                Next::Command { bytes } => {
                    self.take_line(bytes);
                    return Ok(Input::Command);
                }
                Next::Literal(literal) => {
                    self.line.clear();
                    self.line
                        .extend_from_slice(&self.conn.unread()[..literal.prefix]);
                    return Ok(Input::Message(literal));
                }
                Next::TooLong => return Err(End::Refused("the command is too long")),
                Next::Skip(bytes) => self.consume(bytes),
            }
        }
    }

    /// A line outside of commands: an answer of AUTHENTICATE, or DONE. Literals have no place.
    pub async fn next_line(&mut self, until: Deadline) -> Result<(), End> {
        match self.next_after_literal(until).await? {
            Input::Command => Ok(()),
            Input::Message(_) => Err(End::Refused("a literal has no place here")),
        }
    }

    fn take_line(&mut self, bytes: usize) {
        self.line.clear();
        self.line.extend_from_slice(&self.conn.unread()[..bytes]);
        self.consume(bytes);
    }

    /// Overwrites the command, which may hold a password, and gives its memory back.
    pub fn wipe_line(&mut self) {
        self.line.fill(0);
        std::hint::black_box(&self.line);
        self.line = Vec::new();
    }

    pub fn consume(&mut self, bytes: usize) {
        self.conn.consume(bytes);
        self.received += bytes as u64;
    }

    async fn wait_for_input(&mut self, until: Deadline) -> Result<(), End> {
        // Before every wait the client has all that it can have.
        self.flush().await?;
        match self.wait_for(until, std::future::pending()).await? {
            Wake::Input | Wake::News => Ok(()),
            Wake::Eof => Err(End::Gone),
            Wake::TimedOut => Err(End::TimedOut),
            Wake::Kicked => Err(End::Kicked),
            Wake::Stopping => Err(End::Stopping),
        }
    }

    /// [`wait`] on this connection.
    pub async fn wait_for(
        &mut self,
        until: Deadline,
        news: impl Future<Output = ()>,
    ) -> Result<Wake, End> {
        let max = self.unread_max();
        Ok(wait(&mut self.conn, max, until, &self.presence, &self.stop, news).await?)
    }

    /// Whether input waits already.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.conn.unread().is_empty()
    }

    /// Sends what was written if it is worth a write, and sees whether the session has to end.
    pub async fn flush_batch(&mut self) -> Result<(), End> {
        if self.out.len() < BATCH_BYTES {
            return Ok(());
        }
        if self.presence.is_kicked() {
            return Err(End::Kicked);
        }
        self.flush().await
    }

    /// Sends what was written.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.sent += self.out.len() as u64;
        let until = Deadline::after(runtime::now(), WRITE_SPAN);
        Ok(self.conn.write_all_of(&mut self.out, until).await?)
    }

    /// Nothing is held while the session waits for its next command.
    pub fn rest(&mut self) {
        self.line = Vec::new();
        self.out = Vec::new();
    }

    /// Last words, then the end of the connection.
    pub async fn close(mut self, end: &End) {
        if let Some(words) = end.goodbye() {
            self.out.extend_from_slice(b"* BYE ");
            self.out.extend_from_slice(words.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        let until = Deadline::after(runtime::now(), GOODBYE_SPAN);
        let said = match end {
            End::Gone | End::Net(_) => false,
            _ => self.conn.write_all_of(&mut self.out, until).await.is_ok(),
        };
        if said {
            self.conn.close(until).await;
        }
    }
}
