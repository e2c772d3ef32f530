//! Carries out what comes over the admin socket, and what the command line asks of a stopped
//! server.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::control::{self, Control};
use super::{inspect, mend, restore};
use crate::base::{Deadline, ShardId};
use crate::directory::{Command, Directory, DirectoryError};
use crate::observe::{event, log_event};
use crate::queue;
use crate::runtime::{self, Mesh};
use crate::store::{AccountRef, FolderSize, Remote, StoreError};
use crate::web::import::Importer;
use crate::web::{AdminError, AdminHandler, AdminReply, AdminRequest};

/// An import of many passwords takes its time on the pool.
const COMMAND_SPAN: Duration = Duration::from_secs(120);

/// The handler of the admin socket.
#[must_use]
pub fn handler(
    directory: Directory,
    mesh: Mesh<Control>,
    remote: Remote,
    importer: Importer,
) -> AdminHandler {
    Rc::new(move |request| {
        let (directory, mesh) = (directory.clone(), mesh.clone());
        let (remote, importer) = (remote.clone(), importer.clone());
        Box::pin(async move { handle(request, &directory, &mesh, &remote, &importer).await })
    })
}

async fn handle(
    request: AdminRequest,
    directory: &Directory,
    mesh: &Mesh<Control>,
    remote: &Remote,
    importer: &Importer,
) -> AdminReply {
    log_event!(INFO, event::COMMAND_RUN, command = name(&request));
    match request {
        AdminRequest::Directory(command) => execute(directory, command).await,
        AdminRequest::Who => match control::ask_all(mesh, Control::Who).await {
            Ok(rows) => done(&rows.into_iter().flatten().collect::<Vec<_>>()),
            Err(silent) => silence(&silent),
        },
        AdminRequest::Kick { user } => {
            match control::ask_all(mesh, |reply| Control::Kick(user.clone(), reply)).await {
                Ok(kicked) => done(&json!({ "kicked": kicked.iter().sum::<usize>() })),
                Err(silent) => silence(&silent),
            }
        }
        AdminRequest::Status => match control::ask_all(mesh, Control::Status).await {
            Ok(shards) => done(&json!({ "version": env!("CARGO_PKG_VERSION"), "shards": shards })),
            Err(silent) => silence(&silent),
        },
        AdminRequest::Quotas { user } => {
            let wanted = match inspect::quotas_wanted(directory, user.as_deref()) {
                Ok(wanted) => wanted,
                Err(reply) => return reply,
            };
            match inspect::usage_everywhere(mesh, &wanted).await {
                Ok(usage) => {
                    let folders = match (user, wanted.first()) {
                        (Some(_), Some(one)) => folders(mesh, one.account).await,
                        _ => Vec::new(),
                    };
                    done(&inspect::quota_rows(wanted, &usage, folders))
                }
                Err(silent) => silence(&[silent]),
            }
        }
        AdminRequest::Recount { user } => {
            let wanted = match inspect::quotas_wanted(directory, user.as_deref()) {
                Ok(wanted) => wanted,
                Err(reply) => return reply,
            };
            let mut counted = Vec::with_capacity(wanted.len());
            for one in wanted {
                let inspection = one.recount();
                let owner = inspection.account.partition.owner(mesh.shards());
                let ask = |reply| Control::Inspect(Box::new(inspection), reply);
                match control::ask_one(mesh, owner, ask).await {
                    Some(AdminReply::Done(value)) => counted.push(value),
                    Some(failed) => return failed,
                    None => return silence(&[owner]),
                }
            }
            done(&counted)
        }
        AdminRequest::Inspect { user, question } => {
            let inspection = match inspect::inspection(directory, &user, question) {
                Ok(inspection) => inspection,
                Err(reply) => return reply,
            };
            let owner = inspection.account.partition.owner(mesh.shards());
            let goes_on = inspection.goes_on();
            let ask = |reply| Control::Inspect(Box::new(inspection), reply);
            let reply = control::ask_one(mesh, owner, ask).await;
            reply.unwrap_or_else(|| match goes_on {
                Some(text) => failed(text, true),
                None => silence(&[owner]),
            })
        }
        AdminRequest::Scrub { user, rate } => mend::scrub(directory, mesh, user, rate).await,
        AdminRequest::ScrubStatus => match control::ask_all(mesh, Control::ScrubStatus).await {
            Ok(shards) => done(&shards),
            Err(silent) => silence(&silent),
        },
        AdminRequest::Repair { user, order } => mend::repair(directory, mesh, &user, order).await,
        AdminRequest::Restore { user, request } => {
            restore::restore(directory, remote, &user, request).await
        }
        AdminRequest::Settle => match control::settle_all(mesh).await {
            Ok(Some(apart)) => inspect::settled(directory, apart),
            Ok(None) => failed("not everything could be written; see the log", true),
            Err(silent) => silence(&silent),
        },
        AdminRequest::Import(query) => importer.ask(query).await,
        AdminRequest::Queue(ask) => {
            let asked = |reply| Control::Queue(ask.clone(), reply);
            match control::ask_all(mesh, asked).await {
                Ok(answers) => queue_reply(answers),
                Err(silent) => silence(&silent),
            }
        }
    }
}

