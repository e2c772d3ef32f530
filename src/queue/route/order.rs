//! Addresses in the order in which they are tried. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{HOPS_MAX, HOSTS_MAX};

/// The two kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A host, with whatever is known of it, and where it is.
#[derive(Clone, Debug)]
pub struct HostAddresses<H> {
    pub host: H,
    pub addresses: Vec<IpAddr>,
}

impl Family {
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.is_ipv4() {
            true => Family::V4,
            false => Family::V6,
        }
    }
}

/// Host by host, within each the families in turns beginning with `first`; what failed lately
/// behind all others. No host takes so many places that one behind it has none.
pub fn order<H: Clone>(
    hosts: Vec<HostAddresses<H>>,
    first: Family,
    is_failed: impl Fn(IpAddr) -> bool,
) -> Vec<(H, IpAddr)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let count = hosts.len().min(HOSTS_MAX);
    for (n, host) in hosts.into_iter().take(HOSTS_MAX).enumerate() {
        let behind = count - 1 - n;
        let room = HOPS_MAX - good.len() - bad.len() - behind;
        for address in in_turns(host.addresses, first).take(room) {
            let list = match is_failed(address) {
                true => &mut bad,
                false => &mut good,
            };
            list.push((host.host.clone(), address));
        }
    }
    good.append(&mut bad);
    good
}

/// One of each family in turns, then what is left (as RFC 8305 4 has it).
pub fn in_turns(addresses: Vec<IpAddr>, first: Family) -> impl Iterator<Item = IpAddr> {
    let is_first = |address: &IpAddr| Family::of(*address) == first;
    let (mut one, mut other): (VecDeque<IpAddr>, VecDeque<IpAddr>) =
        addresses.into_iter().partition(is_first);
    std::iter::from_fn(move || {
        let next = one.pop_front();
        // Whose turn it was is behind the other, unless the other has no more.
        if next.is_none() || !other.is_empty() {
            std::mem::swap(&mut one, &mut other);
        }
        next.or_else(|| one.pop_front())
    })
}
