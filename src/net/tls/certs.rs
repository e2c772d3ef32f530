//! Certificates and keys from PEM files, and which of them a client is shown.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm, SupportedCipherSuite};

use super::error::TlsError;
use super::x509;
use crate::base::UnixMs;

/// Where a certificate chain and its private key lie, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertPair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Which certificate a listener shows where SNI names none that we have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultCert {
    /// The one for this host name, else the first.
    Hostname(String),
    /// The one from this file, else the first.
    File(PathBuf),
}

/// All certificates of the server: an immutable snapshot, replaced as a whole on reload.
#[derive(Debug)]
pub struct CertStore {
    /// In the order of preference within a name: ECDSA and Ed25519 before RSA, which costs the
    /// server twenty times as much.
    entries: Vec<Arc<CertifiedKey>>,
    /// Name, or wildcard name without its `*`, to entries.
    by_name: HashMap<String, Vec<usize>>,
    by_file: HashMap<PathBuf, usize>,
    /// The entries of the pair that was given first.
    first: Vec<usize>,
    provider: Arc<CryptoProvider>,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    pub names: Vec<String>,
    pub valid: RangeInclusive<UnixMs>,
}

/// One pair, read and checked.
pub(super) struct Loaded {
    pub key: CertifiedKey,
    pub names: Vec<String>,
    pub valid: RangeInclusive<UnixMs>,
}

/// Reads and checks one pair. Its validity is left to the caller to judge.
pub(super) fn load(pair: &CertPair) -> Result<Loaded, TlsError> {
    let path = || pair.certificate.clone();
    let chain = CertificateDer::pem_slice_iter(&read(&pair.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::NoCertificate { path: path() })?;
    let first = chain
        .first()
        .ok_or_else(|| TlsError::NoCertificate { path: path() })?;
    let summary = x509::summary(first).ok_or_else(|| TlsError::BadCertificate { path: path() })?;
    let key = PrivateKeyDer::from_pem_slice(&read(&pair.key)?).map_err(|_| TlsError::NoKey {
        path: pair.key.clone(),
    })?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    let key = key.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch {
            certificate: path(),
            key: pair.key.clone(),
        },
        Error::InvalidCertificate(_) => TlsError::BadCertificate { path: path() },
        _ => TlsError::BadKey {
            path: pair.key.clone(),
        },
    })?;
    Ok(Loaded {
        key,
        names: summary.names,
        valid: summary.valid,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        error,
    })
}

impl CertStore {
    /// Reads and checks one pair without keeping it. Blocking file IO.
    pub fn inspect(pair: &CertPair) -> Result<CertFacts, TlsError> {
        load(pair).map(|Loaded { names, valid, .. }| CertFacts { names, valid })
    }

    /// Reads all `pairs`; the first is the default of the default. Blocking file IO.
    ///
    /// A certificate outside its time is used all the same, since a server that is down helps
    /// nobody: it is returned beside the store, to be logged loudly and shown by `check`.
    pub fn load(pairs: &[CertPair], now: UnixMs) -> Result<(Self, Vec<TlsError>), TlsError> {
        let mut loaded = Vec::with_capacity(pairs.len());
        let mut warnings = Vec::new();
        for pair in pairs {
            let one = load(pair)?;
            let path = pair.certificate.clone();
            if now > *one.valid.end() {
                warnings.push(TlsError::Expired {
                    path,
                    at: *one.valid.end(),
                });
            } else if now < *one.valid.start() {
                warnings.push(TlsError::NotYetValid {
                    path,
                    from: *one.valid.start(),
                });
            }
            loaded.push((pair.certificate.clone(), one));
        }
        let Some((_, first)) = loaded.first() else {
            return Err(TlsError::NoneGiven);
        };
        let first_names = first.names.clone();
        let first_path = pairs[0].certificate.clone();
        // The sort is stable: within a kind the operator's order stands.
        loaded.sort_by_key(|(_, one)| one.key.key.algorithm() == SignatureAlgorithm::RSA);
        let mut store = CertStore {
            entries: Vec::new(),
            by_name: HashMap::new(),
            by_file: HashMap::new(),
            first: Vec::new(),
            provider: Arc::new(aws_lc_rs::default_provider()),
        };
        for (path, one) in loaded {
            let at = store.entries.len();
            for name in one.names.iter().map(|name| name.trim_start_matches('*')) {
                store.by_name.entry_ref(name).or_default().push(at);
            }
            if path == first_path || one.names.iter().any(|name| first_names.contains(name)) {
                store.first.push(at);
            }
            store.by_file.insert(path, at);
            store.entries.push(Arc::new(one.key));
        }
        Ok((store, warnings))
    }

    /// The certificate for a client: by its SNI, else the listener's own, else the first; among
    /// those, the one whose key the client can use.
    pub(super) fn choose(
        &self,
        hello: &ClientHello<'_>,
        default: &DefaultCert,
    ) -> Option<Arc<CertifiedKey>> {
        let by_name = hello.server_name().and_then(|name| self.named(name));
        // Without a name of ours any certificate is a guess; one that the client can use is best.
        let (likely, otherwise) = match (by_name, self.default_entries(default)) {
            (Some(named), _) => (named, &[][..]),
            (None, Some(default)) => (default, &self.first[..]),
            (None, None) => (&self.first[..], &[][..]),
        };
        let keys = || likely.iter().chain(otherwise).map(|at| &self.entries[*at]);
        // Where none fits, rustls says so to the client and to the log.
        keys()
            .find(|key| self.usable(key, hello))
            .or_else(|| keys().next())
            .cloned()
    }

    fn default_entries(&self, default: &DefaultCert) -> Option<&[usize]> {
        match default {
            DefaultCert::Hostname(hostname) => self.named(hostname),
            DefaultCert::File(path) => self.by_file.get(path).map(std::slice::from_ref),
        }
    }

    /// RFC 6125 6.4.3: exact, then a wildcard in place of the whole first label.
    fn named(&self, name: &str) -> Option<&[usize]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || {
            name.find('.')
                .and_then(|dot| self.by_name.get(&name[dot..]))
        };
        self.by_name.get(&name).or_else(wildcard).map(Vec::as_slice)
    }

    /// A TLS 1.2 client may know the signature scheme yet offer no suite that goes with the key.
    fn usable(&self, key: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
        let suite_fits = |suite: &SupportedCipherSuite| match suite {
            SupportedCipherSuite::Tls13(_) => true,
            SupportedCipherSuite::Tls12(tls12) => key.key.choose_scheme(tls12.sign).is_some(),
        };
        key.key.choose_scheme(hello.signature_schemes()).is_some()
            && (self.provider.cipher_suites.iter())
                .filter(|suite| hello.cipher_suites().contains(&suite.suite()))
                .any(suite_fits)
    }
}
