//! The queue of one shard: it offers what is due here to the shards of the destinations, and tries
//! what is offered for the destinations that are its own.
//!
//! Nothing is lost between the two, since nothing that crosses is durable: a row that is out stays
//! with its entry, and comes back with an outcome, untried, or with the next start. What is sent
//! twice is told in docs/QUEUE.md.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::attempt::{Means, Work};
use super::client::Times;
use super::command::{self, Answer, Ask, Change};
use super::counters;
use super::desk::{self, After, Declined, Desk, Destination, EntryKey, Health, Offer, Shape, Turn};
use super::notice::Action;
use super::route::{Ours, Router};
use super::rows::Rows;
use super::schedule::{Outcome, Schedule, Verdict, Verdicts};
use super::tell::{Teller, Ways};
use crate::base::{Deadline, ShardId, UnixMs, crc32c};
use crate::config::Config;
use crate::net::OutgoingTls;
use crate::observe::{event, log_event};
use crate::runtime::local::Notify;
use crate::runtime::{self, Disk, Gate, Inbox, Mesh, NoAnswer, Refusal, Reply, reply, spawn_in};
use crate::store::{RecipientState, Remote, Steering, StoreError};

/// Requests that wait at one shard.
const REQUESTS_MAX: usize = 1024;
/// Rows that are offered at once.
const OFFERS_MAX: usize = 128;
/// Offers that wait at one shard, and for one destination.
const WAITING_MAX: usize = 4096;
const LINE_MAX: usize = 256;
/// How long another shard may take to answer.
const ANSWER_SPAN: Duration = Duration::from_secs(30);
const RECORD_SPAN: Duration = Duration::from_secs(86_400);
/// After another shard, or the store, could not do it now.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

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
}

/// The queue of one shard. Clones are handles to the same.
#[derive(Clone)]
pub struct Queue {
    shop: Rc<Shop>,
}

struct Shop {
    id: ShardId,
    mesh: Mesh<Request>,
    remote: Remote,
    gate: Gate,
    means: Means,
    schedule: Schedule,
    teller: Teller,
    rows: RefCell<Rows>,
    /// Rows are due that were not.
    rows_told: Notify,
    desk: RefCell<Desk>,
    /// The desk may have a turn that it had not.
    desk_told: Notify,
    /// A connection waits for another message.
    kept_told: Notify,
}

/// What the queue of a shard is made of.
pub struct Parts {
    pub remote: Remote,
    pub disk: Disk,
    pub router: Router,
    pub tls: OutgoingTls,
    pub ways: Ways,
    pub mesh: Mesh<Request>,
    pub inbox: Inbox<Request>,
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
        let limits = desk::Limits {
            slots_max: keys.connections_max as usize,
            waiting_max: WAITING_MAX,
            line_max: LINE_MAX,
            shape: Shape {
                connections_max: keys.connections_per_destination_max.min(1_000) as u16,
                gap: Duration::ZERO,
            },
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
        let shop = Rc::new(Shop {
            id,
            mesh: parts.mesh,
            remote: parts.remote,
            gate: parts.gate,
            means: Means {
                disk: parts.disk,
                router: parts.router,
                tls: parts.tls,
                ours: Ours {
                    own_name: config.hostname.to_string(),
                    is_chunking_used: true,
                    recipients_max: keys.recipients_per_message_max as usize,
                    letters_max: keys.messages_per_connection_max.into(),
                    times: Times::default(),
                },
                idle: keys.idle.0,
                kept: RefCell::default(),
            },
            schedule,
            teller,
            rows: RefCell::default(),
            rows_told: Notify::new(),
            desk: RefCell::new(Desk::new(limits)),
            desk_told: Notify::new(),
            kept_told: Notify::new(),
        });
        let gate = &shop.gate;
        spawn_in(gate, "queue-requests", serve(shop.clone(), parts.inbox));
        spawn_in(gate, "queue-changes", heed_changes(shop.clone()));
        spawn_in(gate, "queue-offers", offer_rows(shop.clone()));
        spawn_in(gate, "queue-desk", give_turns(shop.clone()));
        spawn_in(gate, "queue-idle", end_idle(shop.clone()));
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
                change: Change::Retry,
                ..
            }
        );
        let answer = command::answer(&self.shop.remote, ask).await?;
        if let (true, Answer::Changed(changed)) = (is_retry, &answer) {
            for destination in &changed.destinations {
                self.retry(destination).await;
            }
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

// ---- the shard of the entries ----

async fn heed_changes(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let changed = async { Some(shop.remote.queue_changes().await) };
        let closing = async {
            shop.gate.closing().await;
            None
        };
        let Some(changed) = or(changed, closing).await else {
            return;
        };
        for entry in changed {
            shop.refresh(entry);
            runtime::yield_if_needed().await;
        }
    }
}

