//! One shard's life: its store, its services, its listeners, until the drain.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::control::{self, Control};
use super::{ServerError, admin, build, counters, local};
use crate::base::{Deadline, ShardId};
use crate::config::{Config, Protocol};
use crate::delivery::{self, Intake};
use crate::directory::{Authenticator, Directory, LastLogins, Owner};
use crate::dns;
use crate::net::{AddressCounts, Conn, Opened, OutgoingTls, Refusal, Tls, accept_loop};
use crate::observe::{self, event, log_event};
use crate::queue::{self, Queue};
use crate::runtime::{self, Disk, Gate, Inbox, Mesh, Pool, Stop};
use crate::session::{Arrival, Arrivals, Door, Errand, LoginDesk, Roster, imap, pop3, smtp};
use crate::store::{Recovered, Store, StoreError};
use crate::web::import::Importer;
use crate::web::{self, Readiness};

/// Sessions have this long to finish their command when the server drains.
const DRAIN_SESSIONS: Duration = Duration::from_secs(20);
/// Background work has this long after them, and the store after that.
const DRAIN_BACKGROUND: Duration = Duration::from_secs(5);
/// What other hosts have whole, and did not answer for yet, has this long before that.
const DRAIN_ANSWERS: Duration = Duration::from_secs(30);
const DRAIN_STORE: Duration = Duration::from_secs(25);

/// What every shard gets a clone of.
#[derive(Clone)]
pub struct Shared {
    pub config: Arc<ArcSwap<Config>>,
    pub doors: Vec<Door>,
    pub tls: Tls,
    /// For the disk.
    pub pool: Pool,
    /// For passwords and the directory's view.
    pub passwords: Pool,
    pub directory: Directory,
    pub arrivals: Mesh<Box<Arrival>>,
    pub control: Mesh<Control>,
    pub outward: Outward,
    pub counts: AddressCounts,
    pub stop: Stop,
    pub ready: Arc<AtomicU16>,
    pub all_ready: flume::Sender<()>,
    pub failed: Arc<AtomicBool>,
    pub shards: u16,
    pub recovered: Recovered,
}

/// What mail leaves by, the same on every shard.
#[derive(Clone)]
pub struct Outward {
    pub mesh: Mesh<queue::Request>,
    pub under_way: queue::UnderWay,
    pub routes: Arc<queue::RouteSettings>,
    pub tls: OutgoingTls,
    pub dns: dns::Settings,
    pub dns_cache: Arc<dns::SharedCache>,
}

/// What one shard alone gets.
pub struct Part {
    opened: Vec<Opened>,
    arrivals: Inbox<Box<Arrival>>,
    control: Inbox<Control>,
    queue: Inbox<queue::Request>,
    owner: Option<Owner>,
}

/// The parts, until each shard has taken its own.
#[derive(Clone)]
pub struct Parts(
    flume::Receiver<(ShardId, Part)>,
    flume::Sender<(ShardId, Part)>,
);

pub fn parts(
    opened: Vec<Vec<Opened>>,
    arrivals: Vec<Inbox<Box<Arrival>>>,
    control: Vec<Inbox<Control>>,
    queue: Vec<Inbox<queue::Request>>,
    owner: Owner,
) -> Parts {
    let (give, take) = flume::bounded(opened.len());
    let mut owner = Some(owner);
    let inboxes = arrivals.into_iter().zip(control).zip(queue);
    let of_shards = opened.into_iter().zip(inboxes);
    for (id, (opened, ((arrivals, control), queue))) in (0..).map(ShardId).zip(of_shards) {
        let part = Part {
            opened,
            arrivals,
            control,
            queue,
            owner: owner.take(),
        };
        let given = give.try_send((id, part));
        assert!(given.is_ok(), "room for one part a shard");
    }
    Parts(take, give)
}

impl Parts {
    /// This shard's part. Another shard's that comes first is put back.
    #[must_use]
    pub fn take(&self, id: ShardId) -> Part {
        loop {
            let (of, part) = self.0.recv().expect("each shard takes its own part once");
            if of == id {
                return part;
            }
            let _ = self.1.send((of, part));
        }
    }
}

