//! Which servers to ask: those of the configuration, else those of `/etc/resolv.conf`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const PORT: u16 = 53;

/// As many as the C library asks (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;

/// Why there is nobody to ask.
#[derive(Debug)]
pub enum ServersError {
    Unreadable(io::Error),
    /// The file names none.
    None,
}

/// The `nameserver` lines of `resolv_conf`.
pub fn system_servers(resolv_conf: &Path) -> Result<Vec<SocketAddr>, ServersError> {
    let text = std::fs::read_to_string(resolv_conf).map_err(ServersError::Unreadable)?;
    match parse(&text) {
        servers if servers.is_empty() => Err(ServersError::None),
        servers => Ok(servers),
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, PORT))
        .take(SERVERS_MAX)
        .collect()
}

impl fmt::Display for ServersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServersError::Unreadable(error) => write!(f, "cannot be read: {error}"),
            ServersError::None => f.write_str("names no server; set [dns] servers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_others_passed_over() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver ::1\n\
                    nameserver nonsense\n";
        let want: Vec<SocketAddr> = ["192.0.2.1:53", "[::1]:53"]
            .iter()
            .map(|s| s.parse().unwrap())
            .collect();
        assert_eq!(parse(text), want);
    }
}
