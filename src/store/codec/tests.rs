//! Every record comes back as it was; no bytes do harm.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use std::sync::Arc;

use super::pack::{PACKED_BYTES_MAX, PACKED_BYTES_MIN};
use super::*;
use crate::base::{
    AccountId, BlobId, ByteSize, MailboxId, ModSeq, TraceId, Uid, UidValidity, UnixMs,
};
use crate::store::{
    AccountRef, AdoptedPlace, AdoptedRow, Body, BodyRef, Flags, Message, Op, OutboxKey, Target,
};
use crate::store::{
    LastTry, MailClass, Outbound, OutboundRecipient, Packing, Quota, RecipientState, Redirect,
    Steering, Tried, TriedRecipient,
};
use crate::wire::address::{Mailbox, Path as Forward};
use crate::wire::smtp::{BodyKind, DsnReturn, MailFrom, Notify, OriginalRecipient, RcptTo};

const ROOT: &str = "/data";

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn account() -> impl Strategy<Value = AccountId> {
    any::<u64>().prop_map(AccountId)
}

fn mailbox() -> impl Strategy<Value = (AccountId, MailboxId)> {
    (account(), any::<u64>().prop_map(MailboxId))
}

fn flags() -> impl Strategy<Value = Flags> {
    (0..32u8).prop_map(Flags)
}

fn keywords() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn outbox_key() -> impl Strategy<Value = OutboxKey> {
    (any::<u16>(), any::<u64>(), any::<u16>()).prop_map(|(source, pseq, ordinal)| OutboxKey {
        source: PartitionId(source),
        pseq: PSeq(pseq),
        ordinal,
    })
}

fn trace() -> impl Strategy<Value = TraceId> {
    (0..1i64 << 47, any::<u32>()).prop_map(|(ms, unique)| TraceId::new(UnixMs(ms), unique))
}

fn special_use() -> impl Strategy<Value = Option<SpecialUse>> {
    prop::sample::select(vec![
        None,
        Some(SpecialUse::Archive),
        Some(SpecialUse::Drafts),
        Some(SpecialUse::Junk),
        Some(SpecialUse::Sent),
        Some(SpecialUse::Trash),
    ])
}

