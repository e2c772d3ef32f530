//! A small IMAP client: one connection, blocking, one command at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Client {
    stream: BufReader<TcpStream>,
    tag: u64,
}

/// One untagged response, its literals kept apart: `text` has `{n}` where literal `i` stood.
#[derive(Debug, Default)]
pub struct Untagged {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

/// A finished command: what came untagged, and the text after the tagged OK.
#[derive(Debug)]
pub struct Done {
    pub untagged: Vec<Untagged>,
    pub text: String,
}

impl Client {
    /// Connects and logs in.
    pub fn login(to: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, REPLY_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let mut client = Client {
            stream: BufReader::new(stream),
            tag: 0,
        };
        let greeting = client.response()?;
        if !greeting.text.starts_with("* OK") {
            return Err(io::Error::other(greeting.text));
        }
        client.command(&format!("LOGIN \"{user}\" \"{password}\""))?;
        Ok(client)
    }

    /// Runs one command; an error where the tagged answer is not OK.
    pub fn command(&mut self, command: &str) -> io::Result<Done> {
        self.command_with(command, &[])
    }

    /// As `command`, with a non-synchronising literal at its end (RFC 7888).
    pub fn command_with(&mut self, command: &str, literal: &[u8]) -> io::Result<Done> {
        self.tag += 1;
        let tag = format!("a{}", self.tag);
        let mut bytes = format!("{tag} {command}").into_bytes();
        if !literal.is_empty() {
            bytes.extend_from_slice(format!(" {{{}+}}\r\n", literal.len()).as_bytes());
            bytes.extend_from_slice(literal);
        }
        bytes.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&bytes)?;
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            let Some(rest) = response.text.strip_prefix(&format!("{tag} ")) else {
                untagged.push(response);
                continue;
            };
            if let Some(text) = rest.strip_prefix("OK") {
                return Ok(Done {
                    untagged,
                    text: text.trim_start().to_owned(),
                });
            }
            return Err(io::Error::other(format!("{command}: {rest}")));
        }
    }

    fn response(&mut self) -> io::Result<Untagged> {
        let mut response = Untagged::default();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let literal = literal_len(&line);
            response.text.push_str(&line);
            let Some(len) = literal else {
                return Ok(response);
            };
            let mut bytes = vec![0; len];
            self.stream.read_exact(&mut bytes)?;
            response.literals.push(bytes);
        }
    }
}

fn literal_len(line: &str) -> Option<usize> {
    let open = line.strip_suffix('}')?.rfind('{')?;
    line[open + 1..line.len() - 1].parse().ok()
}

/// The number after `name` in an untagged text: `UIDNEXT 7` and the like.
#[must_use]
pub fn number_after(text: &str, name: &str) -> Option<u64> {
    let at = text.find(name)? + name.len();
    let digits: String = text[at..]
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// What stands in parentheses after `FLAGS `.
#[must_use]
pub fn flags_of(text: &str) -> Option<Vec<String>> {
    let at = text.find("FLAGS (")? + 7;
    let end = text[at..].find(')')? + at;
    let mut flags: Vec<String> = text[at..end]
        .split_whitespace()
        .filter(|flag| !flag.eq_ignore_ascii_case("\\Recent"))
        .map(str::to_owned)
        .collect();
    flags.sort();
    Some(flags)
}
