//! Store: where mail lies. Journal, partitions, mailboxes, index, cache, Maildir.
//!
//! One `Store` per shard owns the shard's journal and every partition that belongs to the shard.
//! Everything that lasts is a record in that journal (`docs/JOURNAL.md`): a command's
//! [`Op`]s are prepared synchronously against applied state plus what is in flight, committed as
//! one record, then applied by the one `apply` that replay uses too. Maildir files, index and
//! cache are derived from it in the background (`docs/STORE.md`).
//!
//! Invariant: settled <= applied <= committed. Sessions see applied state only.
//!
//! Runs on: every shard; nothing here is shared but [`Message`] and the requests of [`Remote`].
//! Deliberately absent: who a user is (directory), what a message may do (delivery).

mod account;
mod adopt;
mod archive;
mod bodies;
mod body;
mod bytes;
mod cache;
mod catalogue;
mod checkpoint;
mod codec;
mod config;
mod deliver;
mod doom;
mod error;
mod flags;
mod history;
mod import;
pub mod journal;
mod mailbox;
mod maildir;
mod message;
mod op;
mod outbox;
mod overlay;
mod owned;
mod packed;
mod partition;
mod progress;
mod queue;
mod quota;
mod remote;
mod repair;
mod repack;
mod scrub;
mod replay;
mod room;
mod service;
mod shard;
mod spool;
mod startup;
#[cfg(test)]
mod tests;
mod view;

pub use account::{Account, AccountRef, Appended, MailboxInfo, NewMessage, Recount, Status};
pub use adopt::{
    AdoptError, AdoptProgress, AdoptReport, AdoptRequest, FolderReport, KeywordsApart, NotAFormat,
    Rescanned, UidlFormat,
};
pub use catalogue::CatalogueRepair;
pub use config::StoreConfig;
pub use error::StoreError;
pub use flags::{FlagChange, FlagMode, Flags, SpecialUse};
pub use history::{RestoreReport, RestoreRequest, RestoreRow, RestoreState};
pub use import::ROWS_MAX;
pub use maildir::KeywordLetters;
pub use message::{Body, BodyReader, Incoming, Message};
pub use op::{ADOPTED_PER_RECORD_MAX, AdoptedPlace, AdoptedRow, BodyRef, Op, OutboxKey, Record};
pub use packed::Packing;
pub use progress::{Progress, Stage, Watcher};
pub use queue::{
    EntryKey, LastTry, MailClass, NewEntry, Outbound, OutboundRecipient, QueueEntry,
    RecipientState, Redirect, Steering, Tried, TriedRecipient, cut_reply,
};
pub use quota::{FolderSize, Quota, QuotaBook, QuotaDue, QuotaUsage, Resource, Warned};
pub use remote::{Delivered, Remote, SiteValueSink, Target, ValueChange};
pub use repair::{IndexRepair, IndexState, MailboxRepair, RepairOrder};
pub use scrub::{Finding, FindingKind, ScrubOrder, ScrubStatus};
pub use service::{Store, StoreStats};
pub use startup::{Recovered, StartError, lock};
pub use view::{Access, Changes, Copied, Row, ScanRow, Stored, View, own_uidl};
