//! The dialogue before log-in (RFC 9051 6.2), on the shard that accepted the connection.

use std::rc::Rc;
use std::sync::Arc;

use super::super::{
    Applicant, Arrival, Begin, Door, Errand, LoginOutcome, LoginRefusal, Row, secure,
};
use super::answer::{Answer, Status};
use super::caps::{Moment, capabilities};
use super::client::{Client, End, Input};
use super::cmd::access::{id_text, write_id};
use super::machine::{Nonsense, States, rule_of, why_not};
use super::serve::{Known, Opened};
use super::{Carried, Service};
use crate::base::{Deadline, TraceId, UnixMs};
use crate::config::Protocol;
use crate::directory::{Account, Service as Entrance};
use crate::net::{Conn, NetError, Refusal};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::wire::imap::{Authenticate, Bad, Body, Command, parse, tag_and_name};
use crate::wire::sasl::{Credentials, Failure, Mechanism, Step};

/// Failed log-ins after which a connection ends.
const FAILURES_MAX: u8 = 5;

/// A session that has not logged in.
struct Stranger {
    client: Client,
    service: Rc<Service>,
    named: Option<String>,
    nonsense: Nonsense,
    failures: u8,
}

/// Somebody proved who they are; the log-in with this tag waits for its answer.
struct Proven {
    tag: String,
    account: Arc<Account>,
    login: String,
}

/// What a command came to.
enum Turn {
    Go,
    Proven(Proven),
}

impl Service {
    /// Serves a fresh connection to its end, or until it moved to another shard.
    pub async fn serve(self: Rc<Self>, conn: Conn, door: Door, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            return Box::pin(refuse(conn, &door, &refusal)).await;
        }
        // Boxed: the future of a session that waits after its log-in does not hold this part.
        let known = Box::pin(self.admit(conn, door)).await;
        if let Some(known) = known {
            known.run().await;
        }
    }

    async fn admit(self: Rc<Self>, conn: Conn, door: Door) -> Option<Box<Known>> {
        let id = runtime::trace_id();
        let since = runtime::unix_now();
        let row = row(&conn, id, since, String::new());
        log_event!(
            INFO,
            event::SESSION_OPENED,
            session = %id,
            peer = %conn.peer(),
            proto = "imap",
            listener = %door.listener().address
        );
        let presence = self.roster.enter(id, row);
        let stop = self.stop.clone();
        let mut client = Client::new(conn, door, presence, stop, false);
        let opened = Opened { since, named: None };
        if client.door.listener().protocol == Protocol::Imaps
            && let Err(error) = start_tls(&mut client, Begin::AtOnce).await
        {
            opened.closed(&client, None, &End::Net(error));
            return None;
        }
        let mut stranger = Stranger {
            client,
            service: self,
            named: None,
            nonsense: Nonsense::default(),
            failures: 0,
        };
        stranger.greet();
        loop {
            let proven = match stranger.talk().await {
                Ok(proven) => proven,
                Err(end) => {
                    let opened = Opened {
                        named: stranger.named.take(),
                        ..opened
                    };
                    opened.closed(&stranger.client, None, &end);
                    stranger.client.close(&end).await;
                    return None;
                }
            };
            match stranger.enter(proven, since).await {
                Entered::Here(known) => return Some(known),
                Entered::Moved => return None,
                Entered::Back(back) => stranger = *back,
            }
        }
    }

    /// Goes on with a session that logged in on another shard.
    pub async fn arrive(self: Rc<Self>, arrival: Box<Arrival>, door: Door) {
        let known = Box::pin(self.welcome(arrival, door)).await;
        if let Some(known) = known {
            known.run().await;
        }
    }

    async fn welcome(self: Rc<Self>, arrival: Box<Arrival>, door: Door) -> Option<Box<Known>> {
        let Arrival {
            parcel,
            session,
            account,
            login: _,
            since,
            errand,
            ..
        } = *arrival;
        let Errand::Imap(carried) = errand else {
            return None;
        };
        let conn = parcel.attach();
        let presence = self
            .roster
            .enter(session, row(&conn, session, since, account.address.clone()));
        let stop = self.stop.clone();
        let mut client = Client::new(conn, door, presence, stop, true);
        client.received = carried.received;
        client.sent = carried.sent;
        let opened = Opened {
            since,
            named: carried.client,
        };
        Known::begin(self, client, account, opened, &carried.tag).await
    }
}

enum Entered {
    Here(Box<Known>),
    /// To another shard, or closed.
    Moved,
    /// The other shard did not take it; it was told.
    Back(Box<Stranger>),
}

impl Stranger {
    fn moment(&self) -> Moment {
        let is_tls = self.client.conn.is_tls();
        Moment::BeforeLogin {
            tls_offered: !is_tls && self.client.door.tls().is_some(),
            login_allowed: self.client.door.may_log_in(is_tls),
        }
    }

