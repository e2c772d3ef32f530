//! The desk of one shard: which message is tried next, and how much at a time. Pure.
//!
//! Offers stand in lines: by destination, in it by class, in that by sender. A turn goes to the
//! class that is due by weight, of it to the next destination that may begin one more, of that to
//! the sender with the fewest octets behind it. So one mailshot is one sender's line at each
//! destination, and one slow destination holds its own slots alone.
//!
//! Invariants:
//! - An offer is in one line, or in one turn, or given back; never in two, never in none.
//! - Turns of a destination <= its window <= its shape; turns of a class <= its share of the slots,
//!   but for those whose slot is lent, of which there are at most [`LENT_FACTOR`] times as many.
//! - What waits here is bounded (`waiting_max`, [`CROWD_FACTOR`] times that, and `line_max`): what is
//!   not taken waits on the disk.

mod line;
mod senders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

pub use crate::store::EntryKey;
pub use crate::store::MailClass as Class;
use line::Line;

/// Turns of each class while all of them wait.
const WEIGHTS: [i32; CLASSES] = [8, 4, 1];
const CLASSES: usize = 3;
/// Slots that may be lent, as many times those that there are.
const LENT_FACTOR: usize = 8;

/// Offers that may wait when each is of another destination, as many times `waiting_max`.
const CROWD_FACTOR: usize = 4;

/// Where mail goes: a domain as A-labels, or the name of a route.
pub type Destination = Rc<str>;

/// A message that is due at one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub entry: EntryKey,
    pub class: Class,
    /// Who sent it, as a hash: whose line it stands in.
    pub sender: u64,
    /// Octets.
    pub size: u64,
}

/// One slot at work: a connection to a destination, with a message.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a turn that is not ended keeps its slot for ever"]
pub struct Turn {
    pub destination: Destination,
    pub offer: Offer,
    /// The destination was in a pause: nothing else of it is tried until this ends.
    pub is_probe: bool,
    /// Its slot is another's meanwhile ([`Desk::lend`]).
    is_lent: bool,
}

/// What a turn says of the destination. What became of the message is the entry's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered, whatever it answered to this message.
    Well,
    /// It asked for less: a 4xx to the session or to MAIL, or a connection that ended early.
    Pressed,
    /// No connection came about, or nothing came on it.
    Away,
}

/// What an administrator, or a destination's own limits, allow at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub connections_max: u16,
    /// The least time between the beginnings of two turns.
    pub gap: Duration,
}

/// A person wants nothing tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Until the person says otherwise.
    Open,
    Until(Instant),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Turns at a time, of all destinations.
    pub slots_max: usize,
    /// Offers of all destinations.
    pub waiting_max: usize,
    /// Offers of one destination.
    pub line_max: usize,
    /// Every destination that has no other.
    pub shape: Shape,
    /// The first pause of a destination that is away; each further one is twice as long.
    pub pause: Duration,
    pub pause_max: Duration,
}

/// Why an offer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The lines are full: [`Desk::hungry`] tells when to ask again.
    Full,
    /// The destination is away until then.
    Away(Instant),
}

/// What the end of a turn brings about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Offers given back untried, since the destination is away until `until`.
    pub returned: Vec<Offer>,
    pub until: Option<Instant>,
}

pub struct Desk {
    limits: Limits,
    lines: HashMap<Destination, Line>,
    /// By class, destinations that have an offer of it and may begin one more.
    ring: [VecDeque<Destination>; CLASSES],
    /// Smooth weighted round robin: the class with the most credit is next.
    credit: [i32; CLASSES],
    busy: [usize; CLASSES],
    /// Turns beside those, whose slots are lent.
    lent: usize,
    waiting: usize,
    /// Destinations that wait for a moment: the end of a pause, or of a gap.
    clock: BTreeSet<(Instant, Destination)>,
    /// Destinations for which the whole desk was full.
    short: BTreeSet<Destination>,
    /// Destinations that had to decline, and have room again.
    hungry: BTreeSet<Destination>,
}

