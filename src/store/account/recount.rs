//! Counting an account's messages anew, for who doubts the totals.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Account;
use crate::runtime::yield_if_needed;
use crate::store::StoreError;
use crate::store::mailbox::Mailbox;

/// What was counted, and what the totals said before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recount {
    pub bytes: u64,
    pub messages: u64,
    pub bytes_before: u64,
    pub messages_before: u64,
}

impl Recount {
    /// Whether the totals were wrong.
    #[must_use]
    pub fn is_corrected(&self) -> bool {
        (self.bytes, self.messages) != (self.bytes_before, self.messages_before)
    }
}

impl Account {
    /// Counts the rows of every index; totals that say something else are corrected. They are
    /// derived from the records, so this makes none: the next checkpoint keeps what was found.
    pub async fn recount(&self) -> Result<Recount, StoreError> {
        // What an administrator shows a user is not what the user keeps.
        let all = || -> Vec<Rc<Mailbox>> {
            self.with(|account| {
                let counted = account.mailboxes.values().filter(|m| !m.archive.get());
                counted.cloned().collect()
            })
        };
        // The disk is read before the account is held.
        for mailbox in all() {
            self.shard.owned.load(&mailbox, &self.shard.disk).await?;
        }
        let _bar = self.shard.bar(&self.partition, self.id()).await?;
        let mut count = Recount::default();
        for mailbox in all() {
            self.shard.owned.load(&mailbox, &self.shard.disk).await?;
            let (bytes, messages) = sum(&mailbox);
            {
                let mut meta = mailbox.meta.borrow_mut();
                if (meta.weight.size, meta.weight.messages) != (bytes, messages) {
                    self.partition.dirty.set(true);
                    self.partition.touch(&mailbox);
                }
                meta.weight.size = bytes;
                meta.weight.messages = messages;
            }
            count.bytes += bytes;
            count.messages += u64::from(messages);
            mailbox.unload();
            yield_if_needed().await;
        }
        let mut state = self.partition.state.borrow_mut();
        if let Some(account) = state.accounts.get_mut(&self.id()) {
            (count.bytes_before, count.messages_before) = (account.bytes, account.messages);
            (account.bytes, account.messages) = (count.bytes, count.messages);
        }
        if count.is_corrected() {
            self.partition.dirty.set(true);
        }
        Ok(count)
    }
}

fn sum(mailbox: &Mailbox) -> (u64, u32) {
    let index = mailbox.index.borrow();
    let Some(index) = index.as_ref() else {
        return (0, 0);
    };
    let bytes = (0..index.len()).map(|at| index.size(at)).sum();
    (bytes, u32::try_from(index.len()).unwrap_or(u32::MAX))
}
