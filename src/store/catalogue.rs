//! What a partition holds, as applied: accounts, mailboxes, values, marks; and its snapshot file.
//!
//! All of it is in memory. The file is written anew at a checkpoint (`docs/STORE.md`,
//! "Catalogue"), twice; the renames that put it in place are what commits the checkpoint.

mod cut;
mod file;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::bytes::{Malformed, Reader, Writer};
use super::cache::Cache;
use super::doom::Doomed;
use super::history::History;
use super::mailbox::{Mailbox, Meta, Weight};
use super::queue::{Entries, Log, Named, read_entry};
use super::{SpecialUse, archive, maildir};
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, PartitionId, Uid, UidValidity, crc32c};

pub(super) use cut::{Cut, Touched, cut};
pub use file::CatalogueRepair;
pub(super) use file::{Found, isolate, load, load_alone, places, write};

const MAGIC: &[u8; 8] = b"PALCAT05";
/// With all entries of a queue in it.
const MAGIC_4: &[u8; 8] = b"PALCAT04";
/// Without mail that leaves.
const MAGIC_3: &[u8; 8] = b"PALCAT03";
/// Without what is dead in caches, and of which files they are.
const MAGIC_2: &[u8; 8] = b"PALCAT02";
/// Nor with history.
const MAGIC_1: &[u8; 8] = b"PALCAT01";

#[derive(Default)]
pub(super) struct Catalogue {
    /// The last record that is applied.
    pub applied: PSeq,
    pub uidvalidity_last: u32,
    pub mailbox_last: u64,
    pub accounts: BTreeMap<AccountId, AccountState>,
    /// Generic values of the site.
    pub values: BTreeMap<(String, Vec<u8>), Arc<[u8]>>,
    /// Outbox entries of other partitions that are placed here.
    pub origins: HashMap<PartitionId, BTreeSet<(PSeq, u16)>>,
    /// Messages on their way to several owners, or to other hosts (queue partitions).
    pub accepted: Entries,
    /// Those of them that an owner here does not have yet.
    pub owed: BTreeSet<PSeq>,
    /// Those of them whose body is in the journal still.
    pub unfiled: BTreeSet<PSeq>,
    pub doomed: VecDeque<(PSeq, Doomed)>,
    pub history: History,
}

#[derive(Default)]
pub(super) struct AccountState {
    pub mailboxes: BTreeMap<MailboxId, Rc<Mailbox>>,
    pub by_name: HashMap<String, MailboxId>,
    pub subscriptions: BTreeSet<String>,
    pub values: BTreeMap<(String, Vec<u8>), Arc<[u8]>>,
    pub bytes: u64,
    pub messages: u64,
    pub cache: Cache,
}

impl AccountState {
    pub fn find(&self, name: &str) -> Option<&Rc<Mailbox>> {
        let id = self.by_name.get(&*maildir::canonical(name))?;
        self.mailboxes.get(id)
    }

    pub fn insert(&mut self, mailbox: Rc<Mailbox>) {
        let name = mailbox.meta.borrow().name.clone();
        self.by_name.insert(name, mailbox.id);
        self.mailboxes.insert(mailbox.id, mailbox);
    }

    pub fn remove(&mut self, id: MailboxId) -> Option<Rc<Mailbox>> {
        let mailbox = self.mailboxes.remove(&id)?;
        self.by_name.remove(&mailbox.meta.borrow().name);
        Some(mailbox)
    }

    pub fn rename(&mut self, id: MailboxId, name: &str) {
        let Some(mailbox) = self.mailboxes.get(&id) else {
            return;
        };
        let mut meta = mailbox.meta.borrow_mut();
        self.by_name.remove(&meta.name);
        self.by_name.insert(name.to_owned(), id);
        name.clone_into(&mut meta.name);
    }
}

impl Catalogue {
    pub fn mailbox(&self, account: AccountId, mailbox: MailboxId) -> Option<&Rc<Mailbox>> {
        self.accounts.get(&account)?.mailboxes.get(&mailbox)
    }

    /// Who waits for an owner here, by what the entries say.
    pub fn note_owed(&mut self) {
        self.owed = self.accepted.owed().collect();
    }

    /// The lowest position whose outbox entries are not all handed over.
    pub fn low_water(&self) -> PSeq {
        self.owed
            .first()
            .copied()
            .unwrap_or(PSeq(self.applied.0 + 1))
    }

    pub fn decode(
        bytes: &[u8],
        partition: PartitionId,
        layout: &maildir::Layout,
    ) -> Result<Catalogue, Malformed> {
        let body = bytes.len().checked_sub(4).ok_or(Malformed)?;
        let (body, crc) = bytes.split_at(body);
        if crc32c(body).0.to_le_bytes() != crc {
            return Err(Malformed);
        }
        let mut r = Reader::new(body);
        let magic = r.take(8)?;
        let version = match magic {
            m if m == MAGIC => 5,
            m if m == MAGIC_4 => 4,
            m if m == MAGIC_3 => 3,
            m if m == MAGIC_2 => 2,
            m if m == MAGIC_1 => 1,
            _ => return Err(Malformed),
        };
        if r.u16()? != partition.0 {
            return Err(Malformed);
        }
        let mut catalogue = Catalogue {
            applied: PSeq(r.u64()?),
            uidvalidity_last: r.u32()?,
            mailbox_last: r.u64()?,
            ..Catalogue::default()
        };
        for _ in 0..r.count(8)? {
            let id = AccountId(r.u64()?);
            let account = account(&mut r, version, partition, id, layout)?;
            catalogue.accounts.insert(id, account);
        }
        catalogue.values = values(&mut r)?;
        for _ in 0..r.count(6)? {
            let source = PartitionId(r.u16()?);
            let marks = (0..r.count(10)?)
                .map(|_| Ok((PSeq(r.u64()?), r.u16()?)))
                .collect::<Result<_, _>>()?;
            catalogue.origins.insert(source, marks);
        }
        catalogue.accepted.home = partition;
        if version >= 5 {
            let named = Named::decode(&mut r)?;
            catalogue.accepted.log = Log::of(named, PSeq(0), false);
        }
        for _ in 0..r.count(8)? {
            let pseq = PSeq(r.u64()?);
            let entry = read_entry(&mut r, version, layout, (partition, pseq))?;
            catalogue.accepted.put(pseq, entry);
        }
        catalogue.note_owed();
        for _ in 0..r.count(9)? {
            let pseq = PSeq(r.u64()?);
            catalogue.doomed.push_back((pseq, Doomed::decode(&mut r)?));
        }
        if version >= 2 {
            catalogue.history = History::decode(&mut r)?;
        }
        if r.is_empty() {
            Ok(catalogue)
        } else {
            Err(Malformed)
        }
    }
}