async fn offer_rows(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.rows_told.notified();
        let now = runtime::unix_now();
        let taken = shop.rows.borrow_mut().take(now, OFFERS_MAX);
        if !taken.is_empty() {
            shop.offer(taken).await;
            runtime::yield_if_needed().await;
            continue;
        }
        let next = shop.rows.borrow().next();
        let waits = async {
            match next {
                Some(due) => {
                    let ms = due.0.saturating_sub(now.0).clamp(1, 60_000);
                    or(told, runtime::sleep(Duration::from_millis(ms as u64))).await;
                }
                None => told.await,
            }
        };
        or(waits, shop.gate.closing()).await;
    }
}

impl Shop {
    fn owner(&self, destination: &str) -> ShardId {
        let hash = crc32c(destination.as_bytes()).0;
        ShardId((hash % u32::from(self.mesh.shards())) as u16)
    }

    fn source(&self, entry: EntryKey) -> ShardId {
        entry.partition.owner(self.mesh.shards())
    }

    /// What an entry waits for, from what is on record.
    fn refresh(&self, entry: EntryKey) {
        let wanted = self.remote.queue_entry(entry, |seen| {
            let mut wanted: BTreeMap<String, UnixMs> = BTreeMap::new();
            for recipient in &seen.outbound.recipients {
                if let RecipientState::Waiting { due } = recipient.state {
                    let first = wanted.entry(recipient.destination.clone()).or_insert(due);
                    *first = due.min(*first);
                }
            }
            wanted
        });
        let mut rows = self.rows.borrow_mut();
        let wanted = wanted.unwrap_or_default().into_iter();
        let wanted: Vec<_> = wanted.map(|(name, due)| (rows.name(&name), due)).collect();
        rows.set(entry, &wanted);
        counters::ROWS.set(rows.len() as u64);
        drop(rows);
        self.rows_told.notify_all();
    }

    /// A row that was out is not any more, and waits for what is on record.
    fn take_back(&self, entry: EntryKey, destination: &str) {
        let name = self.rows.borrow_mut().name(destination);
        self.rows.borrow_mut().back(entry, &name, UnixMs(0));
        self.refresh(entry);
    }

    /// Offers rows that are out to the shards of their destinations.
    async fn offer(self: &Rc<Self>, taken: Vec<(Destination, EntryKey)>) {
        let mut by_shard: BTreeMap<ShardId, Vec<(String, Offer)>> = BTreeMap::new();
        for (name, entry) in taken {
            let offer = self.remote.queue_entry(entry, |seen| Offer {
                entry,
                class: seen.outbound.class,
                sender: u64::from(crc32c(seen.outbound.mail.path.to_string().as_bytes()).0),
                size: seen.size,
            });
            match offer {
                Some(offer) => {
                    let of = by_shard.entry(self.owner(&name)).or_default();
                    of.push((name.to_string(), offer));
                }
                None => self.take_back(entry, &name),
            }
        }
        for (shard, offers) in by_shard {
            let kept: Vec<(String, EntryKey)> =
                offers.iter().map(|(d, o)| (d.clone(), o.entry)).collect();
            let declined = match shard == self.id {
                true => Ok(self.take_offers(offers)),
                false => {
                    let request = |reply| Request::Offer { offers, reply };
                    self.ask(shard, request).await
                }
            };
            match declined {
                Ok(declined) => {
                    for (at, why) in declined {
                        let (destination, entry) = &kept[at];
                        match why {
                            Declined::Full => self.note_full(*entry, destination),
                            Declined::Away(until) => {
                                self.came_back(*entry, destination, Some(until));
                            }
                        }
                    }
                }
                // What is not answered may have been taken, and comes back if so: only what was
                // not posted at all is ours.
                Err(Unasked::NotPosted) => {
                    let until = runtime::now() + AGAIN_AFTER;
                    for (destination, entry) in &kept {
                        self.came_back(*entry, destination, Some(until));
                    }
                }
                Err(Unasked::NoAnswer) => {}
            }
        }
        counters::OUT.set(self.rows.borrow().out() as u64);
    }

