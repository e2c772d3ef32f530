//! Catalogues: cuts that are consistent while records are applied, copies that take one another's
//! place, and how long either holds the shard.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::damage::{Harm, Truth, check, deliver, fill, harm, truth};
use super::{ROOT, Random, account, life, names, run};
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, PartitionId, Uid, UidValidity};
use crate::runtime::{Disk, SimDisk, Step, block_on, sleep, spawn, yield_if_needed, yield_now};
use crate::store::catalogue::{Catalogue, cut};
use crate::store::mailbox::{Mailbox, Meta, Weight};
use crate::store::maildir::Layout;
use crate::store::partition::Partition;
use crate::store::queue::Writing;
use crate::store::{FindingKind, ScrubOrder, Store, StoreError};

fn layout() -> Layout {
    Layout { root: ROOT.into() }
}

/// What records say, as text that compares. Ends of files are left out: a cut rounds them up.
fn told(state: &Catalogue) -> String {
    let mut text = format!(
        "{:?} {} {} {:?} {:?} {:?}\n",
        state.applied,
        state.uidvalidity_last,
        state.mailbox_last,
        state.values,
        state.origins,
        state.doomed
    );
    for (id, account) in &state.accounts {
        text += &format!(
            "{id:?} {} {} {:?} {:?}\n",
            account.bytes, account.messages, account.subscriptions, account.values
        );
        for (id, mailbox) in &account.mailboxes {
            text += &format!("{id:?} {:?}\n", mailbox.meta.borrow());
        }
    }
    for (pseq, accepted) in state.accepted.after(&layout(), Bound::Unbounded) {
        text += &format!("{pseq:?} {:?} {}\n", accepted.targets, accepted.size);
    }
    text
}

/// Changes of every kind, each noted with what the state was after it.
async fn change(store: &Store, seed: u64, known: &RefCell<BTreeMap<PSeq, String>>) {
    let mut random = Random(seed);
    let remote = store.remote();
    let partition = store.partition(account(1).partition);
    let mut made = 0;
    for n in 0..150 {
        let who = [1, 5][random.below(2) as usize];
        let ana = remote.account(account(who)).await.expect("opens");
        let all = ana.mailboxes();
        let one = all[random.below(all.len() as u64) as usize].name.clone();
        match random.below(8) {
            0 | 1 => {
                made += 1;
                let made = ana.create(&format!("F{made}"), None).await;
                made.expect("creates");
            }
            2 => drop(ana.delete(&one).await),
            3 => drop(ana.rename(&one, &format!("R{n}")).await),
            4 => ana.subscribe(&one, true).await.expect("subscribes"),
            5 => {
                let value = random.below(3) > 0;
                let value = value.then(|| vec![b'v'; random.below(900) as usize]);
                let key = format!("k{}", random.below(200)).into_bytes();
                let change = ("test".to_owned(), key, value);
                ana.set_values(vec![change]).await.expect("sets");
            }
            6 if random.below(5) == 0 => {
                let purged = remote.purge(account(5), super::soon()).await;
                assert!(matches!(purged, Ok(()) | Err(StoreError::MailboxGone)));
                return;
            }
            _ => deliver(store, &[who], &one, n).await,
        }
        let state = partition.state.borrow();
        known.borrow_mut().insert(state.applied, told(&state));
    }
}

/// Whatever happens while it is made, a cut is the state at the record that it names.
#[test]
fn a_cut_is_the_state_at_its_record() {
    let mut compared = 0;
    for seed in 1..=20 {
        let sim = SimDisk::new(seed);
        let same = Rc::new(Cell::new(0));
        let count = same.clone();
        life(&sim, move |store| async move {
            let id = account(1).partition;
            let ana = store.remote().account(account(1)).await.expect("opens");
            for n in 0..100 {
                ana.create(&format!("G{n}"), None).await.expect("creates");
            }
            let known = Rc::new(RefCell::new(BTreeMap::new()));
            let cuts = Rc::new(RefCell::new(Vec::new()));
            let done = Rc::new(Cell::new(false));
            let (partition, keep, end) = (store.partition(id), cuts.clone(), done.clone());
            spawn("cuts", async move {
                while !end.get() {
                    let cut = cut(&partition, Writing::default()).await;
                    keep.borrow_mut().push((cut.at, cut.pieces.concat()));
                    sleep(Duration::from_micros(200)).await;
                }
            });
            change(&store, seed, &known).await;
            done.set(true);
            for (at, bytes) in cuts.take() {
                let found = Catalogue::decode(&bytes, id, &layout());
                let found = found.unwrap_or_else(|_| panic!("seed {seed}: {at} is malformed"));
                assert_eq!(found.applied, at);
                if let Some(known) = known.borrow().get(&at) {
                    assert_eq!(told(&found), *known, "seed {seed}, {at}");
                    count.set(count.get() + 1);
                }
            }
        });
        compared += same.get();
        sim.discard();
    }
    assert!(compared > 200, "only {compared} cuts were compared");
}

