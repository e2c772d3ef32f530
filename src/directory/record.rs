//! How directory data stands in generic records of the system partition: docs/DIRECTORY.md.
//!
//! Keys are UTF-8 in the compared form (A-labels, folded local parts), values JSON or, where
//! one number is all, decimal text.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::account::{Account, Alias, Domain};
use super::password::PasswordHash;
use super::signing::{self, DKIM, DKIM_PRIVATE, DkimKey, PrivateKey, SECRET};
use crate::base::AccountId;
use crate::store::ValueChange;

pub const DOMAIN: &str = "domain";
pub const ACCOUNT: &str = "account";
pub const NAME: &str = "name";
pub const ALIAS: &str = "alias";
pub const PASSWORD: &str = "password";
pub const COUNTER: &str = "counter";

/// Key of the highest account id ever given out.
pub const LAST_ACCOUNT: &str = "account";

fn site(namespace: &str, key: &str, value: Option<Vec<u8>>) -> ValueChange {
    ValueChange {
        account: None,
        namespace: namespace.into(),
        key: key.as_bytes().to_vec(),
        value,
    }
}

fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    Some(serde_json::to_vec(value).expect("plain data has a JSON form"))
}

pub fn set_domain(domain: &Domain) -> ValueChange {
    site(DOMAIN, &domain.name, json(domain))
}

pub fn remove_domain(name: &str) -> ValueChange {
    site(DOMAIN, name, None)
}

pub fn set_account(account: &Account) -> ValueChange {
    site(ACCOUNT, &account.id.to_string(), json(account))
}

pub fn remove_account(id: AccountId) -> ValueChange {
    site(ACCOUNT, &id.to_string(), None)
}

pub fn set_name(key: &str, id: AccountId) -> ValueChange {
    site(NAME, key, Some(id.to_string().into_bytes()))
}

pub fn remove_name(key: &str) -> ValueChange {
    site(NAME, key, None)
}

pub fn set_alias(alias: &Alias) -> ValueChange {
    site(ALIAS, &alias.from, json(alias))
}

pub fn remove_alias(from: &str) -> ValueChange {
    site(ALIAS, from, None)
}

pub fn set_password(id: AccountId, password: &PasswordHash) -> ValueChange {
    site(PASSWORD, &id.to_string(), json(password))
}

pub fn remove_password(id: AccountId) -> ValueChange {
    site(PASSWORD, &id.to_string(), None)
}

pub fn set_last_account(id: u64) -> ValueChange {
    site(COUNTER, LAST_ACCOUNT, Some(id.to_string().into_bytes()))
}

/// One value of ours, read back. `None` in a variant: removed.
#[derive(Debug)]
pub enum Row {
    Domain(String, Option<Domain>),
    Account(AccountId, Option<Account>),
    Name(String, Option<AccountId>),
    Alias(String, Option<Alias>),
    Password(AccountId, Option<PasswordHash>),
    LastAccount(u64),
    Dkim(String, Option<DkimKey>),
    DkimPrivate(String, Option<PrivateKey>),
    Srs(Option<signing::Secret>),
}

/// A value of one of our namespaces that cannot be read: skipped, counted and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Reads one site value; `Ok(None)` where the namespace is another room's.
pub fn read(namespace: &str, key: &[u8], value: Option<&[u8]>) -> Result<Option<Row>, Unreadable> {
    let text = || {
        std::str::from_utf8(key)
            .map(str::to_owned)
            .map_err(|_| Unreadable)
    };
    Ok(Some(match namespace {
        DOMAIN => Row::Domain(text()?, value.map(from_json).transpose()?),
        ACCOUNT => Row::Account(AccountId(number(key)?), value.map(from_json).transpose()?),
        NAME => Row::Name(
            text()?,
            value.map(|v| number(v).map(AccountId)).transpose()?,
        ),
        ALIAS => Row::Alias(text()?, value.map(from_json).transpose()?),
        PASSWORD => Row::Password(AccountId(number(key)?), value.map(from_json).transpose()?),
        COUNTER if key == LAST_ACCOUNT.as_bytes() => match value {
            Some(value) => Row::LastAccount(number(value)?),
            None => return Ok(None),
        },
        DKIM => Row::Dkim(text()?, value.map(from_json).transpose()?),
        DKIM_PRIVATE => Row::DkimPrivate(text()?, value.map(PrivateKey::read).transpose()?),
        SECRET if key == signing::SRS.as_bytes() => {
            Row::Srs(value.map(signing::Secret::read).transpose()?)
        }
        _ => return Ok(None),
    }))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|_| Unreadable)
}

fn number(text: &[u8]) -> Result<u64, Unreadable> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Unreadable)
}

/// The highest account id a change speaks of, if it raises the counter.
pub fn last_account_of(change: &ValueChange) -> Option<u64> {
    match read(&change.namespace, &change.key, change.value.as_deref()) {
        Ok(Some(Row::LastAccount(id))) => Some(id),
        _ => None,
    }
}
