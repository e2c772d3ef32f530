//! `palomar demo --pull-the-plug`: load, kill -9, restart, count.
//!
//! The server runs as a child of this process. Several connections send numbered messages and note
//! a number once its 250 is read. After each kill the server starts again, and every mailbox is
//! read: each noted number must be there, and no number twice. A message whose 250 was not read may
//! be there or not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::client::{Imap, Smtp, TalkError};
use super::home::{Home, Ports, User, secret};
use super::{DemoError, seed};
use crate::cli::admin;
use crate::cli::error::CliError;
use crate::cli::print::out;
use crate::config::{Config, Protocol};

const USERS: usize = 8;
const CONNECTIONS: usize = 12;

/// Between a kill and the next; enough for checkpoints to happen in between.
const LOAD_SPAN: Duration = Duration::from_millis(2300);

/// A replay of a whole journal takes less.
const START_SPAN: Duration = Duration::from_secs(60);
const STOP_SPAN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// What is known of the messages: who was sent which number, and that the 250 was read.
type Acknowledged = Vec<(usize, u64)>;

/// What the mailboxes hold against what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub acknowledged: usize,
    pub present: usize,
    pub doubled: usize,
}

struct Site {
    home: Home,
    config: Config,
    users: Vec<User>,
    stop: Arc<AtomicBool>,
}

/// The child, killed where it is dropped.
struct Server(Child);

pub fn run(folder: &Path, ports: Ports, seconds: u64) -> Result<(), CliError> {
    if folder.exists() {
        let folder = folder.to_owned();
        return Err(CliError::Demo(DemoError::Leftover { folder }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Without the handler the child of an interrupted run would be left running.
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    let home = Home::open(folder, ports)?;
    let config = home.config()?;
    let users = (0..USERS).map(|n| {
        let password = secret()?;
        Ok(User {
            address: format!("plug{n}@{}", super::home::DOMAIN),
            password,
        })
    });
    let users = users.collect::<Result<Vec<User>, CliError>>()?;
    let site = Site {
        home,
        config,
        users,
        stop,
    };
    let tally = pull(&site, Duration::from_secs(seconds))?;
    let Tally {
        acknowledged,
        present,
        doubled,
    } = tally;
    out(&format!(
        "acknowledged {acknowledged}, present {present}, doubled {doubled}\n"
    ))?;
    if present < acknowledged || doubled > 0 {
        let folder = site.home.folder;
        return Err(CliError::Demo(DemoError::Lost {
            acknowledged,
            present,
            doubled,
            folder,
        }));
    }
    if acknowledged == 0 {
        return Err(CliError::Demo(DemoError::Idle));
    }
    let folder = site.home.folder;
    fs::remove_dir_all(&folder).map_err(|error| CliError::File {
        path: folder,
        error,
    })
}

fn pull(site: &Site, span: Duration) -> Result<Tally, CliError> {
    let bar = ProgressBar::new(span.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    let began = Instant::now();
    let mut server = Server::start(site)?;
    seed::add_users(&site.config, &site.users)?;
    let mut acknowledged = Acknowledged::new();
    let mut tally = Tally::default();
    let next = AtomicU64::new(0);
    for kills in 1.. {
        let before = acknowledged.len() as u64;
        acknowledged.extend(load(site, server, &next, |so_far| {
            bar.set_position(began.elapsed().as_millis() as u64);
            bar.set_message(format!(
                "{} acknowledged, kill -9 no. {kills}",
                before + so_far
            ));
        }));
        if site.stop.load(Relaxed) {
            return Err(CliError::Demo(DemoError::Interrupted));
        }
        server = Server::start(site)?;
        tally = count(site, &acknowledged)?;
        let wrong = tally.present < tally.acknowledged || tally.doubled > 0;
        if wrong || began.elapsed() >= span {
            break;
        }
    }
    server.stop(&site.stop);
    bar.finish_and_clear();
    Ok(tally)
}

/// Loads the server, and kills it while it is loaded.
fn load(site: &Site, server: Server, next: &AtomicU64, show: impl Fn(u64)) -> Acknowledged {
    let over = AtomicBool::new(false);
    let so_far = AtomicU64::new(0);
    thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| send_until(site, &over, next, &so_far)))
            .collect();
        let until = Instant::now() + LOAD_SPAN;
        while Instant::now() < until && !site.stop.load(Relaxed) {
            thread::sleep(POLL_EVERY);
            show(so_far.load(Relaxed));
        }
        // Dropping it is kill -9.
        drop(server);
        over.store(true, Relaxed);
        connections
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    })
}

