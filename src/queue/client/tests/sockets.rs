//! The driver on real sockets, against a peer that does as a script says.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{letter, terms, told};
use crate::base::{Crc32c, crc32c};
use crate::net::OutgoingTls;
use crate::queue::client::{
    Client, Content, ContentFault, Letter, MessageContent, Terms, Times, Trouble,
};
use crate::runtime::{Disk, Pool, block_on};
use crate::store::{Body, Message};

/// Nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer on a port of its own, served by a thread.
pub(super) struct Peer {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Peer {
    /// `serve` gets each of `connections` connections in turn.
    pub fn start(connections: usize, mut serve: impl FnMut(TcpStream) + Send + 'static) -> Peer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            for _ in 0..connections {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_nodelay(true).expect("an option");
                stream.set_read_timeout(Some(PATIENCE)).expect("an option");
                stream.set_write_timeout(Some(PATIENCE)).expect("an option");
                serve(stream);
            }
        });
        Peer { address, thread }
    }

    pub fn join(self) {
        self.thread.join().expect("the peer saw what it expected");
    }
}

/// Reads one line; `None` at the end.
pub(super) fn line(stream: &mut impl Read) -> Option<String> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        match stream.read(&mut octet) {
            Ok(1) => line.push(octet[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(line).expect("text").trim_end().to_owned())
}

/// Says `greeting`, then answers each command whose beginning is in `answers`, until QUIT or the
/// end. Content is read up to its dot and returned, a letter each.
pub(super) fn serve(
    stream: &mut (impl Read + Write),
    greeting: &str,
    answers: &[(&str, &str)],
) -> Vec<String> {
    let mut letters = Vec::new();
    say(stream, greeting);
    while let Some(command) = line(stream) {
        let known = answers.iter().find(|(verb, _)| command.starts_with(verb));
        let answer = known.map_or("500 what?", |(_, answer)| *answer);
        if answer == "drop" {
            return letters;
        }
        say(stream, answer);
        if answer.starts_with("354") {
            let mut content = String::new();
            loop {
                match line(stream) {
                    Some(line) if line == "." => break,
                    Some(line) => content.push_str(&(line + "\n")),
                    None => return letters,
                }
            }
            letters.push(content);
            let (_, answer) = answers
                .iter()
                .find(|(verb, _)| *verb == ".")
                .expect("a dot");
            if *answer == "drop" {
                return letters;
            }
            say(stream, answer);
        }
        if command == "QUIT" {
            return letters;
        }
    }
    letters
}

pub(super) fn say(stream: &mut impl Write, text: &str) {
    // A peer that left is the client's business.
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
    let _ = stream.flush();
}

pub(super) const GOOD: &[(&str, &str)] = &[
    ("EHLO", "250-mx\r\n250 PIPELINING"),
    ("MAIL", "250 ok"),
    ("RCPT", "250 ok"),
    ("DATA", "354 go"),
    (".", "250 queued"),
    ("RSET", "250 ok"),
    ("QUIT", "221 bye"),
];

/// `GOOD`, but for one answer.
fn but(verb: &'static str, answer: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut answers = vec![(verb, answer)];
    answers.extend_from_slice(GOOD);
    answers
}

/// Opens, offers one letter and quits; tells how it went.
fn attempt(address: SocketAddr, terms: Terms, content: Vec<u8>) -> String {
    let walk = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let mut client = match Client::open(address, None, Rc::new(terms), &tls).await {
            Ok(client) => client,
            Err(unopened) => return unopened.trouble.to_string(),
        };
        let letter = Rc::new(Letter {
            size: content.len() as u64,
            ..letter("<a@a.test>", &["<b@b.test>"])
        });
        let report = client.send(letter, &mut &content[..]).await;
        client.quit().await;
        told(&report)
    };
    block_on(walk).expect("a shard")
}

#[track_caller]
fn check(terms: Terms, serve: impl FnMut(TcpStream) + Send + 'static, content: &[u8], want: &str) {
    let peer = Peer::start(1, serve);
    assert_eq!(attempt(peer.address, terms, content.to_vec()), want);
    peer.join();
}

#[test]
fn a_letter_goes_through() {
    let (sender, letters) = channel();
    let serve = move |mut stream: TcpStream| {
        for letter in serve(&mut stream, "220 mx", GOOD) {
            sender.send(letter).expect("somebody listens");
        }
    };
    check(terms(), serve, b".Hi\nyou", "delivered 250");
    assert_eq!(letters.iter().collect::<Vec<_>>(), ["..Hi\nyou\n"]);
}

#[test]
fn a_peer_that_leaves() {
    let drops = |verb, want: &str| {
        // One command at a time: what it closes upon unread would make a reset of the close.
        let mut answers = but(verb, "drop");
        answers.insert(1, ("EHLO", "250 mx"));
        let serve = move |mut stream: TcpStream| _ = serve(&mut stream, "220 mx", &answers);
        check(terms(), serve, b"Hi\r\n", want);
    };
    drops("EHLO", "the host closed the connection in EHLO");
    let closed =
        |fate: &str, phase: &str| format!("{fate}; the host closed the connection in {phase}");
    drops("MAIL", &closed("deferred trouble", "MAIL FROM"));
    drops(".", &closed("unsure", "end of data"));
    check(
        terms(),
        drop,
        b"",
        "the host closed the connection in its greeting",
    );
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let told = attempt(address, terms(), Vec::new());
    assert!(
        told.starts_with("the connection failed in connecting: "),
        "{told}"
    );
    assert!(told.contains("efused"), "{told}");
}

