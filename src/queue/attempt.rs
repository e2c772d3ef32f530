//! One attempt: a message, or its part for one destination, is offered to one hop after the other
//! until every recipient has an answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{
    Cause, Client, Content, ContentFault, Fate, Letter, MessageContent, Phase, Report, TlsState,
    Trouble,
};
use super::counters;
use super::desk::Health;
use super::route::{Hop, Misfit, NoRoute, Ours, Plan, Router, SessionEnd};
use super::schedule::{Outcome, Verdict, Verdicts};
use super::under_way::{Counted, UnderWay};
use crate::base::{Deadline, TraceId, UnixMs};
use crate::net::OutgoingTls;
use crate::observe::{event, log_event};
use crate::runtime::{self, Disk, Gate};
use crate::store::Message;
use crate::wire::smtp::{Enhanced, MailFrom, PeerReply, RcptTo};

/// How long a destination's hops may be looked up.
const PLAN_SPAN: Duration = Duration::from_secs(60);
/// Connections that wait for another message.
const IDLE_MAX: usize = 64;

/// What an attempt is made with, on one shard.
pub(super) struct Means {
    pub disk: Disk,
    pub router: Router,
    pub tls: OutgoingTls,
    pub ours: Ours,
    /// How long a connection waits for another message.
    pub idle: Duration,
    pub under_way: UnderWay,
    /// Closed: what is not sent whole yet is broken off.
    pub gate: Gate,
    pub kept: RefCell<Vec<Kept>>,
}

/// What is to be delivered.
#[derive(Debug)]
pub struct Work {
    pub trace: Option<TraceId>,
    pub mail: MailFrom,
    /// Before the message.
    pub head: Vec<u8>,
    pub message: Arc<Message>,
    pub recipients: Vec<(u16, RcptTo)>,
}

/// How far an attempt is.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// A hop is there.
    pub is_open: Cell<bool>,
    /// The hop has all of the letter. Kept until its answer is on record.
    sent: RefCell<Option<Counted>>,
}

/// An open connection that waits for another message.
pub(super) struct Kept {
    client: Client,
    hop: Hop,
    until: Instant,
}

/// The walk along the hops.
struct Walk<'m> {
    means: &'m Means,
    destination: &'m str,
    work: &'m Work,
    mark: &'m Mark,
    /// Recipients without an answer, as places in `Work::recipients`.
    left: Vec<usize>,
    verdicts: Vec<Verdicts>,
    /// What is said of those that are left when the hops run out.
    last: Option<(String, String)>,
    hop: String,
    health: Health,
    /// Some have an answer, and it is put on record before the others are offered.
    is_continued: bool,
    /// The message is not what was taken in.
    is_damaged: bool,
}

impl Means {
    /// Offers the work to its destination, up to the first transaction that brings answers but not
    /// for all. Who has no verdict is due at once still.
    pub async fn attempt(&self, destination: &str, work: &Work, mark: &Mark) -> (Outcome, Health) {
        let mut walk = Walk {
            means: self,
            destination,
            work,
            mark,
            left: (0..work.recipients.len()).collect(),
            verdicts: Vec::new(),
            last: None,
            hop: String::new(),
            health: Health::Away,
            is_continued: false,
            is_damaged: false,
        };
        let until = Deadline::after(runtime::now(), PLAN_SPAN);
        let planned = self.router.plan(destination, until).await;
        let hops = planned.and_then(|plan: Plan| match work.mail.require_tls {
            true => plan.with_required_tls(),
            false => Ok(plan.hops),
        });
        match hops {
            Ok(hops) => walk.along(&hops).await,
            Err(why) => walk.no_route(why),
        }
        walk.end()
    }

    /// Says good-bye on connections that waited long enough. When to look again.
    pub async fn end_idle(&self, all: bool) -> Option<Instant> {
        let now = runtime::now();
        let over: Vec<Kept> = {
            let mut kept = self.kept.borrow_mut();
            let (over, still) = std::mem::take(&mut *kept)
                .into_iter()
                .partition(|one| all || one.until <= now);
            *kept = still;
            over
        };
        for one in over {
            one.client.quit().await;
        }
        self.kept.borrow().iter().map(|one| one.until).min()
    }

