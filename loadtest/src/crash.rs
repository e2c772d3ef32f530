//! `palomar-load crash`: kill -9 under load, restart, compare with the ledger. Again and again.
//!
//! SIGKILL keeps the page cache, so this proves replay, ordering and idempotence, not that bytes
//! were forced to the disk: that is the simulated disk's part (docs/JOURNAL.md, "Mutants").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::imap;
use crate::ledger::{Breach, Inbox, Mailbox};
use crate::server::{DOMAIN, PASSWORD, Running, Site};
use crate::smtp::Dialect;
use crate::worker::{self, Dice, locked};

#[derive(Args)]
pub struct Options {
    /// The server's binary.
    #[arg(long)]
    server: PathBuf,
    /// How many times it is killed.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Repeats a run.
    #[arg(long)]
    seed: Option<u64>,
    /// Accounts that mail is delivered to.
    #[arg(long, default_value_t = 6)]
    users: usize,
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Parallel senders, half SMTP and half LMTP.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Where the server's data goes, kept for inspection; a temporary folder otherwise.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Everything that was promised so far.
struct Truth {
    inboxes: Vec<Arc<Mutex<Inbox>>>,
    owned: Vec<Arc<Mutex<Mailbox>>>,
}

/// How long an acknowledged message may take to its last owner.
const ARRIVAL_SPAN: Duration = Duration::from_secs(10);

/// Folders that have one writer each.
const FOLDERS: [&str; 2] = ["Archive", "Drafts"];

pub fn run(options: &Options) -> Result<(), String> {
    let seed = options.seed.unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        now.as_nanos() as u64
    });
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let folder = options.folder.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("palomar-crash-{}-{seed}", std::process::id()))
    });
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let outcome = play(options, &folder, &mut dice);
    match &outcome {
        Ok(()) if options.folder.is_none() => {
            let _ = std::fs::remove_dir_all(&folder);
        }
        _ => println!("the data stays in {}", folder.display()),
    }
    outcome.map_err(|error| format!("seed {seed}: {error}"))
}

