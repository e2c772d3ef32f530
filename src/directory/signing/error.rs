//! Why a key was not made, activated or removed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::command::RSA_BITS;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum DkimError {
    NotASelector { text: String },
    SelectorTaken { selector: String, domain: String },
    OneSelector,
    NotASize { bits: u32 },
    TooManyKeys { domain: String, max: usize },
    StillNew { selector: String, domain: String },
    NoSuchKey { selector: String, domain: String },
    NothingNew { domain: String },
    NotActive { selector: String, domain: String },
    StillActive { selector: String, domain: String },
    StillNeeded { selector: String, days: i64 },
    NotMade,
    NotAKey,
    NotAHeader,
}

impl fmt::Display for DkimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DkimError as E;
        match self {
            E::NotASelector { text } => write!(
                f,
                "`{text}` is no selector; write letters, digits and hyphens, as in mail2026"
            ),
            E::SelectorTaken { selector, domain } => write!(
                f,
                "{domain} has a key named {selector} already; choose another name, or see palomar \
                 dkim list {domain}"
            ),
            E::OneSelector => f.write_str(
                "one selector cannot name two keys; make them one after the other, with --rsa and \
                 with --ed25519",
            ),
            E::NotASize { bits } => {
                let sizes = RSA_BITS.map(|bits| bits.to_string()).join(", ");
                write!(
                    f,
                    "RSA keys of {bits} bits are not made; choose one of {sizes}"
                )
            }
            E::TooManyKeys { domain, max } => write!(
                f,
                "{domain} would have more than {max} keys; remove retired ones: palomar dkim list \
                 {domain}"
            ),
            E::StillNew { selector, domain } => write!(
                f,
                "{selector} of {domain} is new and signs nothing yet; publish it and run palomar \
                 dkim activate {domain}, or remove it: palomar dkim remove {domain} {selector}"
            ),
            E::NoSuchKey { selector, domain } => write!(
                f,
                "{domain} has no key named {selector}; see palomar dkim list {domain}"
            ),
            E::NothingNew { domain } => write!(
                f,
                "{domain} has no new key; make one with palomar dkim make {domain}, or name the \
                 selector of a retired one"
            ),
            E::NotActive { selector, domain } => {
                write!(
                    f,
                    "{selector} of {domain} does not sign; see palomar dkim list {domain}"
                )
            }
            E::StillActive { selector, domain } => write!(
                f,
                "{selector} of {domain} signs mail; have another key take its place (palomar dkim \
                 rotate {domain}), or retire it first: palomar dkim retire {domain} {selector}"
            ),
            E::StillNeeded { selector, days } => write!(
                f,
                "mail that {selector} signed may still be verified for {days} more days, if its \
                 record stays in the zone; then remove it, or now with --force"
            ),
            E::NotMade => f.write_str("the key could not be made; try again"),
            E::NotAKey => f.write_str(
                "that is no private key to sign with; give one in PEM or DER, without a password: \
                 Ed25519, or RSA of 2048 to 4096 bits; in the place of a shorter one make a new one",
            ),
            E::NotAHeader => f.write_str("what came is no header with the hash of its body"),
        }
    }
}
