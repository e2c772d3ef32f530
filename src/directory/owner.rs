//! The directory's one writer, and the handle by which every shard reads it.
//!
//! A change goes: hash its passwords on the pool, wait for the turn, plan against applied state,
//! store, publish, answer. The store applies through [`Inner::applied`], which also sees changes
//! nobody here asked for; those are published a few milliseconds later, many at once.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_lite::future;

use super::command::{Answer, Command, IMPORT_ROWS_MAX};
use super::error::DirectoryError;
use super::password::{self, Imported, PASSWORD_BYTES_MAX, PasswordHash, Secret};
use super::plan::{self, Hashes, Planned};
use super::record;
use super::signing::{self, DkimCommand, DkimError, NewKey, SRS_SECRET_BYTES};
use super::snapshot::{Site, Snapshot};
use super::view::View;
use crate::base::{AccountId, Deadline, PartitionId, ShardId};
use crate::policy::dkim::Algorithm;
use crate::runtime::local::{Notify, Semaphore};
use crate::runtime::{self, Gate, Inbox, Mesh, Pool, Reply, reply, spawn_in};
use crate::store::{Remote, ValueChange};

/// Requests that wait for shard 0.
const INBOX_DEPTH: usize = 256;
/// Commands under way at one time: their passwords are hashed side by side.
const COMMANDS_MAX: usize = 16;
/// Changes that come within this are published together.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);
/// SQLite follows at this distance.
const VIEW_EVERY: Duration = Duration::from_millis(500);
/// One command, its turn and its disk write included.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
const VIEW_WAIT: Duration = Duration::from_secs(300);

/// What makes a pair, on the pool.
type Draw = Box<dyn FnOnce() -> Result<NewKey, DkimError> + Send>;

/// Reads the directory and hands commands to its owner, from any shard.
#[derive(Clone)]
pub struct Directory {
    current: Arc<ArcSwap<Snapshot>>,
    requests: Mesh<Request>,
}

enum Request {
    Execute(Box<Command>, Reply<Result<Answer, DirectoryError>>),
    Rehash {
        account: AccountId,
        /// Only while this is still the password.
        was: String,
        hash: String,
    },
    Site(Box<Site>),
}

impl Directory {
    /// A handle for every shard, and the owner to [`start`](Owner::start) on shard 0. Until it
    /// has started the directory is empty.
    #[must_use]
    pub fn new(site: &Site) -> (Directory, Owner) {
        let snapshot = Snapshot::new(site);
        let current = Arc::new(ArcSwap::from_pointee(snapshot.clone()));
        let (requests, mut inboxes) = Mesh::new(1, INBOX_DEPTH);
        let inbox = inboxes.pop().expect("a mesh of one");
        let directory = Directory {
            current: Arc::clone(&current),
            requests,
        };
        let owner = Owner {
            current,
            snapshot,
            inbox,
        };
        (directory, owner)
    }

    /// The directory as it is now. Cheap; hold it for one operation, not for a session.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Carries out one command. With the answer the change is durable and every shard reads it.
    pub async fn execute(
        &self,
        command: Command,
        until: Deadline,
    ) -> Result<Answer, DirectoryError> {
        let (reply, answer) = reply();
        let request = Request::Execute(Box::new(command), reply);
        match self.requests.post(ShardId(0), request, until).await {
            Ok(()) => {}
            Err(refused) if refused.why == runtime::Refusal::Closed => {
                return Err(DirectoryError::Stopping);
            }
            Err(_) => return Err(DirectoryError::Busy),
        }
        match answer.wait(until).await {
            Ok(result) => result,
            Err(runtime::NoAnswer::Late) => Err(DirectoryError::Late),
            Err(runtime::NoAnswer::Gone) => Err(DirectoryError::Stopping),
        }
    }

    /// Takes over reloaded config. False where the owner did not take it (full or stopped).
    pub fn reconfigure(&self, site: &Site) -> bool {
        let request = Request::Site(Box::new(site.clone()));
        self.requests.try_post(ShardId(0), request).is_ok()
    }

    /// Replaces a dated hash after a log-in. Lost where the owner is busy; the next log-in asks
    /// again.
    pub(super) fn rehashed(&self, account: AccountId, was: String, hash: String) {
        let request = Request::Rehash { account, was, hash };
        if self.requests.try_post(ShardId(0), request).is_err() {
            tracing::debug!(%account, "password rehash put off");
        }
    }

