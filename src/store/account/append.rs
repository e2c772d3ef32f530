//! APPEND (RFC 9051 6.3.12): one or several messages, all or none.

use std::sync::Arc;

use super::{Account, Appended, Class, NewMessage, Op, StoreError, quota};
use crate::base::{BATCH_BYTES_MAX, MailboxId, Uid};
use crate::runtime::unix_now;
use crate::store::{Body, BodyRef, Message};

/// Bodies of one record beyond this go to spool files, so that the record fits a batch.
const INLINE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// Messages of one APPEND command (RFC 3502).
const MESSAGES_MAX: usize = 1_000;

impl Account {
    /// Adds all or none, as one record.
    pub async fn append(
        &self,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<Appended, StoreError> {
        if messages.len() > MESSAGES_MAX {
            return Err(StoreError::NotAllowed);
        }
        let mut bodies = Vec::with_capacity(messages.len());
        let mut inline = 0;
        for new in &messages {
            inline += new.message.digest.len();
            if let Body::Inline(bytes) = &new.message.body {
                inline += bytes.len();
            }
            let body = match inline > INLINE_BYTES_MAX {
                true => self.shard.spools.spill(&new.message).await?,
                false => new.message.clone(),
            };
            bodies.push(body);
        }
        self.append_as_one(mailbox, &messages, &bodies).await
    }

    async fn append_as_one(
        &self,
        mailbox: MailboxId,
        messages: &[NewMessage],
        bodies: &[Arc<Message>],
    ) -> Result<Appended, StoreError> {
        self.shard.turn(&self.partition, &[self.id()]).await?;
        let target = self.mailbox(mailbox)?;
        if target.archive.get() {
            return Err(StoreError::ReadOnly);
        }
        let account = self.shard.current(self.account);
        let mut charge = quota::Charge::new(&self.shard, &self.partition);
        for body in bodies {
            charge.add(account, quota::octets(body, &[]), 1);
        }
        charge.check(account)?;
        let mut uid = self.partition.next_uid(&target)?;
        let modseq = self.partition.highest(&target).next(self.shard.epoch);
        let now = unix_now();
        let mut ops = Vec::with_capacity(messages.len());
        let mut uids = Vec::with_capacity(messages.len());
        for (n, new) in messages.iter().enumerate() {
            uids.push(uid);
            ops.push(Op::Placed {
                account: self.id(),
                mailbox,
                uid,
                modseq,
                flags: new.flags,
                keywords: new.keywords.clone(),
                internal_date: new.internal_date.unwrap_or(now),
                saved: now,
                body: BodyRef::New(n as u16),
                prefix: Vec::new(),
                apart: false,
                origin: None,
                trace: new.trace,
            });
            uid = next(uid)?;
        }
        ops.extend(charge.marks());
        let uidvalidity = target.meta.borrow().uidvalidity;
        let ticket = self
            .shard
            .submit(&self.partition, ops, bodies.to_vec(), Class::NewMail)?;
        // At once: who waits for the rest may be cancelled, and the files are the record's now.
        bodies.iter().for_each(|body| self.shard.spools.given(body));
        self.shard.commit(ticket).await?;
        Ok(Appended { uidvalidity, uids })
    }
}

pub(in crate::store) fn next(uid: Uid) -> Result<Uid, StoreError> {
    uid.next().ok_or(StoreError::UidsUsedUp)
}