    /// A kept connection to the same hop on the same terms.
    async fn kept(&self, hop: &Hop) -> Option<Client> {
        loop {
            let mut one = {
                let mut kept = self.kept.borrow_mut();
                let at = kept.iter().position(|one| one.hop.is_same(hop))?;
                kept.swap_remove(at)
            };
            if one.client.may_send().await {
                return Some(one.client);
            }
            one.client.quit().await;
        }
    }

    async fn keep(&self, mut client: Client, hop: Hop) {
        let has_room = self.kept.borrow().len() < IDLE_MAX && !self.idle.is_zero();
        if !has_room || !client.may_send().await {
            return client.quit().await;
        }
        let until = runtime::now() + self.idle;
        self.kept.borrow_mut().push(Kept { client, hop, until });
    }
}

impl Walk<'_> {
    async fn along(&mut self, hops: &[Hop]) {
        for hop in hops {
            if self.left.is_empty() || self.is_continued {
                break;
            }
            let began = runtime::now();
            let is_kept = match self.means.kept(hop).await {
                Some(client) => self.letters(hop, client).await,
                None => false,
            };
            // A connection that had been kept was dead: the hop is none the worse for it.
            if !is_kept && !self.left.is_empty() {
                match self.open(hop).await {
                    Ok((client, opened)) => match self.judged(&opened, client).await {
                        Ok(client) => drop(self.letters(hop, client).await),
                        Err(misfit) => self.misfit(hop, &misfit),
                    },
                    Err(trouble) => self.trouble(hop, &trouble),
                }
            }
            counters::ATTEMPT.observe(runtime::now().saturating_duration_since(began));
        }
    }

    /// A new connection, without TLS where TLS broke and nobody asks for it (RFC 7435 3).
    async fn open(&mut self, hop: &Hop) -> Result<(Client, Hop), Trouble> {
        let (means, trace) = (self.means, self.work.trace);
        let terms = Rc::new(hop.terms(&means.ours));
        let opened = Client::open(hop.address, hop.source, terms, &means.tls).await;
        let trouble = match opened {
            Ok(client) => {
                means.router.worked(hop.address.ip());
                return Ok((client, hop.clone()));
            }
            Err(unopened) => {
                let end = SessionEnd::Unopened(&unopened.trouble);
                means
                    .router
                    .count(self.destination, hop, &unopened.facts, end);
                unopened.trouble
            }
        };
        let clear = match trouble {
            Trouble::Handshake(_) => hop.in_the_clear(),
            _ => None,
        };
        let Some(clear) = clear else {
            return Err(trouble);
        };
        log_event!(
            INFO,
            event::TLS_FAILED,
            message = trace.map(|t| t.to_string()),
            host = hop.host.as_str(),
            address = %hop.address,
            why = %trouble,
            then = "sent without TLS"
        );
        let terms = Rc::new(clear.terms(&means.ours));
        let opened = Client::open(clear.address, clear.source, terms, &means.tls).await;
        let client = opened.map_err(|unopened| unopened.trouble)?;
        means.router.worked(hop.address.ip());
        Ok((client, clear))
    }

    /// The same connection, if its host is the one that policy asks for (docs/QUEUE.md, "Where to").
    async fn judged(&self, hop: &Hop, mut client: Client) -> Result<Client, Misfit> {
        let judged = hop.judge(client.facts(), runtime::unix_now());
        let end = match &judged {
            Ok(_) => SessionEnd::Used,
            Err(misfit) => SessionEnd::Misfit(misfit),
        };
        let router = &self.means.router;
        router.count(self.destination, hop, client.facts(), end);
        match judged {
            Ok(standing) => {
                client.judged(standing.is_verified);
                Ok(client)
            }
            Err(misfit) => {
                client.quit().await;
                Err(misfit)
            }
        }
    }

    /// Offers letters on one connection until one brings answers or the hop wants no more. False
    /// where the hop had gone before it heard anything.
    async fn letters(&mut self, hop: &Hop, mut client: Client) -> bool {
        self.hop = format!("{} [{}]", hop.host, hop.address);
        self.mark.is_open.set(true);
        while !self.left.is_empty() {
            let now: Vec<usize> = self
                .left
                .iter()
                .copied()
                .take(self.means.ours.recipients_max)
                .collect();
            let letter = Rc::new(self.letter(&now));
            let content = Sent::open(self.means, self.work, self.mark).await;
            let mut content = match content {
                Ok(content) => content,
                Err(fault) => {
                    self.ours(fault);
                    break;
                }
            };
            let report = client.send(letter, &mut content).await;
            if report.is_stale {
                client.quit().await;
                return false;
            }
            let waited = self.left.len();
            let goes_on = self.take(hop, &client, &now, report);
            self.is_continued = goes_on && (1..waited).contains(&self.left.len());
            if self.is_continued || !goes_on || !client.may_send().await {
                break;
            }
        }
        self.means.keep(client, hop.clone()).await;
        true
    }

    fn letter(&self, now: &[usize]) -> Letter {
        let work = self.work;
        let rcpt = |at: &usize| work.recipients[*at].1.clone();
        Letter {
            mail: work.mail.clone(),
            recipients: now.iter().map(rcpt).collect(),
            size: work.head.len() as u64 + work.message.size,
            // As every MTA of today does: what is lost by it is nothing, by a bounce the message.
            is_eight_bit_forced: true,
        }
    }

    /// What a letter came to. Whether more may be offered on this connection.
    fn take(&mut self, hop: &Hop, client: &Client, now: &[usize], report: Report) -> bool {
        if report.trouble.is_none() {
            self.health = Health::Well;
        }
        let tls = match &client.facts().tls {
            TlsState::Secured(peer) => peer.facts.version.to_owned(),
            TlsState::Plain | TlsState::Refused(_) => "none".to_owned(),
        };
        let mut goes_on = report.trouble.is_none();
        for (at, fate) in now.iter().zip(&report.fates) {
            match fate {
                Fate::Delivered(reply) => {
                    let is_dsn_passed = report.is_dsn_passed;
                    let verdict = Verdict::Delivered { is_dsn_passed };
                    self.settle(*at, verdict, status(reply, 2), reply.to_string());
                    log_event!(
                        INFO,
                        event::MESSAGE_SENT,
                        message = self.work.trace.map(|t| t.to_string()),
                        rcpt = %self.work.recipients[*at].1.path,
                        host = hop.host.as_str(),
                        address = %hop.address,
                        tls = tls.as_str(),
                        reply = %reply
                    );
                }
                // It wants the TLS that broke a moment ago (RFC 3207 4): no refusal of the message.
                Fate::Failed(Cause::Reply { reply, .. })
                    if hop.is_without_tls() && reply.code() == 530 =>
                {
                    self.last = Some(("4.7.0".to_owned(), reply.to_string()));
                    goes_on = false;
                }
                Fate::Failed(Cause::Reply { reply, .. }) => {
                    self.settle(*at, Verdict::Failed, status(reply, 5), reply.to_string());
                }
                Fate::Failed(cause) => {
                    self.settle(*at, Verdict::Failed, "5.1.3".into(), cause.to_string());
                }
                Fate::Deferred(Cause::Reply { phase, reply }) => {
                    let said = (status(reply, 4), reply.to_string());
                    match phase {
                        // Of this recipient, or of this message: no other host knows better.
                        Phase::Rcpt | Phase::Data | Phase::Content | Phase::End => {
                            self.settle(*at, Verdict::Deferred, said.0, said.1);
                        }
                        _ => {
                            self.health = Health::Pressed;
                            self.last = Some(said);
                            goes_on = false;
                        }
                    }
                }
                Fate::Deferred(_) => goes_on = false,
                Fate::Unsure => {
                    counters::UNSURE.increment();
                    let words = "the message was sent, and the connection ended before the \
                                 answer: it may arrive twice";
                    self.settle(*at, Verdict::Deferred, "4.4.2".into(), words.into());
                }
                Fate::Unfit(need) => {
                    // The next host may be fit for it, and one that was away may be another time.
                    if self
                        .last
                        .as_ref()
                        .is_none_or(|(status, _)| status.starts_with('5'))
                    {
                        self.last = Some((need.enhanced().to_string(), need.to_string()));
                    }
                    goes_on = false;
                }
                Fate::Next => {}
            }
        }
        if let Some(trouble) = &report.trouble {
            match trouble {
                Trouble::Content(fault) => self.ours(fault.clone()),
                trouble => self.trouble(hop, trouble),
            }
        }
        goes_on
    }

    fn settle(&mut self, at: usize, verdict: Verdict, status: String, reply: String) {
        self.left.retain(|left| *left != at);
        self.verdicts.push(Verdicts {
            ordinal: self.work.recipients[at].0,
            verdict,
            status,
            reply,
        });
    }

    /// The hop was of no use; the next one may be.
    fn trouble(&mut self, hop: &Hop, trouble: &Trouble) {
        self.hop = format!("{} [{}]", hop.host, hop.address);
        self.means.router.failed(hop.address.ip());
        if self.health == Health::Away && !is_absence(trouble) {
            self.health = Health::Pressed;
        }
        self.last = Some((trouble.enhanced().to_string(), trouble.to_string()));
    }

    /// Somebody is there, and not who should be.
    fn misfit(&mut self, hop: &Hop, misfit: &Misfit) {
        self.hop = format!("{} [{}]", hop.host, hop.address);
        self.means.router.failed(hop.address.ip());
        self.health = Health::Pressed;
        self.last = Some((misfit.enhanced().to_string(), misfit.to_string()));
    }

    /// Nothing that a hop did: none is asked further.
    fn ours(&mut self, fault: ContentFault) {
        self.health = Health::Well;
        let left = std::mem::take(&mut self.left);
        match fault {
            // Due at once still, with the next start.
            ContentFault::Stopping => {}
            fault if fault.is_damage() => self.is_damaged = true,
            fault => {
                let trouble = Trouble::Content(fault);
                for at in left {
                    let (status, reply) = (trouble.enhanced().to_string(), trouble.to_string());
                    self.settle(at, Verdict::Deferred, status, reply);
                }
            }
        }
    }

    fn no_route(&mut self, why: NoRoute) {
        self.health = Health::Well;
        let verdict = match why.is_final() {
            true => Verdict::Failed,
            false => Verdict::Deferred,
        };
        for at in std::mem::take(&mut self.left) {
            self.settle(at, verdict, why.enhanced().to_string(), why.to_string());
        }
    }

    fn end(mut self) -> (Outcome, Health) {
        let nothing = || ("4.4.1".to_owned(), "no host could be asked".to_owned());
        let (status, reply) = self.last.take().unwrap_or_else(nothing);
        // Nobody took what must not go without TLS: another time it will be no better.
        let verdict = match status.starts_with('5') {
            true => Verdict::Failed,
            false => Verdict::Deferred,
        };
        let left = match self.is_continued {
            true => Vec::new(),
            false => std::mem::take(&mut self.left),
        };
        for at in left {
            self.settle(at, verdict, status.clone(), reply.clone());
        }
        let outcome = Outcome {
            at: runtime::unix_now(),
            hop: self.hop,
            verdicts: self.verdicts,
            not_before: None::<UnixMs>,
            is_damaged: self.is_damaged,
        };
        (outcome, self.health)
    }
}

