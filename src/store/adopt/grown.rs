//! Files of other programs that went on growing after they were taken in.
//!
//! Who writes straight into `new`, and slowly, may find the file taken at half; it goes on growing
//! under the name that it has by then, and is no longer what its row says. A message never changes
//! under its UID (RFC 9051 2.3.1.1): when somebody asks (rescan, repair), the file becomes a new
//! message with the flags of the old one, which is expunged in the same record.
//!
//! A file that is shorter, or compressed, is damaged: who has it in a backup puts it back.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::arrive::{TAKEN_MAX, TURN_WAIT, own_stem};
use super::folder::{Candidate, Common, Found, Lists, Where, read_some, row};
use super::run;
use crate::base::{Deadline, Uid};
use crate::observe::{event, log_event};
use crate::runtime::{Step, now, unix_now};
use crate::store::journal::{Class, Ticket};
use crate::store::mailbox::{Mailbox, disk_error};
use crate::store::maildir::row_letters;
use crate::store::packed::is_packed;
use crate::store::partition::Partition;
use crate::store::shard::Shard;
use crate::store::{AdoptedRow, Op, Row, StoreError, repair};

/// Octets by which a compressed file is known.
const LOOK_BYTES: usize = 4;

/// A file that is longer than its row says.
struct Grown {
    row: Row,
    /// With the letters that the row asks for.
    file: Candidate,
    /// As it is called now.
    path: PathBuf,
}

