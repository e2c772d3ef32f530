//! STORE and EXPUNGE: prepared against applied state and what is in flight.
//!
//! A record is prepared and applied without a pause, so a command on many messages becomes several,
//! each in its turn: others work in between. RFC 9051 6.4.6 and RFC 7162 3.1.3 judge message by
//! message: where a later record fails, what was done before it stays done, and is told.

use hashbrown::HashSet;

use super::{Access, Stored, View};
use crate::base::{ModSeq, Uid};
use crate::runtime::{unix_now, yield_if_needed};
use crate::store::journal::Class;
use crate::store::mailbox::Index;
use crate::store::overlay::MailboxFlight;
use crate::store::{FlagChange, FlagMode, Flags, Op, StoreError};

/// Messages that one record changes, and what it weighs at most: a message, and each of its
/// keywords, weigh one. About 3 ms of work.
const ENTRIES_MAX: usize = 2_000;
const WEIGHT_MAX: usize = 8_000;
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

impl Stored {
    /// All that is told of stands as of this modseq.
    fn stand_at(&mut self, modseq: ModSeq) {
        self.modseqs = vec![modseq; self.uids.len()];
        self.modseq = modseq;
    }

    fn add(&mut self, other: Stored) {
        self.uids.extend(other.uids);
        self.modseqs.extend(other.modseqs);
        self.modified.extend(other.modified);
        self.missing.extend(other.missing);
        self.modseq = self.modseq.max(other.modseq);
    }

    fn sort(&mut self) {
        if !self.uids.is_sorted() {
            let mut told: Vec<(Uid, ModSeq)> = self.told().collect();
            told.sort_unstable();
            (self.uids, self.modseqs) = told.into_iter().unzip();
        }
        self.modified.sort_unstable();
        self.missing.sort_unstable();
    }

    /// Each message that was changed or confirmed, and the modseq as of which it stands.
    pub fn told(&self) -> impl Iterator<Item = (Uid, ModSeq)> + '_ {
        let modseqs = self.modseqs.iter().copied();
        self.uids.iter().copied().zip(modseqs)
    }
}

impl View {
    fn writable(&self) -> Result<(), StoreError> {
        self.there()?;
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly),
        }
    }

    /// Changes flags. UIDs that are gone are skipped and told in `missing`. An error is of the
    /// first record; that of a later one is told in `failed`, with what was done before it.
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
        let mut done = 0;
        while done < uids.len() {
            match self
                .store_some(&uids[done..], change, unchanged_since)
                .await
            {
                Ok((some, count)) => {
                    all.add(some);
                    done += count;
                }
                Err(why) if done == 0 => return Err(why),
                Err(why) => {
                    all.failed = Some(why);
                    break;
                }
            }
            yield_if_needed().await;
        }
        all.sort();
        Ok(all)
    }

    /// As many of the first ones as one record takes; answers how many these are.
    async fn store_some(
        &self,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<(Stored, usize), StoreError> {
        let account = self.account.account;
        self.shard.turn(&self.partition, &[account]).await?;
        self.there()?;
        let mut stored = Stored::default();
        let mut entries = Vec::new();
        let mut leans_on_flight = false;
        let (mut count, mut weight) = (0, 0);
        {
            let index = self.mailbox.index.borrow();
            let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
            let flight = self.partition.flight.borrow();
            let flight = flight.mailbox(account, self.mailbox.id);
            for &uid in uids {
                if count == ENTRIES_MAX || weight >= WEIGHT_MAX {
                    break;
                }
                count += 1;
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
                weight += 1 + now.1.len().max(keywords.len());
                if flags != now.0 || !same_keywords(&keywords, &now.1) {
                    entries.push((uid, flags, keywords));
                }
            }
        }
        if entries.is_empty() && !leans_on_flight {
            stored.stand_at(self.mailbox.meta.borrow().highest);
            return Ok((stored, count));
        }
        // Nothing new, but what was found is not durable yet: an empty record waits for it.
        let modseq = self.partition.highest(&self.mailbox).next(self.shard.epoch);
        stored.stand_at(modseq);
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
        Ok((stored, count))
    }

    /// Removes messages; UIDs that are gone already are skipped. Whoever removed them, all are gone
    /// for good when this returns (RFC 9051 6.4.9). Some may be where it fails: the feed tells of
    /// them.
    pub async fn expunge(&self, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        self.writable()?;
        let account = self.account.account;
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        uids.dedup();
        let mut all = Vec::new();
        // From the end: what stands behind those that go is moved up, and so it is little.
        for part in uids.rchunks(ENTRIES_MAX) {
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
            yield_if_needed().await;
        }
        all.sort_unstable();
        Ok(all)
    }
}
