//! What few rows have beside their columns.

use crate::store::bytes::{Malformed, Reader, Writer};

/// Kept by UID, only for rows that have any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Extra {
    /// The file's name before `:2,`, where another program chose it.
    pub stem: Option<Box<str>>,
    /// What POP3 clients know the message by, where it is not ours (RFC 1939 7).
    pub uidl: Option<Box<str>>,
    /// A prefix that does not stand in the file, so that the file may be shared.
    pub prefix: Box<[u8]>,
    /// The body is in the mailbox's archive file: where, and how long.
    pub archive: Option<(u64, u64)>,
}

const STEM: u8 = 1;
const UIDL: u8 = 2;
const PREFIX: u8 = 4;
const ARCHIVE: u8 = 8;

impl Extra {
    /// `None` where there is nothing to keep.
    pub fn boxed(self) -> Option<Box<Extra>> {
        (self != Extra::default()).then(|| Box::new(self))
    }

    /// What a copy takes along: its file has a name of its own, and its UIDL is its own.
    pub fn of_copy(&self) -> Option<Box<Extra>> {
        let prefix = self.prefix.clone();
        let copy = Extra {
            prefix,
            ..Extra::default()
        };
        copy.boxed()
    }

    pub fn encode(&self, w: &mut Writer) {
        let mask = |has: bool, bit: u8| if has { bit } else { 0 };
        w.u8(mask(self.stem.is_some(), STEM)
            | mask(self.uidl.is_some(), UIDL)
            | mask(!self.prefix.is_empty(), PREFIX)
            | mask(self.archive.is_some(), ARCHIVE));
        if let Some(stem) = &self.stem {
            w.str(stem);
        }
        if let Some(uidl) = &self.uidl {
            w.str(uidl);
        }
        if !self.prefix.is_empty() {
            w.bytes(&self.prefix);
        }
        if let Some((at, len)) = self.archive {
            w.u64(at);
            w.u64(len);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Extra, Malformed> {
        let mask = r.u8()?;
        if mask & !(STEM | UIDL | PREFIX | ARCHIVE) != 0 {
            return Err(Malformed);
        }
        let mut extra = Extra::default();
        if mask & STEM != 0 {
            extra.stem = Some(r.str()?.into());
        }
        if mask & UIDL != 0 {
            extra.uidl = Some(r.str()?.into());
        }
        if mask & PREFIX != 0 {
            extra.prefix = r.bytes()?.into();
        }
        if mask & ARCHIVE != 0 {
            extra.archive = Some((r.u64()?, r.u64()?));
        }
        Ok(extra)
    }
}
