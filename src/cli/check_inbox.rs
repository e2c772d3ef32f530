//! `palomar check-inbox`: how full one's own mailbox is, asked as a mail client asks, from any
//! machine. It needs no configuration and no administrator.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use data_encoding::BASE64;
use serde::Serialize;

use super::error::CliError;
use super::password;
use super::print::{facts, out, out_json};
use crate::base::ByteSize;
use crate::net::ClientStream;

const IMAPS: u16 = 993;
const ANSWER_SPAN: Duration = Duration::from_secs(30);
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Untagged lines that one command may bring.
const LINES_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub struct CheckInbox {
    /// The IMAP server; port 993 unless it is given
    #[arg(long, value_name = "HOST[:PORT]")]
    server: String,
    /// The log-in name
    #[arg(long)]
    user: String,
    /// Read the password from the first line of standard input; on a terminal it is asked for
    #[arg(long)]
    password_stdin: bool,
    /// PEM file with the server's certificate or its authority's, where the system knows neither
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the server told.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    messages: u64,
    unseen: u64,
    /// Absent where there is no limit, or the server tells none.
    storage: Option<Usage>,
    message_count: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Usage {
    used: u64,
    limit: u64,
    percent: u64,
}

impl CheckInbox {
    pub fn run(self) -> Result<(), CliError> {
        if !self.password_stdin && !io::IsTerminal::is_terminal(&io::stdin()) {
            return Err(CliError::PasswordMissing);
        }
        let password = password::read_known()?;
        let told = self.ask(&password.0).map_err(|error| CliError::Inbox {
            server: self.server.clone(),
            error,
        })?;
        if self.json {
            return out_json(&told);
        }
        out(&page(&self.user, &told))
    }

    fn ask(&self, password: &str) -> io::Result<Told> {
        let (host, port) = host_and_port(&self.server);
        let stream = connect(host, port)?;
        stream.set_read_timeout(Some(ANSWER_SPAN))?;
        stream.set_write_timeout(Some(ANSWER_SPAN))?;
        let stream = ClientStream::connect(stream, host, self.ca.as_deref()).map_err(|error| {
            // A server that greets in plain text sends no TLS record.
            match error.to_string().contains("InvalidContentType") {
                true => io::Error::other(format!(
                    "port {port} does not begin with TLS; give one that does, as {IMAPS} does"
                )),
                false => error,
            }
        })?;
        let mut imap = Imap {
            stream: BufReader::new(stream),
            tag: 0,
        };
        imap.log_in(&self.user, password)?;
        let mut told = Told::default();
        for line in imap.command("STATUS INBOX (MESSAGES UNSEEN)")? {
            told.take(&line);
        }
        match imap.command("GETQUOTAROOT INBOX") {
            Ok(lines) => lines.iter().for_each(|line| told.take(line)),
            // A server without quotas.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        imap.command("LOGOUT")?;
        Ok(told)
    }
}

/// The first of the name's addresses that answers.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut refused = io::Error::other("the name leads to no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_SPAN) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
pub(super) fn host_and_port(text: &str) -> (&str, u16) {
    if let Some((host, port)) = text.rsplit_once(':')
        && (!host.contains(':') || host.ends_with(']'))
        && let Ok(port) = port.parse()
    {
        return (host.trim_start_matches('[').trim_end_matches(']'), port);
    }
    (text.trim_start_matches('[').trim_end_matches(']'), IMAPS)
}

struct Imap {
    stream: BufReader<ClientStream>,
    tag: u32,
}

impl Imap {
    /// AUTHENTICATE PLAIN (RFC 4616), which any password survives.
    fn log_in(&mut self, user: &str, password: &str) -> io::Result<()> {
        let greeting = self.line()?;
        if !greeting.starts_with("* OK") {
            return Err(io::Error::other(format!("the server said: {greeting}")));
        }
        let tag = self.say("AUTHENTICATE PLAIN")?;
        let line = self.line()?;
        if !line.starts_with('+') {
            return Err(refused(&line));
        }
        let secret = BASE64.encode(format!("\0{user}\0{password}").as_bytes());
        self.send(&format!("{secret}\r\n"))?;
        self.finish(&tag).map(drop)
    }

    fn command(&mut self, command: &str) -> io::Result<Vec<String>> {
        let tag = self.say(command)?;
        self.finish(&tag)
    }

    fn say(&mut self, command: &str) -> io::Result<String> {
        self.tag += 1;
        let tag = format!("c{}", self.tag);
        self.send(&format!("{tag} {command}\r\n"))?;
        Ok(tag)
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes())?;
        stream.flush()
    }

    /// Everything untagged up to the OK.
    fn finish(&mut self, tag: &str) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let line = self.line()?;
            match line.strip_prefix(tag) {
                Some(rest) if rest.starts_with(" OK") => return Ok(lines),
                Some(rest) => return Err(refused(rest)),
                None => lines.push(line),
            }
        }
        Err(io::Error::other("the server tells too much"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut stream = self.stream.by_ref().take(LINE_BYTES_MAX);
        stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line);
        Ok(line.trim_end_matches('\r').to_owned())
    }
}

