//! The messages of one folder: which files there are, which UIDs they have, what they say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::zip;
use hashbrown::{HashMap, HashSet};

use super::plan::{list, read};
use super::uidl::is_uidl;
use super::weigh::{Weighed, weigh};
use super::{AdoptError, UidlFormat};
use crate::base::{ModSeq, Uid, UidValidity, UnixMs};
use crate::runtime::{Disk, DiskError, DiskErrorKind};
use crate::store::maildir::{
    Entry, Foreign, KeywordLetters, UidList, file_name, flags_of, letter_keywords, read_name,
};
use crate::store::{AdoptedPlace, AdoptedRow};

/// Copies of another program's lists, made before the first record that names the folder: what we
/// write under their own names later does not change what is still to be adopted.
pub(super) const UIDLIST: &str = "palomar.adopt-uidlist";
pub(super) const KEYWORDS: &str = "palomar.adopt-keywords";

/// Files that are read in one trip to the pool.
const FILES_MAX: usize = 64;
/// And their bytes.
const BYTES_MAX: u64 = 8 << 20;

/// What another program's lists say of a folder.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub uids: Option<UidList>,
    pub keywords: KeywordLetters,
}

impl Lists {
    /// As they are, before anything is changed.
    pub async fn original(disk: &Disk, dir: &Path) -> Result<(Vec<u8>, Vec<u8>), AdoptError> {
        let uids = read(disk, &dir.join("dovecot-uidlist")).await?;
        let keywords = read(disk, &dir.join("dovecot-keywords")).await?;
        Ok((uids.unwrap_or_default(), keywords.unwrap_or_default()))
    }

    /// From the copies, in the account's place.
    pub async fn copied(disk: &Disk, dir: &Path) -> Result<Lists, AdoptError> {
        let uids = read(disk, &dir.join(UIDLIST)).await?;
        let keywords = read(disk, &dir.join(KEYWORDS)).await?;
        Ok(Lists::of(
            &uids.unwrap_or_default(),
            &keywords.unwrap_or_default(),
        ))
    }

    pub fn of(uids: &[u8], keywords: &[u8]) -> Lists {
        Lists {
            uids: UidList::parse(uids).map(UidList::sane),
            keywords: KeywordLetters::of(keywords),
        }
    }
}

/// A message file.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// In `new`; else in `cur`.
    pub is_new: bool,
    pub name: OsString,
    pub stem: String,
    pub letters: u32,
    /// What the list of UIDs has for it.
    pub entry: Option<(Uid, Option<String>)>,
    pub len: u64,
    pub modified: UnixMs,
}

/// A file that was written to a moment ago may not be whole.
pub(super) const STILL: Duration = Duration::from_secs(3);

impl Candidate {
    /// Whether a program may be writing to it. A time that is still to come says nothing.
    pub fn is_young(&self, now: UnixMs) -> bool {
        (0..STILL.as_millis() as i64).contains(&now.0.saturating_sub(self.modified.0))
    }

    pub fn path(&self, folder: &Path) -> PathBuf {
        let sub = if self.is_new { "new" } else { "cur" };
        folder.join(sub).join(&self.name)
    }

    /// The name that we can keep: without letters in `new`.
    pub fn wanted(&self) -> OsString {
        match self.is_new {
            true => self.stem.clone().into(),
            false => file_name(&self.stem, self.letters).into(),
        }
    }
}

/// What is in a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their UIDs: those listed, then those of `cur`, then those of `new`.
    pub files: Vec<Candidate>,
    /// Listed, and not there.
    pub missing: u32,
}

/// Which directories are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    New,
    Everywhere,
}

impl Found {
    /// Lists `cur` and `new` of a folder that is to be adopted. `last` is the highest UID that is
    /// a row already.
    pub async fn of(
        disk: &Disk,
        folder: &Path,
        lists: &Lists,
        last: Uid,
    ) -> Result<Found, DiskError> {
        let mut found = Found::list(disk, folder, lists, Where::Everywhere).await?;
        part(&mut found.files);
        for file in &mut found.files {
            // UIDs only rise: a file that comes back late is another message.
            file.entry.take_if(|(uid, _)| *uid <= last);
        }
        let uid = |file: &Candidate| file.entry.as_ref().map_or(Uid(u32::MAX), |e| e.0);
        found.files.sort_by_key(|file| (uid(file), file.is_new));
        Ok(found)
    }

