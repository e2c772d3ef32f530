//! Log-in: who may do what, from where, and how long the answer waits.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use super::account::{Account, Entitlement, Kind};
use super::last_login::LastLogins;
use super::owner::Directory;
use super::password::{self, DUMMY, PASSWORD_BYTES_MAX, Secret};
use super::slow::{Net, Slow};
use super::verified::{Key, Keys, Recent};
use crate::base::{AccountId, Deadline};
use crate::runtime::local::Notify;
use crate::runtime::{self, Gate, Pool, spawn_in};
use crate::store::AccountRef;

/// How long a right password is believed without hashing it again.
const VERIFIED_FOR: Duration = Duration::from_secs(5 * 60);
const VERIFIED_MAX: usize = 50_000;
/// How long the same wrong password counts as the one before.
const WRONG_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const WRONG_MAX: usize = 20_000;
/// A check and its wait for the pool.
const CHECK_WAIT: Duration = Duration::from_secs(15);
const LOGIN_BYTES_MAX: usize = 320;

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// A full address, or bare a name in the first of `domains`.
    pub login: String,
    pub password: Secret,
}

/// What is logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// `inside`: the client is in a trusted network.
    Submission {
        inside: bool,
    },
    Imap,
    Pop3,
    ManageSieve,
    Webmail,
}

impl Service {
    fn needs(self) -> Option<Entitlement> {
        match self {
            Service::Submission { inside: true } => None,
            Service::Submission { inside: false } => Some(Entitlement::SmtpOutside),
            Service::Imap => Some(Entitlement::Imap),
            Service::Pop3 => Some(Entitlement::Pop),
            Service::ManageSieve => Some(Entitlement::Sieve),
            Service::Webmail => Some(Entitlement::Webmail),
        }
    }

    /// The name under which the last log-in is kept.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Service::Submission { .. } => "submission",
            Service::Imap => "imap",
            Service::Pop3 => "pop3",
            Service::ManageSieve => "managesieve",
            Service::Webmail => "webmail",
        }
    }
}

/// Somebody who showed the right password and may use the service.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    pub account: Arc<Account>,
}

/// Why not. Only [`Disabled`](AuthError::Disabled) and [`NotAllowed`](AuthError::NotAllowed)
/// say that the account exists, and only to who knows its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Wrong password or no such user; answer after `wait`.
    Denied { wait: Duration },
    /// The address failed too often; nothing was checked. Answer at once and close.
    Blocked { wait: Duration },
    /// The account is switched off.
    Disabled,
    /// The account may not use this service.
    NotAllowed { missing: Entitlement },
    /// The account has no mailbox to log in to.
    NoMailbox,
    /// Too many checks at once. Not the client's fault: try again.
    Busy,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::Denied { .. } => f.write_str("wrong user name or password"),
            AuthError::Blocked { wait } => write!(
                f,
                "too many failed log-ins from your address; try again in {} minutes",
                wait.as_secs().div_ceil(60)
            ),
            AuthError::Disabled => f.write_str("this account is disabled; ask your postmaster"),
            AuthError::NotAllowed { missing } => write!(
                f,
                "this account may not use this service ({missing}); ask your postmaster"
            ),
            AuthError::NoMailbox => f.write_str("this account only forwards mail"),
            AuthError::Busy => f.write_str("too many log-ins at this moment; try again"),
        }
    }
}

impl std::error::Error for AuthError {}

/// Checks log-ins on one shard. Clones are handles to the same one.
#[derive(Clone)]
pub struct Authenticator {
    shared: Rc<Shared>,
}

struct Shared {
    directory: Directory,
    pool: Pool,
    gate: Gate,
    last_logins: LastLogins,
    keys: Keys,
    verified: RefCell<Recent<Key>>,
    wrong: RefCell<Recent<Key>>,
    slow: RefCell<Slow>,
    /// Checks under way: who comes with the same password waits for their outcome.
    checking: RefCell<HashMap<Key, Notify>>,
    /// Accounts whose dated hash is being replaced: once is enough, however many log in.
    rehashing: RefCell<HashSet<AccountId>>,
}

impl Authenticator {
    /// What the store needs to know of an account that logged in.
    #[must_use]
    pub fn reference(&self, account: &Account) -> AccountRef {
        self.shared.directory.snapshot().reference(account)
    }

    /// One for each shard. Rehashes run behind `gate`.
    #[must_use]
    pub fn new(directory: Directory, pool: Pool, last_logins: LastLogins, gate: &Gate) -> Self {
        Authenticator {
            shared: Rc::new(Shared {
                directory,
                pool,
                gate: gate.clone(),
                last_logins,
                keys: Keys::new(),
                verified: RefCell::new(Recent::new(VERIFIED_FOR, VERIFIED_MAX)),
                wrong: RefCell::new(Recent::new(WRONG_FOR, WRONG_MAX)),
                slow: RefCell::new(Slow::new()),
                checking: RefCell::new(HashMap::new()),
                rehashing: RefCell::new(HashSet::new()),
            }),
        }
    }

