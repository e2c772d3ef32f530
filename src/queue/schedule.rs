//! When a message is tried again, when it has taken too long, and who is told. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::counters::Reason;
use super::desk::EntryKey;
use super::home::HERE;
use super::notice::Action;
use crate::base::UnixMs;
use crate::config::{Config, Hours};
use crate::store::{
    MailClass, OutboundRecipient, QueueEntry, RecipientState, Tried, TriedRecipient, cut_reply,
};

/// The times of `[queue]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From one attempt to the next; the last one is repeated.
    pub retry: Vec<Duration>,
    pub delay_notice_after: Duration,
    pub expire_after: Duration,
    pub expire_notices_after: Duration,
    /// When bulk mail leaves; none: at any time.
    pub bulk_hours: Vec<Hours>,
    /// Whose hours they are.
    pub zone: TimeZone,
}

/// What an attempt came to for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A host has it, and sends notices itself where it was asked for them.
    Delivered {
        is_dsn_passed: bool,
    },
    Failed,
    Deferred(Reason),
}

/// One recipient's part of an [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    pub ordinal: u16,
    pub verdict: Verdict,
    /// RFC 3463.
    pub status: String,
    pub reply: String,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub at: UnixMs,
    /// Who was asked last: a host and its address.
    pub hop: String,
    pub verdicts: Vec<Verdicts>,
    /// Not before then, whatever the back-off says.
    pub not_before: Option<UnixMs>,
    /// The message is not what was taken in: what has no verdict is for a person.
    pub is_damaged: bool,
}

/// What is put on record, and who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub tried: Tried,
    /// Told in the same record: ends.
    pub ends: Vec<(u16, Action)>,
    /// Told in the next one: what takes longer.
    pub delays: Vec<u16>,
}

