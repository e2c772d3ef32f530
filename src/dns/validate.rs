//! DNSSEC: whether an answer is what its zone signed (RFC 4035 5).
//!
//! hickory-net's validator judges; it asks for keys and delegations through [`Bridge`], which
//! hands each question to the shard that waits, because the validator's futures must be `Send`
//! and ours are not. Each judgement has a validator of its own and a bound on what it may ask.
//!
//! The AD bit of a server is never looked at.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{Stream, StreamExt as _, future, stream};
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use hickory_net::{DnsError as NetDnsError, DnsHandle, NetError};
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::trust_anchor::{Entry, Parser};

use super::answer::{DnsError, Security};
use super::message::Question;
use crate::runtime;

/// Keys and delegations that one judgement may ask for: a name of ten labels, each a zone, needs
/// some thirty.
const ASKED_MAX: usize = 64;
/// How deep the validator may go from the answer towards the anchor.
const DEPTH_MAX: usize = 20;
/// RFC 9276 3.2: NSEC3 with more iterations is taken for insecure; far more is bogus.
const NSEC3_ITERATIONS: (u16, u16) = (100, 500);

/// Keys that are trusted without proof.
#[derive(Clone)]
pub struct Anchors {
    keys: Arc<TrustAnchors>,
    /// Where the keys are those of.
    zones: Arc<[Name]>,
}

/// Why there are no anchors.
#[derive(Debug)]
pub enum AnchorsError {
    Unreadable(io::Error),
    /// Not DNSKEY records in the form of a zone file.
    Malformed,
    None,
}

/// What a judgement says.
pub enum Verdict {
    Judged(Message, Security),
    Bogus(String),
    /// What was needed to judge could not be had.
    Failed(DnsError),
}

impl Anchors {
    /// The keys of the root that came with the program.
    #[must_use]
    pub fn built_in() -> Self {
        Anchors {
            keys: Arc::new(TrustAnchors::default()),
            zones: Arc::new([Name::root()]),
        }
    }

    /// The DNSKEY records of a file.
    pub fn from_file(path: &Path) -> Result<Self, AnchorsError> {
        let text = fs::read_to_string(path).map_err(AnchorsError::Unreadable)?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Self, AnchorsError> {
        let entries = Parser::new(text.to_owned()).parse();
        let entries = entries.map_err(|_| AnchorsError::Malformed)?;
        let keys = text.parse().map_err(|_| AnchorsError::Malformed)?;
        let zones: Arc<[Name]> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::DNSKEY(record) => Some(record.name().to_lowercase()),
                _ => None,
            })
            .collect();
        match zones.is_empty() {
            true => Err(AnchorsError::None),
            false => Ok(Anchors {
                keys: Arc::new(keys),
                zones,
            }),
        }
    }

    /// Whether anything can be proven of the name.
    pub(super) fn cover(&self, name: &Name) -> bool {
        self.zones.iter().any(|zone| zone.zone_of(name))
    }
}

/// Judges `message`, which is what its server says about `question` alone. `fetch` brings keys and
/// delegations.
pub async fn validate(
    anchors: &Anchors,
    question: &Question,
    message: Message,
    fetch: impl AsyncFn(Question) -> Result<Arc<Message>, DnsError>,
) -> Verdict {
    let (asks, inbox) = flume::bounded(ASKED_MAX);
    let (soft, hard) = NSEC3_ITERATIONS;
    let judge = DnssecDnsHandle::with_trust_anchor(Bridge { asks }, anchors.keys.clone())
        .nsec3_iteration_limits(Some(soft), Some(hard))
        .validation_cache_size(ASKED_MAX);
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.edns_set_dnssec_ok = true;
    options.max_request_depth = DEPTH_MAX;
    let query = Query::query(question.name.clone(), question.rtype);
    let mut judged = pin!(judge.lookup(query, options));
    let mut first = Some(message);
    let mut failure = None;
    let mut asked = 0;
    let outcome = loop {
        // The judgement waits for nothing but what it asks for here.
        let judged = async { Err(judged.next().await) };
        let next = async { Ok(inbox.recv_async().await) };
        let ask = match future::or(judged, next).await {
            Err(outcome) => break outcome,
            Ok(Err(flume::RecvError::Disconnected)) => break None,
            Ok(Ok(ask)) => ask,
        };
        asked += 1;
        let answer: Result<Message, DnsError> = match first.take() {
            Some(message) => Ok(message),
            None if asked > ASKED_MAX => Err(DnsError::Busy),
            None => fetch(ask.question).await.map(|m| Message::clone(&m)),
        };
        let answer = answer.map_err(|error| {
            failure = Some(error);
            NetError::Busy
        });
        let answer = answer.and_then(|m| DnsResponse::from_message(m).map_err(NetError::from));
        // Nobody waits any more where another way led there first.
        let _ = ask.answer.send(answer);
    };
    conclude(question, outcome, failure)
}

