//! From the first octet of the content until the message is durable.

use std::time::Duration;

use super::counters;
use super::error::MessageRefusal;
use super::head::{Additions, Head};
use super::origin::Way;
use super::seal::Seal;
use super::trace;
use super::transaction::{Recipient, Transaction};
use crate::base::{Deadline, TraceId, UnixMs};
use crate::observe::{event, log_event};
use crate::policy::dkim;
use crate::queue;
use crate::runtime;
use crate::store::{
    AccountRef, Delivered, Flags, Incoming, MailClass, Outbound, OutboundRecipient, RecipientState,
    StoreError, Target,
};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{DataFault, MailFrom};

/// How long a message may take to become durable. A client waits ten minutes (RFC 5321 4.5.3.2.6);
/// one that is told 451 too early sends it twice.
const PLACE_SPAN: Duration = Duration::from_secs(240);

/// Recipients elsewhere from which on a message is one that nobody waits for.
const BULK_RECIPIENTS_MIN: usize = 50;

const INBOX: &str = "INBOX";

/// A message whose content is coming in.
pub struct Body {
    transaction: Transaction,
    /// `None` once the message is refused: the rest of it goes nowhere.
    incoming: Option<Incoming>,
    head: Head,
    /// Scratch; empty between calls.
    out: Vec<u8>,
    /// Octets of content so far.
    bytes: u64,
    refusal: Option<MessageRefusal>,
    came: UnixMs,
    /// Where it leaves, and its client may sign for us.
    seal: Option<Seal>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub message: TraceId,
    /// One for each accepted RCPT, in their order (RFC 2033 4.2). By SMTP they are all alike.
    pub outcomes: Vec<Result<(), MessageRefusal>>,
}

impl Placed {
    /// The one answer that SMTP has.
    pub fn whole(&self) -> Result<(), &MessageRefusal> {
        self.outcomes
            .iter()
            .find_map(|outcome| outcome.as_ref().err())
            .map_or(Ok(()), Err)
    }
}

impl Body {
    pub(super) fn new(transaction: Transaction) -> Self {
        let origin = &transaction.origin;
        let (message, came) = (transaction.message, runtime::unix_now());
        let only = match &transaction.recipients[..] {
            [one] => Some(&one.rcpt.path),
            _ => None,
        };
        let trace = trace::received(origin, message, transaction.is_utf8(), only, came);
        let hostname = || origin.hostname.clone();
        let additions = origin.is_submission.then(|| Additions {
            message,
            hostname: hostname(),
            at: came,
        });
        let is_leaving = !transaction.outbound.is_empty();
        let seal = (is_leaving && transaction.bounds.may_relay).then(Seal::default);
        Body {
            incoming: Some(transaction.intake.remote.incoming()),
            head: Head::new(additions),
            out: trace.into_bytes(),
            bytes: 0,
            refusal: None,
            came,
            seal,
            transaction,
        }
    }

    /// Stands in the reply.
    #[must_use]
    pub fn message(&self) -> TraceId {
        self.transaction.message
    }

    /// Accepted recipients.
    #[must_use]
    pub fn recipients(&self) -> usize {
        self.transaction.recipients.len()
    }

    /// Takes content. What makes the message impossible is remembered and told by [`Body::place`].
    pub async fn write(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        if self.bytes > self.transaction.bounds.message_bytes_max {
            self.spoil(DataFault::TooLarge);
        }
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let written = if self.head.is_over() && self.out.is_empty() {
            self.seal.iter_mut().for_each(|seal| seal.feed(content));
            incoming.write(content).await
        } else {
            self.head.feed(content, &mut self.out);
            self.seal.iter_mut().for_each(|seal| seal.feed(&self.out));
            let written = incoming.write(&self.out).await;
            self.out = Vec::new();
            written
        };
        if let Err(error) = written {
            self.refuse(error.into());
        }
    }

