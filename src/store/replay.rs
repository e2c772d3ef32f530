//! Replay: what catalogues do not have yet is applied again and settled, partition by partition.
//!
//! Some partitions go on at the same time, so that the disk always has something to do. A mailbox
//! is read only where a record changes or copies its rows, and given up again when too many are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::{HashMap, HashSet};

use super::catalogue::{self, Catalogue, CatalogueRepair, Cut, Found};
use super::checkpoint;
use super::history::Day;
use super::journal::{BodyPlace, Committed, Recorded};
use super::mailbox::Mailbox;
use super::maildir::{Layout, Settler, find_folders};
use super::partition::Partition;
use super::progress::{Stage, Teller};
use super::startup::StartError;
use super::{BodyRef, Op, Record, StoreError, repair};
use crate::base::{AccountId, MailboxId, PSeq, PartitionId};
use crate::runtime::{sleep, yield_if_needed};

/// Partitions that are replayed at the same time.
const WIDTH: usize = 4;
/// Indexes that one partition's replay keeps loaded.
const INDEX_BYTES_MAX: usize = 64 << 20;
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What one start replays.
pub(super) struct Replay<'s> {
    settler: &'s Settler<'s>,
    teller: &'s Teller,
    mended: RefCell<Vec<CatalogueRepair>>,
}

/// Where the folders of accounts are, by their markers.
type Folders = HashMap<AccountId, HashMap<MailboxId, Vec<PathBuf>>>;
type Log = Vec<(Record, Vec<BodyPlace>)>;

impl<'s> Replay<'s> {
    pub fn new(settler: &'s Settler<'s>, teller: &'s Teller) -> Self {
        Replay {
            settler,
            teller,
            mended: RefCell::default(),
        }
    }

    /// What became of catalogues that were damaged.
    pub fn mended(self) -> Vec<CatalogueRepair> {
        self.mended.into_inner()
    }

    /// Brings every partition up to date; answers what has to be made durable.
    pub async fn all(
        &self,
        present: &[PartitionId],
        mut logs: BTreeMap<PartitionId, Vec<Recorded>>,
    ) -> Result<Vec<Cut>, StartError> {
        let ops = logs.values().flatten().flat_map(|(record, _)| &record.ops);
        let settles = |op: &&Op| {
            matches!(
                op,
                Op::Placed { .. } | Op::MailboxRenamed { .. } | Op::MailboxDeleted { .. }
            )
        };
        let all = ops.filter(settles).count() as u64;
        let mut cuts = Vec::new();
        let jobs = present.iter().map(|&id| {
            let log = logs.remove(&id).unwrap_or_default();
            self.one(id, log)
        });
        let work = together(jobs, |cut| cuts.extend(cut));
        let tell = async {
            loop {
                let counters = &self.settler.owned.counters;
                let done = counters.settled.get() + counters.folders_settled.get();
                self.teller.tell(Stage::Settling, done, all);
                sleep(TELL_EVERY).await;
            }
        };
        or(work, tell).await?;
        Ok(cuts)
    }

    async fn one(&self, id: PartitionId, log: Log) -> Result<Option<Cut>, StartError> {
        let owned = self.settler.owned;
        let (partition, is_sound) = self.load_partition(id).await?;
        owned.partitions.borrow_mut().insert(id, partition.clone());
        // A catalogue that has all of it may be read from a page cache: its rename was perhaps
        // never durable. So it is written anew before the journal lets go.
        let written_anew = !log.is_empty() || !is_sound;
        if let Err(why) = self.replay(&partition, log).await {
            return Err(self.stuck(id, why));
        }
        let cut = match written_anew {
            true => Some(checkpoint::cut(self.settler, &partition, false).await?),
            false => None,
        };
        let flushed = self.settler.flush(&partition).await;
        flushed.map_err(|why| self.stuck(id, why.into()))?;
        Ok(cut)
    }

    /// Says what is in the way, where that is known.
    fn stuck(&self, partition: PartitionId, why: StartError) -> StartError {
        let trouble = self.settler.owned.trouble.borrow_mut().take();
        match (why, trouble) {
            (StartError::Store(StoreError::Damaged { .. }), Some(error)) => {
                StartError::Stuck { partition, error }
            }
            (why, _) => why,
        }
    }

    /// The partition as its last checkpoint left it, and whether its catalogue is as it should be.
    async fn load_partition(&self, id: PartitionId) -> Result<(Rc<Partition>, bool), StartError> {
        let Settler { disk, owned, .. } = self.settler;
        let layout = &owned.layout;
        match catalogue::load(disk, layout, id).await? {
            Found::Nothing => Ok((Partition::new(id, Catalogue::default()), true)),
            Found::Whole(found) => {
                if !found.damaged.is_empty() {
                    let mended = catalogue::isolate(disk, layout, id, found.damaged).await;
                    self.mended.borrow_mut().push(mended);
                }
                Ok((Partition::new(id, found.state), found.is_sound))
            }
            Found::Lost(files) => {
                let path = files.into_iter().next().unwrap_or_default();
                Err(StartError::Catalogue { path })
            }
        }
    }

