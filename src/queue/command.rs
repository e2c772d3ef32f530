//! What a person sees of the queue, and does to it. The same on a running server, where every
//! shard answers for its entries, and on a stopped one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cat::{self, CatPiece};
use super::desk::EntryKey;
use super::home::HERE;
use super::name::{DestinationName, destination_of_path};
use super::reports::{self, ReportRow};
use super::shapes::{self, Limited, Shaped, Shaping};
use crate::base::{PartitionId, UnixMs};
use crate::observe::{event, log_event};
use crate::runtime::unix_now;
use crate::store::{OutboundRecipient, QueueEntry, RecipientState, Remote, Steering, StoreError};
use crate::wire::address::Path;

/// Which recipients are meant: those that fit all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Message ids; none: all messages.
    pub ids: Vec<String>,
    /// Part of the sender's address.
    pub from: Option<String>,
    /// Part of a recipient's address.
    pub to: Option<String>,
    /// The domain that it goes to.
    pub destination: Option<String>,
    /// `waiting` or `held`.
    pub state: Option<String>,
}

/// What is done to recipients that have no end yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Try those that wait at once.
    Retry,
    Hold,
    /// Let go what is held, at once.
    Release,
    /// Take out, for good, and tell nobody.
    Remove,
    /// To that destination from now on, at once; without one, back to the recipient's own.
    Reroute(Option<DestinationName>),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    List {
        filter: Filter,
        entries_max: usize,
    },
    Destinations,
    Change {
        filter: Filter,
        change: Change,
    },
    /// The beginning of one message as it would leave: of the copy of the recipients who fit.
    Cat {
        filter: Filter,
    },
    /// More of its body.
    CatMore {
        partition: u16,
        pseq: u64,
        from: u64,
    },
    /// Limits for one destination.
    Shape {
        destination: DestinationName,
        shaping: Shaping,
    },
    /// What TLS came to, as far as no domain was told.
    Reports,
    /// Tell them now.
    SendReports,
}

/// What one shard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    List(Listed),
    Destinations(Vec<DestinationRow>),
    Changed(Changed),
    Cat(Option<CatPiece>),
    Shaped(Option<DestinationLimits>),
    /// There are limits for so many destinations already.
    TooManyShapes(usize),
    Reports(Vec<ReportRow>),
}

/// What a person has set for one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationLimits {
    pub destination: String,
    pub limits: Limited,
}

/// Entries, the oldest first, and how many fit in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub entries: Vec<EntryRow>,
    pub total: usize,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    pub id: String,
    /// Queue partition and number, as the journal has it.
    pub partition: u16,
    pub pseq: u64,
    pub came: UnixMs,
    pub expires: UnixMs,
    pub from: String,
    pub class: String,
    /// Octets.
    pub size: u64,
    pub envelope_id: Option<String>,
    pub recipients: Vec<RecipientRow>,
}

/// One of its recipients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    pub to: String,
    pub destination: String,
    pub state: String,
    /// Of those that wait.
    pub due: Option<UnixMs>,
    pub tries: u32,
    pub tried: Option<UnixMs>,
    pub host: Option<String>,
    pub status: Option<String>,
    pub reply: Option<String>,
}

/// All that goes to one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRow {
    pub destination: String,
    /// Recipients.
    pub waiting: u64,
    pub held: u64,
    /// None where nothing waits.
    pub oldest: Option<UnixMs>,
    pub next: Option<UnixMs>,
    /// What was said last.
    pub reply: Option<String>,
    /// What a person has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limited>,
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub messages: usize,
    pub recipients: usize,
    pub destinations: BTreeSet<String>,
}

impl Filter {
    /// Says nothing, so that it means everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    pub(super) fn fits_entry(&self, entry: &QueueEntry<'_>) -> bool {
        let id = entry.trace.map(|t| t.to_string()).unwrap_or_default();
        let from = entry.outbound.mail.path.to_string();
        (self.ids.is_empty() || self.ids.contains(&id))
            && self.from.as_ref().is_none_or(|part| has(&from, part))
    }

    pub(super) fn fits(&self, recipient: &OutboundRecipient) -> bool {
        let is = |want: &String, found: &str| want.eq_ignore_ascii_case(found);
        let to = recipient.rcpt.path.to_string();
        let state = recipient.state.word();
        self.to.as_ref().is_none_or(|part| has(&to, part))
            && self
                .destination
                .as_ref()
                .is_none_or(|d| is(d, &recipient.destination))
            && self.state.as_ref().is_none_or(|want| is(want, state))
    }
}

fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// Answers for the entries of this shard.
pub async fn answer(remote: &Remote, ask: Ask) -> Result<Answer, StoreError> {
    match ask {
        Ask::List {
            filter,
            entries_max,
        } => Ok(Answer::List(list(remote, &filter, entries_max).await)),
        Ask::Destinations => Ok(Answer::Destinations(destinations(remote).await)),
        Ask::Change { filter, change } => Ok(Answer::Changed(
            self::change(remote, &filter, change).await?,
        )),
        Ask::Cat { filter } => Ok(Answer::Cat(cat::first(remote, &filter).await?)),
        Ask::CatMore {
            partition,
            pseq,
            from,
        } => Ok(Answer::Cat(match remote.is_mine(PartitionId(partition)) {
            true => cat::next(remote, partition, pseq, from).await?,
            false => None,
        })),
        Ask::Shape {
            destination,
            shaping,
        } => {
            let shaped = shapes::shape(remote, &destination, &shaping).await?;
            Ok(match shaped {
                Some(Shaped::TooMany) => Answer::TooManyShapes(shapes::SHAPES_MAX),
                Some(Shaped::Now(limits)) => Answer::Shaped(Some(DestinationLimits {
                    destination: destination.into(),
                    limits,
                })),
                None => Answer::Shaped(None),
            })
        }
        // Reports are sent by a running server alone.
        Ask::Reports | Ask::SendReports => Ok(Answer::Reports(reports::kept_rows(remote))),
    }
}

/// Joins what shards answered to one question.
#[must_use]
pub fn join(answers: Vec<Answer>) -> Option<Answer> {
    answers.into_iter().reduce(|one, other| match (one, other) {
        (Answer::List(mut one), Answer::List(other)) => {
            one.entries.extend(other.entries);
            one.entries
                .sort_by_key(|row| (row.came, row.partition, row.pseq));
            one.total += other.total;
            Answer::List(one)
        }
        (Answer::Destinations(one), Answer::Destinations(other)) => {
            Answer::Destinations(join_destinations(one.into_iter().chain(other)))
        }
        (Answer::Changed(mut one), Answer::Changed(other)) => {
            one.messages += other.messages;
            one.recipients += other.recipients;
            one.destinations.extend(other.destinations);
            Answer::Changed(one)
        }
        (Answer::Cat(one), Answer::Cat(other)) => Answer::Cat(one.or(other)),
        (Answer::Shaped(one), Answer::Shaped(other)) => Answer::Shaped(one.or(other)),
        (Answer::Shaped(_), too_many @ Answer::TooManyShapes(_)) => too_many,
        (Answer::Reports(one), Answer::Reports(other)) => {
            Answer::Reports(reports::join_rows(one.into_iter().chain(other)))
        }
        (one, _) => one,
    })
}

async fn list(remote: &Remote, filter: &Filter, entries_max: usize) -> Listed {
    let mut listed = Listed::default();
    let mut see = |key: EntryKey, entry: QueueEntry<'_>| {
        if !filter.fits_entry(&entry) {
            return;
        }
        if entry.outbound.recipients.iter().any(|r| filter.fits(r)) {
            listed.total += 1;
            if listed.entries.len() < entries_max {
                listed.entries.push(row(key, &entry));
            }
        }
    };
    remote.queue_entries(&mut see).await;
    listed
}

fn row(key: EntryKey, entry: &QueueEntry<'_>) -> EntryRow {
    let outbound = entry.outbound;
    EntryRow {
        id: entry.trace.map(|t| t.to_string()).unwrap_or_default(),
        partition: key.partition.0,
        pseq: key.pseq.0,
        came: entry.saved,
        expires: outbound.expires,
        from: outbound.mail.path.to_string(),
        class: outbound.class.word().to_owned(),
        size: entry.size,
        envelope_id: outbound.mail.envelope_id.clone(),
        recipients: outbound.recipients.iter().map(recipient_row).collect(),
    }
}

fn recipient_row(recipient: &OutboundRecipient) -> RecipientRow {
    let last = recipient.last.as_ref();
    RecipientRow {
        to: match &recipient.rcpt.path {
            Path::Mailbox(mailbox) => mailbox.to_string(),
            other => other.to_string(),
        },
        destination: recipient.destination.clone(),
        state: recipient.state.word().to_owned(),
        due: match recipient.state {
            RecipientState::Waiting { due } => Some(due),
            _ => None,
        },
        tries: recipient.tries,
        tried: last.map(|l| l.at),
        host: last.map(|l| l.hop.clone()).filter(|h| !h.is_empty()),
        status: last.map(|l| l.status.clone()),
        reply: last.map(|l| l.reply.clone()),
    }
}

