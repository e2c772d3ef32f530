//! One connection from greeting to good-bye: bytes, waits and deadlines.

use std::fmt;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters;
use super::machine::{Event, LINE_BYTES_MAX, Machine, Terms};
use super::maildrop::Maildrop;
use super::{Service, reply};
use crate::base::{Deadline, MailboxId, ShardId, TraceId, UnixMs};
use crate::directory::Account;
use crate::net::{Conn, NetError, Refusal};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::session::{Arrival, Begin, Door, Errand, Presence, Row, Wake, wait};
use crate::store::{self, Access, AccountRef, StoreError, View};

/// Replies that are held back for one write.
pub(super) const REPLIES_BYTES_MAX: usize = 32 << 10;
/// The last words and the end of the connection.
const CLOSE_SPAN: Duration = Duration::from_secs(10);

/// What goes with a connection to the shard of its account.
#[derive(Clone, Copy)]
pub struct Carried {
    bytes_in: u64,
    bytes_out: u64,
}

/// One session.
pub(super) struct Session {
    pub service: Rc<Service>,
    pub door: Door,
    pub conn: Conn,
    pub presence: Presence,
    pub machine: Machine,
    pub open: Option<Inbox>,
    pub account: Option<Arc<Account>>,
    /// Replies that were not sent yet.
    pub out: Vec<u8>,
    since: UnixMs,
    carried: Carried,
    /// When a log-in must be done.
    log_in_until: Deadline,
    _counted: Counted,
}

/// Counts a session as open, also if it ends in a panic.
struct Counted;

impl Counted {
    fn new() -> Self {
        counters::OPEN.add(1);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        counters::OPEN.subtract(1);
    }
}

/// The mailbox of a session.
pub(super) struct Inbox {
    pub account: store::Account,
    pub mailbox: MailboxId,
    /// Only looks: POP3 takes nobody's `\Recent`.
    pub view: View,
}

/// Why a session ended on this shard.
pub(super) enum End {
    Quit,
    PeerClosed,
    TimedOut,
    Kicked,
    Stopping,
    TooManyErrors,
    Blocked,
    /// A message broke off in the middle: there is no way to say so but to end.
    Broken(StoreError),
    Net(NetError),
    /// It goes on where its account lives; the answer to the log-in is owed.
    Moves {
        to: ShardId,
        account: Arc<Account>,
        login: String,
    },
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
            End::Kicked => "kicked",
            End::Stopping => "server stops",
            End::TooManyErrors => "too many errors",
            End::Blocked => "address is blocked",
            End::Broken(error) => return write!(f, "message broke off: {error:?}"),
            End::Net(error) => return error.fmt(f),
            End::Moves { .. } => "could not move to its shard",
        })
    }
}

impl End {
    fn reply(&self) -> Option<&'static [u8]> {
        match self {
            End::Kicked => Some(b"-ERR [SYS/TEMP] ended by the administrator\r\n"),
            End::Stopping => Some(b"-ERR [SYS/TEMP] going down; come again\r\n"),
            End::Moves { .. } => Some(b"-ERR [SYS/TEMP] busy; try again later\r\n"),
            // RFC 1939 3: a time-out is silent. The others have said what there is to say.
            End::TimedOut | End::Quit | End::PeerClosed | End::TooManyErrors => None,
            End::Blocked | End::Broken(_) | End::Net(_) => None,
        }
    }
}

/// What a session never returns.
pub(super) enum Never {}

impl Service {
    /// Serves a fresh connection of a pop3 or pop3s listener.
    pub async fn serve(self: Rc<Self>, conn: Conn, door: Door, refusal: Option<Refusal>) {
        let sessions_max = door.config().limits.sessions_max as usize;
        if refusal.is_some() || self.roster.len() >= sessions_max {
            return refuse(conn, &door, refusal).await;
        }
        counters::OPENED.increment();
        let (id, since) = (runtime::trace_id(), runtime::unix_now());
        let carried = Carried {
            bytes_in: 0,
            bytes_out: 0,
        };
        let mut session = Box::new(self.enter(conn, door, id, since, carried));
        log_event!(
            INFO,
            event::SESSION_OPENED,
            session = %id,
            proto = %session.door.listener().protocol,
            peer = %session.conn.peer(),
            listener = %session.door.listener().address
        );
        let end = match Box::pin(session.greet()).await {
            Ok(()) => session.run().await,
            Err(end) => Err(end),
        };
        session.after(end).await;
    }