    fn note_full(&self, entry: EntryKey, destination: &str) {
        let mut rows = self.rows.borrow_mut();
        let name = rows.name(destination);
        rows.declined(entry, &name, runtime::unix_now());
    }

    /// A row comes back untried. Who waits too long for a destination that is away is told, too.
    fn came_back(self: &Rc<Self>, entry: EntryKey, destination: &str, until: Option<Instant>) {
        let now = runtime::unix_now();
        let Some(until) = until else {
            return self.take_back(entry, destination);
        };
        let wait = until.saturating_duration_since(runtime::now());
        let overdue = self.remote.queue_entry(entry, |seen| {
            let due = seen.due(destination, now);
            let is_overdue = !due.is_empty() && self.schedule.is_overdue(&seen, &due, now);
            is_overdue.then_some(due)
        });
        match overdue {
            None => self.take_back(entry, destination),
            Some(None) => {
                // Spread, so that they do not all come at the end of the pause.
                let ms = wait.as_millis() as u64;
                let spread = u64::from(crc32c(&entry.pseq.0.to_le_bytes()).0) % (ms / 4 + 1);
                let due = UnixMs(now.0.saturating_add((ms + spread) as i64));
                let mut rows = self.rows.borrow_mut();
                let name = rows.name(destination);
                rows.back(entry, &name, due);
                drop(rows);
                self.rows_told.notify_all();
            }
            Some(Some(due)) => {
                let away = |ordinal| Verdicts {
                    ordinal,
                    verdict: Verdict::Deferred,
                    status: "4.4.1".into(),
                    reply: format!("no host of {destination} answers"),
                };
                let outcome = Outcome {
                    at: now,
                    hop: String::new(),
                    verdicts: due.into_iter().map(away).collect(),
                    not_before: Some(UnixMs(now.0.saturating_add(wait.as_millis() as i64))),
                };
                let (shop, destination) = (self.clone(), destination.to_owned());
                spawn_in(&self.gate, "queue-overdue", async move {
                    shop.record(entry, &destination, outcome).await;
                });
            }
        }
    }

    /// The work of an entry at a destination. `None`: there is nothing to do any more.
    async fn work(&self, entry: EntryKey, destination: &str) -> Option<Work> {
        let now = runtime::unix_now();
        let found = self.remote.queue_entry(entry, |seen| {
            let due = seen.due(destination, now);
            let of = |n: &u16| &seen.outbound.recipients[usize::from(*n)];
            // Copies that differ go one after the other.
            let redirect = due.first().and_then(|n| of(n).redirect.clone());
            let alike = due.iter().filter(|n| of(n).redirect == redirect);
            let recipients: Vec<_> = alike.map(|n| (*n, of(n).rcpt.clone())).collect();
            let (mut mail, mut head) = (seen.outbound.mail.clone(), Vec::new());
            if let Some(redirect) = redirect {
                mail.path = redirect.reverse;
                head = redirect.head;
            }
            head.extend_from_slice(&seen.outbound.head);
            (seen.trace, mail, head, recipients)
        });
        let found = found.filter(|(.., recipients)| !recipients.is_empty());
        let Some((trace, mail, head, recipients)) = found else {
            self.take_back(entry, destination);
            return None;
        };
        match self.remote.queue_body(entry).await {
            Ok(message) => Some(Work {
                trace,
                mail,
                head,
                message,
                recipients,
            }),
            Err(StoreError::Damaged { .. }) => {
                self.hold_damaged(entry, destination).await;
                None
            }
            Err(why) => {
                tracing::warn!(?why, partition = %entry.partition, pseq = %entry.pseq, "body not read");
                let name = self.rows.borrow_mut().name(destination);
                let due = UnixMs(now.0 + 60_000);
                self.rows.borrow_mut().back(entry, &name, due);
                self.rows_told.notify_all();
                None
            }
        }
    }

