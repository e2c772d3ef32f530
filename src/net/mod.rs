//! Net: everything between a port and a protocol. The only room that names rustls.
//!
//! - [`open`] binds all ports before privileges are dropped, one socket a shard with SO_REUSEPORT;
//!   [`accept_loop`] runs one of them on its shard, counts, refuses, reads PROXY headers, and hands
//!   a [`Conn`] to the protocol.
//! - [`Conn`] is plain or TLS and reads the same. [`Conn::detach`] and [`Parcel::attach`] move it
//!   to the shard that owns its user, TLS state, unread bytes and counts included.
//! - [`Tls`] holds certificates and ticket keys for all shards; reload swaps a snapshot.
//! - [`Networks`] are who is trusted. Every address is normalised where it enters: IPv4 mapped into
//!   IPv6 is IPv4, and limits count IPv6 by /64.
//!
//! Shared between shards are only snapshots and atomics. Everything that waits has a deadline, and
//! what a peer can make us hold is bounded: unread plaintext by the caller, ciphertext, output and
//! lingering by constants in `stream`.
//!
//! - [`connect`] makes a connection to another host; [`Conn::start_tls_client`] secures it and
//!   tells whom it found there. Whether that will do is for `queue` to judge.
//!
//! Deliberately absent: line splitting (wire), what to say to whom (session).

mod accept;
mod connect;
mod counts;
mod error;
mod handover;
mod listen;
mod networks;
mod peer;
mod privileges;
mod proxy;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub use accept::{ListenerCounters, Refusal, accept_loop};
pub use connect::connect;
pub use counts::AddressCounts;
pub use error::{Doing, NetError};
pub use handover::Parcel;
pub use listen::{Address, AuthRole, Limits, ListenError, ListenerSpec, Opened, inherited, open};
pub use networks::{Network, NetworkError, Networks, counted_as, normalised};
pub use peer::Peer;
pub use privileges::{PrivilegeError, become_owner, drop_privileges, hand_over, user_names};
pub use proxy::ProxyError;
pub use stream::{Conn, Filled};
pub use tls::{
    Anchor, CertFacts, CertPair, CertStore, ClientStream, DefaultCert, Distrust, DistrustKind,
    HandshakeFailures, Offered, OutgoingTls, Tls, TlsConfig, TlsError, TlsFacts, TlsFault, TlsPeer,
    leads_to, public_key, self_signed,
};