/// What the validator's words mean.
fn conclude(
    question: &Question,
    outcome: Option<Result<DnsResponse, NetError>>,
    failure: Option<DnsError>,
) -> Verdict {
    let bogus = |why: &str| match failure.clone() {
        // It could not be judged for want of a key, which somebody may have tomorrow.
        Some(error) => Verdict::Failed(error),
        None => Verdict::Bogus(why.to_owned()),
    };
    match outcome {
        Some(Ok(response)) => {
            let message = response.into_message();
            if is_badly_expanded(&message, &question.name) {
                return bogus("a wildcard is used where something is nearer");
            }
            match security(&message, &question.name) {
                Some(security) => Verdict::Judged(message, security),
                None => bogus("a signature is missing, expired or wrong"),
            }
        }
        Some(Err(NetError::Dns(NetDnsError::Nsec {
            response, proof, ..
        }))) => match proof {
            // Too many iterations, which are an excuse only in the zone of the name itself.
            Proof::Insecure if is_of_zone(&response, &question.name) => {
                Verdict::Judged(response.into_message(), Security::Insecure)
            }
            Proof::Bogus if proves_wildcard(&response, &question.name) => {
                Verdict::Judged(response.into_message(), Security::Secure)
            }
            _ => bogus("it is not proven that there is nothing nearer, or nothing"),
        },
        Some(Err(_)) | None => bogus("it could not be judged"),
    }
}

/// The weakest of the records; of an absence, what was proven. `None`: something is bogus.
fn security(message: &Message, name: &Name) -> Option<Security> {
    let is_signature =
        |record: &&Record| matches!(record.data, RData::DNSSEC(DNSSECRData::RRSIG(_)));
    let of_record = |record: &Record| match record.proof {
        Proof::Secure => Some(Security::Secure),
        Proof::Insecure => Some(Security::Insecure),
        Proof::Bogus | Proof::Indeterminate => None,
    };
    let mut weakest = None;
    for record in message.answers.iter().filter(|r| !is_signature(r)) {
        let security = of_record(record)?;
        weakest = Some(weakest.map_or(security, |w: Security| w.min(security)));
    }
    if weakest.is_some() {
        return weakest;
    }
    let proves = |record: &Record| is_denial(record) && record.proof == Proof::Secure;
    if message.authorities.iter().any(proves) {
        return Some(Security::Secure);
    }
    // The validator lets an absence pass too if all that comes with it is from unsigned zones,
    // whichever they are. It has to be a zone that the name lies in, or one who forges an absence
    // would only have to add a record of an unsigned zone.
    let is_ours = |record: &Record| {
        matches!(record.data, RData::SOA(_))
            && record.proof == Proof::Insecure
            && record.name.zone_of(name)
    };
    let believed = message.authorities.is_empty() || message.authorities.iter().any(is_ours);
    believed.then_some(Security::Insecure)
}

fn is_denial(record: &Record) -> bool {
    matches!(
        record.data,
        RData::DNSSEC(DNSSECRData::NSEC(_) | DNSSECRData::NSEC3(_))
    )
}

/// NSEC3 records stand right below their zone (RFC 5155 3), others are of no interest.
fn is_of_zone(message: &Message, name: &Name) -> bool {
    message.authorities.iter().all(|record| {
        let is_nsec3 = matches!(record.data, RData::DNSSEC(DNSSECRData::NSEC3(_)));
        !is_nsec3 || record.name.base_name().zone_of(name)
    })
}

/// Records made from a wildcard, without NSEC that let them be (NSEC3 is the validator's).
fn is_badly_expanded(message: &Message, name: &Name) -> bool {
    let is_nsec = |r: &Record| matches!(r.data, RData::DNSSEC(DNSSECRData::NSEC(_)));
    let is_secure = |r: &Record| r.proof == Proof::Secure;
    // With records of the name itself, denials are left only where they are of a wildcard.
    message.answers.iter().any(is_secure)
        && message.authorities.iter().any(is_nsec)
        && !proves_wildcard(message, name)
}

