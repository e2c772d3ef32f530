//! Messages for several owners: they go through the outbox and arrive some time, once each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Life, Numbers, Random};
use crate::runtime::{trace_id, unix_now};
use crate::store::tests::{soon, target};
use crate::store::{Delivered, StoreError};

/// What is on its way: owner, text with its prefix, and whether it was acknowledged.
#[derive(Default)]
pub(super) struct Post {
    on_its_way: BTreeMap<(u64, Rc<str>), bool>,
}

impl Post {
    pub fn is_on_its_way(&self, owner: u64, text: &Rc<str>) -> bool {
        self.on_its_way.contains_key(&(owner, text.clone()))
    }

    pub fn arrived(&mut self, owner: u64, text: &Rc<str>) -> bool {
        self.on_its_way.remove(&(owner, text.clone())).is_some()
    }

    pub fn is_any_on_its_way(&self, owner: u64) -> bool {
        self.on_its_way.keys().any(|(to, _)| *to == owner)
    }

    /// The outbox is empty: nothing that was acknowledged may be missing, but for the `purged`.
    pub fn settle(&mut self, purged: &[u64]) {
        self.on_its_way.retain(|(owner, text), acknowledged| {
            let is_lost = *acknowledged && !purged.contains(owner);
            assert!(!is_lost, "never came to {owner}: {text:.60}");
            // Its sender was told nothing, and it is not there: it will never be.
            false
        });
    }
}

/// Sends to several owners.
pub(super) struct Postman {
    pub random: Random,
    pub owners: Vec<u64>,
    pub numbers: Numbers,
    pub post: Rc<RefCell<Post>>,
}

impl Postman {
    pub async fn work(&mut self, life: &Life, letters: u64) {
        for _ in 0..letters {
            if self.send(life).await.is_err() {
                return;
            }
        }
    }

    async fn send(&mut self, life: &Life) -> Result<(), StoreError> {
        let text = self.numbers.text(&mut self.random, life);
        let remote = life.any(&mut self.random).remote();
        let message = life.message(&mut self.random, &remote, &text).await?;
        let owners: Vec<u64> = match self.random.below(3) {
            0 => self.owners.clone(),
            _ => self
                .owners
                .iter()
                .copied()
                .filter(|_| self.random.below(3) > 0)
                .collect(),
        };
        let targets: Vec<_> = owners.iter().map(|owner| target(*owner, "INBOX")).collect();
        let keys: Vec<_> = targets
            .iter()
            .map(|to| {
                let text = format!("{}{text}", String::from_utf8_lossy(&to.prefix));
                (to.account.account.0, Rc::from(text))
            })
            .collect();
        let intents = keys.iter().map(|key| (key.clone(), false));
        self.post.borrow_mut().on_its_way.extend(intents);
        let sent = remote
            .deliver(message, targets, unix_now(), trace_id(), soon())
            .await;
        let mut post = self.post.borrow_mut();
        match sent {
            Ok(Delivered::Queued | Delivered::Placed(_)) => {
                for key in keys {
                    // It may have arrived before its sender was told.
                    post.on_its_way
                        .entry(key)
                        .and_modify(|acknowledged| *acknowledged = true);
                }
                Ok(())
            }
            Err(StoreError::Full | StoreError::Busy | StoreError::MailboxGone) => {
                for key in keys {
                    post.on_its_way.remove(&key);
                }
                Ok(())
            }
            Err(why) => Err(why),
        }
    }
}
