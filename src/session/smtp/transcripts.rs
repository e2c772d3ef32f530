//! Transcripts (`tests/transcripts/{smtp,lmtp,pop3}/*.txt`) against whole sessions: a store on the
//! simulated disk, a directory with real passwords, real sockets, all on one shard.
//!
//! A transcript's lines: `#` comment; `NAME> ` the client says; `NAME< ` the server must say, in
//! this order. A name is a listener (smtp, small, submission, lmtp, pop3), with a digit behind it
//! for a second connection; the first line with it opens it. `\r \n \t \0` are what they are in C,
//! and a client's line that ends in `\c` has no line end. In the server's lines `<any>` stands for
//! anything and `(closed)` for the end of the connection. `NAME: kick USER` ends that user's
//! sessions. `$ana` and `$ben` are two accounts of the file's own, `$ben` with little quota,
//! `$team` is an alias of both; `$plain` logs `$ana` in by AUTH PLAIN.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Service;
use crate::base::{ByteSize, Deadline, ShardId};
use crate::config::{Config, Protocol};
use crate::delivery::Intake;
use crate::directory::{
    Authenticator, Command, Directory, LastLogins, NewUser, Quotas, Secret, Site,
};
use crate::net::{Conn, Peer};
use crate::runtime::{self, Disk, Gate, Listener, Mesh, Pool, SimDisk, Stop, Stream};
use crate::session::{Arrivals, Door, LoginDesk, Roster, pop3};
use crate::store::{Store, StoreConfig};

const CONFIG: &str = "\
hostname = \"mx.example.org\"
domains = [\"example.org\"]
[auth]
allow_plaintext = true
failure_delay = \"0s\"
[limits]
message_bytes_max = \"1MB\"
recipients_max = 3
[[listener]]
protocol = \"smtp\"
address = \"127.0.0.1:1\"
[[listener]]
protocol = \"submission\"
address = \"127.0.0.1:2\"
[[listener]]
protocol = \"lmtp\"
address = \"127.0.0.1:3\"
[[listener]]
protocol = \"pop3\"
address = \"127.0.0.1:4\"
[[listener]]
protocol = \"smtp\"
address = \"127.0.0.1:5\"
message_bytes_max = \"64KB\"
normalise_bare_newlines = true
";
const NAMES: [&str; 5] = ["smtp", "submission", "lmtp", "pop3", "small"];
const PASSWORD: &str = "correct horse";
const QUOTA: ByteSize = ByteSize(2_000);

fn soon() -> Deadline {
    Deadline::after(runtime::now(), Duration::from_secs(20))
}

/// A server of one shard.
struct World {
    directory: Directory,
    addresses: BTreeMap<&'static str, SocketAddr>,
    roster: Roster,
    stop: Stop,
}

impl World {
    async fn start() -> World {
        let disk = Disk::sim(SimDisk::new(1));
        let mut cfg = StoreConfig::new(PathBuf::from("/data"), 1);
        cfg.partitions = 4;
        cfg.lock = false;
        cfg.journal.slot_bytes = 8 << 20;
        cfg.journal.slots_max = 6;
        cfg.settle_after = Duration::from_millis(1);
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk)
            .await
            .expect("opens");
        let remote = store.remote();
        let (gate, pool) = (Gate::new(), Pool::start(2, 64));
        let site = Site {
            domains: vec!["example.org".into()],
            postmaster: None,
            failure_delay: Duration::ZERO,
            partitions: 4,
            quotas: Quotas::default(),
        };
        let (directory, owner) = Directory::new(&site);
        let started = owner.start(remote.clone(), pool.clone(), None, &gate).await;
        started.expect("a directory");
        let logins = LastLogins::start(remote.clone(), &gate);
        let (stop, roster) = (Stop::new(), Roster::default());
        let auth = Authenticator::new(directory.clone(), pool, logins, &gate);
        let desk = LoginDesk::new(auth, stop.clone());
        let (mesh, _inboxes) = Mesh::new(1, 8);
        let arrivals = Arrivals::new(mesh, ShardId(0));
        let intake = Intake::new(remote.clone(), directory.clone());
        let smtp = Service::new(intake, desk.clone(), roster.clone(), stop.clone());
        let pop3 = pop3::Service::new(remote, desk, roster.clone(), arrivals, stop.clone());
        let (smtp, pop3) = (Rc::new(smtp), Rc::new(pop3));
        let config = Config::parse(CONFIG, "test").expect("a configuration");
        let listeners = config.listeners();
        let config = Arc::new(ArcSwap::from_pointee(config));
        let mut addresses = BTreeMap::new();
        for (number, (name, listener)) in NAMES.into_iter().zip(listeners).enumerate() {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            addresses.insert(name, socket.local_addr().expect("bound"));
            let door = Door::new(number, listener, None, config.clone());
            runtime::spawn("accept", accept(smtp.clone(), pop3.clone(), socket, door));
        }
        World {
            directory,
            addresses,
            roster,
            stop,
        }
    }

    async fn execute(&self, command: Command) {
        self.directory
            .execute(command, soon())
            .await
            .expect("carried out");
    }

    async fn user(&self, name: &str, quota: Option<ByteSize>) {
        let user = NewUser {
            address: format!("{name}@example.org"),
            password: Some(Secret(PASSWORD.to_owned())),
            quota,
            ..NewUser::default()
        };
        self.execute(Command::UserAdd(user)).await;
    }
}

