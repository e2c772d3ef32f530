//! From MAIL to the last RCPT: who a message is for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::body::Body;
use super::counters;
use super::error::{MailRefusal, RecipientRefusal};
use super::origin::Origin;
use crate::base::{AccountId, Deadline, TraceId, UnixMs};
use crate::directory::{Account, Directory, Resolution, Why};
use crate::observe::{event, log_event};
use crate::policy::{srs, verp};
use crate::queue::notice::Action;
use crate::queue::{self, Schedule, Teller};
use crate::runtime;
use crate::store::{AccountRef, OutboundRecipient, Quota, Redirect, Remote, StoreError};
use crate::wire::address::{Domain, Mailbox, Path, domain_key};
use crate::wire::smtp::{Hold, MailFrom, Notify, OriginalRecipient, RcptTo};

/// How long an owner may think about a recipient.
const PREFLIGHT_SPAN: Duration = Duration::from_secs(20);
/// Copies of one message. Aliases may be wide, but a record has to hold all of them.
const COPIES_MAX: usize = 4_000;

/// Where mail comes in on one shard. Clones are handles to the same.
#[derive(Clone)]
pub struct Intake {
    pub(super) remote: Remote,
    pub(super) directory: Directory,
    pub(super) schedule: Schedule,
    pub(super) teller: Rc<Teller>,
}

/// What a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub message_bytes_max: u64,
    pub recipients_max: usize,
    /// The client may send to other domains.
    pub may_relay: bool,
    /// It may ask to be told of success (RFC 3461 4.1).
    pub may_ask_for_notices: bool,
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
    /// Recipients elsewhere.
    pub(super) outbound: Vec<OutboundRecipient>,
    by_account: HashMap<AccountId, usize>,
    /// It is held until then, here and elsewhere (RFC 4865).
    pub(super) release: Option<UnixMs>,
}

/// One accepted RCPT.
pub(super) struct Recipient {
    pub rcpt: RcptTo,
    /// Which copies it leads to.
    pub copies: Vec<usize>,
    /// It is an address here that leads to so many elsewhere, too.
    pub onward: usize,
}

/// One copy for one account.
pub(super) struct Copy {
    pub account: AccountRef,
    /// The address by which the account got it first.
    pub delivered_to: String,
}

impl Recipient {
    /// What its sender is to be told once it is here: nothing, where he did not ask, or where
    /// whoever it is sent on to tells it.
    pub fn action(&self) -> Option<Action> {
        let is_asked = self.rcpt.notify.is_some_and(|notify| notify.success);
        match (self.copies.len(), self.onward) {
            _ if !is_asked => None,
            (0, 0 | 1) => None,
            (1, 0) => Some(Action::Delivered),
            // RFC 3464 2.3.3: each of those may still fail.
            _ => Some(Action::Expanded),
        }
    }
}

