//! What `palomar mailbox rescan` does: files that another program put into `cur` or `new`, and that
//! no row names, become messages, and so do those that are longer than their rows say.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::arrive::take;
use super::folder::{STILL, Where};
use super::grown::take_grown;
use super::is_under_way;
use crate::base::AccountId;
use crate::runtime::sleep;
use crate::store::StoreError;
use crate::store::mailbox::Mailbox;
use crate::store::maildir::canonical;
use crate::store::partition::Partition;
use crate::store::shard::Shard;

/// What was found in one mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescanned {
    pub name: String,
    /// Files that no row named.
    pub files: u64,
    /// Those that are messages now; others cannot be read, went away, or are being written to.
    pub taken_in: u64,
    /// Files that were longer than their messages: these were expunged, and come as new ones.
    #[serde(default)]
    pub grown: u64,
}

/// Looks at every name in one mailbox of the account, or in all of them.
pub(in crate::store) async fn rescan(
    shard: &Shard,
    partition: &Partition,
    account: AccountId,
    folder: Option<&str>,
) -> Result<Vec<Rescanned>, StoreError> {
    let mut mailboxes: Vec<Rc<Mailbox>> = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&account).ok_or(StoreError::NoMailbox)?;
        if is_under_way(account) {
            return Err(StoreError::Busy);
        }
        match folder {
            Some(name) => {
                let found = account.find(&canonical(name)).cloned();
                vec![found.ok_or(StoreError::NoMailbox)?]
            }
            None => account.mailboxes.values().cloned().collect(),
        }
    };
    // An archive is a file elsewhere.
    mailboxes.retain(|mailbox| !mailbox.archive.get());
    mailboxes.sort_by_cached_key(|mailbox| mailbox.meta.borrow().name.clone());
    let mut all = Vec::with_capacity(mailboxes.len());
    for mailbox in mailboxes {
        let was_loaded = mailbox.index.borrow().is_some();
        let mut taken = take(shard, partition, &mailbox, Where::Everywhere).await?;
        if taken.young > 0 {
            sleep(STILL).await;
            let then = take(shard, partition, &mailbox, Where::Everywhere).await?;
            taken.files += then.files - taken.young;
            taken.taken_in += then.taken_in;
        }
        let grown = take_grown(shard, partition, &mailbox).await?;
        if !was_loaded {
            mailbox.unload();
        }
        let name = mailbox.meta.borrow().name.clone();
        all.push(Rescanned {
            name,
            files: taken.files,
            taken_in: taken.taken_in,
            grown,
        });
    }
    Ok(all)
}
