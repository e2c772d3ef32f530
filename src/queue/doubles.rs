//! Double bounces: notices, and other mail from nobody, that could not be delivered. Nobody gets them
//! back, so the postmaster is told of all of them, at most once a day, in one message of bounded
//! size.
//!
//! Each shard collects, and keeps what it has as a value of its queue partition every few minutes
//! and at a stop: a crash loses what came since. Shard 0 asks all for theirs.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use serde::{Deserialize, Serialize};

use super::counters;
use super::service::{Request, Shop};
use crate::base::{Deadline, PartitionId, ShardId, TraceId, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::store::{Remote, StoreError, ValueChange};
use crate::wire::address::Path;
use crate::wire::dates::{DateTime, format_date};

const NAMESPACE: &str = "double-bounce";
const COLLECTED: &[u8] = b"collected";
const TOLD: &[u8] = b"told";
/// From one look to the next.
const TICK: Duration = Duration::from_secs(300);
const PUT_SPAN: Duration = Duration::from_secs(20);
/// From one digest to the next, and from the first bounce to the digest.
const DAY_MS: i64 = 24 * 3_600_000;
const PATIENCE_MS: i64 = 3_600_000;

/// Lines of a digest; what has none is in the sum alone.
const ROWS_MAX: usize = 200;
const WHY_CHARS_MAX: usize = 300;
/// Messages whose header begins the digest's end.
const SAMPLES_MAX: usize = 3;
const SAMPLE_LINES_MAX: usize = 20;
const SAMPLE_BYTES_MAX: usize = 2_000;

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    total: u64,
    since: Option<UnixMs>,
    rows: Vec<Row>,
    samples: Vec<String>,
}

/// One recipient, and why he was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    to: String,
    why: String,
    count: u64,
    last: UnixMs,
}

/// What one shard has.
#[derive(Default)]
pub(super) struct Collector {
    is_on: bool,
    collected: RefCell<Digest>,
    /// Given to shard 0, which has not said yet that the postmaster was told.
    handed: RefCell<Digest>,
    is_changed: Cell<bool>,
}

impl Digest {
    fn add(&mut self, to: &str, why: &str, at: UnixMs, count: u64) {
        self.total += count;
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
        let known = |row: &&mut Row| row.to == to && row.why == why;
        if let Some(row) = self.rows.iter_mut().find(known) {
            row.count += count;
            row.last = row.last.max(at);
        } else if self.rows.len() < ROWS_MAX {
            self.rows.push(Row {
                to: to.to_owned(),
                why: why.to_owned(),
                count,
                last: at,
            });
        }
    }

    fn merge(&mut self, other: Digest) {
        let told: u64 = other.rows.iter().map(|row| row.count).sum();
        for row in other.rows {
            self.add(&row.to, &row.why, row.last, row.count);
        }
        self.total += other.total.saturating_sub(told);
        self.since = [self.since, other.since].into_iter().flatten().min();
        let room = SAMPLES_MAX.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.into_iter().take(room));
    }

    /// The message, with CRLF line ends.
    fn compose(&self, id: TraceId, hostname: &str, domain: &str, now: UnixMs) -> String {
        let (total, since) = (self.total, date(self.since.unwrap_or(now)));
        let mut out = format!(
            "From: Postmaster <postmaster@{domain}>\r\nTo: <postmaster@{domain}>\r\n\
             Subject: Notices that could not be delivered: {total}\r\nDate: {date}\r\n\
             Message-ID: <{id}.doubles@{domain}>\r\nAuto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n\
             This is the mail server {hostname}. Since {since}\r\n\
             it could not deliver {total} notices, or other messages that nobody gets back.\r\n\
             Most are answers to forged senders. Many of one kind may be a way of yours that is\r\n\
             broken, or somebody here who sends under a wrong address.\r\n\r\n",
            date = date(now),
        );
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| (u64::MAX - row.count, &row.to));
        for row in rows {
            let Row { to, why, count, .. } = row;
            let last = date(row.last);
            let _ = write!(out, "{count:>6}  <{to}>, last {last}\r\n        {why}\r\n");
        }
        let told: u64 = self.rows.iter().map(|row| row.count).sum();
        if total > told {
            let _ = write!(out, "{:>6}  others\r\n", total - told);
        }
        for sample in &self.samples {
            out.push_str("\r\nThe header of one of them begins:\r\n");
            for line in sample.lines() {
                let _ = write!(out, "  {line}\r\n");
            }
        }
        out
    }
}

