//! Looking at a user's archive files: new ones become mailboxes, their messages rows.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{
    ABOVE, NAMESPACE, PROOF_BYTES, Packed, Source, above_users, directory_of, key, read, source_of,
};
use crate::base::{AccountId, Deadline, MailboxId, Uid, UnixMs};
use crate::runtime::{DiskErrorKind, DiskFile, now, sleep, spawn_in, unix_now, yield_if_needed};
use crate::store::account::{Account, Numbers, under_way};
use crate::store::flags::Flags;
use crate::store::journal::Class;
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::is_good;
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{AdoptedPlace, AdoptedRow, Op, StoreError};
use crate::wire::mbox::{
    Dialect, FromLine, JUDGED_BYTES, LOOK_BYTES, Splitter, Step, Unquote, WINDOW_BYTES_MIN,
    ends_here, from_line, is_internal, judge, marks,
};
use crate::wire::mime::{DigestView, Limits, Walker};

/// Between two looks for one user.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The session's begin waits so long for new mailboxes; after that they come later.
const LIST_SPAN: Duration = Duration::from_secs(5);
/// Files of one user, and directories below one another.
const FILES_MAX: usize = 1_000;
const DEPTH_MAX: usize = 16;
/// A file that was written to a moment ago may not be whole.
const STILL: Duration = Duration::from_secs(2);
const TURN_WAIT: Duration = Duration::from_secs(600);
const READ_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 64 << 10;
/// Rows, and octets of their digests, of one record.
const ROWS_MAX: usize = 500;
const DIGESTS_BYTES_MAX: usize = 512 << 10;
const STRUCTURE_BYTES_MAX: usize = 256 << 10;

struct Found {
    path: PathBuf,
    name: String,
}

impl Account {
    /// Looks, at most once a minute, whether there are archive files of the user with that
    /// address. Mailboxes of new files are there when this returns, unless the disk is slow;
    /// messages come into them in the background.
    pub async fn look_for_archives(&self, address: &str) {
        let (shard, partition) = (self.shard().clone(), self.partition().clone());
        let template = shard.cfg.archives.as_deref();
        let Some((template, dir)) =
            template.and_then(|template| Some((template, directory_of(template, address)?)))
        else {
            return;
        };
        let account = self.id();
        {
            let mut last = shard.archives.last.borrow_mut();
            last.retain(|_, at| now().duration_since(*at) < LOOK_EVERY);
            if last.insert(account, now()).is_some() {
                return;
            }
        }
        let above = above_users(template);
        let listing = async {
            let canonical = shard.disk.canonical(&above).await;
            let canonical = canonical.map_err(|e| disk_error(&e))?;
            let dir = canonical.join(dir.strip_prefix(&above).unwrap_or(&dir));
            list(&shard, &partition, account, &dir).await
        };
        let until = Deadline::after(now(), LIST_SPAN);
        let found = match crate::runtime::deadline(until, listing).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => {
                tracing::warn!(dir = %dir.display(), ?why, "archives not looked at");
                return;
            }
            Err(_) => {
                shard.archives.last.borrow_mut().remove(&account);
                return;
            }
        };
        let gate = shard.gate.clone();
        spawn_in(&gate, "store-archives", async move {
            for one in found {
                if shard.gate.is_closed() || shard.is_poisoned() {
                    return;
                }
                if let Err(why) = look(&shard, &partition, account, &one).await {
                    tracing::warn!(file = %one.path.display(), ?why, "archive not read");
                }
            }
        });
    }
}

#[cfg(test)]
impl Account {
    /// The next look does not wait for its time.
    pub(in crate::store) fn forget_look(&self) {
        self.shard().archives.last.borrow_mut().remove(&self.id());
    }

    /// Returns once nothing is being read.
    pub(in crate::store) async fn looked(&self) {
        crate::runtime::sleep(Duration::from_millis(1)).await;
        let until = Deadline::after(now(), TURN_WAIT);
        let turn = self.shard().archives.reading.acquire(1, until).await;
        drop(turn.expect("its turn"));
    }
}

impl Account {
    /// What goes with the deletion of an archive mailbox, which is only done where its file is
    /// gone: the next look would make it again.
    pub(in crate::store) async fn forget_archive(
        &self,
        mailbox: MailboxId,
    ) -> Result<Option<Op>, StoreError> {
        let source = {
            let state = self.partition().state.borrow();
            let of_account = state.accounts.get(&self.id());
            of_account.and_then(|a| source_of(a, mailbox))
        };
        let shard = self.shard();
        if let (Some(source), true) = (source, shard.cfg.archives.is_some())
            && shard
                .disk
                .exists(&source.path)
                .await
                .map_err(|e| disk_error(&e))?
        {
            return Err(StoreError::ReadOnly);
        }
        Ok(Some(set(self.id(), mailbox, None)))
    }
}