    fn greet(&mut self) {
        let greeting = format!(
            "* OK [CAPABILITY {}] {} Palomar ready\r\n",
            capabilities(self.moment()),
            self.client.door.hostname()
        );
        self.client.out.extend_from_slice(greeting.as_bytes());
    }

    /// Talks until somebody is proven.
    async fn talk(&mut self) -> Result<Proven, End> {
        // One span for all of it: NOOP after NOOP must not keep a stranger for ever.
        let until = self.client.door.until(|config| config.limits.login.0);
        loop {
            let input = self.client.next(until).await?;
            let line = std::mem::take(&mut self.client.line);
            let turn = match input {
                Input::Command => self.command(&line, until).await,
                Input::Message(_) => {
                    let tag = tag_and_name(&line).0.unwrap_or("*");
                    let answer = Answer::bad("log in first");
                    self.client
                        .refuse_literal(tag, &answer)
                        .await
                        .map(|()| Turn::Go)
                }
            };
            self.client.line = line;
            self.client.wipe_line();
            if let Turn::Proven(proven) = turn? {
                return Ok(proven);
            }
            self.client.flush().await?;
        }
    }

    async fn command(&mut self, line: &[u8], until: Deadline) -> Result<Turn, End> {
        let Command { tag, body } = match parse(line) {
            Ok(command) => command,
            Err(Bad { tag, fault }) => return self.nonsense(tag.unwrap_or("*"), fault.into()),
        };
        if let Some(why) = why_not(rule_of(&body), States::NOT_AUTHENTICATED) {
            return self.nonsense(tag, Answer::bad(why));
        }
        self.nonsense.forgive();
        let answer = match body {
            Body::Login(login) => {
                let user = login.user.into_owned();
                let credentials = Credentials {
                    authzid: None,
                    login: user,
                    password: login.password,
                };
                return self.log_in(tag, credentials).await;
            }
            Body::Authenticate(authenticate) => {
                return self.authenticate(tag, authenticate, until).await;
            }
            Body::StartTls => return self.secure(tag).await,
            Body::Capability => {
                let line = format!("* CAPABILITY {}\r\n", capabilities(self.moment()));
                self.client.out.extend_from_slice(line.as_bytes());
                Answer::ok("CAPABILITY done")
            }
            Body::Id(fields) => {
                self.named = id_text(fields).or(self.named.take());
                write_id(&mut self.client.out);
                Answer::ok("ID done")
            }
            Body::Logout => {
                self.client.out.extend_from_slice(b"* BYE good-bye\r\n");
                Answer::ok("LOGOUT done").write(tag, &mut self.client.out);
                return Err(End::Logout);
            }
            // What else may come before log-in is NOOP.
            _ => Answer::ok("NOOP done"),
        };
        answer.write(tag, &mut self.client.out);
        Ok(Turn::Go)
    }

    fn nonsense(&mut self, tag: &str, answer: Answer) -> Result<Turn, End> {
        answer.write(tag, &mut self.client.out);
        match answer.status == Status::Bad && self.nonsense.another() {
            true => Err(End::Unwelcome("too many commands that make no sense")),
            false => Ok(Turn::Go),
        }
    }

    /// STARTTLS (RFC 9051 6.2.1): nothing that was said in the clear counts afterwards.
    async fn secure(&mut self, tag: &str) -> Result<Turn, End> {
        if self.client.conn.is_tls() || self.client.door.tls().is_none() {
            return self.nonsense(tag, Answer::bad("TLS is not to be had here"));
        }
        Answer::ok("begin TLS now").write(tag, &mut self.client.out);
        self.client.flush().await?;
        start_tls(&mut self.client, Begin::AfterCommand).await?;
        self.client.forget_input();
        self.named = None;
        self.nonsense = Nonsense::default();
        Ok(Turn::Go)
    }

    async fn authenticate(
        &mut self,
        tag: &str,
        authenticate: Authenticate<'_>,
        until: Deadline,
    ) -> Result<Turn, End> {
        if !self.client.door.may_log_in(self.client.conn.is_tls()) {
            return Ok(self.private(tag));
        }
        let mut step = Mechanism::start(authenticate.mechanism, authenticate.initial);
        loop {
            let answer = match step {
                Step::Challenge { text, next } => {
                    self.client
                        .out
                        .extend_from_slice(format!("+ {text}\r\n").as_bytes());
                    self.client.next_line(until).await?;
                    step = next.answer(self.client.line.trim_ascii_end());
                    self.client.wipe_line();
                    continue;
                }
                Step::Done(credentials) => return self.log_in(tag, credentials).await,
                Step::Fail(Failure::UnknownMechanism) => {
                    Answer::no("CANNOT", "this mechanism is not offered")
                }
                Step::Fail(Failure::Cancelled) => Answer::bad("cancelled"),
                Step::Fail(Failure::BadBase64) => Answer::bad("this is not base64"),
                Step::Fail(Failure::Malformed) => {
                    Answer::no("AUTHENTICATIONFAILED", "the message is malformed")
                }
            };
            return self.nonsense(tag, answer);
        }
    }