/// The gates of a shard, closed in this order when it drains.
struct Gates {
    sessions: Gate,
    background: Gate,
}

/// What the protocols of this shard are served by.
struct Services {
    imap: Rc<imap::Service>,
    pop3: Rc<pop3::Service>,
    smtp: Rc<smtp::Service>,
}

pub async fn run(id: ShardId, shared: Shared, part: Part) {
    observe::enter_shard(id);
    if let Err(error) = live(id, &shared, part).await {
        log_event!(ERROR, event::SERVER_FAILED, shard = id.0, why = %error);
        shared.failed.store(true, Ordering::Release);
        shared.stop.raise();
    }
}

async fn live(id: ShardId, shared: &Shared, part: Part) -> Result<(), ServerError> {
    let Part {
        opened,
        arrivals,
        control,
        queue,
        owner,
    } = part;
    let root = shared.config.load().data_dir.clone();
    let disk = Disk::real(shared.pool.clone()).with_root(&root)?;
    let store = Store::open(id, &shared.recovered, disk.clone()).await?;
    let gates = Gates {
        sessions: Gate::new(),
        background: Gate::new(),
    };
    let roster = Roster::default();
    let queue = send(id, shared, &store, disk, queue, &gates);
    runtime::spawn(
        "server.control",
        control::answer(control, roster.clone(), store.clone(), queue),
    );
    if let Some(owner) = owner {
        let view = root.join("directory.sqlite");
        let pool = shared.passwords.clone();
        owner
            .start(store.remote(), pool, Some(view), &gates.background)
            .await?;
        runtime::spawn(
            "server.tickets",
            shared.tls.clone().keep_rotating_ticket_keys(),
        );
    }
    heed_quotas(&store, &shared.directory, &gates);
    let services = services(id, shared, &store, &roster, &gates);
    let arrive = receive(
        arrivals,
        shared.doors.clone(),
        services.clone(),
        gates.sessions.clone(),
    );
    runtime::spawn("server.arrivals", arrive);
    watch(&store, shared);
    let publish = counters::publish(store.clone(), gates.background.clone());
    runtime::spawn_in(&gates.background, "server.counters", publish);

    shared.ready.fetch_add(1, Ordering::AcqRel);
    let _ = shared.all_ready.send(());
    // Shard 0 alone loads the directory: nobody is served before it is there.
    while shared.ready.load(Ordering::Acquire) < shared.shards && !shared.stop.is_raised() {
        runtime::sleep(Duration::from_millis(1)).await;
    }
    listen(opened, shared, &services, &gates, &store);
    shared.stop.raised().await;
    drain(shared, gates, store).await
}

fn services(
    id: ShardId,
    shared: &Shared,
    store: &Store,
    roster: &Roster,
    gates: &Gates,
) -> Rc<Services> {
    let remote = store.remote();
    let last_logins = LastLogins::start(remote.clone(), &gates.background);
    let (directory, pool) = (shared.directory.clone(), shared.passwords.clone());
    let authenticator = Authenticator::new(directory.clone(), pool, last_logins, &gates.background);
    let desk = LoginDesk::new(authenticator, shared.stop.clone());
    let arrivals = Arrivals::new(shared.arrivals.clone(), id);
    let (roster, stop) = (roster.clone(), shared.stop.clone());
    let imap = imap::Service::new(
        desk.clone(),
        arrivals.clone(),
        remote.clone(),
        roster.clone(),
        stop.clone(),
    );
    let pop3 = pop3::Service::new(
        remote.clone(),
        desk.clone(),
        roster.clone(),
        arrivals,
        stop.clone(),
    );
    let schedule = queue::Schedule::of(&shared.config.load());
    let intake = Intake::new(remote.clone(), directory, schedule);
    let smtp = smtp::Service::new(intake, desk, roster, stop);
    Rc::new(Services {
        imap,
        pop3: Rc::new(pop3),
        smtp: Rc::new(smtp),
    })
}

