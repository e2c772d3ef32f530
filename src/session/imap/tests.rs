//! Transcripts (`tests/transcripts/imap/*.txt`) against whole sessions: a store on the simulated
//! disk, a directory with real passwords, real sockets, all on one shard.
//!
//! A transcript's lines: `#` comment; `C:` the client says; `S:` the server must say, in this
//! order; `C2:`/`S2:` a second session of the same user; `D: MAILBOX` a letter arrives; `Q: BYTES
//! MESSAGES` sets limits; `| ` a
//! line of the literal whose `{}` or `{+}` ends the `C:` line before, or of the letter. In `S:`
//! lines `<any>` stands for anything and `<n>` for digits; in `C:` lines `\\r\\n` is a line end. Each session is logged in before it
//! begins, unless the file has a line `#raw`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::super::{Arrivals, Door, LoginDesk, Roster};
use super::Service;
use crate::base::{ByteSize, Deadline, ShardId};
use crate::config::Config;
use crate::directory::{
    Authenticator, Command, Directory, LastLogins, Limit, NewUser, Quotas, Secret, Site, UserChange,
};
use crate::net::{Conn, Peer};
use crate::runtime::{self, Disk, Gate, Listener, Mesh, Pool, SimDisk, Stop, Stream};
use crate::store::{Flags, Remote, Store, StoreConfig, Target};

const CONFIG: &str = "\
hostname = \"mail.example.org\"\n\
domains = [\"example.org\"]\n\
[auth]\nallow_plaintext = true\nfailure_delay = \"0s\"\n\
[limits]\nmessage_bytes_max = \"1MB\"\n\
[[listener]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:0\"\n";
const PASSWORD: &str = "correct horse";
const PREFIX: &str = "Return-Path: <sender@example.com>\r\n";

fn soon() -> Deadline {
    Deadline::after(runtime::now(), Duration::from_secs(10))
}

/// A server of one shard.
struct World {
    remote: Remote,
    directory: Directory,
    address: SocketAddr,
    stop: Stop,
    roster: Roster,
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
        let gate = Gate::new();
        let pool = Pool::start(2, 64);
        let site = Site {
            domains: vec!["example.org".into()],
            postmaster: None,
            failure_delay: Duration::ZERO,
            partitions: 4,
            quotas: Quotas::default(),
        };
        let (directory, owner) = Directory::new(&site);
        owner
            .start(remote.clone(), pool.clone(), None, &gate)
            .await
            .expect("a directory");
        let book = directory.clone();
        remote.set_quota_book(Rc::new(move |account| {
            let snapshot = book.snapshot();
            let account = snapshot.account(account)?;
            Some(snapshot.quota(account))
        }));
        let logins = LastLogins::start(remote.clone(), &gate);
        let auth = Authenticator::new(directory.clone(), pool, logins, &gate);
        let stop = Stop::new();
        let roster = Roster::default();
        let (mesh, _inboxes) = Mesh::new(1, 8);
        let service = Service::new(
            LoginDesk::new(auth, stop.clone()),
            Arrivals::new(mesh, ShardId(0)),
            remote.clone(),
            roster.clone(),
            stop.clone(),
        );
        let config = Config::parse(CONFIG, "test").expect("a configuration");
        let listener = config.listeners().remove(0);
        let door = Door::new(0, listener, None, Arc::new(ArcSwap::from_pointee(config)));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        runtime::spawn("accept", accept(service, socket, door));
        World {
            remote,
            directory,
            address,
            stop,
            roster,
        }
    }

    async fn user(&self, name: &str) {
        let user = NewUser {
            address: format!("{name}@example.org"),
            password: Some(Secret(PASSWORD.to_owned())),
            ..NewUser::default()
        };
        self.directory
            .execute(Command::UserAdd(user), soon())
            .await
            .expect("a user");
    }

    /// `2000B 3`: limits in bytes and messages.
    async fn set_quota(&self, name: &str, limits: &str) {
        let (bytes, messages) = limits.split_once(' ').expect("two limits");
        let bytes: ByteSize = bytes.parse().expect("a size");
        let messages = messages.parse().expect("a number");
        let change = UserChange {
            quota: Some(Limit::Of(bytes.0)),
            quota_messages: Some(Limit::Of(messages)),
            ..UserChange::default()
        };
        let address = name.to_owned();
        let set = Command::UserSet { address, change };
        let done = self.directory.execute(set, soon()).await;
        done.expect("limits");
    }

    async fn deliver(&self, name: &str, mailbox: &str, text: &str) {
        let mut incoming = self.remote.incoming();
        incoming.write(text.as_bytes()).await.expect("taken in");
        let message = incoming.finish().await.expect("taken in");
        let snapshot = self.directory.snapshot();
        let account = snapshot.reference(snapshot.login(name).expect("known"));
        let target = Target {
            account,
            mailbox: mailbox.to_owned(),
            flags: Flags::NONE,
            prefix: PREFIX.as_bytes().to_vec(),
        };
        let (now, trace) = (runtime::unix_now(), runtime::trace_id());
        self.remote
            .deliver(message, vec![target], now, trace, soon())
            .await
            .expect("delivered");
    }
}

