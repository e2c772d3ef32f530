//! DNS: questions to the site's resolvers, over UDP and, where an answer is cut, over TCP.
//!
//! hickory-proto encodes and decodes, hickory-net's validator judges signatures; transport,
//! time-outs, the order of servers and the cache are ours. A [`Resolver`] lives on one shard;
//! shards share a read-only snapshot of what they know ([`SharedCache`]).
//!
//! From the outside in: [`Resolver`] follows aliases one name at a time; each name is looked for in
//! the cache, joined with an equal question under way (`flights`), asked (`exchange`, in the order
//! that `servers` keeps), judged (`validate`) and read (`message`, pure).
//!
//! Invariants:
//! - Everything is bounded: a look-up in time, aliases, questions under way and on the wire, the
//!   cache in octets, what one judgement may ask for.
//! - Nothing is given out past its TTL; what has TTL 0 is used once.
//! - What is bogus is an error and never an answer. The AD bit of a server is not looked at.
//!
//! Deliberately absent: recursion from the root (a resolver on the same machine does that better),
//! DNS over TLS or HTTPS, search lists, `/etc/hosts`, signed DNAME (its CNAME comes out as bogus),
//! and roll-over of trust anchors (RFC 5011): the root's keys come with the program.

mod answer;
mod cache;
mod counters;
mod exchange;
mod flights;
mod message;
mod resolver;
mod servers;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod transport;
mod validate;

pub use answer::{Answer, DnsError, Kind, Outcome, Rdata, Security};
pub use cache::SharedCache;
pub use counters::METRICS;
pub use resolver::{Resolver, Settings, SettingsError};
pub use servers::ServersError;
pub use validate::{Anchors, AnchorsError};