fn play(options: &Options, folder: &std::path::Path, dice: &mut Dice) -> Result<(), String> {
    let says = |error: std::io::Error| error.to_string();
    let site = Site::new(&options.server, folder, options.shards, dice.0).map_err(says)?;
    for n in 0..options.users {
        site.add_user(&worker::user(n)).map_err(says)?;
    }
    let truth = Truth {
        inboxes: (0..options.users).map(|_| Arc::default()).collect(),
        owned: (0..FOLDERS.len() * options.users.min(2))
            .map(|_| Arc::default())
            .collect(),
    };
    let bar = ProgressBar::new(u64::from(options.kills));
    let style = "{bar:30} {pos}/{len} kills, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    let mut slowest_start = Duration::ZERO;
    for kill in 0..options.kills {
        let mut server = site.start().map_err(says)?;
        // One start in five is itself killed half-way: replay must bear being cut short.
        if dice.below(5) == 0 {
            thread::sleep(Duration::from_millis(dice.below(60)));
            server.kill().map_err(says)?;
            bar.inc(1);
            continue;
        }
        slowest_start = slowest_start.max(server.wait_ready().map_err(says)?);
        judge(&site, &truth).map_err(|error| format!("after {kill} kills: {error}"))?;
        load_and_kill(&site, server, &truth, options, kill, dice)?;
        bar.set_message(format!("{} acknowledged", acknowledged(&truth)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut server = site.start().map_err(says)?;
    server.wait_ready().map_err(says)?;
    let present = judge(&site, &truth)?;
    server.terminate().map_err(says)?;
    println!(
        "kills {}, acknowledged {}, present {present}, missing 0, doubled 0, slowest start {} ms",
        options.kills,
        acknowledged(&truth),
        slowest_start.as_millis()
    );
    Ok(())
}

fn acknowledged(truth: &Truth) -> usize {
    truth
        .inboxes
        .iter()
        .map(|inbox| locked(inbox).count_acknowledged())
        .sum()
}

fn load_and_kill(
    site: &Site,
    server: Running,
    truth: &Truth,
    options: &Options,
    kill: u32,
    dice: &mut Dice,
) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    let seeds: Vec<Dice> = (0..32).map(|_| Dice(dice.roll())).collect();
    let life = Duration::from_millis(60 + dice.below(600));
    thread::scope(|scope| {
        for (n, dice) in seeds.iter().take(options.senders).enumerate() {
            let (to, dialect) = match n % 2 {
                0 => (site.lmtp, Dialect::Lmtp),
                _ => (site.smtp, Dialect::Smtp),
            };
            let (stop, inboxes) = (&stop, &truth.inboxes);
            let name = format!("k{kill}s{n}");
            scope.spawn(move || worker::send(to, dialect, inboxes, &name, dice.clone(), stop));
        }
        for (n, mailbox) in truth.owned.iter().enumerate() {
            let (stop, dice) = (&stop, seeds[16 + n].clone());
            let user = worker::user(n / FOLDERS.len());
            let folder = FOLDERS[n % FOLDERS.len()];
            let name = format!("k{kill}o{n}");
            scope.spawn(move || {
                worker::own(site.imap, &user, folder, mailbox, &name, dice, stop);
            });
        }
        thread::sleep(life);
        let killed = server.kill();
        stop.store(true, Ordering::Relaxed);
        killed.map_err(|error| error.to_string())
    })
}

/// Compares everything; the number of messages present in all inboxes.
///
/// A message for several owners was acknowledged when the receiving shard had it: right after a
/// start it may still be on its way to them, so what is missing gets some seconds to arrive.
fn judge(site: &Site, truth: &Truth) -> Result<usize, String> {
    let began = Instant::now();
    loop {
        let (present, breaches) = judge_inboxes(site, truth)?;
        let on_its_way = breaches
            .iter()
            .all(|(_, breach)| matches!(breach, Breach::Missing(_)));
        if breaches.is_empty() {
            judge_owned(site, truth)?;
            return Ok(present);
        }
        if !on_its_way || began.elapsed() > ARRIVAL_SPAN {
            return Err(told(&breaches));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

type Breaches = Vec<(String, Breach)>;

fn judge_inboxes(site: &Site, truth: &Truth) -> Result<(usize, Breaches), String> {
    let mut breaches = Vec::new();
    let mut present = 0;
    for (n, inbox) in truth.inboxes.iter().enumerate() {
        let user = worker::user(n);
        let mut client = imap::Client::login(site.imap, &user, PASSWORD)
            .map_err(|error| format!("{user}: {error}"))?;
        let (uidvalidity, found, exists) = worker::inspect(&mut client, "INBOX")
            .map_err(|error| format!("{user} INBOX: {error}"))?;
        if exists != found.len() {
            return Err(format!("{user}: EXISTS {exists}, but {} rows", found.len()));
        }
        let found: Vec<(u32, String)> = found
            .into_iter()
            .map(|(uid, entry)| (uid, entry.letter))
            .collect();
        present += found.len();
        let judged = locked(inbox).judge(uidvalidity, &found);
        breaches.extend(judged.into_iter().map(|breach| (user.clone(), breach)));
    }
    Ok((present, breaches))
}

fn judge_owned(site: &Site, truth: &Truth) -> Result<(), String> {
    let mut breaches = Vec::new();
    for (n, mailbox) in truth.owned.iter().enumerate() {
        let user = worker::user(n / FOLDERS.len());
        let folder = FOLDERS[n % FOLDERS.len()];
        let mut client = imap::Client::login(site.imap, &user, PASSWORD)
            .map_err(|error| format!("{user}: {error}"))?;
        let (uidvalidity, found, _): (u64, BTreeMap<_, _>, _) =
            worker::inspect(&mut client, folder)
                .map_err(|error| format!("{user} {folder}: {error}"))?;
        let judged = locked(mailbox).judge(uidvalidity, found);
        breaches.extend(
            judged
                .into_iter()
                .map(|breach| (format!("{user} {folder}"), breach)),
        );
    }
    if breaches.is_empty() {
        Ok(())
    } else {
        Err(told(&breaches))
    }
}

fn told(breaches: &[(String, Breach)]) -> String {
    let lines: Vec<String> = breaches
        .iter()
        .take(20)
        .map(|(place, breach)| format!("  {place}: {breach:?}"))
        .collect();
    let count = breaches.len();
    format!("{count} broken promises at {DOMAIN}:\n{}", lines.join("\n"))
}
