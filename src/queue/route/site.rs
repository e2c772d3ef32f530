//! The ways that the operator wrote down: `[[route]]` and the smarthost.

use std::net::IpAddr;
use std::sync::Arc;

use super::Way;
use super::hop::Manner;
use crate::config::{HopProtocol, HopTls, Host, HostPort, RouteDomain};
use crate::queue::client::Protocol;
use crate::wire::sasl::Login;

/// RFC 8314 3.3: TLS from the first octet.
const SMTPS_PORT: u16 = 465;

/// One of them.
#[derive(Debug)]
pub struct Site {
    /// `None`: the smarthost, which is for all.
    pub domain: Option<RouteDomain>,
    /// `None`: who the domain says.
    pub target: Option<Target>,
    pub protocol: HopProtocol,
    pub tls: Option<HopTls>,
    pub login: Option<Arc<Login>>,
}

/// The host that is named.
#[derive(Debug)]
pub struct Target {
    pub host: String,
    /// Where it is named by its address.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub is_loopback: bool,
}

impl Site {
    /// One that the site says nothing of.
    #[must_use]
    pub fn to(hop: &HostPort) -> Self {
        Site {
            domain: None,
            target: Some(Target::from(hop)),
            protocol: HopProtocol::Smtp,
            tls: None,
            login: None,
        }
    }

    /// How well this is for `domain`; the largest counts.
    #[must_use]
    pub fn fits(&self, domain: &str) -> Option<usize> {
        match &self.domain {
            // Before a route for all, which is 0.
            Some(pattern) => pattern.fits(domain).map(|fit| fit.saturating_add(1)),
            None => Some(0),
        }
    }

    #[must_use]
    pub fn way(&self) -> Way {
        match &self.domain {
            Some(pattern) => Way::Route(pattern.to_string()),
            None => Way::Smarthost,
        }
    }

    /// How its target is talked to.
    #[must_use]
    pub fn manner(&self, target: &Target) -> Manner {
        let is_password_abroad = self.login.is_some() && !target.is_loopback;
        let tls = self.tls.or(is_password_abroad.then_some(HopTls::Verified));
        Manner {
            protocol: match self.protocol {
                HopProtocol::Smtp => Protocol::Smtp,
                HopProtocol::Lmtp => Protocol::Lmtp,
            },
            port: target.port,
            is_tls_from_start: target.port == SMTPS_PORT,
            login: self.login.clone(),
            tls,
            is_told: false,
        }
    }
}

impl From<&HostPort> for Target {
    fn from(hop: &HostPort) -> Self {
        let (host, address) = match &hop.host {
            Host::Name(name) => (name.to_string(), None),
            Host::Address(address) => (address.to_string(), Some(address.to_canonical())),
        };
        Target {
            host,
            address,
            port: hop.port,
            is_loopback: hop.is_loopback(),
        }
    }
}
