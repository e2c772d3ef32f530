//! The steps of adopting, each of which a second run recognises as done.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;

use super::check::Want;
use super::folder::{Candidate, Common, Found, Lists, Read, read_some, row};
use super::plan::{KEY, NAMESPACE, Plan};
use super::{AdoptError, AdoptProgress, AdoptReport, AdoptRequest, FolderReport, place};
use crate::base::{Uid, UidValidity};
use crate::runtime::{Disk, DiskError, DiskErrorKind, Step};
use crate::store::account::{Numbers, folder_ops};
use crate::store::checkpoint::checkpoint;
use crate::store::journal::Class;
use crate::store::mailbox::Mailbox;
use crate::store::maildir::folder;
use crate::store::partition::{Partition, purged};
use crate::store::shard::Shard;
use crate::store::{AccountRef, AdoptedRow, Op, Remote, StoreError};

/// One disk operation may be the reading of a few large files from a slow disk.
const DISK_SPAN: std::time::Duration = std::time::Duration::from_secs(600);
/// Rows of one record, and about what they take in it.
const ROWS_MAX: usize = 2_000;
const ROW_BYTES_MAX: usize = 1 << 20;
/// Rows between two checkpoints: what they add to indexes waits in memory until then.
const CHECKPOINT_ROWS: u64 = 50_000;
/// Unreadable files that are named.
const NAMED_MAX: usize = 20;
/// How often a full journal is waited for.
const FULL_TRIES: u32 = 20;
/// What may not be read at all: a matter for the operator, not of one file.
const EACCES: i32 = 13;

type Progress<'p> = &'p mut dyn FnMut(AdoptProgress);

impl Remote {
    /// Adopts a tree into an account that this shard owns and that has no mail. A run that was cut
    /// off is continued by the same request.
    pub async fn adopt(
        &self,
        account: AccountRef,
        request: &AdoptRequest,
        progress: Progress<'_>,
    ) -> Result<AdoptReport, AdoptError> {
        let shard = self.shard().clone();
        let partition = shard.partition(account.partition)?;
        let disk = shard.disk.clone().with_deadline(DISK_SPAN);
        let place = shard.layout.account(partition.id, account.account);
        // A link that is renamed would leave the mail where no sync of ours covers it.
        let request = &canonical(&disk, request).await?;
        let adoption = Adoption {
            shard,
            partition,
            account,
            disk,
            place,
            report: AdoptReport::default(),
            progress: AdoptProgress::default(),
            tell: progress,
            rows: 0,
        };
        if request.dry_run {
            return adoption.look(request).await;
        }
        adoption.run(request).await
    }
}

/// The same request, whatever links lead to the tree.
async fn canonical(disk: &Disk, request: &AdoptRequest) -> Result<AdoptRequest, AdoptError> {
    let no_tree = |error: DiskError| match error.kind {
        DiskErrorKind::NotFound => AdoptError::NoTree(request.from.clone()),
        _ => error.into(),
    };
    let control = match &request.control {
        Some(control) => Some(disk.canonical(control).await?),
        None => None,
    };
    Ok(AdoptRequest {
        from: disk.canonical(&request.from).await.map_err(no_tree)?,
        control,
        ..request.clone()
    })
}

pub(super) struct Adoption<'p> {
    pub(super) shard: Rc<Shard>,
    pub(super) partition: Rc<Partition>,
    pub(super) account: AccountRef,
    pub(super) disk: Disk,
    pub(super) place: PathBuf,
    pub(super) report: AdoptReport,
    progress: AdoptProgress,
    tell: Progress<'p>,
    /// Since the last checkpoint.
    rows: u64,
}

