//! QUIT: what is marked goes (RFC 1939 6).

use super::super::counters;
use super::super::serve::{End, Inbox, Session};
use crate::base::Uid;
use crate::observe::{event, log_event};
use crate::store::{Access, StoreError};

impl Session {
    pub(super) async fn update(&mut self) -> Result<(), End> {
        let wanted = self.machine.maildrop().map(|maildrop| maildrop.deleted());
        let wanted = wanted.unwrap_or_default();
        let Some(open) = self.open.as_ref().filter(|_| !wanted.is_empty()) else {
            self.say("+OK bye\r\n");
            return Err(End::Quit);
        };
        match expunge(open, &wanted).await {
            Ok(removed) => {
                let (count, gone) = (removed.len(), wanted.len() - removed.len());
                counters::REMOVED.add(count as u64);
                log_event!(
                    INFO,
                    event::MESSAGE_EXPUNGED,
                    session = %self.presence.id(),
                    account = %open.account.id(),
                    mailbox = "INBOX",
                    messages = count as u64
                );
                let already = match gone {
                    0 => String::new(),
                    gone => format!(", {gone} were gone already"),
                };
                self.say(&format!("+OK {count} messages removed{already}\r\n"));
            }
            Err(error) => {
                log_event!(
                    WARN,
                    event::MESSAGE_EXPUNGED,
                    session = %self.presence.id(),
                    messages = 0,
                    reason = ?error
                );
                let count = wanted.len();
                self.say(&format!(
                    "-ERR [SYS/TEMP] {count} messages were not removed\r\n"
                ));
            }
        }
        Err(End::Quit)
    }
}

/// What somebody else has removed meanwhile is left out of the answer.
async fn expunge(open: &Inbox, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
    let view = open.account.select(open.mailbox, Access::ReadWrite).await?;
    view.expunge(uids).await
}
