//! What good values do wrong together: combinations that are unsafe, impossible or do nothing.

use std::net::SocketAddr;

use super::keys::{ClassKeys, Config, ListenerKeys, RouteKeys};
use super::read::Book;
use super::route::HostPort;
use super::value::{AuthMode, HopProtocol, HopTls, Protocol};

pub(super) fn check(config: &Config, book: &mut Book) {
    if config.domains.is_empty() {
        book.clash(
            "domains",
            &[],
            "`domains` is empty",
            "name at least one domain of yours",
        );
    }
    if config.shards > config.partitions {
        let what = "more shards than partitions: some would own nothing";
        let remedy = format!("write at most {}", config.partitions);
        book.clash("shards", &["partitions"], what, remedy);
    }
    if config.dns.servers.as_ref().is_some_and(Vec::is_empty) {
        let remedy = "name a resolver, or remove the key to use those of /etc/resolv.conf";
        book.clash("dns.servers", &[], "nobody to ask for names", remedy);
    }
    pair(
        "tls",
        config.tls.certificate.is_some(),
        config.tls.key.is_some(),
        book,
    );
    let plain = |listener: &ListenerKeys| {
        let speaks = match listener.protocol {
            Protocol::Submission | Protocol::Imap | Protocol::Pop3 => true,
            Protocol::Smtp => listener.auth_mode() != AuthMode::Off,
            _ => false,
        };
        speaks && is_loopback(listener.address)
    };
    if config.auth.allow_plaintext && !config.listener.iter().any(plain) {
        let what = "`auth.allow_plaintext` without a loopback listener that could use it";
        let remedy = "remove it: clients log in over TLS. Or add a [[listener]] on 127.0.0.1 with \
                      protocol submission, imap or pop3";
        book.clash("auth.allow_plaintext", &["listener"], what, remedy);
    }
    for (n, class) in config.class.iter().enumerate() {
        let same = |other: &ClassKeys| other.name == class.name;
        if let Some(first) = config.class[..n].iter().position(same) {
            let what = format!("two [[class]] tables for {}", class.name);
            let (path, involved) = (format!("class[{n}].name"), format!("class[{first}].name"));
            book.clash(&path, &[&involved], &what, "make one of both");
        }
    }
    for (n, listener) in config.listener.iter().enumerate() {
        check_listener(config, n, listener, book);
    }
    let relay = &config.smtp.relay;
    let way = Way {
        hop: relay.smarthost.0.as_ref(),
        hop_key: "smarthost",
        tls: relay.tls,
        is_user: relay.user.is_some(),
        is_password: relay.password_file.is_some(),
    };
    way.check("smtp.relay", book);
    // Of MX nobody asks more or less than each domain does, but in a route of its own.
    if relay.smarthost.0.is_none() && relay.tls.is_some() {
        let remedy = "add `smarthost = \"host:port\"`, or use a [[route]] with `tls`";
        let what = "`tls` of a smarthost without `smarthost`";
        book.clash("smtp.relay.tls", &["smtp.relay.smarthost"], what, remedy);
    }
    for (n, route) in config.route.iter().enumerate() {
        check_route(config, n, route, book);
    }
}

fn check_route(config: &Config, n: usize, route: &RouteKeys, book: &mut Book) {
    let table = format!("route[{n}]");
    let domain = format!("{table}.domain");
    let same = |other: &RouteKeys| other.domain == route.domain;
    if let Some(first) = config.route[..n].iter().position(same) {
        let what = format!("two [[route]] tables for {}", route.domain);
        let involved = format!("route[{first}].domain");
        book.clash(&domain, &[&involved], &what, "make one of both");
    }
    let way = Way {
        hop: route.hop.0.as_ref(),
        hop_key: "hop",
        tls: route.tls,
        is_user: route.user.is_some(),
        is_password: route.password_file.is_some(),
    };
    way.check(&table, book);
    let hop = format!("{table}.hop");
    if route.transport == HopProtocol::Lmtp && route.hop.0.is_none() {
        let remedy = "add `hop = \"host:port\"`";
        let path = format!("{table}.transport");
        book.clash(&path, &[&hop], "LMTP goes to one host alone", remedy);
    }
}

/// What a smarthost and a route have in common.
struct Way<'c> {
    hop: Option<&'c HostPort>,
    hop_key: &'static str,
    tls: Option<HopTls>,
    is_user: bool,
    is_password: bool,
}

