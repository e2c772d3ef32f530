//! One destination: what waits for it, and how much it takes at a time.

use std::time::Instant;

use super::senders::Senders;
use super::{CLASSES, EntryKey, Health, Limits, Offer, Shape, Stop, WEIGHTS};

/// Turns at a time that a destination begins with.
const WINDOW_FIRST: f32 = 2.0;
/// Turns in a row without a connection until a pause.
const AWAY_MAX: u32 = 3;

pub(super) struct Line {
    classes: [Senders; CLASSES],
    in_ring: [bool; CLASSES],
    credit: [i32; CLASSES],
    shape: Shape,
    is_shaped: bool,
    /// A person wants nothing tried.
    stop: Option<Stop>,
    /// Turns at a time: rises by one for each window of good ones, halves at a bad one.
    window: f32,
    busy: usize,
    away: u32,
    pauses: u32,
    paused_until: Option<Instant>,
    /// After a pause one turn alone, until it says that the destination is back.
    is_probing: bool,
    next_begin: Option<Instant>,
    /// Until then it is kept in mind that it was away or pressed.
    remembered_until: Option<Instant>,
    /// It refused an offer since it last had room.
    pub declined: bool,
}

impl Line {
    pub fn new(shape: Shape) -> Self {
        Line {
            classes: Default::default(),
            in_ring: [false; CLASSES],
            credit: [0; CLASSES],
            shape,
            is_shaped: false,
            stop: None,
            window: WINDOW_FIRST,
            busy: 0,
            away: 0,
            pauses: 0,
            paused_until: None,
            is_probing: false,
            next_begin: None,
            remembered_until: None,
            declined: false,
        }
    }

    pub fn waiting(&self) -> usize {
        self.classes.iter().map(Senders::len).sum()
    }

    pub fn busy(&self) -> usize {
        self.busy
    }

    pub fn has(&self, class: usize) -> bool {
        self.classes[class].len() > 0
    }

    pub fn put(&mut self, offer: Offer) {
        self.classes[offer.class as usize].put(offer);
    }

    /// Makes room for an offer in a full line: the last one of whoever has most, if that is more
    /// than its own sender has. So a mailshot that fills a line keeps nobody out of it.
    pub fn displace(&mut self, offer: &Offer) -> Option<Offer> {
        let each = self.classes.iter().enumerate();
        let heaviest = each.filter_map(|(n, class)| Some((class.heaviest()?, n)));
        let ((count, sender), class) = heaviest.max()?;
        let own = self.classes[offer.class as usize].of(offer.sender);
        (own + 1 < count).then(|| self.classes[class].give_up(sender))?
    }

    pub fn take(&mut self, class: usize) -> Option<Offer> {
        self.classes[class].take()
    }

    pub fn remove(&mut self, entry: EntryKey) -> bool {
        self.classes.iter_mut().any(|class| class.remove(entry))
    }

    pub fn drain(&mut self) -> Vec<Offer> {
        self.classes.iter_mut().flat_map(Senders::drain).collect()
    }

    /// Of classes that wait here, the one with the most is next on an open connection.
    pub fn credit(&self, class: usize) -> i32 {
        self.credit[class] + WEIGHTS[class]
    }

    pub fn charge(&mut self, chosen: usize) {
        let mut sum = 0;
        for (class, weight) in WEIGHTS.into_iter().enumerate() {
            if class == chosen || self.has(class) {
                self.credit[class] += weight;
                sum += weight;
            } else {
                self.credit[class] = 0;
            }
        }
        self.credit[chosen] -= sum;
    }

    pub fn enters_ring(&mut self, class: usize) -> bool {
        !std::mem::replace(&mut self.in_ring[class], true)
    }

    pub fn left_ring(&mut self, class: usize) {
        self.in_ring[class] = false;
    }

    /// Whether one more turn may begin now.
    pub fn may_begin(&self, now: Instant) -> bool {
        let is_paused = self.paused_until.is_some_and(|until| until > now);
        let in_gap = self.next_begin.is_some_and(|at| at > now);
        !is_paused && !in_gap && !self.is_stopped(now) && self.busy < self.turns_max()
    }

