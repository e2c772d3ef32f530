//! From a command to the values it changes. Pure but for [`generate`], which draws keys beforehand;
//! it and [`read`] run on the pool.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64;

use super::command::{DkimCommand, RSA_BITS};
use super::error::DkimError;
use super::row::{self, DkimKey, KeyState};
use crate::base::UnixMs;
use crate::directory::command::Answer;
use crate::directory::error::DirectoryError as E;
use crate::directory::name;
use crate::directory::password::Secret;
use crate::directory::snapshot::Snapshot;
use crate::policy::dkim::{Algorithm, BodyDigest, SigningKey, Times, is_selector};
use crate::store::ValueChange;

/// Two that sign, two that are to, and a history.
const KEYS_OF_DOMAIN_MAX: usize = 16;

/// A pair that was drawn.
#[cfg_attr(test, derive(Clone))]
pub struct NewKey {
    algorithm: Algorithm,
    bits: u32,
    public: Vec<u8>,
    pkcs8: Vec<u8>,
}

/// Draws a pair. RSA takes a large part of a second.
pub fn generate(algorithm: Algorithm, rsa_bits: u32) -> Result<NewKey, DkimError> {
    let not_made = |_: Unspecified| DkimError::NotMade;
    let pkcs8 = match algorithm {
        Algorithm::Rsa => {
            let size = match rsa_bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                bits => return Err(DkimError::NotASize { bits }),
            };
            let pair = rsa::KeyPair::generate(size).map_err(not_made)?;
            let der: Pkcs8V1Der = pair.as_der().map_err(not_made)?;
            der.as_ref().to_vec()
        }
        Algorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(not_made)?;
            pair.to_pkcs8().map_err(not_made)?.as_ref().to_vec()
        }
    };
    NewKey::of(algorithm, pkcs8).map_err(not_made)
}

/// Reads a pair that another server has drawn.
pub fn read(key: &Secret) -> Result<NewKey, DkimError> {
    let der = BASE64.decode(key.0.as_bytes());
    let der = der.map_err(|_| DkimError::NotAKey)?;
    let pkcs8 = [Algorithm::Rsa, Algorithm::Ed25519]
        .into_iter()
        .find_map(|algorithm| NewKey::of(algorithm, der.clone()).ok());
    let pkcs1 = || {
        let pair = rsa::KeyPair::from_der(&der).ok()?;
        let pkcs8: Pkcs8V1Der = pair.as_der().ok()?;
        NewKey::of(Algorithm::Rsa, pkcs8.as_ref().to_vec()).ok()
    };
    pkcs8.or_else(pkcs1).ok_or(DkimError::NotAKey)
}

impl NewKey {
    fn of(algorithm: Algorithm, pkcs8: Vec<u8>) -> Result<NewKey, Unspecified> {
        let bad = |_| Unspecified;
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8).map_err(bad)?;
        Ok(NewKey {
            algorithm,
            bits: u32::try_from(key.bits()).map_err(|_| Unspecified)?,
            public: key.public().map_err(bad)?,
            pkcs8,
        })
    }
}

