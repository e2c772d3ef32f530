//! What the DNS says of hosts.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::Poll;

use futures_lite::future::zip;

use crate::dns::{Answer, DnsError, Kind, Rdata, Resolver};

/// Where a host is.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub addresses: Vec<IpAddr>,
    /// Why there may be more of them.
    pub error: Option<DnsError>,
}

impl Addresses {
    /// Of a host that is an address.
    #[must_use]
    pub fn known(address: IpAddr) -> Self {
        Addresses {
            addresses: vec![address],
            error: None,
        }
    }
}

/// Both kinds of addresses of `host`, asked for at the same time.
pub async fn addresses(resolver: &Resolver, host: &str) -> Addresses {
    // RFC 6761 6.3: never asked for.
    if host.eq_ignore_ascii_case("localhost") {
        return Addresses {
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            error: None,
        };
    }
    let asked = zip(
        resolver.lookup(host, Kind::A),
        resolver.lookup(host, Kind::Aaaa),
    );
    let (v4, v6) = asked.await;
    let mut found = Addresses {
        addresses: Vec::new(),
        error: None,
    };
    found.add(v4);
    found.add(v6);
    found
}

impl Addresses {
    fn add(&mut self, answer: Result<Answer, DnsError>) {
        match answer {
            Err(error) => self.error = Some(error),
            Ok(answer) => {
                let address = |record: &Rdata| match record {
                    Rdata::Address(address) => Some(address.to_canonical()),
                    _ => None,
                };
                self.addresses
                    .extend(answer.records.iter().filter_map(address));
            }
        }
    }
}

/// Waits for all of them at the same time; there are few.
pub async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
