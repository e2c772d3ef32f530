//! Files as today's Palomar writes them, in `tests/format/`: every later one must read them.
//!
//! `PALOMAR_WRITE_FORMATS=1 cargo test --lib store::tests::formats` writes the files anew. That is
//! for a new version of a format, whose files stand beside those of the old one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::samples::{leaving, outbound, rerouted};
use super::{ROOT, config, soon};
use crate::base::{
    AccountId, BlobId, ByteSize, Epoch, MailboxId, ModSeq, PSeq, PartitionId, TraceId, Uid,
    UidValidity, UnixMs, crc32c,
};
use crate::runtime::{Disk, SimDisk, block_on};
use crate::store::body::{Accepted, Source};
use crate::store::catalogue::{AccountState, Catalogue, cut};
use crate::store::doom::Doomed;
use crate::store::history::{Day, Head, Rows, entries_of, frame};
use crate::store::journal::{
    self, Apply, Class, Committed, Journal, JournalConfig, Recorded, recover, retire,
};
use crate::store::mailbox::{
    CacheRef, Cold, Extra, Index, LogOp, Mailbox, Meta, NameId, NewRow, Weight, align, replay,
};
use crate::store::maildir::Layout;
use crate::store::partition::Partition;
use crate::store::queue::{Entries, Writing};
use crate::store::{
    AccountRef, AdoptedPlace, AdoptedRow, Body, BodyRef, Flags, Message, Op, OutboxKey, Quota,
    Record, SpecialUse, Target,
};
use crate::wire::mime::{DigestView, Limits, Walker};

const LETTER: &[u8] = b"From: Ana <ana@example.org>\r\nTo: bob@example.org\r\n\
    Subject: A letter\r\nDate: Mon, 2 Mar 2026 09:00:00 +0100\r\n\r\nBody.\r\n";
const ANA: AccountId = AccountId(7);
const INBOX: MailboxId = MailboxId(3);
pub(super) const P1: PartitionId = PartitionId(1);

/// What today's Palomar writes, as the number at the end of each file's name.
const TODAY: u32 = 2;
/// The same of the journal and of catalogues.
const JOURNAL_TODAY: u32 = 5;
const CATALOGUE_TODAY: u32 = 5;
const QUEUE_LOG_TODAY: u32 = 1;

