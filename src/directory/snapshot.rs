//! The directory as every shard reads it, and the one function that changes it.
//!
//! [`Snapshot::apply`] is the whole state machine: generic values in, maps out, no decisions.
//! Loading at start, a change by an administrator and a change that arrives on a spare all go
//! through it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::{Account, Alias, Class, Domain};
use super::buckets::Buckets;
use super::name::{self, Name};
use super::password::PasswordHash;
use super::record::{self, Row, Unreadable};
use super::signing::Signing;
use crate::base::{AccountId, ByteSize, PartitionId};
use crate::policy::dkim::{BodyDigest, Signer, Times};
use crate::policy::srs::Srs;
use crate::store::{AccountRef, Quota, ValueChange};

/// What the directory takes from the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// `domains`; a bare log-in name is one of the first.
    pub domains: Vec<String>,
    /// Who reads postmaster@ and abuse@.
    pub postmaster: Option<String>,
    /// `[auth] failure_delay`: the unit of slowing down; zero switches it off.
    pub failure_delay: Duration,
    /// User partitions of this data directory.
    pub partitions: u16,
    /// Limits of mailboxes; 0 is none.
    pub quotas: Quotas,
}

/// Limits of accounts that have none of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    pub default: Limits,
    /// What is `None` here is the default.
    pub classes: Vec<(Class, Limits)>,
}

/// As configured: 0 is no limit, `None` leaves it to somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes: Option<ByteSize>,
    pub messages: Option<u64>,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitOf {
    User,
    Class,
    Site,
}

/// The whole directory at one moment. A clone is cheap and shares everything.
#[derive(Clone)]
pub struct Snapshot {
    site: Arc<Site>,
    pub(super) domains: Buckets<String, Domain>,
    pub(super) accounts: Buckets<AccountId, Arc<Account>>,
    pub(super) names: Buckets<String, AccountId>,
    pub(super) aliases: Buckets<String, Arc<Alias>>,
    passwords: Buckets<AccountId, Arc<PasswordHash>>,
    signing: Signing,
    last_account: u64,
}

