//! Private keys, and what is public of them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use serde::{Deserialize, Serialize};

/// RFC 8301 3.2: signers use at least 2048 bits; verifiers need not take more than 4096.
const RSA_BYTES_MIN: usize = 256;
const RSA_BYTES_MAX: usize = 512;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RFC 6376 3.3.1.
    #[serde(rename = "rsa-sha256")]
    Rsa,
    /// RFC 8463 3.
    #[serde(rename = "ed25519-sha256")]
    Ed25519,
}

/// Octets that are no key of that algorithm, or one that is too short or too long to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

/// A private key. It can sign, and nothing prints it.
pub struct SigningKey(Inner);

enum Inner {
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Algorithm {
    /// The word for `a=` (RFC 6376 3.5).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::Ed25519 => "ed25519-sha256",
        }
    }

    /// The word for `k=` in the key's record (RFC 6376 3.6.1).
    #[must_use]
    pub fn key_type(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl SigningKey {
    /// Reads a private key in PKCS #8.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, BadKey> {
        let inner = match algorithm {
            Algorithm::Rsa => {
                let pair = rsa::KeyPair::from_pkcs8(pkcs8).map_err(|_| BadKey)?;
                if !(RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&pair.public_modulus_len()) {
                    return Err(BadKey);
                }
                Inner::Rsa(pair)
            }
            Algorithm::Ed25519 => {
                Inner::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| BadKey)?)
            }
        };
        Ok(SigningKey(inner))
    }

    #[cfg(test)]
    pub(super) fn from_seed(seed: &[u8]) -> Self {
        SigningKey(Inner::Ed25519(
            Ed25519KeyPair::from_seed_unchecked(seed).expect("32 octets"),
        ))
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Rsa(_) => Algorithm::Rsa,
            Inner::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Size, for people: RSA keys come in several.
    #[must_use]
    pub fn bits(&self) -> usize {
        match &self.0 {
            Inner::Rsa(pair) => pair.public_modulus_len() * 8,
            Inner::Ed25519(_) => 256,
        }
    }

    /// What goes into `p=`: for RSA a SubjectPublicKeyInfo, which is what verifiers read and
    /// RFC 6376 3.6.1's examples have; for Ed25519 the bare key (RFC 8463 4).
    pub fn public(&self) -> Result<Vec<u8>, BadKey> {
        match &self.0 {
            Inner::Rsa(pair) => {
                let der = pair.public_key().as_der().map_err(|_| BadKey)?;
                Ok(der.as_ref().to_vec())
            }
            Inner::Ed25519(pair) => Ok(pair.public_key().as_ref().to_vec()),
        }
    }

    /// Signs the canonical header.
    pub(super) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, BadKey> {
        match &self.0 {
            Inner::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                // PKCS #1 v1.5 draws nothing from it.
                let random = SystemRandom::new();
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature);
                signed.map(|()| signature).map_err(|_| BadKey)
            }
            // RFC 8463 3: the hash is what is signed.
            Inner::Ed25519(pair) => {
                let hash = digest(&SHA256, input);
                let signed = pair.try_sign(hash.as_ref()).map_err(|_| BadKey)?;
                Ok(signed.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

/// Whether `text` can name a key: labels of letters, digits and hyphens (RFC 6376 3.1), and short
/// enough that the key's record has a name.
#[must_use]
pub fn is_selector(text: &str) -> bool {
    const SELECTOR_BYTES_MAX: usize = 63;
    let is_label = |label: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= SELECTOR_BYTES_MAX && text.split('.').all(is_label)
}
