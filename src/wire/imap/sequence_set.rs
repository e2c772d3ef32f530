//! `sequence-set` (RFC 9051 9) as a checked piece of the command, read anew by each iterator:
//! no heap, however many ranges there are.

use super::cursor::Cursor;
use super::fault::Fault;

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqNumber {
    Number(u32),
    /// `*`: the largest number in use (RFC 9051 9, `seq-number`).
    Largest,
}

/// A set of sequence numbers or UIDs; which of the two, the command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceSet<'a>(&'a [u8]);

impl<'a> SequenceSet<'a> {
    /// `$`: the result saved by SEARCH RETURN (SAVE) (RFC 9051 6.4.4.1).
    #[must_use]
    pub fn is_saved(self) -> bool {
        self.0 == b"$"
    }

    /// The ranges as the client wrote them, none for `$`.
    pub fn ranges(self) -> impl Iterator<Item = (SeqNumber, SeqNumber)> + 'a {
        let mut c = Cursor::new(if self.is_saved() { b"" } else { self.0 });
        std::iter::from_fn(move || {
            let range = range(&mut c).ok();
            c.eat(b',');
            range
        })
    }

    /// The ranges as `(low, high)` where the largest number in use is `largest`. They come in the
    /// client's order and may overlap. `9:*` names the largest even where that is below 9
    /// (RFC 9051 6.4.9).
    pub fn resolve(self, largest: u32) -> impl Iterator<Item = (u32, u32)> + 'a {
        self.ranges().map(move |(a, b)| {
            let [a, b] = [a, b].map(|n| match n {
                SeqNumber::Number(n) => n,
                SeqNumber::Largest => largest,
            });
            (a.min(b), a.max(b))
        })
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(self, number: u32, largest: u32) -> bool {
        self.resolve(largest)
            .any(|(low, high)| (low..=high).contains(&number))
    }

    /// The text as it stood in the command.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

pub(super) fn sequence_set<'a>(c: &mut Cursor<'a>) -> Result<SequenceSet<'a>, Fault> {
    let start = c.at();
    if c.eat(b'$') {
        return Ok(SequenceSet(c.since(start)));
    }
    loop {
        range(c)?;
        if !c.eat(b',') {
            return Ok(SequenceSet(c.since(start)));
        }
    }
}

/// Whether a sequence set begins here, for SEARCH, where one may stand in place of a key.
pub(super) fn begins_sequence_set(c: &Cursor<'_>) -> bool {
    matches!(c.peek(), Some(b'0'..=b'9' | b'*' | b'$'))
}

fn range(c: &mut Cursor<'_>) -> Result<(SeqNumber, SeqNumber), Fault> {
    let first = seq_number(c)?;
    match c.eat(b':') {
        true => Ok((first, seq_number(c)?)),
        false => Ok((first, first)),
    }
}

fn seq_number(c: &mut Cursor<'_>) -> Result<SeqNumber, Fault> {
    if c.eat(b'*') {
        return Ok(SeqNumber::Largest);
    }
    c.nz_number()
        .map(SeqNumber::Number)
        .map_err(|fault| match fault {
            Fault::BadNumber => Fault::BadSequenceSet,
            other => other,
        })
}
