//! The dialogue with the server: SMTP over its local socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path as FilePath, PathBuf};
use std::thread;
use std::time::Duration;

use super::Unsent;
use super::arguments::Arguments;
use crate::wire::address::Path;
use crate::wire::smtp::{BodyKind, ContentWriter, MailFrom, PeerReply, RcptTo, ReplyParser};

/// As long as a server may think about a message (RFC 5321 4.5.3.2.6).
const ANSWER_SPAN: Duration = Duration::from_secs(600);
const PIECE_BYTES: usize = 64 << 10;

pub struct Talk {
    socket: PathBuf,
    stream: UnixStream,
    unread: Vec<u8>,
    /// What a name without a domain is completed with.
    domain: String,
    /// The server may have all of the message.
    may_be_sent: bool,
}

impl Talk {
    /// Connected, and greeted.
    pub fn open(socket: &FilePath) -> Result<Talk, Unsent> {
        let mut talk = Talk {
            socket: socket.to_owned(),
            stream: connect(socket)?,
            unread: Vec::new(),
            domain: String::new(),
            may_be_sent: false,
        };
        let greeting = talk.reply()?;
        talk.positive(&greeting)?;
        let offer = talk.ask(b"EHLO localhost\r\n")?;
        talk.positive(&offer)?;
        let domain = offer.lines().find_map(|line| line.strip_prefix("XDOMAIN "));
        let stranger = || {
            Unsent::Unavailable(format!(
                "{}: not the local socket of this palomar",
                socket.display()
            ))
        };
        talk.domain = domain.ok_or_else(stranger)?.to_owned();
        Ok(talk)
    }

    /// Of the names of this site.
    pub fn domain(&self) -> String {
        self.domain.clone()
    }

