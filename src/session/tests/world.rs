//! A server of one shard: a store on the simulated disk, a directory with real passwords, real
//! sockets, a listener of each protocol; and a client that speaks lines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::{ByteSize, Deadline, ShardId};
use crate::config::{Config, Protocol};
use crate::delivery::Intake;
use crate::directory::{
    Authenticator, Command, Directory, LastLogins, Limit, NewUser, Quotas, Secret, Site, UserChange,
};
use crate::net::{Conn, Peer};
use crate::runtime::{self, Disk, Gate, Listener, Mesh, Pool, SimDisk, Stop, Stream};
use crate::session::{Arrivals, Door, LoginDesk, Roster, imap, pop3, smtp};
use crate::store::{Flags, Remote, Store, StoreConfig, Target};

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
[[listener]]
protocol = \"imap\"
address = \"127.0.0.1:6\"
";
/// What the listeners above are called.
const NAMES: [&str; 6] = ["smtp", "submission", "lmtp", "pop3", "small", "imap"];
pub(super) const PASSWORD: &str = "correct horse";
const PREFIX: &str = "Return-Path: <sender@example.com>\r\n";

fn soon() -> Deadline {
    Deadline::after(runtime::now(), Duration::from_secs(20))
}

pub(super) struct World {
    pub directory: Directory,
    pub roster: Roster,
    pub stop: Stop,
    pub disk: Disk,
    remote: Remote,
    addresses: BTreeMap<&'static str, SocketAddr>,
}

/// What the listeners share.
#[derive(Clone)]
struct Services {
    smtp: Rc<smtp::Service>,
    pop3: Rc<pop3::Service>,
    imap: Rc<imap::Service>,
}

impl World {
    pub async fn start() -> World {
        let disk = Disk::sim(SimDisk::new(1));
        let mut cfg = StoreConfig::new(PathBuf::from("/data"), 1);
        cfg.partitions = 4;
        cfg.lock = false;
        cfg.journal.slot_bytes = 8 << 20;
        cfg.journal.slots_max = 6;
        cfg.settle_after = Duration::from_millis(1);
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        let remote = store.expect("opens").remote();
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
        let book = directory.clone();
        remote.set_quota_book(Rc::new(move |account| {
            let snapshot = book.snapshot();
            let account = snapshot.account(account)?;
            Some(snapshot.quota(account))
        }));
        let logins = LastLogins::start(remote.clone(), &gate);
        let auth = Authenticator::new(directory.clone(), pool, logins, &gate);
        let (stop, roster) = (Stop::new(), Roster::default());
        let desk = || LoginDesk::new(auth.clone(), stop.clone());
        let (roster_of, told) = (|| roster.clone(), || stop.clone());
        let (mesh, _inboxes) = Mesh::new(1, 8);
        let arrivals = Arrivals::new(mesh, ShardId(0));
        let intake = Intake::new(remote.clone(), directory.clone(), schedule());
        let services = Services {
            smtp: Rc::new(smtp::Service::new(intake, desk(), roster_of(), told())),
            pop3: Rc::new(pop3::Service::new(
                remote.clone(),
                desk(),
                roster_of(),
                arrivals.clone(),
                told(),
            )),
            imap: imap::Service::new(desk(), arrivals, remote.clone(), roster_of(), told()),
        };
        World {
            addresses: listen(&services),
            directory,
            roster,
            stop,
            disk,
            remote,
        }
    }

    pub async fn execute(&self, command: Command) {
        self.directory
            .execute(command, soon())
            .await
            .expect("carried out");
    }

    pub async fn user(&self, name: &str, quota: Option<ByteSize>) {
        let user = NewUser {
            address: format!("{name}@example.org"),
            password: Some(Secret(PASSWORD.to_owned())),
            quota,
            ..NewUser::default()
        };
        self.execute(Command::UserAdd(user)).await;
    }

