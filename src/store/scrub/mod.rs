//! Scrub: everything at rest is read and compared, at a bounded rate, so that damage is found while
//! there is still something to mend it from.
//!
//! An account is looked at mailbox by mailbox: the files of its index, each cached digest, each
//! message (length and BLAKE3), and the files that no row names. What is derived is mended at once;
//! a message that is damaged stays as it is and is told of. What is the shard's own, the live slots of
//! its journal and its catalogues, comes first where all is looked at. In the background an account's turn
//! comes when its last one is older than the site wants; when that was is a value of the account,
//! so a restart goes on where the life before came to.
//!
//! Runs on: the shard that owns the account. It waits while the journal is busy, and holds nothing
//! while it waits.

mod account;
mod background;
mod shard;

use std::cell::RefCell;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use super::{CatalogueRepair, IndexRepair, StoreError};
use crate::base::{AccountId, UnixMs};
use crate::runtime::unix_now;

pub(super) use background::run;

/// Findings that are kept with their place; more are only counted.
const FINDINGS_MAX: usize = 1_000;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The index could not be read, and was made anew.
    IndexMended,
    /// The index could not be read or made anew.
    IndexUnreadable,
    /// Digests were damaged or missing, and were made anew.
    DigestsMended,
    /// There is no file of a message.
    MessageMissing,
    /// A message is not what was taken in.
    MessageDamaged,
    /// A file that no row names.
    FileWithoutRow,
    /// A live slot of the journal is not what was written; everything in it is durable elsewhere.
    JournalMended,
    /// The same, where that could not be done.
    JournalDamaged,
    /// A copy of a catalogue was damaged or gone, and is written anew.
    CatalogueMended,
    /// The same, where that could not be done.
    CatalogueDamaged,
}

impl FindingKind {
    /// Whether nothing more is to be done about it.
    #[must_use]
    pub fn is_mended(self) -> bool {
        matches!(
            self,
            FindingKind::IndexMended
                | FindingKind::DigestsMended
                | FindingKind::JournalMended
                | FindingKind::CatalogueMended
        )
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// None where it belongs to the shard: its journal, its catalogues.
    pub account: Option<AccountId>,
    pub mailbox: String,
    pub uid: Option<u32>,
    pub detail: String,
}

impl Finding {
    fn of_shard(kind: FindingKind, detail: String) -> Finding {
        Finding {
            kind,
            account: None,
            mailbox: String::new(),
            uid: None,
            detail,
        }
    }
}

/// How far a shard's scrub is, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    pub is_running: bool,
    pub started: UnixMs,
    pub ended: Option<UnixMs>,
    pub accounts: u64,
    pub messages: u64,
    /// As many as there were when it began.
    pub messages_total: u64,
    pub bytes: u64,
    /// Of the journal's live slots, and partitions whose catalogues were read.
    pub journal_bytes: u64,
    pub catalogues_read: u64,
    pub findings_total: u64,
    pub findings: Vec<Finding>,
    /// Indexes that were made anew since the start of the server, whoever came upon them.
    pub repairs: VecDeque<IndexRepair>,
    /// The same of catalogues.
    pub catalogues: VecDeque<CatalogueRepair>,
}

/// Whose mail, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubOrder {
    /// All of the shard where none is named.
    pub account: Option<AccountId>,
    /// Bytes a second on each shard; 0 is as fast as it goes.
    pub rate: u64,
}

/// A shard's scrub.
#[derive(Default)]
pub(super) struct Scrubs {
    status: RefCell<ScrubStatus>,
}

impl Scrubs {
    pub fn status(&self, shard: &Shard) -> ScrubStatus {
        ScrubStatus {
            repairs: shard.owned.repairs.borrow().clone(),
            catalogues: shard.owned.catalogues.borrow().clone(),
            ..self.status.borrow().clone()
        }
    }

    fn add(&self, finding: Finding) {
        let mut status = self.status.borrow_mut();
        status.findings_total += 1;
        if status.findings.len() < FINDINGS_MAX {
            status.findings.push(finding);
        }
    }
}

/// Ends a run, however it ends.
struct Running<'s>(&'s Scrubs);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut status = self.0.status.borrow_mut();
        status.is_running = false;
        status.ended = Some(unix_now());
    }
}

/// Looks at the journal and the catalogues alone. `Busy` while another one runs.
async fn scrub_shard(shard: &std::rc::Rc<Shard>, rate: u64) -> Result<(), StoreError> {
    if shard.scrubs.status.borrow().is_running {
        return Err(StoreError::Busy);
    }
    *shard.scrubs.status.borrow_mut() = ScrubStatus {
        is_running: true,
        started: unix_now(),
        ..ScrubStatus::default()
    };
    let _running = Running(&shard.scrubs);
    shard::scrub(shard, &account::Pace::new(rate)).await
}

/// Looks at everything that the order names. `Busy` while another one runs.
pub(super) async fn scrub(shard: &std::rc::Rc<Shard>, order: ScrubOrder) -> Result<(), StoreError> {
    let scrubs = &shard.scrubs;
    if scrubs.status.borrow().is_running {
        return Err(StoreError::Busy);
    }
    let accounts: Vec<_> = account::all(shard)
        .into_iter()
        .filter(|account| order.account.is_none_or(|only| only == account.account))
        .collect();
    *scrubs.status.borrow_mut() = ScrubStatus {
        is_running: true,
        started: unix_now(),
        messages_total: accounts.iter().map(|a| account::messages(shard, *a)).sum(),
        ..ScrubStatus::default()
    };
    let _running = Running(scrubs);
    let pace = account::Pace::new(order.rate);
    if order.account.is_none() {
        shard::scrub(shard, &pace).await?;
    }
    for of in accounts {
        if shard.gate.is_closed() || shard.is_poisoned() {
            return Err(StoreError::Late);
        }
        account::scrub(shard, of, &pace).await?;
        scrubs.status.borrow_mut().accounts += 1;
    }
    Ok(())
}
