//! Why a server does not start, or had to stop. Every text says what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::directory::DirectoryError;
use crate::dns;
use crate::net::{ListenError, PrivilegeError, TlsError};
use crate::observe::LogError;
use crate::queue;
use crate::runtime::{DiskError, RuntimeError};
use crate::store::{StartError, StoreError};

/// The operator's, or the machine's.
#[derive(Debug)]
pub enum ServerError {
    DataDir {
        path: PathBuf,
        error: io::Error,
    },
    Log(LogError),
    Tls(TlsError),
    Listen(ListenError),
    Privileges(PrivilegeError),
    Runtime(RuntimeError),
    Store(StartError),
    Disk(DiskError),
    /// The last checkpoint could not be made; the journal has everything for the next start.
    Drain(StoreError),
    Directory(DirectoryError),
    Dns(dns::SettingsError),
    Routes(queue::RouteError),
    Signals(io::Error),
    /// A failed sync: what is acknowledged is safe, nothing more can be.
    Poisoned,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::DataDir { path, error } => write!(
                f,
                "{}: {error}; `data_dir` must be a folder that this user can write",
                path.display()
            ),
            ServerError::Log(error) => write!(f, "the log: {error}"),
            ServerError::Tls(error) => write!(f, "{error}"),
            ServerError::Listen(error) => write!(f, "{error}"),
            ServerError::Privileges(error) => write!(f, "{error}"),
            ServerError::Runtime(error) => write!(f, "{error}"),
            ServerError::Store(error) => write!(f, "{error}"),
            ServerError::Disk(error) => write!(f, "{error}"),
            ServerError::Drain(error) => write!(
                f,
                "the last checkpoint was not made ({error:?}); the next start replays the journal"
            ),
            ServerError::Directory(error) => write!(f, "the directory: {error}"),
            ServerError::Dns(error) => write!(f, "[dns]: {error}"),
            ServerError::Routes(error) => write!(f, "{error}"),
            ServerError::Signals(error) => write!(f, "signal handlers: {error}"),
            ServerError::Poisoned => f.write_str(
                "a write to the disk failed and cannot be trusted; everything acknowledged before \
                 is in the journal. See the log, mend the disk, start again",
            ),
        }
    }
}

impl std::error::Error for ServerError {}

macro_rules! from {
    ($($inner:ty => $variant:ident),* $(,)?) => {
        $(impl From<$inner> for ServerError {
            fn from(error: $inner) -> Self {
                ServerError::$variant(error)
            }
        })*
    };
}

from! {
    LogError => Log,
    TlsError => Tls,
    ListenError => Listen,
    PrivilegeError => Privileges,
    RuntimeError => Runtime,
    StartError => Store,
    DiskError => Disk,
    StoreError => Drain,
    DirectoryError => Directory,
    dns::SettingsError => Dns,
    queue::RouteError => Routes,
}
