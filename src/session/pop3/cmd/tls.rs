//! STLS (RFC 2595 4), and TLS from the first byte (RFC 8314 3.1).

use super::super::counters;
use super::super::serve::{End, Session};
use crate::session::{Begin, secure};

impl Session {
    pub(super) async fn stls(&mut self) -> Result<(), End> {
        if self.door.tls().is_none() {
            self.say("-ERR there is no TLS here\r\n");
            return Ok(());
        }
        self.say("+OK go ahead\r\n");
        self.flush().await?;
        self.secure(Begin::AfterCommand).await
    }

    pub(in crate::session::pop3) async fn secure(&mut self, begin: Begin) -> Result<(), End> {
        // A listener of this kind has certificates, or the server had not started.
        let Some(config) = self.door.tls() else {
            return Err(End::PeerClosed);
        };
        let done = secure(&mut self.conn, config, begin, &self.door, &self.presence).await;
        if done.is_err() {
            counters::TLS_FAILED.increment();
        }
        done?;
        self.machine.secured();
        Ok(())
    }
}