async fn accept(
    smtp: Rc<Service>,
    pop3: Rc<pop3::Service>,
    socket: std::net::TcpListener,
    door: Door,
) {
    let listener = Listener::from_std(socket).expect("a listener");
    while let Ok((stream, peer)) = listener.accept().await {
        let (conn, door) = (Conn::new(stream, Peer::from(peer)), door.clone());
        match door.listener().protocol {
            Protocol::Pop3 => runtime::spawn("pop3", pop3.clone().serve(conn, door, None)),
            _ => runtime::spawn("smtp", smtp.clone().serve(conn, door, None)),
        }
    }
}

/// A client that speaks lines.
struct Client {
    stream: Stream,
    read: Vec<u8>,
}

impl Client {
    async fn connect(world: &World, name: &str) -> Client {
        let listener = name.trim_end_matches(|c: char| c.is_ascii_digit() && name != "pop3");
        let listener = if name.starts_with("pop3") {
            "pop3"
        } else {
            listener
        };
        let address = world.addresses.get(listener).expect("a listener");
        let stream = Stream::connect(*address, soon()).await.expect("connects");
        Client {
            stream,
            read: Vec::new(),
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// The next line, without its end.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n") {
                let rest = self.read.split_off(end + 2);
                let line = std::mem::replace(&mut self.read, rest);
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            let mut bytes = [0; 8192];
            let got = runtime::deadline(soon(), self.stream.read(&mut bytes)).await;
            match got.expect("the server answers in time") {
                Ok(0) | Err(_) => return "(closed)".to_owned(),
                Ok(n) => self.read.extend_from_slice(&bytes[..n]),
            }
        }
    }
}

/// Whether `line` is what `pattern` says.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once("<any>") else {
        return pattern == line;
    };
    let Some(tail) = line.strip_prefix(before) else {
        return false;
    };
    let mut starts = (0..=tail.len()).filter(|at| tail.is_char_boundary(*at));
    starts.any(|at| matches(after, &tail[at..]))
}

