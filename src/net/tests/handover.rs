//! Hand-over, thousands of times: four shards, plain and TLS of both versions and STARTTLS, with
//! pipelined bytes in flight before, at and after each move. Every line must come back once and in
//! order, and nothing may stay behind: no descriptor, no task.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::runtime::{Inbox, Mesh};

const SHARDS: u16 = 4;
const CLIENTS: u64 = 8;
const CONNECTIONS: u64 = 56;
const HOPS: u64 = 10;
const _: () = assert!(CLIENTS * CONNECTIONS * HOPS >= 4000);

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Tls12,
    Tls13,
    StartTls,
}

/// xorshift64*, so that a failure can be replayed from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// Echoes lines; `HOP n` moves the connection to shard n, `QUIT` drops it.
async fn session(mut conn: Conn, config: TlsConfig, mesh: Mesh<Parcel>, moved: Arc<AtomicU64>) {
    while let Some(line) = line(&mut conn).await {
        if let Some(shard) = line.strip_prefix("HOP ") {
            let shard = ShardId(shard.parse().expect("a shard"));
            let parcel = conn
                .detach()
                .map_err(|(_, error)| error)
                .expect("a descriptor");
            moved.fetch_add(1, Ordering::Relaxed);
            assert!(
                mesh.post(shard, parcel, soon()).await.is_ok(),
                "the target takes it"
            );
            return;
        }
        match &line[..] {
            // Dropped, not closed: the client sees the end only if no descriptor was left behind.
            "QUIT" => return,
            "STARTTLS" => {
                conn.write(b"go\n", soon()).await.expect("write");
                assert_eq!(
                    conn.start_tls(&config, soon()).await.expect("a handshake"),
                    0
                );
            }
            _ => {
                let reply = format!("{} {line}\n", runtime::shard());
                conn.write(reply.as_bytes(), soon()).await.expect("write");
            }
        }
    }
    panic!("the client left without QUIT");
}

/// One connection's life, as the client sees it.
fn dialogue(mode: Mode, random: &mut Random, to: SocketAddr, config: &Arc<ClientConfig>) {
    let mut stream = connect(to);
    if mode == Mode::StartTls {
        stream.write_all(b"STARTTLS\n").expect("write");
        let mut go = [0; 3];
        stream.read_exact(&mut go).expect("read");
    }
    let mut sent = String::new();
    let mut want = String::new();
    let mut shard = None;
    for hop in 0..HOPS {
        for n in 0..random.below(4) {
            // Now and then more than one TLS record.
            let long = random.below(12) == 0;
            let body = format!("{hop}.{n} {}", "x".repeat(if long { 20_000 } else { 20 }));
            sent += &format!("{body}\n");
            // Which shard accepted it is the kernel's choice.
            want += &format!(
                "{} {body}\n",
                shard.map_or("?".to_owned(), |s: usize| s.to_string())
            );
        }
        let next = random.below(usize::from(SHARDS));
        sent += &format!("HOP {next}\n");
        shard = Some(next);
    }
    sent += "last\nQUIT\n";
    want += &format!("{} last\n", shard.expect("a hop"));

    let mut got = if mode == Mode::Plain {
        send_in_pieces(&mut stream, &sent, random);
        rest(&mut stream)
    } else {
        let mut client = secure(stream, config, "mail.example.org").expect("a handshake");
        send_in_pieces(&mut client, &sent, random);
        rest(&mut client)
    };
    let unknown = want
        .lines()
        .take_while(|line| line.starts_with('?'))
        .count();
    let mut lines: Vec<_> = got.lines().map(str::to_owned).collect();
    for line in lines.iter_mut().take(unknown) {
        line.replace_range(..1, "?");
    }
    got = lines.join("\n") + "\n";
    assert!(
        got == want,
        "{} of {} bytes came back right",
        common(&got, &want),
        want.len()
    );
}

fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

fn send_in_pieces(stream: &mut impl Write, text: &str, random: &mut Random) {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let (piece, rest) = left.split_at((1 + random.below(3000)).min(left.len()));
        stream.write_all(piece).expect("write");
        stream.flush().expect("flush");
        if random.below(4) == 0 {
            std::thread::yield_now();
        }
        left = rest;
    }
}

/// Sockets of this process with this local port, whoever else runs beside this test.
fn sockets_on(port: u16) -> usize {
    let tcp = fs::read_to_string("/proc/self/net/tcp").expect("/proc");
    let local = format!(":{port:04X}");
    let inodes: Vec<_> = tcp
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| {
            fields
                .get(1)
                .is_some_and(|address| address.ends_with(&local))
        })
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| {
            inodes
                .iter()
                .any(|inode| link.as_os_str() == inode.as_str())
        })
        .count()
}