async fn accept(service: Rc<Service>, socket: std::net::TcpListener, door: Door) {
    let listener = Listener::from_std(socket).expect("a listener");
    while let Ok((stream, peer)) = listener.accept().await {
        let conn = Conn::new(stream, Peer::from(peer));
        let serving = service.clone().serve(conn, door.clone(), None);
        // What every idle connection holds, next to its socket and TLS state.
        assert!(
            size_of_val(&serving) <= 2048,
            "{} bytes",
            size_of_val(&serving)
        );
        runtime::spawn("imap", serving);
    }
}

/// A client that speaks lines.
struct Client {
    stream: Stream,
    read: Vec<u8>,
}

impl Client {
    async fn connect(world: &World) -> Client {
        let stream = Stream::connect(world.address, soon())
            .await
            .expect("connects");
        Client {
            stream,
            read: Vec::new(),
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// The next line, without its end; `None` at the end of the connection.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n") {
                let rest = self.read.split_off(end + 2);
                let line = std::mem::replace(&mut self.read, rest);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut bytes = [0; 8192];
            let got = runtime::deadline(soon(), self.stream.read(&mut bytes)).await;
            match got.expect("the server answers in time") {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.read.extend_from_slice(&bytes[..n]),
            }
        }
    }
}

/// Whether `line` is what `pattern` says.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('<') else {
        return pattern == line;
    };
    let (word, after) = rest.split_once('>').unwrap_or(("", ""));
    let Some(tail) = line.strip_prefix(before) else {
        return false;
    };
    match word {
        "any" => (0..=tail.len())
            .filter(|at| tail.is_char_boundary(*at))
            .any(|at| matches(after, &tail[at..])),
        "n" => {
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && matches(after, &tail[digits..])
        }
        // A `<` of its own.
        _ => tail
            .strip_prefix('<')
            .is_some_and(|tail| matches(rest, tail)),
    }
}

struct Play<'a> {
    world: &'a World,
    user: String,
    raw: bool,
    clients: BTreeMap<String, Client>,
}