/// Where the list is empty.
const RETRY_DEFAULT: Duration = Duration::from_secs(900);
/// A server that was away for long, or whose clock jumped, tries for so long before it gives up what
/// expired meanwhile.
const GRACE: Duration = Duration::from_secs(4 * 3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Back-off is spread over this much of itself, to both sides.
const JITTER_PERCENT: u64 = 20;

impl Schedule {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let queue = &config.queue;
        Schedule {
            retry: queue.retry.iter().map(|span| span.0).collect(),
            delay_notice_after: queue.delay_notice_after.0,
            expire_after: queue.expire_after.0,
            expire_notices_after: queue.expire_notices_after.0,
            bulk_hours: queue.bulk_hours.clone(),
            // Checked with the configuration.
            zone: TimeZone::get(config.timezone.as_str()).unwrap_or(TimeZone::UTC),
        }
    }

    /// When a message that may leave from `from` on has taken too long.
    #[must_use]
    pub fn expires(&self, from: UnixMs, class: MailClass) -> UnixMs {
        later(from, self.span(class))
    }

    fn span(&self, class: MailClass) -> Duration {
        match class {
            MailClass::Notice => self.expire_notices_after,
            MailClass::Normal | MailClass::Bulk => self.expire_after,
        }
    }

    /// Since when an entry may leave: it may have been held first (RFC 4865).
    fn begin(&self, entry: &QueueEntry<'_>) -> UnixMs {
        let span = self.span(entry.class()).as_millis() as i64;
        let begin = entry.outbound.expires.0.saturating_sub(span);
        entry.saved.max(UnixMs(begin))
    }

    /// The first moment from `at` on at which mail of a class may leave.
    #[must_use]
    pub fn opens(&self, class: MailClass, at: UnixMs) -> UnixMs {
        if class != MailClass::Bulk || self.bulk_hours.is_empty() {
            return at;
        }
        let Ok(stamp) = Timestamp::from_millisecond(at.0) else {
            return at;
        };
        let here = stamp.to_zoned(self.zone.clone());
        let minute = here.hour() as u16 * 60 + here.minute() as u16;
        if self.bulk_hours.iter().any(|hours| hours.contains(minute)) {
            return at;
        }
        let days = [Some(here.date()), here.date().tomorrow().ok()];
        let begins = days.into_iter().flatten().flat_map(|day| {
            let begin = move |hours: &Hours| {
                let (hour, minute) = (hours.from / 60, hours.from % 60);
                day.at(hour as i8, minute as i8, 0, 0)
            };
            self.bulk_hours.iter().map(begin)
        });
        let moments = begins.filter_map(|begin| begin.to_zoned(self.zone.clone()).ok());
        let next = moments.map(|moment| UnixMs(moment.timestamp().as_millisecond()));
        next.filter(|next| *next > at).min().unwrap_or(at)
    }

    /// After `tries` attempts, the last of them now. Entries of one mailshot do not come together.
    #[must_use]
    pub fn next(&self, entry: EntryKey, tries: u32, now: UnixMs) -> UnixMs {
        let step = tries.max(1) as usize - 1;
        let span = self.retry.get(step).or(self.retry.last()).copied();
        let span = span.unwrap_or(RETRY_DEFAULT);
        let ms = span.as_millis() as u64;
        let spread = ms / 100 * JITTER_PERCENT;
        let seed = crate::base::crc32c(
            &[
                &entry.pseq.0.to_le_bytes()[..],
                &entry.partition.0.to_le_bytes(),
                &tries.to_le_bytes(),
            ]
            .concat(),
        );
        let jitter = u64::from(seed.0) % (2 * spread + 1);
        UnixMs(now.0.saturating_add((ms - spread + jitter) as i64))
    }

    /// What an outcome means for the recipients of an entry as they are now.
    #[must_use]
    pub fn judge(&self, key: EntryKey, entry: &QueueEntry<'_>, outcome: &Outcome) -> Judged {
        let now = outcome.at;
        let mut judged = Judged {
            tried: Tried {
                at: now,
                hop: outcome.hop.clone(),
                results: Vec::new(),
            },
            ends: Vec::new(),
            delays: Vec::new(),
        };
        let is_late = now >= later(self.begin(entry), self.delay_notice_after);
        for one in &outcome.verdicts {
            let recipients = &entry.outbound.recipients;
            let Some(recipient) = recipients.get(usize::from(one.ordinal)) else {
                continue;
            };
            // A person took it out meanwhile, or has it in hand.
            if recipient.state.is_end() {
                continue;
            }
            // RFC 3461 4.1: without NOTIFY failures are told, and delays may be.
            let notify = recipient.rcpt.notify;
            let wants =
                |want: fn(&crate::wire::smtp::Notify) -> bool| notify.as_ref().is_none_or(want);
            let state = match one.verdict {
                Verdict::Delivered { is_dsn_passed } => {
                    if notify.is_some_and(|n| n.success) && !is_dsn_passed {
                        let action = match recipient.destination == HERE {
                            true => Action::Delivered,
                            false => Action::Relayed,
                        };
                        judged.ends.push((one.ordinal, action));
                    }
                    RecipientState::Delivered
                }
                Verdict::Failed => {
                    if wants(|n| n.failure) {
                        judged.ends.push((one.ordinal, Action::Failed));
                    }
                    RecipientState::Failed
                }
                Verdict::Deferred(_) if now >= entry.outbound.expires => {
                    if wants(|n| n.failure) {
                        judged.ends.push((one.ordinal, Action::Failed));
                    }
                    RecipientState::Expired
                }
                Verdict::Deferred(_) => {
                    if is_late && !recipient.is_delay_told && wants(|n| n.delay) {
                        judged.delays.push(one.ordinal);
                    }
                    let due = self.next(key, recipient.tries + 1, now);
                    let due = due.max(outcome.not_before.unwrap_or(due));
                    let due = self.opens(entry.class(), due);
                    RecipientState::Waiting {
                        // The last attempt is made when it has to be, and not long before.
                        due: due.min(entry.outbound.expires.max(now)),
                    }
                }
            };
            judged.tried.results.push(TriedRecipient {
                ordinal: one.ordinal,
                state,
                status: one.status.clone(),
                reply: cut_reply(&one.reply),
            });
        }
        judged
    }

    /// Whether an entry that was not tried, since its destination is away, has taken too long for
    /// that: somebody is to be told, or it is to end. The latter only where this server has been at
    /// work for a while, by a clock that did not jump: others had their attempts meanwhile.
    #[must_use]
    pub fn is_overdue(
        &self,
        entry: &QueueEntry<'_>,
        due: &[u16],
        now: UnixMs,
        at_work: Duration,
    ) -> bool {
        if now >= entry.outbound.expires {
            return at_work >= GRACE.min(self.span(entry.class()) / 2);
        }
        let is_late = now >= later(self.begin(entry), self.delay_notice_after);
        let untold = |n: &u16| {
            let recipient = entry.outbound.recipients.get(usize::from(*n));
            recipient.is_some_and(|r| !r.is_delay_told && r.rcpt.notify.is_none_or(|n| n.delay))
        };
        is_late && due.iter().any(untold)
    }

    /// When a recipient is due by what is on record: no later than its next step can be, whatever
    /// the clock said when it was put there.
    #[must_use]
    pub fn due(&self, recipient: &OutboundRecipient, due: UnixMs, now: UnixMs) -> UnixMs {
        let longest = self.retry.iter().max().copied().unwrap_or(RETRY_DEFAULT);
        match recipient.last {
            Some(_) => due.min(later(now, longest * 2 + DAY)),
            None => due,
        }
    }
}

