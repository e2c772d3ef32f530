//! From what is left to an index. Synchronous: nothing happens between the state that it is made
//! against and its place in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::gather::{File, Found, doomed, row_stem};
use super::{IndexRepair, provisional_id};
use crate::base::{ModSeq, PSeq, PartitionId, Uid, UnixMs};
use crate::runtime::unix_now;
use crate::store::Flags;
use crate::store::cache::NOT_CACHED;
use crate::store::mailbox::{
    Cold, Extra, Index, KEYWORD_LETTERS_MAX, LogOp, Mailbox, NameId, NewRow, Weight, apply_entry,
};
use crate::store::maildir::{OwnName, flags_of, keyword_letters, letters_of};
use crate::store::owned::Owned;
use crate::store::partition::Partition;

pub(in crate::store) struct Rebuilt {
    pub report: IndexRepair,
    pub has_orphans: bool,
    /// Over an archive file, and rows are lost: it has to be read from its begin.
    pub is_stale: bool,
    /// The files of the damaged index.
    pub old_files: Vec<PathBuf>,
}

/// Rows as they are put together.
#[derive(Default)]
struct Rows {
    with_file: BTreeMap<Uid, NewRow>,
    /// Salvaged, and no file is there.
    without: BTreeMap<Uid, NewRow>,
    /// Rows whose flags and keywords come from the file's name.
    from_names: HashSet<Uid>,
    orphans: u32,
}

/// Puts an index in place of one that cannot be read.
pub(super) fn rebuild(
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    mut found: Found,
) -> Rebuilt {
    found.gone.extend(doomed(partition, mailbox));
    let pending = mailbox.pending_entries();
    let names = keyword_names(&found);
    let highest = partition.highest(mailbox).max(found.salvage.highest());
    let modseq = highest.next(owned.epoch.get());
    let applied = partition.state.borrow().applied;
    let maker = Maker {
        partition: partition.id,
        applied,
        later: added_later(&pending),
        names: &names,
        modseq,
        uidnext: mailbox.meta.borrow().uidnext,
    };
    let rows = maker.rows(&mut found);
    let want = mailbox.meta.borrow().weight;
    let make = |with_missing: bool| {
        let mut all: BTreeMap<Uid, &NewRow> = BTreeMap::new();
        all.extend(rows.with_file.iter().map(|(uid, row)| (*uid, row)));
        if with_missing {
            all.extend(rows.without.iter().map(|(uid, row)| (*uid, row)));
        }
        assemble(&all, &names, highest, &pending)
    };
    let (mut index, mut weight) = make(true);
    let mut kept = rows.without.len();
    if weight != want && kept > 0 {
        let (other, other_weight) = make(false);
        // More than the catalogue counts: an expunge of them is what was lost.
        if other_weight == want || weight.messages > want.messages {
            (index, weight, kept) = (other, other_weight, 0);
        }
    }
    let is_exact = weight == want;
    if !is_exact {
        // What vanished is not known: clients are told all that is there.
        index.forget_vanished(modseq);
    }
    let named = rows.from_names.iter();
    let named = named.filter(|uid| rows.with_file.contains_key(*uid));
    let report = IndexRepair {
        at: unix_now(),
        account: mailbox.account,
        mailbox: mailbox.id,
        name: mailbox.meta.borrow().name.clone(),
        messages: weight.messages,
        is_exact,
        from_names: named.count() as u32,
        orphans: rows.orphans,
        without_file: kept as u32,
        dropped: (rows.without.len() - kept) as u32,
    };
    install(partition, mailbox, index, weight, modseq, is_exact);
    let old_files = begin_anew(owned, partition, mailbox);
    Rebuilt {
        report,
        has_orphans: rows.orphans > 0,
        is_stale: mailbox.archive.get() && !is_exact,
        old_files,
    }
}

/// UIDs of rows that the pending entries add, on top of the index.
fn added_later(pending: &[LogOp]) -> HashSet<Uid> {
    let added = |op: &LogOp| match op {
        LogOp::Added(row) => Some(row.uid),
        _ => None,
    };
    pending.iter().filter_map(added).collect()
}

/// Keywords in the order of their letters, then the others.
fn keyword_names(found: &Found) -> Vec<String> {
    let mut names: Vec<String> = found.salvage.keywords.clone();
    let known = |names: &[String], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    for (number, name) in &found.keywords {
        // Numbers rise by one; what is not so tells nothing.
        if *number == names.len() && !known(&names, name) {
            names.push(name.clone());
        }
    }
    for name in &found.salvage.keywords_later {
        if !known(&names, name) {
            names.push(name.clone());
        }
    }
    names
}

