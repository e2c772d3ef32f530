//! What an administrator can ask of the keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::directory::password::Secret;
use crate::policy::dkim::Algorithm;

/// Sizes that RSA keys are made in (RFC 8301 3.2).
pub const RSA_BITS: [u32; 3] = [2048, 3072, 4096];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "dkim", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DkimCommand {
    /// Makes a key of each algorithm; they sign nothing yet.
    Make {
        domain: String,
        algorithms: Vec<Algorithm>,
        /// `None`: chosen from the day.
        selector: Option<String>,
        rsa_bits: u32,
    },
    /// Takes over a key that another server signs with.
    Import {
        domain: String,
        selector: String,
        /// In base 64: PKCS #8, or for RSA PKCS #1.
        key: Secret,
    },
    /// The keys of a domain, or all.
    List { domain: Option<String> },
    /// Has keys sign; with no selector named, all that are new. Others of the same algorithm
    /// retire. Whether the DNS shows them is asked before.
    Activate {
        domain: String,
        selectors: Vec<String>,
    },
    /// Has a key sign no more.
    Retire { domain: String, selector: String },
    /// Forgets a key, private half and all.
    Remove {
        domain: String,
        selector: String,
        /// Though it signs, or mail that it signed may still be on its way.
        force: bool,
    },
    /// Signs a header as if the message left now.
    Sign {
        from_domain: String,
        /// The octets in base 64.
        head: String,
        /// The hash of the body in base 64.
        body: String,
        /// How long the signature counts; `None`: as long as its key.
        lifetime: Option<Duration>,
    },
}