/// The file as it was kept. One of today's version is written first where the environment asks
/// for it; older ones stay as they were.
pub(super) fn kept(name: &str, version: u32, today: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let newest = match name.split('-').next() {
        Some("journal") => JOURNAL_TODAY,
        Some("catalogue") => CATALOGUE_TODAY,
        Some("queue") => QUEUE_LOG_TODAY,
        _ => TODAY,
    };
    let name = name.replace('#', &version.to_string());
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/format")
        .join(&name);
    if version == newest && std::env::var_os("PALOMAR_WRITE_FORMATS").is_some() {
        std::fs::write(&path, today()).expect("writes");
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn digest() -> Vec<u8> {
    let mut walker = Walker::new(Limits::default());
    walker.feed(LETTER);
    let mut digest = Vec::new();
    walker.finish().encode(&mut digest);
    digest
}

fn message(body: Body) -> Arc<Message> {
    let bytes = match &body {
        Body::Inline(bytes) => bytes,
        _ => LETTER,
    };
    Arc::new(Message {
        digest: digest().into(),
        size: bytes.len() as u64,
        crc32c: crc32c(bytes),
        blake3: [0xb3; 32],
        body,
    })
}

/// A body that version 3 packs.
fn long() -> Body {
    let lines = (0..200).map(|n| format!("Line {n} of a letter, {}.\r\n", n * n));
    Body::Inline(lines.collect::<String>().into_bytes())
}

fn trace() -> TraceId {
    TraceId::new(UnixMs(1_772_438_400_000), 77)
}

fn bob() -> Target {
    Target {
        account: AccountRef {
            account: AccountId(8),
            partition: PartitionId(2),
            quota: Quota {
                bytes: Some(ByteSize(1 << 30)),
                messages: None,
            },
        },
        mailbox: "Junk".into(),
        flags: Flags::FLAGGED,
        prefix: b"Delivered-To: bob@example.org\r\n".to_vec(),
    }
}

fn placed(uid: u32, body: BodyRef, apart: bool) -> Op {
    Op::Placed {
        account: ANA,
        mailbox: INBOX,
        uid: Uid(uid),
        modseq: ModSeq(1 << 40 | 5),
        flags: Flags::SEEN.union(Flags::DRAFT),
        keywords: vec!["$Forwarded".into(), "Arbeit-ä".into()],
        internal_date: UnixMs(-1),
        saved: UnixMs(1_772_438_400_123),
        body,
        prefix: b"Return-Path: <>\r\n".to_vec(),
        apart,
        origin: Some(OutboxKey {
            source: PartitionId::queue(0),
            pseq: PSeq(9),
            ordinal: 2,
        }),
        trace: Some(trace()),
    }
}

fn adopted(uid: u32, place: AdoptedPlace) -> AdoptedRow {
    AdoptedRow {
        uid: Uid(uid),
        modseq: ModSeq(1 << 40 | 8),
        flags: Flags::SEEN,
        keywords: vec!["Work".into()],
        internal_date: UnixMs(1_600_000_000_000),
        saved: UnixMs(1_772_438_400_123),
        size: 1200,
        bare_newlines: 30,
        email_id: [7; 16],
        stem: format!("1600000000.M1P{uid}.host,S=1170,W=1200"),
        letters: 0x41,
        place,
        uidl: (uid == 20).then(|| "000000145e9b2f00".into()),
        digest: digest().into(),
    }
}

/// Every kind of op, with every kind of field.
fn ops(version: u32) -> Vec<Vec<Op>> {
    let mut ops = ops_of_1(version);
    if version >= 2 {
        ops.push(vec![
            Op::Adopted {
                account: ANA,
                mailbox: INBOX,
                rows: vec![
                    adopted(20, AdoptedPlace::Cur),
                    adopted(21, AdoptedPlace::New),
                    adopted(22, AdoptedPlace::Archive { at: 5, len: 1170 }),
                ],
            },
            Op::MailboxSet {
                account: ANA,
                mailbox: INBOX,
                uidnext: Some(Uid(1000)),
                highest: Some(ModSeq(77)),
                special_use: Some(Some(SpecialUse::Junk)),
            },
            Op::MailboxSet {
                account: ANA,
                mailbox: INBOX,
                uidnext: None,
                highest: None,
                special_use: Some(None),
            },
        ]);
    }
    if version >= 4 {
        ops.push(leaving());
    }
    if version >= 5 {
        ops.push(vec![rerouted()]);
    }
    ops
}

/// The kinds that version 1 had, with the fields that they have in `version`.
fn ops_of_1(version: u32) -> Vec<Vec<Op>> {
    let apart = version >= 2;
    let at = UnixMs(if version >= 2 { 1_772_438_500_000 } else { 0 });
    let (account, mailbox, modseq) = (ANA, INBOX, ModSeq(1 << 40 | 6));
    let value = |account, value| Op::ValueSet {
        account,
        namespace: "sieve".into(),
        key: b"main".to_vec(),
        value,
    };
    vec![
        vec![
            Op::MailboxCreated {
                account,
                mailbox,
                name: "INBOX".into(),
                uidvalidity: UidValidity(1_772_438_400),
                special_use: None,
            },
            Op::MailboxCreated {
                account,
                mailbox: MailboxId(4),
                name: "Entwürfe/2026".into(),
                uidvalidity: UidValidity(1_772_438_401),
                special_use: Some(SpecialUse::Drafts),
            },
            Op::SubscriptionSet {
                account,
                name: "INBOX".into(),
                subscribed: true,
            },
        ],
        vec![
            placed(1, BodyRef::New(0), apart),
            placed(2, BodyRef::Handed(1), false),
            placed(
                3,
                BodyRef::Copy {
                    mailbox,
                    uid: Uid(1),
                },
                false,
            ),
        ],
        vec![
            Op::FlagsSet {
                account,
                mailbox,
                modseq,
                entries: vec![
                    (Uid(1), Flags::SEEN, vec!["Work".into()]),
                    (Uid(2), Flags::SEEN, vec!["Work".into()]),
                    (Uid(3), Flags::NONE, Vec::new()),
                ],
            },
            Op::Expunged {
                account,
                mailbox,
                modseq,
                uids: vec![Uid(1), Uid(3)],
                at,
            },
            Op::MailboxRenamed {
                account,
                mailbox: MailboxId(4),
                name: "Drafts".into(),
            },
            Op::MailboxDeleted {
                account,
                mailbox: MailboxId(4),
                at,
            },
        ],
        vec![
            value(Some(ANA), Some(b"keep;".to_vec())),
            value(None, None),
            Op::AccountPurged { account },
            Op::BodySettled {
                blob: BlobId {
                    partition: P1,
                    pseq: PSeq(2),
                    ordinal: 0,
                },
            },
        ],
        vec![
            Op::Accepted {
                body: BodyRef::New(0),
                targets: vec![bob()],
                outbound: None,
                saved: UnixMs(1_772_438_400_456),
                trace: None,
            },
            Op::HandedOver {
                pseq: PSeq(5),
                ordinal: 0,
            },
        ],
    ]
}

fn records(version: u32) -> Vec<Record> {
    let spooled = || message(Body::Spool(Path::new(ROOT).join("spool/1-0-1")));
    let inline = || message(Body::Inline(LETTER.to_vec()));
    let record = |(n, ops): (usize, Vec<Op>)| Record {
        partition: P1,
        epoch: Epoch(1),
        pseq: PSeq(n as u64 + 1),
        bodies: match n {
            1 if version >= 3 => vec![inline(), spooled(), message(long())],
            1 => vec![inline(), spooled()],
            4 | 6 => vec![inline()],
            _ => Vec::new(),
        },
        ops,
    };
    ops(version).into_iter().enumerate().map(record).collect()
}

/// All of a record but where its bodies lie.
fn described(record: &Record) -> String {
    let bodies: Vec<_> = record
        .bodies
        .iter()
        .map(|m| (&m.digest, m.size, m.crc32c, m.blake3))
        .collect();
    let Record {
        partition,
        epoch,
        pseq,
        ops,
        ..
    } = record;
    format!("{partition:?} {epoch:?} {pseq:?} {ops:?} {bodies:?}")
}

struct Ignore;

impl Apply for Ignore {
    fn apply(&self, _batch: &[Committed]) {}
}

fn small() -> JournalConfig {
    JournalConfig {
        slot_bytes: 64 << 10,
        slots_max: 3,
        reader_slots_max: 1,
        batch_bytes_max: 16 << 10,
        ..config(1).journal
    }
}

/// A journal with all records, closed by a seal: the slot up to its last used block, and `epoch`.
fn journal_today() -> (Vec<u8>, Vec<u8>) {
    let files = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let out = files.clone();
    block_on(async move {
        let disk = Disk::sim(SimDisk::new(1));
        let cfg = small();
        let recovered = recover(&cfg, &disk).await.expect("recovers");
        retire(&cfg, &disk, &recovered).await.expect("retires");
        let journal = Journal::create(&cfg, disk.clone(), 0, Rc::new(Ignore)).await;
        let journal = journal.expect("creates");
        for record in records(JOURNAL_TODAY) {
            let ticket = journal.append(record, Class::Change).expect("takes it");
            journal.committed(ticket).await.expect("commits");
        }
        journal.drain(soon()).await.expect("is quiet");
        let slot = Path::new(ROOT).join("journal/0/slot-0");
        let mut slot = disk.read(&slot).await.expect("reads");
        let used = slot.iter().rposition(|&octet| octet != 0).expect("is used") + 1;
        slot.truncate(used.next_multiple_of(4096));
        let epoch = disk.read(&Path::new(ROOT).join("epoch")).await;
        *out.borrow_mut() = (slot, epoch.expect("reads"));
    })
    .expect("an executor");
    files.take()
}

#[test]
fn a_journal_slot_of_each_version() {
    check_slot(1);
    check_slot(2);
    check_slot(3);
    check_slot(4);
    check_slot(5);
}

fn check_slot(version: u32) {
    let slot = kept("journal-#.slot", version, || journal_today().0);
    let epoch = kept("journal-#.epoch", version, || journal_today().1);
    block_on(async move {
        let disk = Disk::sim(SimDisk::new(2));
        let root = PathBuf::from(ROOT);
        let dir = root.join("journal/0");
        disk.create_dir_all(&dir).await.expect("makes it");
        let mut whole = slot;
        whole.resize(64 << 10, 0);
        let path = dir.join("slot-0");
        disk.write_new(&path, whole).await.expect("writes");
        let path = root.join("epoch");
        disk.write_new(&path, epoch).await.expect("writes");
        let found = recover(&small(), &disk).await.expect("recovers");
        assert_eq!(found.report.torn.len(), 0);
        let records = records(version);
        let read: &Vec<Recorded> = &found.partitions[&P1];
        assert_eq!(read.len(), records.len());
        for ((back, places), record) in read.iter().zip(&records) {
            assert_eq!(described(back), described(record));
            for (place, message) in places.iter().zip(&record.bodies) {
                match (place, &message.body) {
                    (journal::BodyPlace::Spool(at), Body::Spool(path)) => assert_eq!(at, path),
                    (journal::BodyPlace::InJournal(at), Body::Inline(bytes)) => {
                        let is_packed = version >= 3 && bytes.len() > LETTER.len();
                        assert_eq!(at.len < at.size, is_packed);
                        assert_eq!(at.size as usize, bytes.len());
                        let body = found.files.read(&disk, *at, 0..u64::MAX).await;
                        assert_eq!(&body.expect("reads"), bytes);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    })
    .expect("an executor");
}

fn row(uid: u32, keywords: &[&str]) -> NewRow {
    NewRow {
        uid: Uid(uid),
        flags: Flags(uid as u8 % 32),
        keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
        modseq: ModSeq(1 << 40 | u64::from(uid)),
        internal_date: UnixMs(-5),
        saved: UnixMs(1_772_438_400_123),
        size: 1000 + u64::from(uid),
        cold: Cold {
            name: NameId {
                partition: P1,
                pseq: PSeq(u64::from(uid) * 3),
                ordinal: 1,
            },
            cache: CacheRef { at: 512, len: 300 },
            prefix_bytes: 17,
            bare_newlines: 5,
            letters: 0x41,
            email_id: [uid as u8; 16],
            uid_in_name: false,
        },
        extra: None,
    }
}

fn extra() -> Extra {
    Extra {
        stem: Some("1600000000.M1P2.host,S=10,W=11".into()),
        uidl: Some("000000145e9b2f00".into()),
        prefix: b"Return-Path: <>\r\n"[..].into(),
        archive: Some((5, 1170)),
    }
}

fn index(version: u32) -> Index {
    let mut index = Index::default();
    index.add(&row(1, &["Work", "$Forwarded"]));
    let extra = (version >= 2).then(|| Box::new(extra()));
    index.add(&NewRow {
        extra,
        ..row(2, &[])
    });
    index.add(&row(90_000, &["work"]));
    index.add(&row(90_001, &[]));
    let last = index.len() - 1;
    let modseq = (version >= 2).then_some(ModSeq(1 << 40 | 90_002));
    index.remove(&[last], modseq);
    index
}

fn check_rows(found: &Index, want: &Index) {
    assert_eq!(found.uids(), want.uids());
    assert_eq!(found.keyword_names(), want.keyword_names());
    for at in 0..want.len() {
        assert_eq!(found.row(at), want.row(at));
        assert_eq!(found.cold(at), want.cold(at));
        assert_eq!(found.weight(at), want.weight(at));
        assert_eq!(found.extra(at), want.extra(at));
    }
}

#[test]
fn an_index_snapshot_of_each_version() {
    for version in [1, 2] {
        let bytes = kept("index-#", version, || index(version).encode());
        let found = Index::decode(&bytes).expect("decodes");
        check_rows(&found, &index(version));
        let gone = found.vanished().since(ModSeq(1 << 40 | 90_000));
        match version {
            1 => assert_eq!(gone, Some(Vec::new())),
            _ => assert_eq!(gone, Some(vec![(Uid(90_001), Uid(90_001))])),
        }
        // What went before the upgrade is not known.
        assert_eq!(found.vanished().since(ModSeq(0)).is_none(), version == 1);
    }
}

#[test]
fn an_index_log_of_each_version() {
    check_log(1);
    check_log(2);
}

fn check_log(version: u32) {
    let changed = vec![(Uid(2), Flags::DELETED, vec!["Late".to_owned()])];
    let extra = || (version >= 2).then(|| Box::new(extra()));
    let modseq = (version >= 2).then_some(ModSeq(1 << 40 | 60));
    let second = || NewRow {
        extra: extra(),
        ..row(2, &[])
    };
    let bytes = kept("index-log-#", version, || {
        let mut log = Vec::new();
        for row in [row(1, &["Work", "$Forwarded"]), second(), row(3, &[])] {
            LogOp::Added(row).encode(&mut log);
        }
        log.resize(align(log.len() as u64) as usize, 0);
        LogOp::Flags {
            modseq: ModSeq(1 << 40 | 50),
            entries: changed.clone(),
        }
        .encode(&mut log);
        let uids = vec![Uid(3)];
        LogOp::Expunged { uids, modseq }.encode(&mut log);
        LogOp::Letters(vec![(Uid(2), 0x80)]).encode(&mut log);
        log
    });
    let mut found = Index::default();
    replay(&mut found, &bytes, 0).expect("replays");
    let mut want = Index::default();
    want.add(&row(1, &["Work", "$Forwarded"]));
    want.add(&second());
    want.set(1, Flags::DELETED, &changed[0].2, ModSeq(1 << 40 | 50));
    want.set_letters(1, 0x80);
    check_rows(&found, &want);
}

#[test]
fn a_cache_of_version_1() {
    let bytes = kept("cache-#", 1, || [digest(), digest()].concat());
    for part in bytes.chunks(bytes.len() / 2) {
        let view = DigestView::parse(part).expect("parses");
        assert_eq!(view.bytes(), LETTER.len() as u64);
        assert_eq!(
            view.header("Subject"),
            DigestView::parse(&digest())
                .expect("parses")
                .header("Subject")
        );
        assert!(
            view.envelope()
                .starts_with(b"(\"Mon, 2 Mar 2026 09:00:00 +0100\" \"A letter\"")
        );
        assert_eq!(view.parts().count(), 1);
    }
}

pub(super) fn layout() -> Layout {
    Layout {
        root: PathBuf::from(ROOT),
    }
}

fn mailbox(id: u64, name: &str, special_use: Option<SpecialUse>) -> Rc<Mailbox> {
    let meta = Meta {
        name: name.into(),
        uidvalidity: UidValidity(100 + id as u32),
        uidnext: Uid(12),
        highest: ModSeq(1 << 40 | 9),
        weight: Weight {
            messages: 3,
            unseen: 2,
            deleted: 1,
            size: 4096,
            checksum: 0x0123_4567_89ab_cdef,
        },
        recent_from: Uid(11),
        recent: 1,
        special_use,
        generation: 2,
    };
    let path = layout().folder(P1, ANA, name);
    Mailbox::new(P1, ANA, MailboxId(id), meta, path, 1024)
}

pub(super) fn catalogue(version: u32) -> Catalogue {
    let key = || ("sieve".to_owned(), b"main".to_vec());
    let mut ana = AccountState {
        bytes: 8192,
        messages: 6,
        subscriptions: BTreeSet::from(["INBOX".to_owned(), "Entwürfe/2026".to_owned()]),
        ..AccountState::default()
    };
    ana.cache.end = 2048;
    ana.cache.dead = i64::MAX;
    if version >= 3 {
        ana.cache.dead = 700;
        ana.cache.first = 512;
        ana.cache.second = Some(1024);
    }
    ana.values.insert(key(), Arc::from(&b"keep;"[..]));
    ana.insert(mailbox(3, "INBOX", None));
    ana.insert(mailbox(4, "Entwürfe/2026", Some(SpecialUse::Drafts)));
    let accepted = |source, trace| Accepted {
        saved: UnixMs(1_772_438_400_456),
        trace,
        size: LETTER.len() as u64,
        crc32c: crc32c(LETTER),
        blake3: [0xb3; 32],
        digest: digest().into(),
        targets: vec![None, Some(bob())],
        outbound: None,
        source,
        memory: None,
    };
    let mut all = Catalogue {
        applied: PSeq(40),
        uidvalidity_last: 104,
        mailbox_last: 4,
        ..Catalogue::default()
    };
    all.accounts.insert(ANA, ana);
    all.values.insert(key(), Arc::from(&b"site"[..]));
    let marks = BTreeSet::from([(PSeq(9), 0), (PSeq(9), 2)]);
    all.origins.insert(PartitionId::queue(1), marks);
    all.accepted.home = P1;
    let file = Source::File(layout().queue_file(P1, PSeq(38)));
    all.accepted.put(PSeq(38), accepted(file, Some(trace())));
    let spool = Source::Spool(layout().spool().join("1-0-7"));
    all.accepted.put(PSeq(39), accepted(spool, None));
    if version >= 4 {
        let file = Source::File(layout().queue_file(P1, PSeq(40)));
        let leaving = Accepted {
            targets: Vec::new(),
            outbound: Some(Box::new(outbound())),
            ..accepted(file, Some(trace()))
        };
        all.accepted.put(PSeq(40), leaving);
    }
    let doomed = [
        Doomed::Message {
            account: ANA,
            mailbox: INBOX,
            stem: "1772438400.P1Q2N0.palomar,S=10,W=10".into(),
            letters: 3,
            day: Day(if version >= 2 { 20_600 } else { 0 }),
        },
        Doomed::File("spool/1-0-3".into()),
        Doomed::Tree("removed/1-7-4".into()),
    ];
    all.doomed.extend(doomed.map(|d| (PSeq(40), d)));
    if version >= 2 {
        let (account, mailbox, day) = (ANA, MailboxId(9), Day(20_601));
        let more = [
            Doomed::Folder {
                account,
                mailbox,
                day,
            },
            Doomed::Kept(account),
            Doomed::Frame {
                day,
                at: 512,
                bytes: 1024,
            },
        ];
        all.doomed.extend(more.map(|d| (PSeq(40), d)));
        for (day, entries) in [(20_600, b"one"), (20_601, b"two")] {
            all.history.push(Day(day), entries);
        }
        all.history.seal();
    }
    all
}

/// Everything in it, as text that compares.
pub(super) fn told(catalogue: &Catalogue) -> String {
    let mut text = format!(
        "{:?} {} {} {:?} {:?} {:?} {:?}\n",
        catalogue.applied,
        catalogue.uidvalidity_last,
        catalogue.mailbox_last,
        catalogue.values,
        catalogue.origins,
        catalogue.doomed,
        catalogue.history.days(),
    );
    for (id, account) in &catalogue.accounts {
        text += &format!(
            "{id:?} {} {} {} {} {} {:?} {:?} {:?}\n",
            account.bytes,
            account.messages,
            account.cache.end,
            account.cache.dead,
            account.cache.first,
            account.cache.second,
            account.subscriptions,
            account.values
        );
        for (id, mailbox) in &account.mailboxes {
            let (meta, end) = (mailbox.meta.borrow(), mailbox.pending.borrow().log_end());
            text += &format!("{id:?} {meta:?} {end} {:?}\n", mailbox.path());
        }
    }
    text + &told_entries(&catalogue.accepted)
}

pub(super) fn told_entries(entries: &Entries) -> String {
    let mut text = String::new();
    for (pseq, a) in entries.after(&layout(), Bound::Unbounded) {
        text += &format!(
            "{pseq:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?}\n",
            a.saved, a.trace, a.size, a.crc32c, a.blake3, a.digest, a.targets, a.source, a.outbound
        );
    }
    text
}

fn encoded(all: Catalogue) -> Vec<u8> {
    super::run(async move {
        let partition = Partition::new(P1, all);
        cut(&partition, Writing::default()).await.pieces.concat()
    })
}

#[test]
fn a_catalogue_of_each_version() {
    for version in 1..=CATALOGUE_TODAY {
        let today = || encoded(catalogue(CATALOGUE_TODAY));
        let bytes = kept("catalogue-#", version, today);
        let found = Catalogue::decode(&bytes, P1, &layout());
        let found = found.unwrap_or_else(|_| panic!("does not decode"));
        assert_eq!(told(&found), told(&catalogue(version)));
    }
}

/// A day of a partition's history, with each kind of entry.
#[test]
fn history_of_version_2() {
    let bytes = kept("history-#", 2, history_today);
    let entries = entries_of(&bytes);
    assert_eq!(entries, entries_of(&history_today()));
    assert_eq!(entries.len(), 2);
}

fn history_today() -> Vec<u8> {
    let mailbox = mailbox(3, "INBOX", None);
    let head = Head::of(&mailbox, PSeq(40), UnixMs(1_772_438_500_000));
    let index = index(2);
    let mut rows = Rows::default();
    (0..index.len()).for_each(|at| rows.push(&index, at));
    let expunged = rows.entries(&head).flatten().collect::<Vec<u8>>();
    [frame(&expunged), frame(&head.deleted(&mailbox))].concat()
}
