//! Opening ports: once, before privileges are dropped and before shards start.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::accept::Shared;
use super::networks::Networks;
use super::peer::socket_address;
use crate::runtime;

/// Connections the kernel keeps until a shard accepts them.
const BACKLOG: i32 = 4096;
/// A peer that vanished without a word is found out after ten minutes (RFC 1122 4.2.3.6 has two
/// hours as the default, which idle phones outlive in thousands).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(300);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);
const KEEPALIVE_PROBES: u32 = 5;
/// How often, and how many times, a port in use is tried again.
const FREE_EVERY: Duration = Duration::from_millis(50);
const FREE_TRIES: u32 = 60;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Port 0 picks a free one.
    Tcp(SocketAddr),
    /// A socket file with these permissions.
    Unix { path: PathBuf, mode: u32 },
}

/// Who may log in on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRole {
    Off,
    Offered,
    Required,
}

/// How much one listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Over all addresses and shards.
    pub connections_max: u32,
    /// Of one address, over all listeners that share the [`super::AddressCounts`].
    pub connections_per_address_max: u16,
}

/// One listener, as the operator means it. What a connection needs to know of where it came in.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// For log lines and as the name of its tasks.
    pub protocol: &'static str,
    pub address: Address,
    pub hostname: String,
    /// TLS from the first byte (RFC 8314 3).
    pub implicit_tls: bool,
    pub auth: AuthRole,
    pub trusted_networks: Networks,
    /// A PROXY header is required, and taken only from `proxy_networks`.
    pub proxy_protocol: bool,
    pub proxy_networks: Networks,
    pub limits: Limits,
}

/// One shard's socket of one listener. May be sent to its shard.
pub struct Opened {
    pub spec: Arc<ListenerSpec>,
    /// With the port that was picked.
    pub address: Address,
    pub(super) socket: Bound,
    pub(super) shared: Arc<Shared>,
}

pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why a listener does not open. The operator's to mend; the text says how.
#[derive(Debug)]
pub struct ListenError {
    pub address: Address,
    pub error: io::Error,
    /// What systemd passed fits no listener.
    pub inherited: bool,
}

/// Opens every listener for `shards` shards; the result has one list a shard.
///
/// A TCP listener gets a socket of its own on each shard, between which the kernel spreads
/// connections; a Unix socket is served by shard 0. A socket among `inherited` with the address of
/// a listener is used in place of a new one, by all shards together.
pub fn open(
    specs: &[ListenerSpec],
    shards: u16,
    inherited: Vec<OwnedFd>,
) -> Result<Vec<Vec<Opened>>, ListenError> {
    assert!(shards > 0, "no shard to listen on");
    let mut by_shard: Vec<Vec<Opened>> = (0..shards).map(|_| Vec::new()).collect();
    let mut inherited = named(inherited)?;
    for spec in specs {
        let failed = |error| ListenError {
            address: spec.address.clone(),
            error,
            inherited: false,
        };
        let given = inherited
            .iter()
            .position(|(address, _)| address.matches(&spec.address));
        let sockets = match (given.map(|at| inherited.swap_remove(at).1), &spec.address) {
            (Some(given), address) => share(given, address, shards),
            (None, Address::Tcp(address)) => bind_tcp(*address, shards),
            (None, Address::Unix { path, mode }) => bind_unix(path, *mode),
        }
        .map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let spec = Arc::new(spec.clone());
        for (socket, opened) in sockets.into_iter().zip(&mut by_shard) {
            let address = socket.address(&spec.address).map_err(|error| ListenError {
                address: spec.address.clone(),
                error,
                inherited: false,
            })?;
            opened.push(Opened {
                spec: spec.clone(),
                address,
                socket,
                shared: shared.clone(),
            });
        }
    }
    match inherited.pop() {
        Some((address, _)) => {
            let error = io::ErrorKind::InvalidInput.into();
            Err(ListenError {
                address,
                error,
                inherited: true,
            })
        }
        None => Ok(by_shard),
    }
}

