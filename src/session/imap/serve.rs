//! The dialogue after log-in, on the shard that owns the account.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashSet;

use super::Service;
use super::answer::{Answer, Status};
use super::caps::{Moment, capabilities};
use super::client::{Client, End, Input};
use super::cmd;
use super::machine::{Enabled, Nonsense, Rule, States, rule_of, why_not};
use super::numbering::may_tell_expunges;
use super::report::{Manner, Told, write_changes};
use crate::base::{Uid, UnixMs};
use crate::directory::{self, Service as Entrance};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::store::{Account, StoreError, View};
use crate::wire::imap::{Bad, Body, Coding, Command, Fault, parse};

/// A session that has logged in.
pub struct Known {
    pub client: Client,
    pub service: Rc<Service>,
    pub owner: Arc<directory::Account>,
    pub account: Account,
    pub enabled: Enabled,
    pub selected: Option<Selected>,
    pub opened: Opened,
    nonsense: Nonsense,
}

/// The open mailbox.
pub struct Selected {
    pub view: View,
    pub name: Box<str>,
    /// `$` (RFC 9051 6.4.4.1).
    pub saved: Vec<Uid>,
    /// Whose first reading is in the log.
    pub noted: HashSet<Uid>,
}

/// An IDLE that is to begin.
struct Idle {
    tag: Box<str>,
    rule: Rule,
}

/// What the closing log line needs.
pub struct Opened {
    pub since: UnixMs,
    /// What the client said of itself by ID.
    pub named: Option<String>,
}

impl Opened {
    pub fn closed(&self, client: &Client, user: Option<&str>, end: &End) {
        let ms = runtime::unix_now().0 - self.since.0;
        log_event!(
            INFO,
            event::SESSION_CLOSED,
            session = %client.presence.id(),
            peer = %client.conn.peer(),
            proto = "imap",
            user = user.unwrap_or(""),
            tls = client.conn.is_tls(),
            client = self.named.as_deref().unwrap_or(""),
            received = client.received,
            sent = client.sent,
            ms = ms,
            reason = end.reason()
        );
    }
}

impl Known {
    /// Opens the account and answers the log-in; `None` where that failed and the session ended.
    pub async fn begin(
        service: Rc<Service>,
        mut client: Client,
        owner: Arc<directory::Account>,
        opened: Opened,
        tag: &str,
    ) -> Option<Box<Known>> {
        let account = match service.remote.account(service.desk.reference(&owner)).await {
            Ok(account) => account,
            Err(error) => {
                let answer = Answer::from(error).with_code("UNAVAILABLE");
                Answer {
                    status: Status::No,
                    ..answer
                }
                .write(tag, &mut client.out);
                let end = End::Broken("[UNAVAILABLE] your mailbox can not be opened now");
                opened.closed(&client, Some(&owner.address), &end);
                client.close(&end).await;
                return None;
            }
        };
        account.look_for_archives(&owner.address).await;
        let known = Known {
            client,
            service,
            owner,
            account,
            enabled: Enabled::default(),
            selected: None,
            opened,
            nonsense: Nonsense::default(),
        };
        known.note_client();
        let mut known = Box::new(known);
        // RFC 9051 6.2.3: the capabilities have changed, and may come along.
        let code = format!("CAPABILITY {}", capabilities(Moment::LoggedIn));
        Answer::ok("logged in")
            .with_code(code)
            .write(tag, &mut known.client.out);
        Some(known)
    }

    /// Keeps what the client calls itself with the last log-in.
    pub fn note_client(&self) {
        if let Some(named) = &self.opened.named {
            let peer = self.client.conn.peer();
            self.service
                .desk
                .note_client(&self.owner, Entrance::Imap, peer, named);
        }
    }

    /// Serves to the end.
    pub async fn run(mut self: Box<Self>) {
        let end = self.talk().await;
        self.opened
            .closed(&self.client, Some(&self.owner.address), &end);
        self.selected = None;
        Box::pin(self.client.close(&end)).await;
    }

    async fn talk(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        if !self.client.has_input() {
            self.client.flush().await?;
            self.client.rest();
            self.rest();
        }
        let until = self.client.door.until(|config| config.limits.imap_idle.0);
        // Boxed: what a command needs is not held by a session that waits for one.
        let input = self.client.next(until).await?;
        self.wake().await?;
        match input {
            Input::Command => {
                if let Some(idle) = Box::pin(self.command()).await? {
                    Box::pin(self.idle(idle)).await?;
                }
            }
            Input::Message(literal) => Box::pin(cmd::append::run(self, literal)).await?,
        }
        self.client.flush().await
    }

