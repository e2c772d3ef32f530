//! What needs more than a reply.

mod auth;
mod content;
mod envelope;
mod tls;

use super::machine::{Act, Event};
use super::serve::{End, Session};

impl Session {
    /// Carries out what the machine asked for, and tells it how that went.
    pub(super) async fn perform(&mut self, event: Event, content: Vec<u8>) -> Result<(), End> {
        match event {
            Event::Do(Act::Mail(mail)) => self.mail(mail),
            Event::Do(Act::Rcpt(rcpt)) => self.rcpt(rcpt).await,
            Event::Do(Act::Data) => self.data(),
            Event::Do(Act::Chunk { first }) => self.chunk(first),
            Event::Do(Act::StartTls) => self.start_tls().await?,
            Event::Do(Act::LogIn(credentials)) => self.log_in(credentials).await?,
            Event::Onward => self.content(&content).await,
            Event::DataEnd(summary) => {
                self.content(&content).await;
                self.data_end(summary).await;
            }
            Event::ChunkEnd { bytes, last } => {
                self.content(&content).await;
                self.chunk_end(bytes, last).await;
            }
            // Done where they came up, without a future of this size.
            Event::Wait | Event::Say(_) | Event::Bye(_) => {}
        }
        Ok(())
    }
}
