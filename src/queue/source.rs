//! The shard of the entries: what waits here is offered when it is due, and what came of it is put
//! on record, with the notices about it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::TLS_WAIVED;
use super::attempt::Work;
use super::counters::{self, Reason};
use super::desk::{Declined, Destination, EntryKey, Offer};
use super::home::HERE;
use super::notice::Action;
use super::schedule::{Judged, Outcome, Verdict, Verdicts};
use super::service::{AGAIN_AFTER, OFFERS_MAX, Request, Shop, Unasked};
use super::tell::address;
use crate::base::{ShardId, TraceId, UnixMs, crc32c};
use crate::observe::{event, log_event};
use crate::runtime::{self, spawn_in};
use crate::store::{QueueEntry, RecipientState, Steering, StoreError, Tried, TriedRecipient};
use crate::wire::address::Path;

/// Until a recipient who is being tried elsewhere is looked at again.
const BUSY_MS: i64 = 1_000;

pub(super) async fn heed_changes(shop: Rc<Shop>) {
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

pub(super) async fn offer_rows(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.rows_told.notified();
        let now = runtime::unix_now();
        shop.steady.set(shop.steady.get().now(now));
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

/// Since when this server is at work by a clock that did not jump.
#[derive(Clone, Copy)]
pub(super) struct Steady {
    since: Instant,
    /// Both clocks when they were looked at last.
    seen: (Instant, UnixMs),
}

/// The wall clock may be put right by so much.
const JUMP_MS: i64 = 300_000;

impl Steady {
    pub fn new() -> Self {
        let now = runtime::now();
        Steady {
            since: now,
            seen: (now, runtime::unix_now()),
        }
    }

    fn now(self, wall: UnixMs) -> Self {
        let now = runtime::now();
        let passed = now.saturating_duration_since(self.seen.0).as_millis() as i64;
        let is_jump = (wall.0 - self.seen.1.0 - passed).abs() > JUMP_MS;
        Steady {
            since: if is_jump { now } else { self.since },
            seen: (now, wall),
        }
    }

    fn span(self) -> Duration {
        runtime::now().saturating_duration_since(self.since)
    }
}

/// A row whose outcome is being put on record: however that ends, it is not out for ever.
struct Recording<'s> {
    shop: &'s Shop,
    entry: EntryKey,
    destination: &'s str,
    /// Nothing can be put on record any more: tried again, it would be sent again for ever.
    stays_out: bool,
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.stays_out {
            self.shop.take_back(self.entry, self.destination);
        }
    }
}

impl Shop {
    pub(super) fn feed(&self, destination: &str) {
        let mut rows = self.rows.borrow_mut();
        let name = rows.name(destination);
        rows.hungry(&name, runtime::unix_now());
        drop(rows);
        self.rows_told.notify_all();
    }