impl Play<'_> {
    async fn client(&mut self, number: &str) -> &mut Client {
        if !self.clients.contains_key(number) {
            let mut client = Client::connect(self.world).await;
            if !self.raw {
                assert!(
                    client
                        .line()
                        .await
                        .is_some_and(|line| line.starts_with("* OK"))
                );
                let login = format!("login LOGIN {} \"{PASSWORD}\"\r\n", self.user);
                client.say(login.as_bytes()).await;
                let line = client.line().await.unwrap_or_default();
                assert!(line.starts_with("login OK"), "{line}");
            }
            self.clients.insert(number.to_owned(), client);
        }
        self.clients.get_mut(number).expect("made above")
    }

    async fn run(&mut self, name: &str, text: &str) -> Result<(), String> {
        let lines: Vec<&str> = text.lines().collect();
        let mut at = 0;
        while at < lines.len() {
            let (line, number) = (lines[at], at + 1);
            at += 1;
            let from = at;
            while at < lines.len() && lines[at].starts_with('|') {
                at += 1;
            }
            let literal: String = lines[from..at]
                .iter()
                .map(|line| format!("{}\r\n", line[1..].strip_prefix(' ').unwrap_or("")))
                .collect();
            let Some((head, said)) = line.split_once(':').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let said = said.strip_prefix(' ').unwrap_or(said);
            let said = said
                .replace("$user", &self.user)
                .replace("$password", PASSWORD);
            let said = said.replace("\\r", "\r").replace("\\n", "\n");
            let place = format!("{name}:{number}");
            match head.split_at(1) {
                ("C", which) => self.say(which, &said, &literal).await,
                ("S", which) => {
                    let got = self.client(which).await.line().await;
                    let got = got.unwrap_or_else(|| "(closed)".to_owned());
                    if !matches(&said, &got) {
                        return Err(format!("{place}\n want {said}\n  got {got}\n"));
                    }
                }
                ("Q", _) => self.world.set_quota(&self.user, &said).await,
                ("D", _) => self.world.deliver(&self.user, &said, &literal).await,
                _ => return Err(format!("{place}: {line}\n")),
            }
        }
        Ok(())
    }

    async fn say(&mut self, which: &str, said: &str, literal: &str) {
        let client = self.client(which).await;
        let bytes = literal.len();
        let text = if let Some(line) = said.strip_suffix("{+}") {
            format!("{line}{{{bytes}+}}\r\n{literal}\r\n")
        } else if let Some(line) = said.strip_suffix("{}") {
            client
                .say(format!("{line}{{{bytes}}}\r\n").as_bytes())
                .await;
            let plus = client.line().await.unwrap_or_default();
            assert!(plus.starts_with("+ "), "{plus}");
            format!("{literal}\r\n")
        } else {
            format!("{said}\r\n")
        };
        client.say(text.as_bytes()).await;
    }
}

#[test]
fn transcripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/imap");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    let only = std::env::var("TRANSCRIPT").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&only));
    runtime::block_on(async move {
        let world = World::start().await;
        let mut faults = String::new();
        for (n, file) in files.iter().enumerate() {
            let text = std::fs::read_to_string(file).expect("text");
            let user = format!("user{n}");
            world.user(&user).await;
            let raw = text.lines().any(|line| line == "#raw");
            let clients = BTreeMap::new();
            let mut play = Play {
                world: &world,
                user,
                raw,
                clients,
            };
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            faults.extend(play.run(&name, &text).await.err());
        }
        assert!(faults.is_empty(), "{faults}");
    })
    .expect("a shard");
}

#[test]
fn patterns_match() {
    assert!(matches("* <n> EXISTS", "* 12 EXISTS") && !matches("* <n> EXISTS", "* x EXISTS"));
    assert!(matches("a OK <any>", "a OK [X] done") && matches("<a@b>", "<a@b>"));
}

/// A logged-in session of a new user.
async fn session(world: &World, name: &str) -> Client {
    world.user(name).await;
    let mut client = Client::connect(world).await;
    let login = format!("login LOGIN {name} \"{PASSWORD}\"\r\n");
    client.say(login.as_bytes()).await;
    client.until("login ").await;
    client
}

impl Client {
    /// Lines up to the first that begins with `start`, which is the last.
    async fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
            if lines.last().is_some_and(|line| line.starts_with(start)) {
                return lines;
            }
        }
        panic!("closed before {start}: {lines:?}");
    }

    async fn command(&mut self, text: &str) -> Vec<String> {
        self.say(format!("t {text}\r\n").as_bytes()).await;
        self.until("t ").await
    }
}

