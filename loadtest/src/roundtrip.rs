//! `palomar-load roundtrip`: SMTP in, IMAP out, on a server that runs already.
//!
//! Sessions send as fast as they are answered (a closed loop); the run ends when every message is
//! visible by IMAP STATUS, or fails when one is lost or doubled. The IMAP connections that look are
//! opened before the clock starts: log-ins are no part of what is measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;

use crate::imap;
use crate::smtp::{Client, Dialect};
use crate::worker::locked;

/// Messages must be visible this long after the last 250.
const VISIBLE_SECONDS_MAX: u64 = 60;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:2143")]
    imap: SocketAddr,
    /// Speak LMTP instead of SMTP.
    #[arg(long)]
    lmtp: bool,
    /// Parallel sessions.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// Octets a message.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Cut the text of each message from this file, from another place each time; otherwise one
    /// line is repeated, which anything compresses to nothing.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Account names: `{}` becomes 0000, 0001, ...
    #[arg(long, default_value = "user{}")]
    user: String,
    #[arg(long, default_value = "bench.test")]
    domain: String,
    #[arg(long, default_value = "pass")]
    password: String,
    /// Accounts that share the messages.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Accounts that each message goes to.
    #[arg(long, default_value_t = 1)]
    owners: usize,
    /// One JSON line instead of words.
    #[arg(long)]
    json: bool,
    /// Print `ready` when everybody is logged in, and begin at a line on standard input: so that
    /// who measures the server can leave log-ins out.
    #[arg(long)]
    hold: bool,
}

impl Options {
    fn address(&self, n: usize) -> String {
        format!(
            "{}@{}",
            self.user.replace("{}", &format!("{n:04}")),
            self.domain
        )
    }
}

pub fn run(options: &Options) -> Result<(), String> {
    if options.sessions == 0 || options.users == 0 || options.owners == 0 {
        return Err("--sessions, --users and --owners start at 1".to_owned());
    }
    let mut watched = watch(options)?;
    let letters = Letters::new(options)?;
    let latencies = Mutex::new(histogram()?);
    let errors = Mutex::new(Vec::new());
    if options.hold {
        println!("ready");
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
    }
    let began = Instant::now();
    thread::scope(|scope| {
        for session in 0..options.sessions {
            let (letters, latencies, errors) = (&letters, &latencies, &errors);
            scope.spawn(move || {
                if let Err(error) = session_of(options, session, letters, latencies) {
                    locked(errors).push(error);
                }
            });
        }
    });
    let accepted = began.elapsed();
    if let Some(error) = locked(&errors).first() {
        return Err(error.clone());
    }
    let waiting = Instant::now();
    let mut pending: Vec<usize> = (0..options.users).collect();
    while !pending.is_empty() && waiting.elapsed() < Duration::from_secs(VISIBLE_SECONDS_MAX) {
        let mut left = Vec::new();
        for n in pending {
            if watched[n].missing()? > 0 {
                left.push(n);
            }
        }
        pending = left;
        if !pending.is_empty() {
            thread::sleep(Duration::from_millis(2));
        }
    }
    let visible = began.elapsed();
    for watched in &mut watched {
        let missing = watched.missing()?;
        if missing != 0 {
            return Err(format!("{}: {missing} messages missing", watched.user));
        }
    }
    let latencies = locked(&latencies);
    let rate = |span: Duration| options.count as f64 / span.as_secs_f64();
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    if options.json {
        let line = serde_json::json!({
            "sessions": options.sessions, "count": options.count, "size": options.size,
            "accepted_per_s": rate(accepted), "visible_per_s": rate(visible),
            "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": latencies.max() as f64 / 1000.0,
        });
        println!("{line}");
        return Ok(());
    }
    println!(
        "{} messages of {} octets over {} sessions: accepted {:.0}/s, visible {:.0}/s; \
         250 after p50 {:.2} ms, p99 {:.2} ms",
        options.count,
        options.size,
        options.sessions,
        rate(accepted),
        rate(visible),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, 120_000_000, 3).map_err(|error| error.to_string())
}

