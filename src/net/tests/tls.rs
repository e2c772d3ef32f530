//! Sessions: what is agreed on, which certificate is shown, and what breaks.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::UnixTime;
use rustls::{CipherSuite, DigitallySignedStruct, HandshakeKind, SignatureScheme};

use super::*;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

/// Implicit TLS, then a line of facts, then an echo.
fn facts_server(shards: u16, config: &TlsConfig) -> Server {
    let config = config.clone();
    let handler = move |mut conn: Conn, _: Arc<ListenerSpec>, _: Option<Refusal>| {
        let config = config.clone();
        async move {
            if conn.accept_tls(&config, soon()).await.is_err() {
                return conn.close(soon()).await;
            }
            let facts = conn.tls().expect("TLS");
            let text = format!(
                "{} {} {} {} {}\n",
                facts.version,
                facts.cipher,
                facts.server_name.as_deref().unwrap_or("-"),
                facts.resumed,
                runtime::shard().0,
            );
            conn.write(text.as_bytes(), soon()).await.expect("write");
            echo(conn).await;
        }
    };
    Server::start(shards, &[spec("imaps")], handler, |_, _| {
        std::future::pending()
    })
}

fn facts(client: &mut TlsClient) -> Vec<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        client.read_exact(&mut byte).expect("a line of facts");
        line.push(byte[0]);
    }
    String::from_utf8(line)
        .expect("text")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn both_versions_carry_data_both_ways() {
    let certs = Certs::new();
    let pair = certs.pair("one", &["mail.example.org"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = tls_of(std::slice::from_ref(&pair));
    let server = facts_server(1, &tls.config(DefaultCert::File(pair.certificate.clone())));
    for (version, name) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let config = client(&[&pair], &[version], |_| {});
        let mut client =
            secure(connect(server.addresses[0]), &config, "mail.example.org").expect("a handshake");
        let got = facts(&mut client);
        assert_eq!(
            (&got[0][..], &got[2][..], &got[3][..]),
            (name, "mail.example.org", "false")
        );
        assert_ne!(got[1], "-");
        for len in [1, 16 << 10, (16 << 10) + 1, 200_000] {
            exchange(&mut client, &bytes(len));
        }
        client.conn.send_close_notify();
        client.flush().expect("flush");
        assert_eq!(rest(&mut client), "");
    }
    server.stop();
}

#[test]
fn certificates_are_chosen_by_name_and_by_what_the_client_can() {
    let certs = Certs::new();
    let rsa = certs.pair("rsa", &["mail.example.org"], &rcgen::PKCS_RSA_SHA256);
    let ecdsa = certs.pair(
        "ecdsa",
        &["mail.example.org"],
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    let other = certs.pair("other", &["*.example.net"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let all = [&rsa, &ecdsa, &other];
    let tls = tls_of(&[rsa.clone(), ecdsa.clone(), other.clone()]);
    let old = |provider: &mut CryptoProvider| {
        let suite = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        provider
            .cipher_suites
            .retain(|offered| offered.suite() == suite);
    };
    let modern = accepting(client(&all, rustls::ALL_VERSIONS, |_| {}));
    let old = accepting(client(&all, &[&rustls::version::TLS12], old));
    let by_host = DefaultCert::Hostname("mail.example.org".to_owned());
    let by_file = DefaultCert::File(other.certificate.clone());
    for (default, config, host, want) in [
        (&by_host, &modern, "mail.example.org", &ecdsa),
        (&by_host, &old, "mail.example.org", &rsa),
        (&by_host, &modern, "Any.Example.net", &other),
        (&by_host, &modern, "two.labels.example.net", &ecdsa),
        (&by_file, &old, "mail.example.org", &rsa),
        (&by_host, &modern, "unknown.example", &ecdsa),
        (&by_host, &old, "unknown.example", &rsa),
        (&by_file, &modern, "unknown.example", &other),
        (&by_file, &modern, "127.0.0.1", &other),
        (&by_file, &old, "127.0.0.1", &rsa),
    ] {
        let server = facts_server(1, &tls.config(default.clone()));
        let mut client = secure(connect(server.addresses[0]), config, host).expect("a handshake");
        facts(&mut client);
        let shown = client.conn.peer_certificates().expect("shown")[0].clone();
        assert_eq!(shown, der(want), "{host} {default:?}");
        drop(client);
        server.stop();
    }
}

/// The same client, content with a certificate for another name.
fn accepting(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(config);
    let verifier = AnyName(config.crypto_provider().clone());
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(verifier));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct AnyName(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_ticket_of_one_shard_resumes_on_another_and_never_carries_early_data() {
    let certs = Certs::new();
    let pair = certs.pair("one", &["mail.example.org"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = tls_of(std::slice::from_ref(&pair));
    let server = facts_server(2, &tls.config(DefaultCert::File(pair.certificate.clone())));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = Arc::unwrap_or_clone(client(&[&pair], &[version], |_| {}));
        config.enable_early_data = true;
        let config = Arc::new(config);
        let mut shards = Vec::new();
        for round in 0..40 {
            let mut client = secure(connect(server.addresses[0]), &config, "mail.example.org")
                .expect("a handshake");
            assert!(
                client.conn.early_data().is_none(),
                "the ticket allows early data"
            );
            assert!(!client.conn.is_early_data_accepted());
            let got = facts(&mut client);
            exchange(&mut client, b"the ticket is here by now");
            let resumed = client.conn.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, round > 0, "{version:?} round {round}");
            assert_eq!(got[3], resumed.to_string());
            shards.push(got[4].clone());
            if shards.windows(2).any(|pair| pair[0] != pair[1]) {
                break;
            }
        }
        assert!(
            shards.windows(2).any(|pair| pair[0] != pair[1]),
            "one shard took all"
        );
    }
    server.stop();
}

#[test]
fn a_reload_reaches_new_connections_and_leaves_old_ones() {
    let certs = Certs::new();
    let old = certs.pair("old", &["mail.example.org"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let new = certs.pair("new", &["mail.example.org"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = tls_of(std::slice::from_ref(&old));
    let server = facts_server(1, &tls.config(DefaultCert::File(old.certificate.clone())));
    let fresh = || client(&[&old, &new], rustls::ALL_VERSIONS, |_| {});
    let shown = |client: &TlsClient| client.conn.peer_certificates().expect("shown")[0].clone();
    let mut before =
        secure(connect(server.addresses[0]), &fresh(), "mail.example.org").expect("a handshake");
    facts(&mut before);
    assert_eq!(shown(&before), der(&old));
    tls.reload(
        CertStore::load(std::slice::from_ref(&new), NOW)
            .expect("a pair")
            .0,
    );
    tls.rotate_ticket_keys().expect("randomness");
    let mut after =
        secure(connect(server.addresses[0]), &fresh(), "mail.example.org").expect("a handshake");
    facts(&mut after);
    assert_eq!(shown(&after), der(&new));
    exchange(&mut before, &bytes(50_000));
    drop((before, after));
    server.stop();
}

#[test]
fn nothing_of_the_plaintext_survives_starttls() {
    let certs = Certs::new();
    let (_, config, trusting) = certs.simple();
    let server = Server::simple(move |mut conn| {
        let config = config.clone();
        async move {
            assert_eq!(line(&mut conn).await.as_deref(), Some("STARTTLS"));
            // The injected command must be here, or the test proves nothing.
            while conn.unread().is_empty() {
                conn.fill(1 << 16, soon()).await.expect("more");
            }
            conn.write(b"go\n", soon()).await.expect("write");
            let dropped = conn.start_tls(&config, soon()).await.expect("a handshake");
            assert!(conn.is_tls());
            let next = line(&mut conn).await.expect("a line");
            let reply = format!("dropped {dropped}, then {next}\n");
            conn.write(reply.as_bytes(), soon()).await.expect("write");
            conn.close(soon()).await;
        }
    });
    let mut stream = connect(server.addresses[0]);
    stream.write_all(b"STARTTLS\nEVIL\n").expect("write");
    let mut go = [0; 3];
    stream.read_exact(&mut go).expect("read");
    let mut client = secure(stream, &trusting, "mail.example.org").expect("a handshake");
    client.write_all(b"GOOD\n").expect("write");
    assert_eq!(rest(&mut client), "dropped 5, then GOOD\n");
    server.stop();
}

#[test]
fn a_client_with_nothing_in_common_is_told_and_described() {
    let certs = Certs::new();
    let (_, config, _) = certs.simple();
    let (sender, faults) = flume::unbounded();
    let server = Server::simple(move |mut conn| {
        let (config, sender) = (config.clone(), sender.clone());
        async move {
            let error = conn
                .accept_tls(&config, soon())
                .await
                .expect_err("no handshake");
            assert!(error.is_handshake());
            sender.send(error.to_string()).expect("a test");
        }
    });
    // TLS 1.2 with RSA key exchange and CBC only, as old copiers do.
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
    let length = |len: usize| [(len >> 8) as u8, len as u8];
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    let record = [&[22, 3, 1][..], &length(message.len()), &message].concat();
    let mut stream = connect(server.addresses[0]);
    stream.write_all(&record).expect("write");
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).expect("read");
    assert_eq!(
        (alert.first(), alert.len()),
        (Some(&21), 7),
        "one alert record: {alert:?}"
    );
    let fault = faults.recv().expect("a fault");
    assert!(
        fault.contains("versions=TLSv1_2 suites=TLS_RSA_WITH_AES_128_CBC_SHA schemes= sni=-"),
        "{fault}"
    );

    // Plain text on a TLS port, and a peer that leaves.
    let mut stream = connect(server.addresses[0]);
    stream.write_all(b"a1 CAPABILITY\r\n").expect("write");
    let _ = stream.read_to_end(&mut alert);
    assert!(
        faults
            .recv()
            .expect("a fault")
            .ends_with("in the TLS handshake")
    );
    drop(connect(server.addresses[0]));
    assert_eq!(
        faults.recv().expect("a fault"),
        "peer left in the TLS handshake"
    );
    server.stop();
}

#[test]
fn unread_plaintext_is_bounded() {
    let certs = Certs::new();
    let (_, config, trusting) = certs.simple();
    const MAX: usize = 1000;
    for secured in [false, true] {
        let config = config.clone();
        let (sender, lengths) = flume::unbounded();
        let server = Server::simple(move |mut conn| {
            let (config, sender) = (config.clone(), sender.clone());
            async move {
                if secured {
                    conn.accept_tls(&config, soon()).await.expect("a handshake");
                }
                let error = loop {
                    match conn.fill(MAX, soon()).await {
                        Ok(Filled::Bytes(bytes)) => assert!(bytes > 0),
                        Ok(Filled::Eof) => panic!("all was read"),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(
                    error,
                    NetError::UnreadFull {
                        unread_bytes_max: MAX
                    }
                ));
                sender.send(conn.unread().len()).expect("a test");
            }
        });
        let flood = vec![b'x'; 300_000];
        let stream = connect(server.addresses[0]);
        if secured {
            let mut client = secure(stream, &trusting, "mail.example.org").expect("a handshake");
            let _ = client.write_all(&flood);
            let held = lengths.recv().expect("a length");
            assert!((MAX..MAX + (40 << 10)).contains(&held), "{held}");
        } else {
            let _ = (&stream).write_all(&flood);
            assert_eq!(lengths.recv().expect("a length"), MAX);
        }
        server.stop();
    }
}

#[test]
fn a_client_that_does_not_read_meets_the_deadline() {
    let certs = Certs::new();
    let (_, config, trusting) = certs.simple();
    for secured in [false, true] {
        let config = config.clone();
        let (sender, results) = flume::unbounded();
        let server = Server::simple(move |mut conn| {
            let (config, sender) = (config.clone(), sender.clone());
            async move {
                if secured {
                    conn.accept_tls(&config, soon()).await.expect("a handshake");
                }
                let until = Deadline::after(runtime::now(), Duration::from_millis(300));
                let mail = vec![b'x'; 30 << 20];
                let written = conn.write(&mail, until).await;
                let late = matches!(written, Err(NetError::Late(Doing::Write)));
                sender
                    .send((late, conn.0.state.unsent.len()))
                    .expect("a test");
            }
        });
        let stream = connect(server.addresses[0]);
        let client = if secured {
            let client = secure(stream, &trusting, "mail.example.org").expect("a handshake");
            (Some(client), None)
        } else {
            (None, Some(stream))
        };
        let (late, unsent) = results.recv().expect("a result");
        assert!(late && unsent < 40 << 10, "late {late}, unsent {unsent}");
        drop(client);
        server.stop();
    }
}

/// IDLE: one task waits for its peer and for news of its shard. News must not cost a byte.
#[test]
fn waiting_for_news_beside_the_peer_loses_nothing() {
    let certs = Certs::new();
    let (_, config, trusting) = certs.simple();
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = rounds.clone();
    let server = Server::simple(move |mut conn| {
        let (config, rounds) = (config.clone(), counted.clone());
        async move {
            conn.accept_tls(&config, soon()).await.expect("a handshake");
            let news = runtime::local::Notify::new();
            let over = Rc::new(RefCell::new(false));
            let (bell, ended) = (news.clone(), over.clone());
            runtime::spawn("bell", async move {
                while !*ended.borrow() {
                    bell.notify_all();
                    runtime::yield_now().await;
                }
            });
            loop {
                let heard = async {
                    news.notified().await;
                    None
                };
                let read = async { Some(conn.readable(soon()).await) };
                match or(heard, read).await {
                    None => _ = rounds.fetch_add(1, Ordering::Relaxed),
                    Some(result) => {
                        result.expect("readable");
                        let unread = conn.unread().to_vec();
                        if unread.is_empty() {
                            break;
                        }
                        conn.consume(unread.len());
                        conn.write(&unread, soon()).await.expect("write");
                    }
                }
            }
            *over.borrow_mut() = true;
        }
    });
    let mut client =
        secure(connect(server.addresses[0]), &trusting, "mail.example.org").expect("a handshake");
    while rounds.load(Ordering::Relaxed) < 100 {
        exchange(&mut client, &bytes(30_000));
        exchange(&mut client, b"DONE\r\n");
    }
    drop(client);
    server.stop();
}

#[test]
fn bad_pairs_are_named_with_a_remedy() {
    let certs = Certs::new();
    let good = certs.pair(
        "good",
        &["mail.example.org"],
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    let other = certs.pair(
        "other",
        &["mail.example.org"],
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    let empty = certs.path("empty.pem");
    std::fs::write(&empty, "").expect("a file");
    let pair = |certificate: &PathBuf, key: &PathBuf| CertPair {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    for (pair, file, words) in [
        (
            pair(&good.certificate, &other.key),
            "other.key",
            "does not belong",
        ),
        (
            pair(&good.certificate, &certs.path("gone.key")),
            "gone.key",
            "readable",
        ),
        (pair(&empty, &good.key), "empty.pem", "no PEM certificate"),
        (pair(&good.certificate, &empty), "empty.pem", "private key"),
        (pair(&good.key, &good.key), "good.key", "no PEM certificate"),
    ] {
        let error = CertStore::load(&[pair], NOW)
            .expect_err("a bad pair")
            .to_string();
        assert!(error.contains(file) && error.contains(words), "{error}");
    }
    assert!(matches!(
        CertStore::load(&[], NOW),
        Err(TlsError::NoneGiven)
    ));
    let (_, warnings) = CertStore::load(&[good], UnixMs(i64::MAX)).expect("still served");
    let warning = warnings[0].to_string();
    assert!(
        warning.contains("good.pem: expired on 4096-01-01"),
        "{warning}"
    );
}

#[test]
fn the_self_signed_pair_is_made_once_for_its_name_and_time() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let tls = directory.path().join("tls");
    let year_ms = 365 * 86_400_000;
    let read = |pair: &CertPair| std::fs::read(&pair.certificate).expect("a file");
    let pair = self_signed(&tls, "mail.example.org", NOW).expect("a pair");
    let (first, mode) = (read(&pair), std::fs::metadata(&pair.key).expect("a file"));
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let again = self_signed(&tls, "mail.example.org", UnixMs(NOW.0 + year_ms)).expect("a pair");
    assert_eq!(read(&again), first);
    let later = UnixMs(NOW.0 + 3 * year_ms);
    let renewed = read(&self_signed(&tls, "mail.example.org", later).expect("a pair"));
    assert_ne!(renewed, first);
    let renamed = read(&self_signed(&tls, "new.example.org", later).expect("a pair"));
    assert_ne!(renamed, renewed);
    std::fs::write(&pair.key, "damaged").expect("a file");
    let repaired = self_signed(&tls, "new.example.org", later).expect("a pair");
    let (_, warnings) = CertStore::load(&[repaired], later).expect("a good pair");
    assert!(warnings.is_empty());
    assert!(self_signed(&tls, "no name\u{e9}", later).is_err());
}
