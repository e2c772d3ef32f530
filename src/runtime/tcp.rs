//! Stream sockets: TCP, and Unix ones through the same type.
//!
//! A descriptor is bound to the shard at once, so that dropping whatever holds it closes it. To
//! hand a connection to another shard: `dup` it with no read or write in flight, drop the stream,
//! and make a new one there with [`Stream::from_fd`]. That is why dropping does not shut down:
//! call [`Stream::shutdown`] first where the connection is to end, or its FIN may be late.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::error::io_error;
use super::shard::{is_slice_over, wake_later};
use super::{Elapsed, deadline, now, sleep, yield_if_needed};
use crate::base::Deadline;

/// A listening socket, one a shard.
pub struct Listener {
    fd: OwnedFd,
    unix: bool,
}

/// Who connected, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        peer: SocketAddr,
        local: SocketAddr,
    },
    /// The user that the process ran as when it connected, where the kernel tells.
    Unix {
        uid: Option<u32>,
    },
}

impl Listener {
    /// A socket that already listens, bound with SO_REUSEPORT where every shard has its own.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        Self::new(listener.into(), false)
    }

    /// As [`from_std`](Listener::from_std), for Unix sockets.
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Self::new(listener.into(), true)
    }

    fn new(fd: OwnedFd, unix: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Listener { fd, unix })
    }

    /// The next connection. Lack of descriptors or memory is waited out, a connection that died
    /// in the queue is passed over: an error means that this socket listens no more. Nothing is
    /// lost when the wait is dropped.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        // Under a flood of connections every accept succeeds at once.
        yield_if_needed().await;
        loop {
            match rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    if let Some(accepted) = self.bind(fd) {
                        return Ok(accepted);
                    }
                }
                Err(Errno::AGAIN) => readable(&self.fd).await,
                Err(errno) => match after_error(errno) {
                    AfterError::Again => {}
                    AfterError::Pause => sleep(PAUSE).await,
                    AfterError::Fail => return Err(errno.into()),
                },
            }
        }
    }

    /// The address this listens on, `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        rustix::net::getsockname(&self.fd).ok()?.try_into().ok()
    }

    /// `None` where the peer is gone already.
    fn bind(&self, fd: OwnedFd) -> Option<(Stream, Peer)> {
        if self.unix {
            let peer = rustix::net::sockopt::socket_peercred(&fd).ok();
            let uid = peer.map(|peer| peer.uid.as_raw());
            return Some((Stream::from_fd(fd), Peer::Unix { uid }));
        }
        let peer = rustix::net::getpeername(&fd).ok()??.try_into().ok()?;
        let local = rustix::net::getsockname(&fd).ok()?.try_into().ok()?;
        no_delay(&fd);
        Some((Stream::from_fd(fd), Peer::Tcp { peer, local }))
    }
}

/// One connection. Reads and writes are tried at once and wait for the ring only where the socket
/// is not ready, so an idle stream holds no buffer.
pub struct Stream {
    /// Any connected socket: all that is called on it is `recv`, `send` and a poll.
    socket: TcpStream,
}

impl Stream {
    /// A connected socket, from `dup` on another shard or from a listener.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        // SAFETY: the descriptor is owned and its ownership passes to the stream.
        let socket = unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) };
        Stream { socket }
    }

    /// Connects; `TimedOut` at the deadline.
    pub async fn connect(to: SocketAddr, until: Deadline) -> io::Result<Self> {
        let connect = deadline(until, TcpStream::connect(to)).await;
        let socket = connect.map_err(timed_out)?.map_err(io_error)?;
        no_delay(socket_fd(&socket));
        Ok(Stream { socket })
    }

    /// As [`connect`](Stream::connect), from an address of ours.
    pub async fn connect_from(source: IpAddr, to: SocketAddr, until: Deadline) -> io::Result<Self> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&fd, &SocketAddr::new(source, 0))?;
        match rustix::net::connect(&fd, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        no_delay(&fd);
        let mut stream = Self::from_fd(fd);
        // Nothing is sent by this, but not before there is a connection (tcp(7)); where there will
        // be none, it says why.
        let connected = poll_fn(|cx| stream.poll_write(cx, &[]));
        deadline(until, connected).await.map_err(timed_out)??;
        Ok(stream)
    }

    /// Our end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let local = rustix::net::getsockname(self)?;
        local
            .try_into()
            .map_err(|_| io::ErrorKind::Unsupported.into())
    }

    /// Connects to a Unix socket; `TimedOut` where its queue stays full until the deadline.
    pub async fn connect_unix(path: &Path, until: Deadline) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match rustix::net::connect(&fd, &address) {
                Ok(()) => return Ok(Self::from_fd(fd)),
                // unix(7): the queue is full, and there is no way to wait for it but again.
                Err(Errno::AGAIN) if now() < until.0 => sleep(CONNECT_PAUSE).await,
                Err(Errno::AGAIN) => return Err(timed_out(Elapsed)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// 0 is the peer's end of stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(poll_slice(cx));
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }

    /// How much the socket took.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(poll_slice(cx));
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    /// 0 is the peer's end of stream.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Writes all of it. Dropped half-way, an unknown part is on its way.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match poll_fn(|cx| self.poll_write(cx, bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// A second descriptor of the connection, close-on-exec, to hand to another shard.
    pub fn dup(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self, 0)?)
    }

    /// Ends our direction now. An error means that the connection has ended already.
    pub fn shutdown(&mut self) {
        let _ = rustix::net::shutdown(&*self, rustix::net::Shutdown::Write);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        socket_fd(&self.socket)
    }
}

fn socket_fd(socket: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

fn timed_out(_: Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Pending, and woken again, once the task has used up its slice: a peer that always has another
/// packet ready must not hold the shard.
fn poll_slice(cx: &Context<'_>) -> Poll<()> {
    if !is_slice_over() {
        return Poll::Ready(());
    }
    wake_later(cx.waker().clone());
    Poll::Pending
}

enum AfterError {
    Again,
    Pause,
    Fail,
}

/// accept(2), "Error handling": errors of the connection and of its network are not ours.
fn after_error(errno: Errno) -> AfterError {
    match errno {
        Errno::INTR
        | Errno::CONNABORTED
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NONET
        | Errno::PERM => AfterError::Again,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AfterError::Pause,
        _ => AfterError::Fail,
    }
}

/// Waits until a read would not block; returns early rather than late.
///
/// glommio's own accept loses the connection when the wait is dropped after the kernel took it.
/// A stream over a duplicate gives what it does not offer, a poll for a foreign descriptor: the
/// poll begins with the stream, and the read that follows it fails, which is of no interest here.
async fn readable(fd: &OwnedFd) {
    match rustix::io::fcntl_dupfd_cloexec(fd, 0) {
        Ok(twin) => {
            let mut twin = Stream::from_fd(twin);
            let _ = twin.read(&mut [0]).await;
        }
        Err(_) => sleep(PAUSE).await,
    }
}

/// Replies are small and waited for. Not worth losing the connection over.
fn no_delay(fd: impl AsFd) {
    let _ = rustix::net::sockopt::set_tcp_nodelay(fd, true);
}

/// Long enough that a process out of descriptors does not spin, short enough that nobody notices.
const PAUSE: Duration = Duration::from_millis(50);
/// A full queue on the same machine empties soon.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);
