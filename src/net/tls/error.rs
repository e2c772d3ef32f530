//! What goes wrong with certificates, keys and handshakes.

use std::fmt;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::hello::Offered;
use crate::base::UnixMs;

/// Why the server's own credentials cannot be used. The operator's to mend; the text says how.
#[derive(Debug)]
pub enum TlsError {
    /// The file cannot be read or written.
    File { path: PathBuf, error: io::Error },
    /// The file holds no PEM certificate.
    NoCertificate { path: PathBuf },
    /// The file holds no PEM private key (or an encrypted one).
    NoKey { path: PathBuf },
    /// A certificate that is none, or of an unknown kind.
    BadCertificate { path: PathBuf },
    /// A private key of a kind that rustls cannot use.
    BadKey { path: PathBuf },
    /// The key is not the one that the certificate was made for.
    KeyMismatch { certificate: PathBuf, key: PathBuf },
    /// The certificate's time is over.
    Expired { path: PathBuf, at: UnixMs },
    /// The certificate's time has not begun.
    NotYetValid { path: PathBuf, from: UnixMs },
    /// No certificate is given at all.
    NoneGiven,
    /// The host name cannot stand in a certificate.
    BadHostname { hostname: String },
    /// The system gives no random bytes.
    NoRandom,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, error } => write!(
                f,
                "{}: {error}; the file must be readable before privileges are dropped",
                path.display()
            ),
            TlsError::NoCertificate { path } => write!(
                f,
                "{}: no PEM certificate in it; it must hold the server's certificate first, \
                 then the intermediate ones",
                path.display()
            ),
            TlsError::NoKey { path } => write!(
                f,
                "{}: no usable private key in it; it must be PEM and not encrypted \
                 (openssl pkey -in OLD -out NEW removes a passphrase)",
                path.display()
            ),
            TlsError::BadCertificate { path } => {
                write!(
                    f,
                    "{}: damaged certificate; fetch it from the CA again",
                    path.display()
                )
            }
            TlsError::BadKey { path } => write!(
                f,
                "{}: unusable key; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits",
                path.display()
            ),
            TlsError::KeyMismatch { certificate, key } => write!(
                f,
                "{}: this key does not belong to the first certificate in {}; \
                 check that both were renewed together",
                key.display(),
                certificate.display()
            ),
            TlsError::Expired { path, at } => write!(
                f,
                "{}: expired on {}; renew it, then reload with SIGHUP",
                path.display(),
                date(*at)
            ),
            TlsError::NotYetValid { path, from } => write!(
                f,
                "{}: valid only from {}; check the clock of this host",
                path.display(),
                date(*from)
            ),
            TlsError::NoneGiven => f.write_str("no certificate given"),
            TlsError::BadHostname { hostname } => write!(
                f,
                "hostname {hostname}: it cannot stand in a certificate; use letters, digits, \
                 dots and hyphens"
            ),
            TlsError::NoRandom => f.write_str("the system gives no random bytes"),
        }
    }
}

impl std::error::Error for TlsError {}

fn date(at: UnixMs) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

/// A TLS session broke: a bad record, an alert, or a handshake that found nothing in common.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsFault {
    pub(super) error: rustls::Error,
    /// During the handshake: what the client offered, if it said anything.
    pub offered: Option<Box<Offered>>,
}

impl TlsFault {
    /// True if the client and we have no version, suite or scheme in common: the client is old,
    /// not hostile.
    #[must_use]
    pub fn is_incompatible(&self) -> bool {
        matches!(self.error, rustls::Error::PeerIncompatible(_))
    }

    /// A message or record longer than any real one.
    pub(in crate::net) fn too_long() -> Self {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::HandshakePayloadTooLarge).into()
    }

    /// True if the client ended it with an alert, most often because it rejects our certificate.
    #[must_use]
    pub fn is_alert(&self) -> bool {
        matches!(self.error, rustls::Error::AlertReceived(_))
    }
}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        TlsFault {
            error,
            offered: None,
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        match &self.offered {
            Some(offered) => write!(f, " {offered}"),
            None => Ok(()),
        }
    }
}
