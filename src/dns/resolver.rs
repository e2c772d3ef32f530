//! Look-ups: the cache, equal questions joined, aliases followed one name at a time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;

use super::answer::{Answer, DnsError, Kind, Outcome, Security};
use super::cache::{Cache, Found as Facts, Key, Known, SharedCache, Where};
use super::counters::{Found, JUDGED, Judged, LOOKUPS};
use super::exchange::{Exchange, Reply};
use super::flights::Flights;
use super::message::{self, Question, Step, parse_name, plain};
use super::servers::{ServersError, system_servers};
use super::transport::Transport;
use super::validate::{Anchors, AnchorsError, Verdict, validate};
use crate::base::Deadline;
use crate::config::{Config, DnssecMode};
use crate::runtime::{self, Gate};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long a look-up may take, aliases and validation and all.
const LOOKUP_SPAN: Duration = Duration::from_secs(20);
/// CNAMEs that are followed.
const ALIASES_MAX: usize = 8;
/// RFC 9520 3.2: how many seconds a failure is kept, so that a broken zone is not asked for again
/// and again.
const FAILURE_TTL: u32 = 5;
/// Keys and delegations are looked at again after an hour, whatever their TTL.
const MESSAGE_TTL_MAX: u32 = 3600;

/// What resolvers are made of, the same on every shard.
#[derive(Clone)]
pub struct Settings {
    pub servers: Vec<SocketAddr>,
    /// For the cache of each shard, and as much again for what they share.
    pub cache_bytes_max: usize,
    pub dnssec: DnssecMode,
    pub anchors: Anchors,
    /// Names at and below which nothing is checked.
    pub insecure_domains: Vec<String>,
}

/// Why there can be no resolver.
#[derive(Debug)]
pub enum SettingsError {
    Servers(PathBuf, ServersError),
    Anchors(PathBuf, AnchorsError),
}

