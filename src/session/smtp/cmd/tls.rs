//! STARTTLS (RFC 3207), and TLS from the first byte (RFC 8314 3.3).

use super::super::counters::{self, Role};
use super::super::serve::{End, Session};
use crate::runtime;
use crate::session::{Begin, secure};
use crate::wire::smtp::Reply;

impl Session {
    pub(super) async fn start_tls(&mut self) -> Result<(), End> {
        if self.door.tls().is_none() {
            self.say(&Reply::new(454, "4.7.0", "TLS is not available"));
            return Ok(());
        }
        self.say(&Reply::new(220, "2.0.0", "Go ahead"));
        self.flush().await?;
        // What was said in the clear could have been said by anybody.
        self.account = None;
        self.secure(Begin::AfterCommand).await
    }

    pub(in crate::session::smtp) async fn secure(&mut self, begin: Begin) -> Result<(), End> {
        // A listener of this kind has certificates, or the server had not started.
        let Some(config) = self.door.tls() else {
            return Err(End::PeerClosed);
        };
        let done = secure(&mut self.conn, config, begin, &self.door, &self.presence).await;
        let role = self.machine.terms().role;
        let address = self.conn.peer().address().filter(|_| role == Role::Smtp);
        match (&done, address) {
            (Ok(()), Some(address)) => self.service.failures.borrow_mut().succeeded(address),
            (Err(error), Some(address)) if error.is_handshake() => {
                let mut failures = self.service.failures.borrow_mut();
                failures.failed(address, runtime::now());
            }
            _ => {}
        }
        if done.is_err() {
            counters::TLS_FAILED.increment(role);
        }
        done?;
        self.machine.secured();
        Ok(())
    }
}
