//! The machine on a real connection: bytes, waits and deadlines.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::content::{Content, PIECE_BYTES};
use super::machine::{Event, Machine};
use super::outcome::Report;
use super::times::Phase;
use super::trouble::Trouble;
use super::{Letter, Terms};
use crate::base::Deadline;
use crate::net::{self, Conn, Filled, NetError, OutgoingTls, TlsPeer};
use crate::runtime;
use crate::wire::smtp::{Offer, PEER_LINE_BYTES_MAX, PeerReply};

/// What may pile up unread: more than any line.
const UNREAD_BYTES_MAX: usize = 4 * PEER_LINE_BYTES_MAX;
/// What is written at once; each block has a deadline of its own. A piece of content, its dots
/// doubled, is one block but in the strangest cases.
const BLOCK_BYTES: usize = 2 * PIECE_BYTES;
/// A hop that broke the connection may have said why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// QUIT and the end of the connection.
const CLOSE_SPAN: Duration = Duration::from_secs(5);

/// How a connection was secured.
#[derive(Debug)]
pub enum TlsState {
    /// It is not, since it was not offered or not wanted.
    Plain,
    /// It is not, since the hop answered STARTTLS so.
    Refused(PeerReply),
    Secured(Box<TlsPeer>),
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Facts {
    pub host: String,
    pub address: SocketAddr,
    /// Our end's; `None` where there was no connection.
    pub local: Option<IpAddr>,
    pub tls: TlsState,
    /// From the first packet to the connection.
    pub connect_ms: u64,
    /// From there to the point where a letter may be offered, or to the trouble.
    pub open_ms: u64,
}

/// A connection that came to nothing.
#[derive(Debug)]
pub struct Unopened {
    pub trouble: Trouble,
    pub facts: Facts,
}

/// A connection to a hop.
pub struct Client {
    conn: Conn,
    machine: Machine,
    terms: Rc<Terms>,
    facts: Facts,
    /// What the machine wrote and the socket did not get yet.
    out: Vec<u8>,
}

/// The deadlines of one walk.
struct Clock {
    /// Of all of it.
    whole: Deadline,
    /// Of the answer that is awaited, and which one that is.
    step: Deadline,
    replies: u64,
}

impl Client {
    /// Connects and does all that comes before a letter.
    pub async fn open(
        address: SocketAddr,
        source: Option<IpAddr>,
        terms: Rc<Terms>,
        tls: &OutgoingTls,
    ) -> Result<Client, Box<Unopened>> {
        let began = runtime::now();
        let whole = Deadline::after(began, terms.times.attempt);
        let until = Deadline::after(began, terms.times.connect).earlier(whole);
        let mut facts = Facts {
            host: terms.host.clone(),
            address,
            local: None,
            tls: TlsState::Plain,
            connect_ms: 0,
            open_ms: 0,
        };
        let connected = net::connect(address, source, until).await;
        facts.connect_ms = ms_since(began);
        let conn = match connected {
            Ok(conn) => conn,
            Err(error) => {
                let trouble = trouble(error, Phase::Connect, whole);
                return Err(Box::new(Unopened { trouble, facts }));
            }
        };
        facts.local = conn.peer().local().map(|local| local.ip());
        let mut client = Client {
            conn,
            machine: Machine::new(terms.clone()),
            terms,
            facts,
            out: Vec::new(),
        };
        let opened = runtime::now();
        let walked = client.walk_open(whole, tls).await;
        client.facts.open_ms = ms_since(opened);
        if let Some(reply) = client.machine.tls_refused() {
            client.facts.tls = TlsState::Refused(reply.clone());
        }
        match walked {
            Ok(()) => Ok(client),
            Err(trouble) => {
                let facts = client.abandon(&trouble).await;
                Err(Box::new(Unopened { trouble, facts }))
            }
        }
    }

    /// What is known of the connection.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the hop offers.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        self.machine.offer()
    }

    /// What our own policy makes of the host, in place of what authorities make of it: whether a
    /// message that asks for verified TLS may go there.
    pub fn judged(&mut self, is_verified: bool) {
        self.machine.judged(is_verified);
    }