impl Snapshot {
    /// An empty directory. Names of the config that are no domains are left out; the config
    /// room has refused them long before.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        Snapshot {
            site: Arc::new(folded(site)),
            domains: Buckets::new(),
            accounts: Buckets::new(),
            names: Buckets::new(),
            aliases: Buckets::new(),
            passwords: Buckets::new(),
            signing: Signing::default(),
            last_account: 0,
        }
    }

    /// A forebear of this one with nothing in it, to compare with.
    pub(super) fn emptied(&self) -> Self {
        Snapshot {
            site: Arc::clone(&self.site),
            domains: self.domains.emptied(),
            accounts: self.accounts.emptied(),
            names: self.names.emptied(),
            aliases: self.aliases.emptied(),
            passwords: self.passwords.emptied(),
            signing: Signing::default(),
            last_account: 0,
        }
    }

    pub(super) fn set_site(&mut self, site: &Site) {
        self.site = Arc::new(folded(site));
    }

    /// Takes one changed value in. False: the value belongs to another room.
    pub(super) fn apply(&mut self, change: &ValueChange) -> Result<bool, Unreadable> {
        if change.account.is_some() {
            return Ok(false);
        }
        self.apply_value(&change.namespace, &change.key, change.value.as_deref())
    }

    pub(super) fn apply_value(
        &mut self,
        namespace: &str,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<bool, Unreadable> {
        let Some(row) = record::read(namespace, key, value)? else {
            return Ok(false);
        };
        match row {
            Row::Domain(name, Some(domain)) => drop(self.domains.insert(name, domain)),
            Row::Domain(name, None) => drop(self.domains.remove(&name)),
            Row::Account(id, Some(account)) => drop(self.accounts.insert(id, Arc::new(account))),
            Row::Account(id, None) => drop(self.accounts.remove(&id)),
            Row::Name(name, Some(id)) => drop(self.names.insert(name, id)),
            Row::Name(name, None) => drop(self.names.remove(&name)),
            Row::Alias(from, Some(alias)) => drop(self.aliases.insert(from, Arc::new(alias))),
            Row::Alias(from, None) => drop(self.aliases.remove(&from)),
            Row::Password(id, Some(hash)) => drop(self.passwords.insert(id, Arc::new(hash))),
            Row::Password(id, None) => drop(self.passwords.remove(&id)),
            Row::LastAccount(id) => self.last_account = self.last_account.max(id),
            Row::Dkim(id, key) => self.signing.apply_key(id, key),
            Row::DkimPrivate(id, key) => self.signing.apply_private(id, key),
            Row::Srs(secret) => self.signing.apply_srs(secret.map(|secret| secret.0)),
        }
        Ok(true)
    }

    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.accounts.get(&id)
    }

    /// What the store needs to know of an account.
    #[must_use]
    pub fn reference(&self, account: &Account) -> AccountRef {
        AccountRef {
            account: account.id,
            partition: account.partition,
            quota: self.quota(account),
        }
    }

    /// The limits in force for an account.
    #[must_use]
    pub fn quota(&self, account: &Account) -> Quota {
        let (bytes, messages) = self.limits(account);
        Quota {
            bytes: bytes.and_then(|(limit, _)| (limit.0 > 0).then_some(limit)),
            messages: messages.and_then(|(limit, _)| (limit > 0).then_some(limit)),
        }
    }

    /// Limits in bytes and messages, each with where it comes from: the account's own, else that
    /// of its class, else that of the site. 0 is no limit.
    #[must_use]
    pub fn limits(&self, account: &Account) -> Sourced {
        // RFC 5321 4.5.1: mail for the postmaster is never refused.
        if self.names.get(name::POSTMASTER) == Some(&account.id) {
            return (None, None);
        }
        let quotas = &self.site.quotas;
        let of_class = quotas.classes.iter().find(|(c, _)| *c == account.class);
        let class = of_class.map(|(_, limits)| *limits).unwrap_or_default();
        let bytes = nearest(account.quota, class.bytes, quotas.default.bytes);
        let messages = nearest(
            account.quota_messages,
            class.messages,
            quotas.default.messages,
        );
        (bytes, messages)
    }

    /// Accounts whose limits are others than in an earlier snapshot, with what they were; `None` of
    /// those that it did not have.
    #[must_use]
    pub fn limits_changed(&self, before: &Snapshot) -> Vec<(AccountRef, Option<Quota>)> {
        let mut changed = Vec::new();
        let mut compare = |now: &Arc<Account>, was: Option<&Arc<Account>>| {
            let was = was.map(|was| before.quota(was));
            let is_there = now.removed.is_none();
            let now = self.reference(now);
            if is_there && was != Some(now.quota) {
                changed.push((now, was));
            }
        };
        if Arc::ptr_eq(&self.site, &before.site) {
            let each = |_: &AccountId, was: Option<&Arc<Account>>, now: Option<&Arc<Account>>| {
                if let Some(now) = now {
                    compare(now, was);
                }
            };
            self.accounts.diff(&before.accounts, each);
        } else {
            for (id, now) in self.accounts.iter() {
                compare(now, before.accounts.get(id));
            }
        }
        changed
    }

    /// Every account, removed ones included, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter().map(|(_, account)| account)
    }

    /// Accounts, removed ones included.
    #[must_use]
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    pub(super) fn password(&self, id: AccountId) -> Option<&Arc<PasswordHash>> {
        self.passwords.get(&id)
    }

    pub(super) fn last_account(&self) -> u64 {
        self.last_account
    }

    /// The real domain behind `name` (A-label, lower case) if it is one of ours.
    #[must_use]
    pub fn local_domain<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut name = name;
        // An alias of an alias is refused when added; a domain that became one later is not.
        for _ in 0..4 {
            match self.domains.get(name) {
                Some(Domain {
                    alias_of: Some(real),
                    ..
                }) => name = real,
                Some(_) => return Some(name),
                None => return self.in_config(name).then_some(name),
            }
        }
        None
    }

    /// The DKIM-Signature fields for a message from `from_domain`, one a key, to put before it:
    /// those of that domain, or of ours above it; empty where there are none. `head` is the header
    /// as it will leave, `body` the hash of what follows its blank line. RSA takes half a
    /// millisecond: many are signed on the pool, with this snapshot.
    #[must_use]
    pub fn sign(&self, from_domain: &str, head: &[u8], body: &BodyDigest, times: Times) -> Vec<u8> {
        let Some(domain) = name::domain_key(from_domain) else {
            return Vec::new();
        };
        let signers = self.signing.signers();
        let is_ours = |signer: &Arc<Signer>| self.local_domain(&signer.domain).is_some();
        match signers.of(&domain).first().is_some_and(is_ours) {
            true => signers.sign(&domain, head, body, times),
            false => Vec::new(),
        }
    }

    /// Rewrites the senders of what is forwarded; `None` until the directory has started.
    #[must_use]
    pub fn srs(&self) -> Option<&Arc<Srs>> {
        self.signing.srs()
    }

    pub(super) fn signing(&self) -> &Signing {
        &self.signing
    }

    pub(super) fn in_config(&self, name: &str) -> bool {
        self.site.domains.iter().any(|domain| domain == name)
    }

    /// True for a domain of ours, alias or not, in any spelling.
    #[must_use]
    pub fn is_local(&self, domain: &str) -> bool {
        name::domain_key(domain).is_some_and(|key| self.local_domain(&key).is_some())
    }

    /// The account behind what a user types at log-in: a full address, or bare a name in the
    /// first of `domains`.
    #[must_use]
    pub fn login(&self, text: &str) -> Option<&Arc<Account>> {
        let name = match text.contains('@') {
            true => Name::parse(text).ok()?,
            false => Name::new(text, self.site.domains.first()?).ok()?,
        };
        self.account_named(&name)
    }

    /// The account that an address names, exactly: no detail, no alias.
    #[must_use]
    pub(super) fn account_named(&self, name: &Name) -> Option<&Arc<Account>> {
        let domain = self.local_domain(name.domain())?;
        let id = match self.names.get(&name::key(name.local(), domain)) {
            None if name.local() == name::POSTMASTER => self.names.get(name::POSTMASTER)?,
            id => id?,
        };
        self.accounts.get(id)
    }

    /// The account that keeps the mail of postmaster@ and abuse@ while nobody is named.
    #[must_use]
    pub fn internal_postmaster(&self) -> Option<&Arc<Account>> {
        self.accounts.get(self.names.get(name::POSTMASTER)?)
    }

    /// Where a new account goes: stored with it and never computed again.
    pub(super) fn place(&self, id: AccountId) -> PartitionId {
        let hash = blake3::hash(&id.0.to_be_bytes());
        let head = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32"));
        let partitions = u64::from(self.site.partitions.max(1));
        PartitionId(u16::try_from(head % partitions).expect("below a u16"))
    }
}

/// Limits in bytes and in messages, with where each comes from.
pub type Sourced = (Option<(ByteSize, LimitOf)>, Option<(u64, LimitOf)>);

fn nearest<T>(user: Option<T>, class: Option<T>, site: Option<T>) -> Option<(T, LimitOf)> {
    let user = user.map(|limit| (limit, LimitOf::User));
    let class = class.map(|limit| (limit, LimitOf::Class));
    user.or(class).or(site.map(|limit| (limit, LimitOf::Site)))
}

fn folded(site: &Site) -> Site {
    Site {
        domains: site
            .domains
            .iter()
            .filter_map(|d| name::domain_key(d))
            .collect(),
        ..site.clone()
    }
}
