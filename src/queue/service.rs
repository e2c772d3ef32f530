//! The queue of one shard: it offers what is due here to the shards of the destinations, and tries
//! what is offered for the destinations that are its own.
//!
//! Nothing is lost between the two, since nothing that crosses is durable: a row that is out stays
//! with its entry, and comes back with an outcome, untried, or with the next start. What is sent
//! twice is told in docs/QUEUE.md.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::attempt::{Means, Work};
use super::bench::{end_idle, give_turns};
use super::client::Times;
use super::command::{self, Answer, Ask, Change, DestinationLimits};
use super::desk::{self, Declined, Desk, EntryKey, Offer, Shape};
use super::home::{Homeward, bring_home};
use super::policies::Policies;
use super::route::{self, Ours, Router};
use super::rows::Rows;
use super::schedule::{Outcome, Schedule};
use super::shapes;
use super::source::{Steady, heed_changes, offer_rows};
use super::tell::{Teller, Ways};
use super::under_way::UnderWay;
use crate::base::{Deadline, PartitionId, ShardId, crc32c};
use crate::config::Config;
use crate::dns::Resolver;
use crate::net::OutgoingTls;
use crate::runtime::local::Notify;
use crate::runtime::{self, Disk, Gate, Inbox, Mesh, Refusal, Reply, reply, spawn_in};
use crate::store::{Remote, StoreError};

/// Requests that wait at one shard.
const REQUESTS_MAX: usize = 1024;
/// Rows that are offered at once.
pub(super) const OFFERS_MAX: usize = 128;
/// Offers that wait at one shard, and for one destination.
const WAITING_MAX: usize = 4096;
const LINE_MAX: usize = 256;
/// How long another shard may take to answer.
const ANSWER_SPAN: Duration = Duration::from_secs(30);
const RECORD_SPAN: Duration = Duration::from_secs(86_400);
/// From one look to the next, whether a stop has to wait for attempts still.
const STOP_STEP: Duration = Duration::from_millis(10);
/// After another shard, or the store, could not do it now.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What one shard's queue asks another's.
pub enum Request {
    /// Messages that are due at destinations of yours. What is declined is told.
    Offer {
        offers: Vec<(String, Offer)>,
        reply: Reply<Vec<(usize, Declined)>>,
    },
    /// The turn of this entry of yours has come.
    Fetch {
        entry: EntryKey,
        destination: String,
        reply: Reply<Option<Work>>,
    },
    /// What an attempt came to; answered when it is durable.
    Done {
        entry: EntryKey,
        destination: String,
        outcome: Outcome,
        reply: Reply<()>,
    },
    /// Not tried: again from then on.
    Back {
        entry: EntryKey,
        destination: String,
        until: Option<Instant>,
    },
    /// A destination of mine that declined has room.
    Hungry { destination: String },
    /// A person wants a destination tried now, whatever it did before.
    Retry { destination: String },
    /// What persons have set for destinations of yours; at the start all of it.
    Shape { limits: Vec<DestinationLimits> },
}

/// The queue of one shard. Clones are handles to the same.
#[derive(Clone)]
pub struct Queue {
    shop: Rc<Shop>,
}

pub(super) struct Shop {
    pub id: ShardId,
    pub mesh: Mesh<Request>,
    pub remote: Remote,
    pub gate: Gate,
    pub under_way: UnderWay,
    pub means: Means,
    pub schedule: Schedule,
    pub teller: Teller,
    pub rows: RefCell<Rows>,
    pub steady: Cell<Steady>,
    /// Rows are due that were not.
    pub rows_told: Notify,
    pub desk: RefCell<Desk>,
    /// Recipients of a row that is being tried: nobody else has them, wherever they go meanwhile.
    pub at_work: RefCell<BTreeMap<(EntryKey, String), Vec<u16>>>,
    /// What every destination is allowed that has no limits of its own.
    pub shape: Shape,
    /// Limits of the site are known: before, nothing begins.
    pub is_shaped: Cell<bool>,
    /// What is due for owners here.
    pub homeward: RefCell<Homeward>,
    pub homeward_told: Notify,
    /// The desk may have a turn that it had not.
    pub desk_told: Notify,
    /// A connection waits for another message.
    pub kept_told: Notify,
}

/// What the queue of a shard is made of.
pub struct Parts {
    pub remote: Remote,
    pub disk: Disk,
    pub routes: Arc<route::Settings>,
    pub resolver: Resolver,
    pub tls: OutgoingTls,
    pub ways: Ways,
    pub mesh: Mesh<Request>,
    pub inbox: Inbox<Request>,
    /// The same for all shards.
    pub under_way: UnderWay,
    pub gate: Gate,
}

