//! Envelopes of mail that leaves, alike in records and in catalogues.

use super::CodecError;
use super::read::{Read, Reader};
use super::write::{put_bytes, put_opt, put_varint, put_zigzag};
use crate::base::{AccountId, UnixMs};
use crate::store::{
    LastTry, MailClass, Outbound, OutboundRecipient, RecipientState, Redirect, Steering, Tried,
    TriedRecipient,
};
use crate::wire::address::{Path, parse_path};
use crate::wire::smtp::{BodyKind, DsnReturn, MailFrom, Notify, OriginalRecipient, RcptTo};

const BODIES: [BodyKind; 3] = [BodyKind::SevenBit, BodyKind::EightBit, BodyKind::Binary];
const CLASSES: [MailClass; 3] = [MailClass::Notice, MailClass::Normal, MailClass::Bulk];
const RETURNS: [DsnReturn; 2] = [DsnReturn::Full, DsnReturn::Headers];

/// Appends an envelope with the state of its recipients.
pub fn put_outbound(outbound: &Outbound, out: &mut Vec<u8>) {
    let mail = &outbound.mail;
    put_text(out, &mail.path.to_string());
    out.push(number(&BODIES, mail.body));
    out.push(u8::from(mail.smtputf8) | u8::from(mail.require_tls) << 1);
    put_opt(out, mail.ret.as_ref(), |out, ret| {
        out.push(number(&RETURNS, *ret))
    });
    put_opt(out, mail.envelope_id.as_deref(), put_text);
    put_opt(out, mail.auth.as_deref(), put_text);
    out.push(number(&CLASSES, outbound.class));
    put_opt(out, outbound.submitter.as_ref(), |out, a| {
        put_varint(out, a.0)
    });
    put_bytes(out, &outbound.head);
    put_zigzag(out, outbound.expires.0);
    put_varint(out, outbound.recipients.len() as u64);
    for recipient in &outbound.recipients {
        put_recipient(out, recipient);
    }
}

fn put_recipient(out: &mut Vec<u8>, recipient: &OutboundRecipient) {
    let rcpt = &recipient.rcpt;
    put_text(out, &rcpt.path.to_string());
    put_opt(out, rcpt.notify.as_ref(), |out, n| {
        out.push(u8::from(n.success) | u8::from(n.failure) << 1 | u8::from(n.delay) << 2);
    });
    put_opt(out, rcpt.original.as_ref(), |out, original| {
        put_text(out, &original.kind);
        put_text(out, &original.address);
    });
    put_text(out, &recipient.destination);
    put_opt(out, recipient.redirect.as_deref(), |out, redirect| {
        put_text(out, &redirect.reverse.to_string());
        put_bytes(out, &redirect.head);
    });
    put_state(out, recipient.state);
    put_varint(out, recipient.tries.into());
    put_opt(out, recipient.last.as_ref(), |out, last| {
        put_zigzag(out, last.at.0);
        put_text(out, &last.hop);
        put_text(out, &last.status);
        put_text(out, &last.reply);
    });
    out.push(u8::from(recipient.is_delay_told));
}

fn put_state(out: &mut Vec<u8>, state: RecipientState) {
    let mut timed = |tag: u8, at: UnixMs| {
        out.push(tag);
        put_zigzag(out, at.0);
    };
    match state {
        RecipientState::Waiting { due } => timed(0, due),
        RecipientState::Held { since } => timed(1, since),
        RecipientState::Delivered => out.push(2),
        RecipientState::Failed => out.push(3),
        RecipientState::Expired => out.push(4),
        RecipientState::Removed => out.push(5),
    }
}

pub(super) fn put_tried(out: &mut Vec<u8>, tried: &Tried) {
    put_zigzag(out, tried.at.0);
    put_text(out, &tried.hop);
    put_varint(out, tried.results.len() as u64);
    for result in &tried.results {
        put_varint(out, result.ordinal.into());
        put_state(out, result.state);
        put_text(out, &result.status);
        put_text(out, &result.reply);
    }
}

