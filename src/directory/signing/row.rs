//! How keys and secrets stand in generic records: docs/DIRECTORY.md.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::base::UnixMs;
use crate::directory::record::Unreadable;
use crate::policy::dkim::{Algorithm, KeyRecord, SigningKey};
use crate::policy::srs::Srs;
use crate::store::ValueChange;

pub const DKIM: &str = "dkim";
pub const DKIM_PRIVATE: &str = "dkim-private";
pub const SECRET: &str = "secret";
/// Key of the secret that rewritten senders are proven with.
pub const SRS: &str = "srs";

/// Octets of that secret.
pub const SRS_SECRET_BYTES: usize = 32;

/// What anybody may know of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimKey {
    /// Lower-case A-labels.
    pub domain: String,
    pub selector: String,
    pub algorithm: Algorithm,
    pub bits: u32,
    pub state: KeyState,
    pub created: UnixMs,
    /// When it last began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<UnixMs>,
    /// When it ceased to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<UnixMs>,
    /// What goes into `p=`, in base 64.
    pub public: String,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Made; signs once the DNS shows it.
    New,
    /// Signs.
    Active,
    /// Signs no more; its record stays until old mail is verified.
    Retired,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyState::New => "new",
            KeyState::Active => "active",
            KeyState::Retired => "retired",
        })
    }
}

impl DkimKey {
    /// How long a retired key's record stays in the zone: queues elsewhere give up after five days.
    pub const KEPT_DAYS: i64 = 7;

    /// The record that the zone must have; `None` where `public` is damaged.
    #[must_use]
    pub fn record(&self) -> Option<KeyRecord> {
        let public = BASE64.decode(self.public.as_bytes()).ok()?;
        Some(KeyRecord::new(
            &self.domain,
            &self.selector,
            self.algorithm,
            &public,
        ))
    }

    /// Days for which mail that it signed may still be verified; 0 where there are none.
    #[must_use]
    pub fn days_needed(&self, now: UnixMs) -> i64 {
        const DAY_MS: i64 = 86_400_000;
        let Some(retired) = self.retired.filter(|_| self.state == KeyState::Retired) else {
            return 0;
        };
        let left = retired.0.saturating_add(Self::KEPT_DAYS * DAY_MS) - now.0;
        // What never signed nobody verifies.
        let signed = self.activated.is_some();
        if signed {
            left.div_euclid(DAY_MS)
                .saturating_add(1)
                .clamp(0, Self::KEPT_DAYS)
        } else {
            0
        }
    }

    pub(super) fn id(&self) -> String {
        id(&self.domain, &self.selector)
    }
}

/// The key of both values. A domain has no `/`.
pub(super) fn id(domain: &str, selector: &str) -> String {
    format!("{domain}/{selector}")
}

/// The private half as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredPrivate {
    algorithm: Algorithm,
    pkcs8: String,
}

/// The private half, read.
#[derive(Clone, Debug)]
pub struct PrivateKey(pub Arc<SigningKey>);

/// A secret of the site, read.
#[derive(Clone)]
pub struct Secret(pub Arc<Srs>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PrivateKey {
    pub fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let stored: StoredPrivate = serde_json::from_slice(value).map_err(|_| Unreadable)?;
        let pkcs8 = BASE64
            .decode(stored.pkcs8.as_bytes())
            .map_err(|_| Unreadable)?;
        let key = SigningKey::from_pkcs8(stored.algorithm, &pkcs8).map_err(|_| Unreadable)?;
        Ok(PrivateKey(Arc::new(key)))
    }
}

impl Secret {
    pub fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let secret = BASE64.decode(value).map_err(|_| Unreadable)?;
        // With a short one anybody could guess what we prove.
        let long = secret.len() >= SRS_SECRET_BYTES;
        long.then(|| Secret(Arc::new(Srs::new(&secret))))
            .ok_or(Unreadable)
    }
}

fn site(namespace: &str, key: &str, value: Option<Vec<u8>>) -> ValueChange {
    ValueChange {
        account: None,
        namespace: namespace.into(),
        key: key.as_bytes().to_vec(),
        value,
    }
}

fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    Some(serde_json::to_vec(value).expect("plain data has a JSON form"))
}

pub(super) fn set_key(key: &DkimKey) -> ValueChange {
    site(DKIM, &key.id(), json(key))
}

pub(super) fn set_private(key: &DkimKey, pkcs8: &[u8]) -> ValueChange {
    let stored = StoredPrivate {
        algorithm: key.algorithm,
        pkcs8: BASE64.encode(pkcs8),
    };
    site(DKIM_PRIVATE, &key.id(), json(&stored))
}

pub(super) fn remove_key(key: &DkimKey) -> [ValueChange; 2] {
    [
        site(DKIM, &key.id(), None),
        site(DKIM_PRIVATE, &key.id(), None),
    ]
}

pub fn set_srs_secret(secret: &[u8; SRS_SECRET_BYTES]) -> ValueChange {
    site(SECRET, SRS, Some(BASE64.encode(secret).into_bytes()))
}
