//! The shard of the destination: what the desk gives a turn is fetched, tried and answered for.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::attempt::{Mark, Work};
use super::desk::{After, Declined, Destination, EntryKey, Health, Offer, Turn};
use super::schedule::Outcome;
use super::service::{AGAIN_AFTER, Request, Shop, Unasked};
use crate::base::ShardId;
use crate::observe::{event, log_event};
use crate::runtime::{self, spawn_in};

/// A hop that is not there by then does not keep others from their turn.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn give_turns(shop: Rc<Shop>) {
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

pub(super) async fn end_idle(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.means.kept_told.notified();
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
    fn subject(&self) -> Option<(EntryKey, Destination)> {
        let turn = self.turn.as_ref()?;
        Some((turn.offer.entry, turn.destination.clone()))
    }

    /// An attempt. While it finds nobody there, others have the slot.
    async fn attempt(&mut self, destination: &str, work: &Work, mark: &Mark) -> (Outcome, Health) {
        let shop = self.shop.clone();
        let mut attempt = pin!(shop.means.attempt(destination, work, mark));
        let patience = async {
            runtime::sleep(PATIENCE).await;
            None
        };
        if let Some(done) = or(async { Some(attempt.as_mut().await) }, patience).await {
            return done;
        }
        let turn = self.turn.as_mut().filter(|_| !mark.is_open.get());
        if turn.is_some_and(|turn| shop.desk.borrow_mut().lend(turn)) {
            shop.desk_told.notify_all();
        }
        attempt.await
    }

    async fn work(mut self) {
        let shop = self.shop.clone();
        let _counted = shop.under_way.begin();
        while let Some((entry, destination)) = self.subject() {
            let health = match shop.fetch(entry, &destination).await {
                Fetched::Work(work) => {
                    let mark = Mark::default();
                    let (outcome, health) = self.attempt(&destination, &work, &mark).await;
                    shop.settle(entry, &destination, outcome, mark).await;
                    health
                }
                Fetched::Nothing => Health::Well,
                Fetched::Unknown => {
                    let until = Some(runtime::now() + AGAIN_AFTER);
                    shop.give_back(entry, destination.to_string(), until).await;
                    Health::Well
                }
            };
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
    Work(Box<Work>),
    /// Its source has it back.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Shop {
    pub(super) fn take_offers(
        self: &Rc<Self>,
        offers: Vec<(String, Offer)>,
    ) -> Vec<(usize, Declined)> {
        let now = runtime::now();
        let mut declined = Vec::new();
        let mut displaced = Vec::new();
        let mut desk = self.desk.borrow_mut();
        for (at, (destination, offer)) in offers.into_iter().enumerate() {
            let to = Destination::from(destination.as_str());
            match desk.offer(&to, offer, now) {
                Ok(None) => {}
                Ok(Some(other)) => displaced.push((other.entry, destination)),
                Err(why) => declined.push((at, why)),
            }
        }
        drop(desk);
        self.desk_told.notify_all();
        if !displaced.is_empty() {
            let shop = self.clone();
            spawn_in(&self.gate, "queue-displaced", async move {
                for (entry, destination) in displaced {
                    shop.give_back(entry, destination, None).await;
                }
            });
        }
        declined
    }

    pub(super) fn retry(&self, destination: &str) {
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
            Ok(Some(work)) => Fetched::Work(Box::new(work)),
            Ok(None) => Fetched::Nothing,
            Err(_) => Fetched::Unknown,
        }
    }

    /// Has an outcome put on record, while the slot goes on with another message: so one sync is
    /// for many. Where as many as there are slots are not durable yet the slot waits, since what
    /// a crash would have sent twice must not pile up.
    async fn settle(
        self: &Rc<Self>,
        entry: EntryKey,
        destination: &Destination,
        outcome: Outcome,
        mark: Mark,
    ) {
        let permit = self.settling.try_acquire(1);
        let Some(permit) = permit.filter(|_| !self.gate.is_closed()) else {
            self.done(entry, destination, outcome).await;
            return drop(mark);
        };
        let (shop, destination) = (self.clone(), destination.clone());
        let counted = self.under_way.begin();
        spawn_in(&self.gate, "queue-settle", async move {
            shop.done(entry, &destination, outcome).await;
            drop((permit, counted, mark));
        });
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
            match self.ask_to_the_end(source, request).await {
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
}