    /// Where only time is missing: when one more may begin.
    pub fn free_at(&self) -> Option<Instant> {
        let is_open = self.stop == Some(Stop::Open);
        let waits = self.waiting() > 0 && self.busy < self.turns_max() && !is_open;
        let stop = match self.stop {
            Some(Stop::Until(until)) => Some(until),
            _ => None,
        };
        waits
            .then(|| self.paused_until.max(self.next_begin).max(stop))
            .flatten()
    }

    fn turns_max(&self) -> usize {
        match self.is_probing {
            true => 1,
            false => (self.window as usize).clamp(1, self.shape.connections_max.into()),
        }
    }

    /// A turn begins. True where it is the probe after a pause.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.busy += 1;
        self.next_begin = (!self.shape.gap.is_zero()).then(|| now + self.shape.gap);
        self.is_probing
    }

    /// A turn ended. Answers the end of a pause that begins with it.
    pub fn ended(&mut self, health: Health, limits: &Limits, now: Instant) -> Option<Instant> {
        self.busy -= 1;
        match health {
            Health::Well => {
                self.away = 0;
                self.pauses = 0;
                self.remembered_until = None;
                self.is_back();
                let most = f32::from(self.shape.connections_max);
                self.window = (self.window + 1.0 / self.window).min(most);
                return None;
            }
            Health::Pressed => {
                // It is there: that ends a probe, too.
                self.away = 0;
                self.is_back();
                self.remembered_until = Some(now + limits.pause_max * 2);
                self.window = (self.window / 2.0).max(1.0);
                return None;
            }
            Health::Away => {}
        }
        self.window = (self.window / 2.0).max(1.0);
        self.away += 1;
        self.remembered_until = Some(now + limits.pause_max * 2);
        // Of several turns that were under way together only the first makes it longer.
        let is_paused = self.paused_until.is_some_and(|until| until > now);
        if is_paused || (self.away < AWAY_MAX && !self.is_probing) {
            return None;
        }
        let longer = limits.pause.saturating_mul(1 << self.pauses.min(16));
        let until = now + longer.min(limits.pause_max);
        self.pauses = self.pauses.saturating_add(1);
        self.paused_until = Some(until);
        self.is_probing = true;
        Some(until)
    }

    /// A turn that was under way when a pause began, or its probe, found somebody there.
    fn is_back(&mut self) {
        self.is_probing = false;
        // What was given back at its beginning may come again.
        self.declined |= self.paused_until.take().is_some();
    }

    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// True once, when the pause is over.
    pub fn pause_is_over(&mut self, now: Instant) -> bool {
        let over = self.paused_until.is_some_and(|until| until <= now);
        if over {
            self.paused_until = None;
        }
        over
    }

    pub fn end_pause(&mut self) {
        self.paused_until = None;
    }

    pub fn set_shape(&mut self, shape: Option<Shape>, default: Shape) {
        self.is_shaped = shape.is_some();
        self.shape = shape.unwrap_or(default);
        self.window = self.window.min(self.shape.connections_max.into());
    }

    /// Whether it was stopped before.
    pub fn set_stop(&mut self, stop: Option<Stop>) -> bool {
        self.declined &= stop.is_some();
        std::mem::replace(&mut self.stop, stop).is_some()
    }

    pub fn is_stopped(&self, now: Instant) -> bool {
        match self.stop {
            None => false,
            Some(Stop::Open) => true,
            Some(Stop::Until(until)) => until > now,
        }
    }

    pub fn has_stop(&self) -> bool {
        self.stop.is_some()
    }

    /// True once, when its time is over.
    pub fn stop_is_over(&mut self, now: Instant) -> bool {
        self.stop.is_some() && !self.is_stopped(now) && self.set_stop(None)
    }

    pub fn remembered_until(&self) -> Option<Instant> {
        self.remembered_until
    }

    /// Nothing here that a new line would not have.
    pub fn is_plain(&self, now: Instant) -> bool {
        let is_idle = self.busy == 0 && self.waiting() == 0 && !self.declined;
        let is_usual = !self.is_shaped && self.stop.is_none();
        let is_over = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        is_idle && is_usual && is_over(self.next_begin) && is_over(self.remembered_until)
    }
}
