//! Why a command was not carried out. Each text says what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::dkim::Seen;
use crate::config::ConfigErrors;
use crate::dns::{DnsError, SettingsError};
use crate::runtime::RuntimeError;
use crate::server::ServerError;
use crate::store::journal::JournalError;
use crate::web::AdminError;

#[derive(Debug)]
pub enum CliError {
    /// Whoever read our output has gone, as `head` does: no error.
    PipeClosed,
    Config(ConfigErrors),
    /// The arguments contradict each other in a way that the parser does not see.
    Usage(&'static str),
    /// The server answered no.
    Refused(AdminError),
    /// The server did not do what it was asked to, or is not there.
    Unanswered {
        socket: PathBuf,
        why: Unanswered,
    },
    /// So much of what has been listed is to be looked after.
    Left(Left, usize),
    Server(ServerError),
    Runtime(RuntimeError),
    File {
        path: PathBuf,
        error: io::Error,
    },
    Output(io::Error),
    PasswordMissing,
    PasswordsDiffer,
    /// What would be done has been told; the last word is missing.
    NotDone,
    /// No account of that address, or none that keeps mail.
    NoAccount(String),
    /// The server or the store went away in the middle of a batch.
    ImportBroken,
    NothingToImport {
        path: PathBuf,
        what: &'static str,
    },
    NoSuchKey(String),
    NotATime(String),
    NothingKnown {
        id: String,
    },
    /// A user's own server did not answer as it should.
    Inbox {
        server: String,
        error: io::Error,
    },
    NoFolder {
        user: String,
        folder: String,
    },
    Journal(JournalError),
    Resolver(SettingsError),
    Dns {
        name: String,
        error: DnsError,
    },
    /// A key that nobody could verify by.
    NotPublished {
        name: String,
        seen: Seen,
    },
    /// Nothing is wrong with what was found out, and this was not.
    Unsure(String),
    /// The look-up ended with this: no such name, or no such record.
    Absent(String),
    /// What would be lost has been told; the last word is missing.
    NotConfirmed,
    Demo(super::demo::DemoError),
}

/// What is the matter with the server, or with the way to it.
#[derive(Debug)]
pub enum Unanswered {
    /// Nobody listens on the admin socket, and the command needs a running server.
    NoServer,
    /// A server holds the data directory, but nobody answers on the socket.
    Held { data_dir: PathBuf },
    /// The socket is there and may not be opened.
    Forbidden,
    /// The server took the request and did not answer in time.
    Silent { waited: Duration },
    /// The connection to the server broke.
    Broken(io::Error),
    /// What came over the socket is no answer of this version.
    NotAnAnswer,
}

/// What a command listed.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Rows of an import that were not taken.
    Rows,
    /// Trees that were not adopted, or not whole.
    Trees,
    /// Folders that are not what their sources are.
    Folders,
    /// What `check` found.
    Checks,
    /// What `dns check` found.
    Records,
    /// Damage that is not mended.
    Damage,
    /// Message files that were not taken in.
    Files,
    JournalFaults,
}

impl CliError {
    pub fn unanswered(socket: impl Into<PathBuf>, why: Unanswered) -> CliError {
        let socket = socket.into();
        CliError::Unanswered { socket, why }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::PipeClosed => 0,
            CliError::Config(_)
            | CliError::Usage(_)
            | CliError::NoSuchKey(_)
            | CliError::NotATime(_)
            | CliError::PasswordMissing
            | CliError::PasswordsDiffer => 2,
            // sysexits.h: EX_TEMPFAIL.
            CliError::Refused(AdminError {
                temporary: true, ..
            })
            | CliError::Unanswered {
                why: Unanswered::Held { .. } | Unanswered::Silent { .. },
                ..
            } => 75,
            CliError::Dns { error, .. } if error.is_temporary() => 75,
            CliError::NotPublished { .. } | CliError::Unsure(_) => 75,
            _ => 1,
        }
    }

    /// `colour` for a terminal.
    pub fn render(&self, colour: bool) -> String {
        match self {
            CliError::Config(errors) => errors.render(colour),
            other if colour => format!("\x1b[1;31merror\x1b[0m: {other}"),
            other => format!("error: {other}"),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::PipeClosed => f.write_str("the output was closed"),
            CliError::Config(errors) => f.write_str(&errors.render(false)),
            CliError::Usage(text) => f.write_str(text),
            CliError::Refused(error) => f.write_str(&error.message),
            CliError::Unanswered { socket, why } => why.told(&socket.display().to_string(), f),
            CliError::Left(what, count) => what.told(*count, f),
            CliError::Server(error) => error.fmt(f),
            CliError::Runtime(error) => error.fmt(f),
            CliError::File { path, error } => write!(f, "{}: {error}", path.display()),
            CliError::Output(error) => write!(f, "the result cannot be written: {error}"),
            CliError::PasswordMissing => f.write_str(
                "no password came in; give it on one line: echo SECRET | palomar ... \
                 --password-stdin",
            ),
            CliError::PasswordsDiffer => {
                f.write_str("the two passwords differ; nothing was changed: try again")
            }
            CliError::NoAccount(address) => write!(
                f,
                "there is no account {address} that keeps mail; add it first: palomar user add \
                 {address}"
            ),
            CliError::ImportBroken => f.write_str(
                "the server went away in the middle of it. Run the same command again: it goes on \
                 where it stopped, and brings nothing twice",
            ),
            CliError::NothingToImport { path, what } => {
                write!(f, "{} is not {what}", path.display())
            }
            CliError::NoSuchKey(key) => write!(
                f,
                "there is no key `{key}`; palomar config sample shows them all, written as in \
                 limits.recipients_max"
            ),
            CliError::NotATime(text) => write!(
                f,
                "`{text}` is no time; write how long ago (15m, 2h, 3d) or a time \
                 (2026-03-01, 2026-03-01T09:00:00Z)"
            ),
            CliError::NothingKnown { id } => write!(
                f,
                "the log knows nothing of {id}; take the id from a `250 queued as ID`, a Received \
                 line or palomar log (log lines are kept for `log.keep_days`)"
            ),
            CliError::Inbox { server, error } => {
                let advice = match error.kind() {
                    io::ErrorKind::PermissionDenied => "look at the user and the password",
                    // What rustls says of certificates.
                    io::ErrorKind::InvalidData => {
                        "a certificate that no public authority signed is given with --ca FILE"
                    }
                    _ => "look at the name of the server and the port",
                };
                write!(f, "{server}: {error}; {advice}")
            }
            CliError::NoFolder { user, folder } => write!(
                f,
                "{user} has no folder {folder}; palomar mailbox list {user} shows all"
            ),
            CliError::NotDone => f.write_str("nothing was changed; to do this, add --yes"),
            CliError::Journal(error) => error.fmt(f),
            CliError::Resolver(error) => error.fmt(f),
            CliError::Dns { name, error } => write!(f, "{name}: {error}; {}", next(error)),
            CliError::NotPublished { name, seen } => write!(
                f,
                "{name}: {seen}; nothing was changed. palomar dkim show prints the record; a \
                 resolver may not have noticed a new one yet: try again later, or with --force"
            ),
            CliError::Unsure(what) => write!(f, "{what}; try again"),
            CliError::Absent(what) => f.write_str(what),
            CliError::NotConfirmed => {
                f.write_str("nothing was changed; to lose what is listed, add --yes")
            }
            CliError::Demo(error) => error.fmt(f),
        }
    }
}

