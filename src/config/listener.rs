//! What is served: listeners with everything inherited filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::cidr::Networks;
use super::keys::{Config, ListenerKeys};
use super::value::{AuthMode, Domain, Protocol};
use crate::base::ByteSize;

/// A listener with nothing left to look up elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub proxy_protocol: bool,
    pub hostname: Domain,
    /// Its own certificate; `None`: that of [tls], which may be self-signed.
    pub pair: Option<TlsPair>,
    pub trusted_networks: Networks,
    pub auth: AuthMode,
    pub connections_max: u32,
    pub message_bytes_max: ByteSize,
    pub normalise_bare_newlines: bool,
}

/// Two PEM files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsPair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// On [::] and 0.0.0.0 both.
const PUBLIC: [(Protocol, u16); 5] = [
    (Protocol::Smtp, 25),
    (Protocol::Submissions, 465),
    (Protocol::Submission, 587),
    (Protocol::Imaps, 993),
    (Protocol::Pop3s, 995),
];

/// On 127.0.0.1 only.
const LOOPBACK: [(Protocol, u16); 2] = [(Protocol::Lmtp, 24), (Protocol::Metrics, 9925)];

impl Config {
    /// Every listener to serve: those of the file, or without any the defaults.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        let effective = |keys: &ListenerKeys| self.effective(keys);
        match self.listener.as_slice() {
            [] => default_listeners().iter().map(effective).collect(),
            listed => listed.iter().map(effective).collect(),
        }
    }

    /// The site's certificates: that of [tls] first, then its pairs. Empty: self-signed.
    #[must_use]
    pub fn tls_pairs(&self) -> Vec<TlsPair> {
        let first = pair(&self.tls.certificate, &self.tls.key);
        let more = self.tls.pair.iter().map(|pair| TlsPair {
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
        });
        first.into_iter().chain(more).collect()
    }

    /// The Unix socket for commands.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        let own = || self.data_dir.join("admin.sock");
        self.admin.socket.clone().unwrap_or_else(own)
    }

    /// The Unix socket for mail of programs on this host; `None` where there is none.
    #[must_use]
    pub fn sendmail_socket(&self) -> Option<PathBuf> {
        let beside = || self.admin_socket().with_file_name("sendmail.sock");
        let keys = &self.sendmail;
        keys.enabled
            .then(|| keys.socket.clone().unwrap_or_else(beside))
    }

    /// What is different there from a submission listener: nobody logs in.
    #[must_use]
    pub fn sendmail_listener(&self) -> Listener {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let keys = ListenerKeys::default_of(Protocol::Submission, address.ip(), address.port());
        Listener {
            auth: AuthMode::Off,
            ..self.effective(&keys)
        }
    }

    /// Where the log's files are.
    #[must_use]
    pub fn log_directory(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    fn effective(&self, keys: &ListenerKeys) -> Listener {
        let hostname = keys.hostname.as_ref().unwrap_or(&self.hostname);
        let trusted = keys
            .trusted_networks
            .as_ref()
            .unwrap_or(&self.trusted_networks);
        Listener {
            protocol: keys.protocol,
            address: keys.address,
            proxy_protocol: keys.proxy_protocol,
            hostname: hostname.clone(),
            pair: pair(&keys.certificate, &keys.key),
            trusted_networks: trusted.clone(),
            auth: keys.auth_mode(),
            connections_max: keys.connections_max,
            message_bytes_max: keys
                .message_bytes_max
                .unwrap_or(self.limits.message_bytes_max),
            normalise_bare_newlines: keys.normalise_bare_newlines,
        }
    }
}

impl ListenerKeys {
    pub(super) fn auth_mode(&self) -> AuthMode {
        self.auth.unwrap_or(match self.protocol {
            Protocol::Smtp | Protocol::Lmtp | Protocol::Metrics => AuthMode::Off,
            _ => AuthMode::Required,
        })
    }

    fn default_of(protocol: Protocol, ip: IpAddr, port: u16) -> Self {
        ListenerKeys {
            protocol,
            address: SocketAddr::new(ip, port),
            proxy_protocol: false,
            hostname: None,
            certificate: None,
            key: None,
            trusted_networks: None,
            auth: None,
            connections_max: 20_000,
            message_bytes_max: None,
            normalise_bare_newlines: false,
        }
    }
}

impl Listener {
    /// Whether a client at `ip` (after a PROXY header: the proxied one) is in our networks.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted_networks.contains(ip)
    }

    /// Whether a client at `ip` is answered at all: where nobody logs in (lmtp, metrics) only from
    /// loopback and the trusted networks.
    #[must_use]
    pub fn serves(&self, ip: IpAddr) -> bool {
        let guarded = matches!(self.protocol, Protocol::Lmtp | Protocol::Metrics);
        !guarded || ip.to_canonical().is_loopback() || self.trusts(ip)
    }

    /// Whether bare newlines from `ip` are made CRLF instead of refused.
    #[must_use]
    pub fn normalises(&self, ip: IpAddr) -> bool {
        self.normalise_bare_newlines && self.trusts(ip)
    }
}

pub(super) fn default_listeners() -> Vec<ListenerKeys> {
    let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let public = PUBLIC
        .iter()
        .flat_map(|&(protocol, port)| any.map(|ip| ListenerKeys::default_of(protocol, ip, port)));
    let loopback = LOOPBACK.iter().map(|&(protocol, port)| {
        ListenerKeys::default_of(protocol, Ipv4Addr::LOCALHOST.into(), port)
    });
    public.chain(loopback).collect()
}

fn pair(certificate: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<TlsPair> {
    Some(TlsPair {
        certificate: certificate.clone()?,
        key: key.clone()?,
    })
}
