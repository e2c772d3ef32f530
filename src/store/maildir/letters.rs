//! Names of files follow the flags of their messages, lazily: before each checkpoint, and when all
//! is settled for other programs.

use std::path::PathBuf;
use std::rc::Rc;

use hashbrown::HashMap;

use super::settle::{Settler, find_file, list};
use super::{file_name, parse, row_letters};
use crate::base::Uid;
use crate::runtime::{DiskErrorKind, Step, yield_if_needed};
use crate::store::StoreError;
use crate::store::doom::Doomed;
use crate::store::mailbox::{Index, LogOp, Mailbox};
use crate::store::owned::count;
use crate::store::partition::Partition;
use crate::store::repair;

/// Renames in one trip.
const RENAMES_MAX: usize = 512;

impl Settler<'_> {
    /// Renames files whose letters are not what their rows say.
    pub async fn letters(&self, partition: &Partition) -> Result<(), StoreError> {
        let mailboxes = partition.unflushed.borrow().clone();
        for mailbox in mailboxes {
            self.letters_of(partition, &mailbox).await?;
        }
        Ok(())
    }

    pub async fn letters_of(
        &self,
        partition: &Partition,
        mailbox: &Rc<Mailbox>,
    ) -> Result<(), StoreError> {
        if mailbox.keywords_stale.get() && !mailbox.deleted.get() {
            // Which letter a keyword has is known from the index alone.
            let loaded = repair::load(self.disk, self.owned, partition, mailbox).await;
            if loaded.is_err() {
                // The files keep their names; nobody else waits for them.
                return Ok(());
            }
        }
        // A former life's names are looked up in one listing, so all go at once.
        let most = match partition.recovering.get() {
            Some(_) => usize::MAX,
            None => RENAMES_MAX,
        };
        let mut later = Vec::new();
        loop {
            let stale = {
                let mut stale = mailbox.stale_names.borrow_mut();
                let keep = stale.len().saturating_sub(most);
                stale.split_off(keep)
            };
            if stale.is_empty() || mailbox.deleted.get() {
                break;
            }
            let mut again = stale.clone();
            let renaming = self.rename_letters(partition, mailbox, stale, &mut later);
            if let Err(why) = renaming.await {
                // Those that were done are passed over the next time.
                let mut stale = mailbox.stale_names.borrow_mut();
                stale.append(&mut later);
                stale.append(&mut again);
                return Err(why);
            }
            yield_if_needed().await;
        }
        mailbox.stale_names.borrow_mut().append(&mut later);
        self.keyword_names(mailbox).await
    }

    /// Those whose files are not written yet must wait: they are put into `later`.
    async fn rename_letters(
        &self,
        partition: &Partition,
        mailbox: &Mailbox,
        mut stale: Vec<Uid>,
        later: &mut Vec<Uid>,
    ) -> Result<(), StoreError> {
        stale.sort_unstable();
        stale.dedup();
        let mut names = match partition.recovering.get() {
            Some(_) => self.names_of(mailbox, &stale).await?,
            None => Names::default(),
        };
        let plan = {
            let index = mailbox.index.borrow();
            let Some(index) = index.as_ref() else {
                return Ok(());
            };
            plan(partition, mailbox, (index, &mut names), stale, later)
        };
        for gone in self.disk.batch(plan.left).await {
            gone.map_err(|e| self.fault(&e))?;
        }
        if plan.steps.is_empty() {
            return Ok(());
        }
        let outcomes = self.disk.batch(plan.steps).await;
        let mut done = Vec::with_capacity(plan.renames.len());
        let mut failed = None;
        for ((uid, stem, letters), outcome) in plan.renames.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(e) if e.kind == DiskErrorKind::NotFound => {
                    let Some(found) = find_file(self.disk, &mailbox.path(), &stem).await? else {
                        count(&self.owned.counters.files_missing);
                        continue;
                    };
                    let to = mailbox.path().join("cur").join(file_name(&stem, letters));
                    self.disk
                        .rename(&found, &to)
                        .await
                        .map_err(|e| self.fault(&e))?;
                }
                Err(e) => {
                    later.push(uid);
                    failed = failed.or(Some(self.fault(&e)));
                    continue;
                }
            }
            done.push((uid, stem, letters));
        }
        self.renamed(partition, mailbox, done);
        failed.map_or(Ok(()), Err)
    }

    /// Every name that the files of these messages have.
    async fn names_of(&self, mailbox: &Mailbox, uids: &[Uid]) -> Result<Names, StoreError> {
        let mut names: Names = {
            let index = mailbox.index.borrow();
            let Some(index) = index.as_ref() else {
                return Ok(Names::default());
            };
            let at = uids.iter().filter_map(|&uid| index.position(uid));
            at.map(|at| (index.stem(at), Vec::new())).collect()
        };
        if names.is_empty() {
            return Ok(names);
        }
        for name in list(self.disk, &mailbox.path().join("cur")).await? {
            if let Some(all) = names.get_mut(parse(&name).0) {
                all.push(name);
            }
        }
        Ok(names)
    }

    /// Notes the letters that files have now.
    fn renamed(&self, partition: &Partition, mailbox: &Mailbox, done: Vec<(Uid, String, u32)>) {
        let mut letters_now = Vec::with_capacity(done.len());
        {
            let mut index = mailbox.index.borrow_mut();
            let mut state = partition.state.borrow_mut();
            for (uid, renamed, now) in done {
                let row = index
                    .as_mut()
                    .and_then(|index| Some((index.position(uid)?, index)));
                if let Some((at, index)) = row {
                    if index.cold(at).letters != now {
                        index.set_letters(at, now);
                        letters_now.push((uid, now));
                    }
                    continue;
                }
                // Expunged meanwhile: it must be found when its time comes.
                let doomed = state
                    .doomed
                    .iter_mut()
                    .rev()
                    .find_map(|(_, doomed)| match doomed {
                        Doomed::Message { stem, letters, .. } if *stem == renamed => Some(letters),
                        _ => None,
                    });
                if let Some(letters) = doomed {
                    *letters = now;
                }
            }
        }
        if !letters_now.is_empty() {
            // Where the last catalogue was cut before, none would ever say so.
            partition.dirty.set(true);
            LogOp::Letters(letters_now).encode(&mut mailbox.pending.borrow_mut().log);
        }
    }

    /// Dovecot's list of which letter is which keyword.
    async fn keyword_names(&self, mailbox: &Mailbox) -> Result<(), StoreError> {
        if mailbox.deleted.get() || !mailbox.made.get() || !mailbox.keywords_stale.get() {
            return Ok(());
        }
        let text = {
            let index = mailbox.index.borrow();
            let Some(index) = index.as_ref() else {
                return Ok(());
            };
            let names = index.keyword_names().iter().enumerate().take(26);
            names
                .map(|(n, name)| format!("{n} {name}\n"))
                .collect::<String>()
        };
        mailbox.keywords_stale.set(false);
        // Beside the file: then no power cut leaves it under both names.
        let to = mailbox.path().join("dovecot-keywords");
        let tmp = to.with_extension("tmp");
        let written = self
            .steps(vec![Step::Replace {
                tmp,
                to,
                bytes: text.into_bytes(),
                rest: None,
                pack: None,
                modified: None,
            }])
            .await;
        if written.is_err() {
            mailbox.keywords_stale.set(true);
        }
        written
    }
}

