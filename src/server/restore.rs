//! `palomar restore`: what of a user's removed mail is kept, and bringing it back.

use std::time::Duration;

use super::admin::{done, failed};
use crate::base::{AccountId, Deadline};
use crate::directory::Directory;
use crate::runtime;
use crate::store::{AccountRef, Remote, RestoreReport, RestoreRequest, StoreError};
use crate::web::AdminReply;

/// One part of a restore, with what its checkpoint takes.
const PART_SPAN: Duration = Duration::from_secs(120);

/// One part: what is left is asked for again.
pub async fn restore(
    directory: &Directory,
    remote: &Remote,
    user: &str,
    request: RestoreRequest,
) -> AdminReply {
    match account(directory, user) {
        Some(account) => match part(remote, account, request).await {
            Ok(report) => done(&report),
            Err(why) => refused(&why),
        },
        None => nobody(user),
    }
}

/// All of it: on a stopped server nobody asks again.
pub async fn restore_all(
    directory: &Directory,
    remote: &Remote,
    user: &str,
    request: RestoreRequest,
) -> AdminReply {
    let Some(account) = account(directory, user) else {
        return nobody(user);
    };
    let mut whole = RestoreReport::default();
    loop {
        match part(remote, account, request.clone()).await {
            Ok(report) => {
                let more = report.restored > 0 && report.messages > 0;
                whole.go_on(report);
                if !more {
                    return done(&whole);
                }
            }
            Err(why) => return refused(&why),
        }
    }
}

async fn part(
    remote: &Remote,
    account: AccountRef,
    request: RestoreRequest,
) -> Result<RestoreReport, StoreError> {
    let until = Deadline::after(runtime::now(), PART_SPAN);
    remote.restore(account, request, until).await
}

/// By address, or by `#` and the id of a removed account.
fn account(directory: &Directory, user: &str) -> Option<AccountRef> {
    let snapshot = directory.snapshot();
    let found = match user.strip_prefix('#') {
        Some(id) => snapshot.account(AccountId(id.parse().ok()?)),
        None => snapshot.login(user),
    };
    found.map(|account| snapshot.reference(account))
}

fn nobody(user: &str) -> AdminReply {
    let message = format!("no account {user}; palomar user list shows those that there are");
    failed(&message, false)
}

fn refused(why: &StoreError) -> AdminReply {
    let (message, temporary) = match why {
        StoreError::Full => (
            "the disk or the journal is full; make room, try again",
            true,
        ),
        StoreError::Late | StoreError::Busy | StoreError::Poisoned => {
            ("the store did not answer in time; try again", true)
        }
        StoreError::UidsUsedUp => ("the mailbox takes no more messages; rename it first", false),
        StoreError::MailboxGone | StoreError::NoMailbox => {
            ("a mailbox was deleted meanwhile; try again", true)
        }
        _ => (
            "a mailbox or its history cannot be read; see the log",
            false,
        ),
    };
    failed(message, temporary)
}