    /// `2000B 3`: limits in bytes and messages.
    pub async fn set_quota(&self, name: &str, limits: &str) {
        let (bytes, messages) = limits.split_once(' ').expect("two limits");
        let bytes: ByteSize = bytes.parse().expect("a size");
        let change = UserChange {
            quota: Some(Limit::Of(bytes.0)),
            quota_messages: Some(Limit::Of(messages.parse().expect("a number"))),
            ..UserChange::default()
        };
        let address = name.to_owned();
        self.execute(Command::UserSet { address, change }).await;
    }

    /// A letter arrives.
    pub async fn deliver(&self, name: &str, mailbox: &str, text: &str) {
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

/// Opens every listener; where each is.
fn listen(services: &Services) -> BTreeMap<&'static str, SocketAddr> {
    let config = Config::parse(CONFIG, "test").expect("a configuration");
    let listeners = config.listeners();
    let config = Arc::new(ArcSwap::from_pointee(config));
    let mut addresses = BTreeMap::new();
    for (number, (name, listener)) in NAMES.into_iter().zip(listeners).enumerate() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        addresses.insert(name, socket.local_addr().expect("bound"));
        let door = Door::new(number, listener, None, config.clone());
        runtime::spawn("accept", accept(services.clone(), socket, door));
    }
    addresses
}

async fn accept(services: Services, socket: std::net::TcpListener, door: Door) {
    let listener = Listener::from_std(socket).expect("a listener");
    while let Ok((stream, peer)) = listener.accept().await {
        let (conn, door) = (Conn::new(stream, Peer::from(peer)), door.clone());
        match door.listener().protocol {
            Protocol::Pop3 => {
                runtime::spawn("pop3", services.pop3.clone().serve(conn, door, None));
            }
            Protocol::Imap => {
                let serving = services.imap.clone().serve(conn, door, None);
                // What every idle connection holds, next to its socket and TLS state.
                let bytes = size_of_val(&serving);
                assert!(bytes <= 2048, "{bytes} bytes");
                runtime::spawn("imap", serving);
            }
            _ => runtime::spawn("smtp", services.smtp.clone().serve(conn, door, None)),
        }
    }
}

pub(super) struct Client {
    stream: Stream,
    read: Vec<u8>,
}

impl Client {
    /// By the name of a listener, behind which anything may stand.
    pub async fn connect(world: &World, name: &str) -> Client {
        let mut listeners = world.addresses.iter();
        let (_, address) = listeners
            .find(|(listener, _)| name.starts_with(**listener))
            .expect("a listener");
        let stream = Stream::connect(*address, soon()).await.expect("connects");
        Client {
            stream,
            read: Vec::new(),
        }
    }

    /// A session of IMAP, logged in.
    pub async fn imap(world: &World, user: &str) -> Client {
        let mut client = Client::connect(world, "imap").await;
        let login = format!("login LOGIN {user} \"{PASSWORD}\"\r\n");
        client.say(login.as_bytes()).await;
        let lines = client.until("login ").await;
        assert!(lines[1].starts_with("login OK"), "{lines:?}");
        client
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// The next line, without its end; `(closed)` at the end of the connection.
    pub async fn line(&mut self) -> String {
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

    /// Lines up to the first that begins with `start`, which is the last.
    pub async fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.push(self.line().await);
            let line = lines.last().expect("one was pushed");
            if line.starts_with(start) {
                return lines;
            }
            assert!(line != "(closed)", "before {start}: {lines:?}");
        }
    }

    /// A command of IMAP with the tag `t`.
    pub async fn command(&mut self, text: &str) -> Vec<String> {
        self.say(format!("t {text}\r\n").as_bytes()).await;
        self.until("t ").await
    }
}

/// The times of a site that says nothing about them.
fn schedule() -> crate::queue::Schedule {
    let hours = |n: u64| std::time::Duration::from_secs(3600 * n);
    crate::queue::Schedule {
        retry: vec![hours(1)],
        delay_notice_after: hours(4),
        expire_after: hours(120),
        expire_notices_after: hours(24),
        bulk_hours: Vec::new(),
        zone: jiff::tz::TimeZone::UTC,
    }
}
