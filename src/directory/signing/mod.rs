//! Signing: the DKIM keys of our domains, from which every shard signs, and the secret of SRS.
//!
//! A key is two values of the system partition: what anybody may know of it (`dkim`) and the
//! private half (`dkim-private`), which no listing, log or view shows. [`Signing`] is the part of
//! the snapshot that they are applied to. A key is made `new`, signs once it is `active`, and is
//! kept `retired` until mail that it signed has been verified everywhere.

mod command;
mod error;
mod plan;
mod row;
mod state;
#[cfg(test)]
mod tests;

pub use command::{DkimCommand, RSA_BITS};
pub use error::DkimError;
pub(super) use plan::{NewKey, generate, plan, read};
pub(super) use row::{
    DKIM, DKIM_PRIVATE, PrivateKey, SECRET, SRS, SRS_SECRET_BYTES, Secret, set_srs_secret,
};
pub use row::{DkimKey, KeyState};
pub(super) use state::Signing;
