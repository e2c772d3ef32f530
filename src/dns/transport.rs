//! Octets to a server and back: a socket for each question over UDP, a connection for each over
//! TCP. A test's network stands in for both.

use std::io;
use std::net::SocketAddr;

use super::message::PAYLOAD_BYTES;
#[cfg(test)]
use super::sim::{SimNet, SimSocket};
use crate::base::Deadline;
use crate::runtime::{self, Stream, Udp};

/// Where packets go.
#[derive(Clone)]
pub enum Transport {
    Sockets,
    #[cfg(test)]
    Sim(SimNet),
}

/// One question's own way to one server, from a random port (RFC 5452 9.2).
pub enum Datagrams {
    Socket(Udp),
    #[cfg(test)]
    Sim(SimSocket),
}

impl Transport {
    pub fn datagrams(&self, server: SocketAddr) -> io::Result<Datagrams> {
        match self {
            Transport::Sockets => Udp::connect(server).map(Datagrams::Socket),
            #[cfg(test)]
            Transport::Sim(net) => net.connect(server).map(Datagrams::Sim),
        }
    }

    /// One question and its answer over a connection of their own.
    pub async fn stream(
        &self,
        server: SocketAddr,
        query: &[u8],
        until: Deadline,
    ) -> io::Result<Vec<u8>> {
        match self {
            Transport::Sockets => over_tcp(server, query, until).await,
            #[cfg(test)]
            Transport::Sim(net) => net.stream(server, query, until).await,
        }
    }
}

impl Datagrams {
    pub async fn send(&mut self, datagram: &[u8], until: Deadline) -> io::Result<()> {
        match self {
            Datagrams::Socket(udp) => udp.send(datagram, until).await,
            #[cfg(test)]
            Datagrams::Sim(socket) => socket.send(datagram),
        }
    }

    /// The next datagram from the server; `TimedOut` at the deadline.
    pub async fn receive(&mut self, until: Deadline) -> io::Result<Vec<u8>> {
        // Some send more than they were asked to.
        let mut buffer = vec![0; 2 * usize::from(PAYLOAD_BYTES)];
        let len = match self {
            Datagrams::Socket(udp) => udp.receive(&mut buffer, until).await?,
            #[cfg(test)]
            Datagrams::Sim(socket) => socket.receive(&mut buffer, until).await?,
        };
        buffer.truncate(len);
        Ok(buffer)
    }
}

/// Two octets of length before each message (RFC 7766 8).
async fn over_tcp(server: SocketAddr, query: &[u8], until: Deadline) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = Stream::connect(server, until).await?;
        let len = u16::try_from(query.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(query);
        stream.write_all(&framed).await?;
        let mut len = [0; 2];
        read_exact(&mut stream, &mut len).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        read_exact(&mut stream, &mut answer).await?;
        stream.shutdown();
        Ok(answer)
    };
    runtime::deadline(until, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read_exact(stream: &mut Stream, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match stream.read(into).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => into = &mut into[read..],
        }
    }
    Ok(())
}
