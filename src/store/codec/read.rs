//! Bytes to values.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CodecError, UIDS_PER_RECORD_MAX, USES, kind, pack};
use crate::base::{
    AccountId, BlobId, ByteSize, Crc32c, MailboxId, ModSeq, PSeq, PartitionId, TraceId, Uid,
    UidValidity, UnixMs,
};
use crate::store::{
    AccountRef, AdoptedPlace, AdoptedRow, Body, BodyRef, Flags, Message, Op, OutboxKey, Quota,
    SpecialUse, Target,
};

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Runs name many UIDs in few octets, so memory is bounded here and not by the length.
    uids_left: usize,
}

pub(super) type Read<T> = Result<T, CodecError>;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Reader {
            bytes,
            at,
            uids_left: UIDS_PER_RECORD_MAX,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn op(&mut self) -> Read<Op> {
        let [kind, version] = self.array()?;
        // What the highest version of each kind is that this Palomar writes.
        let known = match kind {
            kind::MAILBOX_DELETED
            | kind::PLACED
            | kind::EXPUNGED
            | kind::ACCEPTED
            | kind::STEERED => 2,
            _ => 1,
        };
        if !(1..=known).contains(&version) {
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
                at: self.time_since(2, version)?,
            },
            kind::SUBSCRIPTION_SET => Op::SubscriptionSet {
                account: self.account()?,
                name: self.text()?,
                subscribed: self.bool()?,
            },
            kind::PLACED => self.placed(version)?,
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
                at: self.time_since(2, version)?,
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
                outbound: match version {
                    1 => None,
                    _ => self.opt(Reader::outbound)?.map(Box::new),
                },
            },
            kind::TRIED => Op::Tried {
                entry: PSeq(self.varint()?),
                tried: self.tried()?,
            },
            kind::STEERED => Op::Steered {
                entry: PSeq(self.varint()?),
                at: UnixMs(self.zigzag()?),
                ordinals: self.list(|r| r.narrow("ordinal"))?,
                steering: self.steering(version)?,
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
            kind::ADOPTED => Op::Adopted {
                account: self.account()?,
                mailbox: self.mailbox()?,
                rows: self.list(Reader::adopted)?,
            },
            kind::MAILBOX_SET => Op::MailboxSet {
                account: self.account()?,
                mailbox: self.mailbox()?,
                uidnext: self.opt(|r| Ok(Uid(r.narrow("uid")?)))?,
                highest: self.opt(|r| Ok(ModSeq(r.varint()?)))?,
                special_use: self.opt(Reader::special_use)?,
            },
            kind => return Err(CodecError::UnknownKind { kind, version }),
        })
    }

    /// A time that the op has from version `from` on; before it is not known.
    fn time_since(&mut self, from: u8, version: u8) -> Read<UnixMs> {
        match version >= from {
            true => self.zigzag().map(UnixMs),
            false => Ok(UnixMs(0)),
        }
    }

    fn adopted(&mut self) -> Read<AdoptedRow> {
        self.uids_left = self
            .uids_left
            .checked_sub(1)
            .ok_or(CodecError::TooManyUids)?;
        let (uid, modseq) = (Uid(self.narrow("uid")?), ModSeq(self.varint()?));
        let (flags, keywords) = self.state()?;
        Ok(AdoptedRow {
            uid,
            modseq,
            flags,
            keywords,
            internal_date: UnixMs(self.zigzag()?),
            saved: UnixMs(self.zigzag()?),
            size: self.varint()?,
            bare_newlines: self.narrow("bare newlines")?,
            email_id: self.array()?,
            stem: self.text()?,
            letters: self.narrow("letters")?,
            place: match self.octet()? {
                0 => AdoptedPlace::Cur,
                1 => AdoptedPlace::New,
                2 => AdoptedPlace::Archive {
                    at: self.varint()?,
                    len: self.varint()?,
                },
                _ => return Err(CodecError::Field("place")),
            },
            uidl: self.opt(Reader::text)?,
            digest: Arc::from(self.bytes()?),
        })
    }

    fn placed(&mut self, version: u8) -> Read<Op> {
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
            apart: version >= 2 && self.bool()?,
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

    /// One of a record of `version`.
    pub fn body(&mut self, root: &Path, version: u8) -> Read<(Arc<Message>, Option<Range<usize>>)> {
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
            2 if version >= 2 => {
                let size = self.varint()?;
                let frame = self.bytes()?;
                if !pack::is_frame_of(frame, size) {
                    return Err(CodecError::Field("packed body"));
                }
                let range = self.at - frame.len()..self.at;
                (Body::InJournal, size, Some(range))
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
        match usize::from(self.octet()?) {
            0 => Ok(None),
            n => match USES.get(n - 1) {
                Some(of) => Ok(Some(*of)),
                None => Err(CodecError::Field("special use")),
            },
        }
    }

    pub fn list<T>(&mut self, mut member: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.varint()?;
        // Every member takes an octet at least, so a count beyond what is left is false.
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(CodecError::Length);
        }
        (0..count).map(|_| member(self)).collect()
    }

    pub(super) fn opt<T>(&mut self, value: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        self.bool()?.then(|| value(self)).transpose()
    }

    pub(super) fn bool(&mut self) -> Read<bool> {
        match self.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Field("yes or no")),
        }
    }

    pub(super) fn text(&mut self) -> Read<String> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::Field("text"))?;
        Ok(text.to_owned())
    }

    pub(super) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| CodecError::Length)?;
        self.take(length)
    }

    pub(super) fn narrow<T: TryFrom<u64>>(&mut self, field: &'static str) -> Read<T> {
        T::try_from(self.varint()?).map_err(|_| CodecError::Field(field))
    }

    pub(super) fn zigzag(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    pub(super) fn varint(&mut self) -> Read<u64> {
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

    pub fn octet(&mut self) -> Read<u8> {
        self.array().map(|[octet]| octet)
    }

    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
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
