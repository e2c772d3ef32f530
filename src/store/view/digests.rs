//! MIME digests, from the cache; made anew from the message where the cache does not have them.

use std::sync::Arc;

use super::View;
use crate::base::Uid;
use crate::observe::{event, log_event};
use crate::runtime::yield_if_needed;
use crate::store::cache::Wanted;
use crate::store::message::walk_limits;
use crate::store::owned::count;
use crate::store::{StoreError, cache, repair};
use crate::wire::mime::Walker;

/// Read at once of a message.
const PIECE_BYTES: u64 = 64 << 10;

type Outcome = Result<Arc<[u8]>, StoreError>;

impl View {
    /// The encoded MIME digest (`wire::mime::DigestView::parse` reads it).
    pub async fn digest(&self, uid: Uid) -> Outcome {
        let mut all = self.digests(&[uid]).await;
        all.pop().unwrap_or(Err(StoreError::Expunged))
    }

    /// Digests of many at once, for FETCH ENVELOPE 1:*; in the order given.
    pub async fn digests(&self, uids: &[Uid]) -> Vec<Outcome> {
        let mut out: Vec<Option<Outcome>> = Vec::with_capacity(uids.len());
        let mut cold: Vec<Wanted> = Vec::new();
        for (n, &uid) in uids.iter().enumerate() {
            out.push(match self.wanted(uid, n) {
                Err(why) => Some(Err(why)),
                Ok(wanted) => self.waiting(wanted).or_else(|| {
                    cold.push(wanted);
                    None
                }),
            });
        }
        let (shard, account) = (&self.shard, self.account.account);
        let found = |n: usize, digest: &[u8]| out[n] = Some(Ok(Arc::from(digest)));
        let read = cache::read(
            &shard.disk,
            &shard.layout,
            &self.partition,
            account,
            &mut cold,
            found,
        );
        if let Err(why) = read.await {
            cold.iter().for_each(|w| out[w.n] = Some(Err(why.clone())));
        }
        let mut all = Vec::with_capacity(out.len());
        for (outcome, &uid) in out.into_iter().zip(uids) {
            all.push(match outcome {
                Some(outcome) => outcome,
                None => self.make_anew(uid).await,
            });
        }
        all
    }

    fn wanted(&self, uid: Uid, n: usize) -> Result<Wanted, StoreError> {
        let index = self.mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
        let at = index.position(uid).ok_or(StoreError::Expunged)?;
        Ok(Wanted {
            n,
            cache: index.cold(at).cache,
            bytes: index.body_bytes(at),
        })
    }

    /// A digest that is not in the file yet.
    fn waiting(&self, wanted: Wanted) -> Option<Outcome> {
        let entry = {
            let state = self.partition.state.borrow();
            let account = state.accounts.get(&self.account.account)?;
            account.cache.waiting_at(wanted.cache.at)?
        };
        let digest = cache::digest(&entry, wanted.bytes)?;
        Some(Ok(Arc::from(digest)))
    }

    /// Walks the message again, and puts the digest into the cache.
    async fn make_anew(&self, uid: Uid) -> Outcome {
        let Some(row) = self.row(uid) else {
            return Err(StoreError::Expunged);
        };
        let reader = self.body(uid).await?;
        let mut walker = Walker::new(walk_limits());
        let mut hasher = blake3::Hasher::new();
        let mut at = u64::from(row.prefix_bytes);
        while at < reader.len() {
            let piece = reader.read(at..at + PIECE_BYTES).await?;
            at += piece.len() as u64;
            walker.feed(&piece);
            hasher.update(&piece);
            yield_if_needed().await;
        }
        let mut digest = Vec::new();
        walker.finish().encode(&mut digest);
        let mut email_id = [0; 16];
        email_id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.put_digest(uid, &digest, email_id);
        Ok(Arc::from(digest))
    }

    fn put_digest(&self, uid: Uid, digest: &[u8], email_id: [u8; 16]) {
        let owned = &self.shard.owned;
        let known = {
            let index = self.mailbox.index.borrow();
            let found = index.as_ref().and_then(|i| Some((i, i.position(uid)?)));
            found.map(|(index, at)| (*index.cold(at), index.stem(at)))
        };
        // Expunged meanwhile.
        let Some((cold, stem)) = known else { return };
        if cold.email_id != email_id && cold.email_id != repair::provisional_id(&stem) {
            let why = "its content is not what was taken in";
            return repair::note_damaged(owned, &self.mailbox, uid, &stem, why);
        }
        if cold.cache.len > 0 {
            count(&owned.counters.digests_damaged);
            log_event!(
                WARN,
                event::DIGEST_DAMAGED,
                account = %self.account.account,
                mailbox = %self.mailbox.id,
                uid = uid.0
            );
        }
        let account = self.account.account;
        let cache = {
            let mut state = self.partition.state.borrow_mut();
            let Some(of_account) = state.accounts.get_mut(&account) else {
                return;
            };
            of_account.cache.bury(cold.cache.len);
            of_account.cache.push(cold.name, &email_id, digest)
        };
        self.partition.caches.borrow_mut().insert(account);
        self.mailbox.set_cached(uid, cache, email_id);
        self.partition.queue(&self.mailbox);
        self.partition.dirty.set(true);
    }
}