/// A partition of one account with many folders.
fn large(folders: u64) -> Rc<Partition> {
    let (id, account) = (PartitionId(1), AccountId(1));
    let mut state = Catalogue::default();
    let of_account = state.accounts.entry(account).or_default();
    for n in 1..=folders {
        let meta = Meta {
            name: format!("Projects/of the year/{n:06}"),
            uidvalidity: UidValidity(1_790_000_000),
            uidnext: Uid(1000),
            highest: ModSeq(1 << 40),
            weight: Weight::default(),
            recent_from: Uid(1000),
            recent: 0,
            special_use: None,
            generation: 1,
        };
        let path = layout().folder(id, account, &meta.name);
        of_account.insert(Mailbox::new(id, account, MailboxId(n), meta, path, 512));
    }
    for n in 0..folders {
        let key = ("directory".to_owned(), format!("user {n:06}").into_bytes());
        state.values.insert(key, [b'u'; 80].as_slice().into());
    }
    Partition::new(id, state)
}

/// Time that this thread had a core for: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// How long any task but this one ran, at most, while `work` was done.
pub(super) async fn longest<T: 'static>(work: impl Future<Output = T> + 'static) -> (T, Duration) {
    let done = Rc::new(RefCell::new(None));
    let result = done.clone();
    spawn("work", async move {
        let outcome = work.await;
        *result.borrow_mut() = Some(outcome);
    });
    let mut longest = Duration::ZERO;
    while done.borrow().is_none() {
        let began = cpu_time();
        yield_now().await;
        longest = longest.max(cpu_time() - began);
    }
    let outcome = done.take().expect("is there");
    (outcome, longest)
}

/// The catalogue of 100,000 folders and 100,000 values is no reason for others to wait. An
/// optimised build has 10 ms of CPU for it, this one ten times that.
#[test]
fn a_large_cut_lets_others_work() {
    let (bytes, stretch, all) = block_on(async {
        let partition = large(100_000);
        yield_if_needed().await;
        let began = cpu_time();
        let (cut, stretch) =
            longest(async move { cut(&partition, Writing::default()).await }).await;
        (cut.pieces.concat().len(), stretch, cpu_time() - began)
    })
    .expect("runs");
    println!("{bytes} octets in {all:?}, at most {stretch:?} without a pause");
    assert!(stretch < Duration::from_millis(100), "{stretch:?}");
    assert!(stretch < all / 4, "{stretch:?} of {all:?}");
}

/// Mail comes, a checkpoint is cut off, and one copy of each catalogue rots: the other one has all.
fn story(seed: u64) -> u64 {
    let sim = SimDisk::new(seed);
    let known = Rc::new(RefCell::new(Truth::new()));
    let (keep, ops) = (known.clone(), sim.clone());
    life(&sim, move |store| async move {
        fill(&store, seed).await;
        *keep.borrow_mut() = truth(&store).await;
        if !seed.is_multiple_of(4) {
            ops.stop_after(Random(seed).below(60));
        }
        let _ = store.checkpoint().await;
    });
    let mut sim = sim.power_off(seed);
    let damaged = Rc::new(RefCell::new(BTreeSet::<PathBuf>::new()));
    let (note, disk) = (damaged.clone(), Disk::sim(sim.clone()));
    block_on(async move {
        let mut random = Random(seed ^ 0xca7);
        for partition in 0..4 {
            let files = [
                format!("{ROOT}/partitions/{partition}/catalogue"),
                format!("{ROOT}/catalogues/{partition}"),
            ];
            let path = PathBuf::from(&files[random.below(2) as usize]);
            let whole = files.iter().map(|f| disk.exists(Path::new(f)));
            let mut there = 0;
            for is_there in whole {
                there += u32::from(is_there.await.expect("looks"));
            }
            if there == 2 {
                let how = [Harm::Flip, Harm::Sector, Harm::Cut];
                let how = how[random.below(3) as usize];
                harm(&disk, &path, how, &mut random).await;
                note.borrow_mut().insert(path);
            }
        }
        disk.syncfs().await.expect("the damage lasts");
    })
    .expect("runs");
    let damaged = damaged.take();
    let known = known.take();
    for life_number in 0..2 {
        let (known, damaged) = (known.clone(), damaged.clone());
        let disk = Disk::sim(sim.clone());
        life(&sim, move |store| async move {
            let met = store.stats().catalogues_damaged;
            let want = if life_number == 0 { damaged.len() } else { 0 };
            assert_eq!(met, want as u64, "seed {seed}, life {life_number}");
            let status = store.scrub_status();
            assert_eq!(status.catalogues.len(), want);
            let aside = names(&disk, &Path::new(ROOT).join("damaged")).await;
            assert_eq!(aside.len(), damaged.len(), "seed {seed}: {aside:?}");
            check(&store, &known, &damaged, seed, life_number).await;
        });
        if seed.is_multiple_of(3) {
            sim = sim.power_off(seed);
        }
    }
    sim.discard();
    damaged.len() as u64
}

