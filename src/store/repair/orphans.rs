//! Message files that no row names: taken in as new messages, by a record.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use hashbrown::HashSet;

use super::WAIT;
use super::gather::{File, doomed, list_messages, unsettled};
use crate::base::{AccountId, Deadline, MailboxId, Uid, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime::local::Notify;
use crate::runtime::{Step, now, sleep, yield_if_needed};
use crate::store::account::next_uid_after;
use crate::store::archive;
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::{OwnName, file_name, flags_of, keyword_letters};
use crate::store::message::walk_limits;
use crate::store::owned::count;
use crate::store::packed::Stored;
use crate::store::partition::Partition;
use crate::store::quota::Charge;
use crate::store::shard::Shard;
use crate::store::{AdoptedPlace, AdoptedRow, Op, StoreError};
use crate::wire::mime::{Digest, Walker};

/// Files taken in by one record, and the digests in it.
const ROWS_MAX: usize = 500;
const DIGEST_BYTES_MAX: usize = 1 << 20;
/// Read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// Mailboxes in which a rebuild found files without a UID, and when they are looked at.
#[derive(Default)]
pub(in crate::store) struct Orphans {
    waiting: RefCell<BTreeMap<Home, Option<Instant>>>,
    told: Notify,
}

type Home = (AccountId, MailboxId);

/// Value of the account for each mailbox in which files wait to be taken in: a rebuilt index does
/// not tell of them any more.
const NAMESPACE: &str = "palomar.orphans";
/// After a failure, until it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Orphans {
    pub fn add(&self, account: AccountId, mailbox: MailboxId) {
        self.waiting.borrow_mut().insert((account, mailbox), None);
        self.told.notify_all();
    }

    /// For the next owner of the partitions.
    pub fn all(&self) -> Vec<Home> {
        self.waiting.borrow().keys().copied().collect()
    }

    /// What of `found` is in the partition, and what its values tell of.
    pub fn take_over(&self, partition: &Partition, found: &[Home]) {
        let state = partition.state.borrow();
        for (id, account) in &state.accounts {
            let noted = account.values.keys().filter(|(ns, _)| ns == NAMESPACE);
            let noted = noted.filter_map(|(_, key)| key.as_slice().try_into().ok());
            for mailbox in noted.map(u64::from_le_bytes) {
                self.add(*id, MailboxId(mailbox));
            }
        }
        let here = |home: &&Home| state.mailbox(home.0, home.1).is_some();
        for (account, mailbox) in found.iter().filter(here) {
            self.add(*account, *mailbox);
        }
    }

    /// The next that is due, or how long that takes.
    fn next(&self) -> Result<Home, Option<Duration>> {
        let waiting = self.waiting.borrow();
        let first = waiting.iter().min_by_key(|(_, due)| **due);
        let (home, due) = first.ok_or(None)?;
        let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now()));
        match left {
            Duration::ZERO => Ok(*home),
            left => Err(Some(left)),
        }
    }
}