/// Works out `command` against `state`. `made` has a pair for each algorithm of a
/// [`DkimCommand::Make`], or the one of a [`DkimCommand::Import`].
pub fn plan(
    state: &Snapshot,
    now: UnixMs,
    command: &DkimCommand,
    made: Vec<NewKey>,
) -> Result<(Vec<ValueChange>, Answer), E> {
    let refuse = |why| E::Dkim { why };
    match command {
        DkimCommand::Make {
            domain,
            selector,
            rsa_bits,
            algorithms,
        } => {
            let domain = our_domain(state, domain)?;
            if !RSA_BITS.contains(rsa_bits) {
                return Err(refuse(DkimError::NotASize { bits: *rsa_bits }));
            }
            if selector.is_some() && algorithms.len() != 1 {
                return Err(refuse(DkimError::OneSelector));
            }
            make(state, now, &domain, selector.as_deref(), made).map_err(refuse)
        }
        DkimCommand::Import {
            domain, selector, ..
        } => {
            let domain = our_domain(state, domain)?;
            make(state, now, &domain, Some(selector), made).map_err(refuse)
        }
        DkimCommand::List { domain } => Ok((Vec::new(), list(state, domain.as_deref())?)),
        DkimCommand::Activate { domain, selectors } => {
            let domain = our_domain(state, domain)?;
            activate(state, now, &domain, selectors).map_err(refuse)
        }
        DkimCommand::Retire { domain, selector } => {
            let key = key(state, domain, selector)?;
            if key.state != KeyState::Active {
                let (selector, domain) = (key.selector.clone(), key.domain.clone());
                return Err(refuse(DkimError::NotActive { selector, domain }));
            }
            Ok(changed(vec![retired(&key, now)]))
        }
        DkimCommand::Remove {
            domain,
            selector,
            force,
        } => {
            let key = key(state, domain, selector)?;
            removable(&key, now, *force).map_err(refuse)?;
            let keys = vec![(*key).clone()];
            Ok((row::remove_key(&key).into(), Answer::DkimKeys { keys }))
        }
        DkimCommand::Sign {
            from_domain,
            head,
            body,
            lifetime,
        } => {
            let times = Times {
                now,
                lifetime: *lifetime,
            };
            let fields = sign(state, from_domain, head, body, times).map_err(refuse)?;
            Ok((Vec::new(), Answer::Signed { fields }))
        }
    }
}

fn list(state: &Snapshot, domain: Option<&str>) -> Result<Answer, E> {
    let signing = state.signing();
    let keys: Vec<&Arc<DkimKey>> = match domain.map(any_domain).transpose()? {
        Some(domain) => signing.of_domain(&domain).collect(),
        None => signing.all().collect(),
    };
    let keys = keys.into_iter().map(|key| (**key).clone()).collect();
    Ok(Answer::DkimKeys { keys })
}

/// Header and hash of the body come in base 64.
fn sign(
    state: &Snapshot,
    from_domain: &str,
    head: &str,
    body: &str,
    times: Times,
) -> Result<String, DkimError> {
    let head = BASE64.decode(head.as_bytes());
    let head = head.map_err(|_| DkimError::NotAHeader)?;
    let body = BASE64.decode(body.as_bytes()).ok();
    let body = body.and_then(|body| body.try_into().ok()).map(BodyDigest);
    let body = body.ok_or(DkimError::NotAHeader)?;
    let fields = state.sign(from_domain, &head, &body, times);
    Ok(String::from_utf8_lossy(&fields).into_owned())
}

fn any_domain(text: &str) -> Result<String, E> {
    name::domain_key(text).ok_or_else(|| E::NotADomain { text: text.into() })
}

/// A domain of ours, itself: an alias signs with keys of its own.
fn our_domain(state: &Snapshot, text: &str) -> Result<String, E> {
    let domain = any_domain(text)?;
    match state.local_domain(&domain) {
        Some(_) => Ok(domain),
        None => Err(E::NotOurDomain { domain }),
    }
}

/// A key, of a domain that may be ours no more.
fn key(state: &Snapshot, domain: &str, selector: &str) -> Result<Arc<DkimKey>, E> {
    let domain = any_domain(domain)?;
    let found = state.signing().get(&domain, &selector.to_ascii_lowercase());
    found.cloned().ok_or_else(|| {
        let selector = selector.to_owned();
        E::Dkim {
            why: DkimError::NoSuchKey { selector, domain },
        }
    })
}

fn make(
    state: &Snapshot,
    now: UnixMs,
    domain: &str,
    selector: Option<&str>,
    made: Vec<NewKey>,
) -> Result<(Vec<ValueChange>, Answer), DkimError> {
    let there = state.signing().of_domain(domain).count();
    if there + made.len() > KEYS_OF_DOMAIN_MAX {
        let (domain, max) = (domain.to_owned(), KEYS_OF_DOMAIN_MAX);
        return Err(DkimError::TooManyKeys { domain, max });
    }
    let (mut changes, mut keys) = (Vec::new(), Vec::new());
    for new in made {
        let is_new =
            |key: &&Arc<DkimKey>| key.state == KeyState::New && key.algorithm == new.algorithm;
        if let Some(key) = state.signing().of_domain(domain).find(is_new) {
            let (selector, domain) = (key.selector.clone(), domain.to_owned());
            return Err(DkimError::StillNew { selector, domain });
        }
        let key = DkimKey {
            domain: domain.to_owned(),
            selector: choose(state, now, domain, selector, new.algorithm)?,
            algorithm: new.algorithm,
            bits: new.bits,
            state: KeyState::New,
            created: now,
            activated: None,
            retired: None,
            public: BASE64.encode(&new.public),
        };
        changes.push(row::set_private(&key, &new.pkcs8));
        changes.push(row::set_key(&key));
        keys.push(key);
    }
    Ok((changes, Answer::DkimKeys { keys }))
}