fn put_mailbox(w: &mut Writer, id: MailboxId, mailbox: &Mailbox) {
    let meta = mailbox.meta.borrow();
    w.u64(id.0);
    w.str(&meta.name);
    w.u32(meta.uidvalidity.0);
    w.u32(meta.uidnext.0);
    w.u64(meta.highest.0);
    w.u32(meta.weight.messages);
    w.u32(meta.weight.unseen);
    w.u32(meta.weight.deleted);
    w.u64(meta.weight.size);
    w.u64(meta.weight.checksum);
    w.u32(meta.recent_from.0);
    w.u32(meta.recent);
    w.u8(meta.special_use.map_or(0, use_number));
    w.u32(meta.generation);
    w.u64(mailbox.pending.borrow().log_end());
}

fn put_subscriptions(w: &mut Writer, account: &AccountState) {
    w.count(account.subscriptions.len());
    account.subscriptions.iter().for_each(|name| w.str(name));
}

fn put_origins(w: &mut Writer, origins: &HashMap<PartitionId, BTreeSet<(PSeq, u16)>>) {
    w.count(origins.len());
    for (source, marks) in origins {
        w.u16(source.0);
        w.count(marks.len());
        for (pseq, ordinal) in marks {
            w.u64(pseq.0);
            w.u16(*ordinal);
        }
    }
}

fn account(
    r: &mut Reader<'_>,
    version: u8,
    partition: PartitionId,
    id: AccountId,
    layout: &maildir::Layout,
) -> Result<AccountState, Malformed> {
    let mut account = AccountState {
        bytes: r.u64()?,
        messages: r.u64()?,
        ..AccountState::default()
    };
    account.cache = cache(r, version)?;
    for _ in 0..r.count(8 + 4 + 4 + 4 + 8)? {
        let mailbox = MailboxId(r.u64()?);
        let meta = Meta {
            name: r.str()?.to_owned(),
            uidvalidity: UidValidity(r.u32()?),
            uidnext: Uid(r.u32()?),
            highest: ModSeq(r.u64()?),
            weight: Weight {
                messages: r.u32()?,
                unseen: r.u32()?,
                deleted: r.u32()?,
                size: r.u64()?,
                checksum: r.u64()?,
            },
            recent_from: Uid(r.u32()?),
            recent: r.u32()?,
            special_use: match r.u8()? {
                0 => None,
                n => Some(use_of(n).ok_or(Malformed)?),
            },
            generation: r.u32()?,
        };
        let log_end = r.u64()?;
        let path = layout.folder(partition, id, &meta.name);
        account.insert(Mailbox::new(partition, id, mailbox, meta, path, log_end));
    }
    for _ in 0..r.count(4)? {
        account.subscriptions.insert(r.str()?.to_owned());
    }
    account.values = values(r)?;
    for (namespace, key) in account.values.keys() {
        archive::note(&account, namespace, key, true);
    }
    Ok(account)
}

fn cache(r: &mut Reader<'_>, version: u8) -> Result<Cache, Malformed> {
    let mut cache = Cache {
        end: r.u64()?,
        // Nobody has counted: it is looked at once.
        dead: i64::MAX,
        ..Cache::default()
    };
    if version >= 3 {
        cache.dead = r.i64()?;
        cache.first = r.u64()?;
        cache.second = Some(r.u64()?).filter(|&begin| begin > 0);
    }
    Ok(cache)
}

const USES: [SpecialUse; 5] = [
    SpecialUse::Archive,
    SpecialUse::Drafts,
    SpecialUse::Junk,
    SpecialUse::Sent,
    SpecialUse::Trash,
];

fn use_number(of: SpecialUse) -> u8 {
    USES.iter()
        .position(|&u| u == of)
        .map_or(0, |n| n as u8 + 1)
}

fn use_of(number: u8) -> Option<SpecialUse> {
    USES.get(usize::from(number).checked_sub(1)?).copied()
}

type Values = BTreeMap<(String, Vec<u8>), Arc<[u8]>>;

fn put_values(w: &mut Writer, values: &Values) {
    w.count(values.len());
    values
        .iter()
        .for_each(|(key, value)| put_value(w, key, value));
}

fn put_value(w: &mut Writer, (namespace, key): &(String, Vec<u8>), value: &Arc<[u8]>) {
    w.str(namespace);
    w.bytes(key);
    w.bytes(value);
}

fn values(r: &mut Reader<'_>) -> Result<Values, Malformed> {
    (0..r.count(12)?)
        .map(|_| {
            let namespace = r.str()?.to_owned();
            let key = r.bytes()?.to_vec();
            Ok(((namespace, key), Arc::from(r.bytes()?)))
        })
        .collect()
}