    /// Applies what the catalogue does not have, and settles it.
    async fn replay(&self, partition: &Rc<Partition>, mut log: Log) -> Result<(), StartError> {
        let applied = partition.state.borrow().applied;
        log.retain(|(record, _)| record.pseq > applied);
        let Some((first, _)) = log.first() else {
            return Ok(());
        };
        if first.pseq.0 != applied.0 + 1 {
            let (partition, found) = (partition.id, first.pseq);
            return Err(StartError::Gap {
                partition,
                applied,
                found,
            });
        }
        partition.recovering.set(Some(applied));
        let moved = self.find_moved_folders(partition, &log).await?;
        let mut loaded = Loaded::default();
        for (record, bodies) in log {
            let needed = indexes_needed(&record);
            loaded.make_room(&needed);
            for (account, mailbox) in needed {
                if let Ok(mailbox) = partition.mailbox(account, mailbox) {
                    self.load(partition, &mailbox).await?;
                    loaded.add(&mailbox);
                }
            }
            let committed = Committed {
                record: Rc::new(record),
                bodies,
            };
            partition.apply(&committed, self.settler.owned);
            Self::find_made_folders(partition, &committed.record, &moved);
            yield_if_needed().await;
        }
        self.settler.run(partition, PSeq(u64::MAX)).await?;
        self.write_letters(partition, &loaded).await
    }

    async fn load(&self, partition: &Partition, mailbox: &Rc<Mailbox>) -> Result<(), StartError> {
        let Settler { disk, owned, .. } = self.settler;
        Ok(repair::load(disk, owned, partition, mailbox).await?)
    }

    /// Names of files and lists of keywords, one mailbox after the other.
    async fn write_letters(
        &self,
        partition: &Partition,
        loaded: &Loaded,
    ) -> Result<(), StartError> {
        let mailboxes = partition.unflushed.borrow().clone();
        for mailbox in mailboxes {
            if loaded.given_up.contains(&(mailbox.account, mailbox.id)) && !mailbox.deleted.get() {
                self.load(partition, &mailbox).await?;
            }
            note_keywords(&mailbox);
            self.settler.letters_of(partition, &mailbox).await?;
            mailbox.unload();
        }
        Ok(())
    }

    /// An earlier life may have renamed folders after the checkpoint: their markers say which is
    /// which.
    async fn find_moved_folders(
        &self,
        partition: &Partition,
        log: &Log,
    ) -> Result<Folders, StartError> {
        let layout = &self.settler.owned.layout;
        // With where else to look: a purged account lies in its grave with all its folders.
        let mut accounts: BTreeMap<AccountId, Vec<PathBuf>> = BTreeMap::new();
        let mut deleted: HashMap<AccountId, Vec<(MailboxId, Day)>> = HashMap::new();
        for (record, _) in log {
            for op in &record.ops {
                if let Op::MailboxDeleted {
                    account,
                    mailbox,
                    at,
                } = op
                {
                    let of_account = deleted.entry(*account).or_default();
                    of_account.push((*mailbox, Day::of(*at)));
                }
                match op {
                    Op::MailboxRenamed { account, .. } | Op::MailboxDeleted { account, .. } => {
                        accounts.entry(*account).or_default();
                    }
                    Op::AccountPurged { account } => {
                        let grave = Layout::buried_account(partition.id, *account, record.pseq);
                        let graves = accounts.entry(*account).or_default();
                        graves.push(layout.root.join(grave));
                    }
                    _ => {}
                }
            }
        }
        let mut folders = Folders::new();
        for (account, graves) in accounts {
            let root = layout.account(partition.id, account);
            let mut found = find_folders(self.settler.disk, &root).await?;
            for grave in graves {
                found.extend(find_folders(self.settler.disk, &grave).await?);
            }
            let deleted = deleted.remove(&account).unwrap_or_default();
            found.extend(self.find_graves(partition.id, account, deleted).await?);
            let mut here: HashMap<MailboxId, Vec<PathBuf>> = HashMap::with_capacity(found.len());
            for (id, path) in found {
                here.entry(id).or_default().push(path);
            }
            let mailboxes: Vec<_> = {
                let state = partition.state.borrow();
                let of_account = state.accounts.get(&account);
                of_account
                    .map(|a| a.mailboxes.values().cloned().collect())
                    .unwrap_or_default()
            };
            for mailbox in mailboxes {
                Self::take_found_path(&mailbox, &here);
            }
            folders.insert(account, here);
        }
        Ok(folders)
    }

