//! What needs more than a reply.

mod fetch;
mod list;
mod log_in;
mod tls;
mod update;

use super::machine::Act;
use super::serve::{End, Session};

impl Session {
    /// Carries out what the machine asked for, and tells it how that went.
    pub(super) async fn perform(&mut self, act: Act) -> Result<(), End> {
        match act {
            Act::Stls => self.stls().await,
            Act::LogIn(credentials) => self.log_in(credentials).await,
            Act::List => self.list().await,
            Act::Uidl => self.uidl().await,
            Act::Retr(entry) => self.fetch(entry, None).await,
            Act::Top(entry, lines) => self.fetch(entry, Some(lines)).await,
            Act::Update => self.update().await,
        }
    }
}