    #[cfg(test)]
    pub(super) fn publish_for_test(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }
}

/// What becomes the writer once it is on shard 0.
pub struct Owner {
    current: Arc<ArcSwap<Snapshot>>,
    snapshot: Snapshot,
    inbox: Inbox<Request>,
}

/// The writer, on shard 0.
struct Inner {
    remote: Remote,
    pool: Pool,
    current: Arc<ArcSwap<Snapshot>>,
    /// What the store has applied.
    state: RefCell<Snapshot>,
    unpublished: Cell<bool>,
    changed: Notify,
    published: Notify,
    /// Whose turn it is to plan and store: a plan must see the one before it applied.
    turn: Semaphore,
    /// The highest id in any plan, stored or not: an id whose storing came late is not used again.
    last_id: Cell<u64>,
}

impl Owner {
    #[cfg(test)]
    pub(super) async fn next_rehash(&mut self) -> (AccountId, String, String) {
        loop {
            let request = self.inbox.next().await.expect("a directory");
            if let Request::Rehash { account, was, hash } = request {
                return (account, was, hash);
            }
        }
    }

    /// Loads the directory and serves it: on shard 0, before any session starts. `view` is where
    /// the SQLite view goes, if one is wanted. Ends with `gate`.
    pub async fn start(
        self,
        remote: Remote,
        pool: Pool,
        view: Option<PathBuf>,
        gate: &Gate,
    ) -> Result<(), DirectoryError> {
        let mut state = self.snapshot;
        let mut damaged = 0u64;
        remote.site_values(&mut |namespace, key, value| {
            let read = state.apply_value(namespace, key, Some(value));
            damaged += u64::from(read.is_err());
        });
        if damaged > 0 {
            tracing::error!(values = damaged, "directory values unreadable, left out");
        }
        let inner = Rc::new(Inner {
            remote: remote.clone(),
            pool,
            current: self.current,
            last_id: Cell::new(state.last_account()),
            state: RefCell::new(state),
            unpublished: Cell::new(true),
            changed: Notify::new(),
            published: Notify::new(),
            turn: Semaphore::new(1),
        });
        // Weak: the store holds the hook and `inner` holds the store.
        let hooked = Rc::downgrade(&inner);
        remote.on_site_value(Rc::new(move |change| {
            if let Some(inner) = hooked.upgrade() {
                inner.applied(change);
            }
        }));
        inner.make_postmaster().await?;
        // A start on a full disk goes on without; the next one tries again.
        if let Err(error) = inner.make_srs_secret().await {
            tracing::warn!(%error, "no secret for rewritten senders yet");
        }
        inner.publish();
        tracing::info!(
            accounts = inner.state.borrow().account_count(),
            "directory loaded"
        );
        spawn_in(
            gate,
            "directory publish",
            Rc::clone(&inner).keep_published(gate.clone()),
        );
        if let Some(path) = view {
            let keep = Rc::clone(&inner).keep_view(View::new(path), gate.clone());
            spawn_in(gate, "directory view", keep);
        }
        spawn_in(gate, "directory", inner.serve(self.inbox, gate.clone()));
        Ok(())
    }
}

impl Inner {
    async fn serve(self: Rc<Self>, mut inbox: Inbox<Request>, gate: Gate) {
        let slots = Semaphore::new(COMMANDS_MAX);
        loop {
            let next = async { Some(inbox.next().await) };
            let closing = async {
                gate.closing().await;
                None
            };
            let Some(Some(request)) = future::or(next, closing).await else {
                return;
            };
            let until = Deadline::after(runtime::now(), COMMAND_WAIT);
            let Ok(slot) = slots.acquire(1, until).await else {
                continue;
            };
            let inner = Rc::clone(&self);
            spawn_in(&gate, "directory command", async move {
                inner.answer(request, until).await;
                drop(slot);
            });
        }
    }

    async fn answer(&self, request: Request, until: Deadline) {
        match request {
            Request::Execute(command, reply) => {
                let result = self.execute(&command, until).await;
                if let Err(error) = &result {
                    tracing::info!(%error, "directory command refused");
                }
                reply.send(result);
            }
            Request::Rehash { account, was, hash } => {
                if let Err(error) = self.rehash(account, &was, hash, until).await {
                    tracing::warn!(%account, %error, "password not rehashed");
                }
            }
            Request::Site(site) => {
                self.state.borrow_mut().set_site(&site);
                self.unpublished.set(true);
                self.publish();
            }
        }
    }