    /// True if another letter may be offered: the hop has not closed, nor said anything unasked.
    pub async fn may_send(&mut self) -> bool {
        if !self.machine.may_begin() || !self.conn.unread().is_empty() {
            return false;
        }
        // So that what came meanwhile is known.
        runtime::yield_now().await;
        let conn = &mut self.conn;
        let is_quiet = |polled: Poll<_>| Poll::Ready(polled.is_pending());
        poll_fn(|cx| is_quiet(conn.poll_fill(cx, UNREAD_BYTES_MAX))).await
    }

    /// Offers a letter; only where [`Client::may_send`]. What it does to the connection is seen in
    /// the report and in `may_send`.
    pub async fn send(&mut self, letter: Rc<Letter>, content: &mut impl Content) -> Report {
        let span = self.terms.times.letter(letter.size);
        let whole = Deadline::after(runtime::now(), span);
        match self.machine.begin(letter) {
            Some(report) => report,
            None => {
                let report = self.walk_letter(whole, content).await;
                // A connection that waits for its next letter holds no buffer.
                self.out = Vec::new();
                report
            }
        }
    }

    /// Says good-bye and closes.
    pub async fn quit(mut self) {
        let until = Deadline::after(runtime::now(), CLOSE_SPAN);
        self.machine.quit(&mut self.out);
        // Its answer is of no interest, and a hop that is gone is gone.
        if self.out.is_empty() || self.conn.write(&self.out, until).await.is_ok() {
            self.conn.close(until).await;
        }
    }

    /// Leaves a hop that does not want us, without waiting for anything.
    async fn abandon(mut self, trouble: &Trouble) -> Facts {
        let until = Deadline::after(runtime::now(), LAST_WORDS);
        if matches!(trouble, Trouble::Refused { .. }) {
            // RFC 5321 3.1 asks for it; whether it is heard is no matter.
            let _ = self.conn.write(b"QUIT\r\n", until).await;
        }
        self.facts
    }

    async fn walk_open(&mut self, whole: Deadline, tls: &OutgoingTls) -> Result<(), Trouble> {
        let mut clock = Clock::new(whole);
        loop {
            let event = match self.step(&mut clock).await {
                Event::StartTls => match self.handshake(whole, tls).await {
                    Ok(()) => continue,
                    Err(event) => event,
                },
                event => event,
            };
            match event {
                Event::Ready => return Ok(()),
                Event::Broken(trouble) => return Err(trouble),
                other => unreachable!("{other:?} before a letter"),
            }
        }
    }

    async fn handshake(&mut self, whole: Deadline, tls: &OutgoingTls) -> Result<(), Event> {
        let span = self.terms.times.handshake;
        let until = Deadline::after(runtime::now(), span).earlier(whole);
        let shaken = self
            .conn
            .start_tls_client(tls, &self.terms.host, until)
            .await;
        let peer = shaken.map_err(|error| self.machine.end(Trouble::Handshake(error)))?;
        let secured = self.machine.secured(&peer, &mut self.out);
        self.facts.tls = TlsState::Secured(Box::new(peer));
        secured
    }

    async fn walk_letter(&mut self, whole: Deadline, content: &mut impl Content) -> Report {
        let mut clock = Clock::new(whole);
        let mut piece = Vec::new();
        loop {
            let event = match self.step(&mut clock).await {
                Event::Content => match self.content(&mut clock, content, &mut piece).await {
                    Ok(()) => continue,
                    Err(event) => event,
                },
                event => event,
            };
            match event {
                Event::Done(report) => return report,
                other => unreachable!("{other:?} instead of a report"),
            }
        }
    }

