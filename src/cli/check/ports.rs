//! Whether every port can be opened, or is open already by the running server.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::Finding;
use crate::config::Config;

pub fn look(config: &Config, running: bool) -> Vec<Finding> {
    let listeners = config.listeners();
    listeners
        .iter()
        .map(|listener| {
            let place = format!("{} {}", listener.protocol, listener.address);
            match bind(listener.address) {
                Ok(()) if running => Finding::warning(
                    "port",
                    format!("{place}: the running server does not listen there"),
                    "restart it: a changed listener takes effect at the next start",
                ),
                Ok(()) => Finding::good("port", format!("{place} can be opened")),
                Err(error) => failed(place, listener.address, &error, running),
            }
        })
        .collect()
}

fn failed(place: String, address: SocketAddr, error: &io::Error, running: bool) -> Finding {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse if running => {
            Finding::good("port", format!("{place} is open: a palomar is running"))
        }
        io::ErrorKind::AddrInUse => Finding::bad(
            "port",
            format!("{place} is in use by another program"),
            format!("ss -ltnp 'sport = :{port}' shows which; stop it, or listen elsewhere"),
        ),
        io::ErrorKind::PermissionDenied => Finding::warning(
            "port",
            format!("{place} may not be opened by this user"),
            "harmless where systemd opens the port or the server starts as root: see \
             AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        io::ErrorKind::AddrNotAvailable => Finding::bad(
            "port",
            format!("{place}: this machine has no such address"),
            "ip address shows those that it has",
        ),
        _ => Finding::bad(
            "port",
            format!("{place}: {error}"),
            "change or remove the listener",
        ),
    }
}

/// Binds as the server does, without SO_REUSEPORT: a second server is to be noticed.
fn bind(address: SocketAddr) -> io::Result<()> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)
}
