//! What goes wrong on a connection.

use std::fmt;
use std::io;

use super::proxy::ProxyError;
use super::tls::TlsFault;
use crate::runtime::Elapsed;

/// What a connection was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Connect,
    Read,
    Write,
    Handshake,
    ProxyHeader,
}

/// Why a connection cannot go on. After any of these but [`NetError::Late`] while reading and
/// [`NetError::UnreadFull`], nothing can be said to the peer any more.
#[derive(Debug)]
pub enum NetError {
    /// The socket broke (reset, unreachable).
    Io(Doing, io::Error),
    /// The deadline passed.
    Late(Doing),
    /// The peer left in the middle.
    Gone(Doing),
    /// TLS broke.
    Tls(Doing, Box<TlsFault>),
    /// The caller wants more, but has not consumed what is there.
    UnreadFull { unread_bytes_max: usize },
    /// No proper PROXY header where one is required.
    Proxy(ProxyError),
}

impl NetError {
    pub(super) fn io(doing: Doing) -> impl FnOnce(io::Error) -> NetError {
        move |error| NetError::Io(doing, error)
    }

    pub(super) fn late(doing: Doing) -> impl FnOnce(Elapsed) -> NetError {
        move |Elapsed| NetError::Late(doing)
    }

    /// The TLS fault, for the log line of a failed handshake.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFault> {
        match self {
            NetError::Tls(_, fault) => Some(fault),
            _ => None,
        }
    }

    /// True if it was the TLS handshake that failed, in whatever way.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        matches!(
            self,
            NetError::Io(Doing::Handshake, _)
                | NetError::Late(Doing::Handshake)
                | NetError::Gone(Doing::Handshake)
                | NetError::Tls(Doing::Handshake, _)
        )
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Connect => "connecting",
            Doing::Read => "reading",
            Doing::Write => "writing",
            Doing::Handshake => "the TLS handshake",
            Doing::ProxyHeader => "the PROXY header",
        })
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Io(doing, error) => write!(f, "{error} in {doing}"),
            NetError::Late(doing) => write!(f, "deadline passed in {doing}"),
            NetError::Gone(doing) => write!(f, "peer left in {doing}"),
            NetError::Tls(doing, fault) => write!(f, "{fault} in {doing}"),
            NetError::UnreadFull { unread_bytes_max } => {
                write!(f, "{unread_bytes_max} bytes came without an end")
            }
            NetError::Proxy(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NetError {}