/// Posts between the queues of all shards.
#[must_use]
pub fn mesh(shards: u16) -> (Mesh<Request>, Vec<Inbox<Request>>) {
    Mesh::new(shards, REQUESTS_MAX)
}

impl Queue {
    /// Begins its work, which ends with the gate.
    #[must_use]
    pub fn start(id: ShardId, config: &Config, parts: Parts) -> Queue {
        let keys = &config.queue;
        let schedule = Schedule::of(config);
        let shape = Shape {
            connections_max: keys.connections_per_destination_max.min(1_000) as u16,
            gap: Duration::ZERO,
        };
        let limits = desk::Limits {
            slots_max: keys.connections_max as usize,
            waiting_max: WAITING_MAX,
            line_max: LINE_MAX,
            shape,
            pause: keys.pause.0,
            pause_max: keys.pause_max.0,
        };
        let teller = Teller::new(
            config,
            parts.remote.clone(),
            parts.disk.clone(),
            parts.ways,
            schedule.clone(),
        );
        let seed = runtime::unix_now().0 as u64 ^ u64::from(id.0) << 48;
        let router = Router::new(
            parts.routes,
            parts.resolver,
            parts.tls.clone(),
            Rc::new(Policies(parts.remote.clone())),
            seed,
        );
        let shop = Rc::new(Shop {
            id,
            mesh: parts.mesh,
            remote: parts.remote,
            gate: parts.gate.clone(),
            under_way: parts.under_way.clone(),
            means: Means {
                disk: parts.disk,
                router,
                tls: parts.tls,
                ours: Ours {
                    own_name: config.hostname.to_string(),
                    is_chunking_used: true,
                    recipients_max: keys.recipients_per_message_max as usize,
                    letters_max: keys.messages_per_connection_max.into(),
                    times: Times::default(),
                },
                idle: keys.idle.0,
                under_way: parts.under_way,
                gate: parts.gate,
                kept: RefCell::default(),
            },
            schedule,
            teller,
            rows: RefCell::default(),
            steady: Cell::new(Steady::new()),
            rows_told: Notify::new(),
            at_work: RefCell::default(),
            shape,
            is_shaped: Cell::new(false),
            homeward: RefCell::default(),
            homeward_told: Notify::new(),
            desk: RefCell::new(Desk::new(limits)),
            desk_told: Notify::new(),
            kept_told: Notify::new(),
        });
        let gate = &shop.gate;
        spawn_in(gate, "queue-requests", serve(shop.clone(), parts.inbox));
        spawn_in(gate, "queue-changes", heed_changes(shop.clone()));
        spawn_in(gate, "queue-offers", offer_rows(shop.clone()));
        spawn_in(gate, "queue-home", bring_home(shop.clone()));
        spawn_in(gate, "queue-desk", give_turns(shop.clone()));
        spawn_in(gate, "queue-idle", end_idle(shop.clone()));
        if shop.remote.is_mine(PartitionId::SYSTEM) {
            spawn_in(gate, "queue-shapes", tell_shapes(shop.clone()));
        }
        Queue { shop }
    }

    /// Answers a person, for the entries of this shard.
    ///
    /// # Errors
    /// Where a change could not be put on record.
    pub async fn answer(&self, ask: Ask) -> Result<Answer, StoreError> {
        let is_retry = matches!(
            &ask,
            Ask::Change {
                change: Change::Retry | Change::Reroute(_),
                ..
            }
        );
        let answer = command::answer(&self.shop.remote, ask).await?;
        if let (true, Answer::Changed(changed)) = (is_retry, &answer) {
            for destination in &changed.destinations {
                self.retry(destination).await;
            }
        }
        if let Answer::Shaped(Some(shaped)) = &answer {
            self.shop.tell_shape(&shaped.destination).await;
        }
        Ok(answer)
    }

    /// A person wants a destination tried now, whatever it did before.
    async fn retry(&self, destination: &str) {
        let owner = self.shop.owner(destination);
        if owner == self.shop.id {
            return self.shop.retry(destination);
        }
        let destination = destination.to_owned();
        self.shop.post(owner, Request::Retry { destination }).await;
    }
}

impl Shop {
    pub(super) fn owner(&self, destination: &str) -> ShardId {
        let hash = crc32c(destination.as_bytes()).0;
        ShardId((hash % u32::from(self.mesh.shards())) as u16)
    }

