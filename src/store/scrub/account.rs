//! One account: its mailboxes, one after the other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::{Finding, FindingKind};
use crate::base::{MailboxId, Uid};
use crate::runtime::{sleep, yield_if_needed};
use crate::store::mailbox::Mailbox;
use crate::store::maildir::find_file;
use crate::store::partition::Partition;
use crate::store::repair::{self, IndexState};
use crate::store::shard::Shard;
use crate::store::{Access, Account, AccountRef, Quota, StoreError, View};

/// Read at once of a message.
const PIECE_BYTES: u64 = 256 << 10;
/// Fill of the journal from which a scrub waits.
const BUSY_PERMILLE: u32 = 600;
/// And how long before it looks again.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Shorter pauses are saved up.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Bytes a second.
pub(super) struct Pace {
    rate: u64,
    owed: Cell<Duration>,
}

impl Pace {
    pub fn new(rate: u64) -> Self {
        Pace {
            rate,
            owed: Cell::default(),
        }
    }

    /// Waits for as long as `bytes` are worth, and while there is more urgent work.
    pub async fn took(&self, shard: &Shard, bytes: u64) {
        if let Some(nanos) = bytes.saturating_mul(1_000_000_000).checked_div(self.rate) {
            self.owed.set(self.owed.get() + Duration::from_nanos(nanos));
        }
        if self.owed.get() >= PAUSE_MIN {
            or(sleep(self.owed.take()), shard.gate.closing()).await;
        }
        while shard.journal.fill_permille() > BUSY_PERMILLE && !shard.gate.is_closed() {
            or(sleep(BUSY_PAUSE), shard.gate.closing()).await;
        }
        yield_if_needed().await;
    }
}

/// Accounts of the shard.
pub(super) fn all(shard: &Shard) -> Vec<AccountRef> {
    let mut all = Vec::new();
    for partition in shard.owned.all() {
        let state = partition.state.borrow();
        all.extend(state.accounts.keys().map(|&account| AccountRef {
            account,
            partition: partition.id,
            quota: Quota::default(),
        }));
    }
    all
}

pub(super) fn messages(shard: &Shard, of: AccountRef) -> u64 {
    let partition = shard.owned.partition(of.partition);
    let state = partition.state.borrow();
    state.accounts.get(&of.account).map_or(0, |a| a.messages)
}

pub(super) async fn scrub(
    shard: &Rc<Shard>,
    of: AccountRef,
    pace: &Pace,
) -> Result<(), StoreError> {
    let partition = shard.partition(of.partition)?;
    let ids: Vec<MailboxId> = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&of.account);
        account.map_or(Vec::new(), |a| a.mailboxes.keys().copied().collect())
    };
    for id in ids {
        // Deleted meanwhile.
        let Ok(mailbox) = partition.mailbox(of.account, id) else {
            continue;
        };
        let one = One {
            shard,
            partition: &partition,
            mailbox: &mailbox,
            pace,
        };
        let was_loaded = mailbox.index.borrow().is_some();
        match one.all(of).await {
            Ok(()) | Err(StoreError::MailboxGone | StoreError::NoMailbox) => {}
            Err(why) if shard.gate.is_closed() || why == StoreError::Poisoned => return Err(why),
            Err(why) => {
                let detail = format!("{why:?}");
                one.found(FindingKind::IndexUnreadable, None, detail);
            }
        }
        if !was_loaded {
            mailbox.unload();
        }
    }
    Ok(())
}

struct One<'s> {
    shard: &'s Rc<Shard>,
    partition: &'s Rc<Partition>,
    mailbox: &'s Rc<Mailbox>,
    pace: &'s Pace,
}