    async fn execute(&self, command: &Command, until: Deadline) -> Result<Answer, DirectoryError> {
        let hashes = self.hash(command, until).await?;
        let made = self.make_keys(command, until).await?;
        let turn = self.turn.acquire(1, until).await;
        let turn = turn.map_err(|_| DirectoryError::Busy)?;
        let state = self.state.borrow().clone();
        let now = runtime::unix_now();
        let Planned {
            changes,
            answer,
            purge,
        } = plan::plan(&state, self.last_id.get(), now, command, hashes, made)?;
        self.store(changes, until).await?;
        drop(turn);
        if let Some(account) = purge {
            // No address leads to the account now, so no mail arrives while this runs. Its row
            // goes last: whatever fails before can be tried again.
            let mail_left = |_| DirectoryError::StillHasMail {
                address: account.address.clone(),
                id: account.id.0,
            };
            let purged = self.remote.purge(state.reference(&account), until).await;
            purged.map_err(mail_left)?;
            let turn = self.turn.acquire(1, until).await;
            let _turn = turn.map_err(|_| DirectoryError::Busy)?;
            self.store(vec![record::remove_account(account.id)], until)
                .await?;
        }
        Ok(answer)
    }

    async fn rehash(
        &self,
        account: AccountId,
        was: &str,
        hash: String,
        until: Deadline,
    ) -> Result<(), DirectoryError> {
        let turn = self.turn.acquire(1, until).await;
        let _turn = turn.map_err(|_| DirectoryError::Busy)?;
        let password = self.state.borrow().password(account).cloned();
        let Some(changed) = password.filter(|p| p.hash == was).map(|p| p.changed) else {
            return Ok(());
        };
        let change = record::set_password(account, &PasswordHash { hash, changed });
        self.store(vec![change], until).await
    }

    async fn make_postmaster(&self) -> Result<(), DirectoryError> {
        let state = self.state.borrow().clone();
        let changes = plan::first_start(&state, self.last_id.get(), runtime::unix_now());
        let until = Deadline::after(runtime::now(), COMMAND_WAIT);
        self.store(changes, until).await
    }

    /// Once in the life of a site: with another one, bounces to what was rewritten before would be
    /// for nobody.
    async fn make_srs_secret(&self) -> Result<(), DirectoryError> {
        if self.state.borrow().srs().is_some() {
            return Ok(());
        }
        let mut secret = [0; SRS_SECRET_BYTES];
        let not_made = |_| DirectoryError::Dkim {
            why: DkimError::NotMade,
        };
        getrandom::fill(&mut secret).map_err(not_made)?;
        let until = Deadline::after(runtime::now(), COMMAND_WAIT);
        self.store(vec![signing::set_srs_secret(&secret)], until)
            .await
    }

    /// Draws, or reads, the pairs that a command wants.
    async fn make_keys(
        &self,
        command: &Command,
        until: Deadline,
    ) -> Result<Vec<NewKey>, DirectoryError> {
        let wanted: Vec<Draw> = match command {
            Command::Dkim(DkimCommand::Make {
                algorithms,
                rsa_bits,
                ..
            }) => {
                let bits = *rsa_bits;
                let both = [Algorithm::Rsa, Algorithm::Ed25519].into_iter();
                let chosen = both.filter(|algorithm| algorithms.contains(algorithm));
                let draw = |a| -> Draw { Box::new(move || signing::generate(a, bits)) };
                chosen.map(draw).collect()
            }
            Command::Dkim(DkimCommand::Import { key, .. }) => {
                let key = key.clone();
                vec![Box::new(move || signing::read(&key))]
            }
            _ => Vec::new(),
        };
        let mut made = Vec::with_capacity(wanted.len());
        for draw in wanted {
            let drawn = self.pool.run_queued(until, draw).await;
            let drawn = drawn.map_err(|_| DirectoryError::Busy)?;
            made.push(drawn.map_err(|why| DirectoryError::Dkim { why })?);
        }
        Ok(made)
    }