/// The files below `dir`, each with its mailbox, made where it is missing.
async fn list(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    dir: &Path,
) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    let mut dirs = vec![(dir.to_owned(), ABOVE.to_owned(), 0)];
    let disk = shard.disk.foreign();
    while let Some((dir, above, depth)) = dirs.pop() {
        let entries = match disk.list(&dir).await {
            Ok(entries) => entries,
            // Nobody made it: there are no archives.
            Err(error) if error.kind == DiskErrorKind::NotFound => continue,
            Err(error) => {
                shard.archives.pass_over(&dir, &error.to_string());
                continue;
            }
        };
        for entry in entries {
            let path = dir.join(&entry.name);
            let name = entry.name.to_string_lossy();
            if name.starts_with('.') || name.ends_with(".msf") {
                continue;
            }
            let why = match entry.name.to_str() {
                None => "its name is not UTF-8",
                Some(file) if entry.is_dir && depth < DEPTH_MAX => {
                    let level = file.strip_suffix(".sbd").unwrap_or(file);
                    dirs.push((path, format!("{above}/{level}"), depth + 1));
                    continue;
                }
                Some(_) if entry.is_dir => "too many directories below one another",
                Some(_) if !entry.is_file => "a symbolic link, or no regular file",
                Some(_) if found.len() >= FILES_MAX => "too many files",
                Some(file) => {
                    let name = format!("{above}/{}", stem(file));
                    found.push(Found { path, name });
                    continue;
                }
            };
            shard.archives.pass_over(&path, why);
        }
    }
    choose(shard, partition, account, found).await
}

/// Those that are mailboxes, made where they are missing; of the others it is said why not.
async fn choose(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    mut found: Vec<Found>,
) -> Result<Vec<Found>, StoreError> {
    let pass_over = |one: &Found, why: &str| shard.archives.pass_over(&one.path, why);
    let is_good = |one: &Found| {
        let is_good = is_good(&one.name);
        if !is_good {
            pass_over(one, "no folder can be called so");
        }
        is_good
    };
    found.retain(is_good);
    // Two files of one name (x and x.gz): the first.
    found.sort_by(|one, two| (&one.name, &one.path).cmp(&(&two.name, &two.path)));
    found.dedup_by(|two, one| {
        let is_same = two.name == one.name;
        if is_same {
            pass_over(two, "another file gives a folder of the same name");
        }
        is_same
    });
    let unknown = |one: &&Found| !is_known(partition, account, &one.name);
    let mut new = Vec::new();
    for one in found.iter().filter(unknown) {
        match packing(shard, &one.path).await {
            Some(packed) => new.push((one, packed)),
            None => pass_over(one, "no mbox file, or it cannot be read"),
        }
    }
    make(shard, partition, account, &new).await?;
    found.retain(|one| {
        let is_known = is_known(partition, account, &one.name);
        if is_known && current(partition, account, &one.name).is_none() {
            pass_over(one, "the user has a folder of that name");
        }
        is_known
    });
    Ok(found)
}

fn stem(file: &str) -> &str {
    let short = [".gz", ".zst", ".zstd"]
        .iter()
        .find_map(|end| file.strip_suffix(end));
    let file = short.filter(|s| !s.is_empty()).unwrap_or(file);
    file.strip_suffix(".mbox")
        .filter(|s| !s.is_empty())
        .unwrap_or(file)
}

fn is_known(partition: &Partition, account: AccountId, name: &str) -> bool {
    let state = partition.state.borrow();
    let of_account = state.accounts.get(&account);
    of_account.is_some_and(|a| a.find(name).is_some())
}

/// What the file is by its first octets; `None` where it is no mbox file.
async fn packing(shard: &Shard, path: &Path) -> Option<Packed> {
    let (file, len) = shard.disk.foreign().open_sized(path).await.ok()?;
    let first = file.read_at(LOOK_BYTES.min(len as usize), 0).await.ok()?;
    match first[..] {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packed::Compressed),
        _ => from_line(&first).map(|_| Packed::Plain),
    }
}