    /// The content is not what it may be.
    pub fn spoil(&mut self, fault: DataFault) {
        self.refuse(MessageRefusal::Content(fault));
    }

    fn refuse(&mut self, why: MessageRefusal) {
        self.refusal.get_or_insert(why);
        self.incoming = None;
    }

    /// The content is whole: makes it durable for everybody it is for. Nothing may be acknowledged
    /// before this returns.
    pub async fn place(mut self) -> Placed {
        let began = runtime::now();
        let outcomes = match self.finish().await {
            Ok(outcomes) => outcomes,
            Err(why) => self.all(Err(why)),
        };
        counters::PLACE.observe(runtime::now().saturating_duration_since(began));
        self.note(&outcomes);
        Placed {
            message: self.message(),
            outcomes,
        }
    }

    fn all(&self, outcome: Result<(), MessageRefusal>) -> Vec<Result<(), MessageRefusal>> {
        vec![outcome; self.recipients()]
    }

    async fn finish(&mut self) -> Result<Vec<Result<(), MessageRefusal>>, MessageRefusal> {
        self.head.finish(&mut self.out);
        if self.head.is_looping() {
            self.refuse(MessageRefusal::TooManyHops);
        }
        let Some(mut incoming) = self.incoming.take() else {
            // There is a reason whenever it is gone.
            return Err(self
                .refusal
                .clone()
                .unwrap_or(MessageRefusal::Store(StoreError::Late)));
        };
        self.seal.iter_mut().for_each(|seal| seal.feed(&self.out));
        incoming.write(&self.out).await?;
        let looped = self.looped();
        let is_lmtp = self.transaction.origin.way == Way::Lmtp;
        if looped.iter().all(|looped| *looped) || (!is_lmtp && looped.contains(&true)) {
            return Err(MessageRefusal::Loop);
        }
        let wanted = self.wanted(&looped);
        let bytes = incoming.size();
        let message = incoming.finish().await?;
        let signatures = self.sign();
        let mut copies: Vec<Result<(), MessageRefusal>> = wanted
            .iter()
            .map(|w| {
                if *w {
                    Ok(())
                } else {
                    Err(MessageRefusal::Loop)
                }
            })
            .collect();
        let delivered = match self.deliver(&message, &copies, &signatures).await {
            // One full mailbox refuses the whole; by LMTP the others need not suffer for it.
            Err(StoreError::OverQuota { .. }) if is_lmtp => {
                self.weigh(&mut copies, bytes).await;
                self.deliver(&message, &copies, &signatures).await
            }
            // Refused for good is refused for all, some of whom may have room for it.
            Err(why) if why.exceeds_quota() && copies.len() > 1 => {
                return Err(MessageRefusal::OverQuota);
            }
            delivered => delivered,
        };
        let uids = match delivered? {
            Delivered::Placed(uids) => uids,
            Delivered::Queued => Vec::new(),
        };
        self.note_placed(&copies, &uids);
        let outcome = |(recipient, looped): (&Recipient, &bool)| {
            if *looped {
                return Err(MessageRefusal::Loop);
            }
            recipient
                .copies
                .iter()
                .try_for_each(|copy| copies[*copy].clone())
        };
        Ok(self
            .transaction
            .recipients
            .iter()
            .zip(&looped)
            .map(outcome)
            .collect())
    }