    /// What an entry waits for, from what is on record.
    fn refresh(&self, entry: EntryKey) {
        let now = runtime::unix_now();
        let wanted = self.remote.queue_entry(entry, |seen| {
            let mut wanted: BTreeMap<String, UnixMs> = BTreeMap::new();
            for recipient in &seen.outbound.recipients {
                if let RecipientState::Waiting { due } = recipient.state {
                    let due = self.schedule.due(recipient, due, now);
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
        counters::OUT.set(rows.out() as u64);
        drop(rows);
        self.rows_told.notify_all();
    }

    /// A row that was out is not any more, and waits for what is on record.
    pub(super) fn take_back(&self, entry: EntryKey, destination: &str) {
        self.back(entry, destination, UnixMs(0));
        self.refresh(entry);
    }

    /// The same, and it waits until then.
    fn back(&self, entry: EntryKey, destination: &str, due: UnixMs) {
        let row = (entry, destination.to_owned());
        self.at_work.borrow_mut().remove(&row);
        let mut rows = self.rows.borrow_mut();
        let name = rows.name(destination);
        rows.back(entry, &name, due);
        drop(rows);
        self.rows_told.notify_all();
    }

    /// Recipients of an entry that are being tried elsewhere: they were on their way to there when
    /// a person sent them here.
    fn tried_elsewhere(&self, entry: EntryKey, destination: &str) -> Vec<u16> {
        let at_work = self.at_work.borrow();
        let of_entry = at_work.range((entry, String::new())..);
        let of_entry = of_entry.take_while(|((of, _), _)| *of == entry);
        let elsewhere = of_entry.filter(|((_, at), _)| at != destination);
        elsewhere
            .flat_map(|(_, ordinals)| ordinals)
            .copied()
            .collect()
    }

    /// Offers rows that are out to the shards of their destinations.
    async fn offer(self: &Rc<Self>, taken: Vec<(Destination, EntryKey)>) {
        let mut by_shard: BTreeMap<ShardId, Vec<(String, Offer)>> = BTreeMap::new();
        for (name, entry) in taken {
            if &*name == HERE {
                self.homeward.borrow_mut().push_back(entry);
                self.homeward_told.notify_all();
                continue;
            }
            let offer = self.remote.queue_entry(entry, |seen| Offer {
                entry,
                class: seen.outbound.class,
                // One account is one sender, whatever it calls itself for each recipient.
                sender: seen.outbound.submitter.map_or_else(
                    || u64::from(crc32c(seen.outbound.mail.path.to_string().as_bytes()).0),
                    |account| account.0 << 32,
                ),
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
                    let mut fed: BTreeSet<&str> = kept.iter().map(|(d, _)| &**d).collect();
                    for (at, why) in declined {
                        let (destination, entry) = &kept[at];
                        fed.remove(&**destination);
                        match why {
                            Declined::Full => self.note_full(*entry, destination),
                            Declined::Away(until) => {
                                self.came_back(*entry, destination, Some(until));
                            }
                        }
                    }
                    // Who took all may take more, and has no reason to say so.
                    fed.into_iter()
                        .for_each(|destination| self.feed(destination));
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
    }

    fn note_full(&self, entry: EntryKey, destination: &str) {
        let mut rows = self.rows.borrow_mut();
        let name = rows.name(destination);
        rows.declined(entry, &name, runtime::unix_now());
    }

    /// A row comes back untried. Who waits too long for a destination that is away is told, too.
    pub(super) fn came_back(
        self: &Rc<Self>,
        entry: EntryKey,
        destination: &str,
        until: Option<Instant>,
    ) {
        let now = runtime::unix_now();
        let Some(until) = until else {
            return self.take_back(entry, destination);
        };
        let wait = until.saturating_duration_since(runtime::now());
        let at_work = self.steady.get().span();
        let elsewhere = self.tried_elsewhere(entry, destination);
        let overdue = self.remote.queue_entry(entry, |seen| {
            let mut due = seen.due(destination, now);
            due.retain(|ordinal| !elsewhere.contains(ordinal));
            let is_overdue = !due.is_empty() && self.schedule.is_overdue(&seen, &due, now, at_work);
            is_overdue.then_some(due)
        });
        match overdue {
            None => self.take_back(entry, destination),
            Some(None) => {
                // Spread, so that they do not all come at the end of the pause.
                let ms = wait.as_millis() as u64;
                let spread = u64::from(crc32c(&entry.pseq.0.to_le_bytes()).0) % (ms / 4 + 1);
                let due = UnixMs(now.0.saturating_add((ms + spread) as i64));
                self.back(entry, destination, due);
            }
            Some(Some(due)) => {
                let away = |ordinal| Verdicts {
                    ordinal,
                    verdict: Verdict::Deferred(Reason::Connect),
                    status: "4.4.1".into(),
                    reply: format!("no host of {destination} answers"),
                };
                let outcome = Outcome {
                    at: now,
                    hop: String::new(),
                    verdicts: due.into_iter().map(away).collect(),
                    not_before: Some(UnixMs(now.0.saturating_add(wait.as_millis() as i64))),
                    is_damaged: false,
                };
                let (shop, destination) = (self.clone(), destination.to_owned());
                spawn_in(&self.gate, "queue-overdue", async move {
                    shop.record(entry, &destination, outcome).await;
                });
            }
        }
    }

    /// The work of an entry at a destination. `None`: there is nothing to do any more.
    pub(super) async fn work(&self, entry: EntryKey, destination: &str) -> Option<Work> {
        let now = runtime::unix_now();
        let elsewhere = self.tried_elsewhere(entry, destination);
        let found = self.remote.queue_entry(entry, |seen| {
            let mut due = seen.due(destination, now);
            due.retain(|ordinal| !elsewhere.contains(ordinal));
            let of = |n: &u16| &seen.outbound.recipients[usize::from(*n)];
            // Copies that differ go one after the other.
            let redirect = due.first().and_then(|n| of(n).redirect.as_deref());
            let alike = due.iter().filter(|n| of(n).redirect.as_deref() == redirect);
            let recipients: Vec<_> = alike.map(|n| (*n, of(n).rcpt.clone())).collect();
            let (mail, head) = seen.copy(redirect);
            let waived = memchr::memmem::find(&seen.outbound.head, TLS_WAIVED);
            (seen.trace, mail, head, waived.is_some(), recipients)
        });
        let found = found.filter(|(.., recipients)| !recipients.is_empty());
        let Some((trace, mail, head, is_tls_waived, recipients)) = found else {
            match elsewhere.is_empty() {
                true => self.take_back(entry, destination),
                false => self.back(entry, destination, UnixMs(now.0 + BUSY_MS)),
            }
            return None;
        };
        let ordinals = recipients.iter().map(|(n, _)| *n).collect();
        let row = (entry, destination.to_owned());
        self.at_work.borrow_mut().insert(row, ordinals);
        match self.remote.queue_body(entry).await {
            Ok(message) => Some(Work {
                trace,
                mail,
                head,
                message,
                recipients,
                is_tls_waived,
            }),
            Err(StoreError::Damaged { .. }) => {
                self.hold_damaged(entry, destination).await;
                None
            }
            Err(why) => {
                tracing::warn!(?why, partition = %entry.partition, pseq = %entry.pseq, "body not read");
                self.back(entry, destination, UnixMs(now.0 + 60_000));
                None
            }
        }
    }

    /// A message that is not what was taken in is not sent, and not given up: a person decides.
    pub(super) async fn hold_damaged(&self, entry: EntryKey, destination: &str) {
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

    /// Puts an outcome on record, with the notices about it. Each step is repeated until it is
    /// done, and no step that is.
    pub(super) async fn record(&self, entry: EntryKey, destination: &str, outcome: Outcome) {
        let mut row = Recording {
            shop: self,
            entry,
            destination,
            stays_out: false,
        };
        // Broken off by a stop: nothing to say.
        if !outcome.verdicts.is_empty() {
            let record = async || self.record_tried(entry, destination, &outcome).await;
            let Some(delays) = self.until_done(record).await else {
                row.stays_out = true;
                return;
            };
            let told = self.until_done(async || self.record_delays(entry, &delays).await);
            if told.await.is_none() {
                row.stays_out = true;
                return;
            }
        }
        if outcome.is_damaged {
            self.hold_damaged(entry, destination).await;
        }
    }

    /// `None`: a stop, or a store that can keep nothing any more.
    async fn until_done<T>(&self, step: impl AsyncFn() -> Result<T, StoreError>) -> Option<T> {
        loop {
            match step().await {
                Ok(done) => return Some(done),
                Err(StoreError::Poisoned) => return None,
                Err(why) => {
                    tracing::warn!(?why, "an outcome is not on record yet");
                    or(runtime::sleep(AGAIN_AFTER), self.gate.closing()).await;
                    if self.gate.is_closed() {
                        return None;
                    }
                }
            }
        }
    }

    /// The attempt, and in the same record the notice about what has an end. Answers whose delay is
    /// to be told.
    async fn record_tried(
        &self,
        entry: EntryKey,
        destination: &str,
        outcome: &Outcome,
    ) -> Result<Vec<u16>, StoreError> {
        let judge = |seen: QueueEntry<'_>| {
            let mut judged = self.schedule.judge(entry, &seen, outcome);
            let is_elsewhere = |ordinal: u16| {
                let recipient = seen.outbound.recipients.get(usize::from(ordinal));
                recipient.is_some_and(|r| r.destination != destination)
            };
            for result in &mut judged.tried.results {
                // Rerouted meanwhile: that one has done nothing yet that one would wait for.
                if let RecipientState::Waiting { due } = &mut result.state
                    && is_elsewhere(result.ordinal)
                {
                    *due = outcome.at;
                }
            }
            let noted = Noted::of(&seen, &judged.tried, outcome);
            (judged, noted)
        };
        let Some((judged, noted)) = self.remote.queue_entry(entry, judge) else {
            return Ok(Vec::new());
        };
        let Judged {
            tried,
            ends,
            delays,
        } = judged;
        let mut telling = self.teller.notice(entry, &ends, Some(&tried)).await?;
        let notice = telling.notice.take();
        let lost: Vec<_> = noted.iter().filter(|noted| noted.is_lost()).collect();
        let is_sampled = !lost.is_empty() && self.doubles.wants_sample();
        let header = match is_sampled {
            true => self.teller.header(entry).await,
            false => Vec::new(),
        };
        let (hop, at) = (tried.hop.clone(), tried.at);
        self.remote.queue_tried(entry, tried, notice).await?;
        noted.iter().for_each(|noted| noted.tell(&hop));
        for noted in lost {
            let why = noted.result.reply.as_str();
            self.doubles.add(&address(&noted.rcpt), why, at, &header);
        }
        if let Some((sender, why)) = telling.unreached() {
            self.doubles.add(sender, why, at, &[]);
        }
        telling.tell();
        Ok(delays)
    }

    /// A sender is told once of all that is late, whichever destination found it out first.
    async fn record_delays(&self, entry: EntryKey, delays: &[u16]) -> Result<(), StoreError> {
        if delays.is_empty() {
            return Ok(());
        }
        while self.telling.borrow().contains(&entry) {
            self.telling_told.notified().await;
        }
        let _alone = Alone::begin(self, entry);
        let late = self.remote.queue_entry(entry, |seen| late(&seen, delays));
        let late = late.unwrap_or_default();
        let about: Vec<_> = late.iter().map(|n| (*n, Action::Delayed)).collect();
        if about.is_empty() {
            return Ok(());
        }
        let mut telling = self.teller.notice(entry, &about, None).await?;
        let (told, notice) = (Steering::DelayTold, telling.notice.take());
        self.remote.queue_steer(entry, late, told, notice).await?;
        telling.tell();
        Ok(())
    }
}

/// Recipients whose delay is to be told: those, and whoever else was tried and waits.
fn late(seen: &QueueEntry<'_>, delays: &[u16]) -> Vec<u16> {
    let of = seen.outbound.recipients.iter().zip(0..);
    of.filter(|(recipient, ordinal)| {
        let is_waiting = matches!(recipient.state, RecipientState::Waiting { .. });
        let is_tried = recipient.last.is_some() || delays.contains(ordinal);
        let wants = recipient.rcpt.notify.is_none_or(|notify| notify.delay);
        is_waiting && is_tried && wants && !recipient.is_delay_told
    })
    .map(|(_, ordinal)| ordinal)
    .collect()
}

/// Nobody else tells of delays of this entry meanwhile.
struct Alone<'s> {
    shop: &'s Shop,
    entry: EntryKey,
}

impl<'s> Alone<'s> {
    fn begin(shop: &'s Shop, entry: EntryKey) -> Self {
        shop.telling.borrow_mut().insert(entry);
        Alone { shop, entry }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.shop.telling.borrow_mut().remove(&self.entry);
        self.shop.telling_told.notify_all();
    }
}

/// What is counted and logged of one recipient of an attempt, once it is on record.
struct Noted {
    trace: Option<TraceId>,
    rcpt: Path,
    class: counters::Class,
    /// Nobody gets the message back.
    is_from_nobody: bool,
    reason: Option<Reason>,
    result: TriedRecipient,
    tries: u32,
}

impl Noted {
    fn of(seen: &QueueEntry<'_>, tried: &Tried, outcome: &Outcome) -> Vec<Noted> {
        let noted = |result: &TriedRecipient| {
            let recipients = &seen.outbound.recipients;
            let recipient = recipients.get(usize::from(result.ordinal))?;
            let mut verdicts = outcome.verdicts.iter();
            let reason = verdicts.find_map(|one| match one.verdict {
                Verdict::Deferred(reason) if one.ordinal == result.ordinal => Some(reason),
                _ => None,
            });
            Some(Noted {
                class: seen.class().into(),
                is_from_nobody: seen.outbound.mail.path == Path::Null,
                reason,
                trace: seen.trace,
                rcpt: recipient.rcpt.path.clone(),
                result: result.clone(),
                tries: recipient.tries.saturating_add(1),
            })
        };
        tried.results.iter().filter_map(noted).collect()
    }

    /// It is given up, and nobody is told.
    fn is_lost(&self) -> bool {
        let state = self.result.state;
        self.is_from_nobody && matches!(state, RecipientState::Failed | RecipientState::Expired)
    }

    fn tell(&self, hop: &str) {
        let result = &self.result;
        let (fate, name) = match result.state {
            RecipientState::Delivered => {
                counters::RECIPIENTS.increment((counters::Fate::Delivered, self.class));
                // The attempt has told it, with more.
                return;
            }
            RecipientState::Failed => (counters::Fate::Failed, event::MESSAGE_FAILED),
            RecipientState::Expired => (counters::Fate::Expired, event::MESSAGE_FAILED),
            _ => (counters::Fate::Deferred, event::MESSAGE_DEFERRED),
        };
        counters::RECIPIENTS.increment((fate, self.class));
        if let Some(reason) = self.reason {
            counters::DEFERRED.increment(reason);
        }
        log_event!(
            INFO,
            name,
            message = self.trace.map(|t| t.to_string()),
            rcpt = %self.rcpt,
            state = result.state.word(),
            host = hop,
            status = result.status.as_str(),
            reply = result.reply.as_str(),
            tries = u64::from(self.tries)
        );
    }
}
