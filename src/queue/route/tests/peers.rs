//! Web servers and mail hosts on ports of their own, each served by a thread.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A self-signed certificate, and the file that makes it trusted.
pub struct Certificate {
    directory: tempfile::TempDir,
    config: Arc<ServerConfig>,
    pub der: Vec<u8>,
}

/// One that serves a number of connections.
pub struct Peer {
    pub port: u16,
    thread: JoinHandle<()>,
}

type Secured = StreamOwned<ServerConnection, TcpStream>;

impl Certificate {
    /// For these names, with blanks between.
    pub fn new(names: &str) -> Certificate {
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("a file");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
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

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

impl Peer {
    /// A web server with these answers, one a connection.
    pub fn web(certificate: &Certificate, answers: &[&str]) -> Peer {
        let config = certificate.config.clone();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        Peer::start(answers.len(), move |stream, n| {
            let mut stream = BufReader::new(secured(stream, &config));
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                if !matches!(stream.read_line(&mut request), Ok(1..)) {
                    // Who does not trust us asks for nothing.
                    return;
                }
            }
            assert!(
                request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(
                request.contains("\r\nHost: mta-sts.d.test\r\n"),
                "{request}"
            );
            // What is too long is not read to its end.
            let _ = stream.get_mut().write_all(answers[n].as_bytes());
            let _ = stream.get_mut().flush();
        })
    }

    /// A web server that reports are posted to, with these answers, one a connection.
    pub fn reports(certificate: &Certificate, body: &'static [u8], answers: &[&str]) -> Peer {
        let config = certificate.config.clone();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        Peer::start(answers.len(), move |stream, n| {
            let mut stream = BufReader::new(secured(stream, &config));
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                if !matches!(stream.read_line(&mut request), Ok(1..)) {
                    return;
                }
            }
            let length = format!("\r\nContent-Length: {}\r\n", body.len());
            let first = "POST /v1?of=d HTTP/1.1\r\nHost: reports.d.test\r\n";
            let kind = "\r\nContent-Type: application/tlsrpt+gzip\r\n";
            assert!(request.starts_with(first), "{request}");
            assert!(
                request.contains(&length) && request.contains(kind),
                "{request}"
            );
            let mut got = vec![0; body.len()];
            stream.read_exact(&mut got).expect("a body");
            assert_eq!(got, body);
            let _ = stream.get_mut().write_all(answers[n].as_bytes());
            let _ = stream.get_mut().flush();
        })
    }

    /// A mail host with STARTTLS and REQUIRETLS, which is left before any mail.
    pub fn mail(certificate: &Certificate, connections: usize) -> Peer {
        let config = certificate.config.clone();
        Peer::start(connections, move |stream, _| {
            let mut plain = BufReader::new(stream);
            greet(&mut plain, "220 mx\r\n", "");
            greet(&mut plain, "", "250-mx\r\n250 STARTTLS\r\n");
            greet(&mut plain, "", "220 go\r\n");
            let mut stream = BufReader::new(secured(plain.into_inner(), &config));
            greet(&mut stream, "", "250-mx\r\n250 REQUIRETLS\r\n");
            let mut rest = String::new();
            let _ = stream.read_line(&mut rest);
        })
    }

    fn start(connections: usize, serve: impl Fn(TcpStream, usize) + Send + 'static) -> Peer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let thread = std::thread::spawn(move || {
            for n in 0..connections {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("an option");
                stream.set_write_timeout(Some(PATIENCE)).expect("an option");
                serve(stream, n);
            }
        });
        Peer { port, thread }
    }

    /// All connections came.
    pub fn join(self) {
        self.thread.join().expect("the peer saw what it expected");
    }
}

fn secured(stream: TcpStream, config: &Arc<ServerConfig>) -> Secured {
    let session = ServerConnection::new(config.clone()).expect("a session");
    StreamOwned::new(session, stream)
}

/// Says the one, reads a line unless there is nothing to answer, says the other.
fn greet<S: std::io::Read + Write>(stream: &mut BufReader<S>, first: &str, answer: &str) {
    let _ = stream.get_mut().write_all(first.as_bytes());
    if !answer.is_empty() {
        let mut line = String::new();
        let _ = stream.read_line(&mut line);
        let _ = stream.get_mut().write_all(answer.as_bytes());
    }
    let _ = stream.get_mut().flush();
}
