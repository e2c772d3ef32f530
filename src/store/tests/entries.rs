//! The log of a long queue: what it costs, what damage does to it, and what was there before it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::damage::{Harm, harm};
use super::formats::{P1, catalogue, kept, layout, told_entries};
use super::leaving::{octets_of, outbound};
use super::{ROOT, Random, config, letter, life, names, run, soon, try_message};
use crate::base::{PSeq, PartitionId, ShardId};
use crate::runtime::{Disk, SimDisk, block_on, trace_id};
use crate::store::catalogue::{Found, load};
use crate::store::partition::Partition;
use crate::store::queue::{QueueBounds, Read, places, read, write_ahead};
use crate::store::{
    EntryKey, FindingKind, RecipientState, ScrubOrder, StartError, Steering, Store,
};

const HOME: PartitionId = PartitionId(PartitionId::QUEUE_FIRST);
/// Every queue has a log.
const ALWAYS: QueueBounds = QueueBounds {
    inline_bytes_max: 0,
    dead_bytes_min: 0,
};

/// Messages for elsewhere.
async fn send(store: &Store, count: u64) -> Vec<EntryKey> {
    let remote = store.remote();
    let mut keys = Vec::new();
    for n in 0..count {
        let message = try_message(&remote, &letter(n)).await.expect("a message");
        let waits = Some(Box::new(outbound(1)));
        let sent = remote.send(message, Vec::new(), waits, trace_id(), soon());
        keys.push(sent.await.expect("sent"));
    }
    keys
}

fn told(store: &Store) -> Vec<(PSeq, Vec<u8>)> {
    octets_of(&store.partition(HOME).state.borrow().accepted)
}

async fn len(disk: &Disk, path: &str) -> u64 {
    disk.file_len(&Path::new(ROOT).join(path))
        .await
        .unwrap_or(0)
}

#[test]
fn a_log_of_version_1() {
    let today = || {
        run(async {
            let disk = Disk::sim(SimDisk::new(1));
            for dir in ["queue", "catalogues"] {
                let dir = Path::new(ROOT).join(dir);
                disk.create_dir_all(&dir).await.expect("a directory");
            }
            let partition = Partition::new(P1, catalogue(5));
            let ahead = write_ahead(&disk, &layout(), &partition, (ALWAYS, true)).await;
            let mut ahead = ahead.expect("is written");
            partition
                .state
                .borrow_mut()
                .accepted
                .remove(&layout(), PSeq(39));
            crate::store::queue::end(&mut partition.state.borrow_mut().accepted, &mut ahead);
            ahead.write(&disk, &layout(), P1).await.expect("is written");
            let written = disk.read(&places(&layout(), P1, 1)[0]).await;
            written.expect("reads")
        })
    };
    let bytes = kept("queue-log-#", 1, today);
    let found = run(async move {
        let disk = Disk::sim(SimDisk::new(1));
        for path in places(&layout(), P1, 1) {
            let dir = path.parent().expect("has one");
            disk.create_dir_all(dir).await.expect("a directory");
            disk.write_new(&path, bytes.clone()).await.expect("written");
        }
        let named = crate::store::queue::Named {
            generation: 1,
            end: bytes.len() as u64,
            crc: crate::base::crc32c(&bytes),
            entries: 2,
        };
        let read = read(&disk, &layout(), P1, named).await.expect("reads");
        let Read::Whole(entries, damaged) = read else {
            panic!("is lost");
        };
        assert!(damaged.is_empty(), "{damaged:?}");
        told_entries(&entries)
    });
    let mut known = catalogue(5).accepted;
    known.remove(&layout(), PSeq(39));
    assert_eq!(found, told_entries(&known));
}

