//! Fairness, bounds and pauses, on a clock of the test's own.

use crate::base::{PSeq, PartitionId};
use std::collections::BTreeMap;

use super::*;

const LIMITS: Limits = Limits {
    slots_max: 16,
    waiting_max: 1_000,
    line_max: 100,
    shape: Shape {
        connections_max: 8,
        gap: Duration::ZERO,
    },
    pause: Duration::from_secs(60),
    pause_max: Duration::from_secs(3_600),
};

struct Table {
    desk: Desk,
    now: Instant,
    entries: u64,
    displaced: Vec<Offer>,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Table {
            desk: Desk::new(limits),
            now: Instant::now(),
            entries: 0,
            displaced: Vec::new(),
        }
    }

    fn offer(&mut self, to: &str, class: Class, sender: u64, size: u64) -> Result<u64, Declined> {
        self.entries += 1;
        let entry = EntryKey {
            partition: PartitionId::queue(0),
            pseq: PSeq(self.entries),
        };
        let offer = Offer {
            entry,
            class,
            sender,
            size,
        };
        let displaced = self.desk.offer(&to.into(), offer, self.now)?;
        self.displaced.extend(displaced);
        Ok(self.entries)
    }

    fn offers(&mut self, count: usize, to: &str, class: Class, sender: u64) {
        for _ in 0..count {
            self.offer(to, class, sender, 5_000).expect("there is room");
        }
    }

    fn next(&mut self) -> Option<Turn> {
        self.desk.next(self.now)
    }

    fn all(&mut self) -> Vec<Turn> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn end(&mut self, turn: Turn, health: Health) -> After {
        self.desk.ended(turn, health, self.now)
    }

    /// One after the other, each ended well before the next begins: who is served in which order.
    fn order(&mut self, count: usize) -> Vec<(String, Class, u64)> {
        let mut served = Vec::new();
        while served.len() < count {
            let Some(turn) = self.next() else { break };
            let offer = &turn.offer;
            served.push((turn.destination.to_string(), offer.class, offer.sender));
            self.end(turn, Health::Well);
        }
        served
    }
}

#[test]
fn a_single_message_passes_a_mailshot() {
    let mut table = Table::new(LIMITS);
    table.offers(90, "a.example", Class::Normal, 1);
    table.offers(1, "a.example", Class::Normal, 2);
    let order = table.order(4);
    let place = order.iter().position(|(_, _, sender)| *sender == 2);
    assert!(place.is_some_and(|place| place <= 2), "{order:?}");
}

#[test]
fn senders_share_octets_not_messages() {
    let mut table = Table::new(LIMITS);
    for _ in 0..5 {
        table
            .offer("a.example", Class::Normal, 1, 100_000)
            .expect("room");
    }
    for _ in 0..50 {
        table
            .offer("a.example", Class::Normal, 2, 10_000)
            .expect("room");
    }
    let order = table.order(22);
    let large = order.iter().filter(|(_, _, sender)| *sender == 1).count();
    assert_eq!(large, 2, "{order:?}");
}

#[test]
fn classes_have_their_weights() {
    let mut table = Table::new(LIMITS);
    for class in [Class::Bulk, Class::Normal, Class::Notice] {
        for n in 0..30 {
            table.offers(1, &format!("{n}.example"), class, 1);
        }
    }
    let mut served = BTreeMap::new();
    for (_, class, _) in table.order(26) {
        *served.entry(class as usize).or_insert(0) += 1;
    }
    assert_eq!(served, BTreeMap::from([(0, 16), (1, 8), (2, 2)]));
}

#[test]
fn a_slow_destination_holds_its_own_slots_alone() {
    let mut table = Table::new(LIMITS);
    table.offers(100, "slow.example", Class::Normal, 1);
    let slow = table.all();
    assert_eq!(slow.len(), 2, "a window begins small");
    table.offers(5, "fast.example", Class::Normal, 1);
    assert_eq!(table.order(100).len(), 5, "the others are served");
    assert_eq!(table.desk.waiting(), 98);
    for turn in slow {
        table.end(turn, Health::Well);
    }
    assert_eq!(table.desk.busy(), 0);
}