    pub(super) fn source(&self, entry: EntryKey) -> ShardId {
        entry.partition.owner(self.mesh.shards())
    }

    /// Posts, however long it takes: what is lost would wait until the next start.
    pub(super) async fn post(&self, to: ShardId, request: Request) {
        let mut request = request;
        loop {
            let until = Deadline::after(runtime::now(), ANSWER_SPAN);
            match self.mesh.post(to, request, until).await {
                Ok(()) => return,
                Err(refused) if refused.why == Refusal::Closed || self.gate.is_closed() => return,
                Err(refused) => request = refused.message,
            }
        }
    }

    pub(super) async fn ask<T: Send>(
        &self,
        to: ShardId,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Unasked> {
        let closing = async {
            self.gate.closing().await;
            Err(Unasked::NoAnswer)
        };
        or(self.ask_to_the_end(to, request), closing).await
    }

    /// The same, and a stop does not keep it from its answer.
    pub(super) async fn ask_to_the_end<T: Send>(
        &self,
        to: ShardId,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Unasked> {
        let (to_reply, answer) = reply();
        let until = Deadline::after(runtime::now(), ANSWER_SPAN);
        let posted = self.mesh.post(to, request(to_reply), until).await;
        posted.map_err(|_| Unasked::NotPosted)?;
        // It answers, or drops the question, whatever happens to it; and an answer to an attempt
        // may be long in coming, where the disk is full.
        let answer = answer.wait(Deadline::after(runtime::now(), RECORD_SPAN));
        answer.await.map_err(|_| Unasked::NoAnswer)
    }

    /// Tells the shard of a destination what is on record for it now.
    async fn tell_shape(self: &Rc<Self>, destination: &str) {
        let limits = shapes::all(&self.remote).remove(destination);
        let limits = vec![DestinationLimits {
            destination: destination.to_owned(),
            limits: limits.unwrap_or_default(),
        }];
        match self.owner(destination) {
            owner if owner == self.id => self.shape(limits),
            owner => self.post(owner, Request::Shape { limits }).await,
        }
    }

    /// At a stop: what is under way on any shard has come to its end.
    async fn is_over(&self) {
        self.gate.closing().await;
        while self.under_way.is_any() {
            runtime::sleep(STOP_STEP).await;
        }
    }
}

/// At the start: every shard has what is on record for its destinations.
async fn tell_shapes(shop: Rc<Shop>) {
    let mut of_shards: BTreeMap<ShardId, Vec<DestinationLimits>> = BTreeMap::new();
    for (destination, limits) in shapes::all(&shop.remote) {
        let of = of_shards.entry(shop.owner(&destination)).or_default();
        of.push(DestinationLimits {
            destination,
            limits,
        });
    }
    for shard in (0..shop.mesh.shards()).map(ShardId) {
        let limits = of_shards.remove(&shard).unwrap_or_default();
        match shard == shop.id {
            true => shop.shape(limits),
            false => shop.post(shard, Request::Shape { limits }).await,
        }
    }
}

/// Why another shard did not answer.
pub(super) enum Unasked {
    /// It was not asked.
    NotPosted,
    /// It was, and whatever it did it did not say.
    NoAnswer,
}

async fn serve(shop: Rc<Shop>, mut inbox: Inbox<Request>) {
    loop {
        let next = or(inbox.next(), async {
            shop.is_over().await;
            None
        });
        let Some(request) = next.await else { return };
        let at = shop.clone();
        match request {
            Request::Offer { offers, reply } => reply.send(shop.take_offers(offers)),
            Request::Fetch {
                entry,
                destination,
                reply,
            } => {
                spawn_in(&shop.gate, "queue-fetch", async move {
                    reply.send(at.work(entry, &destination).await);
                });
            }
            Request::Done {
                entry,
                destination,
                outcome,
                reply,
            } => {
                let record = async move {
                    at.record(entry, &destination, outcome).await;
                    reply.send(());
                };
                // At a stop nothing is begun any more, and this is to be brought to its end.
                match shop.gate.is_closed() {
                    true => record.await,
                    false => drop(spawn_in(&shop.gate, "queue-record", record)),
                }
            }
            Request::Back {
                entry,
                destination,
                until,
            } => shop.came_back(entry, &destination, until),
            Request::Hungry { destination } => shop.feed(&destination),
            Request::Retry { destination } => shop.retry(&destination),
            Request::Shape { limits } => shop.shape(limits),
        }
    }
}
