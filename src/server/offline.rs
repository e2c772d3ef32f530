//! Administrators' requests on a stopped server: the store is opened, the requests carried out by
//! the same code as on a running one, the store drained and closed.

use std::time::Duration;

use super::{ServerError, admin, build, restore};
use crate::base::{Deadline, ShardId};
use crate::config::Config;
use crate::directory::Directory;
use crate::runtime::{self, Disk, Gate, Pool};
use crate::store::Store;
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
    build::make_data_dir(config)?;
    let pool = Pool::start(POOL_THREADS, POOL_DEPTH);
    let store_config = build::store_config(config, 1);
    let disk = Disk::real(pool.clone()).with_root(&config.data_dir)?;
    let site = build::site(config);
    let view = config.data_dir.join("directory.sqlite");
    let work = async move {
        let recovered = Store::recover_all(store_config, &disk).await?;
        let store = Store::open(ShardId(0), &recovered, disk).await?;
        let gate = Gate::new();
        let (directory, owner) = Directory::new(&site);
        owner.start(store.remote(), pool, Some(view), &gate).await?;
        let mut replies = Vec::with_capacity(requests.len());
        for (number, request) in requests.into_iter().enumerate() {
            let reply = one(request, &directory, &store).await;
            let failed = matches!(reply, AdminReply::Failed(_));
            replies.push(reply);
            if failed {
                break;
            }
            each(number);
        }
        let until = Deadline::after(runtime::now(), DRAIN_SPAN);
        // The view is derived: where it is not written in time, the next start writes it.
        let _ = gate.close(until).await;
        store.drain(until).await?;
        Ok(replies)
    };
    runtime::block_on(work)?
}

async fn one(request: AdminRequest, directory: &Directory, store: &Store) -> AdminReply {
    match request {
        AdminRequest::Directory(command) => admin::execute(directory, command).await,
        AdminRequest::Restore { user, request } => {
            restore::restore_all(directory, &store.remote(), &user, request).await
        }
        // Opening and draining the store has settled everything.
        AdminRequest::Settle => AdminReply::Done(serde_json::json!({ "settled": true })),
        AdminRequest::Who | AdminRequest::Kick { .. } | AdminRequest::Status => {
            let message = "the server is not running: nobody is connected".to_owned();
            AdminReply::Failed(AdminError {
                message,
                temporary: false,
            })
        }
    }
}
