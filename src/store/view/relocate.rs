//! COPY and MOVE within the account.

use super::change::effective;
use super::{Access, Copied, View};
use crate::base::{MailboxId, Uid};
use crate::runtime::unix_now;
use crate::store::account::check_quota;
use crate::store::journal::Class;
use crate::store::{BodyRef, Op, StoreError};

/// Messages that one record places, so that it fits a batch. "All or none" (RFC 9051 6.4.7) holds
/// up to here; deviates: a larger command is done in parts of this size.
const PLACES_MAX: usize = 10_000;

impl View {
    /// COPY within the account: all or none (RFC 9051 6.4.7).
    pub async fn copy(&self, uids: &[Uid], to: MailboxId) -> Result<Copied, StoreError> {
        self.relocate(uids, to, false).await
    }

    /// MOVE within the account, one record (RFC 9051 6.4.8).
    pub async fn move_to(&self, uids: &[Uid], to: MailboxId) -> Result<Copied, StoreError> {
        if self.access == Access::ReadOnly {
            return Err(StoreError::ReadOnly);
        }
        self.relocate(uids, to, true).await
    }

    pub(in crate::store) async fn relocate(
        &self,
        uids: &[Uid],
        to: MailboxId,
        remove: bool,
    ) -> Result<Copied, StoreError> {
        let mut all: Option<Copied> = None;
        for part in uids.chunks(PLACES_MAX) {
            let one = self.relocate_as_one(part, to, remove).await?;
            match &mut all {
                None => all = Some(one),
                Some(all) => {
                    all.from.extend(one.from);
                    all.to.extend(one.to);
                }
            }
        }
        match all {
            Some(all) => Ok(all),
            None => self.relocate_as_one(&[], to, remove).await,
        }
    }

    async fn relocate_as_one(
        &self,
        uids: &[Uid],
        to: MailboxId,
        remove: bool,
    ) -> Result<Copied, StoreError> {
        let account = self.account.account;
        self.shard.turn(&self.partition, &[account]).await?;
        self.there()?;
        let target = self
            .partition
            .mailbox(account, to)
            .map_err(|_| StoreError::NoMailbox)?;
        let now = unix_now();
        let mut uid = self.partition.next_uid(&target)?;
        let modseq = self.partition.highest(&target).next(self.shard.epoch);
        let uidvalidity = target.meta.borrow().uidvalidity;
        let mut copied = Copied {
            uidvalidity,
            from: Vec::new(),
            to: Vec::new(),
        };
        let mut ops = Vec::with_capacity(uids.len() + 1);
        let mut bytes = 0;
        let mut leans_on_flight = false;
        {
            let index = self.mailbox.index.borrow();
            let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
            let flight = self.partition.flight.borrow();
            let flight = flight.mailbox(account, self.mailbox.id);
            for &from in uids {
                let Some((flags, keywords, _)) = effective(index, flight, from) else {
                    leans_on_flight |= flight.is_some_and(|f| f.is_expunged(from));
                    continue;
                };
                let Some(at) = index.position(from) else {
                    continue;
                };
                bytes += index.size(at);
                ops.push(Op::Placed {
                    account,
                    mailbox: to,
                    uid,
                    modseq,
                    flags,
                    keywords,
                    internal_date: index.date(at),
                    saved: now,
                    body: BodyRef::Copy {
                        mailbox: self.mailbox.id,
                        uid: from,
                    },
                    prefix: Vec::new(),
                    apart: false,
                    origin: None,
                    trace: None,
                });
                copied.from.push(from);
                copied.to.push(uid);
                uid = uid.next().ok_or(StoreError::UidsUsedUp)?;
            }
        }
        if ops.is_empty() && !leans_on_flight {
            return Ok(copied);
        }
        // With nothing to place, what is said to be gone must still be so after a crash: an empty
        // record waits for the other session's removal.
        let class = if remove || ops.is_empty() {
            // Within one mailbox the messages get new UIDs, and this modseq is above the copies'.
            let own = self.partition.highest(&self.mailbox).next(self.shard.epoch);
            let uids = {
                let mut uids = copied.from.clone();
                uids.sort_unstable();
                uids
            };
            let modseq = own.max(modseq);
            ops.push(Op::Expunged {
                account,
                mailbox: self.mailbox.id,
                modseq,
                uids,
                at: now,
            });
            Class::Change
        } else {
            check_quota(&self.partition, self.account, bytes)?;
            Class::NewMail
        };
        let ticket = self.shard.submit(&self.partition, ops, Vec::new(), class)?;
        self.shard.commit(ticket).await?;
        Ok(copied)
    }
}
