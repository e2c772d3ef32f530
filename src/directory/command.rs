//! What an administrator can ask of the directory, and what comes back: the same JSON over the
//! admin socket of a running server and inside the command line of a stopped one.

use serde::{Deserialize, Serialize};

use super::account::{Account, Alias, Class, Entitlements, Kind, bytes};
use super::error::DirectoryError;
use super::password::Secret;
use super::signing::{DkimCommand, DkimKey};
use crate::base::{AccountId, ByteSize};

/// Rows that one [`Command::UserImport`] may have; the command line sends as many as it needs.
pub const IMPORT_ROWS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    DomainAdd {
        name: String,
        #[serde(default)]
        alias_of: Option<String>,
    },
    DomainList,
    DomainRemove {
        name: String,
    },
    UserAdd(NewUser),
    /// Some rows of an import; each is taken or refused by itself, all as one record.
    UserImport {
        rows: Vec<ImportRow>,
    },
    UserList {
        /// Also accounts that were removed and still have mail.
        #[serde(default)]
        removed: bool,
    },
    UserShow {
        address: String,
    },
    UserPasswd {
        address: String,
        password: Secret,
    },
    UserRename {
        from: String,
        to: String,
        /// Mail for the old address and log-ins with it go on.
        #[serde(default)]
        keep_old: bool,
    },
    UserSet {
        address: String,
        change: UserChange,
    },
    UserDisable {
        address: String,
    },
    UserEnable {
        address: String,
    },
    UserRemove {
        /// An address, or `#` and the id of a removed account, which needs `purge`.
        address: String,
        #[serde(default)]
        purge: bool,
    },
    /// Adds targets to an alias, which is made if it is new.
    AliasAdd {
        from: String,
        to: Vec<String>,
    },
    AliasList,
    /// Takes targets out, or the whole alias where none are given.
    AliasRemove {
        from: String,
        #[serde(default)]
        to: Vec<String>,
    },
    /// The keys that domains sign with.
    Dkim(DkimCommand),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUser {
    pub address: String,
    /// `None`: nobody can log in until a password is set.
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default, with = "bytes")]
    pub quota: Option<ByteSize>,
    #[serde(default)]
    pub quota_messages: Option<u64>,
    #[serde(default)]
    pub kind: Kind,
    #[serde(default)]
    pub class: Class,
    #[serde(default)]
    pub entitlements: Option<Entitlements>,
    #[serde(default)]
    pub language: Option<String>,
    #[serde(default)]
    pub timezone: Option<String>,
}

/// What [`Command::UserSet`] changes: only what is `Some`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserChange {
    pub quota: Option<Limit>,
    pub quota_messages: Option<Limit>,
    pub kind: Option<Kind>,
    pub class: Option<Class>,
    pub entitlements: Option<EntitlementChange>,
    /// Empty: the site's.
    pub language: Option<String>,
    /// Empty: the site's.
    pub timezone: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    Unlimited,
    /// Back to that of the class or the site.
    OfClass,
    /// Bytes or messages.
    Of(u64),
}

impl Limit {
    /// As it stands in the account.
    pub(super) fn value(self) -> Option<u64> {
        match self {
            Limit::Unlimited => Some(0),
            Limit::OfClass => None,
            Limit::Of(limit) => Some(limit),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntitlementChange {
    /// Back to the defaults of the class.
    OfClass,
    Only(Entitlements),
}

/// One line of an import file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRow {
    /// Where it stands in the file, for messages.
    pub line: u64,
    pub address: String,
    /// Plain, or `{SCHEME}hash`, or a bare crypt hash.
    pub password: Secret,
    #[serde(default, with = "bytes")]
    pub quota: Option<ByteSize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Durable and in effect on every shard. Notes are worth showing, and no errors.
    Done {
        notes: Vec<String>,
    },
    Domains {
        domains: Vec<DomainInfo>,
    },
    Users {
        users: Vec<UserInfo>,
    },
    Aliases {
        aliases: Vec<Alias>,
    },
    Imported {
        added: u64,
        refused: Vec<RefusedRow>,
    },
    /// Keys as they are now, or as they were when they were removed.
    DkimKeys {
        keys: Vec<DkimKey>,
    },
    /// Header fields, each with its line end; none where nobody signs for the domain.
    Signed {
        fields: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainInfo {
    pub name: String,
    pub alias_of: Option<String>,
    /// Stands in the config file.
    pub in_config: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    #[serde(flatten)]
    pub account: Account,
    /// Every address that names the account, the primary one first.
    pub addresses: Vec<String>,
    /// What it may do now, defaults of its class included.
    pub allowed: Entitlements,
    pub has_password: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    pub line: u64,
    pub address: String,
    pub why: DirectoryError,
}

/// A removed account, as `#id` names it.
pub(super) fn removed_id(text: &str) -> Option<AccountId> {
    text.strip_prefix('#')?.parse().ok().map(AccountId)
}