async fn make(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    new: &[(&Found, Packed)],
) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let mut bar = shard.bar(partition, account).await?;
    if under_way(partition, account) {
        return Err(StoreError::Busy);
    }
    let mut numbers = Numbers::of(partition);
    let mut ops = Vec::new();
    for (one, packed) in new {
        // Another session may have been first.
        if !is_known(partition, account, &one.name) {
            let (mailbox, created) = numbers.created(partition, account, &one.name, None);
            ops.push(created);
            ops.push(set(
                account,
                mailbox,
                Some(&Source::unread(&one.path, *packed)),
            ));
            // Many clients show only what is subscribed.
            ops.push(Op::SubscriptionSet {
                account,
                name: one.name.clone(),
                subscribed: true,
            });
        }
    }
    if ops.is_empty() {
        return Ok(());
    }
    let ticket = shard.submit_barred(partition, ops, Class::Change, &mut bar)?;
    shard.commit(ticket).await
}

fn set(account: AccountId, mailbox: MailboxId, source: Option<&Source>) -> Op {
    Op::ValueSet {
        account: Some(account),
        namespace: NAMESPACE.to_owned(),
        key: key(mailbox),
        value: source.map(Source::encode),
    }
}

/// Brings a mailbox up to its file.
async fn look(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    found: &Found,
) -> Result<(), StoreError> {
    let until = Deadline::after(now(), TURN_WAIT);
    let turn = shard.archives.reading.acquire(1, until).await;
    let _turn = turn.map_err(|_| StoreError::Late)?;
    let Some((mut mailbox, mut source)) = current(partition, account, &found.name) else {
        return Ok(());
    };
    let is_moved = source.path != found.path;
    source.path.clone_from(&found.path);
    let (len, modified) = stat(shard, &found.path).await?;
    if (len, modified) == (source.len, source.modified) {
        return match is_moved {
            true => note_path(shard, partition, account, (mailbox, &source)).await,
            false => Ok(()),
        };
    }
    if unix_now().0 - modified.0 < STILL.as_millis() as i64 {
        sleep(STILL).await;
        if stat(shard, &found.path).await? != (len, modified) {
            return Ok(());
        }
    }
    let (file, size) = read::open(shard, &source).await?;
    if !goes_on(&source, &file, size).await? {
        source = Source::unread(&found.path, source.packed);
        mailbox = replace(shard, partition, account, (mailbox, &found.name), &source).await?;
    }
    let mut scan = Scan::begin(shard, partition, account, mailbox, source, file).await?;
    scan.run().await?;
    scan.source.len = len;
    scan.source.modified = modified;
    scan.commit().await
}

async fn stat(shard: &Shard, path: &Path) -> Result<(u64, UnixMs), StoreError> {
    let disk = shard.disk.foreign();
    let len = disk.file_len(path).await.map_err(|e| disk_error(&e))?;
    let modified = disk.modified(path).await.map_err(|e| disk_error(&e))?;
    Ok((len, modified))
}

/// The same file is elsewhere, or is called otherwise.
async fn note_path(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    (mailbox, source): (MailboxId, &Source),
) -> Result<(), StoreError> {
    shard.turn(partition, &[account]).await?;
    partition.mailbox(account, mailbox)?;
    let ops = vec![set(account, mailbox, Some(source))];
    let ticket = shard.submit(partition, ops, Vec::new(), Class::Change)?;
    shard.commit(ticket).await
}

/// Rows of the mailbox were lost with its index: another of its name has all that is in the file
/// after the next look.
pub(in crate::store) async fn read_again(
    shard: &Shard,
    partition: &Rc<Partition>,
    mailbox: &Mailbox,
) {
    let (account, name) = (mailbox.account, mailbox.meta.borrow().name.clone());
    let outcome = async {
        let until = Deadline::after(now(), TURN_WAIT);
        let turn = shard.archives.reading.acquire(1, until).await;
        let _turn = turn.map_err(|_| StoreError::Late)?;
        let known = current(partition, account, &name);
        let Some((id, source)) = known.filter(|(id, _)| *id == mailbox.id) else {
            return Ok(());
        };
        let source = Source::unread(&source.path, source.packed);
        replace(shard, partition, account, (id, &name), &source).await?;
        shard.archives.last.borrow_mut().remove(&account);
        Ok(())
    };
    let outcome: Result<(), StoreError> = outcome.await;
    if let Err(why) = outcome {
        tracing::warn!(?why, %account, name, "an archive lacks messages: its index was lost");
    }
}

fn current(partition: &Partition, account: AccountId, name: &str) -> Option<(MailboxId, Source)> {
    let state = partition.state.borrow();
    let of_account = state.accounts.get(&account)?;
    let mailbox = of_account.find(name)?.id;
    Some((mailbox, source_of(of_account, mailbox)?))
}