    /// Goes on with a connection that logged in on another shard.
    pub async fn arrive(self: Rc<Self>, arrival: Box<Arrival>, door: Door) {
        let Arrival {
            parcel,
            session: id,
            account,
            login,
            since,
            errand,
            ..
        } = *arrival;
        // The server room sorts errands by protocol.
        let Errand::Pop3(carried) = errand else {
            return;
        };
        let conn = parcel.attach();
        let mut session = Box::new(self.enter(conn, door, id, since, carried));
        session.presence.logged_in(&account.address);
        log_event!(INFO, event::SESSION_MOVED, session = %id, user = login.as_str());
        let end = match Box::pin(session.opened(account)).await {
            Ok(()) => session.run().await,
            Err(end) => Err(end),
        };
        session.after(end).await;
    }

    fn enter(
        self: Rc<Self>,
        conn: Conn,
        door: Door,
        id: TraceId,
        since: UnixMs,
        carried: Carried,
    ) -> Session {
        let row = Row {
            session: id.to_string(),
            protocol: door.listener().protocol.to_string(),
            peer: conn.peer().to_string(),
            user: String::new(),
            tls: conn.tls().map_or(String::new(), |tls| {
                format!("{} {}", tls.version, tls.cipher)
            }),
            since,
            shard: runtime::shard().0,
        };
        let presence = self.roster.enter(id, row);
        let terms = Terms {
            has_tls: door.tls().is_some(),
            clear_log_in: door.may_log_in(false),
        };
        Session {
            machine: Machine::new(terms, conn.is_tls()),
            log_in_until: door.until(|config| config.limits.login.0),
            service: self,
            door,
            conn,
            presence,
            open: None,
            account: None,
            out: Vec::new(),
            since,
            carried,
            _counted: Counted::new(),
        }
    }

    /// INBOX as it is now.
    pub(super) async fn inbox(&self, of: AccountRef) -> Result<(Inbox, Maildrop), StoreError> {
        let account = self.remote.account(of).await?;
        let mailbox = account.find("INBOX").ok_or(StoreError::NoMailbox)?;
        let view = account.select(mailbox, Access::ReadOnly).await?;
        let uidvalidity = view.status()?.uidvalidity;
        let mut messages = Vec::with_capacity(view.uids().len());
        view.scan(view.uids(), &mut |row| messages.push((row.uid, row.size)));
        let maildrop = Maildrop::new(uidvalidity, messages.into_iter(), view.former_uidls());
        Ok((
            Inbox {
                account,
                mailbox,
                view,
            },
            maildrop,
        ))
    }
}

/// Says why not, and closes. On a TLS port there is no language to say it in.
async fn refuse(mut conn: Conn, door: &Door, refusal: Option<Refusal>) {
    let (why, is_told) = match &refusal {
        Some(Refusal::AddressFull) => ("too many connections from your address".to_owned(), true),
        Some(Refusal::ListenerFull) | None => ("too many connections".to_owned(), true),
        Some(Refusal::Proxy(error)) => (error.to_string(), false),
    };
    let protocol = door.listener().protocol;
    log_event!(
        WARN,
        event::CONNECTION_REFUSED,
        proto = %protocol,
        peer = %conn.peer(),
        reason = why.as_str()
    );
    if is_told && !protocol.is_tls_from_start() {
        let until = Deadline::after(runtime::now(), CLOSE_SPAN);
        let line = format!("-ERR [SYS/TEMP] {why}\r\n");
        // Whether it arrives or not, this is the end.
        let _ = conn.write(line.as_bytes(), until).await;
        conn.close(until).await;
    }
}

impl Session {
    async fn greet(&mut self) -> Result<(), End> {
        if self.door.listener().protocol.is_tls_from_start() {
            self.secure(Begin::AtOnce).await?;
        }
        let greeting = format!("+OK {} POP3 Palomar\r\n", self.door.hostname());
        self.say(&greeting);
        Ok(())
    }

    async fn run(&mut self) -> Result<Never, End> {
        loop {
            let (used, event) = self.machine.read(self.conn.unread());
            self.conn.consume(used);
            self.carried.bytes_in += used as u64;
            match event {
                Event::Wait => {
                    self.flush().await?;
                    self.wait().await?;
                }
                Event::Onward => {}
                Event::Say(reply) => self.say(&reply),
                Event::Bye(reply) => {
                    self.say(&reply);
                    let is_quit = !self.machine.has_erred_enough();
                    return Err(if is_quit {
                        End::Quit
                    } else {
                        End::TooManyErrors
                    });
                }
                Event::Do(act) => Box::pin(self.perform(act)).await?,
            }
            if self.machine.has_erred_enough() {
                return Err(End::TooManyErrors);
            }
            if self.out.len() > REPLIES_BYTES_MAX {
                self.flush().await?;
            }
            runtime::yield_if_needed().await;
        }
    }

