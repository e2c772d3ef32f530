//! What is in flight: records that have a position in the journal but are not applied yet.
//!
//! `prepare` looks at applied state through this, so that pipelined commands need not wait for one
//! another. A change of an account's folders does wait, until nothing of the account is in flight,
//! and bars the account for others until it is applied itself.

use hashbrown::{HashMap, HashSet};

use super::{AdoptedPlace, AdoptedRow, BodyRef, Flags, Op, OutboxKey, Record, quota};
use crate::base::{AccountId, MailboxId, ModSeq, PSeq, Uid};

#[derive(Default)]
pub(super) struct Overlay {
    /// The last position that was given out.
    pub last: PSeq,
    records: HashMap<PSeq, Held>,
    accounts: HashMap<AccountId, AccountFlight>,
    origins: HashSet<OutboxKey>,
}

/// What a record holds until it is applied.
#[derive(Default)]
struct Held {
    accounts: Vec<(AccountId, i64, i64)>,
    mailboxes: Vec<(AccountId, MailboxId)>,
    origins: Vec<OutboxKey>,
}

#[derive(Default)]
pub(super) struct AccountFlight {
    records: u32,
    barred: bool,
    /// What records in flight add, less what they remove.
    pub bytes: i64,
    pub messages: i64,
    /// The quota mark that was set last, and whether its warning is due.
    pub mark: Option<(u8, bool)>,
    mailboxes: HashMap<MailboxId, MailboxFlight>,
}

#[derive(Default)]
pub(super) struct MailboxFlight {
    records: u32,
    pub uidnext: Uid,
    pub highest: ModSeq,
    pub flags: HashMap<Uid, FlagsInFlight>,
    expunged: HashMap<Uid, PSeq>,
}

pub(super) struct FlagsInFlight {
    by: PSeq,
    pub flags: Flags,
    pub keywords: Vec<String>,
    pub modseq: ModSeq,
}

impl MailboxFlight {
    pub fn is_expunged(&self, uid: Uid) -> bool {
        self.expunged.contains_key(&uid)
    }

    fn hold_flags(&mut self, by: PSeq, modseq: ModSeq, entries: &[(Uid, Flags, Vec<String>)]) {
        for (uid, flags, keywords) in entries {
            let entry = FlagsInFlight {
                by,
                flags: *flags,
                keywords: keywords.clone(),
                modseq,
            };
            self.flags.insert(*uid, entry);
        }
    }
}

impl Overlay {
    /// Nothing in flight after record `last`.
    pub fn after(last: PSeq) -> Self {
        Overlay {
            last,
            ..Overlay::default()
        }
    }

    pub fn account(&self, account: AccountId) -> Option<&AccountFlight> {
        self.accounts.get(&account)
    }

    pub fn mailbox(&self, account: AccountId, mailbox: MailboxId) -> Option<&MailboxFlight> {
        self.accounts.get(&account)?.mailboxes.get(&mailbox)
    }

    pub fn has_origin(&self, key: &OutboxKey) -> bool {
        self.origins.contains(key)
    }

