//! What a protocol knows of the listener that a connection came in by.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::Deadline;
use crate::config::{AuthMode, Config, Listener};
use crate::net::TlsConfig;
use crate::runtime;

/// One listener as its sessions see it. The same on every shard; cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    number: usize,
    listener: Listener,
    tls: Option<TlsConfig>,
    config: Arc<ArcSwap<Config>>,
}

impl Door {
    /// Listener `number` of the configuration; `tls` where it offers or demands TLS.
    #[must_use]
    pub fn new(
        number: usize,
        listener: Listener,
        tls: Option<TlsConfig>,
        config: Arc<ArcSwap<Config>>,
    ) -> Self {
        Door(Arc::new(Inner {
            number,
            listener,
            tls,
            config,
        }))
    }

    /// Its place among the listeners of the configuration.
    #[must_use]
    pub fn number(&self) -> usize {
        self.0.number
    }

    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.0.listener
    }

    /// The name that greetings and Received lines carry.
    #[must_use]
    pub fn hostname(&self) -> &str {
        self.0.listener.hostname.as_str()
    }

    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.0.tls.as_ref()
    }

    /// The configuration as of now: a reload swaps it.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Whether a log-in may be offered: over TLS, or in the clear where `allow_plaintext` is set,
    /// which loads for loopback listeners only (RFC 8314 3, RFC 4954 4).
    #[must_use]
    pub fn may_log_in(&self, is_tls: bool) -> bool {
        let listener = &self.0.listener;
        let clear =
            || self.0.config.load().auth.allow_plaintext && listener.address.ip().is_loopback();
        listener.auth != AuthMode::Off && (is_tls || clear())
    }

    /// The deadline of a wait that began now.
    #[must_use]
    pub fn until(&self, span: impl FnOnce(&Config) -> Duration) -> Deadline {
        Deadline::after(runtime::now(), span(&self.0.config.load()))
    }
}