fn body_ref() -> impl Strategy<Value = BodyRef> {
    prop_oneof![
        any::<u16>().prop_map(BodyRef::New),
        any::<u16>().prop_map(BodyRef::Handed),
        (any::<u64>(), any::<u32>()).prop_map(|(mailbox, uid)| BodyRef::Copy {
            mailbox: MailboxId(mailbox),
            uid: Uid(uid),
        }),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let account_ref = (account(), any::<u16>(), option::of(any::<u64>())).prop_map(
        |(account, partition, quota)| AccountRef {
            account,
            partition: PartitionId(partition),
            quota: Quota {
                bytes: quota.map(ByteSize),
                messages: None,
            },
        },
    );
    (account_ref, text(), flags(), octets()).prop_map(|(account, mailbox, flags, prefix)| Target {
        account,
        mailbox,
        flags,
        prefix,
    })
}

fn adopted() -> impl Strategy<Value = AdoptedRow> {
    let place = prop_oneof![
        Just(AdoptedPlace::Cur),
        Just(AdoptedPlace::New),
        (any::<u64>(), any::<u64>()).prop_map(|(at, len)| AdoptedPlace::Archive { at, len }),
    ];
    (
        (any::<u32>(), any::<u64>(), flags(), keywords()),
        (any::<i64>(), any::<i64>(), any::<u64>(), any::<u32>()),
        (any::<[u8; 16]>(), text(), any::<u32>(), place),
        (option::of(text()), octets()),
    )
        .prop_map(|(who, what, file, rest)| AdoptedRow {
            uid: Uid(who.0),
            modseq: ModSeq(who.1),
            flags: who.2,
            keywords: who.3,
            internal_date: UnixMs(what.0),
            saved: UnixMs(what.1),
            size: what.2,
            bare_newlines: what.3,
            email_id: file.0,
            stem: file.1,
            letters: file.2,
            place: file.3,
            uidl: rest.0,
            digest: Arc::from(rest.1),
        })
}

fn structural() -> impl Strategy<Value = Op> {
    prop_oneof![
        (mailbox(), text(), any::<u32>(), special_use()).prop_map(
            |((account, mailbox), name, uidvalidity, special_use)| Op::MailboxCreated {
                account,
                mailbox,
                name,
                uidvalidity: UidValidity(uidvalidity),
                special_use,
            }
        ),
        (mailbox(), text()).prop_map(|((account, mailbox), name)| Op::MailboxRenamed {
            account,
            mailbox,
            name
        }),
        (mailbox(), any::<i64>()).prop_map(|((account, mailbox), at)| Op::MailboxDeleted {
            account,
            mailbox,
            at: UnixMs(at),
        }),
        (
            mailbox(),
            option::of(any::<u32>()),
            option::of(any::<u64>()),
            option::of(special_use())
        )
            .prop_map(|((account, mailbox), uidnext, highest, special_use)| {
                Op::MailboxSet {
                    account,
                    mailbox,
                    uidnext: uidnext.map(Uid),
                    highest: highest.map(ModSeq),
                    special_use,
                }
            }),
        (mailbox(), vec(adopted(), 0..3)).prop_map(|((account, mailbox), rows)| Op::Adopted {
            account,
            mailbox,
            rows,
        }),
        (account(), text(), any::<bool>()).prop_map(|(account, name, subscribed)| {
            Op::SubscriptionSet {
                account,
                name,
                subscribed,
            }
        }),
        account().prop_map(|account| Op::AccountPurged { account }),
        (
            option::of(account()),
            text(),
            octets(),
            option::of(octets())
        )
            .prop_map(|(account, namespace, key, value)| Op::ValueSet {
                account,
                namespace,
                key,
                value,
            }),
    ]
}

fn messages() -> impl Strategy<Value = Op> {
    let uid = any::<u32>().prop_map(Uid);
    let modseq = any::<u64>().prop_map(ModSeq);
    let when = any::<i64>().prop_map(UnixMs);
    let placed = (
        (mailbox(), uid.clone(), modseq.clone(), flags(), keywords()),
        (when.clone(), when.clone(), body_ref(), octets()),
        (option::of(outbox_key()), option::of(trace()), any::<bool>()),
    )
        .prop_map(|(who, what, origin)| Op::Placed {
            account: who.0.0,
            mailbox: who.0.1,
            uid: who.1,
            modseq: who.2,
            flags: who.3,
            keywords: who.4,
            internal_date: what.0,
            saved: what.1,
            body: what.2,
            prefix: what.3,
            apart: origin.2,
            origin: origin.0,
            trace: origin.1,
        });
    // Few values, so that there are runs.
    let near = (0..12u32).prop_map(Uid);
    let few = (0..2u8).prop_map(Flags);
    let entry = (near.clone(), few, vec("[ab]", 0..2));
    prop_oneof![
        placed,
        (mailbox(), modseq.clone(), vec(entry, 0..30)).prop_map(
            |((account, mailbox), modseq, entries)| Op::FlagsSet {
                account,
                mailbox,
                modseq,
                entries,
            }
        ),
        (
            mailbox(),
            modseq,
            vec(prop_oneof![near, uid], 0..30),
            when.clone()
        )
            .prop_map(|((account, mailbox), modseq, uids, at)| Op::Expunged {
                account,
                mailbox,
                modseq,
                uids,
                at,
            }),
        (
            body_ref(),
            vec(target(), 0..4),
            option::of(outbound()),
            when,
            option::of(trace())
        )
            .prop_map(|(body, targets, outbound, saved, trace)| Op::Accepted {
                body,
                targets,
                outbound: outbound.map(Box::new),
                saved,
                trace,
            }),
        (any::<u64>(), vec(result(), 0..3)).prop_map(|(entry, results)| Op::Tried {
            entry: PSeq(entry),
            tried: Tried {
                at: UnixMs(7),
                hop: "mx.example.org [192.0.2.1]:25".into(),
                results,
            },
        }),
        (any::<u64>(), vec(any::<u16>(), 0..4), steering()).prop_map(
            |(entry, ordinals, steering)| Op::Steered {
                entry: PSeq(entry),
                at: UnixMs(-8),
                ordinals,
                steering,
            }
        ),
        (any::<u64>(), any::<u16>()).prop_map(|(pseq, ordinal)| Op::HandedOver {
            pseq: PSeq(pseq),
            ordinal,
        }),
        (any::<u16>(), any::<u64>(), any::<u16>()).prop_map(|(partition, pseq, ordinal)| {
            Op::BodySettled {
                blob: BlobId {
                    partition: PartitionId(partition),
                    pseq: PSeq(pseq),
                    ordinal,
                },
            }
        }),
    ]
}

/// Long enough to be packed, from what does not shrink to what shrinks to nothing.
fn long() -> impl Strategy<Value = Vec<u8>> {
    let piece = vec(any::<u8>(), 1..3_000);
    (piece, 1_000..6_000usize)
        .prop_map(|(piece, len)| piece.into_iter().cycle().take(len).collect())
}

fn message() -> impl Strategy<Value = Arc<Message>> {
    let body = prop_oneof![
        octets().prop_map(Body::Inline),
        long().prop_map(Body::Inline),
        "[a-z]{1,9}".prop_map(|name| Body::Spool(Path::new(ROOT).join("spool").join(name))),
    ];
    (
        body,
        octets(),
        any::<u32>(),
        any::<u64>(),
        any::<[u8; 32]>(),
    )
        .prop_map(|(body, digest, crc, size, blake3)| {
            let size = match &body {
                Body::Inline(bytes) => bytes.len() as u64,
                _ => size,
            };
            Arc::new(Message {
                body,
                digest: digest.into(),
                size,
                crc32c: Crc32c(crc),
                blake3,
            })
        })
}

fn state() -> impl Strategy<Value = RecipientState> {
    let at = || any::<i64>().prop_map(UnixMs);
    prop_oneof![
        at().prop_map(|due| RecipientState::Waiting { due }),
        at().prop_map(|since| RecipientState::Held { since }),
        Just(RecipientState::Delivered),
        Just(RecipientState::Failed),
        Just(RecipientState::Expired),
        Just(RecipientState::Removed),
    ]
}

fn result() -> impl Strategy<Value = TriedRecipient> {
    (any::<u16>(), state(), "[245]\\.[0-9]\\.[0-9]", ".{0,20}").prop_map(
        |(ordinal, state, status, reply)| TriedRecipient {
            ordinal,
            state,
            status,
            reply,
        },
    )
}

fn steering() -> impl Strategy<Value = Steering> {
    prop_oneof![
        Just(Steering::Hold),
        any::<i64>().prop_map(|due| Steering::Due(UnixMs(due))),
        Just(Steering::Remove),
        Just(Steering::DelayTold),
    ]
}

fn outbound_recipient() -> impl Strategy<Value = OutboundRecipient> {
    let notify = option::of(any::<[bool; 3]>());
    let original = option::of("[a-z]{1,8}");
    let last = option::of(".{0,12}");
    (notify, original, state(), any::<u32>(), last, any::<bool>()).prop_map(
        |(notify, original, state, tries, last, is_delay_told)| OutboundRecipient {
            rcpt: RcptTo {
                path: Forward::Mailbox(Mailbox::parse("\"a b\"@example.net").expect("an address")),
                notify: notify.map(|[success, failure, delay]| Notify {
                    success,
                    failure,
                    delay,
                }),
                original: original.map(|address| OriginalRecipient {
                    kind: "rfc822".into(),
                    address,
                }),
            },
            destination: "example.net".into(),
            redirect: is_delay_told.then(|| {
                Box::new(Redirect {
                    reverse: Forward::Null,
                    head: b"Delivered-To: a@example.org\r\n".to_vec(),
                })
            }),
            state,
            tries,
            last: last.map(|reply| LastTry {
                at: UnixMs(5),
                hop: "mx.example.net".into(),
                status: "4.4.1".into(),
                reply,
            }),
            is_delay_told,
        },
    )
}

fn outbound() -> impl Strategy<Value = Outbound> {
    let sender = prop_oneof![
        Just(Forward::Null),
        Just(Forward::Mailbox(
            Mailbox::parse("ana@example.org").expect("an address")
        )),
    ];
    let class = prop_oneof![
        Just(MailClass::Notice),
        Just(MailClass::Normal),
        Just(MailClass::Bulk)
    ];
    let ret = option::of(prop_oneof![Just(DsnReturn::Full), Just(DsnReturn::Headers)]);
    let texts = (option::of(".{0,8}"), option::of(".{0,8}"));
    let recipients = vec(outbound_recipient(), 0..4);
    (
        sender,
        class,
        ret,
        texts,
        any::<[bool; 2]>(),
        any::<i64>(),
        recipients,
    )
        .prop_map(
            |(
                path,
                class,
                ret,
                (envelope_id, auth),
                [smtputf8, require_tls],
                expires,
                recipients,
            )| {
                Outbound {
                    mail: MailFrom {
                        path,
                        size: None,
                        body: BodyKind::EightBit,
                        smtputf8,
                        require_tls,
                        ret,
                        envelope_id,
                        auth,
                        hold: None,
                        verp: false,
                    },
                    class,
                    submitter: Some(AccountId(9)),
                    head: b"DKIM-Signature: v=1\r\n".to_vec(),
                    expires: UnixMs(expires),
                    recipients,
                }
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    let op = prop_oneof![structural(), messages()];
    (
        (any::<u16>(), any::<u32>(), any::<u64>()),
        vec(op, 0..5),
        vec(message(), 0..3),
    )
        .prop_map(|((partition, epoch, pseq), ops, bodies)| Record {
            partition: PartitionId(partition),
            epoch: Epoch(epoch),
            pseq: PSeq(pseq),
            ops,
            bodies,
        })
}

/// All of a record but its bodies' bytes, as text that compares.
fn described(record: &Record) -> String {
    let bodies: Vec<_> = record
        .bodies
        .iter()
        .map(|m| {
            let spool = match &m.body {
                Body::Spool(path) => Some(path),
                _ => None,
            };
            (spool, &m.digest, m.size, m.crc32c, m.blake3)
        })
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {bodies:?}",
        record.partition, record.epoch, record.pseq, record.ops
    )
}

#[track_caller]
fn check(record: &Record) {
    let mut bytes = b"before".to_vec();
    let mut packer = Packer::new(Packing::Zstd);
    let ranges = encode(record, Path::new(ROOT), &mut packer, &mut bytes).expect("encodes");
    let frame = frame(&bytes[6..]).expect("the CRC fits");
    assert_eq!(frame.len(), bytes.len() - 6);
    let back = decode(frame, Path::new(ROOT)).expect("decodes");
    assert_eq!(described(&back.record), described(record));
    for (n, message) in record.bodies.iter().enumerate() {
        let written = ranges[n].clone().map(|range| &bytes[range]);
        let read = back.bodies[n].clone().map(|range| &frame[range]);
        assert_eq!(written, read);
        let Body::Inline(body) = &message.body else {
            assert_eq!(read, None);
            continue;
        };
        let read = read.expect("an inline body is there");
        match read.len() < body.len() {
            true => assert_eq!(&unpack(read, body.len()), body),
            false => assert_eq!(read, body),
        }
    }
    let few = frame.len().min(300);
    for cut in (0..few).chain(frame.len() - few..frame.len()) {
        assert!(super::frame(&frame[..cut]).is_err(), "cut at {cut}");
        assert!(
            decode(&frame[..cut], Path::new(ROOT)).is_err(),
            "cut at {cut}"
        );
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let (mut bytes, mut packer) = (Vec::new(), Packer::new(Packing::Zstd));
    encode(record, Path::new(ROOT), &mut packer, &mut bytes).expect("encodes");
    bytes
}

fn flags_set(uids: impl Iterator<Item = u32>) -> Record {
    Record {
        partition: PartitionId(1),
        epoch: Epoch(1),
        pseq: PSeq(1),
        ops: vec![Op::FlagsSet {
            account: AccountId(1),
            mailbox: MailboxId(1),
            modseq: ModSeq(1),
            entries: uids
                .map(|uid| (Uid(uid), Flags::SEEN, Vec::new()))
                .collect(),
        }],
        bodies: Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_come_back_as_they_were(record in record()) {
        check(&record);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = frame(&bytes);
        let _ = decode(&bytes, Path::new(ROOT));
    }

    #[test]
    fn no_change_makes_it_panic(record in record(), at in any::<usize>(), value in any::<u8>()) {
        let mut bytes = encoded(&record);
        let at = at % bytes.len();
        let same = bytes[at] == value;
        bytes[at] = value;
        prop_assert!(same || frame(&bytes).is_err());
        let _ = decode(&bytes, Path::new(ROOT));
    }
}

#[test]
fn a_store_of_a_million_messages_is_small() {
    let bytes = encoded(&flags_set(1..=1_000_000));
    assert!(bytes.len() < 64, "{} octets", bytes.len());
    let back = decode(&bytes, Path::new(ROOT)).expect("decodes").record;
    let Op::FlagsSet { entries, .. } = &back.ops[0] else {
        panic!("another op: {:?}", back.ops[0]);
    };
    assert_eq!(
        (entries.len(), entries[999_999].0),
        (1_000_000, Uid(1_000_000))
    );
}

#[test]
fn runs_take_no_memory_beyond_the_bound() {
    let mut bytes = Vec::new();
    let many = u32::try_from(UIDS_PER_RECORD_MAX).expect("a bound below 2^32") + 1;
    let (root, mut packer) = (Path::new(ROOT), Packer::default());
    let refused = encode(&flags_set(1..=many), root, &mut packer, &mut bytes);
    assert_eq!(refused, Err(CodecError::TooManyUids));
    assert!(bytes.is_empty());
    bytes = encoded(&flags_set(1..=many - 1));
    // The run's length is the last number before the empty list of bodies: one octet more of it.
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(&[0xff, 0x01, 0]);
    let refused = decode(&bytes, Path::new(ROOT)).map(drop);
    assert_eq!(refused, Err(CodecError::TooManyUids));
}

#[test]
fn what_is_newer_is_named() {
    let bytes = encoded(&flags_set(1..=1));
    let first_op = 24;
    for (at, value, want) in [
        (8, 0, CodecError::UnknownVersion { version: 0 }),
        (8, 3, CodecError::UnknownVersion { version: 3 }),
        (
            first_op,
            200,
            CodecError::UnknownKind {
                kind: 200,
                version: 1,
            },
        ),
        (
            first_op + 1,
            9,
            CodecError::UnknownKind {
                kind: kind::FLAGS_SET,
                version: 9,
            },
        ),
    ] {
        let mut newer = bytes.clone();
        newer[at] = value;
        assert_eq!(decode(&newer, Path::new(ROOT)).map(drop), Err(want));
    }
}

/// A record with one body, whose place is `place` and what follows the digest `rest`.
fn with_body(version: u8, place: u8, rest: &[&[u8]]) -> Vec<u8> {
    let record = Record {
        ops: Vec::new(),
        ..flags_set(1..=1)
    };
    let mut bytes = encoded(&record);
    bytes[FRAME_BYTES] = version;
    // The empty list of bodies.
    bytes.pop();
    bytes.extend_from_slice(&[1, place]);
    // Both sums, and an empty digest.
    bytes.extend_from_slice(&[0; 4 + 32 + 1]);
    rest.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[test]
fn a_packed_body_is_one_frame_that_says_its_size() {
    // Of two octets, padded where one would do.
    let varint = |n: usize| vec![n as u8 | 0x80, (n >> 7) as u8];
    let body = b"so it goes, ".repeat(300);
    let mut packer = Packer::new(Packing::Zstd);
    let frame = packer.pack(&body).expect("shrinks").to_vec();
    let twice = frame.repeat(2);
    let large = vec![0x81, 0x80, 0x10];
    let wrong = Err(CodecError::Field("packed body"));
    let other = Err(CodecError::Field("body place"));
    for (version, place, size, bytes, want) in [
        (2, 2, varint(body.len()), frame.as_slice(), Ok(())),
        (1, 2, varint(body.len()), &frame, other),
        (2, 3, varint(body.len()), &frame, other),
        (2, 2, varint(body.len() - 1), &frame, wrong),
        (2, 2, varint(body.len() + 1), &frame, wrong),
        (2, 2, varint(body.len()), &frame[..frame.len() - 1], wrong),
        (2, 2, varint(body.len()), &twice, wrong),
        (2, 2, varint(body.len()), &body[..100], wrong),
        (2, 2, varint(0), &[], wrong),
        // What is plain is not told as packed.
        (2, 2, varint(body.len()), &body, wrong),
        // Nor is what would take more memory than any body.
        (2, 2, large, &frame, wrong),
    ] {
        let bytes = with_body(version, place, &[&size, &varint(bytes.len()), bytes]);
        let found = decode(&bytes, Path::new(ROOT)).map(drop);
        assert_eq!(found, want, "version {version}, place {place}, {size:?}");
    }
}

#[test]
fn a_body_is_packed_where_that_is_worth_it() {
    let text = "All work and no play makes Jack a dull boy. ";
    let text = text.repeat(1 + PACKED_BYTES_MAX / text.len()).into_bytes();
    let mut state = 1u64;
    let noise: Vec<u8> = (0..PACKED_BYTES_MAX)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        })
        .collect();
    let base64: Vec<u8> = noise.iter().map(|n| b'0' + n % 64).collect();
    let mut packer = Packer::new(Packing::Zstd);
    let mut check = |body: &[u8], want: bool| {
        let len = body.len();
        let frame = packer.pack(body).map(<[u8]>::to_vec);
        assert_eq!(frame.is_some(), want, "{len} octets");
        let Some(frame) = frame else { return };
        assert!(frame.len() <= len - len / 8);
        assert_eq!(unpack(&frame, len), body);
        assert_eq!(unpack_part(&frame, len, 0..u64::MAX), body);
        assert_eq!(unpack_part(&frame, len, 5..9), &body[5..9]);
        assert_eq!(unpack_part(&frame, len, len as u64 + 1..u64::MAX), b"");
        // Damaged, it has the same length still.
        for at in (0..frame.len()).step_by(1 + frame.len() / 50) {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x10;
            assert_eq!(unpack(&damaged, len).len(), len);
        }
    };
    check(b"", false);
    check(&text[..PACKED_BYTES_MIN - 1], false);
    check(&text[..PACKED_BYTES_MIN], true);
    check(&base64[..10_000], true);
    check(&noise[..10_000], false);
    check(&noise, false);
    check(&text[..PACKED_BYTES_MAX], true);
    check(&text[..PACKED_BYTES_MAX + 1], false);
    let mut plain = Packer::new(Packing::Plain);
    assert_eq!(plain.pack(&text[..10_000]), None);
}
