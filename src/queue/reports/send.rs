//! Reports on their way: collected from all shards, composed, and given to the queue as mail or to
//! web servers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::posts::{self, Post};
use crate::base::{Deadline, PartitionId, ShardId, TraceId, UnixMs, crc32c};
use crate::observe::{event, log_event};
use crate::queue::route::report::{Day, PolicyKey, PolicyTally, Report, ReportMail, Rua};
use crate::queue::service::{Request, Shop};
use crate::queue::{TLS_WAIVED, counters, own};
use crate::runtime;
use crate::store::{MailClass, Outbound, StoreError};
use crate::wire::address::{Domain, Mailbox, Path};

/// How long a report may take to become durable.
const PLACE_SPAN: Duration = Duration::from_secs(60);
/// RFC 8460 5.5: what cannot be delivered within a day is given up.
const EXPIRE_MS: i64 = 24 * 3_600_000;
/// So many domains one after the other whose DNS does not answer: it is ours that does not.
const UNANSWERED_MAX: usize = 20;

/// What each shard counted of one domain on one day.
type Parts = Vec<(ShardId, Vec<PolicyTally>)>;

/// What became of one report.
enum Reported {
    Done,
    /// Who wants it is not known now.
    Unanswered,
}

impl Shop {
    /// Reports on all days before `end`. False: some are to be tried again.
    pub(super) async fn send_reports(self: &Rc<Self>, end: Day) -> bool {
        if self.reporter.is_sending.replace(true) {
            return false;
        }
        let sent = self.send_collected(end).await;
        self.post_reports().await;
        self.reporter.is_sending.set(false);
        sent
    }

    async fn send_collected(self: &Rc<Self>, end: Day) -> bool {
        let Some(collected) = self.collect(end).await else {
            return false;
        };
        let (mut all, mut unanswered) = (true, 0);
        for ((day, domain), parts) in collected {
            if self.gate.is_closed() || unanswered >= UNANSWERED_MAX {
                return false;
            }
            match self.report(day, &domain, &parts).await {
                Ok(Reported::Done) => {
                    unanswered = 0;
                    self.forget(day, parts).await;
                }
                Ok(Reported::Unanswered) => (all, unanswered) = (false, unanswered + 1),
                Err(why) => {
                    tracing::warn!(?why, domain, "a TLS report is not sent yet");
                    all = false;
                }
            }
            runtime::yield_if_needed().await;
        }
        all
    }

    async fn collect(self: &Rc<Self>, end: Day) -> Option<BTreeMap<(Day, String), Parts>> {
        let mut collected = BTreeMap::<(Day, String), Parts>::new();
        for shard in (0..self.mesh.shards()).map(ShardId) {
            let days = match shard == self.id {
                true => self.tallies(end),
                false => {
                    let request = |reply| Request::Tallies { end, reply };
                    self.ask(shard, request).await.ok()?
                }
            };
            for (day, tallies) in days {
                for tally in tallies {
                    let key = (day, tally.policy.domain.clone());
                    let parts = collected.entry(key).or_default();
                    match parts.last_mut() {
                        Some((of, tallies)) if *of == shard => tallies.push(tally),
                        _ => parts.push((shard, vec![tally])),
                    }
                }
            }
        }
        Some(collected)
    }

    /// The shards need not keep any more what a domain was told.
    async fn forget(self: &Rc<Self>, day: Day, parts: Parts) {
        for (shard, tallies) in parts {
            if shard == self.id {
                self.reported(day, &tallies).await;
                continue;
            }
            let request = |reply| Request::Reported {
                day,
                tallies,
                reply,
            };
            if self.ask(shard, request).await.is_err() {
                tracing::warn!(%shard, "a TLS report that was sent may be sent again");
            }
        }
    }

    /// One report, to all who want it.
    async fn report(&self, day: Day, domain: &str, parts: &Parts) -> Result<Reported, StoreError> {
        let wanted = match self.means.router.report_destinations(domain).await {
            Ok(wanted) => wanted,
            Err(error) if error.is_temporary() => return Ok(Reported::Unanswered),
            Err(_) => Vec::new(),
        };
        let (Some(from), false) = (&self.reporter.from, wanted.is_empty()) else {
            return Ok(Reported::Done);
        };
        let tallies = merged(parts);
        let now = runtime::unix_now();
        // The same whenever it is made, but on a day that is not over.
        let begun = if now > day.end() { day.begin() } else { now };
        let submitter = match &from.domain {
            Domain::Name(name) => name.clone(),
            literal => literal.to_string(),
        };
        let contact = from.to_string();
        let report = Report {
            id: TraceId::new(begun, crc32c(domain.as_bytes()).0),
            organization: &self.reporter.organization,
            submitter: &submitter,
            contact: &contact,
            domain,
            day,
            tallies: &tallies,
        };
        for (n, rua) in wanted.into_iter().enumerate() {
            match rua {
                Rua::Mail(to) => self.mail(&report, from, &to, now).await?,
                Rua::Https(uri) => self.put_post(&report, uri, n).await?,
            }
        }
        Ok(Reported::Done)
    }

