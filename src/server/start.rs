//! A server's life, one function a stage: ports, privileges, recovery, shards, signals, drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::shard::{self, Shared};
use super::{ServerError, build, control, counters, reload};
use crate::config::{Config, Protocol};
use crate::directory::Directory;
use crate::net::{self, Address, Opened, Tls};
use crate::observe::{self, LogFile, LogTarget, event, log_event};
use crate::runtime::{self, Disk, Mesh, Plan, Pool, Stop};
use crate::session::Arrival;
use crate::store::{self, StartError, Store};

/// Threads for what blocks: file metadata, syncs, look-ups.
const POOL_THREADS: usize = 6;
/// Jobs that wait for a thread. Beyond, callers are told to come back.
const POOL_DEPTH: usize = 4096;
/// Passwords have threads of their own: no log-in storm may hold up the disk.
const PASSWORD_THREADS: usize = 4;
const PASSWORD_DEPTH: usize = 1024;
/// Connections in flight between two shards.
const ARRIVALS_DEPTH: usize = 1024;
/// The log writes what is under way before the process ends.
const LOG_SPAN: Duration = Duration::from_secs(5);
/// Descriptors asked for: one a connection and some for files.
const DESCRIPTORS_WANTED: u64 = 1 << 18;

/// What a caller may tell a person once the server serves.
#[derive(Clone, Debug)]
pub struct Started {
    pub listening: Vec<(Protocol, SocketAddr)>,
    pub admin_socket: PathBuf,
    pub shards: u16,
}

/// Serves until SIGTERM or SIGINT, then drains. `path` is what SIGHUP reads again; `log_terminal`
/// writes the log to the terminal too. `started` is called once every shard serves, on a thread of
/// its own.
///
/// Called once in a process: shards cannot be started again. When it returns, the process should
/// exit.
pub fn serve(
    config: Config,
    path: Option<PathBuf>,
    log_terminal: bool,
    started: impl FnOnce(Started) + Send + 'static,
) -> Result<(), ServerError> {
    let mut made = build::make_data_dir(&config)?;
    let shards = build::shard_count(&config);
    let inherited = net::inherited().map_err(ServerError::Signals)?;
    let opened = build::open_ports(&config, shards, inherited);
    if let Some(user) = &config.user {
        // Before the first thread (the log's), and before anything else is made or read: what
        // `user` may not read shows now and not at the next reload.
        let sockets = [Some(config.admin_socket()), config.sendmail_socket()];
        made.extend(sockets.into_iter().flatten().filter(|_| opened.is_ok()));
        net::hand_over(user, &config.data_dir, &made)?;
        net::drop_privileges(user)?;
    }
    let opened = opened.map_err(|error| in_use(&config).unwrap_or(error));
    let log = open_log(&config, log_terminal)?;
    let outcome = opened.and_then(|opened| run(config, path, opened, started));
    if let Err(error) = &outcome {
        log_event!(ERROR, event::SERVER_FAILED, why = %error);
    }
    log.finish(LOG_SPAN);
    outcome
}

/// Where ports are taken since another process serves this data directory, that is what to tell.
fn in_use(config: &Config) -> Option<ServerError> {
    match store::lock(&config.data_dir) {
        Err(error @ StartError::InUse { .. }) => Some(error.into()),
        _ => None,
    }
}

fn open_log(config: &Config, terminal: bool) -> Result<observe::Guard, ServerError> {
    let file = LogFile {
        directory: config.log_directory(),
        file_bytes_max: config.log.file_bytes_max,
        keep_days: config.log.keep_days,
    };
    let target = if terminal {
        LogTarget::Both(file)
    } else {
        LogTarget::File(file)
    };
    let level = config
        .log
        .level
        .name()
        .parse()
        .unwrap_or(tracing::Level::INFO);
    Ok(observe::init(target, level)?)
}