fn has_forwarded(keywords: &[String]) -> bool {
    keywords
        .iter()
        .any(|k| k.eq_ignore_ascii_case("$Forwarded"))
}

struct Maker<'a> {
    partition: PartitionId,
    applied: PSeq,
    later: HashSet<Uid>,
    names: &'a [String],
    modseq: ModSeq,
    uidnext: Uid,
}

impl Maker<'_> {
    fn rows(&self, found: &mut Found) -> Rows {
        let mut rows = Rows::default();
        let salvaged = std::mem::take(&mut found.salvage.rows);
        let mut by_stem: HashMap<String, NewRow> = HashMap::with_capacity(salvaged.len());
        by_stem.extend(salvaged.into_values().map(|row| (row_stem(&row), row)));
        for file in std::mem::take(&mut found.files) {
            if found.gone.contains(&file.stem) {
                continue;
            }
            let own = OwnName::parse(&file.stem).filter(|own| own.id.partition == self.partition);
            // Replay has not come to it yet.
            if own.is_some_and(|own| own.id.pseq > self.applied) {
                continue;
            }
            let row = match (by_stem.remove(&file.stem), own) {
                (Some(row), _) => Some(self.salvaged(row, &file, found, &mut rows)),
                (None, Some(own)) => self.of_own(&own, &file, found, &mut rows),
                (None, None) => self.of_foreign(&file, found, &mut rows),
            };
            match row {
                Some(row) if self.later.contains(&row.uid) => {}
                Some(row) if !rows.with_file.contains_key(&row.uid) => {
                    rows.with_file.insert(row.uid, row);
                }
                _ => rows.orphans += 1,
            }
        }
        for (stem, row) in by_stem {
            let is_there = rows.with_file.contains_key(&row.uid) || self.later.contains(&row.uid);
            if is_there || found.gone.contains(&stem) {
                continue;
            }
            let is_archived = row.extra.as_ref().is_some_and(|e| e.archive.is_some());
            match is_archived {
                true => rows.with_file.insert(row.uid, row),
                false => rows.without.insert(row.uid, row),
            };
        }
        rows
    }

    /// A row that was read. Where the log has holes, its file's name may know better.
    fn salvaged(&self, mut row: NewRow, file: &File, found: &Found, rows: &mut Rows) -> NewRow {
        let numbers = row.keywords.iter().filter_map(|k| self.number(k));
        let letters = letters_of(row.flags, numbers, has_forwarded(&row.keywords));
        let is_certain = found.salvage.log_whole || found.salvage.certain.contains(&row.uid);
        let knows_better = !is_certain && letters != file.letters;
        row.cold.letters = file.letters;
        if knows_better {
            let beyond: Vec<String> = row
                .keywords
                .iter()
                .filter(|k| self.number(k).is_none_or(|n| n >= KEYWORD_LETTERS_MAX))
                .cloned()
                .collect();
            (row.flags, row.keywords) = self.of_letters(file.letters);
            row.keywords.extend(beyond);
            row.modseq = self.modseq;
            rows.from_names.insert(row.uid);
        }
        row
    }

    fn number(&self, keyword: &str) -> Option<usize> {
        self.names
            .iter()
            .position(|n| n.eq_ignore_ascii_case(keyword))
    }

    fn of_letters(&self, letters: u32) -> (Flags, Vec<String>) {
        let words = keyword_letters(letters).filter_map(|n| self.names.get(n).cloned());
        (flags_of(letters), words.collect())
    }

    /// Whether a row with this UID may have been here: a file may have been put here by hand, with
    /// the UID of another mailbox in its name.
    fn is_lost(&self, uid: Uid, found: &Found) -> bool {
        let salvage = &found.salvage;
        let read = salvage.snapshot_whole && (salvage.log_whole || uid <= salvage.snapshot_last);
        uid < self.uidnext && !read || self.later.contains(&uid)
    }

    /// A row from the name of one of our own files.
    fn of_own(&self, own: &OwnName, file: &File, found: &Found, rows: &mut Rows) -> Option<NewRow> {
        let uid = own.uid.filter(|uid| self.is_lost(*uid, found))?;
        let (cache, email_id) = match found.cache.get(&own.id) {
            Some(known) => *known,
            None => (NOT_CACHED, provisional_id(&file.stem)),
        };
        let cold = Cold {
            name: own.id,
            cache,
            prefix_bytes: own.prefix_bytes,
            bare_newlines: u32::try_from(own.size.saturating_sub(own.stored)).unwrap_or(u32::MAX),
            letters: file.letters,
            email_id,
            uid_in_name: true,
        };
        let saved = UnixMs(own.saved_secs.saturating_mul(1000));
        rows.from_names.insert(uid);
        Some(self.row((uid, saved, own.size), file, cold, Extra::default()))
    }

    /// A row from the name of a file of another program, where Dovecot's list has its UID.
    fn of_foreign(&self, file: &File, found: &Found, rows: &mut Rows) -> Option<NewRow> {
        let uid = *found.uids.get(&file.stem)?;
        if !self.is_lost(uid, found) {
            return None;
        }
        let field = |tag: &str| {
            let value = file.stem.split(',').find_map(|f| f.strip_prefix(tag))?;
            value.parse::<u64>().ok()
        };
        let (stored, size) = (field("S=")?, field("W=")?);
        let cold = Cold {
            name: NameId {
                partition: self.partition,
                pseq: PSeq(0),
                ordinal: 0,
            },
            cache: NOT_CACHED,
            prefix_bytes: 0,
            bare_newlines: u32::try_from(size.checked_sub(stored)?).ok()?,
            letters: file.letters,
            email_id: provisional_id(&file.stem),
            uid_in_name: false,
        };
        let extra = Extra {
            stem: Some(file.stem.as_str().into()),
            ..Extra::default()
        };
        rows.from_names.insert(uid);
        Some(self.row((uid, file.modified, size), file, cold, extra))
    }

    /// UID, time saved and size, with what the file says.
    fn row(&self, facts: (Uid, UnixMs, u64), file: &File, cold: Cold, extra: Extra) -> NewRow {
        let (uid, saved, size) = facts;
        let (flags, keywords) = self.of_letters(file.letters);
        NewRow {
            uid,
            flags,
            keywords,
            modseq: self.modseq,
            internal_date: file.modified,
            saved,
            size,
            cold,
            extra: extra.boxed(),
        }
    }
}

