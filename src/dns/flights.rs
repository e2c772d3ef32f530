//! Equal questions under way are one: who comes second waits for the answer to the first.
//!
//! The work is a task of its own, so that it does not end with whoever asked first; it is bounded
//! by its own deadlines.

use std::cell::RefCell;
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashMap;

use super::answer::DnsError;
use super::counters::{Found, LOOKUPS};
use crate::base::Deadline;
use crate::runtime::local::Notify;
use crate::runtime::{Gate, deadline, spawn_in};

/// Different questions of one shard that are under way.
const UNDER_WAY_MAX: usize = 1024;

type Outcome<V> = Result<V, DnsError>;

/// What is under way on this shard.
pub struct Flights<K, V> {
    under_way: RefCell<HashMap<K, Rc<Flight<V>>>>,
    gate: Gate,
}

struct Flight<V> {
    landed: RefCell<Option<Outcome<V>>>,
    changed: Notify,
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Flights<K, V> {
    pub fn new(gate: Gate) -> Rc<Self> {
        Rc::new(Flights {
            under_way: RefCell::default(),
            gate,
        })
    }

    /// The outcome of `work`, or of what is under way for the same key.
    pub async fn join<F>(
        self: &Rc<Self>,
        key: K,
        until: Deadline,
        work: impl FnOnce() -> F,
    ) -> Outcome<V>
    where
        F: Future<Output = Outcome<V>> + 'static,
    {
        let under_way = self.under_way.borrow().get(&key).cloned();
        let flight = match under_way {
            Some(flight) => {
                LOOKUPS.increment(Found::Joined);
                flight
            }
            None => self.begin(key, work())?,
        };
        loop {
            let changed = flight.changed.notified();
            if let Some(outcome) = &*flight.landed.borrow() {
                return outcome.clone();
            }
            let waited = deadline(until, changed).await;
            waited.map_err(|_| DnsError::Timeout)?;
        }
    }

    fn begin(
        self: &Rc<Self>,
        key: K,
        work: impl Future<Output = Outcome<V>> + 'static,
    ) -> Result<Rc<Flight<V>>, DnsError> {
        if self.under_way.borrow().len() >= UNDER_WAY_MAX {
            return Err(DnsError::Busy);
        }
        let flight = Rc::new(Flight {
            landed: RefCell::new(None),
            changed: Notify::new(),
        });
        self.under_way
            .borrow_mut()
            .insert(key.clone(), flight.clone());
        let landing = Landing {
            flights: self.clone(),
            key,
            flight: flight.clone(),
        };
        let began = spawn_in(&self.gate, "dns question", async move {
            let outcome = work.await;
            landing.flight.landed.replace(Some(outcome));
        });
        match began {
            true => Ok(flight),
            false => Err(DnsError::Busy),
        }
    }
}

/// Ends the flight, also one that crashed: nobody waits for it any more.
struct Landing<K: Hash + Eq, V> {
    flights: Rc<Flights<K, V>>,
    key: K,
    flight: Rc<Flight<V>>,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.under_way.borrow_mut().remove(&self.key);
        let mut landed = self.flight.landed.borrow_mut();
        landed.get_or_insert(Err(DnsError::Busy));
        drop(landed);
        self.flight.changed.notify_all();
    }
}
