//! The one way to prove who one is, the same for every protocol.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::roster::Presence;
use crate::directory::{Account, AuthError, Authenticator, Credentials, LoggedIn, Secret, Service};
use crate::net::Peer;
use crate::observe::{event, log_event};
use crate::runtime::{self, Stop};
use crate::store::AccountRef;
use crate::wire::sasl;

/// Longest log-in name that a log line shows.
const LOGGED_NAME_CHARS_MAX: usize = 80;

/// Checks log-ins for the sessions of one shard. Clones are handles to the same one.
#[derive(Clone)]
pub struct LoginDesk {
    authenticator: Authenticator,
    stop: Stop,
}

/// Who stands at the desk: one session that tries to log in.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    pub presence: &'a Presence,
    pub peer: &'a Peer,
    pub service: Service,
    pub is_tls: bool,
}

/// What the desk said.
#[derive(Clone, Debug)]
pub enum LoginOutcome {
    /// The session is this account's; the roster shows it, the last log-in is noted.
    In(Arc<Account>),
    /// No; the slow-down has been slept out. The text of the refusal may be shown.
    Refused(LoginRefusal),
    /// Too many checks at once: not the client's fault, try again.
    Busy,
}

/// Why not. [`fmt::Display`] is for the client: it tells strangers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// Wrong password or no such user (RFC 5530 AUTHENTICATIONFAILED, SMTP 535 5.7.8).
    Wrong,
    /// The address failed too often; nothing was checked. Answer and close.
    Blocked(AuthError),
    /// The right password of an account that is switched off (CONTACTADMIN).
    Disabled,
    /// The right password, but this account may not do this (AUTHORIZATIONFAILED).
    NotAllowed(AuthError),
    /// Nobody acts as somebody else here (AUTHORIZATIONFAILED).
    ActAs,
}

impl fmt::Display for LoginRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginRefusal::Wrong => f.write_str("wrong user name or password"),
            LoginRefusal::Disabled => AuthError::Disabled.fmt(f),
            LoginRefusal::Blocked(why) | LoginRefusal::NotAllowed(why) => why.fmt(f),
            LoginRefusal::ActAs => f.write_str("you can not log in as somebody else"),
        }
    }
}

impl LoginDesk {
    /// What the store needs to know of who is in.
    #[must_use]
    pub fn reference(&self, account: &Account) -> AccountRef {
        self.authenticator.reference(account)
    }

    /// `stop` cuts short the wait of who failed.
    #[must_use]
    pub fn new(authenticator: Authenticator, stop: Stop) -> Self {
        LoginDesk {
            authenticator,
            stop,
        }
    }

    /// Checks `credentials`, sleeps out a slow-down, writes the log line, sets the presence and
    /// notes the last log-in.
    pub async fn check(
        &self,
        applicant: Applicant<'_>,
        credentials: sasl::Credentials,
    ) -> LoginOutcome {
        let sasl::Credentials {
            authzid,
            login,
            password,
        } = credentials;
        let name = shown(&login);
        let acts_as_other = authzid.is_some_and(|other| !other.eq_ignore_ascii_case(&login));
        // A password that is no UTF-8 is nobody's; it is still checked, so that it takes as long.
        let password = Secret(String::from_utf8_lossy(password.expose()).into_owned());
        let credentials = Credentials { login, password };
        let address = address_of(applicant.peer);
        let now = runtime::now();
        let checked = self
            .authenticator
            .authenticate(credentials, address, applicant.service, now)
            .await;
        match checked {
            Ok(_) if acts_as_other => {
                failed(&applicant, &name, "acts as somebody else");
                LoginOutcome::Refused(LoginRefusal::ActAs)
            }
            Ok(LoggedIn { account }) => {
                applicant.presence.logged_in(&account.address);
                log_event!(
                    INFO,
                    event::LOGIN_SUCCEEDED,
                    session = %applicant.presence.id(),
                    user = account.address.as_str(),
                    account = %account.id,
                    peer = %applicant.peer,
                    proto = applicant.service.word(),
                    tls = applicant.is_tls
                );
                LoginOutcome::In(account)
            }
            Err(why) => self.refuse(&applicant, &name, why).await,
        }
    }

    async fn refuse(&self, who: &Applicant<'_>, name: &str, why: AuthError) -> LoginOutcome {
        match why {
            AuthError::Denied { wait } => {
                failed(who, name, "wrong name or password");
                self.sleep_out(who, name, wait).await;
                LoginOutcome::Refused(LoginRefusal::Wrong)
            }
            AuthError::Blocked { .. } => {
                failed(who, name, "address is blocked");
                LoginOutcome::Refused(LoginRefusal::Blocked(why))
            }
            AuthError::Disabled => {
                refused(who, name, why);
                LoginOutcome::Refused(LoginRefusal::Disabled)
            }
            AuthError::NotAllowed { .. } | AuthError::NoMailbox => {
                refused(who, name, why);
                LoginOutcome::Refused(LoginRefusal::NotAllowed(why))
            }
            AuthError::Busy => LoginOutcome::Busy,
        }
    }

    /// Only this session sleeps. A drain or a kick ends the wait, and then the session.
    async fn sleep_out(&self, who: &Applicant<'_>, name: &str, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        log_event!(
            INFO,
            event::LOGIN_DELAYED,
            session = %who.presence.id(),
            user = name,
            peer = %who.peer,
            proto = who.service.word(),
            ms = wait.as_millis() as u64
        );
        let ended = or(who.presence.kicked(), self.stop.raised());
        or(runtime::sleep(wait), ended).await;
    }

    /// What the client calls itself (IMAP ID), kept with the last log-in.
    pub fn note_client(&self, account: &Account, service: Service, peer: &Peer, client: &str) {
        self.authenticator
            .note_client(account, service, address_of(peer), client);
    }
}

/// A Unix socket is as good as loopback.
fn address_of(peer: &Peer) -> IpAddr {
    peer.address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// A stranger's text, cut for the log.
fn shown(login: &str) -> String {
    login.chars().take(LOGGED_NAME_CHARS_MAX).collect()
}

fn failed(who: &Applicant<'_>, name: &str, reason: &str) {
    log_event!(
        WARN,
        event::LOGIN_FAILED,
        session = %who.presence.id(),
        user = name,
        peer = %who.peer,
        proto = who.service.word(),
        tls = who.is_tls,
        reason = reason
    );
}

fn refused(who: &Applicant<'_>, name: &str, why: AuthError) {
    log_event!(
        WARN,
        event::LOGIN_REFUSED,
        session = %who.presence.id(),
        user = name,
        peer = %who.peer,
        proto = who.service.word(),
        reason = %why
    );
}