/// From an address of ours, also where nobody listens.
#[test]
fn the_source_address_is_chosen() {
    let (sender, seen) = channel();
    let peer = Peer::start(1, move |mut stream| {
        let address = stream.peer_addr().expect("connected").ip();
        sender.send(address).expect("somebody listens");
        serve(&mut stream, "220 mx", GOOD);
    });
    let source = IpAddr::from([127, 0, 0, 7]);
    let address = peer.address;
    let open = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let client = Client::open(address, Some(source), Rc::new(terms()), &tls).await;
        let client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
        assert_eq!(client.facts().local, Some(source));
        client.quit().await;
    };
    block_on(open).expect("a shard");
    peer.join();
    assert_eq!(seen.recv(), Ok(source));
    // Its port is free now.
    let refused = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        match Client::open(address, Some(source), Rc::new(terms()), &tls).await {
            Ok(_) => panic!("connected to nobody"),
            Err(unopened) => unopened.trouble.to_string(),
        }
    };
    let told = block_on(refused).expect("a shard");
    assert!(told.contains("efused"), "{told}");
}

/// Waits until the client is gone, an octet of `text` each time that nothing came for a while.
fn drip(stream: &mut TcpStream, text: &str) {
    let pause = Some(Duration::from_millis(20));
    stream.set_read_timeout(pause).expect("an option");
    for octet in text.bytes().cycle() {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            _ => {}
        }
        if stream.write_all(&[octet]).is_err() {
            return;
        }
    }
}

fn hasty(change: impl FnOnce(&mut Times)) -> Terms {
    let mut terms = terms();
    change(&mut terms.times);
    terms
}

#[test]
fn a_peer_that_drips_or_says_nothing() {
    let short = Duration::from_millis(200);
    let took = |terms, text: &'static str, want: &str| {
        let began = Instant::now();
        check(terms, move |mut stream| drip(&mut stream, text), b"", want);
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    };
    took(
        hasty(|times| times.greeting = short),
        "220 a greeting that never ends ",
        "no answer in time in its greeting",
    );
    // Lines that are whole, of a reply that never is.
    took(
        hasty(|times| times.greeting = short),
        "220-a\r\n",
        "no answer in time in its greeting",
    );
    took(
        hasty(|times| times.attempt = short),
        "220-a\r\n",
        "the host was too slow, last in its greeting",
    );
}

#[test]
fn a_peer_that_is_silent_after_the_dot() {
    let terms = hasty(|times| times.end = Duration::from_millis(200));
    let serve = |mut stream: TcpStream| {
        say(&mut stream, "220 mx");
        for answer in ["250 mx", "250 ok", "250 ok", "354 go"] {
            line(&mut stream).expect("a command");
            say(&mut stream, answer);
        }
        while line(&mut stream).is_some() {}
    };
    check(
        terms,
        serve,
        b"Hi\r\n",
        "unsure; no answer in time in end of data",
    );
}

/// It neither reads nor leaves: the socket takes what it takes, and then the block's time runs.
#[test]
fn a_peer_that_does_not_read() {
    let terms = hasty(|times| times.block = Duration::from_millis(200));
    let (done, wait): (_, Receiver<()>) = channel();
    let serve = move |mut stream: TcpStream| {
        say(&mut stream, "220 mx");
        for answer in ["250 mx", "250 ok", "250 ok", "354 go"] {
            line(&mut stream).expect("a command");
            say(&mut stream, answer);
        }
        let _ = wait.recv_timeout(PATIENCE);
    };
    let peer = Peer::start(1, serve);
    let content = vec![b'x'; 64 << 20];
    let told = attempt(peer.address, terms, content);
    done.send(()).expect("the peer waits");
    peer.join();
    assert_eq!(
        told,
        "deferred trouble; no answer in time in the message content"
    );
}

/// What it says before it closes is heard, although the content goes nowhere.
#[test]
fn a_peer_that_refuses_in_the_midst() {
    let serve = |mut stream: TcpStream| {
        say(&mut stream, "220 mx");
        for answer in ["250 mx", "250 ok", "250 ok", "354 go"] {
            line(&mut stream).expect("a command");
            say(&mut stream, answer);
        }
        line(&mut stream).expect("content");
        say(&mut stream, "552 5.3.4 too large");
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = vec![0; 1 << 16];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    };
    let content = b"x\r\n".repeat(8 << 20);
    let want = "failed 552 the message content; the host left in the message content: 552 5.3.4 \
        too large";
    check(terms(), serve, &content, want);
}