/// What to do about a failed look-up.
fn next(error: &DnsError) -> &'static str {
    match error {
        DnsError::BadName => "look at how it is written",
        DnsError::Loop(_) | DnsError::Chain => "the zone's owner has to mend it",
        DnsError::Bogus(_) => {
            "the zone's owner has to sign it anew, unless the clock here is wrong, the servers of \
             [dns] leave signatures out (dnssec = \"off\" there shows it), or it is a name of this \
             site alone, which belongs into insecure_domains"
        }
        DnsError::ServFail => "the name servers of the zone are broken or out of reach",
        DnsError::Refused | DnsError::Malformed => {
            "set [dns] servers to resolvers that answer this machine"
        }
        DnsError::Timeout | DnsError::Unreachable(_) => {
            "see whether the servers of [dns], or of /etc/resolv.conf, are running and reachable"
        }
        DnsError::Busy => "try again",
    }
}

impl Unanswered {
    fn told(&self, socket: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::NoServer => write!(
                f,
                "no server is running (nobody listens on {socket}); start it with palomar serve"
            ),
            Unanswered::Held { data_dir } => write!(
                f,
                "a server has {} open, but nobody answers on {socket}. It may be starting or \
                 stopping: try again in some seconds. Or it was started with another [admin] \
                 socket: give its configuration with --config",
                data_dir.display()
            ),
            Unanswered::Forbidden => write!(
                f,
                "{socket} may not be opened by this user; run the command as root or as the user \
                 that the server runs as (sudo -u palomar palomar ...)"
            ),
            Unanswered::Silent { waited } => write!(
                f,
                "the server did not answer on {socket} within {} s; the change may or may not be \
                 made. Look at its log, then try again",
                waited.as_secs()
            ),
            Unanswered::Broken(error) => write!(
                f,
                "{socket}: {error}; the change may or may not be made. Look at the server's log, \
                 then try again"
            ),
            Unanswered::NotAnAnswer => write!(
                f,
                "what answers on {socket} is not palomar, or of another version; restart the \
                 server so that both are the same"
            ),
        }
    }
}

impl Left {
    fn told(self, count: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, count) {
            (Left::Rows, 1) => {
                f.write_str("one row was not taken; mend it and import the file again")
            }
            (Left::Rows, rows) => write!(
                f,
                "{rows} rows were not taken; mend them and import the file again: rows that are \
                 in already are refused and harmless"
            ),
            (Left::Trees, 1) => f.write_str("one tree above was not adopted as a whole"),
            (Left::Trees, trees) => write!(f, "{trees} trees above were not adopted as a whole"),
            (Left::Folders, 1) => f.write_str(
                "one folder is not what its source is: see above. The same command again brings \
                 what is missing, and nothing twice",
            ),
            (Left::Folders, folders) => write!(
                f,
                "{folders} folders are not what their sources are: see above. The same command \
                 again brings what is missing, and nothing twice"
            ),
            (Left::Checks, 1) => f.write_str("one thing above must be mended first"),
            (Left::Checks, things) => write!(f, "{things} things above must be mended first"),
            (Left::Records, records) => write!(
                f,
                "{} above must be mended in the zone",
                super::print::counted(records as u64, "record")
            ),
            (Left::Damage, count) => write!(
                f,
                "{count} to be looked after: a damaged message's file is restored from a backup, \
                 under its name; for all else palomar repair USER shows what can be done"
            ),
            (Left::Files, count) => write!(
                f,
                "{} could not be read, or went away meanwhile; let the server's user own and read \
                 what is there, then run the command again",
                super::print::counted(count as u64, "file")
            ),
            (Left::JournalFaults, faults) => write!(
                f,
                "{} in the journal; a stopped server may refuse to start: while it runs, take a \
                 backup of the mailboxes, then stop it and do what the lines above say",
                super::print::counted(faults as u64, "fault")
            ),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        CliError::Server(error)
    }
}
