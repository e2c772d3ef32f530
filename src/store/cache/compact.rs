//! Gives back what expunged messages leave in an account's cache.
//!
//! Protocol. Where more than half is dead a second file begins at the end of all places, and takes
//! what comes from then on. Mailbox by mailbox, rows whose digests lie in the first file get them
//! copied to the end, as if they had been made anew: the row's new place goes to the index log, the
//! entry to the second file, and neither is a record. When no row names the first file any more it is
//! doomed: it goes once a checkpoint covers the new places.
//!
//! A crash before a checkpoint leaves the old catalogue, the old ends of the index logs, and the
//! first file; one after it leaves two files, and the rest is done by the next life. Places are never
//! given twice, so a row that was missed, in whatever way, meets no other message's digest: its own is
//! made anew from the message.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::{Cache, NOT_CACHED, Wanted, read};
use crate::base::{AccountId, Deadline, Uid};
use crate::runtime::local::Permit;
use crate::runtime::{now, sleep, spawn_in, yield_if_needed};
use crate::store::doom::Doomed;
use crate::store::mailbox::{CacheRef, Mailbox};
use crate::store::maildir::{CACHE, list};
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{StoreError, repair};

/// Less than this is not worth the work.
const DEAD_BYTES_MIN: u64 = 1 << 20;
/// Rows looked at, and octets moved, before others have the disk.
const ROWS_MAX: usize = 4096;
const MOVED_BYTES_MAX: u64 = 512 << 10;
const PAUSE: Duration = Duration::from_millis(50);
/// Octets of an index log that wait for the next checkpoint, at most.
const LOG_BYTES_MAX: usize = 1 << 20;
/// Longest wait for settling and checkpoints.
const SETTLING_WAIT: Duration = Duration::from_secs(300);
/// Rounds over an account's mailboxes, while copies of what is not moved yet come behind.
const ROUNDS_MAX: u32 = 8;

/// After a checkpoint: begins to give back what is worth it, unless that is under way.
pub(in crate::store) fn begin(shard: &Rc<Shard>) {
    let is_due = |partition: &Rc<Partition>| {
        let state = partition.state.borrow();
        let mut accounts = state.accounts.values();
        accounts.any(|account| is_due(&account.cache, DEAD_BYTES_MIN))
    };
    let due = shard.owned.all().iter().any(is_due);
    if !due || shard.owned.compacting.replace(true) {
        return;
    }
    let at = shard.clone();
    spawn_in(&shard.gate, "store-caches", async move {
        if let Err(why) = pass(&at, DEAD_BYTES_MIN).await {
            tracing::warn!(?why, "dead room in a cache of digests is given back later");
        }
        at.owned.compacting.set(false);
    });
}

/// Every account of the shard with more than half of its cache dead, and more than `dead_min`.
pub(in crate::store) async fn pass(shard: &Shard, dead_min: u64) -> Result<(), StoreError> {
    let mut failed = Ok(());
    for partition in shard.owned.all() {
        let due: Vec<AccountId> = {
            let state = partition.state.borrow();
            let due = state
                .accounts
                .iter()
                .filter(|(_, a)| is_due(&a.cache, dead_min));
            due.map(|(id, _)| *id).collect()
        };
        for account in due {
            let work = Work {
                shard,
                partition: &partition,
                account,
            };
            if let Err(why) = work.all(dead_min).await {
                // What the disk said of it is no concern of who settles next.
                shard.owned.trouble.borrow_mut().take();
                failed = Err(why);
            }
            yield_if_needed().await;
        }
    }
    failed
}

fn is_due(cache: &Cache, dead_min: u64) -> bool {
    let dead = u64::try_from(cache.dead).unwrap_or(0);
    let is_worth_it = dead > dead_min && dead > cache.used() / 2 && cache.used() > dead_min;
    cache.second.is_some() || is_worth_it
}

/// One account's cache.
struct Work<'s> {
    shard: &'s Shard,
    partition: &'s Rc<Partition>,
    account: AccountId,
}

/// A row whose digest lies in the first file.
struct Low {
    uid: Uid,
    cache: CacheRef,
    bytes: u64,
}

