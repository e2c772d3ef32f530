//! COPY and MOVE within the account.

use super::change::effective;
use super::{Access, Copied, View};
use crate::base::{MailboxId, Uid};
use crate::runtime::unix_now;
use crate::store::journal::Class;
use crate::store::quota::Charge;
use crate::store::{Account, BodyRef, Incoming, NewMessage, Op, StoreError};

/// Messages that one record places, so that it fits a batch. "All or none" (RFC 9051 6.4.7) holds
/// up to here; deviates: a larger command is done in parts of this size.
const PLACES_MAX: usize = 10_000;
/// Messages of one record that come out of an archive, octets of them that wait in memory, and
/// what is read at once.
const ARCHIVED_MAX: usize = 100;
const WAITING_BYTES_MAX: u64 = 1 << 20;
const PIECE_BYTES: u64 = 128 << 10;

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
        if self
            .partition
            .mailbox(self.account.account, to)
            .is_ok_and(|m| m.archive.get())
        {
            return Err(StoreError::ReadOnly);
        }
        if self.mailbox.archive.get() && !uids.is_empty() {
            return self.copy_archived(uids, to).await;
        }
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

    /// Out of an archive file: each copy has a body of its own.
    async fn copy_archived(&self, uids: &[Uid], to: MailboxId) -> Result<Copied, StoreError> {
        let account = Account::new(self.shard.clone(), self.partition.clone(), self.account);
        let uidvalidity = account.status(to)?.uidvalidity;
        let mut copied = Copied {
            uidvalidity,
            from: Vec::new(),
            to: Vec::new(),
        };
        for part in uids.chunks(ARCHIVED_MAX) {
            let mut messages = Vec::with_capacity(part.len());
            let mut waiting = 0;
            for uid in part {
                let Some(row) = self.row(*uid) else { continue };
                let body = self.body(*uid).await?;
                let inline_bytes_max = match waiting < WAITING_BYTES_MAX {
                    true => crate::base::INLINE_BODY_BYTES_MAX,
                    false => 0,
                };
                let mut incoming = Incoming::new(self.shard.spools.clone(), inline_bytes_max);
                let mut at = 0;
                while at < body.len() {
                    let piece = body.read(at..at + PIECE_BYTES).await?;
                    if piece.is_empty() {
                        return Err(StoreError::Busy);
                    }
                    at += piece.len() as u64;
                    incoming.write(&piece).await?;
                }
                waiting += at;
                copied.from.push(*uid);
                messages.push(NewMessage {
                    message: incoming.finish().await?,
                    flags: row.flags,
                    keywords: row.keywords.iter().map(ToString::to_string).collect(),
                    internal_date: Some(row.internal_date),
                    trace: None,
                });
            }
            copied.to.extend(account.append(to, messages).await?.uids);
        }
        Ok(copied)
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
            let account = self.shard.current(self.account);
            let mut charge = Charge::new(&self.shard, &self.partition);
            charge.add(account, bytes, copied.to.len() as u64);
            charge.check(account)?;
            ops.extend(charge.marks());
            Class::NewMail
        };
        let ticket = self.shard.submit(&self.partition, ops, Vec::new(), class)?;
        self.shard.commit(ticket).await?;
        Ok(copied)
    }
}