    /// Makes changes durable, and visible on every shard.
    async fn store(
        &self,
        changes: Vec<ValueChange>,
        until: Deadline,
    ) -> Result<(), DirectoryError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.last_id
            .set(changes.iter().fold(self.last_id.get(), |id, change| {
                id.max(record::last_account_of(change).unwrap_or(0))
            }));
        self.remote
            .set_values(PartitionId::SYSTEM, changes, until)
            .await?;
        self.publish();
        Ok(())
    }

    /// Every applied site value comes by here.
    fn applied(&self, change: &ValueChange) {
        match self.state.borrow_mut().apply(change) {
            Ok(true) => {
                self.unpublished.set(true);
                self.changed.notify_all();
            }
            Ok(false) => {}
            Err(_) => tracing::error!(
                namespace = %change.namespace,
                "directory value unreadable, left out"
            ),
        }
    }

    fn publish(&self) {
        if self.unpublished.replace(false) {
            self.current.store(Arc::new(self.state.borrow().clone()));
            self.published.notify_all();
        }
    }

    async fn keep_published(self: Rc<Self>, gate: Gate) {
        while open_until(&gate, &self.changed, || self.unpublished.get()).await {
            runtime::sleep(PUBLISH_EVERY).await;
            self.publish();
        }
        self.publish();
    }

    async fn keep_view(self: Rc<Self>, mut view: View, gate: Gate) {
        let mut seen: Option<Arc<Snapshot>> = None;
        let fresh = |seen: &Option<Arc<Snapshot>>| {
            let current = self.current.load();
            seen.as_ref()
                .is_none_or(|seen| !Arc::ptr_eq(seen, &current))
        };
        while open_until(&gate, &self.published, || fresh(&seen)).await {
            let snapshot = self.current.load_full();
            seen = Some(Arc::clone(&snapshot));
            let until = Deadline::after(runtime::now(), VIEW_WAIT);
            let path = view.path().to_owned();
            let settled = self.pool.run_queued(until, move || {
                let result = view.settle(&snapshot);
                (view, result)
            });
            view = match settled.await {
                Ok((view, Ok(()))) => view,
                Ok((view, Err(error))) => {
                    tracing::warn!(%error, "directory view not written");
                    view
                }
                Err(error) => {
                    tracing::warn!(?error, "directory view not written");
                    View::new(path)
                }
            };
            runtime::sleep(VIEW_EVERY).await;
        }
    }

    /// Hashes the passwords of a command, in its order.
    async fn hash(&self, command: &Command, until: Deadline) -> Result<Hashes, DirectoryError> {
        let mut hashes = Vec::new();
        match command {
            Command::UserAdd(user) => {
                if let Some(secret) = &user.password {
                    hashes.push(Ok(self.hash_one(secret.clone(), until).await?));
                }
            }
            Command::UserPasswd { password, .. } => {
                hashes.push(Ok(self.hash_one(password.clone(), until).await?));
            }
            Command::UserImport { rows } => {
                if rows.len() > IMPORT_ROWS_MAX {
                    let max = IMPORT_ROWS_MAX;
                    return Err(DirectoryError::TooManyRows { max });
                }
                for row in rows {
                    hashes.push(self.import_one(&row.password, until).await);
                }
            }
            _ => {}
        }
        Ok(hashes)
    }

    async fn import_one(&self, text: &Secret, until: Deadline) -> Result<String, DirectoryError> {
        let text = text.clone();
        // On the pool because reading a foreign hash runs foreign code.
        let parsed = self
            .pool
            .run_queued(until, move || password::parse_imported(&text.0));
        match parsed.await.map_err(|_| DirectoryError::Busy)? {
            Ok(Imported::Hash(hash)) => Ok(hash),
            Ok(Imported::Plain(secret)) => self.hash_one(secret, until).await,
            Err(why) => Err(DirectoryError::BadHash { why }),
        }
    }

    async fn hash_one(&self, secret: Secret, until: Deadline) -> Result<String, DirectoryError> {
        match secret.0.len() {
            0 => return Err(DirectoryError::PasswordEmpty),
            len if len > PASSWORD_BYTES_MAX => return Err(DirectoryError::PasswordTooLong),
            _ => {}
        }
        let hashed = self
            .pool
            .run_queued(until, move || password::hash_new(&secret.0));
        hashed.await.map_err(|_| DirectoryError::Busy)
    }
}

/// Waits until `there`; false once the gate closes.
async fn open_until(gate: &Gate, notify: &Notify, there: impl Fn() -> bool) -> bool {
    loop {
        let notified = notify.notified();
        if gate.is_closed() {
            return false;
        }
        if there() {
            return true;
        }
        future::or(notified, gate.closing()).await;
    }
}
