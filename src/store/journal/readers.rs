//! Who reads the journal after it is written: the spare, a backup, the undelete history.
//!
//! Each has a low-water mark, below which it needs nothing any more. A slot is recycled only past
//! the marks of all of them, and past the checkpoint, which is the mark of settling and cannot be
//! overtaken. The others can: one that is further behind than the ring can afford is told that it
//! lost its place, and holds nothing from then on. It has to begin again from a full copy.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Core, Position};

/// One reader's hold on the journal; dropped, it holds nothing.
pub struct Reader {
    core: Rc<Core>,
    mark: Rc<Mark>,
}

/// The reader was too far behind: what it needed next may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostPlace;

/// What an operator may know of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderStats {
    pub name: &'static str,
    pub at: Position,
    /// Octets of the ring from its mark to the end.
    pub behind_bytes: u64,
    pub lost: bool,
}

struct Mark {
    name: &'static str,
    at: Cell<Position>,
    lost: Cell<bool>,
}

/// The readers of one journal.
#[derive(Default)]
pub(super) struct Readers {
    marks: RefCell<Vec<Rc<Mark>>>,
    lost: Cell<u64>,
}

impl Reader {
    pub(super) fn new(core: Rc<Core>, name: &'static str) -> Self {
        let mark = Rc::new(Mark {
            name,
            at: Cell::new(core.position()),
            lost: Cell::new(false),
        });
        core.readers.marks.borrow_mut().push(mark.clone());
        Reader { core, mark }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.mark.at.get()
    }

    /// Nothing below `to` is needed any more. Marks only rise.
    pub fn advance(&self, to: Position) -> Result<(), LostPlace> {
        if self.is_lost() {
            return Err(LostPlace);
        }
        assert!(to <= self.core.position(), "a reader past the end");
        self.mark.at.set(self.mark.at.get().max(to));
        self.core.free();
        Ok(())
    }

    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.mark.lost.get()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut marks = self.core.readers.marks.borrow_mut();
        marks.retain(|mark| !Rc::ptr_eq(mark, &self.mark));
        drop(marks);
        self.core.free();
    }
}

impl Readers {
    /// The oldest slot that a reader needs.
    pub fn low_water(&self) -> Option<u64> {
        let marks = self.marks.borrow();
        let held = marks.iter().filter(|mark| !mark.lost.get());
        held.map(|mark| mark.at.get().slot).min()
    }

    /// Takes their place from readers that need what is below `slot`.
    pub fn overtake(&self, slot: u64) {
        for mark in self.marks.borrow().iter() {
            if mark.at.get().slot < slot && !mark.lost.replace(true) {
                self.lost.set(self.lost.get() + 1);
                tracing::warn!(
                    reader = mark.name,
                    "too far behind, lost its place in the journal"
                );
            }
        }
    }

    /// How many lost their place so far.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    pub fn stats(&self, end: Position, slot_bytes: u64) -> Vec<ReaderStats> {
        let one = |mark: &Rc<Mark>| {
            let at = mark.at.get();
            let whole = (end.slot - at.slot) * slot_bytes + u64::from(end.offset);
            ReaderStats {
                name: mark.name,
                at,
                behind_bytes: whole.saturating_sub(u64::from(at.offset)),
                lost: mark.lost.get(),
            }
        };
        self.marks.borrow().iter().map(one).collect()
    }
}
