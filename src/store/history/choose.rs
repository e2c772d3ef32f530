//! Which removals of one content are undone. Nothing here touches a disk or an account.
//!
//! A content may have been in several places, and several times in one. What counts is how many
//! messages there were, not how many contents: of five equal ones, five come back. But a message
//! that was moved, by MOVE or by a copy and an expunge, is one message with several removals. So
//! copies are linked into chains: one that began in another mailbox while an earlier one was there,
//! or as it went, goes on with it. A chain whose last copy is there is not lost.
//!
//! Of the lost chains those are undone that passed through the best place of the content; what they
//! and others left elsewhere are duplicates. What the user has of it outside these chains counts
//! against them, one for one. Only a folder that died with its messages gets all of them back.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::base::{MailboxId, UnixMs};

/// One copy that is or was in a mailbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub mailbox: MailboxId,
    /// The folder it is in, or would come back to.
    pub place: u32,
    /// That place is Trash or Junk.
    pub is_waste: bool,
    pub saved: UnixMs,
    pub end: End,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Not at all.
    There,
    Removed {
        at: UnixMs,
        /// What is asked for, and can be had.
        is_wanted: bool,
        /// Its folder was deleted with it, and is to be as it was.
        with_folder: bool,
    },
    /// Undone already; the copy that was made is another one.
    Restored { at: UnixMs, is_wanted: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Restore,
    /// The user has the message.
    There,
    /// It comes back, or came, from another removal.
    Duplicate,
}

impl Copy {
    fn removed(&self) -> Option<UnixMs> {
        match self.end {
            End::There => None,
            End::Removed { at, .. } | End::Restored { at, .. } => Some(at),
        }
    }

    fn is_wanted(&self) -> bool {
        matches!(
            self.end,
            End::Removed {
                is_wanted: true,
                ..
            } | End::Restored {
                is_wanted: true,
                ..
            }
        )
    }

    /// The last removal from where mail is kept, and not only thrown away, is the best.
    fn rank(&self) -> (bool, Option<UnixMs>) {
        (!self.is_waste, self.removed())
    }
}

/// The fate of every copy of one content. Of what is there or was restored it says nothing new.
pub(super) fn choose(copies: &[Copy]) -> Vec<Fate> {
    let mut fates = vec![Fate::Duplicate; copies.len()];
    let chains = chains(copies);
    let mut lost: Vec<&[usize]> = Vec::new();
    let mut alone: Vec<&Copy> = Vec::new();
    for chain in &chains {
        let is_there = chain
            .last()
            .is_some_and(|&last| copies[last].end == End::There);
        match is_there {
            true => {
                chain.iter().for_each(|&at| fates[at] = Fate::There);
                alone.extend((chain.len() == 1).then(|| &copies[chain[0]]));
            }
            false => lost.push(chain),
        }
    }
    lost.retain(|chain| {
        let with_folder = |at: &&usize| {
            let all = End::Removed {
                at: copies[**at].removed().unwrap_or_default(),
                is_wanted: true,
                with_folder: true,
            };
            copies[**at].end == all
        };
        let mut whole = chain.iter().filter(with_folder).peekable();
        let is_whole = whole.peek().is_some();
        whole.for_each(|&at| fates[at] = Fate::Restore);
        !is_whole
    });
    let Some(place) = best_place(copies, &lost, &fates) else {
        return fates;
    };
    let mut picked: Vec<usize> = lost
        .iter()
        .filter_map(|chain| {
            let fit = |at: &usize| copies[*at].is_wanted() && copies[*at].place == place;
            let fit = chain.iter().copied().filter(fit);
            fit.max_by_key(|&at| (copies[at].rank(), at))
        })
        .collect();
    picked.sort_by_key(|&at| (copies[at].removed(), at));
    let Some(first) = picked.first().and_then(|&at| copies[at].removed()) else {
        return fates;
    };
    // A copy of the same place that is older than all that went was always another message; one of
    // the younger ones for each that was restored was made by that.
    let (here, elsewhere): (Vec<&Copy>, Vec<&Copy>) =
        alone.into_iter().partition(|copy| copy.place == place);
    let came = here.iter().filter(|copy| copy.saved >= first).count();
    let restored = copies.iter().filter(|copy| copy.place == place);
    let restored = restored.filter(|copy| matches!(copy.end, End::Restored { .. }));
    let there = elsewhere.len() + came.saturating_sub(restored.count());
    for (n, at) in picked.into_iter().enumerate() {
        fates[at] = match n < there {
            true => Fate::There,
            false => Fate::Restore,
        };
    }
    fates
}