#[test]
fn connections_move_between_shards_whole() {
    let seed = std::env::var("NET_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(2026);
    println!("NET_SEED={seed}");
    let certs = Certs::new();
    let (_tls, config, _) = certs.simple();
    let pair = CertPair {
        certificate: certs.path("simple.pem"),
        key: certs.path("simple.key"),
    };
    let (mesh, inboxes) = Mesh::<Parcel>::new(SHARDS, 8);
    let inboxes: Arc<Mutex<Vec<Option<Inbox<Parcel>>>>> =
        Arc::new(Mutex::new(inboxes.into_iter().map(Some).collect()));
    let moved = Arc::new(AtomicU64::new(0));

    let (accept_mesh, accept_moved, accept_config) = (mesh.clone(), moved.clone(), config.clone());
    let handler = move |mut conn: Conn, spec: Arc<ListenerSpec>, _: Option<Refusal>| {
        let (mesh, moved, config) = (
            accept_mesh.clone(),
            accept_moved.clone(),
            accept_config.clone(),
        );
        async move {
            if spec.implicit_tls {
                conn.accept_tls(&config, soon()).await.expect("a handshake");
            }
            session(conn, config, mesh, moved).await;
        }
    };
    let (move_mesh, move_moved) = (mesh.clone(), moved.clone());
    let receive = move |shard: ShardId, gate: Gate| {
        let mut inbox = inboxes.lock().expect("no panic")[usize::from(shard.0)].take();
        let (mesh, moved, config) = (move_mesh.clone(), move_moved.clone(), config.clone());
        async move {
            let inbox = inbox.as_mut().expect("each shard once");
            while let Some(parcel) = inbox.next().await {
                let conn = parcel.attach();
                let moved = session(conn, config.clone(), mesh.clone(), moved.clone());
                runtime::spawn_in(&gate, "moved", moved);
            }
        }
    };
    let implicit = ListenerSpec {
        implicit_tls: true,
        ..spec("imaps")
    };
    let server = Server::start(SHARDS, &[spec("imap"), implicit], handler, receive);

    std::thread::scope(|scope| {
        for client_number in 0..CLIENTS {
            let (addresses, pair) = (&server.addresses, &pair);
            scope.spawn(move || {
                let mut random = Random((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(client_number));
                let tls12 = client(&[pair], &[&rustls::version::TLS12], |_| {});
                let tls13 = client(&[pair], &[&rustls::version::TLS13], |_| {});
                for n in 0..CONNECTIONS {
                    let mode =
                        [Mode::Plain, Mode::Tls12, Mode::Tls13, Mode::StartTls][(n % 4) as usize];
                    let (to, config) = match mode {
                        Mode::Plain => (addresses[0], &tls13),
                        Mode::StartTls => (addresses[0], &tls12),
                        Mode::Tls12 => (addresses[1], &tls12),
                        Mode::Tls13 => (addresses[1], &tls13),
                    };
                    dialogue(mode, &mut random, to, config);
                }
            });
        }
    });
    assert_eq!(moved.load(Ordering::Relaxed), CLIENTS * CONNECTIONS * HOPS);
    for address in &server.addresses {
        // The listeners, each with the duplicate that it polls.
        assert!(
            sockets_on(address.port()) <= 2 * usize::from(SHARDS),
            "descriptors are left"
        );
    }
    // Fails if a session task is left.
    server.stop();
}

#[test]
fn what_moves_is_small_and_may_cross_threads() {
    fn is_send<T: Send>() {}
    is_send::<Parcel>();
    assert!(
        size_of::<Conn>() <= 16 && size_of::<Parcel>() <= 16,
        "held by value"
    );
}

/// Without a descriptor for the duplicate the connection stays, whole, and can move later. In a
/// process of its own, since the lack is felt by all threads.
#[test]
fn a_connection_that_cannot_move_stays() {
    const ALONE: &str = "NET_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "net::tests::handover::a_connection_that_cannot_move_stays";
        let mut alone = Command::new(std::env::current_exe().expect("this program"));
        let output = alone
            .args(["--exact", name])
            .env(ALONE, "1")
            .output()
            .expect("a process");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let server = Server::simple(|mut conn| async move {
        conn.fill(4096, soon()).await.expect("a line");
        let before = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(3),
                ..before
            },
        )
        .expect("a limit");
        let kept = conn.detach();
        setrlimit(Resource::Nofile, before).expect("a limit");
        let (conn, error) = kept.err().expect("no descriptor");
        assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
        let mut conn = conn
            .detach()
            .map_err(|(_, error)| error)
            .expect("one by now")
            .attach();
        let unread = conn.unread().to_vec();
        conn.write(&unread, soon()).await.expect("write");
    });
    let mut stream = connect(server.addresses[0]);
    exchange(&mut stream, b"still here\n");
    server.stop();
}