/// RFC 4035 5.3.4: records made from a wildcard hold if an NSEC of the same zone shows that the
/// name is not there itself and that nothing is nearer to it than the wildcard. hickory-net 0.26.3
/// does not accept the NSEC of the wildcard itself for this, which is what most zones send, and
/// accepts one that shows something nearer.
fn proves_wildcard(message: &Message, name: &Name) -> bool {
    let of_answer = |record: &Record| record.proof == Proof::Secure;
    let secure = message.answers.iter().filter(|record| of_answer(record));
    let signed = secure.clone().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input()),
        _ => None,
    });
    let is_data = |record: &&Record| !record.record_type().is_rrsig();
    let all_secure = message.answers.iter().filter(is_data).all(of_answer);
    let Some(signed) = signed.filter(|signed| all_secure && signed.num_labels < name.num_labels())
    else {
        return false;
    };
    let wildcard_of = name.trim_to(usize::from(signed.num_labels));
    let by_same_zone = |owner: &Name| {
        message.authorities.iter().any(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => {
                let input = rrsig.input();
                record.proof == Proof::Secure
                    && record.name == *owner
                    && input.type_covered == RecordType::NSEC
                    && input.signer_name == signed.signer_name
            }
            _ => false,
        })
    };
    message.authorities.iter().any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => {
            let (owner, next) = (&record.name, nsec.next_domain_name());
            // What lies below a delegation is not for this NSEC to deny (RFC 6840 4.1).
            let types = nsec.type_set();
            let is_cut = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
            let leads_away = is_cut || types.contains(RecordType::DNAME);
            record.proof == Proof::Secure
                && by_same_zone(owner)
                && !(leads_away && owner.zone_of(name))
                && is_between(owner, name, next)
                && closest_encloser(name, owner, next) == wildcard_of
        }
        _ => false,
    })
}

/// Whether the name would stand between an NSEC and its next (RFC 4034 6.1), which is the zone
/// itself for the last one.
fn is_between(owner: &Name, name: &Name, next: &Name) -> bool {
    let is_last = next <= owner;
    owner < name && (name < next || (is_last && next.zone_of(name)))
}

/// The nearest name above that exists, as one of two neighbours shows.
fn closest_encloser(name: &Name, owner: &Name, next: &Name) -> Name {
    let shared = |other: &Name| {
        let mut above = other.clone();
        while !above.zone_of(name) {
            above = above.base_name();
        }
        above
    };
    let (first, second) = (shared(owner), shared(next));
    match first.iter().count() >= second.iter().count() {
        true => first,
        false => second,
    }
}

/// Takes the validator's questions to the task that waits for its judgement.
#[derive(Clone)]
struct Bridge {
    asks: flume::Sender<Ask>,
}

struct Ask {
    question: Question,
    answer: flume::Sender<Result<DnsResponse, NetError>>,
}

impl DnsHandle for Bridge {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = Shard;

    fn is_verifying_dnssec(&self) -> bool {
        false
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        let (answer, answered) = flume::bounded(1);
        let asked = request.queries.first().map(|query| Ask {
            question: Question {
                name: query.name.to_lowercase(),
                rtype: query.query_type,
            },
            answer,
        });
        let sent = asked.is_some_and(|ask| self.asks.try_send(ask).is_ok());
        Box::pin(stream::once_future(async move {
            if !sent {
                return Err(NetError::Busy);
            }
            answered.recv_async().await.unwrap_or(Err(NetError::Busy))
        }))
    }
}

/// What the validator wants to know of a runtime: the time of day. It opens no socket and spawns
/// nothing.
#[derive(Clone, Copy)]
struct Shard;

/// A socket that there is none of.
enum NoSocket {}

impl RuntimeProvider for Shard {
    type Handle = Shard;
    type Timer = Shard;
    type Udp = NoSocket;
    type Tcp = NoSocket;

    fn create_handle(&self) -> Shard {
        Shard
    }

    fn connect_tcp(
        &self,
        _: SocketAddr,
        _: Option<SocketAddr>,
        _: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<NoSocket>>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn bind_udp(
        &self,
        _: SocketAddr,
        _: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<NoSocket>>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

impl Spawn for Shard {
    fn spawn_bg(&mut self, _: impl Future<Output = ()> + Send + 'static) {}
}

impl Time for Shard {
    fn delay_for<'a>(_: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }

    fn timeout<'a, F>(
        _: Duration,
        _: F,
    ) -> Pin<Box<dyn Future<Output = io::Result<F::Output>> + Send + 'a>>
    where
        F: 'static + Future + Send + 'a,
    {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn current_time() -> u64 {
        u64::try_from(runtime::unix_now().0 / 1000).unwrap_or(0)
    }
}

impl DnsUdpSocket for NoSocket {
    type Time = Shard;

    fn poll_recv_from(
        &self,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        match *self {}
    }

    fn poll_send_to(
        &self,
        _: &mut Context<'_>,
        _: &[u8],
        _: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }
}

impl DnsTcpStream for NoSocket {
    type Time = Shard;
}

impl futures_lite::AsyncRead for NoSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }
}

impl futures_lite::AsyncWrite for NoSocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl std::fmt::Display for AnchorsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AnchorsError::Unreadable(error) => write!(f, "cannot be read: {error}"),
            AnchorsError::Malformed => f.write_str("is not a list of DNSKEY records"),
            AnchorsError::None => f.write_str("holds no DNSKEY record"),
        }
    }
}
