//! LIST and UIDL of the whole mailbox.

use super::super::maildrop::{Entry, Maildrop};
use super::super::serve::{End, REPLIES_BYTES_MAX, Session};
use crate::base::Uid;

impl Session {
    /// RFC 1939 5.
    pub(super) async fn list(&mut self) -> Result<(), End> {
        self.listing(&|_, number, entry| format!("{number} {}\r\n", entry.size))
            .await
    }

    /// RFC 1939 7.
    pub(super) async fn uidl(&mut self) -> Result<(), End> {
        self.listing(&|maildrop, number, entry| {
            format!("{number} {}\r\n", maildrop.unique_id(entry))
        })
        .await
    }

    /// In pieces: a mailbox may have any number of messages.
    async fn listing(
        &mut self,
        line: &dyn Fn(&Maildrop, u32, &Entry) -> String,
    ) -> Result<(), End> {
        self.say("+OK\r\n");
        let mut said = Uid(0);
        loop {
            let Some(maildrop) = self.machine.maildrop() else {
                return Ok(());
            };
            let mut piece = String::new();
            for (number, entry) in maildrop.here().filter(|(_, entry)| entry.uid > said) {
                piece += &line(maildrop, number, entry);
                if piece.len() >= REPLIES_BYTES_MAX {
                    said = entry.uid;
                    break;
                }
            }
            self.say(&piece);
            if piece.len() < REPLIES_BYTES_MAX {
                self.say(".\r\n");
                return Ok(());
            }
            self.flush().await?;
        }
    }
}
