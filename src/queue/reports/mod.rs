//! TLS reports (RFC 8460): what the router counts is kept, and after the day's end sent to the
//! domains that want it. docs/QUEUE.md, "TLS reports".
//!
//! Each shard keeps what it counted ([`kept`]) every few minutes and at its end; a crash loses what
//! was counted since. Shard 0 reports for all: it asks every shard for what was counted, puts the
//! reports into its queue as mail, or into [`posts`] for web servers, and then tells the shards what
//! they need not keep any more. A crash in between sends a report again, under the same id.

mod kept;
mod posts;
mod send;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use serde::{Deserialize, Serialize};

use super::route::report::{Day, Days, Failure, PolicyTally};
use super::service::Shop;
use crate::base::{PartitionId, ShardId, UnixMs, crc32c};
use crate::config::Config;
use crate::runtime::local::Notify;
use crate::runtime::{self, spawn_in};
use crate::store::Remote;
use crate::wire::address::Mailbox;

/// From one look to the next: what is new is kept, what is due is sent.
const TICK: Duration = Duration::from_secs(300);
/// What a web server did not take is offered again every so many ticks.
const POST_TICKS: u32 = 12;
/// RFC 8460 4.1 asks reporters not to come all at midnight.
const SPREAD_MS: u64 = 4 * 3_600_000;

/// Signs a message that we make: header lines, none where we have no key for who it is from.
pub type Signer = Rc<dyn Fn(&[u8]) -> Vec<u8>>;

/// What reports are made with, on one shard.
pub(super) struct Reporter {
    is_on: bool,
    /// Who they are from.
    from: Option<Mailbox>,
    organization: String,
    sign: Signer,
    is_sending: Cell<bool>,
    /// Somebody writes what was counted.
    is_keeping: Cell<bool>,
    kept: Notify,
    /// Values in partitions that are not this shard's own: their counts are kept in its own now.
    foreign: RefCell<Vec<(PartitionId, Day, String)>>,
}

/// What was counted of one domain on one day under one policy, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    pub day: String,
    pub domain: String,
    /// `tlsa`, `sts` or `no-policy-found`.
    pub policy: String,
    pub successes: u64,
    pub failures: u64,
    /// What failed most often.
    pub why: Option<String>,
}

impl Reporter {
    pub fn new(config: &Config, sign: Signer) -> Self {
        let relay = &config.smtp.relay;
        let domain = config.domains.first().map(ToString::to_string);
        let organization = domain.unwrap_or_else(|| config.hostname.to_string());
        let from = match &relay.tls_reports_from {
            Some(address) => address.as_str().to_owned(),
            None => format!("postmaster@{organization}"),
        };
        Reporter {
            is_on: relay.tls_reports,
            from: Mailbox::parse(&from).ok(),
            organization,
            sign,
            is_sending: Cell::new(false),
            is_keeping: Cell::new(false),
            kept: Notify::new(),
            foreign: RefCell::default(),
        }
    }

    /// When what was counted on `day` is reported: within hours of its end, at the same moment
    /// however often this is asked.
    fn due(&self, day: Day) -> UnixMs {
        let seed = format!("{}/{}", self.organization, day.number());
        let wait = u64::from(crc32c(seed.as_bytes()).0).wrapping_mul(0x9e37_79b9) % SPREAD_MS;
        UnixMs(day.next().begin().0.saturating_add(wait as i64))
    }
}

/// Counts go on where they were.
pub(super) fn take_up(shop: &Shop) {
    if !shop.reporter.is_on {
        return;
    }
    let home = PartitionId::queue(shop.id.0);
    let mut all = kept::kept(&shop.remote);
    // What is added to it by others is to be kept.
    all.sort_by_key(|kept| kept.partition != home);
    for kept in all {
        let is_own = kept.partition == home;
        let (day, domain) = (kept.day, kept.domain);
        shop.means.router.with_tally(|tally| {
            tally.add(day, kept.tallies);
            if is_own {
                tally.note_kept(day, &domain);
            }
        });
        if !is_own {
            let mut foreign = shop.reporter.foreign.borrow_mut();
            foreign.push((kept.partition, day, domain));
        }
    }
}

