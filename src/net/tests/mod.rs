//! The room as a whole: real sockets on real shards, judged by blocking clients on threads.

mod accept;
mod handover;
mod outgoing;
mod tls;

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::or;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::*;
use crate::base::{Deadline, ShardId, UnixMs};
use crate::runtime::{self, Gate, Plan, Shards, Stop};

/// The time at which the tests' certificates are judged.
const NOW: UnixMs = UnixMs(1_790_000_000_000);

pub(super) fn soon() -> Deadline {
    Deadline::after(runtime::now(), Duration::from_secs(20))
}

pub(super) fn spec(protocol: &'static str) -> ListenerSpec {
    ListenerSpec {
        protocol,
        address: Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
        hostname: "mail.example.org".to_owned(),
        implicit_tls: false,
        auth: AuthRole::Offered,
        trusted_networks: Networks::default(),
        proxy_protocol: false,
        proxy_networks: Networks::default(),
        limits: Limits {
            connections_max: 10_000,
            connections_per_address_max: 10_000,
        },
    }
}

/// Shards that serve listeners until stopped.
pub(super) struct Server {
    pub addresses: Vec<SocketAddr>,
    pub counters: Vec<Arc<ListenerCounters>>,
    stop: Stop,
    shards: Shards,
}

impl Server {
    /// `handler` serves every connection; `more` runs beside it on every shard.
    pub fn start<H, F, M, N>(shards: u16, specs: &[ListenerSpec], handler: H, more: M) -> Server
    where
        H: Fn(Conn, Arc<ListenerSpec>, Option<Refusal>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
        M: Fn(ShardId, Gate) -> N + Clone + Send + 'static,
        N: Future<Output = ()> + 'static,
    {
        let opened = open(specs, shards, Vec::new()).expect("loopback ports");
        let address = |opened: &Opened| match &opened.address {
            Address::Tcp(address) => *address,
            Address::Unix { .. } => unreachable!("TCP only here"),
        };
        let addresses = opened[0].iter().map(address).collect();
        let counters = opened[0].iter().map(Opened::counters).collect();
        let opened: Arc<Mutex<Vec<_>>> =
            Arc::new(Mutex::new(opened.into_iter().map(Some).collect()));
        let stop = Stop::new();
        let counts = AddressCounts::default();
        let body = {
            let stop = stop.clone();
            move |shard: ShardId| {
                let mine = opened.lock().expect("no panic")[usize::from(shard.0)].take();
                let (stop, counts) = (stop.clone(), counts.clone());
                let (handler, more) = (handler.clone(), more.clone());
                async move {
                    let gate = Gate::new();
                    for opened in mine.expect("each shard once") {
                        let accept =
                            accept_loop(opened, counts.clone(), gate.clone(), handler.clone());
                        runtime::spawn("accept", async { accept.await.expect("a socket") });
                    }
                    or(more(shard, gate.clone()), stop.raised()).await;
                    gate.close(soon()).await.expect("all tasks have ended");
                }
            }
        };
        let plan = Plan {
            shards,
            cores: vec![],
        };
        let shards = runtime::start(&plan, body).expect("shards");
        Server {
            addresses,
            counters,
            stop,
            shards,
        }
    }

    /// Of one listener, one shard.
    pub fn simple<H, F>(handler: H) -> Server
    where
        H: Fn(Conn) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let handler = move |conn, _: Arc<ListenerSpec>, _: Option<Refusal>| handler(conn);
        Server::start(1, &[spec("test")], handler, |_, _| std::future::pending())
    }

    pub fn stop(self) {
        self.stop.raise();
        self.shards.join().expect("no shard panicked");
    }
}

/// Echoes until the end, beginning with what was read before.
pub(super) async fn echo(mut conn: Conn) {
    let mut reply = Vec::new();
    loop {
        reply.extend_from_slice(conn.unread());
        conn.consume(reply.len());
        if conn.write_all_of(&mut reply, soon()).await.is_err() {
            return;
        }
        match conn.fill(1 << 16, soon()).await {
            Ok(Filled::Bytes(bytes)) => assert_eq!(bytes, conn.unread().len()),
            _ => return conn.close(soon()).await,
        }
    }
}

/// The next line of `conn` without its end, or `None` at the end.
pub(super) async fn line(conn: &mut Conn) -> Option<String> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', conn.unread()) {
            let line = String::from_utf8_lossy(&conn.unread()[..end]).into_owned();
            conn.consume(end + 1);
            return Some(line);
        }
        match conn.fill(1 << 16, soon()).await {
            Ok(Filled::Bytes(_)) => {}
            _ => return None,
        }
    }
}

/// A certificate authority's directory: self-signed pairs, and the roots that trust them.
pub(super) struct Certs {
    directory: tempfile::TempDir,
}

impl Certs {
    pub fn new() -> Certs {
        Certs {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new pair in `NAME.pem` and `NAME.key`.
    pub fn pair(&self, name: &str, hosts: &[&str], kind: &'static SignatureAlgorithm) -> CertPair {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).expect("names");
        let key = KeyPair::generate_for(kind).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let pair = CertPair {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, certificate.pem()).expect("a file");
        std::fs::write(&pair.key, key.serialize_pem()).expect("a file");
        pair
    }

    /// The server's side, and a client that trusts it.
    pub fn simple(&self) -> (Tls, TlsConfig, Arc<ClientConfig>) {
        let pair = self.pair(
            "simple",
            &["mail.example.org"],
            &rcgen::PKCS_ECDSA_P256_SHA256,
        );
        let tls = tls_of(std::slice::from_ref(&pair));
        let config = tls.config(DefaultCert::Hostname("mail.example.org".to_owned()));
        let client = client(&[&pair], rustls::ALL_VERSIONS, |_| {});
        (tls, config, client)
    }
}

pub(super) fn tls_of(pairs: &[CertPair]) -> Tls {
    let (store, warnings) = CertStore::load(pairs, NOW).expect("good pairs");
    assert!(warnings.is_empty(), "{warnings:?}");
    Tls::new(store).expect("randomness")
}

pub(super) fn der(pair: &CertPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&pair.certificate).expect("a certificate")
}

/// A client that trusts `pairs`; `restrict` may take away what it can do.
pub(super) fn client(
    pairs: &[&CertPair],
    versions: &[&'static SupportedProtocolVersion],
    restrict: impl FnOnce(&mut CryptoProvider),
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(der(pair)).expect("a root");
    }
    let mut provider = aws_lc_rs::default_provider();
    restrict(&mut provider);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

pub(super) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Connects in the clear; nothing waits for ever.
pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connect");
    stream.set_nodelay(true).expect("an option");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("an option");
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .expect("an option");
    stream
}

/// Does the handshake on `stream`.
pub(super) fn secure(
    mut stream: TcpStream,
    config: &Arc<ClientConfig>,
    host: &str,
) -> io::Result<TlsClient> {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut session = ClientConnection::new(config.clone(), name).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Sends `data` and wants it back.
pub(super) fn exchange(stream: &mut (impl Read + Write), data: &[u8]) {
    stream.write_all(data).expect("write");
    stream.flush().expect("flush");
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).expect("read");
    assert!(back == data, "not what was sent");
}

/// Reads to the end; a connection cut without close_notify has ended too.
pub(super) fn rest(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => panic!("{error}"),
        _ => String::from_utf8(text).expect("text"),
    }
}