    /// Makes it durable for the copies that are still wanted, all or none.
    async fn deliver(
        &self,
        message: &std::sync::Arc<crate::store::Message>,
        copies: &[Result<(), MessageRefusal>],
        signatures: &[u8],
    ) -> Result<Delivered, StoreError> {
        let Transaction {
            intake,
            mail,
            message: trace,
            ..
        } = &self.transaction;
        let wanted = self
            .transaction
            .copies
            .iter()
            .zip(copies)
            // What is held for them waits in the queue with the rest.
            .filter(|(_, copy)| copy.is_ok() && self.transaction.release.is_none());
        let targets: Vec<Target> = wanted
            .map(|(copy, _)| Target {
                account: copy.account,
                mailbox: INBOX.to_owned(),
                flags: Flags::NONE,
                prefix: trace::prefix(&mail.path, &copy.delivered_to),
            })
            .collect();
        let until = Deadline::after(runtime::now(), PLACE_SPAN);
        let is_held = self.transaction.release.is_some();
        if self.transaction.outbound.is_empty() && !is_held {
            let (message, came) = (message.clone(), self.came);
            let delivered = intake.remote.deliver(message, targets, came, *trace, until);
            return delivered.await;
        }
        let outbound = Box::new(self.outbound(signatures));
        let queued = outbound.recipients.clone();
        let sent = intake
            .remote
            .send(message.clone(), targets, Some(outbound), *trace, until);
        sent.await?;
        for recipient in &queued {
            log_event!(
                INFO,
                event::MESSAGE_QUEUED,
                message = %trace,
                rcpt = %recipient.rcpt.path,
                destination = recipient.destination.as_str(),
                sent_on = recipient.redirect.as_ref().is_some_and(|r| !r.head.is_empty())
            );
        }
        Ok(Delivered::Queued)
    }

    /// The signatures of the domain that it is from, where it leaves and that domain is ours.
    fn sign(&mut self) -> Vec<u8> {
        let Some((head, digest)) = self.seal.take().and_then(Seal::finish) else {
            return Vec::new();
        };
        let Some(domain) = dkim::from_domain(&head) else {
            return Vec::new();
        };
        let times = dkim::Times {
            now: runtime::unix_now(),
            lifetime: None,
        };
        let snapshot = self.transaction.intake.directory.snapshot();
        snapshot.sign(&domain, &head, &digest, times)
    }

    /// The envelope for those elsewhere, due at once; of a message that is held, for all.
    fn outbound(&self, signatures: &[u8]) -> Outbound {
        let Transaction {
            intake,
            origin,
            mail,
            outbound,
            recipients,
            release,
            ..
        } = &self.transaction;
        let from = release.unwrap_or_else(runtime::unix_now);
        let class = match outbound.len() >= BULK_RECIPIENTS_MIN || self.head.is_bulk() {
            true => MailClass::Bulk,
            false => MailClass::Normal,
        };
        let due = intake.schedule.opens(class, from);
        let waiting = |recipient: &OutboundRecipient| OutboundRecipient {
            state: RecipientState::Waiting { due },
            ..recipient.clone()
        };
        // By LMTP one recipient may be in a loop, and the others not.
        let elsewhere = outbound.iter().filter(|r| !self.is_back(r)).map(waiting);
        let is_held_here = |r: &&Recipient| release.is_some() && !r.copies.is_empty();
        let here = recipients.iter().filter(is_held_here).map(|recipient| {
            let rcpt = recipient.rcpt.clone();
            OutboundRecipient {
                state: RecipientState::Waiting { due: from },
                ..queue::recipient_here(rcpt)
            }
        });
        Outbound {
            mail: MailFrom {
                size: None,
                // RFC 4954 5: nobody here has proven to be that.
                auth: None,
                hold: None,
                verp: false,
                ..mail.clone()
            },
            class,
            submitter: origin.account.as_ref().map(|account| account.id),
            head: signatures.to_vec(),
            expires: intake.schedule.expires(due, class),
            recipients: elsewhere.chain(here).collect(),
        }
    }

    /// It was sent on from the same address before.
    fn is_back(&self, recipient: &OutboundRecipient) -> bool {
        let Some(redirect) = &recipient.redirect else {
            return false;
        };
        let line = String::from_utf8_lossy(&redirect.head);
        let address = line.trim_start_matches("Delivered-To: ").trim_end();
        let is_submission = self.transaction.origin.is_submission;
        !is_submission
            && self
                .head
                .delivered_to()
                .any(|value| is_same(value, address))
    }