impl Way<'_> {
    fn check(&self, table: &str, book: &mut Book) {
        let at = |key: &str| format!("{table}.{key}");
        let (user, password, hop) = (at("user"), at("password_file"), at(self.hop_key));
        let lone = match (self.is_user, self.is_password) {
            (true, false) => Some((&user, "`user` without `password_file`")),
            (false, true) => Some((&password, "`password_file` without `user`")),
            _ => None,
        };
        if let Some((path, what)) = lone {
            let remedy = "name both, or neither";
            book.clash(path, &[&user, &password], what, remedy);
        }
        let Some(to) = self.hop else {
            if self.is_user {
                let remedy = format!("add `{} = \"host:port\"`", self.hop_key);
                book.clash(&user, &[&hop], "a log-in, and no host to log in to", remedy);
            }
            return;
        };
        if self.tls == Some(HopTls::None) && self.is_user && !to.is_loopback() {
            let remedy = "write \"verified\", or remove the key";
            book.clash(
                &at("tls"),
                &[&hop, &user],
                "a password in the clear",
                remedy,
            );
        }
        if self.tls == Some(HopTls::None) && to.port == SMTPS_PORT {
            let remedy = "remove the key, or name another port";
            book.clash(
                &at("tls"),
                &[&hop],
                "port 465 is TLS from the first byte",
                remedy,
            );
        }
    }
}

/// RFC 8314 3.3.
const SMTPS_PORT: u16 = 465;

fn check_listener(config: &Config, n: usize, listener: &ListenerKeys, book: &mut Book) {
    let table = format!("listener[{n}]");
    let at = |key: &str| format!("{table}.{key}");
    let (protocol, address) = (at("protocol"), at("address"));
    pair(
        &table,
        listener.certificate.is_some(),
        listener.key.is_some(),
        book,
    );

    let same = |other: &ListenerKeys| other.address == listener.address;
    if listener.address.port() != 0
        && let Some(first) = config.listener[..n].iter().position(same)
    {
        let what = format!("two listeners on {}", listener.address);
        let involved = format!("listener[{first}].address");
        book.clash(
            &address,
            &[&involved],
            &what,
            "give one of them another address or port",
        );
    }
    if listener.proxy_protocol && config.proxy_networks.is_empty() {
        let remedy = "name the load balancers in `proxy_networks` at the top of the file";
        let what = "`proxy_protocol` while nobody may send a PROXY header";
        book.clash(&at("proxy_protocol"), &["proxy_networks"], what, remedy);
    }
    if listener.protocol.is_submission() && listener.auth == Some(AuthMode::Off) {
        let remedy = "use protocol \"smtp\" for clients without log-in";
        book.clash(
            &at("auth"),
            &[&protocol],
            "submission without log-in",
            remedy,
        );
    }
    let unguarded = matches!(listener.protocol, Protocol::Lmtp | Protocol::Metrics)
        && !is_loopback(listener.address)
        && listener.trusted_networks.is_none();
    if unguarded {
        let what = format!(
            "{} open to everybody on {}",
            listener.protocol, listener.address
        );
        let remedy = "listen on 127.0.0.1, or name the clients in `trusted_networks` here";
        book.clash(
            &address,
            &[&protocol, &at("trusted_networks")],
            &what,
            remedy,
        );
    }
    for (key, applies) in APPLIES {
        if book.is_written(&at(key)) && !applies(listener.protocol) {
            let what = format!("`{key}` does nothing on {}", listener.protocol);
            book.clash(&at(key), &[&protocol], &what, "remove it");
        }
    }
}

type Speaks = fn(Protocol) -> bool;

/// Keys of a listener that mean something on some protocols only.
const APPLIES: [(&str, Speaks); 7] = [
    ("auth", |protocol| {
        protocol == Protocol::Smtp || protocol.is_submission()
    }),
    ("message_bytes_max", Protocol::takes_mail),
    ("normalise_bare_newlines", Protocol::takes_mail),
    ("trusted_networks", |protocol| !protocol.reads_mail()),
    ("hostname", |protocol| protocol != Protocol::Metrics),
    ("certificate", |protocol| protocol != Protocol::Metrics),
    ("key", |protocol| protocol != Protocol::Metrics),
];

fn pair(table: &str, certificate: bool, key: bool, book: &mut Book) {
    let (there, missing) = match (certificate, key) {
        (true, false) => ("certificate", "key"),
        (false, true) => ("key", "certificate"),
        _ => return,
    };
    let what = format!("`{there}` without `{missing}`");
    let remedy = format!("add `{missing} = \"/path/to/file.pem\"` below it, or remove both");
    let (path, other) = (format!("{table}.{there}"), format!("{table}.{missing}"));
    book.clash(&path, &[&other], &what, remedy);
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
