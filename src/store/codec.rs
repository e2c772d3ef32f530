//! Records as bytes: the tables of `docs/JOURNAL.md`, and nothing else.
//!
//! Encoding appends to a batch buffer, so that a body is copied once. Decoding leaves bodies where
//! they are and answers their ranges. No bytes make it panic or use memory beyond their size and
//! [`UIDS_PER_RECORD_MAX`].

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    AccountRef, Body, BodyRef, Flags, Message, Op, OutboxKey, Quota, Record, SpecialUse, Target,
};
use crate::base::{
    AccountId, BlobId, ByteSize, Crc32c, Epoch, MailboxId, ModSeq, PSeq, PartitionId, TraceId, Uid,
    UidValidity, UnixMs, crc32c,
};

/// Length and CRC, before the content of a record.
pub const FRAME_BYTES: usize = 8;

/// UIDs that the operations of one record name at most; runs make them cheap on disk, not here.
pub const UIDS_PER_RECORD_MAX: usize = 2 << 20;

const RECORD_VERSION: u8 = 1;

mod kind {
    pub const MAILBOX_CREATED: u8 = 1;
    pub const MAILBOX_RENAMED: u8 = 2;
    pub const MAILBOX_DELETED: u8 = 3;
    pub const SUBSCRIPTION_SET: u8 = 4;
    pub const PLACED: u8 = 5;
    pub const FLAGS_SET: u8 = 6;
    pub const EXPUNGED: u8 = 7;
    pub const ACCOUNT_PURGED: u8 = 8;
    pub const VALUE_SET: u8 = 9;
    pub const ACCEPTED: u8 = 10;
    pub const HANDED_OVER: u8 = 11;
    pub const BODY_SETTLED: u8 = 12;
}

/// Why bytes are no record, or a record cannot become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// They end inside a field, or go on after the last.
    Length,
    /// The CRC does not fit.
    Checksum,
    /// Written by a newer Palomar: this node must not go on.
    UnknownVersion { version: u8 },
    /// Written by a newer Palomar: this node must not go on.
    UnknownKind { kind: u8, version: u8 },
    /// A field holds what the encoder never writes.
    Field(&'static str),
    /// More UIDs than [`UIDS_PER_RECORD_MAX`].
    TooManyUids,
    /// A body without its bytes: it was itself read back from a journal.
    BodyNotHere,
}

/// For each body of a record its bytes within a buffer, or `None` where they are in a spool file.
pub type BodyRanges = Vec<Option<Range<usize>>>;

/// A record read back. Inline bodies are [`Body::InJournal`]; their bytes are at the ranges.
#[derive(Debug)]
pub struct Decoded {
    pub record: Record,
    /// Within the frame.
    pub bodies: BodyRanges,
}

/// Appends `record` as one frame to `out`. Answers where in `out` the inline bodies stand. On an
/// error `out` is as before. Spool paths are kept relative to `root`, so that it may be moved.
pub fn encode(record: &Record, root: &Path, out: &mut Vec<u8>) -> Result<BodyRanges, CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    let bodies = match put_record(record, root, out) {
        Ok(bodies) => bodies,
        Err(why) => {
            out.truncate(start);
            return Err(why);
        }
    };
    let content = start + FRAME_BYTES;
    let Ok(length) = u32::try_from(out.len() - content) else {
        out.truncate(start);
        return Err(CodecError::Length);
    };
    let crc = crc32c(&out[content..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..content].copy_from_slice(&crc.0.to_le_bytes());
    Ok(bodies)
}

