//! The order of MX hosts (RFC 5321 5.1). Pure.

use std::net::IpAddr;

use super::no_route::NoRoute;
use crate::dns::Rdata;

/// A host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub preference: u16,
    pub host: String,
}

/// What has a place among the hosts of a domain.
pub trait Ranked {
    fn preference(&self) -> u16;
    fn name(&self) -> &str;
}

/// Numbers from a seed (SplitMix64): to spread load, not to keep a secret.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let at = self.next() % (end as u64 + 1);
            items.swap(end, at as usize);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Candidate {
    /// The domain itself, where it has no MX.
    #[must_use]
    pub fn implicit(domain: &str) -> Self {
        Candidate {
            preference: 0,
            host: domain.to_owned(),
        }
    }
}

impl Ranked for Candidate {
    fn preference(&self) -> u16 {
        self.preference
    }

    fn name(&self) -> &str {
        &self.host
    }
}

/// The hosts of MX records: lowest preference first, equal ones shuffled, each once, and without
/// those that are none.
pub fn order(
    records: &[Rdata],
    random: &mut Random,
    notes: &mut Vec<String>,
) -> Result<Vec<Candidate>, NoRoute> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for record in records {
        let Rdata::Mx { preference, host } = record else {
            continue;
        };
        // RFC 7505 3: a null MX stands alone.
        if host.is_empty() {
            if records.len() == 1 {
                return Err(NoRoute::NullMx);
            }
            notes.push("a null MX beside others is passed over".to_owned());
            continue;
        }
        // RFC 5321 5.1 wants names.
        if host.parse::<IpAddr>().is_ok() {
            notes.push(format!("{host}: an MX is a name, not an address"));
            continue;
        }
        let same = candidates.iter_mut().find(|known| known.host == *host);
        match same {
            Some(known) => known.preference = known.preference.min(*preference),
            None => candidates.push(Candidate {
                preference: *preference,
                host: host.clone(),
            }),
        }
    }
    if candidates.is_empty() {
        return Err(NoRoute::NoAddress);
    }
    random.shuffle(&mut candidates);
    // Stable: what was shuffled stays so among equals.
    candidates.sort_by_key(|candidate| candidate.preference);
    Ok(candidates)
}

/// The hosts in front of the first that is ourselves; those beside it, of the same preference, go
/// with it (RFC 5321 5.1).
pub fn before_own<R: Ranked>(
    mut hosts: Vec<R>,
    is_own: impl Fn(&R) -> bool,
    notes: &mut Vec<String>,
) -> Result<Vec<R>, NoRoute> {
    let Some(own) = hosts.iter().find(|host| is_own(host)) else {
        return Ok(hosts);
    };
    let from = own.preference();
    notes.push(format!(
        "{} is this host: those of preference {from} and above are passed over",
        own.name()
    ));
    hosts.retain(|host| host.preference() < from);
    match hosts.is_empty() {
        true => Err(NoRoute::Loop),
        false => Ok(hosts),
    }
}