    /// Checks a log-in. The caller sleeps out the wait of a denial before it answers.
    pub async fn authenticate(
        &self,
        credentials: Credentials,
        peer: IpAddr,
        service: Service,
        now: Instant,
    ) -> Result<LoggedIn, AuthError> {
        let shared = &self.shared;
        let snapshot = shared.directory.snapshot();
        let unit = snapshot.site().failure_delay;
        let net = Net::from(peer);
        if let Some(wait) = shared.slow.borrow().blocked(net, now, unit) {
            return Err(AuthError::Blocked { wait });
        }
        let Credentials { login, password } = credentials;
        let account = Some(&login)
            .filter(|login| login.len() <= LOGIN_BYTES_MAX)
            .and_then(|login| snapshot.login(login));
        let stored = account.and_then(|account| snapshot.password(account.id));
        let user = match account {
            Some(account) => shared.keys.user(&account.id.to_string()),
            None => shared.keys.user(&login.to_lowercase()),
        };
        let hash = stored.map_or(DUMMY, |stored| &stored.hash);
        let key = shared.keys.key(&login, &password.0, hash);
        let right = password.0.len() <= PASSWORD_BYTES_MAX
            && shared.is_right(key, &password, hash, now).await?
            && stored.is_some();
        let Some(account) = account.filter(|_| right) else {
            let mut slow = shared.slow.borrow_mut();
            if !shared.wrong.borrow().has(&key, now) {
                shared.wrong.borrow_mut().insert(key, now);
                slow.failed(net, user, now);
            }
            let wait = slow.wait(net, user, now, unit);
            return Err(AuthError::Denied { wait });
        };
        shared.slow.borrow_mut().succeeded(net, user, now);
        if password::is_dated(hash) {
            self.rehash(account, hash, password);
        }
        may_use(account, service)?;
        shared
            .last_logins
            .note(account, service, peer, None, now, runtime::unix_now());
        Ok(LoggedIn {
            account: Arc::clone(account),
        })
    }

    /// What the client calls itself, learnt after its log-in (IMAP ID).
    pub fn note_client(&self, account: &Account, service: Service, peer: IpAddr, client: &str) {
        let (now, time) = (runtime::now(), runtime::unix_now());
        self.shared
            .last_logins
            .note(account, service, peer, Some(client), now, time);
    }

    /// Replaces a hash of an old scheme, behind the session's back.
    fn rehash(&self, account: &Account, was: &str, password: Secret) {
        let (id, was, shared) = (account.id, was.to_owned(), Rc::clone(&self.shared));
        if !shared.rehashing.borrow_mut().insert(id) {
            return;
        }
        spawn_in(&self.shared.gate, "password rehash", async move {
            let until = Deadline::after(runtime::now(), CHECK_WAIT);
            let hashed = shared
                .pool
                .run(until, move || password::hash_new(&password.0));
            // A busy pool leaves it to the next log-in.
            if let Ok(hash) = hashed.await {
                shared.directory.rehashed(id, was, hash);
            }
            shared.rehashing.borrow_mut().remove(&id);
        });
    }
}

impl Shared {
    /// Whether `password` is behind `hash`: from memory, from a check under way, or on the pool.
    async fn is_right(
        &self,
        key: Key,
        password: &Secret,
        hash: &str,
        now: Instant,
    ) -> Result<bool, AuthError> {
        let until = Deadline::after(now, CHECK_WAIT);
        loop {
            if self.verified.borrow().has(&key, now) {
                return Ok(true);
            }
            if self.wrong.borrow().has(&key, now) {
                return Ok(false);
            }
            let under_way = self.checking.borrow().get(&key).map(Notify::notified);
            let Some(under_way) = under_way else { break };
            let ended = runtime::deadline(until, under_way).await;
            ended.map_err(|_| AuthError::Busy)?;
        }
        let _check = Check::begin(self, key);
        let (password, hash) = (password.clone(), hash.to_owned());
        let checked = self
            .pool
            .run_queued(until, move || password::verify(&password.0, &hash));
        let right = checked.await.map_err(|_| AuthError::Busy)?;
        if right {
            self.verified.borrow_mut().insert(key, now);
        }
        Ok(right)
    }
}

/// A check under way; its end, also by cancellation, wakes who waits for it.
struct Check<'a> {
    shared: &'a Shared,
    key: Key,
}

impl<'a> Check<'a> {
    fn begin(shared: &'a Shared, key: Key) -> Self {
        shared.checking.borrow_mut().insert(key, Notify::new());
        Check { shared, key }
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let ended = self.shared.checking.borrow_mut().remove(&self.key);
        if let Some(ended) = ended {
            ended.notify_all();
        }
    }
}

fn may_use(account: &Account, service: Service) -> Result<(), AuthError> {
    if account.disabled {
        return Err(AuthError::Disabled);
    }
    match account.kind {
        Kind::Person | Kind::Role => {}
        Kind::Shared | Kind::ForwardOnly => return Err(AuthError::NoMailbox),
    }
    match service.needs() {
        Some(missing) if !account.allowed().has(missing) => Err(AuthError::NotAllowed { missing }),
        _ => Ok(()),
    }
}