/// A command that the server did not carry out.
fn refused(said: &str) -> io::Error {
    let said = super::print::shown(said.trim());
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the server said: {said}"),
    )
}

impl Told {
    /// Reads `* STATUS ... (MESSAGES n UNSEEN n)` and `* QUOTA root (STORAGE used limit ...)`. What
    /// stands before the last parenthesis may be any name.
    pub(super) fn take(&mut self, line: &str) {
        let Some((head, list)) = line
            .strip_suffix(')')
            .and_then(|line| line.rsplit_once('('))
        else {
            return;
        };
        let words: Vec<&str> = list.split_ascii_whitespace().collect();
        let number = |n: usize| words.get(n).and_then(|word| word.parse::<u64>().ok());
        if head.starts_with("* STATUS ") {
            for (n, word) in words.iter().enumerate() {
                match *word {
                    "MESSAGES" => self.messages = number(n + 1).unwrap_or(0),
                    "UNSEEN" => self.unseen = number(n + 1).unwrap_or(0),
                    _ => {}
                }
            }
        }
        if head.starts_with("* QUOTA ") {
            for (n, word) in words.iter().enumerate() {
                let (Some(used), Some(limit)) = (number(n + 1), number(n + 2)) else {
                    continue;
                };
                let percent = |used: u64, limit: u64| match limit {
                    0 => 100,
                    limit => (u128::from(used) * 100 / u128::from(limit)) as u64,
                };
                let usage = |unit: u64| Usage {
                    used: used.saturating_mul(unit),
                    limit: limit.saturating_mul(unit),
                    percent: percent(used, limit),
                };
                match *word {
                    // RFC 9208 5.1: in units of 1024 octets.
                    "STORAGE" => self.storage = Some(usage(1024)),
                    "MESSAGE" => self.message_count = Some(usage(1)),
                    _ => {}
                }
            }
        }
    }
}

pub(super) fn page(user: &str, told: &Told) -> String {
    let none = || "no limit".to_owned();
    let storage = told.storage.map_or_else(none, |of| {
        let (used, limit) = (ByteSize(of.used).rounded(), ByteSize(of.limit).rounded());
        format!("{} {used} of {limit}, {} %", bar(of.percent), of.percent)
    });
    let count = told.message_count.map_or_else(none, |of| {
        format!(
            "{} {} of {}, {} %",
            bar(of.percent),
            of.used,
            of.limit,
            of.percent
        )
    });
    facts(&[
        ("user", user.to_owned()),
        (
            "INBOX",
            format!("{} messages, {} unseen", told.messages, told.unseen),
        ),
        ("storage", storage),
        ("messages", count),
    ])
}

/// Twenty places.
fn bar(percent: u64) -> String {
    let full = usize::try_from(percent.min(100) / 5).unwrap_or(20);
    format!("[{}{}]", "#".repeat(full), ".".repeat(20 - full))
}