    /// A message that is not what was taken in is not sent, and not given up: a person decides.
    async fn hold_damaged(&self, entry: EntryKey, destination: &str) {
        let known = self.remote.queue_entry(entry, |seen| {
            let ordinals: Vec<u16> = (0..seen.outbound.recipients.len() as u16).collect();
            (ordinals, seen.trace)
        });
        if let Some((ordinals, trace)) = known {
            log_event!(
                ERROR,
                event::MESSAGE_HELD,
                message = trace.map(|t| t.to_string()),
                why = "its content is damaged",
                remedy = "palomar queue show, then release or remove it"
            );
            let held = self
                .remote
                .queue_steer(entry, ordinals, Steering::Hold, None);
            if let Err(why) = held.await {
                tracing::warn!(?why, "a damaged message is not held");
            }
        }
        self.take_back(entry, destination);
    }

    /// Puts an outcome on record, with the notices about it; tried until it is.
    async fn record(&self, entry: EntryKey, destination: &str, outcome: Outcome) {
        loop {
            match self.try_record(entry, &outcome).await {
                Ok(()) => break,
                Err(StoreError::Poisoned) => return,
                Err(why) => {
                    tracing::warn!(?why, "an outcome is not on record yet");
                    or(runtime::sleep(AGAIN_AFTER), self.gate.closing()).await;
                    if self.gate.is_closed() {
                        return;
                    }
                }
            }
        }
        self.take_back(entry, destination);
    }

    async fn try_record(&self, entry: EntryKey, outcome: &Outcome) -> Result<(), StoreError> {
        let judge = |seen: crate::store::QueueEntry<'_>| {
            let judged = self.schedule.judge(entry, &seen, outcome);
            note(&seen, &judged.tried);
            judged
        };
        let Some(judged) = self.remote.queue_entry(entry, judge) else {
            return Ok(());
        };
        let teller = &self.teller;
        let notice = teller
            .notice(entry, &judged.ends, Some(&judged.tried))
            .await?;
        self.remote.queue_tried(entry, judged.tried, notice).await?;
        if !judged.delays.is_empty() {
            let about: Vec<_> = judged
                .delays
                .iter()
                .map(|n| (*n, Action::Delayed))
                .collect();
            let notice = teller.notice(entry, &about, None).await?;
            let told = self
                .remote
                .queue_steer(entry, judged.delays, Steering::DelayTold, notice);
            told.await?;
        }
        Ok(())
    }
}

/// Log lines and counters of what was tried.
fn note(seen: &crate::store::QueueEntry<'_>, tried: &crate::store::Tried) {
    for result in &tried.results {
        let Some(recipient) = seen.outbound.recipients.get(usize::from(result.ordinal)) else {
            continue;
        };
        let trace = seen.trace.map(|t| t.to_string());
        let (fate, name) = match result.state {
            RecipientState::Delivered => {
                counters::RECIPIENTS.increment(counters::Fate::Delivered);
                // The attempt has told it, with more.
                continue;
            }
            RecipientState::Failed => (counters::Fate::Failed, event::MESSAGE_FAILED),
            RecipientState::Expired => (counters::Fate::Expired, event::MESSAGE_FAILED),
            _ => (counters::Fate::Deferred, event::MESSAGE_DEFERRED),
        };
        counters::RECIPIENTS.increment(fate);
        log_event!(
            INFO,
            name,
            message = trace,
            rcpt = %recipient.rcpt.path,
            state = result.state.word(),
            host = tried.hop.as_str(),
            status = result.status.as_str(),
            reply = result.reply.as_str(),
            tries = u64::from(recipient.tries) + 1
        );
    }
}

