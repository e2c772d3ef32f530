//! Lists of networks in CIDR notation (RFC 4632 3.1, RFC 4291 2.3): who is trusted, who is a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One network. A mapped IPv4 network (RFC 4291 2.5.5.2) is held as the IPv4 network it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// A list of networks, asked as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The part before `/` is no IPv4 or IPv6 address.
    Address,
    /// The part after `/` is no number from 0 to `prefix_bits_max`.
    Prefix { prefix_bits_max: u8 },
    /// Bits right of the prefix are set; `meant` has them cleared.
    HostBits { meant: Network },
}

/// Every address in the one form that is compared, counted and logged: mapped IPv4 as IPv4.
#[must_use]
pub fn normalised(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What limits count: an IPv4 address, or the /64 of an IPv6 address, because a single host is
/// given at least a /64 (RFC 6177 2) and could otherwise change its address at will.
#[must_use]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match normalised(address) {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Network {
    /// True if `address` lies in this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, normalised(address)) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                let (first, last) = self.range();
                (first..=last).contains(&number(normalised(address)))
            }
            _ => false,
        }
    }

    fn new(address: IpAddr, prefix_bits: u8) -> Result<Self, NetworkError> {
        let (address, prefix_bits) = match (address, normalised(address)) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if prefix_bits >= 96 => {
                (mapped, prefix_bits - 96)
            }
            (address, _) => (address, prefix_bits),
        };
        let network = Network {
            address,
            prefix_bits,
        };
        let first = network.range().0;
        if number(address) == first {
            return Ok(network);
        }
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        Err(NetworkError::HostBits {
            meant: Network {
                address,
                prefix_bits,
            },
        })
    }

    /// First and last address, as numbers within the family.
    fn range(&self) -> (u128, u128) {
        let host_bits = u32::from(width(self.address) - self.prefix_bits);
        let host_mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let first = number(self.address) & !host_mask;
        (first, first | host_mask)
    }
}

impl Networks {
    /// True if `address` lies in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// True if the list, alone or together, covers all of IPv4, or all of IPv6 that is routed
    /// (RFC 4291 2.4: 2000::/3). Such a list trusts the world and is refused where that matters.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let of_family = |v4: bool| {
            let mut ranges: Vec<_> = (self.0.iter())
                .filter(|network| network.address.is_ipv4() == v4)
                .map(Network::range)
                .collect();
            ranges.sort_unstable();
            ranges
        };
        covers(&of_family(true), 0, u128::from(u32::MAX))
            || covers(&of_family(false), 0x2 << 124, (0x4 << 124) - 1)
    }

    /// True if the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// True if the sorted `ranges` together hold every number from `first` to `last`.
fn covers(ranges: &[(u128, u128)], first: u128, last: u128) -> bool {
    let mut missing = first;
    for &(from, to) in ranges {
        if from > missing {
            return false;
        }
        if to >= last {
            return true;
        }
        missing = missing.max(to + 1);
    }
    false
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Networks(networks.into_iter().collect())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let prefix_bits_max = width(address);
        let prefix_bits = match prefix {
            None => prefix_bits_max,
            // `u8::from_str` takes a leading `+`, CIDR notation does not.
            Some(text) if text.starts_with('+') => {
                return Err(NetworkError::Prefix { prefix_bits_max });
            }
            Some(text) => (text.parse().ok())
                .filter(|bits| *bits <= prefix_bits_max)
                .ok_or(NetworkError::Prefix { prefix_bits_max })?,
        };
        Network::new(address, prefix_bits)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkError::Address => f.write_str("it must be an IPv4 or IPv6 address with /bits"),
            NetworkError::Prefix { prefix_bits_max } => {
                write!(f, "the number after / must be 0 to {prefix_bits_max}")
            }
            NetworkError::HostBits { meant } => {
                write!(
                    f,
                    "bits after the prefix are set; write {meant} if the network is meant"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_parse(text: &str, want: &str) {
        let got = match text.parse::<Network>() {
            Ok(network) => network.to_string(),
            Err(NetworkError::HostBits { meant }) => format!("meant {meant}"),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(got, want, "{text}");
    }

    fn list(text: &str) -> Networks {
        text.split_whitespace()
            .map(|text| text.parse().expect(text))
            .collect()
    }

    #[track_caller]
    fn check_contains(networks: &str, address: &str, want: bool) {
        let address = address.parse().expect("an address");
        assert_eq!(
            list(networks).contains(address),
            want,
            "{networks}: {address}"
        );
    }

    #[test]
    fn networks_parse() {
        check_parse("10.0.0.0/8", "10.0.0.0/8");
        check_parse(" 192.0.2.7 ", "192.0.2.7/32");
        check_parse("2001:db8::/32", "2001:db8::/32");
        check_parse("::1", "::1/128");
        check_parse("0.0.0.0/0", "0.0.0.0/0");
        check_parse("::/0", "::/0");
        check_parse("::ffff:192.0.2.0/120", "192.0.2.0/24");
        check_parse("::ffff:0:0/96", "0.0.0.0/0");
        check_parse("10.1.0.0/8", "meant 10.0.0.0/8");
        check_parse("2001:db8::1/32", "meant 2001:db8::/32");
        check_parse("10.0.0.0/33", "Prefix { prefix_bits_max: 32 }");
        check_parse("10.0.0.0/+8", "Prefix { prefix_bits_max: 32 }");
        check_parse("10.0.0.0/", "Prefix { prefix_bits_max: 32 }");
        check_parse("10.0.0/8", "Address");
        check_parse("", "Address");
    }

    #[test]
    fn networks_contain() {
        check_contains("10.0.0.0/8 192.0.2.0/24", "192.0.2.255", true);
        check_contains("10.0.0.0/8 192.0.2.0/24", "192.0.3.0", false);
        check_contains("10.0.0.0/8", "::ffff:10.9.8.7", true);
        check_contains("2001:db8::/33", "2001:db8:7fff::1", true);
        check_contains("2001:db8::/33", "2001:db8:8000::1", false);
        check_contains("0.0.0.0/0", "255.255.255.255", true);
        check_contains("::/0", "10.0.0.1", false);
        check_contains("", "10.0.0.1", false);
    }

    #[test]
    fn everything_is_seen_in_pieces_too() {
        for (networks, want) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("2000::/3", true),
            ("0.0.0.0/1 128.0.0.0/1", true),
            ("128.0.0.0/1 0.0.0.0/2 64.0.0.0/2", true),
            ("128.0.0.0/1 0.0.0.0/2", false),
            ("2000::/4 3000::/4", true),
            ("2000::/4 10.0.0.0/8", false),
            ("", false),
        ] {
            assert_eq!(list(networks).is_everything(), want, "{networks}");
        }
    }

    #[test]
    fn ipv6_is_counted_by_64() {
        let counted = |text: &str| counted_as(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