    /// As [`find_moved_folders`](Replay::find_moved_folders), for those the record makes: they may
    /// have been made, renamed and deleted in one life.
    fn find_made_folders(partition: &Partition, record: &Record, moved: &Folders) {
        for op in &record.ops {
            let Op::MailboxCreated {
                account, mailbox, ..
            } = op
            else {
                continue;
            };
            if let (Some(here), Ok(mailbox)) =
                (moved.get(account), partition.mailbox(*account, *mailbox))
            {
                Self::take_found_path(&mailbox, here);
            }
        }
    }

    /// Graves that an earlier life dug for folders which the log deletes.
    async fn find_graves(
        &self,
        partition: PartitionId,
        of: AccountId,
        deleted: Vec<(MailboxId, Day)>,
    ) -> Result<Vec<(MailboxId, PathBuf)>, StartError> {
        let mut found = Vec::new();
        for (mailbox, day) in deleted {
            let grave = Layout::buried_folder(partition, of, mailbox, day);
            // Where version 1 dug them.
            let old = PathBuf::from(format!("removed/P{}A{of}M{mailbox}", partition.0));
            for grave in [grave, old] {
                let grave = self.settler.owned.layout.root.join(grave);
                if self.settler.disk.exists(&grave).await? {
                    found.push((mailbox, grave));
                }
            }
        }
        Ok(found)
    }

    /// Lets a mailbox lie where an earlier life left its folder, if it did.
    fn take_found_path(mailbox: &Mailbox, here: &HashMap<MailboxId, Vec<PathBuf>>) {
        let Some(paths) = here.get(&mailbox.id) else {
            return;
        };
        // A folder that somebody has copied has its marker too.
        if !paths.contains(&mailbox.path())
            && let Some(path) = paths.first()
        {
            mailbox.folder.path.borrow_mut().clone_from(path);
        }
    }
}

/// Mailboxes that a partition's replay has read, the longest unused first.
#[derive(Default)]
struct Loaded {
    mailboxes: Vec<Rc<Mailbox>>,
    /// Unloaded before their names had all their letters.
    given_up: HashSet<(AccountId, MailboxId)>,
}

impl Loaded {
    fn add(&mut self, mailbox: &Rc<Mailbox>) {
        self.mailboxes.retain(|other| !Rc::ptr_eq(other, mailbox));
        self.mailboxes.push(mailbox.clone());
    }

    /// Gives up others than the needed until they fit.
    fn make_room(&mut self, needed: &BTreeSet<(AccountId, MailboxId)>) {
        let size = |m: &Rc<Mailbox>| m.index.borrow().as_ref().map_or(0, |i| i.bytes());
        let mut bytes: usize = self.mailboxes.iter().map(size).sum();
        let given_up = &mut self.given_up;
        self.mailboxes.retain(|mailbox| {
            let key = (mailbox.account, mailbox.id);
            if bytes <= INDEX_BYTES_MAX || needed.contains(&key) {
                return true;
            }
            bytes -= size(mailbox);
            note_keywords(mailbox);
            given_up.insert(key);
            mailbox.give_up();
            false
        });
    }
}

/// An earlier life may have been cut off while it wrote the list of keywords.
fn note_keywords(mailbox: &Mailbox) {
    let index = mailbox.index.borrow();
    if index
        .as_ref()
        .is_some_and(|i| !i.keyword_names().is_empty())
    {
        mailbox.keywords_stale.set(true);
    }
}

/// Mailboxes whose rows a record changes or copies.
fn indexes_needed(record: &Record) -> BTreeSet<(AccountId, MailboxId)> {
    let needs = |op: &Op| match op {
        Op::FlagsSet {
            account, mailbox, ..
        }
        | Op::Expunged {
            account, mailbox, ..
        } => Some((*account, *mailbox)),
        Op::Placed {
            account,
            body: BodyRef::Copy { mailbox, .. },
            ..
        } => Some((*account, *mailbox)),
        _ => None,
    };
    record.ops.iter().filter_map(needs).collect()
}

/// Does the jobs, [`WIDTH`] at a time. The first that fails ends it.
async fn together<T, F: Future<Output = Result<T, StartError>>>(
    mut jobs: impl Iterator<Item = F>,
    mut take: impl FnMut(T),
) -> Result<(), StartError> {
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    std::future::poll_fn(|cx| {
        loop {
            while running.len() < WIDTH
                && let Some(job) = jobs.next()
            {
                running.push(Box::pin(job));
            }
            let before = running.len();
            let mut failed = None;
            running.retain_mut(|job| match job.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(done)) => {
                    take(done);
                    false
                }
                Poll::Ready(Err(why)) => {
                    failed = Some(why);
                    false
                }
            });
            if let Some(why) = failed {
                return Poll::Ready(Err(why));
            }
            if running.is_empty() && before == 0 {
                return Poll::Ready(Ok(()));
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}