impl Settings {
    /// Reads files: not on a shard.
    pub fn load(config: &Config) -> Result<Self, SettingsError> {
        let dns = &config.dns;
        let servers = match &dns.servers {
            Some(servers) => servers.clone(),
            None => system_servers(Path::new(RESOLV_CONF))
                .map_err(|error| SettingsError::Servers(RESOLV_CONF.into(), error))?,
        };
        let anchors = match &dns.trust_anchor_file {
            Some(path) => Anchors::from_file(path)
                .map_err(|error| SettingsError::Anchors(path.clone(), error))?,
            None => Anchors::built_in(),
        };
        Ok(Settings {
            servers,
            cache_bytes_max: usize::try_from(dns.cache_bytes_max.0).unwrap_or(usize::MAX),
            dnssec: dns.dnssec,
            anchors,
            insecure_domains: dns
                .insecure_domains
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }
}

/// Looks names up. Clones are handles to the same resolver, which stays on its shard.
#[derive(Clone)]
pub struct Resolver {
    inner: Rc<Inner>,
}

struct Inner {
    exchange: Rc<Exchange>,
    cache: Cache,
    steps: Rc<Flights<Key, (Arc<Facts>, u32)>>,
    messages: Rc<Flights<Question, Arc<hickory_proto::op::Message>>>,
    dnssec: DnssecMode,
    anchors: Anchors,
    insecure: Vec<Name>,
    gate: Gate,
}

impl Resolver {
    /// `shared` is one for all shards.
    #[must_use]
    pub fn new(settings: &Settings, shared: Arc<SharedCache>) -> Self {
        Self::over(Transport::Sockets, settings, shared)
    }

    pub(super) fn over(
        transport: Transport,
        settings: &Settings,
        shared: Arc<SharedCache>,
    ) -> Self {
        let gate = Gate::new();
        let dnssec = settings.dnssec != DnssecMode::Off;
        let insecure = settings.insecure_domains.iter();
        let insecure = insecure.filter_map(|domain| parse_name(domain).ok());
        let exchange = Exchange::new(transport, &settings.servers, dnssec, gate.clone());
        Resolver {
            inner: Rc::new(Inner {
                exchange: Rc::new(exchange),
                cache: Cache::new(settings.cache_bytes_max, shared),
                steps: Flights::new(gate.clone()),
                messages: Flights::new(gate.clone()),
                dnssec: settings.dnssec,
                anchors: settings.anchors.clone(),
                insecure: insecure.collect(),
                gate,
            }),
        }
    }

    /// The records of this kind that `name`, or what it is an alias of, has; or that there are
    /// none. Names outside ASCII are looked up as A-labels.
    pub async fn lookup(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        self.inner.follow(parse_name(name)?, kind).await
    }

    /// The names that an address points to (RFC 1035 3.5, RFC 3596 2.5).
    pub async fn reverse(&self, address: IpAddr) -> Result<Answer, DnsError> {
        let name = Name::from(address.to_canonical());
        self.inner.follow(name, Kind::Ptr).await
    }

    /// Begins nothing new, and waits until the questions under way have ended, or tells how many
    /// have not.
    pub async fn close(&self, until: Deadline) -> Result<(), usize> {
        self.inner.gate.close(until).await
    }
}

impl Inner {
    async fn follow(self: &Rc<Self>, first: Name, kind: Kind) -> Result<Answer, DnsError> {
        let until = Deadline::after(runtime::now(), LOOKUP_SPAN);
        let mut seen = vec![first];
        let (mut ttl, mut security) = (u32::MAX, Security::Secure);
        loop {
            let name = seen.last().expect("begins with the first name");
            let (facts, left) = self.step(name.clone(), kind, until).await?;
            ttl = ttl.min(left);
            security = security.min(facts.security);
            let (outcome, records) = match &facts.step {
                Step::Alias(target) if seen.contains(target) => {
                    return Err(DnsError::Loop(plain(target)));
                }
                Step::Alias(_) if seen.len() > ALIASES_MAX => return Err(DnsError::Chain),
                Step::Alias(target) => {
                    seen.push(target.clone());
                    continue;
                }
                Step::Records(records) => (Outcome::Records, records.clone()),
                Step::NoData => (Outcome::NoData, Vec::new()),
                Step::NoName => (Outcome::NoName, Vec::new()),
            };
            return Ok(Answer {
                outcome,
                records,
                name: plain(name),
                aliases: seen.len() - 1,
                ttl,
                security,
                server: facts.server,
            });
        }
    }

    /// What one name says, and for how many seconds.
    async fn step(
        self: &Rc<Self>,
        name: Name,
        kind: Kind,
        until: Deadline,
    ) -> Result<(Arc<Facts>, u32), DnsError> {
        let rtype = kind.record_type();
        let key = Key {
            question: Question { name, rtype },
            whole: false,
        };
        match self.cache.get(&key, runtime::now()) {
            Some((Known::Step(facts), ttl, place)) => {
                LOOKUPS.increment(match place {
                    Where::Local => Found::Cache,
                    Where::Shared => Found::Shared,
                });
                return Ok((facts, ttl));
            }
            Some((Known::Failed(error), _, _)) => {
                LOOKUPS.increment(Found::Cache);
                return Err(error);
            }
            Some((Known::Message(_), _, _)) | None => {}
        }
        let inner = self.clone();
        let asked = key.clone();
        self.steps
            .join(key, until, || async move {
                LOOKUPS.increment(Found::Servers);
                let outcome = inner.learn(&asked.question, kind).await;
                let now = runtime::now();
                match &outcome {
                    Ok((facts, ttl)) => {
                        let known = Known::Step(facts.clone());
                        inner.cache.put(asked, known, *ttl, now);
                    }
                    Err(DnsError::Busy) => {}
                    Err(error) => {
                        let known = Known::Failed(error.clone());
                        inner.cache.put(asked, known, FAILURE_TTL, now);
                    }
                }
                outcome
            })
            .await
    }

    /// Asks, judges and reads.
    async fn learn(
        self: &Rc<Self>,
        question: &Question,
        kind: Kind,
    ) -> Result<(Arc<Facts>, u32), DnsError> {
        let mut reply = self.exchange.ask(question).await?;
        message::keep_first_step(&mut reply.message, question);
        let server = reply.server;
        let (message, security) = self.judge(question, reply).await?;
        let (step, ttl) = message::step(&message, question, kind)?;
        let facts = Facts {
            step,
            security,
            server,
        };
        Ok((Arc::new(facts), ttl))
    }

    async fn judge(
        self: &Rc<Self>,
        question: &Question,
        reply: Reply,
    ) -> Result<(hickory_proto::op::Message, Security), DnsError> {
        let blind = !reply.speaks_dnssec && self.dnssec == DnssecMode::Auto;
        if blind || !self.is_checked(&question.name) {
            JUDGED.increment(Judged::Indeterminate);
            return Ok((reply.message, Security::Indeterminate));
        }
        let until = Deadline::after(runtime::now(), LOOKUP_SPAN);
        let fetch = async |question: Question| self.part(question, until).await;
        match validate(&self.anchors, question, reply.message, fetch).await {
            Verdict::Judged(message, security) => {
                JUDGED.increment(match security {
                    Security::Secure => Judged::Secure,
                    Security::Insecure => Judged::Insecure,
                    Security::Indeterminate => Judged::Indeterminate,
                });
                Ok((message, security))
            }
            Verdict::Bogus(why) => {
                JUDGED.increment(Judged::Bogus);
                let (name, rtype) = (plain(&question.name), question.rtype);
                Err(DnsError::Bogus(format!("{why} ({name} {rtype})")))
            }
            Verdict::Failed(error) => Err(error),
        }
    }

    /// Whether a name is one that signatures can be checked of.
    fn is_checked(&self, name: &Name) -> bool {
        self.dnssec != DnssecMode::Off
            && self.anchors.cover(name)
            && !self.insecure.iter().any(|domain| domain.zone_of(name))
    }

    /// A message that validation needs.
    async fn part(
        self: &Rc<Self>,
        question: Question,
        until: Deadline,
    ) -> Result<Arc<hickory_proto::op::Message>, DnsError> {
        let key = Key {
            question: question.clone(),
            whole: true,
        };
        if let Some((Known::Message(message), _, _)) = self.cache.get(&key, runtime::now()) {
            return Ok(message);
        }
        if runtime::now() >= until.0 {
            return Err(DnsError::Timeout);
        }
        let inner = self.clone();
        let work = || async move {
            let mut reply = inner.exchange.ask(&key.question).await?;
            message::keep_first_step(&mut reply.message, &key.question);
            let ttl = message::message_ttl(&reply.message, &key.question).min(MESSAGE_TTL_MAX);
            let message = Arc::new(reply.message);
            let known = Known::Message(message.clone());
            inner.cache.put(key, known, ttl, runtime::now());
            Ok(message)
        };
        self.messages.join(question, until, work).await
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Servers(path, error) => write!(f, "{} {error}", path.display()),
            SettingsError::Anchors(path, error) => {
                write!(f, "dns.trust_anchor_file {} {error}", path.display())
            }
        }
    }
}

impl std::error::Error for SettingsError {}