/// Mail leaves.
fn send(
    id: ShardId,
    shared: &Shared,
    store: &Store,
    disk: Disk,
    inbox: Inbox<queue::Request>,
    gates: &Gates,
) -> Queue {
    let outward = &shared.outward;
    let resolver = dns::Resolver::new(&outward.dns, outward.dns_cache.clone());
    let parts = queue::Parts {
        remote: store.remote(),
        disk,
        routes: outward.routes.clone(),
        resolver,
        tls: outward.tls.clone(),
        ways: delivery::ways(shared.directory.clone()),
        mesh: outward.mesh.clone(),
        under_way: outward.under_way.clone(),
        inbox,
        gate: gates.background.clone(),
    };
    Queue::start(id, &shared.config.load(), parts)
}

/// The store looks up limits as they are now, and the owners of full mailboxes are told.
fn heed_quotas(store: &Store, directory: &Directory, gates: &Gates) {
    let remote = store.remote();
    let book = directory.clone();
    remote.set_quota_book(Rc::new(move |account| {
        let snapshot = book.snapshot();
        snapshot
            .account(account)
            .map(|account| snapshot.quota(account))
    }));
    let gate = || gates.background.clone();
    let watch = delivery::watch_limits(remote.clone(), directory.clone(), gate());
    runtime::spawn_in(&gates.background, "delivery.limits", watch);
    let warn = delivery::warn_of_quotas(remote, directory.clone(), gate());
    runtime::spawn_in(&gates.background, "delivery.warnings", warn);
}

/// Goes on with connections that logged in on another shard.
async fn receive(
    mut inbox: Inbox<Box<Arrival>>,
    doors: Vec<Door>,
    services: Rc<Services>,
    gate: Gate,
) {
    while let Some(arrival) = inbox.next().await {
        let door = doors[arrival.door].clone();
        match arrival.errand {
            Errand::Imap(_) => {
                let service = services.imap.clone();
                runtime::spawn_in(&gate, "imap", service.arrive(arrival, door));
            }
            Errand::Pop3(_) => {
                let service = services.pop3.clone();
                runtime::spawn_in(&gate, "pop3", service.arrive(arrival, door));
            }
        }
    }
}

/// Serves every listener of this shard.
fn listen(
    opened: Vec<Opened>,
    shared: &Shared,
    services: &Rc<Services>,
    gates: &Gates,
    store: &Store,
) {
    if runtime::shard() == ShardId(0) {
        let of_doors = shared.doors.iter().zip(&opened);
        let seen = of_doors.map(|(door, one)| (door.listener().protocol.into(), one.counters()));
        let publish = counters::publish_listeners(seen.collect(), gates.background.clone());
        runtime::spawn_in(&gates.background, "server.listeners", publish);
    }
    let mut doors = shared.doors.iter();
    for one in opened {
        if one.spec.protocol == build::ADMIN {
            serve_admin(one, shared, gates, store);
            continue;
        }
        if one.spec.protocol == build::SENDMAIL {
            local::serve(one, shared, services.smtp.clone(), gates.sessions.clone());
            continue;
        }
        let Some(door) = doors.next() else { continue };
        if door.listener().protocol == Protocol::Metrics {
            serve_metrics(one, door.clone(), shared, gates);
            continue;
        }
        let (door, services) = (door.clone(), services.clone());
        let (counts, gate) = (shared.counts.clone(), gates.sessions.clone());
        let address = one.address.clone();
        let handler = move |conn, _, refusal| handle(services.clone(), conn, door.clone(), refusal);
        runtime::spawn("server.accept", async move {
            if let Err(error) = accept_loop(one, counts, gate, handler).await {
                log_event!(ERROR, event::LISTENER_FAILED, %address, why = %error);
            }
        });
    }
}

/// One connection, by its listener's protocol.
async fn handle(services: Rc<Services>, conn: Conn, door: Door, refusal: Option<Refusal>) {
    let listener = door.listener();
    if conn
        .peer()
        .address()
        .is_some_and(|address| !listener.serves(address))
    {
        let (proto, peer) = (listener.protocol.name(), conn.peer());
        log_event!(WARN, event::CONNECTION_REFUSED, proto, %peer, why = "outside its networks");
        return;
    }
    match listener.protocol {
        Protocol::Imap | Protocol::Imaps => {
            services.imap.clone().serve(conn, door, refusal).await;
        }
        Protocol::Pop3 | Protocol::Pop3s => {
            services.pop3.clone().serve(conn, door, refusal).await;
        }
        Protocol::Smtp | Protocol::Submission | Protocol::Submissions | Protocol::Lmtp => {
            services.smtp.clone().serve(conn, door, refusal).await;
        }
        Protocol::Metrics => {}
    }
}

