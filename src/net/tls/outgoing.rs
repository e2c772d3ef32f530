//! TLS to other hosts, on a shard: any certificate is taken, and what it is worth is told.
//!
//! Whether mail may go to a host that could not be verified is not decided here: mail without a
//! policy is better encrypted for a stranger than sent in the clear (RFC 7435 3), and a policy
//! (RFC 8461, RFC 7672) has its own idea of what proves a host. What is always checked is that the
//! peer has the key of the certificate that it shows.
//!
//! Deliberately absent: resumption, whose store in rustls is a lock shared by all shards.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::client::SYSTEM_ROOTS;
use super::error::{TlsError, TlsFault};
use super::session::{Session, TlsFacts};

/// How we do TLS as a client, for all shards. Clones share it.
#[derive(Clone)]
pub struct OutgoingTls {
    config: Arc<ClientConfig>,
    /// `None` where this machine trusts nobody.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

/// The host at the other end, as TLS shows it.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    pub facts: TlsFacts,
    /// The certificates it showed, its own first (DER).
    pub chain: Vec<Vec<u8>>,
    /// Whether the chain leads to an authority that we trust and names the host (RFC 6125).
    pub verified: Result<(), Distrust>,
}

/// Why a host is not proven to be what it is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Distrust {
    /// What it is called cannot stand in a certificate.
    NoName,
    /// This machine has no list of trusted authorities.
    NoAuthorities,
    /// The certificate is not good for it.
    Certificate(CertificateFault),
}

/// What is wrong with a certificate; displays in the words of the TLS library.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFault(pub(super) Error);

/// The sort of a [`Distrust`], for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistrustKind {
    /// Its time is over, or has not begun.
    Time,
    /// It is good, but for another host.
    Name,
    /// Nobody whom we trust vouches for it, or anything else.
    Trust,
}

impl OutgoingTls {
    /// Trusts the authorities of the system and those in `extra` (PEM). Blocking file IO.
    ///
    /// A system without a list is no error: nobody can be verified then, and each session says so.
    pub fn load(extra: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(system) = SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.exists()) {
            // Lists of systems have some that nobody can read any more.
            let known = CertificateDer::pem_file_iter(system).into_iter().flatten();
            known.flatten().for_each(|one| _ = roots.add(one));
        }
        if let Some(path) = extra {
            add_all(path, &mut roots)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(OutgoingTls {
            config: Arc::new(config),
            authorities: verifier.build().ok(),
        })
    }

    /// A session that asks for `host`, or where that is no name for the host at `address`.
    pub(in crate::net) fn session(
        &self,
        host: &str,
        address: Option<IpAddr>,
    ) -> Result<Box<Session>, TlsFault> {
        let name = host_name(host);
        let asked = match &name {
            Some(ServerName::DnsName(name)) => Some(name.as_ref().to_owned()),
            // An address is not sent (RFC 6066 3).
            _ => None,
        };
        // Without a name something must stand there all the same.
        let nobody = || ServerName::from(address.unwrap_or(IpAddr::from([0, 0, 0, 0])));
        let name = name.unwrap_or_else(nobody);
        let rustls = UnbufferedClientConnection::new(self.config.clone(), name)?;
        Ok(Session::client(rustls, asked.as_deref()))
    }

    /// What the certificates of a session that was made for `host` are worth.
    pub(in crate::net) fn judge(&self, session: &Session, host: &str) -> TlsPeer {
        let chain = session.peer_chain();
        TlsPeer {
            facts: session.facts(),
            verified: self.verify(&chain, host),
            chain,
        }
    }

    fn verify(&self, chain: &[Vec<u8>], host: &str) -> Result<(), Distrust> {
        let name = host_name(host).ok_or(Distrust::NoName)?;
        let authorities = self.authorities.as_ref().ok_or(Distrust::NoAuthorities)?;
        let chain: Vec<_> = chain
            .iter()
            .map(|one| CertificateDer::from(&one[..]))
            .collect();
        let none = || Distrust::Certificate(CertificateFault(Error::NoCertificatesPresented));
        let (own, others) = chain.split_first().ok_or_else(none)?;
        authorities
            .verify_server_cert(own, others, &name, &[], UnixTime::now())
            .map(drop)
            .map_err(|error| Distrust::Certificate(CertificateFault(error)))
    }
}

impl Distrust {
    #[must_use]
    pub fn kind(&self) -> DistrustKind {
        use CertificateError as E;
        let Distrust::Certificate(CertificateFault(Error::InvalidCertificate(fault))) = self else {
            return DistrustKind::Trust;
        };
        match fault {
            E::Expired
            | E::ExpiredContext { .. }
            | E::NotValidYet
            | E::NotValidYetContext { .. } => DistrustKind::Time,
            E::NotValidForName | E::NotValidForNameContext { .. } => DistrustKind::Name,
            _ => DistrustKind::Trust,
        }
    }
}

/// A trailing dot is of the DNS, not of the name (RFC 6066 3).
pub(super) fn host_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
}

fn add_all(path: &Path, roots: &mut RootCertStore) -> Result<(), TlsError> {
    let bad = || TlsError::BadCertificate { path: path.into() };
    let bytes = std::fs::read(path).map_err(|error| TlsError::File {
        path: path.into(),
        error,
    })?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        roots
            .add(certificate.map_err(|_| bad())?)
            .map_err(|_| bad())?;
    }
    match roots.len() > before {
        true => Ok(()),
        false => Err(TlsError::NoCertificate { path: path.into() }),
    }
}

/// Takes whatever certificate is shown, if the peer has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for OutgoingTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutgoingTls")
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distrust::NoName => f.write_str("the host has no name to verify"),
            Distrust::NoAuthorities => f.write_str("this machine trusts no certificate authority"),
            Distrust::Certificate(fault) => fault.0.fmt(f),
        }
    }
}
