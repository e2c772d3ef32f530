//! Administrators' requests on a stopped server: the store is opened, the requests carried out by
//! the same code as on a running one, the store drained and closed.

use std::time::Duration;

use super::{ServerError, admin, build, inspect, mend, restore};
use crate::base::{Deadline, ShardId};
use crate::config::Config;
use crate::directory::Directory;
use crate::net;
use crate::queue;
use crate::runtime::{self, Disk, Gate, Pool};
use crate::store::Store;
use crate::web::import::{Importer, Pieces};
use crate::web::{AdminError, AdminReply, AdminRequest};

const POOL_THREADS: usize = 2;
const POOL_DEPTH: usize = 256;
const DRAIN_SPAN: Duration = Duration::from_secs(60);

/// Carries out `request` where that is safe without a running server. Blocks. Called at most once
/// in a process.
pub fn offline(config: &Config, request: AdminRequest) -> Result<AdminReply, ServerError> {
    let mut replies = offline_all(config, vec![request], |_| {})?;
    Ok(replies.pop().expect("a request has a reply"))
}

/// As [`offline`], one request after the other up to the first that fails; `each` is told the
/// number of every one that is done. What was done stays done.
pub fn offline_all(
    config: &Config,
    requests: Vec<AdminRequest>,
    mut each: impl FnMut(usize) + 'static,
) -> Result<Vec<AdminReply>, ServerError> {
    with_store(config, async move |store, directory| {
        let importer = Importer::new(store.remote(), directory.clone());
        let mut replies = Vec::with_capacity(requests.len());
        for (number, request) in requests.into_iter().enumerate() {
            let reply = one(request, &store, &directory, &importer).await;
            let failed = matches!(reply, AdminReply::Failed(_));
            replies.push(reply);
            if failed {
                break;
            }
            each(number);
        }
        replies
    })
}

/// What another thread asks of a stopped server's store.
pub enum OfflineJob {
    Ask(AdminRequest, flume::Sender<AdminReply>),
    /// A batch of an import.
    Take(flume::Receiver<Vec<u8>>, flume::Sender<AdminReply>),
}

/// Carries out jobs until their sender is gone. Blocks, and is called at most once in a process.
pub fn offline_jobs(config: &Config, jobs: flume::Receiver<OfflineJob>) -> Result<(), ServerError> {
    with_store(config, async move |store, directory| {
        let importer = Importer::new(store.remote(), directory.clone());
        while let Ok(job) = jobs.recv_async().await {
            let (reply, to) = match job {
                OfflineJob::Ask(request, to) => {
                    (one(request, &store, &directory, &importer).await, to)
                }
                OfflineJob::Take(pieces, to) => (importer.take(Pieces::Thread(pieces)).await, to),
            };
            // Who has asked may have gone.
            let _ = to.send(reply);
        }
    })
}

/// Opens the store of a stopped server on one shard, works with it, and drains it. Blocks. Called
/// at most once in a process.
pub fn with_store<R: 'static>(
    config: &Config,
    work: impl AsyncFnOnce(Store, Directory) -> R + 'static,
) -> Result<R, ServerError> {
    if config.data_dir.exists() {
        net::become_owner(&config.data_dir)?;
    }
    let made = build::make_data_dir(config)?;
    if let Some(user) = &config.user {
        net::hand_over(user, &config.data_dir, &made)?;
    }
    net::become_owner(&config.data_dir)?;
    let pool = Pool::start(POOL_THREADS, POOL_DEPTH);
    let store_config = build::store_config(config, 1);
    let disk = Disk::real(pool.clone()).with_root(&config.data_dir)?;
    let site = build::site(config);
    let view = config.data_dir.join("directory.sqlite");
    let all = async move {
        let recovered = Store::recover_all(store_config, &disk).await?;
        let store = Store::open(ShardId(0), &recovered, disk).await?;
        let gate = Gate::new();
        let (directory, owner) = Directory::new(&site);
        owner.start(store.remote(), pool, Some(view), &gate).await?;
        let outcome = work(store.clone(), directory).await;
        let until = Deadline::after(runtime::now(), DRAIN_SPAN);
        // The view is derived: where it is not written in time, the next start writes it.
        let _ = gate.close(until).await;
        store.drain(until).await?;
        Ok(outcome)
    };
    runtime::block_on(all)?
}

async fn one(
    request: AdminRequest,
    store: &Store,
    directory: &Directory,
    importer: &Importer,
) -> AdminReply {
    match request {
        AdminRequest::Scrub { user, rate } => mend::scrub_here(directory, store, user, rate).await,
        AdminRequest::ScrubStatus => admin::done(&[store.scrub_status()]),
        AdminRequest::Repair { user, order } => {
            mend::repair_here(directory, store, &user, &order).await
        }
        AdminRequest::Directory(command) => admin::execute(directory, command).await,
        AdminRequest::Import(query) => importer.ask(query).await,
        AdminRequest::Queue(ask) => {
            let answer = queue::answer(&store.remote(), ask).await;
            admin::queue_reply(vec![answer])
        }
        AdminRequest::Restore { user, request } => {
            restore::restore_all(directory, &store.remote(), &user, request).await
        }
        AdminRequest::Quotas { user } => match inspect::quotas_wanted(directory, user.as_deref()) {
            Ok(wanted) => {
                let accounts: Vec<_> = wanted.iter().map(|one| one.account).collect();
                let folders = match (user, accounts.first()) {
                    (Some(_), Some(one)) => inspect::folders(store, *one),
                    _ => Vec::new(),
                };
                let usage = inspect::usage(store, &accounts);
                admin::done(&inspect::quota_rows(wanted, &usage, folders))
            }
            Err(reply) => reply,
        },
        AdminRequest::Recount { user } => {
            let wanted = match inspect::quotas_wanted(directory, user.as_deref()) {
                Ok(wanted) => wanted,
                Err(reply) => return reply,
            };
            let mut counted = Vec::with_capacity(wanted.len());
            for one in wanted {
                match inspect::inspect(store, one.recount()).await {
                    AdminReply::Done(value) => counted.push(value),
                    failed => return failed,
                }
            }
            admin::done(&counted)
        }
        AdminRequest::Inspect { user, question } => {
            match inspect::inspection(directory, &user, question) {
                Ok(mut inspection) => {
                    inspection.piece_bytes_max = u64::MAX;
                    inspect::inspect(store, inspection).await
                }
                Err(reply) => reply,
            }
        }
        AdminRequest::Settle => match inspect::settle(store).await {
            Ok(apart) => inspect::settled(directory, apart),
            Err(why) => admin::failed(&inspect::told(&why), true),
        },
        AdminRequest::Who | AdminRequest::Kick { .. } | AdminRequest::Status => {
            let message = "the server is not running: nobody is connected".to_owned();
            AdminReply::Failed(AdminError {
                message,
                temporary: false,
            })
        }
    }
}