pub(super) fn put_steering(out: &mut Vec<u8>, steering: Steering) {
    match steering {
        Steering::Hold => out.push(0),
        Steering::Due(due) => {
            out.push(1);
            put_zigzag(out, due.0);
        }
        Steering::Remove => out.push(2),
        Steering::DelayTold => out.push(3),
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Where a value stands among all of its kind.
fn number<T: PartialEq>(all: &[T], value: T) -> u8 {
    let at = all.iter().position(|one| *one == value);
    at.expect("every one is in the list") as u8
}

/// What [`put_outbound`] made, and nothing after it.
pub fn outbound(bytes: &[u8]) -> Result<Outbound, CodecError> {
    let mut reader = Reader::new(bytes, 0);
    let outbound = reader.outbound()?;
    match reader.is_empty() {
        true => Ok(outbound),
        false => Err(CodecError::Length),
    }
}

impl Reader<'_> {
    pub(super) fn outbound(&mut self) -> Read<Outbound> {
        let path = self.path()?;
        let body = self.one_of(&BODIES, "body kind")?;
        let wants = self.bits(2)?;
        let mail = MailFrom {
            path,
            size: None,
            body,
            smtputf8: wants & 1 != 0,
            require_tls: wants & 2 != 0,
            ret: self.opt(|r| r.one_of(&RETURNS, "ret"))?,
            envelope_id: self.opt(Reader::text)?,
            auth: self.opt(Reader::text)?,
            hold: None,
            verp: false,
        };
        Ok(Outbound {
            mail,
            class: self.one_of(&CLASSES, "class")?,
            submitter: self.opt(|r| r.varint().map(AccountId))?,
            head: self.bytes()?.to_vec(),
            expires: UnixMs(self.zigzag()?),
            recipients: self.list(Reader::recipient)?,
        })
    }

    fn recipient(&mut self) -> Read<OutboundRecipient> {
        let path = self.path()?;
        let notify = self.opt(|r| {
            let set = r.bits(3)?;
            Ok(Notify {
                success: set & 1 != 0,
                failure: set & 2 != 0,
                delay: set & 4 != 0,
            })
        })?;
        let original = self.opt(|r| {
            Ok(OriginalRecipient {
                kind: r.text()?,
                address: r.text()?,
            })
        })?;
        Ok(OutboundRecipient {
            rcpt: RcptTo {
                path,
                notify,
                original,
            },
            destination: self.text()?,
            redirect: self.opt(|r| {
                Ok(Box::new(Redirect {
                    reverse: r.path()?,
                    head: r.bytes()?.to_vec(),
                }))
            })?,
            state: self.recipient_state()?,
            tries: self.narrow("tries")?,
            last: self.opt(|r| {
                Ok(LastTry {
                    at: UnixMs(r.zigzag()?),
                    hop: r.text()?,
                    status: r.text()?,
                    reply: r.text()?,
                })
            })?,
            is_delay_told: self.bool()?,
        })
    }

    fn recipient_state(&mut self) -> Read<RecipientState> {
        Ok(match self.octet()? {
            0 => RecipientState::Waiting {
                due: UnixMs(self.zigzag()?),
            },
            1 => RecipientState::Held {
                since: UnixMs(self.zigzag()?),
            },
            2 => RecipientState::Delivered,
            3 => RecipientState::Failed,
            4 => RecipientState::Expired,
            5 => RecipientState::Removed,
            _ => return Err(CodecError::Field("recipient state")),
        })
    }

    pub(super) fn tried(&mut self) -> Read<Tried> {
        Ok(Tried {
            at: UnixMs(self.zigzag()?),
            hop: self.text()?,
            results: self.list(|r| {
                Ok(TriedRecipient {
                    ordinal: r.narrow("ordinal")?,
                    state: r.recipient_state()?,
                    status: r.text()?,
                    reply: r.text()?,
                })
            })?,
        })
    }

    pub(super) fn steering(&mut self) -> Read<Steering> {
        Ok(match self.octet()? {
            0 => Steering::Hold,
            1 => Steering::Due(UnixMs(self.zigzag()?)),
            2 => Steering::Remove,
            3 => Steering::DelayTold,
            _ => return Err(CodecError::Field("steering")),
        })
    }

    fn path(&mut self) -> Read<Path> {
        match parse_path(self.bytes()?) {
            Ok((path, [])) => Ok(path),
            _ => Err(CodecError::Field("path")),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T], field: &'static str) -> Read<T> {
        let at = usize::from(self.octet()?);
        all.get(at).copied().ok_or(CodecError::Field(field))
    }

    fn bits(&mut self, count: u32) -> Read<u8> {
        let set = self.octet()?;
        match u32::from(set) >> count {
            0 => Ok(set),
            _ => Err(CodecError::Field("bits")),
        }
    }
}
