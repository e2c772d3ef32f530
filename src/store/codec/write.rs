//! Values to bytes.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::outbound::{put_outbound, put_steering, put_tried, steering_version};
use super::{BodyRanges, CodecError, Packer, RECORD_VERSION, UIDS_PER_RECORD_MAX, USES, kind};
use crate::base::{AccountId, MailboxId, TraceId, Uid};
use crate::store::{
    AdoptedPlace, AdoptedRow, Body, BodyRef, Flags, Message, Op, Record, SpecialUse, Target,
};

pub(super) fn put_record(
    record: &Record,
    root: &Path,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) -> Result<BodyRanges, CodecError> {
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
            Op::Adopted { rows, .. } => rows.len(),
            _ => 0,
        };
        uids_left = uids_left.checked_sub(uids).ok_or(CodecError::TooManyUids)?;
        put_op(out, op);
    }
    put_varint(out, record.bodies.len() as u64);
    record
        .bodies
        .iter()
        .map(|message| put_body(out, message, root, packer))
        .collect()
}

fn put_body(
    out: &mut Vec<u8>,
    message: &Message,
    root: &Path,
    packer: &mut Packer,
) -> Result<Option<Range<usize>>, CodecError> {
    let frame = match &message.body {
        Body::Inline(bytes) => packer.pack(bytes),
        Body::Spool(_) => None,
        Body::InJournal => return Err(CodecError::BodyNotHere),
    };
    out.push(match (&message.body, frame) {
        (Body::Spool(_), _) => 1,
        (_, Some(_)) => 2,
        (_, None) => 0,
    });
    out.extend_from_slice(&message.crc32c.0.to_le_bytes());
    out.extend_from_slice(&message.blake3);
    put_bytes(out, &message.digest);
    match &message.body {
        Body::Inline(bytes) => {
            if bytes.len() as u64 != message.size {
                return Err(CodecError::Field("size"));
            }
            if frame.is_some() {
                put_varint(out, message.size);
            }
            let bytes = frame.unwrap_or(bytes);
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
        Op::MailboxDeleted {
            account,
            mailbox,
            at,
        } => {
            begin(kind::MAILBOX_DELETED, 2);
            put_mailbox(out, *account, *mailbox);
            put_zigzag(out, at.0);
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
            begin(kind::PLACED, 2);
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
            at,
        } => {
            begin(kind::EXPUNGED, 2);
            put_mailbox(out, *account, *mailbox);
            put_varint(out, modseq.0);
            let runs = runs(uids.iter().map(|uid| (uid.0, 0)));
            put_varint(out, runs.len() as u64);
            put_runs(out, &runs, false);
            put_zigzag(out, at.0);
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
            outbound,
            saved,
            trace,
        } => {
            begin(kind::ACCEPTED, 2);
            put_body_ref(out, *body);
            put_varint(out, targets.len() as u64);
            targets.iter().for_each(|target| put_target(out, target));
            put_zigzag(out, saved.0);
            put_opt(out, trace.as_ref(), put_trace);
            put_opt(out, outbound.as_deref(), |out, o| put_outbound(o, out));
        }
        Op::Tried { entry, tried } => {
            begin(kind::TRIED, 1);
            put_varint(out, entry.0);
            put_tried(out, tried);
        }
        Op::Steered {
            entry,
            at,
            ordinals,
            steering,
        } => {
            begin(kind::STEERED, steering_version(steering));
            put_varint(out, entry.0);
            put_zigzag(out, at.0);
            put_varint(out, ordinals.len() as u64);
            ordinals.iter().for_each(|n| put_varint(out, (*n).into()));
            put_steering(out, steering);
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
        Op::Adopted {
            account,
            mailbox,
            rows,
        } => {
            begin(kind::ADOPTED, 1);
            put_mailbox(out, *account, *mailbox);
            put_varint(out, rows.len() as u64);
            rows.iter().for_each(|row| put_adopted(out, row));
        }
        Op::MailboxSet {
            account,
            mailbox,
            uidnext,
            highest,
            special_use,
        } => {
            begin(kind::MAILBOX_SET, 1);
            put_mailbox(out, *account, *mailbox);
            put_opt(out, uidnext.as_ref(), |out, uid| {
                put_varint(out, uid.0.into())
            });
            put_opt(out, highest.as_ref(), |out, modseq| {
                put_varint(out, modseq.0)
            });
            put_opt(out, special_use.as_ref(), |out, of| {
                out.push(use_number(*of))
            });
        }
    }
}

fn put_adopted(out: &mut Vec<u8>, row: &AdoptedRow) {
    put_varint(out, row.uid.0.into());
    put_varint(out, row.modseq.0);
    put_state(out, row.flags, &row.keywords);
    put_zigzag(out, row.internal_date.0);
    put_zigzag(out, row.saved.0);
    put_varint(out, row.size);
    put_varint(out, row.bare_newlines.into());
    out.extend_from_slice(&row.email_id);
    put_bytes(out, row.stem.as_bytes());
    put_varint(out, row.letters.into());
    match row.place {
        AdoptedPlace::Cur => out.push(0),
        AdoptedPlace::New => out.push(1),
        AdoptedPlace::Archive { at, len } => {
            out.push(2);
            put_varint(out, at);
            put_varint(out, len);
        }
    }
    put_opt(out, row.uidl.as_ref(), |out, uidl| {
        put_bytes(out, uidl.as_bytes())
    });
    put_bytes(out, &row.digest);
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
        apart,
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
    out.push(u8::from(*apart));
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

pub(super) fn put_opt<T: ?Sized>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn use_number(special_use: Option<SpecialUse>) -> u8 {
    let number = |of| {
        USES.iter()
            .position(|&u| u == of)
            .map_or(0, |n| n as u8 + 1)
    };
    special_use.map_or(0, number)
}
