//! How long each step may take (RFC 5321 4.5.3.2).

use std::fmt;
use std::time::Duration;

/// What the hop is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Handshake,
    LogIn,
    Reset,
    Mail,
    Rcpt,
    Data,
    /// Content is on its way.
    Content,
    /// All of the content is, with what ends it.
    End,
    /// Nothing is asked.
    Idle,
}

/// The longest that each step may take. A step is a whole reply or a whole block: octets that drip
/// do not make it longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    pub connect: Duration,
    pub greeting: Duration,
    /// EHLO, STARTTLS, AUTH and RSET.
    pub command: Duration,
    pub handshake: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    /// One block of content.
    pub block: Duration,
    /// The answer to the whole content.
    pub end: Duration,
    /// All steps together: of opening, and of one letter.
    pub attempt: Duration,
    /// A letter has besides as long as its content takes at this rate.
    pub bytes_per_second_min: u64,
}

impl Default for Times {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Times {
            connect: Duration::from_secs(30),
            greeting: minutes(5),
            command: minutes(5),
            handshake: minutes(1),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            end: minutes(10),
            // Beyond the longest single step, far below the sum of them for many recipients.
            attempt: minutes(20),
            bytes_per_second_min: 4 << 10,
        }
    }
}

impl Times {
    /// The span of one step.
    #[must_use]
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect => self.connect,
            Phase::Greeting => self.greeting,
            Phase::Hello | Phase::StartTls | Phase::LogIn | Phase::Reset | Phase::Idle => {
                self.command
            }
            Phase::Handshake => self.handshake,
            Phase::Mail => self.mail,
            Phase::Rcpt => self.rcpt,
            Phase::Data => self.data,
            Phase::Content => self.block,
            Phase::End => self.end,
        }
    }

    /// The span of a letter of that many octets.
    #[must_use]
    pub fn letter(&self, size: u64) -> Duration {
        self.attempt + Duration::from_secs(size / self.bytes_per_second_min.max(1))
    }
}

impl fmt::Display for Phase {
    /// What it follows "in" or "after".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "connecting",
            Phase::Greeting => "its greeting",
            Phase::Hello => "EHLO",
            Phase::StartTls => "STARTTLS",
            Phase::Handshake => "the TLS handshake",
            Phase::LogIn => "AUTH",
            Phase::Reset => "RSET",
            Phase::Mail => "MAIL FROM",
            Phase::Rcpt => "RCPT TO",
            Phase::Data => "DATA",
            Phase::Content => "the message content",
            Phase::End => "end of data",
            Phase::Idle => "no command",
        })
    }
}