/// Keeps and sends until the gate closes and nothing is counted any more.
pub(super) async fn keep_and_send(shop: Rc<Shop>) {
    if !shop.reporter.is_on {
        return;
    }
    shop.keep_tallies().await;
    let (mut told, mut ticks) = (None, 0);
    while !shop.gate.is_closed() {
        or(runtime::rest(TICK), shop.gate.closing()).await;
        if shop.gate.is_closed() {
            break;
        }
        shop.keep_tallies().await;
        if shop.id != ShardId(0) {
            continue;
        }
        let now = runtime::unix_now();
        let today = Day::of(now);
        if told != Some(today) && now >= shop.reporter.due(today.before()) {
            let all = shop.send_reports(today).await;
            told = all.then_some(today);
        }
        ticks += 1;
        if ticks % POST_TICKS == 0 {
            shop.post_reports().await;
        }
    }
    shop.is_over().await;
    shop.keep_tallies().await;
}

impl Shop {
    /// What was counted before `end` on this shard.
    pub(super) fn tallies(&self, end: Day) -> Days {
        self.means.router.with_tally(|tally| tally.before(end))
    }

    /// A domain was told this: it need not be kept any more.
    pub(super) async fn reported(&self, day: Day, tallies: &[PolicyTally]) {
        let router = &self.means.router;
        router.with_tally(|tally| tally.subtract(day, tallies));
        self.keep_tallies().await;
    }

    /// Makes durable what changed since the last time.
    pub(super) async fn keep_tallies(&self) {
        let reporter = &self.reporter;
        // One after the other: an older value must not come behind a newer one.
        while reporter.is_keeping.get() {
            reporter.kept.notified().await;
        }
        let _keeping = Keeping::begin(reporter);
        let router = &self.means.router;
        let changed = router.with_tally(|tally| {
            let changed = tally.take_changed().into_iter();
            let counts = changed.map(|(day, domain)| {
                let tallies = tally.of(day, &domain);
                (day, domain, tallies)
            });
            counts.collect::<Vec<_>>()
        });
        let home = PartitionId::queue(self.id.0);
        let failed = kept::keep(&self.remote, home, changed).await;
        if !failed.is_empty() {
            router.with_tally(|tally| {
                let each = failed.into_iter();
                each.for_each(|(day, domain)| tally.still_changed(day, domain));
            });
            return;
        }
        // A crash before this counts them twice, once, after the number of shards was changed.
        for (partition, day, domain) in reporter.foreign.take() {
            let gone = vec![(day, domain, Vec::new())];
            kept::keep(&self.remote, partition, gone).await;
        }
    }

    /// Reports on all days before `end` in the background, unless that is under way.
    pub(super) fn begin_reports(self: &Rc<Self>, end: Day) {
        let shop = self.clone();
        spawn_in(&self.gate, "queue-reports", async move {
            shop.send_reports(end).await;
        });
    }
}

/// Lets the next one begin, however this one ends.
struct Keeping<'r>(&'r Reporter);

impl<'r> Keeping<'r> {
    fn begin(reporter: &'r Reporter) -> Self {
        reporter.is_keeping.set(true);
        Keeping(reporter)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0.is_keeping.set(false);
        self.0.kept.notify_all();
    }
}

/// What is kept on a stopped server.
#[must_use]
pub(super) fn kept_rows(remote: &Remote) -> Vec<ReportRow> {
    let kept = kept::kept(remote).into_iter();
    rows(kept.map(|kept| (kept.day, kept.tallies)).collect())
}

/// For people.
#[must_use]
pub(super) fn rows(days: Days) -> Vec<ReportRow> {
    let of_day = |(day, tallies): (Day, Vec<PolicyTally>)| {
        tallies.into_iter().map(move |tally| {
            let most = tally.counts.details.iter().max_by_key(|(_, count)| **count);
            let why = |(failure, _): (&Failure, &u64)| failure.kind.name().to_owned();
            ReportRow {
                day: day.to_string(),
                why: most.map(why),
                domain: tally.policy.domain,
                policy: tally.policy.kind.name().to_owned(),
                successes: tally.counts.successes,
                failures: tally.counts.failures,
            }
        })
    };
    join_rows(days.into_iter().flat_map(of_day))
}

/// What several shards counted, by day and domain.
#[must_use]
pub(super) fn join_rows(rows: impl Iterator<Item = ReportRow>) -> Vec<ReportRow> {
    let mut all = BTreeMap::<(String, String, String), ReportRow>::new();
    for row in rows {
        let key = (row.day.clone(), row.domain.clone(), row.policy.clone());
        match all.get_mut(&key) {
            Some(known) => {
                known.successes += row.successes;
                known.failures += row.failures;
                known.why = known.why.take().or(row.why);
            }
            None => drop(all.insert(key, row)),
        }
    }
    all.into_values().collect()
}
