//! Leaving: the lists for other programs, and what they cannot say.

use std::path::Path;

use super::{account, letter, life, message, soon, target};
use crate::base::UnixMs;
use crate::runtime::{Disk, DiskOp, SimDisk, Step, trace_id, unix_now};
use crate::store::{Flags, KeywordsApart, NewMessage, Store};

const EIO: i32 = 5;
const LIST: &str = "/data/mail/2/2/dovecot-uidlist";

async fn deliver(store: &Store, to: u64, n: u64) {
    let remote = store.remote();
    let letter = message(&remote, &letter(n)).await;
    let to = vec![target(to, "INBOX")];
    let delivered = remote.deliver(letter, to, unix_now(), trace_id(), soon());
    delivered.await.expect("placed");
}

async fn list(disk: &Disk) -> String {
    let bytes = disk.read(Path::new(LIST)).await.expect("a list");
    String::from_utf8(bytes).expect("text")
}

/// Every list was written anew each time: 700 MB for the accounts of a university.
#[test]
fn settling_everything_again_writes_nothing() {
    let sim = SimDisk::new(6);
    let refuse = |sim: &SimDisk, op: DiskOp, paths: &[&'static str]| {
        paths
            .iter()
            .for_each(|path| sim.trouble(op, path, 1_000, EIO));
    };
    let now_sim = sim.clone();
    life(&sim, async move |store: Store| {
        for n in 1..=3 {
            deliver(&store, n, n).await;
        }
        store.settle_all().await.expect("settles");
        store.checkpoint().await.expect("a checkpoint");
        refuse(&now_sim, DiskOp::Write, &["mail/"]);
        // Nor is a list read that is as it was left.
        refuse(
            &now_sim,
            DiskOp::Read,
            &["dovecot-uidlist", "palomar.index"],
        );
        store.settle_all().await.expect("nothing to do");
        now_sim.calm();
        deliver(&store, 2, 4).await;
        store.checkpoint().await.expect("a checkpoint");
        refuse(
            &now_sim,
            DiskOp::Write,
            &["mail/1/1/", "mail/3/3/", "subscriptions"],
        );
        store.settle_all().await.expect("one list");
        now_sim.calm();
        let disk = store.remote().shard().disk.clone();
        let whole = list(&disk).await;
        assert_eq!(whole.lines().count(), 3, "{whole}");
        // What another program made of it is not what we left.
        let step = Step::Replace {
            tmp: Path::new(LIST).with_extension("other"),
            to: Path::new(LIST).to_owned(),
            bytes: whole.replace('P', "p").into_bytes(),
            rest: None,
            pack: None,
            modified: Some(UnixMs(7_000)),
        };
        disk.batch(vec![step]).await.remove(0).expect("written");
        store.settle_all().await.expect("settles");
        assert_eq!(list(&disk).await, whole);
        store.drain(soon()).await.expect("drains");
    });
    // Nor does another process write, which has to read them.
    let now_sim = sim.clone();
    life(&sim, async move |store: Store| {
        refuse(&now_sim, DiskOp::Write, &["mail/"]);
        store.settle_all().await.expect("nothing to do");
        now_sim.calm();
        store.drain(soon()).await.expect("drains");
    });
}

#[test]
fn keywords_beyond_the_letters_are_told() {
    life(&SimDisk::new(7), async |store: Store| {
        let ana = store.remote().account(account(1)).await.expect("opens");
        let inbox = ana.find("INBOX").expect("is there");
        let new = async |keywords: std::ops::Range<u32>| NewMessage {
            message: message(&store.remote(), &letter(1)).await,
            flags: Flags::NONE,
            keywords: keywords.map(|n| format!("k{n}")).collect(),
            internal_date: None,
            trace: None,
        };
        let few = new(0..26).await;
        ana.append(inbox, vec![few]).await.expect("taken");
        assert_eq!(store.settle_all().await, Ok(Vec::new()));
        let more = new(20..29).await;
        ana.append(inbox, vec![more]).await.expect("taken");
        let apart = KeywordsApart {
            account: ana.id(),
            mailbox: "INBOX".to_owned(),
            keywords: 3,
        };
        // Also where nothing has to be written.
        for _ in 0..2 {
            assert_eq!(store.settle_all().await, Ok(vec![apart.clone()]));
        }
        store.drain(soon()).await.expect("drains");
    });
}