fn run(
    config: Config,
    path: Option<PathBuf>,
    opened: Vec<Vec<Opened>>,
    started: impl FnOnce(Started) + Send + 'static,
) -> Result<(), ServerError> {
    raise_descriptor_limit();
    register_metrics();
    for one in &opened[0] {
        let (proto, address) = (one.spec.protocol, &one.address);
        log_event!(INFO, event::LISTENER_OPENED, proto, %address);
    }
    let shards = build::shard_count(&config);
    let tls = Tls::new(build::certificates(&config, runtime::unix_now())?)?;
    let listening = listening(&config, &opened[0]);
    let admin_socket = config.admin_socket();
    let store_config = build::store_config(&config, shards);
    let pool = Pool::start(POOL_THREADS, POOL_DEPTH);
    let passwords = Pool::start(PASSWORD_THREADS, PASSWORD_DEPTH);
    let disk = Disk::real(pool.clone()).with_root(&config.data_dir)?;
    let (outward, queue_inboxes) = build::outward(&config, shards)?;
    let recovered =
        runtime::block_on(async move { Store::recover_all(store_config, &disk).await })??;

    let (directory, owner) = Directory::new(&build::site(&config));
    let (arrivals, arrival_inboxes) = Mesh::<Box<Arrival>>::new(shards, ARRIVALS_DEPTH);
    let (control, control_inboxes) = control::mesh(shards);
    let current = Arc::new(ArcSwap::from_pointee(config));
    let doors = build::doors(&current, &tls);
    let ready = Arc::new(AtomicU16::new(0));
    let failed = Arc::new(AtomicBool::new(false));
    let (all_ready, wait_ready) = flume::bounded(usize::from(shards));
    let stop = Stop::new();
    let shared = Shared {
        config: current.clone(),
        doors,
        tls: tls.clone(),
        pool,
        passwords,
        directory: directory.clone(),
        arrivals,
        control,
        outward,
        counts: net::AddressCounts::default(),
        stop: stop.clone(),
        ready: ready.clone(),
        all_ready,
        failed: failed.clone(),
        shards,
        recovered,
    };
    let parts = shard::parts(
        opened,
        arrival_inboxes,
        control_inboxes,
        queue_inboxes,
        owner,
    );
    let cores = build::cores();
    let plan = Plan { shards, cores };
    let running = runtime::start(&plan, move |id| {
        shard::run(id, shared.clone(), parts.take(id))
    })?;

    let told = Started {
        listening,
        admin_socket,
        shards,
    };
    announce(wait_ready, shards, told, started)?;
    listen_to_signals(path, current, tls, directory, stop)?;
    running.join()?;
    if failed.load(Ordering::Acquire) {
        return Err(ServerError::Poisoned);
    }
    log_event!(INFO, event::SERVER_DRAINED);
    Ok(())
}

/// Tells systemd, the log and the caller, once every shard serves.
fn announce(
    wait_ready: flume::Receiver<()>,
    shards: u16,
    told: Started,
    started: impl FnOnce(Started) + Send + 'static,
) -> Result<(), ServerError> {
    let announce = move || {
        for _ in 0..shards {
            if wait_ready.recv().is_err() {
                return;
            }
        }
        counters::SHARDS_READY.set(u64::from(shards));
        log_event!(
            INFO,
            event::SERVER_STARTED,
            shards,
            version = env!("CARGO_PKG_VERSION")
        );
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        started(told);
    };
    let thread = thread::Builder::new()
        .name("announce".to_owned())
        .spawn(announce);
    thread.map(drop).map_err(ServerError::Signals)
}

/// SIGTERM and SIGINT raise `stop`, SIGHUP reloads; on a thread of its own.
fn listen_to_signals(
    path: Option<PathBuf>,
    config: Arc<ArcSwap<Config>>,
    tls: Tls,
    directory: Directory,
    stop: Stop,
) -> Result<(), ServerError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(ServerError::Signals)?;
    let listen = move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload::reload(path.as_deref(), &config, &tls, &directory);
                continue;
            }
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
            stop.raise();
        }
    };
    let thread = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen);
    thread.map(drop).map_err(ServerError::Signals)
}

fn listening(config: &Config, opened: &[net::Opened]) -> Vec<(Protocol, SocketAddr)> {
    let listeners = config.listeners();
    let of_config = listeners.iter().zip(opened);
    of_config
        .filter_map(|(listener, opened)| match &opened.address {
            Address::Tcp(address) => Some((listener.protocol, *address)),
            Address::Unix { .. } => None,
        })
        .collect()
}

/// Every metric shows from the start, zeros too.
fn register_metrics() {
    for metrics in counters::rooms() {
        observe::register(metrics);
    }
}

/// As many descriptors as the hard limit allows; `palomar check` says whether that is enough.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(DESCRIPTORS_WANTED, |max| max.min(DESCRIPTORS_WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        // Where it fails the old limit stays, and accept says so when it is reached.
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}