/// The whole frame that begins at `bytes`, its CRC checked. What follows it is the caller's.
pub fn frame(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let head = bytes.get(..FRAME_BYTES).ok_or(CodecError::Length)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let end = FRAME_BYTES.checked_add(length).ok_or(CodecError::Length)?;
    let frame = bytes.get(..end).ok_or(CodecError::Length)?;
    let crc = Crc32c(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
    if crc32c(&frame[FRAME_BYTES..]) == crc {
        Ok(frame)
    } else {
        Err(CodecError::Checksum)
    }
}

/// Reads a frame that [`frame`] answered: the CRC is not checked again.
pub fn decode(frame: &[u8], root: &Path) -> Result<Decoded, CodecError> {
    let mut from = Reader {
        bytes: frame,
        at: FRAME_BYTES,
        uids_left: UIDS_PER_RECORD_MAX,
    };
    match from.octet()? {
        RECORD_VERSION => {}
        version => return Err(CodecError::UnknownVersion { version }),
    }
    let partition = PartitionId(u16::from_le_bytes(from.array()?));
    let epoch = Epoch(u32::from_le_bytes(from.array()?));
    let pseq = PSeq(u64::from_le_bytes(from.array()?));
    let ops = from.list(Reader::op)?;
    let (bodies, ranges) = from.list(|r| r.body(root))?.into_iter().unzip();
    if from.at != frame.len() {
        return Err(CodecError::Length);
    }
    Ok(Decoded {
        record: Record {
            partition,
            epoch,
            pseq,
            ops,
            bodies,
        },
        bodies: ranges,
    })
}

// ---- writing ----

fn put_record(record: &Record, root: &Path, out: &mut Vec<u8>) -> Result<BodyRanges, CodecError> {
    out.push(RECORD_VERSION);
    out.extend_from_slice(&record.partition.0.to_le_bytes());
    out.extend_from_slice(&record.epoch.0.to_le_bytes());
    out.extend_from_slice(&record.pseq.0.to_le_bytes());
    let mut uids_left = UIDS_PER_RECORD_MAX;
    put_varint(out, record.ops.len() as u64);
    for op in &record.ops {
        let uids = match op {
            Op::FlagsSet { entries, .. } => entries.len(),
            Op::Expunged { uids, .. } => uids.len(),
            _ => 0,
        };
        uids_left = uids_left.checked_sub(uids).ok_or(CodecError::TooManyUids)?;
        put_op(out, op);
    }
    put_varint(out, record.bodies.len() as u64);
    record
        .bodies
        .iter()
        .map(|message| put_body(out, message, root))
        .collect()
}

fn put_body(
    out: &mut Vec<u8>,
    message: &Message,
    root: &Path,
) -> Result<Option<Range<usize>>, CodecError> {
    out.push(match message.body {
        Body::Inline(_) => 0,
        Body::Spool(_) => 1,
        Body::InJournal => return Err(CodecError::BodyNotHere),
    });
    out.extend_from_slice(&message.crc32c.0.to_le_bytes());
    out.extend_from_slice(&message.blake3);
    put_bytes(out, &message.digest);
    match &message.body {
        Body::Inline(bytes) => {
            if bytes.len() as u64 != message.size {
                return Err(CodecError::Field("size"));
            }
            put_bytes(out, bytes);
            Ok(Some(out.len() - bytes.len()..out.len()))
        }
        Body::Spool(path) => {
            let path = path.strip_prefix(root).unwrap_or(path);
            put_varint(out, message.size);
            put_bytes(out, path.as_os_str().as_bytes());
            Ok(None)
        }
        Body::InJournal => Err(CodecError::BodyNotHere),
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    let mut begin = |kind: u8, version: u8| out.extend_from_slice(&[kind, version]);
    match op {
        Op::MailboxCreated {
            account,
            mailbox,
            name,
            uidvalidity,
            special_use,
        } => {
            begin(kind::MAILBOX_CREATED, 1);
            put_mailbox(out, *account, *mailbox);
            put_bytes(out, name.as_bytes());
            put_varint(out, uidvalidity.0.into());
            out.push(use_number(*special_use));
        }
        Op::MailboxRenamed {
            account,
            mailbox,
            name,
        } => {
            begin(kind::MAILBOX_RENAMED, 1);
            put_mailbox(out, *account, *mailbox);
            put_bytes(out, name.as_bytes());
        }
        Op::MailboxDeleted { account, mailbox } => {
            begin(kind::MAILBOX_DELETED, 1);
            put_mailbox(out, *account, *mailbox);
        }
        Op::SubscriptionSet {
            account,
            name,
            subscribed,
        } => {
            begin(kind::SUBSCRIPTION_SET, 1);
            put_varint(out, account.0);
            put_bytes(out, name.as_bytes());
            out.push(u8::from(*subscribed));
        }
        Op::Placed { .. } => {
            begin(kind::PLACED, 1);
            put_placed(out, op);
        }
        Op::FlagsSet {
            account,
            mailbox,
            modseq,
            entries,
        } => {
            begin(kind::FLAGS_SET, 1);
            put_mailbox(out, *account, *mailbox);
            put_varint(out, modseq.0);
            put_flag_entries(out, entries);
        }
        Op::Expunged {
            account,
            mailbox,
            modseq,
            uids,
        } => {
            begin(kind::EXPUNGED, 1);
            put_mailbox(out, *account, *mailbox);
            put_varint(out, modseq.0);
            let runs = runs(uids.iter().map(|uid| (uid.0, 0)));
            put_varint(out, runs.len() as u64);
            put_runs(out, &runs, false);
        }
        Op::AccountPurged { account } => {
            begin(kind::ACCOUNT_PURGED, 1);
            put_varint(out, account.0);
        }
        Op::ValueSet {
            account,
            namespace,
            key,
            value,
        } => {
            begin(kind::VALUE_SET, 1);
            put_opt(out, account.as_ref(), |out, a| put_varint(out, a.0));
            put_bytes(out, namespace.as_bytes());
            put_bytes(out, key);
            put_opt(out, value.as_ref(), |out, v| put_bytes(out, v));
        }
        Op::Accepted {
            body,
            targets,
            saved,
            trace,
        } => {
            begin(kind::ACCEPTED, 1);
            put_body_ref(out, *body);
            put_varint(out, targets.len() as u64);
            targets.iter().for_each(|target| put_target(out, target));
            put_zigzag(out, saved.0);
            put_opt(out, trace.as_ref(), put_trace);
        }
        Op::HandedOver { pseq, ordinal } => {
            begin(kind::HANDED_OVER, 1);
            put_varint(out, pseq.0);
            put_varint(out, (*ordinal).into());
        }
        Op::BodySettled { blob } => {
            begin(kind::BODY_SETTLED, 1);
            put_varint(out, blob.partition.0.into());
            put_varint(out, blob.pseq.0);
            put_varint(out, blob.ordinal.into());
        }
    }
}

fn put_placed(out: &mut Vec<u8>, op: &Op) {
    let Op::Placed {
        account,
        mailbox,
        uid,
        modseq,
        flags,
        keywords,
        internal_date,
        saved,
        body,
        prefix,
        origin,
        trace,
    } = op
    else {
        return;
    };
    put_mailbox(out, *account, *mailbox);
    put_varint(out, uid.0.into());
    put_varint(out, modseq.0);
    put_state(out, *flags, keywords);
    put_zigzag(out, internal_date.0);
    put_zigzag(out, saved.0);
    put_body_ref(out, *body);
    put_bytes(out, prefix);
    put_opt(out, origin.as_ref(), |out, key| {
        put_varint(out, key.source.0.into());
        put_varint(out, key.pseq.0);
        put_varint(out, key.ordinal.into());
    });
    put_opt(out, trace.as_ref(), put_trace);
}

/// The distinct states first, then runs of neighbours that share one: a STORE of a million
/// messages takes a few octets.
fn put_flag_entries(out: &mut Vec<u8>, entries: &[(Uid, Flags, Vec<String>)]) {
    let mut numbers = hashbrown::HashMap::new();
    let mut states = Vec::new();
    let mut last: Option<(u64, Flags, &[String])> = None;
    let runs = runs(entries.iter().map(|(uid, flags, keywords)| {
        let number = match last {
            Some((number, f, k)) if f == *flags && k == keywords.as_slice() => number,
            _ => *numbers.entry((*flags, keywords)).or_insert_with(|| {
                states.push((*flags, keywords));
                states.len() as u64 - 1
            }),
        };
        last = Some((number, *flags, keywords));
        (uid.0, number)
    }));
    put_varint(out, states.len() as u64);
    for (flags, keywords) in states {
        put_state(out, flags, keywords);
    }
    put_varint(out, runs.len() as u64);
    put_runs(out, &runs, true);
}

/// Consecutive UIDs with one state.
struct Run {
    first: u32,
    last: u32,
    state: u64,
}

fn runs(uids: impl Iterator<Item = (u32, u64)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (uid, state) in uids {
        match runs.last_mut() {
            Some(run) if run.state == state && run.last.checked_add(1) == Some(uid) => {
                run.last = uid;
            }
            _ => runs.push(Run {
                first: uid,
                last: uid,
                state,
            }),
        }
    }
    runs
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run], with_state: bool) {
    let mut before = 0;
    for run in runs {
        if with_state {
            put_varint(out, run.state);
        }
        put_zigzag(out, i64::from(run.first) - before);
        put_varint(out, u64::from(run.last - run.first));
        before = i64::from(run.last);
    }
}

fn put_target(out: &mut Vec<u8>, target: &Target) {
    put_varint(out, target.account.account.0);
    put_varint(out, target.account.partition.0.into());
    put_opt(out, target.account.quota.bytes.as_ref(), |out, q| {
        put_varint(out, q.0);
    });
    put_bytes(out, target.mailbox.as_bytes());
    out.push(target.flags.0);
    put_bytes(out, &target.prefix);
}

fn put_body_ref(out: &mut Vec<u8>, body: BodyRef) {
    match body {
        BodyRef::New(n) => {
            out.push(0);
            put_varint(out, n.into());
        }
        BodyRef::Copy { mailbox, uid } => {
            out.push(1);
            put_varint(out, mailbox.0);
            put_varint(out, uid.0.into());
        }
        BodyRef::Handed(n) => {
            out.push(2);
            put_varint(out, n.into());
        }
    }
}

fn put_mailbox(out: &mut Vec<u8>, account: AccountId, mailbox: MailboxId) {
    put_varint(out, account.0);
    put_varint(out, mailbox.0);
}

fn put_state(out: &mut Vec<u8>, flags: Flags, keywords: &[String]) {
    out.push(flags.0);
    put_varint(out, keywords.len() as u64);
    for keyword in keywords {
        put_bytes(out, keyword.as_bytes());
    }
}

fn put_trace(out: &mut Vec<u8>, trace: &TraceId) {
    out.extend_from_slice(trace.to_string().as_bytes());
}

fn put_opt<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn use_number(special_use: Option<SpecialUse>) -> u8 {
    match special_use {
        None => 0,
        Some(SpecialUse::Archive) => 1,
        Some(SpecialUse::Drafts) => 2,
        Some(SpecialUse::Junk) => 3,
        Some(SpecialUse::Sent) => 4,
        Some(SpecialUse::Trash) => 5,
    }
}

// ---- reading ----

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Runs name many UIDs in few octets, so memory is bounded here and not by the length.
    uids_left: usize,
}

