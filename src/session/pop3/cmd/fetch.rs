//! RETR and TOP: a message, in pieces.

use super::super::maildrop::Entry;
use super::super::serve::{End, REPLIES_BYTES_MAX, Session};
use super::super::{counters, reply};
use crate::store::{BodyReader, StoreError};
use crate::wire::pop3::{DotStuffer, TopCutter};

/// What is read at once.
const PIECE_BYTES: u64 = 64 << 10;

impl Session {
    /// All of a message, or its header and the first `lines` lines of its body (RFC 1939 7).
    pub(super) async fn fetch(&mut self, entry: Entry, lines: Option<u32>) -> Result<(), End> {
        // The first piece comes before the answer, which cannot be taken back.
        let (reader, first) = match self.first_piece(entry).await {
            Ok(found) => found,
            Err(error) => {
                self.say(reply::store(&error));
                return Ok(());
            }
        };
        counters::SENT.increment();
        match lines {
            None => self.say(&format!("+OK {} octets\r\n", entry.size)),
            Some(_) => self.say("+OK\r\n"),
        }
        let mut cutter = lines.map(TopCutter::new);
        let mut stuffer = DotStuffer::default();
        let (mut piece, mut at) = (first, 0);
        while !piece.is_empty() {
            at += piece.len() as u64;
            let taken = cutter
                .as_mut()
                .map_or(piece.len(), |cutter| cutter.take(&piece));
            stuffer.push(&piece[..taken], &mut self.out);
            if self.out.len() > REPLIES_BYTES_MAX {
                self.flush().await?;
            }
            if taken < piece.len() || cutter.as_ref().is_some_and(TopCutter::is_done) {
                break;
            }
            piece = reader
                .read(at..at + PIECE_BYTES)
                .await
                .map_err(End::Broken)?;
        }
        stuffer.finish(&mut self.out);
        Ok(())
    }

    async fn first_piece(&self, entry: Entry) -> Result<(BodyReader, Vec<u8>), StoreError> {
        let open = self.open.as_ref().ok_or(StoreError::MailboxGone)?;
        let reader = open.view.body(entry.uid).await?;
        let first = reader.read(0..PIECE_BYTES).await?;
        Ok((reader, first))
    }
}
