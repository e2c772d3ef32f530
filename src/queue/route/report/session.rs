//! What one connection, or one plan, tells a domain about its TLS.

use std::rc::Rc;

use super::tally::{Failure, FailureKind, PolicyKey, Session};
use crate::dns::DnsError;
use crate::net::{Distrust, DistrustKind};
use crate::queue::client::{Facts, Security, TlsState, Trouble};
use crate::queue::route::dane::Misfit;
use crate::queue::route::demand::{Applied, LeftOut};
use crate::queue::route::hop::Hop;
use crate::queue::route::sts::{Kept, Mode, StsFault};

/// How a connection ended, as far as TLS is concerned.
#[derive(Clone, Copy, Debug)]
pub enum SessionEnd<'e> {
    /// It was used.
    Used,
    /// It could not be opened.
    Unopened(&'e Trouble),
    /// Its certificates were not those that its zone names.
    Misfit(&'e Misfit),
}

/// What a connection to `hop` says; `None` where TLS was not to be tried, or it ended before.
#[must_use]
pub fn session(
    domain: &str,
    hop: &Hop,
    facts: &Facts,
    end: SessionEnd<'_>,
) -> Option<(PolicyKey, Session)> {
    let policy = PolicyKey::of(hop.policy(), domain, &hop.host)?;
    if hop.security() == Security::Never || !hop.is_told {
        return None;
    }
    let failed = match end {
        SessionEnd::Misfit(Misfit::Distrusted(why)) => Some((of_distrust(why), why.to_string())),
        SessionEnd::Misfit(why) => Some((FailureKind::CertificateNotTrusted, why.to_string())),
        SessionEnd::Unopened(trouble) => of_trouble(trouble, facts)?,
        SessionEnd::Used => used(hop, facts),
    };
    let failure = |(kind, words)| Failure {
        kind,
        ours: facts.local,
        mx: Some(hop.host.clone()),
        theirs: Some(facts.address.ip()),
        words,
    };
    Some((policy, failed.map_or(Ok(()), |failed| Err(failure(failed)))))
}

type Failed = Option<(FailureKind, String)>;

/// Of a connection that mail went over.
fn used(hop: &Hop, facts: &Facts) -> Failed {
    let TlsState::Secured(peer) = &facts.tls else {
        let words = match &facts.tls {
            TlsState::Refused(reply) => reply.to_string(),
            _ => String::new(),
        };
        return Some((FailureKind::StarttlsNotSupported, words));
    };
    // RFC 8461 5: in testing what would fail is told, and mail goes all the same.
    match (hop.policy(), &peer.verified) {
        (Applied::Sts(kept), _) if !kept.policy.names(&facts.host) => Some((
            FailureKind::ValidationFailure,
            LeftOut::NotNamed.to_string(),
        )),
        (Applied::Sts(_), Err(why)) => Some((of_distrust(why), why.to_string())),
        _ => None,
    }
}

/// `None`: it says nothing about TLS.
fn of_trouble(trouble: &Trouble, facts: &Facts) -> Option<Failed> {
    let kind = match trouble {
        Trouble::NoTls(_) => FailureKind::StarttlsNotSupported,
        Trouble::Handshake(_) => FailureKind::ValidationFailure,
        Trouble::Distrusted(why) => of_distrust(why),
        // TLS was good, and something else was not.
        _ if matches!(facts.tls, TlsState::Secured(_)) => return Some(None),
        _ => return None,
    };
    Some(Some((kind, trouble.to_string())))
}

fn of_distrust(why: &Distrust) -> FailureKind {
    match why.kind() {
        DistrustKind::Time => FailureKind::CertificateExpired,
        DistrustKind::Name => FailureKind::CertificateHostMismatch,
        DistrustKind::Trust => FailureKind::CertificateNotTrusted,
    }
}

/// A host of `domain` that is not in a plan.
#[must_use]
pub fn left_out(
    domain: &str,
    sts: Option<&Rc<Kept>>,
    host: &str,
    why: &LeftOut,
) -> Option<(PolicyKey, Session)> {
    let (policy, kind) = match why {
        LeftOut::NotNamed => (PolicyKey::sts(domain, sts?), FailureKind::ValidationFailure),
        LeftOut::Tlsa(error) => {
            let kind = match error {
                DnsError::Bogus(_) => FailureKind::DnssecInvalid,
                _ => FailureKind::TlsaInvalid,
            };
            (PolicyKey::of(&Applied::DaneUnusable, domain, host)?, kind)
        }
    };
    let failure = Failure {
        kind,
        ours: None,
        mx: Some(host.to_owned()),
        theirs: None,
        words: why.to_string(),
    };
    Some((policy, Err(failure)))
}

/// A policy of `domain` that could not be had; `kept`: what counts in its place.
pub fn policy_fault(
    domain: &str,
    kept: Option<&Rc<Kept>>,
    fault: &StsFault,
) -> (PolicyKey, Session) {
    let kind = match fault {
        StsFault::Fetch { is_distrust, .. } if *is_distrust => FailureKind::StsWebpkiInvalid,
        StsFault::Fetch { .. } => FailureKind::StsPolicyFetchError,
        StsFault::Policy(_) => FailureKind::StsPolicyInvalid,
    };
    let kept = kept.filter(|kept| kept.policy.mode != Mode::None);
    let policy = match kept {
        Some(kept) => PolicyKey::sts(domain, kept),
        None => PolicyKey::none(domain),
    };
    let failure = Failure {
        kind,
        ours: None,
        mx: None,
        theirs: None,
        words: fault.to_string(),
    };
    (policy, Err(failure))
}