    fn private(&mut self, tag: &str) -> Turn {
        let answer = Answer::no("PRIVACYREQUIRED", "log-in needs TLS here");
        answer.write(tag, &mut self.client.out);
        Turn::Go
    }

    async fn log_in(&mut self, tag: &str, credentials: Credentials) -> Result<Turn, End> {
        let is_tls = self.client.conn.is_tls();
        if !self.client.door.may_log_in(is_tls) {
            return Ok(self.private(tag));
        }
        self.client.flush().await?;
        let login = credentials.login.clone();
        let applicant = Applicant {
            presence: &self.client.presence,
            peer: self.client.conn.peer(),
            service: Entrance::Imap,
            is_tls,
        };
        let outcome = self.service.desk.check(applicant, credentials).await;
        let why = match outcome {
            LoginOutcome::In(account) => {
                return Ok(Turn::Proven(Proven {
                    tag: tag.to_owned(),
                    account,
                    login,
                }));
            }
            LoginOutcome::Busy => {
                Answer::no("UNAVAILABLE", "too many log-ins at this moment; try again")
                    .write(tag, &mut self.client.out);
                return Ok(Turn::Go);
            }
            LoginOutcome::Refused(why) => why,
        };
        Answer::from(why).write(tag, &mut self.client.out);
        self.failures += 1;
        let blocked = matches!(why, LoginRefusal::Blocked(_));
        match blocked || self.failures >= FAILURES_MAX {
            true => Err(End::Unwelcome("too many failed log-ins")),
            false => Ok(Turn::Go),
        }
    }

    /// Goes on where the account's mail is: here, or on its shard.
    async fn enter(mut self, proven: Proven, since: UnixMs) -> Entered {
        let Proven {
            tag,
            account,
            login,
        } = proven;
        let Some(to) = self.service.arrivals.elsewhere(account.partition) else {
            self.client.becomes_known();
            let opened = Opened {
                since,
                named: self.named,
            };
            let known = Known::begin(self.service, self.client, account, opened, &tag).await;
            return known.map_or(Entered::Moved, Entered::Here);
        };
        let Stranger {
            client,
            service,
            named,
            nonsense,
            failures,
        } = self;
        let stop = service.stop.clone();
        let Client {
            conn,
            door,
            presence,
            received,
            sent,
            ..
        } = client;
        let number = door.number();
        let session = presence.id();
        let user = account.address.clone();
        let carried = Carried {
            tag: tag.clone(),
            client: named.clone(),
            received,
            sent,
        };
        let errand = Errand::Imap(carried);
        let moved = service.arrivals.send(to, conn, |parcel| Arrival {
            parcel,
            door: number,
            session,
            account,
            login,
            since,
            errand,
        });
        let Err(conn) = moved.await else {
            log_event!(
                DEBUG,
                event::SESSION_MOVED,
                session = %session,
                user = user.as_str(),
                proto = "imap",
                to = to.0
            );
            return Entered::Moved;
        };
        // The owner is full or late, or no descriptor was left: nothing has changed.
        presence.logged_in("");
        let mut client = Client::new(conn, door, presence, stop, false);
        client.received = received;
        client.sent = sent;
        Answer::no("UNAVAILABLE", "too busy; try again").write(&tag, &mut client.out);
        Entered::Back(Box::new(Stranger {
            client,
            service,
            named,
            nonsense,
            failures,
        }))
    }
}

async fn start_tls(client: &mut Client, begin: Begin) -> Result<(), NetError> {
    let Some(config) = client.door.tls() else {
        return Ok(());
    };
    secure(
        &mut client.conn,
        config,
        begin,
        &client.door,
        &client.presence,
    )
    .await
}

fn row(conn: &Conn, id: TraceId, since: UnixMs, user: String) -> Row {
    let tls = conn
        .tls()
        .map(|facts| format!("{} {}", facts.version, facts.cipher));
    Row {
        session: id.to_string(),
        protocol: "imap".to_owned(),
        peer: conn.peer().to_string(),
        user,
        tls: tls.unwrap_or_default(),
        since,
        shard: runtime::shard().0,
    }
}

/// Tells a connection over a limit so, where that costs no handshake.
async fn refuse(mut conn: Conn, door: &Door, refusal: &Refusal) {
    log_event!(
        WARN,
        event::CONNECTION_REFUSED,
        peer = %conn.peer(),
        proto = "imap",
        reason = ?refusal
    );
    let words: &[u8] = match refusal {
        Refusal::AddressFull => b"* BYE [LIMIT] too many connections from your address\r\n",
        Refusal::ListenerFull => b"* BYE [UNAVAILABLE] too many connections; try later\r\n",
        Refusal::Proxy(_) => return,
    };
    if door.listener().protocol == Protocol::Imaps {
        return;
    }
    let until = Deadline::after(runtime::now(), std::time::Duration::from_secs(2));
    if conn.write(words, until).await.is_ok() {
        conn.close(until).await;
    }
}
