//! Offers of one class at one destination, by sender: start-time fair queueing (Goyal and others,
//! 1996) over octets.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::{EntryKey, Offer};

/// What a message costs at least: many small ones are work, too.
const COST_MIN: u64 = 4 << 10;

#[derive(Default)]
pub(super) struct Senders {
    lines: HashMap<u64, Sender>,
    /// Who has something, by the octets that stand before its first.
    order: BTreeSet<(u64, u64)>,
    /// Octets before the offer taken last: where who comes new begins.
    served: u64,
    len: usize,
}

struct Sender {
    offers: VecDeque<Offer>,
    before: u64,
}

impl Senders {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn put(&mut self, offer: Offer) {
        let before = self.served;
        let sender = offer.sender;
        let line = self.lines.entry(sender).or_insert_with(|| Sender {
            offers: VecDeque::new(),
            before,
        });
        self.order.insert((line.before, sender));
        line.offers.push_back(offer);
        self.len += 1;
    }

    /// Offers of a sender.
    pub fn of(&self, sender: u64) -> usize {
        self.lines.get(&sender).map_or(0, |line| line.offers.len())
    }

    /// Who has most offers, and how many.
    pub fn heaviest(&self) -> Option<(usize, u64)> {
        let each = self
            .lines
            .iter()
            .map(|(sender, line)| (line.offers.len(), *sender));
        each.max()
    }

    /// Takes out the last offer of a sender.
    pub fn give_up(&mut self, sender: u64) -> Option<Offer> {
        let line = self.lines.get_mut(&sender)?;
        let offer = line.offers.pop_back()?;
        self.len -= 1;
        if line.offers.is_empty() {
            self.order.remove(&(line.before, sender));
            self.lines.remove(&sender);
        }
        Some(offer)
    }

    pub fn take(&mut self) -> Option<Offer> {
        let (before, sender) = self.order.pop_first()?;
        let line = self.lines.get_mut(&sender)?;
        let offer = line.offers.pop_front()?;
        self.served = before;
        self.len -= 1;
        line.before = before + offer.size.max(COST_MIN);
        match line.offers.is_empty() {
            true => drop(self.lines.remove(&sender)),
            false => drop(self.order.insert((line.before, sender))),
        }
        Some(offer)
    }

    pub fn remove(&mut self, entry: EntryKey) -> bool {
        let at = self.lines.iter().find_map(|(sender, line)| {
            let at = line.offers.iter().position(|offer| offer.entry == entry);
            at.map(|at| (*sender, at))
        });
        let Some((sender, at)) = at else {
            return false;
        };
        let line = self.lines.get_mut(&sender).expect("it was found");
        line.offers.remove(at);
        self.len -= 1;
        if line.offers.is_empty() {
            self.order.remove(&(line.before, sender));
            self.lines.remove(&sender);
        }
        true
    }

    pub fn drain(&mut self) -> Vec<Offer> {
        let mut offers = Vec::with_capacity(self.len);
        while let Some(offer) = self.take() {
            offers.push(offer);
        }
        offers
    }
}
