//! The DNS lines to paste into a zone, each ticked or crossed by asking for it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use serde::Serialize;

use super::{Mark, sign};
use crate::cli::error::CliError;
use crate::cli::print::shown;
use crate::config::{Config, Protocol};
use crate::dns::{DnsError, Kind, Rdata, Resolver, Settings};
use crate::runtime;

/// One line of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// As it is pasted, in the form of a zone file (RFC 1035 5.1).
    pub line: String,
    #[serde(skip)]
    pub want: Want,
    pub mark: Mark,
    /// What was found instead, or why nothing is known.
    pub note: String,
}

/// What a look-up must bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any address that leads here.
    Address {
        host: String,
        ip: IpAddr,
    },
    Mx {
        domain: String,
        host: String,
    },
    Spf {
        domain: String,
    },
    Srv {
        name: String,
        port: u16,
        target: String,
    },
    Ptr {
        ip: IpAddr,
        host: String,
    },
}

/// RFC 6186 and RFC 8314 5.1: what clients look for, most wanted first.
const SERVICES: [(Protocol, &str, u16); 6] = [
    (Protocol::Submissions, "_submissions", 0),
    (Protocol::Imaps, "_imaps", 0),
    (Protocol::Submission, "_submission", 10),
    (Protocol::Pop3s, "_pop3s", 20),
    (Protocol::Imap, "_imap", 10),
    (Protocol::Pop3, "_pop3", 30),
];

/// Makes the lines, then asks for each of them.
pub fn look(config: &Config, domains: &[String]) -> Result<Vec<Record>, CliError> {
    let mut records = records(config, domains, &own_addresses());
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => {
            for record in &mut records {
                record.note = format!("not looked up: {error}");
            }
            return Ok(records);
        }
    };
    let asked = runtime::block_on(async move {
        let resolver = Resolver::new(&settings, Arc::default());
        let mut silent = None;
        for record in &mut records {
            if let Some(why) = &silent {
                record.note = format!("not looked up: {why}");
                continue;
            }
            match ask(&resolver, &record.want).await {
                Ok((mark, note)) => (record.mark, record.note) = (mark, note),
                Err(error) => {
                    record.note = error.to_string();
                    // Who is silent once would be waited for at every line.
                    if matches!(error, DnsError::Timeout | DnsError::Unreachable(_)) {
                        silent = Some(error.to_string());
                    }
                }
            }
        }
        records
    });
    asked.map_err(CliError::Runtime)
}

/// Where packets to the world leave from. Nothing is sent: connecting a UDP socket only chooses
/// the route.
pub fn own_addresses() -> Vec<IpAddr> {
    let routes = [
        ("0.0.0.0:0", "192.0.2.1:53"),
        ("[::]:0", "[2001:db8::1]:53"),
    ];
    let leave = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    routes
        .into_iter()
        .filter_map(leave)
        .filter(|ip| !ip.is_loopback())
        .collect()
}

/// The lines, all crossed.
pub(super) fn records(config: &Config, domains: &[String], own: &[IpAddr]) -> Vec<Record> {
    let host = config.hostname.to_string();
    let mut records = Vec::new();
    let mut add = |line: String, want: Want| {
        records.push(Record {
            line,
            want,
            mark: Mark::Bad,
            note: String::new(),
        });
    };
    for ip in own {
        let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
        let want = Want::Address {
            host: host.clone(),
            ip: *ip,
        };
        add(
            format!("{:<36} IN {kind:<4} {ip}", format!("{host}.")),
            want,
        );
    }
    for ip in own {
        let want = Want::Ptr {
            ip: *ip,
            host: host.clone(),
        };
        add(
            format!("{:<36} IN PTR  {host}.", format!("{}.", reverse_name(*ip))),
            want,
        );
    }
    for domain in domains {
        let name = format!("{domain}.");
        let want = Want::Mx {
            domain: domain.clone(),
            host: host.clone(),
        };
        add(format!("{name:<36} IN MX   10 {host}."), want);
        let want = Want::Spf {
            domain: domain.clone(),
        };
        add(format!("{name:<36} IN TXT  \"v=spf1 mx -all\""), want);
        for (service, priority, port) in services(config) {
            let name = format!("{service}._tcp.{domain}");
            let line = format!(
                "{:<36} IN SRV  {priority} 1 {port} {host}.",
                format!("{name}.")
            );
            add(
                line,
                Want::Srv {
                    name,
                    port,
                    target: host.clone(),
                },
            );
        }
    }
    records
}