fn assemble(
    rows: &BTreeMap<Uid, &NewRow>,
    names: &[String],
    floor: ModSeq,
    pending: &[LogOp],
) -> (Index, Weight) {
    let mut index = Index::with_keywords(names, floor);
    rows.values().for_each(|row| {
        index.add(row);
    });
    for op in pending {
        // One that does not fit is counted by the weight.
        let _ = apply_entry(&mut index, op.clone());
    }
    let mut weight = Weight::default();
    (0..index.len()).for_each(|at| weight.add(index.weight(at)));
    (index, weight)
}

/// Gives the mailbox its index, and the catalogue the counts that it has.
fn install(
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    index: Index,
    weight: Weight,
    modseq: ModSeq,
    is_exact: bool,
) {
    let mut meta = mailbox.meta.borrow_mut();
    if !is_exact {
        let mut state = partition.state.borrow_mut();
        let counts = !mailbox.archive.get();
        let account = state.accounts.get_mut(&mailbox.account);
        if let Some(account) = account.filter(|_| counts) {
            let (was, is) = (meta.weight, weight);
            account.bytes = (account.bytes + is.size).saturating_sub(was.size);
            let messages = account.messages + u64::from(is.messages);
            account.messages = messages.saturating_sub(was.messages.into());
        }
        meta.weight = weight;
        meta.highest = meta.highest.max(modseq);
    }
    let last = index.uids().last().copied().unwrap_or(Uid(0));
    meta.uidnext = meta.uidnext.max(Uid(last.0.saturating_add(1)));
    let recent = index.uids().iter().filter(|uid| **uid >= meta.recent_from);
    meta.recent = recent.count() as u32;
    drop(meta);
    mailbox.put_index(index);
    mailbox.keywords_stale.set(true);
}

/// Begins a new generation; the files of the old one go after the next checkpoint.
pub(super) fn begin_anew(
    owned: &Owned,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Vec<PathBuf> {
    let old = mailbox.begin_generation();
    let relative = |path: &PathBuf| owned.layout.relative(path).to_path_buf();
    partition.give_up(old.iter().map(relative));
    partition.queue(mailbox);
    partition.dirty.set(true);
    old
}
