//! Which policy counts now (RFC 8461 3.3, 5.1), and when to ask for it.
//!
//! ```text
//!  TXT _mta-sts ─► id is that of what is kept ───────────────► kept
//!       │          other id, or nothing kept ─► fetch ─► new, and kept from now on
//!       └► none, or no answer                      └► failed: kept, if there is something, else none
//! ```
//! A kept policy counts until its own time is over, whatever an attacker does to DNS and web.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::fetch::{FetchFault, Web};
use super::policy::{Mode, Policy, PolicyFault, announced_id};
use crate::base::{Deadline, UnixMs};
use crate::dns::{Kind, Rdata};
use crate::runtime;
use crate::runtime::local::Notify;

/// Domains whose policy is in memory, and domains where a fetch failed lately.
const DOMAINS_MAX: usize = 4096;
/// RFC 8461 3.3: what failed is not asked for again at once.
const FAILED_SPAN: Duration = Duration::from_secs(300);
/// RFC 8461 3.3: a policy is renewed now and then, even with the same id; after a day, or half its
/// life where that is less.
const RENEW_SECONDS: i64 = 24 * 3600;
/// Fetches at one time on this shard; more wait for their turn by being told that there is none.
const FETCHES_MAX: usize = 32;
/// RFC 8461 3.3: a minute for a fetch; no more than half of what who asks has.
const FETCH_SPAN: Duration = Duration::from_secs(60);
/// A record that is longer is none of ours.
const KEPT_BYTES_MAX: usize = 128 << 10;

/// A policy that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The id that announced it.
    pub id: String,
    pub fetched: UnixMs,
    pub policy: Policy,
}

/// Something that ends.
pub type Stored<'s, T> = Pin<Box<dyn Future<Output = T> + 's>>;

/// Where policies outlive the process: one value a domain, as octets. A value that was not kept
/// costs the protection of that domain until its next fetch, and nothing else.
pub trait PolicyStore {
    fn get<'s>(&'s self, domain: &'s str) -> Stored<'s, Option<Vec<u8>>>;
    fn put<'s>(&'s self, domain: &'s str, value: Vec<u8>) -> Stored<'s, ()>;
}

/// Keeps nothing: policies are known until the process ends.
pub struct Unkept;

/// Why a policy that is announced is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StsFault {
    Fetch { why: String, is_distrust: bool },
    Policy(PolicyFault),
}

/// What was found out about a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What counts; never one of mode none.
    pub policy: Option<Rc<Kept>>,
    /// What went wrong with a newer one.
    pub fault: Option<StsFault>,
}

/// Knows the policies of domains. One on each shard.
pub struct Keeper {
    pub(in crate::queue::route) web: Web,
    store: Rc<dyn PolicyStore>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// What is kept, and of whom nothing is: the store need not be asked again.
    kept: HashMap<String, Option<Rc<Kept>>>,
    failed: HashMap<String, (Instant, String, StsFault)>,
    /// Domains in `kept` and `failed` in the order in which they came.
    order: VecDeque<String>,
    under_way: HashMap<String, Notify>,
}

/// Tells those who wait that a fetch is over, even one that was given up.
struct UnderWay<'k> {
    keeper: &'k Keeper,
    domain: &'k str,
}

impl Kept {
    /// Whether it still counts.
    #[must_use]
    pub fn is_valid(&self, now: UnixMs) -> bool {
        let age = now.seconds() - self.fetched.seconds();
        (0..i64::from(self.policy.max_age)).contains(&age)
    }

    fn is_fresh(&self, now: UnixMs) -> bool {
        let span = RENEW_SECONDS.min(i64::from(self.policy.max_age) / 2);
        (0..=span).contains(&(now.seconds() - self.fetched.seconds()))
    }

    /// For a [`PolicyStore`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values")
    }

    /// From a [`PolicyStore`]; `None` where it is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let is_ours = bytes.len() <= KEPT_BYTES_MAX;
        is_ours
            .then(|| serde_json::from_slice(bytes).ok())
            .flatten()
    }
}

impl StsFault {
    fn unfetched(why: &str) -> Self {
        StsFault::Fetch {
            why: why.to_owned(),
            is_distrust: false,
        }
    }
}

impl Keeper {
    #[must_use]
    pub fn new(web: Web, store: Rc<dyn PolicyStore>) -> Self {
        Keeper {
            web,
            store,
            state: RefCell::default(),
        }
    }

    /// The policy that counts for mail to `domain` (A-labels, lower case). There is an answer before
    /// `until`, but where the DNS or the store needs half of the time.
    pub async fn find(&self, domain: &str, until: Deadline) -> Found {
        let now = runtime::unix_now();
        let kept = self.kept(domain).await.filter(|kept| kept.is_valid(now));
        let announced = self.announced(domain).await;
        let is_good = |id: &String| {
            let same = kept.as_ref().filter(|kept| kept.id == *id);
            same.is_some_and(|kept| kept.is_fresh(now))
        };
        // No record: no news. What is kept counts on (RFC 8461 5.1).
        let (policy, fault) = match announced.filter(|id| !is_good(id)) {
            None => (kept, None),
            Some(id) => match self.renew(domain, &id, until).await {
                Ok(fetched) => (Some(fetched), None),
                Err(fault) => (kept, Some(fault)),
            },
        };
        Found {
            policy: policy.filter(|kept| kept.policy.mode != Mode::None),
            fault,
        }
    }

    /// The id that the domain announces; where the DNS does not answer, none.
    async fn announced(&self, domain: &str) -> Option<String> {
        let name = format!("_mta-sts.{domain}");
        let answer = self.web.resolver.lookup(&name, Kind::Txt).await.ok()?;
        announced_id(answer.records.iter().filter_map(|record| match record {
            Rdata::Text(text) => Some(text.as_str()),
            _ => None,
        }))
    }