    /// Into the queue: signed, with nobody told about it, and whatever the domain asks of TLS
    /// (RFC 8460 5.3.1).
    async fn mail(
        &self,
        report: &Report<'_>,
        from: &Mailbox,
        to: &str,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let (sender, domain) = (from.to_string(), report.domain);
        let mail = ReportMail {
            from: &sender,
            to,
            now,
        };
        let (Ok(text), Ok(mailbox)) = (report.compose(&mail), Mailbox::parse(to)) else {
            return Ok(());
        };
        let signatures = (self.reporter.sign)(&[TLS_WAIVED, &text].concat());
        let way = (self.teller.ways)(&mailbox, &Path::Mailbox(from.clone()));
        let unsent = |why: &'static str| {
            counters::REPORTS.increment(counters::ReportFate::Unsent);
            log_event!(INFO, event::REPORT_FAILED, domain, to, why);
        };
        // RFC 8460 3: without a signature it would be ignored.
        if signatures.is_empty() {
            unsent("its sender's domain has no DKIM key: palomar dkim");
            return Ok(());
        }
        if way.is_nowhere() {
            unsent("there is nobody of that name here");
            return Ok(());
        }
        let mut incoming = self.remote.incoming();
        incoming.write(&text).await?;
        let message = incoming.finish().await?;
        let head = [&signatures, TLS_WAIVED].concat();
        let is_leaving = !way.elsewhere.is_empty();
        let outbound = is_leaving.then(|| Box::new(outbound(from, &way.elsewhere, head, now)));
        let trace = runtime::trace_id();
        let until = Deadline::after(runtime::now(), PLACE_SPAN);
        let sent = self
            .remote
            .send(message, way.targets, outbound, trace, until);
        sent.await?;
        counters::REPORTS.increment(counters::ReportFate::Mailed);
        let (day, report) = (report.day.to_string(), report.id);
        log_event!(INFO, event::REPORT_SENT, message = %trace, domain, to, day, %report);
        Ok(())
    }

    async fn put_post(&self, report: &Report<'_>, uri: String, n: usize) -> Result<(), StoreError> {
        let Ok(gzipped) = report.gzipped() else {
            return Ok(());
        };
        let post = Post::new(uri, report.domain.to_owned(), &gzipped);
        let key = format!("{}/{n}", report.id);
        let home = PartitionId::queue(self.id.0);
        if !posts::put(&self.remote, home, &key, &post).await? {
            self.note_unposted(&post, "too many wait already");
        }
        Ok(())
    }

    /// Offers what waits to web servers.
    pub(super) async fn post_reports(&self) {
        for (partition, key, post) in posts::posts(&self.remote) {
            if self.gate.is_closed() {
                return;
            }
            let gzipped = post.gzipped();
            let posted = self.means.router.post_report(&post.uri, &gzipped).await;
            match posted {
                Ok(()) => {
                    counters::REPORTS.increment(counters::ReportFate::Posted);
                    let (domain, to) = (&post.domain, &post.uri);
                    log_event!(INFO, event::REPORT_SENT, domain, to);
                }
                Err(why) if post.is_over(runtime::unix_now()) => {
                    self.note_unposted(&post, &why.to_string());
                }
                Err(why) => {
                    tracing::info!(%why, uri = post.uri, "a TLS report is posted again later");
                    continue;
                }
            }
            if let Err(why) = posts::remove(&self.remote, partition, &key).await {
                tracing::warn!(?why, "a TLS report that was posted may be posted again");
            }
        }
    }

    fn note_unposted(&self, post: &Post, why: &str) {
        counters::REPORTS.increment(counters::ReportFate::Unsent);
        let (domain, to) = (&post.domain, &post.uri);
        log_event!(WARN, event::REPORT_FAILED, domain, to, why);
    }
}

/// What all shards counted.
fn merged(parts: &Parts) -> Vec<PolicyTally> {
    let mut all = BTreeMap::<&PolicyKey, PolicyTally>::new();
    for tally in parts.iter().flat_map(|(_, tallies)| tallies) {
        match all.get_mut(&tally.policy) {
            Some(known) => known.counts.merge(tally.counts.clone()),
            None => drop(all.insert(&tally.policy, tally.clone())),
        }
    }
    all.into_values().collect()
}

fn outbound(from: &Mailbox, to: &[Mailbox], head: Vec<u8>, now: UnixMs) -> Outbound {
    let expires = UnixMs(now.0.saturating_add(EXPIRE_MS));
    Outbound {
        head,
        ..own::outbound(
            Path::Mailbox(from.clone()),
            to,
            MailClass::Bulk,
            now,
            expires,
        )
    }
}
