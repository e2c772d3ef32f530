//! Questions of the admin socket that every shard must answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::inspect::{self, Inspection};
use crate::base::{Deadline, ShardId};
use crate::queue::{self, Queue};
use crate::runtime::{self, Inbox, Mesh, Reply, reply};
use crate::session::{Roster, Row};
use crate::store::{
    AccountRef, FolderSize, KeywordsApart, MailboxRepair, QuotaUsage, RepairOrder, ScrubOrder,
    ScrubStatus, Store, StoreError,
};
use crate::web::AdminReply;

/// What became of an account's mailboxes.
pub type Repaired = Result<Vec<MailboxRepair>, StoreError>;

const DEPTH: usize = 64;

/// A shard that does not answer in this time is left out, and the answer says so.
const ANSWER_SPAN: Duration = Duration::from_secs(5);

/// A look at one user's mailboxes may read large indexes.
const INSPECT_SPAN: Duration = Duration::from_secs(100);
/// A repair may read a whole account; shorter than the command line waits.
const REPAIR_SPAN: Duration = Duration::from_secs(140);

/// Settling everything writes many files.
const SETTLE_SPAN: Duration = Duration::from_secs(600);

pub enum Control {
    Who(Reply<Vec<Row>>),
    Kick(String, Reply<usize>),
    Status(Reply<ShardStatus>),
    Settle(Reply<Option<Vec<KeywordsApart>>>),
    Usage(Vec<AccountRef>, Reply<Vec<QuotaUsage>>),
    Folders(AccountRef, Reply<Vec<FolderSize>>),
    Inspect(Box<Inspection>, Reply<AdminReply>),
    /// Begins; `false` while another one runs.
    Scrub(ScrubOrder, Reply<bool>),
    ScrubStatus(Reply<ScrubStatus>),
    Repair(AccountRef, RepairOrder, Reply<Repaired>),
    Queue(queue::Ask, Reply<Result<queue::Answer, StoreError>>),
}

/// How one shard does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardStatus {
    pub shard: u16,
    pub sessions: usize,
    /// How full its journal ring is; new mail waits from 850.
    pub journal_permille: u32,
    pub poisoned: bool,
    pub panics: u64,
}

pub fn mesh(shards: u16) -> (Mesh<Control>, Vec<Inbox<Control>>) {
    Mesh::new(shards, DEPTH)
}

/// Answers for this shard until the mesh is gone.
pub async fn answer(mut inbox: Inbox<Control>, roster: Roster, store: Store, queue: Queue) {
    while let Some(question) = inbox.next().await {
        match question {
            Control::Who(reply) => reply.send(roster.rows()),
            Control::Kick(user, reply) => reply.send(roster.kick(&user)),
            Control::Status(reply) => reply.send(ShardStatus {
                shard: runtime::shard().0,
                sessions: roster.len(),
                journal_permille: store.stats().journal_fill_permille,
                poisoned: store.is_poisoned(),
                panics: runtime::panics(),
            }),
            Control::Settle(reply) => {
                let store = store.clone();
                runtime::spawn("server.settle", async move {
                    reply.send(inspect::settle(&store).await.ok());
                });
            }
            Control::Usage(accounts, reply) => reply.send(inspect::usage(&store, &accounts)),
            Control::Folders(account, reply) => reply.send(inspect::folders(&store, account)),
            Control::Inspect(inspection, reply) => {
                let store = store.clone();
                runtime::spawn("server.inspect", async move {
                    reply.send(inspect::inspect(&store, *inspection).await);
                });
            }
            Control::Scrub(order, reply) => {
                let begins = !store.scrub_status().is_running;
                let store = store.clone();
                runtime::spawn("server.scrub", async move {
                    if begins && let Err(why) = store.scrub(order).await {
                        tracing::warn!(?why, "scrub ended early");
                    }
                });
                reply.send(begins);
            }
            Control::ScrubStatus(reply) => reply.send(store.scrub_status()),
            Control::Repair(account, order, reply) => {
                let store = store.clone();
                runtime::spawn("server.repair", async move {
                    reply.send(store.repair(account, &order).await);
                });
            }
            Control::Queue(ask, reply) => {
                let queue = queue.clone();
                runtime::spawn("server.queue", async move {
                    reply.send(queue.answer(ask).await);
                });
            }
        }
    }
}

/// Asks every shard; `Err` names those that did not answer.
pub async fn ask_all<T: Send>(
    mesh: &Mesh<Control>,
    question: impl Fn(Reply<T>) -> Control,
) -> Result<Vec<T>, Vec<ShardId>> {
    ask_within(mesh, question, ANSWER_SPAN).await
}

/// Asks one shard; `None` where no answer came in time.
pub async fn ask_one<T: Send>(
    mesh: &Mesh<Control>,
    shard: ShardId,
    question: impl FnOnce(Reply<T>) -> Control,
) -> Option<T> {
    let until = Deadline::after(runtime::now(), INSPECT_SPAN);
    let (reply, answer) = reply();
    mesh.post(shard, question(reply), until).await.ok()?;
    answer.wait(until).await.ok()
}

/// Settles and checkpoints every shard; `None` where one could not.
pub async fn settle_all(mesh: &Mesh<Control>) -> Result<Option<Vec<KeywordsApart>>, Vec<ShardId>> {
    let settled = ask_within(mesh, Control::Settle, SETTLE_SPAN).await?;
    let all: Option<Vec<_>> = settled.into_iter().collect();
    Ok(all.map(|apart| apart.concat()))
}

/// Mends one account; `None` where its shard does not answer in time. It goes on then.
pub async fn repair(
    mesh: &Mesh<Control>,
    account: AccountRef,
    order: RepairOrder,
) -> Option<Repaired> {
    let until = Deadline::after(runtime::now(), REPAIR_SPAN);
    let owner = account.partition.owner(mesh.shards());
    let (reply, answer) = reply();
    let question = Control::Repair(account, order, reply);
    mesh.post(owner, question, until).await.ok()?;
    answer.wait(until).await.ok()
}

async fn ask_within<T: Send>(
    mesh: &Mesh<Control>,
    question: impl Fn(Reply<T>) -> Control,
    span: Duration,
) -> Result<Vec<T>, Vec<ShardId>> {
    let until = Deadline::after(runtime::now(), span);
    let mut asked = Vec::new();
    let mut silent = Vec::new();
    for shard in (0..mesh.shards()).map(ShardId) {
        let (reply, answer) = reply();
        match mesh.post(shard, question(reply), until).await {
            Ok(()) => asked.push((shard, answer)),
            Err(_) => silent.push(shard),
        }
    }
    let mut answers = Vec::with_capacity(asked.len());
    for (shard, answer) in asked {
        match answer.wait(until).await {
            Ok(answer) => answers.push(answer),
            Err(_) => silent.push(shard),
        }
    }
    if silent.is_empty() {
        Ok(answers)
    } else {
        Err(silent)
    }
}
