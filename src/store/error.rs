//! What can go wrong in the store: whose fault, whether to try again, what a client may see.

use super::Resource;
use crate::base::{PartitionId, UnixMs};

/// Facts, not texts: each protocol turns these into its replies in one exhaustive match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The file system is full, or the journal ring is past its mark for this kind of change.
    /// Not the client's fault; try later. SMTP 452 4.3.1, IMAP `NO [UNAVAILABLE]`.
    Full,
    /// The account would exceed its quota. SMTP 452 4.2.2, IMAP `NO [OVERQUOTA]`; and where what
    /// comes exceeds it by itself ([`StoreError::exceeds_quota`]) it never fits: SMTP 552 5.2.3.
    OverQuota {
        of: Resource,
        used: u64,
        more: u64,
        limit: u64,
    },
    /// A disk operation failed; the process stops acknowledging and exits. Try later.
    Poisoned,
    /// A wait ended without a result: the change may or may not be made.
    Late,
    /// A bounded queue was full; nothing was changed. Try later.
    Busy,
    /// No mailbox of that name. IMAP `NO [NONEXISTENT]` or `[TRYCREATE]`.
    NoMailbox,
    /// A mailbox of that name exists. IMAP `NO [ALREADYEXISTS]`.
    MailboxExists,
    /// The name breaks a rule. IMAP `NO [CANNOT]`.
    BadName,
    /// INBOX cannot be deleted, and so on. IMAP `NO [CANNOT]`.
    NotAllowed,
    /// The mailbox has inferiors and cannot be deleted where that is forbidden. `NO [HASCHILDREN]`.
    HasChildren,
    /// The message is gone (expunged by another session). IMAP `NO [EXPUNGEISSUED]`.
    Expunged,
    /// The mailbox was deleted while selected.
    MailboxGone,
    /// The view was opened by EXAMINE. IMAP `NO [READ-ONLY]`? The session decides.
    ReadOnly,
    /// Where archive folders stand nobody makes others. IMAP `NO [NOPERM]`.
    ArchivesOnly,
    /// UIDs of the mailbox are used up. IMAP `NO [LIMIT]`.
    UidsUsedUp,
    /// What is on disk is not what the index says; reported, counted, never repaired silently.
    Damaged {
        partition: PartitionId,
        since: UnixMs,
    },
    /// This shard does not own the partition: a bug, or a request that outlived a move.
    NotOwner(PartitionId),
}

impl StoreError {
    /// The message is larger than the whole quota: no deleting makes room for it.
    #[must_use]
    pub fn exceeds_quota(&self) -> bool {
        matches!(self, StoreError::OverQuota { of: Resource::Storage, more, limit, .. }
            if more > limit)
    }
}