impl Intake {
    #[must_use]
    pub fn new(
        remote: Remote,
        directory: Directory,
        schedule: Schedule,
        teller: Rc<Teller>,
    ) -> Self {
        Intake {
            remote,
            directory,
            schedule,
            teller,
        }
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
        let now = runtime::unix_now();
        let release = match mail.hold {
            None => None,
            Some(Hold::For(seconds)) => Some(UnixMs(now.0 + i64::from(seconds) * 1000)),
            Some(Hold::Until(at)) => (at > now).then_some(at),
        };
        Ok(Transaction {
            release,
            intake: self.clone(),
            origin,
            message: runtime::trace_id(),
            mail,
            bounds,
            recipients: Vec::new(),
            copies: Vec::new(),
            outbound: Vec::new(),
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
    /// one account, or elsewhere; what is wrong with an alias is logged.
    pub async fn rcpt(&mut self, rcpt: RcptTo) -> Result<(), RecipientRefusal> {
        let mut rcpt = rcpt;
        if let (Some(notify), false) = (&mut rcpt.notify, self.bounds.may_ask_for_notices) {
            notify.success = false;
        }
        let outcome = self.resolve(&rcpt).await;
        let (session, message) = (self.origin.session, self.message);
        match &outcome {
            Ok((copies, _)) => {
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
        let (copies, onward) = outcome?;
        self.recipients.push(Recipient {
            rcpt,
            copies,
            onward,
        });
        Ok(())
    }

    /// The copies that a recipient leads to, and to how many it is sent on besides.
    async fn resolve(&mut self, rcpt: &RcptTo) -> Result<(Vec<usize>, usize), RecipientRefusal> {
        if self.recipients.len() >= self.bounds.recipients_max {
            return Err(RecipientRefusal::TooMany);
        }
        if let Path::Mailbox(to) = &rcpt.path
            && let Some(sender) = self.rewritten_here(to)
        {
            // Else whoever has seen such an address could send what he likes through us with it.
            if self.mail.path != Path::Null {
                return Err(RecipientRefusal::NotOurs);
            }
            self.bounce_back(to, &sender)?;
            return Ok((Vec::new(), 0));
        }
        let snapshot = self.intake.directory.snapshot();
        let Resolution {
            local,
            outside,
            refused,
        } = match &rcpt.path {
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
        if local.is_empty() && outside.is_empty() {
            let why = refused
                .first()
                .map_or(Why::NoSuchUser, |refusal| refusal.why);
            return match (why, &rcpt.path) {
                (Why::NotLocal, Path::Mailbox(to)) if self.bounds.may_relay => {
                    let named = self.verp(to);
                    self.add_elsewhere(rcpt.clone(), to, named)?;
                    Ok((Vec::new(), 0))
                }
                (why, _) => Err(refusal(why)),
            };
        }
        let so_far = self.copies.len() + self.outbound.len();
        if so_far + local.len() + outside.len() > COPIES_MAX {
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
        let is_expanded = copies.len() + outside.len() > 1;
        for address in &outside {
            self.send_on(rcpt, address, is_expanded);
        }
        Ok((copies, outside.len()))
    }

    /// An alias here leads to an address elsewhere. Who asked for notices gets them of that one,
    /// too, under the address that he wrote (RFC 3461 5.2.7.2); but where it stands for several he
    /// is told that, and not of each one's success.
    fn send_on(&mut self, rcpt: &RcptTo, address: &str, is_expanded: bool) {
        let Ok(to) = Mailbox::parse(address) else {
            return;
        };
        let written = match &rcpt.path {
            Path::Mailbox(mailbox) => mailbox.to_string(),
            other => other.to_string(),
        };
        let onward = RcptTo {
            path: Path::Mailbox(to.clone()),
            notify: rcpt.notify.map(|notify| Notify {
                success: notify.success && !is_expanded,
                ..notify
            }),
            original: rcpt.original.clone().or_else(|| original(&written)),
        };
        let redirect = Redirect {
            reverse: self.rewritten(&rcpt.path),
            head: format!("Delivered-To: {written}\r\n").into_bytes(),
        };
        // An alias of a name that the DNS cannot have was refused when it was made.
        let _ = self.add_elsewhere(onward, &to, Some(Box::new(redirect)));
    }

    /// Who mail that is sent on comes from: a stranger's address as one of ours, so that the next
    /// host sees us as who may send it (SPF), and bounces find their way back.
    fn rewritten(&self, alias: &Path) -> Path {
        let snapshot = self.intake.directory.snapshot();
        let (Path::Mailbox(sender), Path::Mailbox(alias)) = (&self.mail.path, alias) else {
            return self.mail.path.clone();
        };
        let is_ours = matches!(&sender.domain, Domain::Name(name) if snapshot.is_local(name));
        let (Some(srs), Domain::Name(ours), false) = (snapshot.srs(), &alias.domain, is_ours)
        else {
            return self.mail.path.clone();
        };
        let rewritten = srs.forward(&sender.to_string(), ours, runtime::unix_now());
        let rewritten = rewritten.ok().and_then(|text| Mailbox::parse(&text).ok());
        rewritten.map_or_else(|| self.mail.path.clone(), Path::Mailbox)
    }

    /// A sender that names this recipient, where the client wants one for each.
    fn verp(&self, to: &Mailbox) -> Option<Box<Redirect>> {
        let Path::Mailbox(sender) = &self.mail.path else {
            return None;
        };
        let wanted = self.mail.verp.then(|| (sender.to_string(), to.to_string()));
        let named = wanted.and_then(|(sender, to)| verp::encode(&sender, &to))?;
        Some(Box::new(Redirect {
            reverse: Path::Mailbox(Mailbox::parse(&named).ok()?),
            head: Vec::new(),
        }))
    }

    /// The sender of mail that was sent on from here, by the address that it left with. A catch-all
    /// does not take it.
    fn rewritten_here(&self, to: &Mailbox) -> Option<Mailbox> {
        let snapshot = self.intake.directory.snapshot();
        let is_ours = matches!(&to.domain, Domain::Name(name) if snapshot.is_local(name));
        if !is_ours || !srs::is_srs(&to.local) {
            return None;
        }
        let back = snapshot.srs()?.back(&to.to_string(), runtime::unix_now());
        Mailbox::parse(&back.ok()?).ok()
    }

    /// A bounce of mail that was sent on from here goes to who had sent it.
    fn bounce_back(&mut self, to: &Mailbox, back: &Mailbox) -> Result<(), RecipientRefusal> {
        let rcpt = RcptTo {
            path: Path::Mailbox(back.clone()),
            // About a bounce nobody is told.
            notify: Some(Notify::default()),
            original: None,
        };
        let redirect = Redirect {
            reverse: Path::Null,
            head: format!("Delivered-To: {to}\r\n").into_bytes(),
        };
        self.add_elsewhere(rcpt, back, Some(Box::new(redirect)))
    }

    fn add_elsewhere(
        &mut self,
        rcpt: RcptTo,
        to: &Mailbox,
        redirect: Option<Box<Redirect>>,
    ) -> Result<(), RecipientRefusal> {
        if matches!(&to.domain, Domain::Name(name) if domain_key(name).is_none()) {
            return Err(RecipientRefusal::BadDomain);
        }
        let destination = queue::destination_of(to);
        let is_known = self.outbound.iter().any(|known| {
            known.destination == destination
                && known.rcpt.path == rcpt.path
                && known.redirect.is_some() == redirect.is_some()
        });
        if !is_known && self.outbound.len() >= COPIES_MAX {
            return Err(RecipientRefusal::TooMany);
        }
        if !is_known {
            self.outbound.push(OutboundRecipient {
                redirect,
                ..OutboundRecipient::waiting(rcpt, destination, UnixMs(0))
            });
        }
        Ok(())
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

    /// It leaves, and its client may sign for us.
    pub(super) fn is_signed(&self) -> bool {
        !self.outbound.is_empty() && self.bounds.may_relay
    }

    /// Somebody is to be told that it arrived here.
    pub(super) fn is_asked_about(&self) -> bool {
        self.recipients.iter().any(|one| one.action().is_some())
    }

    /// The content follows.
    #[must_use]
    pub fn body(self) -> Body {
        Body::new(self)
    }
}

/// ORCPT as a client would have written it (RFC 3461 4.2, RFC 6533 3).
fn original(address: &str) -> Option<OriginalRecipient> {
    let kind = if address.is_ascii() {
        "rfc822"
    } else {
        "utf-8"
    };
    Some(OriginalRecipient {
        kind: kind.to_owned(),
        address: address.to_owned(),
    })
}

fn refusal(why: Why) -> RecipientRefusal {
    match why {
        Why::NotLocal => RecipientRefusal::NotOurs,
        Why::NoSuchUser => RecipientRefusal::NoSuchUser,
        Why::NoMailbox => RecipientRefusal::NoMailbox,
        Why::Loop | Why::TooMany => RecipientRefusal::AliasLoop,
    }
}
