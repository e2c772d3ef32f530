//! Names that follow the index: letters of flags and keywords, and the list of keywords.

use std::rc::Rc;

use super::{Settler, file_name, find_file, row_letters};
use crate::base::Uid;
use crate::runtime::{DiskErrorKind, Step, yield_if_needed};
use crate::store::StoreError;
use crate::store::catalogue::Doomed;
use crate::store::mailbox::{LogOp, Mailbox, disk_error};
use crate::store::owned::count;
use crate::store::partition::Partition;

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
            self.owned.load(mailbox, self.disk).await?;
        }
        loop {
            let stale = {
                let mut stale = mailbox.stale_names.borrow_mut();
                let keep = stale.len().saturating_sub(RENAMES_MAX);
                stale.split_off(keep)
            };
            if stale.is_empty() || mailbox.deleted.get() {
                break;
            }
            if !self.rename_letters(partition, mailbox, stale).await? {
                break;
            }
            yield_if_needed().await;
        }
        self.keyword_names(mailbox).await
    }

    /// False when nothing of it can be done now.
    async fn rename_letters(
        &self,
        partition: &Partition,
        mailbox: &Mailbox,
        mut stale: Vec<Uid>,
    ) -> Result<bool, StoreError> {
        stale.sort_unstable();
        stale.dedup();
        let cur = mailbox.path().join("cur");
        let mut renames = Vec::new();
        let mut steps = Vec::new();
        {
            let index = mailbox.index.borrow();
            let Some(index) = index.as_ref() else {
                return Ok(false);
            };
            for uid in stale {
                let Some(at) = index.position(uid) else {
                    continue;
                };
                let cold = index.cold(at);
                let letters = row_letters(index, at);
                if letters == cold.letters {
                    continue;
                }
                let key = (cold.name.pseq, cold.name.ordinal);
                if partition.unsettled.borrow().contains_key(&key) {
                    mailbox.stale_names.borrow_mut().push(uid);
                    continue;
                }
                let stem = index.stem(at);
                steps.push(Step::Rename {
                    from: cur.join(file_name(&stem, cold.letters)),
                    to: cur.join(file_name(&stem, letters)),
                });
                renames.push((uid, stem, letters));
            }
        }
        if steps.is_empty() {
            return Ok(false);
        }
        let outcomes = self.disk.batch(steps).await;
        let mut done = Vec::with_capacity(renames.len());
        for ((uid, stem, letters), outcome) in renames.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(e) if e.kind == DiskErrorKind::NotFound => {
                    let Some(found) = find_file(self.disk, &mailbox.path(), &stem).await? else {
                        count(&self.owned.counters.files_missing);
                        continue;
                    };
                    let to = cur.join(file_name(&stem, letters));
                    self.disk
                        .rename(&found, &to)
                        .await
                        .map_err(|e| disk_error(&e))?;
                }
                Err(e) => {
                    mailbox.stale_names.borrow_mut().push(uid);
                    return Err(disk_error(&e));
                }
            }
            done.push((uid, stem, letters));
        }
        partition.dirty.set(true);
        self.renamed(partition, mailbox, done);
        Ok(true)
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
                    index.set_letters(at, now);
                    letters_now.push((uid, now));
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
        LogOp::Letters(letters_now).encode(&mut mailbox.pending.borrow_mut().log);
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
        let (tmp, to) = (
            mailbox.path().join("tmp/dovecot-keywords"),
            mailbox.path().join("dovecot-keywords"),
        );
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
