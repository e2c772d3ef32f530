//! Adopt: a Maildir++ tree as another program left it becomes an account's mail, in place.
//!
//! UIDVALIDITY, UIDs, flags, keywords, dates, POP3 UIDLs and subscriptions are kept; the files are
//! the durable bodies, so each is on disk before the record that names it. The steps, and what a
//! crash between them leaves, stand in `docs/STORE.md`, "Adopting". While a plan stands in the
//! account's values, nobody else gets at the account.
//!
//! What other programs put into folders later arrives by [`watch`], [`look`] and [`rescan`].
//!
//! Runs on: the shard that owns the account. Deliberately absent: what only Dovecot's binary index
//! holds (keywords beyond the 26 that have letters).

mod arrive;
mod check;
mod folder;
mod grown;
mod leave;
mod look;
mod place;
mod plan;
mod rescan;
mod run;
mod uidl;
mod watch;
mod weigh;

use std::fmt;
use std::path::PathBuf;

use super::StoreError;
use super::catalogue::AccountState;
use crate::runtime::{DiskError, DiskErrorKind};

pub(super) use arrive::{is_own, look};
pub(super) use grown::{grown, take_grown};
pub use leave::KeywordsApart;
pub(super) use leave::{Left, write_lists};
pub use rescan::Rescanned;
pub(super) use rescan::rescan;
pub use uidl::{NotAFormat, UidlFormat};
pub(super) use watch::watch;

/// Whether an account is being adopted: nobody else gets at it.
pub(super) fn is_under_way(account: &AccountState) -> bool {
    let key = || (plan::NAMESPACE.to_owned(), plan::KEY.to_vec());
    !account.values.is_empty() && account.values.contains_key(&key())
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptRequest {
    /// The tree's root, which is INBOX.
    pub from: PathBuf,
    /// Dovecot's CONTROL directory, where it is another one.
    pub control: Option<PathBuf>,
    /// Leave the tree where it is. A tree on another file system is copied anyway.
    pub copy: bool,
    /// The character before two hex digits in folder names.
    pub escape: char,
    pub uidl: UidlFormat,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Read everything once more through the store and compare.
    pub verify: bool,
}

impl AdoptRequest {
    /// As Dovecot does without settings.
    #[must_use]
    pub fn new(from: PathBuf) -> Self {
        AdoptRequest {
            from,
            control: None,
            copy: false,
            escape: '\\',
            uidl: UidlFormat::default(),
            dry_run: false,
            verify: false,
        }
    }
}

/// How far it is: of all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdoptProgress {
    pub done: u64,
    pub of: u64,
}

/// What became of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdoptReport {
    pub folders: Vec<FolderReport>,
    pub subscriptions: u64,
    /// The tree is still where it was.
    pub copied: bool,
    /// An earlier run had begun it.
    pub resumed: bool,
    /// Files that could not be read, and are left where they are; the first of them.
    pub unreadable: Vec<String>,
    /// Links, and what was neither mail nor a folder and stood where either will be: below
    /// `palomar.aside` now, or left out of the copy.
    #[serde(default)]
    pub aside: Vec<String>,
}

/// What became of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FolderReport {
    pub mailbox: String,
    /// What the other program called it, where it cannot be called so here.
    #[serde(default)]
    pub former_name: Option<String>,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub messages: u64,
    pub bytes: u64,
    /// Messages that got a UID because they had none.
    pub numbered: u64,
    /// Names that were made what Maildir says.
    pub renamed: u64,
    /// Listed by the other program, but not there.
    pub missing: u64,
    pub unreadable: u64,
    /// All 26 letters are in use: the other program may know more keywords than its files say.
    pub keywords_full: bool,
    /// Names in its list of keywords that no keyword can have (RFC 9051 9): left out.
    #[serde(default)]
    pub keywords_odd: Vec<String>,
    /// Files whose flags, date, size or hash differ from what is in the store; `None` where they
    /// were not compared.
    pub differing: Option<u64>,
}

