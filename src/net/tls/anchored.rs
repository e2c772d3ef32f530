//! Chains that lead to an anchor which is not one of the system's: what DANE-TA asks (RFC 7671 5.2).

use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::outgoing::{CertificateFault, Distrust, host_name};
use super::x509;
use crate::base::UnixMs;

/// Whom a policy trusts to vouch for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor<'a> {
    /// A certificate (DER), which need not be in the chain.
    Certificate(&'a [u8]),
    /// A key (SubjectPublicKeyInfo, DER), whatever the name of who has it.
    Key(&'a [u8]),
}

/// The key of a certificate: SubjectPublicKeyInfo (DER). `None` if it is no certificate.
#[must_use]
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    x509::parts(certificate).map(|parts| parts.key)
}

/// Whether `chain` (DER, the host's own first) is good at `now`, leads to `anchor`, and names one of
/// `names`.
pub fn leads_to(
    chain: &[Vec<u8>],
    anchor: Anchor<'_>,
    names: &[String],
    now: UnixMs,
) -> Result<(), Distrust> {
    let (own, others) = chain
        .split_first()
        .ok_or_else(|| distrust(Error::NoCertificatesPresented))?;
    let own = CertificateDer::from(&own[..]);
    let own = ParsedCertificate::try_from(&own).map_err(distrust)?;
    let others: Vec<_> = others
        .iter()
        .map(|one| CertificateDer::from(&one[..]))
        .collect();
    let roots = roots(chain, anchor, now)?;
    let seconds = u64::try_from(now.seconds()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let algorithms = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    verify_server_cert_signed_by_trust_anchor(&own, &roots, &others, now, algorithms)
        .map_err(distrust)?;
    let mut last = Distrust::NoName;
    for name in names.iter().filter_map(|name| host_name(name)) {
        match verify_server_name(&own, &name) {
            Ok(()) => return Ok(()),
            Err(error) => last = distrust(error),
        }
    }
    Err(last)
}

fn roots(chain: &[Vec<u8>], anchor: Anchor<'_>, now: UnixMs) -> Result<RootCertStore, Distrust> {
    let mut roots = RootCertStore::empty();
    match anchor {
        Anchor::Certificate(certificate) => {
            let bad = || distrust(CertificateError::BadEncoding.into());
            // An anchor's time is not looked at by path validation (RFC 5280 6.1.1), but that of
            // a certificate which the host shows is one that its operator can see.
            let summary = x509::summary(certificate).ok_or_else(bad)?;
            if !summary.valid.contains(&now) {
                return Err(distrust(CertificateError::Expired.into()));
            }
            roots
                .add(CertificateDer::from(certificate))
                .map_err(distrust)?;
        }
        Anchor::Key(key) => {
            let key = x509::sequence(key);
            let key = key.ok_or_else(|| distrust(CertificateError::BadEncoding.into()))?;
            // Whoever signed something here may be the one who has this key.
            let issuers = chain.iter().filter_map(|one| x509::parts(one));
            roots.extend(issuers.map(|parts| TrustAnchor {
                subject: Der::from(parts.issuer.to_vec()),
                subject_public_key_info: Der::from(key.to_vec()),
                name_constraints: None,
            }));
        }
    }
    Ok(roots)
}

fn distrust(error: Error) -> Distrust {
    Distrust::Certificate(CertificateFault(error))
}