/// The sockets that systemd passed (sd_listen_fds(3)). To be called once, before any thread.
pub fn inherited() -> io::Result<Vec<OwnedFd>> {
    let sockets = sd_notify::listen_fds()?;
    // SAFETY: LISTEN_FDS says that these descriptors are open and ours, and it is unset by now.
    Ok(sockets
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect())
}

fn named(sockets: Vec<OwnedFd>) -> Result<Vec<(Address, OwnedFd)>, ListenError> {
    let name = |socket: OwnedFd| {
        let address = SockRef::from(&socket).local_addr().ok();
        let unix = || address.as_ref()?.as_pathname().map(Path::to_owned);
        let address = match address.as_ref().and_then(socket2::SockAddr::as_socket) {
            Some(address) => Address::Tcp(address),
            None => Address::Unix {
                path: unix().unwrap_or_default(),
                mode: 0,
            },
        };
        let listens = SockRef::from(&socket).is_listener();
        if listens.is_ok_and(|listens| listens) {
            return Ok((address, socket));
        }
        let error = io::ErrorKind::InvalidInput.into();
        Err(ListenError {
            address,
            error,
            inherited: true,
        })
    };
    sockets.into_iter().map(name).collect()
}

fn bind_tcp(address: SocketAddr, shards: u16) -> io::Result<Vec<Bound>> {
    if address.port() != 0 {
        // SO_REUSEPORT would let a second server of the same user take half of our connections,
        // and us half of its. Without it the bind fails where anybody listens.
        wait_until_free(address)?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(usize::from(shards));
    for _ in 0..shards {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it.
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE_AFTER)
                .with_interval(KEEPALIVE_EVERY)
                .with_retries(KEEPALIVE_PROBES),
        )?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        address = socket.local_addr()?;
        sockets.push(Bound::Tcp(socket));
    }
    Ok(sockets)
}

/// A killed server's ring may hold its sockets a moment longer than its process lives: a port in
/// use is tried again for a while. Blocks: for the start.
fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    let mut tries = FREE_TRIES;
    loop {
        match socket(address)?.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                std::thread::sleep(FREE_EVERY);
            }
            bound => return bound,
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners.
        socket.set_only_v6(true)?;
    }
    // Ports of connections in TIME_WAIT from before a restart are no obstacle.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Vec<Bound>> {
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // A socket file outlives its server. If nobody answers, it is only that.
            match UnixStream::connect(path) {
                Err(dead) if dead.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                _ => return Err(error),
            }
        }
        socket => socket?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(vec![Bound::Unix(socket)])
}

fn share(given: OwnedFd, address: &Address, shards: u16) -> io::Result<Vec<Bound>> {
    match address {
        Address::Unix { .. } => Ok(vec![Bound::Unix(given.into())]),
        Address::Tcp(_) => (0..shards)
            .map(|_| Ok(Bound::Tcp(given.try_clone()?.into())))
            .collect(),
    }
}

impl Bound {
    fn address(&self, asked: &Address) -> io::Result<Address> {
        Ok(match self {
            Bound::Tcp(socket) => Address::Tcp(socket.local_addr()?),
            Bound::Unix(_) => asked.clone(),
        })
    }

    /// Binds the socket to this shard.
    pub(super) fn into_runtime(self) -> io::Result<runtime::Listener> {
        match self {
            Bound::Tcp(socket) => runtime::Listener::from_std(socket),
            Bound::Unix(socket) => runtime::Listener::from_unix(socket),
        }
    }
}