/// UIDs of messages whose files have grown.
pub(in crate::store) async fn grown(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<Vec<Uid>, StoreError> {
    let found = find(shard, partition, mailbox, &HashSet::new()).await?;
    Ok(found.into_iter().map(|one| one.row.uid).collect())
}

/// Makes new messages of such files; answers how many.
pub(in crate::store) async fn take_grown(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
) -> Result<u64, StoreError> {
    let (mut taken, mut passed) = (0, HashSet::new());
    loop {
        let until = Deadline::after(now(), TURN_WAIT);
        let pause = shard.settling.acquire(1, until).await;
        let _pause = pause.map_err(|_| StoreError::Busy)?;
        let mut found = find(shard, partition, mailbox, &passed).await?;
        found.truncate(TAKEN_MAX);
        if found.is_empty() {
            return Ok(taken);
        }
        passed.extend(found.iter().map(|one| one.row.uid));
        taken += renew(shard, partition, mailbox, found).await?;
    }
}

async fn find(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    passed: &HashSet<Uid>,
) -> Result<Vec<Grown>, StoreError> {
    repair::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let folder = mailbox.path();
    let found = Found::list(&shard.disk, &folder, &Lists::default(), Where::Everywhere).await;
    let files = found.map_err(|error| disk_error(&error))?.files;
    let asked = unix_now();
    let mut suspects = Vec::new();
    {
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
        let foreign = |at: usize| {
            let extra = index.extra(at).filter(|e| e.archive.is_none())?;
            Some((extra.stem.clone()?, at))
        };
        let rows: HashMap<_, usize> = (0..index.len()).filter_map(foreign).collect();
        for mut file in files {
            let row = rows.get(&*file.stem).filter(|_| !file.is_new);
            let Some(&at) = row.filter(|_| !file.is_young(asked)) else {
                continue;
            };
            let apart = index.extra(at).map_or(0, |e| e.prefix.len() as u64);
            let row = index.row(at);
            let is_longer = file.len > index.stored_size(at).saturating_sub(apart);
            if is_longer && !passed.contains(&row.uid) {
                let path = file.path(&folder);
                file.letters = row_letters(index, at);
                suspects.push(Grown { row, file, path });
            }
        }
    }
    let mut grown = Vec::new();
    for suspect in suspects {
        let (file, _) = match shard.disk.open_sized(&suspect.path).await {
            Ok(opened) => opened,
            Err(_) => continue,
        };
        let head = file.read_at(LOOK_BYTES, 0).await;
        if head.is_ok_and(|head| !is_packed(&head)) {
            grown.push(suspect);
        }
    }
    Ok(grown)
}

/// One record takes them all. Nothing settles meanwhile.
async fn renew(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    mut grown: Vec<Grown>,
) -> Result<u64, StoreError> {
    let folder = mailbox.path();
    let common = Common {
        keywords: &[],
        uidvalidity: mailbox.meta.borrow().uidvalidity,
        uidl: None,
        saved: Some(unix_now()),
    };
    let mut weighed = Vec::with_capacity(grown.len());
    let files: Vec<Candidate> = grown.iter().map(|one| one.file.clone()).collect();
    while weighed.len() < files.len() {
        weighed.extend(read_some(&shard.disk, &folder, &files[weighed.len()..]).await);
    }
    let mut rows: Vec<AdoptedRow> = Vec::with_capacity(grown.len());
    let mut outcomes = weighed.into_iter();
    grown.retain_mut(|one| {
        // What cannot be read stays as it is.
        let Some(Ok(Some((weighed, modified)))) = outcomes.next() else {
            return false;
        };
        one.file.stem = own_stem(&one.file.stem);
        one.file.name = one.file.wanted();
        rows.push(AdoptedRow {
            flags: one.row.flags,
            keywords: one.row.keywords.iter().map(ToString::to_string).collect(),
            internal_date: one.row.internal_date,
            ..row(&one.file, weighed, modified, &common)
        });
        true
    });
    if grown.is_empty() {
        return Ok(0);
    }
    let renamed = rename(shard, &folder, &grown).await;
    let submitted = match renamed {
        Ok(()) => submit(shard, partition, mailbox, &grown, rows).await,
        Err(why) => Err(why),
    };
    let ticket = match submitted {
        Ok(ticket) => ticket,
        Err(why) => {
            // A row keeps its file. Those that have their names still are not found.
            for one in &grown {
                let (from, to) = (one.file.path(&folder), one.path.clone());
                shard.disk.batch(vec![Step::Rename { from, to }]).await;
            }
            return Err(why);
        }
    };
    shard.commit(ticket).await?;
    for one in &grown {
        log_event!(
            INFO,
            event::MESSAGE_ARRIVED,
            account = %mailbox.account,
            mailbox = mailbox.meta.borrow().name.as_str(),
            instead_of = one.row.uid.0
        );
    }
    Ok(grown.len() as u64)
}

/// Both content and names are on the disk when this returns.
async fn rename(shard: &Shard, folder: &Path, grown: &[Grown]) -> Result<(), StoreError> {
    let mut steps = Vec::new();
    for one in grown {
        let (from, to) = (one.path.clone(), one.file.path(folder));
        let path = to.clone();
        steps.push(Step::Rename { from, to });
        steps.push(Step::SyncFile { path });
    }
    let path = folder.join("cur");
    steps.push(Step::SyncDir { path });
    for done in shard.disk.batch(steps).await {
        done.map_err(|e| disk_error(&e))?;
    }
    Ok(())
}

async fn submit(
    shard: &Shard,
    partition: &Partition,
    mailbox: &Rc<Mailbox>,
    grown: &[Grown],
    mut rows: Vec<AdoptedRow>,
) -> Result<Ticket, StoreError> {
    shard.turn(partition, &[mailbox.account]).await?;
    repair::load(&shard.disk, &shard.owned, partition, mailbox).await?;
    let uids: Vec<Uid> = grown.iter().map(|one| one.row.uid).collect();
    {
        let flight = partition.flight.borrow();
        let flight = flight.mailbox(mailbox.account, mailbox.id);
        let index = mailbox.index.borrow();
        let index = index.as_ref().ok_or(StoreError::MailboxGone)?;
        let is_there = |uid: &Uid| {
            index.position(*uid).is_some() && !flight.is_some_and(|f| f.is_expunged(*uid))
        };
        // Somebody expunged one of them meanwhile: another time.
        if mailbox.deleted.get() || !uids.iter().all(is_there) {
            return Err(StoreError::Busy);
        }
    }
    let modseq = partition.highest(mailbox).next(shard.epoch);
    run::number(shard, partition, mailbox, &mut rows)?;
    for row in &mut rows {
        row.modseq = modseq.next(shard.epoch);
    }
    let (account, id) = (mailbox.account, mailbox.id);
    let expunged = Op::Expunged {
        account,
        mailbox: id,
        modseq,
        uids,
        at: unix_now(),
    };
    let adopted = Op::Adopted {
        account,
        mailbox: id,
        rows,
    };
    let ops = vec![expunged, adopted];
    shard.submit(partition, ops, Vec::new(), Class::NewMail)
}