/// Where the content is brought back to. A place that it comes or came back to anyway is as good as
/// any, but not where that leaves the user without it.
fn best_place(copies: &[Copy], lost: &[&[usize]], fates: &[Fate]) -> Option<u32> {
    let rank = |at: &usize| (copies[*at].rank(), *at);
    let of_lost = lost.iter().flat_map(|chain| chain.iter().copied());
    let of_lost = of_lost.filter(|&at| copies[at].is_wanted());
    let best = of_lost.clone().max_by_key(rank)?;
    let comes = |at: &usize| fates[*at] == Fate::Restore;
    let came = |at: &usize| matches!(copies[*at].end, End::Restored { .. });
    let anyway = (0..copies.len()).filter(|at| comes(at) || came(at) && copies[*at].is_wanted());
    let place = match anyway.max_by_key(rank) {
        Some(before) if rank(&before) > rank(&best) => copies[before].place,
        _ => return Some(copies[best].place),
    };
    let mut all = (0..copies.len()).filter(|at| copies[*at].end == End::There || comes(at));
    let mut of_place = of_lost.filter(|&at| copies[at].place == place);
    let is_had = all.next().is_some() || of_place.next().is_some();
    Some(if is_had { place } else { copies[best].place })
}

/// Links copies into chains, each in the order of time. Those that were restored stand for
/// themselves: what was made of them is another copy, which must not be taken for undone with them.
fn chains(copies: &[Copy]) -> Vec<Vec<usize>> {
    let is_free = |at: &usize| !matches!(copies[*at].end, End::Restored { .. });
    let mut order: Vec<usize> = (0..copies.len()).filter(is_free).collect();
    let end = |at: usize| copies[at].removed().unwrap_or(UnixMs(i64::MAX));
    order.sort_by_key(|&at| (copies[at].saved, end(at), at));
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut of_mailbox: HashMap<MailboxId, BTreeSet<(UnixMs, usize)>> = HashMap::new();
    for at in order {
        let copy = &copies[at];
        // One that ended just when this began was moved.
        let before = of_mailbox.iter().filter_map(|(mailbox, open)| {
            let (end, chain) = *open.range((copy.saved, 0)..).next()?;
            let is_other = *mailbox != copy.mailbox || end == copy.saved;
            is_other.then_some((end, chain, *mailbox))
        });
        let chain = match before.min_by_key(|(end, chain, _)| (*end, *chain)) {
            Some((end, chain, mailbox)) => {
                of_mailbox
                    .get_mut(&mailbox)
                    .map(|open| open.remove(&(end, chain)));
                chains[chain].push(at);
                chain
            }
            None => {
                chains.push(vec![at]);
                chains.len() - 1
            }
        };
        if let Some(end) = copy.removed() {
            let open = of_mailbox.entry(copy.mailbox).or_default();
            open.insert((end, chain));
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: i64 = i64::MAX;
    const TRASH: u64 = 9;

    /// Mailbox, from, to; `!` was restored, `*` died with its folder, `-` is not asked for.
    fn copy((mailbox, saved, end, how): (u64, i64, i64, char)) -> Copy {
        let at = UnixMs(end);
        Copy {
            mailbox: MailboxId(mailbox),
            place: mailbox as u32 % 100,
            is_waste: mailbox == TRASH,
            saved: UnixMs(saved),
            end: match how {
                _ if end == NEVER => End::There,
                '!' => End::Restored {
                    at,
                    is_wanted: true,
                },
                _ => End::Removed {
                    at,
                    is_wanted: how != '-',
                    with_folder: how == '*',
                },
            },
        }
    }

    /// `want`: R restored, T there, D duplicate, and a dot where it does not matter.
    #[track_caller]
    fn check(copies: &[(u64, i64, i64, char)], want: &str) {
        let all: Vec<Copy> = copies.iter().map(|of| copy(*of)).collect();
        let fates = choose(&all);
        let got: String = all
            .iter()
            .zip(&fates)
            .map(|(copy, fate)| match (copy.end, fate) {
                (End::There | End::Restored { .. }, _) => '.',
                (_, Fate::Restore) => 'R',
                (_, Fate::There) => 'T',
                (_, Fate::Duplicate) => 'D',
            })
            .collect();
        assert_eq!(got, want, "{copies:?}");
    }

    #[test]
    fn equal_messages_are_as_many_as_they_were() {
        check(&[(1, 0, 10, ' ')], "R");
        check(&[(1, 0, 10, ' '); 5], "RRRRR");
        check(
            &[(1, 0, 10, ' '), (1, 0, 10, ' '), (1, 0, NEVER, ' ')],
            "RR.",
        );
        // Two of three were restored so far: those are no reason to leave the third.
        check(
            &[
                (1, 0, 10, '!'),
                (1, 0, 10, '!'),
                (1, 0, 10, ' '),
                (1, 20, NEVER, ' '),
                (1, 20, NEVER, ' '),
            ],
            "..R..",
        );
        // It was imported again.
        check(
            &[(1, 0, 10, ' '), (1, 0, 10, ' '), (1, 30, NEVER, ' ')],
            "TR.",
        );
        // Copies elsewhere count one for one.
        check(
            &[(1, 0, 10, ' '), (1, 0, 11, ' '), (2, 0, NEVER, ' ')],
            "TR.",
        );
    }

    #[test]
    fn what_was_moved_is_one_message() {
        check(&[(1, 0, 10, ' '), (2, 10, NEVER, ' ')], "T.");
        check(&[(1, 0, 10, ' '), (2, 5, NEVER, ' ')], "T.");
        check(&[(1, 0, 10, ' '), (TRASH, 10, 20, ' ')], "RD");
        check(&[(1, 0, 10, ' '), (2, 10, 20, ' ')], "DR");
        check(&[(1, 0, 10, ' '), (2, 10, 20, '-')], "RD");
        // Thrown away and fetched back; to and fro and gone; within one mailbox.
        check(
            &[(1, 0, 10, ' '), (TRASH, 10, 20, ' '), (1, 20, NEVER, ' ')],
            "TT.",
        );
        check(
            &[
                (1, 0, 10, ' '),
                (2, 10, 20, ' '),
                (1, 20, 30, ' '),
                (2, 30, 40, ' '),
            ],
            "DDDR",
        );
        check(&[(1, 0, 10, ' '), (1, 10, 20, ' ')], "DR");
        // Two were there: one moved, one expunged.
        check(
            &[(1, 0, 10, ' '), (1, 0, 12, ' '), (2, 10, NEVER, ' ')],
            "TR.",
        );
        // Three were thrown away, and the bin emptied.
        check(
            &[
                (1, 0, 10, ' '),
                (1, 0, 10, ' '),
                (TRASH, 10, 20, ' '),
                (TRASH, 10, 20, ' '),
            ],
            "RRDD",
        );
    }

    #[test]
    fn a_second_time_does_nothing_more() {
        check(
            &[(1, 0, 10, '!'), (TRASH, 10, 20, ' '), (1, 30, NEVER, ' ')],
            ".D.",
        );
        // Thrown away twice.
        let mut twice = vec![
            (1, 0, 10, '!'),
            (TRASH, 10, 20, ' '),
            (1, 30, 40, ' '),
            (TRASH, 40, 50, ' '),
        ];
        check(&twice, ".DRD");
        // It is in the bin again.
        twice[3].2 = NEVER;
        check(&twice, ".DT.");
        twice[3].2 = 50;
        twice[2].3 = '!';
        twice.push((1, 60, NEVER, ' '));
        check(&twice, ".D.D.");
        // Nobody has it: it comes back from wherever it was.
        twice.pop();
        check(&twice[..2], ".R");
    }

    #[test]
    fn a_deleted_folder_gets_all_that_it_had() {
        check(&[(1, 0, NEVER, ' '), (2, 5, 10, '*')], ".R");
        check(&[(1, 0, 10, ' '), (2, 5, 20, '*')], "DR");
        check(&[(2, 0, 20, '*'); 3], "RRR");
        check(&[(2, 30, 40, '*'), (TRASH, 0, 10, ' ')], "RD");
        check(&[(1, 0, NEVER, ' '), (2, 5, 10, ' ')], ".T");
        // The same place under another id, half restored.
        check(
            &[(2, 0, 10, '!'), (2, 0, 10, '*'), (102, 20, NEVER, ' ')],
            ".R.",
        );
        check(
            &[(2, 0, 10, '!'), (2, 0, 10, ' '), (102, 20, NEVER, ' ')],
            ".R.",
        );
    }
}
