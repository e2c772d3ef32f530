//! The addresses of this machine, from the kernel's tables in `/proc/net`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: &str = "/proc/net/fib_trie";
const IPV6: &str = "/proc/net/if_inet6";

/// Those that others may reach us by: all but loopback. What cannot be read is left out. Reads
/// files: not on a shard.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut found: Vec<IpAddr> = Vec::new();
    found.extend(ipv4(&read(IPV4)).map(IpAddr::V4));
    found.extend(ipv6(&read(IPV6)).map(IpAddr::V6));
    found.retain(|address| !address.is_loopback());
    found.sort();
    found.dedup();
    found
}

/// An address, and in a line below it that it is a host of our own.
fn ipv4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    table.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.trim_end().parse().ok();
            return None;
        }
        let is_own = line.starts_with("/32 host LOCAL");
        last.filter(|_| is_own)
    })
}

/// 32 hex digits, then the interface's number and more.
fn ipv6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split(' ').next().filter(|word| word.len() == 32)?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(Ipv6Addr::from_bits(bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n\
                    \x20    |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.2\n\
                    \x20       /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(
            ipv4(trie).collect::<Vec<_>>(),
            [Ipv4Addr::new(192, 0, 2, 2)]
        );
        let table = "20010db8000000000000000000000002 04 40 00 82     eth0\nnonsense\n";
        let want: Ipv6Addr = "2001:db8::2".parse().expect("an address");
        assert_eq!(ipv6(table).collect::<Vec<_>>(), [want]);
        assert!(own_addresses().iter().all(|address| !address.is_loopback()));
    }
}