#[test]
fn a_connection_is_kept_while_it_is_good() {
    let peer = Peer::start(1, |mut stream| {
        let letters = serve(&mut stream, "220 mx", &but("QUIT", "221 bye"));
        assert_eq!(letters, ["one\n", "two\n"]);
        say(&mut stream, "421 idle for too long");
    });
    let address = peer.address;
    let walk = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let client = Client::open(address, None, Rc::new(terms()), &tls).await;
        let mut client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
        for content in [&b"one\n"[..], b"two\n"] {
            assert!(client.may_send().await);
            let letter = Rc::new(letter("<a@a.test>", &["<b@b.test>"]));
            let report = client.send(letter, &mut &content[..]).await;
            assert_eq!(told(&report), "delivered 250");
        }
        assert!(client.may_send().await);
        client.quit().await;
    };
    block_on(walk).expect("a shard");
    peer.join();
}

#[test]
fn a_connection_that_closed_is_not_used() {
    let (opened, is_opened) = channel();
    let peer = Peer::start(1, move |mut stream| {
        say(&mut stream, "220 mx");
        line(&mut stream).expect("EHLO");
        say(&mut stream, "250 mx");
        is_opened.recv_timeout(PATIENCE).expect("it opens");
        say(&mut stream, "421 idle for too long");
    });
    let address = peer.address;
    let walk = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let client = Client::open(address, None, Rc::new(terms()), &tls).await;
        let mut client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
        opened.send(()).expect("the peer waits");
        let began = Instant::now();
        while client.may_send().await {
            assert!(began.elapsed() < PATIENCE, "it is still thought good");
        }
        client.quit().await;
    };
    block_on(walk).expect("a shard");
    peer.join();
}

fn message(body: Body, size: u64, crc32c: Crc32c) -> Arc<Message> {
    Arc::new(Message {
        body,
        digest: Arc::from([]),
        size,
        crc32c,
        blake3: [0; 32],
    })
}

/// A message of the store that is not what it was is never ended, so that no hop takes it.
#[test]
fn a_body_that_is_damaged_is_not_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spool");
    let content = b"0123456789abcdef\r\n".repeat(20_000);
    std::fs::write(&path, &content).expect("a file");
    let (size, sum) = (content.len() as u64, crc32c(&content));
    let other = Crc32c(sum.0 ^ 1);
    let spool = || Body::Spool(path.clone());
    let inline = || Body::Inline(content.clone());
    let lost = Body::Spool(directory.path().join("gone"));
    let cases = [
        (message(spool(), size, sum), "delivered 250"),
        (message(inline(), size, sum), "delivered 250"),
        (
            message(spool(), size, other),
            "its checksum is not what it was",
        ),
        (
            message(inline(), size, other),
            "its checksum is not what it was",
        ),
        (
            message(spool(), size + 1, sum),
            "only 360000 octets of it are there",
        ),
        (message(lost, size, sum), "gone"),
        (
            message(Body::InJournal, size, sum),
            "it is not where it was looked for",
        ),
    ];
    for (message, want) in cases {
        let is_good = want.starts_with("delivered");
        let peer = Peer::start(1, move |mut stream| {
            let letters = serve(&mut stream, "220 mx", GOOD);
            assert_eq!(letters.len(), usize::from(is_good));
        });
        let address = peer.address;
        let walk = async move {
            let disk = Disk::real(Pool::start(1, 4));
            let tls = OutgoingTls::load(None).expect("no file is named");
            let client = Client::open(address, None, Rc::new(terms()), &tls).await;
            let mut client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
            let letter = Rc::new(Letter {
                size: message.size,
                ..letter("<a@a.test>", &["<b@b.test>"])
            });
            let mut content = match MessageContent::open(&disk, message).await {
                Ok(content) => content,
                Err(fault) => return fault.to_string(),
            };
            let report = client.send(letter, &mut content).await;
            if let Some(Trouble::Content(fault)) = &report.trouble {
                assert!(!client.may_send().await);
                return fault.to_string();
            }
            client.quit().await;
            told(&report)
        };
        let told = block_on(walk).expect("a shard");
        assert!(told.contains(want), "{told}, and not {want}");
        peer.join();
    }
}

/// A content that breaks off leaves the hop with nothing.
#[test]
fn a_content_that_breaks_off() {
    struct Broken(u32);

    impl Content for Broken {
        async fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), ContentFault> {
            self.0 += 1;
            if self.0 > 2 {
                return Err(ContentFault::Size { bytes: 2 });
            }
            piece.push(b'x');
            Ok(())
        }
    }

    let peer = Peer::start(1, |mut stream| {
        assert!(serve(&mut stream, "220 mx", GOOD).is_empty());
    });
    let address = peer.address;
    let walk = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let client = Client::open(address, None, Rc::new(terms()), &tls).await;
        let mut client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
        let letter = Rc::new(letter("<a@a.test>", &["<b@b.test>"]));
        let report = client.send(letter, &mut Broken(0)).await;
        let want = "deferred trouble; the message was not read: only 2 octets of it are there";
        assert_eq!(told(&report), want);
        client.quit().await;
    };
    block_on(walk).expect("a shard");
    peer.join();
}
