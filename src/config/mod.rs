//! Config: the operator's one TOML file as a plain, immutable value.
//!
//! Every key is declared once, in `keys.rs`: name, type, range, default, whether a reload takes it
//! up, and its sentence. Parser, `palomar check`, sample file, `docs/CONFIG.md`,
//! `config show --changed` and `config explain` all follow from that table.
//!
//! A file that loads is safe: what contradicts itself, trusts everybody or does nothing is an
//! error that shows the line and the remedy, several at once. There are deliberately no keys for
//! what is not built. Everything here blocks at most on reading the one file; a reload makes a new
//! value and [`Config::diff`] says what of it needs a restart.

mod cidr;
mod declare;
mod error;
mod keys;
mod listener;
mod present;
mod read;
mod route;
mod rules;
mod value;

#[cfg(test)]
mod tests;

pub use cidr::{Cidr, CidrError, Networks};
pub use declare::{Key, Need, Reload, Section};
pub use error::{ConfigErrors, Fault};
pub use keys::{
    Admin, Auth, ClassKeys, Config, Dns, Limits, ListenerKeys, Log, Relay, RouteKeys, Sendmail,
    Smtp, Store, Tls, TlsPairKeys,
};
pub use listener::{Listener, TlsPair};
pub use present::{Change, Changes};
pub use route::{Host, HostPort, NextHop, RouteDomain};
pub use value::{
    AuthMode, ClassName, Compression, DnssecMode, Domain, HopProtocol, HopTls, Hours, LogLevel,
    MailAddress, Protocol, QuotaRefusal, Timezone,
};
