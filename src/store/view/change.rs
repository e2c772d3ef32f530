//! STORE and EXPUNGE: prepared against applied state and what is in flight, one record each.

use hashbrown::HashSet;

use super::{Access, Stored, View};
use crate::base::{ModSeq, Uid};
use crate::runtime::unix_now;
use crate::store::journal::Class;
use crate::store::mailbox::Index;
use crate::store::overlay::MailboxFlight;
use crate::store::{FlagChange, FlagMode, Flags, Op, StoreError};

/// Messages that one record changes; a command on more becomes several.
const ENTRIES_MAX: usize = 20_000;
/// Keywords of one message: the index counts them in 16 bits.
const KEYWORDS_MAX: usize = 1_000;

/// Flags, keywords and modseq of a message with what is in flight.
type Effective = (Flags, Vec<String>, ModSeq);

pub(super) fn effective(
    index: &Index,
    flight: Option<&MailboxFlight>,
    uid: Uid,
) -> Option<Effective> {
    let at = index.position(uid)?;
    if flight.is_some_and(|f| f.is_expunged(uid)) {
        return None;
    }
    if let Some(f) = flight.and_then(|f| f.flags.get(&uid)) {
        return Some((f.flags, f.keywords.clone(), f.modseq));
    }
    let keywords = index.keywords(at).map(|k| k.to_string()).collect();
    Some((index.flags(at), keywords, index.modseq(at)))
}

fn changed(of: &Effective, change: &FlagChange) -> (Flags, Vec<String>) {
    let (flags, keywords, _) = of;
    let among = |list: &[String], k: &str| list.iter().any(|l| l.eq_ignore_ascii_case(k));
    match change.mode {
        FlagMode::Replace => (change.flags, change.keywords.clone()),
        FlagMode::Add => {
            let mut all = keywords.clone();
            for k in &change.keywords {
                if !among(&all, k) {
                    all.push(k.clone());
                }
            }
            (flags.union(change.flags), all)
        }
        FlagMode::Remove => {
            let kept = keywords
                .iter()
                .filter(|k| !among(&change.keywords, k))
                .cloned();
            (flags.without(change.flags), kept.collect())
        }
    }
}

fn same_keywords(one: &[String], two: &[String]) -> bool {
    let lower = |list: &[String]| -> HashSet<String> {
        list.iter().map(|k| k.to_ascii_lowercase()).collect()
    };
    one == two || lower(one) == lower(two)
}

impl View {
    fn writable(&self) -> Result<(), StoreError> {
        self.there()?;
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly),
        }
    }

    /// Changes flags, one record. UIDs that are gone are skipped and told in `missing`.
    pub async fn store(
        &self,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<Stored, StoreError> {
        self.writable()?;
        if change.keywords.len() > KEYWORDS_MAX {
            return Err(StoreError::NotAllowed);
        }
        let mut all = Stored::default();
        for part in uids.chunks(ENTRIES_MAX) {
            let one = self.store_as_one(part, change, unchanged_since).await?;
            all.uids.extend(one.uids);
            all.modified.extend(one.modified);
            all.missing.extend(one.missing);
            all.modseq = all.modseq.max(one.modseq);
        }
        for list in [&mut all.uids, &mut all.modified, &mut all.missing] {
            list.sort_unstable();
        }
        Ok(all)
    }

    async fn store_as_one(
        &self,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<Stored, StoreError> {
        let account = self.account.account;
        self.shard.turn(&self.partition, &[account]).await?;
        self.there()?;
        let mut stored = Stored::default();
        let mut entries = Vec::new();
        let mut leans_on_flight = false;
        {
            let index = self.mailbox.index.borrow();
            let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
            let flight = self.partition.flight.borrow();
            let flight = flight.mailbox(account, self.mailbox.id);
            for &uid in uids {
                let Some(now) = effective(index, flight, uid) else {
                    leans_on_flight |= flight.is_some_and(|f| f.is_expunged(uid));
                    stored.missing.push(uid);
                    continue;
                };
                leans_on_flight |= flight.is_some_and(|f| f.flags.contains_key(&uid));
                // RFC 7162 3.1.3.
                if unchanged_since.is_some_and(|since| now.2 > since) {
                    stored.modified.push(uid);
                    continue;
                }
                stored.uids.push(uid);
                let (flags, keywords) = changed(&now, change);
                if keywords.len() > KEYWORDS_MAX {
                    return Err(StoreError::NotAllowed);
                }
                if flags != now.0 || !same_keywords(&keywords, &now.1) {
                    entries.push((uid, flags, keywords));
                }
            }
        }
        if entries.is_empty() && !leans_on_flight {
            stored.modseq = self.mailbox.meta.borrow().highest;
            return Ok(stored);
        }
        // Nothing new, but what was found is not durable yet: an empty record waits for it.
        let modseq = self.partition.highest(&self.mailbox).next(self.shard.epoch);
        stored.modseq = modseq;
        let op = Op::FlagsSet {
            account,
            mailbox: self.mailbox.id,
            modseq,
            entries,
        };
        let ticket = self
            .shard
            .submit(&self.partition, vec![op], Vec::new(), Class::Change)?;
        self.shard.commit(ticket).await?;
        Ok(stored)
    }

    /// Removes messages, one record; UIDs that are gone already are skipped. Whoever removed them,
    /// all are gone for good when this returns (RFC 9051 6.4.9).
    pub async fn expunge(&self, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        self.writable()?;
        let account = self.account.account;
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        uids.dedup();
        let mut all = Vec::new();
        for part in uids.chunks(ENTRIES_MAX) {
            self.shard.turn(&self.partition, &[account]).await?;
            self.there()?;
            let (there, leans_on_flight) = {
                let index = self.mailbox.index.borrow();
                let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
                let flight = self.partition.flight.borrow();
                let flight = flight.mailbox(account, self.mailbox.id);
                let in_flight = |uid: Uid| flight.is_some_and(|f| f.is_expunged(uid));
                let is_there = |uid: &&Uid| index.position(**uid).is_some() && !in_flight(**uid);
                let there: Vec<Uid> = part.iter().filter(is_there).copied().collect();
                (there, part.iter().any(|&uid| in_flight(uid)))
            };
            // Another session's removal may still be lost: with nothing of its own to remove, an
            // empty record waits for it.
            if there.is_empty() && !leans_on_flight {
                continue;
            }
            let modseq = self.partition.highest(&self.mailbox).next(self.shard.epoch);
            let mailbox = self.mailbox.id;
            let op = Op::Expunged {
                account,
                mailbox,
                modseq,
                uids: there.clone(),
                at: unix_now(),
            };
            let ticket =
                self.shard
                    .submit(&self.partition, vec![op], Vec::new(), Class::Completion)?;
            self.shard.commit(ticket).await?;
            all.extend(there);
        }
        Ok(all)
    }
}
