//! A hop and what it is asked of TLS.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::dane::Misfit;
use super::demand::{Applied, Demand, Proof};
use super::settings::Settings;
use crate::base::UnixMs;
use crate::config::HopTls;
use crate::queue::client::{Facts, Protocol, Security, Terms, Times, TlsState};
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
    /// TLS from the first octet.
    pub is_tls_from_start: bool,
    pub(super) demand: Rc<Demand>,
    /// What TLS comes to is told the domain.
    pub(super) is_told: bool,
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

/// What a connection is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Over TLS, with a host that is proven to be the one that takes this mail: what REQUIRETLS
    /// needs (RFC 8689 4.2.1).
    pub is_verified: bool,
}

/// What the hops of one plan have in common.
#[derive(Clone, Debug)]
pub struct Manner {
    pub protocol: Protocol,
    pub port: u16,
    pub is_tls_from_start: bool,
    pub login: Option<Arc<Login>>,
    /// What the site asks of TLS.
    pub tls: Option<HopTls>,
    /// What TLS comes to is told the domain: that of the host of a site's own is nobody's affair.
    pub is_told: bool,
}

impl Manner {
    /// To hosts that a domain names.
    #[must_use]
    pub fn public(port: u16, tls: Option<HopTls>) -> Self {
        Manner {
            protocol: Protocol::Smtp,
            port,
            is_tls_from_start: false,
            login: None,
            tls,
            is_told: true,
        }
    }

    /// Whether TLSA records would change anything. A log-in is said before they are judged, so
    /// there an authority must do.
    #[must_use]
    pub fn heeds_dane(&self) -> bool {
        self.login.is_none() && matches!(self.tls, None | Some(HopTls::Verified))
    }
}

impl Hop {
    pub(super) fn new(
        host: String,
        address: IpAddr,
        demand: Rc<Demand>,
        manner: &Manner,
        settings: &Settings,
    ) -> Self {
        Hop {
            host,
            address: SocketAddr::new(address, manner.port),
            source: settings.source(address),
            protocol: manner.protocol,
            is_tls_from_start: manner.is_tls_from_start,
            demand,
            is_told: manner.is_told,
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
            security: self.demand.security,
            is_tls_from_start: self.is_tls_from_start,
            login: self.login.as_ref().map(copied),
            is_clear_login_allowed: self.address.ip().is_loopback(),
            is_chunking_used: ours.is_chunking_used,
            recipients_max: ours.recipients_max,
            letters_max: ours.letters_max,
            times: ours.times.clone(),
        }
    }

    /// Whether a connection that was opened on these terms may have mail, before the first letter;
    /// what it is worth is for the client to know
    /// ([`Client::judged`](crate::queue::client::Client::judged)). A misfit: the next hop, for now.
    pub fn judge(&self, facts: &Facts, now: UnixMs) -> Result<Standing, Misfit> {
        let TlsState::Secured(peer) = &facts.tls else {
            // Where more was asked for, the client has not come so far.
            return Ok(Standing { is_verified: false });
        };
        let is_proven = match &self.demand.proof {
            Proof::Dane(dane) => {
                dane.judge(&peer.chain, now)?;
                true
            }
            Proof::Nothing | Proof::Authority => peer.verified.is_ok(),
        };
        Ok(Standing {
            is_verified: is_proven && self.demand.is_authentic,
        })
    }

    /// The same without TLS, for after a handshake that failed: where nobody asks for more than
    /// what there is (RFC 7435 3), and no password goes over it.
    #[must_use]
    pub fn in_the_clear(&self) -> Option<Hop> {
        let may = self.demand.security == Security::Opportunistic
            && !self.is_tls_from_start
            && (self.login.is_none() || self.address.ip().is_loopback());
        may.then(|| self.with_security(Security::Never, Proof::Nothing))
    }

    /// Nobody asks it for TLS, or not any more.
    #[must_use]
    pub fn is_without_tls(&self) -> bool {
        self.demand.security == Security::Never
    }

    /// The same for a message with REQUIRETLS; `None` where nobody vouches for the host being the
    /// right one (RFC 8689 4.2.1), or TLS is not to be used.
    #[must_use]
    pub fn with_required_tls(&self) -> Option<Hop> {
        let demand = &self.demand;
        if !demand.is_authentic || demand.security == Security::Never {
            return None;
        }
        Some(match demand.proof {
            Proof::Dane(_) | Proof::Authority => self.clone(),
            Proof::Nothing => self.with_security(Security::Verified, Proof::Authority),
        })
    }

    /// Whether a connection to the one is as good as one to the other.
    #[must_use]
    pub fn is_same(&self, other: &Hop) -> bool {
        let logins = (self.login.as_ref(), other.login.as_ref());
        let is_same_login = match logins {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same_login
            && self.host == other.host
            && self.address == other.address
            && self.source == other.source
            && self.protocol == other.protocol
            && self.is_tls_from_start == other.is_tls_from_start
            && self.demand == other.demand
    }

    /// What is asked of TLS here.
    #[must_use]
    pub fn security(&self) -> Security {
        self.demand.security
    }

    /// The policy that asks for it.
    #[must_use]
    pub fn policy(&self) -> &Applied {
        &self.demand.policy
    }

    fn with_security(&self, security: Security, proof: Proof) -> Hop {
        Hop {
            demand: Rc::new(Demand {
                security,
                proof,
                ..(*self.demand).clone()
            }),
            ..self.clone()
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() {
            ", with log-in"
        } else {
            ""
        };
        write!(
            f,
            "{} at {}: {}{login}",
            self.host, self.address, self.demand
        )
    }
}
