//! Looking without changing: what would be done, and whether what was done is right.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use super::check::{Want, in_the_way};
use super::folder::{Candidate, Found, Lists, read_some};
use super::plan::Plan;
use super::run::Adoption;
use super::{AdoptError, AdoptReport, AdoptRequest, FolderReport};
use crate::base::Uid;
use crate::runtime::Disk;
use crate::store::StoreError;
use crate::store::mailbox::Mailbox;
use crate::store::maildir::{flags_of, folder};

/// What was put aside is named, up to so many.
const ASIDE_MAX: usize = 1_000;

impl Adoption<'_> {
    /// What adopting would do. Sizes are those of the files.
    pub async fn look(mut self, request: &AdoptRequest) -> Result<AdoptReport, AdoptError> {
        let messages = {
            let state = self.partition.state.borrow();
            let of_account = state.accounts.get(&self.account.account);
            of_account.map_or(0, |account| account.messages)
        };
        self.is_empty(messages)?;
        let plan = Plan::of(&self.disk, request).await?;
        self.check(&plan, Want::Readable).await?;
        self.report.subscriptions = plan.subscriptions.len() as u64;
        self.report.copied = plan.copy;
        for planned in &plan.folders {
            let (lists, found) = self.original(&plan, planned).await?;
            let odd = |file: &&Candidate| file.name != file.wanted();
            let new = |file: &&Candidate| file.entry.is_none();
            let uids = lists.uids.as_ref();
            self.report.folders.push(FolderReport {
                mailbox: planned.mailbox.clone(),
                former_name: planned.former_name(&plan.naming),
                uidvalidity: uids.map_or(0, |l| l.uidvalidity),
                uidnext: uids.map_or(1, |l| l.uidnext),
                messages: found.files.len() as u64,
                bytes: found.files.iter().map(|file| file.len).sum(),
                numbered: found.files.iter().filter(new).count() as u64,
                renamed: found.files.iter().filter(odd).count() as u64,
                missing: u64::from(found.missing),
                keywords_full: lists.keywords.names.iter().all(Option::is_some),
                keywords_odd: lists.keywords.odd_names(),
                ..FolderReport::default()
            });
        }
        Ok(self.report)
    }

    /// Refuses a tree that cannot be adopted, and tells of what is no mail in it.
    pub async fn check(&mut self, plan: &Plan, want: Want) -> Result<(), AdoptError> {
        let foreign = self.disk.foreign();
        let aside = in_the_way(&foreign, plan, &plan.from, want).await?;
        self.tell_aside(&aside);
        Ok(())
    }

    pub fn tell_aside(&mut self, aside: &[PathBuf]) {
        for below in aside {
            let below = below.display().to_string();
            let told = &mut self.report.aside;
            if told.len() < ASIDE_MAX && !told.contains(&below) {
                told.push(below);
            }
        }
    }

    /// A folder where it was.
    async fn original(
        &self,
        plan: &Plan,
        planned: &super::plan::Folder,
    ) -> Result<(Lists, Found), AdoptError> {
        let path = planned.below(&plan.from);
        let lists_at = plan
            .control
            .as_ref()
            .map_or(path.clone(), |c| planned.below(c));
        let disk = self.disk.foreign();
        let (uids, keywords) = Lists::original(&disk, &lists_at).await?;
        let lists = Lists::of(&uids, &keywords);
        let found = Found::of(&disk, &path, &lists, Uid(0)).await?;
        Ok((lists, found))
    }

    /// Reads every file again, at its source if that is still there, and compares it with its row.
    pub async fn verify(&mut self, plan: &Plan) -> Result<(), AdoptError> {
        for (n, planned) in plan.folders.iter().enumerate() {
            let mailbox = self
                .mailbox(&planned.mailbox)
                .ok_or(StoreError::NoMailbox)?;
            let disk = match self.report.copied {
                true => self.disk.foreign(),
                false => self.disk.clone(),
            };
            let (path, found) = match self.report.copied {
                true => (
                    planned.below(&plan.from),
                    self.original(plan, planned).await?.1,
                ),
                false => {
                    let path = self.place.join(folder(&planned.mailbox));
                    let found = Found::of(&self.disk, &path, &Lists::default(), Uid(0)).await?;
                    (path, found)
                }
            };
            let from = (&disk, path.as_path());
            let differing = self.compare(&mailbox, from, &found.files).await?;
            self.report.folders[n].differing = Some(differing);
        }
        Ok(())
    }

    /// How many files and rows are not each other's.
    async fn compare(
        &self,
        mailbox: &Mailbox,
        (disk, path): (&Disk, &Path),
        files: &[Candidate],
    ) -> Result<u64, AdoptError> {
        mailbox.load(&self.disk).await?;
        let mut rows: HashMap<String, usize> = {
            let index = mailbox.index.borrow();
            let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
            (0..index.len()).map(|at| (index.stem(at), at)).collect()
        };
        let mut differing = 0;
        let mut at = 0;
        while at < files.len() {
            for outcome in read_some(disk, path, &files[at..]).await {
                let file = &files[at];
                at += 1;
                let row = rows.remove(&file.stem);
                let index = mailbox.index.borrow();
                let is_equal = match (outcome, row, index.as_ref()) {
                    (Ok(Some((weighed, modified))), Some(row), Some(index)) => {
                        weighed.blake3.starts_with(&index.cold(row).email_id)
                            && weighed.size == index.size(row)
                            && modified.seconds() == index.date(row).seconds()
                            && flags_of(file.letters) == index.flags(row)
                    }
                    _ => false,
                };
                differing += u64::from(!is_equal);
            }
        }
        mailbox.unload();
        Ok(differing + rows.len() as u64)
    }
}
