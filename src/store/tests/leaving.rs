//! Mail that leaves: what was acknowledged of an entry is there after any power cut, its body and
//! its notice too, and nothing of it once nobody waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;
use std::rc::Rc;

use super::failures::texts;
use super::{ROOT, Random, config, letter, life, names, recover, run, soon, target, try_message};
use crate::base::{PSeq, PartitionId, ShardId, UnixMs};
use crate::runtime::{Disk, DiskOp, SimDisk, sleep, trace_id};
use crate::store::body::{Accepted, Source};
use crate::store::bytes::Writer;
use crate::store::catalogue::{Found, load};
use crate::store::queue::Entries;
use crate::store::{
    EntryKey, MailClass, NewEntry, Outbound, OutboundRecipient, QueueEntry, RecipientState, Remote,
    Steering, Store, StoreError, Tried, TriedRecipient,
};
use crate::wire::address::{Mailbox, Path as Forward};
use crate::wire::smtp::{BodyKind, MailFrom, RcptTo};

const SEEDS: u64 = 24;
/// Of those in which nearly everything is a checkpoint.
const SEEDS_OFTEN: u64 = 120;
const LIVES: u64 = 4;

pub(super) fn outbound(recipients: u64) -> Outbound {
    let mailbox = |text: &str| Forward::Mailbox(Mailbox::parse(text).expect("parses"));
    let recipient = |n: u64| {
        let rcpt = RcptTo::new(mailbox(&format!("u{n}@example.net")));
        OutboundRecipient::waiting(rcpt, "example.net".into(), UnixMs(0))
    };
    Outbound {
        mail: MailFrom {
            body: BodyKind::EightBit,
            ..MailFrom::new(mailbox("ana@example.org"))
        },
        class: MailClass::Normal,
        submitter: None,
        head: Vec::new(),
        expires: UnixMs(i64::MAX),
        recipients: (0..recipients).map(recipient).collect(),
    }
}

/// What is known of one entry: for each recipient the states that it may be in.
#[derive(Clone)]
struct Known {
    key: EntryKey,
    text: String,
    states: Vec<Vec<&'static str>>,
}

#[derive(Clone, Default)]
struct Ledger {
    entries: Vec<Known>,
    /// Sent without an answer: there, or not.
    in_doubt: Vec<String>,
    /// Notices that are in the sender's mailbox, or on their way to it.
    notices: Vec<String>,
    notices_in_doubt: Vec<String>,
}

fn is_end(word: &str) -> bool {
    !matches!(word, "waiting" | "held")
}

async fn body(remote: &Remote, key: EntryKey) -> String {
    let message = remote.queue_body(key).await.expect("a body");
    let bytes = match &message.body {
        crate::store::Body::Inline(bytes) => bytes.clone(),
        crate::store::Body::Spool(path) => {
            let disk = &remote.shard().disk;
            disk.read(path).await.expect("reads")
        }
        crate::store::Body::InJournal => panic!("no bytes"),
    };
    String::from_utf8(bytes).expect("text")
}

/// What is kept beside the entries says of them what they say themselves.
fn check_derived(store: &Store) {
    let home = store.partition(PartitionId::queue(0));
    let state = home.state.borrow();
    let which = |is: fn(&Accepted) -> bool| {
        let all = state
            .accepted
            .after(&store.shard().layout, Bound::Unbounded);
        let found = all.filter(|(_, a)| is(a));
        found.map(|(pseq, _)| pseq).collect::<BTreeSet<_>>()
    };
    let is_unfiled = |a: &Accepted| matches!(a.source, Source::Journal(_));
    assert_eq!(state.unfiled, which(is_unfiled));
    let is_owed = |a: &Accepted| a.targets.iter().any(Option::is_some);
    assert_eq!(state.owed, which(is_owed));
}

/// What a start would read is what is in memory.
async fn check_disk(store: &Store) {
    let shard = store.shard();
    let home = store.partition(PartitionId::queue(0));
    // A disk that is gone says nothing.
    let Ok(Found::Whole(found)) = load(&shard.disk, &shard.layout, home.id).await else {
        return;
    };
    if !found.is_sound {
        let path = shard.layout.catalogue(home.id);
        assert!(shard.disk.read(&path).await.is_err(), "the disk is there");
        return;
    }
    let state = home.state.borrow();
    if found.state.applied == state.applied {
        assert_eq!(octets_of(&found.state.accepted), octets_of(&state.accepted));
        assert_eq!(found.state.owed, state.owed);
    }
}

