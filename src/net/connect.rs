//! Connections that we make.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::error::{Doing, NetError};
use super::peer::{Peer, socket_address};
use super::stream::Conn;
use crate::base::Deadline;
use crate::runtime::Stream;

/// Connects to `to`, from `source` where a host has several addresses and mail has its own.
pub async fn connect(
    to: SocketAddr,
    source: Option<IpAddr>,
    until: Deadline,
) -> Result<Conn, NetError> {
    let connected = match source {
        Some(source) => Stream::connect_from(source, to, until).await,
        None => Stream::connect(to, until).await,
    };
    let stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => NetError::Late(Doing::Connect),
        _ => NetError::Io(Doing::Connect, error),
    })?;
    let local = stream.local_addr().map_err(NetError::io(Doing::Connect))?;
    let peer = Peer::Direct {
        remote: socket_address(to),
        local: socket_address(local),
    };
    Ok(Conn::new(stream, peer))
}