/// Whether the file begins with all that was read of it before, and goes on with a message.
async fn goes_on(source: &Source, file: &DiskFile, len: u64) -> Result<bool, StoreError> {
    if source.end == 0 {
        return Ok(true);
    }
    if len < source.end {
        return Ok(false);
    }
    let next = octets(file, source.end, LOOK_BYTES as u64).await?;
    let (head, tail) = proof(file, source.end).await?;
    Ok(head == source.head && tail == source.tail && ends_here(&next))
}

async fn octets(file: &DiskFile, at: u64, len: u64) -> Result<Vec<u8>, StoreError> {
    file.read_at(len as usize, at)
        .await
        .map_err(|e| disk_error(&e))
}

async fn proof(file: &DiskFile, end: u64) -> Result<([u8; 32], [u8; 32]), StoreError> {
    let len = PROOF_BYTES.min(end);
    let head = octets(file, 0, len).await?;
    let tail = octets(file, end - len, len).await?;
    Ok((
        *blake3::hash(&head).as_bytes(),
        *blake3::hash(&tail).as_bytes(),
    ))
}

/// The file is another: its mailbox begins anew, so that no client takes one for the other.
async fn replace(
    shard: &Shard,
    partition: &Rc<Partition>,
    account: AccountId,
    (old, name): (MailboxId, &str),
    source: &Source,
) -> Result<MailboxId, StoreError> {
    let mut bar = shard.bar(partition, account).await?;
    partition.mailbox(account, old)?;
    let mut numbers = Numbers::of(partition);
    let (mailbox, created) = numbers.created(partition, account, name, None);
    let at = unix_now();
    let deleted = Op::MailboxDeleted {
        account,
        mailbox: old,
        at,
    };
    let ops = vec![
        deleted,
        set(account, old, None),
        created,
        set(account, mailbox, Some(source)),
    ];
    let ticket = shard.submit_barred(partition, ops, Class::Change, &mut bar)?;
    shard.commit(ticket).await?;
    Ok(mailbox)
}

/// Reads messages from where it stopped, and journals them.
struct Scan<'s> {
    shard: &'s Shard,
    partition: &'s Rc<Partition>,
    account: AccountId,
    mailbox: MailboxId,
    source: Source,
    file: DiskFile,
    splitter: Splitter,
    window: Vec<u8>,
    last: bool,
    rows: Vec<AdoptedRow>,
    digests: usize,
}

/// The message that is being read.
struct Current {
    from: FromLine,
    walker: Box<Walker>,
    hasher: Box<blake3::Hasher>,
    unquote: Unquote,
    head: Vec<u8>,
}

impl Current {
    fn new(from: FromLine) -> Self {
        let limits = Limits {
            structure_bytes_max: STRUCTURE_BYTES_MAX,
            ..Limits::default()
        };
        Current {
            from,
            walker: Box::new(Walker::new(limits)),
            hasher: Box::default(),
            unquote: Unquote::default(),
            head: Vec::new(),
        }
    }

    fn take(&mut self, text: &[u8]) {
        self.walker.feed(text);
        self.hasher.update(text);
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&text[..text.len().min(room)]);
    }

    /// The row, without its numbers; `None` where it is no mail.
    fn row(self, at: u64, len: u64) -> Option<AdoptedRow> {
        let marks = marks(&self.head, &self.from);
        if marks.removed || is_internal(&self.head) {
            return None;
        }
        let mut digest = Vec::new();
        self.walker.finish().encode(&mut digest);
        let (bytes, size) = DigestView::parse(&digest)
            .map(|d| (d.bytes(), d.crlf_bytes()))
            .ok()?;
        let mut email_id = [0; 16];
        email_id.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        let date = marks.arrived.unwrap_or(self.from.date);
        Some(AdoptedRow {
            uid: Uid(0),
            modseq: crate::base::ModSeq(0),
            flags: Flags::from(&marks),
            keywords: marks.keywords,
            internal_date: UnixMs::from_seconds(date.seconds()),
            saved: unix_now(),
            size,
            bare_newlines: u32::try_from(size.saturating_sub(bytes)).unwrap_or(u32::MAX),
            email_id,
            stem: String::new(),
            letters: 0,
            place: AdoptedPlace::Archive { at, len },
            uidl: None,
            digest: Arc::from(digest),
        })
    }
}

