//! The part of the snapshot that signs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::row::{DkimKey, KeyState, PrivateKey, id};
use crate::policy::dkim::{Signer, Signers, SigningKey};
use crate::policy::srs::Srs;

/// All keys, and those that sign. A clone shares everything.
#[derive(Clone, Default)]
pub struct Signing {
    keys: Arc<BTreeMap<String, Arc<DkimKey>>>,
    private: Arc<BTreeMap<String, Arc<SigningKey>>>,
    signers: Arc<Signers>,
    srs: Option<Arc<Srs>>,
}

impl Signing {
    pub fn apply_key(&mut self, id: String, key: Option<DkimKey>) {
        let keys = Arc::make_mut(&mut self.keys);
        match key {
            Some(key) => drop(keys.insert(id.clone(), Arc::new(key))),
            None => drop(keys.remove(&id)),
        }
        self.follow(&id);
    }

    pub fn apply_private(&mut self, id: String, key: Option<PrivateKey>) {
        let private = Arc::make_mut(&mut self.private);
        match key {
            Some(key) => drop(private.insert(id.clone(), key.0)),
            None => drop(private.remove(&id)),
        }
        self.follow(&id);
    }

    pub fn apply_srs(&mut self, srs: Option<Arc<Srs>>) {
        self.srs = srs;
    }

    /// Brings one key's part in signing up to date, whichever half came last.
    fn follow(&mut self, id: &str) {
        let signers = Arc::make_mut(&mut self.signers);
        if let Some((domain, selector)) = id.split_once('/') {
            signers.remove(domain, selector);
        }
        let (Some(key), Some(private)) = (self.keys.get(id), self.private.get(id)) else {
            return;
        };
        if key.state == KeyState::Active && key.id() == id {
            signers.add(Signer {
                domain: key.domain.clone(),
                selector: key.selector.clone(),
                key: Arc::clone(private),
            });
        }
    }

    pub fn signers(&self) -> &Arc<Signers> {
        &self.signers
    }

    pub fn srs(&self) -> Option<&Arc<Srs>> {
        self.srs.as_ref()
    }

    pub fn get(&self, domain: &str, selector: &str) -> Option<&Arc<DkimKey>> {
        self.keys.get(&id(domain, selector))
    }

    /// The keys of one domain, by selector.
    pub fn of_domain(&self, domain: &str) -> impl Iterator<Item = &Arc<DkimKey>> {
        // `0` follows `/`.
        let range = format!("{domain}/")..format!("{domain}0");
        self.keys.range(range).map(|(_, key)| key)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<DkimKey>> {
        self.keys.values()
    }
}