type Read<T> = Result<T, CodecError>;

impl<'a> Reader<'a> {
    fn op(&mut self) -> Read<Op> {
        let [kind, version] = self.array()?;
        if version != 1 {
            return Err(CodecError::UnknownKind { kind, version });
        }
        Ok(match kind {
            kind::MAILBOX_CREATED => Op::MailboxCreated {
                account: self.account()?,
                mailbox: self.mailbox()?,
                name: self.text()?,
                uidvalidity: UidValidity(self.narrow("uidvalidity")?),
                special_use: self.special_use()?,
            },
            kind::MAILBOX_RENAMED => Op::MailboxRenamed {
                account: self.account()?,
                mailbox: self.mailbox()?,
                name: self.text()?,
            },
            kind::MAILBOX_DELETED => Op::MailboxDeleted {
                account: self.account()?,
                mailbox: self.mailbox()?,
            },
            kind::SUBSCRIPTION_SET => Op::SubscriptionSet {
                account: self.account()?,
                name: self.text()?,
                subscribed: self.bool()?,
            },
            kind::PLACED => self.placed()?,
            kind::FLAGS_SET => Op::FlagsSet {
                account: self.account()?,
                mailbox: self.mailbox()?,
                modseq: ModSeq(self.varint()?),
                entries: self.flag_entries()?,
            },
            kind::EXPUNGED => Op::Expunged {
                account: self.account()?,
                mailbox: self.mailbox()?,
                modseq: ModSeq(self.varint()?),
                uids: self.uids()?,
            },
            kind::ACCOUNT_PURGED => Op::AccountPurged {
                account: self.account()?,
            },
            kind::VALUE_SET => Op::ValueSet {
                account: self.opt(Reader::account)?,
                namespace: self.text()?,
                key: self.bytes()?.to_vec(),
                value: self.opt(|r| Ok(r.bytes()?.to_vec()))?,
            },
            kind::ACCEPTED => Op::Accepted {
                body: self.body_ref()?,
                targets: self.list(Reader::target)?,
                saved: UnixMs(self.zigzag()?),
                trace: self.opt(Reader::trace)?,
            },
            kind::HANDED_OVER => Op::HandedOver {
                pseq: PSeq(self.varint()?),
                ordinal: self.narrow("ordinal")?,
            },
            kind::BODY_SETTLED => Op::BodySettled {
                blob: BlobId {
                    partition: PartitionId(self.narrow("partition")?),
                    pseq: PSeq(self.varint()?),
                    ordinal: self.narrow("ordinal")?,
                },
            },
            kind => return Err(CodecError::UnknownKind { kind, version }),
        })
    }