impl Desk {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(limits.slots_max > 0 && limits.shape.connections_max > 0);
        Desk {
            limits,
            lines: HashMap::new(),
            ring: Default::default(),
            credit: [0; CLASSES],
            busy: [0; CLASSES],
            lent: 0,
            waiting: 0,
            clock: BTreeSet::new(),
            short: BTreeSet::new(),
            hungry: BTreeSet::new(),
        }
    }

    /// Offers that wait here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Turns under way that have a slot.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy.iter().sum()
    }

    /// Takes an offer that is due. Where that takes the place of another one, which must wait
    /// elsewhere from now on, it is answered.
    ///
    /// # Errors
    /// Where it must wait elsewhere itself.
    pub fn offer(
        &mut self,
        destination: &Destination,
        offer: Offer,
        now: Instant,
    ) -> Result<Option<Offer>, Declined> {
        let limits = self.limits;
        let shape = limits.shape;
        let line = self
            .lines
            .entry(destination.clone())
            .or_insert_with(|| Line::new(shape));
        if line.is_stopped(now) {
            line.declined = true;
            return Err(Declined::Full);
        }
        if let Some(until) = line.paused_until().filter(|until| *until > now) {
            return Err(Declined::Away(until));
        }
        if line.waiting() >= limits.line_max {
            line.declined = true;
            let displaced = line.displace(&offer).ok_or(Declined::Full)?;
            line.put(offer);
            self.enter(destination, now);
            return Ok(Some(displaced));
        }
        // A full desk keeps nobody out who has nothing in it, up to a point.
        let is_known = line.waiting() > 0 || line.busy() > 0;
        let is_packed = self.waiting >= limits.waiting_max * CROWD_FACTOR;
        if self.waiting >= limits.waiting_max && (is_known || is_packed) {
            self.short.insert(destination.clone());
            return Err(Declined::Full);
        }
        line.put(offer);
        self.waiting += 1;
        self.enter(destination, now);
        Ok(None)
    }

    /// The next turn, if anything may begin now.
    pub fn next(&mut self, now: Instant) -> Option<Turn> {
        self.wake(now);
        while self.busy() < self.limits.slots_max {
            let class = self.next_class()?;
            let Some(destination) = self.ring[class].pop_front() else {
                continue;
            };
            let Some(line) = self.lines.get_mut(&destination) else {
                continue;
            };
            line.left_ring(class);
            if !line.may_begin(now) {
                self.wait_for_gap(&destination);
                continue;
            }
            if let Some(offer) = line.take(class) {
                return Some(self.begin(&destination, class, offer, now));
            }
        }
        None
    }

    /// Another message for a destination whose connection is open, after `ended`. It takes no slot
    /// from who waits: the caller had one, if it was not lent.
    pub fn next_at(&mut self, destination: &Destination, now: Instant) -> Option<Turn> {
        if self.busy() >= self.limits.slots_max {
            return None;
        }
        let line = self.lines.get_mut(destination)?;
        if !line.may_begin(now) {
            return None;
        }
        let class = (0..CLASSES)
            .filter(|&class| self.busy[class] < share(class, self.limits.slots_max))
            .filter(|&class| line.has(class))
            .max_by_key(|&class| line.credit(class))?;
        let offer = line.take(class)?;
        line.charge(class);
        Some(self.begin(destination, class, offer, now))
    }

    /// When [`Desk::next`] may have something that it has not now, if nothing else happens.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant> {
        self.clock.first().map(|(at, _)| *at)
    }

    /// The turn waits for somebody who may not be there: its slot is free for others, so that many
    /// who are not there keep nobody from the rest. False where too many are lent already.
    pub fn lend(&mut self, turn: &mut Turn) -> bool {
        if turn.is_lent || self.lent >= self.limits.slots_max * LENT_FACTOR {
            return false;
        }
        turn.is_lent = true;
        self.lent += 1;
        self.busy[turn.offer.class as usize] -= 1;
        true
    }

    /// The turn is over.
    pub fn ended(&mut self, turn: Turn, health: Health, now: Instant) -> After {
        let class = turn.offer.class as usize;
        match turn.is_lent {
            true => self.lent -= 1,
            false => self.busy[class] -= 1,
        }
        let limits = self.limits;
        let Some(line) = self.lines.get_mut(&turn.destination) else {
            return After::default();
        };
        let mut after = After::default();
        if let Some(until) = line.ended(health, &limits, now) {
            after.returned = line.drain();
            after.until = Some(until);
            self.waiting -= after.returned.len();
        }
        if health != Health::Well {
            let moments = [after.until, line.remembered_until()];
            let moments = moments.into_iter().flatten();
            self.clock
                .extend(moments.map(|at| (at, turn.destination.clone())));
        }
        self.tell_room(&turn.destination);
        self.enter(&turn.destination, now);
        self.forget(&turn.destination, now);
        after
    }

    /// Takes an offer out of its line; false where it is not in one.
    pub fn withdraw(&mut self, destination: &Destination, entry: EntryKey, now: Instant) -> bool {
        let Some(line) = self.lines.get_mut(destination) else {
            return false;
        };
        let found = line.remove(entry);
        self.waiting -= usize::from(found);
        self.tell_room(destination);
        self.forget(destination, now);
        found
    }

    /// Sets what is allowed; `None` is what every destination has.
    pub fn set_shape(&mut self, destination: &Destination, shape: Option<Shape>, now: Instant) {
        let default = self.limits.shape;
        let line = self
            .lines
            .entry(destination.clone())
            .or_insert_with(|| Line::new(default));
        line.set_shape(shape, default);
        self.enter(destination, now);
        self.forget(destination, now);
    }

    /// Stops a destination, or lets it go on. Answers what must wait elsewhere meanwhile.
    pub fn set_stop(
        &mut self,
        destination: &Destination,
        stop: Option<Stop>,
        now: Instant,
    ) -> Vec<Offer> {
        let default = self.limits.shape;
        let line = self
            .lines
            .entry(destination.clone())
            .or_insert_with(|| Line::new(default));
        let was_stopped = line.set_stop(stop);
        let mut returned = Vec::new();
        if stop.is_some() {
            returned = line.drain();
            self.waiting -= returned.len();
        } else if was_stopped {
            self.hungry.insert(destination.clone());
        }
        if let Some(Stop::Until(until)) = stop {
            self.clock.insert((until, destination.clone()));
        }
        self.enter(destination, now);
        self.forget(destination, now);
        returned
    }

    /// Ends a pause at once.
    pub fn retry_now(&mut self, destination: &Destination, now: Instant) {
        if let Some(line) = self.lines.get_mut(destination) {
            line.end_pause();
        }
        self.enter(destination, now);
    }

    /// A destination that declined and has room again, each told once.
    pub fn hungry(&mut self) -> Option<Destination> {
        self.hungry.pop_first()
    }

    fn begin(
        &mut self,
        destination: &Destination,
        class: usize,
        offer: Offer,
        now: Instant,
    ) -> Turn {
        self.waiting -= 1;
        self.busy[class] += 1;
        let line = self.lines.get_mut(destination).expect("it gave the offer");
        let is_probe = line.begin(now);
        self.tell_room(destination);
        self.enter(destination, now);
        Turn {
            destination: destination.clone(),
            offer,
            is_probe,
            is_lent: false,
        }
    }

    /// The class whose turn it is, of those that have something to begin and a slot to begin it in.
    fn next_class(&mut self) -> Option<usize> {
        let able = |class: &usize| {
            !self.ring[*class].is_empty()
                && self.busy[*class] < share(*class, self.limits.slots_max)
        };
        let able: Vec<usize> = (0..CLASSES).filter(able).collect();
        for &class in &able {
            self.credit[class] += WEIGHTS[class];
        }
        let next = able
            .iter()
            .copied()
            .max_by_key(|&class| self.credit[class])?;
        self.credit[next] -= able.iter().map(|&class| WEIGHTS[class]).sum::<i32>();
        Some(next)
    }

    /// Puts a destination in the ring of each class that it has something of.
    fn enter(&mut self, destination: &Destination, now: Instant) {
        let Some(line) = self.lines.get_mut(destination) else {
            return;
        };
        if !line.may_begin(now) {
            self.wait_for_gap(destination);
            return;
        }
        for class in 0..CLASSES {
            if line.has(class) && line.enters_ring(class) {
                self.ring[class].push_back(destination.clone());
            }
        }
    }

    /// Where only time is missing, the clock brings it back.
    fn wait_for_gap(&mut self, destination: &Destination) {
        if let Some(at) = self.lines.get(destination).and_then(Line::free_at) {
            self.clock.insert((at, destination.clone()));
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some((at, _)) = self.clock.first() {
            if *at > now {
                break;
            }
            let (_, destination) = self.clock.pop_first().expect("it was looked at");
            if let Some(line) = self.lines.get_mut(&destination) {
                // Its source may bring offers again; the first is the probe.
                if line.pause_is_over(now) | line.stop_is_over(now) {
                    self.hungry.insert(destination.clone());
                }
            }
            self.enter(&destination, now);
            self.forget(&destination, now);
        }
    }

    fn tell_room(&mut self, destination: &Destination) {
        let limits = self.limits;
        if let Some(line) = self.lines.get_mut(destination)
            && line.declined
            && !line.has_stop()
            && line.waiting() <= limits.line_max / 2
        {
            line.declined = false;
            self.hungry.insert(destination.clone());
        }
        if self.waiting <= limits.waiting_max / 2 {
            self.hungry.append(&mut self.short);
        }
    }

    /// A line without offers, turns or anything to remember goes.
    fn forget(&mut self, destination: &Destination, now: Instant) {
        let is_plain = |line: &Line| line.is_plain(now);
        if self.lines.get(destination).is_some_and(is_plain) {
            self.lines.remove(destination);
        }
    }
}

/// Slots that a class may have at a time: bulk leaves half, and normal an eighth.
fn share(class: usize, slots_max: usize) -> usize {
    let kept = match class {
        0 => 0,
        1 => slots_max / 8,
        _ => slots_max / 2,
    };
    (slots_max - kept).max(1)
}