impl<'s> Scan<'s> {
    async fn begin(
        shard: &'s Shard,
        partition: &'s Rc<Partition>,
        account: AccountId,
        mailbox: MailboxId,
        mut source: Source,
        file: DiskFile,
    ) -> Result<Self, StoreError> {
        if source.end == 0 {
            let head = octets(&file, 0, JUDGED_BYTES as u64).await?;
            let whole = head.len() < JUDGED_BYTES;
            source.dialect = shard
                .disk
                .compute(move || judge(&head, whole))
                .await
                .map_err(|e| disk_error(&e))?;
        }
        let splitter = Splitter::new(source.dialect, source.end);
        Ok(Scan {
            shard,
            partition,
            account,
            mailbox,
            source,
            file,
            splitter,
            window: Vec::new(),
            last: false,
            rows: Vec::new(),
            digests: 0,
        })
    }

    /// All messages to the end of the file; the rows of the last are not committed yet.
    async fn run(&mut self) -> Result<(), StoreError> {
        let Dialect { quoted, .. } = self.source.dialect;
        let mut used = 0;
        let mut current: Option<Current> = None;
        let mut text = Vec::new();
        loop {
            let (taken, step) = self.splitter.step(&self.window[used..], self.last);
            used += taken;
            match step {
                Step::Begin(from) => current = Some(Current::new(from)),
                Step::Piece(piece) => {
                    let Some(now) = &mut current else { continue };
                    if quoted {
                        text.clear();
                        now.unquote.feed(piece, &mut text);
                        let unquoted = std::mem::take(&mut text);
                        now.take(&unquoted);
                        text = unquoted;
                    } else {
                        now.take(piece);
                    }
                }
                Step::End { at, len } => {
                    if let Some(mut now) = current.take() {
                        text.clear();
                        now.unquote.finish(&mut text);
                        now.take(&text);
                        self.end(now, at, len).await?;
                    }
                }
                Step::Look(at) => {
                    let len = self.file.len().await.map_err(|e| disk_error(&e))?;
                    let there = match at <= len {
                        true => Some(octets(&self.file, at, LOOK_BYTES as u64).await?),
                        false => None,
                    };
                    self.splitter.looked(at, there.as_deref());
                }
                Step::More if taken == 0 => {
                    self.window.drain(..used);
                    used = 0;
                    self.fill().await?;
                }
                Step::More => {}
                // Only an end that can be trusted is an end.
                Step::NoMbox => return Err(StoreError::NotAllowed),
                Step::Done => return Ok(()),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), StoreError> {
        yield_if_needed().await;
        if self.shard.gate.is_closed() {
            return Err(StoreError::Late);
        }
        let at = self.splitter.at() + self.window.len() as u64;
        let read = octets(&self.file, at, READ_BYTES.max(WINDOW_BYTES_MIN) as u64).await?;
        self.last = read.is_empty();
        self.window.extend_from_slice(&read);
        Ok(())
    }

    async fn end(&mut self, now: Current, at: u64, len: u64) -> Result<(), StoreError> {
        self.source.end = at + len;
        if let Some(row) = now.row(at, len) {
            self.digests += row.digest.len();
            self.rows.push(row);
        }
        match self.rows.len() >= ROWS_MAX || self.digests >= DIGESTS_BYTES_MAX {
            true => self.commit().await,
            false => Ok(()),
        }
    }

    /// One record: the rows, and how far the file was read.
    async fn commit(&mut self) -> Result<(), StoreError> {
        let (head, tail) = proof(&self.file, self.source.end).await?;
        (self.source.head, self.source.tail) = (head, tail);
        self.shard.turn(self.partition, &[self.account]).await?;
        let mailbox = self.partition.mailbox(self.account, self.mailbox)?;
        let mut ops = Vec::new();
        let mut rows = std::mem::take(&mut self.rows);
        self.digests = 0;
        if !rows.is_empty() {
            let mut uid = self.partition.next_uid(&mailbox)?;
            let modseq = self.partition.highest(&mailbox).next(self.shard.epoch);
            for row in &mut rows {
                (row.uid, row.modseq) = (uid, modseq);
                uid = uid.next().ok_or(StoreError::UidsUsedUp)?;
            }
            ops.push(Op::Adopted {
                account: self.account,
                mailbox: self.mailbox,
                rows,
            });
        }
        ops.push(set(self.account, self.mailbox, Some(&self.source)));
        let shard = self.shard;
        let ticket = shard.submit(self.partition, ops, Vec::new(), Class::NewMail)?;
        shard.commit(ticket).await
    }
}