    /// Whether a folder change of the account is waiting or in flight.
    pub fn is_barred(&self, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|a| a.barred)
    }

    /// Whether records of the account are in flight.
    pub fn is_busy(&self, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|a| a.records > 0)
    }

    pub fn bar(&mut self, account: AccountId) {
        self.accounts.entry(account).or_default().barred = true;
    }

    pub fn unbar(&mut self, account: AccountId) {
        if let Some(flight) = self.accounts.get_mut(&account) {
            flight.barred = false;
            if flight.records == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    /// Takes `record` into account. `size` tells the size of a message that is there already.
    pub fn hold(&mut self, record: &Record, size: impl Fn(AccountId, MailboxId, Uid) -> u64) {
        let pseq = record.pseq;
        let mut held = Held::default();
        for op in &record.ops {
            match op {
                Op::Placed {
                    account,
                    mailbox,
                    uid,
                    modseq,
                    body,
                    prefix,
                    origin,
                    ..
                } => {
                    let bytes = match *body {
                        BodyRef::New(n) | BodyRef::Handed(n) => {
                            quota::octets(&record.bodies[usize::from(n)], prefix)
                        }
                        BodyRef::Copy { mailbox, uid } => {
                            // Its index is read when this is applied, and stays until then.
                            self.touch(&mut held, *account, mailbox);
                            size(*account, mailbox, uid)
                        }
                    };
                    self.raise(&mut held, *account, *mailbox, Uid(uid.0 + 1), *modseq);
                    self.weigh(&mut held, *account, bytes as i64, 1);
                    held.origins.extend(origin);
                    self.origins.extend(origin);
                }
                Op::FlagsSet {
                    account,
                    mailbox,
                    modseq,
                    entries,
                } => {
                    let flight = self.raise(&mut held, *account, *mailbox, Uid(0), *modseq);
                    flight.hold_flags(pseq, *modseq, entries);
                }
                Op::Expunged {
                    account,
                    mailbox,
                    modseq,
                    uids,
                    at: _,
                } => {
                    let flight = self.raise(&mut held, *account, *mailbox, Uid(0), *modseq);
                    flight.expunged.extend(uids.iter().map(|&uid| (uid, pseq)));
                    let sizes = uids.iter().map(|&uid| size(*account, *mailbox, uid));
                    let bytes: u64 = sizes.sum();
                    self.weigh(&mut held, *account, -(bytes as i64), -(uids.len() as i64));
                }
                Op::Adopted {
                    account,
                    mailbox,
                    rows,
                } => self.hold_adopted(&mut held, *account, *mailbox, rows),
                Op::MailboxSet {
                    account,
                    mailbox,
                    uidnext,
                    highest,
                    ..
                } => {
                    let (uidnext, highest) =
                        (uidnext.unwrap_or_default(), highest.unwrap_or_default());
                    self.raise(&mut held, *account, *mailbox, uidnext, highest);
                }
                Op::ValueSet {
                    account: Some(account),
                    namespace,
                    key,
                    value,
                } => {
                    let flight = self.touch_account(&mut held, *account);
                    let mark = quota::mark_set(namespace, key, value.as_deref());
                    flight.mark = mark.or(flight.mark);
                }
                Op::MailboxCreated { account, .. }
                | Op::MailboxRenamed { account, .. }
                | Op::MailboxDeleted { account, .. }
                | Op::SubscriptionSet { account, .. }
                | Op::AccountPurged { account } => {
                    self.touch_account(&mut held, *account);
                }
                Op::ValueSet { account: None, .. }
                | Op::Accepted { .. }
                | Op::Tried { .. }
                | Op::Steered { .. }
                | Op::HandedOver { .. }
                | Op::BodySettled { .. } => {}
            }
        }
        self.records.insert(pseq, held);
    }

    fn hold_adopted(
        &mut self,
        held: &mut Held,
        account: AccountId,
        mailbox: MailboxId,
        rows: &[AdoptedRow],
    ) {
        self.touch(held, account, mailbox);
        let (mut bytes, mut messages) = (0, 0);
        for row in rows {
            let uidnext = Uid(row.uid.0.saturating_add(1));
            self.raise(held, account, mailbox, uidnext, row.modseq);
            // What lies in an archive file counts in no quota.
            if !matches!(row.place, AdoptedPlace::Archive { .. }) {
                bytes += row.size as i64;
                messages += 1;
            }
        }
        self.weigh(held, account, bytes, messages);
    }

    /// Touches a mailbox whose numbers the record raises, where they are higher.
    fn raise(
        &mut self,
        held: &mut Held,
        account: AccountId,
        mailbox: MailboxId,
        uidnext: Uid,
        highest: ModSeq,
    ) -> &mut MailboxFlight {
        let flight = self.touch(held, account, mailbox);
        flight.uidnext = flight.uidnext.max(uidnext);
        flight.highest = flight.highest.max(highest);
        flight
    }

    fn touch_account(&mut self, held: &mut Held, account: AccountId) -> &mut AccountFlight {
        let flight = self.accounts.entry(account).or_default();
        if held.accounts.iter().all(|a| a.0 != account) {
            held.accounts.push((account, 0, 0));
            flight.records += 1;
        }
        flight
    }

    /// Bytes and messages that the record adds to an account, or takes away.
    fn weigh(&mut self, held: &mut Held, account: AccountId, bytes: i64, messages: i64) {
        let flight = self.touch_account(held, account);
        flight.bytes += bytes;
        flight.messages += messages;
        if let Some(entry) = held.accounts.iter_mut().find(|a| a.0 == account) {
            entry.1 += bytes;
            entry.2 += messages;
        }
    }

    fn touch(
        &mut self,
        held: &mut Held,
        account: AccountId,
        mailbox: MailboxId,
    ) -> &mut MailboxFlight {
        let of_account = self.touch_account(held, account);
        let flight = of_account.mailboxes.entry(mailbox).or_default();
        if held.mailboxes.last() != Some(&(account, mailbox))
            && !held.mailboxes.contains(&(account, mailbox))
        {
            held.mailboxes.push((account, mailbox));
            flight.records += 1;
        }
        flight
    }

    /// Forgets a record that is applied.
    pub fn release(&mut self, pseq: PSeq) {
        let Some(held) = self.records.remove(&pseq) else {
            return;
        };
        for key in &held.origins {
            self.origins.remove(key);
        }
        for (account, mailbox) in &held.mailboxes {
            let Some(of_account) = self.accounts.get_mut(account) else {
                continue;
            };
            let Some(flight) = of_account.mailboxes.get_mut(mailbox) else {
                continue;
            };
            flight.records -= 1;
            if flight.records == 0 {
                of_account.mailboxes.remove(mailbox);
                continue;
            }
            flight.flags.retain(|_, f| f.by != pseq);
            flight.expunged.retain(|_, by| *by != pseq);
        }
        for (account, bytes, messages) in &held.accounts {
            let Some(flight) = self.accounts.get_mut(account) else {
                continue;
            };
            flight.records -= 1;
            flight.bytes -= bytes;
            flight.messages -= messages;
            if flight.records == 0 && !flight.barred {
                self.accounts.remove(account);
            }
        }
    }

    /// The mailboxes that a record in flight names.
    pub fn mailboxes_of(&self, pseq: PSeq) -> &[(AccountId, MailboxId)] {
        self.records.get(&pseq).map_or(&[], |held| &held.mailboxes)
    }
}