    async fn kept(&self, domain: &str) -> Option<Rc<Kept>> {
        if let Some(known) = self.state.borrow().kept.get(domain) {
            return known.clone();
        }
        let bytes = self.store.get(domain).await;
        let stored = bytes
            .and_then(|bytes| Kept::from_bytes(&bytes))
            .map(Rc::new);
        let mut state = self.state.borrow_mut();
        // One that was fetched meanwhile is newer.
        if let Some(newer) = state.kept.get(domain) {
            return newer.clone();
        }
        state.note(domain, |state, domain| {
            state.kept.insert(domain, stored.clone());
        });
        stored
    }

    /// Fetches, or waits for who does.
    async fn renew(&self, domain: &str, id: &str, until: Deadline) -> Result<Rc<Kept>, StsFault> {
        let waiting = {
            let state = self.state.borrow();
            if let Some(fault) = state.failed_lately(domain, id) {
                return Err(fault);
            }
            match state.under_way.get(domain) {
                None if state.under_way.len() >= FETCHES_MAX => {
                    return Err(StsFault::unfetched("too many policies are being fetched"));
                }
                other => other.map(Notify::notified),
            }
        };
        // A server that says nothing must not hold mail up that needs no policy.
        let now = runtime::now();
        let span = until.0.saturating_duration_since(now) / 2;
        let until = Deadline::after(now, span.min(FETCH_SPAN));
        if let Some(over) = waiting {
            // Who gave up waiting finds nothing, as who came too late does.
            let _ = runtime::deadline(until, over).await;
            return self.state.borrow().outcome(domain, id);
        }
        let under_way = UnderWay::begin(self, domain);
        let fetched = self.fetch(domain, id, until).await;
        self.state.borrow_mut().take(domain, id, &fetched);
        drop(under_way);
        if let Ok(kept) = &fetched {
            self.store.put(domain, kept.to_bytes()).await;
        }
        fetched
    }

    async fn fetch(&self, domain: &str, id: &str, until: Deadline) -> Result<Rc<Kept>, StsFault> {
        let host = format!("mta-sts.{domain}");
        let path = "/.well-known/mta-sts.txt";
        let got = self.web.get(&host, path, until).await;
        let bytes = got.map_err(|fault| StsFault::Fetch {
            why: fault.to_string(),
            is_distrust: matches!(fault, FetchFault::Distrusted(_)),
        })?;
        let policy = Policy::parse(&bytes).map_err(StsFault::Policy)?;
        Ok(Rc::new(Kept {
            id: id.to_owned(),
            fetched: runtime::unix_now(),
            policy,
        }))
    }
}

impl State {
    /// Remembers what a fetch brought.
    fn take(&mut self, domain: &str, id: &str, fetched: &Result<Rc<Kept>, StsFault>) {
        match fetched {
            Ok(kept) => self.note(domain, |state, domain| {
                state.failed.remove(&domain);
                state.kept.insert(domain, Some(kept.clone()));
            }),
            Err(fault) => {
                let failure = (runtime::now(), id.to_owned(), fault.clone());
                self.note(domain, |state, domain| {
                    _ = state.failed.insert(domain, failure)
                });
            }
        }
    }

    /// What the fetch brought that somebody else made.
    fn outcome(&self, domain: &str, id: &str) -> Result<Rc<Kept>, StsFault> {
        if let Some(Some(kept)) = self.kept.get(domain)
            && kept.id == id
        {
            return Ok(kept.clone());
        }
        let failed = self.failed_lately(domain, id);
        Err(failed.unwrap_or_else(|| StsFault::unfetched("the fetch was given up")))
    }

    fn failed_lately(&self, domain: &str, id: &str) -> Option<StsFault> {
        let (at, of, fault) = self.failed.get(domain)?;
        let is_lately = runtime::now().saturating_duration_since(*at) < FAILED_SPAN;
        (is_lately && of == id).then(|| fault.clone())
    }

    /// Adds to what is known of a domain; the oldest domain goes where there are too many.
    fn note(&mut self, domain: &str, add: impl FnOnce(&mut State, String)) {
        let is_known = self.kept.contains_key(domain) || self.failed.contains_key(domain);
        add(self, domain.to_owned());
        if !is_known {
            self.order.push_back(domain.to_owned());
        }
        while self.order.len() > DOMAINS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.kept.remove(&oldest);
                self.failed.remove(&oldest);
            }
        }
    }
}

impl<'k> UnderWay<'k> {
    fn begin(keeper: &'k Keeper, domain: &'k str) -> Self {
        let mut state = keeper.state.borrow_mut();
        state.under_way.insert(domain.to_owned(), Notify::new());
        drop(state);
        UnderWay { keeper, domain }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let over = self.keeper.state.borrow_mut().under_way.remove(self.domain);
        if let Some(over) = over {
            over.notify_all();
        }
    }
}

impl PolicyStore for Unkept {
    fn get<'s>(&'s self, _: &'s str) -> Stored<'s, Option<Vec<u8>>> {
        Box::pin(async { None })
    }

    fn put<'s>(&'s self, _: &'s str, _: Vec<u8>) -> Stored<'s, ()> {
        Box::pin(async {})
    }
}

impl fmt::Display for StsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StsFault::Fetch { why, .. } => write!(f, "its MTA-STS policy was not fetched: {why}"),
            StsFault::Policy(fault) => write!(f, "its MTA-STS policy is none: {fault}"),
        }
    }
}
