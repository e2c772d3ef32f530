//! Networks as an operator writes them: `10.0.0.0/8`, `2001:db8::/32`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: an address without host bits and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Networks that a key trusts. Together they never cover everybody: [`Networks::new`] refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Cidr>);

/// Why a text is no network that may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// Neither an address nor address/prefix.
    Syntax,
    /// The prefix is longer than the address.
    PrefixTooLong,
    /// Address bits beyond the prefix are set; the network meant is inside.
    HostBits(Cidr),
    /// A network so wide that trusting it trusts strangers.
    TooWide,
}

/// The widest network that can be one institution's: an old class A.
const V4_PREFIX_MIN: u8 = 8;
/// The widest global IPv6 network; local ones (fc00::/7) may be wider.
const V6_PREFIX_MIN: u8 = 16;
/// Trusted networks together cover at most 1/16 of IPv4.
const V4_ADDRESSES_MAX: u64 = 1 << 28;
/// And at most 64 networks of `V6_PREFIX_MIN`, of the 8192 in use (RFC 4291 2.4: 2000::/3).
const V6_SIXTEENTHS_MAX: u64 = 64;
/// IPv6 ranges that hold all of IPv4: NAT64 (RFC 6052 2.1) and 6to4 (RFC 3056 2).
const V4_IN_V6: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

impl Cidr {
    /// The network of `address` with `prefix` bits. IPv4 in IPv6 (RFC 4291 2.5.5.2) becomes IPv4.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let (address, prefix) = match address {
            IpAddr::V6(v6) if (96..=128).contains(&prefix) => match v6.to_ipv4_mapped() {
                Some(v4) => (IpAddr::V4(v4), prefix - 96),
                None => (address, prefix),
            },
            _ => (address, prefix),
        };
        if prefix > width(address) {
            return Err(CidrError::PrefixTooLong);
        }
        let network = Cidr {
            address: masked(address, prefix),
            prefix,
        };
        match network.address == address {
            true => Ok(network),
            false => Err(CidrError::HostBits(network)),
        }
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Cidr {
            address,
            prefix: width(address),
        }
    }

    /// Whether `address` lies in the network; IPv4 in IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && masked(address, self.prefix) == self.address
    }

    fn covers(&self, other: &Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    fn too_wide(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix < V4_PREFIX_MIN,
            IpAddr::V6(v6) => {
                let embeds = V4_IN_V6.iter().any(|&(base, bits)| {
                    let base = Cidr {
                        address: IpAddr::V6(base),
                        prefix: bits,
                    };
                    self.covers(&base) || (base.covers(self) && self.prefix < bits + V4_PREFIX_MIN)
                });
                // RFC 4193 3.1: fc00::/7 is nobody's but ours.
                let local = v6.octets()[0] & 0xfe == 0xfc && self.prefix >= 7;
                embeds || (self.prefix < V6_PREFIX_MIN && !local)
            }
        }
    }
}

impl Networks {
    /// Takes networks, or names the first that is too wide or tips their sum over "everybody".
    pub fn new(networks: Vec<Cidr>) -> Result<Self, Cidr> {
        let (mut v4, mut v6) = (0u64, 0u64);
        for (n, network) in networks.iter().enumerate() {
            if network.too_wide() {
                return Err(*network);
            }
            if networks[..n].iter().any(|earlier| earlier.covers(network)) {
                continue;
            }
            match network.address {
                IpAddr::V4(_) => v4 += 1 << (32 - network.prefix),
                IpAddr::V6(_) if network.prefix <= V6_PREFIX_MIN => v6 += 1,
                IpAddr::V6(_) => {}
            }
            if v4 > V4_ADDRESSES_MAX || v6 > V6_SIXTEENTHS_MAX {
                return Err(*network);
            }
        }
        Ok(Networks(networks))
    }

    /// Whether one of the networks holds `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The networks as written.
    pub fn iter(&self) -> impl Iterator<Item = &Cidr> {
        self.0.iter()
    }

    /// True if nobody is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        match text.split_once('/') {
            None => text.parse().map(Cidr::host).map_err(|_| CidrError::Syntax),
            Some((address, prefix)) => {
                let address = address.parse().map_err(|_| CidrError::Syntax)?;
                let prefix = prefix.parse().map_err(|_| CidrError::Syntax)?;
                Cidr::new(address, prefix)
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
