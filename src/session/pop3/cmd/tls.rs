//! STLS (RFC 2595 4), and TLS from the first byte (RFC 8314 3.1).

use super::super::counters;
use super::super::serve::{End, Session};
use crate::net::NetError;
use crate::observe::{event, log_event};

impl Session {
    pub(super) async fn stls(&mut self) -> Result<(), End> {
        let Some(config) = self.door.tls().cloned() else {
            self.say("-ERR there is no TLS here\r\n");
            return Ok(());
        };
        self.say("+OK go ahead\r\n");
        self.flush().await?;
        let until = self.handshake_until();
        let dropped = self.conn.start_tls(&config, until).await;
        self.after_handshake(dropped)
    }

    /// Before the greeting.
    pub(in crate::session::pop3) async fn implicit_tls(&mut self) -> Result<(), End> {
        // A listener of this kind has certificates, or the server had not started.
        let Some(config) = self.door.tls().cloned() else {
            return Err(End::PeerClosed);
        };
        let until = self.handshake_until();
        let done = self.conn.accept_tls(&config, until).await;
        self.after_handshake(done.map(|()| 0))
    }

    fn after_handshake(&mut self, dropped: Result<usize, NetError>) -> Result<(), End> {
        match dropped {
            Ok(dropped) => {
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
                counters::TLS_FAILED.increment();
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