#[test]
fn who_is_not_there_keeps_nobody_from_the_rest() {
    let mut table = Table::new(LIMITS);
    for n in 0..share(1, LIMITS.slots_max) as u64 {
        let to = format!("hole{n}.example");
        table.offer(&to, Class::Normal, n, 1).expect("room");
    }
    let mut turns: Vec<Turn> = std::iter::from_fn(|| table.next()).collect();
    table
        .offer("a.example", Class::Normal, 99, 1)
        .expect("room");
    assert!(table.next().is_none());
    assert!(table.desk.lend(&mut turns[0]) && !table.desk.lend(&mut turns[0]));
    let turn = table.next().expect("a slot is free");
    assert_eq!(&*turn.destination, "a.example");
    // Who lent his slot has none to go on with.
    table
        .offer("hole0.example", Class::Normal, 0, 1)
        .expect("room");
    let hole = turns.swap_remove(0);
    let to = hole.destination.clone();
    table.end(hole, Health::Well);
    assert!(table.desk.next_at(&to, table.now).is_none());
    turns.push(turn);
    for turn in turns {
        table.end(turn, Health::Well);
    }
    assert_eq!(table.desk.busy(), 0);
}

#[test]
fn bulk_leaves_slots_for_others() {
    let mut table = Table::new(LIMITS);
    for n in 0..100 {
        table.offers(1, &format!("{n}.example"), Class::Bulk, 1);
    }
    let bulk = table.all();
    assert_eq!(bulk.len(), 8, "half of the slots");
    table.offers(1, "b.example", Class::Normal, 2);
    let next = table.next().expect("a slot is left");
    assert_eq!(&*next.destination, "b.example");
    for turn in bulk.into_iter().chain([next]) {
        table.end(turn, Health::Well);
    }
}

#[test]
fn the_window_follows_the_answers() {
    let mut table = Table::new(LIMITS);
    table.offers(90, "a.example", Class::Normal, 1);
    let mut counts = Vec::new();
    for health in [
        Health::Well,
        Health::Well,
        Health::Well,
        Health::Pressed,
        Health::Well,
    ] {
        let turns = table.all();
        counts.push(turns.len());
        for turn in turns {
            table.end(turn, health);
        }
    }
    // Halved by each of the four that were pressed at the same time.
    assert_eq!(counts, [2, 2, 3, 4, 1]);
}

#[test]
fn who_is_away_gets_a_pause_and_then_one_probe() {
    let mut table = Table::new(LIMITS);
    table.offers(10, "gone.example", Class::Normal, 1);
    let mut returned = Vec::new();
    let mut tried = 0;
    while let Some(turn) = table.next() {
        tried += 1;
        returned.extend(table.end(turn, Health::Away).returned);
    }
    assert_eq!((tried, returned.len()), (3, 7));
    let until = table.now + LIMITS.pause;
    let declined = table.offer("gone.example", Class::Normal, 1, 1);
    assert_eq!(declined, Err(Declined::Away(until)));
    assert_eq!(table.desk.wakes_at(), Some(until));

    table.now = until;
    assert!(table.next().is_none());
    assert_eq!(table.desk.hungry().as_deref(), Some("gone.example"));
    table.offers(5, "gone.example", Class::Normal, 1);
    let probe = table.next().expect("one");
    assert!(probe.is_probe && table.next().is_none());
    // Away still: twice as long.
    let after = table.end(probe, Health::Away);
    assert_eq!(after.until, Some(until + LIMITS.pause * 2));
    assert_eq!(after.returned.len(), 4);

    table.now = until + LIMITS.pause * 2;
    assert!(table.next().is_none());
    table.offers(5, "gone.example", Class::Normal, 1);
    let probe = table.next().expect("one");
    table.end(probe, Health::Well);
    assert_eq!(table.order(9).len(), 4);
}

#[test]
fn an_administrator_may_have_it_tried_now() {
    let mut table = Table::new(LIMITS);
    table.offers(3, "gone.example", Class::Normal, 1);
    while let Some(turn) = table.next() {
        table.end(turn, Health::Away);
    }
    table.desk.retry_now(&"gone.example".into(), table.now);
    table.offers(1, "gone.example", Class::Normal, 1);
    assert!(table.next().is_some_and(|turn| turn.is_probe));
}