// ---- the shard of the destination ----

async fn give_turns(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.desk_told.notified();
        loop {
            let turn = shop.desk.borrow_mut().next(runtime::now());
            let Some(turn) = turn else { break };
            let slot = Slot {
                shop: shop.clone(),
                turn: Some(turn),
            };
            spawn_in(&shop.gate, "queue-attempt", slot.work());
        }
        shop.tell_hungry().await;
        let wakes = shop.desk.borrow().wakes_at();
        let waits = async {
            match wakes {
                Some(at) => {
                    let wait = at.saturating_duration_since(runtime::now());
                    or(told, runtime::sleep(wait.max(Duration::from_millis(1)))).await;
                }
                None => told.await,
            }
        };
        or(waits, shop.gate.closing()).await;
    }
}

async fn end_idle(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.kept_told.notified();
        let next = shop.means.end_idle(false).await;
        let waits = async {
            match next {
                Some(at) => {
                    let wait = at.saturating_duration_since(runtime::now());
                    or(told, runtime::sleep(wait.max(Duration::from_millis(10)))).await;
                }
                None => told.await,
            }
        };
        or(waits, shop.gate.closing()).await;
    }
    shop.means.end_idle(true).await;
}

/// A turn at work. However the work ends, the slot is free again and the row is not lost.
struct Slot {
    shop: Rc<Shop>,
    turn: Option<Turn>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let (entry, destination) = (turn.offer.entry, turn.destination.to_string());
        let shop = self.shop.clone();
        let until = Some(runtime::now() + shop.means.idle + AGAIN_AFTER);
        let after = shop
            .desk
            .borrow_mut()
            .ended(turn, Health::Pressed, runtime::now());
        shop.desk_told.notify_all();
        let at = shop.clone();
        spawn_in(&shop.gate, "queue-back", async move {
            at.give_back(entry, destination.clone(), until).await;
            at.give_back_all(after, &destination).await;
        });
    }
}

impl Slot {
    async fn work(mut self) {
        let shop = self.shop.clone();
        while let Some(turn) = &self.turn {
            let (entry, destination) = (turn.offer.entry, turn.destination.clone());
            let health = match shop.fetch(entry, &destination).await {
                Fetched::Work(work) => {
                    let (outcome, health) = shop.means.attempt(&destination, &work).await;
                    shop.done(entry, &destination, outcome).await;
                    health
                }
                Fetched::Nothing => Health::Well,
                Fetched::Unknown => {
                    let until = Some(runtime::now() + AGAIN_AFTER);
                    shop.give_back(entry, destination.to_string(), until).await;
                    Health::Well
                }
            };
            shop.kept_told.notify_all();
            let Some(turn) = self.turn.take() else { return };
            let now = runtime::now();
            let after = shop.desk.borrow_mut().ended(turn, health, now);
            if let Some(until) = after.until {
                log_event!(
                    WARN,
                    event::DESTINATION_AWAY,
                    destination = &*destination,
                    seconds = until.saturating_duration_since(now).as_secs()
                );
            }
            shop.give_back_all(after, &destination).await;
            if !shop.gate.is_closed() {
                self.turn = shop.desk.borrow_mut().next_at(&destination, now);
            }
            shop.desk_told.notify_all();
        }
    }
}

enum Fetched {
    Work(Work),
    /// Its source has it back.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Shop {
    fn take_offers(&self, offers: Vec<(String, Offer)>) -> Vec<(usize, Declined)> {
        let now = runtime::now();
        let mut declined = Vec::new();
        let mut desk = self.desk.borrow_mut();
        for (at, (destination, offer)) in offers.into_iter().enumerate() {
            let destination = Destination::from(destination);
            if let Err(why) = desk.offer(&destination, offer, now) {
                declined.push((at, why));
            }
        }
        drop(desk);
        self.desk_told.notify_all();
        declined
    }

