//! An account's mailboxes, as its own shard sees them.

mod append;
mod create;
mod recount;
mod rename;

use std::rc::Rc;
use std::sync::Arc;

use super::catalogue::AccountState;
use super::journal::Class;
use super::mailbox::Mailbox;
use super::partition::Partition;
use super::shard::Shard;
use super::{
    Access, Flags, FolderSize, Message, Op, Quota, QuotaUsage, Rescanned, SpecialUse, StoreError,
    View, adopt, maildir, quota, repair,
};
use crate::base::{AccountId, MailboxId, ModSeq, PartitionId, TraceId, Uid, UidValidity, UnixMs};

pub use recount::Recount;

pub(super) use append::next as next_uid_after;
pub(super) use create::{Numbers, ensure_account, ensure_mailbox, folder_ops, under_way};

/// What the directory knows of an account and the store needs: placement is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRef {
    pub account: AccountId,
    pub partition: PartitionId,
    /// Limits when this was looked up.
    pub quota: Quota,
}

/// One account on the shard that owns it. Cheap to clone, not `Send`.
#[derive(Clone)]
pub struct Account {
    shard: Rc<Shard>,
    partition: Rc<Partition>,
    account: AccountRef,
}

/// A mailbox as LIST shows it. Names are UTF-8 with `/` between levels; INBOX is "INBOX".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    pub id: MailboxId,
    pub name: String,
    pub special_use: Option<SpecialUse>,
    pub subscribed: bool,
}

/// STATUS (RFC 9051 6.3.11), from the catalogue alone: the mailbox is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: MailboxId,
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    pub recent: u32,
    pub uidnext: Uid,
    pub uidvalidity: UidValidity,
    pub highest_modseq: ModSeq,
    pub size: u64,
}

/// One message of an APPEND.
pub struct NewMessage {
    pub message: Arc<Message>,
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// `None`: now.
    pub internal_date: Option<UnixMs>,
    pub trace: Option<TraceId>,
}

/// APPENDUID (RFC 9051 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub uidvalidity: UidValidity,
    pub uids: Vec<Uid>,
}

impl Account {
    pub(super) fn new(shard: Rc<Shard>, partition: Rc<Partition>, account: AccountRef) -> Self {
        Account {
            shard,
            partition,
            account,
        }
    }

    pub(super) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    pub(super) fn partition(&self) -> &Rc<Partition> {
        &self.partition
    }

    #[must_use]
    pub fn id(&self) -> AccountId {
        self.account.account
    }

    /// Looks at the account as applied; `R::default()` after a purge.
    fn with<R: Default>(&self, look: impl FnOnce(&AccountState) -> R) -> R {
        let state = self.partition.state.borrow();
        state.accounts.get(&self.id()).map(look).unwrap_or_default()
    }

    /// Every mailbox, INBOX first, then by name.
    #[must_use]
    pub fn mailboxes(&self) -> Vec<MailboxInfo> {
        let mut all: Vec<MailboxInfo> = self.with(|account| {
            let info = |m: &Rc<Mailbox>| {
                let meta = m.meta.borrow();
                MailboxInfo {
                    id: m.id,
                    name: meta.name.clone(),
                    special_use: meta.special_use,
                    subscribed: account.subscriptions.contains(&meta.name),
                }
            };
            account.mailboxes.values().map(info).collect()
        });
        all.sort_by(|a, b| (a.name != "INBOX", &a.name).cmp(&(b.name != "INBOX", &b.name)));
        all
    }

