//! Messages from elsewhere, asked for from another shard than the owner's.

use super::{account, config, letter, message};
use crate::base::{ShardId, Uid, UnixMs};
use crate::runtime::{Disk, SimDisk, block_on};
use crate::store::{Flags, NewMessage, Store, StoreError};

async fn stores(disk: &Disk) -> Vec<Store> {
    let recovered = Store::recover_all(config(2), disk).await.expect("recovers");
    let mut all = Vec::new();
    for shard in 0..2 {
        let store = Store::open(ShardId(shard), &recovered, disk.clone()).await;
        all.push(store.expect("opens"));
    }
    all
}

async fn new(store: &Store, text: &str) -> NewMessage {
    NewMessage {
        message: message(&store.remote(), text).await,
        flags: Flags::SEEN,
        keywords: vec!["Work".to_owned()],
        internal_date: Some(UnixMs(1_000)),
        trace: None,
    }
}

#[test]
fn batches_come_in_over_shards() {
    let disk = Disk::sim(SimDisk::new(31));
    block_on(async move {
        let all = stores(&disk).await;
        let remote = all[0].remote();
        // Partitions 0 and 1 have different owners.
        for owner in [4, 1] {
            let to = account(owner);
            let none = remote.rows(to, "Old/Mail".to_owned(), Uid(0)).await;
            assert_eq!(none.expect("answers"), []);
            let large = format!("{}{}", letter(2), "x".repeat(300_000));
            let batch = vec![new(&all[0], &letter(1)).await, new(&all[0], &large).await];
            let appended = remote.append(to, "Old/Mail".to_owned(), batch).await;
            assert_eq!(appended.expect("appended").uids, [Uid(1), Uid(2)]);
            let rows = remote
                .rows(to, "Old/Mail".to_owned(), Uid(0))
                .await
                .expect("rows");
            assert_eq!(rows.len(), 2);
            assert_eq!(&*rows[1].keywords[0], "Work");
            assert_eq!(
                (rows[1].flags, rows[1].internal_date),
                (Flags::SEEN, UnixMs(1_000))
            );
            assert_eq!(
                rows[0].email_id,
                blake3::hash(letter(1).as_bytes()).as_bytes()[..16]
            );
            let last = remote
                .rows(to, "Old/Mail".to_owned(), Uid(1))
                .await
                .expect("rows");
            assert_eq!(last, rows[1..]);
            let made = remote.make_mailbox(to, "Empty".to_owned(), true).await;
            assert_eq!(made, Ok(()));
            let bad = remote.make_mailbox(to, "a*".to_owned(), true).await;
            assert_eq!(bad, Err(StoreError::BadName));
        }
    })
    .expect("the executor runs");
}
