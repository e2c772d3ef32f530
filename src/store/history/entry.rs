//! What the history says of one removal: `docs/STORE.md`, "History".

use crate::base::{AccountId, MailboxId, PSeq, UidValidity, UnixMs};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::mailbox::{Index, Mailbox, NewRow};

/// Rows of one entry; an expunge of more makes several.
const ROWS_MAX: u32 = 1_000;

const EXPUNGED: u8 = 1;
const DELETED: u8 = 2;

/// Whose, when and where from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Head {
    pub at: UnixMs,
    pub pseq: PSeq,
    pub account: AccountId,
    pub mailbox: MailboxId,
    /// The mailbox's name when that happened.
    pub name: String,
    pub uidvalidity: UidValidity,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Entry {
    Expunged {
        head: Head,
        rows: Vec<NewRow>,
    },
    /// A deleted folder: its rows are in its index, as it lies in its grave.
    Deleted {
        head: Head,
        messages: u32,
        generation: u32,
        log_end: u64,
    },
}

impl Head {
    pub fn of(mailbox: &Mailbox, pseq: PSeq, at: UnixMs) -> Head {
        let meta = mailbox.meta.borrow();
        Head {
            at,
            pseq,
            account: mailbox.account,
            mailbox: mailbox.id,
            name: meta.name.clone(),
            uidvalidity: meta.uidvalidity,
        }
    }

    fn encode(&self, kind: u8, w: &mut Writer) {
        w.u8(kind);
        w.i64(self.at.0);
        w.u64(self.pseq.0);
        w.u64(self.account.0);
        w.u64(self.mailbox.0);
        w.str(&self.name);
        w.u32(self.uidvalidity.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Head, Malformed> {
        Ok(Head {
            at: UnixMs(r.i64()?),
            pseq: PSeq(r.u64()?),
            account: AccountId(r.u64()?),
            mailbox: MailboxId(r.u64()?),
            name: r.str()?.to_owned(),
            uidvalidity: UidValidity(r.u32()?),
        })
    }

    /// The entry of a deleted folder.
    pub fn deleted(&self, mailbox: &Mailbox) -> Vec<u8> {
        let mut w = Writer::default();
        self.encode(DELETED, &mut w);
        let meta = mailbox.meta.borrow();
        w.u32(meta.weight.messages);
        w.u32(meta.generation);
        w.u64(mailbox.pending.borrow().log_end());
        w.out
    }
}

/// Rows that are being expunged, encoded one by one.
#[derive(Default)]
pub(in crate::store) struct Rows {
    full: Vec<(u32, Vec<u8>)>,
    rows: u32,
    writer: Writer,
}

impl Rows {
    pub fn push(&mut self, index: &Index, at: usize) {
        index.new_row(at).encode(&mut self.writer);
        self.rows += 1;
        if self.rows == ROWS_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.rows > 0 {
            let bytes = std::mem::take(&mut self.writer.out);
            self.full.push((std::mem::take(&mut self.rows), bytes));
        }
    }

    /// The entries that they make.
    pub fn entries(mut self, head: &Head) -> impl Iterator<Item = Vec<u8>> {
        self.close();
        self.full.into_iter().map(move |(rows, bytes)| {
            let mut w = Writer::default();
            head.encode(EXPUNGED, &mut w);
            w.u32(rows);
            w.out.extend_from_slice(&bytes);
            w.out
        })
    }
}

impl Entry {
    pub fn decode(r: &mut Reader<'_>) -> Result<Entry, Malformed> {
        let kind = r.u8()?;
        let head = Head::decode(r)?;
        Ok(match kind {
            EXPUNGED => Entry::Expunged {
                head,
                rows: (0..r.count(NewRow::BYTES_MIN)?)
                    .map(|_| NewRow::decode(r))
                    .collect::<Result<_, _>>()?,
            },
            DELETED => Entry::Deleted {
                head,
                messages: r.u32()?,
                generation: r.u32()?,
                log_end: r.u64()?,
            },
            _ => return Err(Malformed),
        })
    }

    pub fn encode(&self, w: &mut Writer) {
        match self {
            Entry::Expunged { head, rows } => {
                head.encode(EXPUNGED, w);
                w.count(rows.len());
                rows.iter().for_each(|row| row.encode(w));
            }
            Entry::Deleted {
                head,
                messages,
                generation,
                log_end,
            } => {
                head.encode(DELETED, w);
                w.u32(*messages);
                w.u32(*generation);
                w.u64(*log_end);
            }
        }
    }

    pub fn head(&self) -> &Head {
        match self {
            Entry::Expunged { head, .. } | Entry::Deleted { head, .. } => head,
        }
    }
}
