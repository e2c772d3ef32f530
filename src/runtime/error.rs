//! Why a shard could not start or did not end well.

use std::{fmt, io};

use crate::base::ShardId;

/// All of these are the operator's to mend but `Panicked`, which is a bug.
#[derive(Debug)]
pub enum RuntimeError {
    /// The plan asks for no shard, or for more than an id's 8 bits can tell apart.
    ShardCount(u16),
    /// The system gave no thread.
    NoThread { shard: ShardId, cause: io::Error },
    /// The thread could not be pinned to this core.
    NoCore {
        shard: ShardId,
        core: usize,
        cause: io::Error,
    },
    /// io_uring refused. `memlock_bytes` is the process's limit on locked memory, `None` where
    /// there is none.
    NoRing {
        shard: ShardId,
        cause: io::Error,
        memlock_bytes: Option<u64>,
    },
    /// The shard's body panicked.
    Panicked { shard: ShardId },
}

impl RuntimeError {
    pub(super) fn no_ring(shard: ShardId, cause: io::Error) -> Self {
        RuntimeError::NoRing {
            shard,
            cause,
            memlock_bytes: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
        }
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeError::ShardCount(n) => {
                write!(f, "{n} shards asked for; there must be 1 to 256")
            }
            RuntimeError::NoThread { shard, cause } => {
                write!(f, "no thread for shard {shard}: {cause}")
            }
            RuntimeError::NoCore { shard, core, cause } => {
                write!(f, "shard {shard} cannot be pinned to core {core}: {cause}")
            }
            RuntimeError::NoRing {
                shard,
                cause,
                memlock_bytes,
            } => {
                write!(f, "shard {shard} got no io_uring: {cause}; ")?;
                match memlock_bytes {
                    Some(bytes) => write!(
                        f,
                        "locked memory (RLIMIT_MEMLOCK) is limited to {} KiB: raise it with \
                         `LimitMEMLOCK=` in the unit or `ulimit -l`, or run fewer shards; ",
                        bytes / 1024
                    )?,
                    None => f.write_str("locked memory is not limited; ")?,
                }
                f.write_str("kernel.io_uring_disabled must be 0 and seccomp must allow io_uring")
            }
            RuntimeError::Panicked { shard } => write!(f, "shard {shard} panicked"),
        }
    }
}

impl std::error::Error for RuntimeError {}

/// The errno behind a glommio error, which its own conversion loses.
pub(super) fn io_error(error: glommio::GlommioError<()>) -> io::Error {
    match error {
        glommio::GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}
