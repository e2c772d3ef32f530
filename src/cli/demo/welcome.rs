//! How to connect to the demo, for people and for scripts.

use std::fmt::Write as _;

use serde_json::json;

use super::home::{HOST, Home};
use crate::config::Protocol;

pub fn text(home: &Home) -> String {
    let mut text = String::from("The demo is ready. Ctrl-C ends it; a second start goes on.\n\n");
    for (protocol, port) in home.ports.iter() {
        let _ = writeln!(
            text,
            "{} {HOST}:{port}",
            protocol.name().to_ascii_uppercase()
        );
    }
    let _ = writeln!(text);
    for user in &home.memory.users {
        let _ = writeln!(text, "user {} password {}", user.address, user.password);
    }
    let port = |protocol| home.ports.of(protocol);
    let (imaps, submissions) = (port(Protocol::Imaps), port(Protocol::Submissions));
    let (pop3s, metrics) = (port(Protocol::Pop3s), port(Protocol::Metrics));
    let [ana, ben] = ["ana", "ben"].map(|name| home.user(name));
    if let (Some(ana), Some(ben)) = (ana, ben) {
        let login = format!("'{}:{}'", ana.address, ana.password);
        let (from, to, password) = (&ana.address, &ben.address, &ana.password);
        let _ = write!(
            text,
            "
In a mail client: name {from}, server {HOST}, IMAP port {imaps} and SMTP port {submissions},
both with SSL/TLS and normal password. The certificate is self-signed: accept it once.

With curl (-k accepts the self-signed certificate):
  curl -k -u {login} 'imaps://{HOST}:{imaps}/'
  curl -k -u {login} 'imaps://{HOST}:{imaps}/INBOX;MAILINDEX=1'
  curl -k -u {login} 'pop3s://{HOST}:{pop3s}/'
  printf 'Subject: hello\\r\\n\\r\\nhi\\r\\n' | curl -k -u {login} \\
    --mail-from {from} --mail-rcpt {to} -T - 'smtps://{HOST}:{submissions}'

With swaks:
  swaks --server {HOST} --port {submissions} --tls-on-connect \\
    --auth-user {from} --auth-password {password} --from {from} --to {to}
"
        );
    }
    let config = home.config_path();
    let _ = write!(
        text,
        "
Metrics: http://{HOST}:{metrics}/metrics
As postmaster: palomar who --config '{0}'
               palomar log --follow --config '{0}'
",
        config.display()
    );
    text
}

/// One line.
pub fn json(home: &Home) -> String {
    let listeners: serde_json::Map<String, serde_json::Value> = home
        .ports
        .iter()
        .map(|(protocol, port)| (protocol.name().to_owned(), format!("{HOST}:{port}").into()))
        .collect();
    let value = json!({
        "host": HOST,
        "listeners": listeners,
        "users": home.memory.users,
        "metrics": format!("http://{HOST}:{}/metrics", home.ports.of(Protocol::Metrics)),
        "config": home.config_path(),
        "folder": home.folder,
    });
    format!("{value}\n")
}
