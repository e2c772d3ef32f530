//! The way to the server: its admin socket, or, where no server runs, the data directory.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::from_value;

use super::error::{CliError, Unanswered};
use crate::config::Config;
use crate::directory::{Answer, Command};
use crate::server::{self, ServerError};
use crate::store::StartError;
use crate::web::{AdminReply, AdminRequest};

/// A batch of an import, with a password to hash in every row, takes longest.
const ANSWER_SPAN: Duration = Duration::from_secs(150);

/// Settling everything after a busy hour writes many files.
const SETTLE_SPAN: Duration = Duration::from_secs(630);

/// A listing of every account of a large site.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

const HEADERS_MAX: usize = 32;

const TRIES_MAX: usize = 30;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Carries out `request` on the running server, or on the stopped one.
pub fn ask(config: &Config, request: AdminRequest) -> Result<Value, CliError> {
    let socket = config.admin_socket();
    let reply = match reply_of(&socket, &request)? {
        Some(reply) => reply,
        None => server::offline(config, request).map_err(|error| offline_error(config, error))?,
    };
    value_of(reply)
}

/// Carries out `request` on the running server; there is no sense in it without one.
pub fn ask_running(config: &Config, request: &AdminRequest) -> Result<Value, CliError> {
    let socket = config.admin_socket();
    match reply_of(&socket, request)? {
        Some(reply) => value_of(reply),
        None => Err(CliError::unanswered(socket, Unanswered::NoServer)),
    }
}

/// One command to the directory.
pub fn directory(config: &Config, command: Command) -> Result<Answer, CliError> {
    let value = ask(config, AdminRequest::Directory(command))?;
    from_value(value)
        .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))
}

/// Several commands one after the other, up to the first that fails; `each` is told of every one
/// that is done. What was done stays done.
pub fn directory_all(
    config: &Config,
    commands: Vec<Command>,
    mut each: impl FnMut(&Command) + 'static,
) -> (Vec<Answer>, Option<CliError>) {
    if !is_running(config) {
        return offline_all(config, commands, each);
    }
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        match directory(config, command.clone()) {
            Ok(answer) => answers.push(answer),
            Err(error) => return (answers, Some(error)),
        }
        each(&command);
    }
    (answers, None)
}

fn offline_all(
    config: &Config,
    commands: Vec<Command>,
    mut each: impl FnMut(&Command) + 'static,
) -> (Vec<Answer>, Option<CliError>) {
    let done = commands.clone();
    let requests = commands.into_iter().map(AdminRequest::Directory).collect();
    let replies = server::offline_all(config, requests, move |n| each(&done[n]));
    let mut answers = Vec::new();
    match replies {
        Err(error) => return (answers, Some(offline_error(config, error))),
        Ok(replies) => {
            for reply in replies {
                match value_of(reply).map(from_value) {
                    Ok(Ok(answer)) => answers.push(answer),
                    Ok(Err(_)) => {
                        let socket = config.admin_socket();
                        return (
                            answers,
                            Some(CliError::unanswered(socket, Unanswered::NotAnAnswer)),
                        );
                    }
                    Err(error) => return (answers, Some(error)),
                }
            }
        }
    }
    (answers, None)
}

/// Several requests one after the other, up to the first that fails; `each` is told the number of
/// every one that is done.
pub fn ask_all(
    config: &Config,
    requests: Vec<AdminRequest>,
    mut each: impl FnMut(usize) + 'static,
) -> Result<Vec<Value>, CliError> {
    if !is_running(config) {
        let replies = server::offline_all(config, requests, each);
        let replies = replies.map_err(|error| offline_error(config, error))?;
        return replies.into_iter().map(value_of).collect();
    }
    let mut answers = Vec::with_capacity(requests.len());
    for (number, request) in requests.into_iter().enumerate() {
        answers.push(ask(config, request)?);
        each(number);
    }
    Ok(answers)
}

/// True where somebody listens on the admin socket.
pub fn is_running(config: &Config) -> bool {
    matches!(connect(&config.admin_socket()), Ok(Some(_)))
}

/// `None`: nobody listens.
///
/// The kernel closes the sockets of a process with io_uring some time after it has ended. Until
/// then connections succeed and are reset without an answer: whoever was there is gone, and the
/// question is asked again.
fn reply_of(socket: &Path, request: &AdminRequest) -> Result<Option<AdminReply>, CliError> {
    let mut tries = 0;
    loop {
        let Some(stream) = connect(socket)? else {
            return Ok(None);
        };
        tries += 1;
        match exchange(stream, socket, request) {
            Err(CliError::Unanswered {
                why: Unanswered::Broken(error),
                ..
            }) if is_gone(&error) && tries < TRIES_MAX => {
                thread::sleep(TRY_EVERY);
            }
            other => return other.map(Some),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// `None`: nobody listens.
pub(super) fn connect(socket: &Path) -> Result<Option<UnixStream>, CliError> {
    match UnixStream::connect(socket) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            io::ErrorKind::PermissionDenied => Err(CliError::unanswered(
                socket.to_owned(),
                Unanswered::Forbidden,
            )),
            _ => Err(CliError::unanswered(
                socket.to_owned(),
                Unanswered::Broken(error),
            )),
        },
    }
}

pub(super) fn offline_error(config: &Config, error: ServerError) -> CliError {
    match error {
        ServerError::Store(StartError::InUse { .. }) => CliError::unanswered(
            config.admin_socket(),
            Unanswered::Held {
                data_dir: config.data_dir.clone(),
            },
        ),
        error => CliError::Server(error),
    }
}

pub(super) fn value_of(reply: AdminReply) -> Result<Value, CliError> {
    match reply {
        AdminReply::Done(value) => Ok(value),
        AdminReply::Failed(error) => Err(CliError::Refused(error)),
    }
}

fn exchange(
    mut stream: UnixStream,
    socket: &Path,
    request: &AdminRequest,
) -> Result<AdminReply, CliError> {
    let span = match request {
        AdminRequest::Settle => SETTLE_SPAN,
        _ => ANSWER_SPAN,
    };
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            CliError::unanswered(socket.to_owned(), Unanswered::Silent { waited: span })
        }
        _ => CliError::unanswered(socket.to_owned(), Unanswered::Broken(error)),
    };
    let body = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
    let head = format!(
        "POST /v1 HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    stream
        .set_read_timeout(Some(span))
        .and_then(|()| stream.set_write_timeout(Some(span)))
        .and_then(|()| stream.write_all(head.as_bytes()))
        .and_then(|()| stream.write_all(&body))
        .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer))
        .map_err(broken)?;
    body_of(&answer)
        .and_then(|body| serde_json::from_slice(body).ok())
        .ok_or_else(|| CliError::unanswered(socket.to_owned(), Unanswered::NotAnAnswer))
}

/// The body of a whole HTTP/1.1 response; its length is given, as ours always is.
pub(super) fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(answer) else {
        return None;
    };
    let length = response
        .headers
        .iter()
        .find(|h| h.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    answer.get(head..head.checked_add(length)?)
}
