//! One connection from greeting to good-bye: bytes, waits and deadlines.

use std::fmt;
use std::future::pending;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::counters::{self, Role};
use super::machine::{Event, Holds, Machine, StartTls, Terms, too_many_errors};
use super::{Service, reply};
use crate::base::{Deadline, Span, UnixMs};
use crate::config::Protocol;
use crate::delivery::{Body, LocalUser, Transaction};
use crate::directory::Account;
use crate::net::{Conn, Filled, NetError, Peer, Refusal};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::session::{Begin, Door, Presence, Row, Wake, wait};
use crate::wire::smtp::{LineMode, Reply};

/// What may pile up unread: a command line, or a piece of content.
const UNREAD_BYTES_MAX: usize = 48 << 10;
/// Replies that are held back for one write (RFC 2920 3.2).
const REPLIES_BYTES_MAX: usize = 8 << 10;
/// The last words and the end of the connection.
const CLOSE_SPAN: Duration = Duration::from_secs(10);

/// One session.
pub(super) struct Session {
    pub service: Rc<Service>,
    pub door: Door,
    pub conn: Conn,
    pub presence: Presence,
    pub machine: Machine,
    pub mail: Mail,
    pub account: Option<Arc<Account>>,
    /// A program on this host, and whose.
    pub local: Option<Rc<LocalUser>>,
    /// Replies that were not sent yet.
    pub out: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
    /// When a log-in must be done, where one is needed.
    log_in_until: Deadline,
    counted: Counted,
}

/// Counts a session as open, also if it ends in a panic.
struct Counted(Role);

impl Counted {
    fn new(role: Role) -> Self {
        counters::OPENED.increment(role);
        counters::OPEN.add(role, 1);
        Counted(role)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        counters::OPEN.subtract(self.0, 1);
    }
}

/// The message under way.
pub(super) enum Mail {
    None,
    Envelope(Box<Transaction>),
    Content(Box<Body>),
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    Quit,
    PeerClosed,
    TimedOut,
    LoginTimedOut,
    Kicked,
    Stopping,
    TooManyErrors,
    Blocked,
    Net(NetError),
}

impl From<NetError> for End {
    fn from(error: NetError) -> Self {
        End::Net(error)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Quit => "quit",
            End::PeerClosed => "peer closed",
            End::TimedOut => "timed out",
            End::LoginTimedOut => "no log-in in time",
            End::Kicked => "kicked",
            End::Stopping => "server stops",
            End::TooManyErrors => "ended by us after errors",
            End::Blocked => "address is blocked",
            End::Net(error) => return error.fmt(f),
        })
    }
}

impl End {
    /// The last words, where there is somebody who still listens.
    fn reply(&self, hostname: &str) -> Option<Reply> {
        let bye =
            |enhanced, why: &str| Some(Reply::new(421, enhanced, &format!("{hostname} {why}")));
        match self {
            End::TimedOut => bye("4.4.2", "waited too long"),
            End::LoginTimedOut => bye("4.7.0", "waited too long for a log-in"),
            End::Kicked => bye("4.7.0", "ended by the administrator"),
            End::Stopping => bye("4.3.2", "is going down; come again"),
            // Said already, or nobody is there.
            End::Quit | End::PeerClosed | End::TooManyErrors | End::Blocked | End::Net(_) => None,
        }
    }
}

impl Service {
    /// Serves a fresh connection of a smtp, submission, submissions or lmtp listener.
    pub async fn serve(self: Rc<Self>, conn: Conn, door: Door, refusal: Option<Refusal>) {
        self.serve_user(conn, door, refusal, None).await;
    }

    /// Serves a program on this host, which need not log in.
    pub async fn serve_local(
        self: Rc<Self>,
        conn: Conn,
        door: Door,
        refusal: Option<Refusal>,
        user: LocalUser,
    ) {
        self.serve_user(conn, door, refusal, Some(user)).await;
    }

    async fn serve_user(
        self: Rc<Self>,
        conn: Conn,
        door: Door,
        refusal: Option<Refusal>,
        user: Option<LocalUser>,
    ) {
        let reply = match &refusal {
            Some(refusal) => reply::refused(refusal),
            None => self.refused_here(&door),
        };
        if refusal.is_some() || reply.is_some() {
            return refuse(conn, &door, refusal, reply).await;
        }
        let mut session = Box::new(self.open(conn, door, user));
        let end = match session.run().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        session.close(end).await;
    }

    /// The limit that net does not know.
    fn refused_here(&self, door: &Door) -> Option<Reply> {
        let is_full = self.roster.len() >= door.config().limits.sessions_max as usize;
        is_full.then(|| Reply::new(421, "4.3.2", "Too many sessions"))
    }

