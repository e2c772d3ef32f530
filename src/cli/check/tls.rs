//! The certificates: whether each loads, whom it names, how long it lives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Finding;
use crate::base::UnixMs;
use crate::config::{Config, TlsPair};
use crate::net::{CertFacts, CertPair, CertStore};
use crate::runtime;

const DAY_MS: i64 = 86_400_000;

/// Time to notice and to renew.
const DAYS_LEFT_WANTED: i64 = 14;

pub fn look(config: &Config) -> Vec<Finding> {
    let listeners = config.listeners();
    let mut pairs: Vec<(TlsPair, Vec<String>)> = config
        .tls_pairs()
        .into_iter()
        .map(|pair| (pair, Vec::new()))
        .collect();
    let mut findings = Vec::new();
    if pairs.is_empty() {
        findings.push(Finding::warning(
            "certificate",
            "self-signed: clients will warn their users",
            "get one from a certificate authority and set [tls] certificate and key",
        ));
    }
    for listener in &listeners {
        if let Some(own) = &listener.pair {
            pairs.push((own.clone(), vec![listener.hostname.to_string()]));
        }
    }
    // Any of the site's pairs may name the host; the first is shown for every other name.
    if let Some((_, wanted)) = pairs.first_mut() {
        wanted.push(config.hostname.to_string());
    }
    let now = runtime::unix_now();
    for (pair, wanted) in pairs {
        let files = CertPair {
            certificate: pair.certificate,
            key: pair.key,
        };
        findings.extend(readable_key(&files.key));
        findings.push(match CertStore::inspect(&files) {
            Err(error) => Finding::bad("certificate", error.to_string(), ""),
            Ok(facts) => judge(&files.certificate, &facts, &wanted, now),
        });
    }
    findings
}

pub(super) fn judge(path: &Path, facts: &CertFacts, wanted: &[String], now: UnixMs) -> Finding {
    let path = path.display();
    let (from, until) = (*facts.valid.start(), *facts.valid.end());
    let days = (until.0 - now.0) / DAY_MS;
    let names = facts.names.join(", ");
    let what = format!(
        "{path}: for {names}, until {}",
        super::super::print::when(until)
    );
    if now < from {
        return Finding::bad(
            "certificate",
            what,
            "its time has not begun: is the clock right?",
        );
    }
    if now > until {
        return Finding::bad("certificate", what, "it has expired: renew it, then SIGHUP");
    }
    if let Some(missing) = wanted.iter().find(|name| !names_host(&facts.names, name)) {
        let remedy = "clients will refuse it: get one that names it, or change `hostname`";
        return Finding::warning("certificate", format!("{what}; not for {missing}"), remedy);
    }
    match days < DAYS_LEFT_WANTED {
        true => Finding::warning(
            "certificate",
            format!("{what}: {days} days"),
            "renew it soon",
        ),
        false => Finding::good("certificate", what),
    }
}

/// RFC 6125 6.4.3: exact, or a wildcard for the whole first label.
fn names_host(names: &[String], host: &str) -> bool {
    let rest = host.split_once('.').map(|(_, rest)| rest);
    names.iter().any(|name| {
        let wild = name
            .strip_prefix("*.")
            .is_some_and(|parent| rest.is_some_and(|rest| rest.eq_ignore_ascii_case(parent)));
        wild || name.eq_ignore_ascii_case(host)
    })
}

fn readable_key(key: &Path) -> Option<Finding> {
    let mode = fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let remedy = format!("chmod o-r {}", key.display());
        Finding::warning(
            "key",
            format!("{} is readable by everybody", key.display()),
            remedy,
        )
    })
}