    /// Subscribed names, also of mailboxes that do not exist (RFC 9051 6.3.7).
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        self.with(|account| account.subscriptions.iter().cloned().collect())
    }

    /// By name; `inbox` in any case is INBOX.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<MailboxId> {
        self.with(|account| account.find(name).map(|m| m.id))
    }

    pub async fn subscribe(&self, name: &str, subscribed: bool) -> Result<(), StoreError> {
        let name = maildir::canonical(name).into_owned();
        if !maildir::is_good(&name) {
            return Err(StoreError::BadName);
        }
        self.shard.turn(&self.partition, &[self.id()]).await?;
        let op = Op::SubscriptionSet {
            account: self.id(),
            name,
            subscribed,
        };
        let ticket = self
            .shard
            .submit(&self.partition, vec![op], Vec::new(), Class::Change)?;
        self.shard.commit(ticket).await
    }

    fn mailbox(&self, mailbox: MailboxId) -> Result<Rc<Mailbox>, StoreError> {
        self.partition
            .mailbox(self.id(), mailbox)
            .map_err(|_| StoreError::NoMailbox)
    }

    pub fn status(&self, mailbox: MailboxId) -> Result<Status, StoreError> {
        Ok(self.mailbox(mailbox)?.status())
    }

    /// Octets of messages with `\Deleted`: what an EXPUNGE would free. Reads the index.
    pub async fn deleted_bytes(&self, mailbox: MailboxId) -> Result<u64, StoreError> {
        let view = self.select(mailbox, Access::ReadOnly).await?;
        let mut bytes = 0;
        view.scan(view.uids(), &mut |row| {
            if row.flags.contains(Flags::DELETED) {
                bytes += row.size;
            }
        });
        Ok(bytes)
    }

    /// Opens a mailbox for a session. A read-write open takes its `\Recent` (RFC 3501 2.3.2).
    pub async fn select(&self, mailbox: MailboxId, access: Access) -> Result<View, StoreError> {
        let mailbox = self.mailbox(mailbox)?;
        let shard = &self.shard;
        adopt::look(shard, &self.partition, &mailbox).await;
        repair::load(&shard.disk, &shard.owned, &self.partition, &mailbox).await?;
        // Flags of an earlier life, set between its last renames and the end of its last
        // checkpoint: no record of this life tells of them.
        if !mailbox.stale_names.borrow().is_empty() {
            self.partition.queue(&mailbox);
            self.partition.dirty.set(true);
        }
        let access = match mailbox.archive.get() {
            true => Access::ReadOnly,
            false => access,
        };
        Ok(View::open(
            &self.shard,
            &self.partition,
            self.account,
            mailbox,
            access,
        ))
    }

    /// Takes in what other programs put into the folders of this account, or into one of them,
    /// `cur` too.
    pub async fn rescan(&self, folder: Option<&str>) -> Result<Vec<Rescanned>, StoreError> {
        adopt::rescan(&self.shard, &self.partition, self.id(), folder).await
    }

    /// Usage, and the limits in force now.
    #[must_use]
    pub fn quota(&self) -> QuotaUsage {
        self.shard.quota_usage(self.account)
    }

    /// Every folder with its size, largest first.
    #[must_use]
    pub fn folder_sizes(&self) -> Vec<FolderSize> {
        self.partition.folder_sizes(self.id())
    }

    /// Would so much more fit, with what is in flight?
    pub fn has_room(&self, bytes: u64, messages: u64) -> Result<(), StoreError> {
        let account = self.shard.current(self.account);
        quota::check(&self.shard, &self.partition, account, bytes, messages)
    }

    /// A generic value of this account.
    #[must_use]
    pub fn value(&self, namespace: &str, key: &[u8]) -> Option<Arc<[u8]>> {
        let key = (namespace.to_owned(), key.to_owned());
        self.with(|account| account.values.get(&key).cloned())
    }

    /// Sets or removes generic values, as one record.
    pub async fn set_values(
        &self,
        values: Vec<(String, Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let account = Some(self.id());
        let set = |(namespace, key, value)| Op::ValueSet {
            account,
            namespace,
            key,
            value,
        };
        let ops = values.into_iter().map(set).collect();
        self.shard.turn(&self.partition, &[self.id()]).await?;
        let ticket = self
            .shard
            .submit(&self.partition, ops, Vec::new(), Class::Change)?;
        self.shard.commit(ticket).await
    }
}