/// What a catalogue of version 4 has in it stands in a log after the next checkpoint.
#[test]
fn entries_of_catalogues_of_version_4_get_a_log() {
    let sim = SimDisk::new(1);
    let bytes = kept("catalogue-#", 4, || panic!("is kept"));
    let disk = Disk::sim(sim.clone());
    run(async move {
        for path in ["partitions/1/catalogue", "catalogues/1"] {
            let path = Path::new(ROOT).join(path);
            let dir = path.parent().expect("has one");
            disk.create_dir_all(dir).await.expect("a directory");
            disk.write_new(&path, bytes.clone()).await.expect("written");
        }
        disk.syncfs().await.expect("syncs");
    });
    let known = told_entries(&catalogue(4).accepted);
    let same = known.clone();
    life(&sim, move |store| async move {
        let partition = store.partition(P1);
        let before = told_entries(&partition.state.borrow().accepted);
        assert_eq!(before, same);
        assert!(!partition.state.borrow().accepted.log.named().is_there());
        partition.dirty.set(true);
        store.checkpoint().await.expect("a checkpoint");
        assert!(partition.state.borrow().accepted.log.named().is_there());
    });
    life(&sim.power_cut(1), move |store| async move {
        let partition = store.partition(P1);
        assert!(partition.state.borrow().accepted.log.named().is_there());
        assert_eq!(told_entries(&partition.state.borrow().accepted), known);
        assert_eq!(partition.state.borrow().owed.len(), 2);
    });
}

/// A short queue has no file of its own. A long one is written once, then what changes, and once
/// it is short again its log is gone.
#[test]
fn a_checkpoint_costs_what_changed() {
    let sim = SimDisk::new(2);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        let logs = || async { names(&disk, &Path::new(ROOT).join("queue")).await };
        let mut keys = send(&store, 1).await;
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(logs().await, [""; 0]);
        keys.extend(send(&store, 400).await);
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(logs().await, ["32768.1"]);
        let whole = len(&disk, "queue/32768.1").await;
        assert_eq!(len(&disk, "catalogues/32768.queue.1").await, whole);
        let catalogue = len(&disk, "partitions/32768/catalogue").await;
        assert!(whole > 401 * 100 && catalogue < 300, "{whole}, {catalogue}");
        let remote = store.remote();
        let steer = |key| remote.queue_steer(key, vec![0], Steering::Hold, None);
        steer(keys[7]).await.expect("on record");
        store.checkpoint().await.expect("a checkpoint");
        let grown = len(&disk, "queue/32768.1").await - whole;
        assert!(grown > 0 && grown <= 512, "{grown}");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(len(&disk, "queue/32768.1").await, whole + grown);
        // Worn: most of it is of entries that changed since.
        for key in &keys {
            steer(*key).await.expect("on record");
        }
        for key in &keys {
            steer(*key).await.expect("on record");
            if key.pseq.0.is_multiple_of(100) {
                store.checkpoint().await.expect("a checkpoint");
            }
        }
        for key in &keys[1..] {
            let gone = remote.queue_steer(*key, vec![0], Steering::Remove, None);
            gone.await.expect("on record");
            if key.pseq.0.is_multiple_of(50) {
                store.checkpoint().await.expect("a checkpoint");
                assert_eq!(logs().await.len(), 1);
            }
        }
        let named = store.partition(HOME).state.borrow().accepted.log.named();
        assert!(named.generation > 2, "{named:?}");
        store.checkpoint().await.expect("a checkpoint");
        assert_eq!(logs().await, [""; 0]);
        assert_eq!(told(&store).len(), 1);
    });
}

