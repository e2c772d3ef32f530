//! Moving a connection to another shard: after authentication, once, between two reads.
//!
//! The socket is duplicated and the old handle dropped, which takes its armed poll off the old
//! ring; everything else moves as it is. Nothing may be in flight, and nothing can be: [`Conn`] is
//! borrowed by whoever reads or writes.

use std::io;
use std::os::fd::OwnedFd;

use super::peer::Peer;
use super::stream::{Conn, Inner, State};
use crate::runtime::Stream;

/// A connection that belongs to no shard: socket, TLS state, undecrypted, unread and unsent bytes,
/// and its place in the count of its address. Dropping it closes the connection.
pub struct Parcel(Box<Parts>);

struct Parts {
    socket: OwnedFd,
    state: State,
}

impl Conn {
    /// Takes the connection off this shard. Where there is no descriptor left for the duplicate
    /// (EMFILE) the connection comes back whole, to be tried again or refused politely.
    pub fn detach(self) -> Result<Parcel, (Conn, io::Error)> {
        let socket = match self.0.stream.dup() {
            Ok(socket) => socket,
            Err(error) => return Err((self, error)),
        };
        let Inner { stream, mut state } = *self.0;
        drop(stream);
        state.unread.drain(..state.consumed);
        state.unread.shrink_to_fit();
        state.consumed = 0;
        Ok(Parcel(Box::new(Parts { socket, state })))
    }
}

impl Parcel {
    /// Puts the connection on this shard. What it carried is to be read before waiting for more:
    /// [`Conn::unread`] may hold whole commands.
    #[must_use]
    pub fn attach(self) -> Conn {
        let Parts { socket, state } = *self.0;
        Conn(Box::new(Inner {
            stream: Stream::from_fd(socket),
            state,
        }))
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.state.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_may_cross_shards() {
        fn is_send<T: Send>() {}
        is_send::<Parcel>();
    }
}