impl Work<'_> {
    async fn all(&self, dead_min: u64) -> Result<(), StoreError> {
        if self.cache(|cache| cache.second.is_none()) == Some(true) {
            self.weigh().await?;
            if self.cache(|cache| is_due(cache, dead_min)) != Some(true) || self.is_over() {
                return Ok(());
            }
            self.begin().await?;
        }
        for _ in 0..ROUNDS_MAX {
            self.cache(|cache| cache.has_strays = false);
            for mailbox in self.mailboxes() {
                self.mailbox(&mailbox).await?;
            }
            if self.is_over() || self.end().await? {
                break;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.shard.gate.is_closed() || self.shard.is_poisoned()
    }

    /// `None`: the account is gone.
    fn cache<T>(&self, f: impl FnOnce(&mut Cache) -> T) -> Option<T> {
        let mut state = self.partition.state.borrow_mut();
        state
            .accounts
            .get_mut(&self.account)
            .map(|a| f(&mut a.cache))
    }

    fn mailboxes(&self) -> Vec<Rc<Mailbox>> {
        let state = self.partition.state.borrow();
        let of_account = state.accounts.get(&self.account);
        of_account.map_or_else(Vec::new, |a| a.mailboxes.values().cloned().collect())
    }

    /// No checkpoint is made, and nothing settles, while the answer lives.
    async fn settling(&self) -> Result<Permit, StoreError> {
        let until = Deadline::after(now(), SETTLING_WAIT);
        let settling = self.shard.settling.acquire(1, until).await;
        settling.map_err(|_| StoreError::Late)
    }

    async fn load(&self, mailbox: &Rc<Mailbox>) -> Result<(), StoreError> {
        let Shard { disk, owned, .. } = self.shard;
        repair::load(disk, owned, self.partition, mailbox).await
    }

    /// Counts what is dead, where that was only estimated.
    async fn weigh(&self) -> Result<(), StoreError> {
        let mut named: u64 = 0;
        for mailbox in self.mailboxes() {
            let pin = mailbox.pin();
            self.load(&mailbox).await?;
            let mut next = 0;
            while let Some((last, lows)) = low_rows(&mailbox, next, u64::MAX) {
                named += lows.iter().map(|low| u64::from(low.cache.len)).sum::<u64>();
                next = last.0.saturating_add(1);
                yield_if_needed().await;
            }
            drop(pin);
            mailbox.unload();
        }
        self.cache(|cache| {
            let (used, named) = (i64::try_from(cache.used()), i64::try_from(named));
            cache.dead = used.unwrap_or(i64::MAX) - named.unwrap_or(i64::MAX);
        });
        self.partition.dirty.set(true);
        Ok(())
    }

    /// The second file begins.
    async fn begin(&self) -> Result<(), StoreError> {
        let _settling = self.settling().await?;
        self.clear_leftovers().await?;
        self.cache(|cache| {
            cache.seal();
            cache.second = Some(cache.end);
        });
        self.partition.dirty.set(true);
        Ok(())
    }

    /// Files that a life began which ended before its next checkpoint.
    async fn clear_leftovers(&self) -> Result<(), StoreError> {
        let Shard { disk, layout, .. } = self.shard;
        let root = layout.account(self.partition.id, self.account);
        let named: BTreeSet<PathBuf> = {
            let state = self.partition.state.borrow();
            let of_account = state.accounts.get(&self.account).into_iter();
            let live =
                of_account.flat_map(|a| a.cache.files(layout, self.partition.id, self.account));
            let doomed = state.doomed.iter().filter_map(|(_, doomed)| match doomed {
                Doomed::File(path) => Some(layout.root.join(path)),
                _ => None,
            });
            live.chain(doomed).collect()
        };
        for name in list(disk, &root).await? {
            let path = root.join(&name);
            if name.starts_with(CACHE) && !named.contains(&path) {
                // One that stays is in nobody's way, and gone through again the next time.
                let _ = disk.unlink(&path).await;
            }
        }
        Ok(())
    }

    /// Moves what one mailbox has in the first file.
    async fn mailbox(&self, mailbox: &Rc<Mailbox>) -> Result<(), StoreError> {
        let mut next = 0;
        loop {
            if self.is_over() || mailbox.deleted.get() {
                break;
            }
            let settling = self.settling().await?;
            let pin = mailbox.pin();
            self.load(mailbox).await?;
            let second = self.cache(|cache| cache.second).flatten();
            let Some((last, lows)) = low_rows(mailbox, next, second.unwrap_or(0)) else {
                break;
            };
            next = last.0.saturating_add(1);
            if lows.is_empty() {
                yield_if_needed().await;
                continue;
            }
            self.some(mailbox, &lows).await?;
            drop((pin, settling));
            or(sleep(PAUSE), self.shard.gate.closing()).await;
        }
        mailbox.unload();
        Ok(())
    }

    /// Reads some entries, gives them their new places and writes them there.
    async fn some(&self, mailbox: &Rc<Mailbox>, lows: &[Low]) -> Result<(), StoreError> {
        let mut digests: Vec<Option<Vec<u8>>> = vec![None; lows.len()];
        let mut cold = Vec::new();
        for (n, low) in lows.iter().enumerate() {
            let waiting = self.cache(|cache| cache.waiting_at(low.cache.at)).flatten();
            match waiting {
                Some(entry) => digests[n] = super::digest(&entry, low.bytes).map(<[u8]>::to_vec),
                None => cold.push(Wanted {
                    n,
                    cache: low.cache,
                    bytes: low.bytes,
                }),
            }
        }
        let Shard { disk, layout, .. } = self.shard;
        let found = |n: usize, digest: &[u8]| digests[n] = Some(digest.to_vec());
        read(disk, layout, self.partition, self.account, &mut cold, found).await?;
        self.put(mailbox, lows, &digests);
        let settler = self.shard.settler();
        let log_bytes = mailbox.pending.borrow().log.len();
        match log_bytes > LOG_BYTES_MAX {
            true => settler.flush(self.partition).await,
            false => settler.flush_cache(self.partition, self.account).await,
        }
    }

    /// What is not whole in the first file is made anew when it is asked for.
    fn put(&self, mailbox: &Rc<Mailbox>, lows: &[Low], digests: &[Option<Vec<u8>>]) {
        let mut moved = Vec::with_capacity(lows.len());
        {
            let index = mailbox.index.borrow();
            let Some(index) = index.as_ref() else { return };
            let mut state = self.partition.state.borrow_mut();
            let Some(of_account) = state.accounts.get_mut(&self.account) else {
                return;
            };
            let cache = &mut of_account.cache;
            for (low, digest) in lows.iter().zip(digests) {
                // Expunged, or made anew, meanwhile.
                let at = index.position(low.uid);
                let Some(cold) = at.map(|at| index.cold(at)).filter(|c| c.cache == low.cache)
                else {
                    continue;
                };
                cache.bury(low.cache.len);
                let place = match digest {
                    Some(digest) => cache.push(cold.name, &cold.email_id, digest),
                    None => NOT_CACHED,
                };
                moved.push((low.uid, place, cold.email_id));
            }
        }
        if moved.is_empty() {
            return;
        }
        mailbox.move_cached(moved);
        self.partition.caches.borrow_mut().insert(self.account);
        self.partition.queue(mailbox);
        self.partition.dirty.set(true);
    }

    /// Nothing is needed of the first file any more, or the answer is no.
    async fn end(&self) -> Result<bool, StoreError> {
        // A catalogue that is on its way would name neither the file nor its end.
        let _settling = self.settling().await?;
        let layout = &self.shard.layout;
        let old = self.cache(|cache| {
            let second = cache.second.filter(|_| !cache.has_strays)?;
            let old = layout.cache(self.partition.id, self.account, cache.first);
            let gone = i64::try_from(second - cache.first).unwrap_or(i64::MAX);
            cache.dead = cache.dead.saturating_sub(gone);
            (cache.first, cache.second) = (second, None);
            // What nobody could write so far nobody reads any more.
            cache.waiting.retain(|(at, _)| *at >= second);
            Some(layout.relative(&old).to_path_buf())
        });
        match old {
            Some(Some(old)) => self.partition.give_up([old]),
            // Gone, with its files.
            None => return Ok(true),
            Some(None) => return Ok(false),
        }
        self.partition.dirty.set(true);
        Ok(true)
    }
}

/// Of rows with UIDs from `next` on those whose digests lie before `second`, and the last that was
/// looked at; `None` at the end.
fn low_rows(mailbox: &Mailbox, next: u32, second: u64) -> Option<(Uid, Vec<Low>)> {
    let index = mailbox.index.borrow();
    let index = index.as_ref()?;
    let from = index.uids().partition_point(|uid| uid.0 < next);
    let to = (from + ROWS_MAX).min(index.len());
    let (mut lows, mut last, mut bytes) = (Vec::new(), None, 0);
    for at in from..to {
        let cache = index.cold(at).cache;
        last = Some(index.uids()[at]);
        if cache.len == 0 || cache.at >= second {
            continue;
        }
        bytes += u64::from(cache.len);
        lows.push(Low {
            uid: index.uids()[at],
            cache,
            bytes: index.body_bytes(at),
        });
        if bytes >= MOVED_BYTES_MAX && second < u64::MAX {
            break;
        }
    }
    last.map(|last| (last, lows))
}
