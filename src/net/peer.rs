//! Who is at the other end, and which address counts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::networks::{Networks, normalised};
use crate::runtime;

/// The other end of a connection. All addresses are normalised: never mapped IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Connected straight to us.
    Direct {
        remote: SocketAddr,
        local: SocketAddr,
    },
    /// Through a proxy that we trust to name these addresses. Only they count from then on.
    Proxied {
        remote: SocketAddr,
        local: SocketAddr,
        proxy: SocketAddr,
    },
    /// The proxy on its own behalf (a health check). It speaks for nobody, so no network that may
    /// hold its address lends it trust.
    Proxy {
        proxy: SocketAddr,
        local: SocketAddr,
    },
    /// A process on this host, through a Unix socket; the user it ran as, where the kernel tells.
    Unix { uid: Option<u32> },
}

impl Peer {
    /// The address that counts for trust, limits, policy and log lines.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.remote().map(|remote| remote.ip())
    }

    /// The same with its port.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Peer::Direct { remote, .. } | Peer::Proxied { remote, .. } => Some(*remote),
            Peer::Proxy { proxy, .. } => Some(*proxy),
            Peer::Unix { .. } => None,
        }
    }

    /// Where the peer thinks it connected to.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Peer::Direct { local, .. }
            | Peer::Proxied { local, .. }
            | Peer::Proxy { local, .. } => Some(*local),
            Peer::Unix { .. } => None,
        }
    }

    /// True if the peer itself is in one of `networks`.
    #[must_use]
    pub fn is_in(&self, networks: &Networks) -> bool {
        match self {
            Peer::Direct { remote, .. } | Peer::Proxied { remote, .. } => {
                networks.contains(remote.ip())
            }
            Peer::Proxy { .. } | Peer::Unix { .. } => false,
        }
    }
}

impl From<runtime::Peer> for Peer {
    fn from(peer: runtime::Peer) -> Self {
        match peer {
            runtime::Peer::Tcp { peer, local } => Peer::Direct {
                remote: socket_address(peer),
                local: socket_address(local),
            },
            runtime::Peer::Unix { uid } => Peer::Unix { uid },
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Direct { remote, .. } => write!(f, "{remote}"),
            Peer::Proxied { remote, proxy, .. } => write!(f, "{remote} via {proxy}"),
            Peer::Proxy { proxy, .. } => write!(f, "proxy {proxy}"),
            Peer::Unix { uid: Some(uid) } => write!(f, "unix uid {uid}"),
            Peer::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

/// `address` in its normal form; scope and flow of IPv6 say nothing here and are dropped.
pub(super) fn socket_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(normalised(address.ip()), address.port())
}
