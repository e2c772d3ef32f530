//! From the configuration to what the rooms take: listeners, certificates, limits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use arc_swap::ArcSwap;

use super::ServerError;
use super::shard::Outward;
use crate::base::UnixMs;
use crate::config::{self, AuthMode, ClassKeys, Compression, Config, Listener, Protocol, TlsPair};
use crate::directory::{self, Quotas, Site};
use crate::dns;
use crate::net::{
    Address, AuthRole, CertPair, CertStore, DefaultCert, Limits, ListenerSpec, Networks, Opened,
    OutgoingTls, Tls, self_signed,
};
use crate::observe::{self, log_event};
use crate::queue;
use crate::runtime::Inbox;
use crate::session::Door;
use crate::store::{Packing, StoreConfig};

/// Who may open the admin socket: whoever runs the server.
const ADMIN_MODE: u32 = 0o600;

/// The admin socket's name among the listeners; it is no protocol of the configuration.
pub const ADMIN: &str = "admin";

/// Administrators' connections at one time.
const ADMIN_CONNECTIONS_MAX: u32 = 64;

/// The name of the socket for programs on this host.
pub const SENDMAIL: &str = "sendmail";

/// Who may open that: everybody who can reach it.
const SENDMAIL_MODE: u32 = 0o666;
const SENDMAIL_CONNECTIONS_MAX: u32 = 256;

/// How many shards: `shards`, or one for every core this process may use.
pub fn shard_count(config: &Config) -> u16 {
    match config.shards {
        0 => available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(u16::MAX)),
        shards => shards,
    }
    .min(128)
}