#[test]
fn lines_are_bounded_and_tell_when_they_have_room() {
    let mut table = Table::new(LIMITS);
    table.offers(100, "a.example", Class::Normal, 1);
    let full = Err(Declined::Full);
    assert_eq!(table.offer("a.example", Class::Normal, 1, 1), full);
    assert_eq!(table.desk.hungry(), None);
    assert_eq!(table.order(60).len(), 60);
    assert_eq!(table.desk.hungry().as_deref(), Some("a.example"));
    assert_eq!(table.desk.hungry(), None, "told once");
    // A desk that is full takes the first of a destination that nobody has asked for.
    for n in 0..9 {
        table.offers(100, &format!("{n}.example"), Class::Normal, 1);
    }
    table.offers(60, "a.example", Class::Normal, 1);
    assert_eq!(table.offer("8.example", Class::Normal, 1, 1), full);
    table.offers(1, "new.example", Class::Normal, 1);
}

#[test]
fn a_mailshot_that_fills_a_line_keeps_nobody_out() {
    let mut table = Table::new(LIMITS);
    table.offers(100, "a.example", Class::Normal, 1);
    table.offers(1, "a.example", Class::Normal, 2);
    let given_up: Vec<u64> = table.displaced.drain(..).map(|o| o.entry.pseq.0).collect();
    assert_eq!(given_up, [100], "the last of who has most");
    assert_eq!(table.desk.waiting(), 100);
    let turn = table.next().expect("a turn");
    table.end(turn, Health::Well);
    let turn = table.next().expect("a turn");
    assert_eq!(turn.offer.sender, 2, "he does not wait for all of it");
    table.end(turn, Health::Well);
}

#[test]
fn an_open_connection_is_used_again() {
    let mut table = Table::new(LIMITS);
    table.offers(3, "a.example", Class::Bulk, 1);
    table.offers(3, "a.example", Class::Notice, 1);
    let mut turn = table.next().expect("a turn");
    let mut classes = vec![turn.offer.class];
    loop {
        table.end(turn, Health::Well);
        let Some(next) = table.desk.next_at(&"a.example".into(), table.now) else {
            break;
        };
        classes.push(next.offer.class);
        turn = next;
    }
    assert_eq!(classes.len(), 6);
    assert_eq!(classes[..3], [Class::Notice; 3]);
}

#[test]
fn a_shape_is_kept() {
    let mut table = Table::new(LIMITS);
    let gap = Duration::from_secs(2);
    let shape = Shape {
        connections_max: 1,
        gap,
    };
    let to: Destination = "a.example".into();
    table.desk.set_shape(&to, Some(shape), table.now);
    table.offers(3, "a.example", Class::Normal, 1);
    let turn = table.next().expect("one");
    assert!(table.next().is_none());
    table.end(turn, Health::Well);
    assert!(table.next().is_none(), "in the gap");
    assert_eq!(table.desk.wakes_at(), Some(table.now + gap));
    table.now += gap;
    let turn = table.next().expect("after the gap");
    table.end(turn, Health::Well);
}

#[test]
fn what_a_person_stops_waits_elsewhere() {
    let check = |stop: Stop, ends: fn(&mut Table, &Destination)| {
        let mut table = Table::new(LIMITS);
        let to: Destination = "a.example".into();
        table.offers(5, "a.example", Class::Normal, 1);
        let turn = table.next().expect("one");
        let returned = table.desk.set_stop(&to, Some(stop), table.now);
        assert_eq!(returned.len(), 4, "{stop:?}");
        assert!(table.next().is_none() && table.desk.next_at(&to, table.now).is_none());
        table.end(turn, Health::Well);
        let declined = table.offer("a.example", Class::Normal, 1, 1);
        assert_eq!(declined, Err(Declined::Full), "{stop:?}");
        assert_eq!(table.desk.hungry(), None, "{stop:?}");
        // Who wants it tried now does not end it.
        table.desk.retry_now(&to, table.now);
        assert!(table.offer("a.example", Class::Normal, 1, 1).is_err());
        ends(&mut table, &to);
        assert!(table.next().is_none());
        assert_eq!(table.desk.hungry(), Some(to), "{stop:?}");
        table.offers(1, "a.example", Class::Normal, 1);
        let turn = table.next().expect("goes on");
        table.end(turn, Health::Well);
        assert_eq!(table.desk.waiting(), 0);
    };
    check(Stop::Open, |table, to| {
        table.desk.set_stop(to, None, table.now);
    });
    let until = Instant::now() + Duration::from_secs(60);
    check(Stop::Until(until), |table, _| {
        assert!(table.desk.wakes_at().is_some());
        table.now += Duration::from_secs(61);
    });
}

