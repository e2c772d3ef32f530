//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt, 2.1 and 2.2): the address
//! of the client before a load balancer. `parse` is pure; the reader here waits for its bytes.
//!
//! Whoever may send a header names any address it likes, so a header is read only on listeners that
//! require one, and only from `proxy_networks`.

mod parse;

use std::fmt;

pub use parse::{HEADER_BYTES_MAX, Header, Parsed, parse};

use super::error::{Doing, NetError};
use super::peer::{Peer, socket_address};
use super::stream::{Conn, Filled};
use crate::base::Deadline;

/// What is wrong with a PROXY header. Always the proxy's fault, or of one who is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The connection does not come from `proxy_networks`.
    NotAProxy,
    /// The connection does not begin with a header.
    Missing,
    /// The header breaks the grammar.
    Malformed,
    /// It is longer than any real one.
    TooLong,
    /// A version, command or address family that is none of ours (UDP, Unix).
    Unsupported,
    /// Its CRC32C does not fit (2.2.4).
    BadChecksum,
}

/// Reads the header that must open `conn`; from then on the connection's peer is what it says.
/// Bytes behind it stay unread.
pub(super) async fn read_header(conn: &mut Conn, until: Deadline) -> Result<(), NetError> {
    let (header, bytes) = loop {
        match parse(conn.unread()).map_err(NetError::Proxy)? {
            Parsed::Complete { header, bytes } => break (header, bytes),
            Parsed::Incomplete => {}
        }
        match conn.fill(HEADER_BYTES_MAX, until).await {
            Ok(Filled::Bytes(_)) => {}
            Ok(Filled::Eof) => return Err(NetError::Gone(Doing::ProxyHeader)),
            Err(NetError::Late(_)) => return Err(NetError::Late(Doing::ProxyHeader)),
            Err(error) => return Err(error),
        }
    };
    conn.consume(bytes);
    let (Some(proxy), Some(own)) = (conn.peer().remote(), conn.peer().local()) else {
        return Err(NetError::Proxy(ProxyError::Unsupported));
    };
    conn.set_peer(match header {
        Header::Client {
            source,
            destination,
        } => Peer::Proxied {
            remote: socket_address(source),
            local: socket_address(destination),
            proxy,
        },
        Header::Own => Peer::Proxy { proxy, local: own },
    });
    Ok(())
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyError::NotAProxy => "not from a proxy",
            ProxyError::Missing => "no PROXY header",
            ProxyError::Malformed => "malformed PROXY header",
            ProxyError::TooLong => "PROXY header too long",
            ProxyError::Unsupported => "PROXY header of an unsupported kind",
            ProxyError::BadChecksum => "PROXY header with a wrong checksum",
        })
    }
}
