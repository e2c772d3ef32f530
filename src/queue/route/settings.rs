//! What the site says of ways out, the same on every shard.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::order::Family;
use super::site::{Site, Target};
use crate::config::{Config, HopProtocol, HostPort};
use crate::wire::sasl::{Login, Secret};

/// RFC 5321 4.5.4.2.
const SMTP_PORT: u16 = 25;
/// RFC 9110 4.2.2.
const HTTPS_PORT: u16 = 443;
/// Longer passwords are another file, named by mistake.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Made once from the configuration.
#[derive(Debug)]
pub struct Settings {
    /// Of this host, in lower case.
    own_names: Vec<String>,
    own_addresses: Vec<IpAddr>,
    sources: Vec<IpAddr>,
    sites: Vec<Site>,
    is_local_allowed: bool,
    /// What TLS comes to is counted, for the domains that want to know.
    pub(super) is_tls_reported: bool,
    pub(super) mx_port: u16,
    pub(super) https_port: u16,
}

/// Why a password is not there.
#[derive(Debug)]
pub enum SettingsError {
    File(PathBuf, io::Error),
    /// Empty, too long, or not the text of one line.
    NoPassword(PathBuf),
}

impl Settings {
    /// Reads password files: not on a shard. `own_addresses`: those of this machine, which mail to
    /// other hosts must not come back to.
    pub fn load(config: &Config, own_addresses: &[IpAddr]) -> Result<Self, SettingsError> {
        let login = |user: &Option<String>, file: &Option<PathBuf>| {
            let (Some(name), Some(path)) = (user, file) else {
                return Ok(None);
            };
            let (name, password) = (name.clone(), password(path)?);
            Ok(Some(Arc::new(Login { name, password })))
        };
        let mut sites = Vec::new();
        for route in &config.route {
            sites.push(Site {
                domain: Some(route.domain.clone()),
                target: route.hop.0.as_ref().map(Target::from),
                protocol: route.transport,
                tls: route.tls,
                login: login(&route.user, &route.password_file)?,
            });
        }
        let relay = &config.smtp.relay;
        if let Some(smarthost) = &relay.smarthost.0 {
            sites.push(Site {
                domain: None,
                target: Some(Target::from(smarthost)),
                protocol: HopProtocol::Smtp,
                tls: relay.tls,
                login: login(&relay.user, &relay.password_file)?,
            });
        }
        let listeners = config.listeners();
        let named = listeners
            .iter()
            .map(|listener| listener.hostname.to_string());
        let bound = listeners.iter().map(|listener| listener.address.ip());
        let bound = bound.filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
        let sources = &config.smtp.source_addresses;
        let own = bound.chain(sources.iter().chain(own_addresses).copied());
        Ok(Settings {
            own_names: named.chain([config.hostname.to_string()]).collect(),
            own_addresses: own.map(|ip| ip.to_canonical()).collect(),
            sources: sources.clone(),
            sites,
            is_local_allowed: relay.local_addresses,
            is_tls_reported: relay.tls_reports,
            mx_port: SMTP_PORT,
            https_port: HTTPS_PORT,
        })
    }

    /// The same with MX hosts and web servers on other ports, for trials where nobody may use
    /// theirs.
    #[must_use]
    pub fn with_ports(self, mx_port: u16, https_port: u16) -> Self {
        Settings {
            mx_port,
            https_port,
            ..self
        }
    }

    /// What the site says of `domain`, if anything.
    pub(super) fn site(&self, domain: &str) -> Option<&Site> {
        let fitting = self.sites.iter();
        let fitting = fitting.filter_map(|site| Some((site.fits(domain)?, site)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, site)| site)
    }

    /// The way of the site's that leads to this host and port, if there is one.
    pub(super) fn site_at(&self, hop: &HostPort) -> Option<&Site> {
        let wanted = Target::from(hop);
        self.sites.iter().find(|site| {
            let target = site.target.as_ref();
            target.is_some_and(|t| t.host == wanted.host && t.port == wanted.port)
        })
    }

    pub(super) fn is_own_name(&self, host: &str) -> bool {
        self.own_names.iter().any(|own| own == host)
    }

    pub(super) fn is_own_address(&self, address: IpAddr) -> bool {
        self.own_addresses.contains(&address)
    }

    /// Whether an address that a stranger's DNS gave may be talked to.
    pub(super) fn may_try(&self, address: IpAddr) -> bool {
        match self.is_local_allowed {
            true => !address.is_unspecified() && !address.is_multicast(),
            false => is_public(address),
        }
    }

    /// Ours, to talk to `address` from.
    pub(super) fn source(&self, address: IpAddr) -> Option<IpAddr> {
        let family = Family::of(address);
        let mut sources = self.sources.iter().copied();
        // Nobody on this machine sees where it came from, and no other address reaches it.
        sources.find(|own| Family::of(*own) == family && !address.is_loopback())
    }
}

fn password(path: &Path) -> Result<Secret, SettingsError> {
    let bytes = std::fs::read(path).map_err(|error| SettingsError::File(path.into(), error))?;
    let whole = Secret::new(bytes);
    let mut lines = whole.expose().split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().trim_ascii_end();
    let is_text = str::from_utf8(first).is_ok_and(|text| !text.contains(char::is_control));
    match is_text && (1..=PASSWORD_BYTES_MAX).contains(&first.len()) {
        true => Ok(Secret::new(first.to_vec())),
        false => Err(SettingsError::NoPassword(path.into())),
    }
}

/// Not of this machine, of a private network or of nobody (RFC 6890). Documentation's addresses are
/// left in: there is nobody behind them.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let reserved = matches!(
        (a, b, c),
        // This network; RFC 6598 shared; protocol assignments; benchmarks; class E.
        (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _) | (240.., ..)
    );
    !reserved && !v4.is_private() && !v4.is_loopback() && !v4.is_link_local() && !v4.is_multicast()
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // NAT64 (RFC 6052 2.1) and 6to4 (RFC 3056 2) lead to an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // RFC 4291 2.4: all of unicast that is given out.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::File(path, error) => {
                write!(f, "password_file {}: {error}", path.display())
            }
            SettingsError::NoPassword(path) => {
                write!(f, "password_file {} has no password", path.display())
            }
        }
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let check = |address: &str, want: bool| {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(is_public(address), want, "{address}");
        };
        for public in [
            "192.0.2.1",
            "8.8.8.8",
            "100.63.0.1",
            "2001:db8::1",
            "2a00::1",
        ] {
            check(public, true);
        }
        for kept in [
            "127.0.0.1",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            check(kept, false);
        }
        check("64:ff9b::808:808", true);
    }
}