/// Services that clients from outside can reach, each once.
fn services(config: &Config) -> Vec<(&'static str, u16, u16)> {
    let listeners = config.listeners();
    let open = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    let port_of = |protocol: Protocol| {
        let mut own = listeners
            .iter()
            .filter(|l| l.protocol == protocol && open(l.address));
        own.next().map(|listener| listener.address.port())
    };
    SERVICES
        .iter()
        .filter_map(|(protocol, name, priority)| Some((*name, *priority, port_of(*protocol)?)))
        .collect()
}

/// RFC 1035 3.5 and RFC 3596 2.5.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let mut name = String::with_capacity(72);
            for octet in ip.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 15, octet >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

async fn ask(resolver: &Resolver, want: &Want) -> Result<(Mark, String), DnsError> {
    let answer = match want {
        Want::Address { host, ip } => {
            let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
            resolver.lookup(host, kind).await?
        }
        Want::Mx { domain, .. } => resolver.lookup(domain, Kind::Mx).await?,
        Want::Spf { domain } => resolver.lookup(domain, Kind::Txt).await?,
        Want::Srv { name, .. } => resolver.lookup(name, Kind::Srv).await?,
        Want::Ptr { ip, .. } => resolver.reverse(*ip).await?,
    };
    Ok(judge(want, &answer.records))
}

/// Whether the answers are what is wanted; a warning where they may be meant so.
pub(super) fn judge(want: &Want, answers: &[Rdata]) -> (Mark, String) {
    let texts: Vec<String> = answers.iter().map(Rdata::to_string).collect();
    let found = texts.join(", ");
    let good = match want {
        Want::Address { ip, .. } => answers.contains(&Rdata::Address(*ip)),
        Want::Mx { host, .. } => answers
            .iter()
            .any(|a| matches!(a, Rdata::Mx { host: found, .. } if found == host)),
        Want::Spf { .. } => {
            let spf = |a: &&Rdata| matches!(a, Rdata::Text(text) if text.starts_with("v=spf1"));
            let mut records = answers.iter().filter(spf);
            return match (records.next(), records.next()) {
                (Some(one), None) => (Mark::Good, format!("found {}", one)),
                // RFC 7208 4.5: permerror.
                (Some(_), Some(_)) => (Mark::Bad, "more than one: keep one".to_owned()),
                (None, _) => (Mark::Bad, "none".to_owned()),
            };
        }
        Want::Srv { port, target, .. } => answers.contains(&Rdata::Srv {
            port: *port,
            target: target.clone(),
        }),
        Want::Ptr { host, .. } => answers.contains(&Rdata::Name(host.clone())),
    };
    match (good, want) {
        (true, _) => (Mark::Good, String::new()),
        (false, _) if answers.is_empty() => (Mark::Bad, "none".to_owned()),
        (false, Want::Address { .. }) => (
            Mark::Warning,
            format!("found {found}: right only behind address translation"),
        ),
        (false, Want::Mx { .. }) => (
            Mark::Warning,
            format!("found {found}: right only if that relays to here"),
        ),
        (false, _) => (Mark::Bad, format!("found {found}")),
    }
}

/// The lines can be pasted as they are: marks and notes are comments (RFC 1035 5.1).
pub fn to_text(records: &[Record], colour: bool) -> String {
    let mut text = String::from("\n; DNS: paste what is crossed into the zone\n");
    for record in records {
        let note = shown(&record.note);
        let mark = sign(record.mark, colour);
        let _ = writeln!(text, "{:<78} ; {mark} {note}", record.line);
    }
    text
}