async fn destinations(remote: &Remote) -> Vec<DestinationRow> {
    let mut all = BTreeMap::<String, (DestinationRow, UnixMs)>::new();
    let mut see = |_: EntryKey, entry: QueueEntry<'_>| {
        for recipient in &entry.outbound.recipients {
            let (waiting, held, next) = match recipient.state {
                RecipientState::Waiting { due } => (1, 0, Some(due)),
                RecipientState::Held { .. } => (0, 1, None),
                _ => continue,
            };
            let name = &recipient.destination;
            let (row, said) = all.entry(name.clone()).or_insert_with(|| {
                let row = DestinationRow {
                    destination: name.clone(),
                    waiting: 0,
                    held: 0,
                    oldest: None,
                    next: None,
                    reply: None,
                    limits: None,
                };
                (row, UnixMs(i64::MIN))
            });
            row.waiting += waiting;
            row.held += held;
            row.oldest = earlier(row.oldest, Some(entry.saved));
            row.next = earlier(row.next, next);
            if let Some(last) = recipient.last.as_ref().filter(|last| last.at > *said) {
                row.reply = Some(last.reply.clone());
                *said = last.at;
            }
        }
    };
    remote.queue_entries(&mut see).await;
    let rows = all.into_values().map(|(row, _)| row);
    let limited = shapes::all(remote).into_iter();
    let limited = limited.map(|(destination, limits)| DestinationRow {
        destination,
        waiting: 0,
        held: 0,
        oldest: None,
        next: None,
        reply: None,
        limits: Some(limits),
    });
    join_destinations(rows.chain(limited))
}

fn join_destinations(rows: impl Iterator<Item = DestinationRow>) -> Vec<DestinationRow> {
    let mut all = BTreeMap::<String, DestinationRow>::new();
    for row in rows {
        match all.get_mut(&row.destination) {
            None => drop(all.insert(row.destination.clone(), row)),
            Some(known) => {
                known.waiting += row.waiting;
                known.held += row.held;
                known.oldest = earlier(known.oldest, row.oldest);
                known.next = earlier(known.next, row.next);
                known.reply = known.reply.take().or(row.reply);
                known.limits = known.limits.take().or(row.limits);
            }
        }
    }
    all.into_values().collect()
}

fn earlier(one: Option<UnixMs>, other: Option<UnixMs>) -> Option<UnixMs> {
    [one, other].into_iter().flatten().min()
}

async fn change(remote: &Remote, filter: &Filter, change: Change) -> Result<Changed, StoreError> {
    let mut chosen = Vec::new();
    let mut changed = Changed::default();
    let now = unix_now();
    let mut see = |key: EntryKey, entry: QueueEntry<'_>| {
        if !filter.fits_entry(&entry) {
            return;
        }
        let mut steps = Vec::<(Steering, Vec<u16>)>::new();
        for (ordinal, recipient) in entry.outbound.recipients.iter().enumerate() {
            if !filter.fits(recipient) {
                continue;
            }
            let Some(steering) = steering(&change, recipient, now) else {
                continue;
            };
            changed.recipients += 1;
            changed.destinations.insert(match &steering {
                Steering::Reroute(to) => to.clone(),
                _ => recipient.destination.clone(),
            });
            match steps.iter_mut().find(|(step, _)| *step == steering) {
                Some((_, ordinals)) => ordinals.push(ordinal as u16),
                None => steps.push((steering, vec![ordinal as u16])),
            }
        }
        if !steps.is_empty() {
            chosen.push((key, entry.trace, steps));
        }
    };
    remote.queue_entries(&mut see).await;
    changed.messages = chosen.len();
    for (key, trace, steps) in chosen {
        for (steering, ordinals) in steps {
            log_event!(
                INFO,
                event::MESSAGE_STEERED,
                message = trace.map(|t| t.to_string()),
                change = ?change,
                recipients = ordinals.len() as u64
            );
            remote.queue_steer(key, ordinals, steering, None).await?;
        }
    }
    Ok(changed)
}

/// What a change means for a recipient; nothing, where he is not one that it is for.
fn steering(change: &Change, recipient: &OutboundRecipient, now: UnixMs) -> Option<Steering> {
    let (steering, is_for_him) = match (change, recipient.state) {
        (_, state) if state.is_end() => return None,
        // No host is asked for it.
        (Change::Reroute(_), _) if recipient.destination == HERE => return None,
        (Change::Retry, state) => (
            Steering::Due(now),
            matches!(state, RecipientState::Waiting { .. }),
        ),
        (Change::Hold, state) => (
            Steering::Hold,
            matches!(state, RecipientState::Waiting { .. }),
        ),
        (Change::Release, state) => (
            Steering::Due(now),
            matches!(state, RecipientState::Held { .. }),
        ),
        (Change::Remove, _) => (Steering::Remove, true),
        (Change::Reroute(to), _) => {
            let to = match to {
                Some(to) => to.to_string(),
                None => destination_of_path(&recipient.rcpt.path)?,
            };
            let is_elsewhere = to != recipient.destination;
            (Steering::Reroute(to), is_elsewhere)
        }
    };
    is_for_him.then_some(steering)
}