fn serve_metrics(one: Opened, door: Door, shared: &Shared, gates: &Gates) {
    let (ready, shards, stop) = (shared.ready.clone(), shared.shards, shared.stop.clone());
    let health: web::Health = Rc::new(move || {
        let serving = ready.load(Ordering::Acquire);
        if stop.is_raised() {
            Readiness::NotReady("draining".to_owned())
        } else if serving < shards {
            Readiness::NotReady(format!("{serving} of {shards} shards serve"))
        } else {
            Readiness::Ready
        }
    });
    let allowed = move |address| door.listener().serves(address);
    match one.into_listener() {
        Ok(listener) => {
            let serve = web::serve_metrics(listener, gates.background.clone(), health, allowed);
            runtime::spawn("server.metrics", serve);
        }
        Err(error) => log_event!(ERROR, event::LISTENER_FAILED, proto = "metrics", why = %error),
    }
}

fn serve_admin(one: Opened, shared: &Shared, gates: &Gates, store: &Store) {
    let directory = shared.directory.clone();
    let importer = Importer::new(store.remote(), directory.clone());
    let control = shared.control.clone();
    let handler = admin::handler(directory, control, store.remote(), importer.clone());
    match one.into_listener() {
        Ok(listener) => {
            let serve = web::serve_admin(listener, gates.background.clone(), handler, importer);
            runtime::spawn("server.admin", serve);
        }
        Err(error) => log_event!(ERROR, event::LISTENER_FAILED, proto = "admin", why = %error),
    }
}

/// A poisoned journal ends the process: it must not go on as if it could keep anything.
fn watch(store: &Store, shared: &Shared) {
    let (store, failed, stop) = (store.clone(), shared.failed.clone(), shared.stop.clone());
    runtime::spawn("server.watch", async move {
        store.poisoned().await;
        log_event!(ERROR, event::JOURNAL_POISONED, shard = runtime::shard().0);
        failed.store(true, Ordering::Release);
        stop.raise();
    });
}

/// Sessions finish their command, background work ends, the journal is committed and settled.
async fn drain(shared: &Shared, gates: Gates, store: Store) -> Result<(), ServerError> {
    let until = |span| Deadline::after(runtime::now(), span);
    if let Err(left) = gates.sessions.close(until(DRAIN_SESSIONS)).await {
        log_event!(
            WARN,
            event::SESSION_CLOSED,
            left,
            why = "cut off by the drain"
        );
    }
    if let Err(left) = gates.background.close(until(DRAIN_BACKGROUND)).await {
        log_event!(
            WARN,
            event::SERVER_DRAINED,
            left,
            why = "background work cut off"
        );
    }
    let answered = until(DRAIN_ANSWERS);
    while shared.outward.under_way.is_unanswered() && runtime::now() < answered.0 {
        runtime::sleep(Duration::from_millis(10)).await;
    }
    end_store(&store, until(DRAIN_STORE)).await?;
    // A shard that ends takes its requests' answers with it: all leave together.
    shared.ready.fetch_sub(1, Ordering::AcqRel);
    let together = until(DRAIN_STORE);
    while shared.ready.load(Ordering::Acquire) > 0 && runtime::now() < together.0 {
        runtime::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// A last checkpoint that is not made costs the next start a replay, and nobody a message: that is
/// no failure, except where the disk cannot be trusted.
async fn end_store(store: &Store, until: Deadline) -> Result<(), ServerError> {
    match store.drain(until).await {
        Err(why @ StoreError::Poisoned) => Err(why.into()),
        Err(why) => {
            let shard = runtime::shard().0;
            let next = match why {
                StoreError::Full => {
                    "the disk is full: no last checkpoint. Everything acknowledged is in the \
                     journal; free room before the next start, which replays it"
                }
                _ => {
                    "no last checkpoint in time. Everything acknowledged is in the journal, and \
                     the next start replays it"
                }
            };
            log_event!(WARN, event::SERVER_DRAINED, shard, ?why, next);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
