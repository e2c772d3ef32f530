//! From the errors of other rooms to what a client is told.

use crate::session::{LoginOutcome, LoginRefusal};
use crate::store::StoreError;

/// RFC 2449 8.1 and RFC 3206: SYS/TEMP may pass, SYS/PERM does not, and neither is about the
/// password.
pub fn store(error: &StoreError) -> &'static str {
    match error {
        StoreError::Expunged => "-ERR [SYS/PERM] the message was removed by another client\r\n",
        StoreError::Busy | StoreError::Late | StoreError::Full => {
            "-ERR [SYS/TEMP] busy; try again later\r\n"
        }
        StoreError::Poisoned | StoreError::NotOwner(_) => {
            "-ERR [SYS/TEMP] local error; try again later\r\n"
        }
        StoreError::MailboxGone | StoreError::NoMailbox => {
            "-ERR [SYS/TEMP] the mailbox is gone; log in again\r\n"
        }
        StoreError::Damaged { .. } => "-ERR [SYS/PERM] the message cannot be read\r\n",
        // Of changes that POP3 does not make.
        StoreError::OverQuota { .. }
        | StoreError::MailboxExists
        | StoreError::BadName
        | StoreError::NotAllowed
        | StoreError::HasChildren
        | StoreError::ReadOnly
        | StoreError::ArchivesOnly
        | StoreError::UidsUsedUp => "-ERR [SYS/PERM] the mailbox cannot be changed\r\n",
    }
}

/// The answer to a log-in that failed, and whether the session ends with it.
pub fn log_in(outcome: &LoginOutcome) -> Option<(String, bool)> {
    let refusal = match outcome {
        LoginOutcome::In(_) => return None,
        LoginOutcome::Busy => {
            return Some((
                "-ERR [SYS/TEMP] too many log-ins; try again\r\n".to_owned(),
                false,
            ));
        }
        LoginOutcome::Refused(refusal) => refusal,
    };
    let (code, is_end) = match refusal {
        LoginRefusal::Wrong | LoginRefusal::ActAs => ("AUTH", false),
        LoginRefusal::Disabled | LoginRefusal::NotAllowed(_) => ("SYS/PERM", false),
        LoginRefusal::Blocked(_) => ("SYS/TEMP", true),
    };
    Some((format!("-ERR [{code}] {refusal}\r\n"), is_end))
}
