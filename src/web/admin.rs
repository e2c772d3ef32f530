//! The admin socket: HTTP and JSON over `DATA/admin.sock`, for the command line.
//!
//! `POST /v1`: one JSON request in, one JSON reply out; mail comes over `POST /v1/import`. Who may speak is settled by the
//! file's mode (0600, the server's user): whoever can open it is the postmaster.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::Question;
use super::http::{Answer, answer, body_of, serve_connection};
use super::import::{ImportQuery, Importer, Pieces};
use crate::directory;
use crate::queue;
use crate::runtime::{Gate, Listener, spawn_in};
use crate::store::RepairOrder;
use crate::store::RestoreRequest;

/// What may be asked of a running server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRequest {
    /// Accounts, domains, aliases.
    Directory(directory::Command),
    /// Who is connected, on every shard.
    Who,
    /// Ends every session of a user.
    Kick { user: String },
    /// Version, shards, positions, fill of the journal ring.
    Status,
    /// How full mailboxes are: of one user, with the largest folders, or of all.
    Quotas { user: Option<String> },
    /// Counts the mail of one user, or of all.
    Recount { user: Option<String> },
    /// One user's mailboxes, by address or `#` and the id of a removed account.
    Inspect { user: String, question: Question },
    /// Reads and compares all that is at rest: of one user, or of all. Goes on by itself.
    Scrub { user: Option<String>, rate: u64 },
    /// How far that is, and what it found.
    ScrubStatus,
    /// Makes anew what is derived of one user's mail, or tells what that would do.
    Repair { user: String, order: RepairOrder },
    /// What of a user's removed mail is kept; restores it as asked.
    Restore {
        user: String,
        request: RestoreRequest,
    },
    /// Settles and checkpoints everything, so that any Maildir tool reads the present state.
    Settle,
    /// What an import asks before and after.
    Import(ImportQuery),
    /// Mail that waits to leave.
    Queue(queue::Ask),
}

/// The outcome, as it crosses the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    Done(serde_json::Value),
    Failed(AdminError),
}

/// A refusal in plain words that says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    pub message: String,
    /// Worth trying again unchanged.
    pub temporary: bool,
}

/// Carries requests out; given by the server room.
pub type AdminHandler = Rc<dyn Fn(AdminRequest) -> Pin<Box<dyn Future<Output = AdminReply>>>>;

const JSON: &str = "application/json";

/// Serves the admin socket until `gate` closes. Returns when the socket listens no more.
pub async fn serve_admin(
    listener: Listener,
    gate: Gate,
    handler: AdminHandler,
    importer: Importer,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (handler, importer) = (handler.clone(), importer.clone());
        let connection = serve_connection(stream, move |request| {
            one(request, handler.clone(), importer.clone())
        });
        if !spawn_in(&gate, "web.admin", connection) {
            return;
        }
    }
}

async fn one(request: Request<Incoming>, handler: AdminHandler, importer: Importer) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1") => {}
        (&Method::POST, "/v1/import") => {
            let reply = importer.take(Pieces::Socket(request.into_body())).await;
            return written(StatusCode::OK, &reply);
        }
        _ => {
            return refuse(
                StatusCode::NOT_FOUND,
                "POST /v1 and /v1/import are all there is",
            );
        }
    }
    let Some(body) = body_of(request).await else {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too long or broke off",
        );
    };
    let reply = match serde_json::from_slice::<AdminRequest>(&body) {
        Ok(request) => handler(request).await,
        Err(error) => {
            let message = format!("not an admin request of this version: {error}");
            return refuse(StatusCode::BAD_REQUEST, &message);
        }
    };
    written(StatusCode::OK, &reply)
}

fn refuse(status: StatusCode, message: &str) -> Answer {
    let error = AdminError {
        message: message.to_owned(),
        temporary: false,
    };
    written(status, &AdminReply::Failed(error))
}

fn written(status: StatusCode, reply: &AdminReply) -> Answer {
    match serde_json::to_vec(reply) {
        Ok(bytes) => answer(status, JSON, bytes),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, format!("{error}")),
    }
}