/// Nobody was there at all.
fn is_absence(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Net { phase, .. } | Trouble::Late { phase } | Trouble::Closed { phase } => {
            matches!(phase, Phase::Connect | Phase::Greeting)
        }
        _ => false,
    }
}

/// The enhanced status of a reply, or what its first digit says (RFC 3463 2).
fn status(reply: &PeerReply, class: u8) -> String {
    let none = Enhanced {
        class,
        subject: 0,
        detail: 0,
    };
    reply.enhanced().unwrap_or(none).to_string()
}

/// The head of these copies, then the body that all have.
struct Sent<'w> {
    head: &'w [u8],
    body: MessageContent,
    means: &'w Means,
    mark: &'w Mark,
}

impl<'w> Sent<'w> {
    async fn open(means: &'w Means, work: &'w Work, mark: &'w Mark) -> Result<Self, ContentFault> {
        mark.sent.take();
        Ok(Sent {
            head: &work.head,
            body: MessageContent::open(&means.disk, work.message.clone()).await?,
            means,
            mark,
        })
    }
}

impl Content for Sent<'_> {
    async fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), ContentFault> {
        if self.means.gate.is_closed() {
            return Err(ContentFault::Stopping);
        }
        match self.head.is_empty() {
            true => self.body.read(piece).await?,
            false => self.head.read(piece).await?,
        }
        if piece.is_empty() {
            let counted = self.means.under_way.sent();
            self.mark.sent.replace(Some(counted));
        }
        Ok(())
    }
}
