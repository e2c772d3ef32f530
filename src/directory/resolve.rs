//! Who gets mail for an address.
//!
//! The order, for the address itself and again for each target of an alias: the domain's real
//! name, the exact address, the address without `+detail`, postmaster and abuse (which every
//! domain has), the domain's catch-all. An alias comes before an account of the same address; an
//! alias that leads back to its own address means that account, which is how a redirect keeps a
//! copy. Any other way back is a loop and leads nowhere.

use std::sync::Arc;

use hashbrown::HashSet;

use super::account::Account;
use super::name::{self, Name};
use super::snapshot::Snapshot;
use crate::base::AccountId;
use crate::wire::address::Mailbox;

/// Aliases that may follow one another.
pub const DEPTH_MAX: usize = 10;

/// Accounts that one address may reach, and aliases it may pass.
pub const REACH_MAX: usize = 1000;

/// Addresses of other domains that one address may lead to.
pub const OUTSIDE_MAX: usize = 200;

/// One copy for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub account: Arc<Account>,
    /// What followed `+`, as written; it survives aliases that have none of their own.
    pub detail: Option<String>,
    /// The address as the sender wrote it, for Delivered-To and Sieve.
    pub original: String,
}

/// Why an address, or a target of an alias on the way, leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The address is of another domain: relaying, if the sender may.
    NotLocal,
    /// No account, alias or catch-all.
    NoSuchUser,
    /// A forward-only account without an alias.
    NoMailbox,
    /// An alias leads back to itself.
    Loop,
    /// More than [`DEPTH_MAX`] aliases in a row, or more than [`REACH_MAX`] in all.
    TooMany,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub address: String,
    pub why: Why,
}

/// All an address leads to. Each list may have entries: an alias with a bad target, and one outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    pub local: Vec<Recipient>,
    /// Addresses of other domains that aliases here name: mail is sent on to them.
    pub outside: Vec<String>,
    pub refused: Vec<Refusal>,
}

impl Snapshot {
    /// Who gets mail for `address`.
    #[must_use]
    pub fn resolve(&self, address: &Mailbox) -> Resolution {
        let mut walk = Walk::new(self, address.to_string());
        match Name::of(address) {
            Some(name) => walk.visit(&name, None),
            None => walk.refuse(&address.to_string(), Why::NotLocal),
        }
        walk.result
    }

    /// Who gets mail for `<Postmaster>` without a domain (RFC 5321 4.5.1).
    #[must_use]
    pub fn resolve_postmaster(&self) -> Resolution {
        let mut walk = Walk::new(self, name::POSTMASTER.to_owned());
        walk.postmaster(name::POSTMASTER, None);
        walk.result
    }
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    original: String,
    result: Resolution,
    /// Accounts in `result`.
    accounts: HashSet<AccountId>,
    /// Aliases between the address and here.
    path: Vec<String>,
    /// Aliases ever expanded: each once, so work is linear in aliases.
    expanded: HashSet<String>,
    /// Deliveries found, also those of an account that has its copy already.
    reached: usize,
    at_postmaster: bool,
}

impl<'a> Walk<'a> {
    fn new(snapshot: &'a Snapshot, original: String) -> Self {
        Walk {
            snapshot,
            original,
            result: Resolution::default(),
            accounts: HashSet::new(),
            path: Vec::new(),
            expanded: HashSet::new(),
            reached: 0,
            at_postmaster: false,
        }
    }

    fn visit(&mut self, address: &Name, detail: Option<&str>) {
        let Some(domain) = self.snapshot.local_domain(address.domain()) else {
            if self.path.is_empty() {
                return self.refuse(&address.to_string(), Why::NotLocal);
            }
            return self.send_on(address.to_string());
        };
        if self.step(&name::key(address.local(), domain), detail) {
            return;
        }
        let (base, own) = match address.split_detail() {
            Some((base, own)) => (base, Some(own)),
            None => (address.local(), None),
        };
        let detail = own.or(detail);
        if own.is_some() && self.step(&name::key(base, domain), detail) {
            return;
        }
        if base == name::POSTMASTER || base == name::ABUSE {
            return self.postmaster(&address.to_string(), detail);
        }
        if !self.step(&name::key("", domain), detail) {
            self.refuse(&address.to_string(), Why::NoSuchUser);
        }
    }

    /// Follows one key; false where nothing has it.
    fn step(&mut self, key: &str, detail: Option<&str>) -> bool {
        let snapshot = self.snapshot;
        let account = || snapshot.accounts.get(snapshot.names.get(key)?);
        let Some(alias) = snapshot.aliases.get(key) else {
            return match account() {
                Some(account) => {
                    self.deliver(account, key, detail);
                    true
                }
                None => false,
            };
        };
        if self.path.iter().any(|passed| passed == key) {
            match account() {
                Some(account) => self.deliver(account, key, detail),
                None => self.refuse(key, Why::Loop),
            }
            return true;
        }
        if self.path.len() >= DEPTH_MAX || self.expanded.len() >= REACH_MAX {
            self.refuse(key, Why::TooMany);
            return true;
        }
        if !self.expanded.insert(key.to_owned()) {
            // Another branch went here: its accounts have their one copy.
            self.reached += 1;
            return true;
        }
        self.path.push(key.to_owned());
        for target in &alias.to {
            match Name::parse(target) {
                Ok(target) => self.visit(&target, detail),
                Err(_) => self.refuse(target, Why::NoSuchUser),
            }
        }
        self.path.pop();
        true
    }

    /// The config's postmaster; where that leads nowhere, the account that is always there.
    fn postmaster(&mut self, address: &str, detail: Option<&str>) {
        let snapshot = self.snapshot;
        let named = snapshot.site().postmaster.as_deref();
        if let (false, Some(Ok(named))) = (self.at_postmaster, named.map(Name::parse)) {
            let (reached, refused) = (self.reached, self.result.refused.len());
            self.at_postmaster = true;
            self.visit(&named, detail);
            self.at_postmaster = false;
            if self.reached > reached {
                return;
            }
            self.result.refused.truncate(refused);
        }
        match snapshot.internal_postmaster() {
            Some(account) => self.deliver(account, address, detail),
            None => self.refuse(address, Why::NoSuchUser),
        }
    }

    fn deliver(&mut self, account: &Arc<Account>, key: &str, detail: Option<&str>) {
        if !account.keeps_mail() {
            return self.refuse(key, Why::NoMailbox);
        }
        if !self.accounts.contains(&account.id) && self.accounts.len() >= REACH_MAX {
            return self.refuse(key, Why::TooMany);
        }
        self.reached += 1;
        if self.accounts.insert(account.id) {
            self.result.local.push(Recipient {
                account: Arc::clone(account),
                detail: detail.map(str::to_owned),
                original: self.original.clone(),
            });
        }
    }

    fn send_on(&mut self, address: String) {
        if self.result.outside.contains(&address) {
            return;
        }
        if self.result.outside.len() >= OUTSIDE_MAX {
            return self.refuse(&address, Why::TooMany);
        }
        self.reached += 1;
        self.result.outside.push(address);
    }

    fn refuse(&mut self, address: &str, why: Why) {
        // A wide alias of bad targets must not make a wide answer.
        if self.result.refused.len() < REACH_MAX {
            self.result.refused.push(Refusal {
                address: address.to_owned(),
                why,
            });
        }
    }
}
