//! Mail for owners here that waited for its time (RFC 4865): no host is asked, the outbox has it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::counters;
use super::desk::EntryKey;
use super::schedule::{Outcome, Verdict, Verdicts};
use super::service::{AGAIN_AFTER, Shop};
use crate::base::{AccountId, Deadline, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime;
use crate::store::{OutboundRecipient, StoreError, Target};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::RcptTo;

/// Destination of recipients that are owners here. No domain is written so.
pub(super) const HERE: &str = "(here)";

/// How long a notice may take to become durable.
const NOTICE_SPAN: Duration = Duration::from_secs(60);

/// A recipient here, of a message that is held.
#[must_use]
pub fn recipient_here(rcpt: RcptTo) -> OutboundRecipient {
    OutboundRecipient::waiting(rcpt, HERE.to_owned(), UnixMs(0))
}

/// Entries whose rows are out for here, each once.
pub(super) type Homeward = VecDeque<EntryKey>;

/// Brings home what is due, one after the other.
pub(super) async fn bring_home(shop: Rc<Shop>) {
    while !shop.gate.is_closed() {
        let told = shop.homeward_told.notified();
        let next = shop.homeward.borrow_mut().pop_front();
        match next {
            Some(entry) => {
                let _counted = shop.under_way.begin();
                shop.bring(entry).await;
            }
            None => or(told, shop.gate.closing()).await,
        }
    }
}

/// What is due here of one entry.
struct Due {
    delivered: Vec<Verdicts>,
    failed: Vec<Verdicts>,
    targets: Vec<Target>,
}

impl Shop {
    async fn bring(&self, entry: EntryKey) {
        let due = self.due_here(entry);
        if !due.failed.is_empty() {
            let outcome = outcome(due.failed);
            // It takes the row back, too, for what follows.
            self.record(entry, HERE, outcome).await;
        }
        if due.delivered.is_empty() {
            return self.take_back(entry, HERE);
        }
        let outcome = outcome(due.delivered);
        loop {
            match self.try_bring(entry, &outcome, &due.targets).await {
                Ok(()) => break,
                Err(StoreError::Poisoned) => return,
                Err(StoreError::Damaged { .. }) => return self.hold_damaged(entry, HERE).await,
                Err(why) => {
                    tracing::warn!(?why, "what was held is not brought home yet");
                    or(runtime::sleep(AGAIN_AFTER), self.gate.closing()).await;
                    if self.gate.is_closed() {
                        return;
                    }
                }
            }
        }
        self.take_back(entry, HERE);
    }

    /// Who is to have it, as the directory knows them now: one copy for each account.
    fn due_here(&self, entry: EntryKey) -> Due {
        let now = runtime::unix_now();
        let found = self.remote.queue_entry(entry, |seen| {
            let path = |n: &u16| seen.outbound.recipients[usize::from(*n)].rcpt.path.clone();
            let due: Vec<_> = seen.due(HERE, now).iter().map(|n| (*n, path(n))).collect();
            (seen.outbound.mail.path.clone(), due)
        });
        let (reverse, due) = found.unwrap_or((Path::Null, Vec::new()));
        let (mut delivered, mut failed) = (Vec::new(), Vec::new());
        let mut targets: BTreeMap<AccountId, Target> = BTreeMap::new();
        for (ordinal, path) in due {
            let mailbox = match path {
                Path::Mailbox(mailbox) => Some(mailbox),
                // RFC 5321 4.5.1.
                Path::Postmaster | Path::Null => self.teller.postmaster(),
            };
            let found = mailbox.map(|mailbox: Mailbox| (self.teller.ways)(&mailbox, &reverse));
            let found = found.map(|way| way.targets).unwrap_or_default();
            let is_known = !found.is_empty();
            for target in found {
                targets.entry(target.account.account).or_insert(target);
            }
            let (list, verdict, status, reply) = match is_known {
                true => {
                    let verdict = Verdict::Delivered {
                        is_dsn_passed: false,
                    };
                    (&mut delivered, verdict, "2.1.5", "released")
                }
                false => (&mut failed, Verdict::Failed, "5.1.1", "No such user here"),
            };
            list.push(Verdicts {
                ordinal,
                verdict,
                status: status.to_owned(),
                reply: reply.to_owned(),
            });
        }
        Due {
            delivered,
            failed,
            targets: targets.into_values().collect(),
        }
    }

    async fn try_bring(
        &self,
        entry: EntryKey,
        outcome: &Outcome,
        targets: &[Target],
    ) -> Result<(), StoreError> {
        let judged = self.remote.queue_entry(entry, |seen| {
            let judged = self.schedule.judge(entry, &seen, outcome);
            (judged, seen.trace, seen.class())
        });
        let Some((judged, trace, class)) = judged else {
            return Ok(());
        };
        // First the notice: after a crash in between it comes twice, and never not at all.
        let telling = self.teller.notice(entry, &judged.ends, Some(&judged.tried));
        let mut telling = telling.await?;
        if let Some(notice) = telling.notice.take() {
            let until = Deadline::after(runtime::now(), NOTICE_SPAN);
            let (message, targets) = (notice.message, notice.targets);
            let sent = self
                .remote
                .send(message, targets, notice.outbound, notice.trace, until);
            sent.await?;
        }
        let tried = judged.tried;
        let recipients = tried.results.len();
        self.remote
            .queue_bring(entry, tried, targets.to_vec())
            .await?;
        let fate = (counters::Fate::Delivered, class.into());
        counters::RECIPIENTS.add(fate, recipients as u64);
        telling.tell();
        log_event!(
            INFO,
            event::MESSAGE_RELEASED,
            message = trace.map(|t| t.to_string()),
            copies = targets.len() as u64
        );
        Ok(())
    }
}

fn outcome(verdicts: Vec<Verdicts>) -> Outcome {
    Outcome {
        at: runtime::unix_now(),
        hop: String::new(),
        verdicts,
        not_before: None,
        is_damaged: false,
    }
}
