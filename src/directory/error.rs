//! What can go wrong in the directory: what an administrator did, and what the server could not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::password::{HashError, PASSWORD_BYTES_MAX};
use super::signing::DkimError;
use crate::store::StoreError;

/// Why a command was not carried out. Its text names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "kebab-case")]
pub enum DirectoryError {
    NotAnAddress {
        text: String,
    },
    NotADomain {
        text: String,
    },
    NotOurDomain {
        domain: String,
    },
    DomainExists {
        domain: String,
    },
    NoSuchDomain {
        domain: String,
    },
    DomainInConfig {
        domain: String,
    },
    DomainInUse {
        domain: String,
        accounts: usize,
        aliases: usize,
    },
    AliasOfAlias {
        domain: String,
        real: String,
    },
    AddressTaken {
        address: String,
    },
    AddressIsAlias {
        address: String,
    },
    NoSuchUser {
        address: String,
    },
    NoSuchAlias {
        address: String,
    },
    NoSuchTarget {
        address: String,
    },
    TargetOutside {
        address: String,
    },
    AliasLoop {
        address: String,
    },
    TooManyTargets {
        address: String,
        max: usize,
    },
    NoTargets {
        address: String,
    },
    PasswordEmpty,
    PasswordTooLong,
    NoPasswordForKind {
        kind: String,
    },
    BadHash {
        why: HashError,
    },
    NotText {
        field: String,
    },
    TooManyRows {
        max: usize,
    },
    Internal {
        address: String,
    },
    StillHasMail {
        address: String,
        id: u64,
    },
    Dkim {
        why: DkimError,
    },
    /// The store did not take the change.
    NotStored {
        why: NotStored,
    },
    /// Nobody answered in time; the change may or may not be made.
    Late,
    /// Too many commands wait, or too many passwords are being hashed.
    Busy,
    /// The server is stopping.
    Stopping,
}

/// What the store said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotStored {
    DiskFull,
    DiskFailed,
    Refused,
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        let why = match error {
            StoreError::Late => return DirectoryError::Late,
            StoreError::Busy => return DirectoryError::Busy,
            StoreError::Full => NotStored::DiskFull,
            StoreError::Poisoned => NotStored::DiskFailed,
            StoreError::OverQuota { .. }
            | StoreError::NoMailbox
            | StoreError::MailboxExists
            | StoreError::BadName
            | StoreError::NotAllowed
            | StoreError::HasChildren
            | StoreError::Expunged
            | StoreError::MailboxGone
            | StoreError::ReadOnly
            | StoreError::ArchivesOnly
            | StoreError::UidsUsedUp
            | StoreError::Damaged { .. }
            | StoreError::NotOwner(_) => NotStored::Refused,
        };
        DirectoryError::NotStored { why }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DirectoryError as E;
        match self {
            E::NotAnAddress { text } => {
                write!(f, "`{text}` is no mail address; write it as name@domain")
            }
            E::NotADomain { text } => {
                write!(f, "`{text}` is no domain name; write it as example.org")
            }
            E::NotOurDomain { domain } => write!(
                f,
                "{domain} is not one of our domains; add it first: palomar domain add {domain}"
            ),
            E::DomainExists { domain } => {
                write!(f, "{domain} is there already; see palomar domain list")
            }
            E::NoSuchDomain { domain } => {
                write!(f, "there is no domain {domain}; see palomar domain list")
            }
            E::DomainInConfig { domain } => write!(
                f,
                "{domain} stands in `domains` of the config file; take it out there and restart"
            ),
            E::DomainInUse {
                domain,
                accounts,
                aliases,
            } => write!(
                f,
                "{domain} still has {accounts} addresses of accounts and {aliases} aliases; \
                 remove or rename those first"
            ),
            E::AliasOfAlias { domain, real } => {
                write!(f, "{domain} is itself an alias; use --alias-of {real}")
            }
            E::AddressTaken { address } => write!(
                f,
                "{address} belongs to an account already; see palomar user show {address}"
            ),
            E::AddressIsAlias { address } => write!(
                f,
                "{address} is an alias already; remove it first: palomar alias remove {address}"
            ),
            E::NoSuchUser { address } => {
                write!(f, "there is no account {address}; see palomar user list")
            }
            E::NoSuchAlias { address } => {
                write!(f, "there is no alias {address}; see palomar alias list")
            }
            E::NoSuchTarget { address } => {
                write!(
                    f,
                    "nobody has the address {address}; add the account or alias first"
                )
            }
            E::TargetOutside { address } => write!(
                f,
                "{address} is outside our domains, and mail cannot be sent on to other servers \
                 yet; use an address of ours"
            ),
            E::AliasLoop { address } => write!(
                f,
                "with this, mail for {address} would go round in a circle or through too many \
                 aliases; leave out the target that leads back"
            ),
            E::TooManyTargets { address, max } => write!(
                f,
                "{address} would have more than {max} targets; split it into several aliases"
            ),
            E::NoTargets { address } => {
                write!(
                    f,
                    "an alias needs a target: palomar alias add {address} TO..."
                )
            }
            E::PasswordEmpty => f.write_str("the password is empty; give one"),
            E::PasswordTooLong => write!(
                f,
                "the password has more than {PASSWORD_BYTES_MAX} bytes; choose a shorter one"
            ),
            E::NoPasswordForKind { kind } => write!(
                f,
                "an account of kind {kind} has no password of its own; leave it out, or make it \
                 a person"
            ),
            E::BadHash { why } => fmt::Display::fmt(why, f),
            E::NotText { field } => {
                write!(
                    f,
                    "{field} is too long or has control characters; shorten it"
                )
            }
            E::TooManyRows { max } => write!(f, "at most {max} rows at a time; send them in parts"),
            E::Internal { address } => write!(
                f,
                "{address} keeps the mail of postmaster and abuse and cannot be removed or \
                 renamed; set `postmaster` in the config to have somebody read it"
            ),
            E::StillHasMail { address, id } => write!(
                f,
                "{address} is removed, but its mail could not be deleted; try again: \
                 palomar user remove '#{id}' --purge"
            ),
            E::Dkim { why } => fmt::Display::fmt(why, f),
            E::NotStored {
                why: NotStored::DiskFull,
            } => f.write_str("the disk is full; nothing was changed: make room and try again"),
            E::NotStored {
                why: NotStored::DiskFailed,
            } => f.write_str(
                "the disk failed and the server is stopping; see its log, then restart it",
            ),
            E::NotStored {
                why: NotStored::Refused,
            } => f.write_str("the store refused the change; see the server's log"),
            E::Late => f.write_str(
                "no answer in time: the change may or may not be made; look, then try again",
            ),
            E::Busy => f.write_str("the server is busy; nothing was changed: try again"),
            E::Stopping => f.write_str("the server is stopping; try again when it is up"),
        }
    }
}

impl std::error::Error for DirectoryError {}
