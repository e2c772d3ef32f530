//! A small SMTP and LMTP client: one connection, blocking, with a time-out on every read.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest wait for one reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which greeting opens the dialogue, and how many replies follow DATA (RFC 2033 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Smtp,
    Lmtp,
}

pub struct Client {
    stream: BufReader<TcpStream>,
    dialect: Dialect,
    line: String,
}

impl Client {
    /// Connects and greets.
    pub fn connect(to: SocketAddr, dialect: Dialect) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, REPLY_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let mut client = Client {
            stream: BufReader::new(stream),
            dialect,
            line: String::new(),
        };
        client.expect(220)?;
        let greeting: &[u8] = match dialect {
            Dialect::Smtp => b"EHLO load.test\r\n",
            Dialect::Lmtp => b"LHLO load.test\r\n",
        };
        client.stream.get_mut().write_all(greeting)?;
        client.expect(250)?;
        Ok(client)
    }

    /// Sends one message, pipelined as far as RFC 2920 allows. `Ok` only when every recipient
    /// was acknowledged. `body` has CRLF line ends and no line that starts with a dot.
    pub fn send(&mut self, from: &str, to: &[String], body: &[u8]) -> io::Result<()> {
        let mut commands = format!("MAIL FROM:<{from}>\r\n");
        for recipient in to {
            commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.stream.get_mut().write_all(commands.as_bytes())?;
        self.expect(250)?;
        for _ in to {
            self.expect(250)?;
        }
        self.expect(354)?;
        self.stream.get_mut().write_all(body)?;
        self.stream.get_mut().write_all(b".\r\n")?;
        let replies = if self.dialect == Dialect::Lmtp {
            to.len()
        } else {
            1
        };
        for _ in 0..replies {
            self.expect(250)?;
        }
        Ok(())
    }

    /// Reads one reply, all its lines; an error where its code is another.
    fn expect(&mut self, code: u16) -> io::Result<()> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let last = self.line.as_bytes().get(3) != Some(&b'-');
            if last {
                if self.line.get(..3).and_then(|c| c.parse::<u16>().ok()) == Some(code) {
                    return Ok(());
                }
                let said = format!("wanted {code}, got {}", self.line.trim_end());
                return Err(io::Error::other(said));
            }
        }
    }
}
