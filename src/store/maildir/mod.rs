//! Maildir++ trees: how names become paths, and the writing of files behind the journal's back.

mod folders;
mod foreign;
mod letters;
mod names;
mod settle;
mod shared;
mod uidlist;

use std::path::{Path, PathBuf};

use super::history::Day;
use crate::base::{AccountId, MailboxId, PSeq, PartitionId};

pub use foreign::KeywordLetters;
pub(super) use foreign::{Foreign, Naming, read_name, said_size};
pub(super) use names::{
    OwnName, canonical, file_name, flag_letters, flags_of, folder, is_good, keyword_letters,
    letter_keywords, letters_of, parse, placed_by, row_letters, stem,
};
pub(super) use settle::{Settler, Task, find_file, find_folders, list};
pub(super) use shared::SharedFiles;
pub(super) use uidlist::{Entry, NUMBER_MAX, UidList};

/// Where everything lies below the data directory.
#[derive(Clone)]
pub(super) struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn account(&self, partition: PartitionId, account: AccountId) -> PathBuf {
        self.root.join(format!("mail/{}/{account}", partition.0))
    }

    pub fn folder(&self, partition: PartitionId, account: AccountId, name: &str) -> PathBuf {
        let root = self.account(partition, account);
        match folder(name) {
            f if f.is_empty() => root,
            f => root.join(f),
        }
    }

    /// The file of digests whose places begin there.
    pub fn cache(&self, partition: PartitionId, account: AccountId, begin: u64) -> PathBuf {
        let root = self.account(partition, account);
        match begin {
            0 => root.join(CACHE),
            begin => root.join(format!("{CACHE}.{begin}")),
        }
    }

    pub fn catalogue(&self, partition: PartitionId) -> PathBuf {
        self.partition(partition).join("catalogue")
    }

    pub fn partition(&self, partition: PartitionId) -> PathBuf {
        self.root.join(format!("partitions/{}", partition.0))
    }

    /// A message that waits in a queue partition over a checkpoint.
    pub fn queue_file(&self, partition: PartitionId, pseq: PSeq) -> PathBuf {
        self.partition(partition).join(format!("queue-{pseq}"))
    }

    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Where a deleted folder is kept, or waits for its end. Relative to the data directory.
    pub fn buried_folder(
        partition: PartitionId,
        account: AccountId,
        id: MailboxId,
        day: Day,
    ) -> PathBuf {
        PathBuf::from(format!("removed/{day}/{}/{account}/F{id}", partition.0))
    }

    /// Where a purged account waits for its end. Relative to the data directory.
    pub fn buried_account(partition: PartitionId, account: AccountId, at: PSeq) -> PathBuf {
        PathBuf::from(format!("removed/P{}A{account}Q{at}", partition.0))
    }

    pub fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// What names of files with digests begin with.
pub(super) const CACHE: &str = "palomar.cache";

/// Says whose folder it is, whatever its name.
pub(super) fn marker(id: MailboxId) -> String {
    format!("palomar.mailbox-{id}")
}

/// The mailbox that a marker file names.
pub(super) fn marked(file_name: &str) -> Option<MailboxId> {
    file_name
        .strip_prefix("palomar.mailbox-")?
        .parse()
        .ok()
        .map(MailboxId)
}
