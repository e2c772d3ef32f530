//! Archive folders: mbox files that lie where the administrator put them, shown as mailboxes that
//! are only read.
//!
//! Each file below `[store] archives` is the mailbox `Archives/<path>`. Its messages are rows like
//! any others, journaled when the file is read for the first time, so that their UIDs stay; their
//! bodies stay in the file ([`read`]). Which file a mailbox is over, how far it was read and how
//! to know it again is a value of the account ([`Source`]). Files are looked at when a session
//! begins ([`scan`]): one that has grown gives more rows, one that is another begins anew.
//!
//! Users may be able to write where their files are: what is theirs is read by a disk that follows
//! no link, below a directory that is canonical, and only regular files are opened.
//!
//! Invariants: nothing here ever writes to an archive file; archive messages do not count in a
//! quota; memory is bounded by windows and the rows of one record.

mod cache;
mod read;
mod scan;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};

use super::bytes::{Malformed, Reader, Writer};
use super::catalogue::AccountState;
use super::shard::Shard;
use crate::base::{AccountId, MailboxId, UnixMs};
use crate::runtime::local::Semaphore;
use crate::wire::mbox::Dialect;

pub(super) use read::{ArchiveBody, Cursor};
pub(super) use scan::read_again;

/// Of account values; the key is the mailbox's id.
pub(super) const NAMESPACE: &str = "archive";
/// The level above all archive mailboxes.
pub(super) const ABOVE: &str = "Archives";

/// Octets at the begin, and before the end, by which a file is known again.
const PROOF_BYTES: u64 = 4 << 10;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    Plain,
    /// Gzip or zstd: read from a copy that is unpacked.
    Compressed,
}

/// What a mailbox is over, and how far it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    path: PathBuf,
    packed: Packed,
    dialect: Dialect,
    /// The file when it was read to its end: then there is nothing new. Zero before.
    len: u64,
    modified: UnixMs,
    /// Octets, unpacked, whose messages have rows.
    end: u64,
    /// BLAKE3 of [`PROOF_BYTES`] at the begin, and of as many before `end`.
    head: [u8; 32],
    tail: [u8; 32],
}

impl Source {
    /// A file that was not read yet.
    fn unread(path: &Path, packed: Packed) -> Source {
        Source {
            path: path.to_owned(),
            packed,
            dialect: Dialect::RD,
            len: 0,
            modified: UnixMs(0),
            end: 0,
            head: [0; 32],
            tail: [0; 32],
        }
    }

    fn encode(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut w = Writer::default();
        w.u8(1);
        w.bytes(self.path.as_os_str().as_bytes());
        w.u8(u8::from(self.packed == Packed::Compressed));
        w.u8(u8::from(self.dialect.lengths) | u8::from(self.dialect.quoted) << 1);
        w.u64(self.len);
        w.i64(self.modified.0);
        w.u64(self.end);
        w.out.extend_from_slice(&self.head);
        w.out.extend_from_slice(&self.tail);
        w.out
    }

    fn decode(bytes: &[u8]) -> Result<Source, Malformed> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut r = Reader::new(bytes);
        if r.u8()? != 1 {
            return Err(Malformed);
        }
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(r.bytes()?));
        let packed = match r.u8()? {
            0 => Packed::Plain,
            _ => Packed::Compressed,
        };
        let bits = r.u8()?;
        Ok(Source {
            path,
            packed,
            dialect: Dialect {
                lengths: bits & 1 != 0,
                quoted: bits & 2 != 0,
            },
            len: r.u64()?,
            modified: UnixMs(r.i64()?),
            end: r.u64()?,
            head: r.array()?,
            tail: r.array()?,
        })
    }
}

/// Whether a mailbox of that name would stand among the archive folders, where nobody makes any.
pub(super) fn is_reserved(shard: &Shard, name: &str) -> bool {
    let below = name.strip_prefix(ABOVE);
    let is_there = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_there && shard.cfg.archives.is_some()
}

fn key(mailbox: MailboxId) -> Vec<u8> {
    mailbox.0.to_be_bytes().to_vec()
}

fn id(key: &[u8]) -> Option<MailboxId> {
    key.try_into()
        .ok()
        .map(|key| MailboxId(u64::from_be_bytes(key)))
}

/// The file that a mailbox is over.
fn source_of(account: &AccountState, mailbox: MailboxId) -> Option<Source> {
    let value = account.values.get(&(NAMESPACE.to_owned(), key(mailbox)))?;
    Source::decode(value).ok()
}

