//! From what is refused to what a client is told. The one place where SMTP has words for the
//! errors of other rooms.

use crate::base::TraceId;
use crate::config::QuotaRefusal;
use crate::delivery::{MailRefusal, MessageRefusal, RecipientRefusal};
use crate::net::Refusal;
use crate::session::{LoginOutcome, LoginRefusal};
use crate::store::StoreError;
use crate::wire::smtp::Reply;

pub fn mail(refusal: MailRefusal) -> Reply {
    match refusal {
        MailRefusal::TooLarge { bytes_max } => {
            // RFC 1870 6.1.
            Reply::new(
                552,
                "5.3.4",
                &format!("At most {bytes_max} bytes are taken"),
            )
        }
    }
}

pub fn recipient(refusal: RecipientRefusal, quota: QuotaRefusal) -> Reply {
    match refusal {
        RecipientRefusal::NotOurs => Reply::new(550, "5.7.1", "Relaying denied"),
        RecipientRefusal::NoSuchUser => Reply::new(550, "5.1.1", "No such user here"),
        RecipientRefusal::BadDomain => Reply::new(550, "5.1.2", "No such domain"),
        RecipientRefusal::NoMailbox => Reply::new(550, "5.2.1", "This address takes no mail"),
        RecipientRefusal::AliasLoop => {
            Reply::new(550, "5.4.6", "The aliases of this address lead nowhere")
        }
        // RFC 5321 4.5.3.1.10: the rest of them can come with another copy.
        RecipientRefusal::TooMany => Reply::new(452, "4.5.3", "Too many recipients"),
        RecipientRefusal::OverQuota => over_quota(quota),
        RecipientRefusal::ExceedsQuota => exceeds_quota(),
        RecipientRefusal::Store(error) => store(&error, quota),
    }
}

pub fn message(outcome: Result<(), &MessageRefusal>, id: TraceId, quota: QuotaRefusal) -> Reply {
    match outcome {
        Ok(()) => Reply::new(250, "2.0.0", &format!("queued as {id}")),
        Err(MessageRefusal::Content(fault)) => fault.reply(),
        Err(MessageRefusal::TooManyHops) => Reply::new(
            554,
            "5.4.6",
            "Too many Received or Delivered-To lines: this is a loop",
        ),
        Err(MessageRefusal::Loop) => Reply::new(
            554,
            "5.4.6",
            "This message was delivered here before: this is a loop",
        ),
        Err(MessageRefusal::OverQuota) => over_quota(quota),
        Err(MessageRefusal::ExceedsQuota) => exceeds_quota(),
        Err(MessageRefusal::Store(error)) => store(error, quota),
    }
}

fn store(error: &StoreError, quota: QuotaRefusal) -> Reply {
    let later = |text| Reply::new(451, "4.3.0", text);
    match error {
        StoreError::Full => Reply::new(452, "4.3.1", "No room for mail at this moment"),
        error if error.exceeds_quota() => exceeds_quota(),
        StoreError::OverQuota { .. } => over_quota(quota),
        StoreError::Busy | StoreError::Late => later("Busy; try again later"),
        StoreError::Poisoned | StoreError::Damaged { .. } | StoreError::NotOwner(_) => {
            later("Local error; try again later")
        }
        // Of changes that delivery does not make; should they come, nothing is lost.
        StoreError::NoMailbox
        | StoreError::MailboxExists
        | StoreError::BadName
        | StoreError::NotAllowed
        | StoreError::HasChildren
        | StoreError::Expunged
        | StoreError::MailboxGone
        | StoreError::ReadOnly
        | StoreError::ArchivesOnly
        | StoreError::UidsUsedUp => later("The mailbox can not be written; try again later"),
    }
}

/// RFC 3463 3.3, X.2.3: message length exceeds administrative limit. Trying again never helps.
fn exceeds_quota() -> Reply {
    let text = "The message is larger than all that this mailbox may hold";
    Reply::new(552, "5.2.3", text)
}

fn over_quota(quota: QuotaRefusal) -> Reply {
    match quota {
        QuotaRefusal::Defer => Reply::new(452, "4.2.2", "The mailbox is full; try again later"),
        QuotaRefusal::Reject => Reply::new(552, "5.2.2", "The mailbox is full"),
    }
}

/// The answer to a log-in, and whether the session ends with it.
pub fn log_in(outcome: &LoginOutcome) -> (Reply, bool) {
    let refusal = match outcome {
        LoginOutcome::In(_) => return (Reply::new(235, "2.7.0", "Welcome"), false),
        LoginOutcome::Busy => {
            return (
                Reply::new(454, "4.7.0", "Too many log-ins; try again"),
                false,
            );
        }
        LoginOutcome::Refused(refusal) => refusal,
    };
    let text = refusal.to_string();
    match refusal {
        LoginRefusal::Wrong | LoginRefusal::ActAs => (Reply::new(535, "5.7.8", &text), false),
        LoginRefusal::Blocked(_) => (Reply::new(421, "4.7.0", &text), true),
        // RFC 5248: X.7.13, user account disabled.
        LoginRefusal::Disabled => (Reply::new(525, "5.7.13", &text), false),
        LoginRefusal::NotAllowed(_) => (Reply::new(535, "5.7.1", &text), false),
    }
}

/// What a connection hears that is not served; `None`: nobody is there to tell.
pub fn refused(refusal: &Refusal) -> Option<Reply> {
    match refusal {
        Refusal::AddressFull => Some(Reply::new(
            421,
            "4.7.0",
            "Too many connections from your address",
        )),
        Refusal::ListenerFull => Some(Reply::new(421, "4.3.2", "Too many connections")),
        Refusal::Proxy(_) => None,
    }
}
