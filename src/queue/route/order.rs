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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts as `name: addresses`, and the order as `name=address`.
    #[track_caller]
    fn check(hosts: &[(&str, &str)], first: Family, failed: &str, want: &str) {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let each = hosts.iter().map(|(host, addresses)| HostAddresses {
            host: (*host).to_owned(),
            addresses: addresses.split(' ').map(ip).collect(),
        });
        let is_failed = |address: IpAddr| failed.split(' ').any(|f| f == address.to_string());
        let ordered = order(each.collect(), first, is_failed);
        let told = ordered
            .iter()
            .map(|(host, address)| format!("{host}={address}"));
        assert_eq!(told.collect::<Vec<_>>().join(" "), want);
    }

    #[test]
    fn families_take_turns_and_failures_come_last() {
        use Family::{V4, V6};
        let mixed = [("a", "10.0.0.1 10.0.0.2 10.0.0.3 ::1")];
        check(&mixed, V6, "", "a=::1 a=10.0.0.1 a=10.0.0.2 a=10.0.0.3");
        check(&mixed, V4, "", "a=10.0.0.1 a=::1 a=10.0.0.2 a=10.0.0.3");
        let two = [("a", "::1 ::2 10.0.0.1"), ("b", "10.0.0.2 ::3")];
        check(&two, V4, "", "a=10.0.0.1 a=::1 a=::2 b=10.0.0.2 b=::3");
        check(&two, V6, "::1", "a=10.0.0.1 a=::2 b=::3 b=10.0.0.2 a=::1");
        let only = [("a", "10.0.0.1"), ("b", "10.0.0.2")];
        check(&only, V6, "10.0.0.1 10.0.0.2", "a=10.0.0.1 b=10.0.0.2");
        check(&[], V6, "", "");
    }
}
