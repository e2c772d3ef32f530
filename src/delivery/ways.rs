//! Where what the queue has for an address here goes: notices to senders, and messages that were
//! held.

use std::rc::Rc;

use super::seal::Seal;
use super::trace;
use crate::directory::{Directory, Resolution, Why};
use crate::policy::dkim;
use crate::queue::{Signer, Way, Ways};
use crate::runtime;
use crate::store::{Flags, Quota, Target};
use crate::wire::address::{Mailbox, Path};

/// Signs what this site says itself, with the keys of who it is from.
#[must_use]
pub fn report_signer(directory: Directory) -> Signer {
    Rc::new(move |message| {
        let mut seal = Seal::default();
        seal.feed(message);
        let Some((head, digest)) = seal.finish() else {
            return Vec::new();
        };
        let Some(domain) = dkim::from_domain(&head) else {
            return Vec::new();
        };
        let times = dkim::Times {
            now: runtime::unix_now(),
            lifetime: None,
        };
        directory.snapshot().sign(&domain, &head, &digest, times)
    })
}

/// Finds addresses in the directory.
#[must_use]
pub fn ways(directory: Directory) -> Ways {
    Rc::new(move |address, reverse| way(&directory, address, reverse))
}

fn way(directory: &Directory, address: &Mailbox, reverse: &Path) -> Way {
    let snapshot = directory.snapshot();
    let Resolution {
        local,
        outside,
        refused,
    } = snapshot.resolve(address);
    let is_stranger = refused.iter().any(|refusal| refusal.why == Why::NotLocal);
    let target = |recipient: crate::directory::Recipient| {
        let mut account = snapshot.reference(&recipient.account);
        // It was accepted, or is a notice: never refused, however full the mailbox.
        account.quota = Quota::NONE;
        Target {
            account,
            mailbox: "INBOX".to_owned(),
            flags: Flags::NONE,
            prefix: trace::prefix(reverse, &recipient.original),
        }
    };
    let language = local
        .first()
        .and_then(|recipient| recipient.account.language.clone());
    Way {
        targets: local.into_iter().map(target).collect(),
        elsewhere: match is_stranger {
            true => vec![address.clone()],
            false => outside
                .iter()
                .filter_map(|to| Mailbox::parse(to).ok())
                .collect(),
        },
        language,
    }
}
