//! Who still reads a slot keeps it, up to a bound.

use super::*;
use crate::store::journal::{LostPlace, Position};

/// Fills about a slot with records after `pseq`; everything is settled. Answers the last pseq.
async fn fill_slot(journal: &Journal, sink: &Rc<Sink>, mut pseq: u64) -> u64 {
    let slot = journal.position().slot;
    while journal.position().slot == slot {
        pseq += 1;
        put(journal, record(1, Epoch(1), pseq, 9_000))
            .await
            .expect("room");
        sink.applied.borrow_mut().clear();
        journal.release_below(journal.position());
    }
    pseq
}

#[test]
fn a_slot_waits_for_every_reader() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(11));
        let cfg = JournalConfig {
            slots_max: 8,
            reader_slots_max: 3,
            ..config(1)
        };
        let (journal, sink) = begin(&cfg, &disk, 0).await;
        let mut pseq = fill_slot(&journal, &sink, 0).await;
        let (near, far) = (journal.reader("near"), journal.reader("far"));
        let begin = journal.position();
        assert_eq!((near.position(), far.position()), (begin, begin));
        let recycled = journal.stats().slots_recycled;
        for _ in 0..2 {
            pseq = fill_slot(&journal, &sink, pseq).await;
            near.advance(journal.position()).expect("in its place");
        }
        journal.drain(until()).await.expect("drains");
        // What stands before both readers may go, what stands before one may not.
        assert!(journal.stats().slots_recycled <= recycled + 1);
        assert!(journal.fill_permille() > journal.unreleased_permille());
        let behind: Vec<_> = journal.readers().iter().map(|r| r.behind_bytes).collect();
        assert!(behind[0] < behind[1], "{behind:?}");
        let held = journal.stats().slots_recycled;
        far.advance(journal.position()).expect("in its place");
        assert!(journal.stats().slots_recycled > held, "nobody needs them");

        for _ in 0..5 {
            pseq = fill_slot(&journal, &sink, pseq).await;
            near.advance(journal.position()).expect("in its place");
        }
        assert!(far.is_lost() && !near.is_lost());
        assert_eq!(far.advance(journal.position()), Err(LostPlace));
        assert_eq!(journal.stats().readers_lost, 1);
        let before = journal.stats().slots_recycled;
        let stays = near.position();
        pseq = fill_slot(&journal, &sink, pseq).await;
        fill_slot(&journal, &sink, pseq).await;
        drop(near);
        assert!(
            journal.stats().slots_recycled > before,
            "dropped at {stays:?}"
        );
        drop(far);
        assert_eq!(journal.readers(), []);
    })
    .expect("an executor");
}

#[test]
fn marks_only_rise() {
    block_on(async {
        let disk = Disk::sim(SimDisk::new(12));
        let (journal, sink) = begin(&config(1), &disk, 0).await;
        let reader = journal.reader("one");
        fill_slot(&journal, &sink, 0).await;
        let end = journal.position();
        reader.advance(end).expect("in its place");
        reader.advance(Position::default()).expect("in its place");
        assert_eq!(reader.position(), end);
    })
    .expect("an executor");
}