impl Collector {
    /// Goes on with what is kept in this shard's partitions.
    pub fn take_up(remote: &Remote, is_on: bool) -> Self {
        let collector = Collector {
            is_on,
            ..Collector::default()
        };
        let kept = remote.queue_values(NAMESPACE).into_iter();
        for (_, _, value) in kept.filter(|(_, key, _)| key == COLLECTED) {
            if let Ok(digest) = serde_json::from_slice(&value) {
                collector.collected.borrow_mut().merge(digest);
            }
        }
        collector
    }

    /// Somebody who was to be told something was not reached. `header`: of what he was to have.
    pub fn add(&self, to: &str, why: &str, at: UnixMs, header: &[u8]) {
        counters::DOUBLES.increment();
        if !self.is_on {
            return;
        }
        let mut collected = self.collected.borrow_mut();
        collected.add(&one_line(to, 320), &one_line(why, WHY_CHARS_MAX), at, 1);
        if collected.samples.len() < SAMPLES_MAX && !header.is_empty() {
            collected.samples.push(sample(header));
        }
        self.is_changed.set(true);
    }

    /// Whether a header is of any use.
    pub fn wants_sample(&self) -> bool {
        self.is_on && self.collected.borrow().samples.len() < SAMPLES_MAX
    }

    /// For the digest: it stays here until that is sent.
    pub fn hand(&self) -> Digest {
        let collected = self.collected.take();
        let mut handed = self.handed.borrow_mut();
        handed.merge(collected);
        handed.clone()
    }

    pub fn told(&self) {
        self.handed.take();
        self.is_changed.set(true);
    }

    fn all(&self) -> Digest {
        let mut all = self.handed.borrow().clone();
        all.merge(self.collected.borrow().clone());
        all
    }
}

/// Keeps what is collected, and tells it, until the gate closes.
pub(super) async fn collect_doubles(shop: Rc<Shop>) {
    if !shop.doubles.is_on {
        return;
    }
    while !shop.gate.is_closed() {
        or(runtime::rest(TICK), shop.gate.closing()).await;
        shop.keep_doubles().await;
        if shop.id == ShardId(0) && !shop.gate.is_closed() {
            shop.tell_doubles().await;
        }
    }
    shop.is_over().await;
    shop.keep_doubles().await;
}

impl Shop {
    pub(super) async fn keep_doubles(&self) {
        if !self.doubles.is_changed.replace(false) {
            return;
        }
        let all = self.doubles.all();
        let value = match all == Digest::default() {
            true => None,
            false => Some(serde_json::to_vec(&all).expect("plain values")),
        };
        let home = PartitionId::queue(self.id.0);
        if let Err(why) = self.put_double(home, COLLECTED, value).await {
            tracing::warn!(?why, "double bounces are not kept yet");
            self.doubles.is_changed.set(true);
            return;
        }
        // What was another shard's is part of it now.
        let values = self.remote.queue_values(NAMESPACE).into_iter();
        let others = values.filter(|(partition, ..)| *partition != home);
        for (partition, key, _) in others {
            if let Err(why) = self.put_double(partition, &key, None).await {
                tracing::warn!(?why, "double bounces are told twice");
            }
        }
    }

    async fn put_double(
        &self,
        partition: PartitionId,
        key: &[u8],
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let change = ValueChange {
            account: None,
            namespace: NAMESPACE.to_owned(),
            key: key.to_vec(),
            value,
        };
        let until = Deadline::after(runtime::now(), PUT_SPAN);
        self.remote.set_values(partition, vec![change], until).await
    }