fn send_until(
    site: &Site,
    over: &AtomicBool,
    next: &AtomicU64,
    so_far: &AtomicU64,
) -> Acknowledged {
    let port = site.home.ports.of(Protocol::Smtp);
    let mut acknowledged = Acknowledged::new();
    while !over.load(Relaxed) {
        let Ok(mut smtp) = Smtp::connect(port) else {
            thread::sleep(POLL_EVERY);
            continue;
        };
        while !over.load(Relaxed) {
            let number = next.fetch_add(1, Relaxed);
            let user = (number % USERS as u64) as usize;
            let to = [site.users[user].address.as_str()];
            match smtp.send("load@outside.test", &to, &message(number)) {
                Ok(_) => {
                    acknowledged.push((user, number));
                    so_far.fetch_add(1, Relaxed);
                }
                // "Come back later", or the kill: with a new connection.
                Err(TalkError::Refused(_) | TalkError::Io(_)) => break,
            }
        }
    }
    acknowledged
}

/// Some 2 KB with its number.
fn message(number: u64) -> Vec<u8> {
    let head = format!(
        "Message-ID: <{number}.plug@outside.test>\r\nFrom: load@outside.test\r\n\
         Subject: number {number}\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    for n in 0..28 {
        bytes.extend_from_slice(format!("line {n:02} of message {number:012} ").as_bytes());
        bytes.extend_from_slice(b"..........................................\r\n");
    }
    bytes
}

/// Reads every mailbox.
fn count(site: &Site, acknowledged: &Acknowledged) -> Result<Tally, CliError> {
    let read = |user: &User| -> Result<Vec<u64>, TalkError> {
        let mut imap = Imap::connect(site.home.ports.of(Protocol::Imap))?;
        imap.login(user)?;
        imap.command("EXAMINE INBOX")?;
        let answers = imap.command("UID FETCH 1:* BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")?;
        let literals = answers.iter().flat_map(|answer| &answer.literals);
        Ok(literals.filter_map(|literal| number_in(literal)).collect())
    };
    let found: Result<Vec<Vec<u64>>, TalkError> = site.users.iter().map(read).collect();
    let found = found.map_err(|error| {
        CliError::Demo(DemoError::Talk {
            doing: "reading the mailboxes",
            error,
        })
    })?;
    Ok(tally(acknowledged, &found))
}

pub(super) fn number_in(header: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(header).ok()?;
    let (_, rest) = text.split_once('<')?;
    rest.split_once(".plug@")?.0.parse().ok()
}

/// `found` has the numbers in each user's mailbox.
pub(super) fn tally(acknowledged: &Acknowledged, found: &[Vec<u64>]) -> Tally {
    let mut doubled = 0;
    let sets: Vec<HashSet<u64>> = found
        .iter()
        .map(|numbers| {
            let set: HashSet<u64> = numbers.iter().copied().collect();
            doubled += numbers.len() - set.len();
            set
        })
        .collect();
    let is_there =
        |(user, number): &&(usize, u64)| sets.get(*user).is_some_and(|set| set.contains(number));
    Tally {
        acknowledged: acknowledged.len(),
        present: acknowledged.iter().filter(is_there).count(),
        doubled,
    }
}

impl Server {
    /// Starts this very program again, and waits until it serves.
    fn start(site: &Site) -> Result<Server, CliError> {
        let stderr = site.home.folder.join("stderr.txt");
        let spawn = || -> io::Result<Child> {
            Command::new(std::env::current_exe()?)
                .args(["serve", "--config"])
                .arg(site.home.config_path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&stderr)?)
                .spawn()
        };
        let not_serving = || {
            CliError::Demo(DemoError::NotServing {
                stderr: stderr.clone(),
            })
        };
        let child = spawn().map_err(|error| CliError::File {
            path: stderr.clone(),
            error,
        })?;
        let mut server = Server(child);
        let until = Instant::now() + START_SPAN;
        while Instant::now() < until && !site.stop.load(Relaxed) {
            if !matches!(server.0.try_wait(), Ok(None)) {
                return Err(not_serving());
            }
            let ports = &site.home.ports;
            if admin::is_running(&site.config)
                && Smtp::connect(ports.of(Protocol::Smtp)).is_ok()
                && Imap::connect(ports.of(Protocol::Imap)).is_ok()
            {
                return Ok(server);
            }
            thread::sleep(POLL_EVERY);
        }
        match site.stop.load(Relaxed) {
            true => Err(CliError::Demo(DemoError::Interrupted)),
            false => Err(not_serving()),
        }
    }

    /// In good order, as far as it goes.
    fn stop(mut self, stop: &AtomicBool) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + STOP_SPAN;
        while Instant::now() < until && !stop.load(Relaxed) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL_EVERY);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