/// A value was set or removed: its mailbox is, or is no more, over a file.
pub(super) fn note(account: &AccountState, namespace: &str, key: &[u8], set: bool) {
    if namespace != NAMESPACE {
        return;
    }
    if let Some(mailbox) = id(key).and_then(|id| account.mailboxes.get(&id)) {
        mailbox.archive.set(set);
    }
}

/// What a shard remembers of its looking.
pub(super) struct Looks {
    last: RefCell<HashMap<AccountId, Instant>>,
    /// Files are read, and unpacked, one at a time.
    reading: Semaphore,
    unpacking: Semaphore,
    /// One shard unpacks at a time.
    unpacks: Arc<AtomicBool>,
    /// What was told of already: links and the like.
    passed_over: RefCell<HashSet<PathBuf>>,
}

/// Paths that are remembered as told of.
const PASSED_OVER_MAX: usize = 1_000;

impl Looks {
    pub fn new(unpacks: Arc<AtomicBool>) -> Self {
        Looks {
            last: RefCell::default(),
            reading: Semaphore::new(1),
            unpacking: Semaphore::new(1),
            unpacks,
            passed_over: RefCell::default(),
        }
    }

    /// Says once that a name is passed over.
    fn pass_over(&self, path: &Path, why: &str) {
        let mut told = self.passed_over.borrow_mut();
        if told.len() < PASSED_OVER_MAX && told.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), why, "archive passed over");
        }
    }
}

#[cfg(test)]
impl Looks {
    /// Files that were passed over, and told of.
    pub fn told(&self) -> Vec<PathBuf> {
        let mut told: Vec<PathBuf> = self.passed_over.borrow().iter().cloned().collect();
        told.sort();
        told
    }
}

/// What of a template stands above all that is a user's: links in it are the administrator's.
fn above_users(template: &Path) -> PathBuf {
    let plain = |part: &std::path::Component<'_>| {
        let text = part.as_os_str().as_encoded_bytes();
        !text.contains(&b'%')
    };
    template.components().take_while(plain).collect()
}

/// The directory of one user's archives: `%u` is the address, `%n` what stands before its `@`, `%d`
/// what stands behind. `None` where a part cannot be a file's name.
pub(super) fn directory_of(template: &Path, address: &str) -> Option<PathBuf> {
    let (local, domain) = address.split_once('@')?;
    let plain =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0']);
    if !plain(local) || !plain(domain) {
        return None;
    }
    let template = template.to_str()?;
    let mut out = String::with_capacity(template.len() + address.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut chars = after.chars();
        match chars.next() {
            Some('u') => out.push_str(address),
            Some('n') => out.push_str(local),
            Some('d') => out.push_str(domain),
            Some('%') => out.push('%'),
            _ => return None,
        }
        rest = chars.as_str();
    }
    Some(PathBuf::from(out + rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_users() {
        let check = |template: &str, address: &str, want: Option<&str>| {
            let got = directory_of(Path::new(template), address);
            assert_eq!(got, want.map(PathBuf::from), "{template} {address}");
        };
        check(
            "/srv/%d/%n",
            "ana@example.org",
            Some("/srv/example.org/ana"),
        );
        check("/srv/%u", "ana@example.org", Some("/srv/ana@example.org"));
        check("/srv/100%%", "ana@example.org", Some("/srv/100%"));
        check("/srv/%x", "ana@example.org", None);
        check("/srv/%n", "../x@example.org", None);
        check("/srv/%n", "a/b@example.org", None);
        check("/srv/%n", "ana", None);
    }

    #[test]
    fn what_is_above_users() {
        let check = |template: &str, want: &str| {
            assert_eq!(above_users(Path::new(template)), Path::new(want));
        };
        check("/srv/mbox/%d/%n", "/srv/mbox");
        check("/srv/of-%n/mbox", "/srv");
        check("/srv", "/srv");
    }

    #[test]
    fn sources_survive() {
        let mut source = Source::unread(Path::new("/srv/a b"), Packed::Compressed);
        source.end = 77;
        source.tail = [3; 32];
        source.dialect.lengths = true;
        assert_eq!(Source::decode(&source.encode()), Ok(source.clone()));
        assert!(Source::decode(&source.encode()[..20]).is_err());
    }
}
