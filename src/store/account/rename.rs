//! RENAME (RFC 9051 6.3.6).

use super::create::{Numbers, missing_levels};
use super::{Access, Account, Class, Op, StoreError, maildir};
use crate::base::MailboxId;
use crate::runtime::unix_now;
use crate::store::history::note_rename;

impl Account {
    /// Renames with inferiors; of INBOX moves its messages to a new mailbox (RFC 9051 6.3.6).
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let from = maildir::canonical(from).into_owned();
        let to = maildir::canonical(to.strip_suffix('/').unwrap_or(to)).into_owned();
        if !maildir::is_good(&to) {
            return Err(StoreError::BadName);
        }
        if from == "INBOX" {
            return self.rename_inbox(&to).await;
        }
        self.may_make(&to)?;
        let below = format!("{from}/");
        // A mailbox cannot become its own inferior.
        if to.starts_with(&below) {
            return Err(StoreError::NotAllowed);
        }
        let mut bar = self.shard.bar(&self.partition, self.id()).await?;
        let moved: Vec<(MailboxId, String)> = self.with(|account| {
            let names = account.by_name.iter().filter_map(|(name, id)| {
                let tail = if *name == from {
                    ""
                } else {
                    &name.strip_prefix(&below)?.to_owned()
                };
                let new = if tail.is_empty() {
                    to.clone()
                } else {
                    format!("{to}/{tail}")
                };
                Some((*id, new))
            });
            let mut moved: Vec<_> = names.collect();
            // The same command makes the same record.
            moved.sort_unstable();
            moved
        });
        self.find(&from).ok_or(StoreError::NoMailbox)?;
        if self.find(&to).is_some() || moved.iter().any(|(_, name)| self.find(name).is_some()) {
            return Err(StoreError::MailboxExists);
        }
        let is_archive = |id: MailboxId| self.mailbox(id).is_ok_and(|m| m.archive.get());
        if moved.iter().any(|(id, _)| is_archive(*id)) {
            return Err(StoreError::ReadOnly);
        }
        if moved.iter().any(|(_, name)| !maildir::is_good(name)) {
            return Err(StoreError::BadName);
        }
        let mut numbers = Numbers::of(&self.partition);
        let mut ops = Vec::new();
        let superiors = missing_levels(&self.partition, self.id(), &to);
        for level in superiors.iter().filter(|level| **level != to) {
            ops.push(numbers.created(&self.partition, self.id(), level, None).1);
        }
        for (mailbox, name) in moved {
            ops.push(Op::MailboxRenamed {
                account: self.id(),
                mailbox,
                name,
            });
        }
        let keep_days = self.shard.owned.keep_days.get();
        let names = (from.as_str(), to.as_str());
        let noted = note_rename(&self.partition, self.id(), names, unix_now(), keep_days);
        ops.extend(noted);
        let ticket = self
            .shard
            .submit_barred(&self.partition, ops, Class::Change, &mut bar)?;
        self.shard.commit(ticket).await
    }

    async fn rename_inbox(&self, to: &str) -> Result<(), StoreError> {
        let target = self.create(to, None).await?;
        let inbox = self.find("INBOX").ok_or(StoreError::NoMailbox)?;
        let view = self.select(inbox, Access::ReadOnly).await?;
        let all = view.uids().to_vec();
        view.relocate(&all, target, true).await.map(drop)
    }
}
