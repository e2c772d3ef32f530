//! One question and whoever answers it: the order of servers, tries, and what each failure says.
//!
//! All servers are gone through, and again with more time each, until one answers, all have
//! refused, or the time is over. Silence says nothing of the question; SERVFAIL and REFUSED are
//! what that server has to say, and it is not asked again.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::answer::DnsError;
use super::counters::{ANSWER_SECONDS, Fate, Place, QUESTIONS, STRANGERS, STREAMS};
use super::message::{self, Question, Reading, Sent};
use super::servers::{Server, Servers};
use super::transport::Transport;
use crate::base::Deadline;
use crate::observe::{event, log_event};
use crate::runtime::local::Semaphore;
use crate::runtime::{self, Gate, spawn_in};

/// How long one server has for one try, in each round.
const TRY_SPANS: [Duration; 3] = [
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(4000),
];
/// How long one question may take, with all its tries.
const QUESTION_SPAN: Duration = Duration::from_secs(12);
/// Questions of one shard that are on the wire at one time.
const ON_WIRE_MAX: usize = 128;
/// Datagrams that are passed over before a try is given up.
const STRANGERS_MAX: usize = 64;

/// Asks the servers. Lives on one shard.
pub struct Exchange {
    transport: Transport,
    servers: RefCell<Servers>,
    slots: Semaphore,
    gate: Gate,
    /// Ask for signatures.
    dnssec: bool,
}

/// An answer, or an absence, and where it is from.
#[derive(Clone)]
pub struct Reply {
    pub message: Message,
    pub server: SocketAddr,
    /// Whether signatures would be there if there were any.
    pub speaks_dnssec: bool,
}

impl Exchange {
    pub fn new(transport: Transport, servers: &[SocketAddr], dnssec: bool, gate: Gate) -> Self {
        Exchange {
            transport,
            servers: RefCell::new(Servers::new(servers)),
            slots: Semaphore::new(ON_WIRE_MAX),
            gate,
            dnssec,
        }
    }