    fn retry(&self, destination: &str) {
        let destination = Destination::from(destination);
        let now = runtime::now();
        self.desk.borrow_mut().retry_now(&destination, now);
        self.desk_told.notify_all();
    }

    async fn fetch(self: &Rc<Self>, entry: EntryKey, destination: &str) -> Fetched {
        let source = self.source(entry);
        let work = match source == self.id {
            true => Ok(self.work(entry, destination).await),
            false => {
                let destination = destination.to_owned();
                let request = |reply| Request::Fetch {
                    entry,
                    destination,
                    reply,
                };
                self.ask(source, request).await
            }
        };
        match work {
            Ok(Some(work)) => Fetched::Work(work),
            Ok(None) => Fetched::Nothing,
            Err(_) => Fetched::Unknown,
        }
    }

    /// Returns when the outcome is on record, or nobody can put it there any more.
    async fn done(self: &Rc<Self>, entry: EntryKey, destination: &str, outcome: Outcome) {
        let source = self.source(entry);
        if source == self.id {
            return self.record(entry, destination, outcome).await;
        }
        loop {
            let (destination, outcome) = (destination.to_owned(), outcome.clone());
            let request = |reply| Request::Done {
                entry,
                destination,
                outcome,
                reply,
            };
            match self.ask(source, request).await {
                Ok(()) | Err(Unasked::NoAnswer) => return,
                Err(Unasked::NotPosted) => {}
            }
            or(runtime::sleep(AGAIN_AFTER), self.gate.closing()).await;
            if self.gate.is_closed() {
                return;
            }
        }
    }

    async fn give_back_all(self: &Rc<Self>, after: After, destination: &str) {
        for offer in after.returned {
            self.give_back(offer.entry, destination.to_owned(), after.until)
                .await;
        }
    }

    async fn give_back(
        self: &Rc<Self>,
        entry: EntryKey,
        destination: String,
        until: Option<Instant>,
    ) {
        let source = self.source(entry);
        if source == self.id {
            return self.came_back(entry, &destination, until);
        }
        let request = Request::Back {
            entry,
            destination,
            until,
        };
        self.post(source, request).await;
    }

    async fn tell_hungry(self: &Rc<Self>) {
        loop {
            let hungry = self.desk.borrow_mut().hungry();
            let Some(destination) = hungry else { return };
            for shard in (0..self.mesh.shards()).map(ShardId) {
                if shard == self.id {
                    self.feed(&destination);
                    continue;
                }
                let destination = destination.to_string();
                self.post(shard, Request::Hungry { destination }).await;
            }
        }
    }

    fn feed(&self, destination: &str) {
        let mut rows = self.rows.borrow_mut();
        let name = rows.name(destination);
        rows.hungry(&name, LINE_MAX);
        drop(rows);
        self.rows_told.notify_all();
    }

    // ---- both ----

    /// Posts, however long it takes: what is lost would wait until the next start.
    async fn post(&self, to: ShardId, request: Request) {
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

    async fn ask<T: Send>(
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
        let closing = async {
            self.gate.closing().await;
            Err(NoAnswer::Gone)
        };
        or(answer, closing).await.map_err(|_| Unasked::NoAnswer)
    }
}

/// Why another shard did not answer.
enum Unasked {
    /// It was not asked.
    NotPosted,
    /// It was, and whatever it did it did not say.
    NoAnswer,
}

async fn serve(shop: Rc<Shop>, mut inbox: Inbox<Request>) {
    loop {
        let next = or(inbox.next(), async {
            shop.gate.closing().await;
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
                spawn_in(&shop.gate, "queue-record", async move {
                    at.record(entry, &destination, outcome).await;
                    reply.send(());
                });
            }
            Request::Back {
                entry,
                destination,
                until,
            } => shop.came_back(entry, &destination, until),
            Request::Hungry { destination } => shop.feed(&destination),
            Request::Retry { destination } => shop.retry(&destination),
        }
    }
}
