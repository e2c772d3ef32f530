//! TLS with scripted peers: whom we find, and what a broken handshake says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::sockets::{GOOD, Peer, line, say, serve};
use super::{letter, terms, told};
use crate::net::OutgoingTls;
use crate::queue::client::{Client, Security, Terms, TlsState};
use crate::runtime::block_on;

/// A certificate for `mx.example.org`, and the file that makes it trusted.
struct Certificate {
    directory: tempfile::TempDir,
    config: Arc<ServerConfig>,
    der: Vec<u8>,
}

impl Certificate {
    fn new(versions: Versions<'_>) -> Certificate {
        let params = CertificateParams::new(vec!["mx.example.org".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("a file");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a pair");
        Certificate {
            directory,
            config: Arc::new(config),
            der: certificate.der().to_vec(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

type Versions<'a> = &'a [&'static SupportedProtocolVersion];

const STARTTLS: &str = "250-mx\r\n250-PIPELINING\r\n250 STARTTLS";

/// Up to the answer to STARTTLS.
fn begin(stream: &mut TcpStream) {
    say(stream, "220 mx");
    assert_eq!(line(stream).as_deref(), Some("EHLO me.test"));
    say(stream, STARTTLS);
    assert_eq!(line(stream).as_deref(), Some("STARTTLS"));
    say(stream, "220 go");
}

/// After TLS the hop does not greet again.
fn secured(stream: TcpStream, config: &Arc<ServerConfig>) -> Vec<String> {
    let session = ServerConnection::new(config.clone()).expect("a session");
    let mut stream = StreamOwned::new(session, stream);
    assert_eq!(line(&mut stream).as_deref(), Some("EHLO me.test"));
    let letters = serve(&mut stream, "250-mx\r\n250 PIPELINING", GOOD);
    stream.conn.send_close_notify();
    let _ = stream.conn.write_tls(&mut stream.sock);
    letters
}

/// One letter; tells what TLS came to, and the letter.
fn attempt(peer: &Peer, terms: Terms, authorities: Option<PathBuf>, content: Vec<u8>) -> String {
    let address = peer.address;
    let walk = async move {
        let tls = OutgoingTls::load(authorities.as_deref()).expect("a good file");
        let mut client = match Client::open(address, None, Rc::new(terms), &tls).await {
            Ok(client) => client,
            Err(unopened) => return unopened.trouble.to_string(),
        };
        let TlsState::Secured(found) = &client.facts().tls else {
            panic!("no TLS");
        };
        let found = match &found.verified {
            Ok(()) => format!("{} verified", found.facts.version),
            Err(why) => format!("{} {why}", found.facts.version),
        };
        let letter = Rc::new(letter("<a@a.test>", &["<b@b.test>"]));
        let report = client.send(letter, &mut &content[..]).await;
        client.quit().await;
        format!("{found}, {}", told(&report))
    };
    block_on(walk).expect("a shard")
}

fn asked(security: Security, host: &str) -> Terms {
    Terms {
        security,
        host: host.to_owned(),
        ..terms()
    }
}

#[test]
fn whoever_is_there_is_told() {
    let both = rustls::ALL_VERSIONS;
    let check = |versions: Versions<'_>, security, host: &str, is_trusted: bool, want: &str| {
        let certificate = Certificate::new(versions);
        let config = certificate.config.clone();
        let is_secured = !want.starts_with("the host is not verified");
        let peer = Peer::start(1, move |mut stream| {
            begin(&mut stream);
            if is_secured {
                assert_eq!(secured(stream, &config), ["Hi\n"]);
            } else {
                let session = ServerConnection::new(config.clone()).expect("a session");
                let mut stream = StreamOwned::new(session, stream);
                // Not a word to whom is not who it should be.
                assert_eq!(line(&mut stream), None);
            }
        });
        let trusted = is_trusted.then(|| certificate.file());
        let told = attempt(&peer, asked(security, host), trusted, b"Hi\r\n".to_vec());
        assert!(told.starts_with(want), "{told}, and not {want}");
        let is_verified = |told: &str| told.contains(" verified,");
        assert_eq!(is_verified(&told), is_verified(want), "{told}");
        peer.join();
    };
    let good = "TLSv1.3 verified, delivered 250";
    check(both, Security::Verified, "mx.example.org", true, good);
    check(both, Security::Opportunistic, "mx.example.org.", true, good);
    let old = &[&rustls::version::TLS12];
    let told = "TLSv1.2 verified, delivered 250";
    check(old, Security::Verified, "MX.example.org", true, told);
    let stranger = "TLSv1.3 invalid peer certificate: ";
    check(
        both,
        Security::Opportunistic,
        "other.example",
        true,
        stranger,
    );
    check(
        both,
        Security::Encrypted,
        "mx.example.org",
        false,
        "TLSv1.3 ",
    );
    let nobody = "TLSv1.3 the host has no name to verify, delivered 250";
    check(both, Security::Opportunistic, "no name", true, nobody);
    let refused = "the host is not verified: invalid peer certificate: ";
    check(
        both,
        Security::Verified,
        "mx.example.org",
        false,
        "the host is not verified: ",
    );
    check(both, Security::Verified, "other.example", true, refused);
}

/// DANE wants the certificates as they were shown.
#[test]
fn the_chain_is_told() {
    let certificate = Certificate::new(rustls::ALL_VERSIONS);
    let config = certificate.config.clone();
    let peer = Peer::start(1, move |mut stream| {
        begin(&mut stream);
        secured(stream, &config);
    });
    let (address, der) = (peer.address, certificate.der.clone());
    let walk = async move {
        let tls = OutgoingTls::load(None).expect("no file is named");
        let terms = Rc::new(asked(Security::Encrypted, "mx.example.org"));
        let client = Client::open(address, None, terms, &tls).await;
        let client = client.unwrap_or_else(|unopened| panic!("{}", unopened.trouble));
        let TlsState::Secured(found) = &client.facts().tls else {
            panic!("no TLS");
        };
        assert_eq!(found.chain, [der]);
        assert_eq!(found.facts.server_name.as_deref(), Some("mx.example.org"));
        client.quit().await;
    };
    block_on(walk).expect("a shard");
    peer.join();
}

/// More than fits into any buffer, both ways through TLS.
#[test]
fn much_content() {
    let certificate = Certificate::new(rustls::ALL_VERSIONS);
    let config = certificate.config.clone();
    let text = "0123456789\n".repeat(100_000);
    let want = text.clone();
    let peer = Peer::start(1, move |mut stream| {
        begin(&mut stream);
        let letters = secured(stream, &config);
        assert!(letters == [want.as_str()], "not what was sent");
    });
    let terms = asked(Security::Opportunistic, "mx.example.org");
    let told = attempt(&peer, terms, Some(certificate.file()), text.into_bytes());
    assert_eq!(told, "TLSv1.3 verified, delivered 250");
    peer.join();
}

#[test]
fn a_broken_handshake_is_told() {
    let check = |serve: fn(TcpStream), want: &str| {
        let peer = Peer::start(1, move |mut stream| {
            begin(&mut stream);
            serve(stream);
        });
        let terms = asked(Security::Opportunistic, "mx.example.org");
        let told = attempt(&peer, terms, None, Vec::new());
        assert!(told.contains(want), "{told}, and not {want}");
        assert!(told.starts_with("TLS failed: "), "{told}");
        peer.join();
    };
    check(
        |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            say(&mut stream, "what is this?");
        },
        "corrupt message",
    );
    check(
        |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            // A fatal alert: handshake_failure.
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]);
        },
        "HandshakeFailure",
    );
    check(
        |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
        },
        "peer left in the TLS handshake",
    );
}