    /// The files as they are named, `cur` before `new`.
    pub async fn list(
        disk: &Disk,
        folder: &Path,
        lists: &Lists,
        whence: Where,
    ) -> Result<Found, DiskError> {
        let entries = lists.uids.iter().flat_map(|l| &l.entries);
        let mut listed: HashMap<&str, &Entry> = entries.map(|e| (&*e.base, e)).collect();
        let mut found = Found::default();
        let subs: &[bool] = match whence {
            Where::New => &[true],
            Where::Everywhere => &[false, true],
        };
        for &is_new in subs {
            let sub = folder.join(if is_new { "new" } else { "cur" });
            for entry in list(disk, &sub).await? {
                // A link may lead to what is another's: it is no message.
                if !entry.is_file || entry.name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let Foreign {
                    base,
                    stem,
                    letters,
                } = read_name(&entry.name);
                let known = listed.remove(base.as_str());
                found.files.push(Candidate {
                    is_new,
                    name: entry.name,
                    stem,
                    letters,
                    entry: known.map(|e| (Uid(e.uid), e.uidl.clone())),
                    len: entry.len,
                    modified: entry.modified,
                });
            }
        }
        found.missing = listed.len() as u32;
        Ok(found)
    }
}

/// Two files with one stem are two messages: the second gets a stem that no file has.
pub(super) fn part(files: &mut [Candidate]) {
    let all: HashSet<String> = files.iter().map(|file| file.stem.clone()).collect();
    let mut taken = HashSet::new();
    for file in files {
        if taken.insert(file.stem.clone()) {
            continue;
        }
        let others = (2u64..).map(|n| format!("{n}.{}", file.stem));
        let free = others.take(all.len() + taken.len() + 1);
        let free = free
            .into_iter()
            .find(|s| !all.contains(s) && !taken.contains(s));
        file.stem = free.expect("more numbers than stems");
        taken.insert(file.stem.clone());
    }
}

/// A file that was read; `None` where it is gone meanwhile.
pub(super) type Read = Result<Option<(Weighed, UnixMs)>, DiskError>;

/// How many of the files one trip takes.
pub(super) fn trip_len(files: &[Candidate]) -> usize {
    let mut bytes = 0;
    let fits = |file: &&Candidate| {
        let fits = bytes == 0 || bytes + file.len <= BYTES_MAX;
        bytes += file.len.max(1);
        fits
    };
    files.iter().take(FILES_MAX).take_while(fits).count()
}

/// Reads files in one trip.
pub(super) async fn read_trip(disk: &Disk, folder: &Path, files: &[Candidate]) -> Vec<Read> {
    let paths = files.iter().map(|file| file.path(folder)).collect();
    let read = disk.survey(paths, weigh).await;
    let there = |outcome: Result<_, DiskError>| match outcome {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    read.into_iter().map(there).collect()
}

/// Reads files at the front, in two trips at once: one reads from the disk while the other hashes.
pub(super) async fn read_some(disk: &Disk, folder: &Path, files: &[Candidate]) -> Vec<Read> {
    let (one, rest) = files.split_at(trip_len(files));
    let two = &rest[..trip_len(rest)];
    let (mut read, more) = zip(read_trip(disk, folder, one), read_trip(disk, folder, two)).await;
    read.extend(more);
    read
}

/// What the folder gives to all its rows.
pub(super) struct Common<'c> {
    pub keywords: &'c [Option<String>],
    pub uidvalidity: UidValidity,
    /// Where POP3 clients look.
    pub uidl: Option<&'c UidlFormat>,
    /// `None`: when the file was last changed.
    pub saved: Option<UnixMs>,
}

/// A row without its UID, where it has none of its own yet, and without a modseq.
pub(super) fn row(
    file: &Candidate,
    weighed: Weighed,
    modified: UnixMs,
    common: &Common<'_>,
) -> AdoptedRow {
    let uidl = common.uidl.and_then(|format| {
        let (uid, said) = file.entry.as_ref()?;
        let uidl = match said.as_deref() {
            None => format.of(*uid, common.uidvalidity, &file.stem),
            Some("") => file.stem.clone(),
            Some(said) => said.to_owned(),
        };
        is_uidl(&uidl).then_some(uidl)
    });
    let mut email_id = [0; 16];
    email_id.copy_from_slice(&weighed.blake3[..16]);
    AdoptedRow {
        uid: file.entry.as_ref().map_or(Uid(0), |(uid, _)| *uid),
        modseq: ModSeq(0),
        flags: flags_of(file.letters),
        keywords: letter_keywords(file.letters, common.keywords),
        internal_date: modified,
        saved: common.saved.unwrap_or(modified),
        size: weighed.size,
        bare_newlines: u32::try_from(weighed.size.saturating_sub(weighed.stored))
            .unwrap_or(u32::MAX),
        email_id,
        stem: file.stem.clone(),
        letters: file.letters,
        place: match file.is_new {
            true => AdoptedPlace::New,
            false => AdoptedPlace::Cur,
        },
        uidl,
        digest: Arc::from(weighed.digest),
    }
}
