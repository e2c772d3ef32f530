//! TLS on a session's connection: from the first byte (RFC 8314 3), or after STARTTLS (RFC 3207 4,
//! RFC 9051 6.2.1) or STLS (RFC 2595 4).

use std::time::Duration;

use super::{Door, Presence};
use crate::base::Deadline;
use crate::net::{Conn, NetError, TlsConfig};
use crate::observe::{event, log_event};
use crate::runtime;

const HANDSHAKE_SPAN: Duration = Duration::from_secs(60);

/// When a handshake begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    AtOnce,
    /// What the client said after the command, in the clear, could have been said by anybody: it is
    /// dropped.
    AfterCommand,
}

/// Shakes hands, and tells the roster and the log what came of it.
pub async fn secure(
    conn: &mut Conn,
    config: &TlsConfig,
    begin: Begin,
    door: &Door,
    presence: &Presence,
) -> Result<(), NetError> {
    let until = Deadline::after(runtime::now(), HANDSHAKE_SPAN);
    let done = match begin {
        Begin::AtOnce => conn.accept_tls(config, until).await.map(|()| 0),
        Begin::AfterCommand => conn.start_tls(config, until).await,
    };
    let proto = door.listener().protocol.name();
    match done {
        Ok(dropped) => {
            let facts = conn.tls();
            let (version, cipher, resumed) = facts.map_or(("-", "-", false), |tls| {
                (tls.version, tls.cipher, tls.resumed)
            });
            presence.secured(format!("{version} {cipher}"));
            log_event!(
                INFO,
                event::TLS_STARTED,
                session = %presence.id(),
                peer = %conn.peer(),
                proto = proto,
                version = version,
                cipher = cipher,
                resumed = resumed,
                dropped = dropped as u64
            );
            Ok(())
        }
        Err(error) => {
            log_event!(
                WARN,
                event::TLS_FAILED,
                session = %presence.id(),
                peer = %conn.peer(),
                proto = proto,
                reason = %error
            );
            Err(error)
        }
    }
}
