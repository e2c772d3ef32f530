//! From MAIL to the last RCPT: who a message is for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::body::Body;
use super::counters;
use super::error::{MailRefusal, RecipientRefusal};
use super::origin::Origin;
use crate::base::{AccountId, Deadline, TraceId};
use crate::directory::{Account, Directory, Resolution, Why};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::store::{AccountRef, Quota, Remote, StoreError};
use crate::wire::address::Path;
use crate::wire::smtp::{MailFrom, RcptTo};

/// How long an owner may think about a recipient.
const PREFLIGHT_SPAN: Duration = Duration::from_secs(20);
/// Copies of one message. Aliases may be wide, but a record has to hold all of them.
const COPIES_MAX: usize = 4_000;

/// Where mail comes in on one shard. Clones are handles to the same.
#[derive(Clone)]
pub struct Intake {
    pub(super) remote: Remote,
    directory: Directory,
}

/// What a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub message_bytes_max: u64,
    pub recipients_max: usize,
}

/// One message before its content.
pub struct Transaction {
    pub(super) intake: Intake,
    pub(super) origin: Rc<Origin>,
    pub(super) message: TraceId,
    pub(super) mail: MailFrom,
    pub(super) bounds: Bounds,
    pub(super) recipients: Vec<Recipient>,
    pub(super) copies: Vec<Copy>,
    by_account: HashMap<AccountId, usize>,
}

/// One accepted RCPT.
pub(super) struct Recipient {
    pub rcpt: RcptTo,
    /// Which copies it leads to.
    pub copies: Vec<usize>,
}

/// One copy for one account.
pub(super) struct Copy {
    pub account: AccountRef,
    /// The address by which the account got it first.
    pub delivered_to: String,
}

impl Intake {
    #[must_use]
    pub fn new(remote: Remote, directory: Directory) -> Self {
        Intake { remote, directory }
    }

    /// Begins a message (RFC 5321 4.1.1.2).
    pub fn mail(
        &self,
        origin: Rc<Origin>,
        mail: MailFrom,
        bounds: Bounds,
    ) -> Result<Transaction, MailRefusal> {
        let bytes_max = bounds.message_bytes_max;
        if let Some(size) = mail.size.filter(|size| *size > bytes_max) {
            counters::REFUSED.increment(counters::MessageCause::Size);
            log_event!(
                INFO,
                event::MESSAGE_REFUSED,
                session = %origin.session,
                peer = %origin.peer,
                proto = origin.word(),
                from = %mail.path,
                bytes = size,
                reason = "announced as too large"
            );
            return Err(MailRefusal::TooLarge { bytes_max });
        }
        Ok(Transaction {
            intake: self.clone(),
            origin,
            message: runtime::trace_id(),
            mail,
            bounds,
            recipients: Vec::new(),
            copies: Vec::new(),
            by_account: HashMap::new(),
        })
    }
}

impl Transaction {
    /// Stands in Received, in the final reply, and in every log line about the message.
    #[must_use]
    pub fn message(&self) -> TraceId {
        self.message
    }

    /// Whether addresses may be UTF-8 (RFC 6531 3.4).
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        self.mail.smtputf8
    }

    /// Recipients accepted so far.
    #[must_use]
    pub fn recipients(&self) -> usize {
        self.recipients.len()
    }

    /// Takes one more recipient (RFC 5321 4.1.1.3). It is accepted if the address leads to at least
    /// one account; whatever else an alias names is logged.
    pub async fn rcpt(&mut self, rcpt: RcptTo) -> Result<(), RecipientRefusal> {
        let outcome = self.resolve(&rcpt.path).await;
        let (session, message) = (self.origin.session, self.message);
        match &outcome {
            Ok(copies) => {
                counters::RECIPIENTS.increment(self.origin.door());
                log_event!(
                    INFO,
                    event::RECIPIENT_ACCEPTED,
                    session = %session,
                    message = %message,
                    rcpt = %rcpt.path,
                    copies = copies.len() as u64
                );
            }
            Err(why) => {
                counters::RECIPIENTS_REFUSED.increment(why.cause());
                log_event!(
                    INFO,
                    event::RECIPIENT_REFUSED,
                    session = %session,
                    message = %message,
                    peer = %self.origin.peer,
                    from = %self.mail.path,
                    rcpt = %rcpt.path,
                    reason = %why
                );
            }
        }
        let copies = outcome?;
        self.recipients.push(Recipient { rcpt, copies });
        Ok(())
    }

    async fn resolve(&mut self, path: &Path) -> Result<Vec<usize>, RecipientRefusal> {
        if self.recipients.len() >= self.bounds.recipients_max {
            return Err(RecipientRefusal::TooMany);
        }
        let snapshot = self.intake.directory.snapshot();
        let Resolution { local, refused } = match path {
            Path::Mailbox(mailbox) => snapshot.resolve(mailbox),
            // RFC 5321 4.5.1. A null path is no recipient, and syntax has seen to that.
            Path::Postmaster | Path::Null => snapshot.resolve_postmaster(),
        };
        drop(snapshot);
        for refusal in &refused {
            log_event!(
                DEBUG,
                event::RECIPIENT_REFUSED,
                session = %self.origin.session,
                message = %self.message,
                rcpt = refusal.address.as_str(),
                reason = ?refusal.why
            );
        }
        if local.is_empty() {
            let why = refused
                .first()
                .map_or(Why::NoSuchUser, |refusal| refusal.why);
            return Err(refusal(why));
        }
        if self.copies.len() + local.len() > COPIES_MAX {
            return Err(RecipientRefusal::TooMany);
        }
        // One full mailbox must not stop the mail of all others behind an alias.
        let is_alone = local.len() == 1;
        let mut copies = Vec::with_capacity(local.len());
        for recipient in local {
            let known = self.by_account.get(&recipient.account.id).copied();
            copies.push(match known {
                Some(copy) => copy,
                None => {
                    self.add(&recipient.account, recipient.original, is_alone)
                        .await?
                }
            });
        }
        Ok(copies)
    }

    async fn add(
        &mut self,
        account: &Arc<Account>,
        delivered_to: String,
        heeds_quota: bool,
    ) -> Result<usize, RecipientRefusal> {
        let mut reference = self.intake.directory.snapshot().reference(account);
        if heeds_quota {
            self.preflight(reference).await?;
        } else {
            reference.quota = Quota::NONE;
        }
        let at = self.copies.len();
        self.copies.push(Copy {
            account: reference,
            delivered_to,
        });
        self.by_account.insert(account.id, at);
        Ok(at)
    }

    /// Asks the owner whether there is room for as much as was announced.
    async fn preflight(&self, account: AccountRef) -> Result<(), StoreError> {
        if account.quota.is_none() {
            return Ok(());
        }
        let bytes = self.mail.size.unwrap_or(1).max(1);
        let until = Deadline::after(runtime::now(), PREFLIGHT_SPAN);
        self.intake.remote.preflight(account, bytes, until).await
    }

    /// The content follows.
    #[must_use]
    pub fn body(self) -> Body {
        Body::new(self)
    }
}

fn refusal(why: Why) -> RecipientRefusal {
    match why {
        Why::NotLocal => RecipientRefusal::NotOurs,
        Why::NoSuchUser => RecipientRefusal::NoSuchUser,
        Why::Outside => RecipientRefusal::AliasOutside,
        Why::NoMailbox => RecipientRefusal::NoMailbox,
        Why::Loop | Why::TooMany => RecipientRefusal::AliasLoop,
    }
}