    /// Lets go of memory while the client is silent.
    pub fn rest(&self) {
        if let Some(selected) = &self.selected {
            selected.view.rest();
        }
    }

    pub async fn wake(&self) -> Result<(), End> {
        let Some(selected) = &self.selected else {
            return Ok(());
        };
        let awake = Box::pin(selected.view.wake()).await;
        awake.map_err(|_| End::Broken("[UNAVAILABLE] the mailbox cannot be read now"))
    }

    /// Carries out one command. IDLE is given back: it lasts, and this future is large.
    async fn command(&mut self) -> Result<Option<Idle>, End> {
        let line = std::mem::take(&mut self.client.line);
        match parse(&line) {
            Ok(Command { tag, body }) => {
                let rule = rule_of(&body);
                if let Some(why) = why_not(rule, self.state()) {
                    return self.nonsense(tag, &Answer::bad(why)).map(|()| None);
                }
                if matches!(body, Body::Idle) {
                    return Ok(Some(Idle {
                        tag: tag.into(),
                        rule,
                    }));
                }
                let mut told = Told::default();
                let answer = cmd::run(self, tag, body, &mut told).await?;
                self.finish(tag, rule, &told, &answer)?;
            }
            Err(Bad { tag, fault }) => {
                if fault == Fault::BadCharset
                    && let Some(selected) = &mut self.selected
                {
                    // RFC 5182 2.1: a SEARCH that ends in NO empties `$`.
                    selected.saved = Vec::new();
                }
                self.nonsense(tag.unwrap_or("*"), &Answer::from(fault))?;
            }
        }
        Ok(None)
    }

    async fn idle(&mut self, Idle { tag, rule }: Idle) -> Result<(), End> {
        let answer = cmd::settled(cmd::idle::idle(self).await)?;
        self.finish(&tag, rule, &Told::default(), &answer)
    }

    /// Tells what changed meanwhile, then the outcome of the command.
    pub fn finish(
        &mut self,
        tag: &str,
        rule: Rule,
        told: &Told,
        answer: &Answer,
    ) -> Result<(), End> {
        if answer.status == Status::Bad {
            return self.nonsense(tag, answer);
        }
        self.nonsense.forgive();
        let expunges = may_tell_expunges(rule.numbers, self.client.conn.unread());
        self.tell_changes(expunges, rule.by_uid, told)?;
        answer.write(tag, &mut self.client.out);
        Ok(())
    }

    /// A command that may not be, or makes no sense.
    pub fn nonsense(&mut self, tag: &str, answer: &Answer) -> Result<(), End> {
        answer.write(tag, &mut self.client.out);
        match answer.status {
            Status::Bad => self.count_nonsense(),
            _ => Ok(()),
        }
    }

    pub fn count_nonsense(&mut self) -> Result<(), End> {
        match self.nonsense.another() {
            true => Err(End::Unwelcome("too many commands that make no sense")),
            false => Ok(()),
        }
    }

    /// Brings the view up to date and says so.
    pub fn tell_changes(&mut self, expunges: bool, by_uid: bool, told: &Told) -> Result<(), End> {
        let manner = Manner::new(self.enabled, by_uid);
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        // Expunges that were held back make no view dirty: with them it is always asked.
        if !expunges && !selected.view.is_dirty() {
            return Ok(());
        }
        if matches!(selected.view.status(), Err(StoreError::MailboxGone)) {
            // RFC 2180 3.3: there is nothing left to be consistent with.
            return Err(End::Broken("the selected mailbox was deleted"));
        }
        let changes = selected.view.refresh(expunges);
        write_changes(&mut self.client.out, &selected.view, &changes, told, manner);
        Ok(())
    }

    #[must_use]
    pub fn state(&self) -> States {
        match self.selected {
            Some(_) => States::SELECTED,
            None => States::AUTHENTICATED,
        }
    }

    /// How names are written in this session.
    #[must_use]
    pub fn coding(&self) -> Coding {
        match self.enabled.imap4rev2 {
            true => Coding::Utf8,
            false => Coding::Ascii,
        }
    }

    /// The open mailbox and the place for responses. Commands that need it run only in the
    /// selected state.
    pub fn parts(&mut self) -> (&mut Client, &mut Selected) {
        let selected = self
            .selected
            .as_mut()
            .expect("the command table demands a mailbox");
        (&mut self.client, selected)
    }
}