    /// What the first server that knows says.
    pub async fn ask(self: &Rc<Self>, question: &Question) -> Result<Reply, DnsError> {
        let until = Deadline::after(runtime::now(), QUESTION_SPAN);
        let slot = self.slots.acquire(1, until).await;
        let _slot = slot.map_err(|_| DnsError::Busy)?;
        self.look_after_the_dead();
        let mut failure: Option<DnsError> = None;
        let mut refused: Vec<usize> = Vec::new();
        for span in TRY_SPANS {
            let order = self.servers.borrow().order();
            for index in order {
                let now = runtime::now();
                if refused.contains(&index) || now >= until.0 {
                    continue;
                }
                let try_until = until.earlier(Deadline::after(now, span));
                match self.try_one(index, question, try_until).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) => {
                        if !matches!(error, DnsError::Timeout | DnsError::Malformed) {
                            refused.push(index);
                        }
                        failure = Some(match failure {
                            Some(before) => before.or_worse(error),
                            None => error,
                        });
                    }
                }
            }
        }
        Err(failure.unwrap_or(DnsError::Timeout))
    }

    /// One question to one server, and what that says about the server.
    async fn try_one(
        &self,
        index: usize,
        question: &Question,
        until: Deadline,
    ) -> Result<Reply, DnsError> {
        let began = runtime::now();
        let outcome = self.converse(index, question, until).await;
        let now = runtime::now();
        let mut servers = self.servers.borrow_mut();
        let was_lost = servers.get(index).is_lost();
        let (outcome, fate) = match outcome {
            Ok(message) => {
                let took = now.saturating_duration_since(began);
                ANSWER_SECONDS.observe(Place::of(index), took);
                servers.note_answer(index, took, now);
                let judged = self.judge(servers.get_mut(index), message);
                if matches!(judged, Err(DnsError::Refused)) {
                    servers.note_useless(index, now);
                }
                let fate = match &judged {
                    Ok(_) => Fate::Answered,
                    Err(DnsError::ServFail) => Fate::ServFail,
                    Err(DnsError::Refused) => Fate::Refused,
                    Err(_) => Fate::Malformed,
                };
                (judged, fate)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                servers.note_silence(index, began, now);
                (Err(DnsError::Timeout), Fate::Timeout)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                (Err(DnsError::Malformed), Fate::Malformed)
            }
            Err(error) => {
                servers.note_useless(index, now);
                (Err(DnsError::Unreachable(error.kind())), Fate::Unreachable)
            }
        };
        QUESTIONS.increment((Place::of(index), fate));
        let server = servers.get(index);
        match (was_lost, server.is_lost()) {
            (false, true) => {
                let (server, fate) = (server.address, fate.word());
                log_event!(WARN, event::NAMESERVER_LOST, server = %server, fate);
            }
            (true, false) => {
                log_event!(INFO, event::NAMESERVER_BACK, server = %server.address);
            }
            _ => {}
        }
        outcome
    }

    /// What an answer to our question is worth.
    fn judge(&self, server: &mut Server, message: Message) -> Result<Reply, DnsError> {
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            ResponseCode::ServFail => return Err(DnsError::ServFail),
            ResponseCode::FormErr => return Err(DnsError::Malformed),
            _ => return Err(DnsError::Refused),
        }
        if message::is_lame(&message) {
            return Err(DnsError::Refused);
        }
        let speaks_dnssec = message::speaks_dnssec(&message);
        if self.dnssec && !server.note_dnssec(speaks_dnssec, runtime::now()) {
            return Err(DnsError::Malformed);
        }
        Ok(Reply {
            message,
            server: server.address,
            speaks_dnssec,
        })
    }

    /// Over UDP, and over TCP where that says so.
    async fn converse(
        &self,
        index: usize,
        question: &Question,
        until: Deadline,
    ) -> io::Result<Message> {
        let (server, loses_case, edns) = {
            let servers = self.servers.borrow();
            let (server, now) = (servers.get(index), runtime::now());
            (
                server.address,
                server.loses_case(now),
                server.takes_edns(now),
            )
        };
        let sent = make(question)?;
        let bytes = message::encode(&sent, edns, self.dnssec).map_err(io::Error::other)?;
        if loses_case {
            return self.over_stream(index, &bytes, &sent, until).await;
        }
        let mut socket = self.transport.datagrams(server)?;
        socket.send(&bytes, until).await?;
        for _ in 0..STRANGERS_MAX {
            let datagram = socket.receive(until).await?;
            match message::read(&datagram, &sent) {
                Reading::Fits(message) => {
                    let code = message.metadata.response_code;
                    if edns && matches!(code, ResponseCode::FormErr | ResponseCode::NotImp) {
                        return self.without_edns(index, question, until).await;
                    }
                    return Ok(*message);
                }
                Reading::Cut => return self.over_stream(index, &bytes, &sent, until).await,
                Reading::CaseLost => {
                    // Right but for the case: TCP tells it from a forgery.
                    let now = runtime::now();
                    self.servers.borrow_mut().get_mut(index).note_case_lost(now);
                    return self.over_stream(index, &bytes, &sent, until).await;
                }
                Reading::Malformed => return Err(io::ErrorKind::InvalidData.into()),
                Reading::Other => STRANGERS.increment(Place::of(index)),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// RFC 6891 7: who does not know EDNS says FORMERR, and is asked without. Over TCP, so that it
    /// is not a forger who takes us there.
    async fn without_edns(
        &self,
        index: usize,
        question: &Question,
        until: Deadline,
    ) -> io::Result<Message> {
        let sent = make(question)?;
        let bytes = message::encode(&sent, false, false).map_err(io::Error::other)?;
        let message = self.over_stream(index, &bytes, &sent, until).await?;
        let now = runtime::now();
        self.servers.borrow_mut().get_mut(index).note_no_edns(now);
        Ok(message)
    }

    /// RFC 7766 5. The case of the letters is of no interest here.
    async fn over_stream(
        &self,
        index: usize,
        bytes: &[u8],
        sent: &Sent,
        until: Deadline,
    ) -> io::Result<Message> {
        STREAMS.increment(Place::of(index));
        let server = self.servers.borrow().get(index).address;
        let answer = self.transport.stream(server, bytes, until).await?;
        let invalid = || io::ErrorKind::InvalidData.into();
        match message::read_stream(&answer, sent) {
            Reading::Fits(message) => Ok(*message),
            _ => Err(invalid()),
        }
    }

    /// Asks each server whose rest is over for what every resolver knows, so that nobody has to
    /// wait for a dead one.
    fn look_after_the_dead(self: &Rc<Self>) {
        let due = self.servers.borrow_mut().due(runtime::now());
        for index in due {
            let exchange = self.clone();
            spawn_in(&self.gate, "dns probe", async move {
                let question = Question {
                    name: Name::root(),
                    rtype: RecordType::NS,
                };
                let until = Deadline::after(runtime::now(), TRY_SPANS[0]);
                // What is learnt is noted where it is learnt.
                let _ = exchange.try_one(index, &question, until).await;
            });
        }
    }
}

/// The question as it is sent: a random id, and random case.
fn make(question: &Question) -> io::Result<Sent> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut name = question.name.clone();
    name.randomize_label_case();
    Ok(Sent {
        id: u16::from_ne_bytes(id),
        query: Query::query(name, question.rtype),
    })
}