impl Address {
    fn matches(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Tcp(a), Address::Tcp(b)) => socket_address(*a) == socket_address(*b),
            (Address::Unix { path: a, .. }, Address::Unix { path: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError {
            address,
            error,
            inherited,
        } = self;
        if *inherited {
            return write!(
                f,
                "{address}: passed by systemd, but no [[listener]] has this address; \
                 make ListenStream= and [[listener]] agree"
            );
        }
        write!(f, "{address}: {error}; ")?;
        match (error.kind(), address) {
            (io::ErrorKind::AddrInUse, Address::Tcp(address)) => {
                write!(
                    f,
                    "`ss -ltnp 'sport = :{}'` as root shows by whom",
                    address.port()
                )
            }
            (io::ErrorKind::AddrInUse, Address::Unix { path, .. }) => {
                write!(f, "`ss -lxp src {}` as root shows by whom", path.display())
            }
            (io::ErrorKind::PermissionDenied, Address::Tcp(_)) => f.write_str(
                "ports below 1024 need root at the start, CAP_NET_BIND_SERVICE \
                 (AmbientCapabilities= in the systemd unit), or a systemd socket unit",
            ),
            (io::ErrorKind::PermissionDenied, Address::Unix { .. }) => {
                f.write_str("the directory must be writable for the server")
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                f.write_str("no interface of this host has it; `ip address` lists those that are")
            }
            (io::ErrorKind::NotFound, _) => f.write_str("the directory must exist"),
            _ => f.write_str("see `address` of this [[listener]]"),
        }
    }
}

impl std::error::Error for ListenError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: Address) -> ListenerSpec {
        ListenerSpec {
            protocol: "smtp",
            address,
            hostname: "mail.example.org".to_owned(),
            implicit_tls: false,
            auth: AuthRole::Off,
            trusted_networks: Networks::default(),
            proxy_protocol: false,
            proxy_networks: Networks::default(),
            limits: Limits {
                connections_max: 10,
                connections_per_address_max: 10,
            },
        }
    }

    fn tcp(text: &str) -> ListenerSpec {
        spec(Address::Tcp(text.parse().expect("an address")))
    }

    fn port(opened: &Opened) -> u16 {
        match opened.address {
            Address::Tcp(address) => address.port(),
            Address::Unix { .. } => 0,
        }
    }

    #[test]
    fn shards_share_a_picked_port_and_both_families_coexist() {
        let first = open(&[tcp("0.0.0.0:0")], 3, vec![]).expect("open");
        let picked = port(&first[0][0]);
        assert!(picked != 0 && first.iter().all(|shard| port(&shard[0]) == picked));
        let v6 = open(&[tcp(&format!("[::]:{picked}"))], 2, vec![]).expect("open");
        assert_eq!(port(&v6[1][0]), picked);
    }

    #[test]
    fn a_port_in_use_is_named_with_a_remedy() {
        let first = open(&[tcp("127.0.0.1:0")], 1, vec![]).expect("open");
        let taken = tcp(&format!("127.0.0.1:{}", port(&first[0][0])));
        let error = open(&[taken], 2, vec![]).err().expect("in use");
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:") && text.contains("ss -ltnp"),
            "{text}"
        );
        let error = open(&[tcp("192.0.2.1:0")], 1, vec![])
            .err()
            .expect("not ours");
        assert!(error.to_string().contains("ip address"), "{error}");
    }

    #[test]
    fn unix_sockets_are_for_shard_0_and_a_stale_file_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lmtp.sock");
        let unix = || {
            spec(Address::Unix {
                path: path.clone(),
                mode: 0o660,
            })
        };
        let opened = open(&[unix()], 2, vec![]).expect("open");
        assert_eq!((opened[0].len(), opened[1].len()), (1, 0));
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(open(&[unix()], 1, vec![]).is_err(), "it is in use");
        drop(opened);
        assert!(path.exists(), "the file outlives its listener");
        open(&[unix()], 1, vec![]).expect("a stale file is no obstacle");
    }

    #[test]
    fn inherited_sockets_are_shared_by_all_shards() {
        let given = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = given.local_addr().expect("an address");
        let wanted = tcp(&address.to_string());
        let other = TcpListener::bind("127.0.0.1:0").expect("bind");
        let clone = given.try_clone().expect("a descriptor");
        let opened = open(std::slice::from_ref(&wanted), 3, vec![clone.into()]).expect("open");
        assert!(opened.iter().all(|shard| port(&shard[0]) == address.port()));
        let error = open(&[wanted], 1, vec![given.into(), other.into()])
            .err()
            .expect("left over");
        assert!(
            error.inherited && error.to_string().contains("systemd"),
            "{error}"
        );
    }
}