/// The selector that was asked for, or one that tells algorithm and day.
fn choose(
    state: &Snapshot,
    now: UnixMs,
    domain: &str,
    asked: Option<&str>,
    algorithm: Algorithm,
) -> Result<String, DkimError> {
    let taken = |selector: &str| state.signing().get(domain, selector).is_some();
    if let Some(text) = asked {
        let selector = text.to_ascii_lowercase();
        if !is_selector(&selector) {
            return Err(DkimError::NotASelector { text: text.into() });
        }
        if taken(&selector) {
            let domain = domain.to_owned();
            return Err(DkimError::SelectorTaken { selector, domain });
        }
        return Ok(selector);
    }
    let letter = match algorithm {
        Algorithm::Rsa => 'r',
        Algorithm::Ed25519 => 'e',
    };
    let day = jiff::Timestamp::from_millisecond(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let first = format!("{letter}{}", day.strftime("%Y%m%d"));
    let others = (2..).map(|n| format!("{first}-{n}"));
    let mut names = std::iter::once(first.clone()).chain(others);
    // A domain has few keys, so one of the first names is free.
    names.find(|name| !taken(name)).ok_or(DkimError::NotMade)
}

fn activate(
    state: &Snapshot,
    now: UnixMs,
    domain: &str,
    selectors: &[String],
) -> Result<(Vec<ValueChange>, Answer), DkimError> {
    let all: Vec<&Arc<DkimKey>> = state.signing().of_domain(domain).collect();
    let mut chosen = Vec::new();
    for selector in selectors {
        let selector = selector.to_ascii_lowercase();
        let found = all.iter().find(|key| key.selector == selector);
        chosen.push(found.copied().ok_or_else(|| {
            let domain = domain.to_owned();
            DkimError::NoSuchKey { selector, domain }
        })?);
    }
    if selectors.is_empty() {
        chosen = all
            .iter()
            .copied()
            .filter(|key| key.state == KeyState::New)
            .collect();
    }
    if chosen.is_empty() {
        let domain = domain.to_owned();
        return Err(DkimError::NothingNew { domain });
    }
    let mut keys = Vec::new();
    for key in &chosen {
        keys.push(DkimKey {
            state: KeyState::Active,
            activated: Some(now),
            retired: None,
            ..(***key).clone()
        });
    }
    let others = all.iter().filter(|key| {
        let same = |one: &&Arc<DkimKey>| one.algorithm == key.algorithm;
        let stays = chosen.iter().any(|one| one.selector == key.selector);
        key.state == KeyState::Active && !stays && chosen.iter().any(same)
    });
    keys.extend(others.map(|key| retired(key, now)));
    Ok(changed(keys))
}

fn retired(key: &DkimKey, now: UnixMs) -> DkimKey {
    DkimKey {
        state: KeyState::Retired,
        retired: Some(now),
        ..key.clone()
    }
}

fn changed(keys: Vec<DkimKey>) -> (Vec<ValueChange>, Answer) {
    let changes = keys.iter().map(row::set_key).collect();
    (changes, Answer::DkimKeys { keys })
}

fn removable(key: &DkimKey, now: UnixMs, force: bool) -> Result<(), DkimError> {
    let selector = key.selector.clone();
    match (key.state, key.days_needed(now)) {
        _ if force => Ok(()),
        (KeyState::Active, _) => {
            let domain = key.domain.clone();
            Err(DkimError::StillActive { selector, domain })
        }
        (KeyState::Retired, days) if days > 0 => Err(DkimError::StillNeeded { selector, days }),
        _ => Ok(()),
    }
}
