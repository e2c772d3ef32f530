//! The DKIM-Signature field (RFC 6376 3.5), and which keys sign for whom.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use hashbrown::HashMap;

use super::body::BodyDigest;
use super::fields::{Covered, covered, relax};
use super::key::{Algorithm, SigningKey};
use crate::base::UnixMs;

const NAME: &str = "DKIM-Signature";

/// RFC 5322 2.1.1: lines should not be longer.
const LINE_BYTES_MAX: usize = 78;

/// When a signature was made, and how long it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub now: UnixMs,
    /// `x=`: verifiers may refuse it after this. `None`: it counts while its key is published.
    pub lifetime: Option<Duration>,
}

/// One key with the names under which it is found.
#[derive(Debug)]
pub struct Signer {
    /// Lower-case A-labels.
    pub domain: String,
    pub selector: String,
    pub key: Arc<SigningKey>,
}

/// The keys that sign now, by domain.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    /// RSA first: who checks one signature only takes the topmost, and RSA everybody knows.
    of_domain: HashMap<String, Vec<Arc<Signer>>>,
}

impl Signer {
    /// One header field, folded, with its line end; `None` where there is nothing to sign (no From)
    /// or the key fails.
    #[must_use]
    pub fn sign(&self, head: &[u8], body: &BodyDigest, times: Times) -> Option<Vec<u8>> {
        self.sign_covered(&covered(head)?, body, times)
    }

    fn sign_covered(&self, covered: &Covered, body: &BodyDigest, times: Times) -> Option<Vec<u8>> {
        let mut field = self.unsigned(&covered.names, body, times);
        let mut input = Vec::with_capacity(covered.canonical.len() + field.len());
        input.extend_from_slice(&covered.canonical);
        // RFC 6376 3.7: this field comes last, with an empty `b=` and without a line end.
        relax(
            NAME.as_bytes(),
            &field.as_bytes()[NAME.len() + 1..],
            &mut input,
        );
        let signature = BASE64.encode(&self.key.sign(&input).ok()?);
        append_folded(&mut field, &signature);
        field.push_str("\r\n");
        Some(field.into_bytes())
    }

    /// The field up to its `b=`.
    fn unsigned(&self, names: &[&str], body: &BodyDigest, times: Times) -> String {
        let now = times.now.seconds().max(0);
        let mut field = format!("{NAME}: v=1;");
        let mut tag = |text: String| fold(&mut field, " ", &text);
        tag(format!("a={};", self.key.algorithm()));
        tag("c=relaxed/relaxed;".to_owned());
        tag(format!("d={};", self.domain));
        tag(format!("s={};", self.selector));
        tag(format!("t={now};"));
        if let Some(lifetime) = times.lifetime {
            let span = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            tag(format!("x={};", now.saturating_add(span)));
        }
        let last = names.len().saturating_sub(1);
        for (number, name) in names.iter().enumerate() {
            let end = if number == last { ';' } else { ':' };
            match number {
                0 => fold(&mut field, " ", &format!("h={name}{end}")),
                _ => fold(&mut field, "", &format!("{name}{end}")),
            }
        }
        fold(&mut field, " ", &format!("bh={};", BASE64.encode(&body.0)));
        fold(&mut field, " ", "b=");
        field
    }
}

impl Signers {
    /// Adds a key.
    pub fn add(&mut self, signer: Signer) {
        let all = self
            .of_domain
            .entry_ref(signer.domain.as_str())
            .or_default();
        all.push(Arc::new(signer));
        all.sort_by_key(|signer| std::cmp::Reverse(signer.key.algorithm() == Algorithm::Rsa));
    }

    /// Takes a key out, if it is in.
    pub fn remove(&mut self, domain: &str, selector: &str) {
        if let Some(all) = self.of_domain.get_mut(domain) {
            all.retain(|signer| signer.selector != selector);
            if all.is_empty() {
                self.of_domain.remove(domain);
            }
        }
    }

    /// The keys for mail from `domain` (lower-case A-labels): its own, else those of the nearest
    /// domain above it that has any, which DMARC takes for aligned (RFC 7489 3.1.1).
    #[must_use]
    pub fn of(&self, domain: &str) -> &[Arc<Signer>] {
        let mut name = domain;
        loop {
            if let Some(signers) = self.of_domain.get(name) {
                return signers;
            }
            match name.split_once('.') {
                Some((_, above)) => name = above,
                None => return &[],
            }
        }
    }

    /// The header fields to put before a message from `from_domain`, one a key, each with its line
    /// end; empty where nobody signs for it. `head` is the header as it will leave, `body` the hash
    /// of what follows its blank line.
    #[must_use]
    pub fn sign(&self, from_domain: &str, head: &[u8], body: &BodyDigest, times: Times) -> Vec<u8> {
        let signers = self.of(from_domain);
        let Some(covered) = (!signers.is_empty()).then(|| covered(head)).flatten() else {
            return Vec::new();
        };
        let fields = signers
            .iter()
            .filter_map(|signer| signer.sign_covered(&covered, body, times));
        fields.flatten().collect()
    }
}

/// Appends `text`, after `gap` or on a new line where it would be too long.
fn fold(field: &mut String, gap: &str, text: &str) {
    let line = field
        .rfind('\n')
        .map_or(field.len(), |at| field.len() - at - 1);
    let fits = line + gap.len() + text.len() <= LINE_BYTES_MAX;
    field.push_str(if fits { gap } else { "\r\n " });
    field.push_str(text);
}

/// Appends a long value that may be cut anywhere (RFC 6376 2.10).
fn append_folded(field: &mut String, value: &str) {
    let line = field
        .rfind('\n')
        .map_or(field.len(), |at| field.len() - at - 1);
    let (first, rest) = value.split_at(LINE_BYTES_MAX.saturating_sub(line).min(value.len()));
    field.push_str(first);
    let mut rest = rest;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((LINE_BYTES_MAX - 1).min(rest.len()));
        field.push_str("\r\n ");
        field.push_str(piece);
        rest = after;
    }
}