pub(super) fn octets_of(entries: &Entries) -> Vec<(PSeq, Vec<u8>)> {
    let one = |pseq| {
        let mut w = Writer::default();
        assert!(entries.encode(&mut w, pseq));
        (pseq, w.out)
    };
    entries.numbers_after(PSeq(0)).map(one).collect()
}

/// A checkpoint, perhaps one that fails half-way: it is made up for by the next one.
async fn checkpoint(
    store: &Store,
    random: &mut Random,
    ledger: &RefCell<Ledger>,
    trips: Option<&SimDisk>,
) -> Result<(), ()> {
    let trips = trips.filter(|_| random.below(3) == 0);
    if let Some(sim) = trips {
        let trip = random.pick(&TRIPS).expect("one of them");
        let errno = random.pick(&[28, 5]).expect("one of them");
        sim.fail(trip.0, trip.1, 1 + random.below(4), errno);
    }
    match store.checkpoint().await {
        Ok(()) => check_disk(store).await,
        Err(_) if trips.is_some() && !store.is_poisoned() => {
            let sim = trips.filter(|_| random.below(2) == 0);
            if let Some(sim) = sim {
                // Power goes in the middle of the one that makes up for it.
                send(&store.remote(), random, ledger).await?;
                sim.stop_after(random.below(40));
                return store.checkpoint().await.map_err(|_| ());
            }
        }
        Err(_) => return Err(()),
    }
    Ok(())
}

/// Where a checkpoint of a long queue may fail.
const TRIPS: [(DiskOp, &str); 7] = [
    (DiskOp::Write, "/queue/"),
    (DiskOp::Write, "/catalogues/"),
    (DiskOp::Write, "/partitions/32768/catalogue"),
    (DiskOp::Rename, "/partitions/32768/"),
    (DiskOp::Rename, "/catalogues/"),
    (DiskOp::Unlink, "/queue/"),
    (DiskOp::Unlink, "/catalogues/"),
];

async fn check(store: &Store, ledger: &Ledger) {
    check_derived(store);
    let remote = store.remote();
    let mut there = Vec::new();
    let mut see = |key, entry: QueueEntry<'_>| {
        let states = entry.outbound.recipients.iter();
        there.push((key, states.map(|r| r.state.word()).collect::<Vec<_>>()));
    };
    remote.queue_entries(&mut see).await;
    for known in &ledger.entries {
        let found = there.iter().position(|(key, _)| *key == known.key);
        let Some(found) = found else {
            let may_be_gone = known.states.iter().all(|s| s.iter().any(|w| is_end(w)));
            assert!(may_be_gone, "{:?} is lost: {:?}", known.key, known.states);
            continue;
        };
        let (key, states) = there.swap_remove(found);
        assert!(!states.iter().all(|word| is_end(word)), "{key:?} stays");
        for (state, allowed) in states.iter().zip(&known.states) {
            assert!(allowed.contains(state), "{key:?}: {state}, not {allowed:?}");
        }
        assert_eq!(body(&remote, key).await, known.text);
    }
    for (key, _) in there {
        let text = body(&remote, key).await;
        assert!(ledger.in_doubt.contains(&text), "{key:?}: nobody sent it");
    }
}

/// One thing is done. `Err`: the disk is gone, and the ledger knows what is in doubt.
async fn step(
    store: &Store,
    random: &mut Random,
    ledger: &RefCell<Ledger>,
    trips: Option<&SimDisk>,
) -> Result<(), ()> {
    let remote = store.remote();
    if trips.is_some() && random.below(3) == 0 {
        return checkpoint(store, random, ledger, trips).await;
    }
    let open: Vec<usize> = {
        let ledger = ledger.borrow();
        let is_open = |k: &Known| k.states.iter().any(|s| s.iter().any(|w| !is_end(w)));
        let open = ledger.entries.iter().enumerate();
        open.filter(|(_, k)| is_open(k)).map(|(n, _)| n).collect()
    };
    match (random.below(6), random.pick(&open)) {
        (0, _) => checkpoint(store, random, ledger, None).await,
        (1 | 2, Some(n)) => try_one(&remote, random, ledger, n).await,
        (3, Some(n)) => steer_one(&remote, random, ledger, n).await,
        _ => send(&remote, random, ledger).await,
    }
}