    /// -bs: the caller speaks SMTP himself.
    pub fn relay(socket: &FilePath) -> Result<(), Unsent> {
        let mut stream = connect(socket)?;
        let broken = |error: io::Error| Unsent::Later(format!("{}: {error}", socket.display()));
        let mut outward = stream.try_clone().map_err(broken)?;
        let said = thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let said = io::copy(&mut io::stdin().lock(), &mut outward);
                // Where the server has ended it there is nothing to shut.
                let _ = outward.shutdown(Shutdown::Write);
                said
            });
        said.map_err(broken)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = match stream.read(&mut piece).map_err(broken)? {
                0 => return Ok(()),
                count => count,
            };
            let mut out = io::stdout().lock();
            let written = out.write_all(&piece[..count]).and_then(|()| out.flush());
            written.map_err(|error| Unsent::Unavailable(format!("the answer: {error}")))?;
        }
    }

    /// One message. Returns when the server has it for all; recipients that it refuses for good do
    /// not keep it from the others.
    pub fn send(
        &mut self,
        arguments: &Arguments,
        sender: Path,
        recipients: &[Path],
        content: &[u8],
    ) -> Result<(), Unsent> {
        let is_utf8 = !sender.is_ascii() || recipients.iter().any(|path| !path.is_ascii());
        let mail = MailFrom {
            size: Some(content.len() as u64),
            body: match content.is_ascii() {
                true => BodyKind::SevenBit,
                false => BodyKind::EightBit,
            },
            smtputf8: is_utf8,
            ret: arguments.ret,
            envelope_id: arguments.envelope_id.clone(),
            ..MailFrom::new(sender)
        };
        let mut line = Vec::new();
        let unwritable = |_| Unsent::Usage("an address or -V has what no line can hold".to_owned());
        mail.encode(&mut line).map_err(unwritable)?;
        let reply = self.ask(&line)?;
        self.positive(&reply)?;
        let mut refused = Vec::new();
        for path in recipients {
            let rcpt = RcptTo {
                path: path.clone(),
                notify: arguments.notify,
                original: None,
            };
            let mut line = Vec::new();
            rcpt.encode(is_utf8, &mut line).map_err(unwritable)?;
            let reply = self.ask(&line)?;
            match reply.class() {
                2 => {}
                5 => refused.push(format!("{path} ({reply})")),
                _ => self.positive(&reply)?,
            }
        }
        if refused.len() < recipients.len() {
            self.content(content)?;
        }
        let _ = self.stream.write_all(b"QUIT\r\n");
        match refused.is_empty() {
            true => Ok(()),
            false => Err(Unsent::Recipients(refused)),
        }
    }

    fn content(&mut self, content: &[u8]) -> Result<(), Unsent> {
        let reply = self.ask(b"DATA\r\n")?;
        if reply.code() != 354 {
            return Err(self.refusal(&reply));
        }
        let mut writer = ContentWriter::dotted();
        let mut out = Vec::with_capacity(2 * PIECE_BYTES);
        for piece in content.chunks(PIECE_BYTES) {
            writer.feed(piece, &mut out);
            self.write(&out)?;
            out.clear();
        }
        writer.finish(&mut out);
        self.may_be_sent = true;
        let reply = self.ask(&out)?;
        self.may_be_sent = false;
        self.positive(&reply)
    }

    fn ask(&mut self, command: &[u8]) -> Result<PeerReply, Unsent> {
        self.write(command)?;
        self.reply()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Unsent> {
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            // It may have said why before it went.
            Err(error) => Err(self
                .reply()
                .map_or_else(|_| self.broken(&error), |reply| self.refusal(&reply))),
        }
    }

    fn reply(&mut self) -> Result<PeerReply, Unsent> {
        let mut parser = ReplyParser::default();
        let mut piece = [0; 4096];
        loop {
            let (used, read) = parser.read(&self.unread);
            self.unread.drain(..used);
            match read {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(fault) => {
                    let socket = self.socket.display();
                    return Err(Unsent::Unavailable(format!("{socket}: {fault}")));
                }
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn positive(&self, reply: &PeerReply) -> Result<(), Unsent> {
        match reply.class() {
            2 => Ok(()),
            _ => Err(self.refusal(reply)),
        }
    }

    fn refusal(&self, reply: &PeerReply) -> Unsent {
        let text = format!("the mail server says: {reply}");
        match (
            reply.class(),
            reply.enhanced().map(|e| (e.subject, e.detail)),
        ) {
            (4, _) => Unsent::Later(format!("{text}; nothing was sent, try again")),
            // RFC 3463 3.8: security and policy.
            (_, Some((7, _))) => Unsent::Forbidden(text),
            (_, Some((3, 4) | (6, _))) => Unsent::Data(text),
            _ => Unsent::Unavailable(text),
        }
    }

    fn broken(&self, error: &io::Error) -> Unsent {
        let socket = self.socket.display();
        // A server that ended a moment ago may still be connected to: the kernel closes what it
        // listened on a little later.
        Unsent::Later(match self.may_be_sent {
            true => format!(
                "the mail server went away ({socket}: {error}); the message may or may not be \
                 sent: look for it, then try again"
            ),
            false => format!(
                "the mail server is not running any more ({socket}: {error}); nothing was sent, \
                 try again later"
            ),
        })
    }
}

fn connect(socket: &FilePath) -> Result<UnixStream, Unsent> {
    let shown = socket.display();
    let connected = UnixStream::connect(socket).and_then(|stream| {
        stream.set_read_timeout(Some(ANSWER_SPAN))?;
        stream.set_write_timeout(Some(ANSWER_SPAN))?;
        Ok(stream)
    });
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unsent::Later(format!(
            "the mail server is not running (nobody listens on {shown}); nothing was sent, try \
             again later"
        )),
        io::ErrorKind::PermissionDenied => Unsent::Forbidden(format!(
            "{shown} cannot be reached by this user; `sendmail.socket` belongs into a folder that \
             all users may enter, as /run/palomar/sendmail.sock"
        )),
        _ => Unsent::Later(format!("{shown}: {error}; nothing was sent, try again")),
    })
}
