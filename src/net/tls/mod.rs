//! TLS: the server's credentials, what we believe of others, and how one session is driven.
//!
//! [`Tls`] is made once and shared by all shards. What changes while the server lives, certificates
//! and ticket keys, are immutable snapshots behind one atomic pointer each, so a reload touches no
//! live connection and no shard ever waits. Reading files blocks: that is done before the shards
//! start, or on the pool. [`OutgoingTls`] is the client's side of a shard; [`ClientStream`] that of
//! commands.
//!
//! Deliberately absent: client certificates, early data (RFC 8446 2.3: it can be replayed), and
//! everything that rustls leaves out (CBC, DHE, RSA key exchange, TLS 1.0 and 1.1).

mod anchored;
mod certs;
mod client;
mod error;
mod failures;
mod hello;
mod outgoing;
mod selfsigned;
mod session;
mod tickets;
mod x509;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::runtime;

pub use anchored::{Anchor, leads_to, public_key};
pub use certs::{CertFacts, CertPair, CertStore, DefaultCert};
pub use client::ClientStream;
pub use error::{TlsError, TlsFault};
pub use failures::HandshakeFailures;
pub use hello::Offered;
pub use outgoing::{Distrust, DistrustKind, OutgoingTls, TlsPeer};
pub use selfsigned::self_signed;
pub use session::TlsFacts;
pub(super) use session::{Driven, Session};

use tickets::TicketKeys;

/// The server's side of TLS, for all listeners and shards. Clones share it.
#[derive(Clone)]
pub struct Tls {
    certs: Arc<ArcSwap<CertStore>>,
    tickets: TicketKeys,
}

/// How a listener does TLS. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig(Arc<ServerConfig>);

/// Asks the snapshot of the moment, so that a reload needs no new [`TlsConfig`].
struct Resolver {
    certs: Arc<ArcSwap<CertStore>>,
    default: DefaultCert,
}

impl Tls {
    /// With these certificates and a fresh ticket key.
    pub fn new(certs: CertStore) -> Result<Self, TlsError> {
        let certs = Arc::new(ArcSwap::from_pointee(certs));
        Ok(Tls {
            certs,
            tickets: TicketKeys::new()?,
        })
    }

    /// The configuration of a listener that shows `default` where SNI names none that we have.
    #[must_use]
    pub fn config(&self, default: DefaultCert) -> TlsConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver = Resolver {
            certs: self.certs.clone(),
            default,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        // Tickets alone: the session cache of rustls is a lock shared by all shards.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(self.tickets.clone());
        config.max_early_data_size = 0;
        TlsConfig(Arc::new(config))
    }

    /// From now on new handshakes see `certs`; live connections go on as they are.
    pub fn reload(&self, certs: CertStore) {
        self.certs.store(Arc::new(certs));
    }

    /// Swaps the ticket keys every six hours, for ever: a task of one shard. Where there is no
    /// randomness the old keys stay until the next round.
    pub async fn keep_rotating_ticket_keys(self) {
        loop {
            runtime::sleep(tickets::TICKET_KEY_SPAN).await;
            let _ = self.rotate_ticket_keys();
        }
    }

    /// Swaps the ticket keys: the current one still accepts tickets, and makes no more.
    pub fn rotate_ticket_keys(&self) -> Result<(), TlsError> {
        self.tickets.rotate()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certs.load().choose(&hello, &self.default)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").field(&self.default).finish()
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig")
    }
}