fn unescaped(text: &str) -> String {
    [("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\0", "\0")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The initial response of AUTH PLAIN.
fn plain(login: &str) -> String {
    data_encoding::BASE64.encode(format!("\0{login}\0{PASSWORD}").as_bytes())
}

async fn play(world: &World, number: usize, name: &str, text: &str) -> Result<(), String> {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some(end) = line
            .find(['>', '<', ':'])
            .filter(|_| !line.starts_with('#'))
        else {
            continue;
        };
        let (who, what) = (&line[..end], &line[end..]);
        let said = what[1..].strip_prefix(' ').unwrap_or(&what[1..]);
        let said = ["ana", "ben", "team"]
            .iter()
            .fold(said.to_owned(), |said, word| {
                said.replace(&format!("${word}"), &format!("{word}{number}@example.org"))
            });
        let said = said.replace("$plain", &plain(&format!("ana{number}@example.org")));
        let said = unescaped(&said.replace("$password", PASSWORD));
        if what.starts_with(':') {
            assert!(
                world.roster.kick(said.trim_start_matches("kick ")) > 0,
                "{line}"
            );
            continue;
        }
        if !clients.contains_key(who) {
            clients.insert(who.to_owned(), Client::connect(world, who).await);
        }
        let client = clients.get_mut(who).expect("made above");
        if what.starts_with('>') {
            let bytes = match said.strip_suffix("\\c") {
                Some(said) => said.to_owned(),
                None => said + "\r\n",
            };
            client.say(bytes.as_bytes()).await;
            continue;
        }
        let got = client.line().await;
        if !matches(&said, &got) {
            return Err(format!("{name}:{}\n want {said}\n  got {got}\n", at + 1));
        }
    }
    Ok(())
}

#[test]
fn transcripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = |protocol| std::fs::read_dir(root.join(protocol)).expect("a directory");
    let of = |protocol| entries(protocol).map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = ["smtp", "lmtp", "pop3"].into_iter().flat_map(of).collect();
    files.sort();
    let only = std::env::var("TRANSCRIPT").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&only));
    runtime::block_on(async move {
        let world = World::start().await;
        let mut faults = String::new();
        for (number, file) in files.iter().enumerate() {
            let text = std::fs::read_to_string(file).expect("text");
            world.user(&format!("ana{number}"), None).await;
            world.user(&format!("ben{number}"), Some(QUOTA)).await;
            let address = |name| format!("{name}{number}@example.org");
            let to = vec![address("ana"), address("ben")];
            world
                .execute(Command::AliasAdd {
                    from: address("team"),
                    to,
                })
                .await;
            faults.extend(
                play(&world, number, &file.display().to_string(), &text)
                    .await
                    .err(),
            );
        }
        assert!(faults.is_empty(), "{faults}");
    })
    .expect("a shard");
}

/// A drain lets a message end and be acknowledged, and then says why the session does.
#[test]
fn a_drain_ends_no_message() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("ana", None).await;
        let mut client = Client::connect(&world, "smtp").await;
        let mut idle = Client::connect(&world, "smtp").await;
        assert!(idle.line().await.starts_with("220 "));
        let envelope = "EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n";
        client.say(envelope.as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        client.say(b"Subject: half\r\n\r\n").await;
        world.stop.raise();
        assert!(idle.line().await.starts_with("421 4.3.2 "));
        assert_eq!(idle.line().await, "(closed)");
        client.say(b"whole\r\n.\r\n").await;
        assert!(client.line().await.starts_with("250 2.0.0 queued as "));
        assert!(client.line().await.starts_with("421 4.3.2 "));
        assert_eq!(client.line().await, "(closed)");
    })
    .expect("a shard");
}

/// By LMTP a full mailbox refuses for itself alone, also where one record takes all copies.
#[test]
fn a_full_mailbox_stops_nobody_else() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("full", Some(QUOTA)).await;
        let snapshot = world.directory.snapshot();
        let full = snapshot.login("full").expect("made").partition;
        let mut neighbour = String::new();
        for n in 0..40 {
            neighbour = format!("n{n}");
            world.user(&neighbour, None).await;
            let snapshot = world.directory.snapshot();
            if snapshot.login(&neighbour).expect("made").partition == full {
                break;
            }
        }
        let mut client = Client::connect(&world, "lmtp").await;
        let letter = format!(
            "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<full@example.org>\r\n\
             RCPT TO:<{neighbour}@example.org>\r\nDATA\r\nSubject: long\r\n\r\n{}\r\n.\r\n",
            "x".repeat(2_500)
        );
        client.say(letter.as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        assert!(client.line().await.starts_with("452 4.2.2 "));
        assert!(client.line().await.starts_with("250 2.0.0 queued as "));
    })
    .expect("a shard");
}

/// A message that has been everywhere is in a loop (RFC 5321 6.3).
#[test]
fn a_hundred_hops_are_too_many() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("ana", None).await;
        let mut client = Client::connect(&world, "smtp").await;
        client.say(b"HELO c\r\n").await;
        for (hops, reply) in [(99, "250 2.0.0 "), (100, "554 5.4.6 ")] {
            let trace = "Received: by x.test; Mon, 21 Sep 2026 14:13:20 +0000\r\n".repeat(hops);
            let letter =
                format!("MAIL FROM:<>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n{trace}\r\n.\r\n");
            client.say(letter.as_bytes()).await;
            while !client.line().await.starts_with("354 ") {}
            let got = client.line().await;
            assert!(got.starts_with(reply), "{hops}: {got}");
        }
    })
    .expect("a shard");
}