    fn open(self: Rc<Self>, conn: Conn, door: Door, user: Option<LocalUser>) -> Session {
        let id = runtime::trace_id();
        let protocol = door.listener().protocol;
        let row = Row {
            session: id.to_string(),
            protocol: protocol.to_string(),
            peer: conn.peer().to_string(),
            user: user
                .as_ref()
                .map_or(String::new(), |user| user.login.clone()),
            tls: String::new(),
            since: runtime::unix_now(),
            shard: runtime::shard().0,
        };
        let presence = self.roster.enter(id, row);
        log_event!(
            INFO,
            event::SESSION_OPENED,
            session = %id,
            proto = %protocol,
            peer = %conn.peer(),
            listener = %door.listener().address
        );
        let terms = Terms {
            local_domain: user.as_ref().and_then(|_| first_domain(&door)),
            ..self.terms(&conn, &door)
        };
        if terms.start_tls == StartTls::Withheld {
            counters::TLS_WITHHELD.increment();
            log_event!(INFO, event::TLS_WITHHELD, session = %id, peer = %conn.peer());
        }
        Session {
            counted: Counted::new(terms.role),
            machine: Machine::new(terms, false),
            log_in_until: door.until(|config| config.limits.login.0),
            account: user
                .as_ref()
                .and_then(|user| self.intake.local_account(user)),
            local: user.map(Rc::new),
            service: self,
            door,
            conn,
            presence,
            mail: Mail::None,
            out: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    fn terms(&self, conn: &Conn, door: &Door) -> Terms {
        let listener = door.listener();
        let address = conn.peer().address();
        let role = match listener.protocol {
            Protocol::Lmtp => Role::Lmtp,
            protocol if protocol.is_submission() => Role::Submission,
            _ => Role::Smtp,
        };
        let normalises = is_trusted(conn.peer(), door) && listener.normalise_bare_newlines;
        Terms {
            role,
            hostname: door.hostname().to_owned(),
            message_bytes_max: listener.message_bytes_max.0,
            line_mode: if normalises {
                LineMode::Normalise
            } else {
                LineMode::Strict
            },
            auth: listener.auth,
            clear_log_in: door.may_log_in(false),
            local_domain: None,
            start_tls: match (door.tls(), address) {
                (None, _) => StartTls::Absent,
                // Only other servers: a user who cannot do TLS is not to send a password.
                (Some(_), Some(address)) if role == Role::Smtp => self.start_tls_for(address),
                (Some(_), _) => StartTls::Offered,
            },
            holds: (role == Role::Submission)
                .then(|| holds(door.config().queue.hold_max))
                .flatten(),
        }
    }

    fn start_tls_for(&self, address: IpAddr) -> StartTls {
        match self
            .failures
            .borrow_mut()
            .may_offer(address, runtime::now())
        {
            true => StartTls::Offered,
            false => StartTls::Withheld,
        }
    }
}

/// What programs on this host complete names with.
fn first_domain(door: &Door) -> Option<String> {
    let config = door.config();
    config
        .domains
        .first()
        .map(|domain| domain.as_str().to_owned())
}

/// What is offered from now on; sessions are short.
fn holds(span: Span) -> Option<Holds> {
    let seconds_max = u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    let until_max = UnixMs(runtime::unix_now().0 + i64::from(seconds_max) * 1000);
    (seconds_max > 0).then_some(Holds {
        seconds_max,
        until_max,
    })
}

/// Whether the peer is in the listener's trusted networks.
pub(super) fn is_trusted(peer: &Peer, door: &Door) -> bool {
    match peer {
        Peer::Direct { remote, .. } | Peer::Proxied { remote, .. } => {
            door.listener().trusts(remote.ip())
        }
        Peer::Unix { .. } => true,
        Peer::Proxy { .. } => false,
    }
}

/// Says why not, and closes. On a TLS port there is no language to say it in.
async fn refuse(mut conn: Conn, door: &Door, refusal: Option<Refusal>, reply: Option<Reply>) {
    let protocol = door.listener().protocol;
    let mut line = Vec::new();
    if let Some(reply) = &reply {
        reply.encode(&mut line);
    }
    let why = match &refusal {
        Some(Refusal::Proxy(error)) => error.to_string(),
        _ => String::from_utf8_lossy(&line).trim_end().to_owned(),
    };
    log_event!(
        WARN,
        event::CONNECTION_REFUSED,
        proto = %protocol,
        peer = %conn.peer(),
        reason = why.as_str()
    );
    let until = Deadline::after(runtime::now(), CLOSE_SPAN);
    if !line.is_empty() && !protocol.is_tls_from_start() {
        // Whether it arrives or not, this is the end.
        let _ = conn.write(&line, until).await;
        conn.close(until).await;
    }
}

impl Session {
    /// Who has logged in may send to other domains, and who is trusted where the site says so.
    pub(super) fn may_relay(&self) -> bool {
        let is_lmtp = self.door.listener().protocol == Protocol::Lmtp;
        let relays = self.door.config().smtp.relay.relay_trusted && !is_lmtp;
        self.account.is_some()
            || self.local.is_some()
            || (relays && is_trusted(self.conn.peer(), &self.door))
    }
}

/// What a session never returns.
pub(super) enum Never {}

impl Session {
    async fn run(&mut self) -> Result<Never, End> {
        if self.door.listener().protocol.is_tls_from_start() {
            Box::pin(self.secure(Begin::AtOnce)).await?;
        }
        self.say(&self.machine.greeting());
        loop {
            let mut content = Vec::new();
            let (used, event) = self.machine.read(self.conn.unread(), &mut content);
            self.conn.consume(used);
            self.bytes_in += used as u64;
            match event {
                Event::Wait => {
                    self.flush().await?;
                    self.wait().await?;
                }
                Event::Say(reply) => self.say(&reply),
                Event::Bye(reply) => {
                    self.say(&reply);
                    return Err(match reply.code() {
                        221 => End::Quit,
                        _ => End::TooManyErrors,
                    });
                }
                event => Box::pin(self.perform(event, content)).await?,
            }
            if self.machine.is_between_messages() {
                self.mail = Mail::None;
            }
            if self.machine.has_erred_enough() {
                self.say(&too_many_errors());
                return Err(End::TooManyErrors);
            }
            if self.out.len() > REPLIES_BYTES_MAX {
                self.flush().await?;
            }
            runtime::yield_if_needed().await;
        }
    }

    pub fn say(&mut self, reply: &Reply) {
        if reply.code() >= 500 {
            counters::FAULTS.increment(self.machine.terms().role);
        }
        reply.encode(&mut self.out);
    }

    /// Sends what was said.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.bytes_out += self.out.len() as u64;
        let until = self.door.until(|config| config.limits.smtp_idle.0);
        let mut out = std::mem::take(&mut self.out);
        self.conn.write_all_of(&mut out, until).await?;
        Ok(())
    }

    /// Waits for input. A message under way is not cut short by a drain.
    async fn wait(&mut self) -> Result<(), End> {
        let mut until = self.door.until(|config| config.limits.smtp_idle.0);
        let needs_log_in = self.machine.needs_log_in();
        if needs_log_in {
            until = until.earlier(self.log_in_until);
        }
        let wake = if self.machine.is_in_content() {
            let kicked = async {
                self.presence.kicked().await;
                Ok(Wake::Kicked)
            };
            let filled = async {
                match self.conn.fill(UNREAD_BYTES_MAX, until).await {
                    Ok(Filled::Bytes(_)) => Ok(Wake::Input),
                    Ok(Filled::Eof) => Ok(Wake::Eof),
                    Err(NetError::Late(_)) => Ok(Wake::TimedOut),
                    Err(error) => Err(error),
                }
            };
            or(kicked, filled).await?
        } else {
            let (presence, stop) = (&self.presence, &self.service.stop);
            wait(
                &mut self.conn,
                UNREAD_BYTES_MAX,
                until,
                presence,
                stop,
                pending(),
            )
            .await?
        };
        match wake {
            Wake::Input | Wake::News => Ok(()),
            Wake::Eof => Err(End::PeerClosed),
            Wake::TimedOut if needs_log_in && until == self.log_in_until => Err(End::LoginTimedOut),
            Wake::TimedOut => Err(End::TimedOut),
            Wake::Kicked => Err(End::Kicked),
            Wake::Stopping => Err(End::Stopping),
        }
    }

    async fn close(self: Box<Self>, end: End) {
        let Session {
            door,
            mut conn,
            presence,
            counted,
            mut out,
            mail,
            account,
            bytes_in,
            bytes_out,
            ..
        } = *self;
        // Spool files go before the good-bye is waited for.
        drop(mail);
        if matches!(end, End::TooManyErrors) {
            counters::FAULTS_ENDED.increment(counted.0);
        }
        if let Some(reply) = end.reply(door.hostname()) {
            reply.encode(&mut out);
        }
        log_event!(
            INFO,
            event::SESSION_CLOSED,
            session = %presence.id(),
            proto = %door.listener().protocol,
            peer = %conn.peer(),
            user = account.as_ref().map(|account| account.address.as_str()),
            reason = %end,
            received = bytes_in,
            sent = bytes_out + out.len() as u64
        );
        if matches!(end, End::Net(_)) {
            return;
        }
        let until = Deadline::after(runtime::now(), CLOSE_SPAN);
        if out.is_empty() || conn.write(&out, until).await.is_ok() {
            conn.close(until).await;
        }
    }
}
