//! What records make of entries. Live and replay alike; never fails, never decides.

use std::sync::Arc;

use super::{EntryKey, LastTry, Outbound, RecipientState, Steering, Tried};
use crate::base::{PSeq, UnixMs};
use crate::store::body::{Accepted, Source};
use crate::store::doom::Doomed;
use crate::store::journal::Committed;
use crate::store::owned::Owned;
use crate::store::partition::{Partition, source};
use crate::store::{BodyRef, Op};

impl Outbound {
    /// A result of an attempt. What has an end keeps it: a person was faster.
    fn tried(&mut self, tried: &Tried) {
        for result in &tried.results {
            let Some(recipient) = self.recipients.get_mut(usize::from(result.ordinal)) else {
                continue;
            };
            recipient.tries = recipient.tries.saturating_add(1);
            recipient.last = Some(LastTry {
                at: tried.at,
                hop: tried.hop.clone(),
                status: result.status.clone(),
                reply: result.reply.clone(),
            });
            let is_kept = match recipient.state {
                RecipientState::Held { .. } => !result.state.is_end(),
                state => state.is_end(),
            };
            if !is_kept {
                recipient.state = result.state;
            }
        }
    }

    fn steered(&mut self, at: UnixMs, ordinals: &[u16], steering: &Steering) {
        for ordinal in ordinals {
            let Some(recipient) = self.recipients.get_mut(usize::from(*ordinal)) else {
                continue;
            };
            if recipient.state.is_end() {
                continue;
            }
            match steering {
                Steering::Hold => recipient.state = RecipientState::Held { since: at },
                Steering::Due(due) => recipient.state = RecipientState::Waiting { due: *due },
                Steering::Remove => recipient.state = RecipientState::Removed,
                Steering::DelayTold => recipient.is_delay_told = true,
                Steering::Reroute(destination) => {
                    recipient.destination.clone_from(destination);
                    // Who was never tried waits for his time, and not for another try.
                    if let RecipientState::Waiting { due } = &mut recipient.state
                        && recipient.tries > 0
                    {
                        *due = at.min(*due);
                    }
                }
            }
        }
    }
}

impl Partition {
    pub(in crate::store) fn apply_accepted(&self, committed: &Committed, op: &Op, owned: &Owned) {
        let Op::Accepted {
            body: BodyRef::New(n),
            targets,
            outbound,
            saved,
            trace,
        } = op
        else {
            return;
        };
        let pseq = committed.record.pseq;
        let message = &committed.record.bodies[usize::from(*n)];
        let is_owed = !targets.is_empty();
        let accepted = Accepted {
            saved: *saved,
            trace: *trace,
            size: message.size,
            crc32c: message.crc32c,
            blake3: message.blake3,
            // Of use to owners here alone.
            digest: match is_owed {
                true => message.digest.clone(),
                false => Arc::default(),
            },
            targets: targets.iter().cloned().map(Some).collect(),
            outbound: outbound.clone(),
            source: source(&committed.bodies[usize::from(*n)]),
            memory: owned.keep(message),
        };
        let mut state = self.state.borrow_mut();
        if matches!(accepted.source, Source::Journal(_)) {
            state.unfiled.insert(pseq);
        }
        state.accepted.insert(pseq, accepted);
        if is_owed {
            state.owed.insert(pseq);
            owned.outbox.notify_all();
        }
        if outbound.is_some() {
            self.tell_queue(pseq, owned);
        }
    }

    pub(in crate::store) fn apply_handed_over(
        &self,
        pseq: PSeq,
        entry: PSeq,
        ordinal: u16,
        owned: &Owned,
    ) {
        let mut state = self.state.borrow_mut();
        let is_done = state.accepted.change(&owned.layout, entry, |accepted| {
            if let Some(target) = accepted.targets.get_mut(usize::from(ordinal)) {
                *target = None;
            }
            if accepted.targets.iter().any(Option::is_some) {
                return None;
            }
            accepted.digest = Arc::default();
            Some(is_done(accepted))
        });
        let Some(Some(is_done)) = is_done else {
            return;
        };
        state.owed.remove(&entry);
        drop(state);
        if is_done {
            self.end_entry(pseq, entry, owned);
        }
    }

    pub(in crate::store) fn apply_tried(
        &self,
        pseq: PSeq,
        entry: PSeq,
        tried: &Tried,
        owned: &Owned,
    ) {
        self.change_outbound(pseq, entry, owned, |outbound| outbound.tried(tried));
    }

    pub(in crate::store) fn apply_steered(
        &self,
        pseq: PSeq,
        entry: PSeq,
        (at, ordinals, steering): (UnixMs, &[u16], &Steering),
        owned: &Owned,
    ) {
        let change = |outbound: &mut Outbound| outbound.steered(at, ordinals, steering);
        self.change_outbound(pseq, entry, owned, change);
    }

    fn change_outbound(
        &self,
        pseq: PSeq,
        entry: PSeq,
        owned: &Owned,
        change: impl FnOnce(&mut Outbound),
    ) {
        let mut state = self.state.borrow_mut();
        let is_done = state.accepted.change(&owned.layout, entry, |accepted| {
            change(accepted.outbound.as_deref_mut()?);
            Some(is_done(accepted))
        });
        let Some(Some(is_done)) = is_done else {
            return;
        };
        drop(state);
        self.tell_queue(entry, owned);
        if is_done {
            self.end_entry(pseq, entry, owned);
        }
    }

    /// An entry that nobody waits for goes, and with the next checkpoint its body.
    fn end_entry(&self, pseq: PSeq, entry: PSeq, owned: &Owned) {
        let mut state = self.state.borrow_mut();
        let Some(done) = state.accepted.remove(&owned.layout, entry) else {
            return;
        };
        state.unfiled.remove(&entry);
        owned.forget(done.memory.as_ref());
        let file = match done.source {
            Source::Spool(path) => path,
            Source::Journal(_) | Source::File(_) => owned.layout.queue_file(self.id, entry),
        };
        let file = owned.layout.relative(&file).to_path_buf();
        state.doomed.push_back((pseq, Doomed::File(file)));
    }

    fn tell_queue(&self, pseq: PSeq, owned: &Owned) {
        let partition = self.id;
        let changed = &mut owned.queue_changes.borrow_mut();
        changed.insert(EntryKey { partition, pseq });
        owned.queue_told.notify_all();
    }
}

/// Nobody waits for it.
fn is_done(accepted: &Accepted) -> bool {
    let leaves = accepted.outbound.as_ref().is_some_and(|o| !o.is_done());
    !leaves && accepted.targets.iter().all(Option::is_none)
}
