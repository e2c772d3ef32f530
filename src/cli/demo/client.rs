//! Small blocking SMTP and IMAP clients, without TLS: they only ever speak to loopback.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use data_encoding::BASE64;

use super::home::{HOST, User};

/// An answer that takes longer will not come.
const ANSWER_SPAN: Duration = Duration::from_secs(30);

const LINE_BYTES_MAX: u64 = 64 << 10;
const LITERAL_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub enum TalkError {
    Io(io::Error),
    /// The server said no.
    Refused(String),
}

pub struct Smtp(Wire);

pub struct Imap {
    wire: Wire,
    tag: u32,
}

/// One untagged answer: its text, and its literals apart.
#[derive(Debug, Default)]
pub struct Untagged {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

struct Wire(BufReader<TcpStream>);

impl Smtp {
    pub fn connect(port: u16) -> Result<Smtp, TalkError> {
        let mut smtp = Smtp(Wire::connect(port)?);
        smtp.expect(b'2')?;
        smtp.say(&format!("EHLO [{HOST}]\r\n"), b'2')?;
        Ok(smtp)
    }

    /// AUTH PLAIN (RFC 4616).
    pub fn login(&mut self, user: &User) -> Result<(), TalkError> {
        let plain = format!("\0{}\0{}", user.address, user.password);
        self.say(
            &format!("AUTH PLAIN {}\r\n", BASE64.encode(plain.as_bytes())),
            b'2',
        )?;
        Ok(())
    }

    /// One message; what the server said when it took it. Commands are pipelined (RFC 2920).
    pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<String, TalkError> {
        let mut commands = format!("MAIL FROM:<{from}> BODY=8BITMIME\r\n");
        for to in to {
            commands.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.0.write(commands.as_bytes())?;
        for _ in 0..=to.len() {
            self.expect(b'2')?;
        }
        self.expect(b'3')?;
        self.0.write(&stuffed(message))?;
        self.expect(b'2')
    }

    fn say(&mut self, command: &str, class: u8) -> Result<String, TalkError> {
        self.0.write(command.as_bytes())?;
        self.expect(class)
    }

    /// The last line of a reply whose code begins with `class` (RFC 5321 4.2.1).
    fn expect(&mut self, class: u8) -> Result<String, TalkError> {
        loop {
            let line = self.0.line()?;
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            return match line.as_bytes().first() {
                Some(first) if *first == class => Ok(line),
                _ => Err(TalkError::Refused(line)),
            };
        }
    }
}

/// Dots doubled at the start of lines, and the dot at the end (RFC 5321 4.5.2).
pub(super) fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

impl Imap {
    pub fn connect(port: u16) -> Result<Imap, TalkError> {
        let mut wire = Wire::connect(port)?;
        let greeting = wire.line()?;
        match greeting.starts_with("* OK") {
            true => Ok(Imap { wire, tag: 0 }),
            false => Err(TalkError::Refused(greeting)),
        }
    }

    pub fn login(&mut self, user: &User) -> Result<(), TalkError> {
        self.command(&format!("LOGIN \"{}\" \"{}\"", user.address, user.password))?;
        Ok(())
    }

    /// `date` as in RFC 9051 9, date-time.
    pub fn append(
        &mut self,
        mailbox: &str,
        flags: &str,
        date: &str,
        message: &[u8],
    ) -> Result<(), TalkError> {
        let tag = self.next_tag();
        let length = message.len();
        let command = format!("{tag} APPEND {mailbox} ({flags}) \"{date}\" {{{length}}}\r\n");
        self.wire.write(command.as_bytes())?;
        loop {
            let line = self.wire.line()?;
            if line.starts_with('+') {
                break;
            }
            if !line.starts_with('*') {
                return Err(TalkError::Refused(line));
            }
        }
        self.wire.write(message)?;
        self.wire.write(b"\r\n")?;
        self.finish(&tag)?;
        Ok(())
    }

    /// Everything untagged up to the OK.
    pub fn command(&mut self, command: &str) -> Result<Vec<Untagged>, TalkError> {
        let tag = self.next_tag();
        self.wire.write(format!("{tag} {command}\r\n").as_bytes())?;
        self.finish(&tag)
    }

    fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("a{}", self.tag)
    }

    fn finish(&mut self, tag: &str) -> Result<Vec<Untagged>, TalkError> {
        let mut answers = Vec::new();
        loop {
            let answer = self.answer()?;
            match answer.text.strip_prefix(tag) {
                Some(rest) if rest.starts_with(" OK") => return Ok(answers),
                Some(_) => return Err(TalkError::Refused(answer.text)),
                None => answers.push(answer),
            }
        }
    }

    /// A line, with the lines that its literals interrupt (RFC 9051 4.3).
    fn answer(&mut self) -> Result<Untagged, TalkError> {
        let mut answer = Untagged::default();
        loop {
            let line = self.wire.line()?;
            answer.text.push_str(&line);
            let Some(length) = literal_length(&line) else {
                return Ok(answer);
            };
            if length > LITERAL_BYTES_MAX {
                return Err(TalkError::Refused(line));
            }
            let mut literal = vec![0; length];
            self.wire.0.read_exact(&mut literal)?;
            answer.literals.push(literal);
        }
    }
}

pub(super) fn literal_length(line: &str) -> Option<usize> {
    let (_, length) = line.strip_suffix('}')?.rsplit_once('{')?;
    length.parse().ok()
}

impl Wire {
    fn connect(port: u16) -> Result<Wire, TalkError> {
        let stream = TcpStream::connect((HOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_SPAN))?;
        stream.set_write_timeout(Some(ANSWER_SPAN))?;
        Ok(Wire(BufReader::new(stream)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TalkError> {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    /// Without its CRLF.
    fn line(&mut self) -> Result<String, TalkError> {
        let mut line = Vec::new();
        self.0
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(TalkError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

impl From<io::Error> for TalkError {
    fn from(error: io::Error) -> Self {
        TalkError::Io(error)
    }
}

impl fmt::Display for TalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TalkError::Io(error) => write!(f, "{error}"),
            TalkError::Refused(said) => write!(f, "the server said: {said}"),
        }
    }
}