impl Adoption<'_> {
    async fn run(mut self, request: &AdoptRequest) -> Result<AdoptReport, AdoptError> {
        let plan = match self.plan()? {
            Some(plan) if plan.from != request.from => {
                return Err(AdoptError::UnderWay { from: plan.from });
            }
            Some(plan) => {
                self.report.resumed = true;
                plan
            }
            None => self.begin(request).await?,
        };
        self.report.subscriptions = plan.subscriptions.len() as u64;
        self.report.copied = plan.copy;
        if self.mailbox("INBOX").is_none() {
            self.put_in_place(&plan).await?;
        }
        self.count(&plan).await?;
        for planned in &plan.folders {
            let mut report = self.adopt_folder(&plan, &planned.mailbox).await?;
            report.former_name = planned.former_name(&plan.naming);
            self.report.folders.push(report);
        }
        if request.verify {
            // What lay in `new` is not to move between the list of names and the reading.
            checkpoint(&self.shard).await?;
            self.verify(&plan).await?;
        }
        place::clear(&self.disk, &plan, &self.place).await?;
        self.set_plan(None).await?;
        checkpoint(&self.shard).await?;
        Ok(self.report)
    }

    /// The plan of a run that was begun.
    fn plan(&self) -> Result<Option<Plan>, AdoptError> {
        let state = self.partition.state.borrow();
        let key = (NAMESPACE.to_owned(), KEY.to_vec());
        let of_account = state.accounts.get(&self.account.account);
        match of_account.and_then(|a| a.values.get(&key)) {
            Some(bytes) => Plan::decode(bytes)
                .map(Some)
                .map_err(|_| AdoptError::PlanDamaged),
            None => Ok(None),
        }
    }

    pub(super) fn mailbox(&self, name: &str) -> Option<Rc<Mailbox>> {
        let state = self.partition.state.borrow();
        state
            .accounts
            .get(&self.account.account)?
            .find(name)
            .cloned()
    }

    async fn set_plan(&self, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let op = Op::ValueSet {
            account: Some(self.account.account),
            namespace: NAMESPACE.to_owned(),
            key: KEY.to_vec(),
            value,
        };
        let (shard, partition) = (&self.shard, &self.partition);
        shard.turn(partition, &[self.account.account]).await?;
        let ticket = shard.submit(partition, vec![op], Vec::new(), Class::Change)?;
        shard.commit(ticket).await
    }

    // ---- the account is emptied, and held ----

    /// Takes an account without mail out of use: its empty folders go, the plan comes.
    async fn begin(&mut self, request: &AdoptRequest) -> Result<Plan, AdoptError> {
        let root = &self.disk.canonical(&self.shard.layout.root).await?;
        if request.from.starts_with(root) || root.starts_with(&request.from) {
            return Err(AdoptError::Inside(request.from.clone()));
        }
        let mut plan = Plan::of(&self.disk, request).await?;
        let want = match plan.copy {
            true => Want::Readable,
            false => Want::Ours,
        };
        self.check(&plan, want).await?;
        if !plan.copy {
            place::may_move(&self.disk, &plan.from).await?;
        }
        let (shard, partition, id) = (&self.shard, &self.partition, self.account.account);
        let mut bar = shard.bar(partition, id).await?;
        let mut ops = Vec::new();
        {
            let state = partition.state.borrow();
            if let Some(account) = state.accounts.get(&id) {
                self.is_empty(account.messages)?;
                let views = account.mailboxes.values().map(|m| m.views.get());
                if views.sum::<u32>() > 0 {
                    return Err(StoreError::Busy.into());
                }
                ops.push(Op::AccountPurged { account: id });
                // It comes back at once.
                let (namespace, key) = purged(id);
                ops.push(Op::ValueSet {
                    account: None,
                    namespace,
                    key,
                    value: None,
                });
                // What is not mail stays.
                let set =
                    |((namespace, key), value): (&(String, Vec<u8>), &std::sync::Arc<[u8]>)| {
                        Op::ValueSet {
                            account: Some(id),
                            namespace: namespace.clone(),
                            key: key.clone(),
                            value: Some(value.to_vec()),
                        }
                    };
                ops.extend(account.values.iter().map(set));
                plan.subscriptions
                    .extend(account.subscriptions.iter().cloned());
                plan.subscriptions.sort_unstable();
                plan.subscriptions.dedup();
            }
        }
        if ops.is_empty() && self.disk.exists(&self.place).await? {
            return Err(AdoptError::PlaceTaken(self.place.clone()));
        }
        let is_structural = !ops.is_empty();
        ops.push(Op::ValueSet {
            account: Some(id),
            namespace: NAMESPACE.to_owned(),
            key: KEY.to_vec(),
            value: Some(plan.encode()),
        });
        let ticket = match is_structural {
            true => shard.submit_barred(partition, ops, Class::Change, &mut bar)?,
            false => shard.submit(partition, ops, Vec::new(), Class::Change)?,
        };
        shard.commit(ticket).await?;
        Ok(plan)
    }

    pub(super) fn is_empty(&self, messages: u64) -> Result<(), AdoptError> {
        match messages {
            0 => Ok(()),
            messages => Err(AdoptError::NotEmpty { messages }),
        }
    }

    // ---- the tree comes to its place ----

    async fn put_in_place(&mut self, plan: &Plan) -> Result<(), AdoptError> {
        // The former folders are out of the way, and no replay will bury what comes now.
        checkpoint(&self.shard).await?;
        if !self.disk.exists(&self.place).await? {
            let sync = async || self.sync().await;
            self.report.copied = place::bring(&self.disk, plan, &self.place, &sync).await?;
        }
        let aside = place::prepare(&self.disk, plan, &self.place).await?;
        self.tell_aside(&aside);
        // Whatever the other program did not sync, and the names that folders have now.
        self.sync().await?;
        self.make_mailboxes(plan).await?;
        Ok(())
    }

    /// Makes all that is written durable, as a checkpoint does, and with the same consequence.
    async fn sync(&self) -> Result<(), AdoptError> {
        if let Err(error) = self.disk.syncfs().await {
            tracing::error!(%error, "sync failed, no more acknowledgements");
            self.shard.sync_failed.store(true, Ordering::Release);
            self.shard.poisoned.notify_all();
            return Err(AdoptError::Disk(error));
        }
        Ok(())
    }

    /// One record makes all mailboxes, with the numbers that they had.
    async fn make_mailboxes(&self, plan: &Plan) -> Result<(), AdoptError> {
        let mut numbering = Vec::with_capacity(plan.folders.len());
        for planned in &plan.folders {
            let path = self.place.join(folder(&planned.mailbox));
            let uids = Lists::copied(&self.disk, &path).await?.uids;
            let numbers = uids
                .filter(|l| l.uidvalidity > 0)
                .map(|l| (UidValidity(l.uidvalidity), Uid(l.uidnext)));
            numbering.push((planned.mailbox.clone(), numbers));
        }
        let (shard, partition, id) = (&self.shard, &self.partition, self.account.account);
        let mut bar = shard.bar(partition, id).await?;
        let mut numbers = Numbers::of(partition);
        let ops = folder_ops(partition, id, &mut numbers, &numbering, &plan.subscriptions);
        let ticket = shard.submit_barred(partition, ops, Class::Change, &mut bar)?;
        shard.commit(ticket).await?;
        Ok(())
    }

    // ---- the messages ----

    /// How many messages there are.
    async fn count(&mut self, plan: &Plan) -> Result<(), AdoptError> {
        for planned in &plan.folders {
            let path = self.place.join(folder(&planned.mailbox));
            for sub in ["cur", "new"] {
                let entries = super::plan::list(&self.disk, &path.join(sub)).await?;
                self.progress.of += entries.iter().filter(|e| e.is_file).count() as u64;
            }
        }
        (self.tell)(self.progress);
        Ok(())
    }

    async fn adopt_folder(&mut self, plan: &Plan, name: &str) -> Result<FolderReport, AdoptError> {
        let mailbox = self.mailbox(name).ok_or(StoreError::NoMailbox)?;
        let path = mailbox.path();
        let lists = Lists::copied(&self.disk, &path).await?;
        let mut report = FolderReport {
            mailbox: name.to_owned(),
            uidvalidity: mailbox.meta.borrow().uidvalidity.0,
            keywords_full: lists.keywords.names.iter().all(Option::is_some),
            keywords_odd: lists.keywords.odd_names(),
            ..FolderReport::default()
        };
        let (known, last) = self.known(&mailbox).await?;
        let mut found = Found::of(&self.disk, &path, &lists, last).await?;
        report.missing = u64::from(found.missing);
        found.files.retain(|file| !known.contains(&file.stem));
        self.progress.done += known.len() as u64;
        self.rename(&path, &mut found.files, &mut report).await?;
        let common = Common {
            keywords: &lists.keywords.names,
            uidvalidity: mailbox.meta.borrow().uidvalidity,
            uidl: (name == "INBOX").then_some(&plan.uidl),
            saved: None,
        };
        self.adopt_files(&mailbox, &found.files, &common, &mut report)
            .await?;
        {
            let meta = mailbox.meta.borrow();
            report.messages = u64::from(meta.weight.messages);
            report.bytes = meta.weight.size;
            report.uidnext = meta.uidnext.0;
        }
        mailbox.unload();
        Ok(report)
    }

    /// Stems of the rows that are there, from a run that was cut off, and the last UID.
    async fn known(&self, mailbox: &Mailbox) -> Result<(HashSet<String>, Uid), AdoptError> {
        if mailbox.meta.borrow().weight.messages == 0 {
            return Ok((HashSet::new(), Uid(0)));
        }
        mailbox.load(&self.disk).await?;
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
        let stems = (0..index.len()).map(|at| index.stem(at)).collect();
        Ok((stems, index.uids().last().copied().unwrap_or(Uid(0))))
    }

    /// Makes names what Maildir says, durably.
    async fn rename(
        &self,
        folder: &Path,
        files: &mut [Candidate],
        report: &mut FolderReport,
    ) -> Result<(), AdoptError> {
        let mut steps = Vec::new();
        for file in files.iter_mut().filter(|file| file.name != file.wanted()) {
            let from = file.path(folder);
            file.name = file.wanted();
            let to = file.path(folder);
            steps.push(Step::Rename { from, to });
        }
        if steps.is_empty() {
            return Ok(());
        }
        report.renamed = steps.len() as u64;
        place::all(&self.disk, steps).await?;
        self.sync().await
    }

    async fn adopt_files(
        &mut self,
        mailbox: &Rc<Mailbox>,
        files: &[Candidate],
        common: &Common<'_>,
        report: &mut FolderReport,
    ) -> Result<(), AdoptError> {
        let folder = mailbox.path();
        let mut rows: Vec<AdoptedRow> = Vec::new();
        let mut bytes = 0;
        let mut at = 0;
        while at < files.len() {
            for outcome in read_some(&self.disk, &folder, &files[at..]).await {
                let file = &files[at];
                at += 1;
                if let Some((weighed, modified)) = self.judge(outcome, &folder, file, report)? {
                    let row = row(file, weighed, modified, common);
                    bytes += row.digest.len() + row.stem.len() + 128;
                    rows.push(row);
                }
                if rows.len() >= ROWS_MAX || bytes >= ROW_BYTES_MAX {
                    self.submit(mailbox, std::mem::take(&mut rows), report)
                        .await?;
                    bytes = 0;
                }
                self.progress.done += 1;
            }
            (self.tell)(self.progress);
        }
        self.submit(mailbox, rows, report).await
    }

    /// What was read of a file; one that cannot be read is told of and left where it is.
    fn judge(
        &mut self,
        outcome: Read,
        folder: &Path,
        file: &Candidate,
        report: &mut FolderReport,
    ) -> Result<Option<(super::weigh::Weighed, crate::base::UnixMs)>, AdoptError> {
        match outcome {
            Ok(read) => Ok(read),
            Err(error) => match error.kind {
                DiskErrorKind::Io(errno) if errno != EACCES => {
                    report.unreadable += 1;
                    if self.report.unreadable.len() < NAMED_MAX {
                        let path = file.path(folder).display().to_string();
                        self.report.unreadable.push(path);
                    }
                    Ok(None)
                }
                _ => Err(error.into()),
            },
        }
    }

    /// One record of rows, in the order of their UIDs.
    async fn submit(
        &mut self,
        mailbox: &Rc<Mailbox>,
        rows: Vec<AdoptedRow>,
        report: &mut FolderReport,
    ) -> Result<(), AdoptError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.rows += rows.len() as u64;
        if self.rows >= CHECKPOINT_ROWS {
            self.rows = 0;
            checkpoint(&self.shard).await?;
        }
        let mut tries = 0;
        loop {
            let mut rows = rows.clone();
            let numbered = number(&self.shard, &self.partition, mailbox, &mut rows)?;
            let op = Op::Adopted {
                account: self.account.account,
                mailbox: mailbox.id,
                rows,
            };
            let submitted =
                self.shard
                    .submit(&self.partition, vec![op], Vec::new(), Class::NewMail);
            match submitted {
                Ok(ticket) => {
                    self.shard.commit(ticket).await?;
                    report.numbered += numbered;
                    return Ok(());
                }
                Err(StoreError::Full) if tries < FULL_TRIES => {
                    tries += 1;
                    checkpoint(&self.shard).await?;
                }
                Err(why) => return Err(why.into()),
            }
        }
    }
}

/// Gives rows their modseq and, where they have none of their own, UIDs. Synchronous, like the
/// submission that must follow. Answers how many UIDs were given.
pub(super) fn number(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Mailbox,
    rows: &mut [AdoptedRow],
) -> Result<u64, StoreError> {
    let modseq = partition.highest(mailbox).next(shard.epoch);
    let mut next = partition.next_uid(mailbox)?;
    let mut numbered = 0;
    for row in rows {
        row.modseq = modseq;
        if row.uid == Uid(0) {
            row.uid = next;
            next = next.next().ok_or(StoreError::UidsUsedUp)?;
            numbered += 1;
        }
    }
    Ok(numbered)
}