/// The cores this process may run on, in order: shard `i` is pinned to the i-th.
pub fn cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Every certificate of the configuration; a self-signed one where [tls] names none.
pub fn certificates(config: &Config, now: UnixMs) -> Result<CertStore, ServerError> {
    let mut pairs: Vec<CertPair> = config.tls_pairs().iter().map(cert_pair).collect();
    if pairs.is_empty() {
        let folder = config.data_dir.join("tls");
        pairs.push(self_signed(&folder, config.hostname.as_str(), now)?);
    }
    let own = config
        .listeners()
        .into_iter()
        .filter_map(|listener| listener.pair);
    for pair in own.map(|pair| cert_pair(&pair)) {
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let (store, warnings) = CertStore::load(&pairs, now)?;
    for pair in &pairs {
        let certificate = pair.certificate.display();
        log_event!(INFO, observe::event::CERTIFICATE_LOADED, %certificate);
    }
    for warning in warnings {
        log_event!(WARN, observe::event::CERTIFICATE_LOADED, %warning);
    }
    Ok(store)
}

fn cert_pair(pair: &TlsPair) -> CertPair {
    CertPair {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
    }
}

/// Opens every port of the configuration and the Unix sockets; one list a shard, in the order of
/// [`Config::listeners`], the Unix sockets last on shard 0.
pub fn open_ports(
    config: &Config,
    shards: u16,
    inherited: Vec<OwnedFd>,
) -> Result<Vec<Vec<Opened>>, ServerError> {
    let mut specs: Vec<ListenerSpec> = config
        .listeners()
        .iter()
        .map(|listener| spec(config, listener))
        .collect();
    let admin = (ADMIN, ADMIN_MODE, ADMIN_CONNECTIONS_MAX);
    specs.push(unix_spec(config, config.admin_socket(), admin));
    if let Some(path) = config.sendmail_socket() {
        let sendmail = (SENDMAIL, SENDMAIL_MODE, SENDMAIL_CONNECTIONS_MAX);
        specs.push(unix_spec(config, path, sendmail));
    }
    Ok(crate::net::open(&specs, shards, inherited)?)
}

fn unix_spec(
    config: &Config,
    path: PathBuf,
    (protocol, mode, connections_max): (&'static str, u32, u32),
) -> ListenerSpec {
    ListenerSpec {
        protocol,
        address: Address::Unix { path, mode },
        hostname: config.hostname.as_str().to_owned(),
        implicit_tls: false,
        auth: AuthRole::Off,
        trusted_networks: Networks::default(),
        proxy_protocol: false,
        proxy_networks: Networks::default(),
        limits: Limits {
            connections_max,
            connections_per_address_max: u16::MAX,
        },
    }
}

fn spec(config: &Config, listener: &Listener) -> ListenerSpec {
    let per_address = config.limits.connections_per_address_max;
    ListenerSpec {
        protocol: listener.protocol.name(),
        address: Address::Tcp(listener.address),
        hostname: listener.hostname.as_str().to_owned(),
        implicit_tls: listener.protocol.is_tls_from_start(),
        auth: match listener.auth {
            AuthMode::Off => AuthRole::Off,
            AuthMode::Offered => AuthRole::Offered,
            AuthMode::Required => AuthRole::Required,
        },
        trusted_networks: networks(&listener.trusted_networks),
        proxy_protocol: listener.proxy_protocol,
        proxy_networks: networks(&config.proxy_networks),
        limits: Limits {
            connections_max: listener.connections_max,
            connections_per_address_max: u16::try_from(per_address).unwrap_or(u16::MAX),
        },
    }
}

/// Both rooms read the same notation; what one printed the other takes.
fn networks(of_config: &config::Networks) -> Networks {
    let texts = of_config.iter().map(|cidr| cidr.to_string());
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// One door for each listener of the configuration.
pub fn doors(config: &Arc<ArcSwap<Config>>, tls: &Tls) -> Vec<Door> {
    let now = config.load();
    let door = |(number, listener): (usize, Listener)| {
        let default = match &listener.pair {
            Some(pair) => DefaultCert::File(pair.certificate.clone()),
            None => DefaultCert::Hostname(listener.hostname.as_str().to_owned()),
        };
        let wants_tls = !matches!(listener.protocol, Protocol::Metrics);
        let tls = wants_tls.then(|| tls.config(default));
        Door::new(number, listener, tls, config.clone())
    };
    now.listeners().into_iter().enumerate().map(door).collect()
}

/// What programs on this host come in by.
pub fn local_door(config: &Arc<ArcSwap<Config>>) -> Door {
    let listener = config.load().sendmail_listener();
    Door::new(usize::MAX, listener, None, config.clone())
}

/// What the directory takes from the configuration.
pub fn site(config: &Config) -> Site {
    Site {
        domains: config
            .domains
            .iter()
            .map(|domain| domain.as_str().to_owned())
            .collect(),
        postmaster: config
            .postmaster
            .as_ref()
            .map(|address| address.as_str().to_owned()),
        failure_delay: config.auth.failure_delay.0,
        partitions: config.partitions,
        quotas: quotas(config),
    }
}

fn quotas(config: &Config) -> Quotas {
    let of_class = |class: &ClassKeys| {
        let limits = directory::Limits {
            bytes: class.quota_bytes,
            messages: class.quota_messages.map(u64::from),
        };
        // Both rooms name the classes alike, which a test sees to.
        Some((class.name.name().parse().ok()?, limits))
    };
    Quotas {
        default: directory::Limits {
            bytes: Some(config.store.quota_default),
            messages: Some(config.store.quota_messages_default.into()),
        },
        classes: config.class.iter().filter_map(of_class).collect(),
    }
}

/// What the store takes from the configuration.
pub fn store_config(config: &Config, shards: u16) -> StoreConfig {
    let mut store = StoreConfig::new(config.data_dir.clone(), shards);
    store.partitions = config.partitions;
    store.journal.slot_bytes = config.store.journal_slot_bytes.0;
    store.journal.slots_max = config.store.journal_slots;
    store.archives = config.store.archives.clone();
    store.archive_cache_bytes_max = config.store.archive_cache_bytes_max.0;
    store.checkpoint_every = config.store.checkpoint_interval.0;
    store.free_bytes_min = config.store.free_bytes_min.0;
    store.journal.free_bytes_min = store.free_bytes_min;
    store.undelete_days = config.store.undelete_days;
    let packing = |of| match of {
        Compression::None => Packing::Plain,
        Compression::Zstd => Packing::Zstd,
    };
    store.packing = packing(config.store.compression);
    store.journal.packing = packing(config.store.journal_compression);
    store.pack_old = config.store.compress_old;
    let every = config.store.scrub_every.0;
    store.scrub_every = (!every.is_zero()).then_some(every);
    store.scrub_bytes_per_second = config.store.scrub_rate.0;
    let inflight = config.store.inflight_bytes_max.0;
    store.body_memory_bytes_max = usize::try_from(inflight).unwrap_or(usize::MAX);
    let indexes = config.store.index_memory_bytes_max.0;
    store.index_memory_bytes_max = usize::try_from(indexes).unwrap_or(usize::MAX);
    let slot = config.store.journal_slot_bytes.0;
    let behind = config.store.journal_reader_bytes_max.0 / slot.max(1);
    store.journal.reader_slots_max = u32::try_from(behind).unwrap_or(u32::MAX);
    store.progress = super::progress::of_start();
    store
}

/// The folders that must be there before anything else; those that had to be made.
pub fn make_data_dir(config: &Config) -> Result<Vec<PathBuf>, ServerError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut made = Vec::new();
    for path in [config.data_dir.clone(), config.log_directory()] {
        let missing = path.ancestors().take_while(|path| !path.exists());
        made.extend(missing.map(Path::to_owned));
        let done = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        done.map_err(|error: io::Error| ServerError::DataDir { path, error })?;
    }
    made.extend(make_socket_folder(config)?);
    Ok(made)
}

/// /run is empty after a boot. Everybody is to reach what will be there.
fn make_socket_folder(config: &Config) -> Result<Option<PathBuf>, ServerError> {
    use std::os::unix::fs::PermissionsExt as _;
    let given = config.sendmail.socket.as_deref();
    let folder = given
        .filter(|_| config.sendmail.enabled)
        .and_then(Path::parent);
    let Some(folder) = folder.filter(|folder| !folder.exists()) else {
        return Ok(None);
    };
    let open = std::fs::Permissions::from_mode(0o755);
    let made = std::fs::create_dir(folder);
    let done = made.and_then(|()| std::fs::set_permissions(folder, open));
    let path = folder.to_owned();
    match done {
        Ok(()) => Ok(Some(path)),
        Err(error) => Err(ServerError::DataDir { path, error }),
    }
}

/// What mail leaves by, and the inbox of each shard. Reads files and looks at this machine.
pub fn outward(
    config: &Config,
    shards: u16,
) -> Result<(Outward, Vec<Inbox<queue::Request>>), ServerError> {
    let (mesh, inboxes) = queue::mesh(shards);
    let dns = dns::Settings::load(config)?;
    let cache = dns::SharedCache::default();
    let outward = Outward {
        mesh,
        under_way: queue::UnderWay::default(),
        routes: Arc::new(queue::RouteSettings::load(config, &own_addresses())?),
        tls: outgoing_tls()?,
        dns,
        dns_cache: Arc::new(cache),
    };
    Ok((outward, inboxes))
}

/// How we do TLS with other hosts: who this machine trusts. Reads files.
pub fn outgoing_tls() -> Result<OutgoingTls, ServerError> {
    Ok(OutgoingTls::load(None)?)
}

/// The addresses of this machine, so that mail for them is known to come back; none where the
/// kernel does not tell.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (trie, six) = (read("/proc/net/fib_trie"), read("/proc/net/if_inet6"));
    let lines: Vec<&str> = trie.lines().collect();
    let four = lines.windows(2).filter_map(|pair| {
        let address = pair[0].trim().strip_prefix("|-- ")?;
        let is_own = pair[1].contains("/32 host LOCAL");
        address.parse::<Ipv4Addr>().ok().filter(|_| is_own)
    });
    let six = six.lines().filter_map(|line| {
        let digits = line.split_ascii_whitespace().next()?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    });
    let all = four.map(IpAddr::from).chain(six.map(IpAddr::from));
    all.filter(|ip| !ip.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClassName;

    #[test]
    fn classes_have_the_same_names_in_both_rooms() {
        let config: Vec<&str> = ClassName::ALL.iter().map(|class| class.name()).collect();
        assert_eq!(config, directory::Class::WORDS);
    }
}