    /// One piece of content, or its end, or both: what is short leaves in one write. What the hop
    /// says meanwhile is looked at with the next step.
    async fn content(
        &mut self,
        clock: &mut Clock,
        content: &mut impl Content,
        piece: &mut Vec<u8>,
    ) -> Result<(), Event> {
        for _ in 0..2 {
            piece.clear();
            if let Err(fault) = content.read(piece).await {
                // Without what ends it: the hop must not take a part for the whole.
                return Err(self.machine.end(Trouble::Content(fault)));
            }
            debug_assert!(piece.len() <= PIECE_BYTES, "a piece of {}", piece.len());
            if piece.is_empty() {
                self.machine.content_end(&mut self.out);
                break;
            }
            self.machine.content(piece, &mut self.out);
            if piece.len() == PIECE_BYTES {
                break;
            }
        }
        self.flush(clock, Phase::Content).await?;
        runtime::yield_if_needed().await;
        let conn = &mut self.conn;
        // Whatever came, or went wrong, the next read tells.
        poll_fn(|cx| {
            let _ = conn.poll_fill(cx, UNREAD_BYTES_MAX);
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    /// Sends and reads until there is something else to do.
    async fn step(&mut self, clock: &mut Clock) -> Event {
        loop {
            let (used, event) = self.machine.step(self.conn.unread(), &mut self.out);
            self.conn.consume(used);
            let Event::Wait(phase) = event else {
                if matches!(event, Event::Content | Event::StartTls)
                    && let Err(event) = self.flush(clock, Phase::Content).await
                {
                    return event;
                }
                return event;
            };
            let is_asked = !self.out.is_empty();
            if let Err(event) = self.flush(clock, phase).await {
                return event;
            }
            // From the question, or from the answer before: never from its octets.
            if is_asked || clock.replies != self.machine.replies() {
                clock.replies = self.machine.replies();
                let span = self.terms.times.of(phase);
                clock.step = Deadline::after(runtime::now(), span).earlier(clock.whole);
            }
            let ended = match self.conn.fill(UNREAD_BYTES_MAX, clock.step).await {
                Ok(Filled::Bytes(_)) => continue,
                Ok(Filled::Eof) => Trouble::Closed { phase },
                Err(error) => trouble(error, phase, clock.whole),
            };
            return self.machine.end(ended);
        }
    }

    /// Sends what there is, a block at a time.
    async fn flush(&mut self, clock: &Clock, phase: Phase) -> Result<(), Event> {
        let mut out = std::mem::take(&mut self.out);
        for block in out.chunks(BLOCK_BYTES) {
            let span = self.terms.times.block;
            let until = Deadline::after(runtime::now(), span).earlier(clock.whole);
            if let Err(error) = self.conn.write(block, until).await {
                let trouble = trouble(error, phase, clock.whole);
                return Err(self.last_words(trouble).await);
            }
        }
        out.clear();
        self.out = out;
        Ok(())
    }

    /// The socket takes no more. What the hop said before it closed may be there to be read.
    async fn last_words(&mut self, trouble: Trouble) -> Event {
        if matches!(trouble, Trouble::Net { .. } | Trouble::Closed { .. }) {
            let until = Deadline::after(runtime::now(), LAST_WORDS);
            // If there is nothing, the trouble is as it is.
            let _ = self.conn.fill(UNREAD_BYTES_MAX, until).await;
            let (used, event) = self.machine.step(self.conn.unread(), &mut Vec::new());
            self.conn.consume(used);
            if matches!(event, Event::Done(_) | Event::Broken(_)) {
                return event;
            }
        }
        self.machine.end(trouble)
    }
}

impl Clock {
    fn new(whole: Deadline) -> Self {
        Clock {
            whole,
            step: whole,
            replies: u64::MAX,
        }
    }
}

/// `whole` tells which deadline it was that passed.
fn trouble(error: NetError, phase: Phase, whole: Deadline) -> Trouble {
    match error {
        NetError::Late(_) if runtime::now() >= whole.0 => Trouble::Overdue { phase },
        NetError::Late(_) => Trouble::Late { phase },
        NetError::Gone(_) => Trouble::Closed { phase },
        error => Trouble::Net { phase, error },
    }
}

fn ms_since(began: Instant) -> u64 {
    let span = runtime::now().saturating_duration_since(began);
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
