//! What was restored already: a value of the account for each mailbox it was restored from.

use std::collections::BTreeMap;

use crate::base::{AccountId, MailboxId, Uid};
use crate::store::Op;
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::partition::Partition;

const NAMESPACE: &str = "undelete";

/// Runs of UIDs, ascending, by the mailbox that they were removed from. UID 0 is the mailbox.
#[derive(Default)]
pub(super) struct Marks {
    of: BTreeMap<MailboxId, Vec<(u32, u32)>>,
}

impl Marks {
    pub fn load(partition: &Partition, account: AccountId) -> Marks {
        let state = partition.state.borrow();
        let mut marks = Marks::default();
        let Some(of_account) = state.accounts.get(&account) else {
            return marks;
        };
        for ((namespace, key), value) in &of_account.values {
            if namespace == NAMESPACE
                && let Ok((id, runs)) = decode(key, value)
            {
                marks.of.insert(id, runs);
            }
        }
        marks
    }

    pub fn contains(&self, mailbox: MailboxId, uid: Uid) -> bool {
        let Some(runs) = self.of.get(&mailbox) else {
            return false;
        };
        let next = runs.partition_point(|(_, last)| *last < uid.0);
        runs.get(next).is_some_and(|(first, _)| *first <= uid.0)
    }

    pub fn add(&mut self, mailbox: MailboxId, uid: Uid) {
        if self.contains(mailbox, uid) {
            return;
        }
        let runs = self.of.entry(mailbox).or_default();
        let next = runs.partition_point(|(_, last)| *last < uid.0);
        let joins_left = next > 0 && runs[next - 1].1 + 1 == uid.0;
        let joins_right = next < runs.len() && uid.0 + 1 == runs[next].0;
        match (joins_left, joins_right) {
            (true, true) => {
                runs[next - 1].1 = runs[next].1;
                runs.remove(next);
            }
            (true, false) => runs[next - 1].1 = uid.0,
            (false, true) => runs[next].0 = uid.0,
            (false, false) => runs.insert(next, (uid.0, uid.0)),
        }
    }

    /// The record's part that says what is marked of a mailbox.
    pub fn op(&self, account: AccountId, mailbox: MailboxId) -> Op {
        let mut w = Writer::default();
        for (first, last) in self.of.get(&mailbox).into_iter().flatten() {
            w.u32(*first);
            w.u32(*last);
        }
        Op::ValueSet {
            account: Some(account),
            namespace: NAMESPACE.to_owned(),
            key: mailbox.0.to_le_bytes().to_vec(),
            value: Some(w.out),
        }
    }
}

type Runs = Vec<(u32, u32)>;

fn decode(key: &[u8], value: &[u8]) -> Result<(MailboxId, Runs), Malformed> {
    let id = MailboxId(u64::from_le_bytes(key.try_into().map_err(|_| Malformed)?));
    let mut r = Reader::new(value);
    let mut runs = Vec::with_capacity(value.len() / 8);
    while !r.is_empty() {
        runs.push((r.u32()?, r.u32()?));
    }
    Ok((id, runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join() {
        let mut marks = Marks::default();
        let id = MailboxId(3);
        for uid in [5, 7, 6, 1, 6, 9, 0] {
            marks.add(id, Uid(uid));
        }
        assert_eq!(marks.of[&id], [(0, 1), (5, 7), (9, 9)]);
        for uid in 0..12 {
            let want = [0, 1, 5, 6, 7, 9].contains(&uid);
            assert_eq!(marks.contains(id, Uid(uid)), want, "{uid}");
        }
        let Op::ValueSet {
            key,
            value: Some(value),
            ..
        } = marks.op(AccountId(1), id)
        else {
            panic!("a value");
        };
        let back = decode(&key, &value).expect("decodes");
        assert_eq!(back, (id, vec![(0, 1), (5, 7), (9, 9)]));
    }
}