impl One<'_> {
    fn found(&self, kind: FindingKind, uid: Option<Uid>, detail: String) {
        self.shard.scrubs.add(Finding {
            kind,
            account: Some(self.mailbox.account),
            mailbox: self.mailbox.meta.borrow().name.clone(),
            uid: uid.map(|uid| uid.0),
            detail,
        });
    }

    async fn all(&self, of: AccountRef) -> Result<(), StoreError> {
        let (disk, owned) = (&self.shard.disk, &self.shard.owned);
        let mend = repair::mend_index(disk, owned, self.partition, self.mailbox, true);
        if mend.await? == IndexState::Mended {
            let detail = "its files were damaged".to_owned();
            self.found(FindingKind::IndexMended, None, detail);
        }
        let account = Account::new(self.shard.clone(), self.partition.clone(), of);
        let view = account.select(self.mailbox.id, Access::ReadOnly).await?;
        let mended = owned.counters.digests_damaged.get();
        for &uid in view.uids() {
            if self.shard.gate.is_closed() {
                return Err(StoreError::Late);
            }
            let bytes = self.message(&view, uid).await?;
            {
                let mut status = self.shard.scrubs.status.borrow_mut();
                status.messages += 1;
                status.bytes += bytes;
            }
            self.pace.took(self.shard, bytes).await;
        }
        let mended = owned.counters.digests_damaged.get() - mended;
        if mended > 0 {
            self.found(
                FindingKind::DigestsMended,
                None,
                format!("{mended} digests"),
            );
        }
        match repair::find_orphans(self.shard, self.partition, self.mailbox).await {
            Ok(orphans) => orphans.into_iter().for_each(|stem| {
                self.found(FindingKind::FileWithoutRow, None, stem);
            }),
            // Files are being removed: another time.
            Err(StoreError::Busy) => {}
            Err(why) => return Err(why),
        }
        Ok(())
    }

    /// Answers how many bytes were read.
    async fn message(&self, view: &View, uid: Uid) -> Result<u64, StoreError> {
        // Its digest first: where that is made anew, an id that was lost becomes known.
        let digest = view.digest(uid).await;
        let Some(row) = view.row(uid) else {
            return Ok(0);
        };
        let read = read(view, uid, row.prefix_bytes.into()).await;
        match (read, digest) {
            (Ok((id, bytes)), _) => {
                match view.row(uid) {
                    Some(row) if row.email_id != id => self.changed(uid),
                    Some(_) => self.shard.owned.note_whole(self.mailbox, uid),
                    None => {}
                }
                Ok(bytes)
            }
            (Err(StoreError::Expunged), _) => Ok(0),
            (Err(StoreError::Damaged { .. }), _) => {
                self.unreadable(uid).await?;
                Ok(0)
            }
            (Err(why), _) => Err(why),
        }
    }

    fn stem(&self, uid: Uid) -> Option<String> {
        let index = self.mailbox.index.borrow();
        let index = index.as_ref()?;
        Some(index.stem(index.position(uid)?))
    }

    /// It can be read, and is served as it is: nothing better is there.
    fn changed(&self, uid: Uid) {
        let Some(stem) = self.stem(uid) else { return };
        let why = "its content is not what was taken in";
        repair::note_damaged(&self.shard.owned, self.mailbox, uid, &stem, why);
        self.tell(FindingKind::MessageDamaged, uid, why, &stem);
    }

    async fn unreadable(&self, uid: Uid) -> Result<(), StoreError> {
        let Some(stem) = self.stem(uid) else {
            return Ok(());
        };
        let there = find_file(&self.shard.disk, &self.mailbox.path(), &stem).await?;
        let (kind, why) = match there {
            Some(_) => (FindingKind::MessageDamaged, "its file can not be read"),
            None => (FindingKind::MessageMissing, "its file is gone"),
        };
        self.tell(kind, uid, why, &stem);
        Ok(())
    }

    fn tell(&self, kind: FindingKind, uid: Uid, why: &str, stem: &str) {
        let file = repair::file_of(&self.shard.owned, self.mailbox, stem);
        self.found(kind, Some(uid), format!("{why}: {file}"));
    }
}

/// Reads all of a message: its id, and how long it is.
async fn read(view: &View, uid: Uid, prefix: u64) -> Result<([u8; 16], u64), StoreError> {
    let reader = view.body(uid).await?;
    let mut hasher = blake3::Hasher::new();
    let mut at = prefix;
    while at < reader.len() {
        let piece = reader.read(at..at + PIECE_BYTES).await?;
        at += piece.len() as u64;
        hasher.update(&piece);
        yield_if_needed().await;
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ok((id, at))
}