/// Why a tree is not adopted.
#[derive(Debug)]
pub enum AdoptError {
    Store(StoreError),
    Disk(DiskError),
    /// Nothing is there, and no earlier run took it.
    NoTree(PathBuf),
    /// Neither `cur` nor any folder there.
    NotAMaildir(PathBuf),
    /// A folder that is a plain directory: Dovecot's LAYOUT=fs.
    FsLayout(PathBuf),
    /// The account has mail already.
    NotEmpty {
        messages: u64,
    },
    /// Something lies where the tree would go, and no account knows it.
    PlaceTaken(PathBuf),
    /// An earlier run began with another tree.
    UnderWay {
        from: PathBuf,
    },
    /// The account's plan cannot be read.
    PlanDamaged,
    /// The tree and the data directory are one inside the other.
    Inside(PathBuf),
    /// A link, or another thing than its name says, behind which mail or its numbers may be.
    NotPlain(PathBuf),
    /// Another user's, or closed to us.
    NotOurs(PathBuf),
    /// Mounted into the tree.
    OtherDisk(PathBuf),
}

impl From<StoreError> for AdoptError {
    fn from(why: StoreError) -> Self {
        AdoptError::Store(why)
    }
}

impl From<DiskError> for AdoptError {
    fn from(error: DiskError) -> Self {
        AdoptError::Disk(error)
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::Store(StoreError::Full) => {
                f.write_str("the disk is full; make room and run it again: it goes on where it was")
            }
            AdoptError::Store(StoreError::Busy) => {
                f.write_str("the account is in use, or being adopted by another command; try again")
            }
            AdoptError::Store(why) => {
                write!(f, "store: {why:?}; run it again: it goes on where it was")
            }
            AdoptError::Disk(error) if error.kind == DiskErrorKind::Io(EACCES) => write!(
                f,
                "{error}: the user that the server runs as must own the tree; chown -R it, then \
                 run it again"
            ),
            AdoptError::Disk(error) if error.kind == DiskErrorKind::Io(ELOOP) => write!(
                f,
                "{}: symbolic links in a tree are not followed; put what it stands for in its \
                 place, then run it again",
                error.path.display()
            ),
            AdoptError::Disk(error) => write!(f, "{error}; run it again when that is mended"),
            AdoptError::NoTree(path) => write!(f, "{} is not there", path.display()),
            AdoptError::NotAMaildir(path) => write!(
                f,
                "{} has neither cur nor folders: give the directory that mail_location names",
                path.display()
            ),
            AdoptError::FsLayout(path) => write!(
                f,
                "{} is a folder of Dovecot's LAYOUT=fs, which is not adopted in place; let Dovecot \
                 write Maildir++ first (doveadm backup), or palomar import maildir",
                path.display()
            ),
            AdoptError::NotEmpty { messages } => write!(
                f,
                "the account has {messages} messages already; adopt into an empty account, or \
                 bring the tree in beside them with palomar import maildir"
            ),
            AdoptError::PlaceTaken(path) => write!(
                f,
                "{} is there, but belongs to no account; move it away, then run it again",
                path.display()
            ),
            AdoptError::UnderWay { from } => write!(
                f,
                "adopting {} into this account was begun and not ended; run that again first",
                from.display()
            ),
            AdoptError::PlanDamaged => {
                f.write_str("what an earlier run noted of this account cannot be read")
            }
            AdoptError::Inside(path) => write!(
                f,
                "{} and the data directory lie one inside the other",
                path.display()
            ),
            AdoptError::NotPlain(path) => write!(
                f,
                "{} is a symbolic link, or not what its name says; put what it stands for in its \
                 place, then run it again",
                path.display()
            ),
            AdoptError::NotOurs(path) => write!(
                f,
                "{} belongs to another user than the server runs as, or its mode keeps that user \
                 out; chown -R and chmod -R u+rwX the tree, then run it again",
                path.display()
            ),
            AdoptError::OtherDisk(path) => write!(
                f,
                "{} is on another file system than the tree; take it with --copy",
                path.display()
            ),
        }
    }
}

impl std::error::Error for AdoptError {}

const EACCES: i32 = 13;
const ELOOP: i32 = 40;
