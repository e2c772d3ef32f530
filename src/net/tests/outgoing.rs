//! Connections of our own, to a server of our own.

use super::*;
use crate::runtime::block_on;

/// An echo over TLS.
fn echo_server(certs: &Certs) -> (Server, PathBuf) {
    let pair = certs.pair("one", &["mail.example.org"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = tls_of(std::slice::from_ref(&pair));
    let config = tls.config(DefaultCert::File(pair.certificate.clone()));
    let server = Server::simple(move |mut conn| {
        let config = config.clone();
        async move {
            match conn.accept_tls(&config, soon()).await {
                Ok(()) => echo(conn).await,
                Err(_) => conn.close(soon()).await,
            }
        }
    });
    (server, pair.certificate)
}

/// What TLS found at `host`, after some data went there and back.
fn visit(to: SocketAddr, authorities: Option<PathBuf>, host: &'static str) -> TlsPeer {
    let visit = async move {
        let tls = OutgoingTls::load(authorities.as_deref()).expect("a good file");
        let mut conn = crate::net::connect(to, None, soon())
            .await
            .expect("a connection");
        let peer = conn.start_tls_client(&tls, host, soon()).await;
        let peer = peer.expect("a handshake");
        assert!(conn.is_tls());
        for round in 0..20_u8 {
            let data = vec![round; 10_000];
            conn.write(&data, soon()).await.expect("sent");
            while conn.unread().len() < data.len() {
                conn.fill(1 << 16, soon()).await.expect("an echo");
            }
            assert!(conn.unread() == data, "not what was sent");
            conn.consume(data.len());
        }
        conn.close(soon()).await;
        peer
    };
    block_on(visit).expect("a shard")
}

#[test]
fn anybody_is_taken_and_told() {
    let certs = Certs::new();
    let (server, file) = echo_server(&certs);
    let to = server.addresses[0];
    let trusted = || Some(file.clone());
    let good = visit(to, trusted(), "mail.example.org");
    assert_eq!(good.verified, Ok(()));
    assert_eq!((good.facts.version, good.facts.resumed), ("TLSv1.3", false));
    assert_eq!(good.chain.len(), 1);
    // Nobody is remembered: each handshake shows its certificates.
    assert_eq!(visit(to, trusted(), "mail.example.org").chain, good.chain);
    let other = visit(to, trusted(), "other.example.org");
    assert!(matches!(other.verified, Err(Distrust::Certificate(_))));
    assert_eq!(
        other.facts.server_name.as_deref(),
        Some("other.example.org")
    );
    assert!(visit(to, None, "mail.example.org").verified.is_err());
    let address = visit(to, trusted(), "127.0.0.1");
    assert!(address.verified.is_err());
    server.stop();
}

#[test]
fn authorities_that_are_none() {
    let certs = Certs::new();
    let file = certs.path("none.pem");
    let gone = OutgoingTls::load(Some(&file)).expect_err("no file");
    assert!(matches!(gone, TlsError::File { .. }), "{gone}");
    std::fs::write(&file, "").expect("a file");
    let empty = OutgoingTls::load(Some(&file)).expect_err("nothing in it");
    assert!(matches!(empty, TlsError::NoCertificate { .. }), "{empty}");
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&file, text).expect("a file");
    let bad = OutgoingTls::load(Some(&file)).expect_err("no certificate");
    assert!(matches!(bad, TlsError::BadCertificate { .. }), "{bad}");
}

#[test]
fn a_server_that_speaks_no_tls() {
    let server = Server::simple(|mut conn| async move {
        let _ = conn.write(b"220 mx\r\n", soon()).await;
        conn.close(soon()).await;
    });
    let to = server.addresses[0];
    let visit = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let mut conn = crate::net::connect(to, None, soon())
            .await
            .expect("a connection");
        let failed = conn
            .start_tls_client(&tls, "mail.example.org", soon())
            .await;
        let error = failed.expect_err("no handshake");
        assert!(error.is_handshake(), "{error}");
        assert!(error.tls().is_some(), "{error}");
    };
    block_on(visit).expect("a shard");
    server.stop();
}
