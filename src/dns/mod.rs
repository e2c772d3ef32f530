//! DNS: questions to the site's resolvers, over UDP and, where an answer is cut, over TCP.
//!
//! hickory-proto encodes and decodes; the transport, time-outs and the order of servers are ours.
//! Runs on any shard. Today it serves `palomar check` alone, so it keeps no cache and validates
//! nothing: what it says is what the first server that answers says.
//!
//! Deliberately absent: caching, DNSSEC, 0x20; they come with mail to other hosts.

mod resolver;
mod servers;

pub use resolver::{Answer, DnsError, Kind, Resolver};
pub use servers::{ServersError, system_servers};