    /// Finds the mailboxes that are full.
    async fn weigh(&self, copies: &mut [Result<(), MessageRefusal>], bytes: u64) {
        let until = Deadline::after(runtime::now(), PLACE_SPAN);
        for (copy, outcome) in self.transaction.copies.iter().zip(copies) {
            let account: AccountRef = copy.account;
            let size = bytes + copy.delivered_to.len() as u64;
            let fits = self
                .transaction
                .intake
                .remote
                .preflight(account, size, until)
                .await;
            if let (Err(why), true) = (fits, outcome.is_ok()) {
                *outcome = Err(why.into());
            }
        }
    }

    /// Which recipients the message names in a Delivered-To. A user who sends a message on by hand
    /// is no loop.
    fn looped(&self) -> Vec<bool> {
        let Transaction {
            recipients,
            copies,
            origin,
            ..
        } = &self.transaction;
        let seen = |address: &str| {
            self.head
                .delivered_to()
                .any(|value| is_same(value, address))
        };
        let looped = |recipient: &Recipient| {
            let mut copies = recipient.copies.iter().map(|copy| &copies[*copy]);
            // What is sent on comes back with the address by which it went.
            let came_back = recipient.sends_on && seen(&plain(&recipient.rcpt.path));
            !origin.is_submission && (came_back || copies.any(|copy| seen(&copy.delivered_to)))
        };
        recipients.iter().map(looped).collect()
    }

    /// Which copies somebody gets.
    fn wanted(&self, looped: &[bool]) -> Vec<bool> {
        let mut wanted = vec![false; self.transaction.copies.len()];
        for (recipient, looped) in self.transaction.recipients.iter().zip(looped) {
            recipient
                .copies
                .iter()
                .for_each(|copy| wanted[*copy] |= !looped);
        }
        wanted
    }

    fn note_placed(&self, copies: &[Result<(), MessageRefusal>], uids: &[crate::base::Uid]) {
        let wanted = self
            .transaction
            .copies
            .iter()
            .zip(copies)
            .filter(|(_, copy)| copy.is_ok());
        for ((copy, _), uid) in wanted.zip(uids) {
            log_event!(
                INFO,
                event::MESSAGE_PLACED,
                message = %self.transaction.message,
                account = %copy.account.account,
                mailbox = INBOX,
                uid = uid.0
            );
        }
    }

    fn note(&self, outcomes: &[Result<(), MessageRefusal>]) {
        let Transaction {
            origin,
            message,
            mail,
            ..
        } = &self.transaction;
        let account = origin
            .account
            .as_ref()
            .map(|account| account.id.to_string());
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        if let Some(why) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
            counters::REFUSED.increment(why.cause());
            log_event!(
                WARN,
                event::MESSAGE_REFUSED,
                session = %origin.session,
                message = %message,
                peer = %origin.peer,
                proto = origin.word(),
                account = account.as_deref(),
                from = %mail.path,
                rcpts = refused as u64,
                bytes = self.bytes,
                reason = %why
            );
        }
        if refused < outcomes.len() {
            counters::ACCEPTED.increment(origin.door());
            counters::ACCEPTED_BYTES.add(origin.door(), self.bytes);
            log_event!(
                INFO,
                event::MESSAGE_ACCEPTED,
                session = %origin.session,
                message = %message,
                peer = %origin.peer,
                proto = origin.word(),
                account = account.as_deref(),
                from = %mail.path,
                envid = mail.envelope_id.as_deref(),
                rcpts = (outcomes.len() - refused) as u64,
                bytes = self.bytes
            );
        }
    }
}

/// As it stands in a header.
fn plain(path: &Path) -> String {
    match path {
        Path::Mailbox(mailbox) => mailbox.to_string(),
        other => other.to_string(),
    }
}

/// Two spellings of one address; a bare `postmaster` has no key and compares as it is.
fn is_same(one: &str, other: &str) -> bool {
    let key = |text| Mailbox::parse(text).ok().and_then(|mailbox| mailbox.key());
    match (key(one), key(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}