    fn placed(&mut self) -> Read<Op> {
        let (account, mailbox) = (self.account()?, self.mailbox()?);
        let (uid, modseq) = (Uid(self.narrow("uid")?), ModSeq(self.varint()?));
        let (flags, keywords) = self.state()?;
        Ok(Op::Placed {
            account,
            mailbox,
            uid,
            modseq,
            flags,
            keywords,
            internal_date: UnixMs(self.zigzag()?),
            saved: UnixMs(self.zigzag()?),
            body: self.body_ref()?,
            prefix: self.bytes()?.to_vec(),
            origin: self.opt(|r| {
                Ok(OutboxKey {
                    source: PartitionId(r.narrow("source")?),
                    pseq: PSeq(r.varint()?),
                    ordinal: r.narrow("ordinal")?,
                })
            })?,
            trace: self.opt(Reader::trace)?,
        })
    }

    fn flag_entries(&mut self) -> Read<Vec<(Uid, Flags, Vec<String>)>> {
        let states = self.list(Reader::state)?;
        let mut entries = Vec::new();
        let mut before = 0;
        for _ in 0..self.varint()? {
            let state = usize::try_from(self.varint()?).map_err(|_| CodecError::Field("state"))?;
            let (flags, keywords) = states.get(state).ok_or(CodecError::Field("state"))?;
            let run = self.run(&mut before)?;
            entries.extend(run.map(|uid| (Uid(uid), *flags, keywords.clone())));
        }
        Ok(entries)
    }