/// Of a log both copies are harmed, and not at the same place: nothing is lost of it.
fn harmed(seed: u64) {
    let sim = SimDisk::new(seed);
    let known = Rc::new(RefCell::new(Vec::new()));
    let keep = known.clone();
    life(&sim, move |store| async move {
        let keys = send(&store, 60).await;
        store.checkpoint().await.expect("a checkpoint");
        let remote = store.remote();
        for key in keys.iter().skip(seed as usize % 7).step_by(7) {
            let held = remote.queue_steer(*key, vec![0], Steering::Hold, None);
            held.await.expect("on record");
        }
        store.checkpoint().await.expect("a checkpoint");
        *keep.borrow_mut() = told(&store);
    });
    let sim = sim.power_off(seed);
    let disk = Disk::sim(sim.clone());
    let is_lost = block_on(async move {
        let mut random = Random(seed);
        let copies = places(&layout(), HOME, 1);
        let mut at = Vec::new();
        let how = [Harm::Flip, Harm::Sector, Harm::Gone][random.below(3) as usize];
        let both = !matches!(how, Harm::Gone) && random.below(2) == 0;
        let whole = disk.read(&copies[0]).await.expect("reads");
        for copy in copies.iter().take(1 + usize::from(both)) {
            harm(&disk, copy, how, &mut random).await;
            let harmed = disk.read(copy).await.unwrap_or_default();
            let is_other = |(a, b): (&u8, &u8)| a != b;
            let places = harmed.iter().zip(&whole).map(is_other).enumerate();
            let places: Vec<usize> = places.filter(|(_, is)| *is).map(|(n, _)| n).collect();
            at.push((places.first().copied(), places.last().copied()));
        }
        disk.syncfs().await.expect("the damage lasts");
        // A frame is less than 512 octets here.
        both && at[0].0 < at[1].1.map(|n| n + 512) && at[1].0 < at[0].1.map(|n| n + 512)
    })
    .expect("runs");
    let known = known.take();
    for life_number in 0..2 {
        let (sim, known) = (sim.clone(), known.clone());
        let disk = Disk::sim(sim);
        let is_served = run(async move {
            let recovered = match Store::recover_all(config(1), &disk).await {
                Err(StartError::Catalogue { .. }) if is_lost => return false,
                recovered => recovered.unwrap_or_else(|why| panic!("seed {seed}: {why}")),
            };
            let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
            let store = store.expect("opens");
            assert_eq!(told(&store), known, "seed {seed}");
            let met = store.stats().catalogues_damaged;
            assert_eq!(met > 0, life_number == 0, "seed {seed}, life {life_number}");
            let found = load(&disk, &layout(), HOME).await.expect("reads");
            assert!(matches!(found, Found::Whole(found) if found.is_sound));
            true
        });
        if !is_served {
            return;
        }
    }
}

#[test]
fn a_damaged_log_is_read_with_its_copy() {
    (0..60).for_each(harmed);
}

/// The server goes on: what is in memory is written anew.
#[test]
fn a_log_that_rots_is_found_by_the_scrub() {
    let sim = SimDisk::new(3);
    let disk = Disk::sim(sim.clone());
    life(&sim, |store| async move {
        send(&store, 60).await;
        store.checkpoint().await.expect("a checkpoint");
        let known = told(&store);
        for copy in places(&layout(), HOME, 1) {
            harm(&disk, &copy, Harm::Sector, &mut Random(3)).await;
        }
        let order = ScrubOrder {
            account: None,
            rate: 0,
        };
        store.scrub(order).await.expect("scrubs");
        let findings = store.scrub_status().findings;
        let kinds = findings.iter().map(|finding| finding.kind);
        let mended = kinds.filter(|kind| *kind == FindingKind::CatalogueMended);
        assert_eq!(mended.count(), 2, "{findings:?}");
        let Ok(Found::Whole(found)) = load(&disk, &layout(), HOME).await else {
            panic!("is not mended");
        };
        assert!(found.is_sound);
        assert_eq!(found.state.accepted.log.named().generation, 2);
        assert_eq!(octets_of(&found.state.accepted), known);
        let is_waiting = |state| matches!(state, RecipientState::Waiting { .. });
        let mut see = |_, entry: crate::store::QueueEntry<'_>| {
            assert!(is_waiting(entry.outbound.recipients[0].state));
        };
        store.remote().queue_entries(&mut see).await;
    });
}
