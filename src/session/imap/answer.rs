//! Tagged replies as values, and where errors of other rooms become response codes (RFC 5530).

use std::borrow::Cow;

use super::super::LoginRefusal;
use crate::store::StoreError;
use crate::wire::imap::{Fault, NameError};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    No,
    Bad,
}

/// The tagged line of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    /// What stands in the brackets.
    pub code: Option<Cow<'static, str>>,
    pub text: Cow<'static, str>,
}

impl Answer {
    #[must_use]
    pub fn ok(text: &'static str) -> Self {
        Answer {
            status: Status::Ok,
            code: None,
            text: Cow::Borrowed(text),
        }
    }

    #[must_use]
    pub fn no(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let code = (!code.is_empty()).then_some(Cow::Borrowed(code));
        Answer {
            status: Status::No,
            code,
            text: text.into(),
        }
    }

    #[must_use]
    pub fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Answer {
            status: Status::Bad,
            code: None,
            text: text.into(),
        }
    }

    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Appends the line.
    pub fn write(&self, tag: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(match self.status {
            Status::Ok => b" OK ",
            Status::No => b" NO ",
            Status::Bad => b" BAD ",
        });
        if let Some(code) = &self.code {
            out.push(b'[');
            out.extend_from_slice(code.as_bytes());
            out.extend_from_slice(b"] ");
        }
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The one place where the store's facts become IMAP.
impl From<StoreError> for Answer {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Answer::no("UNAVAILABLE", "no room for changes now; try later"),
            error if error.exceeds_quota() => Answer::no(
                "OVERQUOTA",
                "this is more than your mailbox may hold, even when it is empty",
            ),
            // RFC 9208 4.3.
            StoreError::OverQuota { .. } => Answer::no("OVERQUOTA", "your mailbox is full"),
            StoreError::Poisoned => Answer::no(
                "SERVERBUG",
                "the disk failed; the server is about to restart",
            ),
            StoreError::Late => Answer::no(
                "UNAVAILABLE",
                "no answer in time; the change may still be made",
            ),
            StoreError::Busy => Answer::no("UNAVAILABLE", "too busy; try again"),
            StoreError::NoMailbox => Answer::no("NONEXISTENT", "there is no such mailbox"),
            StoreError::MailboxExists => Answer::no("ALREADYEXISTS", "this mailbox exists"),
            StoreError::BadName => Answer::no("CANNOT", "a mailbox can not have this name"),
            StoreError::NotAllowed => Answer::no("CANNOT", "this is not done to this mailbox"),
            StoreError::HasChildren => Answer::no("HASCHILDREN", "there are mailboxes below it"),
            StoreError::Expunged => Answer::no("EXPUNGEISSUED", "a message is gone meanwhile"),
            StoreError::MailboxGone => Answer::no("NONEXISTENT", "the mailbox was deleted"),
            StoreError::ReadOnly => Answer::no("READ-ONLY", "the mailbox is open for reading only"),
            StoreError::ArchivesOnly => Answer::no(
                "NOPERM",
                "there are only archives here, which the postmaster keeps",
            ),
            StoreError::UidsUsedUp => Answer::no("LIMIT", "the mailbox has used up its UIDs"),
            // RFC 5530 3, CORRUPTION: all that can be read was served.
            StoreError::Damaged { .. } => Answer::no(
                "CORRUPTION",
                "a message is damaged on the server; tell the postmaster",
            ),
            StoreError::NotOwner(_) => Answer::no("UNAVAILABLE", "your mailbox moved; reconnect"),
        }
    }
}

impl From<LoginRefusal> for Answer {
    fn from(why: LoginRefusal) -> Self {
        let code = match why {
            LoginRefusal::Wrong => "AUTHENTICATIONFAILED",
            LoginRefusal::Blocked(_) => "LIMIT",
            LoginRefusal::Disabled => "CONTACTADMIN",
            LoginRefusal::NotAllowed(_) | LoginRefusal::ActAs => "AUTHORIZATIONFAILED",
        };
        Answer::no(code, why.to_string())
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        match fault {
            // RFC 9051 6.4.4: NO, with what is known.
            Fault::BadCharset => Answer::no("BADCHARSET (UTF-8 US-ASCII)", fault.to_string()),
            fault => Answer::bad(fault.to_string()),
        }
    }
}

impl From<NameError> for Answer {
    fn from(error: NameError) -> Self {
        Answer::no(
            "CANNOT",
            match error {
                NameError::BadUtf7 => "the name is not in modified UTF-7",
                NameError::NotUtf8 => "the name is not UTF-8",
                NameError::Control => "the name holds a control character",
                NameError::TooLong => "the name is too long",
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: impl Into<Answer>, want: &str) {
        let mut out = Vec::new();
        answer.into().write("a1", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("{want}\r\n"));
    }

    #[test]
    fn lines() {
        check(Answer::ok("done"), "a1 OK done");
        check(
            Answer::ok("done").with_code("READ-ONLY"),
            "a1 OK [READ-ONLY] done",
        );
        check(
            StoreError::BadName,
            "a1 NO [CANNOT] a mailbox can not have this name",
        );
        check(
            StoreError::ArchivesOnly,
            "a1 NO [NOPERM] there are only archives here, which the postmaster keeps",
        );
        check(Fault::UnknownCommand, "a1 BAD unknown command");
        check(
            Fault::BadCharset,
            "a1 NO [BADCHARSET (UTF-8 US-ASCII)] this charset is not supported",
        );
        check(
            LoginRefusal::Wrong,
            "a1 NO [AUTHENTICATIONFAILED] wrong user name or password",
        );
    }
}
