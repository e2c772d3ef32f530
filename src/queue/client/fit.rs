//! Whether a hop can take a letter at all, and in which dress.

use std::fmt;

use super::Letter;
use crate::wire::address::{Domain, Mailbox, Path, domain_key};
use crate::wire::smtp::{BodyKind, Enhanced, MailFrom, Offer, RcptTo};

/// What a message needs and the hop does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// SMTPUTF8 (RFC 6531 3.2).
    Utf8,
    /// 8BITMIME (RFC 6152).
    EightBit,
    /// BINARYMIME and CHUNKING (RFC 3030).
    Binary,
    /// REQUIRETLS, over TLS with a host that is verified (RFC 8689 4.2.1).
    RequireTls,
    /// A higher limit of SIZE than this (RFC 1870 6.1).
    Size { bytes_max: u64 },
}

/// A letter as it will be offered.
#[derive(Debug)]
pub(super) struct Fitted {
    pub mail: MailFrom,
    pub is_dsn_passed: bool,
}

impl Need {
    /// The status of a message that failed for it.
    #[must_use]
    pub fn enhanced(self) -> Enhanced {
        let (subject, detail) = match self {
            Need::Utf8 => (6, 7),
            Need::EightBit | Need::Binary => (6, 3),
            Need::RequireTls => (7, 30),
            Need::Size { .. } => (3, 4),
        };
        Enhanced {
            class: 5,
            subject,
            detail,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Utf8 => {
                "the receiving host takes no addresses or headers with letters outside ASCII"
            }
            Need::EightBit => "the receiving host takes no 8-bit text",
            Need::Binary => "the receiving host takes no binary messages",
            Need::RequireTls => {
                "the sender asked for verified TLS all the way, and the receiving host lacks it"
            }
            Need::Size { bytes_max } => {
                return write!(
                    f,
                    "the message is larger than the {bytes_max} octets that the receiving host \
                     takes"
                );
            }
        })
    }
}

/// `letter` for a hop with this offer, or what it lacks. `is_verified`: over TLS with a host that
/// is proven.
pub(super) fn fit(letter: &Letter, offer: &Offer, is_verified: bool) -> Result<Fitted, Need> {
    let mut mail = letter.mail.clone();
    if let Some(bytes_max) = offer.message_bytes_max.filter(|max| letter.size > *max) {
        return Err(Need::Size { bytes_max });
    }
    mail.size = offer.size.then_some(letter.size);
    if mail.require_tls && !(offer.require_tls && is_verified) {
        return Err(Need::RequireTls);
    }
    match mail.body {
        BodyKind::Binary if !(offer.binary && offer.chunking) => return Err(Need::Binary),
        BodyKind::EightBit if !offer.eight_bit => {
            if !letter.is_eight_bit_forced {
                return Err(Need::EightBit);
            }
            mail.body = BodyKind::SevenBit;
        }
        _ => {}
    }
    let recipients = letter.recipients.iter().map(|rcpt| &rcpt.path);
    let all_ascii = mail.path.is_ascii() && recipients.clone().all(Path::is_ascii);
    if offer.smtputf8 {
        mail.smtputf8 |= !all_ascii;
    } else if mail.smtputf8 {
        return Err(Need::Utf8);
    } else {
        mail.path = plain_path(&mail.path).ok_or(Need::Utf8)?;
    }
    if !offer.dsn {
        mail.ret = None;
        mail.envelope_id = None;
    }
    // RFC 4954 5: only to a server that offers AUTH.
    if offer.auth.is_empty() {
        mail.auth = None;
    }
    Ok(Fitted {
        mail,
        is_dsn_passed: offer.dsn,
    })
}

/// A recipient for the same hop.
pub(super) fn fit_recipient(rcpt: &RcptTo, offer: &Offer, is_utf8: bool) -> Result<RcptTo, Need> {
    let path = match is_utf8 {
        true => rcpt.path.clone(),
        false => plain_path(&rcpt.path).ok_or(Need::Utf8)?,
    };
    Ok(RcptTo {
        path,
        notify: rcpt.notify.filter(|_| offer.dsn),
        original: rcpt.original.clone().filter(|_| offer.dsn),
    })
}

/// The path in ASCII: a domain has A-labels (RFC 5891 4.4), a local part has not.
fn plain_path(path: &Path) -> Option<Path> {
    match path {
        Path::Mailbox(mailbox) if !mailbox.is_ascii() => {
            let Domain::Name(name) = &mailbox.domain else {
                return None;
            };
            let plain = Mailbox {
                local: mailbox.local.clone(),
                domain: Domain::Name(domain_key(name)?),
            };
            plain.is_ascii().then_some(Path::Mailbox(plain))
        }
        path => Some(path.clone()),
    }
}