fn later(at: UnixMs, span: Duration) -> UnixMs {
    UnixMs(at.0.saturating_add(span.as_millis() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PSeq, PartitionId};
    use crate::store::Outbound;
    use crate::wire::address::{Mailbox, Path};
    use crate::wire::smtp::{MailFrom, Notify, RcptTo};

    const HOUR: i64 = 3_600_000;
    const KEY: EntryKey = EntryKey {
        partition: PartitionId(0),
        pseq: PSeq(7),
    };

    fn schedule() -> Schedule {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Schedule {
            retry: vec![minutes(5), minutes(60)],
            delay_notice_after: minutes(240),
            expire_after: minutes(60 * 48),
            expire_notices_after: minutes(60 * 24),
            bulk_hours: Vec::new(),
            zone: TimeZone::UTC,
        }
    }

    fn recipient(notify: Option<Notify>, tries: u32) -> OutboundRecipient {
        let to = Mailbox::parse("b@example.net").expect("an address");
        let rcpt = RcptTo {
            notify,
            ..RcptTo::new(Path::Mailbox(to))
        };
        OutboundRecipient {
            tries,
            ..OutboundRecipient::waiting(rcpt, "example.net".into(), UnixMs(0))
        }
    }

    fn outbound(recipients: Vec<OutboundRecipient>) -> Outbound {
        Outbound {
            mail: MailFrom::new(Path::Null),
            class: MailClass::Normal,
            submitter: None,
            head: Vec::new(),
            expires: UnixMs(48 * HOUR),
            recipients,
        }
    }

    /// What becomes of one recipient of a message of time 0, and what its sender is told.
    fn check(
        at: i64,
        verdict: Verdict,
        recipient: OutboundRecipient,
        want: (&str, Option<Action>, bool),
    ) {
        let outbound = outbound(vec![recipient]);
        let entry = QueueEntry {
            saved: UnixMs(0),
            trace: None,
            size: 100,
            outbound: &outbound,
        };
        let outcome = Outcome {
            at: UnixMs(at),
            hop: "mx".into(),
            verdicts: vec![Verdicts {
                ordinal: 0,
                verdict,
                status: "4.0.0".into(),
                reply: "later".into(),
            }],
            not_before: None,
            is_damaged: false,
        };
        let judged = schedule().judge(KEY, &entry, &outcome);
        let word = judged.tried.results.first().map(|r| r.state.word());
        let told = judged.ends.first().map(|(_, action)| *action);
        let got = (word.unwrap_or("none"), told, !judged.delays.is_empty());
        assert_eq!(got, want, "{at} {verdict:?}");
    }

    #[test]
    fn outcomes() {
        let never = || Some(Notify::default());
        let success = || {
            Some(Notify {
                success: true,
                ..Notify::default()
            })
        };
        let plain = || recipient(None, 0);
        let passed = |is_dsn_passed| Verdict::Delivered { is_dsn_passed };
        let (failed, deferred) = (Verdict::Failed, Verdict::Deferred(Reason::Rcpt));
        let failure = Some(Action::Failed);
        check(1, passed(false), plain(), ("delivered", None, false));
        check(
            1,
            passed(true),
            recipient(success(), 0),
            ("delivered", None, false),
        );
        let relayed = ("delivered", Some(Action::Relayed), false);
        check(1, passed(false), recipient(success(), 0), relayed);
        check(1, failed, plain(), ("failed", failure, false));
        check(1, failed, recipient(never(), 0), ("failed", None, false));
        check(1, failed, recipient(success(), 0), ("failed", None, false));
        check(1, deferred, plain(), ("waiting", None, false));
        check(4 * HOUR, deferred, plain(), ("waiting", None, true));
        check(
            4 * HOUR,
            deferred,
            recipient(never(), 0),
            ("waiting", None, false),
        );
        let told = OutboundRecipient {
            is_delay_told: true,
            ..plain()
        };
        check(5 * HOUR, deferred, told, ("waiting", None, false));
        check(48 * HOUR, deferred, plain(), ("expired", failure, false));
        check(
            48 * HOUR,
            deferred,
            recipient(never(), 0),
            ("expired", None, false),
        );
        let removed = OutboundRecipient {
            state: RecipientState::Removed,
            ..plain()
        };
        check(1, failed, removed, ("none", None, false));
    }

    #[test]
    fn the_last_attempt_is_at_the_end() {
        let outbound = outbound(vec![recipient(None, 9)]);
        let entry = QueueEntry {
            saved: UnixMs(0),
            trace: None,
            size: 100,
            outbound: &outbound,
        };
        let outcome = Outcome {
            at: UnixMs(48 * HOUR - 60_000),
            hop: String::new(),
            verdicts: vec![Verdicts {
                ordinal: 0,
                verdict: Verdict::Deferred(Reason::Rcpt),
                status: String::new(),
                reply: String::new(),
            }],
            not_before: None,
            is_damaged: false,
        };
        let judged = schedule().judge(KEY, &entry, &outcome);
        let due = UnixMs(48 * HOUR);
        assert_eq!(
            judged.tried.results[0].state,
            RecipientState::Waiting { due }
        );
    }

    #[test]
    fn back_off_grows_and_is_spread() {
        let schedule = schedule();
        let wait = |pseq, tries| {
            let key = EntryKey {
                pseq: PSeq(pseq),
                ..KEY
            };
            schedule.next(key, tries, UnixMs(1_000)).0 - 1_000
        };
        let mut seen = std::collections::BTreeSet::new();
        for pseq in 0..200 {
            let first = wait(pseq, 1);
            assert!((240_000..=360_000).contains(&first), "{first}");
            seen.insert(first);
            for tries in [2, 3, 1_000] {
                let later = wait(pseq, tries);
                assert!((2_880_000..=4_320_000).contains(&later), "{later}");
            }
        }
        assert!(seen.len() > 150, "{} different waits", seen.len());
        let none = Schedule {
            retry: Vec::new(),
            ..schedule
        };
        assert!(none.next(KEY, 1, UnixMs(0)).0 > 60_000);
    }

    #[test]
    fn bulk_mail_leaves_in_its_hours() {
        let at = |text: &str| {
            let stamp: Timestamp = text.parse().expect("a time");
            UnixMs(stamp.as_millisecond())
        };
        let mut schedule = schedule();
        schedule.zone = TimeZone::get("Europe/Madrid").expect("a zone");
        let night: Hours = "20:00-06:00".parse().expect("hours");
        let noon: Hours = "12:30-13:00".parse().expect("hours");
        schedule.bulk_hours = vec![night, noon];
        let check = |from: &str, want: &str| {
            assert_eq!(
                schedule.opens(MailClass::Bulk, at(from)),
                at(want),
                "{from}"
            );
            assert_eq!(schedule.opens(MailClass::Normal, at(from)), at(from));
        };
        // An hour ahead of UTC in winter, two in summer.
        check("2026-11-22T10:00:00Z", "2026-11-22T11:30:00Z");
        check("2026-11-22T12:00:00Z", "2026-11-22T19:00:00Z");
        check("2026-11-22T19:00:00Z", "2026-11-22T19:00:00Z");
        check("2026-11-23T04:59:59Z", "2026-11-23T04:59:59Z");
        check("2026-11-23T05:00:00Z", "2026-11-23T11:30:00Z");
        check("2026-07-01T04:00:00Z", "2026-07-01T10:30:00Z");
        // Clocks go back from 3 to 2 at night, within the hours; and forward over 2 to 3.
        check("2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z");
        schedule.bulk_hours = vec!["02:30-04:00".parse().expect("hours")];
        assert_eq!(
            schedule.opens(MailClass::Bulk, at("2026-03-28T23:00:00Z")),
            at("2026-03-29T01:30:00Z")
        );
        schedule.bulk_hours.clear();
        assert_eq!(schedule.opens(MailClass::Bulk, UnixMs(7)), UnixMs(7));
    }

    #[test]
    fn what_was_held_is_late_from_its_release_on() {
        let schedule = schedule();
        let released = UnixMs(100 * HOUR);
        let mut outbound = outbound(vec![recipient(None, 1)]);
        outbound.expires = schedule.expires(released, MailClass::Normal);
        let entry = QueueEntry {
            saved: UnixMs(0),
            trace: None,
            size: 1,
            outbound: &outbound,
        };
        let is_late = |at: i64| schedule.is_overdue(&entry, &[0], UnixMs(at), GRACE);
        assert!(!is_late(released.0 + HOUR));
        assert!(is_late(released.0 + 4 * HOUR));
    }

    #[test]
    fn a_clock_that_jumps_ends_nothing_and_keeps_nothing_waiting() {
        let schedule = schedule();
        let mut outbound = outbound(vec![recipient(None, 1)]);
        outbound.expires = UnixMs(48 * HOUR);
        let entry = QueueEntry {
            saved: UnixMs(0),
            trace: None,
            size: 1,
            outbound: &outbound,
        };
        let is_overdue = |at_work| schedule.is_overdue(&entry, &[0], UnixMs(500 * HOUR), at_work);
        assert!(!is_overdue(Duration::from_secs(60)));
        assert!(is_overdue(GRACE));
        let mut tried = recipient(None, 1);
        let far = UnixMs(9_000 * HOUR);
        assert_eq!(schedule.due(&tried, far, UnixMs(0)), far);
        tried.last = Some(crate::store::LastTry {
            at: far,
            hop: String::new(),
            status: String::new(),
            reply: String::new(),
        });
        assert_eq!(schedule.due(&tried, far, UnixMs(0)), UnixMs(26 * HOUR));
        assert_eq!(schedule.due(&tried, UnixMs(HOUR), UnixMs(0)), UnixMs(HOUR));
    }
}
