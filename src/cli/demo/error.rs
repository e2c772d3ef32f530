//! What goes wrong with the demo.

use std::fmt;
use std::path::PathBuf;

use super::client::TalkError;

#[derive(Debug)]
pub enum DemoError {
    /// What is remembered in the folder cannot be read.
    Memory {
        path: PathBuf,
    },
    /// The folder's path is not UTF-8.
    Folder {
        path: PathBuf,
    },
    Random,
    /// The server did not take the demo's own mail.
    Talk {
        doing: &'static str,
        error: TalkError,
    },
    /// A folder of an earlier run that failed.
    Leftover {
        folder: PathBuf,
    },
    /// The child did not start, or ended by itself.
    NotServing {
        stderr: PathBuf,
    },
    /// The outcome that must not be.
    Lost {
        acknowledged: usize,
        present: usize,
        doubled: usize,
        folder: PathBuf,
    },
    /// Nothing was acknowledged, so nothing was shown.
    Idle,
    Interrupted,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoError::Memory { path } => write!(
                f,
                "{} cannot be read; delete the demo's folder to begin anew",
                path.display()
            ),
            DemoError::Folder { path } => {
                write!(
                    f,
                    "{} is not UTF-8; give another folder with --data",
                    path.display()
                )
            }
            DemoError::Random => f.write_str("the system gives no random bytes"),
            DemoError::Talk { doing, error } => write!(
                f,
                "{doing}: {error}; see the log in the demo's folder (data/log/palomar.log)"
            ),
            DemoError::Leftover { folder } => write!(
                f,
                "{} is there from a run that failed or was stopped; look at it, then remove it, \
                 or give another folder with --data",
                folder.display()
            ),
            DemoError::NotServing { stderr } => write!(
                f,
                "the server did not start, or ended by itself; it said why in {}",
                stderr.display()
            ),
            DemoError::Lost {
                acknowledged,
                present,
                doubled,
                folder,
            } => write!(
                f,
                "{} messages are missing and {doubled} stand twice: this is a bug. Please report \
                 it with the folder {}",
                acknowledged - present,
                folder.display()
            ),
            DemoError::Idle => f.write_str("no message was acknowledged in time; try --seconds 60"),
            DemoError::Interrupted => f.write_str("interrupted"),
        }
    }
}