/// A message of `bytes` octets, and a little more.
fn long_message(bytes: usize) -> String {
    let mut text = "Subject: long\r\n\r\n".to_owned();
    let mut n = 0;
    while text.len() < bytes {
        text.push_str(&format!(
            "line {n} of a long message that goes on and on\r\n"
        ));
        n += 1;
    }
    text
}

#[test]
fn long_messages_come_back_as_they_went() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut client = session(&world, "ana").await;
        let text = long_message(900_000);
        let head = format!("a APPEND INBOX {{{}+}}\r\n", text.len());
        client.say(head.as_bytes()).await;
        client.say(text.as_bytes()).await;
        client.say(b"\r\n").await;
        let answer = client.until("a ").await;
        assert!(
            matches("a OK [APPENDUID <n> 1] APPEND done", &answer[0]),
            "{answer:?}"
        );
        client.command("SELECT INBOX").await;
        let lines = client.command("FETCH 1 BODY.PEEK[]").await;
        assert_eq!(lines[0], format!("* 1 FETCH (BODY[] {{{}}}", text.len()));
        let body = lines[1..lines.len() - 2]
            .iter()
            .map(|line| format!("{line}\r\n"));
        assert_eq!(body.collect::<String>(), text);
        let lines = client.command("FETCH 1 BODY.PEEK[]<500000.5>").await;
        let part = &text[500_000..500_005];
        assert_eq!(
            lines[..2].join("\r\n"),
            format!("* 1 FETCH (BODY[]<500000> {{5}}\r\n{part})")
        );
        let found = client.command("SEARCH BODY \"LINE 15000 OF\"").await;
        assert_eq!(found[0], "* SEARCH 1");
    })
    .expect("a shard");
}

#[test]
fn many_messages_are_listed_in_one_go() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut client = session(&world, "ana").await;
        const COUNT: usize = 3_000;
        for round in 0..COUNT / 500 {
            let mut text = b"a APPEND INBOX".to_vec();
            for n in 0..500 {
                let message = format!("Subject: {}\r\n\r\nx\r\n", round * 500 + n);
                text.extend(format!(" {{{}+}}\r\n{message}", message.len()).into_bytes());
            }
            text.extend(b"\r\n");
            client.say(&text).await;
            let answer = client.until("a ").await;
            assert!(answer[0].starts_with("a OK [APPENDUID "), "{answer:?}");
        }
        client.command("SELECT INBOX").await;
        let lines = client.command("UID FETCH 1:* (FLAGS)").await;
        assert_eq!(lines.len(), COUNT + 1);
        assert_eq!(
            lines[COUNT - 1],
            format!("* {COUNT} FETCH (UID {COUNT} FLAGS (\\Recent))")
        );
        let lines = client.command("FETCH 1:* (ENVELOPE)").await;
        assert_eq!(lines.len(), COUNT + 1);
        assert!(
            lines[1].starts_with("* 2 FETCH (ENVELOPE (NIL \"1\" "),
            "{}",
            lines[1]
        );
        let lines = client.command("STORE 1:* +FLAGS.SILENT (\\Deleted)").await;
        assert_eq!(lines, ["t OK STORE done"]);
        let lines = client.command("EXPUNGE").await;
        assert_eq!(lines.len(), COUNT + 1);
    })
    .expect("a shard");
}

#[test]
fn a_kick_and_a_drain_end_sessions_with_words() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut ana = session(&world, "ana").await;
        let mut ben = session(&world, "ben").await;
        ben.say(b"a IDLE\r\n").await;
        ben.until("+ ").await;
        assert_eq!(world.roster.kick("ana@example.org"), 1);
        let words = ana.line().await.unwrap_or_default();
        assert_eq!(words, "* BYE an administrator ended this session");
        assert_eq!(ana.line().await, None);
        world.stop.raise();
        let words = ben.line().await.unwrap_or_default();
        assert!(words.starts_with("* BYE [UNAVAILABLE] "), "{words}");
        assert_eq!(ben.line().await, None);
    })
    .expect("a shard");
}
