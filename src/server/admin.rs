//! Carries out what comes over the admin socket, and what the command line asks of a stopped
//! server.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::control::{self, Control};
use super::restore;
use crate::base::{Deadline, ShardId};
use crate::directory::{Command, Directory, DirectoryError};
use crate::observe::{event, log_event};
use crate::runtime::{self, Mesh};
use crate::store::Remote;
use crate::web::{AdminError, AdminHandler, AdminReply, AdminRequest};

/// An import of many passwords takes its time on the pool.
const COMMAND_SPAN: Duration = Duration::from_secs(120);

/// The handler of the admin socket.
#[must_use]
pub fn handler(directory: Directory, mesh: Mesh<Control>, remote: Remote) -> AdminHandler {
    Rc::new(move |request| {
        let (directory, mesh, remote) = (directory.clone(), mesh.clone(), remote.clone());
        Box::pin(async move { handle(request, &directory, &mesh, &remote).await })
    })
}

async fn handle(
    request: AdminRequest,
    directory: &Directory,
    mesh: &Mesh<Control>,
    remote: &Remote,
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
        AdminRequest::Restore { user, request } => {
            restore::restore(directory, remote, &user, request).await
        }
        AdminRequest::Settle => match control::settle_all(mesh).await {
            Ok(true) => done(&json!({ "settled": true })),
            Ok(false) => failed("not everything could be written; see the log", true),
            Err(silent) => silence(&silent),
        },
    }
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
        AdminRequest::Restore { .. } => "restore",
        AdminRequest::Settle => "settle",
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

fn silence(silent: &[ShardId]) -> AdminReply {
    let shards: Vec<String> = silent.iter().map(ToString::to_string).collect();
    failed(
        &format!("no answer from shard {}; try again", shards.join(", ")),
        true,
    )
}
