//! STARTTLS (RFC 3207), and TLS from the first byte (RFC 8314 3.3).

use super::super::counters::{self, Role};
use super::super::serve::{End, Session};
use crate::net::NetError;
use crate::observe::{event, log_event};
use crate::runtime;
use crate::wire::smtp::Reply;

impl Session {
    pub(super) async fn start_tls(&mut self) -> Result<(), End> {
        let Some(config) = self.door.tls().cloned() else {
            self.say(&Reply::new(454, "4.7.0", "TLS is not available"));
            return Ok(());
        };
        self.say(&Reply::new(220, "2.0.0", "Go ahead"));
        self.flush().await?;
        let until = self.handshake_until();
        let dropped = self.conn.start_tls(&config, until).await;
        // What was said in the clear could have been said by anybody.
        self.account = None;
        self.after_handshake(dropped)
    }

    /// Before the greeting.
    pub(in crate::session::smtp) async fn implicit_tls(&mut self) -> Result<(), End> {
        // A listener of this kind has certificates, or the server had not started.
        let Some(config) = self.door.tls().cloned() else {
            return Err(End::PeerClosed);
        };
        let until = self.handshake_until();
        let done = self.conn.accept_tls(&config, until).await;
        self.after_handshake(done.map(|()| 0))
    }

    fn after_handshake(&mut self, dropped: Result<usize, NetError>) -> Result<(), End> {
        let role = self.machine.terms().role;
        let address = self.conn.peer().address().filter(|_| role == Role::Smtp);
        let mut failures = self.service.failures.borrow_mut();
        match dropped {
            Ok(dropped) => {
                if let Some(address) = address {
                    failures.succeeded(address);
                }
                drop(failures);
                self.machine.secured();
                let facts = self.conn.tls();
                let (version, cipher) = facts.map_or(("-", "-"), |tls| (tls.version, tls.cipher));
                self.presence.secured(format!("{version} {cipher}"));
                log_event!(
                    INFO,
                    event::TLS_STARTED,
                    session = %self.presence.id(),
                    peer = %self.conn.peer(),
                    version = version,
                    cipher = cipher,
                    dropped = dropped as u64
                );
                Ok(())
            }
            Err(error) => {
                if let Some(address) = address.filter(|_| error.is_handshake()) {
                    failures.failed(address, runtime::now());
                }
                drop(failures);
                counters::TLS_FAILED.increment(role);
                log_event!(
                    WARN,
                    event::TLS_FAILED,
                    session = %self.presence.id(),
                    peer = %self.conn.peer(),
                    reason = %error
                );
                Err(End::Net(error))
            }
        }
    }
}