    /// One digest of all shards, where it is time for one.
    async fn tell_doubles(self: &Rc<Self>) {
        let now = runtime::unix_now();
        let told = self.remote.queue_value(NAMESPACE, TOLD);
        let told: Option<UnixMs> = told.and_then(|value| serde_json::from_slice(&value).ok());
        if told.is_some_and(|told| (0..DAY_MS).contains(&(now.0 - told.0))) {
            return;
        }
        let mut digest = Digest::default();
        for shard in (0..self.mesh.shards()).map(ShardId) {
            let of_shard = match shard == self.id {
                true => Ok(self.doubles.hand()),
                false => self.ask(shard, |reply| Request::Doubles { reply }).await,
            };
            let Ok(of_shard) = of_shard else { return };
            digest.merge(of_shard);
        }
        if digest
            .since
            .is_none_or(|since| now.0 - since.0 < PATIENCE_MS)
        {
            return;
        }
        match self.send_doubles(&digest, now).await {
            Ok(()) => self.forget_doubles().await,
            Err(why) => tracing::warn!(?why, "the postmaster is not told of double bounces yet"),
        }
    }

    async fn send_doubles(&self, digest: &Digest, now: UnixMs) -> Result<(), StoreError> {
        // First: rather no digest for a day than two.
        let home = PartitionId::queue(self.id.0);
        let value = serde_json::to_vec(&now).expect("a number");
        self.put_double(home, TOLD, Some(value)).await?;
        let (trace, domain) = (runtime::trace_id(), &self.teller.domain);
        let Some(to) = self.teller.postmaster() else {
            return Ok(());
        };
        let way = (self.teller.ways)(&to, &Path::Null);
        if way.is_nowhere() {
            let why = "nobody reads the postmaster's mail: set postmaster";
            log_event!(WARN, event::NOTICE_DROPPED, message = %trace, %to, why);
            return Ok(());
        }
        let text = digest.compose(trace, &self.teller.hostname, domain, now);
        self.teller.send(text.as_bytes(), way, trace).await?;
        let about = format!("{} double bounces", digest.total);
        log_event!(INFO, event::NOTICE_MADE, message = %trace, about, %to, recipients = 1);
        Ok(())
    }

    async fn forget_doubles(self: &Rc<Self>) {
        for shard in (0..self.mesh.shards()).map(ShardId) {
            if shard == self.id {
                self.doubles.told();
                self.keep_doubles().await;
            } else {
                self.post(shard, Request::DoublesTold).await;
            }
        }
    }
}

/// The first lines of a header.
fn sample(header: &[u8]) -> String {
    let header = String::from_utf8_lossy(&header[..header.len().min(SAMPLE_BYTES_MAX)]);
    let lines = header.lines().take(SAMPLE_LINES_MAX);
    let lines: Vec<String> = lines.map(|line| one_line(line, 200)).collect();
    lines.join("\n")
}

fn date(at: UnixMs) -> String {
    format_date(DateTime {
        at,
        zone_minutes: 0,
    })
}

fn one_line(text: &str, chars_max: usize) -> String {
    let harmless = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    harmless.take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_bounded_and_add_up() {
        let mut one = Digest::default();
        for n in 0..1_000 {
            one.add(&format!("u{n}@a.test"), "550 no", UnixMs(n), 1);
            one.add("often@a.test", "550 no", UnixMs(n), 1);
        }
        let mut other = one.clone();
        other.samples = vec!["Subject: one".to_owned(); 9];
        one.merge(other);
        assert_eq!(
            (one.total, one.rows.len(), one.samples.len()),
            (4_000, ROWS_MAX, SAMPLES_MAX)
        );
        assert_eq!(one.since, Some(UnixMs(0)));
        let text = one.compose(TraceId::new(UnixMs(0), 1), "mx.test", "test", UnixMs(5_000));
        let often = text.find("  2000  <often@a.test>, last ").expect("a row");
        assert!(text.contains("\r\n  1602  others\r\n"), "{text}");
        assert!(often < text.find("<u1@a.test>").expect("another row"));
        assert!(text.len() < 64 << 10 && !text.replace("\r\n", "").contains('\n'));
    }
}
