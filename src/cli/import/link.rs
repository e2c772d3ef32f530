//! The way that messages go: the running server's admin socket, or a thread that has the store of
//! a stopped one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::cli::admin;
use crate::cli::conversation::Conversation;
use crate::cli::error::{CliError, Unanswered};
use crate::config::Config;
use crate::server::OfflineJob;
use crate::web::import::{ImportQuery, ImportRows};
use crate::web::{AdminReply, AdminRequest};

/// Pieces that wait for the store's thread.
const PIECES_WAITING_MAX: usize = 4;
/// A batch with large messages is synced to the disk before it is answered.
const ANSWER_SPAN: Duration = Duration::from_secs(300);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

pub(super) struct Link {
    config: Config,
    line: Conversation,
}

/// One batch on its way.
pub(super) enum Stream {
    Socket {
        stream: UnixStream,
        socket: PathBuf,
    },
    Thread {
        pieces: flume::Sender<Vec<u8>>,
        answer: flume::Receiver<AdminReply>,
    },
}

impl Link {
    pub fn open(config: &Config) -> Result<Link, CliError> {
        Ok(Link {
            config: config.clone(),
            line: Conversation::open(config)?,
        })
    }

    /// To a thread of a test.
    #[cfg(test)]
    pub fn to(config: Config, line: Conversation) -> Link {
        Link { config, line }
    }

    /// Ends it; a stopped server's store is closed.
    pub fn close(self) -> Result<(), CliError> {
        self.line.close()
    }

    /// The largest message that the server takes.
    pub fn bytes_max(&self) -> u64 {
        self.config.limits.message_bytes_max.0
    }

    fn silent(&self) -> CliError {
        CliError::unanswered(self.config.admin_socket(), Unanswered::NotAnAnswer)
    }

    pub fn make_folder(&self, user: &str, folder: &str, subscribed: bool) -> Result<(), CliError> {
        let query = ImportQuery::Folder {
            user: user.to_owned(),
            folder: folder.to_owned(),
            subscribed,
        };
        self.ask(query).map(drop)
    }

    pub fn rows(&self, user: &str, folder: &str, after: u32) -> Result<ImportRows, CliError> {
        let query = ImportQuery::Rows {
            user: user.to_owned(),
            folder: folder.to_owned(),
            after,
        };
        serde_json::from_value(self.ask(query)?).map_err(|_| self.silent())
    }

    fn ask(&self, query: ImportQuery) -> Result<Value, CliError> {
        self.line.ask(AdminRequest::Import(query))
    }

    /// Begins a batch.
    pub fn stream(&self) -> Result<Stream, CliError> {
        if let Some(jobs) = self.line.jobs() {
            let (pieces, taken) = flume::bounded(PIECES_WAITING_MAX);
            let (to, answer) = flume::bounded(1);
            let sent = jobs.send(OfflineJob::Take(taken, to));
            sent.map_err(|_| self.silent())?;
            return Ok(Stream::Thread { pieces, answer });
        }
        let socket = self.config.admin_socket();
        let Some(mut stream) = admin::connect(&socket)? else {
            return Err(CliError::unanswered(socket, Unanswered::NoServer));
        };
        let head = "POST /v1/import HTTP/1.1\r\nHost: admin\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n";
        let begun = stream
            .set_read_timeout(Some(ANSWER_SPAN))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_SPAN)))
            .and_then(|()| stream.write_all(head.as_bytes()));
        match begun {
            Ok(()) => Ok(Stream::Socket { stream, socket }),
            Err(error) => Err(CliError::unanswered(socket, Unanswered::Broken(error))),
        }
    }
}

impl Stream {
    /// Sends frames. Where the other end has given up, [`finish`](Stream::finish) says why.
    pub fn write(&mut self, frames: &[u8]) {
        // A chunk without octets would end the body.
        if frames.is_empty() {
            return;
        }
        match self {
            Stream::Socket { stream, .. } => {
                let size = format!("{:x}\r\n", frames.len());
                let _ = stream
                    .write_all(size.as_bytes())
                    .and_then(|()| stream.write_all(frames))
                    .and_then(|()| stream.write_all(b"\r\n"));
            }
            Stream::Thread { pieces, .. } => {
                let _ = pieces.send(frames.to_vec());
            }
        }
    }

    /// Ends the batch and waits for what became of it.
    pub fn finish(self) -> Result<(), CliError> {
        let reply = match self {
            Stream::Thread { pieces, answer } => {
                drop(pieces);
                answer.recv().ok()
            }
            Stream::Socket { mut stream, socket } => {
                // The answer may be there already.
                let _ = stream.write_all(b"0\r\n\r\n");
                let mut answer = Vec::new();
                let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
                if let (Err(error), true) = (read, answer.is_empty()) {
                    return Err(CliError::unanswered(socket, Unanswered::Broken(error)));
                }
                admin::body_of(&answer).and_then(|body| serde_json::from_slice(body).ok())
            }
        };
        let reply = reply.ok_or(CliError::ImportBroken)?;
        admin::value_of(reply).map(drop)
    }
}