    fn uids(&mut self) -> Read<Vec<Uid>> {
        let mut uids = Vec::new();
        let mut before = 0;
        for _ in 0..self.varint()? {
            uids.extend(self.run(&mut before)?.map(Uid));
        }
        Ok(uids)
    }

    fn run(&mut self, before: &mut i64) -> Read<std::ops::RangeInclusive<u32>> {
        let wrong = CodecError::Field("uid run");
        let first = before.checked_add(self.zigzag()?).ok_or(wrong)?;
        let first = u32::try_from(first).map_err(|_| wrong)?;
        let more: u32 = self.narrow("uid run")?;
        let last = first.checked_add(more).ok_or(wrong)?;
        self.uids_left = self
            .uids_left
            .checked_sub(more as usize + 1)
            .ok_or(CodecError::TooManyUids)?;
        *before = i64::from(last);
        Ok(first..=last)
    }

    fn state(&mut self) -> Read<(Flags, Vec<String>)> {
        Ok((Flags(self.octet()?), self.list(Reader::text)?))
    }

    fn target(&mut self) -> Read<Target> {
        Ok(Target {
            account: AccountRef {
                account: self.account()?,
                partition: PartitionId(self.narrow("partition")?),
                quota: Quota {
                    bytes: self.opt(|r| Ok(ByteSize(r.varint()?)))?,
                    messages: None,
                },
            },
            mailbox: self.text()?,
            flags: Flags(self.octet()?),
            prefix: self.bytes()?.to_vec(),
        })
    }

