//! A hop and what it is asked of TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::settings::Settings;
use crate::config::HopTls;
use crate::queue::client::{Protocol, Security, Terms, Times};
use crate::wire::sasl::{Login, Secret};

/// A host and port that mail is offered to.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What it is called: for SNI, and in certificates.
    pub host: String,
    pub address: SocketAddr,
    /// Ours, where the site names one of that family.
    pub source: Option<IpAddr>,
    pub protocol: Protocol,
    pub security: Security,
    /// TLS from the first octet.
    pub is_tls_from_start: bool,
    /// That this host is the one is known for sure, and not only from whoever answered for the DNS.
    pub is_authentic: bool,
    login: Option<Arc<Login>>,
}

/// Our part of the terms, the same for all hops.
#[derive(Clone, Debug)]
pub struct Ours {
    /// What we call ourselves in EHLO.
    pub own_name: String,
    pub is_chunking_used: bool,
    pub recipients_max: usize,
    pub letters_max: u64,
    pub times: Times,
}

/// What is asked of TLS, before it is known what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Never,
    Opportunistic,
    Verified,
}

/// What the hops of one plan have in common.
#[derive(Clone, Debug)]
pub struct Manner {
    pub protocol: Protocol,
    pub port: u16,
    pub asked: Asked,
    pub is_tls_from_start: bool,
    pub login: Option<Arc<Login>>,
    pub is_authentic: bool,
}

impl Manner {
    /// To hosts that a domain names.
    #[must_use]
    pub fn public(port: u16, tls: Option<HopTls>) -> Self {
        Manner {
            protocol: Protocol::Smtp,
            port,
            asked: tls.map_or(Asked::Opportunistic, Asked::from),
            is_tls_from_start: false,
            login: None,
            is_authentic: false,
        }
    }
}

impl From<HopTls> for Asked {
    fn from(tls: HopTls) -> Self {
        match tls {
            HopTls::None => Asked::Never,
            HopTls::Opportunistic => Asked::Opportunistic,
            HopTls::Verified => Asked::Verified,
        }
    }
}

impl Hop {
    pub(super) fn new(host: String, address: IpAddr, manner: &Manner, settings: &Settings) -> Self {
        Hop {
            host,
            address: SocketAddr::new(address, manner.port),
            source: settings.source(address),
            protocol: manner.protocol,
            security: match manner.asked {
                Asked::Never => Security::Never,
                Asked::Opportunistic => Security::Opportunistic,
                Asked::Verified => Security::Verified,
            },
            is_tls_from_start: manner.is_tls_from_start,
            is_authentic: manner.is_authentic,
            login: manner.login.clone(),
        }
    }

    /// How to talk to it.
    #[must_use]
    pub fn terms(&self, ours: &Ours) -> Terms {
        let copied = |login: &Arc<Login>| Login {
            name: login.name.clone(),
            password: Secret::new(login.password.expose().to_vec()),
        };
        Terms {
            protocol: self.protocol,
            own_name: ours.own_name.clone(),
            host: self.host.clone(),
            security: self.security,
            is_tls_from_start: self.is_tls_from_start,
            login: self.login.as_ref().map(copied),
            is_clear_login_allowed: self.address.ip().is_loopback(),
            is_chunking_used: ours.is_chunking_used,
            recipients_max: ours.recipients_max,
            letters_max: ours.letters_max,
            times: ours.times.clone(),
        }
    }

    /// The same without TLS, for after a handshake that failed: where nobody asks for more than
    /// what there is (RFC 7435 3), and no password goes over it.
    #[must_use]
    pub fn in_the_clear(&self) -> Option<Hop> {
        let may = self.security == Security::Opportunistic
            && !self.is_tls_from_start
            && (self.login.is_none() || self.address.ip().is_loopback());
        may.then(|| Hop {
            security: Security::Never,
            ..self.clone()
        })
    }
}