async fn send(remote: &Remote, random: &mut Random, ledger: &RefCell<Ledger>) -> Result<(), ()> {
    let mut text = letter(random.below(1 << 40));
    if random.below(8) == 0 {
        text.push_str(&"0123456789abcdef\r\n".repeat(16_000));
    }
    let recipients = 1 + random.below(3);
    let targets = match random.below(3) {
        0 => vec![target(1, "INBOX")],
        _ => Vec::new(),
    };
    let message = try_message(remote, &text).await.map_err(|_| ())?;
    let outbound = Some(Box::new(outbound(recipients)));
    match remote
        .send(message, targets, outbound, trace_id(), soon())
        .await
    {
        Ok(key) => ledger.borrow_mut().entries.push(Known {
            key,
            text,
            states: vec![vec!["waiting"]; recipients as usize],
        }),
        Err(_) => {
            ledger.borrow_mut().in_doubt.push(text);
            return Err(());
        }
    }
    Ok(())
}

async fn try_one(
    remote: &Remote,
    random: &mut Random,
    ledger: &RefCell<Ledger>,
    n: usize,
) -> Result<(), ()> {
    let (key, count) = {
        let ledger = ledger.borrow();
        (ledger.entries[n].key, ledger.entries[n].states.len())
    };
    let mut results = Vec::new();
    for ordinal in 0..count as u16 {
        let state = match random.below(4) {
            0 => RecipientState::Delivered,
            1 => RecipientState::Failed,
            2 => RecipientState::Waiting { due: UnixMs(9) },
            _ => continue,
        };
        results.push(TriedRecipient {
            ordinal,
            state,
            status: "4.0.0".into(),
            reply: "450 later".into(),
        });
    }
    let fails = results.iter().any(|r| r.state == RecipientState::Failed);
    let mut told = None;
    if fails {
        let text = letter(random.below(1 << 40));
        let message = try_message(remote, &text).await.map_err(|_| ())?;
        told = Some((text, message));
    }
    let notice = told.as_ref().map(|(_, message)| NewEntry {
        message: message.clone(),
        trace: trace_id(),
        targets: vec![target(2, "INBOX")],
        outbound: None,
    });
    let tried = Tried {
        at: UnixMs(5),
        hop: "mx.example.net".into(),
        results: results.clone(),
    };
    let is_there = remote.queue_entry(key, |_| ()).is_some();
    let done = remote.queue_tried(key, tried, notice).await;
    let ledger = &mut *ledger.borrow_mut();
    for result in results {
        let allowed = &mut ledger.entries[n].states[usize::from(result.ordinal)];
        put(allowed, result.state.word(), done.is_ok());
    }
    if let Some((text, _)) = told {
        match done.is_ok() {
            true => ledger.notices.push(text),
            false => ledger.notices_in_doubt.push(text),
        }
    }
    assert!(is_there || ledger.entries[n].states.iter().flatten().any(|w| is_end(w)));
    done.map_err(|_| ())
}

/// A recipient without an end gets a state. What is held stays so where it is only put off.
fn put(allowed: &mut Vec<&'static str>, word: &'static str, is_known: bool) {
    let next = |before: &&'static str| match (*before, word) {
        (before, _) if is_end(before) => before,
        ("held", "waiting") => "held",
        _ => word,
    };
    let after: Vec<_> = allowed.iter().map(next).collect();
    if is_known {
        allowed.clear();
    }
    allowed.extend(after);
}

async fn steer_one(
    remote: &Remote,
    random: &mut Random,
    ledger: &RefCell<Ledger>,
    n: usize,
) -> Result<(), ()> {
    let key = ledger.borrow().entries[n].key;
    let (steering, word) = match random.below(4) {
        0 => (Steering::Hold, Some("held")),
        1 => (Steering::Due(UnixMs(77)), Some("waiting")),
        2 => (Steering::Reroute(format!("r{n}.example:25")), None),
        _ => (Steering::Remove, Some("removed")),
    };
    let done = remote.queue_steer(key, vec![0], steering, None).await;
    let ledger = &mut *ledger.borrow_mut();
    let allowed = &mut ledger.entries[n].states[0];
    let next = |before: &&'static str| match word {
        Some(word) if !is_end(before) => word,
        _ => *before,
    };
    let after: Vec<_> = allowed.iter().map(next).collect();
    if done.is_ok() {
        allowed.clear();
    }
    allowed.extend(after);
    done.map_err(|_: StoreError| ())
}

