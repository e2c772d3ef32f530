//! Which servers are asked, and in which order: the fastest first, the dead ones last.
//!
//! A server that is silent, cannot be reached or will not answer for us is left alone for a while,
//! longer each time; then one question without a reader finds out whether it is back. It is still
//! asked when no other is left.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

const PORT: u16 = 53;

/// As many as the C library asks (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;
const REST_MIN: Duration = Duration::from_secs(15);
const REST_MAX: Duration = Duration::from_secs(300);
/// How long a server is asked over TCP after it lost the case of a name, or without EDNS after it
/// did not understand that; and how long one that spoke DNSSEC is not believed without.
const QUIRK_SPAN: Duration = Duration::from_secs(600);
/// What an unknown server is taken for, more for each place in the list.
const UNKNOWN: Duration = Duration::from_millis(1);

/// Why there is nobody to ask.
#[derive(Debug)]
pub enum ServersError {
    Unreadable(io::Error),
    /// The file names none.
    None,
}

/// One server as this shard knows it.
#[derive(Clone, Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// Smoothed time to an answer.
    smoothed: Duration,
    rest: Duration,
    /// Left alone until then.
    quiet: Option<Instant>,
    answered: Option<Instant>,
    loses_case: Option<Instant>,
    no_edns: Option<Instant>,
    /// Whether the last answer bore the DO bit; unknown before the first.
    speaks_dnssec: Option<bool>,
    spoke_dnssec: Option<Instant>,
}

/// All servers, in the order of the configuration.
#[derive(Debug)]
pub struct Servers(Vec<Server>);

impl Servers {
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let place = |(n, address): (usize, &SocketAddr)| Server {
            address: *address,
            smoothed: UNKNOWN * u32::try_from(n + 1).unwrap_or(u32::MAX),
            rest: REST_MIN,
            quiet: None,
            answered: None,
            loses_case: None,
            no_edns: None,
            speaks_dnssec: None,
            spoke_dnssec: None,
        };
        Servers(addresses.iter().enumerate().map(place).collect())
    }

    pub fn get(&self, index: usize) -> &Server {
        &self.0[index]
    }

    pub fn get_mut(&mut self, index: usize) -> &mut Server {
        &mut self.0[index]
    }

    /// The servers, whom to ask first first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|index| {
            let server = &self.0[*index];
            // Who does not speak DNSSEC cannot tell a forged answer from a true one.
            let mute = server.speaks_dnssec == Some(false);
            (server.is_lost(), mute, server.smoothed)
        });
        order
    }

    /// The servers whose rest is over, each told once: somebody is to find out about them.
    pub fn due(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, server) in self.0.iter_mut().enumerate() {
            if server.quiet.is_some_and(|until| until <= now) {
                server.leave_alone(now);
                due.push(index);
            }
        }
        due
    }

    /// The server answered something, after `took`.
    pub fn note_answer(&mut self, index: usize, took: Duration, now: Instant) {
        for (n, server) in self.0.iter_mut().enumerate() {
            if n != index {
                // So that one that was slow once gets another chance.
                server.smoothed = server.smoothed * 98 / 100;
                continue;
            }
            // What is new, or back from the dead, is measured anew.
            let known = server.answered.is_some() && server.quiet.is_none();
            server.smoothed = match known {
                true => (server.smoothed * 7 + took) / 8,
                false => took,
            };
            server.answered = Some(now);
            server.quiet = None;
            server.rest = REST_MIN;
        }
    }

    /// The server did not answer what it was sent at `sent`.
    pub fn note_silence(&mut self, index: usize, sent: Instant, now: Instant) {
        let server = &mut self.0[index];
        // It lives: what it was asked takes it long.
        if server.answered.is_some_and(|answered| answered >= sent) {
            return;
        }
        server.smoothed = server.smoothed.max(now.saturating_duration_since(sent));
        server.leave_alone(now);
    }

    /// The server cannot be reached, or will not answer for us.
    pub fn note_useless(&mut self, index: usize, now: Instant) {
        self.0[index].leave_alone(now);
    }
}

impl Server {
    fn leave_alone(&mut self, now: Instant) {
        if self.quiet.is_some_and(|until| until > now) {
            return;
        }
        self.quiet = Some(now + self.rest);
        self.rest = (self.rest * 2).min(REST_MAX);
    }

    /// False where the answer is not to be believed: signatures were there a moment ago, and
    /// somebody may be taking them off on the way.
    pub fn note_dnssec(&mut self, speaks: bool, now: Instant) -> bool {
        if speaks {
            self.spoke_dnssec = Some(now);
        } else if self
            .spoke_dnssec
            .is_some_and(|spoke| now.saturating_duration_since(spoke) < QUIRK_SPAN)
        {
            return false;
        }
        self.speaks_dnssec = Some(speaks);
        true
    }

    pub fn note_case_lost(&mut self, now: Instant) {
        self.loses_case = Some(now + QUIRK_SPAN);
    }

    pub fn note_no_edns(&mut self, now: Instant) {
        self.no_edns = Some(now + QUIRK_SPAN);
    }

    /// Whether others are asked first because it is of no use now.
    pub fn is_lost(&self) -> bool {
        self.quiet.is_some()
    }

    /// Whether the case of names says nothing about who answers.
    pub fn loses_case(&self, now: Instant) -> bool {
        self.loses_case.is_some_and(|until| until > now)
    }

    pub fn takes_edns(&self, now: Instant) -> bool {
        self.no_edns.is_none_or(|until| until <= now)
    }
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

    #[test]
    fn the_fast_come_first_and_the_dead_last() {
        let addresses: Vec<SocketAddr> = (1..=3)
            .map(|n| SocketAddr::new([192, 0, 2, n].into(), 53))
            .collect();
        let mut servers = Servers::new(&addresses);
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(servers.order(), [0, 1, 2], "as configured");
        servers.note_answer(0, ms(40), now);
        servers.note_answer(1, ms(5), now);
        servers.note_answer(2, ms(10), now);
        assert_eq!(servers.order(), [1, 2, 0]);
        let later = now + Duration::from_secs(1);
        servers.note_silence(1, now, later);
        assert_eq!(
            servers.order(),
            [1, 2, 0],
            "it answered since that was sent"
        );
        servers.note_silence(1, later, later + ms(900));
        assert_eq!(servers.order(), [2, 0, 1], "dead");
        assert!(servers.due(later + ms(1000)).is_empty());
        let rested = later + ms(1000) + REST_MIN;
        assert_eq!(servers.due(rested), [1]);
        assert!(servers.due(rested).is_empty(), "told once");
        servers.note_answer(1, ms(1), rested);
        assert_eq!(servers.order()[2], 0, "alive again");
        assert!(servers.get_mut(2).note_dnssec(false, rested));
        assert_eq!(servers.order()[2], 2, "no DNSSEC, last choice");
        let server = servers.get_mut(0);
        assert!(server.note_dnssec(true, rested));
        assert!(!server.note_dnssec(false, rested + REST_MIN), "taken off?");
        assert!(server.note_dnssec(false, rested + QUIRK_SPAN), "it is so");
    }
}