async fn folders(mesh: &Mesh<Control>, account: AccountRef) -> Vec<FolderSize> {
    let owner = account.partition.owner(mesh.shards());
    let ask = |reply| Control::Folders(account, reply);
    control::ask_one(mesh, owner, ask).await.unwrap_or_default()
}

/// One command to the directory.
pub async fn execute(directory: &Directory, command: Command) -> AdminReply {
    let until = Deadline::after(runtime::now(), COMMAND_SPAN);
    match directory.execute(command, until).await {
        Ok(answer) => done(&answer),
        Err(error) => {
            use DirectoryError as E;
            let temporary = matches!(error, E::Busy | E::Late | E::Stopping);
            failed(&error.to_string(), temporary)
        }
    }
}

/// For the log: what was asked, never with what.
fn name(request: &AdminRequest) -> &'static str {
    match request {
        AdminRequest::Directory(_) => "directory",
        AdminRequest::Who => "who",
        AdminRequest::Kick { .. } => "kick",
        AdminRequest::Status => "status",
        AdminRequest::Quotas { .. } => "quotas",
        AdminRequest::Recount { .. } => "recount",
        AdminRequest::Inspect { .. } => "inspect",
        AdminRequest::Scrub { .. } => "scrub",
        AdminRequest::ScrubStatus => "scrub-status",
        AdminRequest::Repair { .. } => "repair",
        AdminRequest::Restore { .. } => "restore",
        AdminRequest::Settle => "settle",
        AdminRequest::Import(_) => "import",
        AdminRequest::Queue(_) => "queue",
    }
}

/// What all shards said of their queues.
pub(super) fn queue_reply(answers: Vec<Result<queue::Answer, StoreError>>) -> AdminReply {
    match answers.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(answers) => match queue::join(answers) {
            Some(answer) => done(&answer),
            None => failed("there is no shard", true),
        },
        Err(why) => {
            let text = format!("not all of it is done: the store says {why:?}; see the log");
            failed(&text, true)
        }
    }
}

pub(super) fn done(value: &impl Serialize) -> AdminReply {
    match serde_json::to_value(value) {
        Ok(value) => AdminReply::Done(value),
        Err(error) => failed(
            &format!("the answer cannot be written as JSON: {error}"),
            false,
        ),
    }
}

pub(super) fn failed(message: &str, temporary: bool) -> AdminReply {
    AdminReply::Failed(AdminError {
        message: message.to_owned(),
        temporary,
    })
}

pub(super) fn silence(silent: &[ShardId]) -> AdminReply {
    let shards: Vec<String> = silent.iter().map(ToString::to_string).collect();
    failed(
        &format!("no answer from shard {}; try again", shards.join(", ")),
        true,
    )
}
