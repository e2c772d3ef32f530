//! The certificate of the first start: made by the server itself, kept in `DATA/tls/`, used until
//! the operator has a real one. Blocking file IO; called before shards start or from the pool.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::certs::{self, CertPair};
use super::error::TlsError;
use crate::base::UnixMs;

const DAY_MS: i64 = 86_400_000;
/// Clients of some makers refuse more than 825 days (CA/Browser Forum BR 6.3.2, 2018).
const VALID_MS: i64 = 820 * DAY_MS;
/// What is left when a new one is made.
const RENEW_MS: i64 = 30 * DAY_MS;

/// The self-signed pair for `hostname` in `directory`: the one that lies there, or, where there is
/// none that fits `hostname` and lives for another month, a new one.
pub fn self_signed(directory: &Path, hostname: &str, now: UnixMs) -> Result<CertPair, TlsError> {
    let pair = CertPair {
        certificate: directory.join("self-signed.pem"),
        key: directory.join("self-signed.key"),
    };
    if let Ok(loaded) = certs::load(&pair) {
        let names_it = loaded
            .names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(hostname));
        if names_it && loaded.valid.contains(&UnixMs(now.0 + RENEW_MS)) {
            return Ok(pair);
        }
    }
    let (certificate, key) = make(hostname, now)?;
    let written = create_directory(directory)
        // The key first: between the two renames the pair does not match, and is made anew.
        .and_then(|()| replace(&pair.key, &key))
        .and_then(|()| replace(&pair.certificate, &certificate))
        .and_then(|()| File::open(directory)?.sync_all());
    match written {
        Ok(()) => Ok(pair),
        Err(error) => Err(TlsError::File {
            path: directory.to_owned(),
            error,
        }),
    }
}

/// ECDSA P-256, for `hostname` and for clients on this host. Both as PEM.
fn make(hostname: &str, now: UnixMs) -> Result<(String, String), TlsError> {
    let bad_hostname = |_| TlsError::BadHostname {
        hostname: hostname.to_owned(),
    };
    let names = [hostname, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).map_err(bad_hostname)?;
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A day back, for clients whose clock is slow.
    let (year, month, day) = civil(UnixMs(now.0 - DAY_MS));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = civil(UnixMs(now.0 + VALID_MS));
    params.not_after = rcgen::date_time_ymd(year, month, day);
    let key =
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| TlsError::NoRandom)?;
    let certificate = params.self_signed(&key).map_err(bad_hostname)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The day of `at` in UTC.
fn civil(at: UnixMs) -> (i32, u8, u8) {
    let timestamp = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = timestamp.to_zoned(TimeZone::UTC).date();
    (
        date.year().into(),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}

fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new: PathBuf = path.to_owned();
    new.as_mut_os_string().push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
