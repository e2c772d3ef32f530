//! Datagrams to and from one peer, for DNS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{Stream, deadline};
use crate::base::Deadline;

/// A connected UDP socket: the kernel drops what comes from anybody but the peer.
pub struct Udp {
    /// `send` and `recv` on a connected socket are all a stream does.
    socket: Stream,
}

impl Udp {
    /// From a port of the kernel's random choice (RFC 5452 9.2).
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(Udp {
            socket: Stream::from_fd(socket.into()),
        })
    }

    /// Sends one datagram; `TimedOut` if the socket takes none until the deadline.
    pub async fn send(&mut self, datagram: &[u8], until: Deadline) -> io::Result<()> {
        let send = std::future::poll_fn(|cx| self.socket.poll_write(cx, datagram));
        match deadline(until, send).await {
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The next datagram; what does not fit into `buf` is cut off. `TimedOut` at the deadline.
    pub async fn receive(&mut self, buf: &mut [u8], until: Deadline) -> io::Result<usize> {
        match deadline(until, self.socket.read(buf)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