/// Stands for the id of a message that nobody has read since the id was lost: of this name alone.
pub(in crate::store) fn provisional_id(stem: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("palomar provisional email id");
    hasher.update(stem.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// Takes in what rebuilds found, until the store closes. An archive file has what was lost still.
pub(in crate::store) async fn run(shard: Rc<Shard>) {
    let orphans = &shard.owned.orphans;
    while !shard.gate.is_closed() {
        let told = orphans.told.notified();
        let (account, id) = match orphans.next() {
            Ok(next) => next,
            Err(Some(left)) => {
                or(or(told, sleep(left)), shard.gate.closing()).await;
                continue;
            }
            Err(None) => {
                or(told, shard.gate.closing()).await;
                continue;
            }
        };
        let partitions = shard.owned.all();
        let home = partitions
            .iter()
            .find_map(|p| Some((p.clone(), p.mailbox(account, id).ok()?)));
        let outcome = match home {
            Some((partition, mailbox)) if mailbox.archive.get() => {
                archive::read_again(&shard, &partition, &mailbox).await;
                Ok(())
            }
            Some((partition, mailbox)) => take_in(&shard, &partition, &mailbox).await,
            None => Ok(()),
        };
        let mut waiting = orphans.waiting.borrow_mut();
        match outcome {
            Ok(()) | Err(StoreError::MailboxGone) => drop(waiting.remove(&(account, id))),
            Err(why) => {
                tracing::warn!(?why, %account, mailbox = %id, "files without a row wait");
                waiting.insert((account, id), Some(now() + AGAIN_AFTER));
            }
        }
    }
}

/// Noted durably before, until nothing is left.
async fn take_in(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
) -> Result<(), StoreError> {
    note(shard, partition, mailbox, true).await?;
    adopt(shard, partition, mailbox).await?;
    note(shard, partition, mailbox, false).await
}

async fn note(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Mailbox,
    waits: bool,
) -> Result<(), StoreError> {
    shard.turn(partition, &[mailbox.account]).await?;
    let key = (NAMESPACE.to_owned(), mailbox.id.0.to_le_bytes().to_vec());
    let is_noted = {
        let state = partition.state.borrow();
        let account = state.accounts.get(&mailbox.account);
        account.is_some_and(|account| account.values.contains_key(&key))
    };
    if is_noted == waits {
        return Ok(());
    }
    let op = Op::ValueSet {
        account: Some(mailbox.account),
        namespace: key.0,
        key: key.1,
        value: waits.then(Vec::new),
    };
    let ticket = shard.submit(partition, vec![op], Vec::new(), Class::Completion)?;
    shard.commit(ticket).await
}

/// Files in `cur` that no row names and no expunge left behind. The index is loaded.
async fn find(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<Vec<File>, StoreError> {
    super::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let mut gone = doomed(partition, mailbox);
    let round = partition.dooms.get();
    let cur = mailbox.path().join("cur");
    let mut files = list_messages(&shard.disk, &cur, false).await?;
    if partition.dooms.get() != round || round % 2 == 1 {
        // Expunged files are being removed: which, nothing says any more.
        return Err(StoreError::Busy);
    }
    gone.extend(doomed(partition, mailbox));
    gone.extend(unsettled(partition, mailbox).into_iter().map(|f| f.stem));
    let index = mailbox.index.borrow();
    let index = index.as_ref().ok_or(StoreError::Late)?;
    let known: HashSet<String> = (0..index.len()).map(|at| index.stem(at)).collect();
    files.retain(|file| !known.contains(&file.stem) && !gone.contains(&file.stem));
    Ok(files)
}

/// The names of the files without a row.
pub(in crate::store) async fn find_orphans(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<Vec<String>, StoreError> {
    let files = find(shard, partition, mailbox).await?;
    Ok(files.into_iter().map(|file| file.stem).collect())
}

/// Takes in every orphan of a mailbox; answers how many.
pub(super) async fn adopt(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
) -> Result<u32, StoreError> {
    let mut taken = 0;
    let mut passed = HashSet::new();
    while let Some(some) = adopt_some(shard, partition, mailbox, &mut passed).await? {
        taken += some;
    }
    Ok(taken)
}

/// What one record takes; `None` where nothing is left. One does at a time, and nothing settles
/// meanwhile: what is no row now is none when its record says that it is one.
async fn adopt_some(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
    passed: &mut HashSet<String>,
) -> Result<Option<u32>, StoreError> {
    let until = Deadline::after(now(), WAIT);
    let settling = shard.settling.acquire(1, until).await;
    let _settling = settling.map_err(|_| StoreError::Busy)?;
    let mut files = find(shard, partition, mailbox).await?;
    files.retain(|file| !passed.contains(&file.stem));
    if files.is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut stems = HashSet::new();
    for file in files {
        if rows.len() == ROWS_MAX || bytes > DIGEST_BYTES_MAX {
            break;
        }
        let is_first = stems.insert(file.stem.clone());
        let Some(row) = read(shard, mailbox, &file, is_first).await? else {
            passed.insert(file.stem);
            continue;
        };
        bytes += row.digest.len();
        rows.push(row);
    }
    match rows.is_empty() {
        true => Ok(None),
        false => submit(shard, partition, mailbox, rows).await.map(Some),
    }
}

async fn submit(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    mailbox: &Rc<Mailbox>,
    mut rows: Vec<AdoptedRow>,
) -> Result<u32, StoreError> {
    // Names that were given here are durable before a record says them.
    let cur = mailbox.path().join("cur");
    let synced = shard.disk.sync_dir(&cur).await;
    synced.map_err(|e| disk_error(&e))?;
    shard.turn(partition, &[mailbox.account]).await?;
    if mailbox.deleted.get() {
        return Err(StoreError::MailboxGone);
    }
    let modseq = partition.highest(mailbox).next(shard.epoch);
    let mut uid = partition.next_uid(mailbox)?;
    for row in &mut rows {
        (row.uid, row.modseq) = (uid, modseq);
        uid = next_uid_after(uid)?;
    }
    let n = rows.len() as u32;
    let marks = Charge::of_rows(shard, partition, mailbox.account, &rows).marks();
    let mut ops = vec![Op::Adopted {
        account: mailbox.account,
        mailbox: mailbox.id,
        rows,
    }];
    ops.extend(marks);
    // Refused before the ring is full: its commit would wait for the checkpoint that waits for us.
    let ticket = shard.submit(partition, ops, Vec::new(), Class::NewMail)?;
    shard.commit(ticket).await?;
    for _ in 0..n {
        count(&shard.owned.counters.orphans_taken);
    }
    log_event!(
        WARN,
        event::ORPHANS_TAKEN,
        account = %mailbox.account,
        mailbox = %mailbox.id,
        messages = n
    );
    Ok(n)
}

/// The row of an orphan, all but its numbers; `None` where it is gone or cannot be read.
async fn read(
    shard: &Shard,
    mailbox: &Mailbox,
    file: &File,
    has_its_name: bool,
) -> Result<Option<AdoptedRow>, StoreError> {
    let cur = mailbox.path().join("cur");
    let path = cur.join(file_name(&file.stem, file.letters));
    let own = OwnName::parse(&file.stem);
    let Some(measured) = measure(shard, &path, stored_size(&file.stem)).await else {
        return Ok(None);
    };
    let (bytes, size) = (measured.digest.bytes(), measured.digest.crlf_bytes());
    // The file is the durable body: whoever wrote it may not have synced it.
    let (stem, steps) = match own {
        None if has_its_name => (file.stem.clone(), vec![Step::SyncFile { path }]),
        _ => {
            // Its name says a UID that it will not have, or is another file's, too. The new one is
            // of the old one: the same message may be there twice.
            let id = data_encoding::HEXLOWER.encode(&measured.email_id);
            let was = provisional_id(&file_name(&file.stem, file.letters));
            let was = data_encoding::HEXLOWER.encode(&was[..6]);
            let secs = own.map_or(file.modified.seconds(), |own| own.saved_secs);
            let stem = format!("{secs}.{id}-{was}.orphan,S={bytes},W={size}");
            let to = cur.join(file_name(&stem, file.letters));
            let sync = Step::SyncFile { path: to.clone() };
            (stem, vec![Step::Rename { from: path, to }, sync])
        }
    };
    for done in shard.disk.batch(steps).await {
        done.map_err(|e| disk_error(&e))?;
    }
    let words = keyword_letters(file.letters);
    let names = {
        let index = mailbox.index.borrow();
        index.as_ref().map(|i| i.keyword_names().to_vec())
    };
    let names = names.unwrap_or_default();
    let keywords = words.filter_map(|n| names.get(n).map(|name| name.to_string()));
    let mut digest = Vec::new();
    measured.digest.encode(&mut digest);
    Ok(Some(AdoptedRow {
        uid: Uid(0),
        modseq: crate::base::ModSeq(0),
        flags: flags_of(file.letters),
        keywords: keywords.collect(),
        internal_date: file.modified,
        saved: own.map_or(file.modified, |own| {
            UnixMs(own.saved_secs.saturating_mul(1000))
        }),
        size,
        bare_newlines: u32::try_from(size.saturating_sub(bytes)).unwrap_or(u32::MAX),
        email_id: measured.email_id,
        stem,
        letters: file.letters,
        place: AdoptedPlace::Cur,
        uidl: None,
        digest: Arc::from(digest),
    }))
}

struct Measured {
    digest: Digest,
    email_id: [u8; 16],
}

/// How long the name says that the message is, which tells whether the file is compressed.
fn stored_size(stem: &str) -> Option<u64> {
    let size = stem.split(',').find_map(|field| field.strip_prefix("S="));
    size?.parse().ok()
}

/// Reads a message once; `None` where that cannot be done.
async fn measure(shard: &Shard, path: &Path, size: Option<u64>) -> Option<Measured> {
    let len = shard.disk.file_len(path).await.ok()?;
    let scratch = || shard.spools.new_path();
    let opened = Stored::open(&shard.disk, path, size.unwrap_or(len), scratch).await;
    let (file, size) = match opened {
        Ok(file) => (file, size.unwrap_or(len)),
        // What is neither is taken as it is: nothing better will be found.
        Err(_) => {
            let file = Stored::open(&shard.disk, path, len, || shard.spools.new_path()).await;
            (file.ok()?, len)
        }
    };
    let mut walker = Walker::new(walk_limits());
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let piece = file.read(at..(at + PIECE_BYTES).min(size)).await.ok()?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        walker.feed(&piece);
        hasher.update(&piece);
        yield_if_needed().await;
    }
    let mut email_id = [0; 16];
    email_id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Some(Measured {
        digest: walker.finish(),
        email_id,
    })
}