    fn body_ref(&mut self) -> Read<BodyRef> {
        Ok(match self.octet()? {
            0 => BodyRef::New(self.narrow("body")?),
            1 => BodyRef::Copy {
                mailbox: self.mailbox()?,
                uid: Uid(self.narrow("uid")?),
            },
            2 => BodyRef::Handed(self.narrow("body")?),
            _ => return Err(CodecError::Field("body")),
        })
    }

    fn body(&mut self, root: &Path) -> Read<(Arc<Message>, Option<Range<usize>>)> {
        let place = self.octet()?;
        let crc32c = Crc32c(u32::from_le_bytes(self.array()?));
        let blake3 = self.array()?;
        let digest = Arc::from(self.bytes()?);
        let (body, size, range) = match place {
            0 => {
                let length = self.bytes()?.len();
                let range = self.at - length..self.at;
                (Body::InJournal, length as u64, Some(range))
            }
            1 => {
                let size = self.varint()?;
                let path: PathBuf = root.join(OsStr::from_bytes(self.bytes()?));
                (Body::Spool(path), size, None)
            }
            _ => return Err(CodecError::Field("body place")),
        };
        let message = Message {
            body,
            digest,
            size,
            crc32c,
            blake3,
        };
        Ok((Arc::new(message), range))
    }

    fn account(&mut self) -> Read<AccountId> {
        self.varint().map(AccountId)
    }

    fn mailbox(&mut self) -> Read<MailboxId> {
        self.varint().map(MailboxId)
    }

    fn trace(&mut self) -> Read<TraceId> {
        let text: [u8; 16] = self.array()?;
        let text = std::str::from_utf8(&text).map_err(|_| CodecError::Field("trace"))?;
        text.parse().map_err(|_| CodecError::Field("trace"))
    }

    fn special_use(&mut self) -> Read<Option<SpecialUse>> {
        Ok(match self.octet()? {
            0 => None,
            1 => Some(SpecialUse::Archive),
            2 => Some(SpecialUse::Drafts),
            3 => Some(SpecialUse::Junk),
            4 => Some(SpecialUse::Sent),
            5 => Some(SpecialUse::Trash),
            _ => return Err(CodecError::Field("special use")),
        })
    }

    fn list<T>(&mut self, mut member: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.varint()?;
        // Every member takes an octet at least, so a count beyond what is left is false.
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(CodecError::Length);
        }
        (0..count).map(|_| member(self)).collect()
    }

    fn opt<T>(&mut self, value: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        self.bool()?.then(|| value(self)).transpose()
    }

    fn bool(&mut self) -> Read<bool> {
        match self.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Field("yes or no")),
        }
    }

    fn text(&mut self) -> Read<String> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::Field("text"))?;
        Ok(text.to_owned())
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| CodecError::Length)?;
        self.take(length)
    }

    fn narrow<T: TryFrom<u64>>(&mut self, field: &'static str) -> Read<T> {
        T::try_from(self.varint()?).map_err(|_| CodecError::Field(field))
    }

    fn zigzag(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(CodecError::Field("varint"));
            }
            value |= bits << shift;
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Field("varint"))
    }

    fn octet(&mut self) -> Read<u8> {
        self.array().map(|[octet]| octet)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take answers what was asked for"))
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or(CodecError::Length)?;
        let bytes = self.bytes.get(self.at..end).ok_or(CodecError::Length)?;
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