fn session_of(
    options: &Options,
    session: usize,
    letters: &Letters,
    latencies: &Mutex<Histogram<u64>>,
) -> Result<(), String> {
    let says = |error: std::io::Error| format!("session {session}: {error}");
    let dialect = if options.lmtp {
        Dialect::Lmtp
    } else {
        Dialect::Smtp
    };
    let mut client = Client::connect(options.smtp, dialect).map_err(says)?;
    let mut own = histogram()?;
    for n in (session..options.count).step_by(options.sessions) {
        let to: Vec<String> = (0..options.owners)
            .map(|more| options.address((n + more) % options.users))
            .collect();
        let body = letters.letter(n);
        let sent = Instant::now();
        client
            .send(&format!("load@{}", options.domain), &to, &body)
            .map_err(says)?;
        own.saturating_record(sent.elapsed().as_micros() as u64);
    }
    locked(latencies)
        .add(&own)
        .map_err(|error| error.to_string())
}

/// An INBOX that is looked at until it holds what was sent to it.
struct Watched {
    user: String,
    client: imap::Client,
    /// Messages it shall hold in the end.
    wanted: i64,
}

impl Watched {
    /// How many have still to come; below zero when there are too many.
    fn missing(&mut self) -> Result<i64, String> {
        let says = |error: std::io::Error| format!("{}: {error}", self.user);
        let done = self
            .client
            .command("STATUS INBOX (MESSAGES)")
            .map_err(says)?;
        let count = done
            .untagged
            .iter()
            .find_map(|line| imap::number_after(&line.text, "MESSAGES "))
            .ok_or_else(|| format!("{}: no MESSAGES in STATUS", self.user))?;
        Ok(self.wanted - i64::try_from(count).unwrap_or(i64::MAX))
    }
}

fn watch(options: &Options) -> Result<Vec<Watched>, String> {
    (0..options.users)
        .map(|n| {
            let user = options.address(n);
            let client = imap::Client::login(options.imap, &user, &options.password)
                .map_err(|error| format!("{user}: {error}"))?;
            let mut watched = Watched {
                user,
                client,
                wanted: 0,
            };
            let before = -watched.missing()?;
            let of = |first: usize| (first..options.count).step_by(options.users).count();
            let share: usize = (0..options.owners)
                .map(|more| of((n + options.users - more % options.users) % options.users))
                .sum();
            watched.wanted = before + i64::try_from(share).unwrap_or(0);
            Ok(watched)
        })
        .collect()
}

/// What is sent.
struct Letters {
    size: usize,
    /// Whole lines, as often as it takes for a letter to begin anywhere in the first of them.
    text: Vec<u8>,
    /// Where letters may begin.
    lines: Vec<usize>,
}

const HEADER: &str = "From: Load <load@bench.test>\r\nTo: somebody@bench.test\r\n\
    Subject: a load test letter\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\
    Message-ID: <load@bench.test>\r\n\r\n";

impl Letters {
    fn new(options: &Options) -> Result<Letters, String> {
        let lines = match &options.text {
            None => "All work and no play makes Jack a dull boy, says the load test.".to_owned(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let (mut text, mut starts) = (Vec::new(), Vec::new());
        for line in lines.lines() {
            starts.push(text.len());
            // Seven bits, and no line that would have to be stuffed (RFC 5321 4.5.2).
            let octet = |c: char| {
                if c.is_ascii() && c != '\r' {
                    c as u8
                } else {
                    b'?'
                }
            };
            text.extend(
                line.replacen('.', ",", usize::from(line.starts_with('.')))
                    .chars()
                    .map(octet),
            );
            text.extend_from_slice(b"\r\n");
        }
        if text.is_empty() {
            return Err("the text is empty".to_owned());
        }
        let once = text.clone();
        while text.len() < once.len() + options.size {
            text.extend_from_slice(&once);
        }
        Ok(Letters {
            size: options.size,
            text,
            lines: starts,
        })
    }

    fn letter(&self, n: usize) -> Vec<u8> {
        let mut letter = HEADER.as_bytes().to_vec();
        let start = self.lines[n.wrapping_mul(7919) % self.lines.len()];
        let length = self.size.saturating_sub(HEADER.len() + 2);
        letter.extend_from_slice(&self.text[start..start + length]);
        if letter.ends_with(b"\r") {
            letter.pop();
        }
        letter.extend_from_slice(b"\r\n");
        letter
    }
}
