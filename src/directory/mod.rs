//! Directory: who there is. Accounts, domains with the keys they sign with, aliases, passwords, and
//! what an account may do.
//!
//! The truth is generic values of the system partition (`docs/DIRECTORY.md`); one function,
//! [`Snapshot`]'s apply, turns them into maps. Shard 0 has the [`Owner`]: it loads, applies,
//! publishes, and carries out every [`Command`] one after the other. Every shard has a
//! [`Directory`] to read the last published [`Snapshot`] and an [`Authenticator`] of its own.
//!
//! Invariants:
//! - An account's id is never given out twice and never changes; addresses point to it.
//! - When a command has its answer, its change is durable and every shard reads it.
//! - Password hashes are made and checked on the blocking pool, never on a shard.
//! - `DATA/directory.sqlite` is a view for people: derived, never read by the server.
//!
//! Runs on: every shard; the owner on shard 0. Deliberately absent: what a message may do
//! (delivery), mailboxes (store), the protocol of log-in (session).

mod account;
mod authenticate;
mod buckets;
mod command;
mod error;
mod import;
mod last_login;
mod name;
mod owner;
mod password;
mod plan;
mod record;
mod resolve;
mod signing;
mod slow;
mod snapshot;
mod verified;
mod view;

#[cfg(test)]
mod tests;

pub use account::{Account, Alias, Class, Domain, Entitlement, Entitlements, Kind, UnknownWord};
pub use authenticate::{AuthError, Authenticator, Credentials, LoggedIn, Service};
pub use command::{
    Answer, Command, DomainInfo, EntitlementChange, IMPORT_ROWS_MAX, ImportRow, Limit, NewUser,
    RefusedRow, UserChange, UserInfo,
};
pub use error::{DirectoryError, NotStored};
pub use import::{ImportError, ImportProblem, Imports, parse_import};
pub use last_login::{LAST_LOGIN, LastLogin, LastLogins};
pub use owner::{Directory, Owner};
pub use password::{HashError, Secret};
pub use resolve::{Recipient, Refusal, Resolution, Why};
pub use signing::{DkimCommand, DkimError, DkimKey, KeyState, RSA_BITS};
pub use snapshot::{LimitOf, Limits, Quotas, Site, Snapshot, Sourced};