/// Answers how many generations of the log there were.
fn story(seed: u64, is_often: bool) -> u64 {
    println!("seed {seed}, often: {is_often}");
    let generations = Rc::new(Cell::new(0));
    let mut random = Random(seed);
    let mut sim = SimDisk::new(seed);
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    for _ in 0..LIVES {
        let disk = Disk::sim(sim.clone());
        let (at, known) = (sim.clone(), ledger.clone());
        let count = generations.clone();
        let mut own = Random(random.below(u64::MAX));
        run(async move {
            let recovered = recover(&disk, 1).await;
            let store = Store::open(ShardId(0), &recovered, disk).await;
            let store = store.expect("opens");
            let so_far = known.borrow().clone();
            check(&store, &so_far).await;
            at.stop_after(100 + own.below(500));
            let trips = is_often.then_some(&at);
            while step(&store, &mut own, &known, trips).await.is_ok() {
                check_derived(&store);
            }
            let home = store.partition(PartitionId::queue(0));
            count.set(home.state.borrow().accepted.log.named().generation);
        });
        sim = sim.power_cut(random.below(u64::MAX));
    }
    let known = ledger.clone();
    life(&sim.clone(), |store| async move {
        let so_far = known.borrow().clone();
        check(&store, &so_far).await;
        let (sure, doubt) = {
            let ledger = known.borrow();
            (ledger.notices.clone(), ledger.notices_in_doubt.clone())
        };
        let mut there = Vec::new();
        for _ in 0..2_000 {
            there = texts(&store, 2, "INBOX").await;
            if sure.iter().all(|text| there.contains(text)) {
                break;
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
        for text in &sure {
            let count = there.iter().filter(|t| *t == text).count();
            assert_eq!(count, 1, "a notice");
        }
        let is_known = |t: &String| sure.contains(t) || doubt.contains(t);
        assert!(there.iter().all(is_known), "a notice that nobody sent");
        // Everybody gets an end; then nothing is left.
        let remote = store.remote();
        let mut keys = Vec::new();
        let mut see = |key, entry: QueueEntry<'_>| {
            keys.push((key, entry.outbound.recipients.len() as u16));
        };
        remote.queue_entries(&mut see).await;
        for (key, count) in keys {
            let steered = remote.queue_steer(key, (0..count).collect(), Steering::Remove, None);
            steered.await.expect("on record");
        }
        // Owners here may not have their copies yet.
        let mut left = Vec::new();
        for _ in 0..2_000 {
            left.clear();
            let mut see = |key, _: QueueEntry<'_>| left.push(key);
            remote.queue_entries(&mut see).await;
            if left.is_empty() {
                break;
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(left, [], "left");
        for _ in 0..2 {
            store.checkpoint().await.expect("a checkpoint");
        }
    });
    run(async move {
        let disk = Disk::sim(sim);
        let recovered = recover(&disk, 1).await;
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        store
            .expect("opens")
            .checkpoint()
            .await
            .expect("a checkpoint");
        let spool = names(&disk, &Path::new(ROOT).join("spool")).await;
        assert_eq!(spool, [""; 0], "spool files");
        let queue = Path::new(ROOT).join("partitions/32768");
        let bodies = names(&disk, &queue).await;
        let is_body = |name: &&String| name.starts_with("queue-");
        assert_eq!(bodies.iter().filter(is_body).count(), 0, "{bodies:?}");
        let logs = names(&disk, &Path::new(ROOT).join("queue")).await;
        assert_eq!(logs, [""; 0], "logs of a queue that is empty");
        let copies = names(&disk, &Path::new(ROOT).join("catalogues")).await;
        let is_log = |name: &&String| name.contains("queue");
        assert_eq!(copies.iter().filter(is_log).count(), 0, "{copies:?}");
    });
    generations.get()
}

#[test]
fn nothing_of_it_is_lost_wherever_power_goes() {
    for seed in 0..SEEDS {
        story(seed, false);
    }
}

/// The same of checkpoints that are cut off, or fail, at every step of a log.
#[test]
fn nothing_of_a_log_is_lost_wherever_power_goes() {
    let set = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first = set("PALOMAR_FIRST").unwrap_or(1_000);
    let seeds = set("PALOMAR_SEEDS").unwrap_or(SEEDS_OFTEN);
    let generations: u64 = (first..first + seeds).map(|seed| story(seed, true)).sum();
    assert!(generations > 3 * seeds, "{generations} generations");
}

/// What waits elsewhere for days does not make owners here remember what they have.
#[test]
fn who_waits_elsewhere_holds_up_no_marks() {
    life(&SimDisk::new(3), |store| async move {
        let remote = store.remote();
        let message = try_message(&remote, &letter(1)).await.expect("a message");
        let waits = Some(Box::new(outbound(1)));
        let sent = remote.send(message, Vec::new(), waits, trace_id(), soon());
        let key = sent.await.expect("sent");
        let home = store.partition(key.partition);
        assert!(home.state.borrow().low_water() > key.pseq);
        assert!(config(1).partitions > 0);
        let changes = remote.queue_changes().await;
        assert_eq!(changes, [key]);
    });
}