#[test]
fn what_is_withdrawn_is_not_tried() {
    let mut table = Table::new(LIMITS);
    let n = table.offer("a.example", Class::Normal, 1, 1).expect("room");
    let entry = EntryKey {
        partition: PartitionId::queue(0),
        pseq: PSeq(n),
    };
    let to: Destination = "a.example".into();
    assert!(table.desk.withdraw(&to, entry, table.now));
    assert!(!table.desk.withdraw(&to, entry, table.now));
    assert!(table.next().is_none());
    assert_eq!(table.desk.waiting(), 0);
}

/// A walk of offers, turns and ends: every offer ends once, bounds hold at each step, and a desk at
/// rest keeps nothing.
fn walk(seed: u64) {
    let mut state = seed;
    let mut below = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let mut table = Table::new(LIMITS);
    let (mut turns, mut taken, mut over) = (Vec::new(), 0, 0);
    for _ in 0..3_000 {
        match below(10) {
            0..4 => {
                let class = [Class::Notice, Class::Normal, Class::Bulk][below(3) as usize];
                let to = format!("{}.example", below(12));
                taken += u64::from(table.offer(&to, class, below(4), below(100_000)).is_ok());
            }
            4..7 => turns.extend(table.next()),
            9 if below(3) == 0 && !turns.is_empty() => {
                let at = below(turns.len() as u64) as usize;
                let was_lent = turns[at].is_lent;
                assert_eq!(table.desk.lend(&mut turns[at]), !was_lent, "seed {seed}");
            }
            7..9 if !turns.is_empty() => {
                let turn: Turn = turns.swap_remove(below(turns.len() as u64) as usize);
                let health = [Health::Well, Health::Pressed, Health::Away][below(3) as usize];
                let to = turn.destination.clone();
                over += 1 + table.end(turn, health).returned.len() as u64;
                turns.extend(
                    (below(2) == 0)
                        .then(|| table.desk.next_at(&to, table.now))
                        .flatten(),
                );
            }
            _ => table.now += Duration::from_secs(below(30)),
        }
        let with_slot = turns.iter().filter(|turn| !turn.is_lent).count();
        assert!(with_slot <= LIMITS.slots_max, "seed {seed}");
        assert_eq!(table.desk.busy(), with_slot, "seed {seed}");
        assert!(
            table.desk.lent <= LIMITS.slots_max * LENT_FACTOR,
            "seed {seed}"
        );
        assert!(
            table.desk.waiting() <= LIMITS.waiting_max * CROWD_FACTOR,
            "seed {seed}"
        );
        for (class, busy) in table.desk.busy.iter().enumerate() {
            assert!(*busy <= share(class, LIMITS.slots_max), "seed {seed}");
        }
        for (to, line) in &table.desk.lines {
            assert!(line.waiting() <= LIMITS.line_max, "seed {seed}: {to}");
        }
        let left = taken - over - (turns.len() + table.displaced.len()) as u64;
        assert_eq!(table.desk.waiting() as u64, left, "seed {seed}");
    }
    while table.desk.waiting() + turns.len() > 0 {
        turns.extend(table.next());
        match turns.pop() {
            Some(turn) => {
                table.end(turn, Health::Well);
            }
            None => table.now = table.desk.wakes_at().expect("something is waited for"),
        }
    }
    table.now += LIMITS.pause_max * 3;
    while table.desk.hungry().is_some() {}
    assert!(table.next().is_none());
    assert!(table.desk.lines.is_empty(), "seed {seed}");
}

#[test]
fn no_offer_is_lost_on_any_walk() {
    (0..200).for_each(walk);
}