    pub fn say(&mut self, reply: &str) {
        self.out.extend_from_slice(reply.as_bytes());
    }

    /// Sends what was said.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.carried.bytes_out += self.out.len() as u64;
        let until = self.door.until(|config| config.limits.pop3_idle.0);
        let mut out = std::mem::take(&mut self.out);
        self.conn.write_all_of(&mut out, until).await?;
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), End> {
        let mut until = self.door.until(|config| config.limits.pop3_idle.0);
        if !self.machine.is_in() {
            until = until.earlier(self.log_in_until);
        }
        let (presence, stop) = (&self.presence, &self.service.stop);
        let unread_max = LINE_BYTES_MAX + 1;
        match wait(&mut self.conn, unread_max, until, presence, stop, pending()).await? {
            Wake::Input | Wake::News => Ok(()),
            Wake::Eof => Err(End::PeerClosed),
            Wake::TimedOut => Err(End::TimedOut),
            Wake::Kicked => Err(End::Kicked),
            Wake::Stopping => Err(End::Stopping),
        }
    }

    /// The account is this shard's: opens its mailbox and answers the log-in.
    pub async fn opened(&mut self, account: Arc<Account>) -> Result<(), End> {
        let reference = self.service.desk.reference(&account);
        let inbox = self.service.inbox(reference).await;
        match inbox {
            Ok((inbox, maildrop)) => {
                let (count, size) = maildrop.stat();
                self.machine.opened(maildrop);
                self.open = Some(inbox);
                self.account = Some(account);
                self.say(&format!("+OK {count} messages, {size} octets\r\n"));
            }
            Err(error) => self.say(reply::store(&error)),
        }
        Ok(())
    }

    async fn after(self: Box<Self>, end: Result<Never, End>) {
        let end = match end {
            Err(end) => end,
            Ok(never) => match never {},
        };
        match end {
            End::Moves { to, account, login } => self.depart(to, account, login).await,
            end => self.close(end).await,
        }
    }

    /// Nothing is in flight: what was said is sent, and the reader is no more.
    async fn depart(mut self: Box<Self>, to: ShardId, account: Arc<Account>, login: String) {
        if let Err(end) = self.flush().await {
            return self.close(end).await;
        }
        let Session {
            service,
            door,
            conn,
            presence,
            since,
            carried,
            ..
        } = *self;
        let (id, number) = (presence.id(), door.number());
        let (of, name) = (account.clone(), login.clone());
        let build = move |parcel| Arrival {
            parcel,
            door: number,
            session: id,
            account: of,
            login: name,
            since,
            errand: Errand::Pop3(carried),
        };
        if let Err(conn) = service.arrivals.send(to, conn, build).await {
            let end = End::Moves {
                to,
                account: account.clone(),
                login,
            };
            farewell(
                &door,
                conn,
                &presence,
                Some(&account),
                Vec::new(),
                carried,
                end,
            )
            .await;
        }
    }

    async fn close(self: Box<Self>, end: End) {
        let Session {
            door,
            conn,
            presence,
            open,
            account,
            out,
            carried,
            ..
        } = *self;
        drop(open);
        farewell(&door, conn, &presence, account.as_ref(), out, carried, end).await;
    }
}

async fn farewell(
    door: &Door,
    mut conn: Conn,
    presence: &Presence,
    account: Option<&Arc<Account>>,
    mut out: Vec<u8>,
    carried: Carried,
    end: End,
) {
    out.extend_from_slice(end.reply().unwrap_or_default());
    log_event!(
        INFO,
        event::SESSION_CLOSED,
        session = %presence.id(),
        proto = %door.listener().protocol,
        peer = %conn.peer(),
        user = account.map(|account| account.address.as_str()),
        reason = %end,
        received = carried.bytes_in,
        sent = carried.bytes_out + out.len() as u64
    );
    if matches!(end, End::Net(_) | End::Broken(_)) {
        return;
    }
    let until = Deadline::after(runtime::now(), CLOSE_SPAN);
    if out.is_empty() || conn.write(&out, until).await.is_ok() {
        conn.close(until).await;
    }
}
