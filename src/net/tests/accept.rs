//! The way in: limits, PROXY headers, and a handler that panics.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use super::*;

/// Greets with the peer's address, or says why not; then waits for the peer to leave.
async fn greet(mut conn: Conn, _spec: Arc<ListenerSpec>, refusal: Option<Refusal>) {
    let greeting = match refusal {
        None => format!("220 {}\n", conn.peer()),
        Some(Refusal::AddressFull) => "421 4.7.0\n".to_owned(),
        Some(Refusal::ListenerFull) => "421 4.3.2\n".to_owned(),
        Some(Refusal::Proxy(error)) => format!("{error}\n"),
    };
    let refused = !greeting.starts_with("220");
    conn.write(greeting.as_bytes(), soon())
        .await
        .expect("write");
    if refused {
        return conn.close(soon()).await;
    }
    echo(conn).await;
}

fn serve(spec: ListenerSpec) -> Server {
    Server::start(2, &[spec], greet, |_, _| std::future::pending())
}

fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') && stream.read(&mut byte).expect("read") > 0 {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

#[test]
fn an_address_over_its_limit_is_told_and_others_are_served() {
    let mut limited = spec("smtp");
    limited.limits = Limits {
        connections_max: 5,
        connections_per_address_max: 3,
    };
    let server = serve(limited);
    let mut held: Vec<_> = (0..3).map(|_| connect(server.addresses[0])).collect();
    for stream in &mut held {
        assert!(greeting(stream).starts_with("220 127.0.0.1:"));
    }
    assert_eq!(greeting(&mut connect(server.addresses[0])), "421 4.7.0");
    let counters = &server.counters[0];
    assert_eq!(counters.refused_address.load(Ordering::Relaxed), 1);
    // A place that is left is free again, as soon as the server sees that it was left.
    drop(held.pop());
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = connect(server.addresses[0]);
        if greeting(&mut stream).starts_with("220") {
            break;
        }
        assert!(std::time::Instant::now() < until, "the place stays taken");
    }
    drop(held);
    server.stop();
}

#[test]
fn a_full_listener_says_so() {
    let mut limited = spec("smtp");
    limited.limits = Limits {
        connections_max: 2,
        connections_per_address_max: 100,
    };
    let server = serve(limited);
    let mut held: Vec<_> = (0..2).map(|_| connect(server.addresses[0])).collect();
    for stream in &mut held {
        assert!(greeting(stream).starts_with("220"));
    }
    assert_eq!(greeting(&mut connect(server.addresses[0])), "421 4.3.2");
    drop(held);
    server.stop();
}

#[test]
fn only_the_proxied_address_counts() {
    let proxied = |networks: &str| {
        let mut proxied = spec("smtp");
        proxied.proxy_protocol = true;
        proxied.proxy_networks = [networks.parse().expect("a network")].into_iter().collect();
        proxied.limits.connections_per_address_max = 1;
        proxied
    };
    let server = serve(proxied("127.0.0.0/8"));
    let with_header = |header: &[u8]| {
        let mut stream = connect(server.addresses[0]);
        stream.write_all(header).expect("write");
        stream
    };
    let v1 = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 4660 25\r\nEHLO x\r\n";
    let mut first = with_header(v1);
    let words = greeting(&mut first);
    assert!(
        words.starts_with("220 192.0.2.1:4660 via 127.0.0.1:"),
        "{words}"
    );
    assert_eq!(
        greeting(&mut first),
        "EHLO x",
        "what follows the header is the client's"
    );
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x12\x34\0\x19";
    assert_eq!(
        greeting(&mut with_header(v2)),
        "421 4.7.0",
        "the same address once more"
    );
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let words = greeting(&mut with_header(local));
    assert!(words.starts_with("220 proxy 127.0.0.1:"), "{words}");
    assert_eq!(greeting(&mut with_header(b"EHLO x\r\n")), "no PROXY header");
    drop(first);
    server.stop();

    let server = serve(proxied("192.0.2.0/24"));
    let mut stream = connect(server.addresses[0]);
    assert_eq!(greeting(&mut stream), "not from a proxy");
    assert_eq!(server.counters[0].refused_proxy.load(Ordering::Relaxed), 1);
    drop(stream);
    server.stop();
}

/// The bytes behind the header belong to TLS there, and may come in the same packet.
#[test]
fn a_proxy_may_stand_before_implicit_tls() {
    let certs = Certs::new();
    let (_, config, trusting) = certs.simple();
    let mut imaps = spec("imaps");
    imaps.proxy_protocol = true;
    imaps.proxy_networks = ["127.0.0.1".parse().expect("a network")]
        .into_iter()
        .collect();
    let handler = move |mut conn: Conn, _: Arc<ListenerSpec>, refusal: Option<Refusal>| {
        let config = config.clone();
        async move {
            assert!(refusal.is_none());
            conn.accept_tls(&config, soon()).await.expect("a handshake");
            let words = format!("{}\n", conn.peer().address().expect("an address"));
            conn.write(words.as_bytes(), soon()).await.expect("write");
            conn.close(soon()).await;
        }
    };
    let server = Server::start(1, &[imaps], handler, |_, _| std::future::pending());
    let mut stream = connect(server.addresses[0]);
    let name = ServerName::try_from("mail.example.org").expect("a name");
    let mut session = ClientConnection::new(trusting, name).expect("a session");
    let mut first = b"PROXY TCP4 192.0.2.7 198.51.100.2 1 993\r\n".to_vec();
    session.write_tls(&mut first).expect("a hello");
    stream.write_all(&first).expect("write");
    let mut client = StreamOwned::new(session, stream);
    assert_eq!(rest(&mut client), "192.0.2.7\n");
    server.stop();
}

#[test]
fn a_session_that_panics_harms_nobody_else() {
    let handler = |mut conn: Conn, _: Arc<ListenerSpec>, _: Option<Refusal>| async move {
        let line = line(&mut conn).await.expect("a line");
        assert!(line != "panic", "as the test wants");
        conn.write(line.as_bytes(), soon()).await.expect("write");
    };
    let server = Server::start(1, &[spec("smtp")], handler, |_, _| std::future::pending());
    let mut beside = connect(server.addresses[0]);
    let mut stream = connect(server.addresses[0]);
    stream.write_all(b"panic\n").expect("write");
    assert_eq!(rest(&mut stream), "");
    beside.write_all(b"still here\n").expect("write");
    assert_eq!(rest(&mut beside), "still here");
    server.stop();
}
