//! Where what the queue has for an address here goes: notices to senders, and messages that were
//! held.

use std::rc::Rc;

use super::trace;
use crate::directory::{Directory, Resolution, Why};
use crate::queue::{Way, Ways};
use crate::store::{Flags, Quota, Target};
use crate::wire::address::{Mailbox, Path};

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
    Way {
        targets: local.into_iter().map(target).collect(),
        elsewhere: match is_stranger {
            true => vec![address.clone()],
            false => outside
                .iter()
                .filter_map(|to| Mailbox::parse(to).ok())
                .collect(),
        },
        language: None,
    }
}