/// Names of files in `cur`, by their stems.
type Names = HashMap<String, Vec<String>>;

/// What has to be renamed.
#[derive(Default)]
struct Plan {
    /// Names too many: a power cut left the file under several.
    left: Vec<Step>,
    steps: Vec<Step>,
    renames: Vec<(Uid, String, u32)>,
}

fn plan(
    partition: &Partition,
    mailbox: &Mailbox,
    (index, names): (&Index, &mut Names),
    stale: Vec<Uid>,
    later: &mut Vec<Uid>,
) -> Plan {
    let mut plan = Plan::default();
    let cur = mailbox.path().join("cur");
    let path = |name: &str| -> PathBuf { cur.join(name) };
    for uid in stale {
        let Some(at) = index.position(uid) else {
            continue;
        };
        let cold = index.cold(at);
        let letters = row_letters(index, at);
        let key = (cold.name.pseq, cold.name.ordinal);
        if partition.unsettled.borrow().contains_key(&key) {
            later.push(uid);
            continue;
        }
        let stem = index.stem(at);
        let mut from = file_name(&stem, cold.letters);
        // A power cut in the middle of renaming leaves a file under any of its names.
        let mut names = names.remove(&stem).unwrap_or_default();
        if !names.contains(&from) {
            from = names.pop().unwrap_or(from);
        }
        names.retain(|name| *name != from);
        let unlink = |name: &String| Step::Unlink { path: path(name) };
        plan.left.extend(names.iter().map(unlink));
        let to = file_name(&stem, letters);
        // Where both are one this only looks. A name that was given after the cut of the last
        // checkpoint is in no index that a start reads, and flags that change back from it look as
        // if there were nothing to do.
        let (from, to) = (path(&from), path(&to));
        plan.steps.push(Step::Rename { from, to });
        plan.renames.push((uid, stem, letters));
    }
    plan
}