#[test]
fn a_damaged_catalogue_goes_on_from_its_copy() {
    if let Ok(seed) = std::env::var("PALOMAR_SEED") {
        story(seed.parse().expect("a number"));
        return;
    }
    let damaged: u64 = (1..=60).map(story).sum();
    assert!(damaged >= 40, "only {damaged} were damaged");
}

/// A catalogue that is gone without a trace is damage too, and an old directory without copies gets
/// them.
#[test]
fn a_catalogue_that_is_gone_is_missed() {
    let sim = SimDisk::new(7);
    life(&sim, |store| async move {
        deliver(&store, &[1], "INBOX", 1).await;
        store.checkpoint().await.expect("a checkpoint");
    });
    let steps: [(&str, u64); 2] = [("partitions/1/catalogue", 1), ("catalogues/1", 0)];
    for (file, met) in steps {
        let disk = Disk::sim(sim.clone());
        let path = Path::new(ROOT).join(file);
        run(async move { disk.unlink(&path).await.expect("unlinks") });
        life(&sim, move |store| async move {
            assert_eq!(store.stats().catalogues_damaged, met, "{file}");
            let ana = store.remote().account(account(1)).await.expect("opens");
            let inbox = ana.find("INBOX").expect("is there");
            assert_eq!(ana.status(inbox).expect("a status").messages, 1);
        });
        let disk = Disk::sim(sim.clone());
        let path = Path::new(ROOT).join(file);
        let is_back = run(async move { disk.exists(&path).await });
        assert!(is_back.expect("looks"), "{file} was not written anew");
    }
}

/// Flips a bit of a file below the data directory.
async fn flip(disk: &Disk, file: &str, at: usize) {
    let path = Path::new(ROOT).join(file);
    let bytes = disk.read(&path).await.expect("is there");
    let step = Step::Append {
        path,
        at: at as u64,
        bytes: vec![bytes[at] ^ 4],
    };
    for done in disk.batch(vec![step]).await {
        done.expect("harmed");
    }
    disk.syncfs().await.expect("the damage lasts");
}

async fn scrubbed(store: &Store) -> Vec<FindingKind> {
    let all = ScrubOrder {
        account: None,
        rate: 0,
    };
    store.scrub(all).await.expect("scrubs");
    let status = store.scrub_status();
    assert!(status.journal_bytes > 0 && status.catalogues_read > 0);
    status.findings.iter().map(|f| f.kind).collect()
}

/// Left alone, this journal would refuse the next start.
#[test]
fn a_rotten_journal_is_mended_while_memory_knows_better() {
    for is_mended in [false, true] {
        let sim = SimDisk::new(11);
        let disk = Disk::sim(sim.clone());
        life(&sim, move |store| async move {
            for n in 1..=20 {
                deliver(&store, &[1], "INBOX", n).await;
            }
            assert_eq!(scrubbed(&store).await, []);
            flip(&disk, "journal/0/slot-0", 4096 + 90).await;
            if !is_mended {
                return;
            }
            assert_eq!(scrubbed(&store).await, [FindingKind::JournalMended]);
            assert_eq!(store.stats().journal_damaged, 1);
            deliver(&store, &[1], "INBOX", 21).await;
            assert_eq!(scrubbed(&store).await, []);
            let kept = names(&disk, &Path::new(ROOT).join("journal/aside")).await;
            assert!(kept.iter().any(|name| name.ends_with(".rot")), "{kept:?}");
        });
        let sim = sim.power_off(11);
        if !is_mended {
            let disk = Disk::sim(sim);
            let refused = run(async move {
                let recovered = Store::recover_all(super::config(1), &disk).await;
                recovered.map(drop)
            });
            assert!(refused.is_err(), "the damage was not where it matters");
            continue;
        }
        life(&sim, |store| async move {
            let ana = store.remote().account(account(1)).await.expect("opens");
            let inbox = ana.find("INBOX").expect("is there");
            assert_eq!(ana.status(inbox).expect("a status").messages, 21);
        });
    }
}

#[test]
fn a_rotten_catalogue_is_found_and_written_anew() {
    let sim = SimDisk::new(12);
    let disk = Disk::sim(sim.clone());
    life(&sim, move |store| async move {
        for n in 1..=3 {
            deliver(&store, &[n], "INBOX", n).await;
        }
        // None was written yet.
        assert_eq!(scrubbed(&store).await, []);
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(scrubbed(&store).await, []);
        flip(&disk, "partitions/1/catalogue", 30).await;
        let gone = Path::new(ROOT).join("catalogues/2");
        disk.unlink(&gone).await.expect("unlinks");
        let mended = [FindingKind::CatalogueMended; 2];
        assert_eq!(scrubbed(&store).await, mended);
        assert_eq!(store.stats().catalogues_damaged, 2);
        assert_eq!(scrubbed(&store).await, []);
    });
    life(&sim.power_off(12), |store| async move {
        assert_eq!(store.stats().catalogues_damaged, 0);
    });
}
