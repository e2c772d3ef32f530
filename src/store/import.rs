//! Taking mail over from elsewhere: what an import asks of an account's owner, from any shard.

use std::time::Duration;

use super::account::{ensure_account, ensure_mailbox};
use super::remote::{Remote, Request};
use super::shard::Shard;
use super::{Access, Account, AccountRef, Appended, NewMessage, Row, StoreError};
use crate::base::{Deadline, Uid};
use crate::runtime::{Reply, deadline, now};

/// Rows of one answer.
pub const ROWS_MAX: usize = 5_000;

/// Writing spool files of large messages takes its time.
const IMPORT_SPAN: Duration = Duration::from_secs(120);

/// One step of an import.
pub(super) enum Step {
    /// A mailbox, made where it is missing.
    Mailbox { name: String, subscribed: bool },
    /// Messages of one record.
    Append {
        mailbox: String,
        messages: Vec<NewMessage>,
    },
    /// What is in a mailbox, after a UID; nothing where there is no such mailbox.
    Rows { mailbox: String, after: Uid },
}

/// What became of it.
pub(super) enum Stepped {
    Mailbox,
    Appended(Appended),
    Rows(Vec<Row>),
}

impl Remote {
    /// Makes the mailbox where it is missing, with its superiors, and subscribes to it if asked.
    pub async fn make_mailbox(
        &self,
        account: AccountRef,
        name: String,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        let step = Step::Mailbox { name, subscribed };
        self.step(account, step).await.map(drop)
    }

    /// Adds all messages or none to a mailbox that is made where it is missing, as one record.
    /// Durable when this returns.
    pub async fn append(
        &self,
        account: AccountRef,
        mailbox: String,
        messages: Vec<NewMessage>,
    ) -> Result<Appended, StoreError> {
        let bodies: Vec<_> = messages.iter().map(|new| new.message.clone()).collect();
        // Once asked for, another shard's record may name the spool files, whatever becomes of us.
        self.own_spools(&bodies);
        let outcome = self.step(account, Step::Append { mailbox, messages }).await;
        let named = matches!(
            outcome,
            Ok(_) | Err(StoreError::Late | StoreError::Poisoned)
        );
        if !named {
            self.disown_spools(&bodies);
        }
        match outcome? {
            Stepped::Appended(appended) => Ok(appended),
            Stepped::Mailbox | Stepped::Rows(_) => Err(StoreError::Late),
        }
    }

    /// At most [`ROWS_MAX`] rows of a mailbox, those after a UID, ascending. A mailbox that does
    /// not exist has none.
    pub async fn rows(
        &self,
        account: AccountRef,
        mailbox: String,
        after: Uid,
    ) -> Result<Vec<Row>, StoreError> {
        match self.step(account, Step::Rows { mailbox, after }).await? {
            Stepped::Rows(rows) => Ok(rows),
            Stepped::Mailbox | Stepped::Appended(_) => Ok(Vec::new()),
        }
    }

    async fn step(&self, account: AccountRef, step: Step) -> Result<Stepped, StoreError> {
        let until = Deadline::after(now(), IMPORT_SPAN);
        if let Some(shard) = self.shard_of(account.partition) {
            return deadline(until, carry_out(shard, account, step))
                .await
                .unwrap_or(Err(StoreError::Late));
        }
        let request = |reply| Request::Import {
            account,
            step,
            reply,
        };
        self.ask(account.partition, until, request).await?
    }
}

/// On the owner, for another shard.
pub(super) async fn answer(
    shard: &std::rc::Rc<Shard>,
    account: AccountRef,
    step: Step,
    reply: Reply<Result<Stepped, StoreError>>,
) {
    // Its client was told to try again: what is done now as well would be done twice.
    if !reply.is_abandoned() {
        reply.send(carry_out(shard, account, step).await);
    }
}

async fn carry_out(
    shard: &std::rc::Rc<Shard>,
    account: AccountRef,
    step: Step,
) -> Result<Stepped, StoreError> {
    let partition = shard.partition(account.partition)?;
    let id = account.account;
    ensure_account(shard, &partition, id).await?;
    let handle = Account::new(shard.clone(), partition.clone(), account);
    match step {
        Step::Mailbox { name, subscribed } => {
            handle.may_make(&name)?;
            ensure_mailbox(shard, &partition, id, &name).await?;
            if subscribed {
                handle.subscribe(&name, true).await?;
            }
            Ok(Stepped::Mailbox)
        }
        Step::Append { mailbox, messages } => {
            handle.may_make(&mailbox)?;
            let mailbox = ensure_mailbox(shard, &partition, id, &mailbox).await?;
            let appended = handle.append(mailbox.id, messages).await?;
            Ok(Stepped::Appended(appended))
        }
        Step::Rows { mailbox, after } => {
            let Some(mailbox) = handle.find(&mailbox) else {
                return Ok(Stepped::Rows(Vec::new()));
            };
            let view = handle.select(mailbox, Access::ReadOnly).await?;
            let from = view.uids().partition_point(|uid| *uid <= after);
            let uids = view.uids()[from..].iter().take(ROWS_MAX);
            Ok(Stepped::Rows(
                uids.filter_map(|uid| view.row(*uid)).collect(),
            ))
        }
    }
}
