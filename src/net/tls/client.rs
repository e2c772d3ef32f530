//! The client's side, for commands that ask a server from outside as its users do. Blocks, and so
//! belongs to the main thread of such a command; a serving shard has no use for it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Where systems keep the certificates of the authorities they trust.
pub(super) const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A connection to a server whose certificate was checked.
pub struct ClientStream(StreamOwned<ClientConnection, TcpStream>);

impl ClientStream {
    /// Shakes hands over `stream`. The certificate must name `host` and come from an authority
    /// in `roots`, or be itself in that file; without `roots` the system's authorities count.
    pub fn connect(
        mut stream: TcpStream,
        host: &str,
        roots: Option<&Path>,
    ) -> io::Result<ClientStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(trusted(roots)?)
            .with_no_client_auth();
        let mut session =
            ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        // Now, so that a certificate that is refused is told as what it is.
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(ClientStream(StreamOwned::new(session, stream)))
    }
}

fn trusted(roots: Option<&Path>) -> io::Result<RootCertStore> {
    let path = match roots {
        Some(path) => path.to_owned(),
        None => {
            let known = SYSTEM_ROOTS.iter().map(PathBuf::from);
            known
                .into_iter()
                .find(|path| path.exists())
                .ok_or_else(|| {
                    io::Error::other("this machine has no list of trusted authorities; name a file")
                })?
        }
    };
    let told =
        |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| told(&error))? {
        let certificate = certificate.map_err(|error| told(&error))?;
        // Lists of systems have some that nobody can read any more.
        if let Err(error) = store.add(certificate)
            && roots.is_some()
        {
            return Err(told(&error));
        }
    }
    match store.is_empty() {
        true => Err(told(&"no certificate in it")),
        false => Ok(store),
    }
}

impl Read for ClientStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for ClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
